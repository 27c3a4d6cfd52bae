//! Files under private numbers: created, preallocated, written, given their metadata.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{self, Applied, Policy};
use super::publish::split;
use super::{Form, Geometry, Outline, Sealed, Staged, Stager, TargetStamp, Vacancy};
use crate::beneath::DirCache;
use crate::error::Error;
use crate::scan::{Attributes, Kind, as_path};

/// Alignment used for O_DIRECT: covers drives with 512-byte and 4,096-byte logical blocks.
const DIRECT_ALIGN: usize = crate::buffer::ALIGN;

/// One thread's way into a local target.
#[derive(Debug)]
pub(super) struct LocalStager {
    pub(super) label: PathBuf,
    pub(super) stage: Arc<OwnedFd>,
    pub(super) dirs: DirCache,
    pub(super) direct: bool,
    pub(super) policy: Policy,
    /// Whether each file is synced by itself; see `FsType::syncs_whole`.
    pub(super) sync_each: bool,
    pub(super) next: u64,
}

impl LocalStager {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn error(&self, path: &[u8], what: &str, errno: Errno) -> Error {
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

    fn reserve(file: BorrowedFd<'_>, outline: Outline, direct: bool) -> Result<(), Errno> {
        let padded = if direct {
            outline.size.next_multiple_of(DIRECT_ALIGN as u64)
        } else {
            outline.size
        };
        if outline.sparse {
            return rustix::fs::ftruncate(file, padded);
        }
        if direct && padded > 0 {
            // Inside i_size and allocated: the one case in which ext4 writes asynchronously. The
            // tail is padded, so even the last write stays inside; `seal` cuts it off.
            return match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, padded) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
                answer => answer,
            };
        }
        Ok(())
    }

    fn remove(&self, number: u64) {
        // If it cannot be removed, closing the run or the next run sweeps it.
        let _best_effort = rustix::fs::unlinkat(&self.stage, number.to_string(), AtFlags::empty());
    }

    fn sealed(&self, number: u64, target_path: Vec<u8>, replace: bool) -> Sealed {
        let form = Form::Staged {
            dir: Arc::clone(&self.stage),
            number,
        };
        Sealed {
            form,
            target_path,
            replace,
            stamp: None,
        }
    }
}

impl Stager for LocalStager {
    fn vacancy(&mut self, path: &[u8]) -> Result<Vacancy, Error> {
        let (dir, name) = split(path);
        let looked = self.dirs.get(dir).and_then(|dir| {
            rustix::fs::statat(&dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
        });
        match looked {
            Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Vacancy::File(stamp_of(&stat)),
                FileType::Directory => Vacancy::Dir,
                FileType::Symlink => Vacancy::Symlink,
                _ => Vacancy::Other,
            }),
            Err(Errno::NOENT) => Ok(Vacancy::Free),
            Err(errno) => Err(self.error(path, "look for an existing file", errno)),
        }
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
            Ok(())
        } else {
            Self::reserve(file.as_fd(), outline, direct)
        };
        if let Err(errno) = reserved {
            self.remove(number);
            return Err(self.error(path, "set its space aside", errno));
        }
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
        Ok(Staged {
            file: Some(Arc::new(file)),
            geometry,
            sparse: outline.sparse,
            number,
        })
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
        let number = staged.number;
        let Some(file) = staged.file else {
            return Ok((
                Sealed {
                    form: Form::Nothing,
                    target_path: path,
                    replace,
                    stamp: None,
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
            self.remove(number);
            return Err(self.error(&path, "set its length", errno));
        }
        let applied = attributes::apply(file.as_fd(), attributes, &self.policy);
        if self.sync_each
            && let Err(errno) = rustix::fs::fsync(&file)
        {
            self.remove(number);
            return Err(self.error(&path, "make it durable", errno));
        }
        let mut sealed = self.sealed(number, path, replace);
        // What cannot be looked at now is not recognised later, and copied again.
        sealed.stamp = rustix::fs::fstat(&file).ok().map(|stat| stamp_of(&stat));
        Ok((sealed, applied))
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
        Ok((self.sealed(number, path, replace), applied))
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
        Ok((self.sealed(number, path, replace), applied))
    }

    fn discard(&mut self, staged: Staged) {
        if staged.file.is_some() {
            self.remove(staged.number);
        }
    }
}

fn stamp_of(stat: &rustix::fs::Stat) -> TargetStamp {
    TargetStamp {
        ino: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: (
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        ),
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
