//! The walk on ordinary trees: what it yields, in what amounts, and what it says about the rest.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its tree has failed"
)]

#[path = "../scan_support/mod.rs"]
mod scan_support;

mod choosing;
mod depth;
mod ends;
mod trouble;
mod windows;
mod yields;
