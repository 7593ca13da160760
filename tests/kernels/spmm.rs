//! Propagation: any graph with empty, short and long rows, any width and number of layers.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{KernelDevice, Storage};
use rallrec::ops::spmm::cases::{DIMS, tolerance};
use rallrec::ops::spmm::{Adjacency, Lines, kernel, oracle};
use rallrec::rng::{Rng, Use};

use super::common::{Values, any_values, cases, close, devices, wide};

/// `edges` random edges between two halves; node 0 gets `hub` neighbours, so that its row is cut.
fn graph(nodes: usize, edges: usize, hub: usize, seed: u64) -> Adjacency {
    let half = nodes.div_ceil(2);
    let mut rng = Rng::new(seed, Use::Synthetic, 1, 0);
    let mut pairs = Vec::new();
    if half < nodes {
        let mut join = |a: usize, b: usize| pairs.extend([(a as u32, b as u32), (b as u32, a as u32)]);
        for _ in 0..edges {
            join(rng.below(half as u32) as usize, half + rng.below((nodes - half) as u32) as usize);
        }
        for b in 0..hub.min(nodes - half) {
            join(0, half + b);
        }
    }
    Adjacency::new(nodes, pairs.into_iter()).unwrap()
}

fn run<T: Storage>(device: &KernelDevice, graph: &Adjacency, x: &Lines, layers: usize) -> Vec<f32> {
    let on_device = kernel::DeviceGraph::new(device, graph).unwrap();
    let mut space = kernel::DeviceWorkspace::<T>::new(device, &on_device, x.dim()).unwrap();
    let input = device.upload(x.values(), "x").unwrap();
    let mut out = device.alloc(x.values().len(), "out").unwrap();
    kernel::propagate(&on_device, &input, layers, &mut space, &mut out).unwrap();
    device.download(&out).unwrap()
}

fn check<T: Storage>(
    (nodes, edges, hub): (usize, usize, usize),
    dim: usize,
    layers: usize,
    values: Values,
    seed: u64,
) -> Result<(), TestCaseError> {
    let graph = graph(nodes, edges, hub, seed);
    let x: Vec<f32> = values.draw(nodes * dim, seed);
    let rows = Lines::from_packed(dim, &x);
    let want = oracle::propagate(&graph, &wide(&x), dim, layers);
    let narrow = T::NAME == "bf16";
    let largest = x.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let scale = largest * (1.0 + (hub as f64).sqrt());
    for device in devices(seed) {
        let got = run::<T>(&device, &graph, &rows, layers);
        let again = run::<T>(&device, &graph, &rows, layers);
        prop_assert!(got.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()), "two runs differ");
        let mut packed = Lines::zeros(nodes, dim);
        packed.values_mut().copy_from_slice(&got);
        prop_assert!((0..nodes).all(|r| packed.row(r)[dim..].iter().all(|&v| v == 0.0)), "padding is not zero");
        close("propagation", &packed.to_packed(), &want, |i| tolerance(narrow, want[i], scale))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn meets_the_oracle(
        nodes in prop::sample::select(vec![1usize, 2, 3, 17, 40, 130]),
        edges in 0usize..300,
        dim in prop::sample::select(DIMS),
        layers in 0usize..4,
        values in any_values(),
        seed in 0u64..1_000_000,
    ) {
        check::<f32>((nodes, edges, 0), dim, layers, values, seed)?;
        check::<bf16>((nodes, edges, 0), dim, layers, values, seed)?;
    }

    #[test]
    fn long_rows_are_cut_and_added_in_order(
        hub in prop::sample::select(vec![256usize, 257, 511, 513, 700]), dim in 1usize..70, seed in 0u64..1_000_000,
    ) {
        check::<f32>((1400, 500, hub), dim, 2, Values::Normal, seed)?;
    }
}

#[test]
fn an_empty_graph_is_nothing() {
    for device in devices(0) {
        assert!(run::<f32>(&device, &graph(0, 0, 0, 0), &Lines::zeros(0, 8), 2).is_empty());
    }
}
