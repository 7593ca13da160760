//! Sampled answers: rows of several prompts take a token a step side by side; a finished row leaves, a waiting one takes its
//! place, as in [`crate::generate::generate`].
//!
//! ```text
//! cache rows | prompt 3 | prompt 7 | free | prompt 5 | .. | row 0: its answer | row 1 | .. | row max_rows - 1 |
//! ```
//!
//! A prompt's keys stand once, whatever the number of its samples, until the last of them ends.

use std::collections::VecDeque;
use std::ops::Range;

use super::choose::{Chooser, Row};
use super::pass::{Cache, Rows, Texts, Wanted};
use super::room::Room;
use super::step::Steps;
use super::{Counted, DeviceModel};
use crate::device::{DeviceRows, Storage};
use crate::error::Result;
use crate::generate::flow::{self, Flow};
use crate::generate::{Finish, Listener, Prompt, Settings};
use crate::monitor::Monitor;
use crate::ops::attention::decode;
use crate::ops::copy::{Places, gather};

/// Prompt tokens read in one pass, unless a single prompt is longer.
const PREFILL: usize = 2048;

/// Prompts that were read together, with samples that have not begun.
struct Ready {
    /// Behind the prompts' last tokens.
    logits: DeviceRows<f32>,
    /// (row of the logits, index of the prompt, sample).
    samples: VecDeque<(u32, usize, u32)>,
}

struct Rolling<'a, T: Storage> {
    monitor: &'a dyn Monitor,
    model: &'a DeviceModel<T>,
    prompts: &'a [&'a Prompt],
    stop: &'a [u32],
    settings: &'a Settings,
    chooser: Chooser<'a, T>,
    steps: Steps<T>,
    cache: Cache<T>,
    room: Room,
    /// First cache row of answers, and rows of one answer.
    answers: (usize, usize),
    /// Places for answers that nobody has.
    slots: Vec<usize>,
    /// The next prompt to be read.
    next: usize,
    /// By prompt: where its keys are, and how many of its samples have not ended.
    keys: Vec<Range<usize>>,
    left: Vec<usize>,
    ready: Option<Ready>,
}

impl<T: Storage> DeviceModel<T> {
    /// As [`crate::generate::generate`]: up to `settings.max_rows` samples of any prompts go side by side, and the next prompts are
    /// read together when places become free. The same tokens, but for a number within rounding of the border between two;
    /// and the same whatever goes beside them. Where memory for `max_rows` answers is not there, half as many go, and so on.
    ///
    /// # Errors
    /// As there; out of memory.
    pub fn generate(
        &self,
        prompts: &[Prompt],
        stop: &[u32],
        settings: &Settings,
        monitor: &dyn Monitor,
        listener: &mut dyn Listener,
    ) -> Result<()> {
        settings.check("sampling")?;
        for prompt in prompts {
            self.check(&prompt.tokens, 1).map_err(|e| e.within(format!("prompt of row {}", prompt.row)))?;
        }
        let prompts: Vec<&Prompt> = prompts.iter().filter(|p| !p.samples.is_empty()).collect();
        let total: u64 = prompts.iter().map(|p| p.samples.len() as u64).sum();
        let mut steps = Rolling::new(self, &prompts, stop, settings, monitor)?;
        flow::run(&mut steps, total, monitor, listener)
    }
}

/// Cache rows for prompts: for twice as many of them as it takes to have `rows` samples on their way, since their samples do
/// not end in order; at least the longest.
fn prompt_rows(prompts: &[&Prompt], rows: usize) -> usize {
    let lengths = || prompts.iter().map(|p| p.tokens.len());
    let run = |from: usize| {
        let mut samples = 0;
        let needed = prompts[from..].iter().take_while(|p| {
            let open = samples < rows;
            samples += p.samples.len();
            open
        });
        needed.map(|p| p.tokens.len()).sum::<usize>()
    };
    let run = (0..prompts.len()).map(run).max().unwrap_or(0);
    (2 * run).min(lengths().sum()).max(lengths().max().unwrap_or(0))
}

