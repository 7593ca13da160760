//! Training as a whole: it learns, it is reproducible, a stop loses nothing, a broken checkpoint is
//! named.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::data::{ItemIdx, UserIdx};
use crate::device::Device;
use crate::error::{Kind, Result};
use crate::events::Event;
use crate::monitor::{Monitor, Silent};
use crate::rng::{Rng, Use};
use crate::settings::{Checked, Schedule};

type Lists = Vec<(UserIdx, Vec<ItemIdx>)>;

/// Two tastes: users mostly take items of their own half. The last user and the last item have no
/// edge.
fn planted() -> (Graph, Lists) {
    let (users, items) = (61, 41);
    let mut rng = Rng::new(2, Use::Synthetic, 0, 0);
    let (mut edges, mut valid) = (Vec::new(), Lists::new());
    for u in 0..60u32 {
        let mut own: Vec<u32> = (0..40).filter(|i| i % 2 == u % 2).collect();
        rng.shuffle(&mut own);
        edges.extend(own[..10].iter().map(|&i| (UserIdx(u), ItemIdx(i))));
        valid.push((UserIdx(u), own[10..14].iter().map(|&i| ItemIdx(i)).collect()));
    }
    (Graph::new(users, items, &edges).unwrap(), valid)
}

fn settings() -> LightGcnSettings {
    LightGcnSettings {
        dim: 8,
        layers: 2,
        learning_rate: 0.02,
        batch: 64,
        epochs: 12,
        early_stop: 0,
        eval_every: 2,
        ..LightGcnSettings::default()
    }
}

/// Stops after so many questions.
struct Stop(AtomicU64);

impl Monitor for Stop {
    fn emit(&self, _: Event) {}
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn stop_requested(&self) -> bool {
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err()
    }
    fn stage(&self) -> &str {
        "graph"
    }
}

fn run(folder: Option<&Path>, settings: &LightGcnSettings, monitor: &dyn Monitor) -> Result<Embeddings> {
    let (graph, valid) = planted();
    train(&Device::Cpu, &graph, &valid, settings, folder, monitor)
}

#[test]
fn it_learns_the_planted_tastes() {
    let got = run(None, &settings(), &Silent).unwrap();
    let recall: Vec<f64> = got.history.iter().filter_map(|e| e.recall).collect();
    assert_eq!(recall.len(), 6);
    // A user's own half has 10 free items of 31; chance is below 0.65 at a cut of 20.
    assert!(recall.iter().fold(0.0f64, |m, &r| m.max(r)) > 0.95, "{recall:?}");
    assert!(got.history[11].loss < 0.7 * got.history[0].loss, "{:?}", got.history);
    assert!(got.users.row(60).iter().chain(got.items.row(40)).all(|&v| v == 0.0), "outside the graph means zero");
    assert_eq!((got.users.rows(), got.items.rows(), got.users.cols()), (61, 41, 8));
}

#[test]
fn a_stopped_run_ends_at_the_same_bits() {
    for schedule in [Schedule::Constant, Schedule::Linear] {
        stopped_and_whole(&LightGcnSettings { schedule, ..settings() });
    }
}

fn stopped_and_whole(settings: &LightGcnSettings) {
    let whole = run(None, settings, &Silent).unwrap();
    // A little over two epochs of ten steps each time, and less than one.
    for (steps, least) in [(25, 3), (7, 12)] {
        let folder = tempfile::tempdir().unwrap();
        let mut stops = 0;
        let got = loop {
            match run(Some(folder.path()), settings, &Stop(AtomicU64::new(steps))) {
                Ok(got) => break got,
                Err(e) => assert_eq!(e.kind(), Kind::Stopped, "{e}"),
            }
            stops += 1;
            assert!(stops < 40, "no progress between stops");
        };
        assert!(stops >= least, "{stops}");
        assert_eq!(got, whole);
        assert_eq!(run(Some(folder.path()), settings, &Silent).unwrap(), whole, "a finished run is read back");
    }
}

#[test]
fn more_epochs_go_on_from_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    run(Some(folder.path()), &LightGcnSettings { epochs: 4, ..settings() }, &Silent).unwrap();
    let got = run(Some(folder.path()), &settings(), &Silent).unwrap();
    assert_eq!(got, run(None, &settings(), &Silent).unwrap());
}

