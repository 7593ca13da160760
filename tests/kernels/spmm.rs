//! Propagation: any graph with empty, short and long rows, any width and number of layers.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{KernelDevice, Storage};
use rallrec::ops::spmm::cases::{DIMS, tolerance};
use rallrec::ops::spmm::{Adjacency, Flags, Lines, Sparse, bits, kernel, oracle};
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
    kernel::propagate(&on_device, &input, layers, Sparse::default(), &mut space, &mut out).unwrap();
    device.download(&out).unwrap()
}

/// As [`run`], where the rows of `outputs` alone are wanted and those of `inputs` alone are read.
fn run_sparse<T: Storage>(
    device: &KernelDevice,
    graph: &Adjacency,
    x: &Lines,
    layers: usize,
    [outputs, inputs]: [Option<&[bool]>; 2],
) -> Lines {
    let on_device = kernel::DeviceGraph::new(device, graph).unwrap();
    let mut space = kernel::DeviceWorkspace::<T>::new(device, &on_device, x.dim()).unwrap();
    let input = device.upload(x.values(), "x").unwrap();
    let mut out = device.zeros(x.values().len(), "out").unwrap();
    let [outputs, inputs] = [outputs, inputs].map(|f| f.map(|f| device.upload(&bits(f), "flags").unwrap()));
    let sparse = Sparse { outputs: outputs.as_ref().map(Flags::Kernels), inputs: inputs.as_ref().map(Flags::Kernels) };
    kernel::propagate(&on_device, &input, layers, sparse, &mut space, &mut out).unwrap();
    let mut rows = Lines::zeros(graph.nodes(), x.dim());
    rows.values_mut().copy_from_slice(&device.download(&out).unwrap());
    rows
}

/// Rows that are wanted have the bits of a whole propagation, whatever the others hold. Rows that
/// are not filled are not read: here they are NaN.
fn passes_over<T: Storage>(
    (nodes, edges, hub): (usize, usize, usize),
    dim: usize,
    layers: usize,
    one_in: u32,
    seed: u64,
) -> Result<(), TestCaseError> {
    let graph = graph(nodes, edges, hub, seed);
    let mut rng = Rng::new(seed, Use::Synthetic, 2, 0);
    let active: Vec<bool> = (0..nodes).map(|_| rng.below(one_in) == 0).collect();
    let rows = Lines::from_packed(dim, &Values::Normal.draw::<f32>(nodes * dim, seed));
    let (mut few, mut holes) = (rows.clone(), rows.clone());
    for r in (0..nodes).filter(|&r| !active[r]) {
        few.row_mut(r).fill(0.0);
        holes.row_mut(r).fill(f32::NAN);
    }
    let want = oracle::propagate(&graph, &wide(&few.to_packed()), dim, layers);
    let scale = 5.0 * (1.0 + (hub as f64).sqrt());
    for device in devices(seed) {
        let all = run::<T>(&device, &graph, &rows, layers);
        let some = run_sparse::<T>(&device, &graph, &rows, layers, [Some(&active), None]);
        let width = rows.values().len() / nodes;
        for r in (0..nodes).filter(|&r| active[r]) {
            let (got, want) = (&some.values()[r * width..][..width], &all[r * width..][..width]);
            prop_assert!(got.iter().zip(want).all(|(a, b)| a.to_bits() == b.to_bits()), "row {} differs", r);
        }
        if layers > 0 {
            let back = run_sparse::<T>(&device, &graph, &holes, layers, [None, Some(&active)]);
            let narrow = T::NAME == "bf16";
            close("from few rows", &back.to_packed(), &want, |i| tolerance(narrow, want[i], scale))?;
            // Both at once.
            let both = run_sparse::<T>(&device, &graph, &holes, layers, [Some(&active), Some(&active)]);
            prop_assert!((0..nodes).filter(|&r| active[r]).all(|r| both.row(r) == back.row(r)), "both at once");
        }
    }
    Ok(())
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
    fn what_a_batch_does_not_read_is_passed_over(
        nodes in prop::sample::select(vec![1usize, 2, 17, 40, 130]), edges in 0usize..300,
        dim in prop::sample::select(DIMS), layers in 0usize..4, one_in in 1u32..20, seed in 0u64..1_000_000,
    ) {
        passes_over::<f32>((nodes, edges, 0), dim, layers, one_in, seed)?;
        passes_over::<bf16>((nodes, edges, 0), dim, layers, one_in, seed)?;
    }

    #[test]
    fn long_rows_are_cut_and_added_in_order(
        hub in prop::sample::select(vec![256usize, 257, 511, 513, 700]), dim in 1usize..70, seed in 0u64..1_000_000,
    ) {
        check::<f32>((1400, 500, hub), dim, 2, Values::Normal, seed)?;
        if seed % 4 == 0 {
            passes_over::<f32>((1400, 500, hub), dim, 2, 3, seed)?;
        }
    }
}

#[test]
fn an_empty_graph_is_nothing() {
    for device in devices(0) {
        assert!(run::<f32>(&device, &graph(0, 0, 0, 0), &Lines::zeros(0, 8), 2).is_empty());
    }
}
