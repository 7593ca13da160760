//! Sampled answers: variance and length, and what they say about being right.

use rallrec_events::view::{Bins, Sampling};

use super::Figure;
use crate::plot::{Axis, Plot, short};

/// A bin with fewer entries than this says nothing by itself.
const FEW: u64 = 3;

/// With `from_zero` on a linear axis, else on a logarithmic one, as the bins are.
fn histogram(title: &str, x: &str, bins: &Bins, from_zero: bool) -> Option<String> {
    let filled: Vec<usize> = (0..bins.bins().len()).filter(|&i| bins.bins()[i].n > 0).collect();
    let (&first, &last) = (filled.first()?, filled.last()?);
    let first = if from_zero { 0 } else { first };
    let most = bins.bins().iter().map(|b| b.n).max()? as f64;
    let (low, high) = (bins.edges(first).0, bins.edges(last).1);
    let x = if from_zero { Axis::fixed(x, low, high) } else { Axis::log(x, [low, high].into_iter())? };
    let mut plot = Plot::new(title, x, Axis::fixed("count", 0.0, 1.05 * most));
    let bars = (first..=last).map(|i| (bins.edges(i).0, bins.edges(i).1, bins.bins()[i].n as f64));
    plot.bars("c0", bars);
    Some(plot.finish())
}

fn accuracy(title: &str, x: &str, bins: &Bins, window: u64, log: bool) -> Option<String> {
    let moving = bins.moving(window);
    if moving.len() < 2 {
        return None;
    }
    let xs = moving.iter().map(|m| m.0);
    let x = if log { Axis::log(x, xs)? } else { Axis::over(x, xs)? };
    let mut plot = Plot::new(title, x, Axis::fixed("accuracy", -0.03, 1.03));
    let single = (0..bins.bins().len()).filter(|&i| bins.bins()[i].n >= FEW);
    let dots: Vec<_> = single.map(|i| (bins.middle(i), bins.bins()[i].hits as f64 / bins.bins()[i].n as f64)).collect();
    plot.dots("other", 2.2, dots.into_iter(), &[]);
    plot.line("c1", moving.iter().map(|m| (m.0, m.1)));
    plot.legend("c1", &format!("over the nearest {window} or more"));
    plot.legend("other", "single bins");
    Some(plot.finish())
}

/// The pictures of the sampled answers: accuracy against spread and length.
pub fn figures(s: &Sampling) -> Vec<Figure> {
    let mut out = Vec::new();
    let mut add = |svg: Option<String>, caption: String| out.extend(svg.map(|svg| Figure::new(svg, caption)));
    // The window of the papers is 500 rows; a small run has a tenth of its rows.
    let window = |n: u64| (n / 10).clamp(5, 500);
    let (prompts, answers) = (s.by_deviation.n(), s.by_length.n());
    add(
        histogram("Variance over the samples of a prompt", "variance of p", &s.variance, true),
        format!("Variance over the samples of each of {} prompts.", s.variance.n()),
    );
    add(
        accuracy(
            "Accuracy against variance",
            "standard deviation of p over the samples",
            &s.by_deviation,
            window(prompts),
            false,
        ),
        format!("Accuracy of the mean answer against the spread of its samples, {prompts} prompts."),
    );
    add(
        histogram("Length of the answers", "tokens", &s.by_length, false),
        format!(
            "Length of {answers} answers; mean {} tokens, longest {}.",
            s.tokens.value().map_or("n/a".into(), short),
            s.tokens.max.map_or("n/a".into(), short)
        ),
    );
    add(
        accuracy("Accuracy against length", "tokens of the answer", &s.by_length, window(answers), true),
        format!("Accuracy of single answers against their length, {answers} answers."),
    );
    add(
        histogram("Strength of the hint", "|p - 0.5| of the tuned model", &s.hint_strength, true),
        "How far the hint's probability lies from one half.".into(),
    );
    out
}
