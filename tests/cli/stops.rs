//! Runs that are killed, stopped, or started twice.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rallrec::events::StageId;

use super::common::{Place, Said, results, say};

fn start(recipe: &str, out: &str, more: &[&str]) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin("rallrec"))
        .args(["run", recipe, "--out", out])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// Waits until `stage` or a later one is at work; false when the process ended before.
fn working_on(stage: &str, out: &Path, child: &mut Child) -> bool {
    let place = |name: &str| StageId::named(name).expect("a stage");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(240) {
        let entries = std::fs::read_dir(out.join("artifacts")).into_iter().flatten().flatten();
        let names = entries.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| n.ends_with(".part"));
        if names.filter_map(|n| n.split(['-', '.']).next().map(&place)).any(|at| at >= place(stage)) {
            return true;
        }
        if child.try_wait().expect("waits").is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the stage {stage} did not begin");
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().expect("a shell");
    assert!(status.success());
}

#[test]
fn a_run_killed_in_the_middle_of_a_stage_ends_with_the_same_results() {
    let place = Place::new();
    let recipe = place.recipe();
    let calm = place.text("calm");
    say(&["run", &recipe, "--out", &calm]).ended_with(0);
    let out = place.text("killed");
    let mut kills = 0;
    for (n, stage) in ["embed", "graph", "tune", "predict", "reason"].into_iter().enumerate() {
        let mut child = start(&recipe, &out, &[]);
        if working_on(stage, Path::new(&out), &mut child) {
            // Not at once: somewhere in the stage's work, at another place for each.
            std::thread::sleep(Duration::from_millis(3 + 7 * n as u64));
            child.kill().expect("SIGKILL");
            kills += 1;
        }
        child.wait_with_output().expect("ends");
    }
    assert!(kills >= 3, "only {kills} kills met their stage");
    say(&["run", &recipe, "--out", &out]).ended_with(0);
    assert_eq!(results(Path::new(&out)), results(Path::new(&calm)));
}

/// The steps of tuning that a run folder tells of, one list a process, each with its time in
/// seconds.
fn steps(out: &Path) -> Vec<Vec<(u64, f64)>> {
    let text = std::fs::read_to_string(out.join("events.jsonl")).unwrap_or_default();
    let mut found: Vec<Vec<(u64, f64)>> = Vec::new();
    for event in text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        if event["kind"] == "run_started" {
            found.push(Vec::new());
        }
        if event["kind"] == "train_step" && event["stage"] == "tune" {
            let (step, t) = (event["step"].as_u64().expect("a step"), event["t_ms"].as_f64().expect("a time"));
            found.last_mut().expect("a run that started").push((step, t / 1e3));
        }
    }
    found
}

/// Work of `tune.lora.checkpoint_seconds` is lost, and of a step and of the time that the disk
/// takes, and no more.
#[test]
fn a_kill_loses_the_stated_seconds_at_most() {
    const SECONDS: f64 = 0.5;
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.at("killed"));
    let every = format!("tune.lora.checkpoint_seconds={SECONDS}");
    // No evaluation, which keeps what was learnt, comes between.
    let set = ["--set", &every, "--set", "tune.lora.epochs=1000000", "--set", "tune.lora.eval_steps=1000000"];
    let mut kills = 0;
    for wait in [1.3, 0.9, 2.1] {
        let mut child =
            start(&recipe, &out.display().to_string(), &[&set[..], &["--until", "tune", "--quiet"]].concat());
        let (begun, runs) = (Instant::now(), steps(&out).len() + 1);
        let mut first = None;
        while first.is_none_or(|at: Instant| at.elapsed().as_secs_f64() < wait) {
            assert!(child.try_wait().expect("waits").is_none() && begun.elapsed().as_secs() < 240, "it does not tune");
            if first.is_none() && steps(&out).get(runs - 1).is_some_and(|steps| !steps.is_empty()) {
                first = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().expect("SIGKILL");
        child.wait_with_output().expect("ends");
        kills += 1;
    }
    let all = steps(&out);
    assert_eq!(all.len(), kills);
    for (at, two) in all.windows(2).enumerate() {
        let (before, after) = (&two[0], &two[1]);
        let (&(_, killed), &(resumed, _)) = (before.last().expect("steps"), after.first().expect("steps"));
        let kept = before.iter().rev().find(|(step, _)| *step < resumed).map_or(before[0].1, |(_, t)| *t);
        let longest = before.windows(2).map(|two| two[1].1 - two[0].1).fold(0.0, f64::max);
        let lost = killed - kept;
        assert!(resumed > before[0].0, "kill {at}: nothing was kept of {} steps", before.len());
        // Times of events are whole milliseconds.
        let most = SECONDS + longest + 0.002;
        assert!((0.0..=most).contains(&lost), "kill {at}: {lost:.3} s are lost, and {most:.3} s are allowed");
    }
}

#[test]
fn an_interrupt_ends_with_130_and_says_how_to_go_on() {
    let place = Place::new();
    let recipe = place.recipe();
    let out = place.text("run");
    // Long enough to be met: far more epochs than would ever be run.
    let more = ["--set", "graph.lightgcn.epochs=1000000", "--set", "graph.lightgcn.early_stop=0", "--until", "graph"];
    let mut child = start(&recipe, &out, &more);
    assert!(working_on("graph", Path::new(&out), &mut child));
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "INT");
    let said = Said::of(&child.wait_with_output().expect("ends")).ended_with(130);
    assert!(said.err.contains("go on with: rallrec run"), "{}", said.err);
    // As is, the words must lead back into the same folder.
    assert!(said.err.contains(&out), "the run folder is named: {}", said.err);
}

