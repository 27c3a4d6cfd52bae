//! Source trees to entries.
//!
//! **Boundary.** Reads directories and inodes of a source, where its kernel hides errors from the block
//! device as well; never reads file contents, never touches the target.
//!
//! 1. [`walk()`] opens one directory at a time below the tree's root and lists it in batches.
//! 2. Each batch is sorted by inode number, then asked for its inodes.
//! 3. What [`Filter`] and [`FilesFrom`] let through waits in a window of bounded size.
//! 4. A full window is put in reading order ([`Order`]) and handed to the [`Visitor`].

mod entry;
mod fat;
mod fiemap;
mod files_from;
mod filter;
mod hidden;
mod inode;
mod listing;
mod order;
mod pattern;
mod twins;
mod visitor;
mod walk;

pub(crate) use fiemap::{is_encoded, is_on_medium};

pub use entry::{Attributes, Dir, Entry, FileStamp, Finished, Kind, Tree, as_path, join};
pub use files_from::{FilesFrom, Want};
pub use filter::{Filter, Rule};
pub use order::Order;
pub use visitor::{Enter, Visitor, WalkOptions};
pub use walk::{DEPTH_MAX, walk};
