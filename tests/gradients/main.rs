//! Every backward twin against central finite differences of its forward twin, in f64; Adam against a plain one.
//!
//! A scalar loss is made of a kernel's outputs by fixed random weights; what a backward twin says of its gradient is
//! compared with differences of the loss, element by element.

#[path = "../common/mod.rs"]
mod common;

mod adam;
mod differences;
mod intention;
mod layers;
mod losses;
