//! Pause, checkpoint, stop: the word goes into the run folder's control file, so that it works from
//! another terminal or machine as well; each word is confirmed when it was written and again when
//! its effect is seen.

use std::path::{Path, PathBuf};

use rallrec_events::folder::Word;

use crate::message::{Effect, RunId};
use crate::panes::PaneId;
use crate::panes::runs::{self, RunState};
use crate::state::{Doing, Overlay, Question, State, Then, Weight};
use crate::update;

/// A word without an answer for so long is worth a remark.
const PATIENCE_MS: u64 = 30_000;

/// What a word goes to.
struct Target {
    folder: PathBuf,
    /// The opened run in that folder.
    id: Option<RunId>,
    name: String,
    paused: bool,
}

fn send(state: &mut State, target: &Target, word: Word, said: String) -> Vec<Effect> {
    let mut effects = vec![Effect::Control { folder: target.folder.clone(), word }];
    match target.id {
        Some(id) => update::asked(state, id, word),
        // Nobody follows it: the list shows what comes of it.
        None => effects.push(Effect::Runs(runs::Effect::ListNow)),
    }
    state.say(Weight::Plain, said);
    effects
}

/// The run that is meant: in pane 0 the one on the selected line, elsewhere the one that the panes
/// show. `None`, and a remark, where there is nothing to control.
fn target(state: &mut State) -> Option<Target> {
    let in_list = state.arrangement.focus == PaneId::Runs && state.panes.runs.editor.is_none();
    let chosen = if in_list { runs::chosen_run(state) } else { None };
    if in_list && chosen.is_none() {
        state.say(Weight::Bad, "the selected line is no run");
        return None;
    }
    let opened = match &chosen {
        Some(entry) => state.runs.iter().find(|r| r.folder == entry.folder),
        None => state.live_run(),
    };
    let (target, live, word) = match (opened, chosen) {
        (Some(run), _) => {
            // A word that is still on its way counts: pressing twice quickly pauses and goes on.
            let asked = state.asked.as_ref().is_some_and(|a| a.run == run.id && a.word == Word::Pause);
            let paused = run.doing() == Doing::Paused || run.is_asked_to_pause() || asked;
            let (folder, id, name) = (run.folder.clone(), Some(run.id), run.name());
            (Target { folder, id, name, paused }, run.doing().is_live(), run.doing().word())
        }
        (None, Some(entry)) => {
            let name = entry.folder.display().to_string();
            let paused = entry.state == RunState::Paused;
            let live = paused || entry.state == RunState::Running;
            (Target { folder: entry.folder, id: None, name, paused }, live, entry.state.word())
        }
        (None, None) => {
            state.say(Weight::Bad, "no run is open: pane 0 lists them");
            return None;
        }
    };
    if !live {
        state.say(Weight::Bad, format!("{} is {word}: there is nothing to control", target.name));
        return None;
    }
    Some(target)
}

/// Pauses the run, or lets it go on.
pub fn pause(state: &mut State) -> Vec<Effect> {
    let Some(target) = target(state) else { return Vec::new() };
    let name = &target.name;
    if target.paused {
        send(state, &target, Word::Run, format!("asked {name} to go on"))
    } else {
        send(state, &target, Word::Pause, format!("asked {name} to pause: it waits at the next clean point"))
    }
}

/// Asks for a checkpoint.
pub fn checkpoint(state: &mut State) -> Vec<Effect> {
    let Some(target) = target(state) else { return Vec::new() };
    send(state, &target, Word::Checkpoint, format!("asked {} for a checkpoint", target.name))
}

/// Asks whether to stop.
pub fn ask_to_stop(state: &mut State) -> Vec<Effect> {
    let Some(target) = target(state) else { return Vec::new() };
    let text = format!("Stop {} at the next clean point? Nothing is lost; it can go on later. (y/n)", target.name);
    state.overlay = Some(Overlay::Question(Question { text, then: Then::Stop(target.folder) }));
    Vec::new()
}

/// Stops without asking again.
pub fn stop(state: &mut State, folder: &Path) -> Vec<Effect> {
    let opened = state.runs.iter().find(|r| r.folder == folder);
    let name = opened.map_or_else(|| folder.display().to_string(), |r| r.name());
    let target = Target { folder: folder.to_path_buf(), id: opened.map(|r| r.id), name: name.clone(), paused: false };
    send(state, &target, Word::Stop, format!("asked {name} to stop at the next clean point"))
}

/// Says when the effect of the latest word is there.
pub fn watch(state: &mut State) {
    let Some(asked) = state.asked.clone() else { return };
    let Some(run) = state.runs.iter().find(|r| r.id == asked.run) else {
        state.asked = None;
        return;
    };
    let (name, doing, view) = (run.name(), run.doing(), &run.view);
    let heard = view.run.control.as_ref().filter(|c| c.word == asked.word.as_str() && c.t_ms >= asked.after_ms);
    let stage = run.stage().map(|s| s.name.clone()).unwrap_or_default();
    let written = view
        .training
        .0
        .values()
        .filter_map(|t| t.checkpoint.as_ref())
        .filter(|c| c.t_ms >= asked.after_ms && c.why == "asked")
        .max_by_key(|c| c.t_ms);
    let outcome = match asked.word {
        Word::Pause if view.run.paused_ms.is_some() => {
            Some((Weight::Good, format!("{name} is paused in {stage}; p lets it go on")))
        }
        Word::Run if view.run.paused_ms.is_none() && !run.is_asked_to_pause() => {
            Some((Weight::Good, format!("{name} goes on")))
        }
        Word::Checkpoint if written.is_some() => {
            written.map(|c| (Weight::Good, format!("{name}: checkpoint written at step {}", c.step)))
        }
        Word::Stop if doing == Doing::Stopped => {
            Some((Weight::Good, format!("{name} has stopped; r in pane 0 lets it go on")))
        }
        // Other effects that the engine itself puts into words, e.g. that a stage has nothing to
        // save.
        Word::Checkpoint => heard.map(|c| (Weight::Plain, format!("{name}: {}", c.effect))),
        _ => None,
    };
    match outcome {
        Some((weight, text)) => {
            state.say(weight, text);
            state.asked = None;
        }
        None if !doing.is_live() => {
            state.say(Weight::Bad, format!("{name} is {}; '{}' had no effect", doing.word(), asked.word.as_str()));
            state.asked = None;
        }
        None if state.now_ms.saturating_sub(asked.at_ms) > PATIENCE_MS => {
            state.say(
                Weight::Plain,
                format!("{name} has not answered '{}' yet: it looks between rows and steps", asked.word.as_str()),
            );
            state.asked = None;
        }
        None => {}
    }
}
