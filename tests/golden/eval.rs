//! Metrics against scikit-learn on 200 scores with many ties (`tests/goldens/metrics.json`).

use rallrec::eval::auc::Z95;
use rallrec::eval::table::adjusted_by_holm;
use rallrec::eval::{self, Clusters, EvalRows, EvalSettings, Table, delong, delong_test};
use serde_json::Value;

struct Golden {
    labels: Vec<bool>,
    p: Vec<f64>,
    want: Value,
}

fn golden() -> Golden {
    let all: Value = serde_json::from_str(include_str!("../goldens/metrics.json")).unwrap();
    let list = |key: &str| all[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
    Golden { labels: list("labels").iter().map(|&y| y == 1.0).collect(), p: list("scores"), want: all.clone() }
}

#[test]
fn auc_log_loss_and_accuracy_equal_scikit_learn() {
    let g = golden();
    let m = eval::measure(&g.labels, &g.p, &EvalSettings::default()).unwrap();
    for (name, got) in [("auc", "auc"), ("logloss", "log_loss"), ("accuracy", "accuracy")] {
        let got = m.get(got).unwrap();
        let want = g.want[name].as_f64().unwrap();
        assert!((got.value - want).abs() <= 1e-12, "{name}: {} {want}", got.value);
        let (low, high) = (got.low.unwrap(), got.high.unwrap());
        assert!(low < got.value && got.value < high && high - low < 0.25, "{name}: {low} {high}");
    }
}

#[test]
fn the_bootstrap_interval_agrees_with_the_normal_one() {
    let g = golden();
    let m = eval::measure(&g.labels, &g.p, &EvalSettings { bootstrap: 4000, ..EvalSettings::default() }).unwrap();
    let rows: Vec<f64> = g.labels.iter().zip(&g.p).map(|(&y, &p)| eval::loss::row_log_loss(y, p)).collect();
    let n = rows.len() as f64;
    let mean = rows.iter().sum::<f64>() / n;
    let se = (rows.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
    let log_loss = m.get("log_loss").unwrap();
    let width = (log_loss.high.unwrap() - log_loss.low.unwrap()) / (2.0 * 1.96 * se);
    assert!((width - 1.0).abs() <= 0.07, "{width}");
}

#[test]
fn a_table_compares_orders_and_survives_json() {
    let g = golden();
    let noise: Vec<f64> = (0..g.p.len()).map(|i| (i * 37 % 101) as f64 / 101.0).collect();
    let same = g.p.clone();
    let models: [(&str, &[f64]); 3] = [("model", &g.p), ("noise", &noise), ("twin", &same)];
    let table = Table::build("test", &g.labels, &models, Some("model"), &EvalSettings::default()).unwrap();
    assert!(table.rows[0].p_vs.is_empty());
    let p = |row: usize, metric: &str| table.rows[row].p_vs.iter().find(|c| c.metric == metric).unwrap().p.unwrap();
    assert!(p(1, "auc") < 1e-3 && p(1, "log_loss") < 0.01, "{} {}", p(1, "auc"), p(1, "log_loss"));
    assert!((p(2, "auc") - 1.0).abs() <= 1e-12 && (p(2, "ece") - 1.0).abs() <= 1e-12);
    let back: Table = serde_json::from_str(&table.to_json().unwrap()).unwrap();
    assert_eq!(back, table);
    assert_eq!(table, Table::build("test", &g.labels, &models, Some("model"), &EvalSettings::default()).unwrap());
}

#[test]
fn a_table_fits_its_terminal_and_has_no_escape_codes() {
    let g = golden();
    let models: [(&str, &[f64]); 2] = [("tuned with a rather long name", &g.p), ("zero shot | raw", &g.p)];
    let table = Table::build("test", &g.labels, &models, Some("zero shot | raw"), &EvalSettings::default()).unwrap();
    for width in [60, 80, 120, 200] {
        let text = table.to_text(Some(width));
        assert!(text.lines().all(|l| l.chars().count() <= usize::from(width)), "{width}:\n{text}");
        assert!(text.contains("0.7287") && !text.contains('\u{1b}'));
    }
    assert!(table.to_text(None).contains("0.7287 ["));
    let markdown = table.to_markdown();
    let bars = |l: &str| l.replace("\\|", "").matches('|').count();
    let lines: Vec<&str> = markdown.lines().take(4).collect();
    assert!(lines.iter().all(|l| bars(l) == bars(lines[0])), "{markdown}");
}

#[test]
fn one_class_is_not_applicable_and_bad_tables_say_what_to_do() {
    let p: &[f64] = &[0.2, 0.9];
    let table = Table::build("test", &[true, true], &[("a", p)], None, &EvalSettings::default()).unwrap();
    assert!(table.rows[0].metrics.get("auc").is_none() && table.to_text(Some(80)).contains("n/a"));
    let y = [true, false];
    let nan: &[f64] = &[f64::NAN, 0.1];
    for error in [
        Table::build("test", &y, &[], None, &EvalSettings::default()),
        Table::build("test", &y, &[("a", p), ("a", p)], None, &EvalSettings::default()),
        Table::build("test", &y, &[("a", p)], Some("b"), &EvalSettings::default()),
        Table::build("test", &y, &[("a", nan)], None, &EvalSettings::default()),
        Table::build("test", &y, &[("a", p)], None, &EvalSettings { bins: 0, ..EvalSettings::default() }),
        Table::build("test", &y, &[("a", p)], None, &EvalSettings { bootstrap: u32::MAX, ..EvalSettings::default() }),
    ] {
        assert!(!error.unwrap_err().next_step().is_empty());
    }
}

#[test]
fn clustered_errors_equal_their_definition_in_python() {
    let all: Value = serde_json::from_str(include_str!("../goldens/clustered.json")).unwrap();
    let list = |key: &str| all[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
    let labels: Vec<bool> = list("labels").iter().map(|&y| y == 1.0).collect();
    let users: Vec<u32> = list("users").iter().map(|&u| u as u32).collect();
    let items: Vec<u32> = list("items").iter().map(|&i| i as u32).collect();
    let (first, second) = (list("first"), list("second"));
    let (by_user, by_both) = (Clusters::by_user(&users), Clusters::by_user_and_item(&users, &items));
    for (clusters, which) in [(&by_user, ""), (&by_both, "_by_both")] {
        for (i, scores) in [&first, &second].into_iter().enumerate() {
            let found = delong(&labels, scores, clusters).unwrap().unwrap();
            let error = (found.high.unwrap() - found.value) / Z95;
            assert!((found.value - list("auc")[i]).abs() <= 1e-12, "{found:?}");
            assert!((error - list(&format!("error{which}"))[i]).abs() <= 1e-12, "{which} {error}");
        }
        let test = delong_test(&labels, &first, &second, clusters).unwrap().unwrap();
        let want = all[format!("difference_error{which}")].as_f64().unwrap();
        assert!((test.standard_error - want).abs() <= 1e-12, "{which} {test:?}");
    }
    for (got, want) in adjusted_by_holm(&list("p")).iter().zip(list("holm")) {
        assert!((got - want).abs() <= 1e-12, "{got} {want}");
    }
}

#[test]
fn intervals_are_wider_where_whole_users_are_right_or_wrong_and_hold_their_values() {
    // Ten rows a user; of every fifth user all rows are wrong.
    let users: Vec<u32> = (0..400).map(|i| i / 10).collect();
    let labels: Vec<bool> = (0..400).map(|i| i % 3 == 0).collect();
    let p: Vec<f64> = (0..400u32)
        .map(|i| if (i % 3 == 0) != users[i as usize].is_multiple_of(5) { 0.8 } else { 0.2 } + f64::from(i % 7) / 100.0)
        .collect();
    let settings = EvalSettings::default();
    let by_user = eval::measure(EvalRows { labels: &labels, users: &users, items: &[] }, &p, &settings).unwrap();
    let by_row = eval::measure(&labels, &p, &settings).unwrap();
    let width = |e: eval::Estimate| e.high.unwrap() - e.low.unwrap();
    for (name, wide) in by_user.iter() {
        let wide = wide.unwrap_or_else(|| panic!("{name} is undefined"));
        assert!(wide.low.unwrap() <= wide.value && wide.value <= wide.high.unwrap(), "{name}: {wide:?}");
        if let ("auc" | "log_loss" | "accuracy" | "brier", Some(narrow)) = (name, by_row.get(name)) {
            // The square root of ten rows a user.
            let ratio = width(wide) / width(narrow);
            assert!((2.2..4.2).contains(&ratio), "{name}: {ratio}");
        }
    }
}
