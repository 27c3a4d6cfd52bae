//! Writer threads: small files, symlinks and special files, sharded by target directory.
//!
//! A directory's files go to one writer, so that two never wait for the same directory lock, and
//! each writer stages in a folder of its own. A small file is hashed in one go on the way.

use std::hash::{DefaultHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::commit::{Commit, Item, What, fail_links};
use super::context::Context;
use crate::buffer::View;
use crate::error::{Error, ErrorKind, Side};
use crate::scan::{Attributes, Entry, Kind};
use crate::seam;
use crate::target::{Outline, Sealed, Stager};

/// Files that may wait for one writer. Their buffers are bounded by the lanes' credits anyway.
const QUEUE: usize = 64;

/// The substance of something small.
#[derive(Debug)]
pub(crate) enum Body {
    /// All bytes of a regular file; `None` when it has none.
    Bytes(Option<View>),
    /// The text of a symlink.
    Text(Vec<u8>),
    /// The device number of a special file.
    Device(u64),
}

/// Something small to be written.
#[derive(Debug)]
pub(crate) struct Small {
    pub(crate) lane: usize,
    pub(crate) entry: Entry,
    pub(crate) attributes: Attributes,
    pub(crate) body: Body,
    pub(crate) replace: bool,
}

/// Something small, written: what it is, its length in bytes, and where it is.
type Written = (What, u64, Sealed);

/// The ways in to the writers; cheap to clone, one clone for each lane.
#[derive(Debug, Clone)]
pub(crate) struct Writers {
    queues: Vec<Sender<Small>>,
}

impl Writers {
    /// Returns the ways in and, for each writer, its queue.
    pub(crate) fn new(count: usize) -> (Self, Vec<Receiver<Small>>) {
        let (queues, receivers) = (0..count).map(|_| bounded(QUEUE)).unzip();
        (Self { queues }, receivers)
    }

    /// Hands something small to the writer of its directory; waits while that one is busy.
    pub(crate) fn send(&self, small: Small) {
        let mut hasher = DefaultHasher::new();
        hasher.write_usize(std::sync::Arc::as_ptr(&small.entry.dir).addr());
        let shard = usize::try_from(hasher.finish() % self.queues.len().max(1) as u64).unwrap_or(0);
        if let Some(queue) = self.queues.get(shard) {
            // The receiving end outlives every lane.
            drop(queue.send(small));
        }
    }
}

/// One writer thread.
#[derive(Debug)]
pub(crate) struct Writer<'r> {
    context: &'r Context,
    stager: Box<dyn Stager>,
    commits: Sender<Commit>,
}

impl<'r> Writer<'r> {
    /// Opens a writer's own way into the target.
    pub(crate) fn new(
        context: &'r Context,
        name: &str,
        commits: Sender<Commit>,
    ) -> Result<Self, Error> {
        let stager = context.target.stager(name)?;
        Ok(Self {
            context,
            stager,
            commits,
        })
    }

    /// Writes until every lane is gone.
    pub(crate) fn run(&mut self, queue: &Receiver<Small>) {
        for small in queue {
            let Small {
                lane,
                entry,
                attributes,
                body,
                replace,
            } = small;
            let written = catch_unwind(AssertUnwindSafe(|| {
                self.write(lane, &entry, &attributes, body, replace)
            }))
            .unwrap_or_else(|_| {
                let what = "a writer panicked; this file is not copied";
                Err(Error::new(
                    ErrorKind::Panic,
                    Side::Target,
                    entry.display_path(),
                    what,
                ))
            });
            self.pass_on(lane, entry, written);
        }
    }

    /// Sends what was written on to the committer, or reports that it was not.
    pub(crate) fn pass_on(&self, lane: usize, entry: Entry, written: Result<Written, Error>) {
        match written {
            Ok((what, bytes, sealed)) => {
                let item = Item {
                    lane,
                    entry,
                    what,
                    bytes,
                    tail: None,
                };
                let commit = Commit { item, sealed };
                // The committer outlives every writer.
                drop(self.commits.send(commit));
            }
            Err(error) => {
                self.context.entry_failed(lane, &entry, &error);
                fail_links(self.context, lane, &entry, &error);
            }
        }
    }

    /// Writes one thing, under a number.
    pub(crate) fn write(
        &mut self,
        lane: usize,
        entry: &Entry,
        attributes: &Attributes,
        body: Body,
        replace: bool,
    ) -> Result<Written, Error> {
        let path = entry.target_path();
        let (what, bytes, (sealed, applied)) = match (entry.kind, body) {
            (Kind::Symlink, Body::Text(text)) => (
                What::Other,
                0,
                self.stager.symlink(&text, path, replace, attributes)?,
            ),
            (kind, Body::Device(rdev)) => (
                What::Other,
                0,
                self.stager.special(kind, rdev, path, replace, attributes)?,
            ),
            (_, Body::Bytes(view)) => {
                let bytes: &[u8] = view.as_deref().unwrap_or_default();
                let size = bytes.len() as u64;
                let digest = blake3::hash(bytes);
                let outline = Outline {
                    size,
                    sparse: entry.allocated < size,
                    small: true,
                };
                let staged = self.stager.stage(&path, outline)?;
                let spoilt = seam::bug("bit-flips-in-memory").then(|| {
                    let mut spoilt = bytes.to_vec();
                    seam::flip(&mut spoilt);
                    spoilt
                });
                let bytes = spoilt.as_deref().unwrap_or(bytes);
                if let Err(error) = self.stager.write_small(&path, &staged, bytes) {
                    self.stager.discard(staged);
                    return Err(error);
                }
                // (Of one with holes, who knows.)
                if let Some(log) = self.context.log.as_ref().filter(|_| !outline.sparse) {
                    log.pace().count_written(size);
                }
                seam::point("small-written");
                // The buffer goes back to its lane before the slower part.
                drop(view);
                let sealed = self.stager.seal(staged, size, path, replace, attributes)?;
                (What::File(digest), size, sealed)
            }
            (_, Body::Text(_)) => {
                let what = "a link text without a symlink";
                return Err(Error::new(
                    ErrorKind::Panic,
                    Side::Source,
                    entry.display_path(),
                    what,
                ));
            }
        };
        self.context
            .outcomes
            .applied(lane, entry, attributes, &applied);
        Ok((what, bytes, sealed))
    }
}
