//! From the columns of a table to the settings that read it.

use super::roles::{self, Guess, Sure};
use super::tables::{self, Beside, Table};
use super::vocabulary as words;
use super::{Draft, Finding};
use crate::data::Damaged;
use crate::data::table::{Layout, Reader, TableSettings};
use crate::data::time::{Found, TimeFormat};
use crate::monitor::Monitor;

/// Words that rate, from the worst.
const WORDS: [(f32, &[&str]); 5] = [
    (
        1.0,
        &[
            "dislike",
            "disliked",
            "hate",
            "terrible",
            "awful",
            "negative",
            "not recommended",
            "thumbs_down",
            "down",
            "very bad",
            "👎",
            "no",
            "n",
        ],
    ),
    (2.0, &["bad", "poor", "weak", "schlecht"]),
    (3.0, &["neutral", "ok", "okay", "average", "fair", "mixed", "so-so", "mittel", "meh"]),
    (4.0, &["good", "nice", "gut"]),
    (
        5.0,
        &[
            "like",
            "liked",
            "love",
            "loved",
            "excellent",
            "great",
            "positive",
            "recommended",
            "thumbs_up",
            "up",
            "very good",
            "superb",
            "sehr gut",
            "👍",
            "yes",
            "y",
        ],
    ),
];

/// The draft for a table of ratings in a folder with other files.
pub fn draft(table: Table, others: &[String], monitor: &dyn Monitor) -> Draft {
    let best = |column: usize, vocabulary: &str, taken: Option<&str>| {
        let names = others.iter().filter(|name| Some(name.as_str()) != taken);
        let found = names.filter_map(|name| tables::beside(&table, &table.settings, name, column, vocabulary, monitor));
        found.filter(|b| !same_columns(b, &table)).max_by(|a, b| a.share.total_cmp(&b.share))
    };
    let (items, users) = if others.is_empty() || !matches!(table.sample.layout, Layout::Plain | Layout::Headless) {
        (None, None)
    } else {
        let items = best(table.roles.item.column, words::ITEM, None);
        let users = best(table.roles.user.column, words::USER, items.as_ref().map(|i| i.named.as_str()));
        (items, users)
    };
    draft_beside(table, items.as_ref(), users.as_ref(), monitor)
}

/// Another file of ratings is no table of items.
fn same_columns(beside: &Beside, table: &Table) -> bool {
    beside.columns.iter().map(|c| &c.name).eq(table.columns.iter().map(|c| &c.name))
}

/// The draft for a table of ratings with the tables of items and users beside it.
pub fn draft_beside(table: Table, items: Option<&Beside>, users: Option<&Beside>, _: &dyn Monitor) -> Draft {
    let sample = &table.sample;
    let about = if sample.whole {
        format!("{} rows", sample.rows)
    } else {
        format!("{} rows of about {}", sample.rows, sample.about)
    };
    let files = if sample.files > 1 { format!(", {} files", sample.files) } else { String::new() };
    let mut draft = Draft {
        looked_at: format!("{}: {}{files}, {about} looked at", table.named, sample.form),
        settings: table.settings.clone(),
        findings: Vec::new(),
        notes: Vec::new(),
        sizes: None,
    };
    draft.settings.table.ratings =
        if table.settings.table.query.is_empty() { table.named.clone() } else { TableSettings::default().ratings };
    if sample.form == "text" {
        let own = &draft.settings.table;
        let (separator, encoding) = (own.separator.clone(), own.encoding.clone());
        draft.found(
            "data.table.separator",
            separator.escape_debug().to_string(),
            Sure::High,
            "all rows have the same columns by it",
        );
        if !encoding.is_empty() {
            draft.found("data.table.encoding", encoding, Sure::High, "the first bytes");
        }
    }
    match sample.layout {
        Layout::Matrix => matrix(&mut draft, &table),
        Layout::Blocks => blocks(&mut draft, &table),
        Layout::Plain | Layout::Headless => plain(&mut draft, &table),
    }
    noun(&mut draft, &table, items);
    match items {
        Some(items) => about_items(&mut draft, &table, items),
        None => items_within(&mut draft, &table),
    }
    if let Some(users) = users {
        about_users(&mut draft, &table, users);
    }
    draft
}

