//! The machine over the run.

use rallrec_events::view::{Series, System};

use super::Figure;
use crate::plot::{Axis, Plot};

fn over_time(title: &str, y: &str, scale: f64, from_zero: Option<f64>, lines: &[(&str, &Series)]) -> Option<String> {
    let filled: Vec<_> = lines.iter().filter(|l| l.1.len() > 1).collect();
    let all = || filled.iter().flat_map(|l| l.1.whole());
    let (most, label) = match all().map(|b| b.last).fold(0.0, f64::max) {
        s if s > 7200.0 => (3600.0, "hours"),
        s if s > 180.0 => (60.0, "minutes"),
        _ => (1.0, "seconds"),
    };
    let x = Axis::over(label, all().map(|b| b.x() / most))?;
    let highest = all().map(|b| b.max * scale).fold(from_zero.unwrap_or(0.0), f64::max);
    let mut plot = Plot::new(title, x, Axis::fixed(y, 0.0, 1.05 * highest.max(1e-9)));
    for (n, (label, series)) in filled.iter().enumerate() {
        let class = format!("c{n}");
        plot.line(&class, series.whole().iter().map(|b| (b.x() / most, b.mean() * scale)));
        if filled.len() > 1 {
            plot.legend(&class, label);
        }
    }
    Some(plot.finish())
}

/// Memory, cores, GPUs.
pub fn figures(s: &System) -> Vec<Figure> {
    const GIB: f64 = 1.0 / (1u64 << 30) as f64;
    let mut out = Vec::new();
    let mut add = |svg: Option<String>, caption: String| out.extend(svg.map(|svg| Figure::new(svg, caption)));
    let peak = s.peak.map_or(String::new(), |p| format!(", {:.2} GiB at most", p as f64 * GIB));
    add(
        over_time("Memory", "GiB", GIB, None, &[("process", &s.resident), ("machine", &s.memory)]),
        format!("Memory of the process{peak}."),
    );
    add(over_time("Cores", "busy, %", 1.0, Some(100.0), &[("cores", &s.cpu)]), "Mean of all cores.".into());
    add(over_time("GPU", "busy, %", 1.0, Some(100.0), &[("GPU", &s.gpu)]), "Mean utilisation of the GPUs.".into());
    add(over_time("GPU memory", "GiB", GIB, None, &[("GPU", &s.gpu_memory)]), "Memory of the GPUs.".into());
    add(over_time("GPU power", "W", 1.0, None, &[("GPU", &s.gpu_power)]), "Power of the GPUs.".into());
    out
}
