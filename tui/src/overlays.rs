//! What lies over the panes: help, questions, input lines, texts to read.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Widget};
use unicode_segmentation::UnicodeSegmentation;

use crate::control;
use crate::format;
use crate::keys::{self, Action, Scope};
use crate::message::Effect;
use crate::panes::{kernels, log, runs, sampling};
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
            input.text.insert(input.cursor, c);
            input.cursor += c.len_utf8();
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
            let folder = state.run_mut(id).map(|r| r.folder.clone());
            let mut effects = folder.map(|f| control::stop(state, &f)).unwrap_or_default();
            effects.push(Effect::Quit(0));
            effects
        }
        (Action::Accept, Then::Stop(folder)) => control::stop(state, &folder),
        (Action::Accept, Then::DropChanges) => {
            state.panes.runs.editor = None;
            Vec::new()
        }
        (Action::Accept, Then::Measure { operator, check }) => kernels::measure(state, operator, check),
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
                Purpose::PromptSearch => {
                    sampling::search(state, input.text);
                    Vec::new()
                }
                Purpose::RunFilter => {
                    runs::set_run_filter(state, input.text);
                    Vec::new()
                }
                Purpose::Setting(_) | Purpose::Folder => runs::take_input(state, input),
            };
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
            input.cursor = input.text.len();
            input.error = None;
        }
        action => edit_line(&mut input, action),
    }
    state.overlay = Some(Overlay::Input(input));
    Vec::new()
}

/// Moves the cursor of an input line, or deletes around it, as shells do.
fn edit_line(input: &mut Input, action: Action) {
    let (before, after) = input.text.split_at(input.cursor);
    // A letter goes with its accents.
    let previous = before.grapheme_indices(true).next_back().map_or(0, |(at, _)| at);
    let next = after.graphemes(true).next().map_or(input.text.len(), |g| input.cursor + g.len());
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word_left = before.trim_end_matches(|c| !is_word(c)).trim_end_matches(is_word).len();
    let word_right = input.text.len() - after.trim_start_matches(|c| !is_word(c)).trim_start_matches(is_word).len();
    let (cursor, end) = (input.cursor, input.text.len());
    let mut delete = |from: usize, to: usize| {
        input.text.replace_range(from..to, "");
        input.error = None;
        from
    };
    input.cursor = match action {
        Action::Left => previous,
        Action::Right => next,
        Action::WordLeft => word_left,
        Action::WordRight => word_right,
        Action::First => 0,
        Action::Last => end,
        Action::Erase => delete(previous, cursor),
        Action::EraseNext => delete(cursor, next),
        Action::EraseWord => delete(word_left, cursor),
        Action::EraseAll => delete(0, cursor),
        Action::EraseEnd => delete(cursor, end),
        _ => cursor,
    };
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
            let mut lines = format::wrap(&question.text, usize::from(width).saturating_sub(4).max(1));
            let area = window(screen, width, lines.len() as u16 + 2);
            let inner = frame(area, " ? ", buffer, theme);
            // What is to be pressed stands at the end: on a screen that is too small it is what
            // stays.
            lines.drain(..lines.len().saturating_sub(usize::from(inner.height)));
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
    let (before, after) = input.text.split_at(input.cursor);
    let at = after.graphemes(true).next().unwrap_or(" ");
    let after = after.get(at.len()..).unwrap_or_default();
    // The cursor stays in view: of a long line the part before it is shown.
    let room = columns.saturating_sub(3 + format::width(at));
    let mut shown = before;
    while format::width(shown) > room {
        shown = shown.graphemes(true).next().map_or("", |g| &shown[g.len()..]);
    }
    lines.push(Line::from(vec![
        Span::styled("> ", theme.accent()),
        Span::raw(shown.to_string()),
        Span::styled(at.to_string(), theme.accent().add_modifier(Modifier::REVERSED)),
        Span::raw(after.to_string()),
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

/// The first line of help about these keys.
pub fn help_start(scope: Scope, theme: Theme) -> usize {
    let title = scope.title();
    help_lines("", theme).iter().position(|line| line.to_string() == title).unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_line_is_edited_as_in_a_shell() {
        let mut input = Input::new("t", "runs/ml e\u{301}x", Purpose::Folder, Vec::new());
        let mut after = |actions: &[Action]| {
            actions.iter().for_each(|a| edit_line(&mut input, *a));
            let (before, after) = input.text.split_at(input.cursor);
            format!("{before}|{after}")
        };
        assert_eq!(after(&[Action::Left, Action::Left]), "runs/ml |e\u{301}x", "an accent goes with its letter");
        assert_eq!(after(&[Action::Erase]), "runs/ml|e\u{301}x");
        assert_eq!(after(&[Action::WordLeft]), "runs/|mle\u{301}x");
        assert_eq!(after(&[Action::EraseNext, Action::EraseNext]), "runs/|e\u{301}x");
        assert_eq!(after(&[Action::First, Action::Erase, Action::Left]), "|runs/e\u{301}x");
        assert_eq!(after(&[Action::WordRight]), "runs|/e\u{301}x");
        assert_eq!(after(&[Action::EraseWord]), "|/e\u{301}x");
        assert_eq!(after(&[Action::Right, Action::EraseEnd, Action::Right]), "/|");
        assert_eq!(after(&[Action::Last, Action::EraseAll]), "|");
    }
}
