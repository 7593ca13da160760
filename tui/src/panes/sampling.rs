//! Pane 3: the sampled answers as they arrive, and what their spread and length tell.

use crate::keys::Key::Char;
use crate::keys::{Action, DOWN, END, ENTER, HOME, LEFT, PAGE_DOWN, PAGE_UP, RIGHT, UP, VIEW, bound};
use crate::panes::{BASE, Draw, Pane, PaneId, alarms};
use rallrec_events::view::{Bins, Prompt};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::format;
use crate::message::Effect;
use crate::state::{Input, OpenRun, Overlay, Purpose, State, Weight};
use crate::terminal;
use crate::theme::Theme;
use crate::widgets::chart::{Chart, Line as Curve};
use crate::widgets::{bars, histogram, table, text};

pub mod points;

/// The pane.
pub const PANE: Pane = Pane {
    id: PaneId::Sampling,
    title: "Sampling",
    short: "Sample",
    key: &[Char('3')],
    about: "reasoning samples",
    draw: Draw::OfRun(draw),
    act,
    click,
    keys: &[
        bound(UP, Action::Up, "previous prompt", ""),
        bound(DOWN, Action::Down, "next prompt", "prompt"),
        bound(LEFT, Action::Left, "previous sample", ""),
        bound(RIGHT, Action::Right, "next sample", "sample"),
        bound(PAGE_UP, Action::PageUp, "ten prompts up", ""),
        bound(PAGE_DOWN, Action::PageDown, "ten prompts down", ""),
        bound(VIEW, Action::NextView, "answers, rows as points, histogram, accuracy", "view"),
        bound(END, Action::Follow, "follow the newest prompt", "follow"),
        bound(ENTER, Action::Open, "read prompt, hint and answers whole", "read"),
        bound(&[Char('/')], Action::Filter, "the next prompt with this text", "search"),
        bound(&[Char('C')], Action::Copy, "copy them into the clipboard", ""),
        bound(HOME, Action::First, "first prompt", ""),
    ],
    ..BASE
};

/// Prompts that a moving accuracy is taken over, as the authors' consistency view does.
const WINDOW: u64 = 500;

/// What the pane shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// One prompt's answers.
    #[default]
    Answers,
    /// Every row as a point: variance over mean p.
    Points,
    /// How variance, length and hint are spread.
    Spread,
    /// Accuracy against variance and against length.
    Accuracy,
}

/// State of the pane.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What is shown.
    pub mode: Mode,
    /// The row that is looked at; `None` follows the newest.
    pub row: Option<u64>,
    /// The sample whose text is shown.
    pub sample: usize,
    /// What was searched for last.
    pub search: String,
}

/// Rows with sampled answers, oldest first.
fn rows(run: &OpenRun) -> Vec<u64> {
    run.view.prompts.iter().filter(|p| !p.answers.is_empty()).map(|p| p.row).collect()
}

/// Keys of the pane.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let Some(run) = state.run() else { return Vec::new() };
    let rows = rows(run);
    let last = rows.len().saturating_sub(1);
    let at = state.panes.sampling.row.and_then(|r| rows.iter().position(|x| *x == r)).unwrap_or(last);
    let samples = rows.get(at).and_then(|r| run.view.prompts.get(*r)).map_or(0, |p| p.answers.len());
    let view = &mut state.panes.sampling;
    let moved = match action {
        Action::Up => Some(at.saturating_sub(1)),
        Action::Down => Some((at + 1).min(last)),
        Action::PageUp => Some(at.saturating_sub(10)),
        Action::PageDown => Some((at + 10).min(last)),
        Action::First => Some(0),
        _ => None,
    };
    if let Some(moved) = moved {
        view.row = rows.get(moved).copied();
    }
    if state.panes.sampling.mode == Mode::Points && matches!(action, Action::Left | Action::Right) {
        points::step(state, action == Action::Right);
        return Vec::new();
    }
    let view = &mut state.panes.sampling;
    match action {
        Action::Open | Action::Copy => return whole(state, action),
        Action::Filter => {
            let about = "Goes to the next prompt with this text in its prompt, hint, target or answers.";
            let input = Input::new("Search the prompts", &view.search, Purpose::PromptSearch, vec![about.into()]);
            state.overlay = Some(Overlay::Input(input));
        }
        Action::Follow => view.row = None,
        Action::Left => view.sample = view.sample.saturating_sub(1),
        Action::Right => view.sample = (view.sample + 1).min(samples.saturating_sub(1)),
        Action::NextView => {
            view.mode = match view.mode {
                Mode::Answers => Mode::Points,
                Mode::Points => Mode::Spread,
                Mode::Spread => Mode::Accuracy,
                Mode::Accuracy => Mode::Answers,
            };
        }
        _ => {}
    }
    Vec::new()
}

