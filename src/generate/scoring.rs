//! Yes/No scoring of many prompts: prompts that begin alike are read together, their common beginning once.

use crate::error::Result;
use crate::models::llama::{Model, Part, Prefix, Sequence};
use crate::ops::yes_no::Choice;

/// A common beginning shorter than this is not worth a pass of its own.
const WORTH_SHARING: usize = 16;

/// Prompts that begin alike.
pub type Bundle = Vec<Vec<u32>>;

/// Length of the longest common beginning that leaves every prompt at least one token.
pub fn common_prefix(prompts: &[impl AsRef<[u32]>]) -> usize {
    let Some((first, rest)) = prompts.split_first() else { return 0 };
    let first = first.as_ref();
    let shortest = prompts.iter().map(|p| p.as_ref().len()).min().unwrap_or(0);
    let same = |i: &usize| rest.iter().all(|p| p.as_ref()[*i] == first[*i]);
    (0..shortest.saturating_sub(1)).take_while(same).count()
}

/// What `model` says about the two answers behind every prompt of every bundle, in the same order.
///
/// Bundles are taken together until `pass_tokens` are reached; a larger bundle is read whole. The results do not
/// depend on what is read together.
///
/// # Errors
/// An empty prompt, a token outside the vocabulary, a prompt beyond the model's context.
pub fn score(model: &Model, bundles: &[Bundle], ids: [u32; 2], pass_tokens: usize) -> Result<Vec<Vec<Choice>>> {
    let mut out = Vec::with_capacity(bundles.len());
    for pass in passes(bundles, WORTH_SHARING, pass_tokens) {
        let prefixes = read_prefixes(model, &pass)?;
        let mut sequences: Vec<Sequence> = Vec::new();
        for ((bundle, _), prefix) in pass.iter().zip(&prefixes) {
            sequences.extend(bundle.iter().map(|_| Sequence::scratch(prefix)));
        }
        let tails = pass.iter().flat_map(|&(b, n)| b.iter().map(move |p| &p[n..]));
        let mut parts: Vec<Part<'_>> =
            tails.zip(&mut sequences).map(|(tokens, sequence)| Part { tokens, sequence }).collect();
        let mut choices = if parts.is_empty() { Vec::new() } else { model.choices(&mut parts, ids)? }.into_iter();
        out.extend(pass.iter().map(|(b, _)| choices.by_ref().take(b.len()).collect::<Vec<_>>()));
    }
    Ok(out)
}

/// Cuts `bundles` into passes: they are taken together until `pass_tokens` are reached, a larger one is read whole. With
/// each goes the length of the beginning that its prompts share, 0 below `worth`.
pub(crate) fn passes(bundles: &[Bundle], worth: usize, pass_tokens: usize) -> Vec<Vec<(&Bundle, usize)>> {
    let mut out: Vec<Vec<(&Bundle, usize)>> = Vec::new();
    let mut tokens = 0;
    for bundle in bundles {
        let shared = match common_prefix(bundle) {
            n if bundle.len() > 1 && n >= worth => n,
            _ => 0,
        };
        let size = shared + bundle.iter().map(|p| p.len() - shared.min(p.len())).sum::<usize>();
        match out.last_mut() {
            Some(pass) if tokens + size <= pass_tokens => {
                pass.push((bundle, shared));
                tokens += size;
            }
            _ => {
                out.push(vec![(bundle, shared)]);
                tokens = size;
            }
        }
    }
    out
}

fn read_prefixes(model: &Model, pass: &[(&Bundle, usize)]) -> Result<Vec<Prefix>> {
    let mut sequences: Vec<Sequence> = pass.iter().map(|_| Sequence::new()).collect();
    let mut parts: Vec<Part<'_>> = pass
        .iter()
        .zip(&mut sequences)
        .filter(|((_, n), _)| *n > 0)
        .map(|((bundle, n), sequence)| Part { tokens: &bundle[0][..*n], sequence })
        .collect();
    if !parts.is_empty() {
        model.read(&mut parts)?;
    }
    Ok(sequences.into_iter().map(Sequence::freeze).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::llama::Family;
    use crate::store::fixture;
    use crate::tensor::Dtype;

    #[test]
    fn sharing_a_beginning_does_not_change_the_scores() {
        let loaded = fixture::model(Family::LLAMA, 3, Dtype::F32).unwrap();
        let model = Model::new(loaded.config, loaded.weights).unwrap();
        let beginning: Vec<u32> = (0..40).map(|i| i * 5 % 200).collect();
        let with = |tail: &[u32]| [&beginning[..], tail].concat();
        let bundle = vec![with(&[1, 2, 3]), with(&[9]), with(&[1, 7, 7, 7])];
        assert_eq!(common_prefix(&bundle), 40);
        let alone: Vec<Bundle> = bundle.iter().map(|p| vec![p.clone()]).collect();
        let together = score(&model, &[bundle, vec![vec![4, 5]]], [10, 11], 64).unwrap();
        let single = score(&model, &alone, [10, 11], 1).unwrap();
        for (a, b) in together[0].iter().zip(single.iter().map(|s| &s[0])) {
            for (x, y) in a.logits.iter().zip(&b.logits) {
                assert!((x - y).abs() <= 1e-5, "{x} {y}");
            }
            assert!((a.log_sum_exp - b.log_sum_exp).abs() <= 1e-5);
        }
        assert_eq!(together[1].len(), 1);
    }

    #[test]
    fn identical_prompts_keep_a_token_of_their_own() {
        assert_eq!(common_prefix(&[vec![1, 2, 3], vec![1, 2, 3]]), 2);
        assert_eq!(common_prefix(&[vec![1], vec![1]]), 0);
        assert_eq!(common_prefix(&Vec::<Vec<u32>>::new()), 0);
    }
}
