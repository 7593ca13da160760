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

/// The recipe of a log of likes, `log.csv` of the place.
fn of_likes(place: &Place) -> String {
    let recipe = format!(
        "name = \"r\"\n[data]\nkind = \"table\"\npath = {:?}\nmin_history = 2\n[data.split]\nby = \"user_chance\"\n\
         [data.table]\nratings = \"log.csv\"\nrating = \"\"\n[graph.lightgcn]\ndim = 8\nepochs = 2\n",
        place.text(".")
    );
    fs::write(place.at("r.toml"), recipe).expect("writes");
    place.text("r.toml")
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

/// On a run with every ranker: people outside of the data, exclusions, all users, pairs.
#[test]
fn a_finished_run_serves_histories_all_users_and_pairs() {
    let place = Place::new();
    let mut log = String::from("user,item,rating,time\n");
    for user in 0..40 {
        for n in 0..20 {
            let item = (user * 7 + n * 5) % 37;
            let time = 1_000_000_000 + 1000 * n + user;
            log += &format!("u{user},i{item},{},{time}\n", 1 + (user + item * 3 + n) % 5);
        }
    }
    fs::write(place.at("log.csv"), log).expect("writes");
    let (recipe, out) = (of_likes(&place), place.text("out"));
    let said = say(&["run", &recipe, "--out", &out]).ended_with(0);
    for wanted in ["recent likes", "item-kNN", "EASE", "implicit ALS", "precision@10"] {
        assert!(said.out.contains(wanted), "no {wanted} in\n{}", said.out);
    }
    assert!(said.out.contains("`recommend` ranks by"), "{}", said.out);
    let ask = |more: &[&str]| say(&[&["recommend", "--run", &out, "--json", "--top", "5"], more].concat());
    let list = |found: &serde_json::Value| -> Vec<String> {
        let items = found["items"].as_array().expect("items").iter();
        items.map(|item| item["item"].as_str().expect("an id").to_owned()).collect()
    };
    let all = ask(&["--user", "u3"]).ended_with(0).json();
    let shown = list(&all);
    assert_eq!((shown.len(), all["cold"].as_array().map(Vec::len)), (5, Some(0)), "{all}");
    let without = ask(&["--user", "u3", "--exclude", &shown[..2].join(",")]).ended_with(0).json();
    assert_eq!(list(&without)[..3], shown[2..], "what is excluded leaves its place to the next");
    let folded = ask(&["--history", "i1:5,i2:5,i3"]).ended_with(0).json();
    assert_eq!((list(&folded).len(), folded["ratings"].as_u64()), (5, Some(3)), "{folded}");
    assert!(!list(&folded).iter().any(|item| ["i1", "i2", "i3"].contains(&item.as_str())), "{folded}");
    fs::write(place.at("mine.csv"), "item,rating\ni1,5\ni2,5\ni3,\n").expect("writes");
    assert_eq!(list(&ask(&["--history", &place.text("mine.csv")]).ended_with(0).json()), list(&folded));
    ask(&["--history", "i1,nothing"]).ended_with(2).err_has("no item 'nothing'").err_has("nearest ids");
    ask(&["--user", "u3", "--exclude", "i99"]).ended_with(2).err_has("--exclude").err_has("no item 'i99'");
    let table = place.text("all.csv");
    say(&["recommend", "--run", &out, "--all-users", "--top", "5", "--cold", "0", "--to", &table])
        .ended_with(0)
        .err_has("users/s");
    let text = fs::read_to_string(&table).expect("reads");
    assert_eq!(text.lines().count(), 1 + 40 * 5, "{text}");
    let of_u3: Vec<&str> = text.lines().filter(|line| line.starts_with("u3,")).collect();
    assert!(of_u3.iter().zip(&shown).all(|(line, item)| line.split(',').nth(2) == Some(item)), "{of_u3:?}");
    fs::write(place.at("pairs.csv"), format!("item,user\n{},u3\n{},u3\ni5,u4\n", shown[1], shown[0])).expect("writes");
    let scores = place.text("scores.csv");
    let score = |pairs: &str| say(&["score", "--run", &out, "--pairs", &place.text(pairs), "--to", &scores, "--force"]);
    score("pairs.csv").ended_with(0);
    let text = fs::read_to_string(&scores).expect("reads");
    let value = |line: usize| -> f64 {
        text.lines().nth(line).and_then(|line| line.split(',').nth(2)).and_then(|v| v.parse().ok()).expect("a score")
    };
    assert!(text.lines().count() == 4 && value(2) >= value(1), "{text}");
    fs::write(place.at("bad.csv"), "user,item\nu3,i1\nu3,i99\n").expect("writes");
    score("bad.csv").ended_with(2).err_has("bad.csv:3").err_has("no item 'i99'");
}

/// Histories and counts know what came after the run; nothing is fitted, nothing is written.
#[test]
fn new_ratings_are_taken_in_without_a_new_fit() {
    let place = Place::new();
    let mut log = String::from("user,item,rating,time\n");
    for user in 0..40 {
        for n in 0..20 {
            let time = 1_000_000_000 + 1000 * n + user;
            log += &format!("u{user},i{},5,{time}\n", (user * 7 + n * 5) % 37);
        }
    }
    fs::write(place.at("log.csv"), &log).expect("writes");
    let (recipe, out) = (of_likes(&place), place.text("out"));
    say(&["run", &recipe, "--out", &out]).ended_with(0);
    let kept = || -> Vec<(std::path::PathBuf, std::time::SystemTime)> {
        let entries = fs::read_dir(Path::new(&out).join("artifacts")).expect("reads").flatten();
        let mut all: Vec<_> =
            entries.map(|e| (e.path(), e.metadata().and_then(|m| m.modified()).expect("a time"))).collect();
        all.sort();
        all
    };
    let before = kept();
    let ask = |more: &[&str]| say(&[&["recommend", "--run", &out, "--json", "--top", "5"], more].concat());
    let list = |found: &serde_json::Value| -> Vec<String> {
        let items = found["items"].as_array().expect("items").iter();
        items.map(|item| item["item"].as_str().expect("an id").to_owned()).collect()
    };
    let old = list(&ask(&["--user", "u3"]).ended_with(0).json());
    // u3 meets the best of the list, somebody is new, and an item is new.
    log +=
        &format!("u3,{},5,1000100000\nnew,i1,5,1000100001\nnew,i2,5,1000100002\nu4,brand-new,5,1000100003\n", old[0]);
    fs::write(place.at("log.csv"), &log).expect("writes");
    assert_eq!(list(&ask(&["--user", "u3"]).ended_with(0).err_has("--with-new-ratings").json()), old);
    ask(&["--user", "new"]).ended_with(2).err_has("no user 'new'");
    let with = |more: &[&str]| ask(&[&["--with-new-ratings"], more].concat());
    let said = with(&["--user", "u3"]).ended_with(0);
    let grown = said.json();
    said.err_has("new ratings 4, gone 0, new users 1; of items that the run does not know 1, left out");
    assert!(!list(&grown).contains(&old[0]) && grown["ratings"] == 21, "{grown}");
    let new = with(&["--user", "new"]).ended_with(0).json();
    assert_eq!((list(&new).len(), &new["user"], &new["ratings"]), (5, &"new".into(), &2.into()), "{new}");
    assert!(!list(&new).iter().any(|item| item == "i1" || item == "i2"), "{new}");
    let table = place.text("all.csv");
    say(&["recommend", "--run", &out, "--all-users", "--with-new-ratings", "--top", "2", "--to", &table]).ended_with(0);
    let text = fs::read_to_string(&table).expect("reads");
    assert_eq!(text.lines().filter(|line| line.starts_with("new,")).count(), 2, "{text}");
    assert_eq!(text.lines().count(), 1 + 2 * 41, "{text}");
    assert_eq!(kept(), before, "nothing is fitted");
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
