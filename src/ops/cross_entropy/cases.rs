//! Cross-entropy: the names and kernels.

use crate::ops::registry::{ONE, Operator, TYPES, kernels};

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "cross_entropy",
    room: "cross_entropy",
    sources: &["cross_entropy"],
    arguments: &[],
    kernels: kernels! {
        "cross_entropy_partials" TYPES ["M / 64 x vocab / 256"] 128 "s (M + vocab) d B, 2 M vocab d FLOP" "tuning and Yes / No: log-sum-exp and chosen logits, logits never written"
        "cross_entropy_reduce" ONE ["M / 128"] 128 "8 M vocab / 256 B" "tuning and Yes / No: joins the spans of the vocabulary"
        "cross_entropy_gradient" TYPES ["M / 64 x panel / 64"] 128 "s (M + panel) d + s M panel B, 2 M panel d FLOP" "tuning: gradient of the logits, a panel of the vocabulary at a time"
    },
    checks: &[],
    cases: &[],
};

/// Logits of chosen tokens, and the log-sum-exp beside them: the answers Yes and No.
pub const CHOOSE: Operator = Operator {
    name: "choose",
    room: "cross_entropy",
    sources: &[],
    arguments: &[],
    kernels: &[],
    checks: &[],
    cases: &[],
};
