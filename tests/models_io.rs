//! Reading and writing of language-model files.

#[path = "models_io/common.rs"]
mod common;
#[path = "models_io/hf.rs"]
mod hf;
