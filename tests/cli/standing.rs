//! A run folder stands alone: moved, read-only, with nothing left of what it was made of. Paths in
//! a recipe are meant from the recipe.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::common::{Place, Said, rallrec, recipe, results, say};
use super::run::outcome;

/// Ratings of some users, times in order; more of them with a larger `to`.
fn ratings(to: usize) -> String {
    let line = |n: usize| {
        let (user, item) = (n % 20, (n * 7 + n / 20 * 3) % 61);
        format!("u{user},i{item},{},{}\n", 1 + (n * 5 + n / 7) % 5, 1_700_000_000 + n)
    };
    "user,item,rating,time\n".to_owned() + &(0..to).map(line).collect::<String>()
}

fn said_in(folder: &Path, arguments: &[&str]) -> Said {
    Said::of(&rallrec().current_dir(folder).args(arguments).output().expect("it starts"))
}

/// A recipe `recipes/shop.toml` over `raw/`, all paths relative to the recipe.
fn shop(place: &Place) -> String {
    place.model("model", 4096, |t| t);
    for folder in ["raw", "recipes", "elsewhere"] {
        fs::create_dir(place.at(folder)).unwrap();
    }
    fs::write(place.at("raw/ratings.csv"), ratings(600)).unwrap();
    let items: String = (0..61).map(|n| format!("i{n},Title {n}\n")).collect();
    fs::write(place.at("raw/items.csv"), "item,title\n".to_owned() + &items).unwrap();
    fs::write(place.at("raw/words.json"), r#"{"i1": "a story of the sea", "i2": "a story of a hill"}"#).unwrap();
    let data = "kind = \"table\"\npath = \"../raw\"\n[data.table]\nratings = \"ratings.csv\"\nitems = \"items.csv\"\n";
    let text = recipe("../model")
        .replace("kind = \"synthetic\"\n[data.synthetic]\nusers = 40\nitems = 40\nratings = 700\n", data);
    let text = text.replace("source = \"file\"\n", "source = \"file\"\nfile = \"../raw/words.json\"\n");
    assert!(text.contains("words.json") && text.contains("ratings.csv"));
    fs::write(place.at("recipes/shop.toml"), text).unwrap();
    place.text("recipes/shop.toml")
}

/// Takes the right to write from a folder and all below it, or gives it back.
fn writable(folder: &Path, yes: bool) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            writable(&entry.path(), yes);
        }
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(if yes { 0o755 } else { 0o555 })).unwrap();
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(if yes { 0o755 } else { 0o555 })).unwrap();
}

#[test]
fn a_run_folder_serves_elsewhere_without_what_it_was_made_of() {
    let place = Place::new();
    let recipe = shop(&place);
    let out = place.text("elsewhere/run");
    said_in(&place.at("elsewhere"), &["run", &recipe, "--out", "run"]).ended_with(0);
    let ask = |run: &str, more: &[&str]| {
        said_in(
            Path::new("/"),
            &[&["recommend", "--run", run, "--user", "u3", "--top", "4", "--json"][..], more].concat(),
        )
    };
    // How long the model was asked is another each time.
    let asked_model = |run: &str| {
        let mut found = ask(run, &["--score", "llm"]).ended_with(0).json();
        assert!(found["model"]["seconds"].take().is_number(), "{found}");
        assert!(found["model"]["seconds_each"].take().is_number(), "{found}");
        found
    };
    let (graph, llm) = (ask(&out, &[]).ended_with(0).json(), asked_model(&out));

    fs::create_dir(place.at("far")).unwrap();
    fs::rename(place.at("elsewhere/run"), place.at("far/away")).unwrap();
    fs::rename(place.at("model"), place.at("model-gone")).unwrap();
    fs::remove_dir_all(place.at("raw")).unwrap();
    fs::remove_dir_all(place.at("recipes")).unwrap();
    let away = place.text("far/away");
    writable(&place.at("far/away"), false);
    assert_eq!(ask(&away, &[]).ended_with(0).json(), graph);
    ask(&away, &["--score", "llm"]).ended_with(2).err_has("model.path");
    for what in ["rows", "predictions"] {
        let to = place.text(&format!("{what}.csv"));
        said_in(Path::new("/"), &["export", what, &away, "--to", &to]).ended_with(0);
        assert!(fs::read_to_string(&to).unwrap().lines().count() > 4, "{what}");
    }
    let page = place.text("page.html");
    said_in(Path::new("/"), &["report", &away, "-o", &page]).ended_with(0);
    said_in(Path::new("/"), &["compare", &away, "--json"]).ended_with(0);
    // The toy answers neither Yes nor No, which is an alarm and not a failure.
    let watched = said_in(Path::new("/"), &["watch", &away, "--once", "--json"]).json();
    assert_eq!(watched[0]["state"], "done", "{watched}");
    // The model of the run is known by what its files hold; its path is from a folder that is gone.
    writable(&place.at("far/away"), true);
    fs::create_dir(place.at("recipes")).unwrap();
    fs::rename(place.at("model-gone"), place.at("model")).unwrap();
    assert_eq!(asked_model(&away), llm);
    let config = fs::read_to_string(place.at("model/config.json")).unwrap();
    fs::write(place.at("model/config.json"), config.replacen('{', "{ ", 1)).unwrap();
    ask(&away, &["--score", "llm"]).ended_with(2).err_has("another model");
}

