//! Which panes are on the screen, and where.

use ratatui::layout::Rect;
use serde::{Deserialize, Serialize};

use crate::panes::PaneId;

/// Smallest tile that a pane shares the screen in.
const TILE: (u16, u16) = (56, 13);

/// What of the arrangement is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arrangement {
    /// The focused pane.
    pub focus: PaneId,
    /// The focused pane alone.
    pub full: bool,
    /// Panes of the overview, in order.
    pub tiles: Vec<PaneId>,
}

impl Default for Arrangement {
    fn default() -> Self {
        Self { focus: PaneId::Pipeline, full: false, tiles: PRESETS[0].to_vec() }
    }
}

use PaneId::{Kernels, Log, Merge, Pipeline, Retrieval, Sampling, System, Training};

/// The arrangements of the layout key: overview, training, answers, machine, everything.
pub const PRESETS: [&[PaneId]; 5] = [
    &[Pipeline, Training, Sampling, Merge, System, Log],
    &[Training, Pipeline, Log],
    &[Sampling, Merge],
    &[Kernels, System, Pipeline, Log],
    &[Pipeline, Training, Sampling, Merge, Retrieval, Kernels, System, Log],
];

impl Arrangement {
    /// The preset after the one in use; the first when the tiles are the user's own.
    pub fn next_preset(&mut self) {
        let now = PRESETS.iter().position(|p| *p == self.tiles.as_slice());
        let next = now.map_or(0, |i| (i + 1) % PRESETS.len());
        self.tiles = PRESETS[next].to_vec();
        self.full = false;
        if !self.tiles.contains(&self.focus) {
            self.focus = self.tiles[0];
        }
    }

    /// Puts the focused pane into the overview, or takes it out; the last one stays.
    pub fn toggle_tile(&mut self) {
        match self.tiles.iter().position(|p| *p == self.focus) {
            Some(i) if self.tiles.len() > 1 => {
                self.tiles.remove(i);
            }
            Some(_) => {}
            None => {
                self.tiles.push(self.focus);
                self.tiles.sort();
            }
        }
    }

    /// The panes that fit into `area`, each with its place. The focused pane is always among them.
    pub fn place(&self, area: Rect) -> Vec<(PaneId, Rect)> {
        let columns = usize::from((area.width / TILE.0).clamp(1, 3));
        let rows = usize::from((area.height / TILE.1).max(1));
        if self.full || columns * rows == 1 || !self.tiles.contains(&self.focus) || self.tiles.len() == 1 {
            return vec![(self.focus, area)];
        }
        // What does not fit is shown by moving on: a window of tiles with the focused one in it.
        let fit = (columns * rows).min(self.tiles.len());
        let at = self.tiles.iter().position(|p| *p == self.focus).unwrap_or(0);
        let start = at / fit * fit;
        let shown = &self.tiles[start.min(self.tiles.len() - fit)..][..fit];
        tile(shown, area, columns)
    }
}

/// Lays `panes` out in at most `columns` columns, filling rows; the last row's panes share its
/// width.
fn tile(panes: &[PaneId], area: Rect, columns: usize) -> Vec<(PaneId, Rect)> {
    let columns = columns.min(panes.len()).max(1);
    let rows = panes.len().div_ceil(columns);
    let mut out = Vec::with_capacity(panes.len());
    for (r, row) in panes.chunks(columns).enumerate() {
        let (y, height) = share(area.height, rows, r);
        for (c, pane) in row.iter().enumerate() {
            let (x, width) = share(area.width, row.len(), c);
            out.push((*pane, Rect::new(area.x + x, area.y + y, width, height)));
        }
    }
    out
}

/// The `i`-th of `n` nearly equal parts of `length`: offset and length.
pub(crate) fn share(length: u16, n: usize, i: usize) -> (u16, u16) {
    let at = |i: usize| (usize::from(length) * i / n.max(1)) as u16;
    (at(i), at(i + 1) - at(i))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(a: &Arrangement, w: u16, h: u16) -> Vec<PaneId> {
        a.place(Rect::new(0, 0, w, h)).into_iter().map(|(p, _)| p).collect()
    }

    #[test]
    fn a_small_screen_shows_the_focused_pane_and_a_large_one_all_tiles() {
        let mut a = Arrangement::default();
        assert_eq!(sizes(&a, 80, 22), [Pipeline]);
        assert_eq!(sizes(&a, 200, 47), PRESETS[0]);
        assert_eq!(sizes(&a, 120, 36), [Pipeline, Training, Sampling, Merge]);
        a.focus = Log;
        assert_eq!(sizes(&a, 120, 36), [Sampling, Merge, System, Log]);
        a.focus = Kernels;
        assert_eq!(sizes(&a, 200, 47), [Kernels], "a pane that is not in the overview fills the screen");
        a.toggle_tile();
        assert!(sizes(&a, 200, 47).contains(&Kernels));
        a.full = true;
        assert_eq!(sizes(&a, 200, 47), [Kernels]);
    }

    #[test]
    fn tiles_cover_the_area_without_overlap() {
        for (w, h) in [(200u16, 47u16), (131, 39), (113, 13), (57, 60), (1, 1), (0, 0)] {
            for preset in PRESETS {
                let a = Arrangement { focus: preset[0], full: false, tiles: preset.to_vec() };
                let area = Rect::new(3, 2, w, h);
                let placed = a.place(area);
                let covered: u32 = placed.iter().map(|(_, r)| r.area()).sum();
                assert_eq!(covered, area.area());
                assert!(placed.iter().all(|(_, r)| area.intersection(*r) == *r));
            }
        }
    }
}
