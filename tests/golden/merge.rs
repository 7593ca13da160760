//! The properties that define the consistency merge, its fixture, and the sweep.

use proptest::prelude::*;
use rallrec::Silent;
use rallrec::merge::{
    Expert, MergeSettings, Metric, Opinions, Samples, SweepSettings, Trust, TunedMean, merge, merge_all, sweep, weigh,
};

fn one(reasoning: &[f64], tuned: &[f64], settings: &MergeSettings) -> rallrec::merge::Merged {
    let r = Samples::new("reasoning", &[reasoning]).unwrap();
    let t = Samples::new("tuned", &[tuned]).unwrap();
    merge(&r, &t, settings).unwrap()[0]
}

/// Means 0.7 and 0.4, variances 0.01 and 0: w_R = 9.0909, w_T = 1000.
#[test]
fn the_fixture() {
    let m = one(&[0.6, 0.8], &[0.4], &MergeSettings::default());
    assert!((m.mean_reasoning - 0.7).abs() <= 1e-12 && (m.var_reasoning - 0.01).abs() <= 1e-12);
    assert!((m.p - 0.402_703).abs() <= 5e-7, "{}", m.p);
    assert!((m.share_reasoning - 9.090_909_09 / 1_009.090_909_09).abs() <= 1e-9);
}

#[test]
fn with_one_tuned_run_the_share_stays_below_a_tenth() {
    let m = one(&[0.9, 0.9], &[0.1], &MergeSettings::default());
    assert!((m.share_reasoning - 0.1 / 1.1).abs() <= 1e-12);
}

#[test]
fn the_first_run_or_the_mean() {
    let tuned = [0.2, 0.4];
    let mean = one(&[0.5], &tuned, &MergeSettings::default());
    let first = one(&[0.5], &tuned, &MergeSettings { tuned_mean: TunedMean::First, ..MergeSettings::default() });
    assert!((mean.mean_tuned - 0.3).abs() <= 1e-12 && (first.mean_tuned - 0.2).abs() <= 1e-12);
    assert!((first.var_tuned - 0.01).abs() <= 1e-12);
}

fn samples() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(0f64..=1.0, 1..17)
}

fn settings() -> impl Strategy<Value = MergeSettings> {
    (0f64..20.0, 1e-6f64..1e-1, 0.1f64..10.0, 0.1f64..10.0).prop_map(|(alpha, epsilon, tau_reasoning, tau_tuned)| {
        MergeSettings { alpha, epsilon, tau_reasoning, tau_tuned, ..MergeSettings::default() }
    })
}

proptest! {
    #[test]
    fn lies_between_the_means(r in samples(), t in samples(), s in settings()) {
        let m = one(&r, &t, &s);
        let (low, high) = (m.mean_reasoning.min(m.mean_tuned), m.mean_reasoning.max(m.mean_tuned));
        prop_assert!(low <= m.p && m.p <= high, "{:?}", m);
        prop_assert!((0.0..=1.0).contains(&m.share_reasoning));
        let by_share = m.mean_tuned + m.share_reasoning * (m.mean_reasoning - m.mean_tuned);
        prop_assert!((by_share - m.p).abs() <= 1e-12);
    }

    #[test]
    fn swapping_equal_models_changes_nothing(r in samples(), t in samples(), epsilon in 1e-6f64..1e-1) {
        let s = MergeSettings { alpha: 1.0, epsilon, ..MergeSettings::default() };
        prop_assert!((one(&r, &t, &s).p - one(&t, &r, &s).p).abs() <= 1e-12);
    }

    #[test]
    fn order_of_samples_is_irrelevant(r in samples(), t in samples(), s in settings()) {
        let mut turned = r.clone();
        turned.reverse();
        prop_assert!((one(&r, &t, &s).p - one(&turned, &t, &s).p).abs() <= 1e-10);
    }

    #[test]
    fn equal_means_give_that_mean(p in 0f64..=1.0, n in 1usize..9, s in settings()) {
        let m = one(&vec![p; n], &[p], &s);
        prop_assert!((m.p - p).abs() <= 1e-15 && m.var_reasoning.abs() <= 1e-30);
    }

    #[test]
    fn one_sample_has_no_variance(r in 0f64..=1.0, t in 0f64..=1.0, s in settings()) {
        let m = one(&[r], &[t], &s);
        prop_assert!(m.var_reasoning == 0.0 && m.var_tuned == 0.0 && m.p.is_finite());
        prop_assert!((m.share_reasoning - s.alpha / (s.alpha + 1.0)).abs() <= 1e-12);
    }

    #[test]
    fn endless_variance_leaves_the_other(r in 0f64..=1.0, t in 0f64..=1.0, s in settings()) {
        // Silence is endless variance.
        for silent in [Some((r, f64::INFINITY)), None] {
            let experts = [Opinions::new("r", [silent]).unwrap(), Opinions::new("t", [Some((t, 0.0))]).unwrap()];
            let trust = [Trust { alpha: s.alpha, tau: 1.0 }, Trust { alpha: 1.0, tau: 1.0 }];
            let (p, share) = merge_all(&experts, &trust, s.epsilon).unwrap();
            prop_assert!((p[0] - t).abs() <= 1e-15 && share[0] == 0.0);
        }
    }

    #[test]
    fn more_trust_moves_towards_the_reasoning_model(r in samples(), t in samples(), s in settings()) {
        let more = MergeSettings { alpha: s.alpha + 1.0, ..s.clone() };
        prop_assert!(one(&r, &t, &more).share_reasoning > one(&r, &t, &s).share_reasoning);
    }

    #[test]
    fn two_experts_are_the_papers_case(r in samples(), t in samples(), s in settings()) {
        let m = one(&r, &t, &s);
        let experts = [
            Opinions::of_samples("reasoning", &Samples::new("reasoning", &[&r]).unwrap()).unwrap(),
            Opinions::of_samples("tuned", &Samples::new("tuned", &[&t]).unwrap()).unwrap(),
        ];
        let trust = [Trust { alpha: s.alpha, tau: s.tau_reasoning }, Trust { alpha: 1.0, tau: s.tau_tuned }];
        let (p, share) = merge_all(&experts, &trust, s.epsilon).unwrap();
        let (p, share) = (p[0], share[0]);
        prop_assert!((p - m.p).abs() <= 1e-12 && (share - m.share_reasoning).abs() <= 1e-12);
    }
}

