//! What the terminal sends: keys, the mouse, pasted text, and replies to questions. The bytes are
//! told apart by a state machine for control sequences, so that a reply is never taken for keys,
//! not even one that nobody asked for.

mod decode;
mod reader;

pub use decode::{Decoder, Heard, Reply};
pub use reader::read;
