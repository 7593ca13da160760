//! `rallrec sweep`: a recipe with other values of some keys, chosen among by validation rows.

use std::path::PathBuf;
use std::time::Duration;

use super::{output, watch};
use crate::config;
use crate::device::Choice;
use crate::error::{Error, Kind, Result};
use crate::events::metric::{self, Metric};
use crate::pipeline::progress::Verbosity;
use crate::pipeline::run::{Run, Span};
use crate::pipeline::sweep::{self, Axis, Halving, How, Judge, Plan, Trial};
use crate::terminal::say;

/// Try a recipe with other values of some keys and choose by validation rows.
///
/// All trials work in one run folder: what two of them have in common is done once. The validation
/// rows alone choose; the chosen recipe is then run to its end, and only that looks at all test
/// rows. Ctrl-C stops at a clean point; the same command goes on.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    rallrec sweep configs/demo.toml --over 'retrieve.gamma = [0.5, 0.667, 0.8]' --set retrieve.rule=paper --judge tuned\n  \
    rallrec sweep my.toml --over 'tune.lora.learning_rate = { from = 1e-4, to = 1e-2, log = true }' --random 8 --budget 2h\n  \
    rallrec sweep my.toml --over 'graph.lightgcn.layers = [1, 2, 3]' --judge lightgcn\n  \
    rallrec sweep my.toml --over 'tune.lora.rank = [4, 8, 16, 32]' --halving 'rows.tune = [64, 128]' --judge tuned")]
pub struct SweepArgs {
    /// The recipe (TOML).
    recipe: PathBuf,
    /// A key with the values to try: 'key = [a, b]', or a range: 'key = { from = 1, to = 9, steps =
    /// 5, log = true }'. May be given several times: then every combination.
    #[arg(long = "over", value_name = "KEY=VALUES", required = true)]
    over: Vec<String>,
    /// Draw so many trials instead of every combination.
    #[arg(long, value_name = "TRIALS", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    random: Option<u32>,
    /// Seed of the draws of --random.
    #[arg(long, default_value_t = 42, requires = "random")]
    seed: u64,
    /// Successive halving: all trials get the first of these budgets, the better of them the next,
    /// and the best of all the recipe's own: 'key = [small, larger]', e.g. epochs or tuning rows.
    #[arg(long, value_name = "KEY=VALUES")]
    halving: Option<String>,
    /// Share of the trials that --halving takes on to the next budget.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, requires = "halving", value_parser = share)]
    keep: f64,
    /// Begin no trial after this time: 90s, 30m, 2h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    budget: Option<Duration>,
    /// Whose predictions of the validation rows decide.
    #[arg(long, value_enum, default_value_t = Judge::Merged)]
    judge: Judge,
    /// What decides: log_loss, auc, accuracy, brier, ece or uauc; for rankers ndcg, recall or mrr
    /// of the first 10. Default: log_loss, ndcg.
    #[arg(long, value_name = "METRIC")]
    metric: Option<String>,
    /// Do not run the chosen recipe to its end.
    #[arg(long)]
    choose_only: bool,
    /// Change one key in every trial: section.key=value. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Run folder (default: runs/NAME-sweep). That of a run of the recipe lends its stages.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where operators run (overrides the recipe).
    #[arg(long, value_enum)]
    device: Option<Choice>,
    /// Print the trials as JSON.
    #[arg(long)]
    json: bool,
    /// No progress.
    #[arg(long, short)]
    quiet: bool,
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[number.len()..].trim() {
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("there is no unit '{other}': write 90s, 30m or 2h")),
    };
    let seconds = number.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
    let seconds = seconds.map(|n| n * unit).filter(|n| *n < 1e9);
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write a time above 0: 90s, 30m or 2h".into())
}

fn share(text: &str) -> std::result::Result<f64, String> {
    let share = text.trim().parse::<f64>().ok().filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| "write a share above 0 and below 1, e.g. 0.33".into())
}

