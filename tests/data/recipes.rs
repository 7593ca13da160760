//! The recipes that come with the program.

use std::path::Path;

use rallrec::config;
use rallrec::data::{self, Shuffle};
use rallrec::pipeline::sweep;

use crate::common::*;

fn recipe(name: &str, changes: &[String]) -> config::Recipe {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
    config::load(&path, changes).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn they_have_the_authors_filters() {
    for (name, kind) in [
        ("book-crossing.toml", data::Kind::BOOK_CROSSING),
        ("book-crossing-quick.toml", data::Kind::BOOK_CROSSING),
        ("amazon-movies.toml", data::Kind::AMAZON),
        ("amazon-movies-quick.toml", data::Kind::AMAZON_CSV),
    ] {
        let recipe = recipe(name, &[]);
        let method = data::DataSettings::method(kind, &recipe.data.path);
        assert_eq!(recipe.data, method, "{name}");
    }
    let faithful = recipe("book-crossing.toml", &["faithful=true".into()]);
    assert_eq!((faithful.data.repeats, faithful.data.shuffle), (data::Repeats::Keep, Shuffle::Python));
    assert!(faithful.data.split.valid(data::By::Time) > 0.0, "a run chooses on validation rows");
}

#[test]
fn the_quick_ones_make_samples_of_the_real_files() {
    for (name, folder) in [("book-crossing-quick.toml", "book-crossing"), ("amazon-movies-quick.toml", "amazon-movies")]
    {
        let Some(path) = real(folder) else { continue };
        let recipe = recipe(name, &[format!("data.path={:?}", path)]);
        let dataset = open(&recipe.data).expect("opens");
        let samples = data::build_samples(&dataset, &recipe.data).expect("samples");
        println!("{name}: {} samples", samples.samples.len());
        assert!(samples.split.test.len() >= 800 && samples.split.valid.len() >= recipe.rows.valid);
    }
}

/// The command that a recipe of configs/questions names in its first lines.
fn command(text: &str) -> Vec<String> {
    let lines = text.lines().take_while(|line| line.starts_with('#')).map(|line| line[1..].trim());
    let command: Vec<&str> = lines.skip_while(|line| !line.starts_with("rallrec sweep")).collect();
    let joined = command.iter().map(|line| line.trim_end_matches('\\')).collect::<Vec<_>>().join(" ");
    // Quoted words hold blanks.
    let mut words = Vec::new();
    for (n, part) in joined.split('\'').enumerate() {
        if n % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(String::from));
        }
    }
    words
}

#[test]
fn every_recipe_reads_and_every_question_can_be_asked() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let files = |folder: &Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect()
    };
    let (recipes, questions) = (files(&folder), files(&folder.join("questions")));
    assert!(recipes.len() >= 11 && questions.len() >= 7, "{} {}", recipes.len(), questions.len());
    for path in recipes.iter().chain(&questions) {
        config::load(path, &[]).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // Book-Crossing's asked for one row a user, and so for no other split.
        let cold = config::load(path, &["data.split.by=items".into()]).unwrap();
        assert!(cold.data.split_faults().is_empty(), "{}: items cannot be withheld", path.display());
    }
    let page = std::fs::read_to_string(folder.join("../docs/questions.md")).unwrap();
    for path in &questions {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(page.contains(&name), "docs/questions.md says nothing of {name}");
        let words = command(&std::fs::read_to_string(path).unwrap());
        assert_eq!(words[..3], ["rallrec", "sweep", &format!("configs/questions/{name}")], "{words:?}");
        let over = words.windows(2).filter(|w| w[0] == "--over").map(|w| w[1].clone());
        let axes: Vec<_> = over.map(|text| sweep::Axis::parse(&text).unwrap()).collect();
        for trial in sweep::trials(&axes, sweep::How::Grid).unwrap() {
            let changes: Vec<String> = trial.iter().map(|(key, value)| format!("{key}={value}")).collect();
            config::load(path, &changes).unwrap_or_else(|e| panic!("{name} {changes:?}: {e}"));
        }
    }
}
