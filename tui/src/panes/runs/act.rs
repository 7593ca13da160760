//! What keys and news do to pane 0.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ratatui::layout::{Position, Rect};

use super::{Choice, Editor, Effect as RunsEffect, Entry, News, Place, Row, RunEntry, RunState, Source, Start, View};
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
    let page = usize::from(state.size.1).saturating_sub(8).max(1);
    match action {
        Action::Up => step(&mut state.panes.runs, 1, false),
        Action::Down => step(&mut state.panes.runs, 1, true),
        Action::PageUp => step(&mut state.panes.runs, page, false),
        Action::PageDown => step(&mut state.panes.runs, page, true),
        Action::First => step(&mut state.panes.runs, usize::MAX, false),
        Action::Last => step(&mut state.panes.runs, usize::MAX, true),
        Action::Refresh => return vec![Effect::Runs(RunsEffect::ListNow)],
        Action::Compare => return compare(state),
        Action::Filter => state.overlay = Some(Overlay::Input(ask_run_filter(&state.panes.runs.filter))),
        Action::Sort => return choose(state, |choice| choice.order = choice.order.next()),
        Action::NextView => return choose(state, |choice| choice.groups = choice.groups.next()),
        Action::ShowHidden => {
            state.panes.runs.all = !state.panes.runs.all;
            state.panes.runs.arrange();
        }
        Action::Cancel => {
            state.panes.runs.filter.clear();
            state.panes.runs.arrange();
        }
        _ => return on_entry(state, action),
    }
    Vec::new()
}

/// Moves the selected line; headings are stepped over.
fn step(view: &mut View, lines: usize, down: bool) {
    let last = view.rows.rows.len().saturating_sub(1);
    let is_heading = |at: usize| matches!(view.rows.rows.get(at), Some(Row::Heading(_)));
    let mut at = if down { view.selected.saturating_add(lines).min(last) } else { view.selected.saturating_sub(lines) };
    while is_heading(at) && at < last && (down || at == 0) {
        at += 1;
    }
    while is_heading(at) && at > 0 {
        at -= 1;
    }
    if !is_heading(at) {
        view.selected = at;
    }
}

/// Changes what is remembered of the table.
fn choose(state: &mut State, change: impl FnOnce(&mut Choice)) -> Vec<Effect> {
    change(&mut state.panes.runs.choice);
    state.panes.runs.arrange();
    vec![Effect::Save(Box::new(state.prefs()))]
}

/// The line that the keys are on, as a copy.
enum Chosen {
    Run(RunEntry),
    Recipe(Source, String),
}

fn chosen(state: &State) -> Option<Chosen> {
    let view = &state.panes.runs;
    view.rows.entry(&view.catalogue, view.selected).map(|e| match e {
        Entry::Run(run) => Chosen::Run(run.clone()),
        Entry::Recipe(recipe) => Chosen::Recipe(recipe.source.clone(), recipe.name.clone()),
    })
}

/// The run that the keys are on.
pub fn chosen_run(state: &State) -> Option<RunEntry> {
    match chosen(state)? {
        Chosen::Run(run) => Some(run),
        Chosen::Recipe(..) => None,
    }
}

/// Puts the keys on the line of this run.
pub fn select(state: &mut State, folder: &Path) {
    let view = &mut state.panes.runs;
    if let Some(at) = view.rows.run(&view.catalogue, folder) {
        view.selected = at;
    }
}

