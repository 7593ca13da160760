//! Pane 5: the embeddings before and after alignment, and how one target's history was retrieved
//! and reranked.

use crate::keys::Key::Char;
use crate::keys::{Action, DOWN, ENTER, LEFT, RIGHT, UP, VIEW, bound};
use crate::panes::{BASE, Draw, Pane, PaneId, sampling};
use rallrec_events::scatter::{Scatter, Space};
use rallrec_events::view::{Example, Prompt};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};

use crate::format;
use crate::layout::share;
use crate::message::Effect;
use crate::state::{OpenRun, State, Weight};
use crate::theme::{Palette, Theme};
use crate::widgets::table::{self, Cell, number, wide};
use crate::widgets::{Dots, chart, text};

/// The pane.
pub const PANE: Pane = Pane {
    id: PaneId::Retrieval,
    title: "Retrieval",
    short: "Retr",
    key: &[Char('5')],
    about: "embeddings and retrieval",
    draw: Draw::OfRun(draw),
    act,
    click,
    keys: &[
        bound(UP, Action::Up, "previous example", ""),
        bound(DOWN, Action::Down, "next example", "example"),
        bound(LEFT, Action::Left, "previous space", ""),
        bound(RIGHT, Action::Right, "next space", "space"),
        bound(VIEW, Action::NextView, "scatter, example, both", "view"),
        bound(ENTER, Action::Open, "read the row whole", "read"),
        bound(&[Char('s')], Action::Sort, "history in order of similarity or time", "sort"),
    ],
    ..BASE
};

/// Genres that get a colour of their own; the others share one.
const GROUPS: usize = 5;

/// What the pane shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Both, one above the other.
    #[default]
    Both,
    /// The scatter alone.
    Scatter,
    /// The example alone.
    Example,
}

/// State of the pane.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What is shown.
    pub mode: Mode,
    /// Which example.
    pub example: usize,
    /// First space shown; the next one stands beside it.
    pub space: usize,
    /// History in order of time instead of the prompt's.
    pub by_time: bool,
    /// An item that the mouse has found, by its place in the scatter, and a row about it.
    pub found: Option<(usize, Option<u64>)>,
}

/// Keys of the pane.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let Some(run) = state.run() else { return Vec::new() };
    let examples = run.view.retrieval.examples.len().saturating_sub(1);
    let spaces = match &run.scatter {
        Some(Ok(Some(scatter))) => scatter.spaces.len().saturating_sub(1),
        _ => 0,
    };
    let view = &mut state.panes.retrieval;
    if matches!(action, Action::Up | Action::Down) {
        view.found = None;
    }
    match action {
        Action::Open => {
            let chosen = view.example.min(examples);
            let row = match view.found {
                Some((_, row)) => row,
                None => state.run().and_then(|r| r.view.retrieval.examples.get(chosen)).map(|e| e.row),
            };
            match row {
                Some(row) => sampling::read(state, row),
                None => state.say(Weight::Plain, "no row of this run that is kept here has this item as its target"),
            }
        }
        Action::Up => view.example = view.example.min(examples).saturating_sub(1),
        Action::Down => view.example = (view.example + 1).min(examples),
        Action::Left => view.space = view.space.min(spaces).saturating_sub(1),
        Action::Right => view.space = (view.space + 1).min(spaces),
        Action::Sort => view.by_time = !view.by_time,
        Action::NextView => {
            view.mode = match view.mode {
                Mode::Both => Mode::Scatter,
                Mode::Scatter => Mode::Example,
                Mode::Example => Mode::Both,
            };
        }
        _ => {}
    }
    Vec::new()
}

