//! Copies with several targets: what one has no room for goes to the next, nothing is there twice,
//! and each target can be checked by itself.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a failure of the bench is a failed test"
)]

#[path = "../support/drive/mod.rs"]
mod drive;
#[path = "../support/mod.rs"]
mod support;

mod conflicts;
mod going_on;
mod overflow;
mod pair;
mod places;