/// Puts what is in the set out of it, and what is not into it.
fn toggle(set: &mut BTreeSet<PathBuf>, folder: PathBuf) {
    if !set.remove(&folder) {
        set.insert(folder);
    }
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
        (Action::Open | Action::Repeat, Chosen::Recipe(source, name)) => {
            let out = state.panes.runs.catalogue.free_folder(&name);
            edit(state, source, out)
        }
        (Action::Repeat, Chosen::Run(run)) => {
            let name = run.folder.file_name().map_or("run".into(), |n| n.to_string_lossy().into_owned());
            let out = state.panes.runs.catalogue.free_folder(&name);
            edit(state, Source::Run(run.folder), out)
        }
        (Action::Start | Action::Enqueue, Chosen::Recipe(source, name)) => {
            // The same recipe in its own folder reuses finished stages; a folder at work needs
            // another one.
            let own = state.panes.runs.catalogue.root.join(&name);
            let busy = state.panes.runs.catalogue.runs.iter().any(|r| r.folder == own && r.state.is_live());
            let out = if busy { state.panes.runs.catalogue.free_folder(&name) } else { own };
            ask_to_start(state, Start { source, sets: Vec::new(), out, queued: false }, action)
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
                Start { source: Source::Run(run.folder.clone()), sets: Vec::new(), out: run.folder, queued: false };
            ask_to_start(state, again, action)
        }
        (Action::Mark, Chosen::Run(run)) => {
            let marked = &mut state.panes.runs.marked;
            match marked.iter().position(|m| *m == run.folder) {
                Some(i) => {
                    marked.remove(i);
                }
                None => marked.push(run.folder),
            }
            step(&mut state.panes.runs, 1, true);
            Vec::new()
        }
        (Action::Pin, Chosen::Run(run)) => choose(state, |choice| toggle(&mut choice.pinned, run.folder)),
        (Action::Hide, Chosen::Run(run)) => {
            state.say(
                Weight::Plain,
                format!("H hides {} and its curves, or shows them again; a lists all", run.folder.display()),
            );
            choose(state, |choice| toggle(&mut choice.hidden, run.folder))
        }
        (Action::Delete, Chosen::Run(run)) if run.state == RunState::Queued => ask(
            state,
            format!("Take {} out of the queue? (y/n)", run.folder.display()),
            RunsEffect::Unqueue(run.folder),
        ),
        (Action::Delete, Chosen::Run(run)) if run.state.is_live() => {
            let text = format!("{} is at work: stop it first (S)", run.folder.display());
            state.say(Weight::Bad, text);
            Vec::new()
        }
        (Action::Delete, Chosen::Run(run)) => {
            let text = format!("Delete {} with all its artifacts? This cannot be undone. (y/n)", run.folder.display());
            ask(state, text, RunsEffect::Delete(run.folder))
        }
        (Action::Delete | Action::Resume | Action::Mark | Action::Pin | Action::Hide, Chosen::Recipe(..)) => {
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

/// Asks before work begins: a key is pressed quickly, and a run takes the whole machine.
fn ask_to_start(state: &mut State, mut start: Start, action: Action) -> Vec<Effect> {
    let (source, out) = (start.source.name(), start.out.display().to_string());
    start.queued = action == Action::Enqueue;
    let text = match action {
        Action::Enqueue => format!("Start {source} in {out} when no other run is at work or queued before? (y/n)"),
        Action::Resume => format!("Let {out} go on? (y/n)"),
        _ => format!("Start {source} in {out} now? (y/n)"),
    };
    ask(state, text, RunsEffect::Start(start))
}

/// What was agreed to.
pub fn agreed(state: &mut State, effect: RunsEffect) -> Vec<Effect> {
    match effect {
        RunsEffect::Start(start) => begin(state, start),
        RunsEffect::Delete(folder) => {
            state.panes.runs.marked.retain(|m| *m != folder);
            // A deleted run that is open stays on the screen as it was read.
            state.say(Weight::Plain, format!("deleting {}", folder.display()));
            vec![Effect::Runs(RunsEffect::Delete(folder))]
        }
        effect => vec![Effect::Runs(effect)],
    }
}

fn edit(state: &mut State, source: Source, out: PathBuf) -> Vec<Effect> {
    state.panes.runs.editor = Some(Editor::new(source.clone(), out));
    vec![Effect::Runs(RunsEffect::Load { source, sets: Vec::new() })]
}

fn begin(state: &mut State, start: Start) -> Vec<Effect> {
    state.say(Weight::Plain, format!("starting {} in {}", start.source.name(), start.out.display()));
    // Until a list has it: the next start from here takes another folder.
    let (now_ms, view) = (state.now_ms, &mut state.panes.runs);
    let here = view.rows.place(&view.catalogue, view.selected);
    let live = if start.queued { RunState::Queued } else { RunState::Running };
    match view.catalogue.runs.iter_mut().find(|r| r.folder == start.out) {
        Some(run) => run.state = live,
        None => {
            let times = RunEntry { began_ms: now_ms, modified_ms: now_ms, ..RunEntry::default() };
            view.catalogue.runs.insert(0, RunEntry { folder: start.out.clone(), state: live, ..times });
        }
    }
    view.arrange_at(here);
    vec![Effect::Runs(RunsEffect::Start(start))]
}

fn compare(state: &mut State) -> Vec<Effect> {
    let mut folders = state.panes.runs.marked.clone();
    if folders.is_empty()
        && let Some(run) = chosen_run(state)
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
        Action::Cancel if !editor.filter.is_empty() => {
            editor.filter.clear();
            editor.selected = 0;
        }
        Action::Cancel if editor.changes.is_empty() => state.panes.runs.editor = None,
        Action::Cancel => {
            let n = editor.changes.len();
            let text = format!("Drop {n} change{} of the recipe? (y/n)", if n == 1 { "" } else { "s" });
            state.overlay = Some(Overlay::Question(Question { text, then: Then::DropChanges }));
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

fn ask_run_filter(filter: &str) -> Input {
    let about = "Only runs and recipes with these words in their name, state, stage, data or model are shown; an empty \
                 line shows all.";
    Input::new("Search the runs", filter, Purpose::RunFilter, vec![about.into()])
}

fn ask_filter(editor: &Editor) -> Input {
    let about = "Only settings with this text in their name or meaning are shown.";
    Input::new("Search the settings", &editor.filter, Purpose::RecipeFilter, vec![about.into()])
}

fn ask_value(editor: &Editor) -> Option<Input> {
    let setting = editor.current()?.clone();
    let before = editor.before(&setting.key).map(|s| s.value.as_str()).filter(|v| !v.is_empty()).unwrap_or("not set");
    let about = vec![setting.about, format!("In this recipe: {before}")];
    let purpose = Purpose::Setting(setting.key.clone());
    let input = Input::new(&setting.key, setting.value.trim_matches('"'), purpose, about);
    Some(Input { choices: setting.choices, ..input })
}

fn ask_folder(editor: &Editor, action: Action) -> Input {
    let what = if action == Action::Start { "Start" } else { "Queue" };
    let about = "A new folder keeps this run apart. The folder of an earlier run of the same recipe reuses every stage \
                 that the changes do not touch.";
    let out = editor.out.display().to_string();
    Input::new(&format!("{what} in the folder"), &out, Purpose::Folder, vec![about.into()])
}

/// Takes the filter of the runs.
pub fn set_run_filter(state: &mut State, filter: String) {
    state.panes.runs.filter = filter;
    state.panes.runs.arrange();
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
            let queued = state.panes.runs.queue_next;
            begin(state, Start { source, sets, out, queued })
        }
        _ => Vec::new(),
    }
}

/// News from outside.
pub fn hear(state: &mut State, news: News) -> Vec<Effect> {
    match news {
        News::Catalogue(catalogue) => {
            let view = &mut state.panes.runs;
            let first = !view.listed;
            let before = view.rows.place(&view.catalogue, view.selected);
            view.live = catalogue.runs.iter().filter(|r| r.state.is_live()).count();
            view.catalogue = catalogue;
            view.listed = true;
            view.arrange_at(before);
            if first {
                let demo = Place::Recipe(Source::Demo.name());
                let demo = view.rows.find(&view.catalogue, &demo).filter(|_| view.first_start);
                view.selected = demo.unwrap_or(view.selected);
                if let Some(folder) = state.live_run().map(|r| r.folder.clone()) {
                    select(state, &folder);
                }
            }
            state.dirty = true;
            Vec::new()
        }
        News::Changed => vec![Effect::Runs(RunsEffect::ListNow)],
        News::Recipe { source, sets, outcome } => {
            heard_recipe(state, &source, &sets, outcome);
            Vec::new()
        }
        News::Started { out, queued, outcome } => {
            state.dirty = true;
            let mut effects = Vec::new();
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
            // Behind the opening: only then does the list know where the run is.
            effects.push(Effect::Runs(RunsEffect::ListNow));
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
    if let Some(editor) = &mut view.editor {
        let n = editor.shown().len();
        if let Some(row) = table::hit(editor.selected.min(n.saturating_sub(1)), n, table, at) {
            editor.selected = row;
        }
        return;
    }
    let n = view.rows.rows.len();
    if let Some(row) = table::hit(view.selected.min(n.saturating_sub(1)), n, table, at)
        && !matches!(view.rows.rows[row], Row::Heading(_))
    {
        view.selected = row;
    }
}
