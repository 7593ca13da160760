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

/// A split that is given by files is the split that a column gives, in every table of the run.
#[test]
fn a_given_split_goes_through_the_whole_chain_by_files_as_by_a_column() {
    let place = Place::new();
    let recipe = place.recipe();
    let parts = ["train", "valid", "test"];
    let heading = "user,item,rating,at";
    let mut files = parts.map(|_| vec![heading.to_owned()]);
    let mut all = vec![format!("{heading},part")];
    for n in 0..800usize {
        let part = [0, 1, 2][usize::from(n >= 640) + usize::from(n >= 720)];
        let (user, item) = (n * 7 % 40, (n * 13 + n / 40) % 37);
        let row = format!("u{user},i{item},{},{}", 1 + (user * item + n) % 5, 1_600_000_000 + 977 * n);
        all.push(format!("{row},{}", parts[part]));
        files[part].push(row);
    }
    let write = |name: &str, rows: &[String]| std::fs::write(place.at(name), rows.join("\n") + "\n").expect("written");
    write("all.csv", &all);
    parts.iter().zip(&files).for_each(|(part, rows)| write(&format!("{part}.csv"), rows));

    let here = format!("data.path={}", place.text("."));
    let columns = [
        "data.kind=table",
        "describe.source=none",
        "data.table.time=at",
        "data.table.user=user",
        "data.table.item=item",
    ];
    let tables = |name: &str, split: &[&str]| {
        let out = place.text(name);
        let rest = ["data.table.rating=rating", here.as_str()];
        let set = columns.iter().chain(split).chain(&rest).flat_map(|s| ["--set", *s]);
        say(&["run", &recipe, "--out", &out].into_iter().chain(set).collect::<Vec<_>>()).ended_with(0);
        let found = results(std::path::Path::new(&out));
        (found["tables"].clone(), found["ranking"].clone())
    };
    let by_column = tables("column", &["data.table.ratings=all.csv", "data.table.part=part"]);
    let whole = by_column.0.as_array().expect("tables").iter().any(|table| table["table"]["n"] == 12);
    assert!(whole, "no table of the twelve test rows");
    let files = ["data.table.ratings=train.csv", "data.table.valid=valid.csv", "data.table.test=test.csv"];
    assert_eq!(by_column, tables("files", &files));
}
