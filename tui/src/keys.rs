//! The key table. The handler, the help overlay, the hints in the bottom line and
//! `docs/dashboard.md` all read [`TABLE`], so that none of them can say what another does not do.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::panes::{PANES, PaneId};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Focus a pane by its number.
    Focus(PaneId),
    /// Focus the next pane.
    NextPane,
    /// Focus the previous pane.
    PreviousPane,
    /// The focused pane fills the screen, or goes back.
    FullScreen,
    /// The next arrangement of panes.
    NextLayout,
    /// Shows or hides the focused pane in the overview.
    ToggleTile,
    /// Close the opened run.
    Close,
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
    /// Up, as the pane takes it.
    Up,
    /// Down, as the pane takes it.
    Down,
    /// To the left, as the pane takes it.
    Left,
    /// To the right, as the pane takes it.
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
    /// What curves run over.
    Over,
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
    /// Keeps at the top, or not.
    Pin,
    /// Leaves out, or not.
    Hide,
    /// What is left out too, or not.
    ShowHidden,
    /// Silences an alarm, or hears it again.
    Silence,
    /// Into the clipboard.
    Copy,
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
    /// Deletes the character at the cursor.
    EraseNext,
    /// Deletes the word before the cursor.
    EraseWord,
    /// Deletes from the cursor to the end.
    EraseEnd,
    /// Deletes from the beginning to the cursor.
    EraseAll,
    /// A word to the left.
    WordLeft,
    /// A word to the right.
    WordRight,
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
    /// Control and another key.
    CtrlCode(KeyCode),
    /// Alt and a character.
    Alt(char),
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
            Key::CtrlCode(code) => ctrl && event.code == code,
            Key::Alt(c) => event.modifiers.contains(KeyModifiers::ALT) && event.code == KeyCode::Char(c),
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
            Key::CtrlCode(c) => format!("Ctrl-{}", code(c)),
            Key::Alt(c) => format!("Alt-{c}"),
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

use Key::{Alt, Char, Code, Ctrl, CtrlCode, Shift};

/// A key of some scope.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// The keys, any of which does it.
    pub keys: &'static [Key],
    /// What it does.
    pub action: Action,
    /// The same in words.
    pub what: &'static str,
    /// A word for the bottom line; empty: not shown there.
    pub hint: &'static str,
}

/// A line of a pane's keys.
pub const fn bound(keys: &'static [Key], action: Action, what: &'static str, hint: &'static str) -> Bound {
    Bound { keys, action, what, hint }
}

/// Keys that many panes share.
pub const UP: &[Key] = &[Code(KeyCode::Up), Char('k')];
/// Down.
pub const DOWN: &[Key] = &[Code(KeyCode::Down), Char('j')];
/// To the left.
pub const LEFT: &[Key] = &[Code(KeyCode::Left), Char('h')];
/// To the right.
pub const RIGHT: &[Key] = &[Code(KeyCode::Right), Char('l')];
/// A page up.
pub const PAGE_UP: &[Key] = &[Code(KeyCode::PageUp), Ctrl('b')];
/// A page down.
pub const PAGE_DOWN: &[Key] = &[Code(KeyCode::PageDown), Ctrl('f')];
/// To the beginning.
pub const HOME: &[Key] = &[Code(KeyCode::Home), Char('g')];
/// To the end.
pub const END: &[Key] = &[Code(KeyCode::End), Char('G')];
/// Open, take.
pub const ENTER: &[Key] = &[Code(KeyCode::Enter)];
/// Back.
pub const ESC: &[Key] = &[Code(KeyCode::Esc)];
/// The next view of a pane.
pub const VIEW: &[Key] = &[Char('v')];
/// Closer.
pub const ZOOM_IN: &[Key] = &[Char('+'), Char('=')];
/// Farther.
pub const ZOOM_OUT: &[Key] = &[Char('-')];

/// Keys that hold everywhere, before those that focus a pane.
const FIRST: &[Bound] = &[
    bound(&[Char('?'), Code(KeyCode::F(1))], Action::Help, "help; type there to search", "help"),
    bound(&[Char('q'), Ctrl('c')], Action::Quit, "leave; the run goes on", "quit"),
];

