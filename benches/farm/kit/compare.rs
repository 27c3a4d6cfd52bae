//! Whether a copy is right: counted after every run, compared byte for byte after the first.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::data::Size;
use super::{Context as _, Result};

/// Names that are no part of a copy: ours, and what mkfs leaves at the root.
const OURS: [&str; 3] = [".inhaul", "lost+found", ".sums"];

fn names(dir: &Path) -> Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(dir).context(dir.to_string_lossy())? {
        let name = entry.context(dir.to_string_lossy())?.file_name();
        if !OURS.iter().any(|ours| name == *ours) {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Regular files and bytes below a directory.
pub(crate) fn count(dir: &Path) -> Result<Size> {
    let mut size = Size::default();
    for name in names(dir)? {
        let path = dir.join(name);
        let meta = path.symlink_metadata().context(path.to_string_lossy())?;
        size = size
            + if meta.is_dir() {
                count(&path)?
            } else {
                Size {
                    files: 1,
                    bytes: meta.len(),
                }
            };
    }
    Ok(size)
}

/// Fails at the first difference of names, kinds, modes, times or bytes.
pub(crate) fn same(source: &Path, copy: &Path) -> Result<()> {
    let here = |what: &str| format!("{}: {what}", copy.display());
    let (a, b) = (
        source
            .symlink_metadata()
            .context(source.to_string_lossy())?,
        copy.symlink_metadata().context(here("missing"))?,
    );
    if a.is_dir() != b.is_dir() || a.mode() != b.mode() {
        return Err(here("another kind or mode"));
    }
    if a.mtime() != b.mtime() || a.mtime_nsec() != b.mtime_nsec() {
        return Err(here("another time"));
    }
    if !a.is_dir() {
        return same_bytes(source, copy, a.len());
    }
    let (left, right) = (names(source)?, names(copy)?);
    if left != right {
        return Err(here("other names"));
    }
    left.iter()
        .try_for_each(|name| same(&source.join(name), &copy.join(name)))
}

fn same_bytes(source: &Path, copy: &Path, length: u64) -> Result<()> {
    let open = |path: &Path| File::open(path).context(path.to_string_lossy());
    let (mut a, mut b) = (open(source)?, open(copy)?);
    let step = usize::try_from(length.clamp(1, 1 << 18)).context("block length")?;
    let (mut left, mut right) = (vec![0; step], vec![0; step]);
    loop {
        let got = a.read(&mut left).context(source.to_string_lossy())?;
        let (Some(x), Some(y)) = (left.get(..got), right.get_mut(..got)) else {
            return Err("a read longer than its buffer".to_owned());
        };
        b.read_exact(y).context(copy.to_string_lossy())?;
        if x != y {
            return Err(format!("{}: other bytes", copy.display()));
        }
        if got == 0 {
            let more = b.read(&mut right).context(copy.to_string_lossy())?;
            return match more {
                0 => Ok(()),
                _ => Err(format!("{}: too long", copy.display())),
            };
        }
    }
}
