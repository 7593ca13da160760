//! Device memory that nobody uses and that is kept for the next buffer: by size classes, best fit
//! first, up to a cap.

use std::collections::BTreeMap;

/// Bytes to take for a buffer of `bytes`: 512 at least, and then one of eight steps between two
/// powers of two, so that buffers of nearly one size follow each other and an eighth is lost at
/// most. From 1 MiB on whole units of 2 MiB, which the driver gives anyway.
pub(super) fn room(bytes: usize) -> usize {
    const BLOCK: usize = 2 << 20;
    let bytes = bytes.max(1);
    let step = (bytes.next_power_of_two() / 16).max(if bytes < 1 << 20 { 512 } else { BLOCK });
    bytes.div_ceil(step).saturating_mul(step)
}

/// Spare pieces of memory.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// By room: addresses.
    spare: BTreeMap<usize, Vec<u64>>,
    bytes: usize,
}

impl Shelf {
    /// Bytes of all pieces.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The smallest piece that holds `room` and is at most a quarter larger: address and room.
    pub(super) fn take(&mut self, room: usize) -> Option<(u64, usize)> {
        let (&found, pieces) = self.spare.range_mut(room..=room.saturating_add(room / 4)).next()?;
        let address = pieces.pop();
        if pieces.is_empty() {
            self.spare.remove(&found);
        }
        self.bytes -= found;
        address.map(|address| (address, found))
    }

    /// Keeps a piece.
    pub(super) fn put(&mut self, address: u64, room: usize) {
        self.spare.entry(room).or_default().push(address);
        self.bytes += room;
    }

    /// Takes pieces out, largest first, until at most `most` bytes are kept: those to be freed.
    pub(super) fn shrink(&mut self, most: usize) -> Vec<u64> {
        let mut out = Vec::new();
        while self.bytes > most {
            let Some((room, mut pieces)) = self.spare.pop_last() else { break };
            out.extend(pieces.pop());
            self.bytes -= room;
            if !pieces.is_empty() {
                self.spare.insert(room, pieces);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_class_holds_what_is_asked_and_loses_an_eighth_at_most(bytes in 1usize..1 << 36) {
            let room = room(bytes);
            prop_assert!(room >= bytes && room.is_multiple_of(512));
            let step = if bytes < 1 << 20 { 512 } else { 2 << 20 };
            prop_assert!(room - bytes <= (bytes / 8).max(step), "{bytes} takes {room}");
            prop_assert_eq!(super::room(room), room, "a class is its own");
        }

        /// What is kept is handed out once, whole, and never more than it was.
        #[test]
        fn pieces_are_handed_out_once(asked in prop::collection::vec((1usize..1 << 24, any::<bool>()), 1..200), cap in 0usize..1 << 26) {
            let (mut shelf, mut out, mut next) = (Shelf::default(), BTreeMap::<u64, usize>::new(), 1u64);
            let mut kept = BTreeMap::<u64, usize>::new();
            for (bytes, back) in asked {
                let needed = room(bytes);
                let (address, got) = shelf.take(needed).unwrap_or_else(|| { next += 1; (next, needed) });
                if let Some(was) = kept.remove(&address) {
                    prop_assert_eq!(was, got);
                }
                prop_assert!(got >= bytes && got <= needed + needed / 4);
                prop_assert!(out.insert(address, got).is_none(), "handed out twice");
                if back {
                    let (&address, &room) = out.iter().next().unwrap();
                    out.remove(&address);
                    kept.insert(address, room);
                    shelf.put(address, room);
                }
                for freed in shelf.shrink(cap) {
                    prop_assert!(kept.remove(&freed).is_some(), "freed what was not kept");
                }
                prop_assert!(shelf.bytes() <= cap);
                prop_assert_eq!(shelf.bytes(), kept.values().sum::<usize>());
            }
        }
    }
}
