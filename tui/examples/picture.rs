//! Draws the dashboard of a run folder as SVG: `cargo run -p rallrec-tui --example picture -- RUN
//! OUT.svg [KEYS [WIDTHxHEIGHT [dark|light|mono]]]`. KEYS are pressed before, one character each
//! (`~` is Enter); with a name that ends in .txt the screen is written as text. Lines, blocks and
//! dots become shapes, so that the picture does not depend on the viewer's fonts.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use rallrec_events::scatter::Scatter;
use rallrec_tui::edge::catalogue::{self, Places};
use rallrec_tui::message::{Message, RunNews};
use rallrec_tui::panes::runs::News;
use rallrec_tui::prefs::Prefs;
use rallrec_tui::state::State;
use rallrec_tui::theme::Palette;
use rallrec_tui::update::{open, update};
use rallrec_tui::{draw, snapshot};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};

/// Size of a cell in pixels.
const CELL: (f64, f64) = (7.8, 16.0);
const SIZE: (u16, u16) = (172, 47);
/// The grounds of the themes, and the colours of plain text on them.
const DARK: (&str, &str) = ("#16181d", "#d8dae0");
const LIGHT: (&str, &str) = ("#ffffff", "#24262b");

fn main() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, out, rest @ ..] = args.as_slice() else { return Err("usage: picture RUN OUT.svg [KEYS]".into()) };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?;
    let now = since.as_millis() as u64;
    let read = snapshot::open(Path::new(folder), now)?;
    let size = match rest.get(1).map(|s| s.split_once('x')) {
        None => SIZE,
        Some(Some((w, h))) => (w.parse().map_err(|_| "no width")?, h.parse().map_err(|_| "no height")?),
        Some(None) => return Err("a size is written as 120x36".into()),
    };
    let palette = match rest.get(2).map(String::as_str) {
        None | Some("dark") => Palette::Dark,
        Some("light") => Palette::Light,
        Some("mono") => Palette::Mono,
        Some(other) => return Err(format!("there is no theme '{other}'")),
    };
    let mut state = State::new(size, &Prefs::default(), Some(palette), now);
    open(&mut state, folder.into());
    update(&mut state, Message::Run(1, RunNews::Status(read.status)));
    update(&mut state, Message::Run(1, RunNews::Opened(read.view)));
    let scatter = Scatter::read(Path::new(folder)).map_err(|e| e.to_string())?;
    update(&mut state, Message::Run(1, RunNews::Scatter(Ok(scatter.map(Box::new)))));
    let mut places = Places { recipes: vec!["configs".into()], ..Places::default() };
    places.add(Path::new(folder));
    update(&mut state, Message::Runs(News::Catalogue(catalogue::read(&places))));
    for c in rest.first().into_iter().flat_map(|k| k.chars()) {
        let code = if c == '~' { KeyCode::Enter } else { KeyCode::Char(c) };
        update(&mut state, Message::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }
    state.notice = None;
    let area = Rect::new(0, 0, size.0, size.1);
    let mut buffer = Buffer::empty(area);
    draw::draw_into(&state, area, &mut buffer);
    let text = if out.ends_with(".txt") {
        snapshot::lines(&buffer)
    } else {
        svg(&buffer, if palette == Palette::Light { LIGHT } else { DARK })
    };
    std::fs::write(out, text).map_err(|e| format!("{out}: {e}"))
}

