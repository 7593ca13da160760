//! Pane 0 on the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Editor, Entry, RunState};
use crate::format;
use crate::panes::PaneId;
use crate::state::State;
use crate::theme::Theme;
use crate::widgets::table::{self, Cell, wide, words};
use crate::widgets::text;

/// Lines above the table: the welcome on a first start, a heading otherwise.
fn head(state: &State, width: u16) -> Vec<Line<'static>> {
    let theme = state.theme;
    let view = &state.panes.runs;
    if view.first_start && view.catalogue.runs.is_empty() {
        let text = "Welcome. The demo runs the whole method on built-in data and a built-in tiny model: no files, no \
                    network, about a minute. Press s to start it, Enter to look at its settings first.";
        return format::wrap(text, usize::from(width)).into_iter().map(|l| Line::styled(l, theme.accent())).collect();
    }
    let live = view.catalogue.runs.iter().filter(|r| r.state.is_live()).count();
    let facts = [
        ("runs", format!("{}", view.catalogue.runs.len())),
        ("at work or queued", format!("{live}")),
        ("recipes", format!("{}", view.catalogue.recipes.len())),
        ("marked", format!("{}", view.marked.len())),
    ];
    text::fact_lines(&facts, width, theme).into_iter().take(1).collect()
}

/// The table's part of the pane.
pub(super) fn table_area(state: &State, area: Rect) -> Rect {
    match &state.panes.runs.editor {
        Some(editor) => editor_table(editor, area),
        None => {
            let top = (head(state, area.width).len() as u16 + 1).min(area.height);
            Rect { y: area.y + top, height: area.height - top, ..area }
        }
    }
}

/// Draws the pane.
pub fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    if let Some(editor) = &state.panes.runs.editor {
        return draw_editor(state, editor, area, buffer);
    }
    let theme = state.theme;
    let view = &state.panes.runs;
    if !view.listed {
        return text::note(area, buffer, "looking for recipes and runs", theme);
    }
    let head = head(state, area.width);
    text::lines(area, buffer, &head);
    let body = table_area(state, area);
    let entries = view.catalogue.entries();
    let rows: Vec<Vec<Cell>> = entries.iter().map(|e| row(state, e, theme)).collect();
    let columns = [words(""), words("name"), words("state"), words("when"), wide("what")];
    table::draw(&columns, &rows, Some(view.selected.min(rows.len().saturating_sub(1))), body, buffer, theme);
}

fn row(state: &State, entry: &Entry, theme: Theme) -> Vec<Cell> {
    let m = theme.marks();
    match entry {
        Entry::Run(run) => {
            let marked = if state.panes.runs.marked.contains(&run.folder) { '*' } else { ' ' };
            let open = if state.runs.iter().any(|r| r.folder == run.folder) { 'o' } else { ' ' };
            let (mark, style) = match run.state {
                RunState::Running => (m.running, theme.accent()),
                RunState::Paused | RunState::Stopped => ('=', theme.warn()),
                RunState::Queued => (m.waiting, theme.accent()),
                RunState::Done => (m.done, theme.good()),
                RunState::Failed | RunState::Killed => (m.failed, theme.bad()),
            };
            let what = match run.state {
                RunState::Done => run.result.clone(),
                _ if run.stage.is_empty() => String::new(),
                _ => format!("in {}", run.stage),
            };
            vec![
                Cell::new(format!("{marked}{open}{mark}"), style),
                Cell::new(run.folder.display().to_string(), theme.text()),
                Cell::new(run.state.word(), style),
                Cell::new(ago(state.now_ms, run.modified_ms), theme.dim()),
                Cell::new(format::clean(&what), theme.text()),
            ]
        }
        Entry::Recipe(recipe) => vec![
            Cell::new("  +", theme.accent()),
            Cell::new(recipe.source.name(), theme.text()),
            Cell::new("recipe", theme.dim()),
            Cell::default(),
            Cell::new(format::clean(&recipe.about), theme.dim()),
        ],
    }
}

