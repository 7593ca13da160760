//! Pane 9: what somebody should look at, the worst first, each with since when and what to do about
//! it. Everything here follows from the events of the run; thresholds are round numbers that a
//! healthy run stays clear of.

use std::path::PathBuf;

use rallrec_events::Metric;
use rallrec_events::view::{MetricView, Series, Training};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::format;
use crate::keys::{Action, DOWN, END, HOME, Key::Char, UP, bound};
use crate::message::Effect;
use crate::panes::{BASE, Draw, Pane, PaneId};
use crate::state::{Doing, OpenRun, State};
use crate::theme::Theme;
use crate::widgets::text;

/// The pane.
pub const PANE: Pane = Pane {
    id: PaneId::Alarms,
    title: "Alarms",
    short: "Alarm",
    key: &[Char('9')],
    about: "what needs a look",
    draw: Draw::OfRun(draw),
    act,
    keys: &[
        bound(UP, Action::Up, "previous alarm", ""),
        bound(DOWN, Action::Down, "next alarm", "next"),
        bound(HOME, Action::First, "the worst", ""),
        bound(END, Action::Last, "the last", ""),
        bound(&[Char('s')], Action::Silence, "silence the selected alarm, or hear it again", "silence"),
    ],
    ..BASE
};

/// A held-out metric this much worse than its best, as a share of that, is a sign of overfitting.
const OVERFIT: f64 = 0.05;
/// A gradient norm this many times the usual one is a spike.
const SPIKE: f64 = 20.0;
/// Work a second below this share of the usual is slow.
const SLOW: f64 = 0.5;
/// More answers than this share without a yes or no are too many.
pub const UNPARSED: f64 = 0.2;
/// A mean P(Yes) + P(No) below this: the model wants to answer something else.
pub const MASS: f64 = 0.5;
/// Answers or rows before a share of them is judged.
const FEW: u64 = 20;
/// A run at work that says nothing for so many milliseconds.
const SILENT_MS: u64 = 120_000;
/// A disk with a smaller share than this free.
const DISK: f64 = 0.03;
/// Memory with a smaller share than this free.
const MEMORY: f64 = 0.05;
/// Lines that one text takes in the list; the log has all of it.
const LINES: usize = 4;

/// State of the pane.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Which alarm the keys are on.
    pub selected: usize,
}

/// How bad it is; the order is that of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The result is lost or wrong.
    Bad,
    /// The result may be worse than it could be.
    Look,
    /// The run itself said so; it goes on as it should.
    Note,
}

impl Weight {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Weight::Bad => "bad",
            Weight::Look => "look",
            Weight::Note => "note",
        }
    }

    /// Its colour.
    pub fn style(self, theme: Theme) -> Style {
        match self {
            Weight::Bad => theme.bad(),
            Weight::Look => theme.warn(),
            Weight::Note => theme.text(),
        }
    }
}

/// An alarm of a run, whatever its figures are at the moment: what is silenced.
pub type Kind = (PathBuf, String);

/// One alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Tells it from the other alarms of the run.
    pub kind: String,
    /// How bad.
    pub weight: Weight,
    /// Stage, or what it is about.
    pub place: String,
    /// What is seen.
    pub what: String,
    /// Since when, where that is known.
    pub since: String,
    /// What to do.
    pub next: String,
}

/// The alarms of a run while they are found.
struct Found(Vec<Alarm>);

impl Found {
    fn add(&mut self, weight: Weight, (place, kind): (&str, &str), what: String, since: String, next: &str) {
        let kind = format!("{place} {kind}");
        self.0.push(Alarm { kind, weight, place: place.into(), what, since, next: next.into() });
    }
}

