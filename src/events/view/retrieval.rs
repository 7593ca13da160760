//! Retrieval: where the scatter lies, and examples.

use std::collections::VecDeque;

use serde::Serialize;

use super::bounded::{Footprint, NAME, cut, push};
use super::prompts::bounded_item;
use crate::event::Event;
use crate::parts::{HistoryItem, ItemName};

/// Examples that are kept.
const EXAMPLES: usize = 128;
/// History items of one that are kept.
const HISTORY: usize = 128;

/// One target with its history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// Index of the sample.
    pub row: u64,
    /// The target.
    pub target: ItemName,
    /// Whether the user liked it.
    pub label: Option<bool>,
    /// Embedding that the similarity is of.
    pub embedding: String,
    /// History items, oldest first.
    pub history: Vec<HistoryItem>,
}

impl Example {
    /// The retrieved items, nearest first.
    pub fn retrieved(&self) -> Vec<&HistoryItem> {
        let mut items: Vec<_> = self.history.iter().filter(|h| h.retrieved.is_some()).collect();
        items.sort_by_key(|h| h.retrieved);
        items
    }

    /// The items of the prompt, in its order.
    pub fn shown(&self) -> Vec<&HistoryItem> {
        let mut items: Vec<_> = self.history.iter().filter(|h| h.shown.is_some()).collect();
        items.sort_by_key(|h| h.shown);
        items
    }
}

/// The embeddings' scatter and the latest examples of retrieval.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Retrieval {
    /// File of the scatter inside the run folder, see [`crate::scatter`].
    pub scatter: Option<String>,
    /// Times that it was written.
    pub scatter_version: u64,
    /// The latest examples.
    pub examples: VecDeque<Example>,
}

impl Retrieval {
    /// The example of a row.
    pub fn get(&self, row: u64) -> Option<&Example> {
        self.examples.iter().find(|e| e.row == row)
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Scatter { file, .. } => {
                self.scatter = Some(cut(file, NAME));
                self.scatter_version += 1;
            }
            Event::RetrievalExample { row, target, label, embedding, history } => {
                self.examples.retain(|e| e.row != *row);
                // Of a very long history the retrieved and shown items matter most.
                let chosen = |h: &&HistoryItem| h.retrieved.is_some() || h.shown.is_some();
                let mut kept: Vec<&HistoryItem> = history.iter().filter(chosen).take(HISTORY).collect();
                let rest = HISTORY - kept.len();
                kept.extend(history.iter().rev().filter(|h| !chosen(h)).take(rest));
                kept.sort_by_key(|h| h.position);
                let history =
                    kept.into_iter().map(|h| HistoryItem { item: bounded_item(&h.item), ..h.clone() }).collect();
                let (target, embedding) = (bounded_item(target), cut(embedding, NAME));
                push(&mut self.examples, EXAMPLES, Example { row: *row, target, label: *label, embedding, history });
            }
            _ => {}
        }
    }
}

impl Footprint for HistoryItem {
    fn held(&self) -> usize {
        self.item.held()
    }
}

impl Footprint for Example {
    fn held(&self) -> usize {
        self.target.held() + self.embedding.held() + self.history.held()
    }
}

impl Footprint for Retrieval {
    fn held(&self) -> usize {
        self.scatter.held() + self.examples.held()
    }
}