/// The rate falls to one last part of it, and each step depends on the number of epochs.
#[test]
fn a_falling_rate_ends_near_zero_and_takes_no_more_epochs() {
    let s = LightGcnSettings { schedule: Schedule::Linear, epochs: 4, ..settings() };
    let folder = tempfile::tempdir().unwrap();
    let last = |s: &LightGcnSettings| {
        let rates = Rates::default();
        run(None, s, &rates).unwrap();
        rates.0.into_inner().unwrap().pop().unwrap()
    };
    assert_eq!(last(&LightGcnSettings { epochs: 4, ..settings() }), f64::from(0.02f32));
    let steps = 4 * 10;
    assert!((last(&s) - 0.02 / f64::from(steps)).abs() < 1e-9, "{}", last(&s));
    run(Some(folder.path()), &s, &Silent).unwrap();
    let error = run(Some(folder.path()), &LightGcnSettings { epochs: 8, ..s }, &Silent).unwrap_err();
    assert!(error.to_string().contains("other settings"), "{error}");
}

/// Keeps the learning rates that are told.
#[derive(Default)]
struct Rates(std::sync::Mutex<Vec<f64>>);

impl Monitor for Rates {
    fn emit(&self, event: Event) {
        if let Event::TrainStep { learning_rate, .. } = event {
            self.0.lock().unwrap().push(learning_rate);
        }
    }
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn stop_requested(&self) -> bool {
        false
    }
    fn stage(&self) -> &str {
        "graph"
    }
}

#[test]
fn early_stop_keeps_the_best() {
    let s = LightGcnSettings { epochs: 200, early_stop: 3, eval_every: 1, ..settings() };
    let got = run(None, &s, &Silent).unwrap();
    assert!(got.history.len() < 200, "{} epochs", got.history.len());
    let recall = |e: &Epoch| e.recall.unwrap_or(0.0);
    let top = got.history.iter().map(recall).fold(0.0, f64::max);
    let best = got.history.iter().position(|e| recall(e) == top).unwrap();
    assert_eq!(best + 1 + 3, got.history.len(), "three evaluations after the first best one");
}

#[test]
fn a_checkpoint_that_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let s = LightGcnSettings { epochs: 1, ..settings() };
    run(Some(folder.path()), &s, &Silent).unwrap();
    let error = |s: &LightGcnSettings| run(Some(folder.path()), s, &Silent).unwrap_err().to_string();
    assert!(error(&LightGcnSettings { seed: 1, ..s.clone() }).contains("other settings"));
    let file = folder.path().join("lightgcn.safetensors");
    let whole = std::fs::read(&file).unwrap();
    for cut in [0, 7, 40, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..cut]).unwrap();
        assert!(error(&s).contains("remove this file"), "cut at {cut}");
    }
    let mut hostile = whole.clone();
    hostile[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&file, hostile).unwrap();
    assert!(error(&s).contains("remove this file"));
    let mut nan = whole.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, nan).unwrap();
    assert!(error(&s).contains("not finite"));
    let (graph, _) = planted();
    let other = Graph::new(61, 41, &[(UserIdx(0), ItemIdx(0)), (UserIdx(1), ItemIdx(3))]).unwrap();
    assert_ne!(graph.digest(), other.digest());
    std::fs::write(&file, whole).unwrap();
    assert!(
        train(&Device::Cpu, &other, &[], &s, Some(folder.path()), &Silent)
            .unwrap_err()
            .to_string()
            .contains("another graph")
    );
}

#[test]
fn nonsense_is_refused() {
    let (graph, _) = planted();
    assert!(Graph::new(2, 2, &[]).unwrap_err().to_string().contains("no edge"));
    assert!(Graph::new(2, 2, &[(UserIdx(0), ItemIdx(2))]).unwrap_err().to_string().contains("graph edge 0"));
    assert!(train(&Device::Cpu, &graph, &[(UserIdx(0), vec![ItemIdx(41)])], &settings(), None, &Silent).is_err());
    for bad in [
        LightGcnSettings { dim: 0, ..settings() },
        LightGcnSettings { learning_rate: f32::NAN, ..settings() },
        LightGcnSettings { batch: 0, ..settings() },
        LightGcnSettings { eval_every: 0, ..settings() },
    ] {
        assert_eq!(bad.check().unwrap_err().kind(), Kind::Usage);
    }
    let error = run(None, &LightGcnSettings { learning_rate: 1e38, ..settings() }, &Silent).unwrap_err();
    assert!(error.to_string().contains("learning_rate"), "{error}");
}
