use rallrec::Silent;
use rallrec::data::{self, DataSettings, GraphEdges, Implicit, Kind, Part, Shuffle, Targets, leaks};

use crate::common::*;

pub const RATINGS: &[u8] =
    b"\"User-ID\";\"ISBN\";\"Book-Rating\"\r\n\"2\";\"034545104X\";\"0\"\r\n\"2\";\"0155061224\";\"5\"\r\n\"7\";\"034545104X\";\"10\"\r\n";
pub const USERS: &[u8] =
    b"\"User-ID\";\"Location\";\"Age\"\r\n\"2\";\"stockton, california, usa\";\"18\"\r\n\"7\";\"k\xf6ln, nrw, germany\";NULL\r\n";
pub const BOOKS: &[u8] = b"\"ISBN\";\"Book-Title\";\"Book-Author\";\"Year-Of-Publication\";\"Publisher\";\"Image-URL-S\";\"Image-URL-M\";\"Image-URL-L\"\r\n\
    \"034545104X\";\"Flesh \\\"Tones\\\"; a &amp; b: 100 Stra\xdfen\";\"M. J. Rose\";\"2002\";\"Ballantine\";\"a\";\"b\";\"c\"\r\n\
    \"0155061224\";\"Rites\";\"J\";\"0\";\"H\";\"a\";\"b\";\"c\"\r\n";

pub fn small(changed: &str, bytes: &[u8]) -> tempfile::TempDir {
    let files = [("BX-Book-Ratings.csv", RATINGS), ("BX-Users.csv", USERS), ("BX-Books.csv", BOOKS)];
    folder(&files.map(|(name, sound)| (name, if name == changed { bytes } else { sound })))
}

#[test]
fn fields_are_read_as_they_were_meant() {
    let dataset = load(Kind::BOOK_CROSSING, small("", b"").path()).expect("reads");
    assert_eq!((dataset.noun.as_str(), dataset.scale, dataset.has_times), ("book", (0.0, 10.0), false));
    let field = |at: usize| -> Vec<(&str, &str)> {
        dataset.items[at].fields.iter().map(|f| (f.name.as_str(), f.value.as_str())).collect()
    };
    assert_eq!(dataset.items[0].raw.0, "0155061224");
    assert_eq!(field(0), [("isbn", "0155061224"), ("author", "J"), ("publisher", "H")], "a year of 0 is unknown");
    assert_eq!(dataset.items[1].title, "Flesh \"Tones\"; a & b: 100 Straßen");
    assert_eq!(field(1)[1..], [("author", "M. J. Rose"), ("year", "2002"), ("publisher", "Ballantine")]);
    assert_eq!(dataset.users[0].field("country"), Some("USA"));
    assert_eq!(dataset.users[0].field("age"), Some("10-19"));
    assert_eq!((dataset.users[1].field("country"), dataset.users[1].field("age")), (Some("Germany"), None));
    assert_eq!(
        rows(&dataset),
        [("2", "0155061224", 5.0), ("2", "034545104X", 0.0), ("7", "034545104X", 10.0)].map(|(u, i, r)| (
            u.to_owned(),
            i.to_owned(),
            r,
            0
        ))
    );
}

#[test]
fn damaged_rows_are_left_out_and_counted() {
    let mut bytes = RATINGS.to_vec();
    for n in 0..60 {
        bytes.extend_from_slice(format!("\"9\";\"B{n}\";\"7\"\n").as_bytes());
    }
    bytes.extend_from_slice(
        b"\"9\";\"open;\"7\"\n\"9\";\"B1\";\"11\"\n\"x\";\"B1\";\"1\"\n\"9\";\"B2\"\n\"9\";\"B3\";\"7\"\n",
    );
    let listener = Listener::default();
    let dataset =
        data::load(Kind::BOOK_CROSSING, small("BX-Book-Ratings.csv", &bytes).path(), &listener).expect("reads");
    assert_eq!(dataset.interactions.len(), 3 + 60 + 1);
    let heard = listener.heard();
    assert!(heard[0].contains("4 damaged rows") && heard[0].contains(":65:"), "{heard:?}");
    assert!(heard[1].contains("1 rows repeat"), "{heard:?}");
}

