//! The recipes that come with the program.

use std::path::Path;

use rallrec::config;
use rallrec::data::{self, Shuffle};

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
