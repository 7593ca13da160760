//! The artifact store of a run folder: `artifacts/STAGE-KEY/`, made complete or not at all. An
//! artifact of a part of a stage lies in `artifacts/STAGE.PART-KEY/`.
//!
//! A stage works in `STAGE-KEY.part/`. Long stages append rows there and find them again after a
//! kill. When the stage is done, its files are flushed to the disk, `artifact.json` says what they
//! are, and the folder is renamed: a folder without `.part` is whole, also after a power cut.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::key::Key;
use crate::content::{Content, hash_file};
use crate::durable;
use crate::error::{Error, Result};

/// What an artifact is made of, in its own folder.
pub const MANIFEST: &str = "artifact.json";

/// Layout of run folders that this program reads and writes: names of artifacts and [`Manifest`].
pub const FORMAT: u32 = 3;

/// In `artifacts/`: the layout's number.
const FORMAT_FILE: &str = "format";

/// A finished result of a stage.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The folder with its files.
    pub folder: PathBuf,
    /// What it is made of.
    pub manifest: Manifest,
}

impl Artifact {
    /// A file inside.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What a file inside says; `next` is advised where it is damaged.
    ///
    /// # Errors
    /// A file that cannot be read or is not what was written.
    pub fn json<T: DeserializeOwned>(&self, name: &str, next: &str) -> Result<T> {
        let path = self.file(name);
        let bytes = fs::read(&path).map_err(|e| Error::io(&path, "read the file", &e))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::input(path.display(), e).next(next))
    }

    /// Holds every file to its recorded size and hash.
    ///
    /// # Errors
    /// Names the first file that is gone or is not what was written.
    pub fn verify(&self) -> Result<()> {
        for file in &self.manifest.files {
            let path = self.file(&file.name);
            let found = fs::metadata(&path).map_err(|e| Error::io(&path, "look at the file", &e))?;
            if !found.is_file() {
                return Err(Error::input(path.display(), "is no file"));
            }
            let bytes = found.len();
            if bytes != file.bytes {
                let what = format!("is damaged: it has {bytes} bytes, {} were written", file.bytes);
                return Err(Error::input(path.display(), what));
            }
            if hash_file(&path)? != file.blake3 {
                return Err(Error::input(path.display(), "is damaged: it holds other bytes than were written"));
            }
        }
        Ok(())
    }
}

/// What the artifact in a folder is made of; `None` where it is not finished.
///
/// # Errors
/// A damaged file.
pub(super) fn read_manifest(folder: &Path) -> Result<Option<Manifest>> {
    let path = folder.join(MANIFEST);
    let bytes = match durable::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(Error::io(&path, "read the file", &e)),
    };
    let damaged = |what: String| Error::input(path.display(), format!("is damaged: {what}"));
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    // The record of the files is not among the files: its own sum stands in it.
    if manifest.sum()? != manifest.sum {
        return Err(damaged("it holds another record than was written".into()));
    }
    Ok(Some(manifest))
}

/// An input of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// What it is to the stage.
    pub name: String,
    /// What it held.
    pub content: Content,
}

/// A file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Path below the artifact's folder.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// BLAKE3, hexadecimal.
    pub blake3: String,
}

