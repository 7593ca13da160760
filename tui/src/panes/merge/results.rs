//! The tables at the end of a run: predictions with their metrics, rankers with theirs.

use rallrec_events::Difference;
use rallrec_events::metric::{AUC, NDCG, Shown};
use rallrec_events::view::{Column, Row, Table};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::draw_so_far;
use crate::format;
use crate::state::{OpenRun, State};
use crate::theme::Theme;
use crate::widgets::table::{self, Cell, number, words};
use crate::widgets::text;

/// The tables of results, or figures over the merged rows while there are none.
pub fn draw_tables(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let tables = &run.view.results.tables;
    let Some(shown) = tables.get(state.panes.merge.table.min(tables.len().saturating_sub(1))) else {
        return draw_so_far(&run.view.merge, area, buffer, theme);
    };
    let of = if shown.is_ranking() { "users" } else { "rows" };
    let n = shown.rows.iter().filter_map(|r| r.n).max().map(|n| format!(", {} {of}", format::count(n)));
    let which = match tables.len() {
        0 | 1 => String::new(),
        all => format!("table {}/{all}: ", state.panes.merge.table.min(all - 1) + 1),
    };
    let intervals = if with_intervals(shown, area.width) { "; 95 % intervals" } else { "" };
    let title = format!("{which}{}{}{intervals}", shown.title, n.unwrap_or_default());
    text::plain(area, buffer, 0, &format::cut(&title, usize::from(area.width), theme.marks().ellipsis), theme.text());
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    draw_table(shown, run.view.results.beside(shown), body, buffer, theme);
}

/// Lines that a table takes, with its title, its heading, what stands below it, and what others
/// published.
pub(super) fn lines_of(table: &Table, published: Option<&Table>) -> u16 {
    (table.rows.len() + published.map_or(0, |published| published.rows.len() + 1)) as u16 + 4
}

/// The metrics that have columns here.
fn columns_of(shown: &Table) -> Vec<Column<'_>> {
    shown.columns().into_iter().filter(|column| column.metric.overview).collect()
}

/// There is room for the intervals of the usual metrics; of the shortest lists, where it is about
/// lists.
fn with_intervals(shown: &Table, width: u16) -> bool {
    let columns = columns_of(shown);
    let shortest = columns.first().and_then(Column::cut);
    let usual = |c: &&Column| c.metric.shown < Shown::Wide && c.cut() == shortest;
    width >= 26 + columns.iter().filter(usual).count() as u16 * 21
}

fn draw_table(shown: &Table, published: Option<&Table>, area: Rect, buffer: &mut Buffer, theme: Theme) {
    let mut columns = columns_of(shown);
    let interval = with_intervals(shown, area.width);
    // As many as fit, the first two in any case.
    let fit = (area.width.saturating_sub(34) / if interval { 21 } else { 10 }).max(2);
    columns.truncate(usize::from(fit));
    // The metric whose p is shown, beside what it is about.
    let tests = |name: &str| shown.rows.iter().any(|r| r.against.iter().any(|d| d.metric == name));
    let tested = columns.iter().find(|c| c.metric.name == AUC.name || c.metric.name == NDCG.name);
    let tested = tested.filter(|c| tests(c.name)).map(|c| c.name);
    let mut heads = vec![words(if shown.is_ranking() { "ranked by" } else { "model" })];
    let titles: Vec<String> = columns.iter().map(Column::title).collect();
    for (column, title) in columns.iter().zip(&titles) {
        heads.push(number(title));
        if interval {
            heads.push(words("95 %"));
        }
        if tested == Some(column.name) {
            heads.push(number("p"));
        }
    }
    let rows: Vec<Vec<Cell>> =
        shown.rows.iter().map(|row| cells(row, shown, &columns, interval, tested, theme)).collect();
    let used = (rows.len() as u16 + 1).min(area.height);
    // The models stand below what they are compared with; where not all fit they are what matters.
    let mut rows = rows[(rows.len() + 1).saturating_sub(usize::from(used.max(2)))..].to_vec();
    // What others published stands below, as far as there is room behind the lines of our own.
    let room = area.height.saturating_sub(used + 2);
    let others = published.iter().flat_map(|table| &table.rows).take(usize::from(room));
    rows.extend(others.map(|row| published_cells(row, &columns, interval, tested, theme)));
    let used = (rows.len() as u16 + 1).min(area.height);
    table::draw(&heads, &rows, None, Rect { height: used, ..area }, buffer, theme);
    let reference = shown.reference.as_ref().filter(|_| used < area.height);
    if let (Some(reference), Some(name)) = (reference, tested) {
        let title = columns.iter().find(|c| c.name == name).map(Column::title).unwrap_or_default();
        let text = format!("p: {title} against {}, two-sided", format::clean(reference));
        text::plain(area, buffer, used, &text, theme.dim());
    }
    let below = used + u16::from(reference.is_some() && tested.is_some());
    if let Some(published) = published.filter(|_| room > 0 && below < area.height) {
        text::plain(area, buffer, below, &format::clean(&published.title), theme.dim());
    }
}

/// A row that others published: figures alone, and none of them is called the best.
fn published_cells(row: &Row, columns: &[Column], interval: bool, tested: Option<&str>, theme: Theme) -> Vec<Cell> {
    let mut cells = vec![Cell::new(format::clean(&row.name), theme.dim())];
    for column in columns {
        let value = row.metric(column.name).map(|(value, ..)| format!("{value:.3}"));
        cells.push(Cell::new(value.unwrap_or_default(), theme.dim()));
        cells.extend(interval.then(|| Cell::new(String::new(), theme.dim())));
        cells.extend((tested == Some(column.name)).then(|| Cell::new(String::new(), theme.dim())));
    }
    cells
}

fn cells(
    row: &Row,
    shown: &Table,
    columns: &[Column],
    interval: bool,
    tested: Option<&str>,
    theme: Theme,
) -> Vec<Cell> {
    let best = |c: &Column| c.metric.best(shown.rows.iter().filter_map(|r| r.metric(c.name)).map(|v| v.0));
    let strong = matches!(row.name.as_str(), "merged" | "tuned" | "reasoning");
    let mut cells = vec![Cell::new(format::clean(&row.name), if strong { theme.accent() } else { theme.text() })];
    for column in columns {
        cells.push(match row.metric(column.name) {
            Some((value, ..)) => {
                let style = if best(column) == Some(value) { theme.good() } else { theme.text() };
                Cell::new(format!("{value:.3}"), style)
            }
            None => Cell::new("n/a", theme.dim()),
        });
        if interval {
            let ends = row.metric(column.name).map(|(_, low, high)| format!("{low:.3}..{high:.3}"));
            cells.push(Cell::new(ends.unwrap_or_default(), theme.dim()));
        }
        if tested != Some(column.name) {
            continue;
        }
        let against = row.against.iter().find(|d| d.metric == column.name);
        // A small p of a worse row is no good news.
        let style = |d: &Difference, p: f64| match p < 0.05 {
            true if column.metric.is_better(d.difference, 0.0) => theme.good(),
            true => theme.bad(),
            false => theme.text(),
        };
        cells.push(match against.and_then(|d| Some((d, d.p?))) {
            Some((d, p)) if p < 0.001 => Cell::new("<0.001", style(d, p)),
            Some((d, p)) => Cell::new(format!("{p:.3}"), style(d, p)),
            None => Cell::new(theme.marks().dot, theme.dim()),
        });
    }
    cells
}
