//! Every kernel's shader against its Rust twin, on every adapter of this machine.
//!
//! A test is named as its kernel and gives cases: parameters, what the bindings hold, what is written and how far it
//! may be off. [`case`] poisons the outputs, runs the case on all engines and compares.

#[path = "../common/mod.rs"]
mod common;

mod adam;
mod attention;
mod case;
mod evaluation;
mod intention;
mod layers;
mod losses;
mod machines;
mod sums;