/// The row that is shown.
fn shown(state: &State) -> Option<&Prompt> {
    let run = state.run()?;
    let row = state.panes.sampling.row.or_else(|| rows(run).last().copied())?;
    run.view.prompts.get(row)
}

/// Everything that is known of the row, to read or for the clipboard.
fn whole(state: &mut State, action: Action) -> Vec<Effect> {
    let Some(prompt) = shown(state) else { return Vec::new() };
    let row = prompt.row;
    if action == Action::Copy {
        let text = all_of(prompt, state.run());
        state.say(Weight::Plain, format!("row {row} is in the clipboard, where the terminal allows it"));
        return vec![Effect::Terminal(terminal::clipboard(&text))];
    }
    read(state, row);
    Vec::new()
}

/// Shows everything that is known of a row.
pub fn read(state: &mut State, row: u64) {
    let Some(run) = state.run() else { return };
    let unknown = Prompt { row, ..Prompt::default() };
    let text = match (run.view.prompts.get(row), run.view.retrieval.get(row)) {
        (Some(prompt), _) => all_of(prompt, Some(run)),
        (None, Some(example)) => {
            let known = Prompt { target: Some(example.target.clone()), label: example.label, ..unknown };
            all_of(&known, Some(run))
        }
        (None, None) => {
            return state.say(Weight::Plain, format!("nothing is known of row {row} beside its predictions"));
        }
    };
    let columns = usize::from(state.size.0).saturating_sub(4).clamp(20, 120);
    let lines = format::wrap(&format::clean(&text), columns);
    state.overlay = Some(Overlay::Text { title: format!("Row {row}"), lines, scroll: 0, shift: 0 });
}

/// A row in words: figures, hint, prompt, retrieved items, every answer, what became of it.
pub fn all_of(prompt: &Prompt, run: Option<&OpenRun>) -> String {
    let mut out = format!("row {}", prompt.row);
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            out.push_str(&format!("\n{name}: {value}"));
        }
    };
    fact("set", prompt.set.clone());
    let example = run.and_then(|r| r.view.retrieval.get(prompt.row));
    let target = prompt.target.as_ref().or(example.map(|e| &e.target));
    fact("target", target.map(|t| format!("{} ({})", t.title, t.genres.join(", "))));
    fact("liked", prompt.label.map(|l| if l { "yes".into() } else { "no".into() }));
    fact("tuned p", prompt.tuned.map(|p| format!("{p:.4}")));
    if let Some((mean, variance)) = prompt.moments() {
        fact("reasoning p", Some(format!("{mean:.4}, variance {variance:.5}")));
    }
    fact(
        "merged p",
        prompt.merged.as_ref().map(|m| format!("{:.4}, reasoning's share {}", m.p, format::percent(m.share_reasoning))),
    );
    let right = prompt.verdict().zip(prompt.label).map(|(p, l)| (p > 0.5) == l);
    fact("verdict", right.map(|r| if r { "right".into() } else { "wrong".into() }));
    fact("\nhint", prompt.hint.clone());
    fact("\nprompt", prompt.prompt.clone());
    if let Some(example) = example {
        out.push_str("\n\nhistory as it was shown:");
        for item in example.shown() {
            let near = item.similarity.map_or(String::new(), |s| format!(", similarity {s:.3}"));
            out.push_str(&format!("\n- {} (rating {}{near})", item.item.title, item.rating));
        }
    }
    for answer in &prompt.answers {
        let said = answer.answer.map_or("neither yes nor no", |a| if a { "yes" } else { "no" });
        let cut = if answer.finished { "" } else { ", cut" };
        let head = format!("sample {}: p {:.4}, {said}, {} tokens{cut}", answer.sample, answer.p, answer.tokens);
        out.push_str(&format!("\n\n{head}\n{}", answer.text));
    }
    out
}

