//! The built-in data set: reproducible, learnable, and an end-to-end subject for samples, graph and
//! leak checks.

use rallrec::Silent;
use rallrec::data::synthetic::{self, Latent};
use rallrec::data::{
    self, Core, DataSettings, Dataset, GraphEdges, Item, Kind, Part, Repeats, Sample, Samples, descriptions, leaks,
};
use rallrec::settings::Checked;
use rallrec::text::item_text::{Genres, plain_with};

/// Area under the ROC curve; ties count one half.
fn auc(scored: &[(f64, bool)]) -> f64 {
    let mut order = scored.to_vec();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut sum, mut at) = (0.0, 0);
    while at < order.len() {
        let end = order[at..].iter().position(|s| s.0 != order[at].0).map_or(order.len(), |n| at + n);
        let rank = (at + 1 + end) as f64 / 2.0;
        sum += rank * order[at..end].iter().filter(|s| s.1).count() as f64;
        at = end;
    }
    let likes = scored.iter().filter(|s| s.1).count() as f64;
    (sum - likes * (likes + 1.0) / 2.0) / (likes * (scored.len() as f64 - likes))
}

/// Item mean over the training rows plus what the user's own history says: mean offset, and offset
/// by genre.
fn baseline(dataset: &Dataset, samples: &Samples, sample: &Sample, means: &[f64]) -> f64 {
    let history = samples.history(sample);
    let offset = |r: &data::Rated| f64::from(r.rating) - means[r.item.at()];
    let bias = history.iter().map(offset).sum::<f64>() / (history.len() as f64 + 5.0);
    let genres = &dataset.items[sample.item.at()].genres;
    let alike: Vec<f64> = history
        .iter()
        .filter(|r| dataset.items[r.item.at()].genres.first() == genres.first())
        .map(|r| offset(r) - bias)
        .collect();
    means[sample.item.at()] + bias + alike.iter().sum::<f64>() / (alike.len() as f64 + 2.0)
}

fn item_means(dataset: &Dataset, samples: &Samples) -> Vec<f64> {
    let mut sums = vec![(3.4 * 5.0, 5.0); dataset.items.len()];
    for s in samples.part(Part::Train) {
        sums[s.item.at()].0 += f64::from(s.rating);
        sums[s.item.at()].1 += 1.0;
    }
    sums.into_iter().map(|(sum, n)| sum / n).collect()
}

fn oracle(latent: &Latent, sample: &Sample) -> f64 {
    f64::from(latent.score(sample.user, sample.item, sample.time))
}

#[test]
fn it_is_learnable() {
    for seed in [1, 2, 3] {
        let (dataset, latent) = synthetic::generate(&synthetic::SyntheticSettings { seed, ..Default::default() });
        let samples = data::build_samples(&dataset, &DataSettings::default()).expect("samples");
        let means = item_means(&dataset, &samples);
        let test = samples.part(Part::Test);
        let of = |score: &dyn Fn(&Sample) -> f64| auc(&test.iter().map(|s| (score(s), s.label)).collect::<Vec<_>>());
        let item = of(&|s| means[s.item.at()]);
        let own = of(&|s| baseline(&dataset, &samples, s, &means));
        let best = of(&|s| oracle(&latent, s));
        let likes = test.iter().filter(|s| s.label).count() as f64 / test.len() as f64;
        println!(
            "seed {seed}: {} ratings, {} samples, test likes {likes:.3}; AUC item mean {item:.3}, with own history {own:.3}, oracle {best:.3}",
            dataset.interactions.len(),
            samples.samples.len()
        );
        assert!((18_000..22_000).contains(&dataset.interactions.len()));
        assert!((0.4..0.75).contains(&likes), "{likes}");
        assert!(own >= 0.68 && best >= 0.75 && best > own + 0.03, "{item} {own} {best}");
    }
}

#[test]
fn cold_items_appear_late_only() {
    let (dataset, latent) = synthetic::generate(&synthetic::SyntheticSettings::default());
    let samples = data::build_samples(&dataset, &DataSettings::default()).expect("samples");
    let cold = latent.cold.iter().filter(|&&c| c).count();
    assert!(cold >= 5, "{cold}");
    let count = |part| samples.part(part).iter().filter(|s| latent.cold[s.item.at()]).count();
    println!(
        "cold items {cold}, targets train {} valid {} test {}",
        count(Part::Train),
        count(Part::Valid),
        count(Part::Test)
    );
    assert!(count(Part::Test) > 20);
    assert!(count(Part::Train) * 20 < samples.split.train.len());
}

