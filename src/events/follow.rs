//! Tail and view of one run folder in one.

use std::path::Path;

use crate::folder::RunFolder;
use crate::tail::{Item, Polled, Tail};
use crate::view::RunView;

/// One run folder that is followed: its events while they grow, folded into a view.
#[derive(Debug)]
pub struct Follow {
    /// The folder.
    pub folder: RunFolder,
    /// Its events.
    pub tail: Tail,
    /// What they come to.
    pub view: RunView,
}

impl Follow {
    /// Follows a run folder, which need not be there yet.
    pub fn new(folder: &Path) -> Self {
        let folder = RunFolder::new(folder);
        let tail = Tail::new(&folder.events());
        Self { folder, tail, view: RunView::new() }
    }

    /// Reads what is new, a bounded piece of it.
    pub fn poll(&mut self) -> Polled {
        let view = &mut self.view;
        self.tail.poll(|item| match item {
            Item::Restarted => *view = RunView::new(),
            Item::Sampled(sampled) => view.sampled = Some(sampled),
            Item::Record(record) => view.apply(&record),
        })
    }

    /// Reads everything that is there.
    pub fn catch_up(&mut self) {
        while self.poll().more {}
    }
}
