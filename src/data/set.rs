//! What is known of a data set, as one value: code asks the value and never the name.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::method::{REPEATS, Switch};
use super::pull::Remote;
use super::sets::{self, Nature};
use super::{DataSettings, Dataset, source};
use crate::content::Content;
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::settings::nearest;

/// A data set that this program reads, or a form of data sets.
pub struct DataSet {
    /// Its name in recipes and on the command line.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// What it is and its files, in one line.
    pub about: &'static str,
    /// The files it needs, each plain or compressed; `|` stands between the names that one may
    /// have.
    pub files: &'static [&'static str],
    /// What an item is called in prompts; see [`super::nouns`].
    pub noun: &'static str,
    /// Smallest and largest rating.
    pub scale: (f32, f32),
    /// A rating above this is a like.
    pub threshold: f32,
    /// Whether ratings have times.
    pub has_times: bool,
    /// A rating of 0 means "seen, not rated".
    pub zero_is_unrated: bool,
    /// Items are numbers without titles, and the split comes with the data: only the graph stages
    /// make sense.
    pub graph_only: bool,
    /// Brings descriptions of its own.
    pub described: bool,
    /// Raw item ids count the rows of the catalogue from 1, so that the authors' defect D1 can be.
    pub ids_are_rows: bool,
    /// The authors' graph.
    pub leave_one_out: LeaveOneOut,
    /// The authors' filters and samples, defects apart; the settings as they are where the authors
    /// have none.
    pub method: fn(DataSettings) -> DataSettings,
    /// What leads from correct to faithful, in this order.
    pub switches: &'static [Switch],
    /// Where it is published, for `rallrec data pull`.
    pub remote: Option<Remote>,
    /// Refuses a folder that lacks one of the files.
    pub ready: fn(&DataSet, &DataSettings) -> Result<()>,
    /// The files that are read, of those that are there.
    pub reads: fn(&DataSet, &DataSettings) -> Result<Vec<PathBuf>>,
    /// Reads what the settings name.
    pub load: fn(&DataSet, &DataSettings, &dyn Monitor) -> Result<Dataset>,
}

/// Which interactions the authors' notebooks hold out of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaveOneOut {
    /// Only users with more interactions than this have edges.
    pub more_than: usize,
    /// A user's last interaction is held out when its item occurs at least this often in the data.
    pub often: u32,
}

impl DataSet {
    /// What most data sets have in common.
    pub const PLAIN: Self = Self {
        name: "",
        aliases: &[],
        about: "",
        files: &[],
        noun: "item",
        scale: (1.0, 5.0),
        threshold: 3.0,
        has_times: true,
        zero_is_unrated: false,
        graph_only: false,
        described: false,
        ids_are_rows: false,
        leave_one_out: LeaveOneOut { more_than: 5, often: 2 },
        method: |settings| settings,
        switches: &[REPEATS],
        remote: None,
        ready: |set, settings| set.require(&settings.path),
        reads: |set, settings| Ok(set.found(&settings.path)),
        load: |set, _, _| Err(Error::failed(set.name, "cannot be read")),
    };

    /// The data set with this name, as a [`Dataset`] has it.
    pub fn named(name: &str) -> Option<&'static Self> {
        sets::ALL.iter().copied().find(|set| set.name == name || set.aliases.contains(&name))
    }

    /// Those of its files that are there.
    fn found(&self, folder: &Path) -> Vec<PathBuf> {
        let all = self.files.iter().map(|names| source::locate_any(folder, &names.split('|').collect::<Vec<_>>()));
        all.filter(|file| source::exists(file)).collect()
    }

    /// What is known of the raw data: the bytes of the files that are read. What else lies in the
    /// folder, and when a file was touched, is no part of it.
    ///
    /// # Errors
    /// A file that is not there or cannot be read.
    pub fn content(&self, settings: &DataSettings) -> Result<Content> {
        (self.ready)(self, settings)?;
        let mut files: Vec<(String, PathBuf)> = Vec::new();
        for file in (self.reads)(self, settings)? {
            // An entry of a zip file is known by the whole of it.
            let file = source::on_disk(&file);
            let name = file.strip_prefix(&settings.path).ok().filter(|name| !name.as_os_str().is_empty());
            let name = name.map(|name| name.display().to_string()).unwrap_or_default();
            if !files.iter().any(|(_, known)| *known == file) {
                files.push((name, file));
            }
        }
        files.sort();
        let contents = files.iter().map(|(_, file)| Content::of_path(file)).collect::<Result<Vec<_>>>()?;
        Ok(Content::of_parts(files.iter().zip(&contents).map(|((name, _), content)| (name.as_str(), content.as_str()))))
    }

    /// Refuses a folder that lacks one of the files, naming all that are missing.
    pub(super) fn require(&self, folder: &Path) -> Result<()> {
        if !source::is_folder(folder) {
            return Err(Error::input(folder.display(), "is neither a folder nor a zip file")
                .next(format!("give the folder or the zip file that holds {}", self.files.join(", "))));
        }
        let first = |names: &&'static str| names.split('|').next().unwrap_or_default();
        let files: Vec<&str> = self.files.iter().map(first).collect();
        let mut missing = Vec::new();
        for names in self.files {
            let names: Vec<&str> = names.split('|').collect();
            let found = source::locate_any(folder, &names);
            if !source::exists(&found) {
                missing.push(names[0]);
            }
            let same = names.iter().map(|name| source::same_named(folder, name)).find(|same| !same.is_empty());
            if let Some(same) = same.filter(|same| same.len() > 1) {
                return Err(Error::input(
                    folder.display(),
                    format!("holds several files of this name: {}", same.join(", ")),
                )
                .next("set data.path to the folder inside, e.g. archive.zip/folder, or unpack the archive"));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::input(folder.display(), format!("{} is missing for {}", missing.join(", "), self.name))
            .next(format!("unpack the data set here: {} (plain or compressed)", files.join(", "))))
    }

    /// What a loaded table takes from here.
    pub(super) fn nature(&self) -> Nature<'_> {
        Nature { name: self.name, noun: self.noun, scale: self.scale, has_times: self.has_times }
    }
}

/// A data set, as a recipe and the command line name it.
#[derive(Clone, Copy)]
pub struct Kind(pub(super) &'static DataSet);

impl Kind {
    /// All kinds, in the order of the help text.
    pub fn all() -> impl Iterator<Item = Self> {
        sets::ALL.iter().copied().map(Self)
    }

    /// What is known of it.
    pub fn set(self) -> &'static DataSet {
        self.0
    }

    /// The name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// All names, with a comma between them.
    pub fn names() -> String {
        Self::all().map(Self::name).collect::<Vec<_>>().join(", ")
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Kind {}

impl Default for Kind {
    fn default() -> Self {
        Self::SYNTHETIC
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        DataSet::named(name).map(Self).ok_or_else(|| {
            if crate::database::is_postgres(name) {
                return Error::usage(name, "is a database and no data set kind")
                    .next("`rallrec init ADDRESS`, without a password, writes a recipe that reads it");
            }
            let near = nearest(name, sets::ALL.iter().map(|s| s.name));
            Error::usage("data kind", format!("there is no data set kind `{name}`")).next(format!(
                "use one of {}{}",
                Self::names(),
                near.map(|k| format!("; did you mean `{k}`?")).unwrap_or_default()
            ))
        })
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Kind {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DataSetKind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> =
            sets::ALL.iter().flat_map(|s| std::iter::once(s.name).chain(s.aliases.iter().copied())).collect();
        json_schema!({ "type": "string", "enum": names })
    }
}
