//! Every single call, for a trace file: what a timeline viewer needs and a table of sums does not
//! tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::{Place, TABLES, held};
use crate::tensor::Cost;

static ON: AtomicBool = AtomicBool::new(false);

/// One call.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Operator or kernel.
    pub name: &'static str,
    /// Where it ran.
    pub place: Place,
    /// When it began. A GPU's launches begin when they are put on its stream, and are waited for.
    pub began: Instant,
    /// How long it took.
    pub seconds: f64,
    /// Least bytes and operations.
    pub cost: Cost,
}

/// Keeps calls, or does not any more; only calls that are timed can be kept (see
/// [`super::switch`]).
pub fn switch(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// Whether calls are kept.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Takes the calls since the last time, each with a number that stands for its thread. Whoever
/// switches this on must take them often: nothing bounds them.
pub fn take() -> Vec<(usize, Span)> {
    let tables = held(&TABLES);
    let of = |table: &Arc<super::Table>| {
        let thread = Arc::as_ptr(table) as usize;
        std::mem::take(&mut held(table).spans).into_iter().map(move |span| (thread, span))
    };
    tables.iter().flat_map(of).collect()
}