/// Labels follow the reasoning model; the tuned one knows nothing.
fn rows() -> (Samples, Samples, Vec<bool>) {
    let r: Vec<Vec<f64>> =
        (0..60).map(|i| if i % 3 == 0 { vec![0.8, 0.9, 0.85] } else { vec![0.2, 0.1, 0.3] }).collect();
    let t: Vec<Vec<f64>> = (0..60).map(|i| vec![0.3 + 0.4 * f64::from(i * 7 % 10) / 10.0]).collect();
    let labels = (0..60).map(|i| i % 3 == 0).collect();
    (Samples::new("reasoning", &r).unwrap(), Samples::new("tuned", &t).unwrap(), labels)
}

#[test]
fn the_sweep_finds_the_best_cell_and_breaks_ties_with_caution() {
    let (r, t, labels) = rows();
    let grid = SweepSettings {
        alpha: vec![100.0, 0.0, 0.1],
        epsilon: vec![1e-2, 1e-4],
        samples: vec![0, 1, 3],
        metric: Metric::LogLoss,
    };
    let settings = MergeSettings { sweep: grid.clone(), ..MergeSettings::default() };
    let (cells, chosen) = sweep(&r, &t, &labels, &settings, &Silent).unwrap();
    assert_eq!((cells.len(), cells.iter().filter(|c| c.chosen).count()), (18, 1));
    assert!((chosen.alpha - 100.0).abs() <= 1e-12);
    let best = cells.iter().find(|c| c.chosen).unwrap();
    assert!(cells.iter().all(|c| best.value <= c.value));
    // The chosen settings give the cell's value.
    let p: Vec<f64> = merge(&r, &t, &chosen).unwrap().iter().map(|m| m.p).collect();
    assert!((rallrec::eval::log_loss(&labels, &p).unwrap() - best.value).abs() <= 1e-12);
    // With alpha = 0 every cell is the tuned model alone: all tie.
    let flat = SweepSettings { alpha: vec![0.0], metric: Metric::Auc, ..grid };
    let (cells, chosen) = sweep(&r, &t, &labels, &MergeSettings { sweep: flat, ..settings }, &Silent).unwrap();
    assert!(cells.iter().all(|c| c.value == cells[0].value));
    assert_eq!((chosen.samples, chosen.epsilon), (1, 1e-2));
}

/// Three experts: one knows the labels, one says the opposite, one knows nothing and is silent of
/// every other row.
fn three() -> (Vec<Opinions>, Vec<bool>) {
    let labels: Vec<bool> = (0..60).map(|i| i % 3 == 0).collect();
    let sure = |right: bool| labels.iter().map(move |&y| Some((if y == right { 0.8 } else { 0.2 }, 0.0)));
    let vague = (0..60).map(|i| (i % 2 == 0).then_some((0.5, 0.01)));
    let experts = vec![
        Opinions::new("knows", sure(true)).unwrap(),
        Opinions::new("lies", sure(false)).unwrap(),
        Opinions::new("vague", vague).unwrap(),
    ];
    (experts, labels)
}

