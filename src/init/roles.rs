//! Which column of a table says what: by its name, and by what its values look like.

use std::collections::HashMap;

use super::column::Column;
use super::vocabulary as words;
use crate::data::{Part, table::Sample};

/// How sure a guess is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sure {
    /// By place, or by values alone.
    Low,
    /// The name or the values say it, and not both.
    Medium,
    /// Name and values say it.
    High,
}

impl Sure {
    /// In a word, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "unsure",
            Self::Medium => "likely",
            Self::High => "sure",
        }
    }

    fn of(score: i32) -> Self {
        match score {
            55.. => Self::High,
            32.. => Self::Medium,
            _ => Self::Low,
        }
    }
}

/// A column for a role.
#[derive(Debug, Clone, Copy)]
pub struct Guess {
    pub column: usize,
    pub sure: Sure,
}

/// The columns of a table of ratings.
#[derive(Debug, Clone)]
pub struct Roles {
    pub user: Guess,
    pub item: Guess,
    pub rating: Option<Guess>,
    pub event: Option<Guess>,
    pub count: Option<Guess>,
    pub time: Option<Guess>,
    pub part: Option<Guess>,
    /// Columns that say something of the item.
    pub title: Option<usize>,
    pub genres: Option<usize>,
    /// How well all of it fits.
    pub score: i32,
}

/// The roles of a table's columns; `None` where no two columns may be users and items.
pub fn of(sample: &Sample, columns: &[Column]) -> Option<Roles> {
    let (user, item, ids) = pair(columns)?;
    let taken = |at: usize| at == user.column || at == item.column;
    let best = |score: &dyn Fn(&Column) -> i32, used: &dyn Fn(usize) -> bool| {
        let scored = columns.iter().enumerate().filter(|(at, _)| !used(*at)).map(|(at, c)| (at, score(c)));
        // The first of several.
        scored
            .filter(|&(_, score)| score > 0)
            .max_by_key(|&(at, score)| (score, std::cmp::Reverse(at)))
            .map(|(at, score)| (Guess { column: at, sure: Sure::of(score) }, score))
    };
    let time = best(&time, &taken);
    let used = |at: usize| taken(at) || time.is_some_and(|(guess, _)| guess.column == at);
    let part = best(&part, &used).map(|(guess, _)| guess);
    let used = |at: usize| used(at) || part.is_some_and(|guess| guess.column == at);
    let (rating, event) = (best(&rating, &used), best(&event, &used));
    // A log of events may have numbers that look like ratings.
    let rating = rating.filter(|(_, score)| event.is_none_or(|(_, other)| *score >= other));
    let event = if rating.is_some() { None } else { event };
    let count = if rating.is_some() { None } else { best(&count, &used) };
    let rest =
        |at: usize| used(at) || [rating, event, count].into_iter().flatten().any(|(guess, _)| guess.column == at);
    let of_item = |at: usize| tells_of(sample, item.column, at);
    let title = best(&title, &|at| rest(at) || !of_item(at)).map(|(guess, _)| guess.column);
    let genres = best(&genres, &|at| rest(at) || Some(at) == title || !of_item(at)).map(|(guess, _)| guess.column);
    let parts = [rating, time, event, count].into_iter().flatten().map(|(_, score)| score / 2).sum::<i32>();
    let [rating, event, count, time] = [rating, event, count, time].map(|found| found.map(|(guess, _)| guess));
    Some(Roles { user, item, rating, event, count, time, part, title, genres, score: ids + parts })
}

/// The columns of users and items that fit best together.
fn pair(columns: &[Column]) -> Option<(Guess, Guess, i32)> {
    let mut best: Option<(Guess, Guess, i32)> = None;
    for (u, user) in columns.iter().enumerate() {
        for (i, item) in columns.iter().enumerate() {
            let (Some(a), Some(b)) = (id(user, words::USER, 'u'), id(item, words::ITEM, 'i')) else { continue };
            if u == i {
                continue;
            }
            // Without names users stand before items.
            let score = a + b + i32::from(u < i) * 2 - (u.max(i) as i32).min(6);
            if best.as_ref().is_none_or(|(_, _, other)| score > *other) {
                let guess = |column, score| Guess { column, sure: Sure::of(score) };
                best = Some((guess(u, a), guess(i, b), score));
            }
        }
    }
    best
}

