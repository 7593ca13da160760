//! What every message does to the state. Pure: no clock, no file, no terminal; what is to be done
//! outside comes back as effects.

use crossterm::event::{KeyEvent, MouseButton, MouseEvent, MouseEventKind};
use rallrec_events::folder::Word;
use ratatui::layout::Position;

use crate::control;
use crate::draw;
use crate::input::{Heard, Reply};
use crate::keys::{self, Action, Scope};
use crate::message::{Effect, Message, RunId, RunNews};
use crate::notify;
use crate::overlays;
use crate::panes::{PaneId, Wheel, kernels, runs};
use crate::signals::Signal;
use crate::state::{Asked, OpenRun, Overlay, Question, State, Then, Weight};
use crate::theme::Palette;

/// Turns what the terminal sends into a message; `None` for what means nothing here.
pub fn terminal_event(heard: Heard) -> Option<Message> {
    match heard {
        Heard::Key(key) => Some(Message::Key(key)),
        Heard::Mouse(mouse) => (mouse.kind != MouseEventKind::Moved).then_some(Message::Mouse(mouse)),
        Heard::Paste(text) => Some(Message::Paste(text)),
        Heard::Reply(reply) => Some(Message::Reply(reply)),
    }
}

/// The state after `message`, and what is to be done outside.
pub fn update(state: &mut State, message: Message) -> Vec<Effect> {
    match message {
        Message::Key(key) => {
            state.dirty = true;
            match keys::translated(&state.keys, &key) {
                Some(key) => handle_key(state, &key),
                // A letter that was given away is still a letter.
                None if is_typing(state) => handle_key(state, &key),
                None => Vec::new(),
            }
        }
        Message::Paste(text) => {
            state.dirty = true;
            overlays::paste(state, &text);
            Vec::new()
        }
        Message::Mouse(mouse) => handle_mouse(state, mouse),
        Message::Resize(w, h) => {
            state.size = (w, h);
            state.dirty = true;
            Vec::new()
        }
        Message::Reply(reply) => {
            answered(state, reply);
            Vec::new()
        }
        Message::Tick(now_ms) => tick(state, now_ms),
        Message::Signal(Signal::Leave(code)) => vec![Effect::Quit(code)],
        Message::Signal(Signal::Suspend) => vec![Effect::Suspend],
        Message::Signal(Signal::Continue | Signal::Resize) => vec![Effect::Redraw],
        Message::Printed(line) => {
            state.print("print", &line);
            Vec::new()
        }
        Message::Run(id, news) => hear(state, id, news),
        Message::Runs(news) => runs::hear(state, news),
        Message::Done(Ok(text)) => {
            state.say(Weight::Good, text);
            Vec::new()
        }
        Message::Done(Err(text)) => {
            state.print("error", &text);
            state.say(Weight::Bad, text);
            Vec::new()
        }
        Message::Measured { operator, check, outcome } => {
            kernels::measured(state, operator, check, outcome);
            Vec::new()
        }
    }
}

/// What the terminal says of itself, where nobody else has said it.
fn answered(state: &mut State, reply: Reply) {
    match reply {
        Reply::Background { light } if state.palette_open => {
            state.theme.palette = if light { Palette::Light } else { Palette::Dark };
        }
        // Three letters instead of one: the terminal does not read UTF-8.
        Reply::Cursor { column } if column > 2 => state.theme.ascii = true,
        _ => return,
    }
    state.dirty = true;
}

fn tick(state: &mut State, now_ms: u64) -> Vec<Effect> {
    let before = std::mem::replace(&mut state.now_ms, now_ms);
    let second = now_ms / 1000 != before / 1000;
    if state.notice.as_ref().is_some_and(|n| n.until_ms <= now_ms) {
        state.notice = None;
        state.dirty = true;
    }
    // Only a clock on the screen makes time worth drawing.
    if second && state.frozen.is_none() && state.live_run().is_some_and(|r| r.doing().is_live()) {
        state.dirty = true;
    }
    if second && runs::ages_changed(state, before) {
        state.dirty = true;
    }
    control::watch(state);
    if second { notify::watch(state) } else { Vec::new() }
}

