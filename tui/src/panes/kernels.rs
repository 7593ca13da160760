//! Stub.
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use crate::keys::Action;
use crate::message::Effect;
use crate::state::State;
/// State of the pane.
#[derive(Debug, Clone, Default)]
pub struct View {}
/// Keys of the pane.
pub fn act(_: &mut State, _: Action) -> Vec<Effect> {
    Vec::new()
}
/// Draws the pane.
pub fn draw(_: &State, _: Rect, _: &mut Buffer) {}
/// Click.
pub fn click(_: &mut State, _: u16) {}
/// The outcome of a bench.
pub fn measured(_: &mut State, _: String, _: bool, _: Result<String, String>) {}
