//! Interactions: reading, splitting, sampling, packing.

pub mod batch;
