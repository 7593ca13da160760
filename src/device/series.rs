//! Times of launches that follow each other without a wait. A launch that is timed alone on an idle
//! stream pays for the CPU: the first stamp fires while the launch is still being put together. So
//! work is queued in front, stamps are put between launches, and nothing is waited for before the
//! last of them.

use crate::error::Result;

/// A stream that takes work and stamps.
pub(super) trait Stream {
    /// A stamp.
    type Mark;
    /// Queues work that takes long enough for the CPU to get ahead, and leaves nothing of earlier
    /// work in the caches.
    fn fill(&self) -> Result<()>;
    /// Queues a stamp.
    fn mark(&self) -> Result<Self::Mark>;
    /// Waits until a stamp was reached.
    fn wait(&self, mark: &Self::Mark) -> Result<()>;
    /// Seconds from one stamp to another.
    fn between(&self, from: &Self::Mark, to: &Self::Mark) -> Result<f64>;
}

/// Launches whose times are not known yet.
#[derive(Debug)]
pub(super) struct Series<M, W> {
    marks: Vec<(W, M, M)>,
    /// Nothing is queued: at the beginning, and after a copy that was waited for.
    idle: bool,
}

impl<M, W> Series<M, W> {
    pub(super) fn new() -> Self {
        Self { marks: Vec::new(), idle: true }
    }

    /// The stream was waited for.
    pub(super) fn waited(&mut self) {
        self.idle = true;
    }

    /// Queues `launch` between two stamps; `what` comes back with its seconds.
    pub(super) fn around<S: Stream<Mark = M>>(
        &mut self,
        stream: &S,
        what: W,
        launch: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if std::mem::take(&mut self.idle) {
            stream.fill()?;
        }
        let from = stream.mark()?;
        launch()?;
        self.marks.push((what, from, stream.mark()?));
        Ok(())
    }

    /// Waits for the last launch: all, with their seconds.
    pub(super) fn finish<S: Stream<Mark = M>>(self, stream: &S) -> Result<Vec<(W, f64)>> {
        if let Some((_, _, last)) = self.marks.last() {
            stream.wait(last)?;
        }
        let each = self.marks.into_iter();
        each.map(|(what, from, to)| stream.between(&from, &to).map(|seconds| (what, seconds))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Notes what is queued; a stamp is its number in the log.
    #[derive(Default)]
    struct Log(RefCell<Vec<&'static str>>);

    impl Log {
        fn put(&self, what: &'static str) -> usize {
            self.0.borrow_mut().push(what);
            self.0.borrow().len() - 1
        }
    }

    impl Stream for Log {
        type Mark = usize;
        fn fill(&self) -> Result<()> {
            self.put("fill");
            Ok(())
        }
        fn mark(&self) -> Result<usize> {
            Ok(self.put("mark"))
        }
        fn wait(&self, _: &usize) -> Result<()> {
            self.put("wait");
            Ok(())
        }
        fn between(&self, from: &usize, to: &usize) -> Result<f64> {
            assert!(self.0.borrow().contains(&"wait"), "asked before anything was waited for");
            Ok((to - from) as f64)
        }
    }

    fn series(launches: usize, waited_before: &[usize]) -> (Vec<&'static str>, Vec<(usize, f64)>) {
        let (log, mut series) = (Log::default(), Series::new());
        for i in 0..launches {
            if waited_before.contains(&i) {
                log.put("copy that waits");
                series.waited();
            }
            let launch = || {
                log.put("launch");
                Ok(())
            };
            series.around(&log, i, launch).unwrap();
        }
        let times = series.finish(&log).unwrap();
        (log.0.into_inner(), times)
    }

    #[test]
    fn work_is_queued_before_the_first_stamp_and_nothing_waits_between_launches() {
        let (log, times) = series(3, &[]);
        let one = ["mark", "launch", "mark"];
        assert_eq!(log, ["fill"].into_iter().chain(one).chain(one).chain(one).chain(["wait"]).collect::<Vec<_>>());
        assert_eq!(times, [(0, 2.0), (1, 2.0), (2, 2.0)], "each between its own stamps, in order");
    }

    #[test]
    fn the_queue_is_filled_again_behind_a_wait() {
        let (log, times) = series(3, &[2]);
        let wait = log.iter().position(|&w| w == "copy that waits").unwrap();
        assert_eq!(log[wait + 1..wait + 4], ["fill", "mark", "launch"]);
        assert_eq!((times.len(), log.iter().filter(|&&w| w == "fill").count()), (3, 2));
    }

    #[test]
    fn a_series_of_nothing_waits_for_nothing() {
        assert_eq!(series(0, &[]), (Vec::new(), Vec::new()));
    }
}
