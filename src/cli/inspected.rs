//! What `data inspect` prints for people.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::data::inspect::{Counts, Inspection, PartSummary};
use crate::pipeline::progress::thousands;

/// Widest bar of a histogram, in characters.
const WIDE: usize = 40;

/// Sections with a heading each.
pub fn render(found: &Inspection) -> String {
    let mut out = format!("{}\n\n{}\n", found.name, counts(found));
    if !found.filters.is_empty() {
        let rows = found
            .filters
            .iter()
            .map(|step| vec![step.filter.clone(), number(step.ratings), number(step.users), number(step.items)]);
        section(&mut out, "what each filter leaves", &["", "ratings", "users", "items"], rows);
    }
    if !found.histogram.is_empty() {
        let most = found.histogram.iter().map(|bin| bin.1).max().unwrap_or(1).max(1);
        let rows = found.histogram.iter().map(|&(rating, count)| {
            let liked = if rating > found.threshold { "like" } else { "" };
            let share = 100.0 * count as f64 / found.ratings.max(1) as f64;
            let bar = "#".repeat((count * WIDE).div_ceil(most));
            vec![format!("{rating}"), number(count), format!("{share:.1} %"), liked.into(), bar]
        });
        let heading = format!("ratings; above {} is a like", found.threshold);
        section(&mut out, &heading, &["rating", "rows", "share", "", ""], rows);
    }
    if !found.parts.is_empty() {
        let rows = found.parts.iter().map(part);
        let heading = format!("samples, split by {}", found.split);
        section(
            &mut out,
            &heading,
            &["part", "samples", "likes", "first", "last", "shortest history", "median", "longest"],
            rows,
        );
    }
    if !found.cores.is_empty() {
        let rows = found
            .cores
            .iter()
            .map(|core| vec![core.k.to_string(), number(core.ratings), number(core.users), number(core.items)]);
        section(&mut out, "k-cores: users and items with k ratings or more", &["k", "ratings", "users", "items"], rows);
    }
    let mut rows = vec![samples("correct", &found.correct)];
    rows.extend(found.switches.iter().map(|step| samples(&step.switch, &step.counts)));
    if found.switches.len() != 1 {
        rows.push(samples("as the authors' code", &found.faithful));
    }
    section(
        &mut out,
        "samples, and those of the authors' code",
        &["", "train", "valid", "test", "target in its history"],
        rows.into_iter(),
    );
    for step in &found.switches {
        out.push_str(&format!("  {}: {}\n", step.switch, step.why));
    }
    out.push_str(&format!("  difference: {}\n", found.difference));
    for warning in &found.warnings {
        out.push_str(&format!("\nwarning: {warning}\n"));
    }
    if !found.note.is_empty() {
        out.push_str(&format!("\nnote: {}\n", found.note));
    }
    out
}

fn number(count: usize) -> String {
    thousands(count as u64)
}

/// Names and values, in two columns.
fn counts(found: &Inspection) -> String {
    let of = |what: usize, all: usize| format!("{} of {}", number(what), number(all));
    let mut rows = vec![
        ("ratings", number(found.ratings)),
        ("users with ratings", of(found.active_users, found.users)),
        ("users with a profile", of(found.users_with_profile, found.users)),
        ("items with ratings", of(found.rated_items, found.items)),
        ("items without title", number(found.items_without_title)),
        ("items without genre", number(found.items_without_genre)),
    ];
    if let Some(without) = found.items_without_description {
        rows.push(("items without description", number(without)));
    }
    rows.push(("density", format!("{:.3} %", 100.0 * found.density)));
    let times = found.time_range.map_or("none".into(), |(first, last)| format!("{} to {}", date(first), date(last)));
    rows.push(("times, UTC", times));
    if found.repeated_rows > 0 {
        let same = number(found.exact_repeats);
        rows.push(("repeated rows", format!("{}, {same} of them equal in everything", number(found.repeated_rows))));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("  {name:<width$}  {value}\n")).collect()
}

fn part(part: &PartSummary) -> Vec<String> {
    let day = |at: fn(&(i64, i64)) -> i64| part.time_range.as_ref().map_or("-".into(), |range| date(at(range)));
    let quantile = |at: usize| part.history.get(at).map_or("-".into(), |length| number(*length));
    vec![
        part.name.clone(),
        number(part.samples),
        format!("{:.1} %", 100.0 * part.positives),
        day(|range| range.0),
        day(|range| range.1),
        quantile(0),
        quantile(part.history.len() / 2),
        quantile(part.history.len().saturating_sub(1)),
    ]
}

fn samples(name: &str, counts: &Counts) -> Vec<String> {
    vec![
        name.to_owned(),
        number(counts.train),
        number(counts.valid),
        number(counts.test),
        number(counts.target_in_history),
    ]
}

/// Seconds since 1970 as `2024-05-17 18:03:11`, UTC.
fn date(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).ok();
    time.map_or_else(
        || number(seconds.max(0) as usize),
        |time| jiff::tz::TimeZone::UTC.to_datetime(time).strftime("%F %T").to_string(),
    )
}

/// A table under a heading, numbers on the right.
fn section(out: &mut String, heading: &str, header: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        if at > 0 && !header[at].is_empty() {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    out.push_str(&format!("\n{heading}\n\n{table}\n"));
}
