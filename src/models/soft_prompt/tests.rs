//! Inputs on one scale, the projector's gradient against f64, and its file.

use super::{Inputs, Projector, SoftSettings, mean_norm, standardised};
use crate::models::decoder::train::Parameters;
use crate::ops::linear::Weight;
use crate::ops::mlp::{Activation, oracle};
use crate::rng::{Rng, Use};
use crate::settings::Checked;
use crate::tensor::Matrix;

fn random(rows: usize, cols: usize, salt: u32) -> Matrix {
    let mut rng = Rng::new(3, Use::Synthetic, salt, 0);
    Matrix::from_vec(rows, cols, (0..rows * cols).map(|_| rng.normal()).collect()).unwrap()
}

fn settings(activation: Activation) -> SoftSettings {
    SoftSettings { hidden: 7, activation, ..SoftSettings::default() }
}

#[test]
fn columns_have_mean_0_and_variance_1_over_known_items() {
    let mut raw = random(50, 4, 0);
    for i in 0..50 {
        let row = raw.row_mut(i);
        row[1] = 100.0 * row[1] + 7.0;
        row[2] = 3.0;
    }
    raw.row_mut(9).fill(0.0);
    let out = standardised(&raw);
    assert!(out.row(9).iter().all(|&v| v == 0.0), "an unknown item is the mean item");
    for (column, variance) in [(0, 1.0), (1, 1.0), (2, 0.0), (3, 1.0)] {
        let values: Vec<f64> = (0..50).filter(|&i| i != 9).map(|i| f64::from(out.row(i)[column])).collect();
        let mean = values.iter().sum::<f64>() / 49.0;
        let found = values.iter().map(|v| v * v).sum::<f64>() / 49.0;
        assert!(mean.abs() <= 1e-6 && (found - variance).abs() <= 1e-5, "column {column}: {mean}, {found}");
    }
}

#[test]
fn fresh_vectors_have_the_norm_that_was_asked_for() {
    let table = random(300, 12, 1);
    let want = mean_norm(&Weight::from_f32(300, 12, table.as_slice().to_vec()).unwrap());
    let norm = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let plain = (0..300).map(|i| norm(table.row(i))).sum::<f64>() / 300.0;
    assert!((want - plain).abs() <= 1e-9 * plain, "{want} {plain}");
    let x = random(40, 5, 2);
    let p = Projector::init(&settings(Activation::Silu), &x, 12, 0.5 * want, 1).unwrap();
    let got = p.project(x.as_slice()).unwrap().chunks_exact(12).map(norm).sum::<f64>() / 40.0;
    assert!((got - 0.5 * want).abs() <= 1e-5 * want, "{got} and not half of {want}");
    assert!(Projector::init(&settings(Activation::Silu), &Matrix::zeros(0, 5), 12, want, 1).is_err());
}

#[test]
fn forward_and_backward_match_the_oracle() {
    for activation in [Activation::Silu, Activation::Relu, Activation::Tanh, Activation::Identity] {
        let (x, by) = (random(6, 5, 3), random(6, 9, 4));
        let p = Projector::init(&settings(activation), &x, 9, 2.5, 1).unwrap();
        let (vectors, saved) = p.forward(x.as_slice()).unwrap();
        let mut gradient = vec![1.0f32; p.clone().count().unwrap()];
        p.backward(x.as_slice(), &saved, by.as_slice(), &mut gradient).unwrap();
        let (out, want) = oracle::mlp(&p.mlp, &p.tensors, x.as_slice(), by.as_slice());
        let gain = f64::from(p.gain);
        for (got, want) in vectors.iter().zip(&out) {
            assert!((f64::from(*got) - gain * want).abs() <= 1e-5, "{activation:?}: {got} and not {}", gain * want);
        }
        for (got, want) in gradient.iter().zip(want.iter().flatten()) {
            // Added to what was there.
            let want = 1.0 + gain * want;
            assert!((f64::from(*got) - want).abs() <= 1e-4, "{activation:?}: gradient {got} and not {want}");
        }
        assert!(p.backward(x.as_slice(), &saved, by.as_slice(), &mut gradient[1..]).is_err());
    }
}

#[test]
fn a_projector_comes_back_from_its_file_and_damage_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("projector.safetensors");
    assert!(Projector::load(&path, 9).unwrap_err().to_string().contains("missing"));
    let p = Projector::init(&settings(Activation::Relu), &random(6, 5, 3), 9, 2.5, 1).unwrap();
    p.save(&path).unwrap();
    assert_eq!(Projector::load(&path, 9).unwrap(), p);
    assert!(Projector::load(&path, 10).unwrap_err().to_string().contains("width"));
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 7, 40, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(Projector::load(&path, 9).is_err(), "cut at {cut}");
    }
}

#[test]
fn inputs_are_found_by_token_and_an_unknown_one_is_an_error() {
    let inputs = Inputs::new(vec![100, 104, 109], random(3, 2, 5)).unwrap();
    let some = inputs.among(&[3, 109, 7, 100, 109], 100).unwrap();
    assert_eq!(some.ids(), [100, 109]);
    assert_eq!(some.matrix().row(1), inputs.matrix().row(2));
    assert!(inputs.among(&[101], 100).is_err());
    assert!(Inputs::new(vec![2, 2], random(2, 2, 5)).is_err(), "ids must ascend");
    assert!(Inputs::new(vec![2], random(2, 2, 5)).is_err());
    assert!(Inputs::new(vec![2], Matrix::from_vec(1, 1, vec![f32::NAN]).unwrap()).is_err());
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    use super::{Source, User};
    let fine = SoftSettings::default();
    fine.check().unwrap();
    let wrong = [
        ("hidden", SoftSettings { hidden: 0, ..fine.clone() }),
        ("learning_rate", SoftSettings { learning_rate: f64::NAN, ..fine.clone() }),
        ("scale", SoftSettings { scale: 0.0, ..fine.clone() }),
        ("scale", SoftSettings { scale: f64::NAN, ..fine.clone() }),
        ("user", SoftSettings { source: Source::Text, user: User::Graph, ..fine.clone() }),
    ];
    for (key, settings) in wrong {
        assert_eq!(settings.check().unwrap_err().place(), key);
    }
}
