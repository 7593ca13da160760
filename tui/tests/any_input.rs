//! Any sequence of keys, mouse events, resizes, records and news neither panics nor draws outside
//! the screen.

mod common;

use common::{dashboard, records};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use proptest::prelude::*;
use rallrec_events::{Event, Record, VERSION};
use rallrec_tui::draw::draw_into;
use rallrec_tui::message::{Message, RunNews, Status};
use rallrec_tui::update::update;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

fn code() -> impl Strategy<Value = KeyCode> {
    prop_oneof![
        6 => proptest::char::range(' ', '~').prop_map(KeyCode::Char),
        4 => proptest::sample::select(vec![
            KeyCode::Up, KeyCode::Down, KeyCode::Left, KeyCode::Right, KeyCode::Enter, KeyCode::Esc, KeyCode::Tab,
            KeyCode::BackTab, KeyCode::PageUp, KeyCode::PageDown, KeyCode::Home, KeyCode::End, KeyCode::Backspace,
            KeyCode::Delete, KeyCode::F(1),
        ]),
        1 => any::<char>().prop_map(KeyCode::Char),
    ]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -2.0..2.0f64,
        1 => proptest::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 1e300, -1e300, 1e-300]),
    ]
}

/// Records with hostile numbers and texts, beside those of a real run.
fn record() -> impl Strategy<Value = Record> {
    let stage = || proptest::sample::select(vec!["graph", "tune", "reason", "nowhere", ""]).prop_map(String::from);
    let event = prop_oneof![
        (stage(), any::<u32>(), any::<u64>(), number(), number()).prop_map(|(stage, epoch, step, loss, rate)| {
            Event::TrainStep {
                stage,
                epoch,
                step,
                steps: step,
                loss,
                learning_rate: rate,
                gradient_norm: Some(rate),
                rate: Some(loss),
            }
        }),
        (any::<u64>(), any::<u32>(), number(), ".*").prop_map(|(row, sample, p, text)| Event::ReasoningSample {
            row,
            sample: sample % 9,
            p,
            answer: None,
            tokens: sample,
            finished: true,
            text,
            label: Some(true),
            hint: Some(p),
            set: None,
            yes_no_mass: Some(p),
        }),
        (number(), number(), number()).prop_map(|(alpha, epsilon, value)| Event::SweepCell {
            alpha,
            epsilon,
            samples: 0,
            metric: "log_loss".into(),
            value,
            chosen: true
        }),
        (0..99u64, number(), number()).prop_map(|(row, p, v)| Event::MergeResult {
            row,
            mean_reasoning: p,
            var_reasoning: v,
            mean_tuned: p,
            var_tuned: v,
            share_reasoning: v,
            p,
            label: Some(false)
        }),
        (stage(), any::<u64>(), any::<u64>(), ".*").prop_map(|(stage, done, total, unit)| Event::StageProgress {
            stage,
            done,
            total,
            unit
        }),
        (stage(), ".*", ".*").prop_map(|(stage, what, next)| Event::Warning { stage, what, next }),
        (stage(), ".*", number()).prop_map(|(stage, name, value)| Event::Metric {
            stage,
            name,
            split: "valid".into(),
            value,
            epoch: None,
            best: true
        }),
        (".*", number(), number()).prop_map(|(operator, seconds, bytes)| Event::Operator {
            operator,
            device: "cpu".into(),
            calls: 1,
            seconds,
            bytes,
            flops: bytes,
            ceiling_seconds: Some(seconds),
            shape: None
        }),
        (".*", number()).prop_map(|(row, v)| Event::ResultRow {
            row,
            split: "test".into(),
            metrics: vec![("auc".into(), v, v, v)],
            table: None,
            n: None,
            reference: None,
            against: vec![]
        }),
        Just(Event::Unknown),
        proptest::sample::select(records()).prop_map(|r| r.event),
    ];
    (any::<u64>(), event).prop_map(|(t, event)| Record { v: VERSION, t_ms: t % 4_000_000_000_000, event })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        10 => (code(), any::<bool>()).prop_map(|(code, ctrl)| {
            let modifiers = if ctrl && matches!(code, KeyCode::Char(_)) { KeyModifiers::CONTROL } else { KeyModifiers::NONE };
            Message::Key(KeyEvent::new(code, modifiers))
        }),
        6 => proptest::sample::select(vec!['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'v', 'f', 'L'])
            .prop_map(|c| Message::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE))),
        2 => (0..220u16, 0..60u16).prop_map(|(w, h)| Message::Resize(w, h)),
        2 => (0..230u16, 0..70u16, any::<bool>()).prop_map(|(column, row, down)| {
            let kind = if down { MouseEventKind::Down(MouseButton::Left) } else { MouseEventKind::ScrollDown };
            Message::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE })
        }),
        4 => proptest::collection::vec(record(), 0..20).prop_map(|r| Message::Run(1, RunNews::Records(r))),
        1 => any::<u64>().prop_map(Message::Tick),
        1 => ".*".prop_map(Message::Printed),
        1 => ".*".prop_map(Message::Paste),
        1 => (any::<Option<bool>>(), any::<Option<String>>()).prop_map(|(alive, trouble)| {
            Message::Run(1, RunNews::Status(Status { alive, trouble, ..Status::default() }))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence(messages in proptest::collection::vec(message(), 1..60), done in any::<bool>()) {
        let mut state = dashboard((80, 24), if done { usize::MAX } else { 200 });
        // One cell more on each side than the screen has: what is drawn there is drawn outside.
        for message in messages {
            update(&mut state, message);
            let (w, h) = state.size;
            let mut buffer = Buffer::filled(Rect::new(0, 0, w + 2, h + 2), ratatui::buffer::Cell::new("\u{1}"));
            draw_into(&state, Rect::new(0, 0, w, h), &mut buffer);
            for y in 0..h + 2 {
                for x in 0..w + 2 {
                    if x >= w || y >= h {
                        prop_assert_eq!(buffer[(x, y)].symbol(), "\u{1}", "drawn outside at {},{} of {}x{}", x, y, w, h);
                    }
                }
            }
        }
    }
}
