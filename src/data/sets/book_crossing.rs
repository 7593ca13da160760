//! Book-Crossing: `BX-Book-Ratings.csv`, `BX-Users.csv`, `BX-Books.csv` with `;` between fields,
//! every field quoted, an inner quote written `\"`, cp1252. There are no times. Some rows of the
//! published files are damaged: they are left out and counted. Users and books that nobody rated or
//! that rated nothing are not kept; rated books need not be in the table of books.

use std::path::Path;

use super::fields::{self, known, shown, text, unescaped, unsigned};
use super::{About, LeftOut, Log, Names};
use crate::data::delimited::{Dialect, Separator, Splitter};
use crate::data::lines::Lines;
use crate::data::method::{BOUNDS, NO_VALIDATION, PYTHON, REPEATS};
use crate::data::pull::{Publisher, Remote, RemoteFile};
use crate::data::set::{DataSet, LeaveOneOut};
use crate::data::source::locate_any;
use crate::data::{Core, DataSettings, Dataset, Field, Known};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

const DIALECT: Dialect =
    Dialect { separator: Separator::One(b';'), quote: Some(b'"'), escape: Some(b'\\'), comment: None };

/// The names of the files: as published, with lines below, and as copies on Kaggle have them.
const RATINGS: &str = "BX-Book-Ratings.csv|BX_Book_Ratings.csv|Book-Ratings.csv|Ratings.csv|ratings.csv";
const USERS: &str = "BX-Users.csv|BX_Users.csv|Users.csv|users.csv";
const BOOKS: &str = "BX-Books.csv|BX_Books.csv|Books.csv|books.csv";

/// The data set.
pub static SET: DataSet = DataSet {
    name: "book-crossing",
    about: "Book-Crossing: BX-Book-Ratings.csv, BX-Users.csv, BX-Books.csv",
    files: &[RATINGS, USERS, BOOKS],
    noun: "book",
    scale: (0.0, 10.0),
    // 5 of 10 is a like.
    threshold: 4.0,
    has_times: false,
    zero_is_unrated: true,
    leave_one_out: LeaveOneOut { more_than: 5, often: 5 },
    // The bounds choose the items; all their ratings come back, of users with at least 5.
    method: |settings| DataSettings {
        core: Core { known: Known::Title, known_after: true, items_only: true, last_user_min: 5, ..BOUNDS },
        min_history: 4,
        ..settings
    },
    switches: &[REPEATS, PYTHON, NO_VALIDATION],
    remote: Some(Remote {
        name: "book-crossing",
        base: "http://www2.informatik.uni-freiburg.de/~cziegler/BX",
        files: &[RemoteFile { path: "BX-CSV-Dump.zip", md5: Some("37d647ee9e18ba134ea6d78ee4fe5292") }],
        publisher: &Publisher {
            name: "Cai-Nicolas Ziegler, University of Freiburg",
            terms: "Freely available for research when the paper below is acknowledged.",
            cite: "Ziegler, McNee, Konstan, Lausen, Improving Recommendation Lists Through Topic Diversification, WWW 2005",
            page: "http://www2.informatik.uni-freiburg.de/~cziegler/BX/",
        },
    }),
    load,
    ..DataSet::PLAIN
};

fn load(set: &DataSet, settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    set.require(&settings.path)?;
    let locate = |names: &str| locate_any(&settings.path, &names.split('|').collect::<Vec<_>>());
    let file = locate(RATINGS);
    let mut log = Log::default();
    rows(&file, settings, ["user-id", "isbn", "book-rating"], monitor, |lines, row| {
        let row = |at: usize| row[at];
        let user = fields::id(row(0));
        if unsigned(user).is_none() {
            return Err(lines
                .error(format!("the user id {} is not a number", shown(user)))
                .next("check the order of the columns: User-ID, ISBN, Book-Rating"));
        }
        log.add(lines, user, row(1), fields::rating(lines, row(2), set.scale)?, 0)
    })?;
    let users = users(&locate(USERS), settings, &log.users, monitor)?;
    let books = books(&locate(BOOKS), settings, &log.items, monitor)?;
    log.finish(&set.nature(), books, users, &file, monitor)
}

/// Every sound row of a file whose first line names `columns`, the first two of them at least, as
/// its fields in this order; damaged rows, and those that `take` refuses, are counted. Rows are
/// lines: a quote that never closes damages its own row and no other.
fn rows<const N: usize>(
    path: &Path,
    settings: &DataSettings,
    columns: [&str; N],
    monitor: &dyn Monitor,
    mut take: impl FnMut(&Lines, [&[u8]; N]) -> Result<()>,
) -> Result<()> {
    let mut lines = Lines::open(path)?;
    let there = lines.advance()?;
    // Copies on Kaggle have commas, and quotes inside of a field twice.
    let original = memchr::memchr(b';', lines.line()).is_some();
    let mut row = Splitter::new(if original { DIALECT } else { Dialect::CSV });
    let header = there && row.split(lines.line());
    let names: Vec<String> = row.fields().iter().map(|f| text(f).to_lowercase().replace('_', "-")).collect();
    let places = columns.map(|wanted| names.iter().position(|name| name == wanted).unwrap_or(usize::MAX));
    if !header || places[..2].contains(&usize::MAX) {
        return Err(Error::input(
            format!("{}:1", path.display()),
            format!("does not begin with the columns {}", columns.join("; ")),
        )
        .next(
            "this reader takes the original file with `;` between fields, and the copies with commas; for another form use \
             data.kind = \"table\"",
        ));
    }
    let mut left_out = LeftOut::new(settings, true);
    while lines.advance()? {
        let closed = row.split(lines.line());
        let row = row.fields();
        let taken = if !closed || row.len() != names.len() {
            let what = if closed {
                format!("{} fields instead of {}: {}", row.len(), names.len(), shown(lines.line()))
            } else {
                format!("a quote never closes: {}", shown(lines.line()))
            };
            Err(lines.error(what).next("compare the line with the original; damaged rows are left out"))
        } else {
            take(&lines, places.map(|at| row.get(at)))
        };
        left_out.take(taken)?;
        if lines.number().is_multiple_of(65_536) {
            lines.report(monitor)?;
        }
    }
    left_out.tell(path, monitor)
}

