//! Pane 7: cores, memory, disk, GPUs; "n/a" where nothing is known.

use crate::keys::Key::Char;
use crate::keys::{Action, VIEW, bound};
use crate::panes::{BASE, Draw, Pane, PaneId};
use rallrec_events::view::Series;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::format;
use crate::layout::share;
use crate::message::Effect;
use crate::state::{OpenRun, State};
use crate::theme::Theme;
use crate::widgets::chart::{Chart, Interval, Line as Curve};
use crate::widgets::{bars, text};

/// The pane.
pub const PANE: Pane = Pane {
    id: PaneId::System,
    title: "System",
    short: "Sys",
    key: &[Char('7')],
    about: "machine",
    draw: Draw::OfRun(draw),
    act,
    keys: &[bound(VIEW, Action::NextView, "curves or figures", "view")],
    ..BASE
};

/// State of the pane.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Curves instead of figures.
    pub curves: bool,
}

/// Keys of the pane.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    if action == Action::NextView {
        state.panes.system.curves = !state.panes.system.curves;
    }
    Vec::new()
}

fn label(name: &str, theme: Theme) -> Span<'static> {
    Span::styled(format!("{name:<9}"), theme.dim())
}

/// A line with a bar: name, bar, words.
fn gauge(name: &str, share: f64, words: String, width: u16, theme: Theme) -> Line<'static> {
    let columns = usize::from(width).saturating_sub(10 + format::width(&words)).clamp(4, 30);
    Line::from(vec![
        label(name, theme),
        bars::gauge(share, columns, (0.8, 0.95), theme),
        Span::raw(format!(" {words}")),
    ])
}

/// Draws the pane.
pub fn draw(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let lines = figures(run, area.width, theme);
    let curves = curves(run);
    if state.panes.system.curves && !curves.is_empty() {
        return draw_curves(&curves, area, buffer, theme);
    }
    text::lines(area, buffer, &lines);
    let used = lines.len() as u16;
    if area.height >= used + 7 && !curves.is_empty() {
        let below = Rect { y: area.y + used + 1, height: area.height - used - 1, ..area };
        draw_curves(&curves, below, buffer, theme);
    }
}

fn figures(run: &OpenRun, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let system = &run.view.system;
    let mut out = Vec::new();
    if let Some(now) = &system.now {
        out.extend(cores(&now.cores, width, theme));
        let process = now.process.map_or(String::new(), |p| format!("   this run {p:.0} %"));
        let mean = now.cores.iter().sum::<f32>() / now.cores.len().max(1) as f32;
        out.push(Line::from(vec![label("mean", theme), Span::raw(format!("{mean:.0} %{process}"))]));
        if now.memory_total > 0 {
            let share = now.memory_used as f64 / now.memory_total as f64;
            let words = format!("{} of {}", format::bytes(now.memory_used), format::bytes(now.memory_total));
            out.push(gauge("memory", share, words, width, theme));
        }
    } else {
        out.push(Line::from(vec![label("cores", theme), Span::styled("n/a: this run does not tell", theme.dim())]));
    }
    let bytes = |b: Option<u64>| b.map_or("n/a".to_string(), format::bytes);
    let process = format!("{}, most {}", bytes(system.resident_now), bytes(system.peak));
    out.push(Line::from(vec![label("process", theme), Span::raw(process)]));
    let told = system.now.as_ref().and_then(|n| Some((n.disk_free?, n.disk_total?)));
    if let Some((free, all)) = told.or(run.status.disk) {
        let used = all.saturating_sub(free) as f64 / all.max(1) as f64;
        let words = format!("{} free of {}", format::bytes(free), format::bytes(all));
        out.push(gauge("disk", used, words, width, theme));
    }
    if let Some(size) = system.now.as_ref().and_then(|n| n.run_bytes) {
        out.push(Line::from(vec![label("run", theme), Span::raw(format::bytes(size))]));
    }
    out.extend(gpus(run, width, theme));
    for (name, value) in &run.view.run.machine {
        let room = if width >= 50 { 12 } else { 8 };
        let name = format!("{:<room$} ", format::cut(&format::clean(name), room, theme.marks().ellipsis));
        let value =
            format::cut(&format::clean(value), usize::from(width).saturating_sub(room + 1), theme.marks().ellipsis);
        out.push(Line::from(vec![Span::styled(name, theme.dim()), Span::styled(value, theme.dim())]));
    }
    out
}

