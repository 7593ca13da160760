//! `rallrec clean`: what a recipe does not use is listed, asked for, and removed; what it uses
//! stays.

use std::fs::{self, File};

use super::common::{Place, say};

fn artifacts(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.at("run").join("artifacts")).unwrap().flatten();
    let mut names: Vec<String> =
        entries.filter(|e| e.path().is_dir()).map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn artifacts_of_other_settings_go_and_those_of_the_recipe_stay() {
    let place = Place::new();
    let (recipe, run) = (place.recipe(), place.text("run"));
    let until = ["--until", "prompts", "--quiet", "--out", &run];
    let with = |more: &[&str]| say(&[&["run", recipe.as_str()], &until[..], more].concat()).ended_with(0);
    with(&[]);
    let first = artifacts(&place);
    say(&["clean", &run, "--dry-run"]).ended_with(0).out_has("nothing to remove");
    with(&["--set", "retrieve.k=5"]);
    let both = artifacts(&place);
    assert!(both.len() > first.len());
    let mine: Vec<String> = both.iter().filter(|name| !first.contains(name)).cloned().collect();

    // Listed with sizes; nothing goes without an answer.
    let said = say(&["clean", &run, "--dry-run"]).ended_with(0);
    assert!(said.out.contains("retrieve") && said.out.contains("bytes in"), "{}", said.out);
    say(&["clean", &run]).ended_with(2).err_has("--yes");
    assert_eq!(artifacts(&place), both);

    // Never while a run is at work there.
    let lock = File::options().write(true).open(place.at("run").join(".lock")).unwrap();
    lock.lock().unwrap();
    say(&["clean", &run, "--yes"]).ended_with(1).err_has("another process is working");
    assert_eq!(artifacts(&place), both);
    drop(lock);

    say(&["clean", &run, "--yes"]).ended_with(0).out_has("removed");
    let left = artifacts(&place);
    assert!(left.len() == first.len() && mine.iter().all(|name| left.contains(name)), "{left:?}");
    // What the recipe uses is whole: nothing is done again.
    let said = with(&["--set", "retrieve.k=5", "--json"]);
    assert!(!said.err.contains("done in"), "{}", said.err);
    assert_eq!(artifacts(&place), left);
    say(&["clean", &run, "--dry-run"]).ended_with(0).out_has("nothing to remove");

    // Work that was begun stays: it may go on.
    fs::create_dir(place.at("run").join("artifacts/tune-0123456789ab.part")).unwrap();
    say(&["clean", &run, "--yes"]).ended_with(0).out_has("nothing to remove").out_has("not finished");
    assert!(place.at("run").join("artifacts/tune-0123456789ab.part").is_dir());
    say(&["clean", &place.text("nowhere"), "--yes"]).ended_with(2).err_has("recipe.toml");
}
