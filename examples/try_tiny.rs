//! Examines a tiny model: `cargo run --release --example try_tiny [FOLDER]` (without a folder the built-in one).

use rallrec::models::{builtin, llama};
use rallrec::tiny_model::exam;

fn main() -> rallrec::Result<()> {
    let options = llama::LoadOptions::default();
    for seed in [501, 502] {
        let loaded = match std::env::args().nth(1) {
            Some(folder) => llama::load(folder.as_ref(), &options)?,
            None => builtin::load(&options)?,
        };
        println!("{:#?}", exam(loaded, seed, 600)?);
    }
    Ok(())
}
