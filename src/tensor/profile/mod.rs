//! Time and work of operators and kernel launches while a run goes: off it costs one relaxed load a
//! call, on two looks at the clock and an entry in a table of the calling thread's own. Nothing is
//! shared between threads but once a second, when it is told. [`trace`] keeps every single call
//! besides.
//!
//! Every public entry of an operator begins with `let _timed = timed("name", || cost);`. An
//! operator that calls others on its thread counts whole and they do not, so that times add up to
//! no more than the wall time of each calling thread. Launches count by themselves, under the
//! kernel's name.

pub mod trace;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::tensor::Cost;
use trace::Span;

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

/// Where a call ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// An operator on the CPU.
    Cpu,
    /// A launch on a device (`cuda`, `host`) with this many blocks.
    Kernel {
        /// Name of the device.
        device: &'static str,
        /// Blocks.
        grid: [u32; 3],
    },
}

impl Place {
    /// `cpu`, or the device's name.
    pub fn device(self) -> &'static str {
        match self {
            Place::Cpu => "cpu",
            Place::Kernel { device, .. } => device,
        }
    }

    /// The launch shape in words.
    pub fn shape(self) -> Option<String> {
        match self {
            Place::Cpu => None,
            Place::Kernel { grid: [x, y, z], .. } => Some(format!("grid {x} x {y} x {z}")),
        }
    }
}

/// What one thread counted. Its lock is its own thread's but for the moment in which [`take`] reads
/// it; operators are few, so that a list is searched faster than a tree.
type Table = Mutex<Counted>;

#[derive(Default)]
struct Counted {
    tallies: Vec<((&'static str, Place), Tally)>,
    spans: Vec<Span>,
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

/// Takes what was counted since the last time, by operator and place.
pub fn take() -> BTreeMap<(&'static str, Place), Tally> {
    let mut all = BTreeMap::<_, Tally>::new();
    held(&TABLES).retain(|table| {
        let mut counted = held(table);
        for (what, tally) in counted.tallies.iter_mut().filter(|(_, tally)| tally.calls > 0) {
            all.entry(*what).or_default().add(std::mem::take(tally));
        }
        // Nobody else holds the table of a thread that has ended; what it did may still be asked
        // for by call.
        Arc::strong_count(table) > 1 || !counted.spans.is_empty()
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
        self.cost += other.cost;
    }
}

/// A call that is being timed; ends when it is dropped.
pub struct Timed {
    name: &'static str,
    cost: Cost,
    began: Instant,
}

/// Begins a call of an operator; `cost` is asked only while timing is on, and must not panic on any
/// shape.
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
        count(Span { name: self.name, place: Place::Cpu, began: self.began, seconds, cost: self.cost });
    }
}

/// A launch that took `seconds`; nothing is counted while timing is off.
pub(crate) fn launched(name: &'static str, place: Place, began: Instant, seconds: f64, cost: Cost) {
    if is_on() {
        count(Span { name, place, began, seconds, cost });
    }
}

fn count(span: Span) {
    let call = Tally { calls: 1, seconds: span.seconds, cost: span.cost };
    let what = (span.name, span.place);
    // A thread whose own data is gone already is ending: it calls no operators.
    let _ = OWN.try_with(|own| {
        let mut counted = held(own);
        match counted.tallies.iter_mut().find(|(known, _)| *known == what) {
            Some((_, tally)) => tally.add(call),
            None => counted.tallies.push((what, call)),
        }
        if trace::is_on() {
            counted.spans.push(span);
        }
    });
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
        let outer = counted[&("profile_test_outer", Place::Cpu)];
        assert_eq!((outer.calls, outer.cost), (2, Cost { bytes: 4.0, flops: 6.0 }));
        assert!(outer.seconds > 0.0);
        let has = |counted: &BTreeMap<(&str, Place), Tally>, name| counted.contains_key(&(name, Place::Cpu));
        assert!(!has(&counted, "profile_test_off") && !has(&counted, "profile_test_inner"));
        assert!(!has(&take(), "profile_test_outer"), "it is told once");
        every_call_is_kept_while_traced();
        threads_are_summed_also_those_that_have_ended();
    }

    // Not tests of their own: timing is switched for the whole process.
    fn every_call_is_kept_while_traced() {
        let cost = Cost { bytes: 8.0, flops: 0.0 };
        let place = Place::Kernel { device: "host", grid: [3, 2, 1] };
        let launch = || launched("profile_test_trace", place, Instant::now(), 0.5, cost);
        launch();
        switch(true);
        launch();
        trace::switch(true);
        std::thread::scope(|scope| {
            scope.spawn(launch);
        });
        launch();
        trace::switch(false);
        switch(false);
        assert_eq!(
            take()[&("profile_test_trace", place)],
            Tally { calls: 3, seconds: 1.5, cost: Cost { bytes: 24.0, flops: 0.0 } }
        );
        let spans = trace::take();
        let mine: Vec<_> = spans.iter().filter(|(_, s)| s.name == "profile_test_trace").collect();
        assert_eq!(mine.len(), 2);
        assert_ne!(mine[0].0, mine[1].0, "each thread has its own line");
        assert!(mine.iter().all(|(_, s)| s.place.shape().as_deref() == Some("grid 3 x 2 x 1") && s.cost == cost));
        assert!(!trace::take().iter().any(|(_, s)| s.name == "profile_test_trace"), "it is told once");
    }

    fn threads_are_summed_also_those_that_have_ended() {
        switch(true);
        let call = || drop(timed("profile_test_threads", || Cost { bytes: 1.0, flops: 0.5 }));
        // Joined one by one: the end of a scope waits for what its threads do, not for the end of
        // their own data.
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| (0..5).for_each(|_| call()))).collect();
            threads.into_iter().for_each(|thread| thread.join().expect("it counts"));
        });
        call();
        switch(false);
        let tally = take()[&("profile_test_threads", Place::Cpu)];
        assert_eq!((tally.calls, tally.cost), (16, Cost { bytes: 16.0, flops: 8.0 }));
        let left =
            held(&TABLES).iter().filter(|t| held(t).tallies.iter().any(|r| r.0.0 == "profile_test_threads")).count();
        assert_eq!(left, 1, "tables of threads that have ended stay");
    }
}
