//! The loop: messages in, effects out, a drawing only when something has changed: at most ten times
//! a second when somebody acts, twice a second for what a run tells.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rallrec_events::now_ms;

use crate::backend;
use crate::draw;
use crate::edge::catalogue::Places;
use crate::edge::{Edge, engine};
use crate::input;
use crate::keys;
use crate::message::{Effect, Message, RunNews};
use crate::panes::{PaneId, runs};
use crate::prefs::{self, Prefs};
use crate::signals::{self, Signal};
use crate::snapshot;
use crate::state::{State, Weight};
use crate::terminal::{self, Screen};
use crate::theme::{self, Palette};
use crate::update::{self, terminal_event};

/// Between two drawings when somebody acts.
const FRAME: Duration = Duration::from_millis(100);
/// Between two drawings of what a run tells by itself: on a machine whose cores all train, every
/// drawing holds up the threads that wait for one another.
const NEWS: Duration = Duration::from_millis(500);
/// The clock's pace.
const TICK: Duration = Duration::from_millis(500);
/// Between two readings of what the focused pane lists.
const LISTS: Duration = Duration::from_secs(2);
/// Messages on their way; whoever sends more waits.
const CHANNEL: usize = 256;

/// A run to start together with the dashboard.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Arguments of the engine's program.
    pub args: Vec<String>,
    /// The run folder that it will work in.
    pub folder: PathBuf,
}

/// What to show and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The engine's own program, for recipes, starts and benches.
    pub program: PathBuf,
    /// Run folders to watch; none opens pane 0.
    pub folders: Vec<PathBuf>,
    /// A run to start first.
    pub launch: Option<Launch>,
    /// The palette; `None`: `NO_COLOR`, what was chosen before, `COLORFGBG`.
    pub palette: Option<Palette>,
    /// Plain ASCII glyphs.
    pub ascii: bool,
    /// No mouse: the terminal's own marking of text works.
    pub no_mouse: bool,
    /// The pane to begin with; `None`: the remembered one.
    pub pane: Option<PaneId>,
}

/// How it ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit code: 0, or 128 + signal.
    pub code: u8,
    /// What to leave on the screen.
    pub summary: String,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Opens the dashboard and returns when it is left. The terminal is as it was then, whatever
/// happened.
///
/// # Errors
/// There is no terminal, or a run that was to be started did not start (with the engine's words).
pub fn run(options: Options) -> io::Result<Outcome> {
    if let Some(launch) = &options.launch {
        engine::launch(&options.program, &launch.args, &launch.folder).map_err(io::Error::other)?;
    }
    let prefs_path = prefs::path(variable("XDG_CONFIG_HOME").as_deref(), variable("HOME").as_deref());
    let mut state = first_state(&options, prefs_path.as_deref())?;
    let (send, receive) = mpsc::sync_channel::<Message>(CHANNEL);
    let places = Places::usual(prefs_path.as_deref());
    let edge = Edge::new(options.program.clone(), prefs_path, places, send.clone())?;
    let effects = open_first(&mut state, &options);

    let to_loop = send.clone();
    signals::listen(move |signal| {
        let message = match (signal, crossterm::terminal::size()) {
            (Signal::Resize, Ok((w, h))) => Message::Resize(w, h),
            (Signal::Resize, Err(_)) => return,
            (signal, _) => Message::Signal(signal),
        };
        // Nobody listens any more when the loop has ended; the process is about to leave then.
        let _ = to_loop.send(message);
    })?;
    let to_loop = send.clone();
    let mut screen = Screen::take(!options.no_mouse, move |line| {
        let _ = to_loop.send(Message::Printed(line));
    })?;
    screen.write(&questions(&state, &options))?;
    std::thread::Builder::new().name("keys".into()).spawn(move || {
        input::read(|heard| terminal_event(heard).is_none_or(|message| send.send(message).is_ok()));
        // The terminal is gone and no key will come any more: as after a hang-up.
        let _ = send.send(Message::Signal(Signal::Leave(129)));
    })?;

    go(state, edge, effects, screen, &receive)
}

/// What the terminal itself is asked, where neither options nor environment say it. A terminal that
/// does not answer is taken for a dark one that reads UTF-8.
fn questions(state: &State, options: &Options) -> String {
    let mut out = String::new();
    let plain = variable("TERM").is_some_and(|t| t == "linux" || t == "dumb");
    if state.palette_open && options.palette.is_none() && !plain {
        out.push_str(terminal::ASK_BACKGROUND);
    }
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(variable);
    if !state.theme.ascii && theme::reads_utf8(&locale, None).is_none() {
        out.push_str(terminal::ASK_UTF8);
    }
    out
}

