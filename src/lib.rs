//! Trains and serves sequential recommenders that separate a user's intentions (*Disentangled Self-Supervision in
//! Sequential Recommenders*, KDD 2020), on hand-written WGSL kernels with Rust twins.
//!
//! [`kernels`] holds the kernels' declarations and twins, [`engine`] runs lists of kernel calls on a GPU or the CPU,
//! [`model`] writes the training step down as such a list, [`data`] reads, splits and packs interactions.

pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod download;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod experiments;
pub mod intentions;
pub mod kernels;
pub mod memory;
pub mod model;
pub mod profile;
pub mod recommend;
pub mod report;
pub mod run;
pub mod settings;
pub mod tensorboard;
pub mod train;
pub mod translate;
