//! `rallrec completions` and `rallrec man`: what shells and `man` want to know of the program.

use clap::Command;

use super::output;
use crate::error::{Error, Result};

/// Print the completions of commands and options for a shell.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  rallrec completions bash > ~/.local/share/bash-completion/completions/rallrec\n  \
    rallrec completions zsh > ~/.zfunc/_rallrec\n  \
    rallrec completions fish > ~/.config/fish/completions/rallrec.fish"
)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Print the manual page, in the form that `man` reads.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  rallrec man > ~/.local/share/man/man1/rallrec.1\n  \
    rallrec man recommend | man -l -")]
pub struct ManArgs {
    /// A command; without one, the page of the whole program.
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

pub fn completions(args: CompletionsArgs, mut program: Command) -> Result<()> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut program, "rallrec", &mut out);
    output::bytes(&out)
}

pub fn man(args: ManArgs, program: Command) -> Result<()> {
    let mut page = program;
    page.build();
    if let Some(name) = args.command {
        let known: Vec<String> = page.get_subcommands().map(|c| c.get_name().to_owned()).collect();
        let found = page.find_subcommand(&name).cloned();
        page = found.ok_or_else(|| {
            Error::usage(&name, "is no command").next(format!("the commands are: {}", known.join(", ")))
        })?;
    }
    let mut out = Vec::new();
    clap_mangen::Man::new(page).render(&mut out).map_err(|e| Error::failed("manual page", e))?;
    output::bytes(&out)
}
