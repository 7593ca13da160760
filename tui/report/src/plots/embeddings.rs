//! The scatter of the item embeddings before and after alignment.

use std::collections::BTreeMap;

use rallrec_events::scatter::{Scatter, Space};

use super::Figure;
use crate::plot::{Axis, Plot};

/// Genres that get a colour of their own.
const GENRES: usize = 7;

fn axes(spaces: &[&Space]) -> Option<(Axis, Axis)> {
    let all = |k: usize| spaces.iter().flat_map(move |s| s.points.iter().flatten().map(move |p| f64::from(p[k])));
    let label = |k: usize| match spaces.first().and_then(|s| s.explained) {
        Some(e) if spaces.len() == 1 => format!("axis {} ({:.0} % of the variance)", k + 1, 100.0 * e[k]),
        _ => format!("axis {}", k + 1),
    };
    Some((Axis::over(&label(0), all(0))?, Axis::over(&label(1), all(1))?))
}

/// The most frequent genres, each with its class.
fn classes(scatter: &Scatter) -> Vec<(String, String)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for dot in scatter.items.iter().filter(|d| !d.genre.is_empty()) {
        *counts.entry(&dot.genre).or_default() += 1;
    }
    let mut by_count: Vec<_> = counts.into_iter().collect();
    by_count.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    by_count.into_iter().take(GENRES).enumerate().map(|(n, (g, _))| (g.to_string(), format!("c{n}"))).collect()
}

fn by_genre(scatter: &Scatter, name: &str, what: &str) -> Option<Figure> {
    let space = scatter.space(name)?;
    let (x, y) = axes(&[space])?;
    let genres = classes(scatter);
    let mut plot = Plot::new(&format!("{what} by genre"), x, y).square();
    let radius = if scatter.items.len() > 1500 { 1.3 } else { 2.0 };
    let mut draw = |class: &str, wanted: &dyn Fn(&str) -> bool| {
        let dots = scatter.items.iter().zip(&space.points).filter(|(d, _)| wanted(&d.genre));
        plot.dots(class, radius, dots.filter_map(|(_, p)| p.map(|[x, y]| (f64::from(x), f64::from(y)))), &[]);
    };
    draw("other", &|g| genres.iter().all(|(known, _)| known != g));
    for (genre, class) in &genres {
        draw(class, &|g| g == genre);
    }
    genres.iter().for_each(|(genre, class)| plot.legend(class, genre));
    plot.legend("other", "other");
    let count = space.points.iter().flatten().count();
    Some(Figure::new(plot.finish(), format!("{what} of {count} items, {}.", space.method)))
}

/// Both spaces on the axes of the collaborative one.
fn together(scatter: &Scatter) -> Option<Figure> {
    let (colla, aligned) = (scatter.space("collaborative")?, scatter.space("aligned")?);
    let (x, y) = axes(&[colla, aligned])?;
    let mut plot = Plot::new("Collaborative and aligned embeddings", x, y).square();
    let radius = if scatter.items.len() > 1500 { 1.3 } else { 2.0 };
    for (class, space, label) in [("c0", colla, "collaborative"), ("c1", aligned, "aligned text")] {
        let dots = space.points.iter().flatten().map(|[x, y]| (f64::from(*x), f64::from(*y)));
        plot.dots(class, radius, dots, &[]);
        plot.legend(class, label);
    }
    // How far an item's own two points lie apart, against the spread of the space: a number for
    // what the eye sees.
    let pairs: Vec<f64> = colla
        .points
        .iter()
        .zip(&aligned.points)
        .filter_map(|(a, b)| Some((a.as_ref()?, b.as_ref()?)))
        .map(|(a, b)| f64::from((a[0] - b[0]).hypot(a[1] - b[1])))
        .collect();
    let mean = pairs.iter().sum::<f64>() / pairs.len().max(1) as f64;
    let caption = format!(
        "After alignment: text embeddings mapped into the collaborative space, on its two main axes. An item's own \
         two points lie {mean:.3} apart on average, over {} items.",
        pairs.len()
    );
    Some(Figure::new(plot.finish(), caption))
}

/// Before and after.
pub fn figures(scatter: &Scatter) -> Vec<Figure> {
    [
        by_genre(scatter, "text", "Before alignment: text embeddings"),
        by_genre(scatter, "collaborative", "Before alignment: collaborative embeddings (LightGCN)"),
        by_genre(scatter, "aligned", "After alignment: text embeddings in the collaborative space"),
        together(scatter),
    ]
    .into_iter()
    .flatten()
    .collect()
}
