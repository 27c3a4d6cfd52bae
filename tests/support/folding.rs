//! A file system in memory that does not tell names apart by case or by how Unicode spells them, as
//! those of cameras, phones and other systems do. It keeps a name as it was first given, or, if asked
//! for, lists it otherwise.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::mounts::unmount;

/// Nothing is remembered by the kernel, so each spelling is asked for.
const NEVER: Duration = Duration::ZERO;

/// A mounted one; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Folding {
    point: PathBuf,
    _session: BackgroundSession,
}

impl Folding {
    /// Mounts an empty one at `point`, which is made.
    pub(crate) fn new(point: &Path) -> Self {
        Self::serve(point, 255, false)
    }

    /// Mounts an empty one that takes no name of more than `longest` bytes.
    pub(crate) fn with_names_of(point: &Path, longest: usize) -> Self {
        Self::serve(point, longest, false)
    }

    /// The same, of one that lists names otherwise than they were given: without dots and spaces at
    /// their ends, as FAT does, and in the pieces that HFS+ cuts letters into.
    pub(crate) fn odd(point: &Path) -> Self {
        Self::serve(point, 255, true)
    }

    fn serve(point: &Path, longest: usize, is_odd: bool) -> Self {
        std::fs::create_dir_all(point).unwrap();
        let root = Node::new(FileType::Directory, 0o755);
        let served = Served {
            nodes: Mutex::new(BTreeMap::from([(1, root)])),
            longest,
            is_odd,
        };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("inhaul-test-folding".to_owned())];
        let session = fuser::spawn_mount(served, point, &config).unwrap();
        Self {
            point: point.to_owned(),
            _session: session,
        }
    }

    /// Returns the path of something on it.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.point.join(name)
    }
}

impl Drop for Folding {
    fn drop(&mut self) {
        unmount(&self.point);
    }
}

/// Returns what two names that are not told apart have in common.
fn fold(name: &OsStr) -> Vec<u8> {
    let text = name.to_string_lossy().to_lowercase();
    let text = text.trim_end_matches(['.', ' ']);
    text.replace("e\u{301}", "\u{e9}").into_bytes()
}

/// Returns how a name is listed by one that is odd.
fn odd_listing(name: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(name).unwrap();
    let text = text.trim_end_matches(['.', ' ']);
    text.replace('\u{e9}', "e\u{301}").into_bytes()
}

#[derive(Debug)]
struct Node {
    kind: FileType,
    bytes: Vec<u8>,
    /// By what they fold to: as it was first given, and the inode.
    names: BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
    perm: u16,
    owner: (u32, u32),
    nlink: u32,
    atime: SystemTime,
    mtime: SystemTime,
}

impl Node {
    fn new(kind: FileType, mode: u32) -> Self {
        Self {
            kind,
            bytes: Vec::new(),
            names: BTreeMap::new(),
            perm: u16::try_from(mode & 0o7777).unwrap(),
            owner: (0, 0),
            nlink: 1,
            atime: SystemTime::now(),
            mtime: SystemTime::now(),
        }
    }