/// Every alarm of a run, the worst first.
pub fn alarms(run: &OpenRun, now_ms: u64) -> Vec<Alarm> {
    let mut found = Found(Vec::new());
    of_process(run, now_ms, &mut found);
    for (stage, training) in &run.view.training.0 {
        of_training(stage, training, &mut found);
    }
    of_answers(run, &mut found);
    of_machine(run, &mut found);
    for warned in &run.view.stages.warnings {
        let times = if warned.count > 1 { format!(" ({} times)", warned.count) } else { String::new() };
        let what = format!("{}{times}", warned.what);
        let since = format!("{} UTC", format::clock(warned.t_ms));
        found.add(Weight::Note, (&warned.stage, &warned.what), what, since, &warned.next);
    }
    found.0.sort_by_key(|a| a.weight);
    found.0
}

/// Those that nobody has silenced.
pub fn heard(state: &State, run: &OpenRun) -> Vec<Alarm> {
    let mut all = alarms(run, state.now_ms);
    all.retain(|a| !state.silenced.contains(&(run.folder.clone(), a.kind.clone())));
    all
}

fn of_process(run: &OpenRun, now_ms: u64, found: &mut Found) {
    let info = &run.view.run;
    let at = format!("since {} UTC", format::clock(info.last_ms));
    match run.doing() {
        Doing::Failed => {
            let message = info.outcome.as_ref().map_or(String::new(), |o| o.message.clone());
            found.add(Weight::Bad, ("run", "failed"), format!("failed: {message}"), at, "mend it and go on: pane 0, r");
        }
        Doing::Killed => {
            let what = "no process works in the folder, and none said why it ended".into();
            found.add(Weight::Bad, ("run", "killed"), what, at, "go on from the latest checkpoint: pane 0, r");
        }
        Doing::Running if now_ms.saturating_sub(info.last_ms) > SILENT_MS => {
            let silent = format::seconds(now_ms.saturating_sub(info.last_ms) as f64 / 1e3);
            let next = "see pane 7: does the process still work?";
            found.add(Weight::Look, ("run", "silent"), format!("no news for {silent}"), at, next);
        }
        _ => {}
    }
}

fn of_training(stage: &str, training: &Training, found: &mut Found) {
    let lost = training.loss.not_finite;
    if lost > 0 {
        let s = if lost == 1 { " is no number" } else { "es are no numbers" };
        let since = training.loss.lost.map_or(String::new(), |(first, _)| format!("since step {first:.0}"));
        let next = "use a smaller learning rate; look for the first one in pane 2";
        found.add(Weight::Bad, (stage, "NaN"), format!("NaN: {lost} loss{s}"), since, next);
    }
    for (name, metric) in &training.metrics {
        if let Some((best, at, last)) = overfits(name, metric) {
            let falls = if falls_since(&training.loss) { " while the training loss falls" } else { "" };
            let (best, last) = (format::value(best), format::value(last));
            let unit = if metric.by_epoch { "epoch" } else { "step" };
            let next = "the best state is kept; fewer epochs or a smaller rate do as well";
            let what = format!("{name} was {best} at best and is {last} now{falls}");
            found.add(Weight::Look, (stage, name), what, format!("since {unit} {at:.0}"), next);
        }
    }
    if let Some((high, at, usual)) = spike(&training.gradient_norm) {
        let what = format!("gradient norm {} where {} is usual", format::value(high), format::value(usual));
        let next = "clip lower or warm up longer when the loss jumps with it";
        found.add(Weight::Look, (stage, "spike"), what, format!("at step {at:.0}"), next);
    }
    if let Some((now, usual, at)) = slow(&training.rate) {
        let what = format!("{} a second where {} is usual", format::scaled(now), format::scaled(usual));
        let next = "see pane 7: does something else take the machine?";
        found.add(Weight::Look, (stage, "slow"), what, format!("since step {at:.0}"), next);
    }
}

