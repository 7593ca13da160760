//! Compiles `kernels/*.cu` for every supported GPU where an nvcc is found, and puts the code into
//! the binary; without one the table is empty, a warning says so, and everything but `--device
//! cuda` works. The sources themselves are put into the binary too, so that `rallrec check
//! --kernels` can compile a folder's against them.
//!
//! nvcc is looked for in `$NVCC`, the Python environment `$RALLREC_CUDA_VENV` (`scripts/nvcc-venv`
//! makes one), `$CUDA_HOME`, `$CUDA_PATH` and `PATH`. A source is compiled again when it, a header
//! that it includes, the flags or the version of nvcc changed, and else not: the list of headers is
//! what the compiler itself wrote.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Architectures to make code for, oldest first; PTX is made for the first.
const ARCHITECTURES: [&str; 5] = ["80", "86", "89", "90a", "100"];

struct Job {
    source: PathBuf,
    unit: String,
    architecture: &'static str,
    ptx: bool,
    output: PathBuf,
}

fn find_nvcc() -> Option<PathBuf> {
    for name in ["NVCC", "RALLREC_CUDA_VENV", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(nvcc) = set("NVCC") {
        return Some(nvcc);
    }
    if let Some(venv) = set("RALLREC_CUDA_VENV") {
        // VENV/lib/python3.X/site-packages/nvidia/cuNN/bin/nvcc
        let folders = |path: PathBuf| -> Vec<PathBuf> {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let found = folders(venv.join("lib"))
            .into_iter()
            .flat_map(|python| folders(python.join("site-packages/nvidia")))
            .map(|toolkit| toolkit.join("bin/nvcc"))
            .find(|nvcc| nvcc.is_file());
        if found.is_none() {
            println!("cargo:warning=RALLREC_CUDA_VENV is {}, but there is no nvcc in it", venv.display());
        }
        return found;
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(set).map(|home| home.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    homes.chain(env::split_paths(&path)).map(|folder| folder.join("nvcc")).find(|nvcc| nvcc.is_file())
}

/// Sources in a rule of make: `target: a b \` over several lines, spaces in names escaped.
fn dependencies(rule: &str) -> Vec<PathBuf> {
    let body = rule.split_once(": ").map_or("", |(_, body)| body).replace("\\\n", " ").replace("\\ ", "\u{1}");
    body.split_whitespace().map(|name| PathBuf::from(name.replace('\u{1}', " "))).collect()
}

/// What the output was made from: nvcc, flags, and every file that was read. `None` where one of
/// them is gone.
fn key(version: &str, flags: &[String], files: &[PathBuf]) -> Option<String> {
    let mut hasher = DefaultHasher::new();
    (version, flags).hash(&mut hasher);
    for file in files {
        fs::read(file).ok()?.hash(&mut hasher);
    }
    Some(format!("{:016x}", hasher.finish()))
}

fn compile(nvcc: &Path, version: &str, job: &Job) -> Result<(), String> {
    let sibling = |ending: &str| PathBuf::from(format!("{}.{ending}", job.output.display()));
    let (rule, stamp, log) = (sibling("d"), sibling("key"), sibling("log"));
    let Job { architecture: a, .. } = job;
    let code = if job.ptx { format!("compute_{a}") } else { format!("sm_{a}") };
    let flags: Vec<String> = [
        "-std=c++17",
        "-O3",
        "-lineinfo",
        if job.ptx { "-ptx" } else { "-cubin" },
        &format!("-gencode=arch=compute_{a},code={code}"),
        "-Xptxas=-v",
    ]
    .map(String::from)
    .to_vec();
    let read = || dependencies(&fs::read_to_string(&rule).unwrap_or_default());
    let old = fs::read_to_string(&stamp).ok();
    if job.output.is_file() && old.is_some() && key(version, &flags, &read()) == old {
        return Ok(());
    }
    let mut command = Command::new(nvcc);
    command.args(&flags).arg("-MD").arg("-MF").arg(&rule).arg("-o").arg(&job.output).arg(&job.source);
    let out = command.output().map_err(|e| format!("cannot run {}: {e}", nvcc.display()))?;
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    if !out.status.success() {
        return Err(format!("{command:?}\n{}{text}", String::from_utf8_lossy(&out.stdout)));
    }
    fs::write(&log, &text).map_err(|e| e.to_string())?;
    if let Some(key) = key(version, &flags, &read()) {
        fs::write(&stamp, key).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Names of the kernels in the compiler's report.
fn kernels(log: &str) -> Vec<String> {
    let names = log.lines().filter_map(|l| l.split_once("Compiling entry function '"));
    names.filter_map(|(_, rest)| rest.split_once('\'')).map(|(name, _)| name.to_owned()).collect()
}

/// Architectures to compile for: all, or those that `$RALLREC_SM` lists (`80,90a`), for a quick
/// build.
fn wanted(architecture: &str) -> bool {
    env::var("RALLREC_SM").map_or(true, |list| list.split(',').any(|a| a.trim() == architecture))
}

/// Programs need the runtime of the sanitizer that the host build of the kernels is compiled with.
fn sanitizer() {
    println!("cargo:rerun-if-env-changed=RALLREC_SANITIZE");
    let runtimes: &[&str] = match env::var("RALLREC_SANITIZE").as_deref() {
        Ok("address") => &["asan", "ubsan"],
        Ok("thread") => &["tsan"],
        _ => &[],
    };
    for runtime in runtimes {
        println!("cargo:rustc-link-arg=-l{runtime}");
    }
}

fn jobs(sources: &Path, out: &Path, known: &str) -> Vec<Job> {
    let mut files: Vec<PathBuf> = fs::read_dir(sources)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|p| p.extension().is_some_and(|e| e == "cu"))
        .collect();
    files.sort();
    let mut jobs = Vec::new();
    for source in files {
        let unit = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let own = ARCHITECTURES.into_iter().find(|a| unit.ends_with(&format!("_sm{a}")));
        for (i, architecture) in ARCHITECTURES.into_iter().enumerate() {
            let digits = architecture.trim_end_matches('a');
            if own.is_some_and(|own| own != architecture)
                || !wanted(architecture)
                || !known.lines().any(|l| l.trim() == format!("sm_{digits}"))
            {
                continue;
            }
            let output = out.join(format!("{unit}.sm_{architecture}.cubin"));
            jobs.push(Job { source: source.clone(), unit: unit.clone(), architecture, ptx: false, output });
            if i == 0 {
                let output = out.join(format!("{unit}.compute_{architecture}.ptx"));
                jobs.push(Job { source: source.clone(), unit: unit.clone(), architecture, ptx: true, output });
            }
        }
    }
    jobs
}

fn compile_all(nvcc: &Path, version: &str, jobs: &[Job]) -> Result<(), String> {
    let threads = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1).min(jobs.len().max(1));
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(e) = compile(nvcc, version, job) {
                        failures.lock().expect("no thread panics while it holds this").push(e);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

fn table(jobs: &[Job]) -> String {
    let mut text = String::from("/// Compiled kernels.\npub static IMAGES: &[Image] = &[\n");
    let mut names = Vec::new();
    for job in jobs {
        let path = job.output.display().to_string();
        // The driver reads PTX up to a zero.
        let bytes = if job.ptx {
            format!("concat!(include_str!({path:?}), \"\\0\").as_bytes()")
        } else {
            format!(
                "{{ static CODE: Aligned<[u8; include_bytes!({path:?}).len()]> = Aligned(*include_bytes!({path:?})); &CODE.0 }}"
            )
        };
        let Job { unit, architecture, ptx, .. } = job;
        let _ = writeln!(
            text,
            "    Image {{ unit: {unit:?}, architecture: {architecture:?}, ptx: {ptx}, bytes: {bytes} }},"
        );
        let log = fs::read_to_string(format!("{path}.log")).unwrap_or_default();
        names.extend(kernels(&log).into_iter().map(|kernel| (kernel, unit.clone())));
    }
    names.sort();
    names.dedup();
    text.push_str("];\n/// The unit that holds each kernel.\npub static KERNELS: &[(&str, &str)] = &[\n");
    for (kernel, unit) in names {
        let _ = writeln!(text, "    ({kernel:?}, {unit:?}),");
    }
    text.push_str("];\n");
    text
}

/// Files of a folder with one of these endings, sorted.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let wanted = |path: &PathBuf| path.extension().is_some_and(|e| endings.iter().any(|own| e == *own));
    let mut found: Vec<PathBuf> = all.filter(wanted).collect();
    found.sort();
    found
}

/// The kernels' sources as constants, by their path below `kernels/`: all that a compiler reads.
fn texts(sources: &Path) -> String {
    let mut text =
        String::from("/// The sources: path below `kernels/`, and text.\npub static SOURCES: &[(&str, &str)] = &[\n");
    let parts = [
        files(sources, &["cu"]),
        files(&sources.join("common"), &["cuh"]),
        files(&sources.join("host/runtime"), &["h"]),
    ];
    for path in parts.iter().flatten() {
        println!("cargo:rerun-if-changed={}", path.display());
        let name = path.strip_prefix(sources).unwrap_or(path).to_string_lossy().replace('\\', "/");
        let _ = writeln!(text, "    ({name:?}, include_str!({:?})),", path.display().to_string());
    }
    text.push_str("];\n");
    text
}

/// Has the linker export what libraries of kernels refer to, which the program may load later.
fn export_runtime(sources: &Path, out: &Path) {
    let names = sources.join("host/runtime/exports");
    println!("cargo:rerun-if-changed={}", names.display());
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let names = fs::read_to_string(names).expect("the list of the runtime's functions");
    let mut list = String::from("{\n");
    for name in names.lines().filter(|line| !line.is_empty()) {
        // As C++ spells a name within a namespace.
        let _ = writeln!(list, "    _ZN12rallrec_host{}{name}E*;", name.len());
    }
    list.push_str("};\n");
    let path = out.join("exports.list");
    fs::write(&path, list).expect("OUT_DIR can be written");
    println!("cargo:rustc-link-arg-bins=-Wl,--dynamic-list={}", path.display());
}

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let sources = root.join("kernels");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RALLREC_SM");
    sanitizer();
    export_runtime(&sources, &out);
    println!("cargo:rerun-if-changed={}", sources.join("common").display());
    for entry in fs::read_dir(&sources).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|e| e == "cu") {
            println!("cargo:rerun-if-changed={}", entry.path().display());
        }
    }
    let mut compiler = String::new();
    let mut made = Vec::new();
    if let Some(nvcc) = find_nvcc() {
        let ask = |arg: &str| {
            let answer = Command::new(&nvcc).arg(arg).output();
            answer.ok().filter(|a| a.status.success()).map(|a| String::from_utf8_lossy(&a.stdout).into_owned())
        };
        match (ask("--version"), ask("--list-gpu-code")) {
            (Some(version), Some(known)) => {
                let folder = out.join("cuda");
                fs::create_dir_all(&folder).expect("OUT_DIR can be written");
                made = jobs(&sources, &folder, &known);
                if let Err(e) = compile_all(&nvcc, &version, &made) {
                    panic!("nvcc refuses a kernel:\n{e}");
                }
                compiler = version.lines().find(|l| l.contains("release")).unwrap_or("nvcc").trim().to_owned();
            }
            _ => println!("cargo:warning={} does not answer; building without CUDA kernels", nvcc.display()),
        }
    } else {
        println!("cargo:warning=no nvcc: building without CUDA kernels (scripts/nvcc-venv fetches a compiler)");
    }
    let text = format!(
        "/// The compiler that made them; empty without one.\npub static COMPILER: &str = {compiler:?};\n{}",
        table(&made)
    );
    fs::write(out.join("sources.rs"), texts(&sources)).expect("OUT_DIR can be written");
    fs::write(out.join("kernels.rs"), text).expect("OUT_DIR can be written");
}