/// The budgets of --halving, smallest first.
fn halving(text: &str, keep: f64, axes: &[Axis]) -> Result<Halving> {
    let axis = Axis::parse_of("--halving", text)?;
    let key = axis.key().to_owned();
    if axes.iter().any(|other| other.key() == key) {
        return Err(Error::usage("--halving", format!("'{key}' is gone over by --over too"))
            .next("take another key for the budget, or leave it out of --over"));
    }
    let rungs = sweep::trials(&[axis], How::Grid)?.into_iter().flatten().map(|(_, value)| value).collect::<Vec<_>>();
    let numbers: Vec<f64> = rungs.iter().filter_map(|value| value.parse().ok()).collect();
    if numbers.len() != rungs.len() || numbers.windows(2).any(|w| w[0] >= w[1]) {
        return Err(Error::usage("--halving", "the budgets are not ascending numbers")
            .next("write --halving 'graph.lightgcn.epochs = [5, 20]'; the recipe's own value comes last by itself"));
    }
    Ok(Halving { key, rungs, keep })
}

fn deciding(name: Option<&str>, judge: Judge) -> Result<&'static Metric> {
    let known: &[&'static Metric] =
        if judge.ranks() { &[&metric::NDCG, &metric::RECALL, &metric::MRR] } else { &metric::METRICS };
    let Some(name) = name else { return Ok(if judge.ranks() { &metric::NDCG } else { &metric::LOG_LOSS }) };
    known.iter().copied().find(|m| m.name == name).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|m| m.name).collect();
        Error::usage("--metric", format!("'{}' has no metric '{name}'", judge.name()))
            .next(format!("choose one of {}", names.join(", ")))
    })
}

/// The command as it was given.
fn again() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,".contains(c);
    let quoted = |word: String| {
        if !word.is_empty() && word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    ["rallrec".to_owned()].into_iter().chain(std::env::args().skip(1).map(quoted)).collect::<Vec<_>>().join(" ")
}

/// The recipe with these values.
fn read(source: &config::Source, args: &SweepArgs, values: &[(String, String)]) -> Result<config::Read> {
    let changes = values.iter().map(|(key, value)| format!("{key}={value}"));
    let mut read = source.read(&args.set.iter().cloned().chain(changes).collect::<Vec<_>>())?;
    if let Some(device) = args.device {
        read.recipe.device = device;
    }
    Ok(read)
}

