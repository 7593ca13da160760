//! The loop of decoding, wherever the steps are done: rows in flight take one token a step; a
//! finished row leaves, a waiting one takes its place.

use super::{Finish, GenerateSettings, Listener, Sample};
use crate::error::Result;
use crate::monitor::Monitor;

/// An answer in the making.
pub(crate) trait InFlight {
    /// The prompt's row, and which of its samples.
    fn name(&self) -> (u32, u32);
    /// The answer so far; before [`Flow::step`] and behind it the last token is fresh.
    fn tokens(&mut self) -> &mut Vec<u32>;
}

/// What does the steps.
pub(crate) trait Flow {
    /// An answer in the making.
    type Row: InFlight;
    /// Fills free places with new samples, each with its first token.
    fn admit(&mut self, rows: &mut Vec<Self::Row>) -> Result<()>;
    /// Whether the row's freshest token ends it.
    fn finish(&self, row: &Self::Row) -> Option<Finish>;
    /// A row has ended.
    fn leave(&mut self, _row: &Self::Row) {}
    /// One more token for every row.
    fn step(&mut self, rows: &mut [Self::Row]) -> Result<()>;
}

/// Why an answer of these `tokens` behind a prompt of `before` ends, if it does.
pub(crate) fn finish(
    tokens: &[u32],
    before: usize,
    context: usize,
    stop: &[u32],
    settings: &GenerateSettings,
) -> Option<Finish> {
    let last = tokens.last()?;
    if stop.contains(last) {
        Some(Finish::Stop)
    } else if settings.ends.contains(last) {
        Some(Finish::Said)
    } else if tokens.len() >= settings.max_new_tokens {
        Some(Finish::Length)
    } else if before + tokens.len() >= context {
        Some(Finish::Context)
    } else {
        None
    }
}

/// Runs until no row is left. `total` answers are expected, for the progress.
pub(crate) fn run(flow: &mut impl Flow, total: u64, monitor: &dyn Monitor, listener: &mut dyn Listener) -> Result<()> {
    let (mut rows, mut done) = (Vec::new(), 0);
    loop {
        monitor.check()?;
        flow.admit(&mut rows)?;
        if rows.is_empty() {
            return Ok(());
        }
        // Every row carries a fresh token: hear of it, and see whether it was the last.
        let mut live = Vec::with_capacity(rows.len());
        for mut row in rows.drain(..) {
            let (finish, (number, sample)) = (flow.finish(&row), row.name());
            if finish != Some(Finish::Stop)
                && let Some(&token) = row.tokens().last()
            {
                listener.token(number, sample, token)?;
            }
            let Some(finish) = finish else {
                live.push(row);
                continue;
            };
            flow.leave(&row);
            let mut tokens = std::mem::take(row.tokens());
            if finish == Finish::Stop {
                tokens.pop();
            }
            listener.finished(Sample { row: number, sample, tokens, finish })?;
            done += 1;
            monitor.progress(done, total, "samples");
        }
        rows = live;
        flow.step(&mut rows)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_ends_an_answer_belongs_to_it_and_a_stop_token_does_not() {
        let settings = GenerateSettings { ends: vec![7], max_new_tokens: 4, ..GenerateSettings::default() };
        let of = |tokens: &[u32]| finish(tokens, 10, 100, &[2], &settings);
        assert_eq!(of(&[5, 7]), Some(Finish::Said));
        assert_eq!(of(&[7, 5]), None, "the last token counts");
        assert_eq!(of(&[5, 2]), Some(Finish::Stop));
        assert_eq!(of(&[1, 1, 1, 1]), Some(Finish::Length));
        assert_eq!(finish(&[7], 10, 100, &[7], &settings), Some(Finish::Stop), "the model's own stop comes first");
    }
}