#[test]
fn weights_follow_what_each_expert_is_worth() {
    let (experts, labels) = three();
    let grid = [10.0, 0.0, 0.1, 1.0];
    let trust = weigh(&experts, &[1.0; 3], &labels, &grid, 1e-3, Metric::LogLoss, &Silent).unwrap();
    assert_eq!(trust.iter().map(|t| t.alpha).collect::<Vec<_>>(), [1.0, 0.0, 0.0]);
    // The liar first: it is held at 1, and the one who knows gets all that the grid has.
    let turned = [experts[1].clone(), experts[0].clone()];
    let trust = weigh(&turned, &[1.0; 2], &labels, &grid, 1e-3, Metric::Auc, &Silent).unwrap();
    assert!(trust[1].alpha > 1.0, "{trust:?}");
    let (p, _) = merge_all(&turned, &trust, 1e-3).unwrap();
    assert_eq!(rallrec::eval::auc(&labels, &p).unwrap(), Some(1.0));
}

#[test]
fn experts_that_cannot_be_merged_say_why() {
    let (experts, labels) = three();
    let weigh = |experts: &[Opinions], grid: &[f64], labels: &[bool], metric| {
        weigh(experts, &vec![1.0; experts.len()], labels, grid, 1e-3, metric, &Silent).unwrap_err()
    };
    assert!(weigh(&experts, &[0.0], &labels, Metric::Auc).place().contains("weights"));
    assert!(weigh(&experts, &[f64::NAN], &labels, Metric::Auc).place().contains("weights"));
    assert!(weigh(&experts, &[1.0], &[true; 60], Metric::Auc).next_step().contains("log_loss"));
    // The vague one alone is silent of row 1.
    assert!(weigh(&experts[2..], &[1.0], &labels, Metric::Auc).place().contains("row 1"));
    assert!(Opinions::new("x", [Some((1.5, 0.0))]).unwrap_err().place().contains("row 0"));
    assert!(Opinions::new("x", [Some((0.5, f64::NAN))]).is_err());
    let short = Opinions::new("short", [Some((0.5, 0.0))]).unwrap();
    assert!(merge_all(&[experts[0].clone(), short], &[Trust { alpha: 1.0, tau: 1.0 }; 2], 1e-3).is_err());
}

#[test]
fn bad_input_says_where_and_what_next() {
    let none: &[f64] = &[];
    for rows in [vec![none], vec![&[0.5, f64::NAN][..]], vec![&[0.5][..], &[1.5][..]]] {
        let e = Samples::new("reasoning", &rows).unwrap_err();
        assert!(e.place().contains("row") && !e.next_step().is_empty(), "{e}");
    }
    let (r, t, labels) = rows();
    let short = Samples::new("tuned", &[[0.5]]).unwrap();
    assert!(merge(&r, &short, &MergeSettings::default()).is_err());
    let sweep_of = |epsilon: Vec<f64>| SweepSettings { epsilon, ..Default::default() };
    for (key, bad) in [
        ("alpha", MergeSettings { alpha: -1.0, ..MergeSettings::default() }),
        ("alpha", MergeSettings { alpha: f64::NAN, ..MergeSettings::default() }),
        ("epsilon", MergeSettings { epsilon: 0.0, ..MergeSettings::default() }),
        ("tau_tuned", MergeSettings { tau_tuned: 0.0, ..MergeSettings::default() }),
        ("sweep.epsilon", MergeSettings { sweep: sweep_of(vec![0.0]), ..MergeSettings::default() }),
        ("weights", MergeSettings { weights: vec![0.0], ..MergeSettings::default() }),
    ] {
        assert_eq!(merge(&r, &t, &bad).unwrap_err().place(), key);
    }
    let auc = MergeSettings {
        sweep: SweepSettings { metric: Metric::Auc, ..Default::default() },
        ..MergeSettings::default()
    };
    assert!(sweep(&r, &t, &[true; 60], &auc, &Silent).unwrap_err().next_step().contains("log_loss"));
    assert!(sweep(&r, &t, &labels[..3], &auc, &Silent).is_err());
    assert!(merge_all(&[], &[], 1e-3).is_err());
    let twice = MergeSettings { experts: vec![Expert::Tuned, Expert::Tuned], ..MergeSettings::default() };
    assert!(merge(&r, &t, &twice).unwrap_err().place().contains("experts"));
    let merged = merge(
        &Samples::new("r", &[] as &[&[f64]]).unwrap(),
        &Samples::new("t", &[] as &[&[f64]]).unwrap(),
        &MergeSettings::default(),
    );
    assert!(merged.unwrap().is_empty());
    let unknown: Result<MergeSettings, _> = toml::from_str("alhpa = 0.1");
    assert!(unknown.is_err());
}
