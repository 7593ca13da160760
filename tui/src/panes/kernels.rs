//! Pane 6: operators with their share of time, calls, bandwidth, arithmetic, and how near they come
//! to the measured ceiling; a bench or a check of one of them beside the live figures.

use crate::keys::Key::Char;
use crate::keys::{Action, DOWN, ENTER, UP, bound};
use crate::panes::{BASE, Draw, Pane, PaneId};
use std::collections::BTreeMap;

use rallrec_events::view::Operator;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::text::Line;

use crate::format;
use crate::message::Effect;
use crate::state::{Doing, Overlay, Question, State, Then, Weight};
use crate::theme::Theme;
use crate::widgets::table::{self, Cell, number, words};
use crate::widgets::{bars, text};

mod ledger;

/// The pane.
pub const PANE: Pane = Pane {
    id: PaneId::Kernels,
    title: "Kernels",
    short: "Kern",
    key: &[Char('6')],
    about: "operators",
    draw: Draw::Always(draw),
    act,
    click,
    keys: &[
        bound(UP, Action::Up, "previous operator", ""),
        bound(DOWN, Action::Down, "next operator", ""),
        bound(ENTER, Action::Open, "the operator's ledger: work, ceilings, kernels", "ledger"),
        bound(&[Char('s')], Action::Sort, "in order of time, calls, bandwidth or name", "sort"),
        bound(&[Char('b')], Action::Bench, "bench the selected operator", "bench"),
        bound(&[Char('x')], Action::Check, "check the selected operator", "check"),
    ],
    ..BASE
};

/// Order of the operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Longest first.
    #[default]
    Time,
    /// Most calls first.
    Calls,
    /// Most bytes a second first.
    Bandwidth,
    /// By name.
    Name,
}

/// State of the pane.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Which operator the keys are on.
    pub selected: usize,
    /// Order.
    pub order: Order,
    /// Outcomes of benches and checks, by operator; `None` while one is at work.
    pub measured: BTreeMap<String, Option<Result<String, String>>>,
}

/// The operators in the chosen order.
fn ordered(state: &State) -> Vec<&Operator> {
    let Some(run) = state.run() else { return Vec::new() };
    let mut list = run.view.operators.by_time();
    match state.panes.kernels.order {
        Order::Time => {}
        Order::Calls => list.sort_by_key(|o| std::cmp::Reverse(o.calls)),
        Order::Bandwidth => list.sort_by(|a, b| b.gb_s().unwrap_or(0.0).total_cmp(&a.gb_s().unwrap_or(0.0))),
        Order::Name => list.sort_by(|a, b| (&a.name, &a.device).cmp(&(&b.name, &b.device))),
    }
    list
}

/// Keys of the pane.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let list = ordered(state);
    let last = list.len().saturating_sub(1);
    let chosen = list.get(state.panes.kernels.selected.min(last)).copied();
    if action == Action::Open {
        return chosen.map_or(Vec::new(), |operator| {
            let lines = ledger::lines(operator, &list, state.run());
            vec![Effect::Ledger { operator: operator.name.clone(), lines }]
        });
    }
    let chosen = chosen.map(|o| o.name.clone());
    let view = &mut state.panes.kernels;
    match action {
        Action::Up => view.selected = view.selected.min(last).saturating_sub(1),
        Action::Down => view.selected = (view.selected + 1).min(last),
        Action::Sort => {
            view.order = match view.order {
                Order::Time => Order::Calls,
                Order::Calls => Order::Bandwidth,
                Order::Bandwidth => Order::Name,
                Order::Name => Order::Time,
            };
        }
        Action::Bench | Action::Check => {
            let check = action == Action::Check;
            match chosen {
                Some(operator) if view.measured.get(&operator).is_none_or(Option::is_some) => {
                    // It takes the cores, or the GPU, of a run that is at work.
                    if let Some(run) = state.runs.iter().find(|r| r.doing() == Doing::Running) {
                        let word = if check { "Check" } else { "Bench" };
                        let text = format!("{word} {operator} now? It slows {} down meanwhile. (y/n)", run.name());
                        let then = Then::Measure { operator, check };
                        state.overlay = Some(Overlay::Question(Question { text, then }));
                        return Vec::new();
                    }
                    return measure(state, operator, check);
                }
                Some(operator) => state.say(Weight::Plain, format!("{operator} is being measured already")),
                None => state.say(Weight::Plain, "no operator is selected"),
            }
        }
        _ => {}
    }
    Vec::new()
}

