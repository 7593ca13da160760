//! `--watch`: the same command again whenever a file of the folder is saved. Each time is a process
//! of its own: a kernel that hangs is stopped by the next save.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::pipeline::control;
use crate::terminal::say;

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Path, time of the last change and bytes of each source below a folder, or of that file alone.
fn state(of: &Path) -> Vec<(PathBuf, Option<SystemTime>, u64)> {
    let mut found = Vec::new();
    let mut open = vec![of.to_owned()];
    while let Some(path) = open.pop() {
        let Ok(about) = path.metadata() else { continue };
        if about.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            open.extend(entries.map(|entry| entry.path()));
        } else if path.extension().is_some_and(|e| ["cu", "cuh", "h"].iter().any(|own| e == *own)) {
            found.push((path, about.modified().ok(), about.len()));
        }
    }
    found.sort();
    found
}

/// Ends a process, whatever it does.
fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Runs this program's own command without `--watch`, now and at every save, until Ctrl-C.
///
/// # Errors
/// The program cannot be started.
pub fn on_save(folder: &Path) -> Result<()> {
    let program = std::env::current_exe().map_err(|e| Error::failed("--watch", e))?;
    let arguments: Vec<_> = std::env::args_os().skip(1).filter(|a| a != "--watch").collect();
    while !control::interrupted() {
        let before = state(folder);
        let mut child = Command::new(&program)
            .args(&arguments)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| Error::failed("--watch", e))?;
        let mut running = true;
        while state(folder) == before {
            if control::interrupted() {
                stop(&mut child);
                return Ok(());
            }
            if running && !matches!(child.try_wait(), Ok(None)) {
                running = false;
                say!("waiting for a change in {} (Ctrl-C ends)", folder.display());
            }
            std::thread::sleep(LOOK);
        }
        stop(&mut child);
        // An editor may write several files, or one in two steps.
        std::thread::sleep(LOOK);
    }
    Ok(())
}
