//! Copies of published data sets were refused, or read wrongly, for what does not matter: another
//! name of a file, a table that is not there, a value that nobody reads, one damaged row, an item
//! twice in a line.

use std::fs;
use std::path::Path;

use rallrec::Silent;
use rallrec::data::{self, DataSettings, Dataset, Kind, Repeats, leaks};

fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn open(kind: Kind, folder: &Path) -> rallrec::Result<Dataset> {
    data::open(&DataSettings::new(kind, folder), &Silent)
}

/// `line` of (user, item, number of the row) for 40 rows.
fn lines(line: impl Fn(usize, usize, usize) -> String) -> String {
    (0..40).map(|n| line(1 + n % 5, 1 + n / 5, n) + "\n").collect()
}

#[test]
fn movielens_without_users_in_other_names_and_with_half_stars() {
    let movies: String = (1..9).map(|m| format!("{m}::Movie {m}::Drama|Crime\n")).collect();
    let ratings = lines(|u, i, n| format!("{u}::{i}::{}::{}", 0.5 + (n % 10) as f32 / 2.0, 1_000_000 + n));
    let ten = folder(&[("ratings.dat", ratings), ("movies.dat", movies)]);
    for kind in [Kind::ML_1M, Kind::ML_10M] {
        let found = open(kind, ten.path()).unwrap();
        assert_eq!((found.interactions.len(), found.items.len(), found.scale), (40, 8, (0.5, 5.0)));
        assert_eq!(found.items[2].title, "Movie 3");
    }
    let alone = folder(&[("u.data", lines(|u, i, n| format!("{u}\t{i}\t{}\t{n}", 1 + n % 5)))]);
    assert_eq!(open(Kind::ML_100K, alone.path()).unwrap().interactions.len(), 40);
    // Kaggle's copy of 20M, with dates; ids as numbers with a point; a movie without a line.
    let rating = lines(|u, i, n| format!("{u}.0,{i},4.5,2017-07-14 03:{n:02}:15"));
    let movie: String = (1..8).map(|m| format!("{m},\"Movie, {m}\",Drama\n")).collect();
    let kaggle = folder(&[
        (
            "rating.csv",
            format!("userId,movieId,rating,timestamp\n{}", rating.replace(",8,", ",1,") + "1.0,99,3.5,2017-07-15\n"),
        ),
        ("movie.csv", format!("movieId,title,genres\n{movie}")),
    ]);
    let found = open(Kind::ML_25M, kaggle.path()).unwrap();
    assert_eq!((found.interactions.len(), found.users.len(), found.items.len()), (41, 5, 8));
    assert_eq!(found.interactions[0].time, 1_500_001_215);
    assert_eq!(found.users[0].raw.0, "1");
}

#[test]
fn book_crossing_as_kaggle_has_it() {
    let ratings = lines(|u, i, n| format!("{u},isbn{i},{}", n % 11));
    let books: String = (1..9).map(|b| format!("isbn{b},\"Book, \"\"{b}\"\"\",A. Uthor\n")).collect();
    let users: String = (1..6).map(|u| format!("{u},\"nyc, new york, usa\",3{u}.0\n")).collect();
    let kaggle = folder(&[
        ("Ratings.csv", format!("User-ID,ISBN,Book-Rating\n{ratings}")),
        ("Books.csv", format!("ISBN,Book-Title,Book-Author\n{books}")),
        ("Users.csv", format!("User-ID,Location,Age\n{users}")),
    ]);
    let found = open(Kind::BOOK_CROSSING, kaggle.path()).unwrap();
    assert_eq!((found.interactions.len(), found.users.len(), found.items.len()), (40, 5, 8));
    assert_eq!(found.items[0].title, "Book, \"1\"");
    assert_eq!((found.users[0].field("country"), found.users[0].field("age")), (Some("USA"), Some("30-39")));
}

