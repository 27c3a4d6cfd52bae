//! What can go wrong, sorted by who must act.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Which end of the copy a failure happened at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// A source drive.
    Source,
    /// The target storage.
    Target,
    /// Our own records: manifest, report, lock.
    Record,
}

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A read from a source failed (EIO and its kin).
    SourceRead,
    /// The source refused access.
    SourceDenied,
    /// The source file was there when listed and is gone now.
    SourceVanished,
    /// The source file changed while it was being copied.
    SourceChanged,
    /// The source drive went away.
    SourceLost,
    /// The source drive does not answer any more.
    SourceStalled,
    /// The name is already taken in the target.
    TargetExists,
    /// The target's file system cannot hold this name.
    TargetName,
    /// The target refused access.
    TargetDenied,
    /// A write to the target failed.
    TargetWrite,
    /// The target is full.
    TargetFull,
    /// A sync failed: what was written since the last good sync is unknown.
    TargetSync,
    /// The target is not what it was, or cannot be written to any more: unmounted, mounted over,
    /// read-only, dead.
    TargetLost,
    /// Some metadata could not be carried over; the bytes were.
    Metadata,
    /// A path tried to leave its root: a symlink or mount where a directory was expected.
    Escape,
    /// Bytes read do not have the recorded digest.
    DigestMismatch,
    /// A file is copied, but what was asked for to prove it could not be done.
    Unverified,
    /// A recorded file is not there.
    Missing,
    /// A manifest or record does not parse.
    RecordCorrupt,
    /// A manifest or record could not be written.
    RecordWrite,
    /// The kernel lacks a feature that was asked for by name.
    Unsupported,
    /// The command line asks for something impossible.
    Usage,
    /// Refused before anything was written.
    Refused,
    /// Another run holds the target.
    Locked,
    /// The run was asked to stop before this was done.
    Stopped,
    /// A worker panicked: a bug here, confined to one drive.
    Panic,
}

/// How far a failure reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This file is reported; the rest goes on.
    File,
    /// This lane ends; the other lanes go on.
    Lane,
    /// Nothing more can be written to this target.
    Target,
    /// The run ends.
    Run,
}

impl ErrorKind {
    /// Returns how far the failure reaches. This table is the whole policy.
    pub fn reach(self) -> Reach {
        match self {
            Self::SourceRead
            | Self::SourceDenied
            | Self::SourceVanished
            | Self::SourceChanged
            | Self::TargetExists
            | Self::TargetName
            | Self::TargetDenied
            | Self::TargetWrite
            | Self::TargetFull
            | Self::Metadata
            | Self::Escape
            | Self::DigestMismatch
            | Self::Unverified
            | Self::Missing => Reach::File,
            Self::SourceLost | Self::SourceStalled | Self::Panic => Reach::Lane,
            Self::TargetSync | Self::TargetLost => Reach::Target,
            Self::RecordCorrupt
            | Self::RecordWrite
            | Self::Unsupported
            | Self::Usage
            | Self::Refused
            | Self::Locked
            | Self::Stopped => Reach::Run,
        }
    }

    /// Returns the stable word used in reports and event streams.
    pub fn word(self) -> &'static str {
        match self {
            Self::SourceRead => "source-read",
            Self::SourceDenied => "source-denied",
            Self::SourceVanished => "source-vanished",
            Self::SourceChanged => "source-changed",
            Self::SourceLost => "source-lost",
            Self::SourceStalled => "source-stalled",
            Self::TargetExists => "target-exists",
            Self::TargetName => "target-name",
            Self::TargetDenied => "target-denied",
            Self::TargetWrite => "target-write",
            Self::TargetFull => "target-full",
            Self::TargetSync => "target-sync",
            Self::TargetLost => "target-lost",
            Self::Metadata => "metadata",
            Self::Escape => "escape",
            Self::DigestMismatch => "digest-mismatch",
            Self::Unverified => "unverified",
            Self::Missing => "missing",
            Self::RecordCorrupt => "record-corrupt",
            Self::RecordWrite => "record-write",
            Self::Unsupported => "unsupported",
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::Locked => "locked",
            Self::Stopped => "stopped",
            Self::Panic => "panic",
        }
    }
}

/// Returns whether a failure says that there is no such device any more, or no server of a FUSE file
/// system (`ENOTCONN`; source: linux/fs/fuse/dev.c).
pub fn is_gone(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NODEV | Errno::NXIO | Errno::SHUTDOWN | Errno::NOTCONN
    )
}

