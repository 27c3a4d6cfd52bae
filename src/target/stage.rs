//! Files under private numbers: created, preallocated, written, given their metadata.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{self, Applied, Forgone, Policy};
use super::publish::split;
use super::{
    Form, Geometry, Outline, Sealed, StageId, Staged, Stager, TargetStamp, Vacancy, again, reserve,
};
use crate::beneath::{self, DirCache};
use crate::error::Error;
use crate::scan::{Attributes, Kind, as_path};

/// Alignment used for O_DIRECT: covers drives with 512-byte and 4,096-byte logical blocks.
pub(super) const DIRECT_ALIGN: usize = crate::buffer::ALIGN;

/// How much of a published file is read at a time, in bytes.
const READ_LEN: usize = 256 << 10;

/// One thread's way into a local target.
#[derive(Debug)]
pub(super) struct LocalStager {
    pub(super) label: PathBuf,
    /// Name of its folder.
    pub(super) thread: Arc<str>,
    /// The folder of all threads' folders.
    pub(super) stages: Arc<OwnedFd>,
    pub(super) stage: Arc<OwnedFd>,
    pub(super) dirs: DirCache,
    pub(super) direct: bool,
    pub(super) policy: Policy,
    /// Whether each file is synced by itself; see `FsType::syncs_whole`.
    pub(super) sync_each: bool,
    /// Whether small files get an extent of their own; see `FsType::inlines_small`.
    pub(super) apart: bool,
    pub(super) next: u64,
}

impl LocalStager {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn error(&self, path: &[u8], what: &str, errno: Errno) -> Error {
        Error::target(self.label.join(as_path(path)), what, errno)
    }

