//! Llama-3.1's rope scaling, which GGUF files carry as a table of divisors (`rope_freqs.weight`).

use crate::models::decoder::Config;
use crate::ops::rope::Scaling;

/// The divisors of the rope frequencies that a scaling means, one for each pair of a head.
pub(super) fn divisors(config: &Config, s: &Scaling) -> Vec<f64> {
    let context = s.original_context as f64;
    (0..config.head_dim / 2)
        .map(|i| {
            let wavelength = std::f64::consts::TAU * config.rope_theta.powf(2.0 * i as f64 / config.head_dim as f64);
            if wavelength < context / s.high_freq_factor {
                1.0
            } else if wavelength > context / s.low_freq_factor {
                s.factor
            } else {
                let smooth = (context / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
                1.0 / ((1.0 - smooth) / s.factor + smooth)
            }
        })
        .collect()
}

/// The scaling behind a table, if it is of Llama-3.1's form with its published constants (low 1,
/// high 4, a context of 8,192 or the one that the file names). `Ok(None)` when the table changes
/// nothing.
pub(super) fn recognise(
    config: &Config,
    table: &[f32],
    original_context: Option<usize>,
) -> Result<Option<Scaling>, &'static str> {
    if table.len() != config.head_dim / 2 {
        return Err("its length is not half the head width");
    }
    if table.iter().all(|&x| x == 1.0) {
        return Ok(None);
    }
    let factor = table.iter().fold(0.0f64, |most, &x| most.max(f64::from(x)));
    if !(factor.is_finite() && factor > 1.0) {
        return Err("its values are no divisors");
    }
    let scaling = Scaling {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: original_context.unwrap_or(8192),
    };
    let same = |(&have, want): (&f32, f64)| (f64::from(have) - want).abs() <= 1e-4 * want;
    if table.iter().zip(divisors(config, &scaling)).all(same) {
        Ok(Some(scaling))
    } else {
        Err("it is not of Llama-3.1's form (low 1, high 4, original context 8192)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::decoder::Family;
    use crate::store::fixture;

    #[test]
    fn published_tables_are_recognised_and_others_refused() {
        let mut config = fixture::config(Family::LLAMA);
        config.head_dim = 128;
        config.rope_theta = 500_000.0;
        for factor in [8.0, 32.0] {
            let want = Scaling { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
            let table: Vec<f32> = divisors(&config, &want).into_iter().map(|x| x as f32).collect();
            // The published shape: untouched at first, fully divided at the end.
            assert_eq!((table[0], table[63]), (1.0, factor as f32));
            assert!(table.iter().any(|&x| x > 1.0 && x < factor as f32));
            assert_eq!(recognise(&config, &table, None), Ok(Some(want)));
            let mut wrong = table.clone();
            wrong[40] *= 1.01;
            assert!(recognise(&config, &wrong, None).is_err());
            wrong[40] = f32::NAN;
            assert!(recognise(&config, &wrong, None).is_err());
            assert!(recognise(&config, &table[1..], None).is_err());
        }
        assert_eq!(recognise(&config, &[1.0; 64], None), Ok(None));
    }
}
