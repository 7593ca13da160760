//! Data sets by name, from their publishers: `rallrec data pull`. Nothing is fetched before the
//! terms are accepted, which is the caller's to ask for.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Kind, source};
use crate::download::{self, Expected, Fetched};
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::settings::nearest;

/// Where GroupLens publishes.
pub(super) const GROUPLENS: &str = "https://files.grouplens.org/datasets/movielens";

/// Who publishes MovieLens.
pub(super) static MOVIELENS: Publisher = Publisher {
    name: "GroupLens, University of Minnesota",
    terms: "For research only. No redistribution and no commercial use without the publisher's permission; no claim that the \
            University of Minnesota endorses you; publications must acknowledge the data set.",
    cite: "Harper and Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015, doi 10.1145/2827872",
    page: "https://grouplens.org/datasets/movielens/",
};

/// Who publishes a data set, and on what terms.
#[derive(Debug)]
pub struct Publisher {
    /// The name.
    pub name: &'static str,
    /// The terms to be accepted.
    pub terms: &'static str,
    /// Who is to be acknowledged.
    pub cite: &'static str,
    /// The page about it.
    pub page: &'static str,
}

/// Where a data set is published. A file whose path has `{category}` is asked for by
/// `NAME:CATEGORY`.
#[derive(Debug)]
pub struct Remote {
    /// The name to fetch it by.
    pub name: &'static str,
    /// What stands before each path.
    pub base: &'static str,
    /// Its files.
    pub files: &'static [RemoteFile],
    /// Who publishes it.
    pub publisher: &'static Publisher,
}

/// One file at its publisher.
#[derive(Debug)]
pub struct RemoteFile {
    /// Behind the base.
    pub path: &'static str,
    /// The MD5 that the publisher states for it.
    pub md5: Option<&'static str>,
}

impl Remote {
    fn by_category(&self) -> bool {
        self.files.iter().any(|f| f.path.contains(CATEGORY))
    }
}

const CATEGORY: &str = "{category}";

/// A data set that can be fetched.
#[derive(Debug, Clone)]
pub struct Wanted {
    name: String,
    kind: Kind,
    publisher: &'static Publisher,
    base: String,
    /// Path behind the base, and MD5.
    files: Vec<(String, Option<&'static str>)>,
}

/// What [`pull`] did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pulled {
    /// `data.kind` for a recipe.
    pub kind: Kind,
    /// `data.path` for a recipe.
    pub path: PathBuf,
    /// The files.
    pub files: Vec<Fetched>,
    /// What the checks were.
    pub checked: String,
    /// Who is to be acknowledged.
    pub cite: String,
}

fn published() -> impl Iterator<Item = (Kind, &'static Remote)> {
    Kind::all().filter_map(|kind| Some((kind, kind.set().remote.as_ref()?)))
}

fn known() -> Vec<String> {
    let shown = |remote: &Remote| match remote.by_category() {
        true => format!("{}:CATEGORY", remote.name),
        false => remote.name.to_owned(),
    };
    published().map(|(_, remote)| shown(remote)).collect()
}

/// The names to fetch by, for the help.
pub fn names() -> String {
    format!("One of {}, e.g. amazon-2023:Movies_and_TV", known().join(", "))
}

