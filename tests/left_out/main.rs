//! Sources that are left out of a run, or go on the way: what is said of their drives, what does not
//! pass for them, and how they come back.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

#[path = "../support/drive/mod.rs"]
mod drive;
#[path = "../support/mod.rs"]
mod support;

mod bench;
mod comes_back;
mod rivals;
mod told;
mod unmounted;
