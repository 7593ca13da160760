//! Pane 4: tuned, reasoning and merged predictions side by side: tables, sweep, reliability, single
//! prompts.

use crate::keys::Key::Char;
use crate::keys::{Action, DOWN, END, ENTER, HOME, LEFT, PAGE_DOWN, PAGE_UP, RIGHT, UP, VIEW, bound};
use crate::panes::{BASE, Draw, Pane, PaneId};
use rallrec_events::metric::{Better, Metric};
use rallrec_events::view::{Merge, MergeRow, Prompt, State as StageState};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};

use crate::format;
use crate::message::Effect;
use crate::panes::sampling::{self, split};
use crate::state::{OpenRun, State};
use crate::theme::Theme;
use crate::widgets::chart::{Chart, Line as Curve};
use crate::widgets::heat::Heat;
use crate::widgets::table::{self, Cell, number, words};
use crate::widgets::{bars, histogram, text};

mod points;
mod results;

pub use results::draw_tables;

/// The pane.
pub const PANE: Pane = Pane {
    id: PaneId::Merge,
    title: "Merge",
    short: "Merge",
    key: &[Char('4')],
    about: "merge and results",
    draw: Draw::OfRun(draw),
    act,
    click,
    keys: &[
        bound(UP, Action::Up, "previous prompt", ""),
        bound(DOWN, Action::Down, "next prompt", "prompt"),
        bound(PAGE_UP, Action::PageUp, "ten prompts up", ""),
        bound(PAGE_DOWN, Action::PageDown, "ten prompts down", ""),
        bound(HOME, Action::First, "first prompt", ""),
        bound(END, Action::Last, "last prompt", ""),
        bound(LEFT, Action::Left, "earlier samples count, metric or table", ""),
        bound(RIGHT, Action::Right, "next samples count, metric or table", ""),
        bound(ENTER, Action::Open, "read the selected row whole", ""),
        bound(VIEW, Action::NextView, "table, heat map, reliability, rows as points, prompts", "view"),
        bound(&[Char('s')], Action::Sort, "prompts in order of row, variance, share or loss", "sort"),
    ],
    ..BASE
};

/// The constant of the papers.
const AUTHORS_ALPHA: f64 = 0.1;
/// A smaller area shows the reliability diagram alone.
const LEAST_RELIABILITY: u16 = 10;

/// What the pane shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Tables at the end of the run; before, figures over the merged rows.
    #[default]
    Table,
    /// The sweep.
    Heat,
    /// Reliability and shares.
    Reliability,
    /// Every row as a point: the reasoning model's p over the tuned model's.
    Points,
    /// Single prompts.
    Prompts,
}

/// Order of the prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they came.
    #[default]
    Row,
    /// Largest variance first.
    Variance,
    /// Largest share of the reasoning model first.
    Share,
    /// Largest loss of the merged prediction first.
    Loss,
}

impl Order {
    fn word(self) -> &'static str {
        match self {
            Order::Row => "row",
            Order::Variance => "variance",
            Order::Share => "share",
            Order::Loss => "loss",
        }
    }
}

/// State of the pane.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What is shown.
    pub mode: Mode,
    /// Which table.
    pub table: usize,
    /// Which number of samples in the heat map.
    pub samples: usize,
    /// Which prompt.
    pub prompt: usize,
    /// Order of the prompts.
    pub order: Order,
}

/// Keys of the pane.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let Some(run) = state.run() else { return Vec::new() };
    let prompts = run.view.merge.rows.len().saturating_sub(1);
    let tables = run.view.results.tables.len().saturating_sub(1);
    let slices = sample_counts(&run.view.merge).len().saturating_sub(1);
    let view = &mut state.panes.merge;
    view.prompt = match action {
        Action::Up => view.prompt.saturating_sub(1),
        Action::Down => view.prompt + 1,
        Action::PageUp => view.prompt.saturating_sub(10),
        Action::PageDown => view.prompt + 10,
        Action::First => 0,
        Action::Last => prompts,
        _ => view.prompt,
    }
    .min(prompts);
    match (action, view.mode) {
        (Action::Open, Mode::Points | Mode::Prompts) => {
            if let Some(row) = selected(state).map(|r| r.row) {
                sampling::read(state, row);
            }
        }
        (Action::NextView, mode) => {
            view.mode = match mode {
                Mode::Table => Mode::Heat,
                Mode::Heat => Mode::Reliability,
                Mode::Reliability => Mode::Points,
                Mode::Points => Mode::Prompts,
                Mode::Prompts => Mode::Table,
            };
        }
        (Action::Left, Mode::Table) => view.table = view.table.min(tables).saturating_sub(1),
        (Action::Right, Mode::Table) => view.table = (view.table + 1).min(tables),
        (Action::Left, Mode::Heat) => view.samples = view.samples.min(slices).saturating_sub(1),
        (Action::Right, Mode::Heat) => view.samples = (view.samples + 1).min(slices),
        (Action::Sort, _) => {
            view.order = match view.order {
                Order::Row => Order::Variance,
                Order::Variance => Order::Share,
                Order::Share => Order::Loss,
                Order::Loss => Order::Row,
            };
            view.prompt = 0;
        }
        _ => {}
    }
    Vec::new()
}

