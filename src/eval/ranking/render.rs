//! The table of rankers as text. A narrow terminal loses the intervals first, then the shorter
//! lists.

use comfy_table::{CellAlignment, ContentArrangement, presets};
use rallrec_events::metric::{COVERAGE, RANKING};

use super::{CUTS, RankingRow, RankingTable};
use crate::eval::render::{value, wrap};

/// Header and rows for lists of these lengths.
fn cells(table: &RankingTable, cuts: &[usize], interval: bool) -> (Vec<String>, Vec<Vec<String>>) {
    let metrics = || cuts.iter().flat_map(|cut| RANKING.into_iter().chain([&COVERAGE]).map(move |m| (m, *cut)));
    let mut header = vec!["ranked by".to_string()];
    header.extend(metrics().map(|(metric, cut)| format!("{}@{cut}", metric.title)));
    header.push(format!("p (NDCG@{})", CUTS[0]));
    let rows = table.rows.iter().map(|row| {
        let mut cells = vec![row.name.clone()];
        let cell = |name: String| value(row.metrics.get(&name), interval);
        cells.extend(metrics().map(|(metric, cut)| cell(format!("{}@{cut}", metric.name))));
        cells.push(p(row));
        cells
    });
    (header, rows.collect())
}

fn p(row: &RankingRow) -> String {
    let tested = format!("ndcg@{}", CUTS[0]);
    match row.against.iter().find(|c| c.metric == tested).and_then(|c| c.p) {
        None if row.against.is_empty() => "-".into(),
        None => "n/a".into(),
        Some(p) if p < 0.001 => "<0.001".into(),
        Some(p) => format!("{p:.3}"),
    }
}

fn caption(table: &RankingTable, interval: bool) -> String {
    let mut text = format!(
        "{} users with {} likes in the {} part, ranked over {} items without those that each had met before.",
        table.users, table.relevant, table.split, table.items
    );
    if interval {
        text += " 95 % intervals: normal, over users.";
    }
    text + &format!(" p: two-sided, of the paired difference to `{}`.", table.reference)
}

impl RankingTable {
    /// Title above the table.
    pub fn title(&self) -> String {
        format!("Ranking, {} part", self.split)
    }

    /// For a terminal of `width` columns (`None`: as wide as needed). Never uses colour.
    pub fn to_text(&self, width: Option<u16>) -> String {
        let draw = |cuts: &[usize], interval: bool, arrange: Option<u16>| {
            let (header, rows) = cells(self, cuts, interval);
            let mut out = comfy_table::Table::new();
            out.load_style(presets::ASCII_MARKDOWN).set_header(header).add_rows(rows);
            match arrange {
                Some(width) => out.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
                None => out.set_content_arrangement(ContentArrangement::Disabled),
            };
            for column in out.column_iter_mut().skip(1) {
                column.set_cell_alignment(CellAlignment::Right);
            }
            out.to_string()
        };
        let long = &CUTS[1..];
        let (body, interval) = match width {
            None => (draw(&CUTS, true, None), true),
            Some(width) => {
                let fits = |text: &str| text.lines().all(|l| l.chars().count() <= usize::from(width));
                let plans: [(&[usize], bool); 4] = [(&CUTS, true), (&CUTS, false), (long, true), (long, false)];
                let mut drawn = plans.iter().map(|&(cuts, interval)| (draw(cuts, interval, None), interval));
                drawn.find(|(text, _)| fits(text)).unwrap_or_else(|| (draw(long, false, Some(width)), false))
            }
        };
        format!("{body}\n{}\n", wrap(&caption(self, interval), width))
    }

    /// As a Markdown table with a line on how it was made.
    pub fn to_markdown(&self) -> String {
        let (header, rows) = cells(self, &CUTS, true);
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut out = line(&header);
        out += "| --- |";
        out += &" ---: |".repeat(header.len() - 1);
        out.push('\n');
        rows.iter().for_each(|row| out += &line(row));
        format!("{out}\n{}\n", caption(self, true))
    }
}
