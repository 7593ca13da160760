//! Goodbooks-10k: `ratings.csv` (user_id, book_id, rating) and `books.csv`, with commas and a
//! header. There are no times.

use std::path::Path;

use super::fields::{self, known, shown, text, unsigned};
use super::{About, LeftOut, Log};
use crate::data::delimited::{Dialect, Records};
use crate::data::pull::{Publisher, Remote, RemoteFile};
use crate::data::set::DataSet;
use crate::data::source::locate;
use crate::data::{DataSettings, Dataset};
use crate::error::Result;
use crate::monitor::Monitor;

/// The data set.
pub static SET: DataSet = DataSet {
    name: "goodbooks-10k",
    about: "Goodbooks-10k: ratings.csv, books.csv",
    files: &["ratings.csv", "books.csv"],
    noun: "book",
    has_times: false,
    remote: Some(Remote {
        name: "goodbooks-10k",
        base: "https://raw.githubusercontent.com/zygmuntz/goodbooks-10k/master",
        files: &[RemoteFile { path: "ratings.csv", md5: None }, RemoteFile { path: "books.csv", md5: None }],
        publisher: &Publisher {
            name: "Zygmunt Zajac",
            terms: "Creative Commons Attribution-ShareAlike 4.0.",
            cite: "Zajac, Goodbooks-10k: a new dataset for book recommendations, 2017",
            page: "https://github.com/zygmuntz/goodbooks-10k",
        },
    }),
    load,
    ..DataSet::PLAIN
};

fn load(set: &DataSet, settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    set.require(&settings.path)?;
    let mut log = Log::default();
    let books = books(&locate(&settings.path, "books.csv"), &mut log)?;
    let file = locate(&settings.path, "ratings.csv");
    let (mut rows, header) = Records::with_header(&file, Dialect::CSV)?;
    let (user, book) = (header.need(&["user_id"])?, header.need(&["book_id"])?);
    let rated = header.need(&["rating"])?;
    let mut left_out = LeftOut::new(settings, false);
    while rows.advance()? {
        let row = (|| {
            if !rows.is_whole() {
                return Err(rows.ragged());
            }
            let (user, book) = (fields::id(rows.get(user)), fields::id(rows.get(book)));
            if log.items.get(book).is_none() {
                return Err(rows
                    .error(format!("book {} is not in books.csv", shown(book)))
                    .next("check the order of the columns, and that both files are of the same data set"));
            }
            let rating = fields::rating(&rows, rows.get(rated), set.scale)?;
            log.add(&rows, user, book, rating, 0)
        })();
        left_out.take(row)?;
        if log.len().is_multiple_of(65_536) {
            rows.report(monitor)?;
        }
    }
    left_out.tell(&file, monitor)?;
    log.finish(&set.nature(), books, Vec::new(), &file, monitor)
}

/// The catalogue, in the order of the file.
fn books(path: &Path, log: &mut Log) -> Result<Vec<About>> {
    let (mut rows, header) = Records::with_header(path, Dialect::CSV)?;
    let (id, title) = (header.need(&["book_id"])?, header.need(&["title"])?);
    let (authors, year) = (header.find(&["authors"]), header.find(&["original_publication_year"]));
    let isbn = header.find(&["isbn"]);
    let mut books = Vec::new();
    while rows.advance()? {
        if !rows.is_whole() {
            return Err(rows.ragged());
        }
        let raw = fields::id(rows.get(id));
        if unsigned(raw).is_none() {
            return Err(rows
                .error(format!("the book id {} is not a number", shown(raw)))
                .next("compare it with the original books.csv"));
        }
        if log.items.get(raw).is_some() {
            return Err(rows
                .error(format!("book {} stands on an earlier line already", shown(raw)))
                .next("remove one of the two lines"));
        }
        log.items.place(raw);
        let field = |column: Option<usize>| column.map(|c| text(rows.get(c))).unwrap_or_default();
        // Years are written as 1997.0.
        let (isbn, authors, year) = (field(isbn), field(authors), field(year));
        let known = [known("isbn", &isbn), known("author", &authors), known("year", year.trim_end_matches(".0"))];
        books.push(About {
            title: text(rows.get(title)),
            genres: Vec::new(),
            fields: known.into_iter().flatten().collect(),
        });
    }
    Ok(books)
}