/// Draws the pane.
pub fn draw(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let view = &run.view;
    if view.merge.is_empty() && view.results.tables.is_empty() {
        return text::note(area, buffer, "nothing has been merged yet", theme);
    }
    let (facts, body) = head(run, area, theme);
    text::lines(area, buffer, &facts);
    match state.panes.merge.mode {
        Mode::Table => {
            let tables = &view.results.tables;
            let table = tables.get(state.panes.merge.table.min(tables.len().saturating_sub(1)));
            let lines = |table| results::lines_of(table, run.view.results.beside(table));
            let used = table.map_or(body.height, lines).min(body.height);
            draw_tables(state, run, Rect { height: used, ..body }, buffer);
            let rest = Rect { y: body.y + used, height: body.height - used, ..body };
            if rest.height >= LEAST_RELIABILITY && !view.merge.rows.is_empty() {
                draw_reliability(&view.merge, rest, buffer, theme);
            }
        }
        Mode::Heat => draw_heat(state, &view.merge, body, buffer),
        Mode::Reliability => draw_reliability(&view.merge, body, buffer, theme),
        Mode::Points => points::draw(state, run, body, buffer),
        Mode::Prompts => draw_prompts(state, run, body, buffer),
    }
}

/// The lines at the top, and what is left below them.
fn head(run: &OpenRun, area: Rect, theme: Theme) -> (Vec<Line<'static>>, Rect) {
    let view = &run.view;
    let mut figures = figures(&view.merge);
    // A run that is repeated shows the earlier outcome until its own comes.
    if run.doing().is_live() && view.stages.get("merge").is_some_and(|s| s.state == StageState::Waiting) {
        figures.insert(0, ("", "(before this start)".into()));
    }
    text::head(&figures, area, theme)
}

/// Selects the row under the mouse.
pub fn click(state: &mut State, area: Rect, at: Position) {
    let Some(run) = state.run() else { return };
    let body = head(run, area, state.theme).1;
    let n = run.view.merge.rows.len();
    let found = match state.panes.merge.mode {
        Mode::Points => points::nearest(state, run, body, at),
        Mode::Prompts => table::hit(state.panes.merge.prompt.min(n.saturating_sub(1)), n, prompts_list(body), at),
        _ => None,
    };
    state.panes.merge.prompt = found.unwrap_or(state.panes.merge.prompt);
}

/// The row that the keys are on.
fn selected(state: &State) -> Option<&MergeRow> {
    let rows = ordered(&state.run()?.view.merge, state.panes.merge.order);
    rows.get(state.panes.merge.prompt.min(rows.len().saturating_sub(1))).copied()
}

/// The weight of the reasoning model, and the bound that the constants set to it.
fn figures(merge: &Merge) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if let Some(cell) = merge.chosen() {
        out.push(("alpha", format!("{}", cell.alpha)));
        out.push(("epsilon", format!("{:.0e}", cell.epsilon)));
        if cell.samples > 0 {
            out.push(("samples", cell.samples.to_string()));
        }
    }
    if let Some(share) = merge.share.value() {
        out.push(("reasoning's share", format!("mean {}", format::percent(share))));
        if let Some(most) = merge.share.max {
            out.push(("most", format::percent(most)));
        }
    }
    if let Some(cell) = merge.chosen() {
        // With one run of the tuned model its variance is 0, which bounds the other one's weight.
        out.push((
            "possible with one tuned run",
            format!("<= {}", format::percent(Merge::largest_possible_share(cell.alpha))),
        ));
        if cell.alpha != AUTHORS_ALPHA {
            let most = format::percent(Merge::largest_possible_share(AUTHORS_ALPHA));
            out.push(("at the authors' alpha 0.1", format!("<= {most}")));
        }
    }
    if let Some(variance) = merge.variance.value() {
        out.push(("mean variance", format!("{variance:.4}")));
    }
    if merge.share.n > 0 {
        out.push(("rows", format::count(merge.share.n)));
    }
    out
}

