//! Hand-made blocks and blocks of the reference dequantiser.