/// `artifact.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the stage.
    pub stage: String,
    /// Part of the stage, empty for a stage with one artifact.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub part: String,
    /// Identity.
    pub key: Key,
    /// Version of the stage's code.
    pub version: u32,
    /// The settings that the stage saw.
    pub settings: Content,
    /// What it read.
    pub inputs: Vec<InputRecord>,
    /// What it wrote.
    pub files: Vec<FileRecord>,
    /// What the files hold that later stages read: equal contents mean equal inputs.
    pub content: Content,
    /// Bytes of all files.
    pub bytes: u64,
    /// Seconds of work in the process that finished it.
    pub seconds: f64,
    /// When it was finished, milliseconds since 1970. The time of its file is lost when a folder
    /// is copied.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub made_ms: u64,
    /// Of all the above.
    pub sum: Content,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Manifest {
    /// What an input held; `None` for one that it has not.
    pub fn input(&self, name: &str) -> Option<&Content> {
        self.inputs.iter().find(|input| input.name == name).map(|input| &input.content)
    }

    /// Whether it was made of all these.
    fn has(&self, wanted: &[(&'static str, Content)]) -> bool {
        wanted.iter().all(|(name, content)| self.input(name) == Some(content))
    }

    /// The hash of all but `sum`.
    fn sum(&self) -> Result<Content> {
        Content::of(&Self { sum: Content::of_text(""), ..self.clone() })
    }
}

/// What is known of an artifact before it is made.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Name of the stage.
    pub stage: &'static str,
    /// Part of the stage, empty for a stage with one artifact.
    pub part: &'static str,
    /// Identity.
    pub key: Key,
    /// Version of the stage's code.
    pub version: u32,
    /// The settings that the stage sees.
    pub settings: Content,
    /// What it reads.
    pub inputs: Vec<(&'static str, Content)>,
    /// Files that say how the work went and that no stage reads.
    pub notes: &'static [&'static str],
}

impl Origin {
    fn name(&self) -> String {
        Self::begin_of_name(self.stage, self.part) + self.key.short()
    }

    /// What stands before the key in the name of an artifact's folder.
    fn begin_of_name(stage: &str, part: &str) -> String {
        let dot = if part.is_empty() { "" } else { "." };
        format!("{stage}{dot}{part}-")
    }
}

/// What an artifact of a run that is only read is found by.
pub struct Recorded<'a> {
    /// Name of the stage.
    pub stage: &'static str,
    /// Part of the stage.
    pub part: &'static str,
    /// Version of the stage's code.
    pub version: u32,
    /// The settings that the stage sees.
    pub settings: &'a Content,
    /// The artifacts that it reads.
    pub made: &'a [(&'static str, Content)],
    /// What else it reads, where that can be read.
    pub outside: &'a dyn Fn() -> Result<Vec<(&'static str, Content)>>,
}

/// Sorts artifacts by when they were made.
pub(super) fn newest_first(artifacts: &mut [Artifact]) {
    artifacts.sort_by(|a, b| (b.manifest.made_ms, &a.folder).cmp(&(a.manifest.made_ms, &b.folder)));
}

