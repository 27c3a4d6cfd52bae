//! Beginning an entry: is its name free, open it, read its metadata, small or large.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::durable::Reopened;
use super::transfer::{Plan, Transfer};
use super::{Lane, Purpose, SmallRead};
use crate::beneath::{self, DirCache, OpenedSource, dirs_affordable};
use crate::buffer::{Lease, SLOT_LEN};
use crate::digest::Hash;
use crate::engine::commit;
use crate::engine::kept::HARD_LINK;
use crate::engine::links::Claim;
use crate::engine::writers::{Body, Small};
use crate::error::{Error, ErrorKind, Side};
use crate::io::Op;
use crate::scan::{Attributes, Entry, FileStamp, Kind};
use crate::seam;
use crate::target::{Outline, attributes};

/// Largest file that is read, hashed and written in one piece.
const SMALL_MAX: u64 = SLOT_LEN as u64;
/// How often a file whose pages stay in the page cache is looked at: they may be held for a moment.
const DROPS_MAX: usize = 5;
/// Reads and buffers are multiples of this, for O_DIRECT on any drive.
const ALIGN: usize = 4096;

impl Lane<'_> {
    /// Begins an entry. Returns false when it had to be put back for want of room.
    pub(super) fn begin(&mut self, entry: Entry) -> bool {
        // Admission first: what is skipped takes no buffer and none of the rate limit. An entry
        // that is put back is asked for again, which costs one look at the target.
        let replace = match self.admit(&entry) {
            Ok(Some(replace)) => replace,
            Ok(None) => return true,
            Err(error) => {
                self.report_name(&entry, &error);
                return true;
            }
        };
        let is_small_file = entry.kind == Kind::File && entry.stamp.size <= SMALL_MAX;
        if is_small_file && !self.has_room(&entry) {
            self.queue.push_front(entry);
            return false;
        }
        self.stuck = false;
        self.begin_admitted(entry, replace);
        !self.stuck
    }

    fn begin_admitted(&mut self, entry: Entry, replace: bool) {
        let Some(entry) = self.claim(entry, replace) else {
            return;
        };
        match entry.kind {
            Kind::File => self.begin_file(entry, replace),
            Kind::Symlink => {
                let read = self.read_symlink(&entry);
                self.begin_small_thing(entry, read, replace);
            }
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                let read = self.stat_entry(&entry).map(|stat| {
                    let rdev = rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
                    (Body::Device(rdev), attributes::from_stat(&stat))
                });
                self.begin_small_thing(entry, read, replace);
            }
        }
    }

    /// Returns the entry if it is to be copied; a further name of a known inode is dealt with.
    fn claim(&mut self, entry: Entry, replace: bool) -> Option<Entry> {
        let Some(links) = self.context.links.as_ref().filter(|_| entry.nlink > 1) else {
            return Some(entry);
        };
        let (is_file, size) = (entry.kind == Kind::File, entry.stamp.size);
        let claim = links.claim(self.number, entry, replace);
        if is_file && matches!(claim, Claim::Wait | Claim::Link(..)) {
            // Its bytes were counted with its first name.
            self.counters.files_found.fetch_sub(1, Relaxed);
            self.counters.bytes_found.fetch_sub(size, Relaxed);
        }
        match claim {
            Claim::Copy(entry) => {
                if self.context.around.cuts_link(&entry) {
                    let why = "other names of it are on another target: a file of its own here";
                    let path = entry.display_path();
                    self.context
                        .outcomes
                        .skipped(self.number, &path, HARD_LINK, why);
                }
                Some(entry)
            }
            Claim::CopyAlone(entry) => {
                let why = "one of very many hard links, or its inode was reused meanwhile: \
                           copied as a file of its own";
                let path = entry.display_path();
                self.context
                    .outcomes
                    .skipped(self.number, &path, HARD_LINK, why);
                Some(entry)
            }
            Claim::Wait => None,
            Claim::Link(entry, first) => {
                let link = commit::link(self.number, entry, first, replace);
                self.outlets.commit(link);
                None
            }
        }
    }

    pub(super) fn source_dir(&mut self, entry: &Entry) -> Result<(Arc<OwnedFd>, Vec<u8>), Error> {
        let tree = entry.dir.tree();
        let path = entry.source_path();
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..)),
            None => (&[][..], Some(path.as_slice())),
        };
        let dirs = match self.dirs.take() {
            Some((index, dirs)) if index == tree.index => dirs,
            _ => {
                let root = rustix::io::fcntl_dupfd_cloexec(&tree.root, 0)
                    .map_err(|errno| Error::source(entry.display_path(), "open", errno))?;
                let lanes = self.context.outcomes.telemetry().lanes.len();
                DirCache::new(Arc::new(root), dirs_affordable(lanes))
            }
        };
        let (_, dirs) = self.dirs.insert((tree.index, dirs));
        let dir = dirs
            .get(parent)
            .map_err(|errno| Error::source(entry.display_path(), "open its folder", errno))?;
        Ok((dir, name.unwrap_or_default().to_vec()))
    }

    fn begin_file(&mut self, mut entry: Entry, replace: bool) {
        let opened = match self.open(&entry) {
            Ok(opened) => opened,
            Err(error) => {
                if let Some(errno) = error.errno() {
                    self.note_failure(errno, &error.to_string());
                    if self.is_put_aside(&entry, errno) {
                        return self.put_aside(entry, replace);
                    }
                }
                return self.report(&entry, &error);
            }
        };
        let before = opened.stamp();
        // From here on the entry is what is copied, not what was listed.
        let listed = std::mem::replace(&mut entry.stamp, before).size;
        if before.size > SMALL_MAX {
            self.begin_large(entry, opened, replace);
        } else if listed <= SMALL_MAX && before.size <= listed || self.has_room(&entry) {
            self.begin_small(entry, opened, replace);
        } else {
            self.put_back(entry);
        }
    }

    pub(super) fn open(&mut self, entry: &Entry) -> Result<OpenedSource, Error> {
        let vitals = Arc::clone(&self.vitals);
        let _waiting = vitals.lane.call();
        let (dir, name) = self.source_dir(entry)?;
        let opened = beneath::open_source(dir.as_fd(), &name, entry.dir.tree().direct)
            .map_err(|errno| open_error(entry, errno))?;
        let now = opened.stamp();
        is_the_same(entry, now)?;
        if entry.recorded.is_some() && !seam::bug("read-back-cached") {
            // Some file systems answer O_DIRECT from the page cache (btrfs, for compressed and
            // inline extents): what is to be proved about the medium must not come from there.
            let advice = rustix::fs::Advice::DontNeed;
            let _best_effort = rustix::fs::fadvise(&opened.file, 0, None, advice);
            if let Some(evidence) = &self.context.evidence
                && !(opened.direct && evidence.trusts_direct())
                && !(0..DROPS_MAX).any(|_| is_uncached(dir.as_fd(), &name, now.size))
            {
                evidence.add_unproven(entry.target_path());
            }
        }
        if !opened.direct {
            self.context.outcomes.buffered_reads.fetch_add(1, Relaxed);
        }
        Ok(opened)
    }

    /// Reads a source file whole, here and now, and returns its digest.
    pub(super) fn digest_of_source(&mut self, entry: &Entry) -> Result<Hash, Error> {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        let opened = self.open(entry)?;
        let fail = |errno| Error::source(entry.display_path(), "read", errno);
        // Not into a buffer of ours, so not aligned either.
        let flags = fcntl_getfl(&opened.file).map_err(fail)?;
        fcntl_setfl(&opened.file, flags - OFlags::DIRECT).map_err(fail)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; SLOT_LEN / 4];
        loop {
            let waiting = self.vitals.lane.call();
            let read = rustix::io::retry_on_intr(|| rustix::io::read(&opened.file, &mut buffer));
            drop(waiting);
            let count = read.map_err(fail)?;
            if count == 0 {
                return Ok(hasher.finalize());
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
    }

    pub(super) fn begin_small(&mut self, entry: Entry, opened: OpenedSource, replace: bool) {
        let before = opened.stamp();
        let len = usize::try_from(before.size).unwrap_or(SLOT_LEN);
        let lease = if len == 0 { None } else { self.lease(len) };
        if lease.is_none() && len > 0 {
            // The room that was there is gone: never take that for an empty file.
            return self.put_back(entry);
        }
        let attributes = self.attributes_of(&opened);
        let read = SmallRead {
            entry,
            attributes,
            before,
            replace,
        };
        let Some(lease) = lease else {
            return match self.look_for_end(&read.entry, opened.file.as_fd()) {
                Ok(()) => self.send_small(read, None),
                Err(error) => self.report(&read.entry, &error),
            };
        };
        self.small_reads += 1;
        let file = Arc::new(opened.file);
        let op = Op::Read { offset: 0, lease };
        self.submit(&file, op, len, Purpose::Small(Box::new(read)));
    }

    /// Gives up an entry for now: it comes again when there is a buffer for it.
    fn put_back(&mut self, entry: Entry) {
        if let Some(links) = &self.context.links {
            for waiting in links.failed(&entry) {
                self.queue.push_front(waiting);
            }
        }
        self.queue.push_front(entry);
        self.stuck = true;
    }

    pub(super) fn begin_large(&mut self, entry: Entry, opened: OpenedSource, replace: bool) {
        let before = opened.stamp();
        let sparse = entry.allocated < before.size;
        let outline = Outline {
            size: before.size,
            sparse,
            small: false,
        };
        let path = entry.target_path();
        let begun = match self.reopen(&entry, &path, before, outline) {
            Ok(Reopened::Yes(staged, known, digest)) => Ok((staged, known, digest)),
            Ok(Reopened::NoRoom) => return self.put_back(entry),
            Ok(Reopened::No) => {
                let digest = self.new_digest();
                let staged = self.stager.stage(&path, outline);
                staged.map(|staged| (staged, 0, digest))
            }
            Err(error) => Err(error),
        };
        let (staged, known_blocks, digest) = match begun {
            Ok(begun) => begun,
            Err(error) => return self.report(&entry, &error),
        };
        seam::point("staged");
        let attributes = self.attributes_of(&opened);
        let trusts_holes = entry.dir.tree().trusts_holes;
        let plan = Plan {
            entry,
            attributes,
            direct: opened.direct,
            granule: super::aside::granule(&opened),
            source: opened.file,
            before,
            staged,
            replace,
            sparse,
            trusts_holes,
            digest,
            known_blocks,
        };
        self.next_token += 1;
        let number = self.next_token;
        self.transfers.insert(number, Transfer::new(plan));
        self.current = Some(number);
    }

    pub(super) fn attributes_of(&self, opened: &OpenedSource) -> Attributes {
        if !self.context.copies {
            return Attributes::default();
        }
        let _waiting = self.vitals.lane.call();
        let policy = &self.context.policy;
        attributes::read(opened.file.as_fd(), &opened.stat, policy, false)
    }

    /// Hands what has no bytes of its own to the writers.
    fn begin_small_thing(
        &mut self,
        entry: Entry,
        read: Result<(Body, Attributes), Error>,
        replace: bool,
    ) {
        match read {
            Ok((body, attributes)) => {
                let lane = self.number;
                self.outlets.small(Small {
                    lane,
                    entry,
                    attributes,
                    body,
                    replace,
                });
            }
            Err(error) => self.report(&entry, &error),
        }
    }

    fn read_symlink(&mut self, entry: &Entry) -> Result<(Body, Attributes), Error> {
        let text = self.symlink_text(entry)?;
        let stat = self.stat_entry(entry)?;
        Ok((Body::Text(text), attributes::from_stat(&stat)))
    }

    /// Returns the text of a symlink in a source.
    pub(super) fn symlink_text(&mut self, entry: &Entry) -> Result<Vec<u8>, Error> {
        let vitals = Arc::clone(&self.vitals);
        let _waiting = vitals.lane.call();
        let (dir, name) = self.source_dir(entry)?;
        rustix::fs::readlinkat(&dir, name.as_slice(), Vec::new())
            .map(std::ffi::CString::into_bytes)
            .map_err(|errno| Error::source(entry.display_path(), "read the symlink", errno))
    }

    fn stat_entry(&mut self, entry: &Entry) -> Result<rustix::fs::Statx, Error> {
        let vitals = Arc::clone(&self.vitals);
        let _waiting = vitals.lane.call();
        let (dir, name) = self.source_dir(entry)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = rustix::fs::statx(&dir, name.as_slice(), flags, StatxFlags::BASIC_STATS)
            .map_err(|errno| Error::source(entry.display_path(), "look at it", errno))?;
        // Other names of the listed inode may be made links to what is copied under this one.
        is_the_same(entry, beneath::stamp_of(&stat))?;
        Ok(stat)
    }

    /// Returns whether a small file can begin now: a buffer, depth and the rate limit.
    fn has_room(&mut self, entry: &Entry) -> bool {
        let len = usize::try_from(entry.stamp.size)
            .unwrap_or(SLOT_LEN)
            .next_multiple_of(ALIGN);
        if len == 0 {
            return true;
        }
        let fits = self.pack.as_ref().is_some_and(|pack| pack.len() >= len);
        if self.small_reads >= self.depth.small || (!fits && self.credits.free() == 0) {
            return false;
        }
        match self.context.limit.admit(entry.stamp.size, Instant::now()) {
            Ok(()) => true,
            Err(delay) => {
                self.held_back = Some(delay);
                false
            }
        }
    }

    /// Returns memory for `len` bytes, packed into a slot with other small files.
    fn lease(&mut self, len: usize) -> Option<Lease> {
        let len = len.next_multiple_of(ALIGN);
        if self.pack.as_ref().is_none_or(|pack| pack.len() < len) {
            self.pack = Some(self.credits.take()?);
        }
        let pack = self.pack.as_mut()?;
        if pack.len() == len {
            return self.pack.take();
        }
        Some(pack.split_to(len))
    }
}

