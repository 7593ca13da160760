//! Pane 1: the stages as a graph with state, cache, duration, rate, time left and size; warnings
//! and what to do.

use crate::keys::Key::Char;
use crate::keys::{Action, DOWN, UP, bound};
use crate::panes::{BASE, Draw, Pane, PaneId};
use rallrec_events::StageId;
use rallrec_events::view::{Stage, State as StageState};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::format;
use crate::left;
use crate::message::Effect;
use crate::state::{Doing, OpenRun, State};
use crate::theme::Theme;
use crate::widgets::table::{self, Cell, number, words};
use crate::widgets::{bars, text};

/// The pane.
pub const PANE: Pane = Pane {
    id: PaneId::Pipeline,
    title: "Pipeline",
    short: "Pipe",
    key: &[Char('1')],
    about: "stages",
    draw: Draw::OfRun(draw),
    act,
    click,
    keys: &[bound(UP, Action::Up, "previous stage", ""), bound(DOWN, Action::Down, "next stage", "")],
    ..BASE
};

/// State of the pane.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The stage that the keys are on; `None` follows the one at work.
    pub selected: Option<usize>,
}

/// Keys of the pane.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let Some(run) = state.run() else { return Vec::new() };
    let n = run.view.stages.list.len();
    let now = selected(state, run);
    state.panes.pipeline.selected = match action {
        Action::Up => Some(now.saturating_sub(1)),
        Action::Down => Some((now + 1).min(n.saturating_sub(1))),
        _ => state.panes.pipeline.selected,
    };
    Vec::new()
}

/// The stage that is described below the table.
fn selected(state: &State, run: &OpenRun) -> usize {
    let list = &run.view.stages.list;
    let at_work = || {
        list.iter()
            .position(|s| matches!(s.state, StageState::Running | StageState::Failed | StageState::Stopped))
            .or_else(|| list.iter().rposition(|s| matches!(s.state, StageState::Done | StageState::Reused)))
    };
    state.panes.pipeline.selected.or_else(at_work).unwrap_or(0).min(list.len().saturating_sub(1))
}

/// Mark and style of a stage; a stage of a killed run is not at work.
fn mark(stage: &Stage, doing: Doing, theme: Theme) -> (char, Style) {
    let m = theme.marks();
    match stage.state {
        StageState::Waiting => (m.waiting, theme.dim()),
        StageState::Running if doing == Doing::Paused => ('=', theme.warn()),
        StageState::Running if !doing.is_live() => (m.failed, theme.bad()),
        StageState::Running => (m.running, theme.accent()),
        StageState::Done => (m.done, theme.good()),
        StageState::Reused => (m.reused, theme.good()),
        StageState::Failed => (m.failed, theme.bad()),
        StageState::Stopped => ('=', theme.warn()),
    }
}

/// The two branches of the graph beside a stage: texts (describe, embed) on the left, ratings
/// (graph) on the right; they meet in align. `*` stands for the stage's own mark.
fn branches(stage: Option<StageId>, ascii: bool) -> [char; 2] {
    let glyphs = if ascii { ['|', '\\', '/'] } else { ['│', '╮', '╯'] };
    match stage {
        Some(StageId::Data) => ['*', glyphs[1]],
        Some(StageId::Describe | StageId::Embed) => ['*', glyphs[0]],
        Some(StageId::Graph) => [glyphs[0], '*'],
        Some(StageId::Align) => ['*', glyphs[2]],
        _ => ['*', ' '],
    }
}

/// What a stage is doing, in words and numbers.
fn progress(stage: &Stage, doing: Doing, columns: usize, theme: Theme) -> Cell {
    match stage.state {
        StageState::Waiting => Cell::new("", theme.dim()),
        StageState::Done => Cell::new("done", theme.good()),
        StageState::Reused => Cell::new("reused", theme.good()),
        StageState::Failed => Cell::new("failed", theme.bad()),
        StageState::Stopped => Cell::new("stopped", theme.warn()),
        StageState::Running if !doing.is_live() => Cell::new("killed", theme.bad()),
        StageState::Running => match stage.share() {
            Some(share) => {
                let bar = bars::bar(share, columns, theme);
                let paused = if doing == Doing::Paused { " paused" } else { "" };
                Cell::new(format!("{bar} {:>3.0} %{paused}", share * 100.0), theme.accent())
            }
            None => Cell::new("warming up", theme.dim()),
        },
    }
}

fn row(stage: &Stage, run: &OpenRun, state: &State, width: u16) -> Vec<Cell> {
    let theme = state.theme;
    let doing = run.doing();
    let (mark, style) = mark(stage, doing, theme);
    let name: String = branches(stage.id(), theme.ascii).iter().map(|c| if *c == '*' { mark } else { *c }).collect();
    let running = stage.state == StageState::Running && doing.is_live();
    let seconds = match stage.state {
        StageState::Waiting => None,
        StageState::Running => stage.started_ms.map(|from| {
            let to = if doing.is_live() { state.now_ms.max(run.view.run.last_ms) } else { run.view.run.last_ms };
            to.saturating_sub(from) as f64 / 1e3
        }),
        _ => stage.seconds,
    };
    let rate = if running {
        stage.rate()
    } else {
        stage.seconds.filter(|s| *s > 0.0 && stage.done > 0).map(|s| stage.done as f64 / s)
    };
    let unit = if stage.unit.is_empty() { String::new() } else { format!(" {}/s", stage.unit) };
    let bytes = stage
        .bytes
        .or_else(|| run.status.artifacts.iter().find(|a| a.0 == stage.name).map(|a| a.1).filter(|_| running));
    let bar = if width >= 90 { 14 } else { 6 };
    vec![
        Cell::new(name, style),
        Cell::new(stage.name.clone(), if running { theme.accent() } else { theme.text() }),
        progress(stage, doing, bar, theme),
        Cell::new(seconds.map(format::seconds).unwrap_or_default(), theme.text()),
        Cell::new(
            left::of_stage(stage, state.now_ms)
                .filter(|left| *left > 0.0 && running)
                .map(format::seconds)
                .unwrap_or_default(),
            theme.accent(),
        ),
        Cell::new(bytes.map(format::bytes).unwrap_or_default(), theme.dim()),
        Cell::new(rate.map(|r| format!("{}{unit}", format::scaled(r))).unwrap_or_default(), theme.dim()),
        Cell::new(if stage.warnings > 0 { format!("{}", stage.warnings) } else { String::new() }, theme.warn()),
    ]
}

