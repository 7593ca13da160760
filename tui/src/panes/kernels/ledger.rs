//! The ledger of an operator: what its calls had to move and compute, what that takes at the
//! machine's ceilings, and what it took. What the engine knows of its kernels stands below.

use rallrec_events::view::Operator;

use crate::format;
use crate::state::OpenRun;

/// The ledger as lines to read; `all` are the operators of the run.
pub fn lines(o: &Operator, all: &[&Operator], run: Option<&OpenRun>) -> Vec<String> {
    let mut out = Vec::new();
    let mut add = |name: &str, what: String| out.push(format!("{name:<22}{what}"));
    let calls = o.calls.max(1) as f64;
    let seconds: f64 = all.iter().map(|o| o.seconds).sum();
    let at_ceilings: f64 = all.iter().map(|o| o.ceiling_seconds).sum();
    let share = |part: f64, of: f64| if of > 0.0 { format!("{:.1} %", part / of * 100.0) } else { "n/a".into() };
    add("device", o.device.clone());
    add("calls", format::count(o.calls));
    add("shape of the last", o.shape.clone().unwrap_or_else(|| "n/a".into()));
    add("bytes", work(o.bytes, calls, "B"));
    add("FLOP", work(o.flops, calls, "FLOP"));
    add("FLOP a byte", o.intensity().map_or("n/a".into(), format::value));
    let ceilings = run.and_then(|r| r.view.operators.ceilings.get(&o.device));
    match ceilings {
        Some(c) => {
            let (memory, arithmetic) = (o.bytes / (c.memory_gb_s * 1e9), o.flops / (c.gflop_s * 1e9));
            add("at memory's ceiling", format!("{}  ({:.1} GB/s)", took(memory), c.memory_gb_s));
            let rate = format::with_unit(c.gflop_s * 1e9, "FLOP/s");
            add("at arithmetic's", format!("{}  ({rate})", took(arithmetic)));
            add("bound by", if memory > arithmetic { "memory".into() } else { "arithmetic".into() });
        }
        None => add("ceilings", "not measured in this run".into()),
    }
    if o.ceiling_of > 0.0 {
        let words = format!("{}  {} of all", took(o.ceiling_seconds), share(o.ceiling_seconds, at_ceilings));
        add("predicted", words);
    }
    add("measured", format!("{}  {} of all", took(o.seconds), share(o.seconds, seconds)));
    add("of the ceiling", of_ceiling(o));
    let rates = (o.gb_s(), o.tflop_s().map(|t| format::with_unit(t * 1e12, "FLOP/s")));
    if let (Some(bytes), Some(flops)) = rates {
        add("reached", format!("{bytes:.1} GB/s, {flops}"));
    }
    out.iter().map(|line| format::clean(line)).collect()
}

fn of_ceiling(o: &Operator) -> String {
    match o.of_ceiling() {
        None => "n/a".into(),
        Some(x) if x > 1.0 => {
            format!(
                "{:.0} %: above it, so the machine was busy when it was measured, or the data lay in a cache",
                x * 100.0
            )
        }
        Some(x) => format!("{:.0} %", x * 100.0),
    }
}

/// In all and for one call.
fn work(all: f64, calls: f64, unit: &str) -> String {
    format!("{}, {} a call", format::with_unit(all, unit), format::with_unit(all / calls, unit))
}

fn took(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "n/a".into(),
        s if s < 1e-3 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_has_work_prediction_and_measurement() {
        let of = |seconds: f64, ceiling: f64| Operator {
            name: "linear".into(),
            device: "cpu".into(),
            calls: 10,
            seconds,
            bytes: 1e9,
            flops: 4e9,
            ceiling_seconds: ceiling,
            ceiling_of: seconds,
            ..Operator::default()
        };
        let (a, b) = (of(2.0, 1.0), of(6.0, 1.0));
        let text = lines(&a, &[&a, &b], None).join("\n");
        for wanted in ["1.00 s  50.0 % of all", "2.00 s  25.0 % of all", "FLOP a byte           4", "50 %", "a call"] {
            assert!(text.contains(wanted), "{wanted}:\n{text}");
        }
        let over = of(1.0, 3.2);
        assert!(lines(&over, &[&over], None).join("\n").contains("320 %: above it"));
    }
}
