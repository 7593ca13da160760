//! Cross-entropy: its names, its kernels, what it is checked on and measured with.

mod bench;
mod check;

use crate::ops::registry::{ONE, Operator, TYPES, kernels, largest, wide};

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "cross_entropy",
    room: "cross_entropy",
    sources: &["cross_entropy"],
    arguments: &[super::kernel::LogitsGradientArgs::LAYOUT],
    kernels: kernels! {
        "cross_entropy_partials" TYPES ["M / 64 x vocab / 256"] 128 "s (M + vocab) d B, 2 M vocab d FLOP" "tuning and Yes / No: log-sum-exp and chosen logits, logits never written"
        "cross_entropy_reduce" ONE ["M / 128"] 128 "8 M vocab / 256 B" "tuning and Yes / No: joins the spans of the vocabulary"
        "cross_entropy_gradient" TYPES ["M / 64 x panel / 64"] 128 "s (M + panel) d + s M panel B, 2 M panel d FLOP" "tuning: gradient of the logits, a panel of the vocabulary at a time"
    },
    checks: check::CASES,
    cases: bench::CASES,
    counted: bench::COUNTED,
    ..Operator::BARE
};

/// Logits of chosen tokens, and the log-sum-exp beside them: the answers Yes and No.
pub const CHOOSE: Operator = Operator {
    name: "choose",
    room: "cross_entropy",
    checks: check::CHOOSE,
    cases: bench::CHOOSE,
    counted: bench::COUNTED_CHOOSE,
    ..Operator::BARE
};

/// Sizes of vocabularies about the spans that a block takes, the smallest among them.
pub const VOCABULARIES: &[usize] = &[1, 2, 63, 65, 257, 600];

/// What each result may be off by.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// A logit, and a log-sum-exp.
    pub logit: f64,
    /// The loss of all rows.
    pub loss: f64,
    /// A value of the gradient by the rows.
    pub gradient: f64,
}

impl Tolerance {
    /// Of `rows` rows `h` with the head `w`, both `width` wide: logits are f32 sums of `width`
    /// terms of this size, a probability is off by what its logit is off by, and bf16 (`narrow`)
    /// rounds each once more.
    pub fn of(narrow: bool, rows: usize, [h, w]: [&[f32]; 2], width: usize) -> Self {
        let (h, w) = (largest(&wide(h)), largest(&wide(w)));
        let logit = 1e-6 * (1.0 + h * w * width as f64);
        let gradient = (4.0 * logit + if narrow { 8e-3 } else { 1e-6 }) * w * 2.0;
        Self { logit, loss: 2.0 * logit * (rows as f64 + 1.0), gradient }
    }
}