/// The folder of artifacts.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens (and makes) `run/artifacts`.
    ///
    /// # Errors
    /// Artifacts of another layout, a folder that cannot be made.
    pub fn open(run: &Path) -> Result<Self> {
        let root = run.join("artifacts");
        let file = root.join(FORMAT_FILE);
        durable::is_own(&root)?;
        check_format(run)?;
        if !file.exists() {
            durable::make_folder(&root)?;
            durable::write(&file, format!("{FORMAT}\n").as_bytes())?;
        }
        Ok(Self { root })
    }

    /// The same for a run that is only read: nothing is made.
    ///
    /// # Errors
    /// No artifacts, or artifacts of another layout.
    pub fn open_finished(run: &Path) -> Result<Self> {
        let root = run.join("artifacts");
        if !root.is_dir() {
            return Err(Error::input(run.display(), "is not a run folder: there is no artifacts/ in it")
                .next("give the folder that `rallrec run` wrote into, e.g. runs/demo"));
        }
        check_format(run)?;
        Ok(Self { root })
    }

    fn folder(&self, origin: &Origin) -> PathBuf {
        self.root.join(origin.name())
    }

    fn unfinished(&self, origin: &Origin) -> PathBuf {
        self.root.join(origin.name() + ".part")
    }

    /// The finished artifact of this origin, if it is there. All its bytes are read and held to
    /// what was recorded when it was made, so that no damage goes into other numbers.
    ///
    /// # Errors
    /// A file of it that is gone, of another size, or of other bytes.
    pub fn find(&self, origin: &Origin) -> Result<Option<Artifact>> {
        let folder = self.folder(origin);
        let manifest = match read_manifest(&folder) {
            Ok(Some(manifest)) if manifest.key == origin.key => manifest,
            Ok(_) => return Ok(None),
            Err(e) => return Err(self.redo(e, origin.stage)),
        };
        let artifact = Artifact { folder, manifest };
        artifact.verify().map_err(|e| self.redo(e, origin.stage))?;
        Ok(Some(artifact))
    }

    /// The artifact of a stage with these settings, made of these artifacts, whatever it was made
    /// of besides. Of several it is the one that was made of what is `outside` now, or the newest.
    /// Its bytes are held to what was recorded.
    ///
    /// # Errors
    /// Those of [`Store::find`].
    pub fn recorded(&self, wanted: &Recorded<'_>) -> Result<Option<Artifact>> {
        let begin = Origin::begin_of_name(wanted.stage, wanted.part);
        let mut found = Vec::new();
        for folder in fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if !name.starts_with(&begin) || name.ends_with(".part") {
                continue;
            }
            let Some(manifest) = read_manifest(&folder).map_err(|e| self.redo(e, wanted.stage))? else { continue };
            let fits = (&*manifest.stage, &*manifest.part, manifest.version)
                == (wanted.stage, wanted.part, wanted.version)
                && manifest.settings == *wanted.settings;
            if fits && manifest.has(wanted.made) {
                found.push(Artifact { folder, manifest });
            }
        }
        newest_first(&mut found);
        if found.len() > 1
            && let Ok(outside) = (wanted.outside)()
            && let Some(at) = found.iter().position(|artifact| artifact.manifest.has(&outside))
        {
            found.swap(0, at);
        }
        let Some(artifact) = found.into_iter().next() else { return Ok(None) };
        artifact.verify().map_err(|e| self.redo(e, wanted.stage))?;
        Ok(Some(artifact))
    }

    fn redo(&self, error: Error, stage: &str) -> Error {
        redo(self.root.parent().unwrap_or(Path::new(".")), error, stage)
    }

    /// Folders of the other artifacts of its stage, finished or not, whatever their part: the
    /// newest first, as its rows are the likeliest to be wanted. A finished one that is damaged is
    /// left out.
    pub fn others(&self, origin: &Origin) -> Vec<PathBuf> {
        let (own, unfinished) = (self.folder(origin), self.unfinished(origin));
        let of_stage = |path: &PathBuf| {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            path.is_dir() && name.split(['-', '.']).next() == Some(origin.stage) && *path != own && *path != unfinished
        };
        let sound = |path: &PathBuf| match read_manifest(path) {
            Ok(Some(manifest)) => Artifact { folder: path.clone(), manifest }.verify().is_ok(),
            Ok(None) => true,
            Err(_) => false,
        };
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut folders: Vec<_> = entries.filter(of_stage).filter(sound).collect();
        folders.sort_by_cached_key(|path| {
            let changed = fs::metadata(path).and_then(|m| m.modified()).ok();
            (std::cmp::Reverse(changed), path.clone())
        });
        folders
    }

    /// The working folder of an unfinished artifact; made when absent. True when earlier work is in
    /// it.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn begin(&self, origin: &Origin) -> Result<(PathBuf, bool)> {
        let part = self.unfinished(origin);
        durable::is_own(&part)?;
        let resumed = part.is_dir();
        if resumed {
            durable::remove_torn(&part);
        }
        durable::make_folder(&part)?;
        Ok((part, resumed))
    }

    /// Records what the working folder holds and gives it its final name.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn commit(&self, origin: &Origin, seconds: f64) -> Result<Artifact> {
        let (folder, part) = (self.folder(origin), self.unfinished(origin));
        let mut files = Vec::new();
        list(&part, "", &mut files)?;
        files.retain(|f: &FileRecord| f.name != MANIFEST);
        let read = files.iter().filter(|f| !origin.notes.contains(&f.name.as_str()));
        let manifest = Manifest {
            stage: origin.stage.into(),
            part: origin.part.into(),
            key: origin.key.clone(),
            version: origin.version,
            settings: origin.settings.clone(),
            inputs: (origin.inputs.iter())
                .map(|(name, content)| InputRecord { name: (*name).into(), content: content.clone() })
                .collect(),
            content: Content::of_parts(read.map(|f| (f.name.as_str(), f.blake3.as_str()))),
            bytes: files.iter().map(|f| f.bytes).sum(),
            files,
            // So short a number is read as it was written, which the sum depends on.
            seconds: (seconds * 1e3).round() / 1e3,
            made_ms: rallrec_events::now_ms(),
            sum: Content::of_text(""),
        };
        let manifest = Manifest { sum: manifest.sum()?, ..manifest };
        let json = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::failed(MANIFEST, e))?;
        sync_below(&part, &manifest.files)?;
        durable::write(&part.join(MANIFEST), &json)?;
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|e| Error::io(&folder, "replace the folder", &e))?;
        }
        durable::rename(&part, &folder)?;
        Ok(Artifact { folder, manifest })
    }

    /// Removes a finished artifact, so that its stage runs again.
    ///
    /// # Errors
    /// A folder that cannot be removed.
    pub fn discard(&self, origin: &Origin) -> Result<()> {
        for folder in [self.folder(origin), self.unfinished(origin)] {
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(|e| Error::io(&folder, "remove the folder", &e))?;
            }
        }
        Ok(())
    }
}