#[test]
fn without_times_each_user_gives_one_sample() {
    let mut bytes = RATINGS[..32].to_vec();
    for user in 1..=40 {
        for item in 0..(3 + user % 5) {
            bytes.extend_from_slice(format!("\"{user}\";\"I{item}\";\"{}\"\n", (user * 7 + item * 3) % 11).as_bytes());
        }
    }
    let dir = small("BX-Book-Ratings.csv", &bytes);
    let books = [BOOKS, &b"\"I0\";\"T\";\"A\";\"2000\";\"P\";\"a\";\"b\";\"c\"\n"[..]].concat();
    std::fs::write(dir.path().join("BX-Books.csv"), books).expect("writes");
    let settings = DataSettings { min_history: 4, ..DataSettings::new(Kind::BOOK_CROSSING, dir.path()) };
    let dataset = open(&settings).expect("opens");
    let samples = data::build_samples(&dataset, &settings).expect("samples");
    // Lists of 5, 6 and 7 have at least 4 earlier ones: 3 of 5 users.
    assert_eq!(samples.samples.len(), 24);
    for sample in &samples.samples {
        let timeline = &samples.timelines[sample.user.at()];
        assert_eq!(sample.position as usize + 1, timeline.len(), "the target is the last one");
        assert_eq!(sample.label, sample.rating > 4.0);
    }
    assert_eq!((samples.split.train.len(), samples.split.valid.len(), samples.split.test.len()), (19, 2, 3));
    assert!(samples == data::build_samples(&dataset, &settings).expect("samples"), "the same seed, other samples");
    let other = data::build_samples(&dataset, &DataSettings { seed: 1, ..settings.clone() }).expect("samples");
    assert!(samples.timelines != other.timelines && samples.samples != other.samples);
    // The authors' way gives users with lists of equal length the same order of positions.
    let python = DataSettings { shuffle: Shuffle::Python, ..settings.clone() };
    let python = data::build_samples(&dataset, &python).expect("samples");
    let order = |user: usize| -> Vec<u32> { python.timelines[user].iter().map(|r| r.item.0).collect() };
    assert_eq!(order(1), order(6));
    let own = |user: usize| -> Vec<u32> { samples.timelines[user].iter().map(|r| r.item.0).collect() };
    assert_ne!(own(3), own(8));
    // An order that means nothing makes histories hold the targets of others: refused.
    let every = DataSettings { targets: Targets::Every, ..settings.clone() };
    refuse(data::build_samples(&dataset, &every), "data.targets", "no times");
    let edges = data::graph_edges(&dataset, &samples, GraphEdges::TrainSplit);
    let inputs = leaks::Inputs {
        samples: &samples,
        edges: Some(&edges),
        selection: Some(Part::Valid),
        allowed: leaks::Allowed::default(),
    };
    assert_eq!(leaks::check(inputs, &Silent).expect("no leak"), leaks::LeakReport::default());
    let held = samples.split.valid.len() + samples.split.test.len();
    assert_eq!(edges.len() + held, dataset.interactions.len());
    // Zeros dropped before everything else.
    let explicit = open(&DataSettings { implicit: Implicit::Drop, ..settings }).expect("opens");
    assert!(
        explicit.interactions.iter().all(|r| r.rating > 0.0)
            && explicit.interactions.len() < dataset.interactions.len()
    );
}

#[test]
fn the_real_files_have_their_counts_and_give_the_authors_own() {
    let Some(path) = real("book-crossing") else { return };
    let start = std::time::Instant::now();
    let dataset = load(Kind::BOOK_CROSSING, &path).expect("loads");
    println!("load: {:.3} s", start.elapsed().as_secs_f64());
    assert_eq!((dataset.interactions.len(), dataset.users.len(), dataset.items.len()), (1_149_779, 105_283, 340_549));
    let count = |rating: f32| dataset.interactions.iter().filter(|r| r.rating == rating).count();
    let histogram: Vec<usize> = (0..=10u8).map(|r| count(r.into())).collect();
    assert_eq!(histogram, [716_109, 1770, 2759, 5996, 8904, 50_974, 36_924, 76_457, 103_736, 67_540, 78_610]);
    let known = dataset.users.iter().filter(|u| !u.fields.is_empty()).count();
    // 80,247 of them are in the file of users; few say neither country nor age.
    assert!((75_000..=80_247).contains(&known), "{known}");

    // Core sizes of all ratings and of the explicit ones.
    let core = |implicit, k| {
        let settings =
            DataSettings { core: data::Core::k(k), implicit, ..DataSettings::new(Kind::BOOK_CROSSING, &path) };
        let (core, _) = data::filter(dataset.clone(), &settings).expect("filters");
        (core.interactions.len(), core.users.len(), core.items.len())
    };
    assert_eq!(core(Implicit::Dislike, 5), (585_579, 15_798, 38_093));
    assert_eq!(core(Implicit::Dislike, 10), (374_325, 6754, 13_670));
    assert_eq!(core(Implicit::Drop, 5), (118_668, 7025, 9432));
    assert_eq!(core(Implicit::Drop, 10), (42_137, 1842, 2065));
    let titled = data::Core { known: data::Known::Title, ..data::Core::k(10) };
    let titled = titled.apply(dataset.clone()).expect("filters");
    assert_eq!((titled.interactions.len(), titled.users.len(), titled.items.len()), (365_894, 6605, 13_228));

    // The authors' numbers: 227,735 ratings of 8,723 users and 3,547 items, 147,856 of them 0;
    // 7,850 + 873 samples, of whose targets 0.4622 are likes.
    let settings = DataSettings::method(Kind::BOOK_CROSSING, &path);
    let (method, steps) = data::filter(dataset, &settings).expect("filters");
    assert_eq!((method.interactions.len(), method.users.len(), method.items.len()), (227_735, 8723, 3547));
    assert_eq!(method.interactions.iter().filter(|r| r.rating == 0.0).count(), 147_856);
    for step in &steps {
        println!("{step:?}");
    }
    let samples = data::build_samples(&method, &settings).expect("samples");
    assert_eq!((samples.split.train.len(), samples.split.valid.len(), samples.split.test.len()), (6978, 872, 873));
    let seen = data::inspect(&method, &samples, &settings).expect("inspects").with_filters(steps);
    println!("{}", serde_json::to_string_pretty(&seen).expect("serialises"));
    assert_eq!((seen.faithful.train, seen.faithful.valid, seen.faithful.test), (7850, 0, 873));
    assert_eq!(seen.switches.len(), 3);
    assert_eq!(seen.repeated_rows, 0);
    let likes = seen.switches[1].positives;
    assert_eq!(format!("{likes:.4}"), "0.4622", "the authors' draw");
}
