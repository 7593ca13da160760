//! placeholder until the tiny model lands
use crate::error::{Error, Result};
use crate::models::llama::{LoadOptions, Loaded};
/// Name.
pub const NAME: &str = "builtin";
/// Load.
pub fn load(_: &LoadOptions) -> Result<Loaded> {
    Err(Error::failed("builtin", "not yet"))
}
/// Hash.
pub fn fingerprint() -> String {
    String::new()
}
