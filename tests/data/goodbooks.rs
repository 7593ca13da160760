use rallrec::data::{self, DataSettings, Kind};

use crate::common::*;

pub const RATINGS: &[u8] = b"user_id,book_id,rating\n1,2,5\n1,1,4\n2,2,1\n2,3,3\n2,1,5\n";
pub const BOOKS: &[u8] = "book_id,goodreads_book_id,isbn,authors,original_publication_year,original_title,title\n\
     1,2767052,439023483,Suzanne Collins,2008.0,The Hunger Games,\"The Hunger Games (The Hunger Games, #1)\"\n\
     2,3,,\"J.K. Rowling, Mary GrandPré\",1997.0,,\"Harry Potter and the Sorcerer's Stone (Harry Potter, #1)\"\n\
     3,41865,316015849,,,Twilight,Twilight\n"
    .as_bytes();

fn small(changed: &str, bytes: &[u8]) -> tempfile::TempDir {
    let files = [("ratings.csv", RATINGS), ("books.csv", BOOKS)];
    folder(&files.map(|(name, sound)| (name, if name == changed { bytes } else { sound })))
}

#[test]
fn ratings_and_books_are_read() {
    let dir = small("", b"");
    let a = load(Kind::GOODBOOKS, dir.path()).expect("reads");
    assert_eq!((a.name.as_str(), a.noun.as_str(), a.scale, a.has_times), ("goodbooks-10k", "book", (1.0, 5.0), false));
    assert_eq!((a.items.len(), a.users.len(), a.interactions.len()), (3, 2, 5));
    assert_eq!(a.items[1].title, "Harry Potter and the Sorcerer's Stone (Harry Potter, #1)");
    let fields = |at: usize| -> Vec<(&str, &str)> {
        a.items[at].fields.iter().map(|f| (f.name.as_str(), f.value.as_str())).collect()
    };
    assert_eq!(fields(0), [("isbn", "439023483"), ("author", "Suzanne Collins"), ("year", "2008")]);
    assert_eq!(fields(1), [("author", "J.K. Rowling, Mary GrandPré"), ("year", "1997")]);
    assert_eq!(fields(2), [("isbn", "316015849")]);
    let packed = folder(&[("ratings.csv.gz", &pack(RATINGS)), ("books.csv", BOOKS)]);
    assert_eq!(load(Kind::GOODBOOKS, packed.path()).expect("reads"), a);
}

#[test]
fn each_user_gives_one_sample() {
    let dir = small("", b"");
    let settings = DataSettings::method(Kind::GOODBOOKS, dir.path());
    let settings = DataSettings { min_history: 1, ..settings };
    let dataset = open(&settings).expect("opens");
    let error = refuse(data::build_samples(&dataset, &settings), "goodbooks-10k", "2 samples of 5 ratings");
    assert!(error.next_step().contains("more data"), "{error}");
}

#[test]
fn bad_lines_are_told_by_file_and_line() {
    for (file, bytes, place, what) in [
        ("ratings.csv", &b"user_id,book_id,rating\n1,9,5\n"[..], "ratings.csv:2", "book `9` is not in books.csv"),
        ("ratings.csv", b"user_id,book_id,rating\n1,1,6\n", "ratings.csv:2", "6"),
        ("ratings.csv", b"user_id,book,rating\n1,1,5\n", "ratings.csv:1", "book_id"),
        ("books.csv", b"book_id,title\nx,A\n", "books.csv:2", "is not a number"),
        ("books.csv", b"book_id,title\n1,A\n1,B\n", "books.csv:3", "stands on an earlier line"),
    ] {
        let dir = small(file, bytes);
        let Err(error) = load(Kind::GOODBOOKS, dir.path()) else { panic!("{place}: accepted") };
        assert!(error.place().ends_with(place), "{error}");
        assert!(error.what().contains(what) || error.to_string().contains(what.trim_matches('"')), "{what}: {error}");
        assert!(!error.next_step().is_empty(), "{error}");
    }
}