fn users(path: &Path, settings: &DataSettings, rated: &Names, monitor: &dyn Monitor) -> Result<Vec<Vec<Field>>> {
    let mut users = vec![Vec::new(); rated.len()];
    rows(path, settings, ["user-id", "location", "age"], monitor, |_, row| {
        if let Some(at) = rated.get(fields::id(row[0])) {
            let country = country(&text(row[1]));
            let age = unsigned(fields::id(row[2])).and_then(bracket);
            let fields = [known("country", &country), known("age", age.unwrap_or_default())];
            users[at as usize] = fields.into_iter().flatten().collect();
        }
        Ok(())
    })?;
    Ok(users)
}

fn books(path: &Path, settings: &DataSettings, rated: &Names, monitor: &dyn Monitor) -> Result<Vec<About>> {
    let mut books = vec![About::default(); rated.len()];
    let columns = ["isbn", "book-title", "book-author", "year-of-publication", "publisher"];
    rows(path, settings, columns, monitor, |_, row| {
        if let Some(at) = rated.get(fields::id(row[0])) {
            let field = |column| unescaped(&text(row[column]));
            let year = field(3);
            let year = if year.len() == 4 && year != "0000" { year } else { String::new() };
            let fields = [
                known("isbn", &field(0)),
                known("author", &field(2)),
                known("year", &year),
                known("publisher", &field(4)),
            ];
            books[at as usize] =
                About { title: field(1), genres: Vec::new(), fields: fields.into_iter().flatten().collect() };
        }
        Ok(())
    })?;
    Ok(books)
}

/// The ten brackets of age; outside of 5 to 100 nothing is believed.
fn bracket(age: u64) -> Option<&'static str> {
    Some(match age {
        5..10 => "5-9",
        10..20 => "10-19",
        20..30 => "20-29",
        30..40 => "30-39",
        40..50 => "40-49",
        50..60 => "50-59",
        60..70 => "60-69",
        70..80 => "70-79",
        80..90 => "80-89",
        90..=100 => "90-100",
        _ => return None,
    })
}

/// The country at the end of a location; empty where there is none.
fn country(location: &str) -> String {
    let last =
        location.rsplit(',').map(|part| part.trim_matches([' ', '.', '"', '\\', '*'])).find(|part| !part.is_empty());
    let last = last.unwrap_or_default().to_lowercase();
    let name = match last.as_str() {
        "us" | "u.s.a" | "u.s" | "united states" | "united states of america" | "america" | "california" | "texas" => {
            "usa"
        }
        "uk" | "u.k" | "england" | "scotland" | "wales" | "great britain" | "northern ireland" => "united kingdom",
        "españa" | "espana" | "espa?a" | "españa\"" => "spain",
        "deutschland" => "germany",
        "österreich" => "austria",
        "italia" => "italy",
        "brasil" => "brazil",
        "holland" | "the netherlands" | "nederland" => "netherlands",
        "méxico" => "mexico",
        "schweiz" | "suisse" => "switzerland",
        "viet nam" => "vietnam",
        "n/a" | "na" | "none" | "unknown" | "far away" | "universe" | "earth" | "-" => "",
        other if other.chars().any(|c| c.is_ascii_digit()) => "",
        other => other,
    };
    if name == "usa" {
        return "USA".into();
    }
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|c| c.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    name.split_whitespace().map(capital).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_ends_with_its_country() {
        for (location, want) in [
            ("nyc, new york, usa", "USA"),
            ("leeds, england, united kingdom", "United Kingdom"),
            ("london, england, ", "United Kingdom"),
            ("somewhere, n/a, n/a", ""),
            ("barcelona, catalunya, españa", "Spain"),
            ("", ""),
            (",,", ""),
            ("x, y, 12345", ""),
            ("dublin, ireland, \"ireland\"", "Ireland"),
        ] {
            assert_eq!(country(location), want, "{location}");
        }
    }

    #[test]
    fn ages_outside_of_five_to_a_hundred_are_unknown() {
        assert_eq!(
            [4, 5, 9, 10, 89, 90, 100, 101].map(bracket).map(Option::unwrap_or_default),
            ["", "5-9", "5-9", "10-19", "80-89", "90-100", "90-100", ""]
        );
    }
}
