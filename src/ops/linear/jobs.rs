//! Products in parallel: their outputs are cut into whole panels, which threads take as they become
//! free.

use std::ops::Range;

use rayon::prelude::*;

/// Jobs a thread, so that a thread that was held up does not hold up the rest.
const JOBS: usize = 6;

/// Runs `work` on all outputs of all tasks; `outputs` says how many a task has. With `serial` on
/// this thread, a task at a time. Where the cuts are depends on the number of threads; they lie
/// between panels, so that no output's bits depend on them.
pub(super) fn run<T: Sync>(
    tasks: &[T],
    outputs: impl Fn(&T) -> usize,
    panel: usize,
    serial: bool,
    work: impl Fn(&T, Range<usize>) + Sync,
) {
    let total: usize = tasks.iter().map(&outputs).sum();
    let threads = if serial { 1 } else { rayon::current_num_threads() };
    let grain = if threads == 1 { total.max(1) } else { (total / (threads * JOBS)).next_multiple_of(panel).max(panel) };
    let mut jobs = Vec::new();
    for task in tasks {
        let count = outputs(task);
        jobs.extend((0..count).step_by(grain).map(|from| (task, from..(from + grain).min(count))));
    }
    if threads == 1 || jobs.len() == 1 {
        jobs.into_iter().for_each(|(task, span)| work(task, span));
    } else {
        jobs.into_par_iter().with_max_len(1).for_each(|(task, span)| work(task, span));
    }
}
