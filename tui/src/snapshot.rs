//! A run without a screen: what is left after leaving, and `watch --once`.

use std::fs;
use std::path::Path;

use rallrec_events::folder::Word;
use rallrec_events::metric::{METRICS, Shown};
use rallrec_events::tail::State as TailState;
use rallrec_events::{Follow, RunFolder};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::edge::follow;
use crate::format;
use crate::layout::Arrangement;
use crate::panes::alarms::{self, Alarm, Weight};
use crate::panes::{merge, pipeline};
use crate::prefs::Prefs;
use crate::state::{OpenRun, State};
use crate::theme::{Palette, Theme};

/// Reads a run folder once.
///
/// # Errors
/// There is nothing to read; in words, without the folder's name.
pub fn open(folder: &Path, now_ms: u64) -> Result<OpenRun, String> {
    let run_folder = RunFolder::new(folder);
    match fs::metadata(run_folder.events()) {
        // A pipe would keep whoever opens it waiting.
        Ok(events) if !events.is_file() => return Err("events.jsonl is no plain file".into()),
        _ => {}
    }
    let mut follow = Follow::new(folder);
    follow.catch_up();
    match follow.tail.state() {
        TailState::Open => {}
        TailState::Unreadable(why) => return Err(format!("events.jsonl cannot be read: {why}")),
        _ if !folder.exists() => return Err("there is no such folder".into()),
        _ => return Err("it is not a run folder: there is no events.jsonl in it".into()),
    }
    // The same that the dashboard knows, so that the same alarms follow.
    let status = follow::status(&run_folder, &follow.tail);
    let mut run = OpenRun::new(now_ms as u32, folder.to_path_buf());
    run.view = Box::new(follow.view);
    run.status = status;
    run.opened = true;
    Ok(run)
}

/// What needs a look, a line each; with the name of the folder in front where `named`.
pub fn alarm_lines(run: &OpenRun, now_ms: u64, named: bool) -> String {
    let name = if named { format!("{}: ", run.folder.display()) } else { String::new() };
    let line = |a: Alarm| {
        let since = if a.since.is_empty() { String::new() } else { format!(" ({})", a.since) };
        let text = format!("{name}{}: {}: {}{since}: {}", a.weight.word(), a.place, a.what, a.next);
        format!("{}\n", format::clean(&text).replace('\n', " "))
    };
    loud(run, now_ms).map(line).collect()
}

/// The alarms without what the run itself has only noted.
fn loud(run: &OpenRun, now_ms: u64) -> impl Iterator<Item = Alarm> {
    alarms::alarms(run, now_ms).into_iter().filter(|a| a.weight != Weight::Note)
}

/// The exit code of a look at the run: 0 nothing, 3 something needs a look, 4 something is bad.
pub fn exit_code(run: &OpenRun, now_ms: u64) -> u8 {
    match loud(run, now_ms).map(|a| a.weight).min() {
        None | Some(Weight::Note) => 0,
        Some(Weight::Look) => 3,
        Some(Weight::Bad) => 4,
    }
}

/// The run as JSON: folder, state, alarms, and everything that panes and reports show.
pub fn json(run: &OpenRun, now_ms: u64) -> serde_json::Value {
    let view = serde_json::to_value(&*run.view).unwrap_or_default();
    let alarm = |a: Alarm| {
        serde_json::json!({
            "weight": a.weight.word(), "place": a.place, "what": a.what, "since": a.since, "next": a.next,
        })
    };
    serde_json::json!({
        "folder": run.folder,
        "state": run.doing().word(),
        "alive": run.status.alive,
        "broken_lines": run.status.broken,
        "alarms": loud(run, now_ms).map(alarm).collect::<Vec<_>>(),
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
    out.push_str(&alarm_lines(run, now_ms, false));
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

/// What is left on the screen after leaving: of each run state, time, figures, how to come back.
pub fn left(state: &State) -> String {
    let stops = |run: &OpenRun| state.asked.as_ref().is_some_and(|a| a.run == run.id && a.word == Word::Stop);
    state.runs.iter().map(|run| summary(run, stops(run), state.now_ms)).collect()
}

/// `stopping`: the run was asked to stop, and that was not seen yet.
fn summary(run: &OpenRun, stopping: bool, now_ms: u64) -> String {
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
    let again = match (run.doing().is_live(), stopping) {
        (true, true) => "it stops at its next clean point; look at it with",
        (true, false) => "it goes on; back to it with",
        (false, _) => "again with",
    };
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

#[cfg(test)]
mod tests {
    use rallrec_events::{Event, Record, VERSION};

    use super::*;

    fn opened(events: Vec<Event>) -> (tempfile::TempDir, Result<OpenRun, String>) {
        let folder = tempfile::tempdir().unwrap();
        let lines =
            events.into_iter().zip(1_000..).map(|(event, t_ms)| Record { v: VERSION, t_ms, event }.to_line().unwrap());
        fs::write(folder.path().join("events.jsonl"), lines.collect::<String>()).unwrap();
        let run = open(folder.path(), 2_000);
        (folder, run)
    }

    /// A disk that was nearly full once was an alarm in the dashboard alone.
    #[test]
    fn a_look_without_a_screen_knows_the_disk_too() {
        let started = Event::RunStarted { recipe: "r".into(), device: "d".into(), program: "p".into(), resumed: false };
        let (_folder, run) = opened(vec![started]);
        assert!(run.unwrap().status.disk.is_some_and(|(_, all)| all > 0));
    }

    #[test]
    fn alarms_are_lines_and_exit_codes() {
        let started =
            || Event::RunStarted { recipe: "r".into(), device: "d".into(), program: "p".into(), resumed: false };
        let ended = |outcome: &str| Event::RunFinished {
            outcome: outcome.into(),
            seconds: 1.0,
            message: "no disk\nleft".into(),
        };
        let (_folder, run) = opened(vec![started(), ended("done")]);
        let run = run.unwrap();
        assert_eq!((exit_code(&run, 2_000), alarm_lines(&run, 2_000, true)), (0, String::new()));
        let (_folder, run) = opened(vec![started(), ended("failed")]);
        let run = run.unwrap();
        let lines = alarm_lines(&run, 2_000, false);
        assert_eq!((exit_code(&run, 2_000), lines.lines().count()), (4, 1));
        assert!(lines.starts_with("bad: run: failed: no disk left"), "{lines}");
        assert!(text(&run, 2_000, 80, Theme::default()).contains("bad: run: failed"));
        assert_eq!(json(&run, 2_000)["alarms"][0]["weight"], "bad");
    }

    /// A pipe in the place of the events once kept whoever opened it waiting for ever.
    #[test]
    fn a_pipe_is_no_file_of_events() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(open(folder.path(), 0).unwrap_err().contains("no plain file"));
    }
}
