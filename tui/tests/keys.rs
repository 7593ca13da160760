//! Key sequences against the state, and what they ask of the outside.

mod common;

use std::path::PathBuf;

use common::{START, dashboard, press, records, text};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use rallrec_events::folder::{Requests, Word};
use rallrec_events::{Event, Record, VERSION};
use rallrec_tui::PaneId;
use rallrec_tui::message::{Effect, Message, RunNews, Status};
use rallrec_tui::panes::runs::{
    self, Catalogue, News, RecipeEntry, RunEntry, RunState, Source, Start, parse_annotated,
};
use rallrec_tui::snapshot;
use rallrec_tui::state::{Doing, Overlay, State};
use rallrec_tui::update::update;

/// Up to the middle of the graph's training.
const AT_WORK: usize = 120;

fn say(state: &mut State, event: Event) {
    let record = Record { v: VERSION, t_ms: state.run().unwrap().view.run.last_ms + 10, event };
    update(state, Message::Run(1, RunNews::Records(vec![record])));
}

fn control(effects: &[Effect]) -> Vec<Word> {
    effects.iter().filter_map(|e| if let Effect::Control { word, .. } = e { Some(*word) } else { None }).collect()
}

fn notice(state: &State) -> String {
    state.notice.as_ref().map(|n| n.text.clone()).unwrap_or_default()
}

#[test]
fn pause_is_confirmed_when_asked_and_again_when_it_is_there() {
    let mut state = dashboard((80, 24), AT_WORK);
    assert_eq!(state.run().unwrap().doing(), Doing::Running);
    assert_eq!(control(&press(&mut state, &["p"])), [Word::Pause]);
    assert!(notice(&state).contains("asked"), "{}", notice(&state));
    let asked = Requests { lasting: Some(Word::Pause), checkpoint: false };
    let status = Status { alive: Some(true), control: asked, ..Status::default() };
    update(&mut state, Message::Run(1, RunNews::Status(status.clone())));
    assert!(text(&state).contains("(pausing)"));
    say(&mut state, Event::Paused { stage: "graph".into() });
    assert_eq!(state.run().unwrap().doing(), Doing::Paused);
    assert!(notice(&state).contains("is paused in graph"), "{}", notice(&state));
    assert_eq!(control(&press(&mut state, &["p"])), [Word::Run]);
    let status = Status { control: Requests::default(), ..status };
    update(&mut state, Message::Run(1, RunNews::Status(status)));
    say(&mut state, Event::Resumed { stage: "graph".into(), seconds: 3.0 });
    assert!(notice(&state).contains("goes on"), "{}", notice(&state));
    assert_eq!(state.run().unwrap().doing(), Doing::Running);
}

#[test]
fn a_checkpoint_is_confirmed_with_its_step() {
    let mut state = dashboard((80, 24), AT_WORK);
    assert_eq!(control(&press(&mut state, &["c"])), [Word::Checkpoint]);
    let (stage, why) = ("graph".to_string(), "asked".to_string());
    say(&mut state, Event::CheckpointWritten { stage, step: 77, seconds: None, bytes: None, why });
    assert!(notice(&state).contains("step 77"), "{}", notice(&state));
}

#[test]
fn stop_asks_first() {
    let mut state = dashboard((80, 24), AT_WORK);
    assert!(control(&press(&mut state, &["S"])).is_empty());
    assert!(matches!(state.overlay, Some(Overlay::Question(_))));
    assert!(control(&press(&mut state, &["n"])).is_empty());
    assert!(state.overlay.is_none());
    assert_eq!(control(&press(&mut state, &["S", "y"])), [Word::Stop]);
    say(&mut state, Event::RunFinished { outcome: "stopped".into(), seconds: 4.0, message: "go on with".into() });
    assert!(notice(&state).contains("has stopped"), "{}", notice(&state));
    assert!(control(&press(&mut state, &["p"])).is_empty(), "a stopped run cannot be paused");
    assert!(notice(&state).contains("nothing to control"));
}

#[test]
fn a_run_whose_process_is_gone_is_called_killed() {
    let mut state = dashboard((80, 24), AT_WORK);
    let status = Status { alive: Some(false), ..Status::default() };
    update(&mut state, Message::Run(1, RunNews::Status(status)));
    assert_eq!(state.run().unwrap().doing(), Doing::Killed);
    assert!(text(&state).contains("killed"));
}