#[test]
fn the_same_seed_gives_the_same_world_and_another_seed_another() {
    let settings = synthetic::SyntheticSettings { users: 40, items: 50, ratings: 600, ..Default::default() };
    let (a, latent) = synthetic::generate(&settings);
    assert!(synthetic::generate(&settings) == (a.clone(), latent));
    assert!(synthetic::generate(&synthetic::SyntheticSettings { seed: 2, ..settings }).0 != a);
    let titles: std::collections::HashSet<_> = a.items.iter().map(|i| &i.title).collect();
    assert_eq!(titles.len(), 50);
}

#[test]
fn descriptions_tell_more_than_titles() {
    let settings = DataSettings::default();
    let dataset = data::open(&settings, &Silent).expect("opens");
    let read = descriptions::load(&settings, None, 0, &dataset, &Silent).expect("loads");
    assert_eq!((read.missing, read.texts.len()), (0, dataset.items.len()));
    for text in read.texts.iter().flatten() {
        assert!((25..80).contains(&text.split(' ').count()), "{text}");
        assert!(!text.contains(['"', '\n']));
    }
    let (_, latent) = synthetic::generate(&settings.synthetic);
    let praised = |text: &str| ["masterpiece", "brilliant", "warmly", "praised"].iter().any(|w| text.contains(w));
    let mean = |with: bool| {
        let q: Vec<f32> =
            (0..200).filter(|&i| praised(&latent.descriptions[i]) == with).map(|i| latent.quality[i]).collect();
        q.iter().sum::<f32>() / q.len() as f32
    };
    assert!(mean(true) > mean(false) + 1.0, "{} {}", mean(true), mean(false));
    let plain = |item: &Item, noun: &str| plain_with(item, noun, Genres::All);
    let words: usize = synthetic::corpus(&settings.synthetic, &plain).iter().map(|t| t.split(' ').count()).sum();
    assert!(words > 20_000, "{words}");
}

#[test]
fn repeats_are_dropped_left_out_or_kept_as_asked() {
    let world = synthetic::SyntheticSettings { repeats: 0.1, ..Default::default() };
    let (dataset, _) = synthetic::generate(&world);
    let with = |repeats| {
        let settings = DataSettings { repeats, ..DataSettings::default() };
        (data::build_samples(&dataset, &settings).expect("samples"), settings)
    };
    let check = |samples: &Samples, allowed| {
        leaks::check(leaks::Inputs { samples, edges: None, selection: None, allowed }, &Silent)
    };
    let (dropped, _) = with(Repeats::Drop);
    let (excluded, _) = with(Repeats::ExcludeTarget);
    let (kept, settings) = with(Repeats::Keep);
    assert!(dropped.samples.len() < excluded.samples.len() && excluded.samples.len() <= kept.samples.len());
    assert_eq!(check(&dropped, Default::default()).expect("clean").target_in_history, 0);
    assert!(!excluded.exceptions.is_empty());
    assert_eq!(check(&excluded, Default::default()).expect("clean").target_in_history, 0);
    let error = check(&kept, Default::default()).expect_err("D6 leaks");
    assert!(error.to_string().contains("data.repeats"), "{error}");
    let report = check(&kept, leaks::Allowed { target_in_history: true, ..Default::default() }).expect("allowed");
    assert!(report.target_in_history > 100 && report.warnings.len() == 1);
    let seen = data::inspect(&dataset, &kept, &settings).expect("inspects");
    assert_eq!(seen.faithful.target_in_history, report.target_in_history);
    assert_eq!(seen.correct.total(), dropped.samples.len());
    assert!(seen.difference.contains("(D6)") && seen.repeated_rows > 100);
    let dir = tempfile::tempdir().expect("folder");
    excluded.write(&dir.path().join("s")).expect("writes");
    assert!(Samples::read(&dir.path().join("s")).expect("reads") == excluded);
}

