//! Descriptions that the model writes: only items that were not asked before are asked.

use std::fs;

use super::common::{Place, say};

/// A table of eight rated items; item 3 has this title.
fn table(place: &Place, title: &str) {
    let ratings = (0..40).map(|i| format!("u{},{},{},{}\n", i / 5, i % 8, 1 + i % 5, i)).collect::<String>();
    let titles = (0..8).map(|i| format!("{i},{}\n", if i == 3 { title.into() } else { format!("The film {i}") }));
    fs::write(place.at("ratings.csv"), format!("user,item,rating,time\n{ratings}")).expect("written");
    fs::write(place.at("items.csv"), format!("item,title\n{}", titles.collect::<String>())).expect("written");
    let model = place.text("model");
    let recipe = format!(
        r#"name = "written"
[data]
kind = "table"
path = "{}"
min_history = 1
table.items = "items.csv"
[model]
path = "{model}"
[describe]
source = "model"
max_tokens = 12
"#,
        place.text("")
    );
    fs::write(place.at("recipe.toml"), recipe).expect("written");
}

#[test]
fn an_item_with_a_new_title_is_the_only_one_that_is_asked_again() {
    let place = Place::new();
    place.model("model", 4096, |t| t);
    let go = |run: &str| {
        say(&["run", &place.text("recipe.toml"), "--out", &place.text(run), "--until", "describe", "--profile"])
            .ended_with(0)
    };
    // Of the newest artifact of the stage.
    let written = |run: &str, file: &str| {
        let folders = fs::read_dir(place.at(run).join("artifacts")).expect("artifacts").flatten();
        let own = folders.filter(|f| f.file_name().to_string_lossy().starts_with("describe-"));
        let newest = own.max_by_key(|f| f.metadata().and_then(|m| m.modified()).expect("a time")).expect("one");
        fs::read_to_string(newest.path().join(file)).expect("read")
    };
    // Of the model's products, floating-point operations.
    let work = |run: &str, from: usize| -> f64 {
        let events = fs::read_to_string(place.at(run).join("events.jsonl")).expect("events");
        let events = events.lines().skip(from).map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON"));
        let products = events.filter(|e| e["kind"] == "operator" && e["operator"] == "linear");
        products.map(|e| e["flops"].as_f64().expect("a number")).sum()
    };
    table(&place, "The film 3");
    go("run");
    let before = fs::read_to_string(place.at("run/events.jsonl")).expect("events").lines().count();
    assert_eq!(written("run", "descriptions.jsonl").lines().count(), 8);
    table(&place, "Another film");
    go("run");
    go("fresh");
    assert_eq!(written("run", "descriptions.jsonl"), written("fresh", "descriptions.jsonl"));
    let (again, whole) = (work("run", before), work("fresh", 0));
    assert!(again > 0.0 && 4.0 * again < whole, "{again} of {whole} operations");
}