#[test]
fn a_deleted_folder_leaves_what_was_read() {
    let mut state = dashboard((80, 24), AT_WORK);
    let trouble = Some("runs/ml-test: the folder is gone".to_string());
    update(&mut state, Message::Run(1, RunNews::Status(Status { trouble, ..Status::default() })));
    let shown = text(&state);
    assert!(shown.contains("gone") && shown.contains("graph"), "{shown}");
}

#[test]
fn a_frozen_display_stays_while_the_run_goes_on() {
    let mut state = dashboard((80, 24), AT_WORK);
    press(&mut state, &["2", "Space"]);
    state.notice = None;
    let before = text(&state);
    for record in records().iter().skip(AT_WORK) {
        update(&mut state, Message::Run(1, RunNews::Records(vec![record.clone()])));
    }
    assert_eq!(text(&state), before);
    assert_eq!(state.live_run().unwrap().doing(), Doing::Done);
    press(&mut state, &["Space"]);
    state.notice = None;
    assert_ne!(text(&state), before);
}

#[test]
fn nothing_is_drawn_without_a_reason() {
    let mut state = dashboard((80, 24), usize::MAX);
    state.dirty = false;
    for second in 0..20 {
        update(&mut state, Message::Tick(START + 300_000 + second * 500));
    }
    assert!(!state.dirty, "a finished run has no clock");
    let same = state.run().unwrap().status.clone();
    update(&mut state, Message::Run(1, RunNews::Status(same)));
    assert!(!state.dirty);
    let mut state = dashboard((80, 24), AT_WORK);
    state.dirty = false;
    let later = state.now_ms + 1000;
    update(&mut state, Message::Tick(later));
    assert!(state.dirty, "the clock of a run at work is drawn");
}

#[test]
fn focus_layout_and_theme_are_remembered() {
    let mut state = dashboard((80, 24), usize::MAX);
    let effects = press(&mut state, &["0", "w", "f", "t", "A"]);
    let Some(Effect::Save(prefs)) = effects.into_iter().rev().find(|e| matches!(e, Effect::Save(_))) else {
        panic!("nothing is saved");
    };
    assert_eq!(prefs.arrangement.focus, PaneId::Runs);
    assert!(prefs.arrangement.full && prefs.ascii && prefs.palette.is_some());
    assert!(prefs.arrangement.tiles.contains(&PaneId::Runs) && !prefs.arrangement.follow);
}

#[test]
fn the_mouse_focuses_tabs_and_panes() {
    let mut state = dashboard((200, 50), usize::MAX);
    state.arrangement.follow = false;
    let mut click = |x, y| {
        let kind = MouseEventKind::Down(MouseButton::Left);
        update(&mut state, Message::Mouse(MouseEvent { kind, column: x, row: y, modifiers: KeyModifiers::NONE }));
        state.arrangement.focus
    };
    assert_eq!(click(14, 1), PaneId::Pipeline);
    assert_eq!(click(195, 45), PaneId::Log);
    assert_eq!(click(100, 10), PaneId::Training);
}

/// Clicks on the place of `wanted` on the screen.
fn click_on(state: &mut State, wanted: &str) {
    let screen = text(state);
    let found = screen.lines().enumerate().find_map(|(y, l)| l.find(wanted).map(|at| (y, l[..at].chars().count())));
    let (y, x) = found.unwrap_or_else(|| panic!("'{wanted}' is not on the screen:\n{screen}"));
    let kind = MouseEventKind::Down(MouseButton::Left);
    let event = MouseEvent { kind, column: x as u16, row: y as u16, modifiers: KeyModifiers::NONE };
    update(state, Message::Mouse(event));
}

