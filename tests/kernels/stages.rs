//! Stages of a run by launches: the same results as the CPU's within what the order of additions
//! may change, and the same bits every run.

use rallrec::data::{ItemIdx, UserIdx};
use rallrec::device::Device;
use rallrec::models::{lightgcn, projector};
use rallrec::monitor::Silent;
use rallrec::ops::bpr::{Batch, Stream};
use rallrec::ops::spmm::Precision;
use rallrec::ops::topk::topk;
use rallrec::rng::{Rng, Use};
use rallrec::tensor::Matrix;

use super::common::{devices, one};

/// Users of two tastes; each has rated some items of its own half.
fn graph() -> (lightgcn::Graph, Vec<(UserIdx, Vec<ItemIdx>)>) {
    let (users, items) = (24u32, 36u32);
    let mut rng = Rng::new(5, Use::Synthetic, 0, 0);
    let mut edges = Vec::new();
    let mut valid = Vec::new();
    for user in 0..users {
        let mut own: Vec<u32> = (0..items / 2).map(|i| 2 * i + user % 2).collect();
        rng.shuffle(&mut own);
        edges.extend(own[..7].iter().map(|&i| (UserIdx(user), ItemIdx(i))));
        valid.push((UserIdx(user), vec![ItemIdx(own[7])]));
    }
    (lightgcn::Graph::new(users as usize, items as usize, &edges).unwrap(), valid)
}

