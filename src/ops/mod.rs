//! The operators. Each has one contract (`mod.rs`), an f64 oracle, a CPU version, a kernel, and a
//! list of what it is checked on and measured with (`cases.rs`). [`registry`] knows them by name.

pub mod adam;
pub mod adamw;
pub mod attention;
pub mod bpr;
pub mod cross_entropy;
pub mod geglu;
pub mod infonce;
pub mod linear;
pub mod lora;
pub mod merge;
pub mod mlp;
pub mod peak;
pub mod registry;
pub mod rmsnorm;
pub mod rope;
pub mod rows;
pub mod sampling;
pub mod spmm;
pub mod swiglu;
pub mod topk;