/// How well a column fits as ids of users (`u`) or items (`i`).
fn id(column: &Column, names: &str, role: char) -> Option<i32> {
    if !column.may_be_ids() || column.is_surely_time() {
        return None;
    }
    let mut score = words::named(&column.name, names);
    let other =
        if role == 'u' { words::named(&column.name, words::ITEM) } else { words::named(&column.name, words::USER) };
    if score < other {
        score = 0;
    }
    if score < 60 && words::has(&column.name, words::OTHER_IDS) {
        score -= 40;
    }
    if words::has(&column.name, words::TITLE) && !words::has(&column.name, "id") {
        score -= 8;
    }
    let spoken = [words::RATING, words::TIME, words::COUNT, words::EVENT, words::GENRES];
    if score == 0 && (other >= 35 || spoken.iter().any(|list| words::named(&column.name, list) >= 35)) {
        return None;
    }
    if score == 0 && (column.is_recent() || column.numbers.is_some_and(|n| n.low < 0.0)) {
        return None;
    }
    if score <= 0 && column.words.keys().all(|word| Part::of_word(word).is_some()) && !column.words.is_empty() {
        return None;
    }
    let mut chars = column.example.chars();
    let (first, second) = (chars.next().unwrap_or(' ').to_ascii_lowercase(), chars.next().unwrap_or(' '));
    let hint = if column.letters < 0.9 {
        0
    } else if column.example.len() == 10 && first == 'b' && column.example.chars().all(|c| c.is_ascii_alphanumeric()) {
        // Amazon's products.
        if role == 'i' { 8 } else { -8 }
    } else if !second.is_alphabetic() {
        match first {
            'u' | 'c' => {
                if role == 'u' {
                    6
                } else {
                    -6
                }
            }
            'i' | 'm' | 'p' | 'b' => {
                if role == 'i' {
                    6
                } else {
                    -6
                }
            }
            _ => 0,
        }
    } else {
        0
    };
    score += 12 + hint;
    score -= if column.is_constant() { 40 } else { 0 };
    score -= if column.is_key() { 30 } else { 0 };
    score -= if column.distinct <= 5 { 10 } else { 0 };
    Some(score)
}

fn rating(column: &Column) -> i32 {
    let name = words::named(&column.name, words::RATING);
    if column.is_surely_time() || column.known == 0 {
        return 0;
    }
    if name < 60 && words::has(&column.name, "id count average avg date time text") {
        return 0;
    }
    let Some(numbers) = column.numbers else {
        // Words, or true and false.
        let few = (1..=8).contains(&column.distinct) && column.length < 20.0;
        let truths = few && column.words.keys().all(|w| ["true", "false", "yes", "no"].contains(&&*w.to_lowercase()));
        return match name {
            35.. if truths => name + 10,
            35.. if few => name,
            _ => 0,
        };
    };
    let on_scale = numbers.of.is_some() || (numbers.low >= -10.0 && numbers.high <= 100.0);
    match name {
        22.. if on_scale => name + 10,
        35.. => name - 20,
        22.. => 0,
        // Without a name: a scale as they are usual, with most of its steps, and no other meaning.
        _ => {
            let usual = numbers.low >= -1.0 && numbers.high <= 10.0 && numbers.halves;
            let other = words::has(&column.name, words::OTHER_NUMBERS);
            let fits = usual && (2..=21).contains(&column.distinct) && column.filled() > 0.5 && !other;
            if fits { 16 } else { 0 }
        }
    }
}

fn time(column: &Column) -> i32 {
    let mut name = words::named(&column.name, words::TIME);
    if words::has(&column.name, words::OTHER_TIMES) {
        name = (name - 30).max(0);
    }
    if column.is_surely_time() {
        return name.min(50) + 22;
    }
    match column.is_time() {
        true if column.is_recent() && !column.is_constant() => match &column.time {
            // Years and days as numbers may be something else.
            Some(crate::data::time::Found::One(crate::data::time::TimeFormat::Year)) if name < 50 => 0,
            // As long as numbers of times are, they are hardly anything else.
            _ => name.min(50) + 34,
        },
        // Counted from any day: their order says enough.
        true if name >= 50 && column.distinct > 5 => name - 25,
        _ => 0,
    }
}

