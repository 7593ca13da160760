//! Yes/No scoring of many prompts: prompts that begin alike are read together, their common
//! beginning once.

use crate::device::Device;
use crate::error::Result;
use crate::models::decoder::{Model, Texts, Wanted};
use crate::ops::cross_entropy::{Choice, choose};

/// A common beginning shorter than this is not worth ranges of its own.
const WORTH_SHARING: usize = 8;

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
/// Bundles are taken together until `pass_tokens` are reached; a larger bundle is read whole. What
/// all prompts of a pass begin with is read once, and so is a bundle's common beginning. On the CPU
/// the results do not depend on what is read together, on other devices up to the order of sums.
///
/// # Errors
/// An empty prompt, a token outside the vocabulary, a prompt beyond the model's context; out of
/// memory.
pub fn score(model: &Model, bundles: &[Bundle], ids: [u32; 2], pass_tokens: usize) -> Result<Vec<Vec<Choice>>> {
    bundles.iter().flatten().try_for_each(|prompt| model.check(prompt, 0, || "prompt".into()))?;
    let head = model.params().head(model.config())?;
    let mut out = Vec::with_capacity(bundles.len());
    let nested = matches!(model.device(), Device::Cpu);
    for pass in passes(bundles, pass_tokens) {
        let (texts, last) = pack(&pass, nested);
        let mut choices = Vec::new();
        if !last.is_empty() {
            let hidden = model.read(&texts, &mut model.scratch(texts.cache_rows())?, Wanted::These(&last))?;
            choices = choose(&hidden, head, ids)?;
        }
        let mut choices = choices.into_iter();
        out.extend(pass.iter().map(|(b, _)| choices.by_ref().take(b.len()).collect::<Vec<_>>()));
    }
    Ok(out)
}

/// The texts of a pass, and the last row of each prompt. What all its prompts begin with is read
/// once, and what a bundle's own begin with besides; where past keys may not be `nested`, a
/// bundle's whole beginning is read for it alone.
fn pack(pass: &[(&Bundle, usize)], nested: bool) -> (Texts, Vec<u32>) {
    let (mut texts, mut last) = (Texts::default(), Vec::new());
    let all: Vec<&[u32]> = pass.iter().flat_map(|(bundle, _)| bundle.iter().map(Vec::as_slice)).collect();
    let head = match common_prefix(&all) {
        n if pass.len() > 1 && n >= WORTH_SHARING => n,
        _ => 0,
    };
    let of_all = match all.first() {
        Some(first) if head > 0 => vec![texts.pack(&first[..head], &[]).1],
        _ => Vec::new(),
    };
    for &(bundle, prefix) in pass {
        let (mut past, mut seen) = (of_all.clone(), head);
        if prefix >= head + WORTH_SHARING {
            if !nested {
                (past, seen) = (Vec::new(), 0);
            }
            let own = texts.pack(&bundle[0][seen..prefix], &past).1;
            past.push(own);
            seen = prefix;
        }
        last.extend(bundle.iter().map(|prompt| texts.pack(&prompt[seen..], &past).0.end as u32 - 1));
    }
    (texts, last)
}

/// Cuts `bundles` into passes: they are taken together until `pass_tokens` are reached, a larger
/// one is read whole. With each goes the length of the beginning that its prompts share, 0 below
/// [`WORTH_SHARING`].
fn passes(bundles: &[Bundle], pass_tokens: usize) -> Vec<Vec<(&Bundle, usize)>> {
    let mut out: Vec<Vec<(&Bundle, usize)>> = Vec::new();
    let mut tokens = 0;
    for bundle in bundles {
        let shared = match common_prefix(bundle) {
            n if bundle.len() > 1 && n >= WORTH_SHARING => n,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::decoder::Family;
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

    /// Bundles of one prompt, as of rows with one variant each, share the beginning that all
    /// prompts have.
    #[test]
    fn what_all_prompts_of_a_pass_begin_with_is_read_once() {
        let head: Vec<u32> = (0..20).collect();
        let own: Vec<u32> = (30..45).collect();
        let with = |tails: &[&[u32]]| tails.concat();
        let bundles: Vec<Bundle> = vec![
            vec![with(&[&head, &[1, 2]])],
            vec![with(&[&head, &own, &[5]]), with(&[&head, &own, &[6, 7]])],
            vec![with(&[&head, &[3]])],
        ];
        let pass: Vec<(&Bundle, usize)> = bundles.iter().zip([0, 35, 0]).collect();
        assert_eq!(pack(&pass, true).0.rows(), 20 + 2 + (15 + 1 + 2) + 1);
        assert_eq!(pack(&pass, false).0.rows(), 20 + 2 + (35 + 1 + 2) + 1);
        let loaded = fixture::model(Family::LLAMA, 3, Dtype::F32).unwrap();
        let model = Model::new(loaded.config, loaded.weights).unwrap();
        let bits = |scored: Vec<Vec<Choice>>| -> Vec<[u32; 2]> {
            scored.into_iter().flatten().map(|c| c.logits.map(f32::to_bits)).collect()
        };
        let together = score(&model, &bundles, [10, 11], 1000).unwrap();
        assert_eq!(bits(together), bits(score(&model, &bundles, [10, 11], 1).unwrap()));
    }

    #[test]
    fn identical_prompts_keep_a_token_of_their_own() {
        assert_eq!(common_prefix(&[vec![1, 2, 3], vec![1, 2, 3]]), 2);
        assert_eq!(common_prefix(&[vec![1], vec![1]]), 0);
        assert_eq!(common_prefix(&Vec::<Vec<u32>>::new()), 0);
    }
}
