//! Examples for whoever watches: how a history was retrieved, what a model read.

use std::collections::HashMap;

use rallrec_events::{Event, HistoryItem, ItemName};

use super::chosen::{Set, Variant};
use super::stages::data::DataOutput;
use super::stages::prompts::PromptRow;
use super::stages::retrieve::Shown;
use crate::data::{ItemIdx, Rated};
use crate::monitor::Monitor;
use crate::retrieval::Embedding;

/// Test rows whose retrieval is reported.
const RETRIEVALS: usize = 48;
/// Longest history that is reported whole, items; of a longer one the newest.
const HISTORY: usize = 100;
/// Prompts whose text is reported.
pub const PROMPTS: usize = 256;
/// Bytes of a prompt that are reported.
const TEXT: usize = 8000;

fn name(data: DataOutput<'_>, item: ItemIdx) -> ItemName {
    let item = &data.dataset.items[item.at()];
    ItemName { id: item.raw.0.clone(), title: item.title.clone(), genres: item.genres.clone() }
}

/// The first test rows: similarity parts, retrieved order, order in the prompt.
pub fn report_retrieval(monitor: &dyn Monitor, embedding: Embedding, data: DataOutput<'_>, shown: &[Shown]) {
    let own = |s: &&Shown| s.request.set == Set::Test && s.request.variant == Variant::Main;
    let rows = shown.iter().filter(own).take(RETRIEVALS);
    for shown in rows {
        let sample = data.sample(shown.request.row);
        let history = data.history_at(shown.request.row, shown.request.at);
        // An item that was rated twice stands where it was rated last, as retrieval counts it.
        let same = |a: &Rated, b: &Rated| a.item == b.item && a.time == b.time;
        let place = |p: u32| shown.items.iter().position(|s| history.get(p as usize).is_some_and(|h| same(h, s)));
        let retrieved: HashMap<u32, usize> = shown.retrieved.iter().enumerate().map(|(n, r)| (r.position, n)).collect();
        let from = history.len().saturating_sub(HISTORY);
        let reported = history.iter().enumerate().filter(|(p, _)| *p >= from || retrieved.contains_key(&(*p as u32)));
        let history: Vec<HistoryItem> = reported
            .map(|(p, rated)| {
                let order = retrieved.get(&(p as u32)).copied();
                let found = order.and_then(|n| shown.retrieved.get(n));
                HistoryItem {
                    item: name(data, rated.item),
                    position: p as u32,
                    rating: f64::from(rated.rating),
                    retrieved: order.map(|n| n as u32 + 1),
                    shown: place(p as u32).map(|n| n as u32 + 1),
                    similarity: found.map(|f| f64::from(f.similarity)),
                    text: found.and_then(|f| f.parts.text).map(f64::from),
                    collaborative: found.and_then(|f| f.parts.colla).map(f64::from),
                    aligned: found.and_then(|f| f.parts.ssl).map(f64::from),
                }
            })
            .collect();
        monitor.emit(Event::RetrievalExample {
            row: shown.request.row as u64,
            target: name(data, sample.item),
            label: Some(sample.label),
            embedding: serde_json::to_value(embedding)
                .ok()
                .and_then(|v| v.as_str().map(str::to_string))
                .unwrap_or_default(),
            history,
        });
    }
}

/// What the reasoning model reads about one row.
pub fn report_prompt(monitor: &dyn Monitor, data: DataOutput<'_>, row: &PromptRow, text: &str, hint: &str) {
    let cut = (0..=TEXT.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    monitor.emit(Event::PromptExample {
        row: row.row as u64,
        set: row.set.name().into(),
        label: Some(row.label),
        target: name(data, data.sample(row.row).item),
        prompt: text[..cut].to_string(),
        hint: hint.trim().to_string(),
    });
}
