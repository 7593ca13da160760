//! Operators: roofline.

use rallrec_events::view::{Operator, Operators};

use super::Figure;
use crate::plot::{Axis, Plot};

/// Operators that are named in the picture.
const NAMED: usize = 10;

/// Work a byte against work a second, under the measured roof.
pub fn roofline(operators: &Operators) -> Option<Figure> {
    let place = |o: &Operator| {
        let speed = o.tflop_s()? * 1e3;
        let x = o.intensity()?;
        (x > 0.0 && speed > 0.0).then_some((x, speed))
    };
    let by_time = operators.by_time();
    let placed: Vec<(&Operator, (f64, f64))> = by_time.iter().filter_map(|o| Some((*o, place(o)?))).collect();
    let roof = operators.ceilings.values().next();
    let knee = roof.map(|c| c.gflop_s / c.memory_gb_s.max(1e-9));
    let xs = placed.iter().map(|p| p.1.0).chain(knee.into_iter().flat_map(|k| [k / 4.0, k * 4.0]));
    let x = Axis::log("FLOP a byte", xs)?;
    let roofs = roof.map(|c| c.gflop_s);
    let y = Axis::log("GFLOP/s", placed.iter().map(|p| p.1.1).chain(roofs))?;
    let mut plot = Plot::new("Roofline of the operators", x, y);
    if let Some(c) = roof {
        let points = (0..=200).map(|i| 1e-4 * 10f64.powf(f64::from(i) * 0.05));
        plot.line("guide", points.map(|x| (x, (x * c.memory_gb_s).min(c.gflop_s))));
    }
    let all = operators.seconds().max(1e-12);
    for (n, (o, (x, y))) in placed.iter().enumerate() {
        plot.dots("c0", 2.0 + 7.0 * (o.seconds / all).sqrt(), [(*x, *y)].into_iter(), &[]);
        if n < NAMED {
            plot.word(*x, *y, &o.name);
        }
    }
    let ceiling = roof.map_or("The ceilings were not measured.".to_string(), |c| {
        format!("The line is the measured ceiling: {:.1} GB/s, {:.0} GFLOP/s.", c.memory_gb_s, c.gflop_s)
    });
    Some(Figure::new(
        plot.finish(),
        format!(
            "Operators by the work they do a byte and a second; dots grow with their share of the time. {ceiling} \
             Data that stay in a cache may lie above it."
        ),
    ))
}
