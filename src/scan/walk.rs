//! One source tree, depth first, in bounded memory.
//!
//! Every directory is opened below the tree's root by its whole relative path, in such a way that
//! no symbolic link and no mount point is ever passed; then it is listed, and its entries are
//! looked at, through that one descriptor. One directory is open at a time.
//!
//! Memory does not grow with the number of files. It is the window, one batch of names, and the
//! names of the directories that are listed but not yet entered: at worst all siblings on the way
//! from the root to the directory at hand.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FileType, Statx};
use rustix::io::Errno;

use super::entry::{Dir, Tree, append, shown};
use super::files_from::{Seen, Want};
use super::hidden::{self, Hidden};
use super::inode::{self, device, dir_error, kind, look, look_at, open_dir};
use super::listing::{Found, Lister};
use super::order::Window;
use super::twins;
use super::visitor::{Enter, Visitor, WalkOptions};
use crate::beneath;
use crate::error::{Error, ErrorKind, Side};

/// How deep directories may nest; deeper ones are reported and not entered.
///
/// A directory holds its parent, so letting go of the deepest one nests as many calls; a test does
/// it on half of the 2 MiB of stack a thread usually has.
pub const DEPTH_MAX: usize = 2048;

/// Walks one tree to its end, or until the visitor stops it.
///
/// For a tree that is a single file ([`Tree::only`]) there is one entry, or a problem, and no
/// directory is entered.
pub fn walk(tree: &Arc<Tree>, options: &WalkOptions<'_>, visitor: &mut dyn Visitor) {
    let mut walker = Walker {
        hidden: Hidden::of(tree, options, !visitor.only_counts()),
        tree,
        options,
        visitor,
        window: Window::new(options.window_bytes),
        levels: Vec::new(),
        path: Vec::new(),
        root: None,
        device: tree.device,
        seen: options.files_from.map(Seen::new),
    };
    walker.look_for_hidden();
    if walker.run().is_continue() && walker.flush().is_continue() {
        walker.report_missing();
        walker.look_for_hidden();
        if let Some(error) = walker.hidden.unaccounted(tree) {
            walker.fail(error);
        }
    }
    while let Some(level) = walker.levels.pop() {
        walker.visitor.left(level.dir);
    }
}

struct Walker<'a> {
    tree: &'a Arc<Tree>,
    options: &'a WalkOptions<'a>,
    visitor: &'a mut dyn Visitor,
    window: Window,
    /// From the root to the directory at hand.
    levels: Vec<Level>,
    /// Path of the directory at hand, or of something in it.
    path: Vec<u8>,
    /// The root's statx.
    root: Option<Statx>,
    /// Device of everything in the window.
    device: u64,
    seen: Option<Seen<'a>>,
    hidden: Hidden,
}

/// A directory that was entered, and what is left to enter in it.
struct Level {
    dir: Arc<Dir>,
    /// Length of its path, to come back to.
    path_bytes: usize,
    /// Device and inode, against cycles.
    id: (u64, u64),
    /// Whether all that is in it is wanted.
    all: bool,
    /// Directories still to enter, last one first.
    pending: Vec<Box<[u8]>>,
    /// Whether it was found to list a name twice.
    tampered: bool,
}