/// Keys that hold everywhere, after those.
const EVERYWHERE: &[Bound] = &[
    bound(&[Code(KeyCode::Tab)], Action::NextPane, "next pane", ""),
    bound(&[Code(KeyCode::BackTab), Shift(KeyCode::BackTab)], Action::PreviousPane, "previous pane", ""),
    bound(&[Char('f')], Action::FullScreen, "the focused pane alone, or all", "full"),
    bound(&[Char('L')], Action::NextLayout, "next arrangement of panes", ""),
    bound(&[Char('w')], Action::ToggleTile, "focused pane in the overview or not", ""),
    bound(&[Char(']')], Action::NextRun, "next opened run", ""),
    bound(&[Char('[')], Action::PreviousRun, "previous opened run", ""),
    bound(&[Char('X')], Action::Close, "close the opened run", ""),
    bound(&[Char('p')], Action::Pause, "pause the run, or let it go on", "pause"),
    bound(&[Char('c')], Action::Checkpoint, "write a checkpoint now", ""),
    bound(&[Char('S')], Action::Stop, "stop the run at a clean point (asks)", "stop"),
    bound(&[Char(' ')], Action::Freeze, "freeze the display, or follow again", "freeze"),
    bound(&[Char('t')], Action::NextTheme, "dark, light, mono", ""),
    bound(&[Char('A')], Action::ToggleAscii, "plain ASCII glyphs or not", ""),
    bound(&[Ctrl('z')], Action::Suspend, "to the background; fg brings it back", ""),
    bound(&[Ctrl('l')], Action::Redraw, "draw everything again", ""),
];

/// The help overlay.
const HELP: &[Bound] = &[
    bound(UP, Action::Up, "up", ""),
    bound(DOWN, Action::Down, "down", ""),
    bound(PAGE_UP, Action::PageUp, "page up", ""),
    bound(PAGE_DOWN, Action::PageDown, "page down", ""),
    bound(LEFT, Action::Left, "a wide text: to the left", ""),
    bound(RIGHT, Action::Right, "a wide text: to the right", ""),
    bound(&[Code(KeyCode::Esc), Code(KeyCode::F(1)), Ctrl('c')], Action::Cancel, "close", "close"),
    bound(&[Code(KeyCode::Backspace)], Action::Erase, "shorten the search", ""),
    bound(&[Ctrl('u')], Action::EraseAll, "empty the search", ""),
];

/// Questions.
const QUESTION: &[Bound] = &[
    bound(&[Char('y'), Char('Y')], Action::Accept, "yes", ""),
    bound(&[Char('n'), Char('N'), Code(KeyCode::Esc), Char('q'), Ctrl('c')], Action::Cancel, "no", ""),
    bound(&[Char('s')], Action::StopAndQuit, "when leaving: stop the run that this dashboard started", ""),
];

/// Input lines.
const INPUT: &[Bound] = &[
    bound(ENTER, Action::Accept, "take it", "take"),
    bound(&[Code(KeyCode::Esc), Ctrl('c')], Action::Cancel, "leave it as it was", "leave"),
    bound(&[Code(KeyCode::Left), Ctrl('b')], Action::Left, "to the left", ""),
    bound(&[Code(KeyCode::Right), Ctrl('f')], Action::Right, "to the right", ""),
    bound(&[CtrlCode(KeyCode::Left), Alt('b')], Action::WordLeft, "a word to the left", ""),
    bound(&[CtrlCode(KeyCode::Right), Alt('f')], Action::WordRight, "a word to the right", ""),
    bound(&[Code(KeyCode::Home), Ctrl('a')], Action::First, "to the beginning", ""),
    bound(&[Code(KeyCode::End), Ctrl('e')], Action::Last, "to the end", ""),
    bound(&[Code(KeyCode::Backspace)], Action::Erase, "delete the character before", ""),
    bound(&[Code(KeyCode::Delete), Ctrl('d')], Action::EraseNext, "delete the character after", ""),
    bound(&[Ctrl('w')], Action::EraseWord, "delete the word before", ""),
    bound(&[Ctrl('u')], Action::EraseAll, "delete all before", ""),
    bound(&[Ctrl('k')], Action::EraseEnd, "delete all after", ""),
    bound(&[Code(KeyCode::Up)], Action::Up, "previous choice", ""),
    bound(&[Code(KeyCode::Down)], Action::Down, "next choice", ""),
];

/// Every key of the dashboard: those that hold everywhere, those of each pane, those of overlays.
pub static TABLE: LazyLock<Vec<Binding>> = LazyLock::new(|| {
    let mut table = Vec::new();
    let mut add = |scope: Scope, keys: &[Bound]| {
        let line = |b: &Bound| Binding { scope, keys: b.keys, action: b.action, what: b.what, hint: b.hint };
        table.extend(keys.iter().map(line));
    };
    add(Scope::Global, FIRST);
    for pane in PANES {
        add(Scope::Global, &[bound(pane.key, Action::Focus(pane.id), pane.about, "")]);
    }
    add(Scope::Global, EVERYWHERE);
    for pane in PANES {
        add(Scope::Pane(pane.id), pane.keys);
        if let Some(inner) = &pane.inner {
            add(inner.scope, inner.keys);
        }
    }
    add(Scope::Help, HELP);
    add(Scope::Question, QUESTION);
    add(Scope::Input, INPUT);
    table
});

