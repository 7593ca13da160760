//! Cross-entropy with its gradient, and the choice between two answers, without the vocabulary's
//! logits.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, Storage};
use rallrec::ops::cross_entropy;
use rallrec::ops::cross_entropy::cases::{Tolerance, VOCABULARIES};
use rallrec::ops::cross_entropy::choose;
use rallrec::rng::{Rng, Use};

use super::common::{Values, any_values, cases, close, devices, narrow, same_bits};

fn check<T: Storage>(
    (rows, vocab, width): (usize, usize, usize),
    (values, scale): (Values, f32),
    seed: u64,
) -> Result<(), TestCaseError> {
    // Logits beyond 1e30 have no f32 exponential; huge values are for the products' own tests.
    let scale = if values == Values::Huge { 1e-14 } else { scale };
    let h: Vec<T> = values.draw::<T>(rows * width, seed).iter().map(|v| T::from_f32(v.to_f32() * scale)).collect();
    let w: Vec<T> = Values::Normal.draw(vocab * width, seed + 1);
    let mut rng = Rng::new(seed, Use::Synthetic, 2, 0);
    let tokens: Vec<u32> = (0..rows).map(|_| rng.below(vocab as u32)).collect();
    let weights: Vec<f32> = (0..rows).map(|i| if i % 3 == 1 { 0.0 } else { rng.uniform() }).collect();
    let (h32, w32) = (narrow(&h), narrow(&w));
    let (want, dh) = cross_entropy::oracle::loss(&h32, &w32, width, &tokens, &weights);
    let ids = [rng.below(vocab as u32), vocab as u32 - 1];
    let choices = choose::oracle::choose(&h32, &w32, width, ids);
    let off = Tolerance::of(T::NAME == "bf16", rows, [&h32, &w32], width);
    for device in devices(seed) {
        let on_device = DeviceRows::upload(&device, width, &h, "h").unwrap();
        let head = DeviceRows::upload(&device, width, &w, "head").unwrap();
        let targets = cross_entropy::kernel::DeviceTargets::upload(&device, &tokens, &weights).unwrap();
        let run = || {
            let mut grad = DeviceRows::zeros(&device, rows, width, "dh").unwrap();
            let (loss, _) = cross_entropy::kernel::loss(&on_device, &head, &targets, Some(&mut grad)).unwrap();
            (loss, grad.download().unwrap())
        };
        let (loss, got) = run();
        let again = run();
        prop_assert_eq!(loss.to_bits(), again.0.to_bits());
        same_bits(&got, &again.1)?;
        prop_assert!((loss - want).abs() <= off.loss, "loss {} and not {}", loss, want);
        close("dh", &got, &dh, |_| off.gradient)?;
        let (got, _) = choose::kernel::choose(&on_device, &head, ids).unwrap();
        prop_assert_eq!(got.len(), rows);
        for (g, (logits, lse)) in got.iter().zip(&choices) {
            close("logits", &g.logits, logits, |_| off.logit)?;
            prop_assert!((g.log_sum_exp - lse).abs() <= off.logit, "{} and not {}", g.log_sum_exp, lse);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(16))]
    #[test]
    fn meets_the_oracle(
        rows in prop::sample::select(vec![0usize, 1, 5, 64, 70]), vocab in prop::sample::select(VOCABULARIES),
        width in prop::sample::select(vec![1usize, 8, 33, 70]), values in any_values(), scale in 0.1f32..6.0,
        seed in 0u64..1_000_000,
    ) {
        check::<f32>((rows, vocab, width), (values, scale), seed)?;
        check::<bf16>((rows, vocab, width), (values, scale), seed)?;
    }
}

#[test]
fn nan_is_not_hidden_and_wrong_tokens_are_refused() {
    for device in devices(0) {
        let h = DeviceRows::upload(&device, 1, &[1.0f32], "h").unwrap();
        let head = DeviceRows::upload(&device, 1, &[1.0, 2.0, f32::NAN], "head").unwrap();
        assert!(choose::kernel::choose(&h, &head, [0, 1]).unwrap().0[0].log_sum_exp.is_nan());
        assert!(choose::kernel::choose(&h, &head, [0, 3]).is_err());
        let targets = cross_entropy::kernel::DeviceTargets::upload(&device, &[3], &[1.0]).unwrap();
        assert!(cross_entropy::kernel::loss(&h, &head, &targets, None).is_err());
    }
}