/// Benches or checks an operator.
pub fn measure(state: &mut State, operator: String, check: bool) -> Vec<Effect> {
    let word = if check { "checking" } else { "benching" };
    state.panes.kernels.measured.insert(operator.clone(), None);
    state.say(Weight::Plain, format!("{word} {operator} in a process of its own"));
    vec![Effect::Measure { operator, check }]
}

/// Selects the operator under the mouse.
pub fn click(state: &mut State, area: Rect, at: Position) {
    let list = ordered(state);
    let selected = state.panes.kernels.selected.min(list.len().saturating_sub(1));
    let Some(name) = list.get(selected).map(|o| &o.name) else { return };
    let table = table_area(state.panes.kernels.measured.contains_key(name), area);
    if let Some(row) = table::hit(selected, list.len(), table, at) {
        state.panes.kernels.selected = row;
    }
}

/// The table's part of the pane: below the summary, above the outcome of a bench where there is
/// one.
fn table_area(outcome: bool, area: Rect) -> Rect {
    let below = if outcome { (area.height / 3).max(3).min(area.height) } else { 0 };
    Rect { y: area.y + 1, height: area.height.saturating_sub(1 + below), ..area }
}

/// The outcome of a bench or a check.
pub fn measured(state: &mut State, operator: String, check: bool, outcome: Result<String, String>) {
    let word = if check { "check" } else { "bench" };
    match &outcome {
        Ok(_) => state.say(Weight::Good, format!("{word} of {operator} is done")),
        Err(why) => {
            state.print("error", &format!("{word} of {operator}: {why}"));
            state.say(Weight::Bad, format!("{word} of {operator} failed: {}", why.lines().next().unwrap_or_default()));
        }
    }
    if state.panes.kernels.measured.len() < 256 {
        state.panes.kernels.measured.insert(operator, Some(outcome));
    }
}

/// Draws the pane.
pub fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let list = ordered(state);
    if list.is_empty() {
        let text = "this run has not told about its operators: none was called yet, every stage was reused, or it was \
                    started without --profile (runs that are started from here have it)";
        return text::note(area, buffer, text, theme);
    }
    let all: f64 = list.iter().map(|o| o.seconds).sum();
    text::line(area, buffer, 0, &summary(state, list.len(), all, area.width));
    let predicted: f64 = list.iter().map(|o| o.ceiling_seconds).sum();
    let rows: Vec<Vec<Cell>> = list.iter().map(|o| row(o, (all, predicted), theme)).collect();
    let mut columns = vec![
        words("operator"),
        number("share"),
        words(""),
        number("predicted"),
        number("calls"),
        number("GB/s"),
        number("FLOP/s"),
        number("of ceiling"),
        number("total"),
        words("device"),
        words("recent"),
        words("shape"),
    ];
    if list.iter().all(|o| o.shape.is_none()) {
        columns.pop();
    }
    let selected = state.panes.kernels.selected.min(rows.len() - 1);
    let outcome = state.panes.kernels.measured.get(&list[selected].name);
    let middle = table_area(outcome.is_some(), area);
    table::draw(&columns, &rows, Some(selected), middle, buffer, theme);
    let y = middle.y + middle.height;
    let foot = Rect { y, height: area.bottom().saturating_sub(y), ..area };
    let name = &list[selected].name;
    match outcome {
        Some(None) => text::plain(foot, buffer, 0, &format!("{name}: measuring"), theme.dim()),
        Some(Some(Ok(words))) => {
            for (i, line) in words.lines().filter(|l| !l.trim().is_empty()).enumerate() {
                text::plain(foot, buffer, i as u16, &format::clean(line), theme.text());
            }
        }
        Some(Some(Err(words))) => {
            for (i, line) in format::wrap(words, usize::from(foot.width).max(1)).iter().enumerate() {
                text::plain(foot, buffer, i as u16, line, theme.bad());
            }
        }
        None => {}
    }
}