/// The key of this name, as help and documentation write it.
pub fn named(name: &str) -> Option<Key> {
    let code = |name: &str| {
        Some(match name {
            "Up" => KeyCode::Up,
            "Down" => KeyCode::Down,
            "Left" => KeyCode::Left,
            "Right" => KeyCode::Right,
            "PgUp" => KeyCode::PageUp,
            "PgDn" => KeyCode::PageDown,
            "Home" => KeyCode::Home,
            "End" => KeyCode::End,
            "Enter" => KeyCode::Enter,
            "Esc" => KeyCode::Esc,
            "Tab" => KeyCode::Tab,
            "Backspace" => KeyCode::Backspace,
            "Delete" => KeyCode::Delete,
            "Insert" => KeyCode::Insert,
            name => KeyCode::F(name.strip_prefix('F')?.parse().ok().filter(|n| (1..=24).contains(n))?),
        })
    };
    let one = |text: &str| {
        let mut chars = text.chars();
        chars.next().filter(|_| chars.next().is_none())
    };
    if let Some(c) = one(name) {
        return Some(Char(c));
    }
    match name.split_once('-') {
        _ if name == "Space" => Some(Char(' ')),
        Some(("Ctrl", rest)) => one(rest).map(|c| Ctrl(c.to_ascii_lowercase())).or_else(|| code(rest).map(CtrlCode)),
        Some(("Alt", rest)) => one(rest).map(Alt),
        Some(("Shift", "Tab")) => Some(Code(KeyCode::BackTab)),
        Some(("Shift", rest)) => code(rest).map(Shift),
        _ => code(name).map(Code),
    }
}

impl Key {
    /// The event that pressing it makes.
    fn event(self) -> KeyEvent {
        match self {
            Char(c) => KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE),
            Ctrl(c) => KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL),
            Alt(c) => KeyEvent::new(KeyCode::Char(c), KeyModifiers::ALT),
            Code(code) => KeyEvent::new(code, KeyModifiers::NONE),
            Shift(code) => KeyEvent::new(code, KeyModifiers::SHIFT),
            CtrlCode(code) => KeyEvent::new(code, KeyModifiers::CONTROL),
        }
    }
}

/// What is wrong with the keys of the configuration: names that no key has, and one key for two.
pub fn wrong(keys: &BTreeMap<String, String>) -> Option<String> {
    let mut used: Vec<&str> = Vec::new();
    for (from, to) in keys {
        if let Some(name) = [from, to].into_iter().find(|name| named(name).is_none()) {
            return Some(format!("keys: '{name}' is no key; write e.g. a, Ctrl-a, F5, PgUp or Space"));
        }
        if used.contains(&to.as_str()) {
            return Some(format!("keys: '{to}' stands for two keys"));
        }
        used.push(to);
    }
    None
}

/// The event that the user's own key stands for. A key that has been given away does nothing any
/// more, unless it was given another meaning itself.
pub fn translated(keys: &BTreeMap<String, String>, event: &KeyEvent) -> Option<KeyEvent> {
    let is = |name: &str| named(name).is_some_and(|key| key.matches(event));
    if let Some((from, _)) = keys.iter().find(|(_, to)| is(to)) {
        return named(from).map(Key::event);
    }
    (!keys.keys().any(|from| is(from))).then_some(*event)
}

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
    for b in TABLE.iter() {
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
    use PaneId::{Log, Runs};

    use super::*;

    const G: Scope = Scope::Global;

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
    fn every_key_of_the_table_is_found_by_its_name() {
        for binding in TABLE.iter() {
            for key in binding.keys {
                let found = named(&key.name()).unwrap_or_else(|| panic!("{}", key.name()));
                assert!(key.matches(&found.event()) || key.name() == found.name(), "{}", key.name());
            }
        }
    }

    #[test]
    fn keys_can_be_given_another_meaning() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        let keys: BTreeMap<String, String> = map(&[("S", "Ctrl-x"), ("q", "Q")]);
        assert_eq!(wrong(&keys), None);
        let event = |name: &str| named(name).unwrap().event();
        let action = |name: &str| translated(&keys, &event(name)).and_then(|e| lookup(&[G], &e));
        assert_eq!(action("Ctrl-x"), Some(Action::Stop));
        assert_eq!(action("S"), None, "it has been given away");
        assert_eq!((action("Q"), action("q"), action("p")), (Some(Action::Quit), None, Some(Action::Pause)));
        assert!(wrong(&map(&[("S", "Hyper-x")])).is_some_and(|w| w.contains("Hyper-x")));
        assert!(wrong(&map(&[("S", "z"), ("q", "z")])).is_some());
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
