//! Logits that no token can be drawn from.

use crate::error::Error;

pub(super) fn nan() -> Error {
    Error::failed("sampling", "the model returned NaN logits")
        .next("check the weights and the adapter: a value in them is NaN or too large")
}

pub(super) fn infinite() -> Error {
    Error::failed("sampling", "the model returned an infinite logit")
        .next("check the weights and the adapter: a value in them is too large")
}

pub(super) fn nothing() -> Error {
    Error::failed("sampling", "no token is allowed").next("allow a token that does not stop")
}
