//! What lies over the panes: help, questions, input lines, texts to read.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Widget};

use crate::control;
use crate::format;
use crate::keys::{self, Action};
use crate::message::Effect;
use crate::panes::{log, runs};
use crate::state::{Input, Overlay, Purpose, Question, State, Then};
use crate::theme::Theme;
use crate::widgets::text;

/// A character typed into the help's search or an input line.
pub fn type_char(state: &mut State, c: char) {
    match &mut state.overlay {
        Some(Overlay::Help { search, scroll }) => {
            // A second "?" closes what the first one opened.
            if c == '?' && search.is_empty() {
                state.overlay = None;
            } else if search.len() < 200 {
                search.push(c);
                *scroll = 0;
            }
        }
        Some(Overlay::Input(input)) if input.text.len() < 4000 => {
            input.text.push(c);
            input.error = None;
        }
        _ => {}
    }
}

/// Pasted text: its first line, without control characters.
pub fn paste(state: &mut State, text: &str) {
    for c in text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(1000) {
        if matches!(state.overlay, Some(Overlay::Input(_) | Overlay::Help { .. })) {
            type_char(state, c);
        }
    }
}

/// A key in an overlay.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match state.overlay.take() {
        Some(Overlay::Help { mut search, scroll }) => {
            match action {
                Action::Cancel | Action::Accept => return Vec::new(),
                Action::Erase => {
                    search.pop();
                }
                Action::EraseAll => search.clear(),
                _ => {}
            }
            let scroll = scrolled(scroll, action, help_lines(&search, state.theme).len(), help_room(state.size.1));
            state.overlay = Some(Overlay::Help { scroll, search });
            Vec::new()
        }
        Some(Overlay::Text { title, lines, scroll, shift }) => {
            if matches!(action, Action::Cancel | Action::Accept) {
                return Vec::new();
            }
            let scroll = scrolled(scroll, action, lines.len(), usize::from(state.size.1.saturating_sub(2)));
            // Half a screen at a time; the end of the longest line stays at the right edge.
            let room = usize::from(state.size.0.saturating_sub(4));
            let most = widest(&lines).saturating_sub(room);
            let shift = match action {
                Action::Left => shift.saturating_sub((room / 2).max(1)),
                Action::Right => shift + (room / 2).max(1),
                _ => shift,
            };
            state.overlay = Some(Overlay::Text { title, lines, scroll, shift: shift.min(most) });
            Vec::new()
        }
        Some(Overlay::Question(question)) => answer(state, question, action),
        Some(Overlay::Input(input)) => edit(state, input, action),
        None => Vec::new(),
    }
}

/// Columns of the longest line.
fn widest(lines: &[String]) -> usize {
    lines.iter().map(|l| format::width(l)).max().unwrap_or(0)
}

/// Lines of help that a screen of `height` rows shows at most.
fn help_room(height: u16) -> usize {
    usize::from(height.saturating_sub(4)).max(1)
}

/// The first line shown after a key, of `count` lines where `room` fit: never beyond what fills the
/// window, so that the way back begins at once.
fn scrolled(scroll: usize, action: Action, count: usize, room: usize) -> usize {
    let page = room.saturating_sub(1).max(1);
    match action {
        Action::Up => scroll.saturating_sub(1),
        Action::Down => scroll + 1,
        Action::PageUp => scroll.saturating_sub(page),
        Action::PageDown => scroll + page,
        _ => scroll,
    }
    .min(count.saturating_sub(room))
}

fn answer(state: &mut State, question: Question, action: Action) -> Vec<Effect> {
    match (action, question.then) {
        (Action::Accept, Then::Quit(_)) => vec![Effect::Quit(0)],
        (Action::StopAndQuit, Then::Quit(id)) => {
            let mut effects = control::stop(state, id);
            effects.push(Effect::Quit(0));
            effects
        }
        (Action::Accept, Then::Stop(id)) => control::stop(state, id),
        (Action::Accept, Then::Runs(effect)) => runs::agreed(state, effect),
        (Action::Cancel, _) => Vec::new(),
        (_, then) => {
            state.overlay = Some(Overlay::Question(Question { text: question.text, then }));
            Vec::new()
        }
    }
}

fn edit(state: &mut State, mut input: Input, action: Action) -> Vec<Effect> {
    match action {
        Action::Cancel => return Vec::new(),
        Action::Accept => {
            return match input.purpose.clone() {
                Purpose::LogFilter => {
                    log::set_filter(state, input.text);
                    Vec::new()
                }
                Purpose::RecipeFilter => {
                    runs::set_filter(state, input.text);
                    Vec::new()
                }
                Purpose::Setting(_) | Purpose::Folder => runs::take_input(state, input),
            };
        }
        Action::Erase => {
            input.text.pop();
            input.error = None;
        }
        Action::EraseAll => {
            input.text.clear();
            input.error = None;
        }
        Action::Up | Action::Down if !input.choices.is_empty() => {
            let n = input.choices.len();
            let bare = input.text.trim_matches('"').to_string();
            let now = input.choices.iter().position(|c| *c == bare);
            let next = match (now, action) {
                (None, _) => 0,
                (Some(i), Action::Up) => (i + n - 1) % n,
                (Some(i), _) => (i + 1) % n,
            };
            input.text = input.choices[next].clone();
            input.error = None;
        }
        _ => {}
    }
    state.overlay = Some(Overlay::Input(input));
    Vec::new()
}