fn draw_so_far(merge: &Merge, area: Rect, buffer: &mut Buffer, theme: Theme) {
    let columns = [words("rows merged so far"), number("accuracy"), number("log loss"), number("gap")];
    let figure = |x: Option<f64>| x.map_or("n/a".to_string(), |v| format!("{v:.3}"));
    let rows: Vec<Vec<Cell>> = [("tuned", &merge.tuned), ("reasoning", &merge.reasoning), ("merged", &merge.merged)]
        .iter()
        .map(|(name, model)| {
            vec![
                Cell::new(*name, theme.accent()),
                Cell::from(figure(model.accuracy())),
                Cell::from(figure(model.log_loss())),
                Cell::from(figure(model.reliability.ece())),
            ]
        })
        .collect();
    table::draw(&columns, &rows, None, area, buffer, theme);
}

/// The numbers of samples that the sweep tried, ascending; 0 stands for all.
fn sample_counts(merge: &Merge) -> Vec<u32> {
    let mut out: Vec<u32> = merge.cells.iter().map(|c| c.samples).collect();
    out.sort_unstable();
    out.dedup();
    out
}

fn draw_heat(state: &State, merge: &Merge, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let counts = sample_counts(merge);
    if counts.is_empty() {
        return text::note(area, buffer, "no sweep in this run", theme);
    }
    let samples = counts[state.panes.merge.samples.min(counts.len() - 1)];
    let cells: Vec<_> = merge.cells.iter().filter(|c| c.samples == samples).collect();
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.dedup();
        values
    };
    let alphas = sorted(cells.iter().map(|c| c.alpha).collect());
    let epsilons = sorted(cells.iter().map(|c| c.epsilon).collect());
    let at = |alpha: f64, epsilon: f64| cells.iter().find(|c| c.alpha == alpha && c.epsilon == epsilon);
    let metric = cells.first().map(|c| c.metric.clone()).unwrap_or_default();
    let used = if samples == 0 { "all samples".to_string() } else { format!("{samples} samples") };
    let low = Metric::named(&metric).is_some_and(|m| m.better == Better::Lower);
    let better = if low { "low is better" } else { "high is better" };
    let title = format!("{metric} ({better}) on validation rows over alpha (down) and epsilon (across), {used}");
    let chosen = cells.iter().find(|c| c.chosen).and_then(|c| {
        Some((alphas.iter().position(|a| *a == c.alpha)?, epsilons.iter().position(|e| *e == c.epsilon)?))
    });
    Heat {
        title: &format::cut(&title, usize::from(area.width), theme.marks().ellipsis),
        rows: alphas.iter().map(|a| format!("alpha {a}")).collect(),
        columns: epsilons.iter().map(|e| format!("{e:.0e}")).collect(),
        cells: alphas
            .iter()
            .map(|a| epsilons.iter().map(|e| at(*a, *e).map_or(f64::NAN, |c| c.value)).collect())
            .collect(),
        chosen,
        low_is_good: low,
    }
    .draw(area, buffer, theme);
}

