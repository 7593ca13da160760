//! `rallrec watch --once`, as cron runs it: lines and exit codes.

use std::fs::{self, File};
use std::path::Path;

use rallrec::events::{Event, Record, VERSION};

use super::common::{Place, Said, say};

fn started() -> Event {
    Event::RunStarted { recipe: "r".into(), device: "cpu".into(), program: "0".into(), resumed: false }
}

fn ended(outcome: &str) -> Event {
    Event::RunFinished { outcome: outcome.into(), seconds: 2.0, message: String::new() }
}

fn step(step: u64, loss: f64, norm: f64) -> Event {
    Event::TrainStep {
        stage: "tune".into(),
        epoch: 1,
        step,
        steps: 100,
        loss,
        learning_rate: 0.1,
        gradient_norm: Some(norm),
        rate: None,
    }
}

fn run(folder: &Path, events: Vec<Event>) {
    fs::create_dir_all(folder.join("artifacts")).expect("a folder");
    fs::write(folder.join("recipe.toml"), "name = \"r\"\n").expect("a recipe");
    let lines = events
        .into_iter()
        .zip(1_000..)
        .map(|(event, t_ms)| Record { v: VERSION, t_ms, event }.to_line().expect("a line"));
    fs::write(folder.join("events.jsonl"), lines.collect::<String>()).expect("events");
    File::create(folder.join(".lock")).expect("a lock that nobody holds");
}

fn once(folders: &[&str]) -> Said {
    say(&[&["watch", "--once", "--alarms"], folders].concat())
}

#[test]
fn each_alarm_is_a_line_and_the_worst_one_the_exit_code() {
    let place = Place::new();
    let steps = |last: Event| {
        let calm = (1..40).map(|i| step(i, 1.0, 0.1));
        std::iter::once(started()).chain(calm).chain([last, ended("done")]).collect::<Vec<_>>()
    };
    run(&place.at("well"), steps(step(40, 1.0, 0.1)));
    run(&place.at("spike"), steps(step(40, 1.0, 9.0)));
    run(&place.at("lost"), steps(step(40, f64::NAN, 0.1)));
    run(&place.at("failed"), vec![started(), ended("failed")]);
    run(&place.at("killed"), vec![started()]);
    let [well, spike, lost, failed, killed] =
        ["well", "spike", "lost", "failed", "killed"].map(|name| place.text(name));
    assert_eq!(once(&[&well]).ended_with(0).out, "");
    let said = once(&[&spike]).ended_with(3);
    assert_eq!(said.out.lines().count(), 1, "{}", said.out);
    assert!(said.out.contains(": look: tune: gradient norm 9.000 where 0.1000"), "{}", said.out);
    assert!(once(&[&lost]).ended_with(4).out.contains("bad: tune: NaN: 1 loss"));
    assert!(once(&[&failed]).ended_with(4).out.contains("bad: run: failed"));
    assert!(once(&[&killed]).ended_with(4).out.contains("bad: run: no process works in the folder"));
    let said = once(&[&well, &spike, &failed]).ended_with(4);
    assert_eq!(said.out.lines().count(), 2, "{}", said.out);
    assert!(said.out.lines().all(|line| line.starts_with(&spike) || line.starts_with(&failed)), "{}", said.out);
    // The same without --alarms, and as JSON.
    assert!(say(&["watch", "--once", &spike]).ended_with(3).out.contains("gradient norm"));
    let json = say(&["watch", "--once", "--json", &spike]).ended_with(3).json();
    assert_eq!(json[0]["alarms"][0]["weight"], "look");
}

#[test]
fn what_cannot_be_read_is_an_error_and_no_alarm() {
    let place = Place::new();
    once(&[&place.text("nowhere")]).ended_with(2).err_has("there is no such folder");
    fs::create_dir_all(place.at("empty")).expect("a folder");
    once(&[&place.text("empty")]).ended_with(2).err_has("not a run folder");
}