/// The scatter's and the example's part of the pane.
fn parts(state: &State, run: &OpenRun, area: Rect) -> (Option<Rect>, Option<Rect>) {
    let scatter = matches!(&run.scatter, Some(Ok(Some(_))));
    let example = !run.view.retrieval.examples.is_empty();
    match (state.panes.retrieval.mode, scatter, example) {
        (Mode::Both, true, true) if area.height >= 18 => {
            let top = area.height / 2;
            let below = Rect { y: area.y + top, height: area.height - top, ..area };
            (Some(Rect { height: top, ..area }), Some(below))
        }
        (Mode::Example, _, true) | (_, false, true) => (None, Some(area)),
        (_, true, _) => (Some(area), None),
        (_, false, false) => (None, None),
    }
}

/// Finds the item under the mouse, and a row about it.
fn click(state: &mut State, area: Rect, at: Position) {
    let Some(run) = state.run() else { return };
    let (Some(place), _) = parts(state, run, area) else { return };
    let Some(Ok(Some(scatter))) = &run.scatter else { return };
    let example = |title: &str| run.view.retrieval.examples.iter().position(|e| e.target.title == title);
    let about = |title: &str| match example(title) {
        Some(i) => Some(run.view.retrieval.examples[i].row),
        None => {
            let is_about = |p: &&Prompt| p.target.as_ref().is_some_and(|t| t.title == title);
            run.view.prompts.iter().find(is_about).map(|p| p.row)
        }
    };
    let hit = cells(state, scatter, place).into_iter().find(|(_, cell)| cell.contains(at));
    let nearest = hit.and_then(|(i, cell)| {
        let points = points(&scatter.spaces[i], plot(cell), DOTS).filter(|(item, _)| *item < scatter.items.len());
        // Of several in one cell of the screen the one that a row is about.
        points.min_by_key(|(item, (x, y))| {
            let dx = (x / DOTS.0).abs_diff(usize::from(at.x));
            let dy = (y / DOTS.1).abs_diff(usize::from(at.y));
            (dx * dx + 4 * dy * dy, about(&scatter.items[*item].title).is_none())
        })
    });
    let Some((item, _)) = nearest else { return };
    let title = &scatter.items[item].title;
    let (row, example) = (about(title), example(title));
    let what = match row {
        Some(row) => format!("row {row} is about it; Enter reads it"),
        None => "no row that is kept here is about it".into(),
    };
    let text = format!("{} ({}): {what}", format::clean(title), format::clean(&scatter.items[item].genre));
    state.panes.retrieval.found = Some((item, row));
    state.panes.retrieval.example = example.unwrap_or(state.panes.retrieval.example);
    state.say(Weight::Plain, text);
}

/// Draws the pane.
pub fn draw(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let examples = &run.view.retrieval.examples;
    let scatter = match &run.scatter {
        Some(Ok(Some(scatter))) => Some(&**scatter),
        Some(Err(why)) => {
            text::plain(area, buffer, 0, &format!("scatter.json: {why}"), theme.bad());
            None
        }
        _ => None,
    };
    if scatter.is_none() && examples.is_empty() {
        let text = "this run tells nothing about retrieval: the retrieve stage has not come yet, was reused, or an \
                    earlier version made it";
        return text::note(area, buffer, text, theme);
    }
    let example = examples.get(state.panes.retrieval.example.min(examples.len().saturating_sub(1)));
    let (above, below) = parts(state, run, area);
    if let (Some(place), Some(scatter)) = (above, scatter) {
        draw_scatter(state, scatter, example, place, buffer);
    }
    if let (Some(place), Some(example)) = (below, example) {
        draw_example(state, example, examples.len(), place, buffer);
    }
}

/// The most frequent genres, each with its number; the rest share the last one.
fn groups(scatter: &Scatter) -> Vec<String> {
    let mut counts: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for item in &scatter.items {
        *counts.entry(item.genre.as_str()).or_default() += 1;
    }
    let mut by_count: Vec<_> = counts.into_iter().filter(|(g, _)| !g.is_empty()).collect();
    by_count.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    by_count.into_iter().take(GROUPS).map(|(g, _)| g.to_string()).collect()
}

