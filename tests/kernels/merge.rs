//! Moments, merging and the sweep, in f64.

use proptest::prelude::*;
use rallrec::ops::merge::cases::tolerance;
use rallrec::ops::merge::kernel::PIECE;
use rallrec::ops::merge::{Trust, kernel, oracle};
use rallrec::rng::{Rng, Use};

use super::common::{cases, devices};

fn near(what: &str, got: &[f64], want: &[f64]) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), want.len());
    for (r, (g, w)) in got.iter().zip(want).enumerate() {
        prop_assert!((g - w).abs() <= tolerance(*w), "{} [{}]: {} and not {}", what, r, g, w);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn moments_meet_the_oracle(
        rows in prop::collection::vec(prop::collection::vec(0f64..1.0, 1..70), 0..200), limit in 1usize..80, seed: u64,
    ) {
        let stride = rows.iter().map(Vec::len).max().unwrap_or(0);
        // What lies beyond a row's count must not be read into the result.
        let mut x = vec![f64::NAN; rows.len() * stride];
        for (to, from) in x.chunks_mut(stride.max(1)).zip(&rows) {
            to[..from.len()].copy_from_slice(from);
        }
        let counts: Vec<u32> = rows.iter().map(|r| r.len() as u32).collect();
        let n = rows.len();
        let (mut mean, mut var) = (vec![0.0; n], vec![0.0; n]);
        oracle::moments(&x, stride, &counts, limit, &mut mean, &mut var);
        for device in devices(seed) {
            let (dx, dc) = (device.upload(&x, "x").unwrap(), device.upload(&counts, "counts").unwrap());
            let (mut dm, mut dv) = (device.alloc(n, "mean").unwrap(), device.alloc(n, "var").unwrap());
            kernel::moments(&dx, stride, &dc, limit, &mut dm, &mut dv).unwrap();
            near("mean", &device.download(&dm).unwrap(), &mean)?;
            near("variance", &device.download(&dv).unwrap(), &var)?;
        }
    }

    /// Rows that one block sums, and rows of several pieces, with a last piece of one value.
    #[test]
    fn sums_meet_the_oracle(
        rows in 1usize..4, columns in prop::sample::select(vec![0usize, 1, 300, PIECE, PIECE + 1, 2 * PIECE + 77]), seed: u64,
    ) {
        let mut rng = Rng::new(seed, Use::Synthetic, 8, 0);
        let x: Vec<f64> = (0..rows * columns).map(|_| rng.uniform_f64() - 0.3).collect();
        let want: Vec<f64> = (0..rows).map(|r| 0.5 * x[r * columns..][..columns].iter().sum::<f64>()).collect();
        for device in devices(seed) {
            let values = device.upload(&x, "x").unwrap();
            let run = || {
                let mut out = device.alloc(rows, "sums").unwrap();
                kernel::sum_rows(&values, rows, 0.5, &mut out).unwrap();
                device.download(&out).unwrap()
            };
            let got = run();
            near("sum", &got, &want)?;
            prop_assert_eq!(got, run(), "two runs differ");
        }
    }

    #[test]
    fn merging_and_its_sweep_meet_the_oracle(
        rows in prop::collection::vec((0.01f64..0.99, 0f64..0.3, 0.01f64..0.99, 0f64..0.3, any::<bool>()), 1..600),
        grid in prop::collection::vec((0.01f64..10.0, 1e-6f64..1e-1), 1..12), tau in 0.1f64..10.0, seed: u64,
    ) {
        let n = rows.len();
        let (m0, v0): (Vec<f64>, Vec<f64>) = rows.iter().map(|r| (r.0, r.1)).unzip();
        let (m1, v1): (Vec<f64>, Vec<f64>) = rows.iter().map(|r| (r.2, r.3)).unzip();
        let (means, vars) = ([&m0[..], &m1], [&v0[..], &v1]);
        let labels: Vec<u8> = rows.iter().map(|r| u8::from(r.4)).collect();
        let mut want_p = Vec::new();
        let mut want_loss = Vec::new();
        for &(alpha, epsilon) in &grid {
            let (mut p, mut share) = (vec![0.0; n], vec![0.0; n]);
            oracle::merge(&means, &vars, &[Trust { alpha, tau }, Trust { alpha: 1.0, tau: 1.0 }], epsilon, &mut p, &mut share);
            let loss = p.iter().zip(&labels).map(|(p, &y)| -(if y == 1 { *p } else { 1.0 - p }).ln()).sum::<f64>() / n as f64;
            want_loss.push(loss);
            want_p.extend(p);
        }
        let (alpha, epsilon) = grid[0];
        let trust = [Trust { alpha, tau }, Trust { alpha: 1.0, tau: 1.0 }];
        let (mut p, mut share) = (vec![0.0; n], vec![0.0; n]);
        oracle::merge(&means, &vars, &trust, epsilon, &mut p, &mut share);
        for device in devices(seed) {
            let experts = kernel::DeviceExperts::new(&device, &means, &vars, &trust).unwrap();
            let (mut dp, mut ds) = (device.alloc(n, "p").unwrap(), device.alloc(n, "share").unwrap());
            kernel::merge(&experts, epsilon, &mut dp, &mut ds).unwrap();
            near("p", &device.download(&dp).unwrap(), &p)?;
            near("share", &device.download(&ds).unwrap(), &share)?;
            let labels = device.upload(&labels, "labels").unwrap();
            let mut all = device.alloc(grid.len() * n, "all p").unwrap();
            let (losses, _) = kernel::sweep(&experts, &grid, &labels, Some(&mut all)).unwrap();
            near("sweep p", &device.download(&all).unwrap(), &want_p)?;
            near("sweep loss", &losses, &want_loss)?;
            prop_assert_eq!(&losses, &kernel::sweep(&experts, &grid, &labels, None).unwrap().0, "p changes the loss");
        }
    }
}