    fn create(&self, number: u64, direct: bool) -> Result<(OwnedFd, bool), Errno> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = number.to_string();
        let mode = Mode::RUSR | Mode::WUSR;
        if direct {
            match rustix::fs::openat(&self.stage, &name, flags | OFlags::DIRECT, mode) {
                // Refused after the file was made: this file is written through the cache.
                Err(Errno::INVAL) => {
                    let _best_effort = rustix::fs::unlinkat(&self.stage, &name, AtFlags::empty());
                }
                answer => return answer.map(|file| (file, true)),
            }
        }
        rustix::fs::openat(&self.stage, &name, flags, mode).map(|file| (file, false))
    }

    /// Sets space aside for a file that is no longer than a block of btrfs, which is no longer than a
    /// page: longer ones are never stored in the record of their inode.
    fn set_apart(&self, file: BorrowedFd<'_>, outline: Outline) -> Result<(), Errno> {
        let block = rustix::param::page_size() as u64;
        if !self.apart || outline.size == 0 || outline.size > block {
            return Ok(());
        }
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, outline.size) {
            // So on zoned drives: it is looked at later whether the file can be read back.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            answer => answer,
        }
    }

    /// Returns a staged file with its space set aside; `id` is what is there or was just made.
    fn staged(
        file: OwnedFd,
        direct: bool,
        outline: Outline,
        id: StageId,
        dir: Arc<OwnedFd>,
    ) -> Staged {
        let geometry = if direct {
            Geometry {
                align: DIRECT_ALIGN,
                cached: false,
            }
        } else {
            Geometry {
                align: 1,
                cached: !outline.small,
            }
        };
        Staged {
            file: Some(Arc::new(file)),
            geometry,
            sparse: outline.sparse,
            id: Some(id),
            dir: Some(dir),
        }
    }

    /// Opens a file of an earlier run; `None` when it is gone or another inode is there.
    fn find(&self, id: &StageId) -> Result<Option<(Arc<OwnedFd>, OwnedFd, bool)>, Errno> {
        beneath::check_name(id.thread.as_bytes())?;
        let dir = match beneath::open_dir(self.stages.as_fd(), id.thread.as_bytes()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = id.number.to_string();
        let open = |flags| rustix::fs::openat(&dir, &name, flags, Mode::empty());
        let buffered = || open(flags).map(|file| (file, false));
        let opened = if self.direct {
            match open(flags | OFlags::DIRECT) {
                Err(Errno::INVAL) => buffered(),
                answer => answer.map(|file| (file, true)),
            }
        } else {
            buffered()
        };
        let (file, direct) = match opened {
            Ok(opened) => opened,
            // Its final mode may keep even its owner out: it is copied from the start then.
            Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let stat = rustix::fs::fstat(&file)?;
        let same = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_ino == id.ino
            && stat.st_nlink == 1;
        Ok(same.then(|| (Arc::new(dir), file, direct)))
    }

    fn remove(&self, number: u64) {
        remove_from(&self.stage, number);
    }

    /// Seals something without bytes, unless it could not be held to be given its attributes: a file that
    /// could not be opened gets no name either.
    fn seal_named(
        &self,
        number: u64,
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
        applied: Applied,
    ) -> Result<(Sealed, Applied), Error> {
        if let Some(errno) = applied.lacks_descriptor() {
            self.remove(number);
            return Err(self.error(&path, "open it to set its attributes", errno));
        }
        let sealed = Self::sealed(Arc::clone(&self.stage), number, path, replace);
        Ok((sealed.lacking(&applied, attributes), applied))
    }

    fn sealed(dir: Arc<OwnedFd>, number: u64, target_path: Vec<u8>, replace: bool) -> Sealed {
        // What cannot be looked at now is not recognised later, and copied again.
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stamp = rustix::fs::statat(&dir, number.to_string(), flags).ok();
        Sealed {
            form: Form::Staged { dir, number },
            target_path,
            replace,
            stamp: stamp.map(|stat| TargetStamp::of(&stat)),
            lacks: false,
            forgone: Forgone::default(),
        }
    }
}

fn remove_from(dir: &OwnedFd, number: u64) {
    // If it cannot be removed, closing the run or the next run sweeps it.
    let _best_effort = rustix::fs::unlinkat(dir, number.to_string(), AtFlags::empty());
}

impl Stager for LocalStager {
    fn vacancy(&mut self, path: &[u8]) -> Result<Vacancy, Error> {
        let what = "look for an existing file";
        super::vacancy(&mut self.dirs, path).map_err(|errno| self.error(path, what, errno))
    }

    fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>, Error> {
        let (dir, name) = split(path);
        self.dirs
            .get(dir)
            .and_then(|dir| rustix::fs::readlinkat(&dir, name, Vec::new()))
            .map(std::ffi::CString::into_bytes)
            .map_err(|errno| self.error(path, "read an existing symlink", errno))
    }

    fn stage(&mut self, path: &[u8], outline: Outline) -> Result<Staged, Error> {
        let number = self.number();
        let (file, direct) = self
            .create(number, self.direct && !outline.small)
            .map_err(|errno| self.error(path, "create a staging file", errno))?;
        let reserved = if outline.small {
            self.set_apart(file.as_fd(), outline)
        } else {
            reserve::of_file(file.as_fd(), outline, direct)
        };
        let ino = reserved
            .and_then(|()| rustix::fs::fstat(&file))
            .map(|stat| stat.st_ino);
        let ino = match ino {
            Ok(ino) => ino,
            Err(errno) => {
                self.remove(number);
                return Err(self.error(path, "set its space aside", errno));
            }
        };
        let id = StageId {
            thread: Arc::clone(&self.thread),
            number,
            ino,
        };
        Ok(Self::staged(
            file,
            direct,
            outline,
            id,
            Arc::clone(&self.stage),
        ))
    }

    fn reopen(
        &mut self,
        path: &[u8],
        id: &StageId,
        outline: Outline,
        keep: u64,
    ) -> Result<Option<Staged>, Error> {
        let found = self
            .find(id)
            .map_err(|errno| self.error(path, "open what was staged of it", errno))?;
        let Some((dir, file, direct)) = found else {
            return Ok(None);
        };
        // What lies behind was written, but nobody knows whether it is there.
        rustix::fs::ftruncate(&file, keep)
            .and_then(|()| reserve::of_file(file.as_fd(), outline, direct))
            .map_err(|errno| self.error(path, "set its space aside again", errno))?;
        Ok(Some(Self::staged(file, direct, outline, id.clone(), dir)))
    }

    fn read_staged(
        &mut self,
        path: &[u8],
        staged: &Staged,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        let Some(file) = &staged.file else {
            return Ok(0);
        };
        if staged.geometry.cached {
            // Clean pages may be what was written, not what is there.
            let len = std::num::NonZeroU64::new(buffer.len() as u64);
            let advice = rustix::fs::Advice::DontNeed;
            let _best_effort = rustix::fs::fadvise(file, offset, len, advice);
        }
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset + filled as u64;
            let count = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *rest, at))
                .map_err(|errno| self.error(path, "read back what was staged of it", errno))?;
            if count == 0 {
                break;
            }
            filled += count;
        }
        Ok(filled)
    }

    fn read_published(
        &mut self,
        path: &[u8],
        stamp: TargetStamp,
        put: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        let (dir, name) = split(path);
        let read = self.dirs.get(dir).and_then(|dir| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
            let flags = flags | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&dir, OsStr::from_bytes(name), flags, Mode::empty())?;
            let is_it = || rustix::fs::fstat(&file).map(|stat| TargetStamp::of(&stat) == stamp);
            if !is_it()? {
                return Ok(false);
            }
            // Clean pages may be what was written, not what is there.
            let advice = rustix::fs::Advice::DontNeed;
            let _best_effort = rustix::fs::fadvise(&file, 0, None, advice);
            let mut buffer = vec![0; READ_LEN];
            loop {
                let count = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut buffer))?;
                if count == 0 {
                    return is_it();
                }
                put(buffer.get(..count).unwrap_or_default());
            }
        });
        read.map_err(|errno| self.error(path, "read what has its name", errno))
    }

    fn take_back(&mut self, path: &[u8], stamp: TargetStamp, id: &StageId) -> Result<bool, Error> {
        let (dir, name) = split(path);
        let number = id.number.to_string();
        let thread = beneath::check_name(id.thread.as_bytes())
            .and_then(|()| beneath::open_dir(self.stages.as_fd(), id.thread.as_bytes()));
        let moved = self.dirs.get(dir).and_then(|dir| {
            let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if TargetStamp::of(&stat) != stamp || stat.st_ino != id.ino {
                return Ok(false);
            }
            // The number was its own, and nobody else's since.
            let thread = thread?;
            match rustix::fs::statat(&thread, &number, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                _ => return Ok(false),
            }
            rustix::fs::renameat(&dir, name, thread, &number).map(|()| true)
        });
        match moved {
            Ok(moved) => Ok(moved),
            // Its folder is gone; or a power cut has left it both names, as some file systems can.
            Err(Errno::NOENT | Errno::EXIST) => Ok(false),
            Err(errno) => Err(self.error(path, "take back what was never acknowledged", errno)),
        }
    }

    fn write_small(&mut self, path: &[u8], staged: &Staged, bytes: &[u8]) -> Result<(), Error> {
        let Some(file) = &staged.file else {
            return Ok(());
        };
        if !staged.sparse {
            return write_all(file, bytes, 0).map_err(|errno| self.error(path, "write", errno));
        }
        let length = rustix::fs::ftruncate(file, bytes.len() as u64);
        let pages = bytes
            .chunks(crate::buffer::ALIGN)
            .zip((0..).step_by(crate::buffer::ALIGN));
        pages
            .filter(|(page, _)| page.iter().any(|&byte| byte != 0))
            .try_fold((), |(), (page, offset)| write_all(file, page, offset))
            .and(length)
            .map_err(|errno| self.error(path, "write", errno))
    }

    fn seal(
        &mut self,
        staged: Staged,
        size: u64,
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        let (Some(file), Some(id), Some(dir)) = (staged.file, staged.id, staged.dir) else {
            return Ok((
                Sealed {
                    form: Form::Nothing,
                    target_path: path,
                    replace,
                    stamp: None,
                    lacks: false,
                    forgone: Forgone::default(),
                },
                Applied {
                    owner_kept: true,
                    ..Applied::default()
                },
            ));
        };
        let is_small = staged.geometry.align == 1 && !staged.geometry.cached;
        let cut = if is_small {
            Ok(())
        } else {
            rustix::fs::ftruncate(&file, size)
        };
        if let Err(errno) = cut {
            remove_from(&dir, id.number);
            return Err(self.error(&path, "set its length", errno));
        }
        let applied = attributes::apply(file.as_fd(), attributes, &self.policy);
        if let Some(errno) = applied.lacks_room(file.as_fd()) {
            remove_from(&dir, id.number);
            return Err(self.error(&path, "set its attributes", errno));
        }
        if self.sync_each
            && let Err(errno) = rustix::fs::fsync(&file)
        {
            remove_from(&dir, id.number);
            let path = self.label.join(as_path(&path));
            return Err(Error::target_sync(path, "make it durable", errno));
        }
        let sealed = Self::sealed(dir, id.number, path, replace);
        Ok((sealed.lacking(&applied, attributes), applied))
    }

    fn set_again(
        &mut self,
        path: &[u8],
        stamp: TargetStamp,
        attributes: &Attributes,
    ) -> Result<Option<(Applied, TargetStamp)>, Error> {
        again::set_again(self, path, stamp, attributes)
    }

    fn symlink(
        &mut self,
        text: &[u8],
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        let number = self.number();
        let name = number.to_string();
        rustix::fs::symlinkat(OsStr::from_bytes(text), &self.stage, &name)
            .map_err(|errno| self.error(&path, "make the symlink", errno))?;
        let applied = attributes::apply_symlink(
            self.stage.as_fd(),
            name.as_bytes(),
            attributes,
            &self.policy,
        );
        self.seal_named(number, path, replace, attributes, applied)
    }

    fn special(
        &mut self,
        kind: Kind,
        rdev: u64,
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        let file_type = match kind {
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::File | Kind::Symlink => {
                return Err(self.error(&path, "make a special file", Errno::INVAL));
            }
        };
        let number = self.number();
        let name = number.to_string();
        rustix::fs::mknodat(&self.stage, &name, file_type, Mode::RUSR | Mode::WUSR, rdev)
            .map_err(|errno| self.error(&path, "make the special file", errno))?;
        let applied = attributes::apply_special(
            self.stage.as_fd(),
            name.as_bytes(),
            attributes,
            &self.policy,
        );
        self.seal_named(number, path, replace, attributes, applied)
    }

    fn discard(&mut self, staged: Staged) {
        if let (Some(id), Some(dir)) = (staged.id, staged.dir) {
            remove_from(&dir, id.number);
        }
    }
}

fn write_all(file: &OwnedFd, bytes: &[u8], offset: u64) -> Result<(), Errno> {
    let (mut left, mut offset) = (bytes, offset);
    while !left.is_empty() {
        let count = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, left, offset))?;
        if count == 0 {
            return Err(Errno::IO);
        }
        left = left.get(count..).unwrap_or_default();
        offset += count as u64;
    }
    Ok(())
}