    fn attributes(&self, number: u64) -> FileAttr {
        let size = self.bytes.len() as u64;
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.mtime,
            crtime: self.mtime,
            kind: self.kind,
            perm: self.perm,
            nlink: self.nlink,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

type Nodes = BTreeMap<u64, Node>;

#[derive(Debug)]
struct Served {
    nodes: Mutex<Nodes>,
    longest: usize,
    is_odd: bool,
}

impl Served {
    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, name: &OsStr) -> Result<(), Errno> {
        if name.len() > self.longest {
            return Err(Errno::ENAMETOOLONG);
        }
        Ok(())
    }

    fn make(&self, parent: INodeNo, name: &OsStr, node: Node) -> Result<FileAttr, Errno> {
        self.check(name)?;
        let mut nodes = self.nodes();
        let number = nodes.keys().max().unwrap() + 1;
        let dir = nodes.get_mut(&parent.0).ok_or(Errno::ENOENT)?;
        if dir.names.contains_key(&fold(name)) {
            return Err(Errno::EEXIST);
        }
        dir.names
            .insert(fold(name), (name.as_bytes().to_vec(), number));
        let attributes = node.attributes(number);
        nodes.insert(number, node);
        Ok(attributes)
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        self.check(name)?;
        let nodes = self.nodes();
        let dir = nodes.get(&parent.0).ok_or(Errno::ENOENT)?;
        let (_, number) = dir.names.get(&fold(name)).ok_or(Errno::ENOENT)?;
        let node = nodes.get(number).ok_or(Errno::ENOENT)?;
        Ok(node.attributes(*number))
    }

    fn take(&self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let mut nodes = self.nodes();
        let dir = nodes.get_mut(&parent.0).ok_or(Errno::ENOENT)?;
        let (_, number) = dir.names.get(&fold(name)).ok_or(Errno::ENOENT)?.clone();
        if nodes
            .get(&number)
            .is_some_and(|node| !node.names.is_empty())
        {
            return Err(Errno::ENOTEMPTY);
        }
        // The inode itself stays: somebody may have it open.
        let dir = nodes.get_mut(&parent.0).ok_or(Errno::ENOENT)?;
        dir.names.remove(&fold(name));
        Ok(())
    }
}

fn entry(reply: ReplyEntry, found: Result<FileAttr, Errno>) {
    match found {
        Ok(attributes) => reply.entry(&NEVER, &attributes, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn time(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.find(parent, name));
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.nodes().get(&number.0) {
            Some(node) => reply.attr(&NEVER, &node.attributes(number.0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut nodes = self.nodes();
        let Some(node) = nodes.get_mut(&number.0) else {
            return reply.error(Errno::ENOENT);
        };
        if let Some(mode) = mode {
            node.perm = u16::try_from(mode & 0o7777).unwrap();
        }
        node.owner = (uid.unwrap_or(node.owner.0), gid.unwrap_or(node.owner.1));
        if let Some(size) = size {
            node.bytes.resize(usize::try_from(size).unwrap(), 0);
        }
        node.atime = atime.map_or(node.atime, time);
        node.mtime = mtime.map_or(node.mtime, time);
        reply.attr(&NEVER, &node.attributes(number.0));
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match self.nodes().get(&number.0) {
            Some(node) => reply.data(&node.bytes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let node = Node::new(FileType::Directory, mode);
        entry(reply, self.make(parent, name, node));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.take(parent, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.take(parent, name));
    }

    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, text: &Path, reply: ReplyEntry) {
        let mut node = Node::new(FileType::Symlink, 0o777);
        node.bytes = text.as_os_str().as_bytes().to_vec();
        entry(reply, self.make(parent, name, node));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = (|| {
            self.check(new)?;
            let mut nodes = self.nodes();
            let taken = nodes.get(&to.0).ok_or(Errno::ENOENT)?.names.get(&fold(new));
            if taken.is_some() && flags.contains(RenameFlags::RENAME_NOREPLACE) {
                return Err(Errno::EEXIST);
            }
            let dir = nodes.get_mut(&parent.0).ok_or(Errno::ENOENT)?;
            let (_, number) = dir.names.remove(&fold(name)).ok_or(Errno::ENOENT)?;
            let dir = nodes.get_mut(&to.0).ok_or(Errno::ENOENT)?;
            let spelled = new.as_bytes().to_vec();
            let kept = dir.names.get(&fold(new)).map(|(kept, _)| kept.clone());
            // What is replaced leaves its spelling, as on most of these.
            dir.names
                .insert(fold(new), (kept.unwrap_or(spelled), number));
            Ok(())
        })();
        empty(reply, renamed);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let node = Node::new(FileType::RegularFile, mode);
        match self.make(parent, name, node) {
            Ok(attributes) => reply.created(
                &NEVER,
                &attributes,
                Generation(0),
                FileHandle(0),
                FopenFlags::empty(),
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let nodes = self.nodes();
        let bytes = nodes.get(&number.0).map_or(&[][..], |node| &node.bytes);
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let end = (start + usize::try_from(size).unwrap()).min(bytes.len());
        reply.data(&bytes[start..end]);
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut nodes = self.nodes();
        let Some(node) = nodes.get_mut(&number.0) else {
            return reply.error(Errno::ENOENT);
        };
        let start = usize::try_from(offset).unwrap();
        let end = start + data.len();
        node.bytes.resize(node.bytes.len().max(end), 0);
        node.bytes[start..end].copy_from_slice(data);
        node.mtime = SystemTime::now();
        reply.written(u32::try_from(data.len()).unwrap());
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let nodes = self.nodes();
        let listed = nodes
            .get(&number.0)
            .into_iter()
            .flat_map(|dir| dir.names.values());
        let from = usize::try_from(offset).unwrap();
        for (next, (name, number)) in (1..).zip(listed).skip(from) {
            let kind = nodes
                .get(number)
                .map_or(FileType::RegularFile, |node| node.kind);
            let name = if self.is_odd {
                odd_listing(name)
            } else {
                name.clone()
            };
            if reply.add(INodeNo(*number), next, kind, OsStr::from_bytes(&name)) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let longest = u32::try_from(self.longest).unwrap();
        reply.statfs(
            1 << 20,
            1 << 19,
            1 << 19,
            1 << 20,
            1 << 19,
            4096,
            longest,
            4096,
        );
    }
}
