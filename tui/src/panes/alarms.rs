//! Pane 9: what somebody should look at, the worst first, each with what to do about it. Everything
//! here follows from the events of the run; thresholds are round numbers that a healthy run stays
//! clear of.

use rallrec_events::Metric;
use rallrec_events::view::{Series, Training};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
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
    key: &[Char('9')],
    about: "what needs a look",
    draw: Draw::OfRun(draw),
    act,
    keys: &[
        bound(UP, Action::Up, "up", ""),
        bound(DOWN, Action::Down, "down", "more"),
        bound(HOME, Action::First, "the worst", ""),
        bound(END, Action::Last, "the last", ""),
    ],
    ..BASE
};

/// A held-out metric this much worse than its best, as a share of that, is a sign of overfitting.
const OVERFIT: f64 = 0.05;
/// A gradient norm this many times the usual one is a spike.
const SPIKE: f64 = 20.0;
/// More answers than this share without a yes or no are too many.
const UNPARSED: f64 = 0.2;
/// A mean P(Yes) + P(No) below this: the model wants to answer something else.
const MASS: f64 = 0.5;
/// Answers or rows before a share of them is judged.
const FEW: u64 = 20;
/// A run at work that says nothing for so many milliseconds.
const SILENT_MS: u64 = 120_000;
/// A disk with a smaller share than this free.
const DISK: f64 = 0.03;

/// State of the pane.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// First alarm shown.
    pub first: usize,
}

/// How bad it is; the order is that of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The result is lost or wrong.
    Bad,
    /// The result may be worse than it could be.
    Look,
}

/// One alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// How bad.
    pub weight: Weight,
    /// Stage, or what it is about.
    pub place: String,
    /// What is seen.
    pub what: String,
    /// What to do.
    pub next: String,
}

/// Every alarm of a run, the worst first.
pub fn alarms(run: &OpenRun, now_ms: u64) -> Vec<Alarm> {
    let mut out = Vec::new();
    let mut add = |weight, place: &str, what: String, next: &str| {
        out.push(Alarm { weight, place: place.into(), what, next: next.into() });
    };
    let info = &run.view.run;
    match run.doing() {
        Doing::Failed => {
            let message = info.outcome.as_ref().map_or(String::new(), |o| o.message.clone());
            add(Weight::Bad, "run", format!("failed: {message}"), "mend it and go on: pane 0, r");
        }
        Doing::Killed => add(
            Weight::Bad,
            "run",
            "no process works in the folder, and none said why it ended".into(),
            "go on from the latest checkpoint: pane 0, r",
        ),
        Doing::Running if now_ms.saturating_sub(info.last_ms) > SILENT_MS => {
            let silent = format::seconds(now_ms.saturating_sub(info.last_ms) as f64 / 1e3);
            add(Weight::Look, "run", format!("no news for {silent}"), "see pane 7: does the process still work?");
        }
        _ => {}
    }
    for (stage, training) in &run.view.training.0 {
        if training.loss.not_finite > 0 {
            let what = format!("{} losses are no numbers", training.loss.not_finite);
            add(Weight::Bad, stage, what, "use a smaller learning rate; look for the first one in pane 2");
        }
        for what in overfitting(training) {
            add(Weight::Look, stage, what, "the best state is kept; fewer epochs or a smaller rate do as well");
        }
        if let Some((high, usual)) = spike(&training.gradient_norm) {
            let what = format!("gradient norm {} where {} is usual", format::value(high), format::value(usual));
            add(Weight::Look, stage, what, "clip lower or warm up longer when the loss jumps with it");
        }
    }
    let sampling = &run.view.sampling;
    if let Some(share) = sampling.unparsed_share().filter(|s| sampling.answers >= FEW && *s > UNPARSED) {
        let what = format!("{:.0} % of {} answers hold neither yes nor no", 100.0 * share, sampling.answers);
        add(Weight::Look, "reason", what, "allow more tokens, or name the answer in the prompt");
    }
    for (model, scored) in &sampling.scored {
        if let Some(mass) = scored.mass.value().filter(|m| scored.mass.n >= FEW && *m < MASS) {
            let what = format!("{model}: P(Yes) + P(No) is {mass:.2} on average");
            add(Weight::Look, "predict", what, "the model wants to answer something else: look at a prompt in pane 3");
        }
    }
    if let Some((free, all)) = run.status.disk.filter(|(free, all)| (*free as f64) < DISK * *all as f64) {
        let what = format!("{} free of {}", format::bytes(free), format::bytes(all));
        add(Weight::Look, "disk", what, "delete old run folders: pane 0, d");
    }
    if run.status.broken > 0 {
        let what = format!("{} lines of events.jsonl are no records", run.status.broken);
        add(Weight::Look, "events", what, "a torn last line is normal after a kill; more are not");
    }
    for warned in &run.view.stages.warnings {
        let times = if warned.count > 1 { format!(" ({} times)", warned.count) } else { String::new() };
        add(Weight::Look, &warned.stage, format!("{}{times}", warned.what), &warned.next);
    }
    out.sort_by_key(|a| a.weight);
    out
}

