//! Titles, descriptions and the corpus of the invented catalogue.

use std::collections::HashSet;

use super::Latent;
use super::words::{ADJECTIVES, GENRES, Genre, HEROES, NAMES, PLACES, RECEPTION, SETTINGS, THEMES};
use crate::data::{Dataset, Item, ItemIdx, UserIdx};
use crate::rng::Rng;

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len() as u32) as usize]
}

/// Titles given so far.
#[derive(Default)]
pub struct Titles(HashSet<String>);

impl Titles {
    /// A new title with its year. Most take a noun of the item's genre, a quarter one of any genre,
    /// so that a title hints at the genre without giving it away.
    pub fn invent(&mut self, rng: &mut Rng, genre: Genre, items: u32) -> String {
        let mut part = 1;
        loop {
            for _ in 0..20 {
                let nouns = if rng.below(4) == 0 { pick(rng, &GENRES).nouns } else { genre.nouns };
                let noun = pick(rng, &nouns);
                let name = match rng.below(5) {
                    0 => format!("The {} {noun}", pick(rng, &ADJECTIVES)),
                    1 => format!("{} {noun}", pick(rng, &ADJECTIVES)),
                    2 => format!("The {noun} of {}", pick(rng, &PLACES)),
                    3 => format!("{}'s {noun}", pick(rng, &NAMES)),
                    _ => format!("{noun} at {}", pick(rng, &PLACES)),
                };
                let name = if part > 1 { format!("{name}, Part {part}") } else { name };
                if self.0.insert(name.clone()) {
                    return format!("{name} ({})", 1935 + rng.below(66));
                }
            }
            // All names near this genre are taken: sequels, from a number that is free soon in a
            // large catalogue.
            part += 1 + rng.below(items / 500 + 1);
        }
    }
}

/// What a language model might say about the item: setting, hero, theme, genre marks, reception.
pub fn description(rng: &mut Rng, latent: &Latent, item: usize) -> String {
    let [(first, _), (second, share)] = latent.genres[item];
    let (genre, other) = (GENRES[first], GENRES[if share > 0.0 { second } else { first }]);
    let theme = THEMES[latent.theme[item]][1 + rng.below(2) as usize];
    // Quintiles of the standard normal distribution.
    let level = [-0.84, -0.25, 0.25, 0.84].iter().filter(|&&bound| latent.quality[item] > bound).count();
    let reception = pick(rng, &RECEPTION[level]);
    let mark = pick(rng, &genre.marks);
    let others: Vec<_> = other.marks.into_iter().filter(|&m| m != mark).collect();
    let other = pick(rng, &others);
    let (place, hero) = (pick(rng, &SETTINGS), pick(rng, &HEROES));
    match rng.below(3) {
        0 => format!(
            "Set in {place}, this {} story follows {hero} and turns on {theme}. It is rich in {mark} and {other}, and \
             its {} tone holds from the first scene to the last. {reception}.",
            genre.manner,
            pick(rng, &["serious", "playful", "wistful", "tense"])
        ),
        1 => format!(
            "At its centre stands {hero} in {place}. The plot, a {} tale, is about {theme}. Expect {mark}, with {other} \
             along the way, told at {} pace. {reception}.",
            genre.manner,
            pick(rng, &["a brisk", "an unhurried", "an uneven", "a steady"])
        ),
        _ => format!(
            "A {} piece about {theme}. The story begins when {hero} arrives in {place}, and it soon offers {mark} and \
             {other}. The direction is {}. {reception}.",
            genre.manner,
            pick(rng, &["restrained", "flamboyant", "old-fashioned", "inventive"])
        ),
    }
}

pub fn corpus(dataset: &Dataset, latent: &Latent, plain: &dyn Fn(&Item, &str) -> String) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for (item, description) in dataset.items.iter().zip(&latent.descriptions) {
        texts.push(plain(item, &dataset.noun));
        texts.push(description.clone());
        texts.push(format!("Will the user like the {} ***{}***?", dataset.noun, item.title));
    }
    let mut lists: Vec<Vec<String>> = vec![Vec::new(); dataset.users.len()];
    for row in &dataset.interactions {
        let plural = if row.rating > 1.0 { "s" } else { "" };
        let list = &mut lists[row.user.at()];
        if list.len() < 10 {
            list.push(format!("{} ({} star{plural})", dataset.items[row.item.at()].title, row.rating));
        }
    }
    for (u, (user, list)) in (0..).zip(dataset.users.iter().zip(lists)) {
        let field = |name| user.field(name).unwrap_or("unknown");
        let female = field("gender") == "female";
        let (whose, who) = if female { ("Her", "She") } else { ("His", "He") };
        texts.push(format!(
            "The user is a {}. {whose} job is {}. {whose} age is {}. {who} watched and rated: {}.",
            field("gender"),
            field("occupation"),
            field("age"),
            list.join(", ")
        ));
        // A little reasoning that agrees with the tastes, so that the words of an answer are in the
        // vocabulary.
        let item = ItemIdx(u % dataset.items.len() as u32);
        let likes = latent.score(UserIdx(u), item, dataset.interactions.first().map_or(0, |r| r.time)) > 3.5;
        let theme = THEMES[latent.theme[item.at()]][0];
        texts.push(if likes {
            format!("The user seems to enjoy stories about {theme}, so the rating could be above 3 stars. Yes.")
        } else {
            format!("The user seems not to care for stories about {theme}, so the rating may be low. No.")
        });
    }
    texts
}
