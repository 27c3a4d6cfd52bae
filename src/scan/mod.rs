//! Source trees to entries.
//!
//! **Boundary.** Reads directories and inodes of a source; never reads file contents, never
//! touches the target.

mod entry;
mod files_from;
mod filter;

pub use entry::{Attributes, Dir, Entry, FileStamp, Finished, Kind, Tree, as_path, join};
pub use files_from::FilesFrom;
pub use filter::{Filter, Rule};