/// The error with the command that makes the stage again.
pub(super) fn redo(run: &Path, error: Error, stage: &str) -> Error {
    let recipe = run.join("recipe.toml");
    let (recipe, run) = (recipe.display(), run.display());
    error.next(format!("make it again, and what follows from it: rallrec run {recipe} --out {run} --from {stage}"))
}

/// Refuses artifacts that another version of the program has laid out otherwise; a folder without
/// artifacts is fine.
///
/// # Errors
/// Artifacts without the layout's number, as the first version wrote them, or with another number.
pub fn check_format(run: &Path) -> Result<()> {
    let root = run.join("artifacts");
    let found = match durable::read(&root.join(FORMAT_FILE)) {
        Ok(text) => String::from_utf8_lossy(&text).trim().to_string(),
        Err(_) if holds_artifacts(&root) => "1".into(),
        Err(_) => return Ok(()),
    };
    if found == FORMAT.to_string() {
        return Ok(());
    }
    let what = format!("its artifacts are in layout {found}, this version of rallrec reads and writes layout {FORMAT}");
    Err(Error::input(run.display(), what).next(
        "run into another folder with --out, go on with the version of rallrec that made it, or remove its artifacts/ \
         to do every stage again",
    ))
}

/// Whether there is anything but what a killed or cut-off write of the layout's number left.
fn holds_artifacts(root: &Path) -> bool {
    let mut names = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.any(|name| !name.to_string_lossy().starts_with(".tmp"))
}

/// Flushes files of an artifact to the disk, and the folders inside that hold their names.
fn sync_below(artifact: &Path, files: &[FileRecord]) -> Result<()> {
    let mut folders = BTreeSet::new();
    for file in files {
        let path = artifact.join(&file.name);
        durable::sync_file(&path)?;
        folders.extend(path.ancestors().skip(1).take_while(|p| *p != artifact).map(Path::to_path_buf));
    }
    folders.iter().try_for_each(|folder| durable::sync_folder(folder))
}

