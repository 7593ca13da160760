//! The command line: one file a command. Exit codes: 0 done, 1 failed, 2 bad usage or bad input,
//! 130 stopped.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::error::Result;
use crate::terminal::say;

mod bench;
mod check;
mod clean;
mod compare;
mod data;
mod demo;
mod doctor;
mod edited;
mod explain;
mod export;
mod init;
mod inspected;
mod kernels;
mod llm;
mod model;
mod output;
mod progress;
mod recommend;
mod report;
mod rerun;
mod run;
mod score;
mod serve;
mod shell;
mod sweep;
mod tiny_model;
mod watch;

/// Retrieval-augmented recommendation with language models, from raw rating files to merged
/// predictions.
///
/// rallrec implements RALLRec (arXiv 2502.06101) and RALLRec+ (arXiv 2503.20430): item descriptions
/// and their embeddings, LightGCN, contrastive alignment, retrieval from the user's own history,
/// LoRA tuning, reasoning samples and their merge. Start with `rallrec demo`: it runs the whole
/// chain on built-in data in about a minute.
#[derive(Parser)]
#[command(name = "rallrec", version, after_help = "Exit codes: 0 done, 1 failed, 2 bad usage or input, 130 stopped.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Init(init::InitArgs),
    Run(run::RunArgs),
    Sweep(sweep::SweepArgs),
    Watch(watch::WatchArgs),
    Data(data::DataArgs),
    Model(model::ModelArgs),
    Llm(llm::LlmArgs),
    Recommend(recommend::RecommendArgs),
    Serve(serve::ServeArgs),
    Score(score::ScoreArgs),
    Export(export::ExportArgs),
    Compare(compare::CompareArgs),
    Report(report::ReportArgs),
    Clean(clean::CleanArgs),
    Explain(explain::ExplainArgs),
    Bench(bench::BenchArgs),
    Check(check::CheckArgs),
    Kernels(kernels::KernelsArgs),
    Doctor(doctor::DoctorArgs),
    TinyModel(tiny_model::TinyModelArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

/// Parses the arguments, runs the command, prints the error, chooses the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Printing fails only when the terminal is gone; the exit code still tells.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // Without a command: the dashboard where there is a terminal, the help where there is none.
    let Some(command) = cli.command else {
        return match watch::start() {
            Some(result) => report(result),
            None => {
                // Printing fails only when nobody reads.
                let _ = Cli::command().print_help();
                ExitCode::from(2)
            }
        };
    };
    // A dashboard has its own handlers: it gives the terminal back first.
    if command.hears_stops() {
        crate::pipeline::control::install_signal_handler();
    } else if !matches!(&command, Command::Watch(_)) && !command.has_dashboard() {
        crate::pipeline::control::end_on_a_signal();
    }
    report(dispatch(command))
}

impl Command {
    /// True when the work looks for a stop that was asked for, and ends at a clean point. Any other
    /// command ends at the first signal.
    fn hears_stops(&self) -> bool {
        match self {
            Command::Run(_) | Command::Demo(_) => !self.has_dashboard(),
            Command::Recommend(_) | Command::Export(_) | Command::Data(_) => true,
            Command::Bench(_) | Command::TinyModel(_) | Command::Serve(_) | Command::Sweep(_) => true,
            Command::Llm(args) => args.hears_stops(),
            Command::Check(args) => args.watches(),
            _ => false,
        }
    }

    /// True when the process shows the dashboard and a process of its own does the work.
    fn has_dashboard(&self) -> bool {
        match self {
            Command::Run(args) => args.options.screen.tui,
            Command::Demo(args) => args.options.screen.tui,
            _ => false,
        }
    }
}

fn report(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("rallrec: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    // Said here, as the first parallel work would panic. Runs and benches say how many they want.
    if matches!(
        &command,
        Command::Data(_)
            | Command::Model(_)
            | Command::Llm(_)
            | Command::Recommend(_)
            | Command::Export(_)
            | Command::Check(_)
    ) {
        crate::pipeline::set_threads(0)?;
    }
    match command {
        Command::Demo(args) => demo::main(args),
        Command::Init(args) => init::main(args),
        Command::Run(args) => run::main(args),
        Command::Sweep(args) => sweep::main(args),
        Command::Watch(args) => watch::main(args),
        Command::Data(args) => data::main(args),
        Command::Model(args) => model::main(args),
        Command::Llm(args) => llm::main(args),
        Command::Recommend(args) => recommend::main(args),
        Command::Serve(args) => serve::main(args),
        Command::Score(args) => score::main(args),
        Command::Export(args) => export::main(args),
        Command::Compare(args) => compare::main(args),
        Command::Report(args) => report::main(args),
        Command::Bench(args) => bench::main(args),
        Command::Check(args) => check::main(args),
        Command::Kernels(args) => kernels::main(args),
        Command::Doctor(args) => doctor::main(args),
        Command::TinyModel(args) => tiny_model::main(args),
        Command::Clean(args) => clean::main(args),
        Command::Explain(args) => explain::main(args),
        Command::Completions(args) => shell::completions(args, Cli::command()),
        Command::Man(args) => shell::man(args, Cli::command()),
    }
}