/// The data set of that name, or `NAME:CATEGORY`.
///
/// # Errors
/// There is none; names those that there are.
pub fn find(name: &str) -> Result<Wanted> {
    let (start, category) = name.split_once(':').map_or((name, None), |(start, category)| (start, Some(category)));
    let found = published().find(|(_, remote)| remote.name == start && remote.by_category() == category.is_some());
    let Some((kind, remote)) = found else {
        let known = known();
        let near = nearest(name, known.iter().map(String::as_str));
        return Err(Error::usage("data pull", format!("there is no data set `{name}` to fetch")).next(format!(
            "use one of {}{}",
            known.join(", "),
            near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default()
        )));
    };
    if let Some(category) = category
        && (category.is_empty() || !category.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
    {
        return Err(Error::usage("data pull", format!("`{category}` is not the name of a category")).next(
            "use one of the publisher's names, e.g. amazon-2023:Movies_and_TV or amazon-2023:Subscription_Boxes",
        ));
    }
    let files = remote.files.iter().map(|f| (f.path.replace(CATEGORY, category.unwrap_or_default()), f.md5)).collect();
    Ok(Wanted { name: name.to_owned(), kind, publisher: remote.publisher, base: remote.base.to_owned(), files })
}

impl Wanted {
    /// The terms to be accepted, for people.
    pub fn terms(&self) -> String {
        format!(
            "{}\n  from      {}\n  publisher {}\n  terms     {}\n  cite      {}\n  more at   {}\n",
            self.name,
            self.urls().join(", "),
            self.publisher.name,
            self.publisher.terms,
            self.publisher.cite,
            self.publisher.page
        )
    }

    /// A name for its folder.
    pub fn folder(&self) -> String {
        self.name.replace(':', "-")
    }

    /// Where it comes from.
    pub fn urls(&self) -> Vec<String> {
        self.files.iter().map(|(path, _)| format!("{}/{path}", self.base)).collect()
    }

    /// From a mirror with the publisher's layout.
    #[must_use]
    pub fn from(mut self, base: &str) -> Self {
        base.trim_end_matches('/').clone_into(&mut self.base);
        self
    }
}

/// Fetches the files into `folder` and checks them: MD5 where it is known, the checksums inside the
/// zip and gzip files always.
///
/// # Errors
/// No network, a damaged or another file. What was fetched so far stays; the same call goes on with
/// it.
pub fn pull(wanted: &Wanted, folder: &Path, monitor: &dyn Monitor) -> Result<Pulled> {
    let mut files = Vec::new();
    for ((path, md5), url) in wanted.files.iter().zip(wanted.urls()) {
        let name = path.rsplit('/').next().unwrap_or(path);
        let expected = Expected { bytes: None, md5: md5.map(str::to_owned) };
        match download::fetch(&url, &folder.join(name), &expected, monitor) {
            Ok(fetched) => files.push(fetched),
            Err(e) => {
                return Err(e.clone().next(format!(
                    "{}; or put {name} into {} by hand, from {}",
                    e.next_step(),
                    folder.display(),
                    wanted.publisher.page
                )));
            }
        }
    }
    let path = match files.as_slice() {
        [only] if source::is_folder(&only.path) => only.path.clone(),
        _ => folder.to_owned(),
    };
    for file in &files {
        verify(&file.path, monitor).map_err(|e| e.next(format!("remove {} and pull again", file.path.display())))?;
    }
    let known = wanted.files.iter().all(|(_, md5)| md5.is_some());
    let checked = if known {
        "size, MD5 as known, and the checksum of every file in the archive"
    } else {
        "size and the checksum inside the gzip files; the publisher states no hash, so the MD5 shown is of what came"
    };
    Ok(Pulled { kind: wanted.kind, path, files, checked: checked.into(), cite: wanted.publisher.cite.into() })
}

/// Unpacks everything once, which compares the archive's checksums.
fn verify(path: &Path, monitor: &dyn Monitor) -> Result<()> {
    let inside = if source::is_folder(path) {
        source::names(path)?.iter().map(|name| path.join(name)).collect()
    } else {
        vec![path.to_owned()]
    };
    for file in inside {
        let (mut reader, meter) = source::open(&file)?;
        loop {
            let count = match reader.fill_buf() {
                Ok([]) => break,
                Ok(chunk) => chunk.len(),
                Err(e) => return Err(super::lines::read_error(&file, file.display(), &e)),
            };
            reader.consume(count);
            meter.report(monitor)?;
        }
    }
    Ok(())
}
