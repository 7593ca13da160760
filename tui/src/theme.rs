//! Colours and glyphs. Indexed colours only, so that the screen looks the same through tmux and
//! ssh; a mono theme (chosen by `NO_COLOR`) says everything with bold, dim and reversed instead.

use ratatui::style::{Color, Modifier, Style};
use serde::{Deserialize, Serialize};

/// Which palette is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Palette {
    /// For dark backgrounds.
    #[default]
    Dark,
    /// For light backgrounds.
    Light,
    /// No colour at all.
    Mono,
}

impl Palette {
    /// The palette that the environment asks for: `NO_COLOR` first, then `COLORFGBG` as terminals
    /// set it ("foreground;background", 7 and 15 being light), else `None`.
    pub fn from_environment(no_color: Option<&str>, colorfgbg: Option<&str>) -> Option<Self> {
        if no_color.is_some_and(|v| !v.is_empty()) {
            return Some(Palette::Mono);
        }
        let background: u8 = colorfgbg?.rsplit(';').next()?.parse().ok()?;
        Some(if matches!(background, 7 | 9..=15) { Palette::Light } else { Palette::Dark })
    }

    /// The next palette in the cycle of the theme key.
    pub fn next(self) -> Self {
        match self {
            Palette::Dark => Palette::Light,
            Palette::Light => Palette::Mono,
            Palette::Mono => Palette::Dark,
        }
    }

    /// Its name, as shown and as accepted on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Palette::Dark => "dark",
            Palette::Light => "light",
            Palette::Mono => "mono",
        }
    }
}

/// Whether the terminal reads UTF-8 and has the glyphs, as `LC_ALL`, `LC_CTYPE` and `LANG` and
/// `TERM` say; `None` where none of them says anything.
pub fn reads_utf8(locale: &[Option<String>], term: Option<&str>) -> Option<bool> {
    // The console of Linux has no braille in its font.
    if term.is_some_and(|t| matches!(t, "linux" | "dumb") || t.starts_with("vt1") || t.starts_with("vt2")) {
        return Some(false);
    }
    let first = locale.iter().flatten().find(|v| !v.is_empty())?;
    Some(first.to_lowercase().replace('-', "").contains("utf8"))
}

/// Palette and glyph set together: all that drawing needs to know about looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Theme {
    /// The colours.
    pub palette: Palette,
    /// Plain ASCII instead of box lines, braille and blocks.
    pub ascii: bool,
}

/// Series colours on dark and on light ground: told apart by lightness too, for people who do not
/// see red and green.
const SERIES_DARK: [u8; 36] = [
    81, 214, 120, 213, 229, 111, 209, 43, 180, 141, 148, 250, // what most see
    39, 203, 77, 171, 221, 69, 173, 37, 144, 99, 106, 246, //    the same hues, darker
    159, 223, 157, 219, 231, 153, 217, 122, 187, 183, 192, 117, // and lighter
];
const SERIES_LIGHT: [u8; 36] = [
    25, 166, 28, 127, 94, 60, 125, 30, 88, 55, 64, 240, //
    19, 124, 22, 90, 58, 17, 53, 23, 52, 54, 100, 235, //
    32, 172, 34, 163, 136, 62, 168, 37, 131, 98, 70, 244, //
];
/// From low to high.
const RAMP_DARK: [u8; 8] = [17, 18, 25, 31, 37, 78, 149, 226];
const RAMP_LIGHT: [u8; 8] = [231, 194, 157, 115, 73, 31, 25, 18];

impl Theme {
    fn pick(self, dark: u8, light: u8) -> Style {
        match self.palette {
            Palette::Dark => Style::new().fg(Color::Indexed(dark)),
            Palette::Light => Style::new().fg(Color::Indexed(light)),
            Palette::Mono => Style::new(),
        }
    }

    /// Ordinary text: the terminal's own colours.
    pub fn text(self) -> Style {
        Style::new()
    }

    /// Labels, hints, axes.
    pub fn dim(self) -> Style {
        match self.palette {
            Palette::Mono => Style::new().add_modifier(Modifier::DIM),
            _ => self.pick(245, 242),
        }
    }

    /// Names, keys, what is selected.
    pub fn accent(self) -> Style {
        self.pick(81, 25).add_modifier(Modifier::BOLD)
    }

