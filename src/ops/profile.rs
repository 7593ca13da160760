//! Time and work of operators while a run goes: off it costs one relaxed load a call, on two looks at the clock and an
//! entry in a table of the calling thread's own. Nothing is shared between threads but once a second, when it is told.
//!
//! Every public entry of an operator begins with `let _timed = timed("name", || cost);`. An operator that calls others
//! on its thread counts whole and they do not, so that times add up to no more than the wall time of each calling
//! thread.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Cost;

static ON: AtomicBool = AtomicBool::new(false);
/// The tables of all threads that have called an operator.
static TABLES: Mutex<Vec<Arc<Table>>> = Mutex::new(Vec::new());

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static OWN: Arc<Table> = {
        let own = Arc::<Table>::default();
        held(&TABLES).push(own.clone());
        own
    };
}

/// What one thread counted. Its lock is its own thread's but for the moment in which [`take`] reads it; operators are
/// few, so that a list is searched faster than a tree.
type Table = Mutex<Vec<(&'static str, Tally)>>;

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
    let mut all = BTreeMap::<_, Tally>::new();
    held(&TABLES).retain(|table| {
        for (name, tally) in held(table).iter_mut().filter(|(_, tally)| tally.calls > 0) {
            all.entry(*name).or_default().add(std::mem::take(tally));
        }
        // Nobody else holds the table of a thread that has ended.
        Arc::strong_count(table) > 1
    });
    all
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.seconds += other.seconds;
        self.cost.bytes += other.cost.bytes;
        self.cost.flops += other.cost.flops;
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
        let call = Tally { calls: 1, seconds, cost: self.cost };
        // A thread whose own data is gone already is ending: it calls no operators.
        let _ = OWN.try_with(|own| {
            let mut table = held(own);
            match table.iter_mut().find(|(name, _)| *name == self.name) {
                Some((_, tally)) => tally.add(call),
                None => table.push((self.name, call)),
            }
        });
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
        assert!(!take().contains_key("profile_test_outer"), "it is told once");
        threads_are_summed_also_those_that_have_ended();
    }

    // Not a test of its own: timing is switched for the whole process.
    fn threads_are_summed_also_those_that_have_ended() {
        switch(true);
        let call = || drop(timed("profile_test_threads", || Cost { bytes: 1.0, flops: 0.5 }));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..5).for_each(|_| call()));
            }
        });
        call();
        switch(false);
        let tally = take()["profile_test_threads"];
        assert_eq!((tally.calls, tally.cost), (16, Cost { bytes: 16.0, flops: 8.0 }));
        let left = held(&TABLES).iter().filter(|t| held(t).iter().any(|r| r.0 == "profile_test_threads")).count();
        assert_eq!(left, 1, "tables of threads that have ended stay");
    }
}
