//! Fine-tuning: AdamW over shared-prefix groups with accumulation, clipping, a schedule,
//! validation, early stop and exact resume. Trains a LoRA adapter of a frozen model, also with the
//! projector of soft tokens, or every weight of a small one.

mod checkpoint;
pub mod settings;
mod soft;
mod source;
mod trainer;

pub use checkpoint::{EvalRecord, History, StepRecord};
pub use settings::LoraSettings;
pub use soft::{SoftAdapter, SoftInputs};
pub use source::{GroupSource, mean_loss};
pub use trainer::{Evaluator, Outcome, Training, TuneOutcome};