#[test]
fn a_click_selects_the_line_under_the_mouse() {
    let mut state = dashboard((100, 24), usize::MAX);
    press(&mut state, &["1", "f"]);
    click_on(&mut state, "embed ");
    assert_eq!(state.panes.pipeline.selected, Some(2));
    press(&mut state, &["3"]);
    let p = format!("{:.3} ", state.run().unwrap().view.prompts.iter().last().unwrap().answers[1].p);
    click_on(&mut state, &p);
    assert_eq!(state.panes.sampling.sample, 1);
    press(&mut state, &["4", "v", "v", "v", "v"]);
    let row = state.run().unwrap().view.merge.rows[2].row.to_string();
    click_on(&mut state, &format!("{row}  "));
    assert_eq!(state.panes.merge.prompt, 2);
    press(&mut state, &["6", "s", "s", "s"]);
    click_on(&mut state, "rms_norm");
    let line = text(&state).lines().nth(5 + state.panes.kernels.selected).unwrap_or_default().to_string();
    assert!(line.contains("rms_norm"), "{line}");
    let mut state = listed();
    let before = state.panes.runs.selected;
    click_on(&mut state, "runs/old");
    assert_ne!(state.panes.runs.selected, before);
    click_on(&mut state, "when");
    assert!(text(&state).contains("runs/old"), "the heading is no line");
}

#[test]
fn a_wide_text_is_moved_sideways_and_no_text_scrolls_beyond_its_end() {
    let mut state = listed();
    let lines = (0..60).map(|i| format!("{i:02} {} end of line {i:02}", "x".repeat(150))).collect();
    let news = News::Text { title: "Comparison".into(), outcome: Ok(lines) };
    update(&mut state, Message::Runs(news));
    assert!(text(&state).contains("Left, Right") && !text(&state).contains("end of line"));
    press(&mut state, &["Right"; 9]);
    assert!(text(&state).contains("end of line 07"), "{}", text(&state));
    press(&mut state, &["PgDn"; 9]);
    assert!(text(&state).contains("end of line 59"), "{}", text(&state));
    press(&mut state, &["Up"]);
    assert!(!text(&state).contains("end of line 59"), "one key up moves at once");
    press(&mut state, &["Left"; 9]);
    assert!(!text(&state).contains("end of line"));
    press(&mut state, &["Esc", "?"]);
    press(&mut state, &["PgDn"; 40]);
    let end = text(&state);
    press(&mut state, &["Up"]);
    assert_ne!(text(&state), end);
}

#[test]
fn a_run_that_has_ended_is_not_offered_to_be_paused() {
    let foot = |state: &State| text(state).lines().last().unwrap_or_default().to_string();
    assert!(foot(&dashboard((100, 24), AT_WORK)).contains("p pause"));
    assert!(!foot(&dashboard((100, 24), usize::MAX)).contains("p pause"));
}

#[test]
fn the_list_says_how_long_ago_without_a_key() {
    let mut state = listed();
    press(&mut state, &["0"]);
    let aged = |state: &mut State, ms: u64| {
        state.dirty = false;
        let now = state.now_ms;
        update(state, Message::Tick(now + ms));
        state.dirty
    };
    let latest = state.panes.runs.catalogue.runs.iter().map(|r| r.modified_ms).max().unwrap();
    state.now_ms = latest + 500;
    assert!(aged(&mut state, 1000), "one second more is another word");
    state.now_ms = latest + 90_000;
    assert!(!aged(&mut state, 1000), "one and a half minutes and a second are the same word");
    state.arrangement.focus = PaneId::Log;
    state.now_ms = latest + 500;
    assert!(!aged(&mut state, 1000), "nobody sees it");
}

#[test]
fn a_first_look_at_a_long_file_says_so_until_the_whole_is_there() {
    let mut state = dashboard((100, 24), AT_WORK);
    let view = state.run().unwrap().view.clone();
    update(&mut state, Message::Run(1, RunNews::Glance(view.clone())));
    assert!(text(&state).contains("first look"), "{}", text(&state));
    update(&mut state, Message::Run(1, RunNews::Opened(view)));
    assert!(!text(&state).contains("first look"));
}

#[test]
fn a_repeated_run_is_numbered_once() {
    let state = listed();
    let entry = |name: &str| RunEntry { folder: name.into(), ..state.panes.runs.catalogue.runs[0].clone() };
    let mut catalogue = state.panes.runs.catalogue.clone();
    catalogue.runs = ["runs/demo", "runs/demo-2", "runs/ml-1"].map(entry).to_vec();
    assert_eq!(catalogue.free_folder("demo-2"), PathBuf::from("runs/demo-3"));
    assert_eq!(catalogue.free_folder("ml-1"), PathBuf::from("runs/ml-1-2"), "its own name");
}