/// Returns whether pages of a file at its start, middle and end are not in the page cache.
///
/// A buffered read that must not wait answers EAGAIN for a page that is not there (preadv2(2)).
fn is_uncached(dir: BorrowedFd<'_>, name: &[u8], size: u64) -> bool {
    let Ok(probe) = beneath::open_source(dir, name, false) else {
        return false;
    };
    // Looking must not bring in what is looked at next: no read-ahead, and each page once.
    for advice in [rustix::fs::Advice::DontNeed, rustix::fs::Advice::Random] {
        let _best_effort = rustix::fs::fadvise(&probe.file, 0, None, advice);
    }
    let mut pages = [size.saturating_sub(1), size / 2, 0].map(|at| at / ALIGN as u64);
    let mut last = None;
    pages.sort_unstable_by(|a, b| b.cmp(a));
    pages.into_iter().all(|page| {
        if size == 0 || last.replace(page) == Some(page) {
            return true;
        }
        let mut byte = [0];
        let buffer = &mut [rustix::io::IoSliceMut::new(&mut byte)];
        let flags = ReadWriteFlags::NOWAIT;
        let answer = rustix::io::preadv2(&probe.file, buffer, page * ALIGN as u64, flags);
        matches!(answer, Err(Errno::AGAIN))
    })
}

/// Returns an error if this is not the inode that was listed.
fn is_the_same(entry: &Entry, now: FileStamp) -> Result<(), Error> {
    if (now.dev, now.ino) == (entry.stamp.dev, entry.stamp.ino) {
        return Ok(());
    }
    let what = "another file took its name since it was listed";
    Err(source_changed(entry, what))
}

/// Returns that a source file is not what it was.
pub(super) fn source_changed(entry: &Entry, what: &str) -> Error {
    let path = entry.display_path();
    Error::new(ErrorKind::SourceChanged, Side::Source, path, what)
}

fn open_error(entry: &Entry, errno: Errno) -> Error {
    if entry.recorded.is_some() && errno == Errno::NOENT {
        let what = "recorded in the manifest, but it cannot be found";
        let path = entry.display_path();
        return Error::new(ErrorKind::Missing, Side::Target, path, what).because(errno);
    }
    Error::source(entry.display_path(), "open", errno)
}
