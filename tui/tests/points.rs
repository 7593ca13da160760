//! From a point to its row, what charts run over, and the ledger of an operator.

mod common;

use common::{dashboard, press, screen, text};
use crossterm::event::{KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use rallrec_tui::message::{Effect, Message};
use rallrec_tui::state::{Overlay, State};
use rallrec_tui::update::update;

fn click(state: &mut State, (column, row): (u16, u16)) {
    let kind = MouseEventKind::Down(MouseButton::Left);
    update(state, Message::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }));
}

/// Where a glyph stands alone on the screen.
fn place(state: &State, glyph: &str) -> Vec<(u16, u16)> {
    let buffer = screen(state);
    let cells = (0..state.size.1).flat_map(|y| (0..state.size.0).map(move |x| (x, y)));
    cells.filter(|at| buffer[*at].symbol() == glyph && at.1 > 1).collect()
}

fn read(state: &State) -> String {
    match &state.overlay {
        Some(Overlay::Text { title, lines, .. }) => format!("{title}\n{}", lines.join("\n")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_point_of_the_samples_leads_to_its_row() {
    let mut state = dashboard((100, 30), usize::MAX);
    press(&mut state, &["3", "f", "v", "Left", "Left", "Left"]);
    let chosen = state.panes.sampling.row.expect("a row is selected");
    let marks = place(&state, "X");
    assert_eq!(marks.len(), 2, "the point and the line below: {}", text(&state));
    // Another row, and back with the mouse.
    press(&mut state, &["Right", "Right"]);
    assert_ne!(state.panes.sampling.row, Some(chosen));
    click(&mut state, marks[0]);
    assert_eq!(state.panes.sampling.row, Some(chosen));
    press(&mut state, &["Enter"]);
    let said = read(&state);
    assert!(said.starts_with(&format!("Row {chosen}\n")) && said.contains("sample 0: p "), "{said}");
}

#[test]
fn a_point_of_the_merge_leads_to_its_row() {
    let mut state = dashboard((100, 30), usize::MAX);
    press(&mut state, &["4", "f", "v", "v", "v", "Down", "Down", "Down", "Down", "Down"]);
    assert_eq!(state.panes.merge.prompt, 5);
    let mark = place(&state, "X")[0];
    press(&mut state, &["Up"]);
    click(&mut state, mark);
    assert_eq!(state.panes.merge.prompt, 5);
    let row = state.run().unwrap().view.merge.rows[5].row;
    press(&mut state, &["Enter"]);
    assert!(read(&state).starts_with(&format!("Row {row}\n")));
}

#[test]
fn an_item_of_the_embeddings_leads_to_a_row_about_it() {
    let mut state = dashboard((100, 40), usize::MAX);
    press(&mut state, &["5", "f", "Down"]);
    let mark = place(&state, "X")[0];
    press(&mut state, &["Up"]);
    click(&mut state, mark);
    let notice = state.notice.as_ref().expect("it says which").text.clone();
    assert!(notice.contains("Film number 51") && notice.contains("row 1 is about it"), "{notice}");
    press(&mut state, &["Enter"]);
    let said = read(&state);
    assert!(said.contains("target: Film number 51") && said.contains("history as it was shown"), "{said}");
    // One that no row is about.
    press(&mut state, &["Esc"]);
    let nobody = (0..40).flat_map(|y| (0..100).map(move |x| (x, y))).find(|at| {
        let mut other = state.clone();
        click(&mut other, *at);
        other.panes.retrieval.found.is_some_and(|(_, row)| row.is_none())
    });
    click(&mut state, nobody.expect("most items have no row"));
    press(&mut state, &["Enter"]);
    assert!(state.overlay.is_none() && text(&state).contains("no row"), "{}", text(&state));
}

#[test]
fn every_chart_of_a_stage_runs_over_what_was_asked_for() {
    let mut state = dashboard((120, 36), 200);
    press(&mut state, &["2", "f"]);
    let units = |state: &State, unit: &str| {
        let text = text(state);
        text.split_whitespace().filter(|word| *word == unit).count()
    };
    let charts = units(&state, "steps");
    assert!(charts >= 4, "{}", text(&state));
    for unit in ["epochs", "edges", "s"] {
        press(&mut state, &["x"]);
        assert_eq!(units(&state, "steps"), 0, "{}", text(&state));
        assert!(units(&state, unit) >= charts, "{unit}: {}", text(&state));
    }
    press(&mut state, &["x"]);
    assert_eq!(units(&state, "steps"), charts);
}

#[test]
fn an_operator_has_a_ledger() {
    let mut state = dashboard((100, 30), usize::MAX);
    let effects = press(&mut state, &["6", "Down", "Enter"]);
    let [.., Effect::Ledger { operator, lines }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(operator, "attention");
    let text = lines.join("\n");
    for wanted in ["bytes", "FLOP a byte", "at memory's ceiling", "bound by", "predicted", "measured"] {
        assert!(text.contains(wanted), "{wanted}:\n{text}");
    }
}