/// Draws the pane.
pub fn draw(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let stages = &run.view.stages;
    let rows: Vec<Vec<Cell>> = stages.list.iter().map(|s| row(s, run, state, area.width)).collect();
    let columns = [
        words(""),
        words("stage"),
        words("state"),
        number("time"),
        number("left"),
        number("size"),
        number("rate"),
        number("warn"),
    ];
    let selected = selected(state, run);
    let list = table_area(rows.len(), area);
    table::draw(&columns, &rows, Some(selected), list, buffer, theme);
    let room = list.height;
    if area.height < room + 2 {
        return;
    }
    let below = Rect { y: area.y + room + 1, height: area.height - room - 1, ..area };
    text::lines(below, buffer, &details(stages.list.get(selected), run, below.width, theme));
}

/// The table's part of the pane.
fn table_area(stages: usize, area: Rect) -> Rect {
    let height = if area.height > 8 { area.height.min(stages as u16 + 1) } else { area.height };
    Rect { height, ..area }
}

/// Selects the stage under the mouse.
pub fn click(state: &mut State, area: Rect, at: Position) {
    let Some(run) = state.run() else { return };
    let n = run.view.stages.list.len();
    if let Some(row) = table::hit(selected(state, run), n, table_area(n, area), at) {
        state.panes.pipeline.selected = Some(row);
    }
}

/// Below the table: how the run ended, warnings, the selected stage.
fn details(stage: Option<&Stage>, run: &OpenRun, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let columns = usize::from(width).max(1);
    let mut out = Vec::new();
    if let Some(outcome) = run.view.run.outcome.as_ref().filter(|o| !o.message.is_empty()) {
        let style = if outcome.word == "failed" { theme.bad() } else { theme.warn() };
        let text = format!("{}: {}", outcome.word, format::clean(&outcome.message));
        out.extend(
            format::wrap_at_most(&text, columns, 8, theme.marks().ellipsis).into_iter().map(|l| Line::styled(l, style)),
        );
    }
    match run.doing() {
        Doing::Killed => {
            let text = "no process works in this folder any more and the run did not say that it ended: it was killed. \
                        Nothing finished is lost; r in pane 0 goes on from there.";
            out.extend(format::wrap(text, columns).into_iter().map(|l| Line::styled(l, theme.bad())));
        }
        Doing::Gone => {
            let why = run.status.trouble.clone().unwrap_or_default();
            let text = format!("{why}; what was read stays on the screen");
            out.extend(format::wrap(&text, columns).into_iter().map(|l| Line::styled(l, theme.bad())));
        }
        _ => {}
    }
    for w in run.view.stages.warnings.iter().rev() {
        let times = if w.count > 1 { format!(" ({} times)", w.count) } else { String::new() };
        let what = format!("! {}: {}{times}", w.stage, format::clean(&w.what));
        // The log has all of a long one.
        let mark = theme.marks().ellipsis;
        out.extend(format::wrap_at_most(&what, columns, 3, mark).into_iter().map(|l| Line::styled(l, theme.warn())));
        let next = format!("{} {}", theme.marks().arrow, format::clean(&w.next));
        let inner = columns.saturating_sub(2).max(1);
        let next = format::wrap_at_most(&next, inner, 3, mark);
        out.extend(next.into_iter().map(|l| Line::from(vec![Span::raw("  "), Span::raw(l)])));
    }
    if let Some(stage) = stage {
        let mut facts = vec![("stage", stage.name.clone())];
        if !stage.key.is_empty() {
            facts.push(("key", stage.key.clone()));
        }
        if stage.total > 0 {
            let unit = if stage.unit.is_empty() { "" } else { stage.unit.as_str() };
            facts.push(("units", format!("{} of {} {unit}", format::count(stage.done), format::count(stage.total))));
        }
        if let Some(bytes) = stage.bytes {
            facts.push(("artifact", format::bytes(bytes)));
        }
        if let Some(t) = stage.started_ms {
            facts.push(("began", format!("{} UTC", format::clock(t))));
        }
        out.extend(text::fact_lines(&facts, width, theme));
    }
    let info = &run.view.run;
    let facts = [
        ("recipe", format::clean(&info.recipe)),
        ("device", format::clean(&info.device)),
        ("program", format::clean(&info.program)),
        ("started", format!("{} UTC", format::clock(info.started_ms))),
    ];
    out.extend(text::fact_lines(&facts, width, theme));
    out
}
