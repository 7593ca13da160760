//! Pane 0 on the screen.

use rallrec_events::metric::{AUC, LOG_LOSS, Metric};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Editor, Entry, Groups, Order, Row, RunEntry, RunState};
use crate::format;
use crate::panes::PaneId;
use crate::state::State;
use crate::theme::Theme;
use crate::widgets::table::{self, Cell, number, wide, words};
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
    let mut facts = vec![
        ("runs", format::count(view.catalogue.runs.len() as u64)),
        ("at work or queued", view.live.to_string()),
        ("recipes", view.catalogue.recipes.len().to_string()),
    ];
    if !view.marked.is_empty() {
        facts.push(("marked", view.marked.len().to_string()));
    }
    if !view.filter.is_empty() {
        facts.insert(0, ("with", format!("'{}'", format::clean(&view.filter))));
    }
    if view.rows.left_out > 0 {
        facts.push(("left out", format::count(view.rows.left_out as u64)));
    }
    if view.choice.order != Order::Begun {
        facts.push(("in order of", view.choice.order.word().into()));
    }
    if view.choice.groups != Groups::None {
        facts.push(("by", view.choice.groups.word().into()));
    }
    text::fact_lines(&facts, width, theme).into_iter().take(1).collect()
}

/// The table's part of the pane.
pub(super) fn table_area(state: &State, area: Rect) -> Rect {
    match &state.panes.runs.editor {
        Some(editor) => editor_table(editor, area),
        None => {
            let top = (head(state, area.width).len() as u16 + 1).min(area.height);
            let below = selected_height(area);
            Rect { y: area.y + top, height: area.height.saturating_sub(top + below), ..area }
        }
    }
}

/// Lines below the table that tell of the selected line whole; none where the table needs them.
fn selected_height(area: Rect) -> u16 {
    if area.height < 26 { 0 } else { (area.height / 4).min(10) }
}

/// What the table cuts of the selected line: every figure, and all that was changed.
fn selected_lines(state: &State, width: u16) -> Vec<Line<'static>> {
    let theme = state.theme;
    let view = &state.panes.runs;
    let columns = usize::from(width).max(1);
    let mut out = vec![Line::default()];
    let words = match view.rows.entry(&view.catalogue, view.selected) {
        Some(Entry::Run(run)) => {
            out.push(Line::styled(format::clean(&run.folder.display().to_string()), theme.accent()));
            let mut figures = Vec::new();
            if !run.result.is_empty() {
                figures.push(("row", format::clean(&run.result)));
            }
            figures.extend(run.metrics.iter().map(|(name, value)| (title(name), format::value(*value))));
            out.extend(text::fact_lines(&figures, width, theme));
            if run.changed.is_empty() { String::new() } else { format!("changed: {}", run.changed) }
        }
        Some(Entry::Recipe(recipe)) => {
            out.push(Line::styled(format::clean(&recipe.source.name()), theme.accent()));
            recipe.about.clone()
        }
        None => return Vec::new(),
    };
    out.extend(format::wrap(&format::clean(&words), columns).into_iter().map(|l| Line::styled(l, theme.dim())));
    out
}

