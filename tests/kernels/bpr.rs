//! BPR: negatives are the CPU's, loss and gradient the oracle's, sorting sorts.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, Storage};
use rallrec::ops::bpr::cases::{DIMS, PENALTY, loss_tolerance, tolerance};
use rallrec::ops::bpr::{Batch, Stream, kernel, oracle};
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
