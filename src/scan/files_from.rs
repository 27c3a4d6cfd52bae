//! Lists of paths to copy.

/// Paths named by `--files-from`.
#[derive(Debug, Default)]
pub struct FilesFrom;
