//! The loop of whoever writes kernels: sources out of a folder, compiled at once, checked beside
//! those of the program.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::common::{Said, rallrec};
use super::skip::skip;

/// The program's sources in a folder, and a cache of compiled ones beside it.
struct Loop {
    folder: tempfile::TempDir,
}

impl Loop {
    /// `None` where there is no C++ compiler.
    fn new() -> Option<Self> {
        if Command::new("g++").arg("--version").output().is_err() {
            skip("g++", "there is no C++ compiler");
            return None;
        }
        let made = Self { folder: tempfile::tempdir().unwrap() };
        let said = made.run(&["kernels", "write", &made.kernels().to_string_lossy()]).ended_with(0);
        assert!(said.out.contains("--watch"), "{}", said.out);
        Some(made)
    }

    fn kernels(&self) -> PathBuf {
        self.folder.path().join("k")
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let mut command = rallrec();
        command.env("XDG_CACHE_HOME", self.folder.path().join("cache")).args(arguments);
        Said::of(&command.output().unwrap())
    }

    fn check(&self, operator: &str, from: &Path) -> Said {
        self.run(&["check", operator, "--kernels", &from.to_string_lossy(), "--cases", "2"])
    }

    /// Replaces a text that stands once in a file.
    fn edit(&self, file: &str, what: &str, with: &str) {
        let path = self.kernels().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(what).count(), 1, "{what} in {file}");
        fs::write(path, text.replace(what, with)).unwrap();
    }
}

#[test]
fn a_folder_is_compiled_where_it_differs_and_once() {
    let Some(it) = Loop::new() else { return };
    it.check("rmsnorm", &it.kernels()).ended_with(0).out_has("nothing that is asked for differs");
    it.edit("rmsnorm.cu", "    float squares = 0;\n", "    float squares = 0;  // edited\n");
    it.check("rmsnorm", &it.kernels()).ended_with(0).out_has(": rmsnorm, ready in").out_has("edited | built in");
    it.check("rmsnorm", &it.kernels()).ended_with(0).out_has("(kept from before)");
    // Others do not differ.
    it.check("swiglu", &it.kernels()).ended_with(0).out_has("nothing that is asked for differs");
    let json =
        it.run(&["check", "rmsnorm", "--kernels", &it.kernels().to_string_lossy(), "--cases", "1", "--json"]).json();
    assert_eq!(json["kernels"]["units"][0], "rmsnorm");
    assert_eq!(json["findings"].as_array().unwrap().len(), json["built_in"].as_array().unwrap().len());
}

#[test]
fn a_wrong_kernel_is_found_beside_the_right_one_and_its_case_runs_again() {
    let Some(it) = Loop::new() else { return };
    it.edit("rmsnorm.cu", "v[j] = v[j] * r * g[j];", "v[j] = v[j] * r;");
    let said = it.check("rmsnorm", &it.kernels()).ended_with(1).out_has("WRONG");
    let again = said.err.lines().find_map(|l| l.split("rallrec check ").nth(1)).expect("the command that repeats it");
    assert!(again.contains("--kernels") && again.contains("--shape"), "{again}");
    let words: Vec<&str> = std::iter::once("check").chain(again.split_whitespace()).collect();
    let json = it.run(&[&words[..], &["--json"]].concat()).ended_with(1).json();
    let wrong = |of: &str| json[of].as_array().unwrap().iter().filter(|f| f["pass"] == false).count();
    assert!(wrong("findings") > 0 && wrong("built_in") == 0, "{json}");
}

#[test]
fn what_goes_wrong_is_named_by_the_line_of_the_folder() {
    let Some(it) = Loop::new() else { return };
    it.edit("rope.cu", "#include \"common/base.cuh\"\n", "#include \"common/base.cuh\"\n#error no such thing\n");
    it.check("rope", &it.kernels()).ended_with(2).err_has("rope.cu").err_has("no such thing");
    // A thread too far.
    it.edit(
        "rmsnorm.cu",
        "if (live && rstd && threadIdx.x % R == 0) rstd[unit] = r;",
        "if (rstd) rstd[unit + 1000000] = r;",
    );
    let said = it.check("rmsnorm", &it.kernels()).ended_with(1).err_has("at rmsnorm.cu:");
    assert!(said.err.contains("out of bounds") || said.err.contains("belongs to no buffer"), "{}", said.err);
}