    /// Done, better, within bounds.
    pub fn good(self) -> Style {
        self.pick(120, 28)
    }

    /// Worth a look.
    pub fn warn(self) -> Style {
        match self.palette {
            Palette::Mono => Style::new().add_modifier(Modifier::BOLD),
            _ => self.pick(214, 130),
        }
    }

    /// Failed.
    pub fn bad(self) -> Style {
        self.pick(203, 160).add_modifier(Modifier::BOLD)
    }

    /// The line of a list that the keys act on.
    pub fn selected(self) -> Style {
        match self.palette {
            Palette::Dark => Style::new().bg(Color::Indexed(237)).add_modifier(Modifier::BOLD),
            Palette::Light => Style::new().bg(Color::Indexed(253)).add_modifier(Modifier::BOLD),
            Palette::Mono => Style::new().add_modifier(Modifier::REVERSED),
        }
    }

    /// Border of a pane.
    pub fn border(self, focused: bool) -> Style {
        match (focused, self.palette) {
            (true, _) => self.accent(),
            (false, Palette::Mono) => Style::new().add_modifier(Modifier::DIM),
            (false, _) => self.pick(240, 249),
        }
    }

    /// The bar at the top and the tab in use.
    pub fn bar(self) -> Style {
        match self.palette {
            Palette::Dark => Style::new().bg(Color::Indexed(236)).fg(Color::Indexed(252)),
            Palette::Light => Style::new().bg(Color::Indexed(254)).fg(Color::Indexed(235)),
            Palette::Mono => Style::new(),
        }
    }

    /// Colour of the `i`-th series or group.
    pub fn series(self, i: usize) -> Style {
        if i == crate::widgets::dots::FAINT {
            return self.border(false);
        }
        let i = i % SERIES_DARK.len();
        match self.palette {
            Palette::Mono if i % 2 == 1 => Style::new().add_modifier(Modifier::BOLD),
            _ => self.pick(SERIES_DARK[i], SERIES_LIGHT[i]),
        }
    }

    /// Marker of the `i`-th series where dots cannot be coloured.
    pub fn marker(self, i: usize) -> char {
        if i == crate::widgets::dots::FAINT {
            return '.';
        }
        const MARKERS: [char; 36] = [
            '*', '+', 'o', 'x', '#', '%', '@', '=', 's', 'v', 'z', '&', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'k',
            'm', 'n', 'p', 'q', 'r', 't', 'u', 'w', 'y', '0', '2', '3', '4', '6', '8',
        ];
        MARKERS[i % MARKERS.len()]
    }

    /// Cell of a heat map, `x` from 0 (low) to 1 (high): a glyph and a style that also reads
    /// without colour.
    pub fn heat(self, x: f64) -> (char, Style) {
        let level = if x.is_finite() { (x.clamp(0.0, 1.0) * 7.0).round() as usize } else { 0 };
        match self.palette {
            Palette::Dark => (' ', Style::new().bg(Color::Indexed(RAMP_DARK[level]))),
            Palette::Light => (' ', Style::new().bg(Color::Indexed(RAMP_LIGHT[level]))),
            Palette::Mono if self.ascii => ([' ', '.', ':', '-', '=', '+', '*', '#'][level], Style::new()),
            Palette::Mono => ([' ', '░', '░', '▒', '▒', '▓', '▓', '█'][level], Style::new()),
        }
    }

    /// Text on a heat-map cell: readable on the cell's own ground.
    pub fn on_heat(self, x: f64) -> Style {
        let (_, cell) = self.heat(x);
        let high = x.is_finite() && x > 0.6;
        match self.palette {
            Palette::Dark => cell.fg(Color::Indexed(if high { 16 } else { 231 })),
            Palette::Light => cell.fg(Color::Indexed(if high { 231 } else { 16 })),
            Palette::Mono => Style::new(),
        }
    }