/// The state before the first message: what was remembered, what the environment and the options
/// say.
fn first_state(options: &Options, prefs_path: Option<&Path>) -> io::Result<State> {
    let (prefs, trouble) = prefs_path.map_or_else(|| (Prefs::default(), None), Prefs::read);
    let environment = Palette::from_environment(variable("NO_COLOR").as_deref(), variable("COLORFGBG").as_deref());
    let mut state = State::new(crossterm::terminal::size()?, &prefs, environment, now_ms());
    state.theme.palette = options.palette.unwrap_or(state.theme.palette);
    state.palette_open &= options.palette.is_none();
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(variable);
    let utf8 = theme::reads_utf8(&locale, variable("TERM").as_deref());
    state.theme.ascii |= options.ascii || utf8 == Some(false);
    state.panes.runs.first_start = !prefs.seen;
    if let Some(wrong) = keys::wrong(&state.keys) {
        state.keys.clear();
        state.say(Weight::Bad, format!("{wrong}; the usual keys are used"));
    }
    if let Some(trouble) = trouble {
        state.print("warn", &trouble);
        state.say(Weight::Bad, trouble);
    }
    Ok(state)
}

/// Goes round until it is left.
fn go(
    mut state: State,
    mut edge: Edge,
    mut effects: Vec<Effect>,
    mut screen: Screen,
    receive: &Receiver<Message>,
) -> io::Result<Outcome> {
    let mut drawn = Instant::now() - FRAME;
    let mut ticked = Instant::now();
    let mut listed = Instant::now();
    let mut frame = FRAME;
    // The rows on the screen that terminals may draw wider than we think.
    let mut doubt = String::new();
    loop {
        for effect in std::mem::take(&mut effects) {
            match effect {
                Effect::Quit(code) => {
                    // Words of control and the layout are written by now: those effects came before
                    // this one.
                    drop(screen);
                    return Ok(Outcome { code, summary: snapshot::left(&state) });
                }
                Effect::Suspend => {
                    screen.suspend()?;
                    state.dirty = true;
                }
                Effect::Redraw => {
                    screen.resume()?;
                    state.dirty = true;
                }
                Effect::Terminal(sequences) => screen.write(&sequences)?,
                other => edge.perform(other),
            }
        }
        let wait =
            if state.dirty { frame.saturating_sub(drawn.elapsed()) } else { TICK.saturating_sub(ticked.elapsed()) };
        match receive.recv_timeout(wait) {
            Ok(message) => {
                // Take what else is there, so that a burst costs one drawing.
                for message in std::iter::once(message).chain(receive.try_iter().take(CHANNEL)) {
                    if !told_by_a_run(&message) {
                        frame = FRAME;
                    }
                    effects.extend(update::update(&mut state, message));
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => effects.push(Effect::Quit(0)),
        }
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            effects.extend(update::update(&mut state, Message::Tick(now_ms())));
        }
        if listed.elapsed() >= LISTS {
            listed = Instant::now();
            (state.arrangement.focus.pane().refresh)().into_iter().for_each(|effect| edge.perform(effect));
        }
        if state.dirty && drawn.elapsed() >= frame {
            state.dirty = false;
            drawn = Instant::now();
            frame = NEWS;
            // A terminal that is gone ends the program; SIGHUP says the same.
            let now = backend::in_doubt(screen.terminal.draw(|frame| draw::draw(&state, frame))?.buffer);
            if now != doubt {
                doubt = now;
                screen.empty()?;
                screen.terminal.draw(|frame| draw::draw(&state, frame))?;
            }
        }
    }
}

/// What goes on by itself while a run is at work.
fn told_by_a_run(message: &Message) -> bool {
    matches!(message, Message::Run(_, RunNews::Records(_) | RunNews::Status(_) | RunNews::Printed(_)))
}

/// Opens what was asked for, or the lists.
fn open_first(state: &mut State, options: &Options) -> Vec<Effect> {
    let mut effects = Vec::new();
    for folder in options.folders.iter().chain(options.launch.iter().map(|l| &l.folder)) {
        effects.extend(update::open(state, folder.clone()));
    }
    state.current = 0;
    if let Some(launch) = &options.launch {
        state.own_run = state.runs.iter().find(|r| r.folder == launch.folder).map(|r| r.id);
    }
    match options.pane {
        Some(pane) => state.arrangement.focus = pane,
        None if state.runs.is_empty() => state.arrangement.focus = PaneId::Runs,
        None if state.arrangement.focus == PaneId::Runs => state.arrangement.focus = PaneId::Pipeline,
        None => {}
    }
    effects.push(Effect::Runs(runs::Effect::List));
    effects
}