fn of_answers(run: &OpenRun, found: &mut Found) {
    let sampling = &run.view.sampling;
    if let Some(share) = sampling.unparsed_share().filter(|s| sampling.answers >= FEW && *s > UNPARSED) {
        let what = format!("{:.0} % of {} answers hold neither yes nor no", 100.0 * share, sampling.answers);
        let next = "allow more tokens, or name the answer in the prompt";
        found.add(Weight::Look, ("reason", "unparsed"), what, "over all answers so far".into(), next);
    }
    let models = sampling.scored.iter().map(|(name, scored)| (name.as_str(), "predict", &scored.mass));
    for (model, place, mass) in models.chain([("reasoning", "reason", &sampling.mass)]) {
        if let Some(mean) = mass.value().filter(|m| mass.n >= FEW && *m < MASS) {
            let what = format!("{model}: P(Yes) + P(No) is {mean:.2} on average");
            let next = "the model wants to answer something else: look at a prompt in pane 3";
            found.add(Weight::Look, (place, model), what, format!("over {} rows or answers", mass.n), next);
        }
    }
}

fn of_machine(run: &OpenRun, found: &mut Found) {
    let full = |(free, all): &(u64, u64)| (*free as f64) < DISK * *all as f64;
    if let Some((free, all)) = run.status.disk.filter(|disk| run.doing().is_live() && full(disk)) {
        let what = format!("{} free of {}", format::bytes(free), format::bytes(all));
        found.add(Weight::Look, ("disk", "full"), what, "now".into(), "delete old run folders: pane 0, d");
    }
    if let Some(now) = run.view.system.now.as_ref().filter(|_| run.doing().is_live()) {
        let near = |used: u64, all: u64| all > 0 && used as f64 > (1.0 - MEMORY) * all as f64;
        let what = |used: u64, all: u64| format!("{} of {} in use", format::bytes(used), format::bytes(all));
        if near(now.memory_used, now.memory_total) {
            let next = "smaller batches, or fewer threads; at its end the system kills the run";
            let what = what(now.memory_used, now.memory_total);
            found.add(Weight::Look, ("memory", "full"), what, "now".into(), next);
        }
        for (i, gpu) in now.gpus.iter().flatten().enumerate() {
            if let (Some(used), Some(all)) = (gpu.memory_used, gpu.memory_total)
                && near(used, all)
            {
                let place = format!("GPU {i}");
                found.add(Weight::Look, (&place, "full"), what(used, all), "now".into(), "use smaller batches");
            }
        }
    }
    if run.status.broken > 1 {
        let what = format!("{} lines of events.jsonl are no records", run.status.broken);
        let next = "a torn last line is normal after a kill; more are not";
        found.add(Weight::Look, ("events", "broken"), what, "in the whole file".into(), next);
    }
}

/// A held-out metric that has become worse than its best: (best, where, now).
fn overfits(name: &str, view: &MetricView) -> Option<(f64, f64, f64)> {
    let metric = Metric::named(name)?;
    let best = metric.best(view.series.points().map(|p| p.1))?;
    let at = view.series.points().find(|p| p.1 == best)?.0;
    let (_, last) = view.series.last()?;
    let gap = (last - best).abs() / best.abs().max(1e-9);
    (metric.is_better(best, last) && gap > OVERFIT).then_some((best, at, last))
}

/// The second half of a curve lies lower than the first.
fn falls_since(loss: &Series) -> bool {
    let values: Vec<f64> = loss.points().map(|p| p.1).collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, second) = values.split_at(values.len() / 2);
    values.len() >= 4 && mean(second) < mean(first)
}

/// The value in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|v| v.is_finite());
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// (largest, its step, median) of the recent values, where the first is out of all proportion.
fn spike(norms: &Series) -> Option<(f64, f64, f64)> {
    let recent = norms.recent();
    let (at, high) = recent.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let usual = median(recent.iter().map(|p| p.1).collect())?;
    (recent.len() as u64 >= FEW && high > SPIKE * usual).then_some((high, at, usual))
}

