//! Every kernel against its f64 oracle, over the devices that are there: the host build always, a
//! GPU where one is.

mod adam;
mod attention;
mod attention_backward;
mod backward;
mod bpr;
mod common;
mod cross_entropy;
mod decode;
mod decode_attention;
mod decoder;
mod device;
mod geglu;
mod golden;
mod infonce;
mod linear;
mod lora;
mod merge;
mod places;
mod rmsnorm;
mod rope;
mod rows;
mod sampling;
#[path = "../common/mod.rs"]
mod shared;
mod spmm;
mod stages;
mod swiglu;
mod topk;
mod tune;
mod wgmma;
