//! Port 3: where copies end up.

pub mod attributes;
mod inode;