/// A line a user, a column an item.
fn matrix(draft: &mut Draft, table: &Table) {
    let own = &mut draft.settings.table;
    own.time = String::new();
    draft.settings.split.by = crate::data::By::UserChance;
    draft.found("data.table", "a matrix", Sure::High, "the first line has a column an item behind the users");
    let values: Vec<f64> = table.sample.columns.get(2).into_iter().flatten().filter_map(|v| v.parse().ok()).collect();
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
    scale_of(draft, low, high, values.iter().all(|v| (2.0 * v).fract() == 0.0));
}

/// `item:`, then its rows.
fn blocks(draft: &mut Draft, table: &Table) {
    draft.found(
        "data.table",
        "blocks",
        Sure::High,
        "a line `ITEM:` stands before the rows of each item, as in the Netflix Prize",
    );
    let ratings = table.sample.columns.get(1).into_iter().flatten().filter_map(|v| v.parse::<f64>().ok());
    let (low, high) = ratings.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    scale_of(draft, low, high, true);
}

fn plain(draft: &mut Draft, table: &Table) {
    let roles = &table.roles;
    if !table.header {
        let name = |at: usize| {
            let is = |guess: Option<Guess>| guess.is_some_and(|guess| guess.column == at);
            let named = [
                ("user", is(Some(roles.user))),
                ("item", is(Some(roles.item))),
                ("rating", is(roles.rating)),
                ("time", is(roles.time)),
                ("event", is(roles.event)),
                ("count", is(roles.count)),
                ("split", is(roles.part)),
            ];
            named
                .iter()
                .find(|(_, is)| *is)
                .map_or_else(|| format!("column_{}", at + 1), |(name, _)| (*name).to_owned())
        };
        draft.settings.table.columns = (0..table.columns.len()).map(name).collect();
        let names = draft.settings.table.columns.join(", ");
        draft.found("data.table.columns", names, Sure::Medium, "the first line looks like a row, not like names");
        draft.settings.table.header = true;
    }
    let headless = draft.settings.table.columns.clone();
    let key = |at: usize| headless.get(at).cloned().unwrap_or_else(|| table.key(at));
    let shown = |at: usize| {
        let column = &table.columns[at];
        format!("{} different values, such as `{}`", column.distinct, column.example.escape_debug())
    };
    let mut add = |field: &str, guess: Guess| {
        draft.findings.push(Finding {
            key: format!("data.table.{field}"),
            value: key(guess.column),
            sure: guess.sure,
            why: shown(guess.column),
        });
        key(guess.column)
    };
    let (user, item) = (add("user", roles.user), add("item", roles.item));
    let [rating, event, count, part] =
        [("rating", roles.rating), ("event", roles.event), ("count", roles.count), ("part", roles.part)]
            .map(|(field, guess)| guess.map(|guess| add(field, guess)).unwrap_or_default());
    let own = &mut draft.settings.table;
    (own.user, own.item, own.rating, own.event, own.count, own.part) = (user, item, rating, event, count, part);
    times(draft, table, &key);
    if roles.rating.is_some() {
        rated(draft, table);
    }
    if draft.settings.table.rating.is_empty() && !draft.findings.iter().any(|f| f.key == "data.table.rating") {
        let what = if roles.event.is_some() || roles.count.is_some() {
            "events or counts instead"
        } else {
            "no column looks like one"
        };
        draft.found(
            "data.table.rating",
            "none",
            Sure::Medium,
            format!("{what}: every row is something that the user chose"),
        );
    }
    events(draft, table);
    damaged(draft, table);
}

