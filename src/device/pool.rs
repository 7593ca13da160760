//! Who holds how much device memory. On a GPU, freed memory is kept for the next buffer of its size
//! class, up to a cap: asking the driver takes longer than most kernels. On the host each buffer is
//! its own, so that a page of no access follows it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cuda::Cuda;
use super::kernel::Backend;
use super::shelf::{Shelf, room};
use crate::error::{Error, Result};

/// What a buffer holds of the device.
#[derive(Debug)]
pub struct Memory {
    address: u64,
    /// Bytes asked for, and bytes taken.
    bytes: usize,
    room: usize,
    label: &'static str,
    host: Option<rallrec_kernels_host::Memory>,
}

impl Memory {
    pub(super) fn address(&self) -> u64 {
        self.address
    }
    pub(super) fn label(&self) -> &'static str {
        self.label
    }
    /// Whether it can be taken for a buffer of `bytes` of this name.
    pub(super) fn serves(&self, bytes: usize, label: &'static str) -> bool {
        self.bytes == bytes && self.label == label
    }
}

#[derive(Default)]
struct State {
    /// By address: (label, bytes).
    held: BTreeMap<u64, (&'static str, usize)>,
    /// What nobody uses (GPU only).
    spare: Shelf,
    /// Bytes that were taken of the device for what is held.
    taken: usize,
    in_use: usize,
    most: usize,
    limit: Option<usize>,
}

/// Bytes that are always kept.
const KEPT: usize = 64 << 20;

/// The pool of one device.
#[derive(Default)]
pub struct Pool(Mutex<State>);

fn amount(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, backend: &Backend, bytes: usize, label: &'static str) -> Result<Memory> {
        let mut state = self.state();
        if state.limit.is_some_and(|limit| state.in_use.saturating_add(bytes) > limit) {
            let free = state.limit.unwrap_or(0).saturating_sub(state.in_use);
            return Err(out_of_memory(&state, bytes, label, free));
        }
        let memory = match backend {
            Backend::Host { .. } => {
                let host = rallrec_kernels_host::Memory::new(bytes, label)
                    .ok_or_else(|| out_of_memory(&state, bytes, label, 0))?;
                Memory { address: host.address(), bytes, room: bytes, label, host: Some(host) }
            }
            Backend::Cuda(cuda) => {
                let (address, room) = match state.spare.take(room(bytes)) {
                    Some(found) => found,
                    None => {
                        let room = room(bytes);
                        // Spare memory counts towards the limit too: it is taken from other
                        // processes.
                        if let Some(limit) = state.limit {
                            let most = limit.saturating_sub(state.taken.saturating_add(room));
                            free(cuda, state.spare.shrink(most));
                        }
                        let found = match cuda.alloc(room)? {
                            Some(address) => Some(address),
                            None => {
                                // What is spare in other sizes may make room.
                                free(cuda, state.spare.shrink(0));
                                cuda.alloc(room)?
                            }
                        };
                        let found = found.ok_or_else(|| out_of_memory(&state, bytes, label, cuda.free_bytes()))?;
                        (found, room)
                    }
                };
                state.taken += room;
                Memory { address, bytes, room, label, host: None }
            }
        };
        state.held.insert(memory.address, (label, bytes));
        state.in_use += bytes;
        state.most = state.most.max(state.in_use);
        Ok(memory)
    }

    pub(super) fn give_back(&self, backend: &Backend, memory: Memory) {
        let mut state = self.state();
        state.held.remove(&memory.address);
        state.in_use -= memory.bytes;
        if let Backend::Cuda(cuda) = backend {
            state.taken -= memory.room;
            state.spare.put(memory.address, memory.room);
            // No more than half of what was ever in use at once: a batch of another length comes
            // back, and other processes get the rest.
            let most = (state.most / 2).max(KEPT);
            free(cuda, state.spare.shrink(most));
        }
        drop(memory.host);
    }

    /// The buffer that an address lies in.
    pub(super) fn describe(&self, address: u64) -> String {
        match self.state().held.range(..=address).next_back() {
            Some((start, (label, bytes))) if address <= start + *bytes as u64 => {
                let offset = address - start;
                let at = if offset == 0 { String::new() } else { format!(" + {offset} B") };
                format!("{label}: {}{at}", amount(*bytes))
            }
            _ => format!("{address:#x}"),
        }
    }

    pub(super) fn in_use(&self) -> (usize, usize) {
        let state = self.state();
        (state.in_use, state.most)
    }

    pub(super) fn limit(&self, bytes: usize) {
        self.state().limit = Some(bytes);
    }

    /// Gives back what nobody uses: the device goes.
    pub(super) fn close(&self, backend: &Backend) {
        if let Backend::Cuda(cuda) = backend {
            free(cuda, self.state().spare.shrink(0));
        }
    }
}

fn free(cuda: &Cuda, addresses: Vec<u64>) {
    addresses.into_iter().for_each(|address| cuda.free(address));
}

/// `20GiB`, `500 MiB` or a number of bytes.
pub(super) fn size(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1_048_576.0,
        "g" | "gb" | "gib" => 1_073_741_824.0,
        _ => return None,
    };
    let value = digits.parse::<f64>().ok()?;
    (value.is_finite() && value > 0.0).then_some((value * unit) as usize)
}

fn out_of_memory(state: &State, bytes: usize, label: &'static str, free: usize) -> Error {
    let mut users: BTreeMap<&str, usize> = BTreeMap::new();
    for (label, bytes) in state.held.values() {
        *users.entry(label).or_default() += bytes;
    }
    let mut users: Vec<_> = users.into_iter().collect();
    users.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
    let largest: Vec<String> = users.iter().take(4).map(|(l, b)| format!("{l} {}", amount(*b))).collect();
    let held = if largest.is_empty() { "nothing is held".to_owned() } else { format!("held: {}", largest.join(", ")) };
    let what = format!("{} asked for {label}, {} free; {held}", amount(bytes), amount(free));
    Error::failed("device memory", what).next(
        "lower the batch size or the length of prompts, store bf16 instead of f32, or end other programs on the GPU; RALLREC_GPU_MEMORY is a limit, where it is set",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_with_a_unit() {
        for (text, bytes) in
            [("512", 512), ("20GiB", 20 << 30), (" 1.5 g", 3 << 29), ("500 MiB", 500 << 20), ("64k", 65_536)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "GiB", "-1", "0", "20 apples", "nan", "inf"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