/// Goes to the next prompt that has this text.
pub fn search(state: &mut State, wanted: String) {
    let low = wanted.to_lowercase();
    state.panes.sampling.search = wanted;
    let Some(run) = state.run() else { return };
    let rows = rows(run);
    let now = state.panes.sampling.row.and_then(|r| rows.iter().position(|x| *x == r));
    let start = now.map_or(0, |i| i + 1);
    let has = |row: &u64| run.view.prompts.get(*row).is_some_and(|p| all_of(p, None).to_lowercase().contains(&low));
    let found = (0..rows.len()).map(|i| rows[(start + i) % rows.len()]).find(has);
    match found {
        Some(row) => state.panes.sampling.row = Some(row),
        None => state.say(Weight::Plain, format!("no prompt here has '{}'", state.panes.sampling.search)),
    }
}

/// Draws the pane.
pub fn draw(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let sampling = &run.view.sampling;
    if sampling.answers == 0 && sampling.live.is_none() && sampling.scored.is_empty() {
        return text::note(area, buffer, "no answer has been sampled yet", theme);
    }
    let (mut facts, body) = text::head(&figures(run), area, theme);
    colour(run, &mut facts, theme);
    text::lines(area, buffer, &facts);
    match state.panes.sampling.mode {
        Mode::Answers => {
            let (above, below) = answers_area(state, run, body);
            draw_answers(state, run, above, buffer);
            if below.height > 0 && sampling.answers > 0 {
                points::draw(state, run, below, buffer);
            }
        }
        Mode::Points => points::draw(state, run, body, buffer),
        Mode::Spread => draw_spread(run, body, buffer, theme),
        Mode::Accuracy => draw_accuracy(run, body, buffer, theme),
    }
}

/// The answers' part of the pane; below it all rows are points, where there is room for them.
fn answers_area(state: &State, run: &OpenRun, body: Rect) -> (Rect, Rect) {
    /// Least height of the points.
    const POINTS: u16 = 10;
    let most = body.height.saturating_sub(POINTS);
    let number = (1, rows(run).len());
    let needed = shown(state).map_or(u16::MAX, |prompt| {
        let Places { heading, list, words } = places(prompt, number, body, state.theme);
        let answer = prompt.answers.get(state.panes.sampling.sample.min(prompt.answers.len().saturating_sub(1)));
        let text = answer.map_or(0, |a| text_lines(prompt, &a.text, words.width, state.theme).len());
        let (left, right) = (prompt.answers.len() + 1, text + 1);
        let below = if list.y == words.y { left.max(right) } else { usize::from(list.height) + right };
        (heading.len() + below + 1).min(usize::from(u16::MAX)) as u16
    });
    // While answers arrive the picture stays where it is.
    let above = if run.doing().is_live() { body.height * 3 / 5 } else { needed.max(8) };
    let above = if above > most { body.height } else { above };
    (Rect { height: above, ..body }, Rect { y: body.y + above, height: body.height - above, ..body })
}

/// The text of an answer with what was asked below it.
fn text_lines(prompt: &Prompt, answer: &str, columns: u16, theme: Theme) -> Vec<Line<'static>> {
    let columns = usize::from(columns).max(1);
    let mut lines: Vec<Line> = format::wrap(&format::clean(answer), columns).into_iter().map(Line::raw).collect();
    lines.extend(what_was_asked(prompt, columns, theme));
    lines
}