/// All files below `folder`, by name.
fn list(folder: &Path, prefix: &str, out: &mut Vec<FileRecord>) -> Result<()> {
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, "read the folder", &e))? {
        entries.push(entry.map_err(|e| Error::io(folder, "read the folder", &e))?.path());
    }
    entries.sort();
    for path in entries {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        durable::is_own(&path)?;
        if path.is_dir() {
            list(&path, &name, out)?;
        } else {
            let bytes = fs::metadata(&path).map_err(|e| Error::io(&path, "look at the file", &e))?.len();
            out.push(FileRecord { name, bytes, blake3: hash_file(&path)? });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::key::key;

    fn origin(stage: &'static str, settings: u32) -> Origin {
        let settings = Content::of(&settings).unwrap();
        let inputs = vec![("data", Content::of(&0).unwrap())];
        let key = key(stage, "", 1, &settings, &inputs);
        Origin { stage, part: "", key, version: 1, settings, inputs, notes: &["history.json"] }
    }

    #[test]
    fn an_artifact_is_found_only_when_it_was_committed() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::open(run.path()).unwrap();
        let graph = origin("graph", 1);
        let (part, resumed) = store.begin(&graph).unwrap();
        assert!(!resumed);
        fs::write(part.join("rows"), "half").unwrap();
        fs::write(part.join(".tmpA1b2C3"), "torn").unwrap();
        assert!(store.find(&graph).unwrap().is_none());
        let (part, resumed) = store.begin(&graph).unwrap();
        assert!(resumed);
        assert_eq!(fs::read_to_string(part.join("rows")).unwrap(), "half");
        store.commit(&graph, 1.0).unwrap();
        let artifact = store.find(&graph).unwrap().unwrap();
        assert_eq!(artifact.manifest.bytes, 4);
        assert_eq!(fs::read_to_string(artifact.file("rows")).unwrap(), "half");
        store.discard(&graph).unwrap();
        assert!(store.find(&graph).unwrap().is_none());
    }

    #[test]
    fn an_artifact_says_what_it_is_made_of_and_its_content_is_what_others_read() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::open(run.path()).unwrap();
        let made = |settings: u32, rows: &str, history: &str| {
            let tune = origin("tune", settings);
            let (part, _) = store.begin(&tune).unwrap();
            fs::create_dir_all(part.join("adapter")).unwrap();
            fs::write(part.join("adapter/weights"), rows).unwrap();
            fs::write(part.join("history.json"), history).unwrap();
            store.commit(&tune, 2.0).unwrap().manifest
        };
        let one = made(1, "abc", "first");
        let names: Vec<&str> = one.files.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["adapter/weights", "history.json"]);
        assert_eq!((one.files[0].bytes, &one.files[0].blake3), (3, &blake3::hash(b"abc").to_hex().to_string()));
        assert_eq!((one.inputs[0].name.as_str(), one.bytes, one.seconds), ("data", 8, 2.0));
        let two = made(2, "abc", "second");
        assert_eq!(one.content, two.content, "a note is no part of the content");
        assert_ne!(one.key, two.key);
        assert_ne!(one.content, made(3, "abd", "first").content);
    }

    /// A cut or changed artifact went silently into other tables.
    #[test]
    fn one_bit_anywhere_in_an_artifact_is_found() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::open(run.path()).unwrap();
        let tune = origin("tune", 1);
        let (part, _) = store.begin(&tune).unwrap();
        fs::create_dir_all(part.join("adapter")).unwrap();
        fs::write(part.join("adapter/weights"), [7u8; 40]).unwrap();
        fs::write(part.join("history.json"), "[1,2]").unwrap();
        let artifact = store.commit(&tune, 1.25).unwrap();
        for file in ["adapter/weights", "history.json", MANIFEST] {
            let path = artifact.file(file);
            let sound = fs::read(&path).unwrap();
            for bit in 0..8 * sound.len() {
                let mut bytes = sound.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, &bytes).unwrap();
                let error = store.find(&tune).unwrap_err();
                assert!(error.place().contains(file) && error.next_step().contains("--from tune"), "{bit}: {error}");
            }
            fs::write(&path, &sound[..sound.len() - 1]).unwrap();
            assert!(store.find(&tune).is_err() && store.others(&origin("tune", 2)).is_empty(), "{file} cut");
            fs::write(&path, &sound).unwrap();
        }
        assert!(store.find(&tune).unwrap().is_some());
        fs::remove_file(artifact.file("history.json")).unwrap();
        assert!(store.find(&tune).is_err());
    }

    #[test]
    fn folders_of_another_layout_are_refused_with_what_to_do() {
        let run = tempfile::tempdir().unwrap();
        let artifacts = run.path().join("artifacts");
        // The first version: artifacts with a `done.json`, and no number.
        fs::create_dir_all(artifacts.join("graph-0123456789ab")).unwrap();
        fs::write(artifacts.join("graph-0123456789ab/done.json"), "{}").unwrap();
        for open in [Store::open, Store::open_finished] {
            let error = open(run.path()).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.what().contains("layout 1") && error.next_step().contains("--out"), "{error}");
        }
        fs::write(artifacts.join(FORMAT_FILE), "4\n").unwrap();
        assert!(Store::open(run.path()).unwrap_err().what().contains("layout 4"));
        fs::remove_dir_all(&artifacts).unwrap();
        // A power cut in the first moment of a run left a folder that no version had written.
        fs::create_dir(&artifacts).unwrap();
        fs::write(artifacts.join(".tmpA1b2C3"), "").unwrap();
        Store::open(run.path()).unwrap();
        Store::open(run.path()).unwrap();
        Store::open_finished(run.path()).unwrap();
    }
}
