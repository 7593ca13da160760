//! The engine's own program: asked about recipes, started in processes of their own.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rallrec_events::RunFolder;
use rallrec_events::folder::Word;

use crate::panes::runs::{Setting, Source, Start, parse_annotated};

/// What a started run prints goes here, in its run folder.
pub const OUTPUT: &str = "output.txt";
/// A program that has lived so long without a place in its folder has begun all the same.
const BEGUN: Duration = Duration::from_secs(10);

/// The words that name a source to the engine.
fn source_words(source: &Source) -> Vec<String> {
    match source {
        Source::Demo => vec!["demo".into()],
        Source::File(path) => vec!["run".into(), path.display().to_string()],
        Source::Run(folder) => vec!["run".into(), folder.join("recipe.toml").display().to_string()],
    }
}

/// The engine's command line for a start; a queued one waits for every run in these folders.
pub fn arguments(start: &Start, places: &[PathBuf]) -> Vec<String> {
    let mut args = source_words(&start.source);
    for set in &start.sets {
        args.extend(["--set".into(), set.clone()]);
    }
    args.extend(["--out".into(), start.out.display().to_string(), "--quiet".into(), "--profile".into()]);
    if start.queued {
        let beside = start.out.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
        let beside = beside.filter(|p| !places.iter().any(|place| place == p));
        let after = places.iter().map(PathBuf::as_path).chain(beside);
        args.extend(after.flat_map(|folder| ["--after".into(), folder.display().to_string()]));
    }
    args
}

/// Runs the program and returns what it printed, or its error without the program's name in front.
fn ask(program: &Path, args: &[String]) -> Result<String, String> {
    let out = Command::new(program)
        .args(args)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    Err(said(&String::from_utf8_lossy(&out.stderr)))
}

/// An error of the engine, shortened to what it says.
fn said(stderr: &str) -> String {
    let text = stderr.trim();
    text.strip_prefix("rallrec: ").unwrap_or(text).to_string()
}

/// The annotated recipe with changes, as the engine resolves and checks it.
///
/// # Errors
/// The engine's own words: what is wrong and the nearest right key.
pub fn load(program: &Path, source: &Source, sets: &[String]) -> Result<Vec<Setting>, String> {
    let mut args = source_words(source);
    for set in sets {
        args.extend(["--set".into(), set.clone()]);
    }
    args.push("--print-recipe".into());
    ask(program, &args).map(|text| parse_annotated(&text))
}

/// The engine's comparison of runs.
///
/// # Errors
/// The engine's own words.
pub fn compare(program: &Path, folders: &[PathBuf]) -> Result<Vec<String>, String> {
    let mut args = vec!["compare".to_string(), "--results".to_string()];
    args.extend(folders.iter().map(|f| f.display().to_string()));
    ask(program, &args).map(|text| text.lines().map(str::to_string).collect())
}

/// What the engine knows of an operator's kernels.
///
/// # Errors
/// The engine's own words.
pub fn kernels(program: &Path, operator: &str) -> Result<Vec<String>, String> {
    ask(program, &["kernels".into(), operator.into()]).map(|text| text.lines().map(str::to_string).collect())
}

/// The engine's bench or check of one operator.
///
/// # Errors
/// The engine's own words.
pub fn measure(program: &Path, operator: &str, check: bool) -> Result<String, String> {
    let words: &[&str] =
        if check { &["check", operator, "--cases", "2"] } else { &["bench", operator, "--seconds", "0.3"] };
    let args: Vec<String> = words.iter().map(|w| (*w).to_string()).collect();
    ask(program, &args)
}

/// Starts the program in a session of its own, so that it goes on when this terminal closes, with
/// its output in the run folder. Returns when it works or waits in the folder, or with what it said
/// when it ended before with an error.
///
/// # Errors
/// The folder cannot be made, the program cannot be started, or it ended with an error at once.
pub fn launch(program: &Path, args: &[String], folder: &Path) -> Result<(), String> {
    let at = |what: &str, e: &io::Error| format!("{}: {what}: {e}", folder.display());
    if RunFolder::new(folder).is_alive() {
        return Err(format!("{}: another process is working in this run folder", folder.display()));
    }
    if RunFolder::new(folder).is_queued() {
        return Err(format!("{}: a process waits to start in this run folder already", folder.display()));
    }
    fs::create_dir_all(folder).map_err(|e| at("the run folder cannot be made", &e))?;
    let path = folder.join(OUTPUT);
    let file = File::options().create(true).append(true).open(&path).map_err(|e| at("cannot be written", &e))?;
    let before = file.metadata().map(|m| m.len()).unwrap_or(0);
    let again = file.try_clone().map_err(|e| at("cannot be written", &e))?;
    let mut command = Command::new(program);
    command.args(args).env("NO_COLOR", "1").stdin(Stdio::null()).stdout(file).stderr(again);
    // SAFETY: between fork and exec only setsid is called, which is async-signal-safe and allocates
    // nothing.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(|_| ()).map_err(io::Error::from));
    }
    let mut child = command.spawn().map_err(|e| format!("{}: {e}", program.display()))?;
    let since = Instant::now();
    let run = RunFolder::new(folder);
    // Starts come one after the other: one that is queued next finds this one's lock.
    while since.elapsed() < BEGUN && !run.is_alive() && !run.is_queued() {
        match child.try_wait() {
            Ok(Some(status)) if !status.success() => {
                let mut text = String::new();
                let read = File::open(&path).and_then(|mut f| {
                    io::Seek::seek(&mut f, io::SeekFrom::Start(before))?;
                    f.take(64 << 10).read_to_string(&mut text)
                });
                let text = if read.is_ok() { said(&text) } else { format!("it ended with {status}") };
                return Err(text);
            }
            Ok(Some(_)) => return Ok(()),
            Ok(None) => std::thread::sleep(Duration::from_millis(30)),
            Err(e) => return Err(format!("{}: {e}", program.display())),
        }
    }
    // Somebody must hear of its end, or it stays in the process table until this program ends.
    let _ = std::thread::Builder::new().name("child".into()).spawn(move || child.wait());
    Ok(())
}

/// Asks a waiting process to give up.
///
/// # Errors
/// The folder cannot be written.
pub fn unqueue(folder: &Path) -> io::Result<()> {
    RunFolder::new(folder).ask(Word::Stop)
}
