//! One changed bit in every file of a run's artifacts is found, kills at random moments cost no
//! more than they should, and a run folder that is gone or is no folder of plain files is noticed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::super::common::{Place, Said, rallrec, results, say};
use super::{advised, is_clear};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

#[test]
fn one_bit_in_any_file_of_any_artifact_is_found_and_the_advice_mends_it() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("run"));
    say(&["run", &recipe, "--out", &out, "--quiet"]).ended_with(0);
    let before = results(&place.at("run"));
    let artifacts = place.at("run/artifacts");
    let all: Vec<PathBuf> = files(&artifacts).into_iter().filter(|f| !f.ends_with("format")).collect();
    assert!(all.len() > 40, "{}", all.len());
    let (mut found, mut mended) = (0, Vec::new());
    for (n, file) in all.iter().enumerate() {
        let sound = fs::read(file).unwrap();
        if sound.is_empty() {
            continue;
        }
        let mut bytes = sound.clone();
        // Another place in each file.
        let bit = (n * 7919 + 13) % (8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(file, &bytes).unwrap();
        let said = say(&["run", &recipe, "--out", &out, "--quiet"]);
        let name = file.strip_prefix(&artifacts).unwrap();
        assert!(is_clear(&said) && said.err.contains(&name.display().to_string()), "{}: {}", name.display(), said.err);
        let stage = name.to_str().unwrap().split(['-', '.']).next().unwrap().to_owned();
        assert!(said.err.contains(&format!("--from {stage}")), "{}: {}", name.display(), said.err);
        found += 1;
        if mended.contains(&stage) {
            fs::write(file, &sound).unwrap();
            continue;
        }
        // Once for each stage, as the error says.
        let words = advised(&said.err).unwrap();
        say(&words.iter().map(String::as_str).collect::<Vec<_>>()).ended_with(0);
        assert_eq!(results(&place.at("run")), before, "{}", name.display());
        mended.push(stage);
    }
    println!("one bit in each of {found} files of artifacts: all found; mended by the advice: {mended:?}");
    assert_eq!(mended.len(), 13, "{mended:?}");
    // What serves is held to the same.
    let file = all
        .iter()
        .find(|f| f.to_str().unwrap().contains("/graph-") && f.extension().is_some_and(|e| e == "safetensors"));
    let file = file.unwrap();
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, &bytes).unwrap();
    say(&["recommend", "--run", &out, "--user", "3"]).ended_with(2).err_has("--from graph");
}

#[test]
fn kills_again_and_again_let_a_run_get_further() {
    let place = Place::new();
    let recipe = place.recipe();
    let (calm, out) = (place.text("calm"), place.text("killed"));
    let begun = std::time::Instant::now();
    say(&["run", &recipe, "--out", &calm, "--quiet"]).ended_with(0);
    let whole = begun.elapsed();
    // Each try has a part of the time that the whole run takes.
    let (mut kills, mut draw) = (0u64, 1u64);
    loop {
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("rallrec"))
            .args(["run", &recipe, "--out", &out, "--quiet"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = 0.15 + 0.2 * (draw >> 33) as f64 / (1u64 << 31) as f64;
        std::thread::sleep(whole.mul_f64(share).max(Duration::from_millis(60)));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 60, "no progress between kills");
    }
    println!("{kills} kills, each after 15 to 35 % of {:.2} s", whole.as_secs_f64());
    assert!(kills >= 2, "{kills}");
    assert_eq!(results(Path::new(&out)), results(Path::new(&calm)));
}

#[test]
fn a_run_folder_that_is_moved_or_removed_is_noticed() {
    let place = Place::new();
    let recipe = place.recipe();
    for (way, out) in [("moved", place.at("one")), ("removed", place.at("two"))] {
        let child = std::process::Command::new(assert_cmd::cargo::cargo_bin("rallrec"))
            .args(["run", &recipe, "--set", "graph.lightgcn.epochs=1000000", "--set", "graph.lightgcn.early_stop=0"])
            .arg("--out")
            .arg(&out)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while !files_below(&out).iter().any(|f| f.to_str().unwrap().contains("/graph-")) {
            std::thread::sleep(Duration::from_millis(5));
        }
        match way {
            "moved" => fs::rename(&out, place.at("elsewhere")).unwrap(),
            // It may write meanwhile.
            _ => while fs::remove_dir_all(&out).is_err() {},
        }
        let said = Said::of(&child.wait_with_output().unwrap());
        assert!(is_clear(&said), "{way}: {:?} {}", said.code, said.err);
        // One that is half removed lacks a file first.
        assert!(way == "removed" || said.err.contains("removed or moved"), "{way}: {}", said.err);
        assert!(way == "removed" || !out.exists(), "a part of it was made anew");
        assert!(!out.join("results.json").exists(), "{way}");
    }
    // Put back, it goes on.
    fs::rename(place.at("elsewhere"), place.at("one")).unwrap();
    say(&["run", &recipe, "--out", &place.text("one"), "--quiet"]).ended_with(0);
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("artifacts")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Links would lead what is written somewhere else; pipes would keep a run waiting for ever.
#[test]
fn links_and_pipes_in_the_places_of_files_are_refused_or_replaced() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.at("run"));
    let precious = place.at("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "kept").unwrap();
    let go = || Said::of(&rallrec().args(["run", &recipe, "--quiet", "--out"]).arg(&out).output().unwrap());
    go().ended_with(0);
    let before = results(&out);
    let mut names: Vec<String> =
        ["events.jsonl", "log.txt", "control", ".lock", "told.json", "recipe.toml", "scatter.json"]
            .into_iter()
            .chain(["results.json", "results.md", "scores.jsonl", "artifacts/format"])
            .map(String::from)
            .collect();
    let graph = files(&out.join("artifacts")).into_iter().find(|f| f.to_str().unwrap().contains("/graph-")).unwrap();
    let folder = graph.parent().unwrap().strip_prefix(&out).unwrap().display().to_string();
    names.push(format!("{folder}/artifact.json"));
    names.push(folder.clone());
    names.push(format!("{folder}.part"));
    for name in names {
        for pipe in [false, true] {
            let at = out.join(&name);
            let kept = place.at("kept");
            let was_there = fs::symlink_metadata(&at).is_ok();
            if was_there {
                fs::rename(&at, &kept).unwrap();
            }
            if pipe {
                assert!(std::process::Command::new("mkfifo").arg(&at).status().unwrap().success());
            } else if name.ends_with("format") || name.contains('.') && !name.ends_with(".part") {
                symlink(precious.join("file"), &at).unwrap();
            } else {
                symlink(&precious, &at).unwrap();
            }
            let said = go();
            match said.code {
                Some(0) => assert_eq!(results(&out), before, "{name}"),
                _ => assert!(is_clear(&said), "{name}, pipe {pipe}: {:?} {}", said.code, said.err),
            }
            assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "kept", "{name}: written through a link");
            assert_eq!(fs::read_dir(&precious).unwrap().count(), 1, "{name}: written through a link");
            if let Ok(left) = fs::symlink_metadata(&at) {
                if left.is_dir() { fs::remove_dir_all(&at).unwrap() } else { fs::remove_file(&at).unwrap() }
            }
            if was_there {
                fs::rename(&kept, &at).unwrap();
            }
        }
    }
    go().ended_with(0);
    assert_eq!(results(&out), before);
}