fn event(column: &Column) -> i32 {
    if !(2..=24).contains(&column.distinct) || column.words.is_empty() || column.letters < 0.5 {
        return 0;
    }
    let known = column.words.iter().filter(|(word, _)| words::weight(word).is_some()).map(|(_, n)| n).sum::<usize>();
    let share = known as f64 / column.known.max(1) as f64;
    let name = words::named(&column.name, words::EVENT);
    match (share > 0.8, name) {
        (true, _) => 40 + name / 3,
        (false, 50..) if share > 0.3 => name - 15,
        _ => 0,
    }
}

fn count(column: &Column) -> i32 {
    let Some(numbers) = column.numbers else { return 0 };
    let name = words::named(&column.name, words::COUNT);
    if name >= 35 && !column.is_constant() && numbers.high > 0.0 { name } else { 0 }
}

fn part(column: &Column) -> i32 {
    let all = !column.words.is_empty() && column.words.keys().all(|word| Part::of_word(word).is_some());
    if all && (2..=3).contains(&column.distinct) { 40 + words::named(&column.name, words::PART) / 2 } else { 0 }
}

/// How well a column fits as the title of items.
pub fn title(column: &Column) -> i32 {
    let name = words::named(&column.name, words::TITLE);
    let long = words::has(&column.name, words::TEXT) || column.length > 120.0;
    if name < 22 || column.letters < 0.5 || column.is_surely_time() || column.filled() < 0.3 || column.is_constant() {
        return 0;
    }
    // The title of what somebody wrote is none of the item's.
    if words::has(&column.name, "review comment summary user customer reviewer") {
        return 0;
    }
    let id = if words::has(&column.name, "id author publisher artist director user") { 25 } else { 0 };
    (name - id - if long { 15 } else { 0 }).max(0)
}

/// How well a column fits as the genres of items.
pub fn genres(column: &Column) -> i32 {
    let name = words::named(&column.name, words::GENRES);
    let id = words::has(&column.name, "id code");
    if name < 35 || id || column.letters < 0.5 || column.is_key() || column.length > 150.0 { 0 } else { name }
}

/// Whether a column has one value for each item, for nearly all items.
fn tells_of(sample: &Sample, item: usize, at: usize) -> bool {
    let (Some(items), Some(values)) = (sample.columns.get(item), sample.columns.get(at)) else { return false };
    let mut first: HashMap<&str, &str> = HashMap::new();
    let (mut again, mut same) = (0usize, 0usize);
    for (item, value) in items.iter().zip(values) {
        match first.get(item.as_str()) {
            Some(before) => {
                again += 1;
                same += usize::from(before == value);
            }
            None => drop(first.insert(item, value)),
        }
    }
    again == 0 || same * 10 >= again * 9
}

/// Whether the first line of a text has names and no row.
pub fn has_header(columns: &[Column]) -> bool {
    let lists = [words::USER, words::ITEM, words::RATING, words::TIME, words::TITLE, words::EVENT, words::COUNT];
    let wordy =
        |name: &str| name.chars().any(char::is_alphabetic) && name.chars().filter(char::is_ascii_digit).count() < 3;
    let spoken = |c: &Column| wordy(&c.name) && lists.iter().any(|list| words::named(&c.name, list) >= 50);
    if columns.iter().filter(|c| spoken(c)).count() >= columns.len().min(2) {
        return true;
    }
    // A value of its column is no name of it.
    if columns.iter().any(|c| c.words.contains_key(&c.written)) {
        return false;
    }
    let is_number = |text: &str| text.replace(',', ".").parse::<f64>().is_ok();
    let counted: Vec<&Column> = columns.iter().filter(|c| c.numbers.is_some()).collect();
    if !counted.is_empty() {
        return !counted.iter().any(|c| is_number(&c.written));
    }
    columns.iter().any(spoken)
}
