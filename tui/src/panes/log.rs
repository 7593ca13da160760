//! Pane 8: log lines of the run and what this process printed meanwhile; level, filter, follow.

use crate::keys::Key::Char;
use crate::keys::{Action, DOWN, END, ESC, HOME, PAGE_DOWN, PAGE_UP, UP, VIEW, bound};
use crate::panes::{BASE, Draw, Pane, PaneId};
use rallrec_events::view::Line as LogLine;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::format;
use crate::message::Effect;
use crate::state::{Input, Overlay, Purpose, State};
use crate::theme::Theme;
use crate::widgets::text;

/// The pane.
pub const PANE: Pane = Pane {
    id: PaneId::Log,
    title: "Log",
    short: "Log",
    key: &[Char('8')],
    about: "log",
    draw: Draw::Always(draw),
    act,
    keys: &[
        bound(UP, Action::Up, "up", ""),
        bound(DOWN, Action::Down, "down", ""),
        bound(PAGE_UP, Action::PageUp, "page up", ""),
        bound(PAGE_DOWN, Action::PageDown, "page down", ""),
        bound(HOME, Action::First, "oldest line", ""),
        bound(END, Action::Follow, "newest line, and follow", "follow"),
        bound(&[Char('/')], Action::Filter, "show only lines with this text", "filter"),
        bound(VIEW, Action::Level, "least level: debug, info, warn, error", "level"),
        bound(ESC, Action::Reset, "no filter", ""),
    ],
    ..BASE
};

/// Least level that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Everything.
    Debug,
    /// Without debug.
    #[default]
    Info,
    /// Warnings and errors.
    Warn,
    /// Errors.
    Error,
}

impl Level {
    fn of(word: &str) -> Self {
        match word {
            "debug" | "trace" => Level::Debug,
            "warn" | "warning" => Level::Warn,
            "error" => Level::Error,
            _ => Level::Info,
        }
    }

    fn next(self) -> Self {
        match self {
            Level::Debug => Level::Info,
            Level::Info => Level::Warn,
            Level::Warn => Level::Error,
            Level::Error => Level::Debug,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// State of the pane.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Least level.
    pub level: Level,
    /// Only lines with this text.
    pub filter: String,
    /// Lines back from the end; 0 follows.
    pub back: usize,
}

/// Keys of the pane.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let page = usize::from(state.size.1).saturating_sub(8).max(1);
    let most = lines(state).len().saturating_sub(1);
    let view = &mut state.panes.log;
    view.back = match action {
        Action::Up => view.back + 1,
        Action::Down => view.back.saturating_sub(1),
        Action::PageUp => view.back + page,
        Action::PageDown => view.back.saturating_sub(page),
        Action::First => most,
        Action::Follow | Action::Last => 0,
        _ => view.back,
    }
    .min(most);
    match action {
        Action::Level => view.level = view.level.next(),
        Action::Reset => *view = View { level: view.level, ..View::default() },
        Action::Filter => {
            let about = "Only lines with this text are shown; an empty line shows all.";
            let input = Input::new("Filter of the log", &view.filter, Purpose::LogFilter, vec![about.into()]);
            state.overlay = Some(Overlay::Input(input));
        }
        _ => {}
    }
    Vec::new()
}

/// Takes a filter.
pub fn set_filter(state: &mut State, filter: String) {
    state.panes.log.filter = filter;
    state.panes.log.back = 0;
}

/// The lines that pass, oldest first.
fn lines(state: &State) -> Vec<&LogLine> {
    let wanted = state.panes.log.filter.to_lowercase();
    let of_run = state.run().map(|r| &r.view.log.lines);
    let mut out: Vec<&LogLine> = of_run
        .into_iter()
        .flatten()
        .chain(state.printed.iter())
        .filter(|l| Level::of(&l.level) >= state.panes.log.level)
        .filter(|l| wanted.is_empty() || l.text.to_lowercase().contains(&wanted) || l.level.contains(&wanted))
        .collect();
    out.sort_by_key(|l| l.t_ms);
    out
}

fn style(level: &str, theme: Theme) -> Style {
    match Level::of(level) {
        Level::Error => theme.bad(),
        Level::Warn => theme.warn(),
        Level::Debug => theme.dim(),
        Level::Info => theme.text(),
    }
}

/// Draws the pane.
pub fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let all = lines(state);
    let mut status = format!("{} and above", state.panes.log.level.word());
    if !state.panes.log.filter.is_empty() {
        status.push_str(&format!(", with '{}'", state.panes.log.filter));
    }
    let end = all.len() - state.panes.log.back.min(all.len());
    status.push_str(&match state.panes.log.back {
        0 => ", following".to_string(),
        back => format!(", {back} lines back"),
    });
    let (head, body) = if area.height > 3 {
        (Rect { height: 1, ..area }, Rect { y: area.y + 1, height: area.height - 1, ..area })
    } else {
        (Rect { height: 0, ..area }, area)
    };
    text::plain(head, buffer, 0, &status, theme.dim());
    if let Some(run) = state.run() {
        let odd = [(run.view.unknown, "of unknown kind"), (run.view.newer, "newer"), (run.status.broken, "broken")];
        let mut odd: Vec<String> = odd.iter().filter(|o| o.0 > 0).map(|o| format!("{} {}", o.0, o.1)).collect();
        if let Some(sampled) = &run.view.sampled {
            let (read, all) = (format::scaled(sampled.read as f64), format::scaled(sampled.records as f64));
            odd.insert(0, format!("{read} of {all} read, a sample"));
        }
        if !odd.is_empty() {
            text::right(head, buffer, 0, &format!("events: {}", odd.join(", ")), theme.warn());
        }
    }
    if all.is_empty() {
        return text::note(body, buffer, "no lines", theme);
    }
    // From the end upwards, so that the newest line is always whole.
    let columns = usize::from(body.width);
    let mut rows: Vec<Line> = Vec::new();
    let room = usize::from(body.height);
    // One very long line takes the pane only while somebody reads it.
    let most = if state.arrangement.focus == PaneId::Log { usize::MAX } else { 4 };
    for entry in all[..end].iter().rev() {
        let mut parts = wrapped(entry, columns, most, theme);
        parts.reverse();
        rows.extend(parts);
        if rows.len() >= room {
            break;
        }
    }
    rows.truncate(room);
    for (i, row) in rows.iter().rev().enumerate() {
        text::line(body, buffer, i as u16, row);
    }
}

fn wrapped(entry: &LogLine, columns: usize, most: usize, theme: Theme) -> Vec<Line<'static>> {
    let prefix =
        if columns < 50 { String::new() } else { format!("{} {:<5} ", format::clock(entry.t_ms), entry.level) };
    let indent = format::width(&prefix);
    let style = style(&entry.level, theme);
    let columns = columns.saturating_sub(indent).max(8);
    let body = format::wrap_at_most(&format::clean(&entry.text), columns, most, theme.marks().ellipsis);
    body.into_iter()
        .enumerate()
        .map(|(i, part)| {
            let first = if i == 0 { prefix.clone() } else { " ".repeat(indent) };
            Line::from(vec![Span::styled(first, theme.dim()), Span::styled(part, style)])
        })
        .collect()
}