#[test]
fn a_cursor_reads_and_zoom_keeps_it_in_view() {
    let mut state = dashboard((100, 30), usize::MAX);
    press(&mut state, &["2", "v", "v", "Enter", "Left", "Left", "Left", "+", "+", "+"]);
    assert!(text(&state).contains("at 896 steps"), "the cursor's step is on the axis:\n{}", text(&state));
    assert_eq!(state.panes.training.zoom, 8.0);
    press(&mut state, &["Esc"]);
    assert!(state.panes.training.cursor.is_none() && state.panes.training.zoom == 1.0);
}

#[test]
fn a_held_out_loss_stands_beside_the_training_loss() {
    let mut state = dashboard((120, 36), AT_WORK);
    for epoch in 1..=4u32 {
        for step in 1..=10u64 {
            say(
                &mut state,
                Event::TrainStep {
                    stage: "tune".into(),
                    epoch,
                    step: u64::from(epoch - 1) * 10 + step,
                    steps: 40,
                    loss: 0.7 / f64::from(epoch),
                    learning_rate: 1e-4,
                    gradient_norm: Some(1.0),
                    rate: None,
                },
            );
        }
        let (stage, name, split) = ("tune".into(), "log_loss".into(), "valid".into());
        let value = 0.7 + 0.05 * f64::from(epoch);
        say(&mut state, Event::Metric { stage, name, split, value, epoch: Some(epoch), best: epoch == 1 });
    }
    press(&mut state, &["2", "v", "v", "f", "Enter"]);
    let shown = text(&state);
    assert!(shown.contains("tune loss") && shown.contains("train 0.175") && shown.contains("valid 0.9000"), "{shown}");
    press(&mut state, &["x"]);
    assert!(text(&state).contains("epochs"), "{}", text(&state));
}

// Pane 0.

const RECIPE: &str =
    "# Seed.\nseed = 42\n\n[graph]\n# Width, 1 or more. Default 64.\ndim = 64\n# One of: a | b\nkind = \"a\"\n";

fn catalogue() -> Catalogue {
    let run = |name: &str, state: RunState| RunEntry {
        folder: PathBuf::from("runs").join(name),
        state,
        stage: "tune".into(),
        began_ms: START,
        modified_ms: START,
        ..RunEntry::default()
    };
    Catalogue {
        recipes: vec![
            RecipeEntry { source: Source::Demo, name: "demo".into(), about: "the demo".into() },
            RecipeEntry { source: Source::File("configs/a.toml".into()), name: "a".into(), about: String::new() },
        ],
        runs: vec![
            RunEntry { began_ms: START + 2, ..run("busy", RunState::Running) },
            RunEntry { began_ms: START + 1, ..run("old", RunState::Stopped) },
            run("demo", RunState::Done),
        ],
        root: PathBuf::from("runs"),
    }
}

fn listed() -> State {
    let mut state = dashboard((100, 30), usize::MAX);
    press(&mut state, &["0"]);
    update(&mut state, Message::Runs(News::Catalogue(catalogue())));
    state
}

fn started(effects: &[Effect]) -> Option<&Start> {
    effects.iter().find_map(|e| if let Effect::Runs(runs::Effect::Start(s)) = e { Some(s) } else { None })
}

