//! A published split came out as one log, or its test part was never scored; a log without ratings
//! ended in "baselines: 360 of 360 training rows are liked" when somebody asked for
//! recommendations.

use std::fs;

use rallrec::data::{self, DataSettings, Kind, Part};
use rallrec::pipeline::progress::Verbosity;
use rallrec::pipeline::run::{Run, Span};
use rallrec::serve::{Recommender, Request, Who};
use rallrec::{Silent, config};

fn rows(users: std::ops::Range<usize>, n: std::ops::Range<usize>) -> String {
    let row =
        |u: usize, n: usize| format!("u{u},i{},{},{}\n", (u * 7 + n * 3) % 40, 1 + (u + n) % 5, 1_500_000_000 + n);
    let all: String = users.flat_map(|u| n.clone().map(move |n| row(u, n))).collect();
    format!("user,item,rating,time\n{all}")
}

#[test]
fn files_beside_each_other_are_the_parts_of_a_split() {
    for (train, valid, test) in [
        ("M.train.csv", "M.valid.csv", "M.test.csv"),
        ("Train.csv", "Val.csv", "Test.csv"),
        ("train.csv", "", "test.csv"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for (name, n) in [(train, 0..8), (valid, 8..10), (test, 10..12)] {
            if !name.is_empty() {
                fs::write(folder.path().join(name), rows(0..9, n)).unwrap();
            }
        }
        let mut settings = DataSettings::new(Kind::TABLE, folder.path());
        settings.table.ratings = train.into();
        let dataset = data::open(&settings, &Silent).unwrap();
        let samples = data::build_samples(&dataset, &settings).unwrap();
        let sizes = Part::ALL.map(|part| samples.part(part).len());
        assert_eq!(sizes, [27, if valid.is_empty() { 0 } else { 18 }, 18], "{train}");
        // Another split reads the file alone.
        settings.split.by = data::By::Time;
        assert_eq!(data::open(&settings, &Silent).unwrap().interactions.len(), 72);
    }
}

#[test]
fn a_log_without_ratings_ends_with_results_and_recommendations() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ratings.csv"), rows(0..20, 0..12)).unwrap();
    let recipe = format!(
        "[data]\nkind = \"table\"\npath = {:?}\n[data.table]\nrating = \"\"\n[graph.lightgcn]\ndim = 8\nepochs = 2\n",
        folder.path()
    );
    let out = folder.path().join("run");
    let recipe = config::parse(&recipe, "recipe", &[]).unwrap();
    let run = Run::open(&out, Span::default(), Verbosity::Quiet).unwrap();
    let results = rallrec::pipeline::run_all(&run, &recipe).unwrap().expect("results");
    assert!(results.tables.is_empty() && results.ranking.len() == 2);
    assert!(results.notes[0].contains("no ratings") && results.notes[0].contains("left out: describe"));
    drop(run);
    let run = Run::open_finished(&out).unwrap();
    let wanted = Request {
        who: Who::User("u3".into()),
        top: 4,
        cold: 3,
        exclude: Vec::new(),
        ask_model: false,
        model_seconds: None,
    };
    let recommender = Recommender::open(&run, &recipe, &Silent).unwrap();
    drop(run);
    let found = recommender.recommend(&wanted, &Silent).unwrap();
    assert_eq!((found.items.len(), found.cold.len()), (4, 0));
    let chosen = format!("`recommend` ranks by {}", found.ranked_by);
    assert!(results.notes.iter().any(|note| note.contains(&chosen)), "{chosen}: {:?}", results.notes);
    assert!(found.items.iter().all(|item| item.reason.contains("chose")));
}
