use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Inner {
    #[schemars(range(min = 1, max = 10))]
    count: usize,
    #[schemars(extend("exclusiveMinimum" = 0))]
    rate: f32,
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    share: Option<f64>,
    #[schemars(length(min = 1), inner(range(min = 0.0)))]
    list: Vec<f64>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { count: 3, rate: 0.1, share: None, list: vec![1.0] }
    }
}

impl Checked for Inner {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        faults.unless(self.list.len() <= self.count, "list", "is longer than count", "shorten it");
        faults
    }
}

fn keys(settings: &Inner) -> Vec<String> {
    settings.faults().into_iter().map(|f| f.key).collect()
}

#[test]
fn ranges_hold_for_settings_made_in_code() {
    let fine = Inner::default();
    assert_eq!(keys(&fine), [""; 0]);
    fine.check().unwrap();
    for bad in [0, 11, usize::MAX] {
        assert_eq!(keys(&Inner { count: bad, list: vec![], ..fine.clone() })[0], "count");
    }
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(keys(&Inner { rate: bad, ..fine.clone() }), ["rate"], "{bad}");
    }
    assert_eq!(keys(&Inner { share: Some(1.0), ..fine.clone() }), ["share"]);
    assert_eq!(keys(&Inner { share: Some(0.0), ..fine.clone() }), [""; 0]);
    assert_eq!(keys(&Inner { list: vec![], ..fine.clone() }), ["list"]);
    assert_eq!(keys(&Inner { list: vec![0.5, f64::NAN, -2.0], ..fine.clone() }), ["list", "list"]);
}

#[test]
fn all_faults_are_reported_at_once() {
    let bad = Inner { count: 0, rate: 0.0, ..Inner::default() };
    assert_eq!(keys(&bad), ["count", "rate", "list"]);
    let said = bad.check().unwrap_err().to_string();
    for word in ["count: 0 is out of range", "1 to 10", "above 0", "longer than count"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_number_that_32_bits_cannot_keep_is_out_of_range() {
    let schema = schema_of::<Inner>().unwrap();
    let of = |rate: f64| {
        walk(&Value::Section(vec![("rate".into(), Value::Float(rate))]), &Schema::root(&schema)).iter().count()
    };
    assert_eq!((of(1e-3), of(1e300), of(1e-300)), (0, 1, 1));
}

#[test]
fn ranges_in_words() {
    let words = |json: serde_json::Value| Range::of(json.as_object().unwrap()).to_string();
    assert_eq!(words(serde_json::json!({ "minimum": 1, "maximum": 8 })), "1 to 8");
    assert_eq!(words(serde_json::json!({ "minimum": 0, "exclusiveMinimum": 0 })), "above 0");
    assert_eq!(words(serde_json::json!({ "minimum": 0, "exclusiveMaximum": 1 })), "0 or more, and below 1");
    assert_eq!(words(serde_json::json!({ "exclusiveMinimum": 0, "maximum": 1 })), "above 0, and at most 1");
}