fn far(got: &Matrix, want: &Matrix) -> f32 {
    assert_eq!((got.rows(), got.cols()), (want.rows(), want.cols()));
    let apart = |(a, b): (&f32, &f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
    got.as_slice().iter().zip(want.as_slice()).map(apart).fold(0.0, f32::max)
}

#[test]
fn lightgcn_is_the_same_on_every_device() {
    let (graph, valid) = graph();
    // A width that is no multiple of anything, several steps an epoch, one of them short.
    let settings =
        lightgcn::LightGcnSettings { dim: 11, layers: 2, batch: 60, epochs: 3, eval_every: 2, ..Default::default() };
    let want = lightgcn::train(&Device::Cpu, &graph, &valid, &settings, None, &Silent).unwrap();
    for device in devices(3) {
        let train = || {
            let device = Device::Kernels(device.clone());
            lightgcn::train(&device, &graph, &valid, &settings, None, &Silent).unwrap()
        };
        let got = train();
        assert_eq!(got, train(), "two runs differ");
        // Values are near 0.1 and move 1e-3 a step, nine times; sums differ in their last bits.
        let apart = far(&got.users, &want.users).max(far(&got.items, &want.items));
        assert!(apart <= 2e-5, "{apart}");
        for (got, want) in got.history.iter().zip(&want.history) {
            assert!((got.loss - want.loss).abs() <= 1e-5 * (1.0 + want.loss), "{got:?} and not {want:?}");
            assert_eq!((got.recall, got.ndcg), (want.recall, want.ndcg));
        }
    }
}

/// A batch that reads few of the nodes: loss and gradient are the CPU's in both precisions, and the
/// precision asked for is the one in use.
#[test]
fn a_small_batch_has_the_gradient_of_the_cpu() {
    use lightgcn::{LightGcnSettings, Negatives, Trainer};
    let (users, items) = (90u32, 70u32);
    let mut rng = Rng::new(6, Use::Synthetic, 0, 0);
    let edges: Vec<_> = (0..400).map(|_| (UserIdx(rng.below(users)), ItemIdx(rng.below(items)))).collect();
    let graph = lightgcn::Graph::new(users as usize, items as usize, &edges).unwrap();
    let of: Vec<_> = edges[..5].iter().map(|&(u, i)| (u.0, users + i.0)).collect();
    let batch = Batch {
        users: of.iter().map(|p| p.0).collect(),
        positives: of.iter().map(|p| p.1).collect(),
        negatives: Vec::new(),
    };
    let draws = |epoch| Negatives::Drawn(Stream { seed: 3, epoch, first: 0 });
    for candidates in [1, 4] {
        let run = |device: &Device, precision| {
            let settings = LightGcnSettings {
                dim: 20,
                precision,
                negative_candidates: candidates,
                init_std: 1.0,
                ..Default::default()
            };
            let mut trainer = Trainer::new(device, &graph, &settings).unwrap();
            // A second batch: nothing of the first may be left.
            trainer.backward(&batch, draws(1)).unwrap();
            let few = Batch { users: vec![batch.users[1]], positives: vec![batch.positives[1]], negatives: vec![] };
            let loss = trainer.backward(&few, draws(2)).unwrap();
            (loss, trainer.gradient().unwrap().to_packed())
        };
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        let [exact, rounded] = [Precision::F32, Precision::Bf16].map(|p| run(&Device::Cpu, p));
        let between = apart(&exact.1, &rounded.1);
        assert!(between > 0.0, "both precisions give one gradient");
        for device in devices(4) {
            let device = Device::Kernels(device);
            for (precision, want) in [(Precision::F32, &exact), (Precision::Bf16, &rounded)] {
                let got = run(&device, precision);
                // The CPU rounds to 16 bits within 1/256, kernels to nearest. So a kernel's
                // distance from the exact gradient is neither none nor far more than the CPU's.
                let (narrow, from_exact) = (precision == Precision::Bf16, apart(&got.1, &exact.1));
                let range = if narrow { 0.05..=3.0 } else { 0.0..=1e-2 };
                assert!(range.contains(&(from_exact / between)), "{precision:?}: {from_exact} of {between}");
                assert!((got.0 - want.0).abs() <= 1e-3 * (1.0 + want.0), "{precision:?}: {} and not {}", got.0, want.0);
            }
        }
    }
}

#[test]
fn a_run_begun_on_the_cpu_goes_on_on_a_device() {
    let (graph, valid) = graph();
    let settings =
        |epochs| lightgcn::LightGcnSettings { dim: 8, batch: 50, epochs, eval_every: 1, ..Default::default() };
    let whole = lightgcn::train(&Device::Cpu, &graph, &valid, &settings(2), None, &Silent).unwrap();
    let folder = tempfile::tempdir().unwrap();
    lightgcn::train(&Device::Cpu, &graph, &valid, &settings(1), Some(folder.path()), &Silent).unwrap();
    let device = Device::Kernels(one(8));
    let got = lightgcn::train(&device, &graph, &valid, &settings(2), Some(folder.path()), &Silent).unwrap();
    assert_eq!(got.history[0], whole.history[0]);
    assert!(far(&got.items, &whole.items) <= 2e-5);
}

#[test]
fn alignment_is_the_same_on_every_device() {
    let (n, width, dim) = (70, 13, 6);
    let mut rng = Rng::new(9, Use::Synthetic, 0, 0);
    let text: Vec<f32> = (0..n * width).map(|_| rng.normal()).collect();
    let colla: Vec<f32> = (0..n * dim).map(|_| rng.normal()).collect();
    let (text, colla) = (Matrix::from_vec(n, width, text).unwrap(), Matrix::from_vec(n, dim, colla).unwrap());
    let both: Vec<ItemIdx> = (0..n as u32).map(ItemIdx).collect();
    let settings = projector::ProjectorSettings { batch: 24, epochs: 3, learn_tau: true, ..Default::default() };
    let of = projector::Embeddings { text: &text, colla: &colla, both: &both };
    let want = projector::train(&Device::Cpu, of, &settings, None, &Silent).unwrap();
    for device in devices(4) {
        let device = Device::Kernels(device);
        let got = projector::train(&device, of, &settings, None, &Silent).unwrap();
        let again = projector::train(&device, of, &settings, None, &Silent).unwrap();
        assert_eq!(got, again, "two runs differ");
        // Values are near 1; nine steps of 1e-3.
        let apart = far(&got.ssl, &want.ssl);
        assert!(apart <= 1e-4, "{apart}");
        for (got, want) in got.history.iter().zip(&want.history) {
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * (1.0 + b.abs());
            assert!(close(got.loss, want.loss) && close(f64::from(got.tau), f64::from(want.tau)), "{got:?} {want:?}");
            assert!(close(got.held_out.unwrap(), want.held_out.unwrap()), "{got:?} {want:?}");
        }
    }
}

#[test]
fn the_search_is_the_same_and_says_the_same_of_values_that_cannot_be_ranked() {
    let mut rng = Rng::new(1, Use::Synthetic, 0, 0);
    let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
    let (queries, mut items) = (draw(5 * 9), draw(130 * 9));
    let seen: Vec<Vec<u32>> = (0..5).map(|q| (q..q + 20).collect()).collect();
    let search = |device: &Device, items: &[f32]| {
        topk(device, (&queries[..], 9).into(), (items, 9).into(), 12, &seen).map(|found| found.0)
    };
    let want = search(&Device::Cpu, &items).unwrap();
    for device in devices(2) {
        let device = Device::Kernels(device);
        let got = search(&device, &items).unwrap();
        for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
            assert!(got.index == want.index && (got.score - want.score).abs() <= 1e-5, "{got:?} and not {want:?}");
        }
        assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), want.iter().map(Vec::len).collect::<Vec<_>>());
        items[40] = f32::NAN;
        let (on, off) = (search(&device, &items), search(&Device::Cpu, &items));
        assert_eq!(on.unwrap_err().to_string(), off.unwrap_err().to_string());
        items[40] = 0.0;
    }
}

#[test]
fn memory_that_ends_in_a_stage_says_what_to_lower_and_leaves_the_checkpoint() {
    let (graph, valid) = graph();
    let settings =
        |epochs| lightgcn::LightGcnSettings { dim: 16, batch: 50, epochs, eval_every: 1, ..Default::default() };
    let folder = tempfile::tempdir().unwrap();
    lightgcn::train(&Device::Cpu, &graph, &valid, &settings(1), Some(folder.path()), &Silent).unwrap();
    let device = one(0);
    device.limit_memory(20_000);
    let small = Device::Kernels(device);
    let text = lightgcn::train(&small, &graph, &valid, &settings(2), Some(folder.path()), &Silent).unwrap_err();
    let text = text.to_string();
    for part in ["asked for", "free", "lower"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let got = lightgcn::train(&Device::Cpu, &graph, &valid, &settings(2), Some(folder.path()), &Silent).unwrap();
    assert_eq!(got, lightgcn::train(&Device::Cpu, &graph, &valid, &settings(2), None, &Silent).unwrap());
}