/// A metric's name for people.
fn title(name: &str) -> &str {
    match Metric::named(name) {
        Some(metric) if metric.name == name => metric.title,
        _ => name,
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
    if view.rows.rows.is_empty() {
        return text::note(body, buffer, "nothing has this text: Esc shows all", theme);
    }
    let columns = [
        words(""),
        words("name"),
        words("state"),
        words("when"),
        number("AUC"),
        number("log loss"),
        number("took"),
        words("data"),
        words("model"),
        wide("what, and what was changed"),
    ];
    let count = view.rows.rows.len();
    let row = |i: usize| row(state, i, theme);
    table::draw_some(&columns, count, &row, Some(view.selected.min(count - 1)), body, buffer, theme);
    let y = body.y + body.height;
    let below = Rect { y, height: (area.y + area.height).saturating_sub(y), ..area };
    text::lines(below, buffer, &selected_lines(state, below.width));
}

fn row(state: &State, at: usize, theme: Theme) -> Vec<Cell> {
    let view = &state.panes.runs;
    match view.rows.entry(&view.catalogue, at) {
        Some(Entry::Run(run)) => run_row(state, run, theme),
        Some(Entry::Recipe(recipe)) => {
            let mut cells = vec![
                Cell::new("  +", theme.accent()),
                Cell::new(format::clean(&recipe.source.name()), theme.text()),
                Cell::new("recipe", theme.dim()),
            ];
            cells.resize(9, Cell::default());
            cells.push(Cell::new(format::clean(&recipe.about), theme.dim()));
            cells
        }
        None => match view.rows.rows.get(at) {
            Some(Row::Heading(text)) => vec![Cell::default(), Cell::new(format::clean(text), theme.accent())],
            _ => Vec::new(),
        },
    }
}

fn run_row(state: &State, run: &RunEntry, theme: Theme) -> Vec<Cell> {
    let view = &state.panes.runs;
    let m = theme.marks();
    let marked = match (view.marked.contains(&run.folder), view.choice.pinned.contains(&run.folder)) {
        (true, _) => '*',
        (_, true) => '^',
        _ => ' ',
    };
    let opened = state.runs.iter().find(|r| r.folder == run.folder);
    let (mark, style) = match run.state {
        RunState::Unread => (' ', theme.dim()),
        RunState::Running => (m.running, theme.accent()),
        RunState::Paused | RunState::Stopped => ('=', theme.warn()),
        RunState::Queued => (m.waiting, theme.accent()),
        RunState::Done => (m.done, theme.good()),
        RunState::Failed | RunState::Killed => (m.failed, theme.bad()),
    };
    let hidden = view.choice.hidden.contains(&run.folder);
    // An opened run has the colour that it has in every chart.
    let name = match opened {
        Some(opened) if state.runs.len() > 1 => theme.series(opened.colour),
        _ if hidden => theme.dim(),
        _ => theme.text(),
    };
    let what = match run.state {
        RunState::Done => run.result.clone(),
        _ if run.stage.is_empty() => String::new(),
        _ => format!("in {}", run.stage),
    };
    let figure = |name: &str| run.metric(name).map_or(String::new(), |v| format!("{v:.3}"));
    let took = if run.seconds > 0.0 { format::seconds(run.seconds) } else { String::new() };
    vec![
        Cell::new(format!("{marked}{}{mark}", if opened.is_some() { 'o' } else { ' ' }), style),
        Cell::new(format::clean(&run.folder.display().to_string()), name),
        Cell::new(run.state.word(), style),
        Cell::new(ago(state.now_ms, run.modified_ms), theme.dim()),
        Cell::from(figure(AUC.name)),
        Cell::from(figure(LOG_LOSS.name)),
        Cell::new(took, theme.dim()),
        Cell::new(format::clean(&run.data), theme.dim()),
        Cell::new(format::clean(&run.model), theme.dim()),
        Cell::new(format::clean(&format!("{what}  {}", run.changed)).trim_start(), theme.text()),
    ]
}

/// The list is on the screen and says of some run another "when" than at `before`.
pub fn ages_changed(state: &State, before: u64) -> bool {
    let view = &state.panes.runs;
    let shown = state.arrangement.focus == PaneId::Runs && view.editor.is_none();
    // Those that are not near the selected line are not on the screen.
    let near = view.selected.saturating_sub(200)..view.selected.saturating_add(200).min(view.rows.rows.len());
    shown
        && near.into_iter().any(|i| match view.rows.entry(&view.catalogue, i) {
            Some(Entry::Run(run)) => age(before, run.modified_ms) != age(state.now_ms, run.modified_ms),
            _ => false,
        })
}

/// How long ago, as a number and the letter of its unit.
fn age(now: u64, then: u64) -> (u64, char) {
    let s = now.saturating_sub(then) / 1000;
    match s {
        0..60 => (s, 's'),
        60..3600 => (s / 60, 'm'),
        3600..86_400 => (s / 3600, 'h'),
        _ => (s / 86_400, 'd'),
    }
}

/// How long ago, in one word: `12s ago`.
fn ago(now: u64, then: u64) -> String {
    if then == 0 {
        return String::new();
    }
    let (n, unit) = age(now, then);
    format!("{n}{unit} ago")
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