/// Returns whether an answer is about what is stored: other parts of the drive may well be readable.
///
/// Source: `blk_errors` of linux/block/blk-core.c (a medium error is `ENODATA`, a time-out
/// `ETIMEDOUT`, a protection error `EILSEQ`, a target error `EREMOTEIO`); `EUCLEAN` and `EBADMSG` are
/// what file systems say of a block whose checksum is wrong.
pub fn is_bad_medium(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::IO
            | Errno::NODATA
            | Errno::TIMEDOUT
            | Errno::ILSEQ
            | Errno::REMOTEIO
            | Errno::UCLEAN
            | Errno::BADMSG
    )
}

/// A failure, with the place it happened. One pointer wide, so `Result` stays small.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    side: Side,
    path: PathBuf,
    what: String,
    source: Option<std::io::Error>,
}

impl Error {
    /// Returns a failure of `kind` at `path`; `what` says in a few words what was being done.
    pub fn new(kind: ErrorKind, side: Side, path: impl AsRef<Path>, what: &str) -> Self {
        Self(Box::new(Inner {
            kind,
            side,
            path: path.as_ref().to_owned(),
            what: what.to_owned(),
            source: None,
        }))
    }

    /// Returns the same failure once more, for everybody else it concerns.
    #[must_use]
    pub fn again(&self) -> Self {
        let error = Self::new(self.kind(), self.side(), self.path(), &self.0.what);
        match &self.0.source {
            Some(source) => error.because(match self.errno() {
                Some(errno) => errno.into(),
                None => std::io::Error::new(source.kind(), source.to_string()),
            }),
            None => error,
        }
    }

    /// Returns the same failure as the reason why something else was not done.
    #[must_use]
    pub fn hence(&self, consequence: &str) -> Self {
        let mut error = self.again();
        error.0.what = format!("{consequence}: {}", self.0.what);
        error
    }

    /// Attaches the kernel's answer.
    #[must_use]
    pub fn because(mut self, source: impl Into<std::io::Error>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns a failure of a system call on a source, classed by its errno.
    pub fn source(path: impl AsRef<Path>, what: &str, errno: Errno) -> Self {
        let kind = match errno {
            Errno::NOENT | Errno::STALE => ErrorKind::SourceVanished,
            Errno::ACCESS | Errno::PERM => ErrorKind::SourceDenied,
            Errno::LOOP | Errno::XDEV => ErrorKind::Escape,
            _ if is_gone(errno) => ErrorKind::SourceLost,
            _ => ErrorKind::SourceRead,
        };
        Self::new(kind, Side::Source, path, what).because(errno)
    }

    /// Returns whether it says that there is no room: no block, no inode, no quota.
    pub fn is_for_room(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOSPC | Errno::DQUOT))
    }

    /// Returns a failure of a system call on the target, classed by its errno.
    pub fn target(path: impl AsRef<Path>, what: &str, errno: Errno) -> Self {
        let kind = match errno {
            Errno::NOSPC | Errno::DQUOT => ErrorKind::TargetFull,
            Errno::EXIST | Errno::NOTDIR | Errno::ISDIR => ErrorKind::TargetExists,
            Errno::NAMETOOLONG | Errno::ILSEQ | Errno::INVAL => ErrorKind::TargetName,
            Errno::ACCESS | Errno::PERM | Errno::ROFS => ErrorKind::TargetDenied,
            Errno::LOOP | Errno::XDEV => ErrorKind::Escape,
            _ => ErrorKind::TargetWrite,
        };
        if errno == Errno::FBIG {
            let what = format!(
                "{what}; larger than the target's file system, or the limit of this process \
                 ('ulimit -f'), allows"
            );
            return Self::new(kind, Side::Target, path, &what).because(errno);
        }
        Self::new(kind, Side::Target, path, what).because(errno)
    }

    /// Returns a failed sync of the target: whatever it covered is unknown.
    pub fn target_sync(path: impl AsRef<Path>, what: &str, errno: Errno) -> Self {
        Self::new(ErrorKind::TargetSync, Side::Target, path, what).because(errno)
    }

    /// Returns the class.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns which end it happened at.
    pub fn side(&self) -> Side {
        self.0.side
    }

    /// Returns the path, exactly as the kernel named it.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Returns the kernel's answer, if there was one.
    pub fn errno(&self) -> Option<Errno> {
        self.0.source.as_ref().and_then(Errno::from_io_error)
    }

    /// Returns what was being done and, if a system call failed, the kernel's reason.
    pub fn reason(&self) -> String {
        match &self.0.source {
            Some(source) if self.errno() == Some(Errno::MFILE) => {
                let what = &self.0.what;
                format!("{what}: {source}; the limit of this process ('ulimit -n') is too low")
            }
            Some(source) => format!("{}: {source}", self.0.what),
            None => self.0.what.clone(),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.path.display(), self.reason())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}