/// The figures over all answers.
fn figures(run: &OpenRun) -> Vec<(&'static str, String)> {
    let s = &run.view.sampling;
    let number = |x: Option<f64>| x.map_or("n/a".to_string(), format::value);
    let mut out = vec![
        ("answers", format::count(s.answers)),
        ("yes/no", format!("{}/{}", format::scaled(s.yes as f64), format::scaled(s.no as f64))),
        ("unparsed", s.unparsed_share().map_or("n/a".into(), format::percent)),
    ];
    if s.cut > 0 {
        out.push(("cut", format::count(s.cut)));
    }
    out.push(("tokens", number(s.tokens.value())));
    if let Some((_, rate)) = s.tokens_per_second.last() {
        out.push(("tokens/s", format::scaled(rate)));
    }
    if let Some(ratio) = s.cost_ratio() {
        out.push(("cost to plain", format!("{ratio:.1}x")));
    }
    out.push(("Yes+No mass", number(mass(run))));
    if let Some(mean) = s.hint_strength.mean() {
        out.push(("hint |p-.5|", format::value(mean)));
    }
    if let Some(mean) = s.variance.mean() {
        out.push(("variance", format!("{mean:.4}")));
    }
    out
}

/// The figures that need a look in the colour of that.
fn colour(run: &OpenRun, facts: &mut [Line<'static>], theme: Theme) {
    let s = &run.view.sampling;
    let unparsed = s.unparsed_share().is_some_and(|share| share > alarms::UNPARSED);
    let mass = mass(run).is_some_and(|mass| mass < alarms::MASS);
    for line in facts {
        for i in 1..line.spans.len() {
            let label = line.spans[i - 1].content.trim().to_string();
            if (label == "unparsed" && unparsed) || (label == "Yes+No mass" && mass) {
                line.spans[i].style = theme.bad();
            }
        }
    }
}

/// P(Yes) + P(No) of the answers, or of the model that was scored last.
fn mass(run: &OpenRun) -> Option<f64> {
    let s = &run.view.sampling;
    s.mass.value().or_else(|| s.scored.values().next_back().and_then(|m| m.mass.value()))
}

fn draw_answers(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let rows = rows(run);
    let live = run.view.sampling.live.as_ref().filter(|_| run.doing().is_live() && state.panes.sampling.row.is_none());
    let row = state.panes.sampling.row.or_else(|| rows.last().copied());
    let Some(prompt) = row.and_then(|r| run.view.prompts.get(r)) else {
        if let Some(live) = live {
            let title = format!("row {} sample {} is being written", live.row, live.sample);
            text::plain(area, buffer, 0, &title, theme.accent());
            let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
            return end_of_text(&live.text, body, buffer, theme);
        }
        return text::note(area, buffer, "no answer has been sampled yet", theme);
    };
    let at = rows.iter().position(|r| Some(*r) == row).map_or(0, |i| i + 1);
    let Places { heading, list, words } = places(prompt, (at, rows.len()), area, theme);
    text::lines(area, buffer, &heading);
    let sample = state.panes.sampling.sample.min(prompt.answers.len().saturating_sub(1));
    draw_list(prompt, sample, list, buffer, theme);
    match live {
        // The text beside a list belongs to the row of the list.
        Some(live) if live.row == prompt.row && live.sample as usize >= prompt.answers.len() => {
            let title = format!("sample {} is being written", live.sample + 1);
            text::plain(words, buffer, 0, &title, theme.accent());
            let body = Rect { y: words.y + 1, height: words.height.saturating_sub(1), ..words };
            end_of_text(&live.text, body, buffer, theme);
        }
        _ => {
            if let Some(answer) = prompt.answers.get(sample) {
                let title = format!("sample {} of {}", sample + 1, prompt.answers.len());
                text::plain(words, buffer, 0, &title, theme.dim());
                let lines = text_lines(prompt, &answer.text, words.width, theme);
                for (i, line) in lines.iter().enumerate() {
                    text::line(words, buffer, i as u16 + 1, line);
                }
            }
        }
    }
}

/// The hint and the prompt, below what was answered to them.
pub fn what_was_asked(prompt: &Prompt, columns: usize, theme: Theme) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    let mut part = |name: &'static str, words: &str| {
        out.push(Line::styled(name, theme.accent()));
        out.extend(
            format::wrap(format::clean(words).trim(), columns).into_iter().map(|l| Line::styled(l, theme.dim())),
        );
    };
    if let Some(hint) = prompt.hint.as_ref().filter(|h| !h.is_empty()) {
        part("hint", hint);
    }
    if let Some(read) = &prompt.prompt {
        part("prompt", read);
    }
    out
}

