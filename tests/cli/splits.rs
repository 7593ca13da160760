//! Every rule of `data.split` goes through the whole chain, or is refused by its key before work
//! begins.

use super::common::{Place, results, say};

#[test]
fn every_stage_works_on_every_split() {
    let place = Place::new();
    let recipe = place.recipe();
    let mut tables = Vec::new();
    for by in ["user_time", "last", "chance", "user_chance", "items", "users"] {
        let (out, set) = (place.text(by), format!("data.split.by={by}"));
        say(&["run", &recipe, "--out", &out, "--set", &set]).ended_with(0);
        let found = results(std::path::Path::new(&out));
        let rows = found["tables"][0]["table"]["rows"].as_array().expect("a table").clone();
        assert!(!rows.is_empty() && found["ranking"].as_array().is_some_and(|ranking| !ranking.is_empty()), "{by}");
        for row in &rows {
            let loss = row["metrics"]["log_loss"]["value"].as_f64();
            assert!(loss.is_some_and(|loss| loss > 0.0), "{by}: {row}");
        }
        tables.push(rows);
    }
    tables.dedup();
    assert_eq!(tables.len(), 6, "each split has rows of its own");
}

#[test]
fn a_split_that_cannot_be_is_refused_before_a_folder_is_made() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("out"));
    for (set, key) in [
        ("data.split.by=given", "data.split.by"),
        ("data.split.by=by_chance", "data.split.by"),
        ("data.split.last=0", "data.split.last"),
        ("data.split.valid=0.9", "data.split"),
        ("data.table.weights=['view = 0']", "data.table.weights"),
    ] {
        let kind = if set.starts_with("data.table") { "data.kind=table" } else { "data.kind=synthetic" };
        let path = format!("data.path={}", place.text("."));
        say(&["run", &recipe, "--out", &out, "--set", kind, "--set", &path, "--set", set]).ended_with(2).err_has(key);
        assert!(!std::path::Path::new(&out).exists(), "{set}");
    }
    let both = ["--set", "data.split.by=chance", "--set"];
    for (set, key) in [("faithful=true", "data.split.by"), ("data.targets=last", "data.targets")] {
        say(&[&["run", &recipe, "--out", &out], &both[..], &[set]].concat()).ended_with(2).err_has(key);
    }
}
