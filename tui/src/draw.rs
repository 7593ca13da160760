//! The whole screen from the state. Pure: nothing is changed, nothing outside is asked.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use crate::format;
use crate::keys::{self, Action, Scope};
use crate::overlays;
use crate::panes::{Draw, PaneId};
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
        for (pane, label) in tab_labels(rows.tabs.width) {
            let width = (format::width(&label) as u16).min(rows.tabs.width.saturating_sub(x));
            tabs.push((pane, Rect { x: rows.tabs.x + x, width, ..rows.tabs }));
            x += width;
        }
    }
    Regions { tabs, panes: state.arrangement.place(rows.body) }
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
    for (pane, place) in state.arrangement.place(rows.body) {
        draw_pane(state, pane, place, buffer);
    }
    if rows.foot.height > 0 {
        draw_foot(state, rows.foot, buffer);
    }
    overlays::draw(state, area, buffer);
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
    let mut spans = vec![Span::styled(" rallrec ", theme.accent())];
    if let Some(run) = state.run() {
        head_of_run(state, run, &mut spans);
    }
    text::line(area, buffer, 0, &Line::from(spans));
    let mut right = String::new();
    if state.runs.len() > 1 {
        right.push_str(&format!(" run {}/{} ", state.current + 1, state.runs.len()));
    }
    if state.frozen.is_some() {
        right.push_str(" FROZEN ");
    }
    if !right.is_empty() {
        text::right(area, buffer, 0, &right, theme.warn().patch(theme.bar()));
    }
}

fn head_of_run(state: &State, run: &OpenRun, spans: &mut Vec<Span<'static>>) {
    let theme = state.theme;
    let doing = run.doing();
    let gap = || Span::raw("  ");
    spans.push(Span::raw(format::cut(&run.name(), 30, theme.marks().ellipsis)));
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
    if let Some(stage) = run.stage() {
        spans.push(gap());
        spans.push(Span::styled(stage.name.clone(), theme.accent()));
        match stage.share() {
            Some(share) => {
                spans.push(Span::raw(" "));
                spans.push(Span::styled(bars::bar(share, 12, theme), theme.good()));
                spans.push(Span::raw(format!(" {:.0} %", share * 100.0)));
            }
            None if doing == Doing::Running => spans.push(Span::styled(" warming up", theme.dim())),
            None => {}
        }
        if let Some(eta) = stage.eta().filter(|_| doing == Doing::Running) {
            spans.push(Span::styled("  left ", theme.dim()));
            spans.push(Span::raw(format::seconds(eta)));
        }
    }
    let warnings = run.view.stages.warnings.len();
    if warnings > 0 {
        let s = if warnings == 1 { "" } else { "s" };
        let words = format!("  {warnings} warning{s}");
        let used: usize = spans.iter().map(Span::width).sum();
        if used + words.len() <= usize::from(state.size.0) {
            spans.push(Span::styled(words, theme.warn()));
        }
    }
}

fn tab_labels(width: u16) -> Vec<(PaneId, String)> {
    let long = PaneId::ALL.iter().map(|p| p.title().len() + 4).sum::<usize>() <= usize::from(width);
    let short = |title: &str| title.chars().take(4).collect::<String>();
    let middle = PaneId::ALL.iter().map(|p| short(p.title()).len() + 3).sum::<usize>() <= usize::from(width);
    PaneId::ALL
        .iter()
        .map(|p| {
            let label = match (long, middle) {
                (true, _) => format!(" {} {} ", p.number(), p.title()),
                (_, true) => format!("{} {} ", p.number(), short(p.title())),
                _ => format!(" {} ", p.number()),
            };
            (*p, label)
        })
        .collect()
}

fn draw_tabs(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let mut spans = Vec::new();
    for (pane, label) in tab_labels(area.width) {
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
    let mut spans = Vec::new();
    let mut used = 0;
    for scope in [pane, Scope::Global] {
        for b in keys::TABLE.iter().filter(|b| b.scope == scope && !b.hint.is_empty() && can(b.action)) {
            let key = b.keys.first().map(|k| k.name()).unwrap_or_default();
            let w = format::width(&key) + format::width(b.hint) + 3;
            if used + w > usize::from(area.width) {
                break;
            }
            used += w;
            spans.push(Span::styled(format!(" {key}"), theme.accent()));
            spans.push(Span::styled(format!(" {} ", b.hint), theme.dim()));
        }
    }
    text::line(area, buffer, 0, &Line::from(spans));
}