#[test]
fn amazon_with_values_that_json_has_not_and_a_damaged_row() {
    let review = |u: usize, i: usize, n: usize| {
        let (time, rating) = (1_500_000_000_000 + 1000 * n as i64, 1 + n % 5);
        let (time, rating) = match n {
            7 => ("-1000".into(), "5.0".into()),
            8 => (time.to_string(), "0.0".into()),
            9 => (format!("{time}.0"), format!("{rating}.0")),
            _ => (time.to_string(), format!("{rating}.0")),
        };
        format!(
            r#"{{"rating": {rating}, "user_id": "U{u}", "parent_asin": {i}, "timestamp": {time}, "helpful_vote": NaN, "title": "a", "title": "b"}}"#
        )
    };
    let text = lines(review);
    let meta = "{\"parent_asin\": \"1\", \"title\": \"One\", \"price\": NaN}\n{\"parent_asin\": 2, \"title\": \"var x = (new Date()).getTime();\"}\n{\"parent_asin\": \"1\", \"title\": \"\"}\n";
    let array = format!("[{}]", text.trim_end().replace('\n', ",\n"));
    let python = text.replace('"', "'");
    for text in [&text, &array, &python] {
        let amazon = folder(&[("B.jsonl", text.clone()), ("meta_B.jsonl", meta.into()), ("._B.jsonl", "junk".into())]);
        let found = open(Kind::AMAZON_2023, amazon.path()).unwrap();
        assert_eq!((found.interactions.len(), found.users.len(), found.items.len()), (38, 5, 8), "{text}");
        assert_eq!((found.items[0].title.as_str(), found.items[1].title.as_str()), ("One", ""));
    }
    let rows = lines(|u, i, n| format!("U{u},P{i},{}.0,{}", 1 + n % 5, 1_500_000_000_000 + n as i64));
    let amazon = folder(&[("B.csv", format!("user_id,parent_asin,rating,timestamp\n{rows}"))]);
    let found = open(Kind::AMAZON_2023, amazon.path()).unwrap();
    assert_eq!((found.interactions.len(), found.interactions[0].time), (40, 1_500_000_000));
}

#[test]
fn pairs_of_lightgcn_that_are_there_twice_count_once() {
    let pairs = folder(&[("train.txt", "0 1 2 3 1\n1 4 5 6 7\n".into()), ("test.txt", "0 2 8\n1 1\n".into())]);
    let settings = DataSettings::new(Kind::LIGHTGCN, pairs.path());
    let dataset = data::open(&settings, &Silent).unwrap();
    let counts = |settings: &DataSettings| {
        let samples = data::build_samples(&dataset, settings).unwrap();
        let inputs =
            leaks::Inputs { samples: &samples, edges: None, selection: None, allowed: leaks::Allowed::default() };
        (samples.split.train.len(), samples.split.test.len(), leaks::check(inputs, &Silent).is_ok())
    };
    assert_eq!(counts(&settings), (7, 2, true));
    assert_eq!(counts(&DataSettings { repeats: Repeats::Keep, ..settings.clone() }), (8, 3, false));
}

#[test]
fn samples_of_one_class_are_told_before_anything_is_learnt() {
    let ratings = |rating: &dyn Fn(usize) -> usize| {
        format!("user,item,rating,time\n{}", lines(|u, i, n| format!("{u},{i},{},{n}", rating(n))))
    };
    for (rating, liked) in [
        (&(|_| 5usize) as &dyn Fn(usize) -> usize, "are liked"),
        (&|_| 1usize, "are not liked"),
        (&|n: usize| 1 + n % 5, ""),
    ] {
        let shop = folder(&[("ratings.csv", ratings(rating))]);
        let settings = DataSettings { min_history: 2, ..DataSettings::new(Kind::TABLE, shop.path()) };
        let dataset = data::open(&settings, &Silent).unwrap();
        let samples = data::build_samples(&dataset, &settings).unwrap();
        let told = data::two_classes(&samples).err().map(|e| e.what().to_owned());
        let seen = data::inspect(&dataset, &samples, &settings).unwrap().warnings;
        if liked.is_empty() {
            assert_eq!((told, seen.len()), (None, 0));
        } else {
            assert!(told.unwrap().contains(liked) && seen.iter().any(|w| w.contains(liked)), "{seen:?}");
        }
    }
}
