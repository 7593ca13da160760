//! What a sweep goes over: keys with the values that are tried, and the trials made of them.

use crate::error::{Error, Result};
use crate::rng::{Rng, Use};

/// Trials of a grid beyond which it is taken for a mistake.
const MOST: usize = 10_000;

/// A key of the recipe, with its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    key: String,
    values: Values,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    /// These, in TOML.
    List(Vec<String>),
    /// All between two numbers.
    Range { from: f64, to: f64, log: bool, whole: bool, steps: Option<usize> },
}

/// How trials are made of the axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Every combination.
    Grid,
    /// So many draws, with this seed. Where the axes have fewer combinations, each of them once.
    Random {
        /// Number of trials.
        trials: usize,
        /// Seed of the draws.
        seed: u64,
    },
}

/// The values of one trial: keys with their values in TOML, in the order of the axes.
pub type Assignment = Vec<(String, String)>;

impl Axis {
    /// Reads `key = [value, ...]` or `key = { from = 1e-4, to = 1e-2, log = true, steps = 5 }`. A
    /// list of plain words needs no quotes.
    ///
    /// # Errors
    /// Names what cannot be read.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_of("--over", text)
    }

    /// The same, of another option: errors name it.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_of(option: &str, text: &str) -> Result<Self> {
        let place = format!("{option} '{text}'");
        let bad = |what: &str| Error::usage(&place, what).next("write --over 'retrieve.gamma = [0.5, 0.8]'");
        let (key, values) = text.split_once('=').ok_or_else(|| bad("there is no '='"))?;
        let key = key.trim();
        if key.is_empty() || key.split('.').any(|part| part.trim().is_empty()) {
            return Err(bad("the key has an empty part"));
        }
        let values = match read(values.trim()) {
            Some(toml::Value::Array(values)) => Values::List(values.iter().map(toml::Value::to_string).collect()),
            Some(toml::Value::Table(range)) => range_of(&range, &place)?,
            Some(one) => Values::List(vec![one.to_string()]),
            None => Values::List(words(values.trim()).ok_or_else(|| bad("the values are no TOML"))?),
        };
        if let Values::List(values) = &values {
            if values.is_empty() {
                return Err(bad("the list is empty"));
            }
            if let Some(again) = values.iter().enumerate().find_map(|(n, v)| values[..n].contains(v).then_some(v)) {
                return Err(bad(&format!("{again} stands there twice")));
            }
        }
        Ok(Self { key: key.to_owned(), values })
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The values of a grid.
    fn listed(&self) -> Result<Vec<String>> {
        match &self.values {
            Values::List(values) => Ok(values.clone()),
            Values::Range { steps: None, .. } => {
                Err(Error::usage(format!("--over {}", self.key), "a range has no end of values")
                    .next("give it `steps = 5`, or draw trials with --random"))
            }
            Values::Range { steps: Some(steps), .. } => {
                let share = |n: usize| if *steps == 1 { 0.0 } else { n as f64 / (*steps - 1) as f64 };
                let mut all: Vec<String> = (0..*steps).map(|n| self.at(share(n))).collect();
                all.dedup();
                Ok(all)
            }
        }
    }

    /// The value at a share of the range, 0 to 1.
    fn at(&self, share: f64) -> String {
        match &self.values {
            Values::List(values) => values[((share * values.len() as f64) as usize).min(values.len() - 1)].clone(),
            Values::Range { from, to, log, whole, .. } => {
                let value = match log {
                    true => (from.ln() + share * (to.ln() - from.ln())).exp(),
                    false => from + share * (to - from),
                };
                match whole {
                    true => format!("{}", value.round() as i64),
                    // Four digits are enough to try, and to read.
                    false => toml::Value::Float(format!("{value:.3e}").parse().unwrap_or(value)).to_string(),
                }
            }
        }
    }
}

fn read(text: &str) -> Option<toml::Value> {
    format!("v = {text}").parse::<toml::Table>().ok().filter(|table| table.len() == 1)?.remove("v")
}

/// `[paper, score]` as texts.
fn words(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']'))?;
    let words: Vec<&str> = inner.split(',').map(str::trim).collect();
    let plain = |word: &&str| !word.is_empty() && !word.contains(['[', ']', '{', '}', '"', '\'', '=']);
    words.iter().all(plain).then(|| {
        let value =
            |word: &&str| read(word).map_or_else(|| toml::Value::String((*word).into()).to_string(), |v| v.to_string());
        words.iter().map(value).collect()
    })
}