/// How many operators, their time together, their order, what the machine gives at best.
fn summary(state: &State, operators: usize, seconds: f64, width: u16) -> Line<'static> {
    let order = format!("{:?}", state.panes.kernels.order).to_lowercase();
    let mut facts = vec![("operators", operators.to_string()), ("seconds", format::value(seconds)), ("order", order)];
    let one = |(device, c): (&String, &rallrec_events::view::Ceilings)| {
        format!("{} {:.1} GB/s {}", format::clean(device), c.memory_gb_s, format::with_unit(c.gflop_s * 1e9, "FLOP/s"))
    };
    let ceilings: Vec<String> =
        state.run().into_iter().flat_map(|r| r.view.operators.ceilings.iter().map(one)).collect();
    if !ceilings.is_empty() {
        facts.push(("ceilings", ceilings.join(", ")));
    }
    let over = |o: &Operator| o.of_ceiling().is_some_and(|x| x > 1.0);
    if state.run().is_some_and(|r| r.view.operators.list.iter().any(over)) {
        facts.insert(2, ("!", "above the ceiling: measured on a busy machine, or out of a cache".into()));
    }
    text::fact_lines(&facts, width, state.theme).into_iter().next().unwrap_or_default()
}

/// `all` are the seconds of all operators: measured, and at the ceilings.
fn row(o: &Operator, all: (f64, f64), theme: Theme) -> Vec<Cell> {
    let share = if all.0 > 0.0 { o.seconds / all.0 } else { 0.0 };
    let predicted = (o.ceiling_of > 0.0 && all.1 > 0.0).then(|| o.ceiling_seconds / all.1);
    let times: Vec<f64> = o.recent.iter().map(|s| s.seconds).collect();
    let of = o.of_ceiling();
    let of_style = match of {
        // More than the machine can do: it was busy when its ceilings were measured, or the data
        // lay in a cache.
        Some(x) if x > 1.0 => theme.warn(),
        Some(x) if x >= 0.6 => theme.good(),
        Some(x) if x < 0.2 => theme.warn(),
        _ => theme.text(),
    };
    vec![
        Cell::new(format::clean(&o.name), theme.accent()),
        Cell::from(format!("{:.1} %", share * 100.0)),
        Cell::new(bars::bar(share, 8, theme), theme.series(0)),
        Cell::new(predicted.map_or("n/a".into(), |x| format!("{:.1} %", x * 100.0)), theme.dim()),
        Cell::from(format::scaled(o.calls as f64)),
        Cell::from(o.gb_s().map_or("n/a".into(), |x| format!("{x:.1}"))),
        Cell::from(o.tflop_s().map_or("n/a".into(), |x| format::scaled(x * 1e12))),
        Cell::new(
            of.map_or("n/a".into(), |x| format!("{:.0} %{}", x * 100.0, if x > 1.0 { "!" } else { " " })),
            of_style,
        ),
        Cell::new(format::seconds(o.seconds), theme.dim()),
        Cell::new(format::clean(&o.device), theme.dim()),
        Cell::new(bars::spark(&times, 16, None, theme), theme.series(0)),
        Cell::new(o.shape.as_deref().map(format::clean).unwrap_or_default(), theme.dim()),
    ]
}
