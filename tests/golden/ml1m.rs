//! The baselines on MovieLens-1M, where the data is there: the published time split, first 10,000
//! test rows.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use rallrec::collab::{BaselineSettings, Baselines, CollabSettings, Counts};
use rallrec::data::{ItemIdx, Rated, Sample, UserIdx};
use rallrec::eval::{EvalSettings, Table, auc};

fn ratings() -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/ml-1m");
    let mut text = String::new();
    match std::fs::File::open(folder.join("ratings.dat.gz")) {
        Ok(file) => flate2::read::GzDecoder::new(file).read_to_string(&mut text).map(|_| text).ok(),
        Err(_) => std::fs::read_to_string(folder.join("ratings.dat")).ok(),
    }
}

#[test]
fn baselines_reach_their_known_auc_on_movielens() {
    let Some(text) = ratings() else {
        crate::shared::skip::skip("file ../shared/data/ml-1m", "../shared/data/ml-1m is not there");
        return;
    };
    let mut rows: Vec<[i64; 4]> = text
        .lines()
        .map(|l| {
            let f: Vec<i64> = l.split("::").map(|x| x.parse().unwrap()).collect();
            [f[3], f[0], f[1], f[2]]
        })
        .collect();
    rows.sort_unstable();
    let mut timelines: HashMap<i64, Vec<Rated>> = HashMap::new();
    let mut samples = Vec::new();
    for [time, user, item, rating] in rows {
        let timeline = timelines.entry(user).or_default();
        let rated = Rated { item: ItemIdx(item as u32), rating: rating as f32, time };
        if timeline.len() >= 5 {
            samples.push(Sample {
                user: UserIdx(user as u32),
                item: rated.item,
                rating: rated.rating,
                label: rating > 3,
                time,
                position: timeline.len() as u32,
            });
        }
        timeline.push(rated);
    }
    assert_eq!(samples.len(), 970_009);
    let (train, valid) = (776_007, 97_000);
    let fitted = Baselines::fit(4000, &samples[..train], &BaselineSettings::default()).unwrap();
    let test = &samples[train + valid..][..10_000];
    let labels: Vec<bool> = test.iter().map(|s| s.label).collect();
    let item: Vec<f64> = test.iter().map(|s| fitted.item(s.item)).collect();
    let both: Vec<f64> = test
        .iter()
        .map(|s| {
            let history = &timelines[&i64::from(s.user.0)][..s.position as usize];
            fitted.predict(s.item, history, |r| r > 3.0)
        })
        .collect();
    let table =
        Table::build("test", &labels, &[("item", &item), ("both", &both)], Some("item"), &EvalSettings::default());
    let table = table.unwrap();
    println!("{}", table.to_text(Some(100)));
    assert!(table.rows[1].p_vs.iter().all(|c| c.metric != "auc" || c.p.unwrap() < 1e-6));
    let (item, both) = (auc(&labels, &item).unwrap().unwrap(), auc(&labels, &both).unwrap().unwrap());
    println!("AUC: item {item:.4}, item and history {both:.4}");
    assert!((item - 0.718).abs() <= 0.0015, "{item}");
    assert!((both - 0.777).abs() <= 0.0015, "{both}");

    // Causal features: as good as the baseline on test rows, and cross-fitting keeps training rows
    // from looking better than they are: every 40th training row against the same rows described
    // with their own rating included.
    let counts = Counts::fit(4000, 3.0, &samples[..train], &CollabSettings::default()).unwrap();
    let history = |s: &Sample| timelines[&i64::from(s.user.0)][..s.position as usize].to_vec();
    let features: Vec<f64> = test.iter().map(|s| counts.of_new_row(s.item, &history(s)).p).collect();
    assert!((auc(&labels, &features).unwrap().unwrap() - both).abs() <= 1e-3);
    let rows: Vec<&Sample> = samples[..train].iter().step_by(40).collect();
    let liked: Vec<bool> = rows.iter().map(|s| s.label).collect();
    let share =
        |f: &dyn Fn(&Sample) -> f64| auc(&liked, &rows.iter().map(|s| f(s)).collect::<Vec<_>>()).unwrap().unwrap();
    let crossed = share(&|s| counts.of_training_row(s.user, s.item, &[]).item.liked);
    let leaking = share(&|s| counts.of_new_row(s.item, &[]).item.liked);
    println!(
        "AUC of the item's share on training rows: {crossed:.4} from other folds, {leaking:.4} with the row itself"
    );
    assert!(crossed < leaking && crossed > 0.68, "{crossed} {leaking}");
}