/// (now, usual, since when) of a rate that has fallen.
fn slow(rate: &Series) -> Option<(f64, f64, f64)> {
    let recent: Vec<f64> = rate.recent().iter().map(|p| p.1).collect();
    let few = FEW as usize;
    let from = recent.len().saturating_sub(few);
    let (usual, now) = (median(recent.clone())?, median(recent[from..].to_vec())?);
    let at = rate.recent().get(from)?.0;
    (recent.len() >= 3 * few && now < SLOW * usual).then_some((now, usual, at))
}

/// Keys of the pane.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let Some(run) = state.run() else { return Vec::new() };
    let all = alarms(run, state.now_ms);
    let last = all.len().saturating_sub(1);
    let at = state.panes.alarms.selected.min(last);
    let kind = all.get(at).map(|alarm| (run.folder.clone(), alarm.kind.clone()));
    state.panes.alarms.selected = match action {
        Action::Up => at.saturating_sub(1),
        Action::Down => (at + 1).min(last),
        Action::First => 0,
        Action::Last => last,
        _ => at,
    };
    if let Some(kind) = kind.filter(|_| action == Action::Silence)
        && !state.silenced.remove(&kind)
    {
        state.silenced.insert(kind);
    }
    Vec::new()
}

/// Draws the pane.
pub fn draw(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let all = alarms(run, state.now_ms);
    if all.is_empty() {
        return text::note(area, buffer, "nothing needs a look", theme);
    }
    let selected = state.panes.alarms.selected.min(all.len() - 1);
    let mut blocks: Vec<Vec<Line>> = Vec::new();
    for alarm in &all {
        let silenced = state.silenced.contains(&(run.folder.clone(), alarm.kind.clone()));
        blocks.push(lines(alarm, silenced, area.width, theme));
    }
    // The selected one is whole on the screen, with as many as fit before it.
    let mut first = selected;
    let mut used = blocks[selected].len();
    while first > 0 && used + blocks[first - 1].len() <= usize::from(area.height) {
        first -= 1;
        used += blocks[first].len();
    }
    let mut row = 0;
    for (i, block) in blocks.iter().enumerate().skip(first) {
        for line in block {
            if i == selected && row < area.height && state.arrangement.focus == PaneId::Alarms {
                buffer.set_style(Rect { y: area.y + row, height: 1, ..area }, theme.selected());
            }
            text::line(area, buffer, row, line);
            row = row.saturating_add(1);
        }
    }
}

fn lines(alarm: &Alarm, silenced: bool, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let style = if silenced { theme.dim() } else { alarm.weight.style(theme) };
    let place = if width >= 40 {
        let word = if silenced { "(off)" } else { alarm.weight.word() };
        format!("{word:<6}{:<9}", format::cut(&format::clean(&alarm.place), 8, theme.marks().ellipsis))
    } else {
        String::new()
    };
    let indent = format::width(&place);
    let columns = usize::from(width).saturating_sub(indent).max(8);
    let mark = theme.marks().ellipsis;
    let since = if alarm.since.is_empty() { String::new() } else { format!(", {}", alarm.since) };
    let what = format::clean(&format!("{}{since}", alarm.what)).replace('\n', " ");
    let mut out = Vec::new();
    for (i, part) in format::wrap_at_most(&what, columns, LINES, mark).into_iter().enumerate() {
        let lead = if i == 0 { place.clone() } else { " ".repeat(indent) };
        out.push(Line::from(vec![Span::styled(lead, style), Span::styled(part, style)]));
    }
    for part in format::wrap_at_most(&format::clean(&alarm.next).replace('\n', " "), columns, LINES, mark) {
        out.push(Line::from(vec![Span::raw(" ".repeat(indent)), Span::styled(part, theme.dim())]));
    }
    out
}

#[cfg(test)]
mod tests {
    use rallrec_events::{Event, Record, VERSION};

    use super::*;

    fn run(events: Vec<Event>) -> OpenRun {
        let mut run = OpenRun::new(1, "run".into());
        run.opened = true;
        for (event, t_ms) in events.into_iter().zip(1_000..) {
            run.view.apply(&Record { v: VERSION, t_ms, event });
        }
        run
    }