/// The list is on the screen and says of some run another "when" than at `before`.
pub fn ages_changed(state: &State, before: u64) -> bool {
    let view = &state.panes.runs;
    let shown = state.arrangement.focus == PaneId::Runs && view.editor.is_none();
    shown && view.catalogue.runs.iter().any(|r| ago(before, r.modified_ms) != ago(state.now_ms, r.modified_ms))
}

/// How long ago, in one word: `12s ago`.
fn ago(now: u64, then: u64) -> String {
    let s = now.saturating_sub(then) / 1000;
    match s {
        _ if then == 0 => String::new(),
        0..60 => format!("{s}s ago"),
        60..3600 => format!("{}m ago", s / 60),
        3600..86_400 => format!("{}h ago", s / 3600),
        _ => format!("{}d ago", s / 86_400),
    }
}

/// The table's part of the editor: below the heading, above the documentation of the selected
/// setting.
fn editor_table(editor: &Editor, area: Rect) -> Rect {
    let head = 1 + u16::from(!editor.filter.is_empty());
    let about = if area.height >= 14 { 5 } else { 2 };
    let height = area.height.saturating_sub(head + about);
    Rect { y: area.y + head.min(area.height), height, ..area }
}

fn draw_editor(state: &State, editor: &Editor, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let heading = vec![
        Span::styled(editor.source.name(), theme.accent()),
        Span::styled(format!("  {} changed", editor.changes.len()), theme.warn()),
        Span::styled(format!("  {} {}", theme.marks().arrow, editor.out.display()), theme.dim()),
    ];
    text::line(area, buffer, 0, &Line::from(heading));
    if !editor.filter.is_empty() {
        text::plain(area, buffer, 1, &format!("with '{}' (Esc shows all)", editor.filter), theme.dim());
    }
    if let Some(error) = &editor.error {
        let body = Rect { y: area.y + 2.min(area.height), height: area.height.saturating_sub(2), ..area };
        for (i, line) in format::wrap(error, usize::from(area.width)).iter().enumerate() {
            text::plain(body, buffer, i as u16, line, theme.bad());
        }
        return;
    }
    if editor.settings.is_empty() {
        return text::note(area, buffer, "the engine is reading the recipe", theme);
    }
    let shown = editor.shown();
    let table_area = editor_table(editor, area);
    // On a narrow screen name and value share what there is.
    let value_room = (usize::from(area.width) / 3).clamp(6, 40);
    let key_room = usize::from(area.width).saturating_sub(value_room + 5).max(6);
    let rows: Vec<Vec<Cell>> = shown
        .iter()
        .map(|s| {
            let changed = editor.is_changed(&s.key);
            let style = if changed { theme.warn() } else { theme.text() };
            let value = if s.unset { "(not set)".to_string() } else { s.value.clone() };
            let quiet = if s.unset { theme.dim() } else { style };
            vec![
                Cell::new(if changed { "*" } else { " " }, theme.warn()),
                Cell::new(format::cut(&s.key, key_room, theme.marks().ellipsis), style),
                Cell::new(format::cut(&value, value_room, theme.marks().ellipsis), quiet),
                Cell::new(s.about.clone(), theme.dim()),
            ]
        })
        .collect();
    let selected = editor.selected.min(rows.len().saturating_sub(1));
    let columns = [words(""), words("setting"), words("value"), wide("meaning")];
    table::draw(&columns, &rows, Some(selected), table_area, buffer, theme);
    let y = table_area.y + table_area.height;
    let below = Rect { y, height: (area.y + area.height).saturating_sub(y), ..area };
    if let Some(setting) = editor.current() {
        let mut lines = format::wrap(&setting.about, usize::from(below.width).max(1));
        if !setting.choices.is_empty() {
            lines.push(format!("one of: {}", setting.choices.join(" | ")));
        }
        if let Some(before) = editor.before(&setting.key).filter(|b| b.value != setting.value) {
            lines.push(format!("before the change: {}", if before.unset { "(not set)" } else { &before.value }));
        }
        for (i, line) in lines.iter().enumerate() {
            text::plain(below, buffer, i as u16, line, theme.text());
        }
    }
}