fn svg(buffer: &Buffer, (ground, plain): (&str, &str)) -> String {
    let area = buffer.area;
    let (w, h) = (f64::from(area.width) * CELL.0, f64::from(area.height) * CELL.1);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w:.0} {h:.0}\" font-family=\"ui-monospace, Menlo, \
         Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" \
         fill=\"{ground}\"/>\n"
    );
    // All shapes of one colour are one element: grounds first, so that nothing is hidden.
    let (mut grounds, mut shapes) = (BTreeMap::<String, String>::new(), BTreeMap::<(String, bool), String>::new());
    let mut texts = String::new();
    for y in 0..area.height {
        for x in 0..area.width {
            let bg = buffer[(x, y)].bg;
            if bg != Color::Reset && (x == 0 || buffer[(x - 1, y)].bg != bg) {
                let cells = (x..area.width).take_while(|x| buffer[(*x, y)].bg == bg).count() as f64;
                let (px, py) = (f64::from(x) * CELL.0, f64::from(y) * CELL.1);
                let place = boxed(px, py, cells * CELL.0, CELL.1 + 0.2);
                grounds.entry(hex(bg, ground)).or_default().push_str(&place);
            }
        }
        let mut x = 0;
        while x < area.width {
            let cell = &buffer[(x, y)];
            let (px, py) = (f64::from(x) * CELL.0, f64::from(y) * CELL.1);
            let colour = hex(cell.fg, plain);
            let symbol = cell.symbol().chars().next().unwrap_or(' ');
            if let Some((path, stroke)) = shape(symbol, px, py) {
                shapes.entry((colour, stroke)).or_default().push_str(&path);
                x += 1;
                continue;
            }
            // A run of text in one style is one element.
            let mut words = String::new();
            let from = x;
            while x < area.width {
                let next = &buffer[(x, y)];
                let c = next.symbol().chars().next().unwrap_or(' ');
                if (next.fg, next.modifier) != (cell.fg, cell.modifier) || shape(c, 0.0, 0.0).is_some() {
                    break;
                }
                words.push_str(next.symbol());
                x += 1;
            }
            if !words.trim().is_empty() {
                let bold = if cell.modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
                let (lead, text) = (words.len() - words.trim_start().len(), words.trim());
                let left = f64::from(from) * CELL.0 + lead as f64 * CELL.0;
                let length = text.chars().count() as f64 * CELL.0;
                texts.push_str(&format!(
                    "<text x=\"{left:.1}\" y=\"{:.1}\" textLength=\"{length:.1}\" fill=\"{colour}\"{bold} \
                     xml:space=\"preserve\">{}</text>\n",
                    py + 12.0,
                    escape(text)
                ));
            }
            x = x.max(from + 1);
        }
    }
    for (colour, path) in grounds {
        out.push_str(&format!("<path d=\"{path}\" fill=\"{colour}\"/>\n"));
    }
    for ((colour, stroke), path) in shapes {
        let paint = if stroke { format!("fill=\"none\" stroke=\"{colour}\"") } else { format!("fill=\"{colour}\"") };
        out.push_str(&format!("<path d=\"{path}\" {paint}/>\n"));
    }
    out.push_str(&texts);
    out.push_str("</svg>\n");
    out
}

fn boxed(x: f64, y: f64, w: f64, h: f64) -> String {
    format!("M{x:.1} {y:.1}h{w:.1}v{h:.1}h-{w:.1}z")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A glyph as a path, and whether it is a stroke.
fn shape(c: char, x: f64, y: f64) -> Option<(String, bool)> {
    let (w, h) = CELL;
    let (mx, my, r, b) = (x + w / 2.0, y + h / 2.0, x + w, y + h);
    Some(match c {
        '\u{2800}'..='\u{28ff}' => {
            let bits = c as u32 - 0x2800;
            let dots = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)];
            let path: String = (0..8)
                .filter(|i| bits >> i & 1 == 1)
                .map(|i| {
                    let (dx, dy) = dots[i];
                    boxed(x + w * (f64::from(dx) + 0.25) / 2.0, y + h * (f64::from(dy) + 0.3) / 4.0, 2.0, 2.0)
                })
                .collect();
            (path, false)
        }
        '▁'..='█' => {
            let part = h * f64::from(c as u32 - '▁' as u32 + 1) / 8.0;
            (boxed(x, b - part, w + 0.2, part), false)
        }
        '░' => (boxed(x, y + h * 0.42, w, 2.0), false),
        '─' => (format!("M{x:.1} {my:.1}H{r:.1}"), true),
        '━' => (boxed(x, my - 1.5, w, 3.0), false),
        '│' => (format!("M{mx:.1} {y:.1}V{b:.1}"), true),
        '╭' => (format!("M{mx:.1} {b:.1}V{my:.1}H{r:.1}"), true),
        '╮' => (format!("M{x:.1} {my:.1}H{mx:.1}V{b:.1}"), true),
        '╰' => (format!("M{mx:.1} {y:.1}V{my:.1}H{r:.1}"), true),
        '╯' => (format!("M{x:.1} {my:.1}H{mx:.1}V{y:.1}"), true),
        _ => return None,
    })
}

/// The colour of xterm's table.
fn hex(colour: Color, default: &str) -> String {
    let Color::Indexed(n) = colour else { return default.into() };
    let level = |v: u8| if v == 0 { 0 } else { 55 + v * 40 };
    let (r, g, b) = match n {
        16..=231 => (level((n - 16) / 36), level((n - 16) / 6 % 6), level((n - 16) % 6)),
        232..=255 => (8 + (n - 232) * 10, 8 + (n - 232) * 10, 8 + (n - 232) * 10),
        _ => return default.into(),
    };
    format!("#{r:02x}{g:02x}{b:02x}")
}