fn times(draft: &mut Draft, table: &Table, key: &dyn Fn(usize) -> String) {
    let Some(guess) = table.roles.time else {
        draft.settings.table.time = String::new();
        if draft.settings.table.part.is_empty() {
            draft.settings.split.by = crate::data::By::UserChance;
        }
        let by_chance = "the split draws rows by chance";
        let why = match table.columns.iter().find(|column| words::named(&column.name, words::TIME) >= 50) {
            Some(named) => {
                draft.notes.push(format!(
                    "`{}` is called like a time, and its values, such as `{}`, are not read as times: if they are, write \
                     data.table.time and data.table.time_format by hand, and data.split.by = \"time\"",
                    named.written,
                    named.example.escape_debug()
                ));
                format!("see the notes: {by_chance}")
            }
            None => format!("no column looks like one: {by_chance}"),
        };
        draft.found("data.table.time", "none", Sure::Medium, why);
        return;
    };
    let column = &table.columns[guess.column];
    draft.settings.table.time = key(guess.column);
    let example = column.example.escape_debug().to_string();
    let (format, sure, why) = match (&column.typed, &column.time) {
        (Some(_), _) => (TimeFormat::Auto, Sure::High, "the file says that it holds times".to_owned()),
        (None, Some(Found::One(format))) => (format.clone(), Sure::High, format!("such as `{example}`")),
        (None, Some(Found::Two(one, other))) => {
            // A point or a semicolon is written where days stand first.
            let days_first = table.settings.table.separator == ";";
            let (chosen, not) = if days_first { (other, one) } else { (one, other) };
            draft.notes.push(format!(
                "times such as `{example}` fit `{one}` and `{other}`, and no row decides: `{chosen}` is written; if that is wrong, \
                 set data.table.time_format to \"{not}\""
            ));
            (chosen.clone(), Sure::Low, "two forms fit all rows".to_owned())
        }
        (None, _) => (TimeFormat::Auto, Sure::Low, format!("such as `{example}`")),
    };
    draft.settings.table.time_format = format.clone();
    draft.found("data.table.time", key(guess.column), guess.sure, format!("{}, {why}", said_of(&format)));
    if sure == Sure::Low {
        draft.found("data.table.time_format", format.to_string(), sure, "see the notes");
    }
    if format == TimeFormat::Seconds && !column.is_recent() {
        draft.notes.push(format!(
            "the times of `{}` lie outside of 1990 to 2040 when read as seconds: their order counts in any case",
            column.written
        ));
    }
}

fn said_of(format: &TimeFormat) -> String {
    match format {
        TimeFormat::Auto => "times".into(),
        TimeFormat::Seconds | TimeFormat::Milliseconds | TimeFormat::Microseconds | TimeFormat::Nanoseconds => {
            format!("{format} since 1970")
        }
        TimeFormat::Iso => "dates as ISO 8601 has them".into(),
        other => format!("times written as {other}"),
    }
}

/// What was taken for ratings is none.
fn without_ratings(draft: &mut Draft, sure: Sure, why: String) {
    draft.settings.table.rating = String::new();
    draft.findings.retain(|f| f.key != "data.table.rating");
    draft.found("data.table.rating", "none", sure, why);
}

/// Scale, words and threshold of the ratings.
fn rated(draft: &mut Draft, table: &Table) {
    let Some(guess) = table.roles.rating else { return };
    let column = &table.columns[guess.column];
    if column.is_constant() {
        let why = format!("every rating is `{}`, so they tell nothing apart", column.example);
        without_ratings(draft, Sure::High, why);
        return;
    }
    let Some(numbers) = column.numbers else {
        let rates = |word: &str| WORDS.iter().find(|(_, all)| all.contains(&&*word.to_lowercase())).map(|(n, _)| *n);
        let truths = column.words.keys().all(|w| ["true", "false"].contains(&&*w.to_lowercase()));
        let known: Option<Vec<(String, f32)>> =
            column.words.keys().map(|word| rates(word).map(|n| (word.clone(), n))).collect();
        if truths {
            draft.settings.table.scale = (0.0, 1.0);
            draft.found("data.table.scale", "0 to 1", Sure::High, "true is 1, false is 0");
        } else if let Some(known) = known {
            draft.settings.table.rating_words = known.iter().map(|(word, n)| format!("{word} = {n}")).collect();
            draft.settings.table.scale = (1.0, 5.0);
            draft.found(
                "data.table.rating_words",
                draft.settings.table.rating_words.join(", "),
                Sure::Medium,
                "by the usual meaning of the words",
            );
        } else {
            let all: Vec<&str> = column.words.keys().map(String::as_str).collect();
            let why = format!("`{}` has words whose meaning is not known", column.written);
            without_ratings(draft, Sure::Low, why);
            draft.notes.push(format!(
                "to take `{}` for ratings, set data.table.rating and data.table.rating_words for: {}",
                column.written,
                all.join(", ")
            ));
        }
        return;
    };
    if let Some(whole) = numbers.of {
        let low = if whole == 5.0 && numbers.low >= 1.0 { 1.0 } else { 0.0 };
        draft.settings.table.scale = (low, whole as f32);
        draft.found("data.table.scale", format!("{low} to {whole}"), Sure::High, "they are written as shares of that");
    } else if numbers.low == -1.0 && numbers.high > 2.0 && !column.words.is_empty() && !column.words.contains_key("0") {
        draft.settings.table.missing.push("-1".into());
        draft.settings.damaged = Damaged::Skip;
        draft.notes.push(
            "-1 among the ratings is taken for \"not rated\": data.table.missing lists it, and such rows are left out"
                .into(),
        );
        scale_of(draft, 1.0, numbers.high, numbers.halves);
    } else {
        scale_of(draft, numbers.low, numbers.high, numbers.halves);
    }
    threshold(draft, table, guess.column);
}