fn draw_scatter(state: &State, scatter: &Scatter, example: Option<&Example>, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    if area.height < 4 || scatter.spaces.is_empty() {
        return;
    }
    let groups = groups(scatter);
    let mut legend: Vec<Span> = Vec::new();
    let mut room = usize::from(area.width);
    for (i, name) in groups.iter().map(String::as_str).chain(["others"]).enumerate() {
        let marker = if theme.ascii || theme.palette == Palette::Mono { theme.marker(i) } else { '●' };
        let name = format!("{}  ", format::clean(name));
        // Half a name would be worse than none.
        let Some(left) = room.checked_sub(format::width(name.trim_end()) + 2) else { break };
        room = left.saturating_sub(2);
        legend.push(Span::styled(format!("{marker} "), theme.series(i.min(GROUPS))));
        legend.push(Span::styled(name, theme.dim()));
    }
    text::line(area, buffer, area.height - 1, &Line::from(legend));
    let target = example.map(|e| e.target.title.as_str());
    let chosen = match state.panes.retrieval.found {
        Some((item, _)) => Some(item),
        None => scatter.items.iter().position(|item| target == Some(item.title.as_str())),
    };
    for (i, cell) in cells(state, scatter, area) {
        draw_space(scatter, &scatter.spaces[i], &groups, chosen, cell, buffer, theme);
    }
}

/// The spaces on the screen, each with its place, above the legend.
fn cells(state: &State, scatter: &Scatter, area: Rect) -> Vec<(usize, Rect)> {
    if area.height < 4 || scatter.spaces.is_empty() {
        return Vec::new();
    }
    let fit = usize::from(area.width / 30).clamp(1, scatter.spaces.len());
    let first = state.panes.retrieval.space.min(scatter.spaces.len() - fit);
    let place = |i: usize| {
        let (x, width) = share(area.width, fit, i);
        Rect { x: area.x + x, width: width.saturating_sub(1), height: area.height - 1, ..area }
    };
    (0..fit).map(|i| (first + i, place(i))).collect()
}

/// A space's plot below its heading.
fn plot(cell: Rect) -> Rect {
    Rect { y: cell.y + 1, height: cell.height.saturating_sub(1), ..cell }
}

/// Dots across and down a cell of the screen.
const DOTS: (usize, usize) = (2, 4);

/// The items of a space with the dot of each, counted from the corner of the screen.
fn points(space: &Space, plot: Rect, dots: (usize, usize)) -> impl Iterator<Item = (usize, (usize, usize))> {
    let finite = || {
        let numbered = space.points.iter().enumerate();
        numbered.filter_map(|(i, p)| Some((i, (*p)?))).filter(|(_, p)| p[0].is_finite() && p[1].is_finite())
    };
    let range = |axis: usize| chart::bounds(finite().map(|(_, p)| f64::from(p[axis]))).unwrap_or((0.0, 0.0));
    let (x, y) = (range(0), range(1));
    let (w, h) = (usize::from(plot.width) * dots.0, usize::from(plot.height) * dots.1);
    let scale = |v: f32, (a, b): (f64, f64), n: usize| {
        let t = if b > a { (f64::from(v) - a) / (b - a) } else { 0.5 };
        ((t * n.saturating_sub(1) as f64).round() as usize).min(n.saturating_sub(1))
    };
    let corner = (usize::from(plot.x) * dots.0, usize::from(plot.y) * dots.1);
    let at = |p: [f32; 2]| (corner.0 + scale(p[0], x, w), corner.1 + h.saturating_sub(1) - scale(p[1], y, h));
    finite().map(|(i, p)| (i, at(p))).collect::<Vec<_>>().into_iter()
}

