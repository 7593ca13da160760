//! Counts and splits on the real data sets, where they are there.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rallrec::Silent;
use rallrec::data::{self, DataSettings, Dataset, GraphEdges, Kind, Part, Repeats, Samples, leaks};

fn folder(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if path.is_dir() {
        return Some(path);
    }
    crate::skip::skip(&format!("file {}", path.display()), format!("{} is not there", path.display()));
    None
}

fn check(samples: &Samples, edges: Option<&[(data::UserIdx, data::ItemIdx)]>) -> rallrec::Result<leaks::LeakReport> {
    let allowed = leaks::Allowed::default();
    leaks::check(leaks::Inputs { samples, edges, selection: Some(Part::Valid), allowed }, &Silent)
}

#[test]
fn movielens_1m_has_the_published_counts() {
    let Some(path) = folder("ml-1m") else { return };
    let start = Instant::now();
    let dataset = data::load(Kind::ML_1M, &path, &Silent).expect("loads");
    println!("load: {:.3} s", start.elapsed().as_secs_f64());
    assert_eq!((dataset.users.len(), dataset.items.len(), dataset.interactions.len()), (6040, 3883, 1_000_209));
    let toy = &dataset.items[0];
    assert_eq!((toy.raw.0.as_str(), toy.title.as_str()), ("1", "Toy Story (1995)"));
    assert_eq!(toy.genres, ["Animation", "Children's", "Comedy"]);
    let les = dataset.items.iter().find(|i| i.raw.0 == "73").expect("item 73");
    assert_eq!(les.title, "Misérables, Les (1995)");
    let user = &dataset.users[0];
    let profile: Vec<_> = user.fields.iter().map(|f| f.value.as_str()).collect();
    assert_eq!(profile, ["female", "under 18", "K-12 student", "48067"]);

    // The authors' settings (repeats kept) and the correct ones: MovieLens has no repeats, so both
    // are equal.
    let settings = DataSettings::new(Kind::ML_1M, &path);
    let start = Instant::now();
    let samples = data::build_samples(&dataset, &settings).expect("samples");
    println!("samples: {:.3} s", start.elapsed().as_secs_f64());
    let kept =
        data::build_samples(&dataset, &DataSettings { repeats: Repeats::Keep, ..settings.clone() }).expect("samples");
    assert!(samples == kept, "correct and faithful differ");
    assert_eq!(samples.samples.len(), 970_009);
    assert_eq!(
        (samples.split.train.len(), samples.split.valid.len(), samples.split.test.len()),
        (776_007, 97_000, 97_002)
    );
    assert_eq!(samples.samples[776_007].time, 975_800_844);
    assert_eq!(samples.samples[873_007].time, 978_229_293);

    let seen = data::inspect(&dataset, &samples, &settings).expect("inspects");
    assert_eq!((seen.rated_items, seen.repeated_rows), (3706, 0));
    assert_eq!(seen.histogram.iter().map(|h| h.1).collect::<Vec<_>>(), [56_174, 107_557, 261_197, 348_971, 226_310]);
    assert_eq!(seen.time_range, Some((956_703_932, 1_046_454_590)));
    println!("{}", serde_json::to_string_pretty(&seen).expect("serialises"));

    let edges = data::graph_edges(&dataset, &samples, GraphEdges::TrainSplit);
    println!("train edges: {}", edges.len());
    assert_eq!(edges.len(), 803_078);
    assert_eq!(check(&samples, Some(&edges)).expect("no leak"), leaks::LeakReport::default());
    let leaky = data::graph_edges(&dataset, &samples, GraphEdges::LeaveOneOut);
    let error = check(&samples, Some(&leaky)).expect_err("leave-one-out leaks");
    println!("{error}");
    assert_eq!(error.place(), "graph.edges");

    let descriptions = path.join("../ml-1m-descriptions/dbpedia_abstracts.json.gz");
    if descriptions.exists() {
        let read = data::descriptions::read(&descriptions, &dataset, Some(80), &Silent).expect("reads");
        assert_eq!((read.missing, read.foreign, read.texts.len()), (582, 0, 3883));
        let at = dataset.items.iter().position(|i| i.raw.0 == "781").expect("item 781");
        assert!(read.texts[at].as_deref().is_some_and(|t| t.starts_with("Stealing Beauty (French: Beauté volée;")));
    }

    let dir = tempfile::tempdir().expect("folder");
    let start = Instant::now();
    dataset.write(&dir.path().join("d")).expect("writes");
    samples.write(&dir.path().join("s")).expect("writes");
    println!("write both: {:.3} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    assert!(Dataset::read(&dir.path().join("d")).expect("reads") == dataset);
    assert!(Samples::read(&dir.path().join("s")).expect("reads") == samples);
    println!("read both: {:.3} s", start.elapsed().as_secs_f64());
}

#[test]
fn movielens_100k_has_the_published_counts() {
    let Some(path) = folder("ml-100k") else { return };
    let dataset = data::load(Kind::ML_100K, &path, &Silent).expect("loads");
    assert_eq!((dataset.users.len(), dataset.items.len(), dataset.interactions.len()), (943, 1682, 100_000));
    assert_eq!(dataset.items[0].genres, ["Animation", "Children's", "Comedy"]);
    assert_eq!(dataset.users[0].field("age"), Some("18-24"));
    let settings = DataSettings::new(Kind::ML_100K, &path);
    let samples = data::build_samples(&dataset, &settings).expect("samples");
    // Every user has at least 20 ratings and none twice, so five a user fall away.
    assert_eq!(samples.samples.len(), 100_000 - 5 * 943);
    let edges = data::graph_edges(&dataset, &samples, GraphEdges::TrainSplit);
    assert_eq!(check(&samples, Some(&edges)).expect("no leak"), leaks::LeakReport::default());
}
