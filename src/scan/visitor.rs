//! What a walk is told, and whom it tells.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::Statx;

use super::entry::{Dir, Entry};
use super::files_from::FilesFrom;
use super::filter::Filter;
use super::order::Order;
use crate::error::Error;

/// Whether to go into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enter {
    /// List what is in it.
    Descend,
    /// Leave it out, silently: the visitor has said why.
    Skip,
}

/// What the walk meets. One visitor for one tree, called on the walking thread.
pub trait Visitor {
    /// A directory was opened, the root included, and can be entered.
    ///
    /// `fd` can be listed; `stat` is its statx. The visitor reads attributes, makes the target
    /// directory and calls [`Dir::promise`]. Comes before any entry in the directory, and, when
    /// `stat` has another device than the directory before, after every entry of that other
    /// device: a batch never mixes devices.
    ///
    /// # Errors
    /// The directory is not descended into, and the walk hands the error to
    /// [`problem`](Self::problem).
    fn enter(&mut self, dir: &Arc<Dir>, fd: BorrowedFd<'_>, stat: &Statx) -> Result<Enter, Error>;

    /// A batch of entries, never empty, in reading order. Breaking ends the walk.
    fn entries(&mut self, batch: Vec<Entry>) -> ControlFlow<()>;

    /// Something could not be listed; the walk goes on.
    fn problem(&mut self, error: Error);

    /// Something was left out on purpose: `kind` is a stable word, `why` is for people.
    fn skipped(&mut self, path: PathBuf, kind: &'static str, why: &str);

    /// The walk lets go of a directory that it is through with. When nobody else holds it, dropping
    /// it tells that it is finished, and may wait for whoever hears that.
    fn left(&mut self, dir: Arc<Dir>) {
        drop(dir);
    }

    /// The drive has answered a question about one entry. There may be thousands of them between two
    /// looks at whether to stop.
    fn answered(&self) {}

    /// Whether it only counts, or looks around. The drive itself is then not looked at for errors that
    /// the kernel keeps to itself: who copies does that.
    fn only_counts(&self) -> bool {
        false
    }

    /// Whether to stop now; asked between directories and between batches of names. What waits in
    /// the window is then dropped, and nothing more is called.
    fn stopped(&self) -> bool;
}

/// How to walk.
#[derive(Debug, Clone, Copy)]
pub struct WalkOptions<'a> {
    /// Which entries are left out.
    pub filter: &'a Filter,
    /// If given, the only paths that are wanted.
    pub files_from: Option<&'a FilesFrom>,
    /// The order within a window.
    pub order: Order,
    /// Memory for entries that wait to be sorted, in bytes; at least one entry fits always.
    pub window_bytes: usize,
}
