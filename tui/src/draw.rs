//! The whole screen from the state. Pure: nothing is changed, nothing outside is asked.

use rallrec_events::metric::{METRICS, Shown};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use crate::format;
use crate::keys::{self, Action, Scope};
use crate::left;
use crate::overlays;
use crate::panes::{Draw, PaneId, alarms};
use crate::state::{Doing, OpenRun, State, Weight};
use crate::theme::Theme;
use crate::widgets::{bars, text};

/// Where things are, for the mouse.
#[derive(Debug, Clone, Default)]
pub struct Regions {
    /// Tabs of the panes.
    pub tabs: Vec<(PaneId, Rect)>,
    /// Panes on the screen, with their frames.
    pub panes: Vec<(PaneId, Rect)>,
}

/// Draws everything.
pub fn draw(state: &State, frame: &mut Frame) {
    let area = frame.area();
    draw_into(state, area, frame.buffer_mut());
}

/// Rows of the screen: head, tabs, panes, foot.
struct Rows {
    head: Rect,
    tabs: Rect,
    body: Rect,
    foot: Rect,
}

fn rows(area: Rect) -> Rows {
    let row = |y: u16, height: u16| Rect { y: area.y + y.min(area.height), height, ..area };
    // A very low screen keeps its rows for the pane.
    let (head, tabs, foot) = match area.height {
        0..4 => (0, 0, 0),
        4..8 => (1, 0, 0),
        8..10 => (1, 0, 1),
        _ => (1, 1, 1),
    };
    let body = area.height - head - tabs - foot;
    Rows {
        head: row(0, head),
        tabs: row(head, tabs),
        body: row(head + tabs, body),
        foot: row(head + tabs + body, foot),
    }
}

/// Where tabs and panes are on the screen that [`draw`] makes of this state.
pub fn regions(state: &State) -> Regions {
    let area = Rect::new(0, 0, state.size.0, state.size.1);
    let rows = rows(area);
    let mut tabs = Vec::new();
    if rows.tabs.height > 0 {
        let mut x = 0;
        for (pane, label) in tab_labels(rows.tabs.width, state.arrangement.focus) {
            let width = (format::width(&label) as u16).min(rows.tabs.width.saturating_sub(x));
            tabs.push((pane, Rect { x: rows.tabs.x + x, width, ..rows.tabs }));
            x += width;
        }
    }
    Regions { tabs, panes: state.places(rows.body) }
}

/// As [`draw`], into any buffer.
pub fn draw_into(state: &State, area: Rect, buffer: &mut Buffer) {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    let rows = rows(area);
    if rows.head.height > 0 {
        draw_head(state, rows.head, buffer);
    }
    if rows.tabs.height > 0 {
        draw_tabs(state, rows.tabs, buffer);
    }
    for (pane, place) in state.places(rows.body) {
        draw_pane(state, pane, place, buffer);
    }
    if rows.foot.height > 0 {
        draw_foot(state, rows.foot, buffer);
    }
    overlays::draw(state, area, buffer);
    mend(area, buffer);
}

/// Takes away each wide glyph whose second half something else was drawn over: the terminal would
/// draw it over that.
fn mend(area: Rect, buffer: &mut Buffer) {
    for y in area.top()..area.bottom() {
        for x in area.left()..area.right() {
            let symbol = buffer[(x, y)].symbol();
            if symbol.len() < 3 || format::width(symbol) < 2 {
                continue;
            }
            let whole = x + 1 < area.right() && buffer[(x + 1, y)].symbol() == " ";
            if !whole {
                buffer[(x, y)].set_symbol(" ");
            }
        }
    }
}

/// The part of a pane's place inside its frame.
pub fn inside(place: Rect) -> Rect {
    if place.width < 16 || place.height < 5 {
        return place;
    }
    Rect::new(place.x + 2, place.y + 1, place.width - 4, place.height - 2)
}

fn draw_pane(state: &State, pane: PaneId, place: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let inner = inside(place);
    if inner != place {
        let title = format!(" {} {} ", pane.number(), pane.title());
        overlays::bordered(&title, state.arrangement.focus == pane, theme).render(place, buffer);
    }
    let of_run = match pane.pane().draw {
        Draw::Always(draw) => return draw(state, inner, buffer),
        Draw::OfRun(draw) => draw,
    };
    let Some(run) = state.run() else {
        return text::note(inner, buffer, "no run is open: key 0 lists runs and recipes", theme);
    };
    if !run.opened {
        return text::note(inner, buffer, "reading the run folder", theme);
    }
    if run.view.records == 0 {
        let why = run.status.trouble.as_deref().unwrap_or("nothing has been written yet");
        return text::note(inner, buffer, why, theme);
    }
    of_run(state, run, inner, buffer);
}

