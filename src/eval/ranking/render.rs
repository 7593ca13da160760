//! The table of rankers as text. A narrow terminal loses the intervals first, then the shorter
//! lists.

use rallrec_events::metric::{COVERAGE, Metric, PRECISION, RANKING};

use super::{CUTS, RankingTable};
use crate::eval::render::{Cells, drawn, fitting, markdown_table, p, value, wrap};

/// Header and rows for lists of these lengths.
fn cells(table: &RankingTable, cuts: &[usize], interval: bool) -> Cells {
    // Precision says nothing of a longer list that recall does not say: once is enough.
    let told = |metric: &Metric, cut: usize| *metric != PRECISION || cut == CUTS[0];
    let each = |cut: usize| RANKING.into_iter().chain([&COVERAGE]).map(move |m| (m, cut));
    let metrics = || cuts.iter().flat_map(|cut| each(*cut)).filter(|(m, cut)| told(m, *cut));
    let mut header = vec!["ranked by".to_string()];
    header.extend(metrics().map(|(metric, cut)| format!("{}@{cut}", metric.title)));
    header.push(format!("p (NDCG@{})", CUTS[0]));
    let rows = table.rows.iter().map(|row| {
        let mut cells = vec![row.name.clone()];
        let cell = |name: String| value(row.metrics.get(&name), interval);
        cells.extend(metrics().map(|(metric, cut)| cell(format!("{}@{cut}", metric.name))));
        cells.push(p(&row.against, &format!("ndcg@{}", CUTS[0])));
        cells
    });
    (header, rows.collect())
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
        let draw = |cuts: &[usize], interval: bool, arrange: Option<u16>| drawn(cells(self, cuts, interval), arrange);
        let long = &CUTS[1..];
        let plans: [(&[usize], bool); 4] = [(&CUTS, true), (&CUTS, false), (long, true), (long, false)];
        let (body, interval) = match width {
            None => (draw(&CUTS, true, None), true),
            Some(width) => fitting(width, &plans, long, draw),
        };
        format!("{body}\n{}\n", wrap(&caption(self, interval), width))
    }

    /// As a Markdown table with a line on how it was made.
    pub fn to_markdown(&self) -> String {
        format!("{}\n{}\n", markdown_table(&cells(self, &CUTS, true)), caption(self, true))
    }
}
