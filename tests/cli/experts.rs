//! Rows for other programs, and their predictions back in the tables, the tests, the merge and
//! `compare`.

use std::path::Path;

use serde_json::Value;

use crate::common::{Place, Said, results, say};

/// Lines of a CSV file without quotes, with its head first.
fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn row<'a>(results: &'a Value, name: &str) -> &'a Value {
    let rows = results["tables"][0]["table"]["rows"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row {name} in {results}"))
}

#[test]
fn our_own_predictions_come_back_bit_for_bit_and_wrong_ones_are_refused_by_row_and_line() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("run"));
    let go = |sets: &[&str]| -> Said {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        say(&[&["run", &recipe, "--out", &out], &sets[..]].concat())
    };
    go(&[]).ended_with(0);
    let export = |name: &str| {
        let to = place.text(name);
        say(&["export", "predictions", &out, "--to", &to, "--force"]).ended_with(0);
        to
    };

    // In every form of file: the same numbers, so nothing behind them is done again.
    let names = ["own.csv", "own.jsonl", "own.parquet"];
    for (n, file) in names.map(export).iter().enumerate() {
        let merged = "merge.experts=['tuned', 'peer']";
        let said = go(&[&format!("experts.peer.file={file}"), "experts.peer.model=tuned", merged]).ended_with(0);
        let reused = said.err.lines().any(|l| l.split_whitespace().take(2).eq(["evaluate", "reused"]));
        assert_eq!(n > 0, reused, "{file}: {}", said.err);
        let found = results(&place.at("run"));
        assert_eq!(row(&found, "peer")["metrics"], row(&found, "tuned")["metrics"], "{file}");
        assert_eq!(row(&found, "peer")["p_vs"][0]["difference"], row(&found, "tuned")["p_vs"][0]["difference"]);
        let loss = |name: &str| row(&found, name)["metrics"]["log_loss"]["value"].as_f64().unwrap();
        assert!((loss("merged, 2 experts") - loss("tuned")).abs() <= 1e-12, "of two that agree");
        let scores = lines(&place.at("run/scores.jsonl"));
        let same = scores.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
        assert!(same.into_iter().all(|line| line["p"]["peer"] == line["p"]["tuned"]), "{file}");
    }
    say(&["compare", &out, &out, "--results"]).ended_with(0).out_has("peer");
    // The run keeps what the file said.
    std::fs::remove_file(place.at("own.parquet")).unwrap();
    say(&["export", "predictions", &out, "--to", &place.text("kept.csv")]).ended_with(0);
    assert!(lines(&place.at("kept.csv")).iter().any(|line| line.contains(",peer,")));

    let good: Vec<String> = {
        let all = lines(&place.at("own.csv"));
        let at = |name: &str| all[0].split(',').position(|column| column == name).unwrap();
        let (number, user, model, p) = (at("row"), at("user"), at("model"), at("probability"));
        let tuned = all.iter().map(|line| line.split(',').collect::<Vec<_>>()).filter(|line| line[model] == "tuned");
        tuned.map(|line| format!("{},{},{}", line[number], line[user], line[p])).collect()
    };
    assert_eq!(good.len(), 22, "10 validation and 12 test rows");
    let file = place.text("other.csv");
    let given = |head: &str, lines: &[String], more: &[&str]| {
        std::fs::write(&file, format!("{head}\n{}\n", lines.join("\n"))).unwrap();
        go(&[&[&*format!("experts.peer.file={file}")], more].concat())
    };
    let head = "row,user,p";
    let warned = |said: Said| said.ended_with(0).err.contains("reversed?");
    let once = warned(given(head, &good, &[]));
    let changed = |at: usize, line: &str| {
        let mut lines = good.clone();
        lines[at] = line.into();
        lines
    };
    let [number, user, _] = good[3].split(',').collect::<Vec<_>>()[..] else { panic!() };
    let refused = |said: Said, words: &[&str]| {
        let said = words.iter().fold(said.ended_with(2), |said, words| said.err_has(words));
        said.err_has("experts.peer");
    };
    let missing = "of the run's 22 validation and test rows are missing (the first: row ";
    refused(given(head, &good[..20], &[]), &["2 ", missing]);
    let twice = [good.clone(), good[..1].to_vec()].concat();
    refused(given(head, &twice, &[]), &["1 rows stand there twice (the first: row "]);
    let foreign = [good.clone(), vec!["0,u,0.5".into(), "99999999,u,0.5".into()]].concat();
    refused(given(head, &foreign, &[]), &["2 rows are no validation or test rows of this run (the first: row 0)"]);
    for bad in ["nan", "inf", "", "much"] {
        let lines = changed(3, &format!("{number},{user},{bad}"));
        refused(given(head, &lines, &[]), &["other.csv:5: ", "is not a finite number"]);
    }
    let above = changed(3, &format!("{number},{user},1.5"));
    refused(given(head, &above, &[]), &["other.csv:5: ", "1.5 is no probability", "calibrate"]);
    refused(given(head, &changed(3, &format!("{number},somebody,0.5")), &[]), &["other.csv:5: ", "not somebody"]);
    refused(given(head, &changed(3, "x,u,0.5"), &[]), &["other.csv:5: ", "`x` is no number of a row"]);
    refused(given("number,user,p", &good, &[]), &["no column `row`"]);
    refused(given("row,user,guess", &good, &[]), &["no column `p`, `probability` or `score`"]);
    refused(given(head, &good, &["experts.peer.model=tuned"]), &["no column `model`"]);
    // Scores of any scale, calibrated on the validation rows; pandas makes floats of row numbers.
    given("row_id:float,user,score", &changed(3, &format!("{number}.0,{user},7.5")), &["experts.peer.calibrate=platt"])
        .ended_with(0);
    given("row,user,guess", &good, &["experts.peer.column=guess"]).ended_with(0);
    let reversed: Vec<String> = good
        .iter()
        .map(|line| {
            let [number, user, p] = line.split(',').collect::<Vec<_>>()[..] else { panic!() };
            format!("{number},{user},{}", 1.0 - p.parse::<f64>().unwrap())
        })
        .collect();
    assert_ne!(once, warned(given(head, &reversed, &[])), "one of them is below 0.5 on the validation rows");
}

