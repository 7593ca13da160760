//! How many samples a row needs (`reason.adaptive`): a row whose samples agree has enough of them
//! sooner. The number follows from the row's own samples in their order, so it is the same whatever
//! is asked beside it, and after a stop.

use crate::config;

/// Samples that the row needs, as far as its first samples (`p`, their P(Yes)) tell; more than are
/// there where more are to be asked for.
pub(super) fn wanted(p: &[f64], settings: &config::Reason) -> usize {
    if settings.adaptive <= 0.0 {
        return settings.samples;
    }
    let mut n = settings.adaptive_step.min(settings.samples);
    while n < settings.samples && n <= p.len() && standard_error(&p[..n]) > settings.adaptive {
        n = (n + settings.adaptive_step).min(settings.samples);
    }
    n
}

/// Of the mean of at least two values.
fn standard_error(p: &[f64]) -> f64 {
    let n = p.len() as f64;
    let mean = p.iter().sum::<f64>() / n;
    (p.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0) / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(adaptive: f64, step: usize) -> config::Reason {
        config::Reason { samples: 7, adaptive, adaptive_step: step, ..config::Reason::default() }
    }

    #[test]
    fn samples_that_agree_are_enough_and_others_go_on_to_the_last() {
        let agree = [0.5, 0.5, 0.9, 0.1, 0.5, 0.5, 0.5];
        let differ = [0.1, 0.9, 0.1, 0.9, 0.1, 0.9, 0.1];
        assert_eq!(wanted(&agree, &settings(0.01, 2)), 2);
        assert_eq!(wanted(&differ, &settings(0.01, 2)), 7);
        // 0.1, 0.9: 0.4; four of them: 0.231; six: 0.179.
        assert_eq!(wanted(&differ, &settings(0.25, 2)), 4);
        assert_eq!(wanted(&differ, &settings(0.18, 2)), 6);
        assert_eq!(wanted(&differ, &settings(0.0, 2)), 7, "all without the setting");
        assert_eq!(wanted(&differ, &settings(0.25, 10)), 7, "a step beyond the samples");
    }

    #[test]
    fn what_is_not_there_yet_is_asked_for_step_by_step() {
        let differ = [0.1, 0.9, 0.1, 0.9, 0.1, 0.9, 0.1];
        let of = |n: usize| wanted(&differ[..n], &settings(0.01, 2));
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(of), [2, 2, 4, 4, 6, 6, 7, 7]);
        // Samples beyond what a row needs change nothing.
        assert_eq!(wanted(&[0.5, 0.5, 0.1, 0.9], &settings(0.01, 2)), 2);
    }
}
