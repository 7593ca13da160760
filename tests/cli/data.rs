//! `rallrec data`, and a run on data for the graph alone.

use std::fs;

use super::common::say;

#[test]
fn inspect_takes_a_kind_or_a_recipe() {
    let dir = tempfile::tempdir().expect("folder");
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let mut ratings = String::from("who;what;stars;when\n");
    for n in 0..400 {
        ratings += &format!("u {};i{};{};{}\n", n % 20, (n * 7 + n / 20 * 3) % 97, 1 + n % 5, 1000 + n);
    }
    fs::write(dir.path().join("log.csv"), ratings).expect("writes");
    let recipe = dir.path().join("mine.toml");
    let lines = format!(
        "[data]\nkind = \"table\"\npath = {:?}\n[data.core]\nuser_min = 3\n[data.table]\nratings = \"log.csv\"\nseparator = \";\"\n\
         user = \"who\"\nitem = \"what\"\nrating = \"stars\"\ntime = \"when\"\n",
        dir.path()
    );
    fs::write(&recipe, lines).expect("writes");
    let found = say(&["data", "inspect", "--recipe", &text(&recipe), "--json"]).ended_with(0).json();
    assert_eq!(found["users"], 20);
    assert_eq!(found["filters"][1]["filter"], "data.core: user_min = 3");
    assert_eq!(found["switches"][0]["switch"], "data.repeats = \"keep\"");
    let words = say(&["data", "inspect", "--recipe", &text(&recipe), "--set", "data.core.user_min=1000"]).ended_with(2);
    words.err_has("data.core: user_min = 1000: 0 ratings left");
    say(&["data", "inspect", "table", &text(dir.path())]).ended_with(2).err_has("rallrec init");
    say(&["data", "inspect", "book-crosing", "."]).ended_with(2).err_has("did you mean `book-crossing`");
    say(&["data", "inspect", "book-crossing", &text(dir.path())]).ended_with(2).err_has("BX-Books.csv is missing");
}

/// Times as dates, ratings with their shares, quantiles by name.
#[test]
fn inspect_prints_for_people() {
    let said = say(&["data", "inspect", "synthetic"]).ended_with(0).out;
    let json = say(&["data", "inspect", "synthetic", "--json"]).ended_with(0).json();
    for words in
        ["times, UTC", "shortest history", "| train", "above 3 is a like", "what each filter leaves", "difference: "]
    {
        assert!(said.contains(words), "no {words:?} in\n{said}");
    }
    let seconds = json["time_range"][0].as_i64().expect("seconds").to_string();
    assert!(!said.replace(',', "").contains(&seconds), "{said}");
    let rows: Vec<&str> = said.lines().filter(|line| line.contains("| like |")).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.contains('%') && row.contains('#')), "{rows:?}");
    let dir = tempfile::tempdir().expect("folder");
    let recipe = dir.path().join("r.toml");
    fs::write(&recipe, "[data]\nkind = \"table\"\npath = \".\"\n[data.table]\ntime = \"rating\"\n").expect("writes");
    let said = say(&["data", "inspect", recipe.to_str().expect("UTF-8")]).ended_with(2);
    said.err_has("data.table.time: `rating` is the column of data.table.rating as well");
}

/// The library that reads Parquet panics on this file: one error, and no word of a panic.
#[test]
fn a_damaged_parquet_file_is_one_error() {
    let dir = tempfile::tempdir().expect("folder");
    let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/table_parquet/negative-offset");
    // The first byte of a seed is the fuzz target's.
    fs::write(dir.path().join("ratings.parquet"), &fs::read(seed).expect("the seed")[1..]).expect("writes");
    let recipe = dir.path().join("mine.toml");
    let lines =
        format!("[data]\nkind = \"table\"\npath = {:?}\n[data.table]\nratings = \"ratings.parquet\"\n", dir.path());
    fs::write(&recipe, lines).expect("writes");
    let said = say(&["data", "inspect", "--recipe", recipe.to_str().expect("UTF-8")]).ended_with(2);
    let said = said.err_has("ratings.parquet: cannot be read as Parquet");
    assert!(!said.err.contains("panicked"), "{}", said.err);
}

#[test]
fn pull_shows_the_terms_first_and_says_what_to_do_without_a_network() {
    let dir = tempfile::tempdir().expect("folder");
    let to = dir.path().join("ml").to_str().expect("UTF-8").to_owned();
    let terms = say(&["data", "pull", "ml-1m", "--to", &to]).ended_with(2).err_has("--accept-licence");
    assert!(terms.out.contains("For research only") && terms.out.contains("files.grouplens.org"), "{}", terms.out);
    assert!(!dir.path().join("ml").exists());
    // Port 9 of this machine: nobody listens.
    let closed = ["data", "pull", "ml-1m", "--to", &to, "--accept-licence", "--from", "http://127.0.0.1:9"];
    say(&closed).ended_with(1).err_has("check the network").err_has("put ml-1m.zip into").err_has("grouplens.org");
    say(&["data", "pull", "ml-2m"]).ended_with(2).err_has("did you mean `ml-");
}
