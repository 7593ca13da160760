//! Data sets that this program knows by name: told by their files and by the first rows of them.

use std::path::Path;

use super::tables;
use crate::data::{DataSettings, Kind, source};

/// What tells a kind: one of these files holds columns of all these names. Without names, the files
/// tell enough.
struct Sign {
    kind: Kind,
    files: &'static [&'static str],
    columns: &'static [&'static str],
}

const fn sign(kind: Kind, files: &'static [&'static str], columns: &'static [&'static str]) -> Sign {
    Sign { kind, files, columns }
}

/// In this order: what is more special stands first.
static SIGNS: [Sign; 9] = [
    sign(Kind::ML_1M, &["users.dat"], &[]),
    sign(Kind::ML_10M, &["ratings.dat"], &[]),
    sign(Kind::ML_100K, &["u.data"], &[]),
    sign(Kind::ML_25M, &["ratings.csv", "rating.csv"], &["userid", "movieid", "rating", "timestamp"]),
    sign(Kind::BOOK_CROSSING, &["BX-Book-Ratings.csv", "Ratings.csv"], &["user-id", "isbn", "book-rating"]),
    sign(Kind::GOODBOOKS, &["ratings.csv"], &["user_id", "book_id", "rating"]),
    sign(Kind::AMAZON, &[], &["reviewerid", "asin", "overall"]),
    sign(Kind::AMAZON_2023, &[], &["user_id", "parent_asin", "rating", "timestamp"]),
    sign(Kind::LIGHTGCN, &["train.txt"], &[]),
];

/// The kind of the data set in a folder or zip file, or of the one that a file belongs to.
pub fn of(folder: &Path, file: Option<&str>) -> Option<Kind> {
    SIGNS.iter().find(|sign| fits(sign, folder, file)).map(|sign| sign.kind)
}

fn fits(sign: &Sign, folder: &Path, file: Option<&str>) -> bool {
    let set = sign.kind.set();
    let settings = DataSettings::new(sign.kind, folder);
    if (set.ready)(set, &settings).is_err() {
        return false;
    }
    let own = |name: &str| sign.files.iter().any(|own| bare(name) == own.to_lowercase());
    let of_set =
        |name: &str| set.files.iter().any(|names| names.split('|').any(|own| bare(name) == own.to_lowercase()));
    // A file alone stands for its folder where it belongs to the set.
    if file.is_some_and(|name| !sign.files.is_empty() && !own(name) && !of_set(name)) {
        return false;
    }
    let names = source::names(folder).unwrap_or_default();
    let last = |name: &String| name.rsplit('/').next().unwrap_or(name).to_owned();
    let told: Vec<&String> = match (sign.files.is_empty(), file) {
        (false, _) => names.iter().filter(|name| own(&last(name))).collect(),
        (true, Some(file)) => names.iter().filter(|name| *name == file).collect(),
        (true, None) => names.iter().take(6).collect(),
    };
    let all = |columns: &[String]| sign.columns.iter().all(|wanted| columns.iter().any(|column| column == wanted));
    !told.is_empty() && (sign.columns.is_empty() || told.iter().any(|name| all(&tables::names_of(folder, name))))
}

/// A name in lower case without what compression adds to it.
fn bare(name: &str) -> String {
    let lower = name.to_lowercase();
    let ends = [".gz", ".zst", ".bz2", ".xz", ".lz4"];
    ends.iter().find_map(|end| lower.strip_suffix(end)).unwrap_or(&lower).to_owned()
}
