//! Language models: their files, the decoder against its oracle, generation, tuning, adapters
//! exchanged with PEFT.

mod chat;
mod common;
mod families;
mod forward;
mod generate;
mod gguf;
mod hf;
mod peft;
mod peft_exchange;
#[path = "../common/mod.rs"]
mod shared;
mod tune;
