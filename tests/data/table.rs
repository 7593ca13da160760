use std::path::Path;

use rallrec::config;
use rallrec::data::table::{Damaged, TableSettings as Table, TimeFormat};
use rallrec::data::{self, DataSettings, Kind};
use rallrec::text::item_text::{Genres, plain_with};

use crate::common::*;
use crate::parquet_file::parquet;

pub const PLAYS: &[u8] = b"listener;song id;stars;played at\nanna, b;s 1;5;2024-05-17\nbob;s 1;1;2024-05-16 10:00:00\nanna, b;\"s;2\";2.5;2024-05-18T00:00:00Z\n";
const SONGS: &[u8] = "song id;name;year;tags\ns 1;Été;1999;pop/rock\n\"s;2\";\"Two\nlines\";;\nother;x;1;\n".as_bytes();
const PEOPLE: &[u8] = b"id;town\nbob;Ulm\nanna, b;Bern\n";

pub fn settings(dir: &Path) -> DataSettings {
    let table = Table {
        ratings: "plays.csv".into(),
        user: "Listener".into(),
        item: "song id".into(),
        rating: "stars".into(),
        time: "played at".into(),
        noun: "song".into(),
        separator: ";".into(),
        items: "songs.csv".into(),
        title: "{{ name }}{% if year %} ({{ year }}){% endif %}".into(),
        genres: "tags".into(),
        genre_separator: "/".into(),
        item_text: "A song called {{ name }}.".into(),
        users: "people.csv".into(),
        user_id: "id".into(),
        user_text: "The listener lives in {{ town }}.".into(),
        ..Table::default()
    };
    DataSettings { table, ..DataSettings::new(Kind::TABLE, dir) }
}

pub fn small(changed: &str, bytes: &[u8]) -> tempfile::TempDir {
    let files = [("plays.csv", PLAYS), ("songs.csv", SONGS), ("people.csv", PEOPLE)];
    folder(&files.map(|(name, sound)| (name, if name == changed { bytes } else { sound })))
}

#[test]
fn columns_and_templates_are_the_recipes() {
    let dir = small("", b"");
    let dataset = open(&settings(dir.path())).expect("opens");
    assert_eq!(
        rows(&dataset),
        [
            ("bob", "s 1", 1.0, 1_715_853_600),
            ("anna, b", "s 1", 5.0, 1_715_904_000),
            ("anna, b", "s;2", 2.5, 1_715_990_400)
        ]
        .map(|(u, i, r, t)| (u.to_owned(), i.to_owned(), r, t))
    );
    assert_eq!(dataset.items.iter().map(|i| i.title.as_str()).collect::<Vec<_>>(), ["Été (1999)", "Two lines"]);
    assert_eq!(dataset.items[0].genres, ["pop", "rock"]);
    assert_eq!(plain_with(&dataset.items[1], "song", Genres::All), "A song called Two lines.");
    assert_eq!(dataset.users[1].field("text"), Some("The listener lives in Ulm."));
    assert_eq!((dataset.noun.as_str(), settings(dir.path()).threshold()), ("song", 3.0));
    // Without tables of items and users, an id is its title.
    let mut bare = settings(dir.path());
    (bare.table.items, bare.table.users) = (String::new(), String::new());
    assert_eq!(open(&bare).expect("opens").items[1].title, "s;2");
    // Without ratings and times: likes, one sample a user.
    (bare.table.rating, bare.table.time) = (String::new(), String::new());
    let listener = Listener::default();
    let likes = data::open(&bare, &listener).expect("opens");
    assert!(likes.interactions.iter().all(|r| r.rating == 1.0) && !likes.has_times && bare.threshold() == 0.0);
    assert!(listener.heard()[0].contains("every row is a like"));
}

#[test]
fn a_recipe_says_it_in_toml() {
    let dir = small("", b"");
    let text = format!(
        "name = \"songs\"\n[data]\nkind = \"table\"\npath = {:?}\nmin_history = 1\n[data.table]\nratings = \"plays.csv\"\n\
         separator = \";\"\nuser = \"listener\"\nitem = \"song id\"\nrating = \"stars\"\ntime = \"played at\"\n",
        dir.path()
    );
    let recipe = config::parse(&text, "recipe.toml", &[]).expect("parses");
    assert_eq!(open(&recipe.data).expect("opens").interactions.len(), 3);
    let printed = config::annotated(&recipe).expect("prints");
    let again = config::parse(&printed, "printed", &[]).expect("a printed recipe is a recipe");
    assert!(again == recipe, "{printed}");
    let error = config::parse(&text.replace("rating =", "ratin ="), "recipe.toml", &[]).expect_err("wrong key");
    assert!(error.to_string().contains("did you mean 'data.table.rating'"), "{error}");
}

