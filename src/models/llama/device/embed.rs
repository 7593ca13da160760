//! Vectors of texts that share a beginning, which a pass reads once.

use super::DeviceModel;
use super::pass::{Texts, Wanted};
use crate::device::Storage;
use crate::error::Result;
use crate::models::llama::Pooling;
use crate::models::llama::embedding::behind;
use crate::tensor::Matrix;

impl<T: Storage> DeviceModel<T> {
    /// As [`Embedder::embed`](crate::models::llama::embedding::Embedder::embed): one vector (hidden) a text, in one pass; a text
    /// without a token has a zero vector. `head` is the beginning that texts may share, and may be empty. Sums over tokens are
    /// taken on the CPU, in f64.
    ///
    /// # Errors
    /// A token outside the vocabulary, a text beyond the model's context, out of memory.
    pub fn embed(&self, head: &[u32], texts: &[&[u32]], pooling: Pooling) -> Result<Matrix> {
        let hidden = self.config.hidden;
        let mut out = Matrix::zeros(texts.len(), hidden);
        texts.iter().filter(|text| !text.is_empty()).try_for_each(|text| self.check(text, 0))?;
        let rest: Vec<Option<&[u32]>> = texts.iter().map(|text| behind(head, text)).collect();
        let mut read = Texts::default();
        let begin = if rest.iter().any(Option::is_some) { read.pack(head, 0..0) } else { 0..0 };
        // For each text that is not empty: the beginning it shares, and its own rows.
        let mut rows = Vec::with_capacity(texts.len());
        for (n, (text, rest)) in texts.iter().zip(&rest).enumerate().filter(|(_, (text, _))| !text.is_empty()) {
            let (past, own) = rest.map_or((0..0, *text), |rest| (begin.clone(), rest));
            let own = read.pack(own, past.clone());
            rows.push((n, past, own));
        }
        if rows.is_empty() {
            return Ok(out);
        }
        let mut cache = self.cache(read.rows.tokens.len())?;
        let last: Vec<u32> = rows.iter().map(|(_, _, own)| own.end as u32 - 1).collect();
        let wanted = if pooling == Pooling::Last { Wanted::These(&last) } else { Wanted::All };
        let states = self.read(&read, &mut cache, wanted)?.download()?;
        let state = |row: usize| states[row * hidden..(row + 1) * hidden].iter().map(|v| v.to_f32());
        for (from, (n, past, own)) in rows.into_iter().enumerate() {
            if pooling == Pooling::Last {
                out.row_mut(n).iter_mut().zip(state(from)).for_each(|(to, v)| *to = v);
                continue;
            }
            let count = (past.len() + own.len()) as f64;
            let mut sum = vec![0.0f64; hidden];
            for row in past.chain(own) {
                sum.iter_mut().zip(state(row)).for_each(|(sum, v)| *sum += f64::from(v));
            }
            out.row_mut(n).iter_mut().zip(sum).for_each(|(to, sum)| *to = (sum / count) as f32);
        }
        Ok(out)
    }
}
