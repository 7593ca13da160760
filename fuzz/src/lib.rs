//! What the fuzz targets do with their bytes: every reader that takes bytes must give data that
//! hold together, or an error that names the place and the next step. It must not panic, hang, or
//! hold more than the input is worth.

use std::fs;
use std::path::Path;

use rallrec::Silent;

use rallrec::data::{self, Damaged, DataSettings, Dataset, Kind, descriptions};

/// A file's name and sound content.
pub type Sound = (&'static str, &'static [u8]);

/// The readers by name, with the files that each of them reads.
pub const TARGETS: [(&str, &[Sound]); 13] = [
    (
        "movielens_1m",
        &[
            ("ratings.dat", b"1::10::5::100\n1::20::3::90\n2::10::1::95\n"),
            ("movies.dat", b"10::Fen\xeatre, La (1990)::Comedy|Drama\n20::Up:: Down (1991)::Drama\n"),
            ("users.dat", b"1::F::1::10::48067\n2::M::56::16::70072\n"),
        ],
    ),
    (
        "movielens_100k",
        &[
            ("u.data", b"1\t10\t5\t100\n1\t20\t3\t90\n2\t10\t1\t95\n"),
            ("u.item", b"10|Fen\xeatre (1990)|01-Jan-1990||http://x|0|1|1\n20|Up (1991)||||0|0|1\n"),
            ("u.user", b"1|24|M|technician|85711\n2|53|F|other|94043\n"),
            ("u.genre", b"unknown|0\nComedy|1\nDrama|2\n"),
        ],
    ),
    (
        "movielens_csv",
        &[
            ("ratings.csv", b"userId,movieId,rating,timestamp\n1,10,5.0,100\n1,20,0.5,90\n2,10,1.0,95\n"),
            ("movies.csv", b"movieId,title,genres\n10,\"A, B (1990)\",Comedy|Drama\n20,\"The \"\"Up\"\"\",(no genres listed)\n"),
        ],
    ),
    (
        "book_crossing",
        &[
            (
                "BX-Book-Ratings.csv",
                b"\"User-ID\";\"ISBN\";\"Book-Rating\"\r\n\"2\";\"034545104X\";\"0\"\r\n\"7\";\"0155061224\";\"5\"\r\n",
            ),
            ("BX-Users.csv", b"\"User-ID\";\"Location\";\"Age\"\r\n\"2\";\"stockton, california, usa\";\"18\"\r\n\"7\";\"k\xf6ln, nrw, germany\";NULL\r\n"),
            (
                "BX-Books.csv",
                b"\"ISBN\";\"Book-Title\";\"Book-Author\";\"Year-Of-Publication\";\"Publisher\"\r\n\"034545104X\";\"A \\\"b\\\"; c\";\"M\";\"2002\";\"P\"\r\n",
            ),
        ],
    ),
    (
        "amazon",
        &[
            (
                "M.json",
                b"{\"overall\": 5.0, \"reviewTime\": \"04 4, 2004\", \"reviewerID\": \"A1\", \"asin\": \"B1\", \"unixReviewTime\": 1081036800}\n{\"overall\": 2, \"reviewTime\": \"04 5, 2004\", \"reviewerID\": \"A2\", \"asin\": \"B2\"}\n",
            ),
            (
                "meta_M.json",
                b"{'asin': 'B1', 'title': \"Tom's &amp; \\xe9\", 'categories': [['a', 'b', 'c']], 'x': [True, None]}\n{\"asin\": \"B2\", \"title\": \"Two\", \"category\": [\"a\", \"b\", \"c\"]}\n",
            ),
        ],
    ),
    (
        "amazon_2023",
        &[
            ("M.jsonl", b"{\"rating\": 1.0, \"title\": \"x\", \"parent_asin\": \"P1\", \"user_id\": \"U1\", \"timestamp\": 1602133857705}\n"),
            ("meta_M.jsonl", b"{\"title\": \"One\", \"categories\": [\"a\", \"b\", \"c\"], \"parent_asin\": \"P1\"}\n"),
        ],
    ),
    (
        "amazon_csv",
        &[
            ("reviews.csv", b",asin,reviewerID,overall,reviewTime\n6,B1,A1,5.0,\"04 4, 2004\"\n7,B2,A1,1.0,\"10 24, 2008\"\n"),
            ("items.csv", b"title,asin,genres,year\nOne,B1,\"['Drama', 'Crime']\",2001.0\n"),
        ],
    ),
    ("lightgcn", &[("train.txt", b"0 1 2 3\n1 2\n2\n"), ("test.txt", b"0 4\n1 0\n")]),
    (
        "table",
        &[
            ("ratings.csv", b"user,item,rating,time\n\"a, b\",1,5,2024-05-17\nc,\"x\ny\",2.5,2024-05-18 10:00:00\n"),
            ("items.csv", b"item,title,year\n1,One,1999\n\"x\ny\",Two,\n"),
        ],
    ),
    ("table_parquet", &[("ratings.parquet", b"PAR1")]),
    ("goodbooks", &[("ratings.csv", b"user_id,book_id,rating\n1,1,5\n1,2,3\n2,1,1\n"), ("books.csv", b"book_id,isbn,authors,original_publication_year,title\n1,9,A,1997.0,One\n2,,\"B, C\",,\"Two, #1\"\n")]),
    ("descriptions", &[("d.json", b"{\"1\": \"One\", \"2\": \"Two \\\"x\\\"\"}"), ("d.jsonl", b"{\"item\": \"1\", \"text\": \"One\"}\n{\"item\": 2, \"text\": \"Two\"}\n")]),
    ("recipe", &[("recipe.toml", b"name = \"x\"\n[data]\nkind = \"table\"\npath = \"d\"\n[data.table]\nscale = [0, 10]\n[rows]\ntune = 3\n")]),
];

