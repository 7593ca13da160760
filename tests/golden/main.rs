//! Against numbers that others computed: PyTorch, scikit-learn, published data, values done by
//! hand.

mod eval;
mod llm;
mod merge;
mod ml1m;
mod recsys;
#[path = "../common/mod.rs"]
mod shared;
mod tune;
