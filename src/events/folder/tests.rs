use super::*;
use std::fs;

fn run_folder(root: &Path, name: &str, events: &str) -> PathBuf {
    let folder = root.join(name);
    fs::create_dir_all(folder.join("artifacts")).unwrap();
    fs::write(folder.join("recipe.toml"), "name = \"x\"\n").unwrap();
    fs::write(folder.join("events.jsonl"), events).unwrap();
    folder
}

#[test]
fn runs_are_listed_latest_first_with_their_outcome() {
    let root = tempfile::tempdir().unwrap();
    let end = |t: u64, word: &str| {
        format!(
            "{{\"v\":1,\"t_ms\":{t},\"kind\":\"run_finished\",\"outcome\":\"{word}\",\"seconds\":1.0,\"message\":\"\"}}\n"
        )
    };
    run_folder(root.path(), "old", &end(5, "done"));
    run_folder(root.path(), "new", &format!("{}{{\"torn", end(9, "stopped")));
    fs::create_dir(root.path().join("not a run")).unwrap();
    let found = runs_below(root.path());
    let found_now: Vec<_> = found.iter().map(|r| (r.name.as_str(), r.outcome.as_deref())).collect();
    assert_eq!(found_now, [("new", Some("stopped")), ("old", Some("done"))]);
    assert_eq!(runs_below(&root.path().join("old")).len(), 1);
    assert!(runs_below(&root.path().join("absent")).is_empty());
}

#[test]
fn artifacts_tell_stage_key_size_and_whether_they_are_whole() {
    let root = tempfile::tempdir().unwrap();
    let folder = run_folder(root.path(), "r", "");
    let done = folder.join("artifacts/graph-aa11");
    fs::create_dir(&done).unwrap();
    fs::write(done.join("artifact.json"), "{\"bytes\": 70, \"seconds\": 2.5}").unwrap();
    let part = folder.join("artifacts/tune-bb22.part");
    fs::create_dir(&part).unwrap();
    fs::write(part.join("x"), "12345").unwrap();
    let run = RunFolder::new(&folder);
    let found_now: Vec<_> =
        run.artifacts().into_iter().map(|a| (a.stage, a.key, a.complete, a.bytes, a.seconds)).collect();
    let expected = [
        ("graph".to_string(), "aa11".to_string(), true, 70, Some(2.5)),
        ("tune".to_string(), "bb22".to_string(), false, 5, None),
    ];
    assert_eq!(found_now, expected);
    assert!(run.artifact("graph", None).is_some() && run.artifact("tune", None).is_none());
    assert!(run.artifact("graph", Some("zz")).is_none());
}

#[test]
fn words_add_up_and_a_checkpoint_does_not_end_a_pause() {
    let root = tempfile::tempdir().unwrap();
    let run = RunFolder::new(root.path());
    run.ask(Word::Pause).unwrap();
    run.ask(Word::Checkpoint).unwrap();
    assert_eq!(run.asked(), Requests { lasting: Some(Word::Pause), checkpoint: true });
    run.ask(Word::Run).unwrap();
    assert_eq!(run.asked(), Requests { lasting: None, checkpoint: true });
    Requests::default().write(root.path()).unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "nothing is left behind");
    assert_eq!(Requests::parse("  nonsense\nstop "), Requests { lasting: Some(Word::Stop), checkpoint: false });
}

#[test]
fn a_lock_tells_that_a_process_is_at_work_and_keeps_the_run_from_being_deleted() {
    let root = tempfile::tempdir().unwrap();
    let folder = run_folder(root.path(), "r", "");
    let run = RunFolder::new(&folder);
    assert!(!run.is_alive());
    let lock = File::create(folder.join(".lock")).unwrap();
    assert!(!run.is_alive());
    lock.try_lock().unwrap();
    assert!(run.is_alive());
    assert!(run.delete().unwrap_err().to_string().contains("stop it first"));
    drop(lock);
    run.delete().unwrap();
    assert!(!folder.exists());
    let other = root.path().join("precious");
    fs::create_dir(&other).unwrap();
    assert!(RunFolder::new(&other).delete().is_err() && other.exists());
}

/// A pipe in the place of a file once kept whoever looked at the folder waiting for ever.
#[cfg(unix)]
#[test]
fn pipes_in_the_place_of_files_are_no_files() {
    let root = tempfile::tempdir().unwrap();
    for name in [".lock", "control", "queued", "recipe.toml", "results.json", "scatter.json", "events.jsonl"] {
        let made = std::process::Command::new("mkfifo").arg(root.path().join(name)).status().unwrap();
        assert!(made.success());
    }
    let folder = RunFolder::new(root.path());
    assert!(!folder.is_alive() && !folder.is_queued());
    assert_eq!(folder.asked(), Requests::default());
    assert!(folder.recipe_text().is_err() && folder.results().is_err());
    assert!(crate::scatter::Scatter::read(root.path()).is_err());
    assert_eq!(folder.summary().outcome, None);
}