impl<'a, T: Storage> Rolling<'a, T> {
    fn new(
        model: &'a DeviceModel<T>,
        prompts: &'a [&'a Prompt],
        stop: &'a [u32],
        settings: &'a Settings,
        monitor: &'a dyn Monitor,
    ) -> Result<Self> {
        let context = model.config.context;
        let samples: usize = prompts.iter().map(|p| p.samples.len()).sum();
        let most = prompts.iter().map(|p| settings.max_new_tokens.min(context - p.tokens.len())).max().unwrap_or(0);
        let mut rows = settings.max_rows.min(samples);
        let (first, cache) = loop {
            let first = prompt_rows(prompts, rows);
            match model.cache(first + rows * most) {
                Ok(cache) => break (first, cache),
                Err(_) if rows > 1 => rows = rows.div_ceil(2),
                Err(e) => return Err(e),
            }
        };
        Ok(Self {
            monitor,
            model,
            prompts,
            stop,
            settings,
            chooser: Chooser::new(model, stop, settings)?,
            steps: Steps::new(model.recording),
            cache,
            room: Room::new(first),
            answers: (first, most),
            slots: (0..rows).rev().collect(),
            next: 0,
            keys: vec![0..0; prompts.len()],
            left: prompts.iter().map(|p| p.samples.len()).collect(),
            ready: None,
        })
    }

    /// Reads the next prompts in one pass, as many as fill the free places, a pass, or the room for prompts. `None` if there
    /// are none or not one finds room before others end.
    fn read(&mut self) -> Result<Option<Ready>> {
        let (mut texts, mut last, mut samples) = (Texts::default(), Vec::new(), VecDeque::new());
        while let Some(prompt) = self.prompts.get(self.next) {
            let read = texts.rows.tokens.len();
            if read > 0 && (samples.len() >= self.slots.len() || read + prompt.tokens.len() > PREFILL) {
                break;
            }
            let Some(keys) = self.room.take(prompt.tokens.len()) else { break };
            samples.extend(prompt.samples.iter().map(|&sample| (last.len() as u32, self.next, sample)));
            last.push(texts.add(&prompt.tokens, 0..0, keys.start).end as u32 - 1);
            self.keys[self.next] = keys;
            self.next += 1;
        }
        if last.is_empty() {
            return Ok(None);
        }
        self.model.count(Counted::Read);
        let hidden = self.model.read(&texts, &mut self.cache, Wanted::These(&last))?;
        Ok(Some(Ready { logits: self.chooser.first(&hidden)?, samples }))
    }
}

impl<T: Storage> Flow for Rolling<'_, T> {
    type Row = Row;

    fn admit(&mut self, rows: &mut Vec<Row>) -> Result<()> {
        while !self.slots.is_empty() {
            let ready = match self.ready.take().filter(|ready| !ready.samples.is_empty()) {
                Some(ready) => Some(ready),
                None => self.read()?,
            };
            let Some(mut ready) = ready else { return Ok(()) };
            let (mut new, mut places) = (Vec::new(), Vec::new());
            while !ready.samples.is_empty()
                && let Some(slot) = self.slots.pop()
                && let Some((place, prompt, sample)) = ready.samples.pop_front()
            {
                places.push(place);
                new.push(Row { prompt, row: self.prompts[prompt].row, sample, slot, tokens: Vec::new() });
            }
            // The first tokens of a prompt's samples are drawn from the same logits.
            let device = &self.model.device;
            let mut logits = DeviceRows::zeros(device, places.len(), ready.logits.dim(), "logits")?;
            gather(&ready.logits, &Places::upload(device, &places)?, &mut logits)?;
            self.chooser.draw(&mut new, &logits)?;
            rows.append(&mut new);
            self.ready = Some(ready);
        }
        Ok(())
    }

    fn finish(&self, row: &Row) -> Option<Finish> {
        let before = self.prompts[row.prompt].tokens.len();
        flow::finish(&row.tokens, before, self.model.config.context, self.stop, self.settings)
    }

    /// A row has ended: others may have its place, and its prompt's if it was the last of it.
    fn leave(&mut self, row: &Row) {
        self.slots.push(row.slot);
        self.left[row.prompt] -= 1;
        if self.left[row.prompt] == 0 {
            self.room.give_back(&self.keys[row.prompt]);
        }
    }

    fn step(&mut self, rows: &mut [Row]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (first, most) = self.answers;
        let mut new = Rows::default();
        for row in rows.iter() {
            // The newest token's place behind its prompt.
            let at = row.tokens.len() - 1;
            new.tokens.extend(row.tokens.last());
            new.positions.push((self.prompts[row.prompt].tokens.len() + at) as u32);
            new.places.push((first + row.slot * most + at) as u32);
        }
        let own = |row: &Row| {
            let begin = first + row.slot * most;
            begin..begin + row.tokens.len()
        };
        // Rows came in the order of their prompts, and stay in it.
        let prompts: Vec<decode::Prompt> = rows
            .chunk_by(|a, b| a.prompt == b.prompt)
            .map(|same| decode::Prompt {
                prefix: self.keys[same[0].prompt].clone(),
                own: same.iter().map(own).collect(),
            })
            .collect();
        let step = self.steps.run(self.model, &mut self.cache, &new, &prompts)?;
        self.chooser.forbid(rows, &step.hidden, &mut step.logits)?;
        self.chooser.draw(rows, &step.logits)?;
        if let Some(why) = self.steps.failed.take() {
            let what = format!("a step of decoding cannot be recorded: {why}");
            self.monitor.warn(&what, "it goes on, a launch at a time; RALLREC_NO_RECORDING=1 does not try");
        }
        Ok(())
    }
}
