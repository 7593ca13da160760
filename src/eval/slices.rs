//! Rows of a table apart by how many training ratings their item has: where little is known of an
//! item, words may be worth something that they are not worth elsewhere. A slice of few items says
//! little of other items, however many rows it has, so intervals go by user and by item.

use serde::{Deserialize, Serialize};

use super::metrics::{Estimate, EvalRows};
use super::render::{markdown_table, value};
use super::table::Predictions;
use super::{auc, loss};
use crate::error::Result;

/// Fewest training ratings of each slice.
const FROM: [u32; 4] = [0, 1, 10, 100];

/// Some rows of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Fewest training ratings of an item.
    pub from: u32,
    /// Most; `None`: any number.
    pub to: Option<u32>,
    /// Rows.
    pub n: usize,
    /// Items that they are about, where intervals go by user and by item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<usize>,
    /// Of which the label is 1.
    pub positives: usize,
    /// The models of the table, in its order.
    pub rows: Vec<SliceRow>,
}

/// A model on the rows of a slice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceRow {
    /// The table's name of the model.
    pub name: String,
    /// Area under the curve with its interval by user and item; `None` for rows of one class.
    pub auc: Option<Estimate>,
    /// Log loss.
    pub log_loss: f64,
}

impl Slice {
    /// For people.
    fn title(&self) -> String {
        match self.to {
            Some(to) if to == self.from => format!("{to}"),
            Some(to) => format!("{} to {to}", self.from),
            None => format!("{} and more", self.from),
        }
    }
}

/// The slices that have rows; none where all rows are in one. `rows` with their items; `ratings`:
/// training ratings of each row's item.
///
/// # Errors
/// Predictions that are no probabilities.
pub fn slices(rows: EvalRows<'_>, ratings: &[u32], models: &[Predictions<'_>]) -> Result<Vec<Slice>> {
    let mut found = Vec::new();
    for (k, &from) in FROM.iter().enumerate() {
        let to = FROM.get(k + 1).map(|next| next - 1);
        let own: Vec<usize> =
            (0..ratings.len()).filter(|&i| ratings[i] >= from && to.is_none_or(|to| ratings[i] <= to)).collect();
        if own.is_empty() {
            continue;
        }
        if own.len() == ratings.len() {
            return Ok(Vec::new());
        }
        let labels: Vec<bool> = own.iter().map(|&i| rows.labels[i]).collect();
        let of_own = |all: &[u32]| -> Vec<u32> { own.iter().filter_map(|&i| all.get(i).copied()).collect() };
        let (users, items) = (of_own(rows.users), of_own(rows.items));
        let clusters = EvalRows { labels: &labels, users: &users, items: &items }.clusters();
        let of = |(name, p): &Predictions<'_>| {
            let p: Vec<f64> = own.iter().map(|&i| p[i]).collect();
            let auc = auc::delong(&labels, &p, &clusters)?;
            Ok(SliceRow { name: (*name).into(), auc, log_loss: loss::log_loss(&labels, &p)? })
        };
        let positives = labels.iter().filter(|y| **y).count();
        let rows = models.iter().map(of).collect::<Result<_>>()?;
        let items = clusters.crossed().map(|crossed| crossed.items.count());
        found.push(Slice { from, to, n: own.len(), items, positives, rows });
    }
    Ok(found)
}

/// The slices beside one another, as Markdown; empty without any.
pub fn markdown(slices: &[Slice]) -> String {
    let Some(first) = slices.first() else { return String::new() };
    let mut header = vec!["AUC by the item's training ratings".to_string()];
    header.extend(slices.iter().map(|s| {
        let items = s.items.map_or(String::new(), |items| format!(", {items} items"));
        format!("{} ({} rows{items}, {} liked)", s.title(), s.n, s.positives)
    }));
    let line = |(at, row): (usize, &SliceRow)| {
        let mut cells = vec![row.name.clone()];
        cells.extend(slices.iter().map(|slice| value(slice.rows[at].auc, true)));
        cells
    };
    let table = markdown_table(&(header, first.rows.iter().enumerate().map(line).collect()));
    let over = if first.items.is_some() { "user and item" } else { "user" };
    format!("{table}\n95 % intervals by DeLong, clustered by {over}.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_apart_by_their_items_ratings_and_measured_as_if_alone() {
        let labels = [true, false, true, false, true, true];
        let users = [0, 0, 1, 1, 2, 3];
        let p = [0.9, 0.2, 0.3, 0.4, 0.8, 0.6];
        let rows = EvalRows { labels: &labels, users: &users, items: &[] };
        let found = slices(rows, &[0, 0, 9, 9, 250, 100], &[("one", &p)]).unwrap();
        let told: Vec<_> =
            found.iter().map(|s| (s.title(), s.n, s.positives, s.rows[0].auc.map(|a| a.value))).collect();
        assert_eq!(
            told,
            [
                ("0".to_string(), 2, 1, Some(1.0)),
                ("1 to 9".into(), 2, 1, Some(0.0)),
                ("100 and more".into(), 2, 2, None)
            ]
        );
        assert!((found[0].rows[0].log_loss - (-(0.9f64.ln()) - 0.8f64.ln()) / 2.0).abs() <= 1e-12);
        let text = markdown(&found);
        assert!(text.contains("| 1 to 9 (2 rows, 1 liked) |") && text.contains("| n/a |"), "{text}");
        assert!(slices(rows, &[3; 6], &[("one", &p)]).unwrap().is_empty(), "one slice is the table itself");
        assert!(markdown(&[]).is_empty());
        let apart = EvalRows { items: &[0, 0, 1, 2, 3, 4], ..rows };
        let text = markdown(&slices(apart, &[0, 0, 9, 9, 250, 100], &[("one", &p)]).unwrap());
        assert!(text.contains("| 0 (2 rows, 1 items, 1 liked) |") && text.contains("by user and item"), "{text}");
    }
}