#[test]
fn a_setting_is_checked_by_the_engine_before_it_is_taken() {
    let mut state = listed();
    let effects = press(&mut state, &["Down", "Down", "Down", "Enter"]);
    let load = Effect::Runs(runs::Effect::Load { source: Source::Demo, sets: Vec::new() });
    assert!(effects.contains(&load), "{effects:?}");
    let news = |sets: &[&str], outcome| {
        let sets = sets.iter().map(|s| s.to_string()).collect();
        Message::Runs(News::Recipe { source: Source::Demo, sets, outcome })
    };
    update(&mut state, news(&[], Ok(parse_annotated(RECIPE))));
    press(&mut state, &["Down", "Enter"]);
    assert!(text(&state).contains("Width, 1 or more. Default 64."));
    let effects = press(&mut state, &["Backspace", "Backspace", "x", "Enter"]);
    let load = Effect::Runs(runs::Effect::Load { source: Source::Demo, sets: vec!["graph.dim=x".into()] });
    assert!(effects.contains(&load), "{effects:?}");
    update(&mut state, news(&["graph.dim=x"], Err("graph.dim: 'x' is no number".into())));
    assert!(text(&state).contains("is no number"), "{}", text(&state));
    assert!(state.panes.runs.editor.as_ref().unwrap().changes.is_empty());
    press(&mut state, &["Backspace", "8", "Enter"]);
    update(&mut state, news(&["graph.dim=8"], Ok(parse_annotated(&RECIPE.replace("64\n#", "8\n#")))));
    assert!(state.overlay.is_none());
    let effects = press(&mut state, &["s", "Enter"]);
    let start = started(&effects).expect("it starts");
    assert_eq!(start.sets, ["graph.dim=8"]);
    assert_eq!(start.out, PathBuf::from("runs/demo-2"), "a folder that is free");
    let news = News::Started { out: start.out.clone(), queued: false, outcome: Ok(()) };
    let effects = update(&mut state, Message::Runs(news));
    let opened = effects.iter().position(|e| matches!(e, Effect::Follow(_, f) if f.ends_with("demo-2")));
    let listed = effects.iter().position(|e| *e == Effect::Runs(runs::Effect::ListNow));
    assert!(opened.is_some() && listed > opened, "the list is read when it knows where the run is: {effects:?}");
    assert_eq!(state.arrangement.focus, PaneId::Pipeline);
    assert!(!started(&press(&mut state, &["0", "G", "s", "y"])).expect("it starts").queued);
}

#[test]
fn queue_resume_and_delete() {
    let mut state = listed();
    assert!(started(&press(&mut state, &["Down", "r"])).is_none(), "it asks first");
    let effects = press(&mut state, &["y"]);
    let start = started(&effects).expect("it goes on");
    assert_eq!((start.source.clone(), start.out.clone()), (Source::Run("runs/old".into()), "runs/old".into()));
    // Behind whom it goes is found out by the run itself, from the locks of the folders.
    press(&mut state, &["Down", "Down", "Down", "u"]);
    assert!(text(&state).contains("when no other run is at work"), "{}", text(&state));
    let effects = press(&mut state, &["y"]);
    let first = started(&effects).expect("it is queued");
    assert!(first.queued);
    // The next one takes another folder, though no list has the first one yet.
    let effects = press(&mut state, &["u", "y"]);
    assert_ne!(started(&effects).expect("it is queued").out, first.out);
    update(&mut state, Message::Runs(News::Catalogue(catalogue())));
    press(&mut state, &["k"]);
    press(&mut state, &["g"]);
    assert!(press(&mut state, &["d", "y"]).iter().all(|e| !matches!(e, Effect::Runs(runs::Effect::Delete(_)))));
    let effects = press(&mut state, &["Down", "d"]);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Runs(runs::Effect::Delete(_)))), "it asks first");
    let effects = press(&mut state, &["y"]);
    assert!(effects.contains(&Effect::Runs(runs::Effect::Delete("runs/old".into()))));
}

/// `p` and `S` once acted on the opened run while another line was selected.
#[test]
fn words_of_control_go_to_the_selected_run() {
    let mut state = listed();
    let effects = press(&mut state, &["p"]);
    assert!(effects.contains(&Effect::Control { folder: "runs/busy".into(), word: Word::Pause }), "{effects:?}");
    assert!(press(&mut state, &["S"]).is_empty());
    let effects = press(&mut state, &["y"]);
    assert!(effects.contains(&Effect::Control { folder: "runs/busy".into(), word: Word::Stop }), "{effects:?}");
    assert!(control(&press(&mut state, &["Down", "p"])).is_empty(), "a stopped run cannot be paused");
    assert!(notice(&state).contains("runs/old is stopped"), "{}", notice(&state));
}

/// Entering the list once left the keys on whatever line they had been on.
#[test]
fn the_list_opens_at_the_watched_run_and_stays_on_it() {
    let mut state = dashboard((100, 30), AT_WORK);
    let mut lists = catalogue();
    let watched = RunEntry { folder: "runs/ml-test".into(), state: RunState::Running, ..lists.runs[2].clone() };
    lists.runs.push(watched);
    update(&mut state, Message::Runs(News::Catalogue(lists.clone())));
    press(&mut state, &["g", "1", "0"]);
    let chosen = |state: &State| runs::chosen_run(state).map(|r| r.folder);
    assert_eq!(chosen(&state), Some("runs/ml-test".into()));
    // Another one writes something: the order stays.
    lists.runs[1].modified_ms += 60_000;
    lists.runs.insert(0, RunEntry { folder: "runs/new".into(), began_ms: START + 9, ..lists.runs[0].clone() });
    update(&mut state, Message::Runs(News::Catalogue(lists)));
    assert_eq!(chosen(&state), Some("runs/ml-test".into()));
}

