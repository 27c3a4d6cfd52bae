//! Files with bad spots: put aside until everything else is read, then read as far as they can be.
//!
//! An error can take a drive many seconds, and a drive that begins to fail may not live long. So a
//! file in which one turns up waits until the lane has nothing else to do. Then what has not been
//! tried of all these files is read in whole blocks, and last of all each block that failed is read
//! in smaller and smaller pieces (`search`), one request at a time.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::finish::unchanged;
use super::search::Search;
use super::transfer::Transfer;
use super::{Lane, Purpose, SmallRead};
use crate::beneath::{self, OpenedSource};
use crate::buffer::{ALIGN, Lease};
use crate::digest::{BLOCK_LEN, Hash};
use crate::engine::commit::{Commit, Item, PARTIAL, SAVED, What};
use crate::engine::report::Unreadable;
use crate::engine::standing::Standing;
use crate::error::{Error, ErrorKind, Side, is_bad_medium};
use crate::io::Op;
use crate::journal;
use crate::scan::{Entry, FileStamp};
use crate::target::Vacancy;

/// Large files that are put aside with what is copied of them, two descriptors each; further ones
/// are read from the start again.
const OPEN_MAX: usize = 16;
/// Files that are put aside at most: with so many, those are dealt with before others go on.
const ASIDE_MAX: usize = 1024;

/// The files that are put aside.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Those that are begun, by number.
    open: VecDeque<u64>,
    /// Those that are to be begun again, and whether they may replace what has their name.
    entries: VecDeque<(Entry, bool)>,
    /// Whether it is their turn.
    is_due: bool,
    search: Option<BlockSearch>,
}

/// A block that is being read in pieces.
#[derive(Debug)]
struct BlockSearch {
    transfer: u64,
    index: u64,
    len: usize,
    search: Search,
    /// What was read of it; the rest is zeros.
    block: Lease,
    is_waiting: bool,
}

impl Aside {
    /// Returns whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.entries.is_empty()
    }

    /// Returns whether it is their turn: when there is nothing else to do, or too many wait.
    pub(super) fn is_due(&mut self, is_idle: bool) -> bool {
        let count = self.open.len() + self.entries.len();
        self.is_due |= count >= ASIDE_MAX || is_idle && count > 0;
        self.is_due
    }

    /// Forgets one that has ended; returns whether it was among them.
    pub(super) fn forget(&mut self, number: u64) -> bool {
        let before = self.open.len();
        self.open.retain(|open| *open != number);
        self.open.len() < before
    }

    /// Forgets all of them; returns those that are not begun.
    pub(super) fn clear(&mut self) -> Vec<Entry> {
        let entries = std::mem::take(&mut self.entries);
        *self = Self::default();
        entries.into_iter().map(|(entry, _)| entry).collect()
    }
}

/// Returns what the drive of a file reads at once, in bytes: its logical block where the kernel
/// says, for O_DIRECT; a page of the cache otherwise.
pub(super) fn granule(opened: &OpenedSource) -> u64 {
    let stat = &opened.stat;
    let aligns = [stat.stx_dio_read_offset_align, stat.stx_dio_offset_align];
    let told = aligns.into_iter().find(|align| *align > 0);
    match told.filter(|align| opened.direct && align.is_power_of_two()) {
        Some(align) => u64::from(align).clamp(512, ALIGN as u64),
        None => ALIGN as u64,
    }
}

