//! The operators. Each has one contract (`mod.rs`), an f64 oracle, a CPU version and a kernel;
//! one property-test body runs against every implementation.

pub mod adam;
pub mod adamw;
pub mod attention;
pub mod bpr;
pub mod cross_entropy;
pub mod infonce;
pub mod linear;
pub mod lora;
pub mod merge;
pub mod mlp;
pub mod rmsnorm;
pub mod rope;
pub mod rows;
pub mod sampling;
pub mod spmm;
pub mod swiglu;
pub mod topk;
