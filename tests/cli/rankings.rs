//! Runs of logs without ratings: the graph stages, their ranking, and recommendations.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::common::{Place, say};

/// LightGCN's files in a folder, and a recipe for them with more lines.
fn pairs(place: &Place, more: &str) -> String {
    let (mut train, mut test) = (String::new(), String::new());
    for user in 0..30 {
        let mut items: Vec<usize> = (0..20).map(|n| (user * 3 + n * n) % 40).collect();
        items.sort_unstable();
        items.dedup();
        test += &format!("{user} {}\n", items.pop().expect("an item"));
        let items: Vec<String> = items.iter().map(usize::to_string).collect();
        train += &format!("{user} {}\n", items.join(" "));
    }
    fs::write(place.at("train.txt"), train).expect("writes");
    fs::write(place.at("test.txt"), test).expect("writes");
    let recipe = format!(
        "name = \"g\"\n[data]\nkind = \"lightgcn\"\npath = {:?}\n[graph.lightgcn]\ndim = 8\nepochs = 3\nbatch = 64\n{more}",
        place.text(".")
    );
    fs::write(place.at("g.toml"), recipe).expect("writes");
    place.text("g.toml")
}

fn results(out: &str) -> serde_json::Value {
    let bytes = fs::read(Path::new(out).join("results.json")).expect("results");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn a_published_split_is_scored_on_its_test_part() {
    let place = Place::new();
    let (recipe, out) = (pairs(&place, ""), place.text("out"));
    let said =
        say(&["run", &recipe, "--out", &out]).ended_with(0).err_has("describe, embed, align").err_has("left out");
    for wanted in ["recall@20", "NDCG@20", "popularity", "LightGCN", "30 users with 30 likes in the test part"] {
        assert!(said.out.contains(wanted), "no {wanted} in\n{}", said.out);
    }
    let all = results(&out);
    let table = &all["ranking"][0];
    assert_eq!((&table["split"], &table["users"], &table["items"]), (&"test".into(), &30.into(), &40.into()));
    for row in table["rows"].as_array().expect("rows") {
        let recall = &row["metrics"]["recall@20"];
        let [low, value, high] = ["low", "value", "high"].map(|end| recall[end].as_f64().expect("a number"));
        assert!(0.0 <= low && low <= value && value <= high && high <= 1.0, "{recall}");
    }
    let events = fs::read_to_string(Path::new(&out).join("events.jsonl")).expect("events");
    assert!(events.contains(r#""name":"recall@20","split":"test""#));
    // Another last stage changes nothing, and a share for validation gives a table of its own.
    say(&["run", &recipe, "--out", &out, "--until", "merge"]).ended_with(0);
    assert_eq!(results(&out)["ranking"], all["ranking"]);
    say(&["run", &recipe, "--out", &out, "--set", "data.split.valid=0.2"]).ended_with(0);
    let both: Vec<_> =
        results(&out)["ranking"].as_array().expect("tables").iter().map(|t| t["split"].clone()).collect();
    assert_eq!(both, ["valid", "test"]);
    let told = say(&["recommend", "--run", &out, "--user", "3", "--top", "2", "--json"]).ended_with(0).json();
    assert_eq!((&told["implicit"], told["items"].as_array().expect("items").len()), (&true.into(), 2));
    say(&["recommend", "--run", &out, "--user", "3", "--score", "llm"]).ended_with(2).err_has("no tuned model");
}

#[test]
fn a_stopped_run_of_the_graph_goes_on_to_the_same_ranking() {
    let place = Place::new();
    let recipe = pairs(&place, "early_stop = 0\n");
    let (calm, stopped) = (place.text("calm"), place.text("stopped"));
    let more = ["--set", "graph.lightgcn.epochs=400"];
    say(&[&["run", &recipe, "--out", &calm], &more[..]].concat()).ended_with(0);
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("rallrec"))
        .args([&["run", &recipe, "--out", &stopped], &more[..]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    // Killed as soon as a few epochs are kept.
    let begun = Instant::now();
    let epochs = || {
        fs::read_to_string(Path::new(&stopped).join("events.jsonl"))
            .unwrap_or_default()
            .matches("checkpoint_written")
            .count()
    };
    while epochs() < 5 && begun.elapsed() < Duration::from_secs(60) && child.try_wait().expect("waits").is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("ends");
    assert!(!Path::new(&stopped).join("results.json").exists(), "it was stopped before its end");
    say(&[&["run", &recipe, "--out", &stopped], &more[..]].concat()).ended_with(0);
    assert_eq!(results(&stopped)["ranking"], results(&calm)["ranking"]);
}

#[test]
fn events_of_several_kinds_are_ranked_by_their_weight() {
    let place = Place::new();
    let mut log = String::from("who,what,kind,when\n");
    for user in 0..24 {
        for n in 0..12 {
            let item = (user * 5 + n * 3) % 30;
            log += &format!("u{user},i{item},view,{}\n", 100 * n + user);
            if n % 3 == 0 {
                log += &format!("u{user},i{item},purchase,{}\nu{user},i{item},hover,7\n", 100 * n + user + 1);
            }
        }
    }
    fs::write(place.at("log.csv"), log).expect("writes");
    let recipe = format!(
        "name = \"e\"\n[data]\nkind = \"table\"\npath = {:?}\nmin_history = 2\n[data.split]\nby = \"user_chance\"\n\
         [data.table]\nratings = \"log.csv\"\nuser = \"who\"\nitem = \"what\"\ntime = \"when\"\nevent = \"kind\"\n\
         weights = [\"view = 1\", \"purchase = 5\"]\n[graph.lightgcn]\ndim = 8\nepochs = 2\n",
        place.text(".")
    );
    fs::write(place.at("e.toml"), recipe).expect("writes");
    let (recipe, out) = (place.text("e.toml"), place.text("out"));
    say(&["run", &recipe, "--out", &out]).ended_with(0).err_has("`hover`").err_has("are left out");
    let likes = |out: &str| results(out)["ranking"][1]["relevant"].as_u64().expect("a count");
    let all = likes(&out);
    assert_eq!(all, 24, "one of twelve items of each user is for test");
    say(&["run", &recipe, "--out", &out, "--set", "data.threshold=2"]).ended_with(0);
    let bought = likes(&out);
    assert!(0 < bought && bought < all, "purchases alone: {bought} of {all}");
    say(&["recommend", "--run", &out, "--user", "u3"]).ended_with(0);
}