#[test]
fn a_run_is_closed_by_a_key_and_goes_on() {
    let mut state = dashboard((80, 24), AT_WORK);
    let effects = press(&mut state, &["X"]);
    assert!(effects.contains(&Effect::Unfollow(1)) && control(&effects).is_empty(), "{effects:?}");
    assert!(state.runs.is_empty());
    assert_eq!(state.arrangement.focus, PaneId::Runs);
    press(&mut state, &["X", "1"]);
    assert!(text(&state).contains("no run is open"), "{}", text(&state));
}

/// Leaving the editor once dropped the changes without a word.
#[test]
fn changes_of_a_recipe_are_not_dropped_without_asking() {
    let mut state = listed();
    press(&mut state, &["G", "k", "Enter"]);
    let editor = state.panes.runs.editor.as_mut().unwrap();
    editor.changes.push(("seed".into(), "1".into()));
    press(&mut state, &["Esc", "n"]);
    assert!(state.panes.runs.editor.is_some());
    press(&mut state, &["Esc", "y"]);
    assert!(state.panes.runs.editor.is_none());
}

/// While predictions were at work the pane of the training had no figures any more.
#[test]
fn the_figures_of_the_training_stay_while_later_stages_work() {
    let mut state = dashboard((120, 30), usize::MAX);
    say(&mut state, Event::StageStarted { stage: "predict".into(), key: "k".into() });
    press(&mut state, &["2", "f"]);
    let shown = text(&state);
    assert!(shown.contains("graph epoch 60 step 960/960") && shown.contains("best"), "{shown}");
}

/// The only sign of it was once the last fact of a line that was cut.
#[test]
fn a_loss_that_is_no_number_is_seen_at_once() {
    let mut state = dashboard((80, 24), AT_WORK);
    let train = |loss: f64| Event::TrainStep {
        stage: "graph".into(),
        epoch: 9,
        step: 900,
        steps: 960,
        loss,
        learning_rate: 0.1,
        gradient_norm: None,
        rate: None,
    };
    say(&mut state, train(f64::NAN));
    press(&mut state, &["2", "f"]);
    let shown = text(&state);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].contains("graph: NaN"), "the head: {}", lines[0]);
    assert!(lines[3].contains("NaN: 1 loss"), "the pane: {}", lines[3]);
    assert!(shown.contains("━ NaN") || shown.contains("* NaN"), "the chart:\n{shown}");
    press(&mut state, &["9", "s", "2"]);
    assert!(!text(&state).lines().next().unwrap().contains("NaN"), "it is silenced");
}

#[test]
fn a_row_is_read_whole_searched_and_copied() {
    let mut state = dashboard((100, 30), usize::MAX);
    let (row, target) = (7, rallrec_events::ItemName { id: "1".into(), title: "A film".into(), genres: vec![] });
    let prompt = "System: say yes or no. User: did they like it?".to_string();
    let example =
        Event::PromptExample { row, set: "test".into(), label: Some(true), target, prompt, hint: "Likely.".into() };
    say(&mut state, example);
    press(&mut state, &["3", "/"]);
    update(&mut state, Message::Paste("did they LIKE it".into()));
    press(&mut state, &["Enter"]);
    assert_eq!(state.panes.sampling.row, Some(row));
    press(&mut state, &["Enter"]);
    let shown = text(&state);
    for wanted in ["Row 7", "A film", "Likely.", "did they like it?", "sample 0: p", "verdict"] {
        assert!(shown.contains(wanted), "{wanted}:\n{shown}");
    }
    press(&mut state, &["Esc"]);
    let effects = press(&mut state, &["C"]);
    assert!(matches!(&effects[..], [Effect::Terminal(t)] if t.starts_with("\x1b]52;c;cm93IDc")), "{effects:?}");
}

