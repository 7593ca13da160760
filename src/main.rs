//! The `rallrec` program. Everything it can do is in the library; this file only turns errors into
//! exit codes.

use std::process::ExitCode;

fn main() -> ExitCode {
    rallrec::cli::main()
}
