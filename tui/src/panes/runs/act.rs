//! What keys and news do to pane 0.

use std::path::PathBuf;

use ratatui::layout::{Position, Rect};

use super::{Editor, Effect as RunsEffect, Entry, News, RunEntry, RunState, Source, Start};
use crate::keys::Action;
use crate::message::Effect;
use crate::state::{Input, Overlay, Purpose, Question, State, Then, Weight};
use crate::update;
use crate::widgets::table;

/// Keys of the pane.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    if state.panes.runs.editor.is_some() {
        return act_in_editor(state, action);
    }
    let n = state.panes.runs.catalogue.entries().len();
    let page = usize::from(state.size.1).saturating_sub(8).max(1);
    let at = state.panes.runs.selected;
    let moved = match action {
        Action::Up => Some(at.saturating_sub(1)),
        Action::Down => Some(at + 1),
        Action::PageUp => Some(at.saturating_sub(page)),
        Action::PageDown => Some(at + page),
        Action::First => Some(0),
        Action::Last => Some(n),
        _ => None,
    };
    if let Some(moved) = moved {
        state.panes.runs.selected = moved.min(n.saturating_sub(1));
        return Vec::new();
    }
    match action {
        Action::Refresh => vec![Effect::Runs(RunsEffect::List)],
        Action::Compare => compare(state),
        _ => on_entry(state, action),
    }
}

/// The line that the keys are on, as a copy.
enum Chosen {
    Run(RunEntry),
    Recipe(Source, String),
}

fn chosen(state: &State) -> Option<Chosen> {
    let view = &state.panes.runs;
    let entries = view.catalogue.entries();
    entries.get(view.selected.min(entries.len().saturating_sub(1))).map(|e| match e {
        Entry::Run(run) => Chosen::Run((*run).clone()),
        Entry::Recipe(recipe) => Chosen::Recipe(recipe.source.clone(), recipe.name.clone()),
    })
}

fn on_entry(state: &mut State, action: Action) -> Vec<Effect> {
    let Some(chosen) = chosen(state) else { return Vec::new() };
    match (action, chosen) {
        (Action::Open, Chosen::Run(run)) => {
            let mut effects = update::open(state, run.folder);
            state.arrangement.focus = crate::panes::PaneId::Pipeline;
            effects.push(Effect::Save(Box::new(state.prefs())));
            effects
        }
        (Action::Open, Chosen::Recipe(source, name)) => {
            let out = state.panes.runs.catalogue.free_folder(&name);
            edit(state, source, out)
        }
        (Action::Repeat, Chosen::Run(run)) => {
            let name = run.folder.file_name().map_or("run".into(), |n| n.to_string_lossy().into_owned());
            let out = state.panes.runs.catalogue.free_folder(&name);
            edit(state, Source::Run(run.folder), out)
        }
        (Action::Repeat, Chosen::Recipe(source, name)) => {
            let out = state.panes.runs.catalogue.free_folder(&name);
            edit(state, source, out)
        }
        (Action::Start | Action::Enqueue, Chosen::Recipe(source, name)) => {
            // The same recipe in its own folder reuses finished stages; a folder at work needs
            // another one.
            let own = state.panes.runs.catalogue.root.join(&name);
            let busy = state.panes.runs.catalogue.runs.iter().any(|r| r.folder == own && r.state.is_live());
            let out = if busy { state.panes.runs.catalogue.free_folder(&name) } else { own };
            start(state, Start { source, sets: Vec::new(), out, after: None }, action == Action::Enqueue)
        }
        (Action::Resume | Action::Start | Action::Enqueue, Chosen::Run(run)) => {
            if run.state.is_live() {
                state.say(Weight::Bad, format!("{} is {} already", run.folder.display(), run.state.word()));
                return Vec::new();
            }
            if action == Action::Resume && !run.state.can_resume() {
                let text = format!("{} is done; e repeats it with changes, s runs it again", run.folder.display());
                state.say(Weight::Plain, text);
                return Vec::new();
            }
            let again =
                Start { source: Source::Run(run.folder.clone()), sets: Vec::new(), out: run.folder, after: None };
            start(state, again, action == Action::Enqueue)
        }
        (Action::Mark, Chosen::Run(run)) => {
            let marked = &mut state.panes.runs.marked;
            match marked.iter().position(|m| *m == run.folder) {
                Some(i) => {
                    marked.remove(i);
                }
                None => marked.push(run.folder),
            }
            state.panes.runs.selected += 1;
            Vec::new()
        }
        (Action::Delete, Chosen::Run(run)) if run.state == RunState::Queued => ask(
            state,
            format!("Take {} out of the queue? (y/n)", run.folder.display()),
            RunsEffect::Unqueue(run.folder),
        ),
        (Action::Delete, Chosen::Run(run)) if run.state.is_live() => {
            let text = format!("{} is at work: stop it first (Enter opens it, S stops it)", run.folder.display());
            state.say(Weight::Bad, text);
            Vec::new()
        }
        (Action::Delete, Chosen::Run(run)) => {
            let text = format!("Delete {} with all its artifacts? This cannot be undone. (y/n)", run.folder.display());
            ask(state, text, RunsEffect::Delete(run.folder))
        }
        (Action::Delete | Action::Resume | Action::Mark, Chosen::Recipe(..)) => {
            state.say(Weight::Plain, "that is for runs; Enter opens a recipe, s starts it");
            Vec::new()
        }
        _ => Vec::new(),
    }
}

