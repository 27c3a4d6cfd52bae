//! One folder of files, served through FUSE: what is in it, and what its files say, is up to a test.

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

/// The number of the folder; its files have those from 2 on.
const TOP: u64 = 1;

/// What is in the folder. The kernel remembers none of it.
pub(crate) trait Flat: Send + Sync + 'static {
    /// Returns the names of the files, in the order of their numbers.
    fn names(&self) -> Vec<String>;

    /// Returns the number that the file of this place in the list has now; `None` if it is gone.
    fn number(&self, index: usize) -> Option<u64>;

    /// Returns what the file with a number says of itself.
    fn attributes(&self, number: u64) -> FileAttr;

    /// Reads from the file with a number; shorter than asked for at its end.
    fn read(
        &self,
        number: u64,
        offset: u64,
        size: usize,
        flags: OpenFlags,
    ) -> Result<Vec<u8>, Errno>;
}

/// Returns attributes as any file of root has them; all times are one.
pub(crate) fn attributes(number: u64, kind: FileType, size: u64) -> FileAttr {
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
pub(crate) struct FlatFs {
    point: PathBuf,
    session: Option<BackgroundSession>,
    _sentinel: Sentinel,
}

impl FlatFs {
    /// Mounts it at `point`, which is made; mountinfo has it as `inhaul-test-NAME`.
    pub(crate) fn new(point: &Path, name: &str, flat: impl Flat) -> Self {
        Self::with(
            point,
            vec![MountOption::FSName(format!("inhaul-test-{name}"))],
            flat,
        )
    }

    /// Mounts it as what sshfs gives of another machine by this name, `HOST:FOLDER`.
    pub(crate) fn of_host(point: &Path, name: &str, flat: impl Flat) -> Self {
        let options = vec![
            MountOption::FSName(name.to_owned()),
            MountOption::CUSTOM("subtype=sshfs".to_owned()),
        ];
        Self::with(point, options, flat)
    }

    fn with(point: &Path, options: Vec<MountOption>, flat: impl Flat) -> Self {
        std::fs::create_dir_all(point).unwrap();
        let mut config = Config::default();
        config.mount_options = options;
        let sentinel = Sentinel::new("umount -f \"$1\"; umount -l \"$1\"", &[point]);
        let session = fuser::spawn_mount(Served(flat), point, &config).unwrap();
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

impl Drop for FlatFs {
    fn drop(&mut self) {
        unmount(&self.point);
        drop(self.session.take());
    }
}

struct Served<F>(F);

impl<F: Flat> Filesystem for Served<F> {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let index = self.0.names().iter().position(|it| name == it.as_str());
        match index.and_then(|index| self.0.number(index)) {
            Some(number) => {
                let told = self.0.attributes(number);
                reply.entry(&Duration::ZERO, &told, Generation(0));
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let told = match number.0 {
            TOP => attributes(TOP, FileType::Directory, 0),
            number => self.0.attributes(number),
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
        let size = usize::try_from(size).unwrap();
        match self.0.read(number.0, offset, size, flags) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
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
        for (index, name) in (0..).zip(self.0.names()).skip(from) {
            let kind = FileType::RegularFile;
            if reply.add(INodeNo(index + 2), index + 1, kind, &name) {
                break;
            }
        }
        reply.ok();
    }
}