impl Walker<'_> {
    fn run(&mut self) -> ControlFlow<()> {
        match look(self.tree.root.as_fd()) {
            Ok(stat) => self.root = Some(stat),
            Err(errno) => {
                self.fail(Error::source(self.shown(), "look at the source", errno));
                return ControlFlow::Continue(());
            }
        }
        if let Some(name) = &self.tree.only {
            return self.single(name);
        }
        let mut lister = Lister::new();
        self.enter(Dir::root(Arc::clone(self.tree)), &mut lister)?;
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_bytes);
            let Some(name) = level.pending.pop() else {
                if let Some(level) = self.levels.pop() {
                    self.visitor.left(level.dir);
                }
                continue;
            };
            let dir = Dir::child(&level.dir, &name);
            append(&mut self.path, &name);
            self.enter(dir, &mut lister)?;
        }
        ControlFlow::Continue(())
    }

    /// Opens the directory at `self.path`, has it entered, and lists it.
    fn enter(&mut self, dir: Arc<Dir>, lister: &mut Lister) -> ControlFlow<()> {
        if self.visitor.stopped() {
            return ControlFlow::Break(());
        }
        if self.levels.len() >= DEPTH_MAX {
            let why = "directories nest too deeply to be entered";
            self.fail(Error::new(
                ErrorKind::SourceRead,
                Side::Source,
                self.shown(),
                why,
            ));
            return ControlFlow::Continue(());
        }
        let (fd, stat) = match open_dir(self.tree, &self.path) {
            Ok(opened) => opened,
            Err(Errno::XDEV) => {
                self.skip_mount();
                return ControlFlow::Continue(());
            }
            Err(errno) => {
                self.fail(dir_error(self.shown(), errno));
                return ControlFlow::Continue(());
            }
        };
        if self.is_other_mount(&stat) {
            self.skip_mount();
            return ControlFlow::Continue(());
        }
        let id = (device(&stat), stat.stx_ino);
        if is_cycle(&self.levels, id) {
            self.fail(Error::new(
                ErrorKind::Escape,
                Side::Source,
                self.shown(),
                "the directory is inside itself",
            ));
            return ControlFlow::Continue(());
        }
        if id.0 != self.device {
            self.flush()?;
            self.device = id.0;
        }
        match self.visitor.enter(&dir, fd.as_fd(), &stat) {
            Ok(Enter::Descend) => {
                for error in self.hidden.met_folder(&stat) {
                    self.fail(error);
                }
            }
            Ok(Enter::Skip) => {
                self.hidden.left_out();
                return ControlFlow::Continue(());
            }
            Err(error) => {
                self.fail(error);
                return ControlFlow::Continue(());
            }
        }
        let all =
            self.levels.last().is_some_and(|level| level.all) || self.listed(true) == Want::Yes;
        self.levels.push(Level {
            dir,
            path_bytes: self.path.len(),
            id,
            all,
            pending: Vec::new(),
            tampered: false,
        });
        self.list(fd.as_fd(), lister)
    }

    /// Lists the directory of the last level.
    fn list(&mut self, fd: BorrowedFd<'_>, lister: &mut Lister) -> ControlFlow<()> {
        let path_bytes = self.path.len();
        let listed = lister.list(fd, |batch| {
            if self.visitor.stopped() {
                return ControlFlow::Break(());
            }
            for found in batch.iter() {
                self.path.truncate(path_bytes);
                append(&mut self.path, found.name);
                self.consider(fd, found)?;
            }
            ControlFlow::Continue(())
        });
        self.path.truncate(path_bytes);
        if lister.has_spare_dots() {
            self.fail(twins::spare_dots(self.shown()));
        }
        self.report_twins(fd);
        if listed == Ok(ControlFlow::Continue(())) && self.hidden.ends_early(fd) {
            self.fail(hidden::ended_early(self.shown()));
        }
        if let Some(level) = self.levels.last_mut() {
            level.pending.reverse();
            level.pending.shrink_to_fit();
        }
        match listed {
            Ok(flow) => flow,
            Err(errno) => {
                let what = "list the directory; what was listed is kept, the rest is missing";
                self.fail(Error::source(self.shown(), what, errno));
                ControlFlow::Continue(())
            }
        }
    }

    /// Enters no directory twice that is listed twice, and reports the second one.
    fn report_twins(&mut self, fd: BorrowedFd<'_>) {
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        let path_bytes = self.path.len();
        for name in twins::part(&mut level.pending, fd) {
            append(&mut self.path, &name);
            self.fail(twins::twin(self.shown()));
            self.path.truncate(path_bytes);
        }
    }

    /// Decides about one name; `self.path` is its path.
    fn consider(&mut self, dir: BorrowedFd<'_>, found: Found<'_>) -> ControlFlow<()> {
        self.meet();
        if let Err(errno) = beneath::check_name(found.name) {
            self.fail(Error::source(
                self.shown(),
                "accept the name of an entry",
                errno,
            ));
            return ControlFlow::Continue(());
        }
        if found.file_type == FileType::Directory {
            // Its inode is looked at once it is open.
            self.remember_dir(found.name);
            return ControlFlow::Continue(());
        }
        // Many names need no look at the inode to be left out.
        if found.file_type != FileType::Unknown && !self.wanted(false) {
            return ControlFlow::Continue(());
        }
        let looked = look_at(dir, found.name);
        self.visitor.answered();
        let stat = match looked {
            Ok(stat) => stat,
            Err(errno) => {
                self.fail(Error::source(self.shown(), "look at the entry", errno));
                return ControlFlow::Continue(());
            }
        };
        let Some(kind) = kind(&stat) else {
            self.remember_dir(found.name);
            return ControlFlow::Continue(());
        };
        if found.file_type == FileType::Unknown && !self.wanted(false) {
            return ControlFlow::Continue(());
        }
        if self.is_other_mount(&stat) {
            self.skip_mount();
            return ControlFlow::Continue(());
        }
        // Elsewhere a directory may number inodes in its own way.
        let is_another = self.tree.trusts_holes && stat.stx_ino != found.ino;
        if is_another && self.is_twin(dir, found.name) {
            self.fail(twins::twin(self.shown()));
            return ControlFlow::Continue(());
        }
        let Some(level) = self.levels.last() else {
            return ControlFlow::Continue(());
        };
        let entry = inode::entry(Arc::clone(&level.dir), found.name, kind, &stat);
        self.hidden.met(&entry);
        if self.window.push(entry) {
            self.flush()?;
        }
        ControlFlow::Continue(())
    }

    /// Returns whether a name that leads to another inode than its directory says comes twice in it.
    fn is_twin(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> bool {
        let Some(level) = self.levels.last_mut() else {
            return false;
        };
        // One that lists a million names twice is listed again once.
        level.tampered = level.tampered || twins::lists_twice(dir, name) != Ok(false);
        level.tampered
    }

    fn remember_dir(&mut self, name: &[u8]) {
        if self.wanted(true)
            && let Some(level) = self.levels.last_mut()
        {
            level.pending.push(name.into());
        }
    }

    /// Yields the one file of a tree that is a file.
    fn single(&mut self, name: &[u8]) -> ControlFlow<()> {
        self.path.extend_from_slice(name);
        if self.visitor.stopped() {
            return ControlFlow::Break(());
        }
        self.meet();
        if !self.wanted(false) {
            return ControlFlow::Continue(());
        }
        let looked = beneath::check_name(name)
            .and_then(|()| look_at(self.tree.root.as_fd(), name))
            .and_then(|stat| {
                if self.is_other_mount(&stat) {
                    return Err(Errno::XDEV);
                }
                Ok(stat)
            });
        match looked {
            Ok(stat) => match kind(&stat) {
                Some(kind) => {
                    let dir = Dir::root(Arc::clone(self.tree));
                    self.device = device(&stat);
                    self.window.push(inode::entry(dir, name, kind, &stat));
                }
                None => self.fail(Error::new(
                    ErrorKind::SourceChanged,
                    Side::Source,
                    self.shown(),
                    "was a file when the run began and is a directory now",
                )),
            },
            Err(errno) => self.fail(Error::source(self.shown(), "look at the source", errno)),
        }
        ControlFlow::Continue(())
    }

    /// Returns whether the thing at `self.path` is listed and let through.
    fn wanted(&mut self, is_dir: bool) -> bool {
        let all = self.levels.last().is_some_and(|level| level.all);
        if !all && self.listed(is_dir) == Want::No {
            return false;
        }
        let allowed = self.options.filter.allows(&self.path, is_dir);
        if !allowed {
            self.give_up_below();
        }
        allowed
    }

    fn listed(&self, is_dir: bool) -> Want {
        self.options
            .files_from
            .map_or(Want::Yes, |list| list.wants(&self.path, is_dir))
    }

    /// Hands the window on.
    fn flush(&mut self) -> ControlFlow<()> {
        let (visitor, root) = (&mut *self.visitor, self.tree.root.as_fd());
        let batch = self
            .window
            .take(self.options.order, root, &|| visitor.stopped());
        if batch.is_empty() {
            return ControlFlow::Continue(());
        }
        if visitor.stopped() {
            return ControlFlow::Break(());
        }
        visitor.entries(batch)
    }

    /// Reports what the kernel would not tell of folders that cannot be read.
    fn look_for_hidden(&mut self) {
        self.path.clear();
        let visitor = &*self.visitor;
        let errors = self.hidden.look(self.tree, &|| !visitor.stopped());
        for error in errors {
            self.fail(error);
        }
    }

    /// Reports that `self.path`, or something below it, is not coming.
    fn fail(&mut self, error: Error) {
        self.hidden.left_out();
        self.give_up_below();
        self.visitor.problem(error);
    }

    fn skip_mount(&mut self) {
        self.hidden.left_out();
        self.give_up_below();
        let path = self.shown();
        self.visitor.skipped(
            path,
            "other-file-system",
            "another file system is mounted there",
        );
    }

    fn meet(&mut self) {
        if let Some(seen) = &mut self.seen {
            seen.met(&self.path);
        }
    }

    fn give_up_below(&mut self) {
        if let Some(seen) = &mut self.seen {
            seen.gave_up(&self.path);
        }
    }

    fn report_missing(&mut self) {
        let Some(seen) = &self.seen else { return };
        for path in seen.missing() {
            self.visitor.problem(Error::new(
                ErrorKind::SourceVanished,
                Side::Source,
                shown(self.tree, path),
                "listed in --files-from but not there",
            ));
        }
    }

    fn is_other_mount(&self, stat: &Statx) -> bool {
        let same = self
            .root
            .as_ref()
            .and_then(|root| inode::is_same_mount(root, stat));
        !same.unwrap_or_else(|| device(stat) == self.tree.device)
    }

    /// Returns `self.path` as messages show it.
    fn shown(&self) -> PathBuf {
        shown(self.tree, &self.path)
    }
}

/// Returns whether a directory is one of its own ancestors. Kernels refuse this on local disks;
/// network and user-space file systems may not.
fn is_cycle(ancestors: &[Level], id: (u64, u64)) -> bool {
    ancestors.iter().any(|level| level.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::bounded;

    #[test]
    fn an_ancestor_met_again_is_a_cycle() {
        let (finished, _receiver) = bounded(1);
        let tree = Arc::new(Tree {
            index: 0,
            label: PathBuf::from("/"),
            root: std::fs::File::open("/").unwrap().into(),
            only: None,
            landing: Vec::new(),
            root_attributes: false,
            device: 7,
            direct: false,
            trusts_holes: false,
            trusts_sizes: true,
            keeps_inodes: true,
            finished,
        });
        let level = |id| Level {
            dir: Dir::root(Arc::clone(&tree)),
            path_bytes: 0,
            id,
            all: false,
            pending: Vec::new(),
            tampered: false,
        };
        let levels = [level((7, 2)), level((7, 40)), level((8, 2))];
        assert!(is_cycle(&levels, (7, 40)));
        assert!(!is_cycle(&levels, (8, 40)));
    }
}
