//! A file of ratings outside of `data.path` was no part of what a run is known by: after a change
//! in it the run said that everything was there already. A list of files was refused. Rows without
//! a user counted as damage, and one in three of them made a file unreadable.

use std::fs;
use std::path::Path;

use rallrec::data::table::Sources;
use rallrec::data::{self, Damaged, DataSettings, Kind};
use rallrec::{Silent, config};

fn ratings(from: usize, to: usize) -> String {
    let line = |n: usize| format!("u{},i{},{},{}\n", n % 5, n / 5, 1 + n % 5, 1000 + n);
    "user,item,rating,time\n".to_owned() + &(from..to).map(line).collect::<String>()
}

fn content(settings: &DataSettings) -> String {
    Sources::find(settings, &Silent).unwrap().content().to_string()
}

#[test]
fn a_file_outside_of_the_folder_counts_and_one_that_is_not_read_does_not() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = outside.path().join("log.csv");
    fs::write(&path, ratings(0, 40)).unwrap();
    let mut settings = DataSettings::new(Kind::TABLE, inside.path());
    settings.table.ratings = path.display().to_string();
    let before = content(&settings);
    fs::write(inside.path().join("notes.txt"), "none of the ratings").unwrap();
    assert_eq!(content(&settings), before);
    fs::write(&path, ratings(0, 41)).unwrap();
    assert_ne!(content(&settings), before);
}

#[test]
fn several_files_are_a_list_or_one_text() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, from, to| fs::write(folder.path().join(name), ratings(from, to)).unwrap();
    write("a.csv", 0, 20);
    write("b.csv", 20, 40);
    let read = |ratings: &str| {
        let text = format!("[data]\nkind = \"table\"\npath = {:?}\n[data.table]\nratings = {ratings}\n", folder.path());
        config::parse(&text, "recipe", &[])
    };
    let one = read("\"a.csv;b.csv\"").unwrap();
    let several = read("[\"a.csv\", \"b.csv\"]").unwrap();
    assert_eq!(one, several);
    assert_eq!(data::open(&several.data, &Silent).unwrap().interactions.len(), 40);
    // What is printed is read again as it was.
    let printed = config::annotated(&several).unwrap();
    assert_eq!(config::parse(&printed, "printed", &[]).unwrap(), several);
    let absent = read("[\"a.csv\", \"c.csv\"]").unwrap();
    let said = data::open(&absent.data, &Silent).unwrap_err().to_string();
    assert!(said.contains("c.csv: is not there") && said.contains("a.csv, b.csv"), "{said}");
    for wrong in ["[]", "[1]", "[\"\"]", "[\"a;b.csv\"]"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

fn skipping(folder: &Path) -> DataSettings {
    DataSettings { damaged: Damaged::Skip, ..DataSettings::new(Kind::TABLE, folder) }
}

#[test]
fn any_number_of_rows_without_a_user_or_an_item_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for words in ["u3,", ",i3,"] {
        let text = ratings(0, 40).replace(words, if words.starts_with(',') { ",nan," } else { "," });
        fs::write(folder.path().join("ratings.csv"), text).unwrap();
        let missing = (0..40).filter(|n| if words == "u3," { n % 5 == 3 } else { n / 5 == 3 }).count();
        let found = data::open(&DataSettings { damaged_limit: 0.0, ..skipping(folder.path()) }, &Silent).unwrap();
        assert_eq!(found.interactions.len(), 40 - missing, "{words}");
        let refused = data::open(&DataSettings::new(Kind::TABLE, folder.path()), &Silent).unwrap_err();
        assert!(refused.what().contains("missing") || refused.what().contains("empty"), "{refused}");
    }
    fs::write(folder.path().join("ratings.csv"), "user,item,rating,time\n,i1,4,1\n,i2,5,2\n").unwrap();
    let none = data::open(&skipping(folder.path()), &Silent).unwrap_err().to_string();
    assert!(none.contains("no row has all three"), "{none}");
}

/// A notes file beside the ratings of MovieLens made the data another one: `recommend` refused, and
/// the next run did everything again.
#[test]
fn what_lies_beside_the_files_of_a_data_set_is_no_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("ratings.dat", "1::1::5::978300760\n");
    write("movies.dat", "1::Toy Story (1995)::Animation\n");
    write("users.dat", "1::F::1::10::48067\n");
    let settings = DataSettings::new(Kind::ML_1M, folder.path());
    let of = || data::content(&settings, &Silent).unwrap();
    let before = of();
    write("notes.txt", "mine");
    fs::create_dir(folder.path().join("drafts")).unwrap();
    write("drafts/ratings.dat", "2::1::5::978300760\n");
    write("ratings.dat", "1::1::5::978300760\n");
    assert_eq!(of(), before);
    write("ratings.dat", "1::1::4::978300760\n");
    assert_ne!(of(), before);
}
