//! The yardsticks on MovieLens-1M, where the data is there: the published time split, first 10,000 test rows.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use rallrec::data::{ItemIdx, Rated, Sample, UserIdx};
use rallrec::eval::{auc, yardsticks};

fn ratings() -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/ml-1m");
    let mut text = String::new();
    match std::fs::File::open(folder.join("ratings.dat.gz")) {
        Ok(file) => flate2::read::GzDecoder::new(file).read_to_string(&mut text).map(|_| text).ok(),
        Err(_) => std::fs::read_to_string(folder.join("ratings.dat")).ok(),
    }
}

#[test]
fn yardsticks_reach_their_known_auc_on_movielens() {
    let Some(text) = ratings() else {
        println!("skipped: ../shared/data/ml-1m is not there");
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
    let fitted = yardsticks::fit(4000, &samples[..train], &yardsticks::Settings::default()).unwrap();
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
    let (item, both) = (auc(&labels, &item).unwrap().unwrap(), auc(&labels, &both).unwrap().unwrap());
    println!("AUC: item {item:.4}, item and history {both:.4}");
    assert!((item - 0.718).abs() <= 0.0015, "{item}");
    assert!((both - 0.777).abs() <= 0.0015, "{both}");
}