/// Where the parts of one prompt go.
struct Places {
    heading: Vec<Line<'static>>,
    list: Rect,
    words: Rect,
}

/// Two columns where there is room: the answers on the left, the text of one on the right.
fn places(prompt: &Prompt, number: (usize, usize), area: Rect, theme: Theme) -> Places {
    const LIST: u16 = 38;
    let mut heading = prompt_lines(prompt, number, area.width, theme);
    heading.truncate(usize::from(area.height / 3).max(1));
    let y = (heading.len() as u16).min(area.height);
    let below = Rect { y: area.y + y, height: area.height - y, ..area };
    let (list, words) = if below.width >= 70 {
        let right = Rect { x: below.x + LIST + 2, width: below.width - LIST - 2, ..below };
        (Rect { width: LIST, ..below }, right)
    } else {
        let rows = (prompt.answers.len() as u16 + 1).min(below.height / 2);
        (Rect { height: rows, ..below }, Rect { y: below.y + rows, height: below.height - rows, ..below })
    };
    Places { heading, list, words }
}

/// Selects the answer, or the row, under the mouse.
pub fn click(state: &mut State, area: Rect, at: Position) {
    let Some(run) = state.run() else { return };
    let body = text::head(&figures(run), area, state.theme).1;
    match state.panes.sampling.mode {
        Mode::Points => points::click(state, body, at),
        Mode::Answers => {
            let (above, below) = answers_area(state, run, body);
            if below.contains(at) { points::click(state, below, at) } else { click_answer(state, above, at) }
        }
        Mode::Spread | Mode::Accuracy => {}
    }
}

fn click_answer(state: &mut State, body: Rect, at: Position) {
    let Some(run) = state.run() else { return };
    let rows = rows(run);
    let Some(prompt) = shown(state) else { return };
    let number = rows.iter().position(|r| *r == prompt.row).map_or(0, |i| i + 1);
    let list = places(prompt, (number, rows.len()), body, state.theme).list;
    let n = prompt.answers.len();
    if let Some(sample) = table::hit(state.panes.sampling.sample.min(n.saturating_sub(1)), n, list, at) {
        state.panes.sampling.sample = sample;
    }
}

/// The end of a text that grows.
fn end_of_text(words: &str, area: Rect, buffer: &mut Buffer, theme: Theme) {
    let lines = format::wrap(&format::clean(words), usize::from(area.width).max(1));
    let skip = lines.len().saturating_sub(usize::from(area.height));
    for (i, line) in lines.iter().skip(skip).enumerate() {
        text::plain(area, buffer, i as u16, line, theme.text());
    }
}

/// Heading of a prompt: which, what is true, what was said.
fn prompt_lines(prompt: &Prompt, (at, of): (usize, usize), width: u16, theme: Theme) -> Vec<Line<'static>> {
    let mut facts = vec![("prompt", format!("{at}/{of}")), ("row", prompt.row.to_string())];
    if let Some(set) = &prompt.set {
        facts.push(("set", set.clone()));
    }
    facts.push(("truth", prompt.label.map_or("n/a".into(), |l| if l { "liked".into() } else { "not liked".into() })));
    if let Some((mean, variance)) = prompt.moments() {
        facts.push(("mean", format!("{mean:.3}")));
        facts.push(("variance", format!("{variance:.4}")));
    }
    if let Some(p) = prompt.tuned.or(prompt.hint_p) {
        facts.push(("tuned", format!("{p:.3}")));
    }
    if let Some(tokens) = prompt.mean_tokens() {
        facts.push(("tokens", format!("{tokens:.0}")));
    }
    if let Some(target) = &prompt.target {
        facts.push(("target", format::clean(&target.title)));
    }
    text::fact_lines(&facts, width, theme)
}

