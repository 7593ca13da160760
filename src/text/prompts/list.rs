//! Lists of rated items as text.

use super::{List, PromptSettings, Style};
use crate::data::{Dataset, Rated};

/// A string as Python's `repr` prints it: single quotes, or double quotes when the text has a
/// single quote and no double quote; what cannot be printed is escaped.
pub fn python_string(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if printable(c) => out.push(c),
            c => match u32::from(c) {
                code @ 0..0x100 => out.push_str(&format!("\\x{code:02x}")),
                code @ 0x100..0x1_0000 => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    out.push(quote);
    out
}

/// Python's `str.isprintable`: not control, format, surrogate, private, unassigned or separator,
/// but for the space.
fn printable(c: char) -> bool {
    if c == ' ' || c.is_ascii_graphic() {
        return true;
    }
    // The standard library escapes the same categories in Debug, but combining marks only at the
    // start.
    let after_a_letter: String = ['a', c].iter().collect();
    after_a_letter.escape_debug().nth(1) != Some('\\')
}

/// A rating without needless decimals.
pub(super) fn rating(x: f32) -> String {
    x.to_string()
}

/// A title on one line, so that it cannot break the list or the question.
pub(super) fn one_line(title: &str) -> String {
    if title.chars().any(char::is_control) {
        title.split(char::is_control).map(str::trim).filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" ")
    } else {
        title.into()
    }
}

/// A finished list.
pub(super) struct Listed {
    /// Without line break at the end.
    pub text: String,
    /// (byte behind the title, position in the items given), in the order of the text.
    pub titles: Vec<(usize, usize)>,
}

impl Listed {
    /// Pieces that are (text, title's end in it, position), with `between` them.
    fn join(pieces: impl Iterator<Item = (String, usize, usize)>, open: &str, between: &str, close: &str) -> Self {
        let mut listed = Self { text: open.into(), titles: Vec::new() };
        for (i, (piece, end, position)) in pieces.enumerate() {
            if i > 0 {
                listed.text.push_str(between);
            }
            listed.titles.push((listed.text.len() + end, position));
            listed.text.push_str(&piece);
        }
        listed.text.push_str(close);
        listed
    }
}

/// The items, each with its rating, in the order given. `likes` tells liked from disliked for
/// [`List::Grouped`].
pub(super) fn items(
    dataset: &Dataset,
    shown: &[Rated],
    settings: &PromptSettings,
    likes: impl Fn(f32) -> bool,
) -> Listed {
    let title = |r: &Rated| dataset.items.get(r.item.at()).map_or("", |i| i.title.as_str());
    let number = |i: usize| if settings.numbered { format!("{i}. ") } else { String::new() };
    let plain = |(i, r): (usize, &Rated)| {
        let title = number(i) + &one_line(title(r));
        (format!("{title}: {}", rating(r.rating)), title.len(), i)
    };
    let lines = |between: &str| Listed::join(shown.iter().enumerate().map(plain), "", between, "");
    match settings.list {
        List::Python => {
            // The word is plural when the rating exceeds 1.
            let star = |r: &Rated| if r.rating > 1.0 { "stars" } else { "star" };
            let quoted = |(i, r): (usize, &Rated)| {
                let title = number(i) + title(r);
                let whole = python_string(&format!("{title} ({} {})", rating(r.rating), star(r)));
                // What follows the title holds no quotes, so the title alone is printed the same.
                (whole, python_string(&title).len() - 1, i)
            };
            Listed::join(shown.iter().enumerate().map(quoted), "[", ", ", "]")
        }
        List::Lines => lines("\n"),
        List::Inline => lines("; "),
        List::Grouped => {
            let group = |word: &str, side: bool| {
                let titles = shown.iter().enumerate().filter(|(_, r)| likes(r.rating) == side).map(|(i, r)| {
                    let title = one_line(title(r));
                    let end = title.len();
                    (title, end, i)
                });
                let listed = Listed::join(titles, &format!("{word}: "), "; ", "");
                (!listed.titles.is_empty()).then_some(listed)
            };
            let capital = settings.style == Style::Short;
            let words = if capital { ["Liked", "Disliked"] } else { ["The user liked", "The user did not like"] };
            let mut all = Listed { text: String::new(), titles: Vec::new() };
            for group in [group(words[0], true), group(words[1], false)].into_iter().flatten() {
                if !all.text.is_empty() {
                    all.text.push('\n');
                }
                all.titles.extend(group.titles.iter().map(|&(end, i)| (all.text.len() + end, i)));
                all.text.push_str(&group.text);
            }
            all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values as CPython prints them.
    #[test]
    fn strings_are_printed_as_python_does() {
        for (text, want) in [
            ("Heat (1995)", "'Heat (1995)'"),
            ("Schindler's List", "\"Schindler's List\""),
            ("the \"Burbs\"", "'the \"Burbs\"'"),
            ("both ' and \"", "'both \\' and \"'"),
            ("back\\slash", "'back\\\\slash'"),
            ("a\nb\tc\rd\0e", "'a\\nb\\tc\\rd\\x00e'"),
            ("Les Misérables", "'Les Misérables'"),
            ("nbsp\u{a0}shy\u{ad}", "'nbsp\\xa0shy\\xad'"),
            ("zero\u{200b}width", "'zero\\u200bwidth'"),
            ("e\u{301}", "'e\u{301}'"),
            ("\u{301}", "'\u{301}'"),
            ("千と千尋 😀", "'千と千尋 😀'"),
            ("\u{e000}\u{10ffff}", "'\\ue000\\U0010ffff'"),
            ("\u{3000}", "'\\u3000'"),
            ("", "''"),
        ] {
            assert_eq!(python_string(text), want);
        }
    }
}
