//! The stages: state, cache, duration, rate, time left, artifact size; warnings.

use std::collections::VecDeque;

use serde::Serialize;

use super::bounded::{Footprint, NAME, TEXT, cut, push};
use crate::event::Event;
use crate::stage::StageId;

/// Most stages that a view lists.
const MOST: usize = 32;
/// Points of progress that a rate is taken over.
const POINTS: usize = 48;
/// A rate looks back this far, milliseconds.
const LOOK_BACK: u64 = 20_000;

/// What a stage is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not begun in the latest process.
    #[default]
    Waiting,
    /// At work.
    Running,
    /// Done by the latest process.
    Done,
    /// An earlier artifact was reused.
    Reused,
    /// The run ended in it by an error.
    Failed,
    /// The run was stopped in it.
    Stopped,
}

/// How a stage stands.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Stage {
    /// Name.
    pub name: String,
    /// State.
    pub state: State,
    /// Short key of the artifact.
    pub key: String,
    /// When it began.
    pub started_ms: Option<u64>,
    /// When it was last reported.
    pub updated_ms: Option<u64>,
    /// Seconds of work when it was made, where that was seen.
    pub seconds: Option<f64>,
    /// Bytes of the artifact.
    pub bytes: Option<u64>,
    /// Units that are through.
    pub done: u64,
    /// Units there are; 0 while unknown ("warming up").
    pub total: u64,
    /// The unit of its progress, e.g. `tokens`.
    pub unit: String,
    /// Warnings.
    pub warnings: u64,
    #[serde(skip)]
    points: VecDeque<(u64, u64)>,
}

impl Stage {
    /// Which one it is; `None` for one that this program does not know.
    pub fn id(&self) -> Option<StageId> {
        StageId::named(&self.name)
    }

    /// Units a second over the recent progress; the mean since the start where that was long ago.
    pub fn rate(&self) -> Option<f64> {
        let (&(t1, d1), &(t0, d0)) = (self.points.back()?, self.points.front()?);
        let seconds = t1.saturating_sub(t0) as f64 / 1e3;
        (seconds > 0.0 && d1 > d0).then(|| (d1 - d0) as f64 / seconds)
    }

    /// Seconds left at the recent rate, counted from the latest progress.
    pub fn eta(&self) -> Option<f64> {
        if self.state != State::Running || self.total == 0 {
            return None;
        }
        Some(self.total.saturating_sub(self.done) as f64 / self.rate()?)
    }

    /// Share that is through, 0 to 1.
    pub fn share(&self) -> Option<f64> {
        (self.total > 0).then(|| (self.done as f64 / self.total as f64).min(1.0))
    }

    fn progress(&mut self, t: u64, done: u64, total: u64) {
        if self.points.back().is_some_and(|p| done < p.1 || t < p.0) {
            self.points.clear();
        }
        push(&mut self.points, POINTS, (t, done));
        while self.points.len() > 2 && self.points.front().is_some_and(|p| t.saturating_sub(p.0) > LOOK_BACK) {
            self.points.pop_front();
        }
        (self.done, self.total, self.updated_ms) = (done, total, Some(t));
    }
}

impl Footprint for Stage {
    fn held(&self) -> usize {
        self.name.held() + self.key.held() + self.unit.held() + self.points.capacity() * 16
    }
}

/// A warning, with how often it came.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Warned {
    /// When it came last.
    pub t_ms: u64,
    /// The stage that it concerns.
    pub stage: String,
    /// What was noticed.
    pub what: String,
    /// What to do about it.
    pub next: String,
    /// Times.
    pub count: u64,
}

impl Footprint for Warned {
    fn held(&self) -> usize {
        self.stage.held() + self.what.held() + self.next.held()
    }
}

/// All stages.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stages {
    /// In the order of the run.
    pub list: Vec<Stage>,
    /// Warnings of the latest process, oldest first.
    pub warnings: VecDeque<Warned>,
}

impl Default for Stages {
    fn default() -> Self {
        Self { list: StageId::ALL.iter().map(|s| Stage::named(s.name())).collect(), warnings: VecDeque::new() }
    }
}

impl Stage {
    fn named(name: &str) -> Self {
        Self { name: cut(name, NAME), ..Self::default() }
    }
}

impl Stages {
    /// A stage that this program knows.
    pub fn of(&self, stage: StageId) -> Option<&Stage> {
        self.get(stage.name())
    }

    /// A stage by name.
    pub fn get(&self, name: &str) -> Option<&Stage> {
        self.list.iter().find(|s| s.name == name)
    }

    /// The stage at work.
    pub fn running(&self) -> Option<&Stage> {
        self.list.iter().find(|s| s.state == State::Running)
    }

    fn entry(&mut self, name: &str) -> Option<&mut Stage> {
        let at = match self.list.iter().position(|s| s.name == name) {
            Some(at) => at,
            None if self.list.len() < MOST && name.len() <= NAME => {
                self.list.push(Stage::named(name));
                self.list.len() - 1
            }
            None => return None,
        };
        self.list.get_mut(at)
    }

