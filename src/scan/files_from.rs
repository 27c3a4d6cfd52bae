//! Lists of paths to copy.

use crate::error::Error;

/// Paths named by `--files-from`.
///
/// A listed directory means itself and everything below it (rsync needs `-r` for that). The
/// directories on the way to a listed path are made too, but nothing else in them is copied.
#[derive(Debug, Default)]
pub struct FilesFrom;

impl FilesFrom {
    /// Reads a list, one path a line or ended by NUL.
    ///
    /// # Errors
    /// `Usage` for a path that leads outside.
    pub fn parse(_bytes: &[u8], _nul_separated: bool) -> Result<Self, Error> {
        Ok(Self)
    }
}