/// The usual scale that holds the ratings.
fn scale_of(draft: &mut Draft, low: f64, high: f64, halves: bool) {
    // The upper end of most use, with the lower ends that are usual with it.
    const SCALES: [(f64, &[f64]); 5] =
        [(1.0, &[0.0]), (5.0, &[1.0, 0.5, 0.0]), (10.0, &[1.0, 0.5, 0.0]), (20.0, &[0.0]), (100.0, &[1.0, 0.0])];
    // As far below zero as above it.
    let around = [1.0, 2.0, 3.0, 5.0, 10.0, 100.0].into_iter().find(|end| low < 0.0 && low >= -end && high <= *end);
    let around = around.map(|end| (-end, end));
    let usual = around.or_else(|| {
        SCALES.iter().filter(|(top, _)| high <= *top).find_map(|(top, ends)| {
            let end = ends.iter().find(|end| low >= **end)?;
            // Fractions below 1 are no stars.
            Some((*end, *top))
        })
    });
    let (scale, sure) = match usual {
        Some((end, top)) => {
            let reached = high > top / 2.0 && (halves || top <= 10.0);
            ((end as f32, top as f32), if reached { Sure::High } else { Sure::Medium })
        }
        None => ((low.floor() as f32, high.ceil() as f32), Sure::Low),
    };
    if sure == Sure::Low {
        draft.notes.push("the ratings fit no usual scale: check data.table.scale and data.threshold".into());
    }
    draft.settings.table.scale = scale;
    draft.found(
        "data.table.scale",
        format!("{} to {}", scale.0, scale.1),
        sure,
        format!("from {low} to {high} in the rows looked at"),
    );
}

/// Moves the threshold where the middle of the scale leaves hardly anything on one side.
fn threshold(draft: &mut Draft, table: &Table, column: usize) {
    let reader = Reader::new(&draft.settings.table);
    let mut all: Vec<f32> = table.sample.columns[column].iter().filter_map(|v| reader.read(v.as_bytes())).collect();
    all.sort_unstable_by(f32::total_cmp);
    let (Some(first), Some(last)) = (all.first().copied(), all.last().copied()) else { return };
    if first == last {
        return;
    }
    let liked = |bound: f32| all.iter().filter(|&&r| r > bound).count() as f64 / all.len() as f64;
    let middle = draft.settings.table.threshold();
    let (share, percent) = (liked(middle), |share: f64| format!("{:.0} % of the rows", 100.0 * share));
    if (0.04..=0.96).contains(&share) {
        draft.found(
            "data.threshold",
            format!("above {middle}"),
            Sure::High,
            format!("the middle of the scale; {} are likes", percent(share)),
        );
        return;
    }
    let mut steps = all.clone();
    steps.dedup();
    let best =
        steps[..steps.len() - 1].iter().min_by(|a, b| (liked(**a) - 0.5).abs().total_cmp(&(liked(**b) - 0.5).abs()));
    if let Some(&best) = best {
        draft.settings.threshold = Some(best);
        draft.found(
            "data.threshold",
            format!("above {best}"),
            Sure::Medium,
            format!(
                "{} are likes; by the middle of the scale, {middle}, {} would be",
                percent(liked(best)),
                percent(share)
            ),
        );
    }
}

