//! The dashboard on its own: `cargo run -p rallrec-tui --example watch -- [RUN…]`. Pane 0 starts
//! the program named by `RALLREC`, default `rallrec`.

use rallrec_tui::{Options, run};

fn main() -> std::io::Result<()> {
    let program = std::env::var_os("RALLREC").unwrap_or_else(|| "rallrec".into()).into();
    let folders = std::env::args_os().skip(1).map(Into::into).collect();
    let outcome = run(Options { program, folders, ..Options::default() })?;
    print!("{}", outcome.summary);
    std::process::exit(outcome.code.into());
}
