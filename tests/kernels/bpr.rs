//! BPR: negatives are the CPU's, loss and gradient the oracle's, sorting sorts.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{Device, DeviceRows, Storage};
use rallrec::ops::bpr::cases::{DIMS, PENALTY, loss_tolerance, tolerance};
use rallrec::ops::bpr::{Batch, Choice, Stream, UserItems, kernel, negatives, oracle};
use rallrec::ops::spmm::{Adjacency, Lines, Nodes, Precision};
use rallrec::rng::{Rng, Use};

use super::common::{Values, cases, close, devices, wide};

fn check<T: Storage>(nodes: u32, dim: usize, size: usize, scale: f32, seed: u64) -> Result<(), TestCaseError> {
    let n = nodes as usize * dim;
    let e: Vec<T> = Values::Normal.draw::<f32>(n, seed).iter().map(|v| T::from_f32(v * scale)).collect();
    let e0: Vec<f32> = Values::Normal.draw(n, seed + 1);
    let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
    // Some rows very often, as popular items are.
    let mut draw = || -> Vec<u32> { (0..size).map(|_| rng.below(nodes).min(rng.below(nodes))).collect() };
    let batch = Batch { users: draw(), positives: draw(), negatives: draw() };
    let (loss, by_e, by_e0) = oracle::bpr(&wide(&e), &wide(&e0), dim, &batch, 0.1);
    for device in devices(seed) {
        let run = || {
            let mut on_device = kernel::DeviceBatch::new(&device, &batch.users, &batch.positives).unwrap();
            device.write(&mut on_device.negatives, &batch.negatives).unwrap();
            let e = DeviceRows::upload(&device, dim, &e, "e").unwrap();
            let e0 = DeviceRows::upload(&device, dim, &e0, "e0").unwrap();
            let mut gradient = DeviceRows::zeros(&device, nodes as usize, dim, "gradient").unwrap();
            let mut weights = device.zeros(nodes as usize, "weights").unwrap();
            let (loss, _) = kernel::backward(&mut on_device, &e, &e0, 0.1, &mut gradient, &mut weights).unwrap();
            (loss, gradient.download().unwrap(), device.download(&weights).unwrap())
        };
        let (got, gradient, weights) = run();
        let again = run();
        prop_assert_eq!(
            (got.to_bits(), &gradient, &weights),
            (again.0.to_bits(), &again.1, &again.2),
            "two runs differ"
        );
        prop_assert!((got - loss).abs() <= loss_tolerance(loss), "loss {} and not {}", got, loss);
        close("by e", &gradient, &by_e, |_| tolerance(f64::from(scale)))?;
        let penalty: Vec<f32> = e0.iter().enumerate().map(|(i, v)| weights[i / dim] * v).collect();
        close("by e0", &penalty, &by_e0, |_| PENALTY)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(32))]
    #[test]
    fn loss_and_gradient_meet_the_oracle(
        nodes in 1u32..40, dim in prop::sample::select(DIMS),
        size in prop::sample::select(vec![1usize, 2, 31, 100, 257]), scale in 0.1f32..8.0, seed in 0u64..1_000_000,
    ) {
        check::<f32>(nodes, dim, size, scale, seed)?;
        check::<bf16>(nodes, dim, size, scale, seed)?;
    }

    #[test]
    fn negatives_are_those_of_the_cpu(
        users in 1usize..20, items in 2u32..60, size in 1usize..300, epoch in 0u32..9, first in 0u32..1000, seed: u64,
    ) {
        let mut rng = Rng::new(seed, Use::Synthetic, 2, 0);
        let (mut starts, mut nodes) = (vec![0u64], Vec::new());
        for _ in 0..users {
            // At least one item is missing.
            let missing = rng.below(items);
            nodes.extend((0..items).filter(|&i| i != missing && rng.below(3) > 0).map(|i| users as u32 + i));
            starts.push(nodes.len() as u64);
        }
        let of: Vec<u32> = (0..size).map(|_| rng.below(users as u32)).collect();
        let want: Vec<u32> = of
            .iter()
            .enumerate()
            .map(|(i, &u)| {
                let taken = &nodes[starts[u as usize] as usize..starts[u as usize + 1] as usize];
                let mut rng = Rng::new(seed, Use::Negative, epoch, first + i as u32);
                std::iter::repeat_with(|| users as u32 + rng.below(items)).find(|n| !taken.contains(n)).unwrap()
            })
            .collect();
        for device in devices(seed) {
            let lists = kernel::DeviceItems::new(&device, &starts, &nodes, users as u32, items).unwrap();
            let mut batch = kernel::DeviceBatch::new(&device, &of, &of).unwrap();
            kernel::negatives(&lists, &mut batch, Stream { seed, epoch, first }).unwrap();
            prop_assert_eq!(&device.download(&batch.negatives).unwrap(), &want);
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]
    /// On the CPU and on kernels: the candidates are those of the stream, and none of them scores
    /// higher by the oracle than the one that was taken, within the rounding of a product.
    #[test]
    fn the_hardest_negative_meets_the_oracle(
        users in 1u32..12, items in 2u32..50, dim in prop::sample::select(DIMS), size in 1usize..200,
        candidates in 1u32..20, narrow: bool, seed in 0u64..1_000_000,
    ) {
        let mut rng = Rng::new(seed, Use::Synthetic, 3, 0);
        let mut edges = Vec::new();
        for user in 0..users {
            let missing = rng.below(items);
            for item in (0..items).filter(|&item| item != missing) {
                if rng.below(3) > 0 {
                    edges.extend([(user, users + item), (users + item, user)]);
                }
            }
        }
        let nodes = (users + items) as usize;
        let graph = Adjacency::new(nodes, edges.into_iter()).unwrap();
        let of: Vec<u32> = (0..size).map(|_| rng.below(users)).collect();
        let mut e: Vec<f32> = Values::Normal.draw(nodes * dim, seed);
        let precision = if narrow { Precision::Bf16 } else { Precision::F32 };
        if narrow {
            e.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32());
        }
        let exact = wide(&e);
        let stream = Stream { seed, epoch: 3, first: 70 };
        let on = devices(seed).into_iter().map(Device::Kernels).chain([Device::Cpu]);
        for device in on {
            let lists = UserItems::new(&device, &graph, users as usize, items as usize).unwrap();
            // The CPU keeps rows in f32; the values are the same.
            let kept = if matches!(device, Device::Cpu) { Precision::F32 } else { precision };
            let rows = Nodes::stored(&device, Lines::from_packed(dim, &e), kept, "e").unwrap();
            let choice = Choice::Hardest { candidates, e: &rows };
            let (got, _) = negatives(&device, &lists, &of, stream, choice).unwrap();
            for (i, (&user, &node)) in of.iter().zip(&got).enumerate() {
                let taken = graph.neighbours(user as usize);
                let mut rng = Rng::new(seed, Use::Negative, 3, 70 + i as u32);
                let draws = std::iter::repeat_with(|| users + rng.below(items)).filter(|n| !taken.contains(n));
                let drawn: Vec<u32> = draws.take(candidates as usize).collect();
                prop_assert!(drawn.contains(&node), "triple {}: {} is not among {:?}", i, node, drawn);
                let best = oracle::hardest(&exact, dim, user, &drawn).unwrap().1;
                let score = oracle::hardest(&exact, dim, user, &[node]).unwrap().1;
                let size = |node: u32| {
                    let row = |node: u32| &exact[node as usize * dim..][..dim];
                    row(user).iter().zip(row(node)).map(|(a, b)| (a * b).abs()).sum::<f64>()
                };
                let slack = drawn.iter().map(|&node| size(node)).fold(0.0, f64::max) * 1e-5;
                prop_assert!(score >= best - slack, "triple {}: {} is below {}", i, score, best);
            }
        }
    }
}

#[test]
fn keys_are_sorted_beyond_one_tile() {
    for log in [0u32, 1, 2, 5, 10, 11, 12, 14] {
        let mut rng = Rng::new(u64::from(log), Use::Synthetic, 0, 0);
        let keys: Vec<u64> = (0..1 << log).map(|_| rng.next_u64()).collect();
        let mut want = keys.clone();
        want.sort_unstable();
        for device in devices(1) {
            let mut buffer = device.upload(&keys, "keys").unwrap();
            kernel::sort(&mut buffer).unwrap();
            assert_eq!(device.download(&buffer).unwrap(), want, "2^{log} keys");
        }
    }
}
