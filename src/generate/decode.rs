//! Sampled answers: rows of several prompts take a token a step side by side; a finished row
//! leaves, a waiting one takes its place.
//!
//! ```text
//! cache rows | prompt 3 | prompt 7 | free | .. | answers: row 0 | row 1 | .. | row max_rows - 1
//! ```
//!
//! A prompt's keys stand once, whatever the number of its samples, until the last of them ends. On
//! the CPU a prompt that begins like the one before it goes on behind that one's keys.

use std::collections::VecDeque;
use std::ops::Range;

use super::choose::{Chooser, Row};
use super::flow::{self, Flow};
use super::step::Steps;
use super::{Finish, GenerateSettings, Listener, Prompt};
use crate::device::{Device, Rows};
use crate::error::{Error, Result};
use crate::models::decoder::cache::{RowAllocator, aligned};
use crate::models::decoder::model::Counted;
use crate::models::decoder::{Cache, Model, Texts, Wanted};
use crate::monitor::Monitor;
use crate::ops::rows::{RowNumbers, gather_rows};
use crate::tensor::Dtype;

/// Prompt tokens read in one pass, unless a single prompt is longer: on the CPU, and on kernels.
const PREFILL: [usize; 2] = [1024, 2048];
/// Tokens of a long prompt that are read at a time on the CPU: what a pass holds beside the cache
/// grows with its rows.
const PIECE: usize = 512;
/// A common beginning shorter than this is not worth reading alone.
const COMMON: usize = 32;

/// Prompts that were read together, with samples that have not begun.
struct Ready {
    /// Behind the prompts' last tokens.
    logits: Rows,
    /// (row of the logits, index of the prompt, sample).
    samples: VecDeque<(u32, usize, u32)>,
}

/// A prompt's keys: ranges of cache rows, oldest first, each the beginning of one that the
/// allocator gave out.
type KeyRanges = Vec<Range<usize>>;

struct Rolling<'a> {
    monitor: &'a dyn Monitor,
    model: &'a Model,
    prompts: &'a [&'a Prompt],
    stop: &'a [u32],
    settings: &'a GenerateSettings,
    chooser: Chooser<'a>,
    steps: Steps,
    cache: Cache,
    rows: RowAllocator,
    /// First cache row of answers, and rows of one answer.
    answers: (usize, usize),
    /// Places for answers that nobody has.
    slots: Vec<usize>,
    /// The next prompt to be read.
    next: usize,
    /// By prompt: its keys, and how many of its samples have not ended.
    keys: Vec<KeyRanges>,
    left: Vec<usize>,
    ready: Option<Ready>,
    /// The prompt read last, and its keys, for others that begin alike; on the CPU, where past keys
    /// may be several ranges.
    before: Option<(usize, KeyRanges)>,
    shares: bool,
}

/// Generates all samples of all prompts: up to `settings.max_rows` samples of any prompts go side
/// by side, and the next prompts are read together when places become free. `stop` are the tokens
/// that end an answer (`Config::eos`, as a rule). `listener` hears tokens and answers; progress
/// counts answers. A stop request ends it between two steps, with the answers in flight lost and
/// the finished ones delivered. Where memory for `max_rows` answers is not there, half as many go,
/// and so on.
///
/// # Errors
/// Settings out of range; a prompt that the model cannot read, or that leaves no room in its
/// context; logits that no token can be drawn from; what the listener says; a stop that was asked
/// for; out of memory.
pub fn generate(
    model: &Model,
    prompts: &[Prompt],
    stop: &[u32],
    settings: &GenerateSettings,
    monitor: &dyn Monitor,
    listener: &mut dyn Listener,
) -> Result<()> {
    settings.check("sampling")?;
    let context = model.config().context;
    for prompt in prompts {
        let place = || format!("prompt of row {}", prompt.row);
        model.check(&prompt.tokens, 0, place)?;
        if prompt.tokens.len() >= context {
            let what = format!("{} tokens leave no room in the model's context of {context}", prompt.tokens.len());
            return Err(Error::input(place(), what).next("shorten the prompt: show fewer history items"));
        }
    }
    let prompts: Vec<&Prompt> = prompts.iter().filter(|p| !p.samples.is_empty()).collect();
    let total: u64 = prompts.iter().map(|p| p.samples.len() as u64).sum();
    let mut rolling = Rolling::new(model, &prompts, stop, settings, monitor)?;
    flow::run(&mut rolling, total, monitor, listener)
}

