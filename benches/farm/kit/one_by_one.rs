//! The way without batches: every file made durable by itself, and its name after it.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::Path;

use super::{Context as _, Result};

/// Asks the bench program to copy SOURCE to TARGET like this.
pub(crate) const SWITCH: &str = "--one-by-one";

#[allow(
    clippy::disallowed_methods,
    reason = "what is measured: a rename, and its folder synced"
)]
/// Copies a tree: each file written under another name, synced, renamed, its folder synced.
pub(crate) fn copy(source: &Path, target: &Path) -> Result<()> {
    let here = || target.to_string_lossy();
    std::fs::create_dir_all(target).context(here())?;
    let folder = File::open(target).context(here())?;
    for entry in std::fs::read_dir(source).context(source.to_string_lossy())? {
        let entry = entry.context(source.to_string_lossy())?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        if entry.file_type().context(from.to_string_lossy())?.is_dir() {
            copy(&from, &to)?;
            continue;
        }
        let staged = target.join(".staged");
        let mut reader = File::open(&from).context(from.to_string_lossy())?;
        let meta = reader.metadata().context(from.to_string_lossy())?;
        let mut file = File::create_new(&staged).context(here())?;
        std::io::copy(&mut reader, &mut file).context(here())?;
        fchown(&file, None, None).context(here())?;
        file.set_permissions(PermissionsExt::from_mode(0o644))
            .context(here())?;
        file.set_modified(meta.modified().context(here())?)
            .context(here())?;
        file.sync_all().context(here())?;
        std::fs::rename(&staged, &to).context(here())?;
        folder.sync_all().context(here())?;
    }
    let meta = source.metadata().context(source.to_string_lossy())?;
    folder
        .set_modified(meta.modified().context(here())?)
        .context(here())
}