fn draw_reliability(merge: &Merge, area: Rect, buffer: &mut Buffer, theme: Theme) {
    let low = area.height < LEAST_RELIABILITY;
    let cells = if low { vec![area] } else { split(area, 2) };
    let curve = |name: &str, model: &rallrec_events::view::Model, i: usize| {
        Curve::new(name, model.reliability.points().into_iter().map(|(x, y, _)| (x, y)).collect(), i)
    };
    let mut even = Curve::new("", vec![(0.0, 0.0), (1.0, 1.0)], 5);
    // The diagonal is dotted: a line of its own would look like a fourth model.
    even.points = (0..=20).map(|i| (f64::from(i) / 20.0, f64::from(i) / 20.0)).collect();
    even.dots = true;
    let curves = [
        even,
        curve("tuned", &merge.tuned, 0),
        curve("reasoning", &merge.reasoning, 1),
        curve("merged", &merge.merged, 2),
    ];
    let chart = Chart {
        title: "liked against p, equal bins",
        lines: &curves,
        x: Some((0.0, 1.0)),
        y: Some((0.0, 1.0)),
        unit: "p",
        names_only: true,
        selected: true,
        ..Chart::default()
    };
    chart.draw(cells[0], buffer, theme);
    if low {
        return;
    }
    let below = Rect { height: cells[1].height.saturating_sub(3), ..cells[1] };
    draw_shares(merge, below, buffer, theme);
    let foot = Rect { y: cells[1].y + below.height, height: cells[1].height - below.height, ..cells[1] };
    let models = [("tuned", &merge.tuned), ("reasoning", &merge.reasoning), ("merged", &merge.merged)];
    for (i, (name, model)) in models.iter().enumerate() {
        // Not the table's calibration error, which has bins of equal mass.
        let gap = model.reliability.ece().map_or("n/a".into(), |e| format!("{e:.3}"));
        let loss = model.log_loss().map_or("n/a".into(), |e| format!("{e:.3}"));
        let line = Line::from(vec![
            Span::styled(format!("{name:<10}"), theme.series(i)),
            Span::styled(" gap ", theme.dim()),
            Span::raw(gap),
            Span::styled("  log loss ", theme.dim()),
            Span::raw(loss),
        ]);
        text::line(foot, buffer, i as u16, &line);
    }
}

/// How the reasoning model's share of the weight is spread over the latest rows, from 0 to the
/// largest.
fn draw_shares(merge: &Merge, area: Rect, buffer: &mut Buffer, theme: Theme) {
    const BINS: usize = 24;
    let shares = || merge.rows.iter().map(|r| r.share_reasoning).filter(|s| s.is_finite());
    let most = shares().fold(0.0, f64::max).max(1e-12);
    let mut counts = [0u64; BINS];
    for share in shares() {
        counts[((share / most * BINS as f64) as usize).min(BINS - 1)] += 1;
    }
    histogram::draw("reasoning's share", &counts, ("0", &format::percent(most)), area, buffer, theme);
}

/// The merged rows in the chosen order.
fn ordered(merge: &Merge, order: Order) -> Vec<&MergeRow> {
    let mut rows: Vec<&MergeRow> = merge.rows.iter().collect();
    let loss = |r: &MergeRow| match r.label {
        Some(true) => 1.0 - r.p,
        Some(false) => r.p,
        None => -1.0,
    };
    match order {
        Order::Row => {}
        Order::Variance => rows.sort_by(|a, b| b.var_reasoning.total_cmp(&a.var_reasoning)),
        Order::Share => rows.sort_by(|a, b| b.share_reasoning.total_cmp(&a.share_reasoning)),
        Order::Loss => rows.sort_by(|a, b| loss(b).total_cmp(&loss(a))),
    }
    rows
}

/// List and verdict of the prompts stand beside each other.
fn is_wide(area: Rect) -> bool {
    area.width >= 100
}

/// The list's part of the prompts.
fn prompts_list(area: Rect) -> Rect {
    if is_wide(area) {
        Rect { width: 44, ..area }
    } else {
        Rect { height: (area.height / 3).clamp(area.height.min(3), 8), ..area }
    }
}

fn draw_prompts(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let rows = ordered(&run.view.merge, state.panes.merge.order);
    let Some(at) = rows.len().checked_sub(1).map(|last| state.panes.merge.prompt.min(last)) else {
        return text::note(area, buffer, "no row has been merged yet", theme);
    };
    let row = rows[at];
    let wide = is_wide(area);
    let list = prompts_list(area);
    let cells: Vec<Vec<Cell>> = rows
        .iter()
        .map(|r| {
            let right = r.label.map(|l| (r.p > 0.5) == l);
            let style = match right {
                Some(true) => theme.good(),
                Some(false) => theme.bad(),
                None => theme.text(),
            };
            vec![
                Cell::from(r.row.to_string()),
                Cell::from(format!("{:.3}", r.mean_tuned)),
                Cell::from(format!("{:.3}", r.mean_reasoning)),
                Cell::new(format!("{:.3}", r.p), style),
                Cell::new(r.label.map_or("n/a", |l| if l { "yes" } else { "no" }), theme.dim()),
                Cell::new(format::percent(r.share_reasoning), theme.dim()),
            ]
        })
        .collect();
    let columns = [number("row"), number("tuned"), number("reason"), number("merged"), words("liked"), number("share")];
    table::draw(&columns, &cells, Some(at), list, buffer, theme);
    let rest = if wide {
        Rect { x: area.x + 46, width: area.width - 46, ..area }
    } else {
        Rect { y: area.y + list.height, height: area.height - list.height, ..area }
    };
    text::lines(rest, buffer, &verdict(state, run, row, rest.width));
}

