//! `rallrec watch`, `--tui`, and `rallrec` without a command: the dashboard of the `rallrec-tui`
//! crate.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(test)]
use rallrec_events::RunFolder;
use rallrec_events::folder::{Requests, Turn, Word};
use rallrec_events::now_ms;
use rallrec_tui::app::Launch;
use rallrec_tui::edge::engine;
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
    after_help = "Examples:\n  rallrec watch runs/demo\n  rallrec watch runs/first runs/second\n  rallrec watch --once runs/demo\n  rallrec watch --once --alarms runs/demo || mail -s 'runs/demo' me < /dev/null"
)]
pub struct WatchArgs {
    /// Run folders.
    runs: Vec<PathBuf>,
    /// Print how the runs stand and what needs a look, once, and end: with 0 when nothing does, 3
    /// when something needs a look, 4 when something is bad (failed, killed, NaN).
    #[arg(long)]
    once: bool,
    /// With --once: the alarms alone, a line each; nothing when there is none.
    #[arg(long, requires = "once", conflicts_with = "json")]
    alarms: bool,
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
#[derive(Clone, clap::Args)]
pub struct Screen {
    /// Do the work in a process of its own and watch it in the dashboard.
    #[arg(long, conflicts_with_all = ["json", "quiet", "print_recipe"])]
    pub tui: bool,
    /// Begin when no process works in this run folder, or in one directly below it, nor has waited
    /// longer to begin there. May be given several times.
    #[arg(long, value_name = "DIR", conflicts_with = "tui")]
    after: Vec<PathBuf>,
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

pub fn main(args: WatchArgs) -> Result<()> {
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

fn once(args: &WatchArgs) -> Result<()> {
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
        output::json(&shown.iter().map(|r| snapshot::json(r, now_ms())).collect::<Vec<_>>())?;
    } else if args.alarms {
        let lines: String = shown.iter().map(|r| snapshot::alarm_lines(r, now_ms(), true)).collect();
        // Cron sends mail for a single empty line.
        if !lines.is_empty() {
            output::text(&lines)?;
        }
    } else {
        let width = console::Term::stdout().size_checked().map_or(100, |(_, columns)| columns.clamp(40, 160));
        let plain = !io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some();
        let palette = if plain { Palette::Mono } else { Palette::Dark };
        let theme = Theme { palette, ascii: args.looks.ascii };
        let texts: Vec<String> = shown.iter().map(|r| snapshot::text(r, now_ms(), width, theme)).collect();
        output::text(&texts.join("\n"))?;
    }
    match shown.iter().map(|r| snapshot::exit_code(r, now_ms())).max() {
        None | Some(0) => Ok(()),
        Some(code) => std::process::exit(code.into()),
    }
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

/// Between two looks of a run that waits. It begins when two in a row have found nobody before it:
/// a run that is starting meanwhile has its lock at the second one.
const LOOK: Duration = Duration::from_millis(500);

/// Waits until the runs of `--after` have ended, and those they waited for. Meanwhile the folder
/// says that it is queued; "stop" in its control file or a signal ends the waiting. The place in
/// the queue is held until what is returned is dropped: when the run has its folder, so that those
/// behind it see one or the other.
///
/// # Errors
/// The folder cannot be written, or the waiting was stopped.
pub fn wait_for_turn(folder: &Path, screen: &Screen) -> Result<Option<Turn>> {
    if screen.after.is_empty() {
        return Ok(None);
    }
    let Some(mut turn) =
        Turn::take(folder, &screen.after).map_err(|e| Error::io(folder, "wait in the run folder", &e))?
    else {
        return Err(Error::failed(folder.display(), "a process waits to start in this folder already")
            .next("give another folder with --out"));
    };
    // A name that was mistyped would begin at once. The folder of this run makes the one above it.
    if let Some(missing) = screen.after.iter().find(|path| !path.is_dir()) {
        drop(turn);
        leave_nothing(folder);
        return Err(Error::usage("--after", format!("{} is no folder", missing.display()))
            .next("give a run folder, or one with run folders in it, e.g. runs"));
    }
    // A word that was left over would end the waiting at once.
    let _ = Requests::default().write(folder);
    let mut free = 0;
    loop {
        free = if turn.must_wait() { 0 } else { free + 1 };
        if free == 2 {
            return Ok(Some(turn));
        }
        if control::interrupted() || Requests::read(folder).lasting == Some(Word::Stop) {
            drop(turn);
            leave_nothing(folder);
            return Err(Error::stopped(folder.display().to_string()).next("it had not begun; nothing is lost"));
        }
        std::thread::sleep(LOOK);
    }
}

/// Takes back what waiting left in the folder, and the folder itself where nothing else is in it.
fn leave_nothing(folder: &Path) {
    // Whatever cannot be removed is only untidy.
    let _ = Requests::default().write(folder);
    if !folder.join("recipe.toml").exists() {
        let _ = fs::remove_file(folder.join(engine::OUTPUT));
        let _ = fs::remove_dir(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_leaves_the_queue_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let new = root.path().join("new");
        fs::create_dir(&new).unwrap();
        fs::write(new.join(engine::OUTPUT), "").unwrap();
        RunFolder::new(&new).ask(Word::Stop).unwrap();
        leave_nothing(&new);
        assert!(!new.exists());
        let old = root.path().join("old");
        fs::create_dir(&old).unwrap();
        for file in ["recipe.toml", engine::OUTPUT] {
            fs::write(old.join(file), "").unwrap();
        }
        leave_nothing(&old);
        assert_eq!(fs::read_dir(&old).unwrap().count(), 2, "an earlier run keeps its own");
    }
}
