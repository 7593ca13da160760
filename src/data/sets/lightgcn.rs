//! The split that LightGCN and its kin publish (Gowalla, Yelp2018, Amazon-Book): `train.txt` and
//! `test.txt`, a line a user, `user item item ...`. There are no ratings, times, titles or
//! profiles: only the graph stages make sense.

use super::fields::{shown, unsigned};
use super::{LeftOut, Log};
use crate::data::lines::Lines;
use crate::data::set::DataSet;
use crate::data::source::locate;
use crate::data::{DataSettings, Dataset, Part};
use crate::error::Result;
use crate::monitor::Monitor;

/// Longest line, in bytes: a user with every one of some millions of items.
const LONGEST: usize = 32 << 20;

/// The data set.
pub static SET: DataSet = DataSet {
    name: "lightgcn",
    about: "LightGCN's split: train.txt, test.txt; for the graph stages only",
    files: &["train.txt", "test.txt"],
    scale: (1.0, 1.0),
    threshold: 0.0,
    has_times: false,
    graph_only: true,
    switches: &[],
    load,
    ..DataSet::PLAIN
};

fn load(set: &DataSet, settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    set.require(&settings.path)?;
    let mut log = Log::default();
    let train = locate(&settings.path, "train.txt");
    let mut left_out = LeftOut::new(settings, false);
    for (part, file) in [(Part::Train, &train), (Part::Test, &locate(&settings.path, "test.txt"))] {
        log.part = Some(part);
        let mut lines = Lines::open(file)?.up_to(LONGEST);
        let mut rows = 0u64;
        while lines.advance()? {
            let mut ids = lines.line().split(|b| *b == b' ' || *b == b'\t').filter(|id| !id.is_empty());
            let Some(user) = ids.next() else { continue };
            if let Some(id) = std::iter::once(user).chain(ids.clone()).find(|id| unsigned(id).is_none()) {
                left_out.take(Err(lines
                    .error(format!("{} is not a number", shown(id)))
                    .next("each line is `user item item ...`, numbers from 0: compare it with the original")))?;
                continue;
            }
            left_out.take(Ok(()))?;
            for item in ids {
                log.add(&lines, user, item, 1.0, 0)?;
                rows += 1;
                if rows.is_multiple_of(65_536) {
                    lines.report(monitor)?;
                }
            }
        }
    }
    left_out.tell(&train, monitor)?;
    log.finish(&set.nature(), Vec::new(), Vec::new(), &train, monitor)
}
