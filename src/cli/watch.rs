//! `rallrec watch`, `--tui`, and `rallrec` without a command: the dashboard of the `rallrec-tui`
//! crate.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rallrec_events::RunFolder;
use rallrec_events::folder::{Requests, Word};
use rallrec_tui::app::Launch;
use rallrec_tui::edge::engine::{self, QUEUED};
use rallrec_tui::theme::Theme;
use rallrec_tui::{Options, Outcome, Palette, PaneId, snapshot, terminal};

use super::output;
use crate::error::{Error, Result};
use crate::pipeline::control;

/// Watch runs in the terminal, running or finished, here or from another machine that sees the
/// folder.
///
/// Without a run folder it lists recipes and runs; from there runs are started, queued, resumed,
/// repeated with changes and compared. A run is a process of its own: it goes on when the dashboard
/// closes or dies. `?` shows every key.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  rallrec watch runs/demo\n  rallrec watch runs/first runs/second\n  rallrec watch --once runs/demo"
)]
pub struct Args {
    /// Run folders.
    runs: Vec<PathBuf>,
    /// Print how the runs stand, once, and end.
    #[arg(long)]
    once: bool,
    /// With --once: everything that the panes show, as JSON.
    #[arg(long, requires = "once")]
    json: bool,
    #[command(flatten)]
    looks: Looks,
}

/// How the dashboard looks.
#[derive(clap::Args, Clone)]
pub struct Looks {
    /// Colours of the dashboard (default: NO_COLOR, then what was chosen with t, then what the
    /// terminal says).
    #[arg(long, value_enum)]
    theme: Option<ThemeName>,
    /// Plain ASCII in the dashboard instead of lines, blocks and braille dots.
    #[arg(long)]
    ascii: bool,
    /// No mouse in the dashboard: the terminal's own marking of text works.
    #[arg(long)]
    no_mouse: bool,
}

/// The palettes by name.
#[derive(clap::ValueEnum, Clone, Copy)]
enum ThemeName {
    Dark,
    Light,
    Mono,
}

/// The part of `run` and `demo` that has to do with dashboards.
#[derive(clap::Args)]
pub struct Screen {
    /// Do the work in a process of its own and watch it in the dashboard.
    #[arg(long, conflicts_with_all = ["json", "quiet", "print_recipe"])]
    pub tui: bool,
    /// Begin when no process works in this run folder any more.
    #[arg(long, value_name = "DIR", conflicts_with = "tui")]
    after: Option<PathBuf>,
    /// Colours of the dashboard.
    #[arg(long, value_enum, requires = "tui")]
    theme: Option<ThemeName>,
    /// Plain ASCII in the dashboard.
    #[arg(long, requires = "tui")]
    ascii: bool,
}

