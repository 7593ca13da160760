//! What looks wrong about a data set although every row of it is sound: said before any work.

use super::Dataset;
use super::dataset::Interaction;
use super::settings::DataSettings;
use crate::monitor::Monitor;

/// Fewer ratings than this say nothing about a share.
const ENOUGH: usize = 100;
/// Seconds of 1970, and the end of 1989: nothing that is learnt from lies between, and times of the
/// one beside times of the other are of two units, cut short, or stand for "not known".
const YEAR_ONE: i64 = 365 * 86_400;
const NINETIES: i64 = 631_152_000;
/// Ids by which programs say that they do not know one.
const NOBODY: [&str; 12] = [
    "-1",
    "unknown",
    "undefined",
    "anonymous",
    "anon",
    "guest",
    "nobody",
    "missing",
    "nil",
    "(null)",
    "#n/a",
    "not available",
];

/// Warns of what looks wrong.
pub fn tell(dataset: &Dataset, settings: &DataSettings, monitor: &dyn Monitor) {
    for (what, next) in found(dataset, settings) {
        monitor.warn(&what, &next);
    }
}

fn found(dataset: &Dataset, settings: &DataSettings) -> Vec<(String, String)> {
    let rows = &dataset.interactions;
    let all = rows.len();
    let mut out = Vec::new();
    if all < ENOUGH {
        return out;
    }
    let mut add = |what: String, next: &str| out.push((what, next.to_owned()));
    let most = |count: usize, of: &dyn Fn(&Interaction) -> usize| {
        let mut counts = vec![0usize; count];
        rows.iter().for_each(|row| counts[of(row)] += 1);
        counts.into_iter().enumerate().max_by_key(|&(at, n)| (n, std::cmp::Reverse(at)))
    };
    let user = most(dataset.users.len(), &|row| row.user.at()).map(|(at, n)| (&dataset.users[at].raw, n));
    let item = most(dataset.items.len(), &|row| row.item.at()).map(|(at, n)| (&dataset.items[at].raw, n));
    for (what, found) in [("user", user), ("item", item)] {
        if let Some((id, n)) = found.filter(|&(_, n)| 2 * n >= all) {
            add(
                format!("{what} `{}` has {n} of all {all} ratings", id.0),
                "an id that stands for \"nobody\" can be named in data.table.missing; otherwise leave those rows out",
            );
        }
    }
    let user = dataset.users.iter().map(|user| &user.raw.0).position(|id| is_nobody(id));
    let item = dataset.items.iter().map(|item| &item.raw.0).position(|id| is_nobody(id));
    for (what, place) in [("user", user), ("item", item)] {
        let Some(at) = place.filter(|_| dataset.name == "table") else { continue };
        let (id, n) = if what == "user" {
            (&dataset.users[at].raw.0, rows.iter().filter(|row| row.user.at() == at).count())
        } else {
            (&dataset.items[at].raw.0, rows.iter().filter(|row| row.item.at() == at).count())
        };
        if 100 * n >= all && 2 * n < all {
            add(
                format!("{n} of {all} ratings are of {what} `{id}`, which may stand for no {what} at all"),
                "name it in data.table.missing and set data.damaged to \"skip\": then such rows are left out",
            );
        }
    }
    if !settings.is_implicit() {
        let liked = rows.iter().filter(|row| row.rating > settings.threshold()).count();
        if liked == 0 || liked == all {
            let side = if liked == 0 { "no rating is" } else { "every rating is" };
            add(
                format!(
                    "{side} above {}, the threshold of a like: there is nothing to tell apart",
                    settings.threshold()
                ),
                "set data.threshold to a value between the ratings; `rallrec data inspect` prints their histogram",
            );
        }
        let (low, high) = dataset.scale;
        let ends = rows.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), r| (a.min(r.rating), b.max(r.rating)));
        let third = (high - low) / 3.0;
        if dataset.name == "table" && (ends.1 <= low + third || ends.0 >= high - third) {
            add(
                format!("all ratings lie from {} to {}, and the scale goes from {low} to {high}", ends.0, ends.1),
                "check data.table.scale: the threshold of a like is its middle where data.threshold is not set",
            );
        }
    }
    let early = rows.iter().filter(|row| row.time < YEAR_ONE).count();
    let late = rows.iter().any(|row| row.time >= NINETIES);
    if dataset.has_times && early > 0 && late {
        let first = rows.iter().map(|row| row.time).min().unwrap_or_default();
        add(
            format!(
                "the times of {early} of {all} ratings lie in 1970, the first at second {first}, all others far behind"
            ),
            "they are cut short, of another unit, or stand for \"not known\": mend or remove them; they come before all others",
        );
    } else if dataset.has_times && early == all && !["table", "synthetic"].contains(&dataset.name.as_str()) {
        add(
            "the times of all ratings lie in 1970".into(),
            "check their unit, and that the files are of this kind of data; their order counts in any case",
        );
    }
    if dataset.has_times && rows.windows(2).all(|two| two[0].time == two[1].time) {
        add(
            format!("every rating has the same time, {}: there is no order to learn from", rows[0].time),
            "check data.table.time, or set it to \"\" if the data has no times",
        );
    }
    out
}