fn hear(state: &mut State, id: RunId, news: RunNews) -> Vec<Effect> {
    let frozen = state.frozen.is_some();
    let mut effects = Vec::new();
    let Some(run) = state.run_mut(id) else { return effects };
    match news {
        RunNews::Opened(view) => {
            run.view = view;
            run.opened = true;
            run.glance = false;
        }
        RunNews::Glance(view) => {
            run.view = view;
            run.opened = true;
            run.glance = true;
        }
        RunNews::Records(records) => {
            for record in &records {
                run.view.apply(record);
            }
        }
        RunNews::Printed(lines) => {
            let now = run.view.run.last_ms;
            for line in lines {
                run.view.log.add(now, "print", &line);
            }
        }
        RunNews::Status(status) => {
            if run.status == status {
                return effects;
            }
            run.status = status;
        }
        RunNews::Scatter(scatter) => run.scatter = Some(scatter),
    }
    if run.opened && run.view.retrieval.scatter_version != run.scatter_asked {
        run.scatter_asked = run.view.retrieval.scatter_version;
        effects.push(Effect::ReadScatter(id, run.folder.clone()));
    }
    control::watch(state);
    if !frozen {
        state.dirty = true;
    }
    effects
}

fn scopes(state: &State) -> Vec<Scope> {
    match &state.overlay {
        Some(Overlay::Help { .. } | Overlay::Text { .. }) => vec![Scope::Help],
        Some(Overlay::Question(_)) => vec![Scope::Question],
        Some(Overlay::Input(_)) => vec![Scope::Input],
        None => vec![state.arrangement.focus.pane().scope(state), Scope::Global],
    }
}

fn is_typing(state: &State) -> bool {
    matches!(state.overlay, Some(Overlay::Input(_) | Overlay::Help { .. }))
}

fn handle_key(state: &mut State, key: &KeyEvent) -> Vec<Effect> {
    let scopes = scopes(state);
    if is_typing(state)
        && let Some(c) = keys::typed(key)
    {
        overlays::type_char(state, c);
        return Vec::new();
    }
    let Some(action) = keys::lookup(&scopes, key) else { return Vec::new() };
    if state.overlay.is_some() {
        return overlays::act(state, action);
    }
    act(state, action)
}

/// Does what a key of the panes or of the whole asks for.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match action {
        Action::Focus(pane) => focus(state, pane),
        Action::NextPane => focus(state, state.arrangement.focus.step(1)),
        Action::PreviousPane => focus(state, state.arrangement.focus.step(-1)),
        Action::FullScreen => {
            state.arrangement.full = !state.arrangement.full;
            save(state)
        }
        Action::NextLayout => {
            state.arrangement.next_preset();
            let word = if state.arrangement.follow { "follows the work" } else { "has these panes" };
            state.say(Weight::Plain, format!("the overview {word}"));
            save(state)
        }
        Action::ToggleTile => {
            let now = state.tiles();
            state.arrangement.toggle_tile(&now);
            save(state)
        }
        Action::NextRun => switch_run(state, 1),
        Action::PreviousRun => switch_run(state, -1),
        Action::Close => close(state),
        Action::Pause => control::pause(state),
        Action::Checkpoint => control::checkpoint(state),
        Action::Stop => control::ask_to_stop(state),
        Action::Freeze => {
            freeze(state);
            Vec::new()
        }
        Action::NextTheme => {
            state.theme.palette = state.theme.palette.next();
            state.chosen_palette = Some(state.theme.palette);
            state.palette_open = false;
            state.say(Weight::Plain, format!("{} theme", state.theme.palette.name()));
            save(state)
        }
        Action::ToggleAscii => {
            state.theme.ascii = !state.theme.ascii;
            state.chosen_ascii = state.theme.ascii;
            save(state)
        }
        Action::Help => {
            let scope = state.arrangement.focus.pane().scope(state);
            let scroll = overlays::help_start(scope, state.theme);
            state.overlay = Some(Overlay::Help { search: String::new(), scroll });
            Vec::new()
        }
        Action::Quit => quit(state),
        Action::Suspend => vec![Effect::Suspend],
        Action::Redraw => vec![Effect::Redraw],
        other => in_pane(state, other),
    }
}

fn in_pane(state: &mut State, action: Action) -> Vec<Effect> {
    (state.arrangement.focus.pane().act)(state, action)
}

/// Focuses a pane; what is to be read for it is asked for.
pub fn focus(state: &mut State, pane: PaneId) -> Vec<Effect> {
    let changed = state.arrangement.focus != pane;
    state.arrangement.focus = pane;
    if changed
        && pane == PaneId::Runs
        && let Some(folder) = state.live_run().map(|r| r.folder.clone())
    {
        runs::select(state, &folder);
    }
    let mut effects = if changed { save(state) } else { Vec::new() };
    effects.extend((pane.pane().refresh)());
    effects
}

fn save(state: &State) -> Vec<Effect> {
    vec![Effect::Save(Box::new(state.prefs()))]
}