/// One prompt in words: predictions, history, retrieved items, hint, answers, verdict.
fn verdict(state: &State, run: &OpenRun, row: &MergeRow, width: u16) -> Vec<Line<'static>> {
    let theme = state.theme;
    let columns = usize::from(width).max(1);
    let mut out = Vec::new();
    let prompt = run.view.prompts.get(row.row);
    let title = prompt.and_then(|p| p.target.as_ref()).map(|t| format::clean(&t.title));
    let right = |l: bool| if (row.p > 0.5) == l { "right" } else { "wrong" };
    let truth = row
        .label
        .map_or(String::new(), |l| format!("  {}: merged is {}", if l { "liked" } else { "not liked" }, right(l)));
    out.push(Line::from(vec![
        Span::styled(format!("row {}  ", row.row), theme.accent()),
        Span::raw(title.unwrap_or_default()),
        Span::styled(truth, theme.warn()),
        Span::styled(format!("   in order of {}", state.panes.merge.order.word()), theme.dim()),
    ]));
    let models = [
        ("tuned", row.mean_tuned, Some(row.var_tuned)),
        ("reasoning", row.mean_reasoning, Some(row.var_reasoning)),
        ("merged", row.p, None),
    ];
    for (i, (name, p, variance)) in models.into_iter().enumerate() {
        let mut spans = vec![
            Span::styled(format!("{name:<10}"), theme.series(i)),
            Span::raw(format!("{p:.4} ")),
            Span::styled(bars::bar(p, 20, theme), theme.series(i)),
        ];
        match variance {
            Some(v) => spans.push(Span::styled(format!("  variance {v:.5}"), theme.dim())),
            None => {
                let share = format::percent(row.share_reasoning);
                spans.push(Span::styled(format!("  reasoning's share {share}"), theme.dim()));
            }
        }
        out.push(Line::from(spans));
    }
    if let Some(prompt) = prompt {
        prompt_words(prompt, columns, theme, &mut out);
    }
    if let Some(example) = run.view.retrieval.get(row.row) {
        out.push(Line::styled("retrieved, in the order of the prompt", theme.dim()));
        for item in example.shown() {
            let similarity = item.similarity.map_or(String::new(), |s| format!("  {s:.3}"));
            let text = format!("  {} ({}){similarity}", format::clean(&item.item.title), item.rating);
            out.push(Line::raw(format::cut(&text, columns, theme.marks().ellipsis)));
        }
    }
    out
}

fn prompt_words(prompt: &Prompt, columns: usize, theme: Theme, out: &mut Vec<Line<'static>>) {
    if let Some(hint) = prompt.hint.as_ref().filter(|h| !h.is_empty()) {
        let text = format!("hint: {}", format::clean(hint).trim());
        out.extend(format::wrap(&text, columns).into_iter().map(|l| Line::styled(l, theme.warn())));
    } else if let Some(p) = prompt.hint_p {
        out.push(Line::from(vec![Span::styled("hint from p ", theme.dim()), Span::raw(format!("{p:.3}"))]));
    }
    if !prompt.answers.is_empty() {
        let said = |a: Option<bool>| a.map_or("?", |a| if a { "y" } else { "n" });
        let text: Vec<String> = prompt.answers.iter().map(|a| format!("{:.2}{}", a.p, said(a.answer))).collect();
        let text = format!("answers: {}", text.join(" "));
        out.extend(format::wrap(&text, columns).into_iter().map(Line::raw));
        if let Some(first) = prompt.answers.first() {
            let text = format!("first: {}", format::clean(&first.text));
            out.extend(format::wrap(&text, columns).into_iter().take(6).map(|l| Line::styled(l, theme.dim())));
        }
    }
    if let Some(read) = &prompt.prompt {
        out.push(Line::styled("prompt", theme.dim()));
        out.extend(format::wrap(&format::clean(read), columns).into_iter().map(Line::raw));
    }
}