#[test]
fn names_of_experts_are_checked_where_they_are_written() {
    let place = Place::new();
    let recipe = place.recipe();
    let refused = |sets: &[&str], words: &str| {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        say(&[&["run", &recipe, "--out", &place.text("run")], &sets[..]].concat()).ended_with(2).err_has(words);
    };
    refused(&["experts.peer.file=nowhere.csv"], "experts.peer.file: there is no file");
    refused(&["experts.peer.fiel=x.csv"], "did you mean 'experts.peer.file'?");
    refused(&["experts.tuned.file=x.csv"], "is a row of every run");
    refused(&["experts.peer.column=p"], "experts.peer.file: no file is named");
    refused(&["merge.experts=['tuned', 'pere']"], "there is no 'pere'");
    refused(&["merge.experts=['tunde']"], "did you mean 'tuned'?");
    refused(&["evaluate.reference='itme mean'"], "did you mean \"item mean\"?");
    say(&["explain", "experts.din.file"]).ended_with(0).out_has("does again: predict");
}

#[test]
fn rows_go_out_in_the_forms_of_other_programs_and_test_labels_only_when_asked_for() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("run"));
    say(&["run", &recipe, "--out", &out, "--until", "align"]).ended_with(0);
    let rows = |name: &str, more: &[&str]| -> Vec<Value> {
        let to = place.text(name);
        say(&[&["export", "rows", &out, "--to", &to, "--force"], more].concat()).ended_with(0);
        lines(Path::new(&to)).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let [hidden, told] = [&[][..], &["--with-test-labels"]].map(|more| rows("rows.jsonl", more));
    assert_eq!(hidden.len(), told.len());
    let mut seen = [0, 0];
    for (hidden, told) in hidden.iter().zip(&told) {
        let test = hidden["part"] == "test";
        seen[usize::from(test)] += 1;
        assert!(told["liked"].is_boolean() && told["rating"].is_number(), "{told}");
        assert_eq!((hidden["liked"].is_null(), hidden["rating"].is_null()), (test, test), "{hidden}");
        let list = |key: &str| -> Vec<Value> { serde_json::from_str(hidden[key].as_str().unwrap()).unwrap() };
        let most = hidden["history"].as_u64().unwrap().min(4);
        assert_eq!([list("history_items").len(), list("history_ratings").len()], [most as usize; 2], "{hidden}");
        assert!(!list("genres").is_empty(), "{hidden}");
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    let longer = rows("longer.jsonl", &["--history", "1000"]);
    let whole: Vec<Value> =
        serde_json::from_str(longer[900.min(longer.len() - 1)]["history_items"].as_str().unwrap()).unwrap();
    assert_eq!(whole.len() as u64, longer[900.min(longer.len() - 1)]["history"].as_u64().unwrap());

    let labels = |lines: &[String], column: usize, separator: char| -> Vec<String> {
        lines[1..].iter().map(|line| line.split(separator).nth(column).unwrap().to_owned()).collect()
    };
    for (format, test, column, separator) in [("recbole", "tiny.test.inter", 3, '\t'), ("fuxictr", "test.csv", 6, ',')]
    {
        for (asked, more) in [(false, &[][..]), (true, &["--with-test-labels"])] {
            let to = place.text("folder/tiny");
            let arguments = ["export", "rows", &out, "--to", &to, "--format", format, "--force"];
            say(&[&arguments, more].concat()).ended_with(0);
            let found = labels(&lines(&place.at("folder/tiny").join(test)), column, separator);
            assert_eq!(found.len(), seen[1], "{format}");
            assert_eq!(found.iter().any(|label| label == "1"), asked, "{format}: {found:?}");
            std::fs::remove_dir_all(&to).unwrap();
        }
    }
    let to = place.text("graph");
    say(&["export", "rows", &out, "--to", &to, "--format", "graph"]).ended_with(0);
    say(&["export", "rows", &out, "--to", &to, "--format", "graph"]).ended_with(2).err_has("--force");
    let train = told.iter().filter(|row| row["part"] == "train").count();
    assert_eq!(lines(&place.at("graph/edges.csv")).len(), train + 1, "training rows alone");
    for name in ["users.npy", "items.npy", "text.npy", "ssl.npy", "vectors.safetensors", "users.csv", "items.csv"] {
        assert!(place.at("graph").join(name).is_file(), "{name}");
    }
    say(&["export", "predictions", &out, "--to", "x.csv", "--with-test-labels"]).ended_with(2).err_has("are of rows");
}
