//! Every kernel against its f64 oracle, over the devices that are there: the host build always, a GPU where one is.

mod adam;
mod bpr;
mod common;
mod device;
mod infonce;
mod linear;
mod merge;
mod spmm;
mod topk;