/// Cache rows for prompts: for twice as many of them as it takes to have `rows` samples on their
/// way, since their samples do not end in order; at least the longest.
fn prompt_rows(prompts: &[&Prompt], rows: usize) -> usize {
    let lengths = || prompts.iter().map(|p| aligned(p.tokens.len()));
    let run = |from: usize| {
        let mut samples = 0;
        let needed = prompts[from..].iter().take_while(|p| {
            let open = samples < rows;
            samples += p.samples.len();
            open
        });
        needed.map(|p| aligned(p.tokens.len())).sum::<usize>()
    };
    let run = (0..prompts.len()).map(run).max().unwrap_or(0);
    (2 * run).min(lengths().sum()).max(lengths().max().unwrap_or(0))
}

/// How many first tokens of `next` may be taken over from `seen`: the last token is always read,
/// for its logits.
fn common(seen: &[u32], next: &[u32]) -> usize {
    let alike = seen.iter().zip(next).take_while(|(a, b)| a == b).count();
    let alike = alike.min(next.len().saturating_sub(1));
    if alike >= COMMON { alike } else { 0 }
}

/// The first `len` tokens of keys.
fn first(keys: &[Range<usize>], len: usize) -> KeyRanges {
    let mut left = len;
    let mut out = Vec::new();
    for range in keys {
        let n = left.min(range.len());
        if n == 0 {
            break;
        }
        out.push(range.start..range.start + n);
        left -= n;
    }
    out
}

impl<'a> Rolling<'a> {
    fn new(
        model: &'a Model,
        prompts: &'a [&'a Prompt],
        stop: &'a [u32],
        settings: &'a GenerateSettings,
        monitor: &'a dyn Monitor,
    ) -> Result<Self> {
        let context = model.config().context;
        let samples: usize = prompts.iter().map(|p| p.samples.len()).sum();
        let most = prompts.iter().map(|p| settings.max_new_tokens.min(context - p.tokens.len())).max().unwrap_or(0);
        let most = aligned(most);
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
            steps: Steps::new(model),
            cache,
            rows: RowAllocator::new(first),
            answers: (first, most),
            slots: (0..rows).rev().collect(),
            next: 0,
            keys: vec![Vec::new(); prompts.len()],
            left: prompts.iter().map(|p| p.samples.len()).collect(),
            ready: None,
            before: None,
            shares: matches!(model.device(), Device::Cpu),
        })
    }

    fn give_back(&mut self, keys: &[Range<usize>]) {
        keys.iter().for_each(|range| self.rows.give_back(range));
    }

    /// Gives the keys of the prompt read last back, but for those who hold them besides.
    fn forget_before(&mut self) -> bool {
        match self.before.take() {
            Some((_, keys)) => {
                self.give_back(&keys);
                true
            }
            None => false,
        }
    }

    /// Rows for the next prompt: the keys that it goes on behind, and its own range. `None` until
    /// others end.
    fn place(&mut self, prompt: &Prompt) -> Option<(KeyRanges, Range<usize>)> {
        loop {
            let shared =
                self.before.as_ref().map_or(0, |(seen, _)| common(&self.prompts[*seen].tokens, &prompt.tokens));
            if let Some(rows) = self.rows.take(prompt.tokens.len() - shared) {
                let past = self.before.as_ref().map_or_else(Vec::new, |(_, keys)| first(keys, shared));
                past.iter().for_each(|range| self.rows.share(range));
                return Some((past, rows.start..rows.start + prompt.tokens.len() - shared));
            }
            if !self.forget_before() {
                return None;
            }
        }
    }

    /// Reads the beginning of a long prompt into its place, pieces of it one behind the other, and
    /// leaves at most a piece. Returns how many tokens it has read.
    fn read_ahead(&mut self, tokens: &[u32], past: &[Range<usize>], place: usize) -> Result<usize> {
        let mut done = 0;
        while tokens.len() - done > PIECE {
            let mut texts = Texts::default();
            texts.add(&tokens[done..done + PIECE], past, place, done);
            // The last layer's rows are nobody's; its keys and values are those of all.
            self.model.read(&texts, &mut self.cache, Wanted::These(&[PIECE as u32 - 1]))?;
            done += PIECE;
        }
        Ok(done)
    }

    /// Reads the next prompts in one pass, as many as fill the free places, a pass, or the room for
    /// prompts. `None` if there are none or not one finds room before others end.
    fn read(&mut self) -> Result<Option<Ready>> {
        let (mut texts, mut last, mut samples) = (Texts::default(), Vec::new(), VecDeque::new());
        let begin = self.next;
        let prefill = PREFILL[usize::from(!self.shares)];
        while let Some(&prompt) = self.prompts.get(self.next) {
            let seen = |other: usize| common(&self.prompts[other].tokens, &prompt.tokens);
            let shared = self.before.as_ref().map_or(0, |(before, _)| seen(*before));
            let full = samples.len() >= self.slots.len() || texts.rows() + prompt.tokens.len() - shared > prefill;
            // A prompt that begins like one of this pass waits for it, and then reads its own part
            // only.
            let alike = || self.shares && (begin..self.next).any(|other| seen(other) >= shared + COMMON);
            if texts.rows() > 0 && (full || alike()) {
                break;
            }
            let Some((past, own)) = self.place(prompt) else { break };
            let seen: usize = past.iter().map(Range::len).sum();
            samples.extend(prompt.samples.iter().map(|&sample| (last.len() as u32, self.next, sample)));
            let fresh = &prompt.tokens[seen..];
            let done = if self.shares { self.read_ahead(fresh, &past, own.start)? } else { 0 };
            last.push(texts.add(&fresh[done..], &past, own.start, done).end as u32 - 1);
            self.keys[self.next] = past;
            self.keys[self.next].push(own);
            self.next += 1;
        }
        if last.is_empty() {
            return Ok(None);
        }
        if self.shares {
            let keys = self.keys[self.next - 1].clone();
            keys.iter().for_each(|range| self.rows.share(range));
            self.forget_before();
            self.before = Some((self.next - 1, keys));
        }
        self.model.count(Counted::Read);
        let hidden = self.model.read(&texts, &mut self.cache, Wanted::These(&last))?;
        Ok(Some(Ready { logits: self.model.logits(&hidden)?, samples }))
    }
}