#[test]
fn what_rust_states_too_cannot_be_changed_in_the_folder_alone() {
    let Some(it) = Loop::new() else { return };
    it.edit("rmsnorm.cu", "constexpr int kChunk = 256;", "constexpr int kChunk = 128;");
    it.check("rmsnorm", &it.kernels()).ended_with(1).err_has("rmsnorm_chunk is 128").err_has("launches with 256");
    it.edit("swiglu.cu", "#include \"common/gate.cuh\"\n", "#include \"common/gate.cuh\"\n\n");
    it.check("swiglu", &it.kernels()).ended_with(0);
    let elsewhere = it.folder.path().join("none");
    fs::create_dir(&elsewhere).unwrap();
    it.check("swiglu", &elsewhere).ended_with(2).err_has("no .cu file").err_has("kernels write");
    it.run(&["check", "swiglu", "--device", "cpu", "--kernels", "x"]).ended_with(2).err_has("no kernels");
    it.run(&["check", "swiglu", "--device", "cpu", "--shape", "4,3"]).ended_with(2).err_has("three sizes");
}

#[test]
fn everything_that_kernels_call_can_be_loaded() {
    let Some(it) = Loop::new() else { return };
    // Those of sm_90a call nearly all of the runtime; top-K and InfoNCE the rest.
    for unit in ["lora_sm90a", "sampling"] {
        let path = it.kernels().join(format!("{unit}.cu"));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + "\n").unwrap();
        it.run(&["check", unit, "--kernels", &it.kernels().to_string_lossy(), "--cases", "1"])
            .ended_with(0)
            .out_has(&format!(": {unit}, ready in"));
    }
}

#[test]
fn every_rung_of_the_ladder_is_right() {
    let Some(it) = Loop::new() else { return };
    let ladder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/ladder");
    let mut rungs: Vec<PathBuf> = fs::read_dir(ladder).unwrap().map(|e| e.unwrap().path()).collect();
    rungs.sort();
    assert!(rungs.len() >= 2);
    for rung in rungs {
        it.check("rmsnorm", &rung).ended_with(0).out_has("ready in");
        let text = fs::read_to_string(&rung).unwrap();
        assert!(text.contains(&*rung.file_name().unwrap().to_string_lossy()), "the head says how to run it");
    }
}

#[test]
fn a_save_runs_the_check_again() {
    let Some(it) = Loop::new() else { return };
    it.edit("rmsnorm.cu", "    float squares = 0;\n", "    float squares = 0;  // edited\n");
    let mut child = Command::new(env!("CARGO_BIN_EXE_rallrec"))
        .args(["check", "rmsnorm", "--cases", "1", "--watch", "--kernels"])
        .arg(it.kernels())
        .env("XDG_CACHE_HOME", it.folder.path().join("cache"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (say, heard) = mpsc::channel();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let other = say.clone();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|l| say.send(l)));
    std::thread::spawn(move || errors.map_while(Result::ok).try_for_each(|l| other.send(l)));
    let until = |what: &str| loop {
        let line = heard.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|e| panic!("no '{what}': {e}"));
        if line.contains(what) {
            break;
        }
    };
    until("| ok");
    until("waiting for a change");
    it.edit("rmsnorm.cu", "v[j] = v[j] * r * g[j];", "v[j] = v[j] * r;");
    until("WRONG");
    until("waiting for a change");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_kernel_is_shown_with_its_ledger() {
    let said = Said::of(&rallrec().args(["kernels", "show", "spmm_layer_f32_16"]).output().unwrap()).ended_with(0);
    said.out_has("128 threads a block").out_has("hot loop").out_has("H200").out_has("ncu --set full");
    Said::of(&rallrec().args(["kernels", "show", "spmm_layer_f32"]).output().unwrap())
        .ended_with(2)
        .err_has("did you mean spmm_layer_f32_");
    // The name of an operator means its kernels, and not what is spelt most like it.
    Said::of(&rallrec().args(["kernels", "show", "rmsnorm"]).output().unwrap())
        .ended_with(2)
        .err_has("did you mean rmsnorm_");
    let report = tempfile::NamedTempFile::new().unwrap();
    let json = r#"{"cases":[{"launches":[{"kernel":"adam_rows_f32","percent":61.0}]}]}"#;
    fs::write(report.path(), json).unwrap();
    let with = ["kernels", "adam", "--measured", &report.path().to_string_lossy()];
    Said::of(&rallrec().args(with).output().unwrap())
        .ended_with(0)
        .out_has("measured: 61 %")
        .out_has("expected of an H100");
}