/// Style and mark of what a run is doing.
pub fn doing_span(doing: Doing, theme: Theme) -> Span<'static> {
    let m = theme.marks();
    let (mark, style) = match doing {
        Doing::Running => (m.running, theme.accent()),
        Doing::Done => (m.done, theme.good()),
        Doing::Failed | Doing::Killed | Doing::Gone => (m.failed, theme.bad()),
        Doing::Paused | Doing::Stopped => ('=', theme.warn()),
        Doing::Opening | Doing::Empty => (m.waiting, theme.dim()),
    };
    Span::styled(format!("{mark} {}", doing.word()), style)
}

fn draw_head(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    buffer.set_style(area, theme.bar());
    let mut right = Vec::new();
    if let Some(run) = state.run() {
        right.extend(alarms_span(state, run, area.width));
    }
    if state.runs.len() > 1 {
        right.push(Span::styled(format!(" run {}/{} ", state.current + 1, state.runs.len()), theme.dim()));
    }
    if state.frozen.is_some() {
        right.push(Span::styled(" FROZEN ", theme.warn()));
    }
    // What needs a look is on the screen, whatever else has to be cut for it.
    let width = (right.iter().map(Span::width).sum::<usize>() as u16).min(area.width);
    let left = Rect { width: area.width - width, ..area };
    let mut spans = vec![Span::styled(" rallrec ", theme.accent())];
    if let Some(run) = state.run() {
        head_of_run(state, run, left.width, &mut spans);
    }
    text::line(left, buffer, 0, &Line::from(spans));
    let place = Rect { x: area.x + left.width, width, ..area };
    text::line(place, buffer, 0, &Line::from(right));
}

/// How many alarms there are, and the worst of them where there is room.
fn alarms_span(state: &State, run: &OpenRun, width: u16) -> Option<Span<'static>> {
    let alarms = alarms::heard(state, run);
    let loud: Vec<_> = alarms.iter().filter(|a| a.weight != alarms::Weight::Note).collect();
    let worst = loud.first()?;
    let count = match loud.len() {
        1 => String::new(),
        n => format!("{n} alarms: "),
    };
    let text = format!("{count}{}: {}", worst.place, worst.what);
    let text = match width {
        0..60 => format!(" !{} ", loud.len()),
        60..100 => format!(" ! {} ", format::cut(&format::clean(&text), 24, state.theme.marks().ellipsis)),
        _ => {
            let room = usize::from(width) * 2 / 5;
            format!(" ! {} ", format::cut(&format::clean(&text), room, state.theme.marks().ellipsis))
        }
    };
    Some(Span::styled(text.replace('\n', " "), worst.weight.style(state.theme)))
}

fn head_of_run(state: &State, run: &OpenRun, width: u16, spans: &mut Vec<Span<'static>>) {
    let theme = state.theme;
    let doing = run.doing();
    let gap = || Span::raw("  ");
    spans.push(Span::raw(format::cut(&state.label(run), 30, theme.marks().ellipsis)));
    spans.push(gap());
    spans.push(doing_span(doing, theme));
    if matches!(doing, Doing::Running) && run.is_asked_to_pause() {
        spans.push(Span::styled(" (pausing)", theme.warn()));
    }
    spans.push(gap());
    spans.push(Span::raw(format::seconds(run.elapsed(state.now_ms))));
    if run.glance {
        spans.push(Span::styled("  first look: the whole is being read", theme.warn()));
    }
    // Each part whole or not at all.
    let mut add = |part: Vec<Span<'static>>| {
        let used: usize = spans.iter().chain(&part).map(Span::width).sum();
        if used <= usize::from(width) {
            spans.extend(part);
        }
    };
    if let Some(stage) = run.stage() {
        add(vec![gap(), Span::styled(stage.name.clone(), theme.accent())]);
        match stage.share() {
            Some(share) => {
                add(vec![Span::raw(format!(" {:.0} %", share * 100.0))]);
                add(vec![Span::raw(" "), Span::styled(bars::bar(share, 12, theme), theme.accent())]);
            }
            None if doing == Doing::Running => add(vec![Span::styled(" warming up", theme.dim())]),
            None => {}
        }
        if let Some(left) = left::of_stage(stage, state.now_ms).filter(|left| *left > 0.0 && doing == Doing::Running) {
            add(vec![Span::styled("  stage left ", theme.dim()), Span::raw(format::seconds(left))]);
        }
    }
    if let Some(left) = left::of_run(run, state.now_ms) {
        add(vec![Span::styled("  run left ", theme.dim()), Span::raw(left.words(theme))]);
    }
    // A run that has ended well is there for its result.
    if doing == Doing::Done
        && let Some(row) = run.view.results.main_row()
    {
        add(vec![gap(), Span::styled(format::clean(&row.name), theme.accent())]);
        for metric in METRICS.iter().filter(|m| m.shown == Shown::Always) {
            if let Some((value, ..)) = row.metric(metric.name) {
                let title = Span::styled(format!("  {} ", metric.title), theme.dim());
                add(vec![title, Span::raw(format!("{value:.3}"))]);
            }
        }
    }
    let warnings = run.view.stages.warnings.len();
    if warnings > 0 {
        let s = if warnings == 1 { "" } else { "s" };
        add(vec![Span::styled(format!("  {warnings} warning{s}"), theme.warn())]);
    }
}

