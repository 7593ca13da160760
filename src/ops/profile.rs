//! Time and work of operators while a run goes: off it costs one relaxed load a call, on a clock and a table entry.
//!
//! Every public entry of an operator begins with `let _timed = timed("name", || cost);`. An operator that calls others
//! on its thread counts whole and they do not, so that times add up to no more than the wall time of each calling
//! thread.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::Cost;

static ON: AtomicBool = AtomicBool::new(false);
static TABLE: Mutex<BTreeMap<&'static str, Tally>> = Mutex::new(BTreeMap::new());

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Calls of one operator.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// Calls.
    pub calls: u64,
    /// Seconds inside, summed over the calling threads.
    pub seconds: f64,
    /// Least bytes and operations.
    pub cost: Cost,
}

/// Switches timing on or off for the whole process.
pub fn switch(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// Whether calls are timed.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Takes what was counted since the last time.
pub fn take() -> BTreeMap<&'static str, Tally> {
    std::mem::take(&mut *table())
}

fn table() -> std::sync::MutexGuard<'static, BTreeMap<&'static str, Tally>> {
    match TABLE.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

/// A call that is being timed; ends when it is dropped.
pub struct Timed {
    name: &'static str,
    cost: Cost,
    began: Instant,
}

/// Begins a call of an operator; `cost` is asked only while timing is on, and must not panic on any shape.
#[inline]
pub fn timed(name: &'static str, cost: impl FnOnce() -> Cost) -> Option<Timed> {
    if !ON.load(Ordering::Relaxed) || INSIDE.replace(true) {
        return None;
    }
    Some(Timed { name, cost: cost(), began: Instant::now() })
}

impl Drop for Timed {
    fn drop(&mut self) {
        let seconds = self.began.elapsed().as_secs_f64();
        INSIDE.set(false);
        let mut table = table();
        let tally = table.entry(self.name).or_default();
        tally.calls += 1;
        tally.seconds += seconds;
        tally.cost.bytes += self.cost.bytes;
        tally.cost.flops += self.cost.flops;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_while_it_is_on_and_inner_calls_belong_to_the_outer() {
        let call = |name| timed(name, || Cost { bytes: 2.0, flops: 3.0 });
        drop(call("profile_test_off"));
        switch(true);
        for _ in 0..2 {
            let _outer = call("profile_test_outer");
            let _inner = call("profile_test_inner");
        }
        switch(false);
        // Other tests may run operators meanwhile: only the names of this test are looked at.
        let counted = take();
        let outer = counted["profile_test_outer"];
        assert_eq!((outer.calls, outer.cost), (2, Cost { bytes: 4.0, flops: 6.0 }));
        assert!(outer.seconds > 0.0);
        assert!(!counted.contains_key("profile_test_off") && !counted.contains_key("profile_test_inner"));
    }
}
