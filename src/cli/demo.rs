//! `rallrec demo`: the whole chain on what is built in.

use super::{output, run};
use crate::config;
use crate::error::Result;

/// The demo's recipe, as it stands in configs/demo.toml.
const RECIPE: &str = include_str!("../../configs/demo.toml");

/// Run the whole chain on the built-in data and the built-in tiny model: no files, no network,
/// about a minute.
///
/// The data are synthetic: invented users, films and tastes. The model is a toy made by `rallrec
/// tiny-model`. What the demo shows is every stage of the method at work, not what a real language
/// model achieves.
#[derive(clap::Args)]
pub struct DemoArgs {
    #[command(flatten)]
    pub options: run::Options,
}

pub fn main(args: DemoArgs) -> Result<()> {
    let read = config::read_text(RECIPE, "configs/demo.toml", &args.options.set)?;
    output::renamed(&read);
    run::execute(read, args.options, &["demo"])
}
