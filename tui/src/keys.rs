//! The key table. The handler, the help overlay, the hints in the bottom line and `docs/dashboard.md` all read
//! [`TABLE`], so that none of them can say what another does not do.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::panes::PaneId;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Focus a pane by its number.
    Focus(PaneId),
    /// Focus the next or the previous pane.
    NextPane,
    /// See [`Action::NextPane`].
    PreviousPane,
    /// The focused pane fills the screen, or goes back.
    FullScreen,
    /// The next arrangement of panes.
    NextLayout,
    /// Shows or hides the focused pane in the overview.
    ToggleTile,
    /// Next opened run.
    NextRun,
    /// Previous opened run.
    PreviousRun,
    /// Pause, or go on.
    Pause,
    /// Checkpoint now.
    Checkpoint,
    /// Stop cleanly.
    Stop,
    /// Freeze the display, or follow again.
    Freeze,
    /// Next palette.
    NextTheme,
    /// ASCII glyphs on or off.
    ToggleAscii,
    /// Help.
    Help,
    /// Leave.
    Quit,
    /// To the background.
    Suspend,
    /// Draw everything again.
    Redraw,
    /// Up, down and so on, as the pane takes them.
    Up,
    /// See [`Action::Up`].
    Down,
    /// See [`Action::Up`].
    Left,
    /// See [`Action::Up`].
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the beginning.
    First,
    /// To the end.
    Last,
    /// The next view of the pane.
    NextView,
    /// Closer.
    ZoomIn,
    /// Farther.
    ZoomOut,
    /// The window to earlier values.
    PanLeft,
    /// The window to later values.
    PanRight,
    /// Next smoothing.
    Smooth,
    /// Logarithmic axis on or off.
    LogAxis,
    /// Whole or recent.
    Recent,
    /// Other opened runs in the same chart, or not.
    Overlay,
    /// One chart alone, or all.
    OneChart,
    /// Everything back to how it began.
    Reset,
    /// Filter.
    Filter,
    /// Next least level of the log.
    Level,
    /// Follow the end.
    Follow,
    /// Another order.
    Sort,
    /// Benches the selected operator.
    Bench,
    /// Checks the selected operator.
    Check,
    /// Open what is selected.
    Open,
    /// Start what is selected.
    Start,
    /// Into the queue.
    Enqueue,
    /// Go on with a stopped run.
    Resume,
    /// The same recipe with changes.
    Repeat,
    /// Marks for comparing.
    Mark,
    /// Compares what is marked.
    Compare,
    /// Deletes, after asking.
    Delete,
    /// Reads the lists again.
    Refresh,
    /// Takes the default back.
    Default,
    /// Yes, do it.
    Accept,
    /// No; back.
    Cancel,
    /// Leave and stop the run that was started with this dashboard.
    StopAndQuit,
    /// Deletes the character before the cursor of an input line.
    Erase,
    /// Empties an input line.
    EraseAll,
}

/// Where a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everywhere but in overlays.
    Global,
    /// While this pane has the focus; goes before [`Scope::Global`].
    Pane(PaneId),
    /// In the recipe editor of pane 0.
    Recipe,
    /// In the help overlay.
    Help,
    /// In a question.
    Question,
    /// In an input line.
    Input,
}

impl Scope {
    /// Title in the help and in the documentation.
    pub fn title(self) -> String {
        match self {
            Scope::Global => "Everywhere".into(),
            Scope::Pane(pane) => format!("{} {}", pane.number(), pane.title()),
            Scope::Recipe => "Recipe editor".into(),
            Scope::Help => "Help".into(),
            Scope::Question => "Questions".into(),
            Scope::Input => "Input lines".into(),
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// Where it holds.
    pub scope: Scope,
    /// The keys, any of which does it.
    pub keys: &'static [Key],
    /// What it does.
    pub action: Action,
    /// The same in words.
    pub what: &'static str,
    /// A word for the bottom line; empty: not shown there.
    pub hint: &'static str,
}

/// A key as the table writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A character, with shift already in it.
    Char(char),
    /// Control and a character.
    Ctrl(char),
    /// Another key.
    Code(KeyCode),
    /// Shift and another key.
    Shift(KeyCode),
}

impl Key {
    /// True when `event` is this key.
    pub fn matches(self, event: &KeyEvent) -> bool {
        let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
        let shift = event.modifiers.contains(KeyModifiers::SHIFT);
        match self {
            Key::Char(c) => !ctrl && !event.modifiers.contains(KeyModifiers::ALT) && event.code == KeyCode::Char(c),
            Key::Ctrl(c) => ctrl && event.code == KeyCode::Char(c),
            Key::Code(code) => !ctrl && !shift && event.code == code,
            Key::Shift(code) => !ctrl && shift && event.code == code,
        }
    }

