//! InfoNCE: loss and all gradients, both similarities, sizes that tiles do not divide, zero rows.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, Storage};
use rallrec::ops::infonce::cases::{DIMS, PAIRS, Tolerance};
use rallrec::ops::infonce::{Params, Similarity, kernel, oracle};

use super::common::{Values, cases, close, devices, wide};

fn check<T: Storage>(n: usize, dim: usize, params: Params, values: Values, seed: u64) -> Result<(), TestCaseError> {
    let (mut x, y): (Vec<T>, Vec<T>) = (values.draw(n * dim, seed), Values::Normal.draw(n * dim, seed + 1));
    if seed.is_multiple_of(3) {
        x[..dim].fill(T::from_f32(0.0));
    }
    let (fx, fy) = (wide(&x), wide(&y));
    let want = oracle::infonce(&fx, &fy, dim, &params);
    let tolerance = Tolerance::of(T::NAME == "bf16", [&fx, &fy], dim, &params, &want);
    let (loss, gx, gy, tau) = want;
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
        prop_assert!((got.loss - loss).abs() <= tolerance.loss, "loss {} and not {}", got.loss, loss);
        prop_assert!((got.tau - tau).abs() <= tolerance.tau, "by tau {} and not {}", got.tau, tau);
        close("by x", &by_x, &gx, |_| tolerance.x)?;
        close("by y", &by_y, &gy, |_| tolerance.y)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(16))]
    #[test]
    fn meets_the_oracle(
        n in prop::sample::select(PAIRS), dim in prop::sample::select(DIMS),
        cosine in any::<bool>(), tau in prop::sample::select(vec![0.02f32, 0.03, 0.07, 0.2, 1.0]),
        values in prop::sample::select(vec![Values::Normal, Values::Sparse, Values::Equal, Values::Ascending]),
        seed in 0u64..1_000_000,
    ) {
        let similarity = if cosine { Similarity::Cosine } else { Similarity::InnerProduct };
        // Inner products of long rows leave the range that exponentials of f32 distinguish; the
        // softmax is then one-hot.
        let tau = if cosine { tau } else { tau * dim as f32 };
        let params = Params { similarity, tau, weight: 0.5 };
        check::<f32>(n, dim, params, values, seed)?;
        check::<bf16>(n, dim, params, values, seed)?;
    }
}
