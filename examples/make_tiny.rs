//! Makes the built-in model from a build that holds no model yet; the command `rallrec tiny-model` does the same.

use clap::Parser;
use rallrec::cli::tiny_model::{Args, main as make};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn main() -> std::process::ExitCode {
    match make(Cli::parse().args) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("make_tiny: {error}");
            std::process::ExitCode::from(error.exit_code())
        }
    }
}
