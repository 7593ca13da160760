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
    let effects = press(&mut state, &["6", "w", "f", "t", "A"]);
    let Some(Effect::Save(prefs)) = effects.into_iter().rev().find(|e| matches!(e, Effect::Save(_))) else {
        panic!("nothing is saved");
    };
    assert_eq!(prefs.arrangement.focus, PaneId::Kernels);
    assert!(prefs.arrangement.full && prefs.ascii && prefs.palette.is_some());
    assert!(prefs.arrangement.tiles.contains(&PaneId::Kernels));
}

#[test]
fn the_mouse_focuses_tabs_and_panes() {
    let mut state = dashboard((200, 50), usize::MAX);
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
    press(&mut state, &["4", "v", "v", "v"]);
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
    press(&mut state, &["2", "Enter", "Left", "Left", "Left", "+", "+", "+"]);
    assert!(text(&state).contains("at 9"), "the cursor's step is on the axis:\n{}", text(&state));
    assert_eq!(state.panes.training.zoom, 8.0);
    press(&mut state, &["Esc"]);
    assert!(state.panes.training.cursor.is_none() && state.panes.training.zoom == 1.0);
}

// Pane 0.

const RECIPE: &str =
    "# Seed.\nseed = 42\n\n[graph]\n# Width, 1 or more. Default 64.\ndim = 64\n# One of: a | b\nkind = \"a\"\n";

fn catalogue() -> Catalogue {
    let run = |name: &str, state: RunState| RunEntry {
        folder: PathBuf::from("runs").join(name),
        state,
        stage: "tune".into(),
        modified_ms: START,
        result: String::new(),
    };
    Catalogue {
        recipes: vec![
            RecipeEntry { source: Source::Demo, name: "demo".into(), about: "the demo".into() },
            RecipeEntry { source: Source::File("configs/a.toml".into()), name: "a".into(), about: String::new() },
        ],
        runs: vec![run("busy", RunState::Running), run("old", RunState::Stopped), run("demo", RunState::Done)],
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
    assert!(effects.iter().any(|e| matches!(e, Effect::Follow(_, f) if f.ends_with("demo-2"))));
    assert_eq!(state.arrangement.focus, PaneId::Pipeline);
}

#[test]
fn queue_resume_and_delete() {
    let mut state = listed();
    let effects = press(&mut state, &["Down", "r"]);
    let start = started(&effects).expect("it goes on");
    assert_eq!((start.source.clone(), start.out.clone()), (Source::Run("runs/old".into()), "runs/old".into()));
    let effects = press(&mut state, &["Down", "Down", "Down", "u"]);
    assert_eq!(started(&effects).expect("it is queued").after, Some("runs/busy".into()));
    press(&mut state, &["g"]);
    assert!(press(&mut state, &["d", "y"]).iter().all(|e| !matches!(e, Effect::Runs(runs::Effect::Delete(_)))));
    let effects = press(&mut state, &["Down", "d"]);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Runs(runs::Effect::Delete(_)))), "it asks first");
    let effects = press(&mut state, &["y"]);
    assert!(effects.contains(&Effect::Runs(runs::Effect::Delete("runs/old".into()))));
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
    press(&mut state, &["q"]);
    let effects = press(&mut state, &["s"]);
    assert_eq!(control(&effects), [Word::Stop]);
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
