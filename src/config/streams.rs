//! Seeds. One `seed` stands for all that is drawn; each draw has a stream of its own, whose key
//! sets another seed for it alone. The streams never mix: each draws from its seed together with
//! its purpose (see [`crate::rng`]).

use super::tree::{self, Clash, Content, Node, Origin, Section};
use crate::settings::Value;

/// The seed of a recipe that sets none.
pub const SEED: u64 = 42;

/// A stream of draws.
pub struct Stream {
    /// The key that gives it a seed.
    pub key: &'static str,
    /// What it draws.
    pub draws: &'static str,
}

/// All streams. The order of the authors' shuffle (`data.shuffle = "python"`) is none of them: it
/// is that of their seed, 42. Nor is `data.synthetic.seed`, which names one of many invented
/// worlds.
pub const STREAMS: [Stream; 9] = [
    Stream { key: "rows.seed", draws: "which rows are tuned on, chosen on and scored" },
    Stream { key: "data.seed", draws: "the order of a user's ratings where there are no times; what the split draws" },
    Stream { key: "describe.seed", draws: "the tokens of written descriptions" },
    Stream { key: "graph.lightgcn.seed", draws: "first embeddings, order of edges, negatives" },
    Stream { key: "align.seed", draws: "first weights, held-out items, batches" },
    Stream { key: "collab.seed", draws: "folds of users, rows of the calibration" },
    Stream { key: "tune.lora.seed", draws: "first adapter and soft projector, order of groups, dropout" },
    Stream { key: "reason.seed", draws: "the tokens of reasoning samples" },
    Stream { key: "evaluate.seed", draws: "bootstrap resamples, rows of the baselines' calibration" },
];

/// The vectors of the collaborative fold-in start from `collab.seed` too, unless this key is set.
const NESTED: (&str, &str) = ("collab.fold_in.ratings.seed", "collab.seed");

/// Gives every stream that has no seed of its own the seed of the recipe.
pub fn fill(keys: &mut Section) {
    let whole = |keys: &Section, path: &str| match tree::get(keys, path).map(|n| n.content.clone()) {
        Some(Content::Leaf(Value::Integer(seed))) if (0..=i128::from(i64::MAX)).contains(&seed) => Some(seed),
        _ => None,
    };
    // Where the seed itself is wrong, that is the one fault to report.
    let Some(seed) = whole(keys, "seed") else { return };
    let all = STREAMS.iter().map(|s| (s.key, None)).chain([(NESTED.0, Some(NESTED.1))]);
    for (key, from) in all {
        let seed = from.and_then(|from| whole(keys, from)).unwrap_or(seed);
        let node = Node { content: Content::Leaf(Value::Integer(seed)), origin: Origin::Derived };
        // A value that stands where a section is wanted is reported by the check of types.
        let kept: Result<(), Clash> = tree::put(keys, key, node, &|there, _| Some(there.clone()));
        drop(kept);
    }
}

/// The seed that a stream has when its key is not set, in a recipe with these values.
pub fn default_of(key: &str, recipe: &Value) -> Option<Value> {
    let from = if key == NESTED.0 { NESTED.1 } else { "seed" };
    let is_stream = key == NESTED.0 || STREAMS.iter().any(|s| s.key == key);
    is_stream.then(|| recipe.at(from).cloned()).flatten()
}