#[test]
fn each_leak_is_found_and_named() {
    let dataset = data::open(&DataSettings::default(), &Silent).expect("opens");
    let samples = data::build_samples(&dataset, &DataSettings::default()).expect("samples");
    let run = |samples: &Samples, edges: Option<GraphEdges>, selection, allowed| {
        let edges = edges.map(|which| data::graph_edges(&dataset, samples, which));
        leaks::check(leaks::Inputs { samples, edges: edges.as_deref(), selection, allowed }, &Silent)
    };
    let clean = run(&samples, Some(GraphEdges::TrainSplit), Some(Part::Valid), Default::default());
    assert_eq!(clean.expect("clean"), leaks::LeakReport::default());
    let error = run(&samples, Some(GraphEdges::LeaveOneOut), None, Default::default()).expect_err("D5");
    assert!(error.to_string().contains("graph.edges"), "{error}");
    let allowed = leaks::Allowed { later_edges: true, ..Default::default() };
    let report = run(&samples, Some(GraphEdges::LeaveOneOut), None, allowed).expect("allowed");
    assert!(report.test_edges > samples.split.test.len() / 2);
    let error = run(&samples, None, Some(Part::Test), Default::default()).expect_err("D7");
    assert!(error.to_string().contains("selection"), "{error}");
    let allowed = leaks::Allowed { selection_on_test: true, ..Default::default() };
    assert!(run(&samples, None, Some(Part::Test), allowed).expect("allowed").selection_on_test);

    let mut shuffled = samples.clone();
    let last = shuffled.samples.len() - 1;
    shuffled.samples.swap(0, last);
    assert!(run(&shuffled, None, None, Default::default()).expect_err("order").to_string().contains("earlier"));
    let mut reaching = samples.clone();
    let row = reaching.samples.iter().position(|s| {
        let timeline = &samples.timelines[s.user.at()];
        (s.position as usize) + 1 < timeline.len()
    });
    reaching.samples[row.expect("a row")].position += 1;
    assert!(run(&reaching, None, None, Default::default()).expect_err("reach").to_string().contains("position"));
    let mut overlapping = samples.clone();
    overlapping.split.valid.start -= 1;
    assert!(run(&overlapping, None, None, Default::default()).is_err());
}

#[test]
fn a_core_renumbers_tables_and_a_stage_sees_one_id_space() {
    let settings = DataSettings { core: Core::k(40), ..DataSettings::default() };
    let whole = data::open(&DataSettings::default(), &Silent).expect("opens");
    let core = data::open(&settings, &Silent).expect("opens");
    assert!(core.users.len() < whole.users.len() && core.items.len() < whole.items.len());
    let triple = |d: &Dataset, r: &data::Interaction| {
        (d.users[r.user.at()].raw.clone(), d.items[r.item.at()].raw.clone(), r.time, r.rating.to_bits())
    };
    let expected: Vec<_> = settings.core.filter(&whole.interactions).iter().map(|r| triple(&whole, r)).collect();
    assert_eq!(core.interactions.iter().map(|r| triple(&core, r)).collect::<Vec<_>>(), expected);
    let samples = data::build_samples(&core, &settings).expect("samples");
    assert_eq!(samples.timelines.iter().map(Vec::len).sum::<usize>(), core.interactions.len());
    // Descriptions follow the ids through the renumbering.
    let read = descriptions::load(&settings, None, 0, &core, &Silent).expect("loads");
    let all = descriptions::load(&DataSettings::default(), None, 0, &whole, &Silent).expect("loads");
    for (item, text) in core.items.iter().zip(&read.texts) {
        let at = whole.items.iter().position(|i| i.raw == item.raw).expect("there");
        assert_eq!(text, &all.texts[at]);
    }
}

/// Which rule of the split is in force decides whether its shares count, so the whole recipe is
/// looked at.
#[test]
fn shares_that_leave_nothing_to_test_on_are_refused() {
    let recipe = |text: &str| rallrec::config::parse(text, "recipe.toml", &[]);
    let error = recipe("[data.split]\ntrain = 0.9\nvalid = 0.1").expect_err("refused").to_string();
    assert!(error.contains("data.split") && error.contains("nothing to test on"), "{error}");
    recipe("[data.split]\nby = \"last\"\ntrain = 0.9\nvalid = 0.1").expect("no shares there");
}

#[test]
fn settings_refuse_nonsense() {
    let bad = |text: &str| match toml::from_str::<DataSettings>(text) {
        Ok(settings) => settings.check().expect_err(text).to_string(),
        Err(error) => error.to_string(),
    };
    for (text, names) in [
        ("kind = \"ml-2m\"", "ml-1m"),
        ("typo = 1", "typo"),
        ("kind = \"ml-1m\"", "data.path"),
        ("min_history = 0", "min_history"),
        ("threshold = nan", "threshold"),
        ("[split]\ntrain = nan", "split"),
        ("[core]\nuser_min = 5\nuser_max = 4", "user_min"),
        ("[synthetic]\nusers = 0", "users"),
        ("[synthetic]\nnoise = nan", "noise"),
    ] {
        let error = bad(text);
        assert!(error.contains(names), "{text}: {error}");
    }
    let settings: DataSettings =
        toml::from_str("kind = \"ml-100k\"\npath = \"x\"\nrepeats = \"keep\"").expect("parses");
    assert_eq!((settings.kind, settings.repeats, settings.min_history), (Kind::ML_100K, Repeats::Keep, 5));
    assert_eq!(toml::from_str::<DataSettings>("").expect("parses"), DataSettings::default());
    let error = "mlm".parse::<Kind>().expect_err("no such kind").to_string();
    assert!(error.contains("did you mean"), "{error}");
}
