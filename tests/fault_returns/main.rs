//! A drive that is pulled and put back: the run goes on with it, and with no other.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

#[path = "../support/drive/mod.rs"]
mod drive;
#[path = "../support/mod.rs"]
mod support;

mod bench;
mod counts;
mod found;
mod goes_on;
mod twins;
