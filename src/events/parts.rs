//! What events are made of.

use serde::{Deserialize, Deserializer, Serialize};

/// An item as a person knows it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ItemName {
    /// Id in the raw files.
    pub id: String,
    /// Title.
    pub title: String,
    /// Genres or categories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub genres: Vec<String>,
}

/// One item of a user's history beside a target: how near it is, and where it ended up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HistoryItem {
    /// The item.
    pub item: ItemName,
    /// Place in the history; larger is newer.
    pub position: u32,
    /// Stars.
    pub rating: f64,
    /// Place among the retrieved, 1 is the nearest; `None` when it was not retrieved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieved: Option<u32>,
    /// Place in the prompt after reranking, 1 is the first; `None` when it is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<u32>,
    /// Similarity to the target that the order follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<f64>,
    /// Share of the text block in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<f64>,
    /// Share of the collaborative block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collaborative: Option<f64>,
    /// Share of the aligned (SSL) block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aligned: Option<f64>,
}

/// One GPU at one moment; `None` is what the driver does not say.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Gpu {
    /// Product name.
    pub name: String,
    /// Busy, 0 to 100.
    pub utilisation: Option<f64>,
    /// Bytes in use.
    pub memory_used: Option<u64>,
    /// Bytes there are.
    pub memory_total: Option<u64>,
    /// Watts.
    pub power: Option<f64>,
    /// Most watts allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_limit: Option<f64>,
    /// Degrees Celsius.
    pub temperature: Option<f64>,
    /// Clock of the multiprocessors, MHz.
    pub clock: Option<f64>,
    /// Clock of the memory, MHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_clock: Option<f64>,
}

/// A row of a table against the table's reference, on one metric.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Difference {
    /// Metric.
    pub metric: String,
    /// This row minus the reference.
    #[serde(deserialize_with = "number")]
    pub difference: f64,
    /// Two-sided p-value, adjusted by Holm for the rows of the table; `None` where it is undefined.
    pub p: Option<f64>,
}

/// (name, value, low, high).
pub(crate) type MetricRow = (String, f64, f64, f64);

/// A number; JSON's null is how "not a number" was written.
pub(crate) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Metrics with their interval, where an end that JSON could not hold is null.
pub(crate) fn metrics<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<MetricRow>, D::Error> {
    type Row = (String, Option<f64>, Option<f64>, Option<f64>);
    let or_nan = |x: Option<f64>| x.unwrap_or(f64::NAN);
    Ok(Vec::<Row>::deserialize(from)?.into_iter().map(|(n, a, b, c)| (n, or_nan(a), or_nan(b), or_nan(c))).collect())
}