fn tab_labels(width: u16, focus: PaneId) -> Vec<(PaneId, String)> {
    let long = PaneId::ALL.iter().map(|p| p.title().len() + 4).sum::<usize>() <= usize::from(width);
    // The focused one has its whole name.
    let named = |p: PaneId| if p == focus { p.title() } else { p.pane().short };
    let middle = PaneId::ALL.iter().map(|p| named(*p).len() + 3).sum::<usize>() <= usize::from(width);
    PaneId::ALL
        .iter()
        .map(|p| {
            let label = match (long, middle) {
                (true, _) => format!(" {} {} ", p.number(), p.title()),
                (_, true) => format!("{} {} ", p.number(), named(*p)),
                _ => format!(" {} ", p.number()),
            };
            (*p, label)
        })
        .collect()
}

fn draw_tabs(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let mut spans = Vec::new();
    for (pane, label) in tab_labels(area.width, state.arrangement.focus) {
        let style = if pane == state.arrangement.focus { theme.selected().patch(theme.accent()) } else { theme.dim() };
        spans.push(Span::styled(label, style));
    }
    text::line(area, buffer, 0, &Line::from(spans));
}

fn draw_foot(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    if let Some(notice) = &state.notice {
        let style = match notice.weight {
            Weight::Good => theme.good(),
            Weight::Plain => theme.accent(),
            Weight::Bad => theme.bad(),
        };
        let words = format::cut(&format!(" {}", notice.text), usize::from(area.width), theme.marks().ellipsis);
        return text::plain(area, buffer, 0, &words, style);
    }
    let pane = state.arrangement.focus.pane().scope(state);
    // A run that has ended cannot be paused.
    let live = state.live_run().is_some_and(|r| r.doing().is_live());
    let can = |action| live || !matches!(action, Action::Pause | Action::Checkpoint | Action::Stop);
    let hint = |b: &keys::Binding| {
        let key = b.keys.first().map(|k| k.name()).unwrap_or_default();
        let key = state.keys.get(&key).cloned().unwrap_or(key);
        [Span::styled(format!(" {key}"), theme.accent()), Span::styled(format!(" {} ", b.hint), theme.dim())]
    };
    let width_of = |hint: &[Span]| hint.iter().map(Span::width).sum::<usize>();
    // Help and the way out are always there.
    let always = |b: &&keys::Binding| b.scope == Scope::Global && matches!(b.action, Action::Help | Action::Quit);
    let last: Vec<Span> = keys::TABLE.iter().filter(always).flat_map(hint).collect();
    let mut used = width_of(&last);
    let mut spans = Vec::new();
    'all: for scope in [pane, Scope::Global] {
        let own = keys::TABLE.iter().filter(|b| b.scope == scope && !b.hint.is_empty() && can(b.action) && !always(b));
        for hint in own.map(hint) {
            used += width_of(&hint);
            if used > usize::from(area.width) {
                break 'all;
            }
            spans.extend(hint);
        }
    }
    spans.extend(last);
    text::line(area, buffer, 0, &Line::from(spans));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wide glyph under the left edge of a window once ate its border.
    #[test]
    fn a_wide_glyph_that_is_half_covered_goes() {
        let area = Rect::new(0, 0, 6, 1);
        let mut buffer = Buffer::empty(area);
        buffer.set_string(0, 0, "日日日", ratatui::style::Style::new());
        buffer[(3, 0)].set_symbol("|");
        mend(area, &mut buffer);
        let symbols: Vec<&str> = (0..6).map(|x| buffer[(x, 0)].symbol()).collect();
        assert_eq!(symbols, ["日", " ", " ", "|", "日", " "]);
    }
}
