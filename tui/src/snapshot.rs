//! A run without a screen: what is left after leaving, and `watch --once`.

use std::path::Path;

use rallrec_events::metric::{METRICS, Shown};
use rallrec_events::tail::State as TailState;
use rallrec_events::{Follow, RunFolder};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::format;
use crate::layout::Arrangement;
use crate::message::Status;
use crate::panes::{merge, pipeline};
use crate::prefs::Prefs;
use crate::state::{OpenRun, State};
use crate::theme::{Palette, Theme};

/// Reads a run folder once.
///
/// # Errors
/// There is nothing to read; in words.
pub fn open(folder: &Path, now_ms: u64) -> Result<OpenRun, String> {
    let mut follow = Follow::new(folder);
    follow.catch_up();
    match follow.tail.state() {
        TailState::Open => {}
        TailState::Unreadable(why) => return Err(format!("{}: events.jsonl cannot be read: {why}", folder.display())),
        _ if !folder.exists() => return Err(format!("{}: there is no such folder", folder.display())),
        _ => return Err(format!("{}: is not a run folder: there is no events.jsonl in it", folder.display())),
    }
    let run_folder = RunFolder::new(folder);
    let status = Status {
        alive: folder.join(".lock").exists().then(|| run_folder.is_alive()),
        broken: follow.tail.counts().damaged,
        control: run_folder.asked(),
        ..Status::default()
    };
    let mut run = OpenRun::new(now_ms as u32, folder.to_path_buf());
    run.view = Box::new(follow.view);
    run.status = status;
    run.opened = true;
    Ok(run)
}

/// The run as JSON: folder, state, and everything that panes and reports show.
pub fn json(run: &OpenRun) -> serde_json::Value {
    let view = serde_json::to_value(&*run.view).unwrap_or_default();
    serde_json::json!({
        "folder": run.folder,
        "state": run.doing().word(),
        "alive": run.status.alive,
        "broken_lines": run.status.broken,
        "view": view,
    })
}

/// The run as text of `width` columns: head, stages, warnings, tables.
pub fn text(run: &OpenRun, now_ms: u64, width: u16, theme: Theme) -> String {
    let mut state = State::new((width, 40), &Prefs::default(), Some(Palette::Mono), now_ms);
    state.theme = theme;
    state.arrangement = Arrangement::default();
    state.runs = vec![run.clone()];
    let mut out = head(run, now_ms);
    let stages = run.view.stages.list.len() as u16 + 14;
    out.push_str(&drawn(width, stages, |area, buffer| pipeline::draw(&state, run, area, buffer)));
    if !run.view.results.tables.is_empty() {
        out.push('\n');
        let rows = run.view.results.tables.iter().map(|t| t.rows.len() as u16 + 4).max().unwrap_or(0);
        out.push_str(&drawn(width, rows, |area, buffer| merge::draw_tables(&state, run, area, buffer)));
    }
    out
}

/// Name, state, time.
fn head(run: &OpenRun, now_ms: u64) -> String {
    format!("{}  {}  {}\n", run.folder.display(), run.doing().word(), format::seconds(run.elapsed(now_ms)))
}

/// What is left on the screen after leaving: state, time, figures, how to come back.
pub fn summary(run: &OpenRun, now_ms: u64) -> String {
    let mut out = head(run, now_ms);
    if let Some(table) = run.view.results.tables.first() {
        let width = table.rows.iter().map(|r| format::width(&r.name)).max().unwrap_or(0);
        for row in &table.rows {
            let metric = |name: &str| row.metric(name).map_or("n/a".into(), |m| format!("{:.3}", m.0));
            let gap = " ".repeat(width - format::width(&row.name));
            let always = METRICS.iter().filter(|m| m.shown == Shown::Always);
            let figures: String = always.map(|m| format!("  {} {}", m.title, metric(m.name))).collect();
            out.push_str(&format!("  {}{gap}{figures}\n", row.name));
        }
    } else if let Some(stage) = run.stage() {
        let share = stage.share().map(|s| format!(" {:.0} %", s * 100.0)).unwrap_or_default();
        out.push_str(&format!("  in {}{share}\n", stage.name));
    }
    if let Some(outcome) = run.view.run.outcome.as_ref().filter(|o| !o.message.is_empty()) {
        out.push_str(&format!("  {}\n", format::clean(&outcome.message)));
    }
    let again = if run.doing().is_live() { "it goes on; back to it with" } else { "again with" };
    out.push_str(&format!("  {again}: rallrec watch {}\n", run.folder.display()));
    out
}

fn drawn(width: u16, height: u16, draw: impl Fn(Rect, &mut Buffer)) -> String {
    let area = Rect::new(0, 0, width.max(20), height.max(1));
    let mut buffer = Buffer::empty(area);
    draw(area, &mut buffer);
    lines(&buffer).trim_end().to_string() + "\n"
}

/// A buffer as text: one line a row, without spaces at the end.
pub fn lines(buffer: &Buffer) -> String {
    let area = buffer.area;
    let mut out = String::new();
    for y in area.top()..area.bottom() {
        let mut line = String::new();
        let mut skip = 0;
        for x in area.left()..area.right() {
            let symbol = buffer[(x, y)].symbol();
            if skip == 0 {
                line.push_str(symbol);
                skip = format::width(symbol).max(1) - 1;
            } else {
                skip -= 1;
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
