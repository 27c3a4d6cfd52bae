//! One arena of buffers, fixed at the start, lent to lanes as credits.
//!
//! **Boundary.** Knows memory and who may touch it; knows nothing of files or rings.

mod arena;

/// Stand-in.
#[derive(Debug)]
pub struct Lease;
/// Stand-in.
#[derive(Debug, Clone)]
pub struct View;
