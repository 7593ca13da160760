//! The table as text. A narrow terminal loses the intervals first, then the less common metrics,
//! never a value.

use comfy_table::{CellAlignment, ContentArrangement, presets};

use rallrec_events::metric::{METRICS, Metric, Shown};

use super::metrics::Estimate;
use super::paired::Compared;
use super::published::Published;
use super::table::Table;

/// The metrics of a table that is as wide as `most` allows. Of those beyond the usual ones only
/// what is known.
fn columns(table: &Table, most: Shown) -> Vec<&'static Metric> {
    let known = |m: &Metric| table.rows.iter().any(|row| row.metrics.get(m.name).is_some());
    METRICS.into_iter().filter(|m| m.shown <= most && (m.shown < Shown::Wide || known(m))).collect()
}

pub(super) fn value(e: Option<Estimate>, interval: bool) -> String {
    let Some(e) = e else { return "n/a".into() };
    match (interval, e.low, e.high) {
        (true, Some(low), Some(high)) => format!("{:.4} [{low:.4}, {high:.4}]", e.value),
        _ => format!("{:.4}", e.value),
    }
}

/// The p value of a metric among comparisons with the reference, of which the reference has none.
pub(super) fn p(against: &[Compared], metric: &str) -> String {
    match against.iter().find(|c| c.metric == metric) {
        None if against.is_empty() => "-".into(),
        found => p_value(found.and_then(|c| c.p_holm.or(c.p))),
    }
}

/// A p value in a table.
pub fn p_value(p: Option<f64>) -> String {
    match p {
        None => "n/a".into(),
        Some(p) if p < 0.001 => "<0.001".into(),
        Some(p) => format!("{p:.3}"),
    }
}

/// Header and rows.
pub(super) type Cells = (Vec<String>, Vec<Vec<String>>);

fn cells(table: &Table, published: Option<&Published>, metrics: &[&Metric], interval: bool) -> Cells {
    let mut header = vec!["model".to_string()];
    header.extend(metrics.iter().map(|m| m.title.to_string()));
    if table.reference.is_some() {
        header.extend(tested().map(|m| format!("p ({})", m.title)));
    }
    let rows = table.rows.iter().map(|row| {
        let mut cells = vec![row.name.clone()];
        cells.extend(metrics.iter().map(|m| value(row.metrics.get(m.name), interval)));
        if table.reference.is_some() {
            cells.extend(tested().map(|m| p(&row.p_vs, m.name)));
        }
        cells
    });
    // What was not published stays empty.
    let others = published.iter().flat_map(|published| &published.rows).map(|row| {
        let known = |m: &&Metric| row.metrics.get(m.name).map_or(String::new(), |e| value(Some(e), false));
        let mut cells = vec![row.title()];
        cells.extend(metrics.iter().map(known));
        cells.resize(header.len(), String::new());
        cells
    });
    let rows = rows.chain(others).collect();
    (header, rows)
}

/// The metrics whose p values have columns.
fn tested() -> impl Iterator<Item = &'static Metric> {
    METRICS.into_iter().filter(|m| m.tested)
}

fn caption(table: &Table, published: Option<&Published>, interval: bool) -> String {
    let share = 100.0 * table.positives as f64 / table.n as f64;
    let mut text = format!("{} rows of {}", table.n, table.split);
    if let Some(users) = table.users {
        text += &format!(", of {users} users");
    }
    if let Some(items) = table.items {
        text += &format!(" and {items} items");
    }
    text += &format!("; {share:.1} % liked.");
    if interval {
        text += match (table.users, table.items) {
            (Some(_), Some(_)) => " 95 % intervals, clustered by user and item: AUC by DeLong",
            (Some(_), None) => " 95 % intervals, clustered by user: AUC by DeLong",
            (None, _) => " 95 % intervals: AUC by DeLong, accuracy by Wilson",
        };
        if table.settings.bootstrap > 0 {
            text += &format!(", the rest by {} bootstrap replicates", table.settings.bootstrap);
        }
        text += ".";
    } else {
        text += " Too narrow for the intervals: widen the window to see them.";
    }
    if let Some(reference) = &table.reference {
        text += &format!(
            " p: two-sided, against `{reference}` (AUC: DeLong; log loss: paired bootstrap), adjusted by Holm for \
             the rows of the table."
        );
    }
    text += " Log loss clips p at 2.2e-16.";
    match published {
        Some(published) => format!("{text} {}", published.caption()),
        None => text,
    }
}

/// Header and rows in columns, `None` as wide as needed.
pub(super) fn drawn((header, rows): Cells, width: Option<u16>) -> String {
    let mut out = comfy_table::Table::new();
    out.load_style(presets::ASCII_MARKDOWN).set_header(header).add_rows(rows);
    match width {
        Some(width) => out.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => out.set_content_arrangement(ContentArrangement::Disabled),
    };
    for column in out.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    out.to_string()
}

/// The first of the plans whose table fits into `width`; `last` is squeezed into it where none
/// does. With each its interval flag.
pub(super) fn fitting<P: Copy>(
    width: u16,
    plans: &[(P, bool)],
    last: P,
    draw: impl Fn(P, bool, Option<u16>) -> String,
) -> (String, bool) {
    let fits = |text: &str| text.lines().all(|l| l.chars().count() <= usize::from(width));
    let mut tried = plans.iter().map(|&(plan, interval)| (draw(plan, interval, None), interval));
    tried.find(|(text, _)| fits(text)).unwrap_or_else(|| (draw(last, false, Some(width)), false))
}

pub(super) fn text(table: &Table, published: Option<&Published>, width: Option<u16>) -> String {
    let draw = |most: Shown, interval: bool, arrange: Option<u16>| {
        drawn(cells(table, published, &columns(table, most), interval), arrange)
    };
    use Shown::{Always, Usual, Wide};
    let plans = [(Wide, true), (Usual, true), (Always, true), (Usual, false), (Always, false)];
    let (body, interval) = match width {
        None => (draw(Usual, true, None), true),
        Some(width) => fitting(width, &plans, Always, draw),
    };
    format!("{body}\n{}\n", wrap(&caption(table, published, interval), width))
}

pub(super) fn wrap(text: &str, width: Option<u16>) -> String {
    let Some(width) = width.map(usize::from) else { return text.into() };
    let mut out = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let n = word.chars().count();
        if used > 0 && used + 1 + n > width {
            out.push('\n');
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out += word;
        used += n;
    }
    out
}

pub(super) fn markdown(table: &Table, published: Option<&Published>) -> String {
    let cells = cells(table, published, &columns(table, Shown::Wide), true);
    format!("{}\n{}\n", markdown_table(&cells), caption(table, published, true))
}

/// Header and rows as a Markdown table.
pub(super) fn markdown_table((header, rows): &Cells) -> String {
    // A bar or a line break in a name would end the cell.
    let clean = |cell: &String| cell.replace('|', "\\|").replace(['\n', '\r'], " ");
    let line = |cells: &[String]| format!("| {} |\n", cells.iter().map(clean).collect::<Vec<_>>().join(" | "));
    let mut out = line(header);
    out += "| --- |";
    out += &" ---: |".repeat(header.len() - 1);
    out.push('\n');
    for row in rows {
        out += &line(row);
    }
    out
}
