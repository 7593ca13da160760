//! Why an item is recommended: what of the history speaks for it, and what others made of it. Both
//! are counted on the rows that the ranker was fitted on.

use super::Because;

/// Liked items named as a reason.
pub(super) const REASONS: usize = 2;

/// What a reason says of the items of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// They are liked by the same people.
    People,
    /// Their texts are alike.
    Text,
}

/// Rows of an item that the ranker was fitted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub ratings: usize,
    pub likes: usize,
}

/// The reason for an item of a log with ratings.
pub(super) fn in_words(because: &[Because], link: Link, tally: Tally) -> String {
    let mut parts = Vec::new();
    if !because.is_empty() {
        let named: Vec<String> = because.iter().map(|b| format!("{} stars to {}", b.rating, b.title)).collect();
        let link = match link {
            Link::People => "liked by the same people",
            Link::Text => "similar text",
        };
        parts.push(format!("you gave {} ({link})", named.join(" and ")));
    }
    parts.push(match tally {
        Tally { ratings: 0, .. } => "no rating to learn from".to_string(),
        Tally { ratings: 1, likes } => format!("{likes} of 1 rating is a like"),
        Tally { ratings, likes } => format!("{likes} of {ratings} ratings are likes"),
    });
    parts.join("; ")
}

/// The same for a log without ratings.
pub(super) fn of_choices(because: &[Because], link: Link, tally: Tally) -> String {
    let mut parts = Vec::new();
    if !because.is_empty() {
        let named: Vec<&str> = because.iter().map(|b| b.title.as_str()).collect();
        let link = match link {
            Link::People => "chosen by the same people",
            Link::Text => "similar text",
        };
        parts.push(format!("you chose {} ({link})", named.join(" and ")));
    }
    parts.push(match tally.ratings {
        0 => "no choice to learn from".to_string(),
        1 => "1 other chose it".to_string(),
        n => format!("{n} others chose it"),
    });
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_name_what_speaks_for_the_item() {
        let one = |title: &str, rating| Because { item: "1".into(), title: title.into(), rating, weight: 0.5 };
        let both = [one("A", 5.0), one("B", 4.5)];
        assert_eq!(
            in_words(&both, Link::People, Tally { ratings: 50, likes: 41 }),
            "you gave 5 stars to A and 4.5 stars to B (liked by the same people); 41 of 50 ratings are likes"
        );
        assert_eq!(in_words(&[], Link::Text, Tally::default()), "no rating to learn from");
        assert_eq!(
            of_choices(&both[..1], Link::People, Tally { ratings: 1, likes: 1 }),
            "you chose A (chosen by the same people); 1 other chose it"
        );
    }
}