pub fn main(args: SweepArgs) -> Result<()> {
    // Old names of keys are told once, and not by every trial.
    let source = config::Source::open(&args.recipe)?;
    let base = output::recipe(&source, &args.set)?;
    let axes: Vec<Axis> = args.over.iter().map(|text| Axis::parse(text)).collect::<Result<_>>()?;
    let how = match args.random {
        Some(trials) => How::Random { trials: trials as usize, seed: args.seed },
        None => How::Grid,
    };
    let metric = deciding(args.metric.as_deref(), args.judge)?;
    let all = sweep::trials(&axes, how)?;
    let halving = args.halving.as_deref().map(|text| halving(text, args.keep, &axes)).transpose()?;
    let budget_key = halving.as_ref().map(|halving| halving.key.as_str());
    let swept = |key: &str| axes.iter().any(|axis| axis.key() == key) || budget_key == Some(key);
    let mut trials = Vec::with_capacity(all.len());
    // Every recipe is checked before the first trial begins.
    for values in all {
        let read = read(&source, &args, &values)?;
        read.check_files(Some(args.judge.last()))?;
        let mut smaller = Vec::new();
        for rung in halving.iter().flat_map(|halving| &halving.rungs) {
            let at = [&values[..], &[(budget_key.unwrap_or_default().to_owned(), rung.clone())]].concat();
            smaller.push(sweep::for_choice(self::read(&source, &args, &at)?.recipe, &swept));
        }
        trials.push(Trial { recipe: sweep::for_choice(read.recipe, &swept), values, smaller });
    }
    if !args.choose_only {
        // What the last run needs is said now, and not after hours of trials.
        base.check_files(None)?;
    }
    sweep::check_judge(&axes, args.judge)?;
    if let Some(text) = &args.halving {
        sweep::check_judge(&[Axis::parse_of("--halving", text)?], args.judge)?;
    }
    if base.recipe.tune.select_on_test && !args.quiet {
        say!("sweep: tune.select_on_test is on, so the tuning of every trial looks at test rows");
    }
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(format!("{}-sweep", base.recipe.name)));
    let verbosity = if args.quiet { Verbosity::Quiet } else { Verbosity::Normal };
    watch::hint(&folder, args.quiet);
    let stopped = |error: Error| match error.kind() {
        Kind::Stopped => Error::stopped(error.place()).next(format!("nothing is lost; go on with: {}", again())),
        _ => error,
    };
    let number = trials.len();
    let plan = Plan { folder: &folder, trials, judge: args.judge, metric, halving, budget: args.budget, verbosity };
    let outcome = sweep::run(&plan, &mut |n, tried| {
        if !args.quiet {
            let value = tried.value.map_or_else(|| "failed".into(), |v| format!("{} {v:.4}", metric.title));
            let at = tried.left_at.as_ref().map_or_else(String::new, |budget| format!(", at {budget}"));
            say!("trial {} of {number}: {}{at}: {value}", n + 1, sweep::name(&tried.values));
        }
    })
    .map_err(stopped)?;
    let best = outcome.chosen.map(|n| read(&source, &args, &outcome.trials[n].values)).transpose()?;
    if let Some(best) = &best {
        sweep::write_best(&folder, &best.recipe)?;
    }
    let results = match best.filter(|_| !args.choose_only) {
        Some(best) => {
            best.check_files(None)?;
            let run = Run::open(&folder, Span::default(), verbosity)?;
            crate::pipeline::run_all(&run, &best.recipe).map_err(stopped)?
        }
        None => None,
    };
    if args.json {
        output::json(&serde_json::json!({ "sweep": outcome, "results": results }))?;
    } else {
        let tables =
            results.map_or_else(String::new, |r| format!("\nThe chosen recipe, run to its end:\n\n{}", r.render()));
        output::text(&format!("{}{tables}", outcome.render()))?;
    }
    if !args.quiet {
        say!("\nwritten to {}: sweep.json, sweep.md, best.toml, artifacts/", folder.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_has_a_unit() {
        let of = |text: &str| duration(text).map(|d| d.as_secs_f64());
        assert_eq!([of("90"), of("90s"), of("1.5m"), of("2h")], [Ok(90.0), Ok(90.0), Ok(90.0), Ok(7200.0)]);
        for wrong in ["", "m", "-3m", "nan", "inf", "3 days", "1e40h"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn halving_has_ascending_budgets_of_another_key() {
        let axes = [Axis::parse("retrieve.k = [5, 10]").unwrap()];
        let of = |text: &str| halving(text, 0.5, &axes);
        let found = of("graph.lightgcn.epochs = [5, 20]").unwrap();
        assert_eq!((found.key.as_str(), &found.rungs[..]), ("graph.lightgcn.epochs", &["5".into(), "20".into()][..]));
        for (wrong, said) in [
            ("retrieve.k = [5]", "gone over"),
            ("rows.tune = [20, 5]", "ascending"),
            ("rows.tune = ['a']", "ascending"),
            ("rows.tune", "--halving"),
        ] {
            assert!(of(wrong).unwrap_err().to_string().contains(said), "{wrong}");
        }
        assert_eq!(share("0.33"), Ok(0.33));
        assert!(["0", "1", "-0.5", "nan", "half"].iter().all(|wrong| share(wrong).is_err()));
    }

    #[test]
    fn a_judge_has_its_metrics() {
        assert_eq!(deciding(None, Judge::Tuned).unwrap().name, "log_loss");
        assert_eq!(deciding(Some("auc"), Judge::Merged).unwrap().name, "auc");
        assert_eq!(deciding(None, Judge::Lightgcn).unwrap().name, "ndcg");
        assert!(deciding(Some("auc"), Judge::Ranker).unwrap_err().next_step().contains("ndcg"));
        assert!(deciding(Some("luck"), Judge::Tuned).unwrap_err().next_step().contains("log_loss"));
    }
}