#[test]
fn paths_are_meant_from_the_recipe_and_those_of_set_from_the_working_directory() {
    let place = Place::new();
    let recipe = shop(&place);
    let printed = |folder: &str, more: &[&str]| {
        said_in(&place.at(folder), &[&["run", &recipe, "--print-recipe"][..], more].concat()).ended_with(0).out
    };
    let whole = |at: &str| format!("path = \"{}\"", place.text(at));
    let out = printed("elsewhere", &[]);
    assert!(out.contains(&whole("recipes/../raw")) && out.contains(&whole("recipes/../model")), "{out}");
    let out = printed("raw", &["--set", "data.path=.", "--set", "model.path=builtin"]);
    assert!(out.contains(&whole("raw")) && out.contains("path = \"builtin\""), "{out}");
    // A recipe from the time when paths were meant from the working directory.
    let text = fs::read_to_string(&recipe).unwrap().replace("../raw", "raw").replace("../model", "model");
    fs::write(&recipe, text).unwrap();
    said_in(&place.at("."), &["run", "recipes/shop.toml", "--out", "run"])
        .ended_with(2)
        .err_has("data.path")
        .err_has("meant from the folder of the recipe")
        .err_has(&format!("--set data.path={}", place.text("raw")))
        .err_has(&format!("--set describe.file={}", place.text("raw/words.json")))
        .err_has(&format!("--set model.path={}", place.text("model")));
    assert!(!place.at("run").exists());
}

#[test]
fn what_is_not_read_changes_nothing_and_new_ratings_are_told_of() {
    let place = Place::new();
    let recipe = shop(&place);
    let out = place.text("run");
    let go = || say(&["run", &recipe, "--out", &out]).ended_with(0);
    go();
    let before = results(&place.at("run"));
    fs::write(place.at("raw/notes.txt"), "not read").unwrap();
    fs::write(place.at("raw/ratings.csv"), ratings(600)).unwrap();
    let ask = || say(&["recommend", "--run", &out, "--user", "u3", "--top", "4", "--json"]).ended_with(0);
    let first = ask();
    assert_eq!(first.err, "", "the same bytes are the same data");
    assert_eq!(outcome(&go().err).1, Vec::<String>::new());

    fs::write(place.at("raw/ratings.csv"), ratings(603)).unwrap();
    let grown = ask();
    assert_eq!(grown.json(), first.json());
    grown
        .err_has("has 3 ratings that are not in this run")
        .err_has(&format!("rallrec run {out}/recipe.toml --out {out}"));
    // The advice works, and takes the new ratings in.
    let said = say(&["run", &format!("{out}/recipe.toml"), "--out", &out]).ended_with(0);
    assert_eq!(outcome(&said.err).1[0], "data");
    assert_ne!(results(&place.at("run")), before);
    assert_eq!(ask().err, "");
}