/// The text that was being written once stood beside the answers to another row.
#[test]
fn the_text_beside_the_answers_is_of_their_row() {
    let mut state = dashboard((100, 30), 1_000_000);
    say(&mut state, Event::RunStarted { recipe: "r".into(), device: "d".into(), program: "p".into(), resumed: true });
    let status = Status { alive: Some(true), ..Status::default() };
    update(&mut state, Message::Run(1, RunNews::Status(status)));
    let chunk = |row: u64, sample: u32| Event::TextChunk { row, sample, start: true, text: "BEING WRITTEN".into() };
    press(&mut state, &["3"]);
    say(&mut state, chunk(12, 0));
    assert!(!text(&state).contains("BEING WRITTEN"), "{}", text(&state));
    let newest = state.run().unwrap().view.prompts.iter().last().unwrap().row;
    say(&mut state, chunk(newest, 4));
    assert!(text(&state).contains("BEING WRITTEN"), "{}", text(&state));
}

#[test]
fn figures_that_need_a_look_have_its_colour() {
    let mut state = dashboard((100, 30), usize::MAX);
    state.theme.palette = rallrec_tui::theme::Palette::Dark;
    for row in 100..200 {
        let answer = Event::ReasoningSample {
            row,
            sample: 0,
            p: 0.5,
            answer: None,
            tokens: 3,
            finished: true,
            text: "perhaps".into(),
            label: None,
            hint: None,
            set: None,
            yes_no_mass: Some(0.06),
        };
        say(&mut state, answer);
    }
    press(&mut state, &["3", "f"]);
    let screen = common::screen(&state);
    let line: Vec<_> = (0..100).map(|x| screen[(x, 3)].clone()).collect();
    let text: String = line.iter().map(|c| c.symbol()).collect();
    let at = text.find("unparsed ").unwrap() + "unparsed ".len();
    assert_eq!(line[at].fg, state.theme.bad().fg.unwrap(), "{text}");
}

#[test]
fn unlike_folders_of_one_name_have_unlike_names_and_colours() {
    let mut state = dashboard((80, 24), AT_WORK);
    rallrec_tui::update::open(&mut state, "other/ml-test".into());
    let labels: Vec<String> = state.runs.iter().map(|r| state.label(r)).collect();
    assert_eq!(labels, ["runs/ml-test", "other/ml-test"]);
    assert_ne!(state.runs[0].colour, state.runs[1].colour);
    state.current = 1;
    press(&mut state, &["X"]);
    assert_eq!(state.label(&state.runs[0]), "ml-test");
}

/// The question was once cut before the keys that answer it.
#[test]
fn a_question_on_a_tiny_screen_says_what_to_press() {
    let mut state = dashboard((20, 5), AT_WORK);
    press(&mut state, &["S"]);
    assert!(text(&state).contains("(y/n)"), "{}", text(&state));
}

#[test]
fn help_and_the_way_out_are_always_in_the_last_line() {
    for pane in 0..PaneId::ALL.len() {
        let mut state = dashboard((80, 24), usize::MAX);
        press(&mut state, &[&pane.to_string()]);
        let foot = text(&state).lines().last().unwrap_or_default().to_string();
        assert!(foot.contains("? help") && foot.contains("q quit"), "{pane}: {foot}");
    }
}

#[test]
fn the_end_of_a_run_and_a_new_alarm_are_told_outside_of_the_screen() {
    let tick = |state: &mut State| {
        let now = state.now_ms + 1000;
        let effects = update(state, Message::Tick(now));
        effects
            .into_iter()
            .find_map(|e| if let Effect::Terminal(text) = e { Some(text) } else { None })
            .unwrap_or_default()
    };
    let mut state = dashboard((80, 24), AT_WORK);
    assert!(!tick(&mut state).contains("\x07"), "what was there before is no news");
    let disk = Status { alive: Some(true), disk: Some((1, 1000)), ..Status::default() };
    update(&mut state, Message::Run(1, RunNews::Status(disk)));
    let told = tick(&mut state);
    assert!(told.contains("disk") && told.contains("\x07"), "{}", told.escape_debug());
    assert_eq!(tick(&mut state).matches("\x07").count(), 0, "once");
    say(&mut state, Event::RunFinished { outcome: "done".into(), seconds: 4.0, message: String::new() });
    assert!(tick(&mut state).contains("is done"));
    state.notify = false;
    say(&mut state, Event::RunStarted { recipe: "r".into(), device: "d".into(), program: "p".into(), resumed: true });
    tick(&mut state);
    say(&mut state, Event::RunFinished { outcome: "failed".into(), seconds: 4.0, message: String::new() });
    assert_eq!(tick(&mut state), "", "a setting turns it off");
}

