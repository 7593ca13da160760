//! Too little memory is an error in words, whatever it meets, and never an abort.

use std::process::Command;

use super::common::{Place, Said, results, say};

/// The program with an address space of so many MiB.
fn limited(mib: usize, arguments: &[&str]) -> Said {
    let script = format!("ulimit -v {}; exec \"$0\" \"$@\"", mib << 10);
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(assert_cmd::cargo::cargo_bin("rallrec"))
        .args(arguments)
        .env("RALLREC_MODELS", "/nonexistent/rallrec-models")
        .output()
        .expect("a shell");
    Said::of(&output)
}

/// A run of such sizes was once taken by the system's killer of processes, hours after its start.
#[test]
fn what_cannot_fit_is_said_before_the_work() {
    let place = Place::new();
    let recipe = place.recipe();
    let out = place.text("large");
    let users = ["--set", "data.synthetic.users=4000", "--set", "data.synthetic.ratings=40000"];
    let set = [&users[..], &["--set", "graph.lightgcn.dim=65536"]].concat();
    let said = limited(1024, &[&["run", recipe.as_str(), "--out", &out][..], &set[..]].concat());
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("graph.lightgcn.dim: needs at least"), "{}", said.err);
    assert!(said.err.contains("next: set a smaller graph.lightgcn.dim"), "{}", said.err);
}

/// Most limits ended with 134: "memory allocation of N bytes failed".
#[test]
fn every_command_ends_with_an_error_where_memory_is_short() {
    let place = Place::new();
    let recipe = place.recipe();
    let run = place.text("whole");
    say(&["run", &recipe, "--out", &run]).ended_with(0);
    let model = place.text("model");
    let other = place.text("short");
    let commands: [&[&str]; 8] = [
        &["run", &recipe, "--out", &other],
        &["recommend", "--run", &run, "--user", "1"],
        &["llm", "embed", "--model", &model, "--prompt", "a"],
        &["model", "inspect", &model],
        &["data", "inspect", "synthetic"],
        &["compare", &run, &run],
        &["report", &run, "-o", "-"],
        &["check", "topk", "--cases", "2"],
    ];
    for command in commands {
        let mut failed = 0;
        for mib in [100, 200, 420] {
            let said = limited(mib, command);
            let code = said.code.unwrap_or_else(|| panic!("{command:?} at {mib} MiB: a signal\n{}", said.err));
            assert!([0, 1, 2].contains(&code), "{command:?} at {mib} MiB ends with {code}\n{}", said.err);
            if code != 0 {
                assert!(said.err.contains("rallrec: "), "{command:?} at {mib} MiB: {}", said.err);
                failed += 1;
            }
        }
        println!("{command:?}: {failed} of 3 limits are too low");
    }
    // What was begun under such limits is gone on with.
    say(&["run", &recipe, "--out", &other]).ended_with(0);
    assert_eq!(results(&place.at("short")), results(&place.at("whole")));
}
