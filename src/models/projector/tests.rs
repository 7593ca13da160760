//! Training as a whole: it finds a planted map, every option learns, a stop loses nothing.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::train::*;
use super::{Projection, ProjectorSettings, forget};
use crate::data::ItemIdx;
use crate::device::Device;
use crate::events::Event;
use crate::monitor::{Monitor, Silent};
use crate::ops::infonce::Similarity;
use crate::rng::{Rng, Use};
use crate::tensor::Matrix;

fn align(text: &Matrix, colla: &Matrix, both: &[ItemIdx], settings: &ProjectorSettings) -> crate::Result<Aligned> {
    train(&Device::Cpu, Embeddings { text, colla, both }, settings, None, &Silent)
}

/// Text rows are a hidden linear image of the collaborative rows, with noise.
fn planted(n: usize) -> (Matrix, Matrix, Vec<ItemIdx>) {
    let mut rng = Rng::new(5, Use::Synthetic, 0, 0);
    let (d, t) = (8, 24);
    let map: Vec<f32> = (0..d * t).map(|_| rng.normal()).collect();
    let (mut text, mut colla) = (Matrix::zeros(n, t), Matrix::zeros(n, d));
    for i in 0..n {
        for k in 0..d {
            colla.row_mut(i)[k] = rng.normal();
        }
        for j in 0..t {
            let image: f32 = (0..d).map(|k| colla.row(i)[k] * map[k * t + j]).sum();
            text.row_mut(i)[j] = image + 0.1 * rng.normal();
        }
    }
    (text, colla, (0..n as u32).map(ItemIdx).collect())
}

#[test]
fn it_finds_the_planted_map() {
    let (mut text, mut colla, mut both) = planted(400);
    // The last item has no text, the one before no collaborative row.
    text.row_mut(399).fill(0.0);
    colla.row_mut(398).fill(0.0);
    both.truncate(398);
    let settings = ProjectorSettings { epochs: 60, batch: 128, ..ProjectorSettings::default() };
    let got = align(&text, &colla, &both, &settings).unwrap();
    assert!(got.before.positive < 0.3, "{:?}", got.before);
    assert!(got.after.positive > 0.85 && got.after.negative.abs() < 0.1, "{:?}", got.after);
    let (first, last) = (got.history[0], got.history[got.history.len() - 1]);
    assert!(last.held_out.unwrap() < 0.5 * first.held_out.unwrap());
    assert!(got.ssl.row(399).iter().all(|&v| v == 0.0) && got.ssl.row(398).iter().any(|&v| v != 0.0));
    assert_eq!(got, align(&text, &colla, &both, &settings).unwrap(), "not reproducible");
}

#[test]
fn every_option_learns() {
    let (text, colla, both) = planted(120);
    let base = ProjectorSettings { epochs: 15, learning_rate: 1e-2, ..ProjectorSettings::default() };
    for settings in [
        ProjectorSettings { half: true, batch: 0, held_out: 0.0, ..base.clone() },
        ProjectorSettings { text_pca: 10, activation: crate::ops::mlp::Activation::Silu, ..base.clone() },
        ProjectorSettings { freeze_collaborative: false, learn_tau: true, ..base.clone() },
        ProjectorSettings { similarity: Similarity::InnerProduct, tau: 1.0, hidden: 40, ..base.clone() },
        ProjectorSettings { projection: Projection::Attention, tokens: 5, ..base.clone() },
    ] {
        let got = align(&text, &colla, &both, &settings).unwrap();
        let (first, last) = (got.history[0].loss, got.history[got.history.len() - 1].loss);
        assert!(last < 0.8 * first, "{settings:?}: {first} -> {last}");
    }
}

#[test]
fn attention_finds_what_slices_say_of_one_another() {
    // A column of the collaborative row is the product of two slices' columns: a question of the
    // one to the other, which a small linear layer cannot ask.
    let (text, mut colla, both) = planted(400);
    for i in 0..400 {
        let row = text.row(i).to_vec();
        for k in 0..8 {
            colla.row_mut(i)[k] = row[k] * row[8 + k];
        }
    }
    let base = ProjectorSettings {
        epochs: 60,
        batch: 0,
        early_stop: 0,
        held_out: 0.0,
        activation: crate::ops::mlp::Activation::Identity,
        learning_rate: 5e-3,
        ..ProjectorSettings::default()
    };
    let last = |settings: &ProjectorSettings| {
        let history = align(&text, &colla, &both, settings).unwrap().history;
        history[history.len() - 1].loss
    };
    let plain = last(&base);
    let with = last(&ProjectorSettings { projection: Projection::Attention, tokens: 3, ..base.clone() });
    // Without weights of its own it would end at the very same loss.
    assert!(with < 0.995 * plain, "{with} with attention, {plain} without");
}