impl ThemeName {
    fn palette(self) -> Palette {
        match self {
            ThemeName::Dark => Palette::Dark,
            ThemeName::Light => Palette::Light,
            ThemeName::Mono => Palette::Mono,
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub fn main(args: Args) -> Result<()> {
    if args.once {
        return once(&args);
    }
    for folder in &args.runs {
        if !folder.is_dir() {
            return Err(Error::input(folder.display(), "there is no such folder")
                .next("give a run folder, e.g. runs/demo; `rallrec watch` alone lists the runs"));
        }
    }
    let looks = args.looks;
    open(Options {
        folders: args.runs,
        palette: looks.theme.map(ThemeName::palette),
        ascii: looks.ascii,
        no_mouse: looks.no_mouse,
        ..Options::default()
    })
}

fn once(args: &Args) -> Result<()> {
    let folders = if args.runs.is_empty() {
        rallrec_events::folder::runs_below(Path::new("runs")).into_iter().map(|r| r.path).collect()
    } else {
        args.runs.clone()
    };
    if folders.is_empty() {
        return Err(Error::usage("watch --once", "there is no run below runs/")
            .next("give a run folder, or make a run: rallrec demo"));
    }
    let mut shown = Vec::new();
    for folder in &folders {
        let run = snapshot::open(folder, now_ms())
            .map_err(|what| Error::input(folder.display(), what).next("give a folder that `rallrec run` wrote into"))?;
        shown.push(run);
    }
    if args.json {
        return output::json(&shown.iter().map(snapshot::json).collect::<Vec<_>>());
    }
    let width = console::Term::stdout().size_checked().map_or(100, |(_, columns)| columns.clamp(40, 160));
    let plain = !io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some();
    let palette = if plain { Palette::Mono } else { Palette::Dark };
    let theme = Theme { palette, ascii: args.looks.ascii };
    let texts: Vec<String> = shown.iter().map(|r| snapshot::text(r, now_ms(), width, theme)).collect();
    output::text(&texts.join("\n"))
}

/// `rallrec` without a command; `None` where there is no terminal to show the dashboard on.
pub fn start() -> Option<Result<()>> {
    let there = io::stdin().is_terminal() && io::stdout().is_terminal() && terminal::there_is_a_terminal();
    there.then(|| open(Options { pane: Some(PaneId::Runs), ..Options::default() }))
}

/// `run --tui` and `demo --tui`: the same command without the flag in a process of its own, and the
/// dashboard.
pub fn with_run(folder: &Path, screen: &Screen) -> Result<()> {
    let own = |a: &String| !matches!(a.as_str(), "--tui" | "--ascii") && !a.starts_with("--theme=");
    let mut args: Vec<String> = Vec::new();
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        if arg == "--theme" {
            given.next();
        } else if own(&arg) {
            args.push(arg);
        }
    }
    args.push("--quiet".into());
    // The pane of the operators has something to show.
    if !args.iter().any(|a| a == "--profile") {
        args.push("--profile".into());
    }
    open(Options {
        launch: Some(Launch { args, folder: folder.to_path_buf() }),
        palette: screen.theme.map(ThemeName::palette),
        ascii: screen.ascii,
        pane: Some(PaneId::Pipeline),
        ..Options::default()
    })
}

fn open(mut options: Options) -> Result<()> {
    if !terminal::there_is_a_terminal() {
        return Err(Error::usage("the dashboard", "there is no terminal to draw on")
            .next("without a terminal: rallrec watch --once RUN"));
    }
    options.program = std::env::current_exe().map_err(|e| Error::io("rallrec", "find the program's own file", &e))?;
    let Outcome { code, summary } = rallrec_tui::run(options).map_err(|e| Error::failed("the dashboard", e))?;
    output::text(&summary)?;
    // A signal ends the program with the code that shells expect of it; the terminal was given back
    // before.
    if code != 0 {
        std::process::exit(code.into());
    }
    Ok(())
}

/// Where a dashboard could be opened, says so once.
pub fn hint(folder: &Path, quiet: bool) {
    if !quiet && io::stderr().is_terminal() {
        // A line more or less: nothing depends on it.
        let _ = writeln!(
            io::stderr(),
            "curves and answers, live, from another terminal: rallrec watch {}",
            folder.display()
        );
    }
}

/// Waits until the run of `--after` has ended. Meanwhile the folder says that it is queued; "stop"
/// in its control file or a signal ends the waiting.
///
/// # Errors
/// The folder cannot be written, or the waiting was stopped.
pub fn wait_for_turn(folder: &Path, screen: &Screen) -> Result<()> {
    let Some(after) = &screen.after else { return Ok(()) };
    let busy = || RunFolder::new(after).is_alive() || (after != folder && engine::is_queued(after));
    if !busy() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, "make the run folder", &e))?;
    let marker = folder.join(QUEUED);
    let mut file = File::create(&marker).map_err(|e| Error::io(&marker, "write in the run folder", &e))?;
    // The lock tells a waiting process from one that was killed.
    if file.try_lock().is_err() {
        return Err(Error::failed(folder.display(), "a process waits to start in this folder already")
            .next("give another folder with --out"));
    }
    let _ = writeln!(file, "waits for {}, process {}", after.display(), std::process::id());
    // A word that was left over would end the waiting at once.
    let _ = Requests::default().write(folder);
    let stopped = loop {
        if control::interrupted() || Requests::read(folder).lasting == Some(Word::Stop) {
            break true;
        }
        if !busy() {
            break false;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    // It was only a marker; a run that begins says more.
    let _ = fs::remove_file(&marker);
    if stopped {
        Err(Error::stopped(folder.display().to_string()).next("it had not begun; nothing is lost"))
    } else {
        Ok(())
    }
}