#[test]
fn the_terminal_says_its_background_unless_somebody_has_chosen() {
    use rallrec_tui::input::Reply;
    use rallrec_tui::prefs::Prefs;
    use rallrec_tui::theme::Palette;
    let light = || Message::Reply(Reply::Background { light: true });
    let mut state = State::new((80, 24), &Prefs::default(), None, START);
    update(&mut state, light());
    assert_eq!(state.theme.palette, Palette::Light);
    press(&mut state, &["t", "t"]);
    update(&mut state, light());
    assert_eq!(state.theme.palette, Palette::Dark, "chosen with t");
    let mut state = State::new((80, 24), &Prefs::default(), Some(Palette::Mono), START);
    update(&mut state, light());
    assert_eq!(state.theme.palette, Palette::Mono);
    update(&mut state, Message::Reply(Reply::Cursor { column: 2 }));
    assert!(!state.theme.ascii);
    update(&mut state, Message::Reply(Reply::Cursor { column: 4 }));
    assert!(state.theme.ascii, "three letters for three bytes");
}

#[test]
fn compare_opens_the_marked_runs_over_each_other() {
    let mut state = listed();
    let effects = press(&mut state, &["Down", "m", "m", "="]);
    let both = vec![PathBuf::from("runs/old"), PathBuf::from("runs/demo")];
    assert!(effects.contains(&Effect::Runs(runs::Effect::Compare(both))), "{effects:?}");
    assert_eq!(state.runs.len(), 3);
}

#[test]
fn leaving_asks_about_the_run_that_was_started_here() {
    let mut state = dashboard((80, 24), AT_WORK);
    assert_eq!(press(&mut state, &["q"]), [Effect::Quit(0)], "a watcher just leaves");
    state.own_run = Some(1);
    assert!(press(&mut state, &["q"]).is_empty());
    assert_eq!(press(&mut state, &["y"]), [Effect::Quit(0)]);
    assert!(snapshot::left(&state).contains("it goes on"), "{}", snapshot::left(&state));
    press(&mut state, &["q"]);
    let effects = press(&mut state, &["s"]);
    assert_eq!(control(&effects), [Word::Stop]);
    // It said that the run goes on.
    let left = snapshot::left(&state);
    assert!(left.contains("it stops at its next clean point") && !left.contains("goes on"), "{left}");
    assert_eq!(effects.last(), Some(&Effect::Quit(0)), "the word is written before leaving");
}

#[test]
fn ctrl_c_leaves_from_everywhere() {
    let ctrl_c = || Message::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    for keys in [&[][..], &["?"], &["8", "/"], &["S"]] {
        let mut state = dashboard((80, 24), AT_WORK);
        press(&mut state, keys);
        let mut effects = update(&mut state, ctrl_c());
        effects.extend(update(&mut state, ctrl_c()));
        assert!(effects.contains(&Effect::Quit(0)), "{keys:?}");
    }
}

#[test]
fn what_the_process_prints_lands_in_the_log() {
    let mut state = dashboard((80, 24), usize::MAX);
    update(&mut state, Message::Printed("a stray \x1b[31mprint".into()));
    press(&mut state, &["8"]);
    let shown = text(&state);
    assert!(shown.contains("a stray  [31mprint"), "{shown}");
}

#[test]
fn the_documentation_has_the_key_table() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/dashboard.md");
    let doc = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- keys -->\n", "<!-- end of keys -->");
    let (head, rest) = doc.split_once(begin).expect("the mark is there");
    let (found, tail) = rest.split_once(end).expect("the end is there");
    let wanted = rallrec_tui::keys::markdown();
    if std::env::var("RALLREC_SNAPSHOTS").is_ok_and(|v| v == "write") {
        std::fs::write(&path, format!("{head}{begin}{wanted}\n{end}{tail}")).unwrap();
    } else {
        assert_eq!(found.trim(), wanted.trim(), "RALLREC_SNAPSHOTS=write puts the key table in");
    }
}
