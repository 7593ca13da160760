//! Several runs in one chart, the wheel in it, and the tables of a run that only ranks.

mod common;

use common::{dashboard, press, records, text};
use crossterm::event::{KeyModifiers, MouseEvent, MouseEventKind};
use rallrec_events::{Event, Record, RunView, VERSION};
use rallrec_tui::message::{Message, RunNews};
use rallrec_tui::state::State;
use rallrec_tui::update::{open, update};

/// The made-up run twice, in two folders.
fn twice() -> State {
    let mut state = dashboard((140, 40), usize::MAX);
    open(&mut state, "runs/other".into());
    let mut view = RunView::new();
    records().iter().for_each(|record| view.apply(record));
    let id = state.runs[1].id;
    update(&mut state, Message::Run(id, RunNews::Opened(Box::new(view))));
    press(&mut state, &["2", "f"]);
    state
}

/// `H` once took a run out of the list and left its curves in the charts.
#[test]
fn a_hidden_run_has_no_curves() {
    let mut state = twice();
    let legend = |state: &State| (text(state).contains("ml-test"), text(state).contains("other"));
    // The head names the run in view; the other one stands in legends alone.
    let in_charts = |state: &State, name: &str| text(state).lines().skip(2).any(|line| line.contains(name));
    assert_eq!(legend(&state), (true, true), "{}", text(&state));
    assert!(in_charts(&state, "ml-test") && in_charts(&state, "other"), "{}", text(&state));
    let hidden = state.runs[1 - state.current].folder.clone();
    let name = hidden.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    state.panes.runs.choice.hidden.insert(hidden);
    assert!(!in_charts(&state, &name), "{}", text(&state));
}

#[test]
fn the_wheel_zooms_around_the_mouse() {
    let mut state = dashboard((120, 36), 200);
    press(&mut state, &["2", "f"]);
    let turn = |state: &mut State, kind: MouseEventKind| {
        update(state, Message::Mouse(MouseEvent { kind, column: 30, row: 10, modifiers: KeyModifiers::NONE }));
    };
    turn(&mut state, MouseEventKind::ScrollUp);
    let (zoom, cursor) = (state.panes.training.zoom, state.panes.training.cursor);
    assert!((zoom - 2.0).abs() < 1e-12 && cursor.is_some_and(|at| at > 0.0 && at < 1.0), "{zoom} {cursor:?}");
    assert!(text(&state).contains("view 2x"), "{}", text(&state));
    turn(&mut state, MouseEventKind::ScrollDown);
    assert!((state.panes.training.zoom - 1.0).abs() < 1e-12);
}

/// A run of the graph stages alone once had an empty pane 4.
#[test]
fn rankings_are_drawn_with_their_metrics() {
    let mut state = dashboard((150, 30), 0);
    let mut view = RunView::new();
    for (n, row) in ["popularity", "LightGCN"].into_iter().enumerate() {
        let value = |name: &str, value: f64| (name.to_string(), value, value - 0.01, value + 0.01);
        let at = n as f64 / 10.0;
        let against = rallrec_events::Difference { metric: "ndcg@10".into(), difference: at, p: Some(0.02) };
        let event = Event::ResultRow {
            row: row.into(),
            split: "test".into(),
            metrics: vec![value("coverage@10", at), value("recall@10", 0.2 + at), value("ndcg@10", 0.3 + at)],
            table: Some("Ranking, test part".into()),
            n: Some(600),
            reference: Some("popularity".into()),
            against: if n > 0 { vec![against] } else { Vec::new() },
        };
        view.apply(&Record { v: VERSION, t_ms: 1, event });
    }
    let id = state.runs[0].id;
    update(&mut state, Message::Run(id, RunNews::Opened(Box::new(view))));
    press(&mut state, &["4", "f"]);
    let drawn = text(&state);
    for wanted in
        ["Ranking, test part, 600 users", "ranked by", "NDCG@10", "recall@10", "coverage@10", "0.400", "0.020"]
    {
        assert!(drawn.contains(wanted), "{wanted}:\n{drawn}");
    }
    assert!(drawn.contains("p: NDCG@10 against popularity"), "{drawn}");
}

/// Figures that others published once had a table of their own alone, a key away from ours.
#[test]
fn published_figures_stand_below_ours_and_none_of_them_is_the_best() {
    let mut state = dashboard((150, 40), 0);
    let mut view = RunView::new();
    let mut tell = |row: &str, split: &str, table: &str, auc: f64| {
        let event = Event::ResultRow {
            row: row.into(),
            split: split.into(),
            metrics: vec![("auc".into(), auc, auc - 0.02, auc + 0.02), ("log_loss".into(), 1.2 - auc, 0.4, 0.6)],
            table: Some(table.into()),
            n: (split == "test").then_some(600),
            reference: (split == "test").then(|| "item mean".into()),
            against: Vec::new(),
        };
        view.apply(&Record { v: VERSION, t_ms: 1, event });
    };
    tell("item mean", "test", "Test rows", 0.61);
    tell("tuned", "test", "Test rows", 0.69);
    tell("RALLRec+ (published)", "published", "Published, MovieLens-1M, other rows", 0.7663);
    let id = state.runs[0].id;
    update(&mut state, Message::Run(id, RunNews::Opened(Box::new(view))));
    press(&mut state, &["4", "f"]);
    let drawn = text(&state);
    let line = |words: &str| drawn.lines().position(|line| line.contains(words));
    let (ours, theirs) = (line("tuned").unwrap(), line("RALLRec+ (published)").unwrap());
    assert!(ours < theirs && drawn.contains("table 1/2: Test rows"), "{drawn}");
    assert!(drawn.lines().nth(theirs).unwrap().contains("0.766"), "{drawn}");
    assert!(line("Published, MovieLens-1M, other rows").is_some_and(|at| at > theirs), "{drawn}");
}