/// As many cores a line as fit.
fn cores(cores: &[f32], width: u16, theme: Theme) -> Vec<Line<'static>> {
    if cores.len() > 32 {
        // One character a core.
        let values: Vec<f64> = cores.iter().map(|c| f64::from(*c)).collect();
        return values
            .chunks(usize::from(width).saturating_sub(10).max(1))
            .map(|part| {
                let spark = bars::spark(part, part.len(), Some((0.0, 100.0)), theme);
                Line::from(vec![label("cores", theme), Span::styled(spark, theme.series(0))])
            })
            .collect();
    }
    let each = 20;
    let in_line = (usize::from(width).saturating_sub(9) / each).max(1);
    cores
        .chunks(in_line)
        .enumerate()
        .map(|(row, part)| {
            let mut spans = vec![label(if row == 0 { "cores" } else { "" }, theme)];
            for (i, c) in part.iter().enumerate() {
                spans.push(Span::styled(format!("{:>2} ", row * in_line + i), theme.dim()));
                // Cores at work are neither good nor bad.
                spans.push(Span::styled(bars::bar(f64::from(*c) / 100.0, 10, theme), theme.series(0)));
                spans.push(Span::raw(format!("{c:>4.0}%  ")));
            }
            Line::from(spans)
        })
        .collect()
}

fn gpus(run: &OpenRun, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let none = |why: &str| vec![Line::from(vec![label("GPU", theme), Span::styled(why.to_string(), theme.dim())])];
    let Some(gpus) = run.view.system.now.as_ref().and_then(|n| n.gpus.as_ref()) else { return none("n/a") };
    if gpus.is_empty() {
        return none("none");
    }
    let mut out = Vec::new();
    for (i, gpu) in gpus.iter().enumerate() {
        let share = gpu.utilisation.unwrap_or(0.0) / 100.0;
        let busy = gpu.utilisation.map_or("n/a".into(), |u| format!("{u:.0} %"));
        let words = format!("{busy}  {}", format::clean(&gpu.name));
        let columns = usize::from(width).saturating_sub(10 + format::width(&words)).clamp(4, 30);
        out.push(Line::from(vec![
            label(&format!("GPU {i}"), theme),
            Span::styled(bars::bar(share, columns, theme), theme.series(0)),
            Span::raw(format!(" {words}")),
        ]));
        if let (Some(used), Some(all)) = (gpu.memory_used, gpu.memory_total) {
            let words = format!("{} of {}", format::bytes(used), format::bytes(all));
            out.push(gauge("", used as f64 / all.max(1) as f64, words, width, theme));
        }
        let number = |x: Option<f64>, unit: &str| x.map_or("n/a".to_string(), |v| format!("{v:.0} {unit}"));
        let facts = [
            ("power", number(gpu.power, "W")),
            ("temperature", number(gpu.temperature, "C")),
            ("clock", number(gpu.clock, "MHz")),
            ("memory clock", number(gpu.memory_clock, "MHz")),
        ];
        out.extend(text::fact_lines(&facts, width, theme));
    }
    out
}

/// A curve with its heading and its range, where that is fixed.
type Named = (&'static str, Curve, Option<Interval>);

fn curves(run: &OpenRun) -> Vec<Named> {
    let s = &run.view.system;
    let scaled = |series: &Series, by: f64| series.points().map(|(x, y)| (x, y / by)).collect();
    let mib = 1024.0 * 1024.0;
    type Source<'a> = (&'static str, &'a Series, f64, Option<Interval>);
    let all: [Source<'_>; 5] = [
        ("cores %", &s.cpu, 1.0, Some((0.0, 100.0))),
        ("process MiB", &s.resident, mib, None),
        ("GPU %", &s.gpu, 1.0, Some((0.0, 100.0))),
        ("GPU memory MiB", &s.gpu_memory, mib, None),
        ("GPU power W", &s.gpu_power, 1.0, None),
    ];
    all.into_iter()
        .filter(|(_, series, ..)| !series.is_empty())
        .enumerate()
        .map(|(i, (title, series, by, range))| (title, Curve::new("", scaled(series, by), i), range))
        .collect()
}

fn draw_curves(curves: &[Named], area: Rect, buffer: &mut Buffer, theme: Theme) {
    let columns = usize::from(area.width / 34).clamp(1, curves.len());
    let rows = usize::from(area.height / 6).max(1).min(curves.len().div_ceil(columns));
    for (i, (title, curve, range)) in curves.iter().take(columns * rows).enumerate() {
        let (r, c) = (i / columns, i % columns);
        let (x, width) = share(area.width, columns, c);
        let (y, height) = share(area.height, rows, r);
        let cell = Rect::new(area.x + x, area.y + y, width.saturating_sub(1), height);
        let lines = [curve.clone()];
        Chart { title, lines: &lines, y: *range, unit: "s", ..Chart::default() }.draw(cell, buffer, theme);
    }
}