    /// As written on a keyboard.
    pub fn name(self) -> String {
        let code = |code: KeyCode| match code {
            KeyCode::Up => "Up".to_string(),
            KeyCode::Down => "Down".into(),
            KeyCode::Left => "Left".into(),
            KeyCode::Right => "Right".into(),
            KeyCode::PageUp => "PgUp".into(),
            KeyCode::PageDown => "PgDn".into(),
            KeyCode::F(n) => format!("F{n}"),
            other => format!("{other:?}"),
        };
        match self {
            Key::Char(' ') => "Space".into(),
            Key::Char(c) => c.to_string(),
            Key::Ctrl(c) => format!("Ctrl-{}", c.to_ascii_uppercase()),
            // Some terminals report the shift beside the key that already says it.
            Key::Code(KeyCode::BackTab) | Key::Shift(KeyCode::BackTab) => "Shift-Tab".into(),
            Key::Code(c) => code(c),
            Key::Shift(c) => format!("Shift-{}", code(c)),
        }
    }
}

impl Binding {
    /// Names of its keys, each once.
    fn names(&self) -> Vec<String> {
        let mut out: Vec<String> = self.keys.iter().map(|k| k.name()).collect();
        out.dedup();
        out
    }

    /// Its keys, e.g. `j Down`.
    pub fn key_names(&self) -> String {
        self.names().join(" ")
    }
}

use Key::{Char, Code, Ctrl, Shift};
use PaneId::{Kernels, Log, Merge, Pipeline, Retrieval, Runs, Sampling, System, Training};

const fn bind(scope: Scope, keys: &'static [Key], action: Action, what: &'static str, hint: &'static str) -> Binding {
    Binding { scope, keys, action, what, hint }
}

const G: Scope = Scope::Global;
const UP: &[Key] = &[Code(KeyCode::Up), Char('k')];
const DOWN: &[Key] = &[Code(KeyCode::Down), Char('j')];
const LEFT: &[Key] = &[Code(KeyCode::Left), Char('h')];
const RIGHT: &[Key] = &[Code(KeyCode::Right), Char('l')];
const PAGE_UP: &[Key] = &[Code(KeyCode::PageUp), Ctrl('b')];
const PAGE_DOWN: &[Key] = &[Code(KeyCode::PageDown), Ctrl('f')];
const HOME: &[Key] = &[Code(KeyCode::Home), Char('g')];
const END: &[Key] = &[Code(KeyCode::End), Char('G')];
const ENTER: &[Key] = &[Code(KeyCode::Enter)];
const ESC: &[Key] = &[Code(KeyCode::Esc)];
const VIEW: &[Key] = &[Char('v')];
const ZOOM_IN: &[Key] = &[Char('+'), Char('=')];
const ZOOM_OUT: &[Key] = &[Char('-')];

/// Every key of the dashboard.
pub const TABLE: &[Binding] = &[
    bind(G, &[Char('?'), Code(KeyCode::F(1))], Action::Help, "help; type there to search", "help"),
    bind(G, &[Char('q'), Ctrl('c')], Action::Quit, "leave; the run goes on", "quit"),
    bind(G, &[Char('0')], Action::Focus(Runs), "runs and recipes", ""),
    bind(G, &[Char('1')], Action::Focus(Pipeline), "stages", ""),
    bind(G, &[Char('2')], Action::Focus(Training), "training curves", ""),
    bind(G, &[Char('3')], Action::Focus(Sampling), "reasoning samples", ""),
    bind(G, &[Char('4')], Action::Focus(Merge), "merge and results", ""),
    bind(G, &[Char('5')], Action::Focus(Retrieval), "embeddings and retrieval", ""),
    bind(G, &[Char('6')], Action::Focus(Kernels), "operators", ""),
    bind(G, &[Char('7')], Action::Focus(System), "machine", ""),
    bind(G, &[Char('8')], Action::Focus(Log), "log", ""),
    bind(G, &[Code(KeyCode::Tab)], Action::NextPane, "next pane", ""),
    bind(G, &[Code(KeyCode::BackTab), Shift(KeyCode::BackTab)], Action::PreviousPane, "previous pane", ""),
    bind(G, &[Char('f')], Action::FullScreen, "the focused pane alone, or all", "full"),
    bind(G, &[Char('L')], Action::NextLayout, "next arrangement of panes", ""),
    bind(G, &[Char('w')], Action::ToggleTile, "focused pane in the overview or not", ""),
    bind(G, &[Char(']')], Action::NextRun, "next opened run", ""),
    bind(G, &[Char('[')], Action::PreviousRun, "previous opened run", ""),
    bind(G, &[Char('p')], Action::Pause, "pause the run, or let it go on", "pause"),
    bind(G, &[Char('c')], Action::Checkpoint, "write a checkpoint now", ""),
    bind(G, &[Char('S')], Action::Stop, "stop the run at a clean point (asks)", "stop"),
    bind(G, &[Char(' ')], Action::Freeze, "freeze the display, or follow again", "freeze"),
    bind(G, &[Char('t')], Action::NextTheme, "dark, light, mono", ""),
    bind(G, &[Char('A')], Action::ToggleAscii, "plain ASCII glyphs or not", ""),
    bind(G, &[Ctrl('z')], Action::Suspend, "to the background; fg brings it back", ""),
    bind(G, &[Ctrl('l')], Action::Redraw, "draw everything again", ""),
    bind(Scope::Pane(Runs), UP, Action::Up, "up", ""),
    bind(Scope::Pane(Runs), DOWN, Action::Down, "down", ""),
    bind(Scope::Pane(Runs), PAGE_UP, Action::PageUp, "page up", ""),
    bind(Scope::Pane(Runs), PAGE_DOWN, Action::PageDown, "page down", ""),
    bind(Scope::Pane(Runs), HOME, Action::First, "first entry", ""),
    bind(Scope::Pane(Runs), END, Action::Last, "last entry", ""),
    bind(Scope::Pane(Runs), ENTER, Action::Open, "open: watch a run, edit a recipe", "open"),
    bind(Scope::Pane(Runs), &[Char('s')], Action::Start, "start the recipe in a process of its own", "start"),
    bind(Scope::Pane(Runs), &[Char('u')], Action::Enqueue, "queue: start when no other run is at work", "queue"),
    bind(Scope::Pane(Runs), &[Char('r')], Action::Resume, "go on with a stopped or failed run", "resume"),
    bind(Scope::Pane(Runs), &[Char('e')], Action::Repeat, "repeat a run with changes", "repeat"),
    bind(Scope::Pane(Runs), &[Char('m')], Action::Mark, "mark a run for comparing", ""),
    bind(Scope::Pane(Runs), &[Char('=')], Action::Compare, "compare the marked runs", "compare"),
    bind(
        Scope::Pane(Runs),
        &[Char('d'), Code(KeyCode::Delete)],
        Action::Delete,
        "delete a run folder, or a queued start (asks)",
        "",
    ),
    bind(Scope::Pane(Runs), &[Char('R')], Action::Refresh, "read the lists again", ""),
    bind(Scope::Recipe, UP, Action::Up, "previous setting", ""),
    bind(Scope::Recipe, DOWN, Action::Down, "next setting", ""),
    bind(Scope::Recipe, PAGE_UP, Action::PageUp, "page up", ""),
    bind(Scope::Recipe, PAGE_DOWN, Action::PageDown, "page down", ""),
    bind(Scope::Recipe, HOME, Action::First, "first setting", ""),
    bind(Scope::Recipe, END, Action::Last, "last setting", ""),
    bind(Scope::Recipe, ENTER, Action::Open, "change the setting; the engine checks it", "change"),
    bind(Scope::Recipe, &[Char('/')], Action::Filter, "show only settings with this text", "search"),
    bind(Scope::Recipe, &[Char('d'), Code(KeyCode::Delete)], Action::Default, "take a change back", "undo"),
    bind(Scope::Recipe, &[Char('s')], Action::Start, "start with these settings", "start"),
    bind(Scope::Recipe, &[Char('u')], Action::Enqueue, "queue with these settings", "queue"),
    bind(Scope::Recipe, ESC, Action::Cancel, "back to the lists", "back"),
    bind(Scope::Pane(Pipeline), UP, Action::Up, "previous stage", ""),
    bind(Scope::Pane(Pipeline), DOWN, Action::Down, "next stage", ""),
    bind(Scope::Pane(Training), LEFT, Action::Left, "cursor to earlier values", "cursor"),
    bind(Scope::Pane(Training), RIGHT, Action::Right, "cursor to later values", ""),
    bind(Scope::Pane(Training), UP, Action::Up, "previous chart", ""),
    bind(Scope::Pane(Training), DOWN, Action::Down, "next chart", "chart"),
    bind(Scope::Pane(Training), ENTER, Action::OneChart, "this chart alone, or all", "one"),
    bind(Scope::Pane(Training), ZOOM_IN, Action::ZoomIn, "zoom in", "zoom"),
    bind(Scope::Pane(Training), ZOOM_OUT, Action::ZoomOut, "zoom out", ""),
    bind(Scope::Pane(Training), &[Char('<'), Char(','), Shift(KeyCode::Left)], Action::PanLeft, "earlier part", ""),
    bind(Scope::Pane(Training), &[Char('>'), Char('.'), Shift(KeyCode::Right)], Action::PanRight, "later part", ""),
    bind(Scope::Pane(Training), &[Char('r')], Action::Recent, "whole run or recent steps", "recent"),
    bind(Scope::Pane(Training), &[Char('s')], Action::Smooth, "next smoothing", "smooth"),
    bind(Scope::Pane(Training), &[Char('y')], Action::LogAxis, "logarithmic axis or not", "log"),
    bind(Scope::Pane(Training), &[Char('o')], Action::Overlay, "lay the other opened runs over it, or not", ""),
    bind(Scope::Pane(Training), VIEW, Action::NextView, "stages that train: one after another", "view"),
    bind(Scope::Pane(Training), &[Code(KeyCode::Esc), Code(KeyCode::Home)], Action::Reset, "whole run, no cursor", ""),
    bind(Scope::Pane(Sampling), UP, Action::Up, "previous prompt", ""),
    bind(Scope::Pane(Sampling), DOWN, Action::Down, "next prompt", "prompt"),
    bind(Scope::Pane(Sampling), LEFT, Action::Left, "previous sample", ""),
    bind(Scope::Pane(Sampling), RIGHT, Action::Right, "next sample", "sample"),
    bind(Scope::Pane(Sampling), PAGE_UP, Action::PageUp, "ten prompts up", ""),
    bind(Scope::Pane(Sampling), PAGE_DOWN, Action::PageDown, "ten prompts down", ""),
    bind(Scope::Pane(Sampling), VIEW, Action::NextView, "answers, histogram, accuracy", "view"),
    bind(Scope::Pane(Sampling), END, Action::Follow, "follow the newest prompt", "follow"),
    bind(Scope::Pane(Sampling), HOME, Action::First, "first prompt", ""),
    bind(Scope::Pane(Merge), UP, Action::Up, "previous prompt", ""),
    bind(Scope::Pane(Merge), DOWN, Action::Down, "next prompt", "prompt"),
    bind(Scope::Pane(Merge), PAGE_UP, Action::PageUp, "ten prompts up", ""),
    bind(Scope::Pane(Merge), PAGE_DOWN, Action::PageDown, "ten prompts down", ""),
    bind(Scope::Pane(Merge), HOME, Action::First, "first prompt", ""),
    bind(Scope::Pane(Merge), END, Action::Last, "last prompt", ""),
    bind(Scope::Pane(Merge), LEFT, Action::Left, "earlier samples count, metric or table", ""),
    bind(Scope::Pane(Merge), RIGHT, Action::Right, "next samples count, metric or table", ""),
    bind(Scope::Pane(Merge), VIEW, Action::NextView, "table, heat map, reliability, prompts", "view"),
    bind(Scope::Pane(Merge), &[Char('s')], Action::Sort, "prompts in order of row, variance, share or loss", "sort"),
    bind(Scope::Pane(Retrieval), UP, Action::Up, "previous example", ""),
    bind(Scope::Pane(Retrieval), DOWN, Action::Down, "next example", "example"),
    bind(Scope::Pane(Retrieval), LEFT, Action::Left, "previous space", ""),
    bind(Scope::Pane(Retrieval), RIGHT, Action::Right, "next space", "space"),
    bind(Scope::Pane(Retrieval), VIEW, Action::NextView, "scatter, example, both", "view"),
    bind(Scope::Pane(Retrieval), &[Char('s')], Action::Sort, "history in order of similarity or time", "sort"),
    bind(Scope::Pane(Kernels), UP, Action::Up, "previous operator", ""),
    bind(Scope::Pane(Kernels), DOWN, Action::Down, "next operator", ""),
    bind(Scope::Pane(Kernels), &[Char('s')], Action::Sort, "in order of time, calls, bandwidth or name", "sort"),
    bind(Scope::Pane(Kernels), &[Char('b')], Action::Bench, "bench the selected operator", "bench"),
    bind(Scope::Pane(Kernels), &[Char('x')], Action::Check, "check the selected operator", "check"),
    bind(Scope::Pane(System), VIEW, Action::NextView, "curves or figures", "view"),
    bind(Scope::Pane(Log), UP, Action::Up, "up", ""),
    bind(Scope::Pane(Log), DOWN, Action::Down, "down", ""),
    bind(Scope::Pane(Log), PAGE_UP, Action::PageUp, "page up", ""),
    bind(Scope::Pane(Log), PAGE_DOWN, Action::PageDown, "page down", ""),
    bind(Scope::Pane(Log), HOME, Action::First, "oldest line", ""),
    bind(Scope::Pane(Log), END, Action::Follow, "newest line, and follow", "follow"),
    bind(Scope::Pane(Log), &[Char('/')], Action::Filter, "show only lines with this text", "filter"),
    bind(Scope::Pane(Log), VIEW, Action::Level, "least level: debug, info, warn, error", "level"),
    bind(Scope::Pane(Log), ESC, Action::Reset, "no filter", ""),
    bind(Scope::Help, UP, Action::Up, "up", ""),
    bind(Scope::Help, DOWN, Action::Down, "down", ""),
    bind(Scope::Help, PAGE_UP, Action::PageUp, "page up", ""),
    bind(Scope::Help, PAGE_DOWN, Action::PageDown, "page down", ""),
    bind(Scope::Help, LEFT, Action::Left, "a wide text: to the left", ""),
    bind(Scope::Help, RIGHT, Action::Right, "a wide text: to the right", ""),
    bind(Scope::Help, &[Code(KeyCode::Esc), Code(KeyCode::F(1)), Ctrl('c')], Action::Cancel, "close", "close"),
    bind(Scope::Help, &[Code(KeyCode::Backspace)], Action::Erase, "shorten the search", ""),
    bind(Scope::Help, &[Ctrl('u')], Action::EraseAll, "empty the search", ""),
    bind(Scope::Question, &[Char('y'), Char('Y')], Action::Accept, "yes", ""),
    bind(Scope::Question, &[Char('n'), Char('N'), Code(KeyCode::Esc), Char('q'), Ctrl('c')], Action::Cancel, "no", ""),
    bind(
        Scope::Question,
        &[Char('s')],
        Action::StopAndQuit,
        "when leaving: stop the run that this dashboard started",
        "",
    ),
    bind(Scope::Input, ENTER, Action::Accept, "take it", "take"),
    bind(Scope::Input, &[Code(KeyCode::Esc), Ctrl('c')], Action::Cancel, "leave it as it was", "leave"),
    bind(Scope::Input, &[Code(KeyCode::Backspace)], Action::Erase, "delete a character", ""),
    bind(Scope::Input, &[Ctrl('u')], Action::EraseAll, "delete all", ""),
    bind(Scope::Input, &[Code(KeyCode::Up)], Action::Up, "previous choice", ""),
    bind(Scope::Input, &[Code(KeyCode::Down)], Action::Down, "next choice", ""),
];

/// What `event` means in the first of `scopes` that has it.
pub fn lookup(scopes: &[Scope], event: &KeyEvent) -> Option<Action> {
    scopes
        .iter()
        .find_map(|s| TABLE.iter().find(|b| b.scope == *s && b.keys.iter().any(|k| k.matches(event))).map(|b| b.action))
}

/// In the help overlay letters are typed into the search, so `j` and `k` move only elsewhere.
pub fn typed(event: &KeyEvent) -> Option<char> {
    match event.code {
        KeyCode::Char(c) if !event.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => Some(c),
        _ => None,
    }
}

/// The scopes in the order in which help and documentation show them.
pub fn scopes() -> Vec<Scope> {
    let mut out = Vec::new();
    for b in TABLE {
        if !out.contains(&b.scope) {
            out.push(b.scope);
        }
    }
    out
}

/// The table as Markdown, as it stands in the documentation.
pub fn markdown() -> String {
    let mut out = String::new();
    for scope in scopes() {
        out.push_str(&format!("\n### {}\n\n| key | what |\n| --- | --- |\n", scope.title()));
        for b in TABLE.iter().filter(|b| b.scope == scope) {
            let keys: Vec<String> = b.names().iter().map(|k| format!("`{}`", k.replace('|', "\\|"))).collect();
            out.push_str(&format!("| {} | {} |\n", keys.join(" "), b.what));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things_in_one_scope() {
        for (i, a) in TABLE.iter().enumerate() {
            for b in &TABLE[i + 1..] {
                if a.scope == b.scope {
                    let twice = a.keys.iter().find(|k| b.keys.contains(k));
                    assert!(twice.is_none(), "{:?} twice in {:?}", twice, a.scope);
                }
            }
        }
    }

    #[test]
    fn a_pane_goes_before_the_whole() {
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::NONE);
        assert_eq!(lookup(&[Scope::Pane(Runs), G], &key), Some(Action::Checkpoint));
        let key = KeyEvent::new(KeyCode::Char('s'), KeyModifiers::NONE);
        assert_eq!(lookup(&[Scope::Pane(Runs), G], &key), Some(Action::Start));
        assert_eq!(lookup(&[Scope::Pane(Log), G], &key), None);
        let key = KeyEvent::new(KeyCode::Char('S'), KeyModifiers::SHIFT);
        assert_eq!(lookup(&[Scope::Pane(Runs), G], &key), Some(Action::Stop));
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(lookup(&[Scope::Pane(Runs), G], &key), Some(Action::Quit));
    }

    #[test]
    fn no_pane_hides_a_key_that_must_hold_everywhere() {
        for action in [Action::Help, Action::Quit, Action::Pause, Action::Checkpoint, Action::Stop, Action::Freeze] {
            let global = TABLE.iter().find(|b| b.scope == G && b.action == action).unwrap();
            for b in TABLE.iter().filter(|b| matches!(b.scope, Scope::Pane(_))) {
                assert!(!b.keys.iter().any(|k| global.keys.contains(k)), "{:?} hides {:?}", b.scope, action);
            }
        }
    }
}
