//! Paths by held descriptors.
//!
//! A root is opened once, from the operator's own words; everything below it is reached from that
//! descriptor with every step confined: no `..`, no symlink, no other mount. Whoever can write in
//! a source or in the target can therefore rename, swap and plant what they like without ever
//! making a path lead outside.
//!
//! **Boundary.** Opens and identifies; never creates names on its own, never reads contents, never
//! changes anything.

mod cache;
mod open;
mod source;
mod walk;

pub use cache::{DirCache, dirs_affordable};
pub use open::{check_name, check_path, open, open_dir, open_root, read_dir_fd};
pub use source::{OpenedSource, exists, open_source, stamp, stamp_of};
pub use walk::open_by_walking;
