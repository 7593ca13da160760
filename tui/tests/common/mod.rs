//! A made-up run that fills every pane, and helpers of the tests.

#![allow(dead_code)]

use std::path::PathBuf;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use rallrec_events::scatter::{Dot, Scatter, Space};
use rallrec_events::{Difference, Event, HistoryItem, ItemName, Record, RunView, VERSION};
use rallrec_tui::message::{Message, RunNews, Status};
use rallrec_tui::prefs::Prefs;
use rallrec_tui::state::State;
use rallrec_tui::theme::Palette;
use rallrec_tui::update::{open, update};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

pub const START: u64 = 1_750_000_000_000;

/// Numbers that look like noise and are the same every time.
pub fn noise(i: u64) -> f64 {
    let x = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (i << 13);
    (x.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f64 / (1u64 << 24) as f64
}

fn item(i: u64) -> ItemName {
    let genres = ["Drama", "Comedy", "Action", "Horror", "Romance", "Western"];
    ItemName {
        id: i.to_string(),
        title: format!("Film number {i} (19{:02})", i % 100),
        genres: vec![genres[(i % 6) as usize].into()],
    }
}

/// Records of a run that has come to its end; `until` cuts it before.
pub fn records() -> Vec<Record> {
    let mut t = START;
    let mut out = Vec::new();
    let mut push = |event: Event, ms: u64| {
        t += ms;
        out.push(Record { v: VERSION, t_ms: t, event });
    };
    let (recipe, device, program) = ("ml-test".to_string(), "cpu (2 threads)".to_string(), "0.1.0".to_string());
    push(Event::RunStarted { recipe, device, program, resumed: false }, 0);
    push(Event::Machine { facts: vec![("CPU".into(), "Example 9000".into())] }, 0);
    let finished = |stage: &str, cached: bool, seconds: f64, bytes: u64| Event::StageFinished {
        stage: stage.into(),
        key: "0123456789ab".into(),
        cached,
        seconds,
        bytes,
    };
    let begun = |stage: &str| Event::StageStarted { stage: stage.into(), key: "0123456789ab".into() };
    push(finished("data", true, 0.0, 1_251_074), 5);
    push(begun("describe"), 1);
    let (what, next) = ("12 items have no description".to_string(), "give a file with describe.file".to_string());
    push(Event::Warning { stage: "describe".into(), what, next }, 10);
    push(finished("describe", false, 2.9, 38_647), 2900);
    push(finished("embed", false, 0.9, 204_880), 900);
    push(begun("graph"), 1);
    for i in 1..=60u32 {
        let step = u64::from(i) * 16;
        let loss = 0.3 + 0.4 * (-f64::from(i) / 20.0).exp() + 0.01 * noise(step);
        let train = |stage: &str, loss: f64, rate: f64| Event::TrainStep {
            stage: stage.into(),
            epoch: i,
            step,
            steps: 960,
            loss,
            learning_rate: 0.005 * (1.0 - f64::from(i) / 61.0),
            gradient_norm: Some(1.0 + noise(step + 1)),
            rate: Some(rate),
        };
        push(train("graph", loss, 4.0e5 + 1e5 * noise(step)), 50);
        push(Event::StageProgress { stage: "graph".into(), done: u64::from(i), total: 60, unit: "epochs".into() }, 1);
        for (name, base) in [("recall@20", 0.3), ("ndcg@20", 0.25)] {
            let value = base * (1.0 - (-f64::from(i) / 15.0).exp());
            let (stage, name, split) = ("graph".into(), name.into(), "valid".into());
            push(Event::Metric { stage, name, split, value, epoch: Some(i), best: i == 55 }, 0);
        }
    }
    push(finished("graph", false, 3.9, 325_528), 10);
    push(begun("align"), 1);
    for epoch in 1..=15u32 {
        let fade = (-f64::from(epoch) / 5.0).exp();
        push(Event::Similarity { stage: "align".into(), epoch, positive: 0.8 - 0.5 * fade, negative: 0.1 }, 10);
    }
    push(finished("align", false, 0.1, 27_926), 10);
    push(finished("collab", false, 0.1, 52_110), 0);
    push(begun("retrieve"), 1);
    push(Event::Scatter { file: "scatter.json".into(), items: 120, spaces: vec!["text".into()] }, 1);
    for row in 0..3u64 {
        let history = (0..8u32)
            .map(|i| HistoryItem {
                item: item(u64::from(i) + row),
                position: i,
                rating: f64::from(1 + i % 5),
                retrieved: (i < 5).then_some(i + 1),
                shown: (i < 4).then(|| 4 - i),
                similarity: Some(0.9 - 0.1 * f64::from(i)),
                text: Some(0.4),
                collaborative: Some(0.3),
                aligned: Some(0.2 - 0.1 * f64::from(i)),
            })
            .collect();
        let (target, embedding) = (item(50 + row), "mix3".to_string());
        push(Event::RetrievalExample { row, target, label: Some(row % 2 == 0), embedding, history }, 1);
    }
    push(finished("retrieve", false, 0.2, 2_624_862), 200);
    push(finished("prompts", false, 1.5, 2_894_397), 1500);
    push(finished("tune", true, 0.0, 554_045), 10);
    for i in 0..6u64 {
        let call = |operator: &str, seconds: f64, gb: f64, gflop: f64| Event::Operator {
            operator: operator.into(),
            device: "cpu".into(),
            calls: 100 + i,
            seconds: seconds * (1.0 + noise(i)),
            bytes: gb * 1e9,
            flops: gflop * 1e9,
            ceiling_seconds: Some(seconds * 0.6),
            shape: Some("512 x 576 x 1536".into()),
        };
        push(call("linear", 2.0, 10.0, 90.0), 10);
        push(call("attention", 0.6, 2.0, 5.0), 10);
        push(call("rms_norm", 0.1, 1.0, 0.1), 10);
        let resident = 60_000_000 + i * 1_000_000;
        push(Event::Memory { resident, peak: 83_000_000 }, 100);
        push(
            Event::System {
                cores: vec![91.0, 87.0],
                process: Some(178.0),
                memory_used: 3 << 30,
                memory_total: 23 << 30,
                disk_free: Some(57 << 30),
                disk_total: Some(252 << 30),
                run_bytes: Some(9 << 20),
                gpus: None,
            },
            100,
        );
    }
    push(Event::Ceilings { device: "cpu".into(), memory_gb_s: 20.5, gflop_s: 130.0 }, 1);
    push(begun("reason"), 1);
    push(Event::PromptCost { how: "plain".into(), prompts: 100, seconds: 4.0, tokens: 0 }, 1);
    for row in 0..40u64 {
        let label = Some(noise(row) > 0.5);
        for sample in 0..4u32 {
            let p = (0.5 + 0.8 * (noise(row) - 0.5) + 0.2 * (noise(row * 7 + u64::from(sample)) - 0.5)).clamp(0.0, 1.0);
            push(
                Event::ReasoningSample {
                    row,
                    sample,
                    p,
                    answer: (sample != 3 || row % 9 != 0).then_some(p > 0.5),
                    tokens: 30 + (noise(row + u64::from(sample)) * 40.0) as u32,
                    finished: true,
                    text: format!(
                        "The user liked {row} films of that kind. So likely {}.",
                        if p > 0.5 { "yes" } else { "no" }
                    ),
                    label,
                    hint: Some(0.3 + 0.4 * noise(row)),
                    set: Some("test".into()),
                    yes_no_mass: Some(0.99),
                },
                5,
            );
        }
    }
    push(Event::PromptCost { how: "reasoning".into(), prompts: 40, seconds: 17.6, tokens: 8000 }, 1);
    push(finished("reason", false, 20.7, 925_101), 10);
    for (i, alpha) in [0.01, 0.1, 1.0].into_iter().enumerate() {
        for (j, epsilon) in [1e-4, 1e-3, 1e-2].into_iter().enumerate() {
            let (value, chosen) = (0.62 + 0.01 * (i as f64 - 1.0).abs() + 0.002 * j as f64, i == 1 && j == 0);
            push(Event::SweepCell { alpha, epsilon, samples: 0, metric: "log_loss".into(), value, chosen }, 0);
        }
    }
    for row in 0..40u64 {
        let (mean_reasoning, mean_tuned) = (noise(row), 0.3 + 0.4 * noise(row));
        let share_reasoning = 0.0909 * noise(row + 3);
        let p = mean_tuned + share_reasoning * (mean_reasoning - mean_tuned);
        let (var_reasoning, var_tuned, label) = (0.02 * noise(row + 9), 0.0, Some(noise(row) > 0.5));
        push(
            Event::MergeResult { row, mean_reasoning, var_reasoning, mean_tuned, var_tuned, share_reasoning, p, label },
            0,
        );
    }
    for (row, auc) in [("global mean", 0.5), ("tuned", 0.711), ("reasoning", 0.683), ("merged", 0.713)] {
        let metric = |name: &str, v: f64| (name.to_string(), v, v - 0.03, v + 0.03);
        let against = Difference { metric: "auc".into(), difference: auc - 0.5, p: Some(0.0004) };
        push(
            Event::ResultRow {
                row: row.into(),
                split: "test".into(),
                metrics: vec![metric("auc", auc), metric("log_loss", 1.2 - auc), metric("accuracy", auc - 0.03)],
                table: Some("Test rows".into()),
                n: Some(600),
                reference: Some("global mean".into()),
                against: if auc > 0.5 { vec![against] } else { Vec::new() },
            },
            0,
        );
    }
    push(Event::RunFinished { outcome: "done".into(), seconds: 95.9, message: String::new() }, 10);
    out
}

/// Points in rings, one a genre.
pub fn scatter() -> Scatter {
    let items = (0..120u64).map(|i| Dot { title: item(i).title, genre: item(i).genres[0].clone() }).collect();
    let space = |name: &str, spread: f64| Space {
        name: name.into(),
        method: "PCA".into(),
        explained: Some([0.31, 0.12]),
        points: (0..120u64)
            .map(|i| {
                let angle = (i % 6) as f64 + spread * noise(i);
                Some([(angle.cos() * (1.0 + 0.2 * noise(i + 5))) as f32, angle.sin() as f32])
            })
            .collect(),
    };
    Scatter {
        version: 1,
        key: Default::default(),
        items,
        spaces: vec![space("text", 5.0), space("collaborative", 2.0), space("aligned", 0.4)],
    }
}

/// A dashboard of this size with the first `count` records of the made-up run.
pub fn dashboard(size: (u16, u16), count: usize) -> State {
    let mut state = State::new(size, &Prefs::default(), Some(Palette::Mono), START + 200_000);
    open(&mut state, PathBuf::from("runs/ml-test"));
    let mut view = RunView::new();
    for record in records().iter().take(count) {
        view.apply(record);
    }
    let alive = Some(view.run.outcome.is_none());
    let status = Status { alive, ..Status::default() };
    update(&mut state, Message::Run(1, RunNews::Status(status)));
    update(&mut state, Message::Run(1, RunNews::Opened(Box::new(view))));
    update(&mut state, Message::Run(1, RunNews::Scatter(Ok(Some(Box::new(scatter()))))));
    state
}

/// A key by its character or its name.
pub fn key(name: &str) -> Message {
    let code = match name {
        "Enter" => KeyCode::Enter,
        "Esc" => KeyCode::Esc,
        "Tab" => KeyCode::Tab,
        "Up" => KeyCode::Up,
        "Down" => KeyCode::Down,
        "Left" => KeyCode::Left,
        "Right" => KeyCode::Right,
        "PgDn" => KeyCode::PageDown,
        "Backspace" => KeyCode::Backspace,
        "Space" => KeyCode::Char(' '),
        c => KeyCode::Char(c.chars().next().unwrap_or(' ')),
    };
    Message::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// Presses keys one after the other.
pub fn press(state: &mut State, names: &[&str]) -> Vec<rallrec_tui::message::Effect> {
    names.iter().flat_map(|n| update(state, key(n))).collect()
}

/// The screen.
pub fn screen(state: &State) -> Buffer {
    let area = Rect::new(0, 0, state.size.0, state.size.1);
    let mut buffer = Buffer::empty(area);
    rallrec_tui::draw::draw_into(state, area, &mut buffer);
    buffer
}

/// The screen as text.
pub fn text(state: &State) -> String {
    rallrec_tui::snapshot::lines(&screen(state))
}