/// Weights of kinds of events.
fn events(draft: &mut Draft, table: &Table) {
    let Some(guess) = table.roles.event else { return };
    let (mut weights, mut none, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for kind in table.columns[guess.column].words.keys() {
        match words::weight(kind) {
            Some(weight) if weight > 0.0 => weights.push((weight, kind.clone())),
            Some(_) => none.push(kind.clone()),
            None => {
                unknown.push(kind.clone());
                weights.push((1.0, kind.clone()));
            }
        }
    }
    weights.sort_by(|a, b| a.0.total_cmp(&b.0));
    draft.settings.table.weights = weights.iter().map(|(weight, kind)| format!("{kind} = {weight}")).collect();
    draft.found(
        "data.table.weights",
        draft.settings.table.weights.join(", "),
        Sure::Medium,
        "by the usual meaning of the words",
    );
    if !none.is_empty() {
        draft.notes.push(format!(
            "events `{}` are left out: they say no liking; data.table.weights may list them",
            none.join("`, `")
        ));
    }
    if !unknown.is_empty() {
        draft.notes.push(format!(
            "events `{}` weigh 1, as nothing is known of them: see data.table.weights",
            unknown.join("`, `")
        ));
    }
}

/// Leaves damaged rows out where there are some.
fn damaged(draft: &mut Draft, table: &Table) {
    let roles = &table.roles;
    let mut why = Vec::new();
    for guess in [Some(roles.user), Some(roles.item), roles.rating, roles.time].into_iter().flatten() {
        let column = &table.columns[guess.column];
        if column.known < column.rows {
            why.push(format!("{} of {} rows have no `{}`", column.rows - column.known, column.rows, column.written));
        }
    }
    if table.sample.ragged > 0 {
        why.push(format!("{} rows have other columns than the first one", table.sample.ragged));
    }
    let low = roles.count.and_then(|guess| table.columns[guess.column].numbers).map(|n| n.low);
    if low.is_some_and(|low| low <= 0.0) {
        why.push("some counts are not above 0".into());
    }
    if !why.is_empty() {
        draft.settings.damaged = Damaged::Skip;
        draft.found("data.damaged", "skip", Sure::High, why.join("; "));
    }
}

fn noun(draft: &mut Draft, table: &Table, items: Option<&Beside>) {
    let item = table.columns.get(table.roles.item.column).map_or("", |column| column.name.as_str());
    let names = [items.map(|items| items.named.as_str()).unwrap_or_default(), item, &table.named];
    let of_file = names.iter().find_map(|name| words::noun(name));
    if let Some(noun) = of_file {
        draft.settings.table.noun = noun.into();
        draft.found(
            "data.table.noun",
            noun,
            Sure::Medium,
            "what prompts call an item, by the names of files and columns",
        );
    }
}

/// How a template names a column.
fn braces(name: &str) -> Option<String> {
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    match name {
        "" => None,
        _ if plain => Some(name.to_owned()),
        _ if !name.contains('"') => Some(format!("row[\"{name}\"]")),
        _ if !name.contains('\'') => Some(format!("row['{name}']")),
        _ => None,
    }
}

/// Title and genres out of a table of items.
fn about_items(draft: &mut Draft, table: &Table, items: &Beside) {
    let columns = &items.columns;
    let best = |score: &dyn Fn(&super::column::Column) -> i32, not: &[usize]| {
        let scored = columns.iter().enumerate().filter(|(at, _)| *at != items.id && !not.contains(at));
        let scored = scored.map(|(at, column)| (at, score(column))).filter(|(_, score)| *score > 0);
        scored.max_by_key(|&(at, score)| (score, std::cmp::Reverse(at))).map(|(at, _)| at)
    };
    // Without a name, the first column of different short texts.
    let texts = |c: &super::column::Column| {
        let fits =
            c.letters > 0.9 && c.length >= 4.0 && c.length < 100.0 && c.distinct * 2 > c.known && !c.is_surely_time();
        i32::from(fits)
    };
    let title = best(&roles::title, &[]).or_else(|| best(&texts, &[]));
    let genres = best(&roles::genres, &title.into_iter().collect::<Vec<_>>());
    if title.is_none() && genres.is_none() {
        return items_within(draft, table);
    }
    let own = &mut draft.settings.table;
    own.items.clone_from(&items.named);
    let id = &columns[items.id].written;
    if !id.eq_ignore_ascii_case(&own.item) {
        own.item_id.clone_from(id);
    }
    let name = title.and_then(|at| braces(&columns[at].written));
    let year = columns
        .iter()
        .position(|c| matches!(&*c.name, "year" | "release_year" | "year_of_publication" | "year-of-publication"));
    own.title = match (&name, year.and_then(|at| braces(&columns[at].written)).filter(|y| !y.starts_with("row"))) {
        (Some(name), Some(year)) => format!("{{{{ {name} }}}}{{% if {year} %}} ({{{{ {year} }}}}){{% endif %}}"),
        (Some(name), None) => format!("{{{{ {name} }}}}"),
        (None, _) => format!("{{{{ {} }}}}", braces(id).unwrap_or_else(|| "id".into())),
    };
    let share = format!("{:.0} % of the items' ids are in it, in `{id}`", 100.0 * items.share);
    let sure = if items.share > 0.7 { Sure::High } else { Sure::Medium };
    draft.found("data.table.items", items.named.clone(), sure, share);
    if let Some(at) = title {
        draft.found(
            "data.table.title",
            columns[at].written.clone(),
            Sure::Medium,
            format!("such as `{}`", columns[at].example),
        );
    }
    if let Some(at) = genres {
        genre(draft, &columns[at]);
    }
    if columns[items.id].distinct < columns[items.id].known && draft.settings.damaged == Damaged::Auto {
        draft.settings.damaged = Damaged::Skip;
        draft.found(
            "data.damaged",
            "skip",
            Sure::High,
            format!("`{id}` of {} has some ids twice: the first one counts", items.named),
        );
    }
}

fn genre(draft: &mut Draft, column: &super::column::Column) {
    let own = &mut draft.settings.table;
    own.genres.clone_from(&column.written);
    let texts: Vec<&String> = column.words.keys().collect();
    let example = column.example.clone();
    let with = |separator: &str| texts.iter().any(|text| text.contains(separator)) || example.contains(separator);
    let separator =
        ["|", "; ", ";", ", ", ",", " > ", "/", " & "].into_iter().find(|separator| with(separator)).unwrap_or("|");
    if !example.starts_with('[') {
        own.genre_separator = separator.into();
    }
    draft.found("data.table.genres", column.written.clone(), Sure::Medium, format!("such as `{example}`"));
}

/// Title and genres that stand in the rows of the ratings themselves.
fn items_within(draft: &mut Draft, table: &Table) {
    let Some(at) = table.roles.title.filter(|_| table.header) else { return };
    let Some(name) = braces(&table.key(at)) else { return };
    if draft.settings.table.queries() || table.sample.files > 1 {
        return;
    }
    let own = &mut draft.settings.table;
    own.items.clone_from(&own.ratings);
    own.title = format!("{{{{ {name} }}}}");
    draft.settings.damaged = Damaged::Skip;
    draft.found(
        "data.table.items",
        table.named.clone(),
        Sure::Medium,
        "rows of the log itself say what an item is called; the first one of an item counts",
    );
    draft.found(
        "data.table.title",
        table.columns[at].written.clone(),
        Sure::Medium,
        format!("such as `{}`", table.columns[at].example),
    );
    if let Some(at) = table.roles.genres {
        genre(draft, &table.columns[at]);
    }
}

/// What is known of users, in words.
fn about_users(draft: &mut Draft, table: &Table, users: &Beside) {
    let traits =
        users.columns.iter().enumerate().filter(|(at, c)| {
            *at != users.id && words::has(&c.name, words::TRAITS) && c.length < 40.0 && c.filled() > 0.2
        });
    let said: Vec<String> = traits
        .take(4)
        .filter_map(|(_, column)| {
            let name = braces(&column.written)?;
            let label = column.name.replace(['_', '-', '.'], " ");
            Some(format!("{{% if {name} %}}{label}: {{{{ {name} }}}}. {{% endif %}}"))
        })
        .collect();
    if said.is_empty() {
        return;
    }
    let own = &mut draft.settings.table;
    own.users.clone_from(&users.named);
    let id = &users.columns[users.id].written;
    if !id.eq_ignore_ascii_case(&own.user) {
        own.user_id.clone_from(id);
    }
    own.user_text = said.concat();
    draft.found(
        "data.table.users",
        users.named.clone(),
        Sure::Medium,
        format!("{:.0} % of the users' ids are in it, in `{id}`", 100.0 * users.share),
    );
    let _ = table;
}
