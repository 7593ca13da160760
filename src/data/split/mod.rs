//! How rows are dealt out to training, validation and test: one design for every data set.
//!
//! * `time`: the latest rows of all are held out. Parts, and each user's rows, follow each other in
//!   time; a history is every earlier row of the user.
//! * `user_time`, `last`: each user's latest rows. A user's parts follow each other in time; a
//!   history is every earlier row of the user.
//! * `chance`, `user_chance`: rows drawn from all, or from each user's own. The history of a
//!   held-out row is the user's training rows, whenever they were, and holds no other held-out
//!   row.
//! * `items`: all rows of drawn items, which have no training row. Histories as by chance.
//! * `users`: all rows of drawn users, who have no training row. A history is every earlier row.
//! * `given`: what files or a column say. Where each user's parts follow each other in time, a
//!   history is every earlier row; elsewhere it is as by chance.
//!
//! Whatever the split: what is fitted (graph, counts, features, tuning) is fitted on training rows,
//! and the graph holds no pair that is held out. Only by `time` does nothing that is fitted lie
//! later than a held-out row; by the other rules other users' training rows may.

mod deal;
mod held;
mod settings;
#[cfg(test)]
mod tests;

pub use held::{HeldOut, held_out};
pub use settings::{By, SplitSettings};

pub(super) use deal::deal;
