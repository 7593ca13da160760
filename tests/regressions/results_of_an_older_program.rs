//! Results of a program that knows fewer metrics, or names one that this program does not know, are
//! read and compared.

use rallrec::pipeline::results::{Results, side_by_side};

#[test]
fn tables_of_older_and_newer_programs_stand_side_by_side() {
    let metric = |value: f64| serde_json::json!({"value": value, "low": null, "high": null});
    let results = |metrics: serde_json::Value| -> Results {
        let row = serde_json::json!({"name": "merged", "n": 4, "metrics": metrics, "p_vs": []});
        let settings = rallrec::eval::EvalSettings::default();
        let table = serde_json::json!({
            "split": "test", "n": 4, "positives": 2, "reference": null, "settings": settings, "rows": [row]
        });
        let whole = serde_json::json!({
            "version": 1, "recipe": "r", "program": "0", "device": "cpu", "score": "two_way",
            "tables": [{"title": "Test rows", "table": table}], "merge": null, "notes": [], "stages": [],
            "seconds": 1.0, "peak_memory": 0
        });
        serde_json::from_value(whole).unwrap()
    };
    let older = results(serde_json::json!({"auc": metric(0.75), "log_loss": metric(0.5)}));
    let newer = results(serde_json::json!({"auc": metric(0.5), "uauc": metric(0.625), "of_tomorrow": metric(1.0)}));
    let text = side_by_side(&[("old".into(), &older), ("new".into(), &newer)]);
    for wanted in ["0.7500", "0.6250", "UAUC", "n/a"] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    assert!(!text.contains("of_tomorrow"));
}