fn ask(state: &mut State, text: String, then: RunsEffect) -> Vec<Effect> {
    state.overlay = Some(Overlay::Question(Question { text, then: Then::Runs(then) }));
    Vec::new()
}

/// What was agreed to.
pub fn agreed(state: &mut State, effect: RunsEffect) -> Vec<Effect> {
    let mut effects = Vec::new();
    if let RunsEffect::Delete(folder) = &effect {
        state.panes.runs.marked.retain(|m| m != folder);
        // A deleted run that is open stays on the screen as it was read.
        state.say(Weight::Plain, format!("deleting {}", folder.display()));
    }
    effects.push(Effect::Runs(effect));
    effects
}

fn edit(state: &mut State, source: Source, out: PathBuf) -> Vec<Effect> {
    state.panes.runs.editor = Some(Editor::new(source.clone(), out));
    vec![Effect::Runs(RunsEffect::Load { source, sets: Vec::new() })]
}

fn start(state: &mut State, mut start: Start, queue: bool) -> Vec<Effect> {
    if queue {
        start.after = state.panes.runs.catalogue.last_live().filter(|f| *f != start.out);
    }
    state.say(Weight::Plain, format!("starting {} in {}", start.source.name(), start.out.display()));
    vec![Effect::Runs(RunsEffect::Start(start))]
}

fn compare(state: &mut State) -> Vec<Effect> {
    let mut folders = state.panes.runs.marked.clone();
    if folders.is_empty()
        && let Some(Chosen::Run(run)) = chosen(state)
    {
        folders.push(run.folder);
    }
    if folders.len() < 2 {
        state.say(Weight::Plain, "mark two or more runs with m, then = compares them");
        return Vec::new();
    }
    // The curves lie over each other as soon as the runs are open.
    let mut effects: Vec<Effect> = folders.iter().rev().flat_map(|f| update::open(state, f.clone())).collect();
    effects.push(Effect::Runs(RunsEffect::Compare(folders)));
    effects
}

