//! Yes / No scoring of bundles of prompts.

use super::DeviceModel;
use super::pass::{Texts, Wanted};
use crate::device::Storage;
use crate::error::Result;
use crate::generate::scoring::{Bundle, passes};
use crate::ops::yes_no::{self, Choice};

impl<T: Storage> DeviceModel<T> {
    /// As [`crate::generate::scoring::score`]: what the model says about the two answers behind every prompt of every bundle.
    /// A bundle's common beginning is read once. A pass takes bundles until `pass_tokens` are reached, a larger one whole.
    ///
    /// # Errors
    /// As there; out of memory.
    pub fn score(&self, bundles: &[Bundle], ids: [u32; 2], pass_tokens: usize) -> Result<Vec<Vec<Choice>>> {
        bundles.iter().flatten().try_for_each(|prompt| self.check(prompt, 0))?;
        let mut out = Vec::with_capacity(bundles.len());
        for pass in passes(bundles, 1, pass_tokens) {
            let (mut texts, mut last) = (Texts::default(), Vec::new());
            for &(bundle, prefix) in &pass {
                let past = match prefix {
                    0 => 0..0,
                    _ => texts.pack(&bundle[0][..prefix], 0..0),
                };
                for prompt in bundle {
                    last.push(texts.pack(&prompt[prefix..], past.clone()).end as u32 - 1);
                }
            }
            let mut cache = self.cache(texts.rows.tokens.len())?;
            let hidden = self.read(&texts, &mut cache, Wanted::These(&last))?;
            let mut choices = self.head.with(|head| yes_no::cuda::choose(&hidden, head, ids))?.0.into_iter();
            out.extend(pass.iter().map(|(b, _)| choices.by_ref().take(b.len()).collect::<Vec<_>>()));
        }
        Ok(out)
    }
}