fn range_of(range: &toml::Table, place: &str) -> Result<Values> {
    let next = "write --over 'align.tau = { from = 0.01, to = 1.0, log = true, steps = 5 }'";
    let bad = |what: String| Error::usage(place, what).next(next);
    if let Some(other) = range.keys().find(|key| !["from", "to", "log", "steps"].contains(&key.as_str())) {
        return Err(bad(format!("a range has no `{other}`")));
    }
    let number = |name: &str| match range.get(name) {
        Some(toml::Value::Integer(i)) => Ok((*i as f64, true)),
        Some(toml::Value::Float(f)) if f.is_finite() => Ok((*f, false)),
        _ => Err(bad(format!("a range needs a number `{name}`"))),
    };
    let ((from, whole_from), (to, whole_to)) = (number("from")?, number("to")?);
    let log = match range.get("log") {
        None => false,
        Some(toml::Value::Boolean(log)) => *log,
        Some(_) => return Err(bad("`log` is true or false".into())),
    };
    let steps = match range.get("steps") {
        None => None,
        Some(toml::Value::Integer(n)) if (1..=MOST as i64).contains(n) => Some(*n as usize),
        Some(_) => return Err(bad("`steps` is a whole number above 0".into())),
    };
    if from >= to {
        return Err(bad(format!("`from` = {from} is not below `to` = {to}")));
    }
    if log && from <= 0.0 {
        return Err(bad(format!("a logarithm needs `from` above 0, and it is {from}")));
    }
    Ok(Values::Range { from, to, log, whole: whole_from && whole_to, steps })
}

/// The trials, each different.
///
/// # Errors
/// No axis, a key twice, a range without steps in a grid, more combinations than make sense.
pub fn trials(axes: &[Axis], how: How) -> Result<Vec<Assignment>> {
    if axes.is_empty() {
        return Err(Error::usage("--over", "there is nothing to go over")
            .next("write --over 'retrieve.gamma = [0.5, 0.8]'; it may be given several times"));
    }
    if let Some((_, axis)) = axes.iter().enumerate().find(|(n, axis)| axes[..*n].iter().any(|a| a.key == axis.key)) {
        return Err(
            Error::usage("--over", format!("'{}' stands there twice", axis.key)).next("give all values at once")
        );
    }
    let name = |values: Vec<String>| axes.iter().map(|axis| axis.key.clone()).zip(values).collect::<Assignment>();
    let finite: Result<Vec<Vec<String>>> = match how {
        // A range without steps is drawn from.
        How::Random { .. } if axes.iter().any(|a| matches!(a.values, Values::Range { .. })) => Ok(Vec::new()),
        _ => axes.iter().map(Axis::listed).collect(),
    };
    let lists = finite?;
    let combinations = lists.iter().try_fold(1usize, |n, list| n.checked_mul(list.len())).unwrap_or(usize::MAX);
    match how {
        How::Grid if combinations > MOST => Err(Error::usage("--over", format!("{combinations} trials are too many"))
            .next("draw some of them: --random 20")),
        How::Grid => Ok(product(&lists).into_iter().map(name).collect()),
        How::Random { trials, seed } if !lists.is_empty() && combinations <= MOST => {
            let mut all = product(&lists);
            Rng::new(seed, Use::Sweep, 0, 0).shuffle(&mut all);
            all.truncate(trials);
            Ok(all.into_iter().map(name).collect())
        }
        How::Random { trials, seed } => {
            let mut found: Vec<Assignment> = Vec::new();
            // A narrow range of whole numbers may have fewer values than trials.
            for n in 0..trials.saturating_mul(20) as u32 {
                if found.len() == trials {
                    break;
                }
                let mut rng = Rng::new(seed, Use::Sweep, 1, n);
                let drawn = name(axes.iter().map(|axis| axis.at(rng.uniform_f64())).collect());
                if !found.contains(&drawn) {
                    found.push(drawn);
                }
            }
            Ok(found)
        }
    }
}

