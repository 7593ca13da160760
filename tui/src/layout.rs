//! Which panes are on the screen, and where.

use rallrec_events::StageId;
use ratatui::layout::Rect;
use serde::{Deserialize, Serialize};

use crate::panes::PaneId;

/// Smallest tile that a pane shares the screen in.
const TILE: (u16, u16) = (56, 13);
/// Least height of a tile where there are more than two rows of them: fewer panes that show more.
const TILE_OF_MANY: u16 = 17;

/// What of the arrangement is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arrangement {
    /// The focused pane.
    pub focus: PaneId,
    /// The focused pane alone.
    pub full: bool,
    /// The overview follows the work: its panes are those that the stage at work has something for.
    pub follow: bool,
    /// Panes of the overview, in order, where it does not follow.
    pub tiles: Vec<PaneId>,
}

impl Default for Arrangement {
    fn default() -> Self {
        Self { focus: PaneId::Pipeline, full: false, follow: true, tiles: PRESETS[0].to_vec() }
    }
}

use PaneId::{Alarms, Kernels, Log, Merge, Pipeline, Retrieval, Sampling, System, Training};

/// The arrangements of the layout key: overview, training, answers, machine, everything.
pub const PRESETS: [&[PaneId]; 5] = [
    &[Pipeline, Training, Sampling, Merge, System, Log],
    &[Training, Pipeline, Log],
    &[Sampling, Merge],
    &[Kernels, System, Pipeline, Log],
    &[Pipeline, Training, Sampling, Merge, Retrieval, Kernels, System, Log],
];

/// The panes of a run at this stage, the most important first; `filled` says which have something
/// to show.
pub fn of_stage(stage: Option<StageId>, filled: impl Fn(PaneId) -> bool) -> Vec<PaneId> {
    use StageId::{Align, Graph, Predict, Prompts, Reason, Retrieve, Tune};
    let first: &[PaneId] = match stage {
        Some(Graph | Align | Tune) => &[Pipeline, Training, System, Log],
        Some(Retrieve | Prompts) => &[Pipeline, Retrieval, Training, Log],
        Some(Predict | Reason) => &[Pipeline, Sampling, Training, System],
        Some(StageId::Merge | StageId::Evaluate) => &[Pipeline, Merge, Training, Sampling],
        // A finished run: what came of it and what it shows.
        None => &[Pipeline, Merge, Training, Sampling, Retrieval, Kernels],
        Some(StageId::Data | StageId::Describe | StageId::Embed | StageId::Collab) => {
            &[Pipeline, Log, System, Training]
        }
    };
    let rest = [Training, Sampling, Merge, Log, System, Kernels, Retrieval, Alarms];
    let mut out: Vec<PaneId> = Vec::new();
    for pane in first.iter().copied().chain(rest) {
        if !out.contains(&pane) && (pane == Pipeline || filled(pane)) {
            out.push(pane);
        }
    }
    out
}

impl Arrangement {
    /// The preset after the one in use: following the work comes first.
    pub fn next_preset(&mut self) {
        let now = PRESETS.iter().position(|p| *p == self.tiles.as_slice());
        let next = match (self.follow, now) {
            (true, _) => Some(0),
            (false, Some(i)) => Some(i + 1).filter(|i| *i < PRESETS.len()),
            // The user's own panes.
            (false, None) => None,
        };
        self.full = false;
        self.follow = next.is_none();
        self.tiles = PRESETS[next.unwrap_or(0)].to_vec();
        if !self.follow && !self.tiles.contains(&self.focus) {
            self.focus = self.tiles[0];
        }
    }

    /// Puts the focused pane into the overview, or takes it out; the last one stays. From then on
    /// the overview has these panes, `now` being those that it has.
    pub fn toggle_tile(&mut self, now: &[PaneId]) {
        if std::mem::take(&mut self.follow) {
            self.tiles = now.to_vec();
        }
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

    /// Those of `tiles` that fit into `area`, each with its place. The focused pane is always among
    /// them.
    pub fn place(&self, tiles: &[PaneId], area: Rect) -> Vec<(PaneId, Rect)> {
        let columns = usize::from((area.width / TILE.0).clamp(1, 4));
        let rows = usize::from((area.height / TILE.1).min(2).max(area.height / TILE_OF_MANY).max(1));
        if self.full || columns * rows == 1 || !tiles.contains(&self.focus) || tiles.len() == 1 {
            return vec![(self.focus, area)];
        }
        // What does not fit is shown by moving on: a window of tiles with the focused one in it.
        let fit = (columns * rows).min(tiles.len());
        let at = tiles.iter().position(|p| *p == self.focus).unwrap_or(0);
        let start = at / fit * fit;
        let shown = &tiles[start.min(tiles.len() - fit)..][..fit];
        // No more columns than fill the rows.
        tile(shown, area, columns.min(fit.div_ceil(rows.min(fit.div_ceil(columns)))))
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
        a.place(&a.tiles, Rect::new(0, 0, w, h)).into_iter().map(|(p, _)| p).collect()
    }

    #[test]
    fn a_small_screen_shows_the_focused_pane_and_a_large_one_all_tiles() {
        let mut a = Arrangement { follow: false, ..Arrangement::default() };
        assert_eq!(sizes(&a, 80, 22), [Pipeline]);
        assert_eq!(sizes(&a, 200, 47), PRESETS[0]);
        let many = Arrangement { tiles: PRESETS[4].to_vec(), ..a.clone() };
        assert_eq!(sizes(&many, 200, 47).len(), 6, "two rows of three, and not three of eleven lines each");
        assert_eq!(sizes(&a, 120, 36), [Pipeline, Training, Sampling, Merge]);
        a.focus = Log;
        assert_eq!(sizes(&a, 120, 36), [Sampling, Merge, System, Log]);
        a.focus = Kernels;
        assert_eq!(sizes(&a, 200, 47), [Kernels], "a pane that is not in the overview fills the screen");
        a.toggle_tile(&[]);
        assert!(sizes(&a, 200, 47).contains(&Kernels));
        a.full = true;
        assert_eq!(sizes(&a, 200, 47), [Kernels]);
    }

    /// The overview once showed empty panes until the last stages.
    #[test]
    fn the_overview_follows_the_work_and_shows_nothing_empty() {
        let training = |pane| matches!(pane, Training | System | Log);
        assert_eq!(of_stage(Some(StageId::Tune), training), [Pipeline, Training, System, Log]);
        assert_eq!(of_stage(Some(StageId::Reason), |_| true)[..2], [Pipeline, Sampling]);
        assert_eq!(of_stage(None, |_| true)[..2], [Pipeline, Merge]);
        assert_eq!(of_stage(Some(StageId::Data), |_| false), [Pipeline]);
        assert_eq!(of_stage(Some(StageId::Graph), |_| true).len(), 9, "a large screen has them all");
    }

    #[test]
    fn tiles_cover_the_area_without_overlap() {
        for (w, h) in [(200u16, 47u16), (131, 39), (113, 13), (57, 60), (1, 1), (0, 0)] {
            for preset in PRESETS {
                let a = Arrangement { focus: preset[0], full: false, follow: false, tiles: preset.to_vec() };
                let area = Rect::new(3, 2, w, h);
                let placed = a.place(&a.tiles, area);
                let covered: u32 = placed.iter().map(|(_, r)| r.area()).sum();
                assert_eq!(covered, area.area());
                assert!(placed.iter().all(|(_, r)| area.intersection(*r) == *r));
            }
        }
    }
}
