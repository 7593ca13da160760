//! Whole screens against committed ones, in `tests/snapshots`. `RALLREC_SNAPSHOTS=write` writes
//! them anew.

mod common;

use std::path::PathBuf;

use common::{START, dashboard, press, screen, text};
use rallrec_tui::PaneId;
use rallrec_tui::message::Message;
use rallrec_tui::panes::runs::{Catalogue, News, RecipeEntry, RunEntry, RunState, Source};
use rallrec_tui::theme::{Palette, Theme};
use rallrec_tui::update::update;
use ratatui::style::Color;
use similar::{ChangeTag, TextDiff};

fn compare(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(format!("{name}.txt"));
    if std::env::var("RALLREC_SNAPSHOTS").is_ok_and(|v| v == "write") {
        std::fs::write(&path, found).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; RALLREC_SNAPSHOTS=write makes it", path.display()));
    if wanted != found {
        let diff = TextDiff::from_lines(&wanted, found);
        let lines: String = diff
            .iter_all_changes()
            .filter(|c| c.tag() != ChangeTag::Equal)
            .map(|c| format!("{:?} {c}", c.tag()))
            .collect();
        panic!("{name} looks different (RALLREC_SNAPSHOTS=write takes it):\n{lines}");
    }
}

const SIZES: [(u16, u16); 4] = [(80, 24), (200, 50), (40, 12), (20, 5)];

#[test]
fn every_pane_at_every_size() {
    for size in SIZES {
        for pane in 0..PaneId::ALL.len() {
            let mut state = dashboard(size, usize::MAX);
            press(&mut state, &[&pane.to_string(), "f"]);
            compare(&format!("pane{pane}-{}x{}", size.0, size.1), &text(&state));
        }
    }
}

#[test]
fn the_overview_and_the_views_of_the_panes() {
    compare("overview-200x50", &text(&dashboard((200, 50), usize::MAX)));
    let views: [(&str, &[&str]); 11] = [
        ("sampling-points", &["3", "v"]),
        ("sampling-spread", &["3", "v", "v"]),
        ("sampling-accuracy", &["3", "v", "v", "v"]),
        ("merge-heat", &["4", "v"]),
        ("merge-reliability", &["4", "v", "v"]),
        ("merge-points", &["4", "v", "v", "v"]),
        ("merge-prompts", &["4", "v", "v", "v", "v", "Down"]),
        ("training-one", &["2", "v", "v", "Enter", "+", "Left", "Left", "s", "y"]),
        ("help", &["?", "p", "a", "u", "s", "e"]),
        ("log-filter", &["8", "/", "g", "r", "a", "p", "h", "Enter"]),
        ("stop-question", &["S"]),
    ];
    for (name, keys) in views {
        // A run at work, so that there is something to stop.
        let count = if name == "stop-question" { 150 } else { usize::MAX };
        let mut state = dashboard((80, 24), count);
        press(&mut state, keys);
        compare(name, &text(&state));
    }
}

#[test]
fn the_table_of_runs() {
    let run = |i: u64, state: RunState, auc: Option<f64>| RunEntry {
        folder: format!("runs/ml-1m-{i}").into(),
        state,
        stage: "tune".into(),
        began_ms: START + i * 1000,
        modified_ms: START + i * 60_000,
        seconds: 61.0 * i as f64,
        result: if auc.is_some() { "merged".into() } else { String::new() },
        metrics: auc
            .map(|v| [("auc".to_string(), v), ("log_loss".to_string(), 1.2 - v)])
            .into_iter()
            .flatten()
            .collect(),
        data: if i == 3 { "books".into() } else { "ml-1m".into() },
        model: "smollm2-135m".into(),
        changed: if i == 2 { "seed=7, rows.tune=4096".into() } else { String::new() },
    };
    let runs = vec![
        run(4, RunState::Running, None),
        run(3, RunState::Queued, None),
        run(2, RunState::Done, Some(0.7123)),
        run(1, RunState::Done, Some(0.7012)),
        run(0, RunState::Killed, None),
    ];
    let about = "the whole method on built-in data and model".to_string();
    let recipes = vec![RecipeEntry { source: Source::Demo, name: "demo".into(), about }];
    let catalogue = Catalogue { recipes, runs, root: "runs".into() };
    for (name, size, keys) in [
        ("runs-80x24", (80, 24), &["0"][..]),
        ("runs-120x36", (120, 36), &["0", "m", "Down", "P"]),
        ("runs-grouped", (120, 24), &["0", "o", "o", "v"]),
    ] {
        let mut state = dashboard(size, usize::MAX);
        update(&mut state, Message::Runs(News::Catalogue(catalogue.clone())));
        press(&mut state, keys);
        compare(name, &text(&state));
    }
}

#[test]
fn ascii_screens_hold_nothing_but_ascii() {
    for pane in 0..PaneId::ALL.len() {
        for extra in [&[][..], &["v"], &["v", "v"], &["v", "v", "v"]] {
            let mut state = dashboard((100, 30), usize::MAX);
            state.theme = Theme { palette: Palette::Dark, ascii: true };
            press(&mut state, &[&pane.to_string()]);
            press(&mut state, extra);
            let found = text(&state);
            assert!(found.is_ascii(), "pane {pane}: {:?}", found.chars().find(|c| !c.is_ascii()));
        }
    }
    let mut state = dashboard((80, 24), usize::MAX);
    state.theme.ascii = true;
    press(&mut state, &["2", "v", "v"]);
    compare("training-ascii", &text(&state));
}

#[test]
fn mono_has_no_colour_and_the_others_have() {
    for palette in [Palette::Mono, Palette::Dark, Palette::Light] {
        for pane in 1..PaneId::ALL.len() {
            let mut state = dashboard((120, 40), usize::MAX);
            state.theme.palette = palette;
            press(&mut state, &[&pane.to_string(), "f"]);
            let buffer = screen(&state);
            let coloured = buffer.content().iter().any(|c| c.fg != Color::Reset || c.bg != Color::Reset);
            assert_eq!(coloured, palette != Palette::Mono, "pane {pane} {palette:?}");
        }
    }
}

/// Where the heat map puts its colours: the snapshot of a screen is text alone.
#[test]
fn the_heat_map_in_colour() {
    let mut state = dashboard((60, 16), usize::MAX);
    state.theme.palette = Palette::Dark;
    press(&mut state, &["4", "v", "f"]);
    let buffer = screen(&state);
    let mut found = String::new();
    for y in 0..16 {
        for x in 0..60 {
            match buffer[(x, y)].bg {
                Color::Indexed(n) if y > 2 && y < 15 => found.push_str(&format!("{n:>3} ")),
                _ => found.push_str("  . "),
            }
        }
        found = found.trim_end_matches("  . ").trim_end().to_string();
        found.push('\n');
    }
    compare("heat-colours", &found);
}