/// Held-out metrics that have become worse than their best.
fn overfitting(training: &Training) -> Vec<String> {
    let worse = |(name, view): (&String, &rallrec_events::view::MetricView)| {
        let metric = Metric::named(name)?;
        let best = metric.best(view.series.points().map(|p| p.1))?;
        let (_, last) = view.series.last()?;
        let gap = (last - best).abs() / best.abs().max(1e-9);
        let overfits = metric.is_better(best, last) && gap > OVERFIT;
        overfits.then(|| format!("{name} was {} at best and is {} now", format::value(best), format::value(last)))
    };
    training.metrics.iter().filter_map(worse).collect()
}

/// (largest, median) of the recent values, where the first is out of all proportion.
fn spike(norms: &Series) -> Option<(f64, f64)> {
    let mut recent: Vec<f64> = norms.recent().iter().map(|p| p.1).filter(|v| v.is_finite()).collect();
    recent.sort_by(f64::total_cmp);
    let (high, usual) = (*recent.last()?, *recent.get(recent.len() / 2)?);
    (recent.len() as u64 >= FEW && high > SPIKE * usual).then_some((high, usual))
}

/// Keys of the pane.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let last = state.run().map_or(0, |run| alarms(run, state.now_ms).len().saturating_sub(1));
    let view = &mut state.panes.alarms;
    view.first = match action {
        Action::Up => view.first.min(last).saturating_sub(1),
        Action::Down => (view.first + 1).min(last),
        Action::First => 0,
        Action::Last => last,
        _ => view.first,
    };
    Vec::new()
}

/// Draws the pane.
pub fn draw(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let all = alarms(run, state.now_ms);
    if all.is_empty() {
        return text::note(area, buffer, "nothing needs a look", theme);
    }
    let first = state.panes.alarms.first.min(all.len() - 1);
    let lines: Vec<Line> = all[first..].iter().flat_map(|alarm| lines(alarm, area.width, theme)).collect();
    text::lines(area, buffer, &lines);
}

fn lines(alarm: &Alarm, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let style = match alarm.weight {
        Weight::Bad => theme.bad(),
        Weight::Look => theme.warn(),
    };
    let place = if width >= 40 { format!("{:<9}", format::clean(&alarm.place)) } else { String::new() };
    let indent = format::width(&place);
    let columns = usize::from(width).saturating_sub(indent).max(8);
    let mut out = Vec::new();
    for (i, part) in format::wrap(&format::clean(&alarm.what), columns).into_iter().enumerate() {
        let lead = if i == 0 { place.clone() } else { " ".repeat(indent) };
        out.push(Line::from(vec![Span::styled(lead, theme.dim()), Span::styled(part, style)]));
    }
    for part in format::wrap(&format::clean(&alarm.next), columns) {
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
        for wanted in ["1 losses are no numbers", "auc (valid) was", "log_loss (valid) was", "gradient norm 5.93"] {
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
}
