//! What is told outside of the screen: a bell and a notification at the end of a run and at a new
//! alarm, and how the run stands in the title of the window.

use std::collections::{BTreeMap, BTreeSet};

use crate::format;
use crate::message::{Effect, RunId};
use crate::panes::alarms::{self, Kind, Weight};
use crate::state::{Doing, State};
use crate::terminal;

/// What has been told.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What each opened run was doing.
    doing: BTreeMap<RunId, Doing>,
    /// Alarms.
    alarms: BTreeSet<Kind>,
    /// Title of the window.
    title: String,
}

/// Tells what is new. Called about once a second.
pub fn watch(state: &mut State) -> Vec<Effect> {
    if !state.notify {
        return Vec::new();
    }
    let mut out = String::new();
    let mut told = std::mem::take(&mut state.told);
    for run in state.runs.iter().filter(|r| r.opened && !r.glance) {
        let (name, doing) = (state.label(run), run.doing());
        let before = told.doing.insert(run.id, doing);
        if before.is_some_and(Doing::is_live) && !doing.is_live() && doing != Doing::Gone {
            out.push_str(&terminal::notification(&format!("rallrec: {name} is {}", doing.word())));
        }
        for alarm in alarms::heard(state, run) {
            let kind = (run.folder.clone(), alarm.kind.clone());
            // What was there when the run was opened is on the screen; its end has been told.
            let is_new = told.alarms.insert(kind) && before.is_some() && doing.is_live();
            if is_new && alarm.weight != Weight::Note {
                let what: String = format::clean(&alarm.what).chars().take(200).collect();
                out.push_str(&terminal::notification(&format!("rallrec: {name}: {}: {what}", alarm.place)));
            }
        }
    }
    let title = title(state);
    if title != told.title {
        out.push_str(&terminal::title(&title));
        told.title = title;
    }
    state.told = told;
    if out.is_empty() { Vec::new() } else { vec![Effect::Terminal(out)] }
}

/// The run that the panes show, its state, its stage.
fn title(state: &State) -> String {
    let Some(run) = state.live_run() else { return "rallrec".into() };
    let share = run.stage().and_then(|s| s.share()).filter(|_| run.doing().is_live());
    let share = share.map(|s| format!(" {:.0} %", s * 100.0)).unwrap_or_default();
    let stage = run.stage().filter(|_| run.doing().is_live()).map(|s| format!(" {}", s.name)).unwrap_or_default();
    format!("{}: {}{stage}{share}", state.label(run), run.doing().word())
}
