//! What panes draw with. Each widget is a pure function of its data, the theme and a rectangle;
//! none draws outside it.

pub mod bars;
pub mod chart;
pub mod dots;
pub mod heat;
pub mod histogram;
pub mod table;
pub mod text;

pub use chart::{Chart, Line};
pub use dots::Dots;
