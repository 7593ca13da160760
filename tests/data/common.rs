use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use flate2::Compression;
use flate2::write::GzEncoder;
use rallrec::data::{self, DataSettings, Dataset, Kind};
use rallrec::events::Event;
use rallrec::{Error, Monitor};
use tempfile::TempDir;

/// A folder of the real data; `None`, with a line that says so, when it is not there.
pub fn real(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if path.is_dir() {
        return Some(path);
    }
    crate::skip::skip(&format!("file {}", path.display()), format!("{} is not there", path.display()));
    None
}

/// A folder with these files.
pub fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().expect("folder");
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).expect("writes");
    }
    dir
}

pub fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::default());
    writer.write_all(bytes).expect("packs");
    writer.finish().expect("packs")
}

/// A zip file with these entries, deflated.
pub fn zipped(path: &Path, files: &[(&str, &[u8])]) {
    let mut writer = zip::ZipWriter::new(fs::File::create(path).expect("creates"));
    for (name, bytes) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("starts");
        writer.write_all(bytes).expect("writes");
    }
    writer.finish().expect("finishes");
}

pub fn load(kind: Kind, dir: &Path) -> rallrec::Result<Dataset> {
    data::load(kind, dir, &rallrec::Silent)
}

pub fn open(settings: &DataSettings) -> rallrec::Result<Dataset> {
    data::open(settings, &rallrec::Silent)
}

#[track_caller]
pub fn refuse(result: rallrec::Result<impl Sized>, place: &str, what: &str) -> Error {
    let Err(error) = result else { panic!("accepted; expected an error with `{what}`") };
    assert!(error.place().ends_with(place), "place of: {error}");
    assert!(error.what().contains(what), "what of: {error}");
    assert!(!error.next_step().is_empty(), "no next step: {error}");
    error
}

/// Keeps warnings.
#[derive(Default)]
pub struct Listener(pub Mutex<Vec<String>>);

impl Listener {
    pub fn heard(self) -> Vec<String> {
        self.0.into_inner().expect("lock")
    }
}

impl Monitor for Listener {
    fn emit(&self, event: Event) {
        if let Event::Warning { what, next, .. } = event {
            assert!(!next.is_empty());
            self.0.lock().expect("lock").push(what);
        }
    }
    fn progress(&self, done: u64, total: u64, _: &str) {
        assert!(done <= total, "{done} of {total}");
    }
    fn stop_requested(&self) -> bool {
        false
    }
    fn stage(&self) -> &str {
        "test"
    }
}

/// (user, item, rating, time) of every interaction, by the ids of the files.
pub fn rows(dataset: &Dataset) -> Vec<(String, String, f32, i64)> {
    let row = |r: &data::Interaction| {
        (dataset.users[r.user.at()].raw.0.clone(), dataset.items[r.item.at()].raw.0.clone(), r.rating, r.time)
    };
    dataset.interactions.iter().map(row).collect()
}
