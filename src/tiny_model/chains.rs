//! The chains of thought that the model learns: sentences on what the prompt says, a conclusion,
//! and an answer that mostly follows it.

use super::world::World;
use crate::collab::{CausalFeatures, log_odds};
use crate::data::synthetic::THRESHOLD;
use crate::data::{ItemIdx, Rated};
use crate::rng::Rng;

/// What a chain of thought is about.
pub(super) struct Case<'a> {
    pub shown: &'a [Rated],
    pub target: ItemIdx,
    pub features: Option<CausalFeatures>,
    /// The probability behind the hint.
    pub hint: Option<f64>,
    pub label: bool,
}

/// A chain of thought and the answer after it.
pub(super) struct ChainOfThought {
    pub text: String,
    pub yes: bool,
}

/// Likes and number of some ratings.
fn likes<'a>(rows: impl Iterator<Item = &'a Rated>) -> (usize, usize) {
    rows.fold((0, 0), |(likes, n), r| (likes + usize::from(r.rating > THRESHOLD), n + 1))
}

/// What the prompt itself says for a like (above 0) or against it, about -3 to 3; the truth has a
/// small say.
///
/// A label alone says too little to learn from in the time that there is: of single ratings more is
/// noise than taste.
pub(super) fn evidence(world: &World, case: &Case<'_>, rng: &mut Rng) -> f32 {
    let genre = world.genre(case.target);
    let (kin_liked, kin) = likes(case.shown.iter().filter(|r| world.genre(r.item) == genre));
    let (liked, all) = likes(case.shown.iter());
    let share = |liked: usize, n: usize| (liked as f32 + 1.2) / (n as f32 + 2.0) - 0.6;
    let mut evidence = 4.0 * share(liked, all) + 3.0 * share(kin_liked, kin);
    if let Some(features) = case.features {
        evidence += 2.0 * (log_odds(features.p) - log_odds(features.global)) as f32;
    }
    if let Some(p) = case.hint {
        evidence += 2.0 * (p - 0.5) as f32;
    }
    evidence + if case.label { 0.25 } else { -0.25 } + 0.25 * rng.normal()
}

/// Thinks about a case. Chance has a say, so that two chains of thought about one case differ.
pub(super) fn think(world: &World, case: &Case<'_>, rng: &mut Rng) -> ChainOfThought {
    let evidence = evidence(world, case, rng);
    let genre = world.genre(case.target);
    let same: Vec<&Rated> = case.shown.iter().filter(|r| world.genre(r.item) == genre).collect();
    let (kin_liked, kin) = likes(same.iter().copied());
    let (liked, all) = likes(case.shown.iter());
    let mut parts = Vec::new();
    if rng.below(5) > 0 {
        let kind = genre.to_lowercase();
        parts.push(match (kin, rng.below(2)) {
            (0, _) => format!("It looks like {kind}, and none is shown."),
            (_, 0) => format!("It looks like {kind}. The user liked {kin_liked} of {kin} of that kind."),
            _ => format!("Of {kin} {kind} movies the user liked {kin_liked}."),
        });
    }
    let extreme = match rng.below(3) {
        0 => same.iter().max_by(|a, b| a.rating.total_cmp(&b.rating)).map(|r| ("Best", r)),
        1 => same.iter().min_by(|a, b| a.rating.total_cmp(&b.rating)).map(|r| ("Worst", r)),
        _ => None,
    };
    if let Some((word, rated)) = extreme {
        let title = &world.dataset.items[rated.item.at()].title;
        let title = title.rsplit_once(" (").map_or(title.as_str(), |t| t.0);
        parts.push(format!("{word} was {title} with {}.", rated.rating));
    }
    if rng.below(3) > 0 || parts.is_empty() {
        parts.push(format!("In all {liked} of {all} were liked."));
    }
    if let Some(features) = case.features
        && rng.below(4) > 0
    {
        let word = if features.p >= features.global { "for" } else { "against" };
        parts.push(format!("The ratings speak {word} it."));
    }
    if let Some(p) = case.hint {
        parts.push(format!("Someone else says {}.", if p > 0.5 { "yes" } else { "no" }));
    }
    let (conclusion, certainty) = match evidence.abs() {
        e if e > 1.2 => ("very likely", 0.96),
        e if e > 0.5 => ("likely", 0.85),
        _ => ("perhaps", 0.66),
    };
    let side = evidence > 0.0;
    parts.push(format!("So {conclusion} {}.", if side { "yes" } else { "no" }));
    ChainOfThought { text: parts.join(" "), yes: (rng.uniform() < certainty) == side }
}
