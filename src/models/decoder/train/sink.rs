//! Where the gradients of what is trained go.

use super::params::{LayerSlots, Slots, pair_slots};
use super::placed::Placed;
use crate::device::DeviceRows;
use crate::error::{Error, Result};
use crate::models::lora::{Adapter, Target};
use crate::ops::linear::layers::{By, Pair};
use crate::ops::lora::kernel::Gradients;

/// Where the gradients of one pass are added.
pub(super) enum Sink<'g> {
    /// To the flat gradient of an adapter, whose layers from `first` on are trained.
    Adapter { gradient: &'g mut [f32], adapter: &'g Adapter, first: usize },
    /// On a device until the pass is over, then to the flat gradient: (layer, pair, gradients) from
    /// `first` on.
    Kernels { pairs: Vec<(usize, usize, Gradients)>, first: usize, gradient: &'g mut [f32] },
    /// To the flat gradient of all weights.
    All { gradient: &'g mut [f32], slots: Slots },
}

/// The parts `ranges` of `rest`, which ascend.
fn cut<'a>(mut rest: &'a mut [f32], ranges: &[std::ops::Range<usize>]) -> Vec<&'a mut [f32]> {
    let mut at = 0;
    let mut parts = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (_, tail) = rest.split_at_mut(range.start - at);
        let (part, tail) = tail.split_at_mut(range.len());
        parts.push(part);
        (rest, at) = (tail, range.end);
    }
    parts
}

impl Sink<'_> {
    /// Whether a layer's input is wanted again: one of its targets is trained.
    pub fn wants(&self, at: &Placed<'_>, layer: usize, targets: &[Target]) -> bool {
        match self {
            Sink::All { .. } => true,
            Sink::Adapter { first, .. } | Sink::Kernels { first, .. } => {
                layer >= *first && targets.iter().any(|&t| at.pair(t).is_some())
            }
        }
    }

    /// Where the gradients of these targets, which ascend, are added; `None` for what is not
    /// trained.
    ///
    /// # Errors
    /// Out of memory.
    pub fn of(&mut self, at: &Placed<'_>, layer: usize, targets: &[Target]) -> Result<Vec<Option<By<'_>>>> {
        let mut all: Vec<Option<By<'_>>> = targets.iter().map(|_| None).collect();
        match self {
            Sink::All { gradient, slots } => {
                let slots = targets.iter().map(|&t| &slots.layers[layer].linear[t as usize]);
                let ranges: Vec<_> = slots.clone().flat_map(|(w, b)| [Some(w.clone()), b.clone()]).flatten().collect();
                let mut parts = cut(gradient, &ranges).into_iter();
                for (by, (_, bias)) in all.iter_mut().zip(slots) {
                    let weight = parts.next().ok_or_else(lost)?;
                    *by = Some(By::Weight(weight, if bias.is_some() { parts.next() } else { None }));
                }
            }
            Sink::Adapter { gradient, adapter, first } if layer >= *first => {
                let trained: Vec<_> = targets.iter().map(|&t| at.pair(t)).collect();
                let ranges = trained.iter().flatten().flat_map(|&t| <[_; 2]>::from(pair_slots(adapter, layer, t)));
                let mut parts = cut(gradient, &ranges.collect::<Vec<_>>()).into_iter();
                for (by, _) in all.iter_mut().zip(trained).filter(|(_, t)| t.is_some()) {
                    *by = Some(By::Pair(parts.next().ok_or_else(lost)?, parts.next().ok_or_else(lost)?));
                }
            }
            Sink::Kernels { pairs, first, .. } if layer >= *first => {
                let start = pairs.len();
                let trained: Vec<_> = targets.iter().map(|&t| at.pair(t)).collect();
                for (&target, t) in targets.iter().zip(&trained) {
                    if let (Some(t), Some(Pair::Kernels(pair))) = (t, at.linear(layer, target).pair) {
                        let zeros = |of: &DeviceRows<f32>| {
                            DeviceRows::zeros(of.device(), of.rows(), of.dim(), "gradient of an adapter")
                        };
                        pairs.push((layer, *t, Gradients { a: zeros(&pair.a)?, b: zeros(&pair.b)? }));
                    }
                }
                let new = pairs[start..].iter_mut();
                for ((by, _), (_, _, g)) in all.iter_mut().zip(&trained).filter(|(_, t)| t.is_some()).zip(new) {
                    *by = Some(By::Kernels(g));
                }
            }
            Sink::Adapter { .. } | Sink::Kernels { .. } => {}
        }
        Ok(all)
    }

    /// Adds what lies on a device to the flat gradient.
    ///
    /// # Errors
    /// The device's.
    pub fn finish(&mut self, adapter: Option<&Adapter>) -> Result<()> {
        if let (Sink::Kernels { pairs, gradient, .. }, Some(adapter)) = (self, adapter) {
            for (layer, t, by) in pairs.drain(..) {
                let (a, b) = pair_slots(adapter, layer, t);
                for (range, from) in [(a, by.a.download()?), (b, by.b.download()?)] {
                    gradient[range].iter_mut().zip(from).for_each(|(t, f)| *t += f);
                }
            }
        }
        Ok(())
    }

    /// Adds `scale` times the gradient (tokens, width) of the embedded tokens to the embeddings',
    /// where these are trained.
    pub fn add_embedded(&mut self, tokens: &[u32], (dx, scale): (&[f32], f32), width: usize) {
        let Sink::All { gradient, slots } = self else { return };
        let embed = &mut gradient[slots.embed.clone()];
        for (d, &token) in dx.chunks_exact(width).zip(tokens) {
            let Some(row) = embed.get_mut(token as usize * width..(token as usize + 1) * width) else { continue };
            row.iter_mut().zip(d).for_each(|(r, d)| *r += scale * d);
        }
    }

    /// Where the gradient of a layer's norm is added.
    pub fn norm(
        &mut self,
        layer: usize,
        slot: impl Fn(&LayerSlots) -> Option<&std::ops::Range<usize>>,
    ) -> Option<&mut [f32]> {
        match self {
            Sink::All { gradient, slots } => Some(&mut gradient[slot(&slots.layers[layer])?.clone()]),
            _ => None,
        }
    }

    /// Where the gradient of the norm behind the last layer is added.
    pub fn last_norm(&mut self) -> Option<&mut [f32]> {
        match self {
            Sink::All { gradient, slots } => Some(&mut gradient[slots.norm.clone()]),
            _ => None,
        }
    }

    /// Where the output head's is added; the embeddings' place, where they are one matrix.
    pub fn head(&mut self) -> Option<&mut [f32]> {
        match self {
            Sink::All { gradient, slots } => Some(&mut gradient[slots.head.clone()]),
            _ => None,
        }
    }
}

fn lost() -> Error {
    Error::failed("training", "a gradient has no place")
}