/// Draws the overlay, if there is one.
pub fn draw(state: &State, screen: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    match &state.overlay {
        None => {}
        Some(Overlay::Help { search, scroll }) => {
            let lines = help_lines(search, theme);
            let title = if search.is_empty() {
                " Help: type to search, Esc closes ".to_string()
            } else {
                format!(" Help: {search}_ ")
            };
            let height = (lines.len() + 2).clamp(5, help_room(screen.height).max(3) + 2);
            let area = window(screen, 76, height as u16);
            let inner = frame(area, &title, buffer, theme);
            let scroll = (*scroll).min(lines.len().saturating_sub(usize::from(inner.height)));
            for (i, line) in lines.iter().skip(scroll).take(usize::from(inner.height)).enumerate() {
                text::line(inner, buffer, i as u16, line);
            }
        }
        Some(Overlay::Text { title, lines, scroll, shift }) => {
            let widest = widest(lines);
            let width = widest.max(format::width(title) + 2);
            let area = window(screen, (width.min(500) + 4) as u16, (lines.len().min(500) + 2) as u16);
            let more = if widest + 4 > usize::from(area.width) { ": Left, Right show the rest" } else { "" };
            let inner = frame(area, &format!(" {title}{more} "), buffer, theme);
            for (i, line) in lines.iter().skip(*scroll).take(usize::from(inner.height)).enumerate() {
                let rest: String = line.chars().skip(*shift).collect();
                let shown = format::cut(&rest, usize::from(inner.width), theme.marks().ellipsis);
                text::plain(inner, buffer, i as u16, &shown, theme.text());
            }
        }
        Some(Overlay::Question(question)) => {
            let width = 64.min(screen.width.saturating_sub(2)).max(1);
            let lines = format::wrap(&question.text, usize::from(width).saturating_sub(4).max(1));
            let area = window(screen, width, lines.len() as u16 + 2);
            let inner = frame(area, " ? ", buffer, theme);
            for (i, line) in lines.iter().enumerate() {
                text::plain(inner, buffer, i as u16, line, theme.warn());
            }
        }
        Some(Overlay::Input(input)) => draw_input(input, screen, buffer, theme),
    }
}

fn draw_input(input: &Input, screen: Rect, buffer: &mut Buffer, theme: Theme) {
    let width = 90.min(screen.width.saturating_sub(2)).max(1);
    let columns = usize::from(width).saturating_sub(4).max(1);
    let mut lines: Vec<Line> = Vec::new();
    // The end of the line is where typing happens, so a long one shows its end.
    let shown: String = {
        let over = format::width(&input.text).saturating_sub(columns.saturating_sub(3));
        input.text.chars().skip(over).collect()
    };
    lines.push(Line::from(vec![
        Span::styled("> ", theme.accent()),
        Span::raw(shown),
        Span::styled("_", theme.accent()),
    ]));
    if let Some(error) = &input.error {
        lines.extend(format::wrap(error, columns).into_iter().map(|l| Line::styled(l, theme.bad())));
    }
    if !input.choices.is_empty() {
        let text = format!("one of: {}  (Up, Down)", input.choices.join(" | "));
        lines.extend(format::wrap(&text, columns).into_iter().map(|l| Line::styled(l, theme.accent())));
    }
    for about in &input.about {
        lines.extend(format::wrap(about, columns).into_iter().map(|l| Line::styled(l, theme.dim())));
    }
    let area = window(screen, width, lines.len() as u16 + 2);
    let inner = frame(area, &format!(" {}: Enter takes it, Esc leaves it ", input.title), buffer, theme);
    for (i, line) in lines.iter().enumerate() {
        text::line(inner, buffer, i as u16, line);
    }
}

/// The key table, only lines that hold `search`.
fn help_lines(search: &str, theme: Theme) -> Vec<Line<'static>> {
    let wanted = search.to_lowercase();
    let mut out = Vec::new();
    for scope in keys::scopes() {
        let title = scope.title();
        let in_title = title.to_lowercase().contains(&wanted);
        let rows: Vec<_> = keys::TABLE
            .iter()
            .filter(|b| b.scope == scope)
            .filter(|b| {
                in_title || b.what.to_lowercase().contains(&wanted) || b.key_names().to_lowercase().contains(&wanted)
            })
            .collect();
        if rows.is_empty() {
            continue;
        }
        if !out.is_empty() {
            out.push(Line::default());
        }
        out.push(Line::styled(title, theme.accent()));
        for b in rows {
            out.push(Line::from(vec![
                Span::styled(format!("  {:<18} ", b.key_names()), theme.good()),
                Span::styled(b.what, theme.text()),
            ]));
        }
    }
    if out.is_empty() {
        out.push(Line::styled(format!("no key has to do with '{search}'"), theme.dim()));
    }
    out
}

fn window(screen: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(screen.width), height.min(screen.height));
    Rect::new(screen.x + (screen.width - width) / 2, screen.y + (screen.height - height) / 2, width, height)
}

fn frame(area: Rect, title: &str, buffer: &mut Buffer, theme: Theme) -> Rect {
    Clear.render(area, buffer);
    if area.width < 4 || area.height < 3 {
        return area;
    }
    let block = bordered(title, true, theme);
    let inner = block.inner(area);
    block.render(area, buffer);
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}

/// A frame in the glyphs of the theme.
pub fn bordered(title: &str, focused: bool, theme: Theme) -> Block<'static> {
    let title = Span::styled(title.to_string(), if focused { theme.accent() } else { theme.dim() });
    let block = Block::bordered().border_style(theme.border(focused)).title(title);
    if theme.ascii {
        block.border_set(ratatui::symbols::border::Set {
            top_left: "+",
            top_right: "+",
            bottom_left: "+",
            bottom_right: "+",
            vertical_left: "|",
            vertical_right: "|",
            horizontal_top: "-",
            horizontal_bottom: "-",
        })
    } else {
        block.border_type(BorderType::Rounded)
    }
}