    pub(super) fn apply(&mut self, t: u64, event: &Event) {
        match event {
            Event::RunStarted { .. } => {
                self.warnings.clear();
                for stage in &mut self.list {
                    stage.state = State::Waiting;
                    stage.warnings = 0;
                    stage.points.clear();
                }
            }
            Event::Plan { stages } => {
                let mut list = Vec::new();
                for name in stages.iter().take(MOST) {
                    if list.iter().all(|s: &Stage| s.name != *name) {
                        list.push(self.get(name).cloned().unwrap_or_else(|| Stage::named(name)));
                    }
                }
                self.list = list;
            }
            Event::StageStarted { stage, key } => {
                if let Some(stage) = self.entry(stage) {
                    stage.state = State::Running;
                    stage.key = cut(key, NAME);
                    (stage.started_ms, stage.updated_ms) = (Some(t), Some(t));
                    (stage.done, stage.total, stage.seconds, stage.bytes) = (0, 0, None, None);
                    stage.points.clear();
                }
            }
            Event::StageProgress { stage, done, total, unit } => {
                if let Some(stage) = self.entry(stage) {
                    if stage.unit != *unit {
                        stage.unit = cut(unit, NAME);
                    }
                    stage.progress(t, *done, *total);
                }
            }
            Event::StageFinished { stage, key, cached, seconds, bytes } => {
                if let Some(stage) = self.entry(stage) {
                    let same = stage.key == *key;
                    stage.state = if *cached { State::Reused } else { State::Done };
                    stage.key = cut(key, NAME);
                    (stage.updated_ms, stage.bytes) = (Some(t), Some(*bytes));
                    if !*cached {
                        stage.seconds = Some(*seconds);
                        stage.done = stage.total;
                    } else if !same {
                        stage.seconds = None;
                    }
                    stage.points.clear();
                }
            }
            Event::Warning { stage, what, next } => {
                if let Some(entry) = self.entry(stage) {
                    entry.warnings += 1;
                }
                match self.warnings.iter_mut().find(|w| w.what == *what && w.stage == *stage) {
                    Some(known) => (known.count, known.t_ms) = (known.count + 1, t),
                    None => {
                        let (stage, what, next) = (cut(stage, NAME), cut(what, TEXT), cut(next, TEXT));
                        push(&mut self.warnings, 64, Warned { t_ms: t, stage, what, next, count: 1 });
                    }
                }
            }
            Event::RunFinished { outcome, .. } => {
                let state = if outcome == "failed" { State::Failed } else { State::Stopped };
                for stage in self.list.iter_mut().filter(|s| s.state == State::Running) {
                    stage.state = state;
                    stage.seconds = stage.started_ms.map(|from| t.saturating_sub(from) as f64 / 1e3);
                }
            }
            _ => {}
        }
    }
}

impl Footprint for Stages {
    fn held(&self) -> usize {
        self.list.held() + self.warnings.held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(stages: &mut Stages, t: u64, done: u64) {
        stages.apply(t, &Event::StageProgress { stage: "tune".into(), done, total: 100, unit: "steps".into() });
    }

    #[test]
    fn rate_and_time_left_follow_the_recent_progress() {
        let mut stages = Stages::default();
        stages.apply(0, &Event::StageStarted { stage: "tune".into(), key: "k".into() });
        assert_eq!(stages.get("tune").unwrap().eta(), None, "warming up");
        progress(&mut stages, 1_000, 10);
        progress(&mut stages, 11_000, 20);
        let stage = stages.get("tune").unwrap();
        assert!((stage.rate().unwrap() - 1.0).abs() < 1e-9);
        assert!((stage.eta().unwrap() - 80.0).abs() < 1e-9);
        // Ten times faster from here: what is older than the window does not count any more.
        for i in 1..=30 {
            progress(&mut stages, 11_000 + i * 100, 20 + i);
        }
        progress(&mut stages, 34_000, 90);
        // (14.0 s, 50) to (34.0 s, 90).
        assert!((stages.get("tune").unwrap().rate().unwrap() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn states_follow_the_run() {
        let mut stages = Stages::default();
        let done = |cached| Event::StageFinished {
            stage: "data".into(),
            key: "k".into(),
            cached,
            seconds: if cached { 0.0 } else { 2.5 },
            bytes: 7,
        };
        stages.apply(1, &done(false));
        stages.apply(2, &Event::StageStarted { stage: "tune".into(), key: "k".into() });
        stages.apply(9, &Event::RunFinished { outcome: "stopped".into(), seconds: 1.0, message: String::new() });
        assert_eq!(stages.get("tune").unwrap().state, State::Stopped);
        let started = Event::RunStarted { recipe: "r".into(), device: "d".into(), program: "p".into(), resumed: true };
        stages.apply(10, &started);
        assert_eq!(stages.get("tune").unwrap().state, State::Waiting);
        stages.apply(11, &done(true));
        let data = stages.get("data").unwrap();
        // A reused stage still says how long it had taken.
        assert_eq!((data.state, data.seconds, data.bytes), (State::Reused, Some(2.5), Some(7)));
    }
}