fn act_in_editor(state: &mut State, action: Action) -> Vec<Effect> {
    let page = usize::from(state.size.1).saturating_sub(12).max(1);
    let Some(editor) = &mut state.panes.runs.editor else { return Vec::new() };
    let last = editor.shown().len().saturating_sub(1);
    match action {
        Action::Up => editor.selected = editor.selected.min(last).saturating_sub(1),
        Action::Down => editor.selected = (editor.selected + 1).min(last),
        Action::PageUp => editor.selected = editor.selected.saturating_sub(page),
        Action::PageDown => editor.selected = (editor.selected + page).min(last),
        Action::First => editor.selected = 0,
        Action::Last => editor.selected = last,
        Action::Cancel => {
            if editor.filter.is_empty() {
                state.panes.runs.editor = None;
            } else {
                editor.filter.clear();
                editor.selected = 0;
            }
        }
        Action::Filter => state.overlay = Some(Overlay::Input(ask_filter(editor))),
        Action::Open => state.overlay = ask_value(editor).map(Overlay::Input),
        Action::Default => {
            if let Some(key) = editor.current().map(|s| s.key.clone())
                && editor.is_changed(&key)
            {
                editor.changes.retain(|c| c.0 != key);
                let (source, sets) = (editor.source.clone(), editor.sets_with(None));
                return vec![Effect::Runs(RunsEffect::Load { source, sets })];
            }
        }
        Action::Start | Action::Enqueue => {
            if editor.error.is_some() || editor.settings.is_empty() || editor.pending.is_some() {
                state.say(Weight::Bad, "the engine has not accepted these settings yet");
                return Vec::new();
            }
            state.overlay = Some(Overlay::Input(ask_folder(editor, action)));
            state.panes.runs.queue_next = action == Action::Enqueue;
        }
        _ => {}
    }
    Vec::new()
}

fn ask_filter(editor: &Editor) -> Input {
    Input {
        title: "Search the settings".into(),
        text: editor.filter.clone(),
        purpose: Purpose::RecipeFilter,
        choices: Vec::new(),
        about: vec!["Only settings with this text in their name or meaning are shown.".into()],
        error: None,
    }
}

fn ask_value(editor: &Editor) -> Option<Input> {
    let setting = editor.current()?.clone();
    let before = editor.before(&setting.key).map(|s| s.value.as_str()).filter(|v| !v.is_empty()).unwrap_or("not set");
    Some(Input {
        title: setting.key.clone(),
        text: setting.value.trim_matches('"').to_string(),
        purpose: Purpose::Setting(setting.key),
        choices: setting.choices,
        about: vec![setting.about, format!("In this recipe: {before}")],
        error: None,
    })
}

fn ask_folder(editor: &Editor, action: Action) -> Input {
    let what = if action == Action::Start { "Start" } else { "Queue" };
    let about = "A new folder keeps this run apart. The folder of an earlier run of the same recipe reuses every stage \
                 that the changes do not touch.";
    Input {
        title: format!("{what} in the folder"),
        text: editor.out.display().to_string(),
        purpose: Purpose::Folder,
        choices: Vec::new(),
        about: vec![about.into()],
        error: None,
    }
}

/// Takes the filter of the settings.
pub fn set_filter(state: &mut State, filter: String) {
    if let Some(editor) = &mut state.panes.runs.editor {
        editor.filter = filter;
        editor.selected = 0;
    }
}

/// Takes the value of a setting (the engine checks it, the line stays until it has), or a folder.
pub fn take_input(state: &mut State, mut input: Input) -> Vec<Effect> {
    let Some(editor) = &mut state.panes.runs.editor else { return Vec::new() };
    match &input.purpose {
        Purpose::Setting(key) => {
            let change = (key.clone(), input.text.trim().to_string());
            let sets = editor.sets_with(Some(&change));
            editor.pending = Some(change);
            let source = editor.source.clone();
            input.error = None;
            state.overlay = Some(Overlay::Input(input));
            vec![Effect::Runs(RunsEffect::Load { source, sets })]
        }
        Purpose::Folder => {
            let out = input.text.trim();
            if out.is_empty() {
                input.error = Some("a folder is needed".into());
                state.overlay = Some(Overlay::Input(input));
                return Vec::new();
            }
            let out = PathBuf::from(out);
            if state.panes.runs.catalogue.runs.iter().any(|r| r.folder == out && r.state.is_live()) {
                input.error = Some("a process is working in this folder".into());
                state.overlay = Some(Overlay::Input(input));
                return Vec::new();
            }
            let (source, sets) = (editor.source.clone(), editor.sets_with(None));
            let queue = state.panes.runs.queue_next;
            start(state, Start { source, sets, out, after: None }, queue)
        }
        _ => Vec::new(),
    }
}