impl Flow for Rolling<'_> {
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
            let device = self.model.device();
            let mut logits = Rows::unwritten(device, Dtype::F32, places.len(), ready.logits.dim(), "logits")?;
            gather_rows(&ready.logits, &RowNumbers::upload(device, &places)?, &mut logits)?;
            self.chooser.draw(&mut new, &mut logits)?;
            rows.append(&mut new);
            self.ready = Some(ready);
        }
        Ok(())
    }

    fn finish(&self, row: &Row) -> Option<Finish> {
        let before = self.prompts[row.prompt].tokens.len();
        flow::finish(&row.tokens, before, self.model.config().context, self.stop, self.settings)
    }

    /// A row has ended: others may have its place, and its prompt's if it was the last of it.
    fn leave(&mut self, row: &Row) {
        self.slots.push(row.slot);
        self.left[row.prompt] -= 1;
        if self.left[row.prompt] == 0 {
            let keys = std::mem::take(&mut self.keys[row.prompt]);
            self.give_back(&keys);
        }
    }

    fn step(&mut self, rows: &mut [Row]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (first, most) = self.answers;
        let mut new = Texts::default();
        // Rows came in the order of their prompts, and stay in it.
        for row in rows.iter() {
            // The newest token's place behind its prompt.
            let newest = row.tokens.len() - 1;
            new.add(&row.tokens[newest..], &self.keys[row.prompt], first + row.slot * most, newest);
        }
        let step = self.steps.run(self.model, &mut self.cache, &new)?;
        self.chooser.draw(rows, &mut step.logits)?;
        if let Some(why) = self.steps.failed.take() {
            let what = format!("a step of decoding cannot be recorded: {why}");
            self.monitor.warn(&what, "it goes on, a launch at a time; RALLREC_NO_RECORDING=1 does not try");
        }
        Ok(())
    }
}
