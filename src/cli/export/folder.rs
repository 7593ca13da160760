//! What the forms of other programs share: the rows with what may be told of them, and a folder
//! that is there whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::ExportArgs;
use crate::config::Recipe;
use crate::data::{Dataset, ItemIdx, Part, Rated, Sample, Samples};
use crate::error::{Error, Result};

/// The rows of a run.
pub struct Labelled<'a> {
    pub dataset: &'a Dataset,
    pub samples: &'a Samples,
    /// Name of the recipe.
    pub name: &'a str,
    /// Most ratings of a history.
    pub most: usize,
    /// Labels of test rows are told.
    test_labels: bool,
}

impl<'a> Labelled<'a> {
    pub fn of(args: &ExportArgs, recipe: &'a Recipe, dataset: &'a Dataset, samples: &'a Samples) -> Self {
        let most = args.history.unwrap_or(recipe.retrieve.k);
        Self { dataset, samples, name: &recipe.name, most, test_labels: args.with_test_labels }
    }

    /// Whether the row's label may be told.
    pub fn tells(&self, row: usize) -> bool {
        self.test_labels || !self.samples.split.range(Part::Test).contains(&row)
    }

    /// The row's label as programs want one: 0 where it is not told.
    pub fn label(&self, row: usize) -> u8 {
        u8::from(self.tells(row) && self.samples.samples[row].label)
    }

    /// The latest ratings of the row's history, oldest first.
    pub fn history(&self, sample: &Sample) -> &'a [Rated] {
        let all = self.samples.history(sample);
        &all[all.len().saturating_sub(self.most)..]
    }

    /// The rows of a part with their numbers.
    pub fn part(&self, part: Part) -> impl Iterator<Item = (usize, &'a Sample)> {
        let samples = self.samples;
        samples.split.range(part).map(move |row| (row, &samples.samples[row]))
    }

    pub fn item(&self, item: ItemIdx) -> &'a str {
        &self.dataset.items[item.at()].raw.0
    }

    pub fn user(&self, sample: &Sample) -> &'a str {
        &self.dataset.users[sample.user.at()].raw.0
    }

    /// What a configuration says of labels that are not told.
    pub fn about_labels(&self) -> &'static str {
        if self.test_labels {
            "Labels of test rows are here: do not learn from them, and do not choose by them."
        } else {
            "Labels of test rows are not told: they are 0, so metrics of the test part mean nothing here."
        }
    }
}

fn parent_of(target: &Path) -> &Path {
    target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A folder that is being made.
pub struct Folder {
    target: PathBuf,
    made: tempfile::TempDir,
    force: bool,
}

/// Marks a folder that this program made, so that `--force` removes no other.
const MARK: &str = "rallrec.json";

impl Folder {
    pub fn new(to: &str, force: bool) -> Result<Self> {
        let target = PathBuf::from(to);
        if target.file_name().is_none() {
            return Err(Error::usage("--to", format!("`{to}` names no folder")).next("name one, e.g. dataset/ml-1m"));
        }
        if target.exists() {
            let own = target.join(MARK).is_file();
            if !(force && own) {
                let next = if own { "add --force to replace it" } else { "name a folder that is not there yet" };
                return Err(Error::usage(target.display(), "is there already").next(next));
            }
        }
        let parent = parent_of(&target);
        let failed = |e: std::io::Error| Error::io(parent, "make the folder", &e);
        std::fs::create_dir_all(parent).map_err(failed)?;
        let made = tempfile::Builder::new().prefix(".rallrec").tempdir_in(parent).map_err(failed)?;
        Ok(Self { target, made, force })
    }

    /// The folder's name, which programs take for that of the data set.
    pub fn name(&self) -> String {
        self.target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The folder that it will be in.
    pub fn parent(&self) -> &Path {
        parent_of(&self.target)
    }

    /// Where a file of it is written.
    pub fn path(&self, name: &str) -> PathBuf {
        self.made.path().join(name)
    }

    /// Writes a file line by line.
    pub fn lines(&self, name: &str, lines: impl IntoIterator<Item = String>) -> Result<u64> {
        let path = self.path(name);
        let failed = |e: std::io::Error| Error::io(&path, "write the file", &e);
        let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
        let mut count = 0;
        for line in lines {
            writeln!(file, "{line}").map_err(failed)?;
            count += 1;
        }
        file.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)?;
        Ok(count)
    }

    /// Puts the folder in its place.
    pub fn finish(self) -> Result<PathBuf> {
        let about = format!("{{\"made_by\": \"rallrec {}\"}}", env!("CARGO_PKG_VERSION"));
        self.lines(MARK, [about])?;
        let failed = |e: std::io::Error| Error::io(&self.target, "put the folder in its place", &e);
        if self.force && self.target.exists() {
            std::fs::remove_dir_all(&self.target).map_err(failed)?;
        }
        let made = self.made.keep();
        #[cfg(unix)]
        {
            // A temporary folder is its owner's alone.
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
        }
        std::fs::rename(&made, &self.target).map_err(failed)?;
        Ok(self.target)
    }
}

/// An id as one word: white space and what separates words are written as `%20`.
pub fn word(id: &str, separators: &[char]) -> String {
    let mut out = String::with_capacity(id.len());
    for c in id.chars() {
        if c == '%' || c.is_whitespace() || separators.contains(&c) {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|b| out.push_str(&format!("%{b:02X}")));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_one_word_each_and_stay_apart() {
        assert_eq!(word("0439136350", &['^']), "0439136350");
        assert_eq!(word("a b\t^%", &['^']), "a%20b%09%5E%25");
        assert_eq!(word("\u{a0}é", &[]), "%C2%A0é");
    }

    #[test]
    fn a_folder_of_somebody_else_is_not_replaced() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("own");
        let to = target.to_str().unwrap();
        Folder::new(to, false).unwrap().finish().unwrap();
        assert!(Folder::new(to, false).is_err());
        Folder::new(to, true).unwrap().finish().unwrap();
        std::fs::remove_file(target.join(MARK)).unwrap();
        assert!(Folder::new(to, true).is_err());
        drop(Folder::new(place.path().join("never").to_str().unwrap(), false).unwrap());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "what is not finished leaves nothing");
    }
}
