//! The dashboard's list of runs never showed a result: it looked for `tables[0].rows` in
//! `results.json`, where the engine writes `tables[0].table.rows`.

use rallrec::eval::{EvalSettings, Table};
use rallrec::events::{Event, Record, VERSION};
use rallrec::pipeline::results::{Results, Section};
use rallrec_tui::edge::catalogue::{Places, read};

#[test]
fn a_finished_run_shows_its_result() {
    let place = tempfile::tempdir().unwrap();
    let run = place.path().join("first");
    std::fs::create_dir(&run).unwrap();
    let (recipe, device, program) = ("r".to_string(), "cpu".to_string(), "0".to_string());
    let (outcome, message) = ("done".to_string(), String::new());
    let events = [
        Event::RunStarted { recipe, device, program, resumed: false },
        Event::RunFinished { outcome, seconds: 1.0, message },
    ];
    let lines = events
        .into_iter()
        .zip(1_750_000_000_000..)
        .map(|(event, t_ms)| serde_json::to_string(&Record { v: VERSION, t_ms, event }).unwrap() + "\n");
    std::fs::write(run.join("recipe.toml"), "name = \"r\"\n").unwrap();
    std::fs::write(run.join("events.jsonl"), lines.collect::<String>()).unwrap();
    let p = [0.9, 0.2, 0.6, 0.4];
    let settings = EvalSettings { bootstrap: 0, ..EvalSettings::default() };
    let table = Table::build("test", &[true, false, true, false], &[("merged", &p)], None, &settings).unwrap();
    let results = Results {
        version: 1,
        recipe: "r".into(),
        program: "0".into(),
        device: "cpu".into(),
        score: "two_way".into(),
        tables: vec![Section { title: "Test rows".into(), table, published: None, slices: Vec::new() }],
        ranking: Vec::new(),
        merge: None,
        notes: Vec::new(),
        stages: Vec::new(),
        seconds: 1.0,
        peak_memory: 0,
        costs: Vec::new(),
        answers: None,
        thoughts: None,
    };
    std::fs::write(run.join("results.json"), serde_json::to_string(&results).unwrap()).unwrap();
    let list = read(&Places { recipes: Vec::new(), runs: vec![place.path().to_path_buf()] });
    let run = list.runs.first().expect("the run");
    assert_eq!((run.result.as_str(), run.metric("auc")), ("merged", Some(1.0)));
    assert!(run.metric("log_loss").is_some_and(|loss| loss > 0.0 && loss < 1.0), "{run:?}");
}