#[test]
fn two_processes_do_not_share_a_run_folder() {
    let place = Place::new();
    let recipe = place.recipe();
    let out = place.text("run");
    let more = ["--set", "graph.lightgcn.epochs=1000000", "--set", "graph.lightgcn.early_stop=0", "--until", "graph"];
    let mut child = start(&recipe, &out, &more);
    assert!(working_on("graph", Path::new(&out), &mut child));
    say(&["run", &recipe, "--out", &out]).ended_with(1).err_has("another process").err_has("--out");
    // A word in the control file stops the first one cleanly.
    std::thread::sleep(Duration::from_millis(300));
    std::fs::write(Path::new(&out).join("control"), "stop").unwrap();
    let said = Said::of(&child.wait_with_output().expect("ends"));
    said.ended_with(130);
}

/// `check`, `report`, `compare` and `model pull` went on after one signal, as if nobody had asked.
#[test]
fn a_command_that_keeps_nothing_ends_at_the_first_signal() {
    for name in ["INT", "TERM"] {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("rallrec"))
            .args(["check", "linear", "--cases", "1000000"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        std::thread::sleep(Duration::from_millis(700));
        assert!(child.try_wait().expect("waits").is_none(), "it is at work");
        signal(&child, name);
        let begun = Instant::now();
        let ended = child.wait().expect("ends");
        assert!(
            ended.code() == Some(130) && begun.elapsed() < Duration::from_secs(5),
            "{ended:?} {:?}",
            begun.elapsed()
        );
    }
}

/// A pipe in the place of a model's file kept its reader waiting for ever.
#[test]
fn pipes_in_the_place_of_files_keep_nobody_waiting() {
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors"] {
        let place = Place::new();
        let model = place.model("model", 256, |t| t);
        let path = place.at("model").join(file);
        let _ = std::fs::remove_file(&path);
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("rallrec"))
            .args(["model", "inspect", &model])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let begun = Instant::now();
        while child.try_wait().expect("waits").is_none() {
            if begun.elapsed() > Duration::from_secs(20) {
                child.kill().expect("SIGKILL");
                panic!("{file}: it waits");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = Said::of(&child.wait_with_output().expect("ends"));
        assert!(said.code != Some(0) && said.err.contains(file), "{file}: {}", said.err);
    }
}

#[test]
fn a_recipe_out_of_a_pipe_is_read_once_and_one_that_waits_is_refused() {
    let place = Place::new();
    let recipe = place.recipe();
    let program = assert_cmd::cargo::cargo_bin("rallrec");
    let text =
        format!("'{}' run <(cat '{recipe}') --until data --out '{}' --quiet", program.display(), place.text("run"));
    let said = Said::of(&Command::new("bash").args(["-c", &text]).output().expect("bash"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let pipe = place.text("pipe.toml");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    for command in ["run", "sweep"] {
        let mut words = vec![command, &pipe];
        words.extend(if command == "sweep" { &["--over", "retrieve.k = [3, 5]"][..] } else { &[] });
        super::common::say(&words).ended_with(1).err_has("pipe.toml").err_has("next: give a file");
    }
}
