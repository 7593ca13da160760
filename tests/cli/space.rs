//! Disks that are full or cannot be written, on small file systems of the test's own.

use std::process::Command;

use super::common::{Place, Said, rallrec, results, say};

/// Starts shell commands in a mount namespace of their own, so that nothing outlives them; `None`,
/// with a line that says so, where this user may make none.
fn in_namespace(script: &str, arguments: &[&str]) -> Option<Said> {
    let flags = ["-rm", "-m"].into_iter().find(|flags| {
        let probe = Command::new("unshare").args([flags, "sh", "-c", "mount -t tmpfs none /mnt"]).output();
        probe.is_ok_and(|o| o.status.success())
    });
    let Some(flags) = flags else {
        crate::skip::skip("mount", "this user may not mount a file system of his own (unshare -rm)");
        return None;
    };
    let program = assert_cmd::cargo::cargo_bin("rallrec");
    let output = Command::new("unshare")
        .args([flags, "sh", "-eu", "-c", script, "sh"])
        .arg(program)
        .args(arguments)
        .env("RALLREC_MODELS", "/nonexistent/rallrec-models")
        .output()
        .expect("unshare starts");
    Some(Said::of(&output))
}

/// $1 the program, $2 the recipe, $3 the mount point, $4 the size, $5 a place for what is left in
/// the end.
const FULL: &str = r#"
mount -t tmpfs -o size="$4" none "$3"
code=0; "$1" run "$2" --out "$3/run" || code=$?
echo "full: $code"
# A name that is not a working name belongs to a whole artifact.
for folder in "$3"/run/artifacts/*; do
    case "$folder" in *.part|*/format|*'*') ;; *) test -f "$folder/artifact.json" || echo "half: $folder" ;; esac
done
test ! -e "$3/run/results.json" || echo "results: there"
mount -o remount,size=200m "$3"
code=0; "$1" run "$2" --out "$3/run" || code=$?
echo "more: $code"
cp "$3/run/results.json" "$5/"
find "$3/run" -name '.tmp*' -o -name '.rallrec-*' | sed 's/^/left: /'
"#;

#[test]
fn a_full_disk_is_named_and_the_run_goes_on_when_there_is_space() {
    let place = Place::new();
    let recipe = place.recipe();
    let calm = place.text("calm");
    say(&["run", &recipe, "--out", &calm]).ended_with(0);
    let mut stages = std::collections::BTreeSet::new();
    // Sizes that end in different stages.
    for size in ["4k", "48k", "100k", "160k", "240k", "320k", "400k", "480k"] {
        let (mount, kept) = (place.at(&format!("mount-{size}")), place.at(&format!("kept-{size}")));
        std::fs::create_dir(&mount).unwrap();
        std::fs::create_dir(&kept).unwrap();
        let (at, to) = (mount.display().to_string(), kept.display().to_string());
        let Some(said) = in_namespace(FULL, &[&recipe, &at, size, &to]) else { return };
        let said = said.ended_with(0);
        assert!(!said.out.contains("half:") && !said.out.contains("left:"), "{size}: {}\n{}", said.out, said.err);
        assert!(said.out.contains("more: 0"), "{size}: {}\n{}", said.out, said.err);
        if said.out.contains("full: 0") {
            assert!(size != "4k" && size != "48k", "{size} was enough: {}", said.out);
            continue;
        }
        assert!(said.out.contains("full: 1"), "{size}: {}\n{}", said.out, said.err);
        assert!(said.err.contains("free some disk space") && !said.err.contains("panicked"), "{size}: {}", said.err);
        assert!(!said.out.contains("results:"), "{size}: no result of a run that failed");
        let done = said.err.split("free some disk space").next().unwrap_or("");
        stages.insert(done.lines().filter(|l| l.split_whitespace().nth(1) == Some("done")).count());
        assert_eq!(results(&kept), results(&place.at("calm")), "{size}");
    }
    assert!(stages.len() >= 3, "the disk was always full at the same place: {stages:?}");
}

#[test]
fn a_file_system_that_cannot_be_written_is_named() {
    let place = Place::new();
    let recipe = place.recipe();
    let mount = place.text("mount");
    std::fs::create_dir(&mount).unwrap();
    let script = r#"mount -t tmpfs -o ro,size=1m none "$3"; exec "$1" run "$2" --out "$3/run" --until data"#;
    let Some(said) = in_namespace(script, &[&recipe, &mount]) else { return };
    said.ended_with(2).err_has("choose a folder that can be written").err_has("mount");
}

#[test]
fn standard_output_that_is_full_is_a_failure_in_words() {
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else {
        crate::skip::skip("file /dev/full", "there is no /dev/full");
        return;
    };
    let mut command = Command::new(rallrec().get_program());
    let child = command.args(["data", "inspect", "synthetic"]).stdout(full).stderr(std::process::Stdio::piped());
    let output = child.spawn().unwrap().wait_with_output().unwrap();
    let said = Said::of(&output).ended_with(1);
    assert!(said.err.contains("standard output") && !said.err.contains("panicked"), "{}", said.err);
}
