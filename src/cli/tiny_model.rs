//! `rallrec tiny-model`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::events::Event;
use crate::monitor::Monitor;
use crate::store::{self, LoadOptions};
use crate::terminal::say;
use crate::tiny_model::{self, TinyModelSettings};

/// Steps between lines of progress.
const EVERY: u64 = 50;
/// Seed of the world that the finished model is examined on.
const UNSEEN: u64 = 501;
/// Rows of the exam.
const ROWS: usize = 600;

/// Make the built-in tiny language model again: learn its tokenizer and train it from scratch on
/// invented worlds.
///
/// The result is an ordinary Hugging Face folder of about 2 MB. The defaults are those of the model
/// inside this program; the same command gives the same bytes on the same kind of processor.
#[derive(Debug, clap::Args)]
pub struct TinyModelArgs {
    /// Folder for the model; it must not exist yet, or be empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Seed of the worlds, the lessons and the first weights.
    #[arg(long, default_value_t = TinyModelSettings::default().seed)]
    seed: u64,
    /// Optimiser steps.
    #[arg(long, default_value_t = TinyModelSettings::default().steps)]
    steps: u64,
    /// Groups of lessons in a step.
    #[arg(long, default_value_t = TinyModelSettings::default().batch)]
    batch: usize,
    /// Highest learning rate.
    #[arg(long, default_value_t = TinyModelSettings::default().learning_rate)]
    learning_rate: f64,
}

/// Runs the command.
///
/// # Errors
/// Steps out of range, or a folder that cannot be written: both before the training begins.
pub fn main(args: TinyModelArgs) -> Result<()> {
    let TinyModelArgs { out, seed, steps, batch, learning_rate } = args;
    let settings = TinyModelSettings { seed, steps, batch, learning_rate, ..TinyModelSettings::default() };
    settings.check()?;
    refuse_unwritable(&out)?;
    let start = std::time::Instant::now();
    let made = tiny_model::make(&settings, &Progress::default())?;
    tiny_model::save(&made, &out)?;
    let file = out.join("model.safetensors");
    let bytes = std::fs::read(&file).map_err(|e| Error::io(&file, "read", &e))?;
    println!(
        "{}: {:.2} MB, BLAKE3 {}, {} steps in {:.0} s",
        file.display(),
        bytes.len() as f64 / 1e6,
        blake3::hash(&bytes).to_hex(),
        settings.steps,
        start.elapsed().as_secs_f64()
    );
    println!("{}", tiny_model::exam(store::load(&out, &LoadOptions::default())?, UNSEEN, ROWS)?);
    Ok(())
}

/// Minutes of work must not end at a folder that was never writable.
fn refuse_unwritable(out: &Path) -> Result<()> {
    if std::fs::read_dir(out).map_or(out.exists(), |mut entries| entries.next().is_some()) {
        return Err(Error::input(out.display(), "is already there").next("remove it or choose another name"));
    }
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, "create the folder", &e))?;
    tempfile::tempfile_in(parent).map(drop).map_err(|e| Error::io(parent, "write into the folder", &e))
}

/// Prints a line now and then.
#[derive(Default)]
struct Progress {
    losses: Mutex<Vec<f64>>,
}

impl Monitor for Progress {
    fn emit(&self, event: Event) {
        if let Event::TrainStep { step, steps, loss, rate, .. } = event {
            // A poisoned lock only means that a printer died: the numbers are still good.
            let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
            losses.push(loss);
            if step.is_multiple_of(EVERY) || step == steps {
                let mean = losses.iter().sum::<f64>() / losses.len() as f64;
                say!("step {step} of {steps}: loss {mean:.3}, {:.0} tokens/s", rate.unwrap_or(0.0));
                losses.clear();
            }
        }
    }

    fn progress(&self, _: u64, _: u64, _: &str) {}

    fn stop_requested(&self) -> bool {
        crate::pipeline::control::interrupted()
    }

    fn stage(&self) -> &str {
        "tiny-model"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(out: PathBuf, steps: u64) -> TinyModelArgs {
        let TinyModelSettings { seed, batch, learning_rate, .. } = TinyModelSettings::default();
        TinyModelArgs { out, seed, steps, batch, learning_rate }
    }

    /// All of them before any work is done.
    #[test]
    fn bad_arguments_are_refused_with_a_next_step() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for (out, steps, what) in [
            (base.path().join("new"), 0, "steps"),
            (base.path().to_owned(), 1, "already there"),
            (file.clone(), 1, "already there"),
            (file.join("below"), 1, "file"),
        ] {
            let error = main(args(out, steps)).unwrap_err();
            assert!(error.to_string().contains(what) && !error.next_step().is_empty(), "{error}");
            assert_eq!(error.exit_code(), 2, "{error}");
        }
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1);
    }
}