    /// Eighths of a bar, empty to full.
    pub fn eighths(self) -> [char; 9] {
        if self.ascii {
            [' ', '.', '.', ':', ':', '-', '=', '+', '#']
        } else {
            [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
        }
    }

    /// Filled and empty piece of a horizontal bar.
    pub fn bar_glyphs(self) -> (char, char) {
        if self.ascii { ('#', '.') } else { ('█', '░') }
    }

    /// State marks: waiting, running, done, reused, failed.
    pub fn marks(self) -> Marks {
        if self.ascii {
            Marks {
                waiting: '.',
                running: '>',
                done: 'v',
                reused: '=',
                failed: 'x',
                arrow: "->",
                dot: "-",
                ellipsis: '~',
            }
        } else {
            Marks {
                waiting: '·',
                running: '▶',
                done: '✓',
                reused: '↺',
                failed: '✗',
                arrow: "→",
                dot: "·",
                ellipsis: '…',
            }
        }
    }
}

/// The glyphs that stand for states; plain ASCII where the user wants that.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    /// Not begun.
    pub waiting: char,
    /// At work.
    pub running: char,
    /// Finished.
    pub done: char,
    /// An earlier result was taken.
    pub reused: char,
    /// Ended with an error.
    pub failed: char,
    /// From here to there.
    pub arrow: &'static str,
    /// Between parts of a line.
    pub dot: &'static str,
    /// Where text was cut.
    pub ellipsis: char,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses() {
        assert_eq!(Palette::from_environment(Some("1"), Some("15;0")), Some(Palette::Mono));
        assert_eq!(Palette::from_environment(Some(""), Some("0;15")), Some(Palette::Light));
        assert_eq!(Palette::from_environment(None, Some("15;0")), Some(Palette::Dark));
        assert_eq!(Palette::from_environment(None, Some("default")), None);
        assert_eq!(Palette::from_environment(None, None), None);
    }

    /// `LC_ALL=C` and the console of Linux once got braille.
    #[test]
    fn the_locale_tells_whether_there_are_glyphs() {
        let locale = |values: [&str; 3]| values.map(|v| (!v.is_empty()).then(|| v.to_string()));
        assert_eq!(reads_utf8(&locale(["C", "", "en_US.UTF-8"]), Some("xterm")), Some(false), "LC_ALL goes first");
        assert_eq!(reads_utf8(&locale(["", "", "de_DE.utf8"]), Some("xterm")), Some(true));
        assert_eq!(reads_utf8(&locale(["", "C.UTF-8", ""]), None), Some(true));
        assert_eq!(reads_utf8(&locale(["", "", "C.UTF-8"]), Some("linux")), Some(false));
        assert_eq!(reads_utf8(&locale(["", "", ""]), Some("xterm")), None);
    }

    #[test]
    fn mono_never_sets_a_colour() {
        let theme = Theme { palette: Palette::Mono, ascii: false };
        let mut styles = vec![theme.text(), theme.dim(), theme.accent(), theme.good(), theme.warn(), theme.bad()];
        styles.extend([theme.selected(), theme.border(true), theme.border(false), theme.bar()]);
        for i in 0..10 {
            styles.push(theme.series(i));
            styles.push(theme.heat(i as f64 / 9.0).1);
            styles.push(theme.on_heat(i as f64 / 9.0));
        }
        assert!(styles.iter().all(|s| s.fg.is_none() && s.bg.is_none()));
    }

    /// The thirteenth opened run once had the colour of the first.
    #[test]
    fn no_two_of_many_opened_runs_share_a_colour_or_a_marker() {
        let all = |what: &dyn Fn(usize) -> String| (0..36).map(what).collect::<std::collections::BTreeSet<_>>().len();
        for palette in [Palette::Dark, Palette::Light] {
            let theme = Theme { palette, ascii: false };
            assert_eq!(all(&|i| format!("{:?}", theme.series(i).fg)), 36, "{palette:?}");
        }
        assert_eq!(all(&|i| Theme::default().marker(i).to_string()), 36);
    }

    #[test]
    fn ascii_is_ascii() {
        let theme = Theme { palette: Palette::Mono, ascii: true };
        assert!(theme.eighths().iter().all(char::is_ascii));
        let m = theme.marks();
        assert!([m.waiting, m.running, m.done, m.reused, m.failed, m.ellipsis].iter().all(char::is_ascii));
        assert!(m.arrow.is_ascii() && m.dot.is_ascii());
        assert!((0..=10).all(|i| theme.heat(i as f64 / 10.0).0.is_ascii()));
    }
}