impl Lane<'_> {
    /// Returns whether a file that gives this error is put aside: one that is to be copied or
    /// hashed. (What is compared with a record is looked at closer by whoever compares.)
    pub(super) fn is_put_aside(&self, entry: &Entry, errno: Errno) -> bool {
        is_bad_medium(errno) && entry.recorded.is_none() && !self.context.halted() && !self.lost
    }

    /// Takes a block of a large file that could not be read in one piece.
    pub(super) fn block_failed(&mut self, number: u64, index: u64, errno: Errno) {
        let Some(transfer) = self.transfers.get_mut(&number) else {
            return;
        };
        let is_new = transfer.trouble.is_none();
        transfer.in_trouble(index, errno);
        if !is_new {
            return;
        }
        if self.aside.open.len() < OPEN_MAX {
            self.aside.open.push_back(number);
        } else {
            transfer.give_way();
        }
        if self.current == Some(number) {
            self.current = None;
        }
    }

    /// Puts a file aside that could not be read in one piece, or not be opened.
    pub(super) fn put_aside(&mut self, entry: Entry, replace: bool) {
        self.aside.entries.push_back((entry, replace));
    }

    pub(super) fn put_small_aside(&mut self, read: SmallRead) {
        self.put_aside(read.entry, read.replace);
    }

    /// Goes on with the files that are put aside. Returns false when it has to wait.
    pub(super) fn rescue(&mut self) -> bool {
        // No small file is read until this is through, and every buffer may be needed.
        self.pack = None;
        if self.aside.search.is_some() {
            return self.search_on();
        }
        let transfers = &self.transfers;
        self.aside.open.retain(|number| {
            let transfer = transfers.get(number);
            transfer.is_some_and(Transfer::is_open)
        });
        let untried = |number: &&u64| {
            let transfer = transfers.get(number);
            transfer.is_some_and(|transfer| transfer.next_block().is_some())
        };
        if let Some(&number) = self.aside.open.iter().find(untried) {
            self.current = Some(number);
            return true;
        }
        if self.reads + self.small_reads > 0 {
            return false;
        }
        let failed = self.aside.open.iter().find_map(|number| {
            let trouble = transfers.get(number)?.trouble.as_ref()?;
            Some((*number, trouble.first_failed()?))
        });
        if let Some((number, index)) = failed {
            return self.begin_search(number, index);
        }
        if !self.aside.open.is_empty() {
            // What is left of them is with the hash workers, or on its way to the target.
            return false;
        }
        match self.aside.entries.pop_front() {
            Some((entry, replace)) => self.begin_again(entry, replace),
            None => self.aside.is_due = false,
        }
        true
    }

    /// Begins a file again that was put aside before anything of it was copied.
    fn begin_again(&mut self, mut entry: Entry, replace: bool) {
        let opened = match self.open(&entry) {
            Ok(opened) => opened,
            Err(error) => return self.report(&entry, &error),
        };
        entry.stamp = opened.stamp();
        if entry.stamp.size == 0 {
            return self.begin_small(entry, opened, replace);
        }
        self.begin_large(entry, opened, replace);
        if let Some(number) = self.current.take()
            && let Some(transfer) = self.transfers.get_mut(&number)
        {
            transfer.expect_trouble();
            self.aside.open.push_back(number);
        }
    }

    /// Begins to look closer at a block. Returns false when there is no buffer for it.
    fn begin_search(&mut self, number: u64, index: u64) -> bool {
        let Some(mut block) = self.credits.take() else {
            return false;
        };
        let Some(transfer) = self.transfers.get_mut(&number) else {
            return true;
        };
        let (range, len) = transfer.range_of(index);
        block.truncate(len.next_multiple_of(ALIGN));
        block.as_mut_slice().fill(0);
        transfer.block_began(index);
        self.aside.search = Some(BlockSearch {
            transfer: number,
            index,
            len,
            search: Search::new(range, transfer.granule),
            block,
            is_waiting: false,
        });
        true
    }

    /// Reads the next piece of a block. Returns false when it has to wait.
    fn search_on(&mut self) -> bool {
        let Some(state) = self.aside.search.as_mut().filter(|it| !it.is_waiting) else {
            return false;
        };
        let transfer = self.transfers.get(&state.transfer);
        let Some(transfer) = transfer.filter(|transfer| transfer.is_open()) else {
            self.end_search();
            return true;
        };
        let Some(piece) = state.search.next() else {
            self.end_search();
            return true;
        };
        let Some(mut lease) = self.credits.take() else {
            return false;
        };
        let len = usize::try_from(piece.end - piece.start).unwrap_or(0);
        let granule = usize::try_from(transfer.granule).unwrap_or(ALIGN);
        lease.truncate(len.next_multiple_of(granule));
        let source = Arc::clone(&transfer.source);
        state.is_waiting = true;
        let purpose = Purpose::Piece {
            transfer: state.transfer,
            offset: piece.start,
            len,
        };
        self.reads += 1;
        let offset = piece.start;
        self.submit(&source, Op::Read { offset, lease }, len, purpose);
        true
    }

    /// Takes a piece of a block that is looked at closer: `len` bytes at `offset` are wanted.
    pub(super) fn piece_read(
        &mut self,
        number: u64,
        offset: u64,
        len: usize,
        lease: &Lease,
        result: Result<usize, Errno>,
    ) {
        self.reads -= 1;
        let state = self.aside.search.as_mut();
        let Some(state) = state.filter(|state| state.transfer == number) else {
            return;
        };
        state.is_waiting = false;
        let Some(transfer) = self.transfers.get_mut(&number) else {
            return;
        };
        let start = usize::try_from(offset - state.index * BLOCK_LEN).unwrap_or(usize::MAX);
        match result {
            Ok(filled) if filled == len => {
                let place = state.block.as_mut_slice().get_mut(start..);
                let place = place.and_then(|rest| rest.get_mut(..len));
                if let (Some(place), Some(bytes)) = (place, lease.as_slice().get(..len)) {
                    place.copy_from_slice(bytes);
                }
                state.search.settle(true);
            }
            Err(errno) if is_bad_medium(errno) => state.search.settle(false),
            result => {
                if let Err(error) = super::blocks::whole(transfer, offset, len, result) {
                    transfer.fail(error);
                }
            }
        }
    }

    /// Gives up looking closer at a block: its file ends before its time.
    pub(super) fn drop_search(&mut self) {
        if let Some(state) = self.aside.search.take()
            && let Some(transfer) = self.transfers.get_mut(&state.transfer)
        {
            transfer.block_ended(state.index);
        }
    }

    /// Hands on a block of which all is known.
    fn end_search(&mut self) {
        let Some(state) = self.aside.search.take() else {
            return;
        };
        let (number, index) = (state.transfer, state.index);
        let Some(transfer) = self.transfers.get_mut(&number) else {
            return;
        };
        if transfer.is_open() {
            let bad = state.search.bad();
            // First of all, so that nothing of it is ever recorded as copied.
            if let Some(trouble) = &mut transfer.trouble {
                trouble.found(index, bad);
            }
            self.count_read((state.len as u64).saturating_sub(bad.bytes()));
            self.hash_and_write(number, index, state.len, state.block);
        }
        if let Some(transfer) = self.transfers.get_mut(&number) {
            transfer.block_ended(index);
        }
    }

    /// Ends a large file that is to be begun again when it is its turn.
    pub(super) fn end_aside(&mut self, transfer: Transfer) {
        let is_recorded = transfer.is_recorded();
        let Transfer {
            entry,
            staged,
            replace,
            ..
        } = transfer;
        if !is_recorded {
            self.stager.discard(staged);
        }
        self.put_aside(entry, replace);
        self.more = true;
    }

    /// Ends a file that cannot be read whole. `digest` is that of the bytes with zeros in the
    /// place of what is bad.
    pub(super) fn end_unreadable(
        &mut self,
        transfer: Transfer,
        digest: Hash,
        after: Result<FileStamp, Errno>,
    ) {
        let is_recorded = transfer.is_recorded();
        let size = transfer.size();
        if let Err(error) = unchanged(&transfer.entry, &transfer.before, after) {
            self.stager.discard(transfer.staged);
            return self.report(&transfer.entry, &error);
        }
        let entry = transfer.entry.clone();
        let Some(trouble) = &transfer.trouble else {
            return;
        };
        let error = trouble.error(&entry, size);
        let mut unreadable = trouble.unreadable();
        unreadable.map = self.map(&entry, size, trouble);
        let mut why_not = None;
        if self.context.salvage {
            match self.salvage(transfer, digest) {
                Ok(path) => unreadable.kept_as(&path),
                Err(error) => why_not = Some(error),
            }
        } else if !is_recorded {
            self.stager.discard(transfer.staged);
        }
        self.report_unreadable(&entry, &error, unreadable);
        if let Some(error) = why_not {
            let outcomes = &self.context.outcomes;
            outcomes.problem_of_file(self.number, &entry, &error);
        }
    }

    fn map(&self, entry: &Entry, size: u64, trouble: &super::trouble::Trouble) -> Option<String> {
        let maps = self.context.maps.as_ref()?;
        // It is in the target: not after the run, should the drive have held this thread so long.
        let log = self.context.log.as_ref();
        let _asking = log.map(|log| log.vigil().enter()).transpose().ok()?;
        let bad = trouble.bad().as_slice();
        match maps.write(&entry.display_path(), size, bad) {
            Ok(name) => name,
            Err(error) => {
                self.context.session.observer.note(&error.to_string());
                None
            }
        }
    }

    fn report_unreadable(&mut self, entry: &Entry, error: &Error, unreadable: Unreadable) {
        let context = self.context;
        context.entry_unreadable(self.number, entry, error, unreadable);
        crate::engine::commit::fail_links(context, self.number, entry, error);
    }

    /// Sends what could be read of a file on to get a name of its own; returns that path below
    /// TARGET.
    fn salvage(&mut self, transfer: Transfer, digest: Hash) -> Result<Vec<u8>, Error> {
        let size = transfer.size();
        let Transfer {
            entry,
            attributes,
            staged,
            ..
        } = transfer;
        let mut name = entry.name.to_vec();
        name.extend_from_slice(PARTIAL);
        // No stamp of a source: whatever its source is by then, a later run may replace it.
        let partial = Entry {
            name: name.into_boxed_slice(),
            stamp: SAVED,
            nlink: 1,
            ..entry.clone()
        };
        let path = partial.target_path();
        let replace = match self.admit_partial(&entry, &partial, &path) {
            Ok(replace) => replace,
            Err(error) => {
                // (Where the journal is lost, what is in it of what is staged is not known.)
                if error.kind() != ErrorKind::RecordWrite {
                    self.stager.discard(staged);
                }
                return Err(error);
            }
        };
        let sealed = self
            .stager
            .seal(staged, size, path.clone(), replace, &attributes);
        let (sealed, applied) = sealed?;
        let outcomes = &self.context.outcomes;
        outcomes.applied(self.number, &entry, &attributes, &applied);
        let item = Item {
            lane: self.number,
            entry: partial,
            what: What::Partial(digest),
            bytes: size,
            tail: None,
        };
        self.outlets.commit(Commit { item, sealed });
        Ok(path)
    }

    /// Decides whether what could be read of a file can have this name, and whether it replaces
    /// what has it: what an earlier run saved of the same file, and nothing else.
    fn admit_partial(
        &mut self,
        entry: &Entry,
        partial: &Entry,
        path: &[u8],
    ) -> Result<bool, Error> {
        let taken = |what: &str| {
            let what = format!("what could be read of it is not kept: {what}");
            let shown = entry.display_path();
            Error::new(ErrorKind::TargetExists, Side::Target, shown, &what)
        };
        let vitals = Arc::clone(&self.vitals);
        let waiting = vitals.lane.call();
        let (dir, name) = self.source_dir(partial)?;
        let is_there = beneath::exists(dir.as_fd(), &name);
        drop(waiting);
        if is_there {
            return Err(taken("the source has a file with .partial behind its name"));
        }
        let vacancy = self.stager.vacancy(path)?;
        let log = self.context.log.as_ref();
        let standing = log.map_or(Standing::New, |log| log.standing(partial, path, vacancy));
        journal::check_pages()?;
        match (vacancy, standing) {
            (Vacancy::Free, _) => Ok(false),
            (_, Standing::Unknown) => Ok(true),
            _ => Err(taken("its name with .partial behind it is taken")),
        }
    }
}
