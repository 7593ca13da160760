//! InfoNCE: loss and all gradients, both similarities, sizes that tiles do not divide, zero rows.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, Storage};
use rallrec::ops::infonce::{Params, Similarity, kernel, oracle};

use super::common::{Values, cases, close, devices, wide};

fn check<T: Storage>(n: usize, dim: usize, params: Params, values: Values, seed: u64) -> Result<(), TestCaseError> {
    let (mut x, y): (Vec<T>, Vec<T>) = (values.draw(n * dim, seed), Values::Normal.draw(n * dim, seed + 1));
    if seed.is_multiple_of(3) {
        x[..dim].fill(T::from_f32(0.0));
    }
    let (loss, gx, gy, tau) = oracle::infonce(&wide(&x), &wide(&y), dim, &params);
    // bf16: only the second product's left operand is rounded, to 2^-9 of weights that sum to at most 4.
    let unit = if T::NAME == "f32" { 4e-6 } else { 8e-3 };
    let largest = |g: &[f64]| g.iter().fold(1e-30f64, |m, v| m.max(v.abs()));
    let sharp = 1.0 / f64::from(params.tau);
    for device in devices(seed) {
        let (dx, dy) =
            (DeviceRows::upload(&device, dim, &x, "x").unwrap(), DeviceRows::upload(&device, dim, &y, "y").unwrap());
        let got = kernel::infonce(&dx, &dy, &params).unwrap();
        let again = kernel::infonce(&dx, &dy, &params).unwrap();
        let (alone, _) = kernel::loss(&dx, &dy, &params).unwrap();
        prop_assert_eq!(got.loss.to_bits(), alone.to_bits(), "the loss alone differs");
        prop_assert_eq!(got.loss.to_bits(), again.loss.to_bits(), "two runs differ");
        let (by_x, by_y) = (got.x.download().unwrap(), got.y.download().unwrap());
        prop_assert!(by_x == again.x.download().unwrap() && by_y == again.y.download().unwrap(), "two runs differ");
        prop_assert!(
            (got.loss - loss).abs() <= 4e-6 * (1.0 + sharp) * (1.0 + loss.abs()),
            "loss {} and not {}",
            got.loss,
            loss
        );
        prop_assert!(
            (got.tau - tau).abs() <= 1e-5 * (1.0 + sharp) * (sharp + tau.abs()),
            "by tau {} and not {}",
            got.tau,
            tau
        );
        // A gradient is a difference of sums whose terms are as large as weight / (n tau |x|).
        let terms = |rows: &[T], g: &[f64]| {
            let norm = wide(rows).chunks_exact(dim).map(|r| r.iter().map(|v| v * v).sum::<f64>().sqrt()).fold(
                f64::MAX,
                |m, v| {
                    if v > 0.0 { m.min(v) } else { m }
                },
            );
            let scale = if params.similarity == Similarity::Cosine { 1.0 / norm } else { 4.0 };
            largest(g) + 4.0 * sharp * scale / n as f64
        };
        let (tx, ty) = (terms(&x, &gx), terms(&y, &gy));
        close("by x", &by_x, &gx, |_| unit * (1.0 + sharp) * tx)?;
        close("by y", &by_y, &gy, |_| unit * (1.0 + sharp) * ty)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(16))]
    #[test]
    fn meets_the_oracle(
        n in prop::sample::select(vec![1usize, 2, 17, 63, 64, 65, 130, 193]),
        dim in prop::sample::select(vec![1usize, 7, 32, 33, 64, 72, 128, 130, 256, 260]),
        cosine in any::<bool>(), tau in prop::sample::select(vec![0.02f32, 0.03, 0.07, 0.2, 1.0]),
        values in prop::sample::select(vec![Values::Normal, Values::Sparse, Values::Equal, Values::Ascending]),
        seed in 0u64..1_000_000,
    ) {
        let similarity = if cosine { Similarity::Cosine } else { Similarity::InnerProduct };
        // Inner products of long rows leave the range that exponentials of f32 distinguish; the softmax is then one-hot.
        let tau = if cosine { tau } else { tau * dim as f32 };
        let params = Params { similarity, tau, weight: 0.5 };
        check::<f32>(n, dim, params, values, seed)?;
        check::<bf16>(n, dim, params, values, seed)?;
    }
}