/// p of each sample as a bar, its hard answer and its length.
fn draw_list(prompt: &Prompt, selected: usize, area: Rect, buffer: &mut Buffer, theme: Theme) {
    text::plain(area, buffer, 0, " #   p                said  tokens", theme.dim());
    let room = usize::from(area.height).saturating_sub(1);
    let first = text::window(selected, prompt.answers.len(), room);
    for (i, a) in prompt.answers.iter().enumerate().skip(first).take(room) {
        let (said, style): (&str, Style) = match a.answer {
            Some(true) => ("yes", theme.good()),
            Some(false) => ("no", theme.warn()),
            None => ("?", theme.bad()),
        };
        let cut = if a.finished { ' ' } else { '+' };
        let line = Line::from(vec![
            Span::styled(format!("{:>2} ", a.sample), theme.dim()),
            Span::raw(format!("{:.3} ", a.p)),
            Span::styled(bars::bar(a.p, 12, theme), theme.series(0)),
            Span::styled(format!(" {said:<4}"), style),
            Span::raw(format!(" {:>5}{cut}", a.tokens)),
        ]);
        let row = (i - first + 1) as u16;
        if i == selected && row < area.height {
            buffer.set_style(Rect { y: area.y + row, height: 1, ..area }, theme.selected());
        }
        text::line(area, buffer, row, &line);
    }
}

/// Counts of a part of bins that holds anything, with its ends.
fn part(bins: &Bins, from_zero: bool) -> (Vec<u64>, String, String) {
    let counts: Vec<u64> = bins.bins().iter().map(|b| b.n).collect();
    let (mut a, b) = histogram::filled(&counts);
    if from_zero {
        a = 0;
    }
    let b = b.max(a + 1);
    (counts[a..b].to_vec(), format::value(bins.edges(a).0), format::value(bins.edges(b - 1).1))
}

fn draw_spread(run: &OpenRun, area: Rect, buffer: &mut Buffer, theme: Theme) {
    let s = &run.view.sampling;
    let cells = split(area, 3);
    let parts = [
        ("variance over the samples of a prompt", &s.variance, true),
        ("tokens of an answer (log scale)", &s.by_length, false),
        ("hint strength |p - 0.5|", &s.hint_strength, true),
    ];
    for ((title, bins, zero), cell) in parts.into_iter().zip(cells) {
        if bins.n() == 0 {
            text::plain(cell, buffer, 0, title, theme.text());
            text::note(cell, buffer, "nothing to count yet", theme);
            continue;
        }
        let (counts, low, high) = part(bins, zero);
        histogram::draw(title, &counts, (&low, &high), cell, buffer, theme);
    }
}

fn draw_accuracy(run: &OpenRun, area: Rect, buffer: &mut Buffer, theme: Theme) {
    let s = &run.view.sampling;
    let cells = split(area, 2);
    let window = WINDOW.min(s.by_deviation.n().max(1));
    let spread: Vec<(f64, f64)> = s.by_deviation.moving(window).into_iter().map(|(x, y, _)| (x, y)).collect();
    let curves = [Curve::new("accuracy", spread, 0)];
    let title = format!("by deviation of p, {window} prompts");
    Chart { title: &title, lines: &curves, unit: "deviation", selected: true, ..Chart::default() }
        .draw(cells[0], buffer, theme);
    let answers = WINDOW.min(s.by_length.n().max(1));
    let length: Vec<(f64, f64)> = s.by_length.moving(answers).into_iter().map(|(x, y, _)| (x, y)).collect();
    let curves = [Curve::new("accuracy", length, 1)];
    let title = format!("by length, {answers} answers");
    Chart { title: &title, lines: &curves, unit: "tokens", selected: true, ..Chart::default() }
        .draw(cells[1], buffer, theme);
}

/// `n` parts of an area: side by side where it is wide, else below each other.
pub fn split(area: Rect, n: u16) -> Vec<Rect> {
    let wide = area.width / n >= 36;
    (0..n)
        .map(|i| {
            if wide {
                let (a, b) = (area.width * i / n, area.width * (i + 1) / n);
                Rect { x: area.x + a, width: (b - a).saturating_sub(u16::from(i + 1 < n) * 2), ..area }
            } else {
                let (a, b) = (area.height * i / n, area.height * (i + 1) / n);
                Rect { y: area.y + a, height: b - a, ..area }
            }
        })
        .collect()
}