/// News from outside.
pub fn hear(state: &mut State, news: News) -> Vec<Effect> {
    match news {
        News::Catalogue(catalogue) => {
            let view = &mut state.panes.runs;
            if view.listed && view.catalogue == catalogue {
                return Vec::new();
            }
            // The line that the keys are on stays the same one when others come and go.
            let before = view.catalogue.entries().get(view.selected).map(name_of);
            view.catalogue = catalogue;
            view.listed = true;
            let entries = view.catalogue.entries();
            let found = before.and_then(|b| entries.iter().position(|e| name_of(e) == b));
            let demo = || entries.iter().position(|e| matches!(e, Entry::Recipe(r) if r.source == Source::Demo));
            view.selected = match found {
                Some(at) => at,
                None if view.first_start => demo().unwrap_or(0),
                None => view.selected.min(entries.len().saturating_sub(1)),
            };
            state.dirty = true;
            Vec::new()
        }
        News::Recipe { source, sets, outcome } => {
            heard_recipe(state, &source, &sets, outcome);
            Vec::new()
        }
        News::Started { out, queued, outcome } => {
            state.dirty = true;
            let mut effects = vec![Effect::Runs(RunsEffect::List)];
            match outcome {
                Ok(()) if queued => {
                    state.panes.runs.editor = None;
                    state.say(Weight::Good, format!("{} waits for its turn", out.display()));
                }
                Ok(()) => {
                    state.panes.runs.editor = None;
                    state.say(
                        Weight::Good,
                        format!("{} has started; it goes on when this screen closes", out.display()),
                    );
                    effects.extend(update::open(state, out));
                    state.arrangement.focus = crate::panes::PaneId::Pipeline;
                }
                Err(why) => {
                    state.print("error", &why);
                    let lines = why.lines().map(str::to_string).collect();
                    state.overlay =
                        Some(Overlay::Text { title: "The run did not start".into(), lines, scroll: 0, shift: 0 });
                }
            }
            effects
        }
        News::Text { title, outcome } => {
            state.dirty = true;
            let lines = outcome.unwrap_or_else(|why| why.lines().map(str::to_string).collect());
            let lines = lines.iter().map(|l| crate::format::clean(l)).collect();
            state.overlay = Some(Overlay::Text { title, lines, scroll: 0, shift: 0 });
            Vec::new()
        }
    }
}

fn name_of(entry: &Entry) -> String {
    match entry {
        Entry::Run(run) => run.folder.display().to_string(),
        Entry::Recipe(recipe) => recipe.source.name(),
    }
}

fn heard_recipe(state: &mut State, source: &Source, sets: &[String], outcome: Result<Vec<super::Setting>, String>) {
    state.dirty = true;
    let Some(editor) = state.panes.runs.editor.as_mut().filter(|e| e.source == *source) else { return };
    let wanted = editor.sets_with(editor.pending.as_ref());
    if wanted != sets {
        return; // An answer to a question that has been replaced since.
    }
    let pending = editor.pending.take();
    match outcome {
        Ok(settings) => {
            if sets.is_empty() {
                editor.original = settings.clone();
            }
            editor.settings = settings;
            editor.error = None;
            if let Some((key, value)) = pending {
                editor.changes.retain(|c| c.0 != key);
                editor.changes.push((key.clone(), value));
                if matches!(&state.overlay, Some(Overlay::Input(i)) if i.purpose == Purpose::Setting(key.clone())) {
                    state.overlay = None;
                }
            }
        }
        Err(why) => match (&mut state.overlay, pending) {
            (Some(Overlay::Input(input)), Some((key, _))) if input.purpose == Purpose::Setting(key.clone()) => {
                input.error = Some(why);
            }
            (_, Some(_)) => {}
            (_, None) => editor.error = Some(why),
        },
    }
}

/// Selects the line under the mouse.
pub fn click(state: &mut State, area: Rect, at: Position) {
    let table = super::draw::table_area(state, area);
    let view = &mut state.panes.runs;
    let (selected, n) = match &mut view.editor {
        Some(editor) => {
            let n = editor.shown().len();
            (&mut editor.selected, n)
        }
        None => (&mut view.selected, view.catalogue.entries().len()),
    };
    if let Some(row) = table::hit((*selected).min(n.saturating_sub(1)), n, table, at) {
        *selected = row;
    }
}
