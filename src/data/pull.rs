//! Data sets by name, from their publishers: `rallrec data pull`. Nothing is fetched before the terms are accepted, which
//! is the caller's to ask for.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Kind, source};
use crate::download::{self, Expected, Fetched};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

const GROUPLENS: &str = "https://files.grouplens.org/datasets/movielens";
const FREIBURG: &str = "http://www2.informatik.uni-freiburg.de/~cziegler/BX";
const UCSD: &str = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw";

const MOVIELENS_TERMS: &str = "For research only. No redistribution and no commercial use without the publisher's permission; no claim that the \
     University of Minnesota endorses you; publications must acknowledge the data set.";
const MOVIELENS_CITE: &str =
    "Harper and Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015, doi 10.1145/2827872";

/// A data set that can be fetched.
#[derive(Debug, Clone)]
pub struct Wanted {
    name: String,
    kind: Kind,
    publisher: &'static str,
    terms: &'static str,
    cite: &'static str,
    page: &'static str,
    base: String,
    files: Vec<Remote>,
}

/// One file at its publisher.
#[derive(Debug, Clone)]
struct Remote {
    /// Behind the base.
    path: String,
    /// The MD5 that the publisher states for it.
    md5: Option<&'static str>,
    /// The set can do without.
    optional: bool,
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

/// The data set of that name.
///
/// # Errors
/// There is none; names those that there are.
pub fn find(name: &str) -> Result<Wanted> {
    let zip = |kind, base: &str, file: &str, md5| {
        (kind, base.to_owned(), vec![Remote { path: file.into(), md5: Some(md5), optional: false }])
    };
    let (kind, base, files) = match name {
        "ml-1m" => zip(Kind::MovieLens1m, GROUPLENS, "ml-1m.zip", "c4d9eecfca2ab87c1945afe126590906"),
        "ml-100k" => zip(Kind::MovieLens100k, GROUPLENS, "ml-100k.zip", "0e33842e24a9c977be4e0107933c0723"),
        "ml-32m" => zip(Kind::MovieLensCsv, GROUPLENS, "ml-32m.zip", "d472be332d4daa821edc399621853b57"),
        "book-crossing" => zip(Kind::BookCrossing, FREIBURG, "BX-CSV-Dump.zip", "37d647ee9e18ba134ea6d78ee4fe5292"),
        _ => match name.strip_prefix("amazon-2023:") {
            Some(category) => (Kind::Amazon2023, UCSD.to_owned(), amazon(category)?),
            None => {
                let known = ["ml-1m", "ml-100k", "ml-32m", "book-crossing", "amazon-2023:CATEGORY"];
                let near = known.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
                return Err(Error::usage("data pull", format!("there is no data set `{name}` to fetch")).next(
                    format!(
                        "use one of {}{}",
                        known.join(", "),
                        near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default()
                    ),
                ));
            }
        },
    };
    let (publisher, terms, cite, page) = match kind {
        Kind::BookCrossing => (
            "Cai-Nicolas Ziegler, University of Freiburg",
            "Freely available for research when the paper below is acknowledged.",
            "Ziegler, McNee, Konstan, Lausen, Improving Recommendation Lists Through Topic Diversification, WWW 2005",
            "http://www2.informatik.uni-freiburg.de/~cziegler/BX/",
        ),
        Kind::Amazon2023 => (
            "McAuley Lab, University of California San Diego",
            "The publisher states no licence; the reviews are other people's. Citing the paper below is asked for.",
            "Hou et al., Bridging Language and Items for Retrieval and Recommendation, 2024, arXiv 2403.03952",
            "https://amazon-reviews-2023.github.io/",
        ),
        _ => (
            "GroupLens, University of Minnesota",
            MOVIELENS_TERMS,
            MOVIELENS_CITE,
            "https://grouplens.org/datasets/movielens/",
        ),
    };
    Ok(Wanted { name: name.to_owned(), kind, publisher, terms, cite, page, base, files })
}

fn amazon(category: &str) -> Result<Vec<Remote>> {
    if category.is_empty() || !category.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Error::usage("data pull", format!("`{category}` is not the name of a category")).next(
            "use one of the publisher's names, e.g. amazon-2023:Movies_and_TV or amazon-2023:Subscription_Boxes",
        ));
    }
    let file = |path: String, optional| Remote { path, md5: None, optional };
    Ok(vec![
        file(format!("review_categories/{category}.jsonl.gz"), false),
        file(format!("meta_categories/meta_{category}.jsonl.gz"), false),
    ])
}

impl Wanted {
    /// The terms to be accepted, for people.
    pub fn terms(&self) -> String {
        format!(
            "{}\n  from      {}\n  publisher {}\n  terms     {}\n  cite      {}\n  more at   {}\n",
            self.name,
            self.urls().join(", "),
            self.publisher,
            self.terms,
            self.cite,
            self.page
        )
    }

    /// A name for its folder.
    pub fn folder(&self) -> String {
        self.name.replace(':', "-")
    }

    /// Where it comes from.
    pub fn urls(&self) -> Vec<String> {
        self.files.iter().map(|f| format!("{}/{}", self.base, f.path)).collect()
    }

    /// From a mirror with the publisher's layout.
    #[must_use]
    pub fn from(mut self, base: &str) -> Self {
        base.trim_end_matches('/').clone_into(&mut self.base);
        self
    }
}

/// Fetches the files into `folder` and checks them: MD5 where it is known, the checksums inside the zip and gzip files always.
///
/// # Errors
/// No network, a damaged or another file. What was fetched so far stays; the same call goes on with it.
pub fn pull(wanted: &Wanted, folder: &Path, monitor: &dyn Monitor) -> Result<Pulled> {
    let mut files = Vec::new();
    for (remote, url) in wanted.files.iter().zip(wanted.urls()) {
        let name = remote.path.rsplit('/').next().unwrap_or(&remote.path);
        let expected = Expected { bytes: None, md5: remote.md5.map(str::to_owned) };
        match download::fetch(&url, &folder.join(name), &expected, monitor) {
            Ok(fetched) => files.push(fetched),
            Err(e) if remote.optional && e.kind() != crate::error::Kind::Stopped => {
                monitor.warn(&format!("{e}"), "the set can do without this file");
            }
            Err(e) => {
                return Err(e.clone().next(format!(
                    "{}; or put {name} into {} by hand, from {}",
                    e.next_step(),
                    folder.display(),
                    wanted.page
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
    let known = wanted.files.iter().all(|f| f.md5.is_some());
    let checked = if known {
        "size, MD5 as known, and the checksum of every file in the archive"
    } else {
        "size and the checksum inside the gzip files; the publisher states no hash, so the MD5 shown is of what came"
    };
    Ok(Pulled { kind: wanted.kind, path, files, checked: checked.into(), cite: wanted.cite.into() })
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