/// One input: its first byte chooses the file that the rest stands for; the other files are sound.
/// With the byte's highest bit set the folder is not a folder but a zip file, and the rest is all
/// of it.
pub fn one(target: &str, input: &[u8], folder: &Path) {
    let Some((_, files)) = TARGETS.iter().find(|(name, _)| *name == target) else { panic!("no target {target}") };
    let Some((&first, bytes)) = input.split_first() else { return };
    let chosen = usize::from(first & 0x7f) % files.len();
    for (n, (name, sound)) in files.iter().enumerate() {
        fs::write(folder.join(name), if n == chosen { bytes } else { sound }).expect("the folder can be written");
    }
    let zip = folder.join("all.zip");
    let path = if first & 0x80 != 0 && bytes.starts_with(b"PK") {
        fs::write(&zip, bytes).expect("the folder can be written");
        zip.as_path()
    } else {
        folder
    };
    let kind = match target {
        "movielens_1m" => Kind::ML_1M,
        "movielens_100k" => Kind::ML_100K,
        "movielens_csv" => Kind::ML_25M,
        "book_crossing" => Kind::BOOK_CROSSING,
        "amazon" => Kind::AMAZON,
        "amazon_2023" => Kind::AMAZON_2023,
        "amazon_csv" => Kind::AMAZON_CSV,
        "goodbooks" => Kind::GOODBOOKS,
        "lightgcn" => Kind::LIGHTGCN,
        "descriptions" => {
            let dataset = data::open(&small(), &Silent).expect("the built-in set opens");
            let read = descriptions::read(&folder.join(files[chosen].0), &dataset, Some(9), &Silent);
            return judge(read.map(|d| assert_eq!(d.texts.len(), dataset.items.len())));
        }
        "recipe" => {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            return judge(rallrec::config::parse(text, "recipe.toml", &[]).map(|recipe| {
                rallrec::config::annotated(&recipe).expect("a recipe can be printed");
            }));
        }
        _ => Kind::TABLE,
    };
    let mut settings = DataSettings { min_history: 1, ..DataSettings::new(kind, path) };
    settings.damaged = if first & 0x40 != 0 { Damaged::Skip } else { Damaged::Refuse };
    match target {
        "table" => {
            settings.table.items = "items.csv".into();
            settings.table.title = "{{ title }}{% if year %} ({{ year }}){% endif %}".into();
        }
        "table_parquet" => settings.table.ratings = "ratings.parquet".into(),
        _ => {}
    }
    judge(data::open(&settings, &Silent).map(|dataset| {
        holds_together(&dataset);
        judge(data::build_samples(&dataset, &settings).map(|samples| {
            assert!(samples.samples.len() <= dataset.interactions.len());
        }));
    }));
}

fn small() -> DataSettings {
    let mut settings = DataSettings::default();
    (settings.synthetic.users, settings.synthetic.items, settings.synthetic.ratings) = (4, 20, 36);
    settings
}

/// An error that helps, or nothing.
fn judge(result: rallrec::Result<()>) {
    if let Err(error) = result {
        assert!(!error.place().is_empty() && !error.what().is_empty(), "{error}");
        assert!(!error.next_step().is_empty(), "no next step: {error}");
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}

fn holds_together(dataset: &Dataset) {
    assert!(!dataset.interactions.is_empty());
    for row in &dataset.interactions {
        assert!(row.user.at() < dataset.users.len() && row.item.at() < dataset.items.len());
        assert!((dataset.scale.0..=dataset.scale.1).contains(&row.rating), "{row:?}");
        assert!((0..=4_102_444_800).contains(&row.time), "{row:?}");
    }
    // Within a second the file's own order may be finer than its users and items.
    assert!(dataset.interactions.is_sorted_by_key(|r| r.time));
}
