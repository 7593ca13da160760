//! The range of a number, as its schema has it.

use std::fmt;

use serde_json::{Map, Value};

/// A lower and an upper end, each with or without itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Range {
    least: Option<f64>,
    above: Option<f64>,
    most: Option<f64>,
    below: Option<f64>,
}

impl Range {
    /// Of a schema of a number.
    pub(super) fn of(schema: &Map<String, Value>) -> Self {
        let end = |name: &str| schema.get(name).and_then(Value::as_f64);
        let (least, above) = (end("minimum"), end("exclusiveMinimum"));
        // An unsigned number has a minimum of its own; a stricter one says more.
        let least = least.filter(|l| above.is_none_or(|a| *l > a));
        Self { least, above, most: end("maximum"), below: end("exclusiveMaximum") }
    }

    /// Is `x` inside? Nothing that is not a number is.
    pub fn holds(&self, x: f64) -> bool {
        x.is_finite()
            && self.least.is_none_or(|end| x >= end)
            && self.above.is_none_or(|end| x > end)
            && self.most.is_none_or(|end| x <= end)
            && self.below.is_none_or(|end| x < end)
    }

    /// Neither end is set, or the lower one only because numbers without a sign have it.
    pub fn is_open(&self) -> bool {
        *self == Self::default() || *self == Self { least: Some(0.0), ..Self::default() }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.least, self.above, self.most, self.below) {
            (Some(a), _, Some(b), _) => write!(f, "{a} to {b}"),
            (Some(a), _, None, Some(b)) => write!(f, "{a} or more, and below {b}"),
            (Some(a), _, None, None) => write!(f, "{a} or more"),
            (None, Some(a), Some(b), _) => write!(f, "above {a}, and at most {b}"),
            (None, Some(a), None, Some(b)) => write!(f, "between {a} and {b}"),
            (None, Some(a), None, None) => write!(f, "above {a}"),
            (None, None, Some(b), _) => write!(f, "at most {b}"),
            (None, None, None, Some(b)) => write!(f, "below {b}"),
            (None, None, None, None) => f.write_str("any number"),
        }
    }
}
