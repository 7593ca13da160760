//! Stub.
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use crate::keys::Action;
use crate::message::Effect;
use crate::state::{OpenRun, State};
/// State of the pane.
#[derive(Debug, Clone, Default)]
pub struct View {}
/// Keys of the pane.
pub fn act(_: &mut State, _: Action) -> Vec<Effect> {
    Vec::new()
}
/// Draws the pane.
pub fn draw(_: &State, _: &OpenRun, _: Rect, _: &mut Buffer) {}
