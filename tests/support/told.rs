//! A folder of files that cannot be written to, whose lengths and bytes are whatever a test says.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEntry, ReplyOpen, Request,
};

use super::mounts::unmount;
use super::sentinel::Sentinel;

/// A file.
#[derive(Debug)]
pub(crate) struct Told {
    name: String,
    said: u64,
    bytes: Vec<u8>,
    has_no_end: bool,
}

impl Told {
    /// Returns a file that is said to be so long and has these bytes.
    pub(crate) fn new(name: &str, said: u64, bytes: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            said,
            bytes,
            has_no_end: false,
        }
    }

    /// Returns a file behind whose bytes more may come at any time. Who would wait for them is told
    /// that they cannot be read: nobody is kept waiting here.
    pub(crate) fn endless(name: &str, bytes: Vec<u8>) -> Self {
        let said = bytes.len().try_into().unwrap();
        let has_no_end = true;
        Self {
            has_no_end,
            ..Self::new(name, said, bytes)
        }
    }

    fn attributes(&self, number: u64) -> FileAttr {
        attributes(number, FileType::RegularFile, self.said)
    }
}

fn attributes(number: u64, kind: FileType, size: u64) -> FileAttr {
    let is_dir = kind == FileType::Directory;
    let at = UNIX_EPOCH + Duration::from_secs(1_000_000);
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: at,
        mtime: at,
        ctime: at,
        crtime: at,
        kind,
        perm: if is_dir { 0o755 } else { 0o644 },
        nlink: if is_dir { 2 } else { 1 },
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// The folder, mounted; gone when dropped.
#[derive(Debug)]
pub(crate) struct ToldFs {
    point: PathBuf,
    session: Option<BackgroundSession>,
    _sentinel: Sentinel,
}

impl ToldFs {
    /// Mounts it at `point`, which is made.
    pub(crate) fn new(point: &Path, files: Vec<Told>) -> Self {
        std::fs::create_dir_all(point).unwrap();
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("inhaul-test-told".to_owned())];
        let sentinel = Sentinel::new("umount -f \"$1\"; umount -l \"$1\"", &[point]);
        let session = fuser::spawn_mount(Served(files), point, &config).unwrap();
        Self {
            point: point.to_owned(),
            session: Some(session),
            _sentinel: sentinel,
        }
    }

    /// Returns where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.point
    }
}

impl Drop for ToldFs {
    fn drop(&mut self) {
        unmount(&self.point);
        drop(self.session.take());
    }
}

#[derive(Debug)]
struct Served(Vec<Told>);

impl Served {
    fn file(&self, number: INodeNo) -> &Told {
        &self.0[usize::try_from(number.0).unwrap() - 2]
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut files = (2..).zip(&self.0);
        match files.find(|(_, file)| name == file.name.as_str()) {
            Some((number, file)) => {
                reply.entry(&Duration::ZERO, &file.attributes(number), Generation(0));
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let told = match number.0 {
            1 => attributes(1, FileType::Directory, 0),
            other => self.file(number).attributes(other),
        };
        reply.attr(&Duration::ZERO, &told);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Else the kernel itself would end each file where it is said to end.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let flags = rustix::fs::OFlags::from_bits_retain(flags.0.try_into().unwrap());
        if flags.contains(rustix::fs::OFlags::DIRECT) && size < 512 {
            return reply.error(Errno::EINVAL);
        }
        let file = self.file(number);
        let bytes = &file.bytes;
        if file.has_no_end && offset >= bytes.len() as u64 {
            let waits = !flags.contains(rustix::fs::OFlags::NONBLOCK);
            return reply.error(if waits { Errno::EIO } else { Errno::EAGAIN });
        }
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let end = (start + usize::try_from(size).unwrap()).min(bytes.len());
        reply.data(&bytes[start..end]);
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let from = usize::try_from(offset).unwrap();
        for (index, file) in (0..).zip(&self.0).skip(from) {
            let kind = FileType::RegularFile;
            if reply.add(INodeNo(index + 2), index + 1, kind, &file.name) {
                break;
            }
        }
        reply.ok();
    }
}