fn draw_space(
    scatter: &Scatter,
    space: &Space,
    groups: &[String],
    chosen: Option<usize>,
    area: Rect,
    buffer: &mut Buffer,
    theme: Theme,
) {
    let explained = space.explained.map_or(String::new(), |e| format!(", {:.0} %", (e[0] + e[1]) * 100.0));
    let when = match space.name.as_str() {
        "text" | "collaborative" => ", before alignment",
        "aligned" => ", after alignment",
        _ => "",
    };
    let name = format!("{}{when}", format::clean(&space.name));
    let whole = format!("{name}  {}{explained}", format::clean(&space.method));
    // The method whole or not at all.
    let title = if format::width(&whole) > usize::from(area.width) { name } else { whole };
    text::plain(area, buffer, 0, &format::cut(&title, usize::from(area.width), theme.marks().ellipsis), theme.text());
    let plot = plot(area);
    let mut dots = Dots::new(plot, theme, groups.len() > 1);
    let grain = if dots.has_markers() { (1, 1) } else { DOTS };
    let corner = (usize::from(plot.x) * grain.0, usize::from(plot.y) * grain.1);
    let (mut mark, mut any) = (None, false);
    for (i, (x, y)) in points(space, plot, grain) {
        let Some(item) = scatter.items.get(i) else { continue };
        let group = groups.iter().position(|g| *g == item.genre).unwrap_or(GROUPS);
        dots.set(x - corner.0, y - corner.1, group);
        any = true;
        if chosen == Some(i) {
            mark = Some(Position::new((x / grain.0) as u16, (y / grain.1) as u16));
        }
    }
    if !any {
        return text::note(plot, buffer, "no points", theme);
    }
    dots.draw(plot, buffer, theme);
    sampling::points::mark(mark.filter(|at| plot.contains(*at)), buffer, theme);
}

fn draw_example(state: &State, example: &Example, count: usize, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let label = example.label.map_or("", |l| if l { "liked" } else { "not liked" });
    let at = state.panes.retrieval.example.min(count.saturating_sub(1)) + 1;
    let heading = vec![
        Span::styled(format!("example {at}/{count}  "), theme.dim()),
        Span::styled(format::clean(&example.target.title), theme.accent()),
        Span::raw(format!("  {}  ", format::clean(&example.target.genres.join(", ")))),
        Span::styled(label, theme.warn()),
        Span::styled(format!("  row {}, by {}", example.row, format::clean(&example.embedding)), theme.dim()),
    ];
    text::line(area, buffer, 0, &Line::from(heading));
    let mut items: Vec<_> = example.history.iter().collect();
    if state.panes.retrieval.by_time {
        items.sort_by_key(|i| std::cmp::Reverse(i.position));
    } else {
        // What the prompt shows first, then what was retrieved, then the rest, newest first.
        let last = u32::MAX;
        items.sort_by_key(|i| (i.shown.unwrap_or(last), i.retrieved.unwrap_or(last), std::cmp::Reverse(i.position)));
    }
    let number_of = |x: Option<f64>| x.map_or(String::new(), |v| format!("{v:.3}"));
    let rank = |x: Option<u32>| x.map_or(String::new(), |v| v.to_string());
    let rows: Vec<Vec<Cell>> = items
        .iter()
        .map(|i| {
            let style = match (i.shown, i.retrieved) {
                (Some(_), Some(_)) => theme.good(),
                (Some(_), None) => theme.text(),
                _ => theme.dim(),
            };
            vec![
                Cell::new(rank(i.shown), style),
                Cell::new(rank(i.retrieved), style),
                Cell::new(format::clean(&i.item.title), style),
                Cell::new(i.rating.to_string(), theme.text()),
                Cell::new(number_of(i.similarity), theme.text()),
                Cell::new(number_of(i.text), theme.dim()),
                Cell::new(number_of(i.collaborative), theme.dim()),
                Cell::new(number_of(i.aligned), theme.dim()),
                Cell::new(i.position.to_string(), theme.dim()),
            ]
        })
        .collect();
    let columns = [
        number("shown"),
        number("near"),
        wide("history item"),
        number("rating"),
        number("similar"),
        number("text"),
        number("collab"),
        number("aligned"),
        number("place"),
    ];
    let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    table::draw(&columns, &rows, None, below, buffer, theme);
    if rows.is_empty() {
        text::plain(below, buffer, 1, "no history", theme.dim());
    }
}