#[test]
fn bad_input_is_named() {
    let (mut text, colla, both) = planted(10);
    let run = |text: &Matrix, both: &[ItemIdx], settings: &ProjectorSettings| {
        align(text, &colla, both, settings).unwrap_err().to_string()
    };
    assert!(run(&text, &both[..1], &ProjectorSettings::default()).contains("fewer than two"));
    assert!(run(&text, &[ItemIdx(10)], &ProjectorSettings::default()).contains("outside"));
    assert!(run(&text, &both, &ProjectorSettings { tau: 0.0, ..ProjectorSettings::default() }).contains("tau"));
    text.row_mut(7)[2] = f32::NAN;
    assert!(run(&text, &both, &ProjectorSettings::default()).contains("text embedding of item 7"));
}

/// Stops after so many questions, one a batch.
struct Stop(AtomicU64);

impl Monitor for Stop {
    fn emit(&self, _: Event) {}
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn stop_requested(&self) -> bool {
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err()
    }
    fn stage(&self) -> &str {
        "align"
    }
}

fn kept(folder: &Path, settings: &ProjectorSettings, monitor: &dyn Monitor) -> crate::Result<Aligned> {
    let (text, colla, both) = planted(150);
    let of = Embeddings { text: &text, colla: &colla, both: &both };
    train_keeping(&Device::Cpu, of, settings, Some((folder, 0.0)), monitor)
}

#[test]
fn a_stopped_training_ends_at_the_same_bits() {
    let (text, colla, both) = planted(150);
    let base = ProjectorSettings { epochs: 14, batch: 40, learning_rate: 1e-2, ..ProjectorSettings::default() };
    for settings in [
        base.clone(),
        ProjectorSettings { freeze_collaborative: false, learn_tau: true, ..base.clone() },
        // The best epoch is not the last one, and the wait for a better one goes over a stop.
        ProjectorSettings { learning_rate: 0.3, early_stop: 6, held_out: 0.3, ..base.clone() },
        ProjectorSettings { text_pca: 6, held_out: 0.0, half: true, ..base.clone() },
        ProjectorSettings { projection: Projection::Attention, tokens: 4, ..base.clone() },
    ] {
        let whole = align(&text, &colla, &both, &settings).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut stops = 0;
        let got = loop {
            // A little over two epochs of three or four batches.
            match kept(folder.path(), &settings, &Stop(AtomicU64::new(10))) {
                Ok(got) => break got,
                Err(e) => assert_eq!(e.exit_code(), 130, "{e}"),
            }
            stops += 1;
            assert!(stops < 20, "no progress between stops");
        };
        assert!(stops >= 2, "{stops} stops");
        let bits = |a: &Aligned| a.ssl.as_slice().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(bits(&got) == bits(&whole), "other bits after {stops} stops: {settings:?}");
        assert_eq!(got, whole);
        assert_eq!(kept(folder.path(), &settings, &Silent).unwrap(), whole, "a finished training is read back");
        forget(folder.path()).unwrap();
        forget(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ProjectorSettings { epochs: 1, ..ProjectorSettings::default() };
    kept(folder.path(), &settings, &Silent).unwrap();
    let error = |settings: &ProjectorSettings| kept(folder.path(), settings, &Silent).unwrap_err().to_string();
    assert!(error(&ProjectorSettings { tau: 0.2, ..settings.clone() }).contains("other settings"));
    let (text, mut colla, both) = planted(150);
    colla.row_mut(3)[0] += 1.0;
    let of = Embeddings { text: &text, colla: &colla, both: &both };
    let other = train(&Device::Cpu, of, &settings, Some(folder.path()), &Silent).unwrap_err().to_string();
    assert!(other.contains("other embeddings"), "{other}");
    let file = folder.path().join("projector.safetensors");
    let whole = std::fs::read(&file).unwrap();
    for cut in [0, 7, 40, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..cut]).unwrap();
        assert!(error(&settings).contains("remove this file"), "cut at {cut}");
    }
    let mut nan = whole.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, nan).unwrap();
    assert!(error(&settings).contains("not finite"));
}