/// Every combination; the last list changes fastest.
fn product(lists: &[Vec<String>]) -> Vec<Vec<String>> {
    lists.iter().fold(vec![Vec::new()], |before, list| {
        let with = |values: &Vec<String>, value: &String| values.iter().chain([value]).cloned().collect();
        before.iter().flat_map(|values| list.iter().map(move |value| with(values, value))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(texts: &[&str]) -> Vec<Axis> {
        texts.iter().map(|text| Axis::parse(text).unwrap()).collect()
    }

    fn grid(texts: &[&str]) -> Vec<String> {
        let values = |trial: Assignment| trial.into_iter().map(|(_, v)| v).collect::<Vec<_>>().join(" ");
        trials(&axes(texts), How::Grid).unwrap().into_iter().map(values).collect()
    }

    #[test]
    fn a_grid_has_every_combination() {
        assert_eq!(
            grid(&["retrieve.gamma = [0.5, 0.8]", "retrieve.rule=[paper, score]"]),
            ["0.5 \"paper\"", "0.5 \"score\"", "0.8 \"paper\"", "0.8 \"score\""]
        );
        assert_eq!(
            grid(&["merge.experts = [['tuned'], [\"tuned\", \"reasoning\"]]"]),
            ["[\"tuned\"]", "[\"tuned\", \"reasoning\"]"]
        );
        assert_eq!(grid(&["align.tau = { from = 0.01, to = 1.0, log = true, steps = 3 }"]), ["0.01", "0.1", "1.0"]);
        assert_eq!(grid(&["retrieve.k = { from = 1, to = 4, steps = 9 }"]), ["1", "2", "3", "4"], "each once");
        assert_eq!(grid(&["soft.source = none"]), ["\"none\""]);
        assert_eq!(grid(&["reason.hint = [true, false]"]), ["true", "false"]);
    }

    #[test]
    fn random_trials_are_the_same_each_time_and_all_different() {
        let range =
            axes(&["tune.lora.learning_rate = { from = 1e-5, to = 1e-2, log = true }", "retrieve.k = [5, 10, 30]"]);
        let draw = |seed| trials(&range, How::Random { trials: 40, seed }).unwrap();
        let drawn = draw(7);
        assert_eq!((drawn.len(), &drawn), (40, &draw(7)));
        assert_ne!(drawn, draw(8));
        let rates: Vec<f64> = drawn.iter().map(|t| t[0].1.parse().unwrap()).collect();
        assert!(rates.iter().all(|r| (1e-5..=1e-2).contains(r)), "{rates:?}");
        // A third of the draws lie in each decade, up to chance.
        let small = rates.iter().filter(|r| **r < 1e-4).count();
        assert!((4..=24).contains(&small), "{small} of 40 below 1e-4");
        for k in ["5", "10", "30"] {
            assert!(drawn.iter().any(|t| t[1].1 == k), "{k} is never drawn");
        }
        // A finite space is gone through once, in another order.
        let few = axes(&["retrieve.k = [5, 10, 30]"]);
        let mut all = trials(&few, How::Random { trials: 9, seed: 1 }).unwrap();
        all.sort();
        assert_eq!(all.len(), 3);
        let narrow = axes(&["retrieve.k = { from = 1, to = 2 }"]);
        assert_eq!(trials(&narrow, How::Random { trials: 9, seed: 1 }).unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, wanted) in [
            ("retrieve.gamma", "there is no '='"),
            ("= [1]", "empty part"),
            ("retrieve..k = [1]", "empty part"),
            ("retrieve.k = []", "the list is empty"),
            ("retrieve.k = [1, 1]", "1 stands there twice"),
            ("retrieve.k = [1, [", "no TOML"),
            ("a = { from = 1 }", "a number `to`"),
            ("a = { from = 1, to = nan }", "a number `to`"),
            ("a = { from = 2, to = 1 }", "not below"),
            ("a = { from = 0.0, to = 1.0, log = true }", "above 0"),
            ("a = { from = 0, to = 1, count = 3 }", "no `count`"),
            ("a = { from = 0, to = 1, steps = 0 }", "`steps`"),
        ] {
            let said = Axis::parse(text).unwrap_err().to_string();
            assert!(said.contains(wanted) && said.contains("next: "), "{text}: {said}");
        }
        let said = |texts: &[&str]| trials(&axes(texts), How::Grid).unwrap_err().to_string();
        assert!(said(&["a = { from = 0.0, to = 1.0 }"]).contains("steps"));
        assert!(said(&["a = [1]", "a = [2]"]).contains("'a' stands there twice"));
        assert!(said(&[]).contains("nothing to go over"));
        let many = "= { from = 1, to = 200, steps = 200 }";
        assert!(said(&[&format!("a {many}"), &format!("b {many}"), "c = [1, 2]"]).contains("80000 trials"));
    }
}
