//! Pause, checkpoint, stop: the word goes into the run folder's control file, so that it works from
//! another terminal or machine as well; each word is confirmed when it was written and again when
//! its effect is seen.

use rallrec_events::folder::Word;

use crate::message::{Effect, RunId};
use crate::state::{Doing, Overlay, Question, State, Then, Weight};
use crate::update;

/// A word without an answer for so long is worth a remark.
const PATIENCE_MS: u64 = 30_000;

fn send(state: &mut State, id: RunId, word: Word, said: String) -> Vec<Effect> {
    let Some(folder) = state.run_mut(id).map(|r| r.folder.clone()) else { return Vec::new() };
    update::asked(state, id, word);
    state.say(Weight::Plain, said);
    vec![Effect::Control { folder, word }]
}

/// The live run that the panes show, or a remark why there is nothing to control.
fn target(state: &mut State) -> Option<(RunId, String, Doing)> {
    let Some(run) = state.live_run() else {
        state.say(Weight::Bad, "no run is open: pane 0 lists them");
        return None;
    };
    let found = (run.id, run.name(), run.doing());
    if !found.2.is_live() {
        let text = format!("{} is {}: there is nothing to control", found.1, found.2.word());
        state.say(Weight::Bad, text);
        return None;
    }
    Some(found)
}

/// Pauses the run, or lets it go on.
pub fn pause(state: &mut State) -> Vec<Effect> {
    let Some((id, name, doing)) = target(state) else { return Vec::new() };
    // A word that is still on its way counts: pressing twice quickly pauses and goes on.
    let pausing = state.live_run().is_some_and(|r| r.is_asked_to_pause())
        || state.asked.as_ref().is_some_and(|a| a.run == id && a.word == Word::Pause);
    if doing == Doing::Paused || pausing {
        send(state, id, Word::Run, format!("asked {name} to go on"))
    } else {
        send(state, id, Word::Pause, format!("asked {name} to pause: it waits at the next clean point"))
    }
}

/// Asks for a checkpoint.
pub fn checkpoint(state: &mut State) -> Vec<Effect> {
    let Some((id, name, _)) = target(state) else { return Vec::new() };
    send(state, id, Word::Checkpoint, format!("asked {name} for a checkpoint"))
}

/// Asks whether to stop.
pub fn ask_to_stop(state: &mut State) -> Vec<Effect> {
    let Some((id, name, _)) = target(state) else { return Vec::new() };
    let text = format!("Stop {name} at the next clean point? Nothing is lost; it can go on later. (y/n)");
    state.overlay = Some(Overlay::Question(Question { text, then: Then::Stop(id) }));
    Vec::new()
}

/// Stops without asking again.
pub fn stop(state: &mut State, id: RunId) -> Vec<Effect> {
    let name = state.run_mut(id).map(|r| r.name()).unwrap_or_default();
    send(state, id, Word::Stop, format!("asked {name} to stop at the next clean point"))
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