fn is_nobody(id: &str) -> bool {
    NOBODY.iter().any(|word| word.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Item, ItemIdx, Kind, RawId, User, UserIdx};

    fn dataset(row: impl Fn(u32) -> (u32, u32, f32, i64)) -> Dataset {
        let raw = |n: u32| RawId(n.to_string());
        let item = |n| Item { raw: raw(n), title: String::new(), genres: Vec::new(), fields: Vec::new() };
        let interaction = |n| {
            let (user, item, rating, time) = row(n);
            Interaction { user: UserIdx(user), item: ItemIdx(item), rating, time, part: None }
        };
        Dataset {
            name: "table".into(),
            noun: "item".into(),
            scale: (1.0, 5.0),
            has_times: true,
            items: (0..20).map(item).collect(),
            users: (0..20).map(|n| User { raw: raw(n), fields: Vec::new() }).collect(),
            interactions: (0..200).map(interaction).collect(),
        }
    }

    fn said(row: impl Fn(u32) -> (u32, u32, f32, i64)) -> String {
        found(&dataset(row), &DataSettings::new(Kind::TABLE, "")).into_iter().map(|(what, _)| what + "\n").collect()
    }

    #[test]
    fn what_looks_wrong_is_said_and_nothing_else() {
        let rating = |n: u32| 1.0 + (n % 5) as f32;
        let sound = |n: u32| (n % 20, n / 10, rating(n), i64::from(n));
        assert_eq!(said(sound), "");
        assert_eq!(
            said(|n| (if n % 2 == 0 { 7 } else { n % 20 }, n / 10, rating(n), 9 + i64::from(n))).lines().count(),
            1
        );
        for (words, row) in [
            (
                "user `7` has 112 of all 200",
                (|n| (if n < 108 { 7 } else { n % 20 }, n / 10, 1.0 + (n % 5) as f32, i64::from(n))) as fn(u32) -> _,
            ),
            ("item `3` has 200 of all 200", |n| (n % 20, 3, 1.0 + (n % 5) as f32, i64::from(n))),
            ("every rating is above 3", |n| (n % 20, n / 10, 3.5 + (n % 2) as f32 - 0.4, i64::from(n))),
            ("no rating is above 3", |n| (n % 20, n / 10, 1.0 + (n % 3) as f32, i64::from(n))),
            ("all ratings lie from 1 to 2, and the scale goes from 1 to 5", |n| {
                (n % 20, n / 10, 1.0 + (n % 2) as f32, i64::from(n))
            }),
            ("every rating has the same time, 9", |n| (n % 20, n / 10, 1.0 + (n % 5) as f32, 9)),
        ] {
            assert!(said(row).contains(words), "{words}: {}", said(row));
        }
        let late = |n: u32| (n % 20, n / 10, rating(n), 1_500_000_000 + i64::from(n));
        assert_eq!(said(late), "");
        let early = |n: u32| if n == 199 { (19, 19, 5.0, 1500) } else { late(n) };
        assert!(said(early).contains("the times of 1 of 200 ratings lie in 1970, the first at second 1500"));
        let mut unknown = dataset(late);
        unknown.users[3].raw = RawId("Guest".into());
        let found = found(&unknown, &DataSettings::new(Kind::TABLE, ""));
        assert!(found.len() == 1 && found[0].0.contains("10 of 200 ratings are of user `Guest`"), "{found:?}");
    }
}