    fn step(step: u64, loss: f64, norm: f64) -> Event {
        Event::TrainStep {
            stage: "tune".into(),
            epoch: 1,
            step,
            steps: 100,
            loss,
            learning_rate: 1e-4,
            gradient_norm: Some(norm),
            rate: None,
        }
    }

    fn metric(name: &str, value: f64) -> Event {
        let (stage, name, split) = ("tune".into(), name.into(), "valid".into());
        Event::Metric { stage, name, split, value, epoch: None, best: false }
    }

    fn whats(run: &OpenRun, now_ms: u64) -> Vec<String> {
        alarms(run, now_ms).into_iter().map(|a| a.what).collect()
    }

    #[test]
    fn a_healthy_run_has_no_alarm() {
        let mut events: Vec<Event> = (1..60).map(|i| step(i, 1.0 / i as f64, 1.0)).collect();
        events.extend([metric("log_loss", 0.7), step(60, 0.1, 1.5), metric("log_loss", 0.69), metric("auc", 0.6)]);
        assert_eq!(whats(&run(events), 2_000), Vec::<String>::new());
    }

    /// The direction comes from the metric: a log loss that rises and an AUC that falls are both
    /// worse.
    #[test]
    fn overfitting_and_spikes_are_seen() {
        let mut events: Vec<Event> = (1..60).map(|i| step(i, 0.5, if i == 50 { 5.93 } else { 0.07 })).collect();
        events.extend([metric("log_loss", 0.7085), metric("auc", 0.7)]);
        events.push(step(61, f64::NAN, 0.07));
        events.extend([metric("log_loss", 0.7946), metric("auc", 0.6)]);
        let found = alarms(&run(events), 2_000);
        assert_eq!(found[0].weight, Weight::Bad);
        let all: Vec<&str> = found.iter().map(|a| a.what.as_str()).collect();
        for wanted in ["NaN: 1 loss is no number", "auc (valid) was", "log_loss (valid) was", "gradient norm 5.93"] {
            assert!(all.iter().any(|what| what.contains(wanted)), "{wanted}: {all:?}");
        }
    }

    #[test]
    fn silence_and_a_full_disk_are_said() {
        let mut silent = run(vec![step(1, 0.5, 1.0)]);
        silent.status.disk = Some((1, 1000));
        let found = whats(&silent, 1_000 + SILENT_MS + 1_000);
        assert!(found.iter().any(|w| w.starts_with("no news for")), "{found:?}");
        assert!(found.iter().any(|w| w.contains("free of")), "{found:?}");
    }

    #[test]
    fn a_rate_that_has_fallen_is_seen() {
        let rate = |step: u64, rate: f64| Event::TrainStep {
            stage: "tune".into(),
            epoch: 1,
            step,
            steps: 100,
            loss: 0.5,
            learning_rate: 1e-4,
            gradient_norm: None,
            rate: Some(rate),
        };
        let steady: Vec<Event> = (1..100).map(|i| rate(i, 100.0 + (i % 7) as f64)).collect();
        assert_eq!(whats(&run(steady.clone()), 2_000), Vec::<String>::new());
        let slower = (100..125).map(|i| rate(i, 20.0));
        let found = whats(&run(steady.into_iter().chain(slower).collect()), 2_000);
        assert_eq!(found, ["20 a second where 102 is usual"]);
    }

    /// A warning of ten thousand characters once filled two panes.
    #[test]
    fn a_long_warning_takes_few_lines() {
        let alarm = Alarm {
            kind: "k".into(),
            weight: Weight::Note,
            place: "data".into(),
            what: "many words ".repeat(1000),
            since: String::new(),
            next: "x".repeat(10_000),
        };
        assert!(lines(&alarm, false, 80, Theme::default()).len() <= 2 * LINES);
    }
}
