//! Paths longer than any single call takes.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use super::tree::painted;

/// Makes `levels` directories one in the other, each name `width` bytes long, a file in each.
pub(crate) fn build(root: &Path, levels: usize, width: usize) {
    let mut here = open(CWD, root.as_os_str().as_encoded_bytes());
    for level in 0..levels {
        let file = rustix::fs::openat(
            &here,
            "file",
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
            Mode::from(0o640),
        )
        .unwrap();
        let bytes = painted(level as u64, 0, 3000 + level);
        assert_eq!(rustix::io::write(&file, &bytes).unwrap(), bytes.len());
        let mut name = format!("{level:03}").into_bytes();
        name.resize(width, b'd');
        rustix::fs::mkdirat(&here, name.as_slice(), Mode::from(0o755)).unwrap();
        here = open(&here, &name);
    }
}

fn open(at: impl std::os::fd::AsFd, name: &[u8]) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty()).unwrap()
}