#[test]
fn what_is_wrong_is_named() {
    let dir = small("", b"");
    let change = |what: &dyn Fn(&mut Table)| {
        let mut settings = settings(dir.path());
        what(&mut settings.table);
        open(&settings)
    };
    refuse(change(&|t| t.ratings = "none.csv".into()), "none.csv", "is not there");
    refuse(
        change(&|t| t.user = "who".into()),
        ":1",
        "no column `who`; the columns are: listener, song id, stars, played at",
    );
    refuse(change(&|t| t.separator = ",".into()), ":1", "no column `Listener`");
    refuse(change(&|t| t.separator = "a\"".into()), "table.separator", "cannot separate fields");
    refuse(change(&|t| t.escape = "ab".into()), "table.escape", "not one ASCII character");
    refuse(
        change(&|t| t.title = "{{ nam }}".into()),
        "data.table.title",
        "no column `nam`; the columns are: song id, name",
    );
    refuse(change(&|t| t.title = "{{ name ".into()), "data.table.title", "not a template");
    refuse(change(&|t| t.title = "{{ name.x.y }}".into()), "data.table.title", "fails");
    refuse(change(&|t| t.scale = (5.0, 1.0)), "table.scale", "not a scale");
    refuse(change(&|t| t.scale = (1.0, 4.0)), ":2", "the rating `5` is not a number from 1 to 4");
    refuse(change(&|t| t.time_format = TimeFormat::Seconds), ":2", "the time `2024-05-17`");
    refuse(change(&|t| t.rating = "song id".into()), "table.rating", "is the column of data.table.item as well");
    refuse(change(&|t| (t.rating, t.time) = ("played at".into(), String::new())), ":2", "the rating `2024-05-17");
    refuse(change(&|t| t.genres = "x".into()), ":1", "no column `x`");
    refuse(
        change(&|t| t.item_id = "name".into()),
        "songs.csv",
        "none of its ids (such as `Été`) is among the ratings (such as `s 1`)",
    );
    let head = "listener;song id;stars;played at\n";
    for (bytes, place, what) in [
        (format!("{head}a;b;5\n"), ":2", "3 columns instead of 4"),
        (format!("{head};b;5;1\n"), ":2", "the user id is empty"),
        (format!("{head}a;b;5;-1\n"), ":2", "the time `-1`"),
        (format!("{head}a;b;5;1\na;b;5;2104-01-01\n"), ":3", "the time `2104-01-01`"),
        (format!("{head}a;b;5;100\na;b;5;1602133857705\n"), ":3", "read as seconds"),
        (format!("{head}a;b;NaN;1\n"), ":2", "the rating `NaN`"),
        (format!("{head}\"a;b;5;1\na;b;5;1\na;b;5;1\n"), ":2", "a quote that opens here never closes"),
        (format!("{head}{};b;5;1\n", "a".repeat(2000)), ":2", "2000 bytes"),
        (head.into(), "plays.csv", "no ratings"),
        (String::new(), "plays.csv", "is empty"),
    ] {
        refuse(open(&settings(small("plays.csv", bytes.as_bytes()).path())), place, what);
    }
    refuse(
        open(&settings(small("songs.csv", b"song id;name;year;tags\ns 1;a;;\ns 1;b;;\n").path())),
        ":3",
        "earlier line",
    );
}

#[test]
fn damaged_rows_can_be_skipped_up_to_a_tenth() {
    let mut bytes = b"listener;song id;stars;played at\n".to_vec();
    (0..50).for_each(|n| bytes.extend_from_slice(format!("u{};s 1;{};{n}\n", n % 5, 1 + n % 5).as_bytes()));
    bytes.extend_from_slice(b"bob;s 1;9;1\n;s 1;1;1\nbob;s 1;1\nbob;s 1;1;x\n");
    let dir = small("plays.csv", &bytes);
    let mut settings = settings(dir.path());
    settings.table.users.clear();
    refuse(open(&settings), ":52", "the rating `9`");
    settings.damaged = Damaged::Skip;
    let listener = Listener::default();
    assert_eq!(data::open(&settings, &listener).expect("opens").interactions.len(), 50);
    assert!(listener.heard().iter().any(|w| w.contains("3 damaged rows") && w.contains("rating `9`")));
    bytes.extend_from_slice(b"bob;s 1;9;1\nbob;s 1;9;1\nbob;s 1;9;1\n");
    std::fs::write(dir.path().join("plays.csv"), &bytes).expect("writes");
    refuse(open(&settings), ":52", "6 of 56 rows are damaged");
}

#[test]
fn parquet_gives_what_csv_gives() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("ratings.parquet");
    parquet(&file, 20_000, 9000);
    let mut settings = DataSettings::new(Kind::TABLE, dir.path());
    settings.table.ratings = "ratings.parquet".into();
    refuse(open(&settings), ": row 6", "the rating ``");
    settings.damaged = Damaged::Skip;
    let a = open(&settings).expect("opens");
    assert_eq!(a.interactions.len(), 19_999);
    let mut csv = String::from("user,item,rating,time\n");
    for n in (0..20_000usize).filter(|&n| n != 5) {
        csv += &format!("u{},{},{},{}\n", n % 7, n % 11, 1.0 + (n % 9) as f64 / 2.0, n + 1_000_000);
    }
    std::fs::write(dir.path().join("ratings.csv"), csv).expect("writes");
    let b = open(&DataSettings::new(Kind::TABLE, dir.path())).expect("opens");
    assert!(a == b, "CSV and Parquet differ");
    settings.table.rating = "tags".into();
    refuse(open(&settings), ": row 1", "the rating `[]`");
    settings.table.rating = "stars".into();
    refuse(open(&settings), ": row 1", "the columns are: user, item, rating, time, tags");
}

#[test]
fn damaged_parquet_is_refused() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("ratings.parquet");
    parquet(&file, 3000, 1000);
    let sound = std::fs::read(&file).expect("reads");
    let mut settings = DataSettings::new(Kind::TABLE, dir.path());
    settings.table.ratings = "ratings.parquet".into();
    settings.damaged = Damaged::Skip;
    assert_eq!(open(&settings).expect("opens").interactions.len(), 2999);
    for cut in [4, 5, 12, sound.len() / 2, sound.len() - 1] {
        std::fs::write(&file, &sound[..cut]).expect("writes");
        let error = open(&settings).expect_err("cut");
        assert!(error.to_string().contains("Parquet") && !error.next_step().is_empty(), "{error}");
    }
}
