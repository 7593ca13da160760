//! Reading a reasoning model's answer.

/// The tag that ends the thinking.
pub const CLOSING: &str = "</think>";

/// Characters at the end of an answer without closing tag that are searched for a verdict.
const TAIL: usize = 20;

/// What counts as "yes" or "no" in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// A word of its own: "not" and "know" say nothing. The default.
    #[default]
    Word,
    /// Anywhere in the text, as the authors do: "know" says no.
    Substring,
}

impl Match {
    fn finds(self, text: &str, word: &str) -> bool {
        match self {
            Match::Word => text.split(|c: char| !c.is_alphanumeric()).any(|w| w == word),
            Match::Substring => text.contains(word),
        }
    }
}

/// The hard answer: after the last closing think tag, or in the last 20 characters where there is
/// none, "yes" wins, else "no"; `None` when neither is there. Case does not matter. Only for a
/// quick look: what is merged is the second pass.
pub fn hard_answer(text: &str, matching: Match) -> Option<bool> {
    let place = match text.rfind(CLOSING) {
        Some(at) => &text[at + CLOSING.len()..],
        None => {
            let start = text.char_indices().rev().nth(TAIL - 1).map_or(0, |(at, _)| at);
            &text[start..]
        }
    };
    let place = place.to_lowercase();
    if matching.finds(&place, "yes") {
        Some(true)
    } else if matching.finds(&place, "no") {
        Some(false)
    } else {
        None
    }
}

/// The hard answer as a number: 1, 0, or 0.5 for no answer.
pub fn hard_probability(answer: Option<bool>) -> f64 {
    answer.map_or(0.5, |yes| f64::from(u8::from(yes)))
}

/// The chain of thought that goes into the second pass: the longest (in characters; the first of
/// equals) of the pieces around the closing think tags, or the whole text without one. An opening
/// tag in front is not part of them.
pub fn chain_of_thought(text: &str) -> &str {
    let mut best = "";
    let mut length = None;
    for piece in text.split(CLOSING) {
        let n = piece.chars().count();
        if length.is_none_or(|most| n > most) {
            (best, length) = (piece, Some(n));
        }
    }
    best.trim_start().strip_prefix("<think>").unwrap_or(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_branch_of_the_hard_answer() {
        for (text, word, substring) in [
            ("no no no</think>Yes.", Some(true), Some(true)),
            ("yes</think>\n\nNo.", Some(false), Some(false)),
            ("yes</think> hm </think>NO", Some(false), Some(false)),
            ("yes</think>", None, None),
            ("yes</think>perhaps", None, None),
            ("x</think>yes or no", Some(true), Some(true)),
            ("x</think>I do not know", None, Some(false)),
            ("x</think>yesterday", None, Some(true)),
            ("thinking, so the answer is YES", Some(true), Some(true)),
            ("yes, but that was more than twenty characters ago", None, None),
            ("so no, 19 characters", Some(false), Some(false)),
            ("", None, None),
            ("no", Some(false), Some(false)),
        ] {
            assert_eq!(hard_answer(text, Match::Word), word, "{text}");
            assert_eq!(hard_answer(text, Match::Substring), substring, "{text}");
        }
        assert_eq!([Some(true), Some(false), None].map(hard_probability), [1.0, 0.0, 0.5]);
    }

    #[test]
    fn the_tail_is_counted_in_characters() {
        let tail = format!("yes{}", "é".repeat(17));
        assert_eq!(hard_answer(&tail, Match::Substring), Some(true));
        assert_eq!(hard_answer(&format!("{tail}é"), Match::Substring), None);
    }

    #[test]
    fn the_chain_of_thought_is_the_longest_piece() {
        assert_eq!(chain_of_thought("long thoughts</think>Yes."), "long thoughts");
        assert_eq!(chain_of_thought("hm</think>The answer is, after all, yes."), "The answer is, after all, yes.");
        assert_eq!(chain_of_thought("no tag"), "no tag");
        assert_eq!(chain_of_thought("ab</think>cd"), "ab");
        assert_eq!(chain_of_thought("ééé</think>abcd"), "abcd");
        assert_eq!(chain_of_thought("<think>\nlong thoughts</think>Yes."), "\nlong thoughts");
        assert_eq!(chain_of_thought(""), "");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in ".*", tags in proptest::collection::vec(".*", 0..4)) {
            for text in [text, tags.join(CLOSING)] {
                for matching in [Match::Word, Match::Substring] {
                    hard_answer(&text, matching);
                }
                prop_assert!(text.contains(chain_of_thought(&text)));
            }
        }
    }
}
