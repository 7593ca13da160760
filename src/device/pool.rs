//! Who holds how much device memory. On a GPU, freed memory is kept for the next buffer of its size
//! class: asking the driver takes longer than most kernels. On the host each buffer is its own, so
//! that a page of no access follows it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::kernel::Backend;
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
    /// By room: addresses that nobody uses (GPU only).
    spare: BTreeMap<usize, Vec<u64>>,
    in_use: usize,
    most: usize,
    limit: Option<usize>,
}

/// The pool of one device.
#[derive(Default)]
pub struct Pool(Mutex<State>);

/// Rounds up so that buffers of nearly one size can follow each other: 512 bytes up to 1 MiB, then
/// 2 MiB.
fn room(bytes: usize) -> usize {
    let unit = if bytes < 1 << 20 { 512 } else { 2 << 20 };
    bytes.max(1).div_ceil(unit).saturating_mul(unit)
}

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
                let room = room(bytes);
                let address = match state.spare.get_mut(&room).and_then(Vec::pop) {
                    Some(address) => address,
                    None => match cuda.alloc(room) {
                        Some(address) => address,
                        None => {
                            // What is spare in other sizes may make room.
                            for address in std::mem::take(&mut state.spare).into_values().flatten() {
                                cuda.free(address);
                            }
                            cuda.alloc(room).ok_or_else(|| out_of_memory(&state, bytes, label, cuda.free_bytes()))?
                        }
                    },
                };
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
        if let Backend::Cuda(_) = backend {
            state.spare.entry(memory.room).or_default().push(memory.address);
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
        "lower the batch size or the length of prompts, store bf16 instead of f32, or end other programs on the GPU",
    )
}