fn switch_run(state: &mut State, step: isize) -> Vec<Effect> {
    let n = state.runs.len() as isize;
    if n > 1 {
        state.current = (state.current as isize + step).rem_euclid(n) as usize;
        let name = state.live_run().map(|run| state.label(run)).unwrap_or_default();
        state.say(Weight::Plain, format!("run {name}"));
    } else {
        state.say(Weight::Plain, "only one run is open; pane 0 opens others");
    }
    Vec::new()
}

/// Closes the run that the panes show; it goes on as it was.
fn close(state: &mut State) -> Vec<Effect> {
    let Some(run) = state.live_run() else {
        state.say(Weight::Plain, "no run is open: pane 0 lists them");
        return Vec::new();
    };
    let (id, name) = (run.id, state.label(run));
    state.runs.retain(|r| r.id != id);
    state.current = state.current.min(state.runs.len().saturating_sub(1));
    state.frozen = None;
    state.say(Weight::Plain, format!("{name} is closed; what works in it goes on"));
    let mut effects = vec![Effect::Unfollow(id)];
    if state.runs.is_empty() {
        effects.extend(focus(state, PaneId::Runs));
    }
    effects
}

fn freeze(state: &mut State) {
    state.frozen = match state.frozen.take() {
        Some(_) => {
            state.say(Weight::Plain, "the display follows again");
            None
        }
        None => {
            state.say(Weight::Plain, "the display is frozen, the run goes on; Space follows again");
            Some(state.runs.clone())
        }
    };
}

fn quit(state: &mut State) -> Vec<Effect> {
    let own = state.own_run.and_then(|id| state.runs.iter().find(|r| r.id == id));
    match own {
        Some(run) if run.doing().is_live() => {
            let text = format!(
                "{} is still at work. Leave and let it go on (y), stop it at a clean point and leave (s), or stay (n)?",
                run.name()
            );
            state.overlay = Some(Overlay::Question(Question { text, then: Then::Quit(run.id) }));
            Vec::new()
        }
        _ => vec![Effect::Quit(0)],
    }
}

/// Opens a run folder, or shows it when it is open already.
pub fn open(state: &mut State, folder: std::path::PathBuf) -> Vec<Effect> {
    if let Some(at) = state.runs.iter().position(|r| r.folder == folder) {
        state.current = at;
        return Vec::new();
    }
    let id = state.next_id;
    state.next_id += 1;
    // The first colour that no opened run has.
    let colour = (0..).find(|c| state.runs.iter().all(|r| r.colour != *c)).unwrap_or(0);
    state.runs.push(OpenRun { colour, ..OpenRun::new(id, folder.clone()) });
    state.current = state.runs.len() - 1;
    state.frozen = None;
    state.dirty = true;
    vec![Effect::Follow(id, folder)]
}

/// Writes down that a word of control is on its way.
pub fn asked(state: &mut State, run: RunId, word: Word) {
    let after_ms = state.run_mut(run).map_or(0, |r| r.view.run.last_ms);
    state.asked = Some(Asked { run, word, at_ms: state.now_ms, after_ms });
}

fn handle_mouse(state: &mut State, mouse: MouseEvent) -> Vec<Effect> {
    let at = Position::new(mouse.column, mouse.row);
    let wheel = match mouse.kind {
        MouseEventKind::ScrollUp => Some(Action::Up),
        MouseEventKind::ScrollDown => Some(Action::Down),
        _ => None,
    };
    let click = mouse.kind == MouseEventKind::Down(MouseButton::Left);
    if wheel.is_none() && !click {
        return Vec::new();
    }
    state.dirty = true;
    if state.overlay.is_some() {
        return wheel.map(|action| overlays::act(state, action)).unwrap_or_default();
    }
    let regions = draw::regions(state);
    if click && let Some((pane, _)) = regions.tabs.iter().find(|(_, r)| r.contains(at)) {
        return focus(state, *pane);
    }
    let Some((pane, area)) = regions.panes.iter().find(|(_, r)| r.contains(at)).copied() else { return Vec::new() };
    let mut effects = if state.arrangement.focus == pane { Vec::new() } else { focus(state, pane) };
    let (inner, value) = (draw::inside(area), pane.pane());
    let zooms = value.wheel == Wheel::Zooms;
    if (click || zooms) && inner.contains(at) {
        (value.click)(state, inner, at);
    }
    let action = match wheel {
        Some(Action::Up) if zooms => Some(Action::ZoomIn),
        Some(_) if zooms => Some(Action::ZoomOut),
        other => other,
    };
    effects.extend(action.map(|action| in_pane(state, action)).unwrap_or_default());
    effects
}
