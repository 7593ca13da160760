//! Every kernel against its f64 oracle, over the devices that are there: the host build always, a GPU where one is.

mod attention;
mod common;
mod decode;
mod decode_attention;
mod lora;
mod rmsnorm;
mod rope;
mod spmm;
mod swiglu;
