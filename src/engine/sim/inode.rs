//! One inode of the simulated file system: what it looks like, and what of that a power cut leaves.
//!
//! Each page, the length and the metadata reach the medium by themselves, in any order. A sync
//! that fails marks what it lost as clean: it is read back as written, and no later sync minds.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustix::io::Errno;

use super::content::{Content, Page, same_page};
use super::rng::Rng;
use super::tree::Version;

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    File,
    Dir,
    Symlink(Vec<u8>),
    Special,
}

/// Metadata that is copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) mtime: (i64, u32),
}

/// What a sync of one file covers: what was written when it was asked for.
#[derive(Debug)]
pub(super) struct Covered {
    pages: Vec<(usize, Page)>,
    size: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Inode {
    pub(super) form: Form,
    pub(super) now: Content,
    pub(super) meta: Meta,
    durable: Content,
    durable_meta: Meta,
    /// Pages that the next sync writes.
    dirty: BTreeSet<usize>,
    size_dirty: bool,
    meta_dirty: bool,
    /// Write-back errors so far, and how many of them some descriptor has told.
    pub(super) errors: u64,
    told: u64,
    /// What its bytes probably are.
    pub(super) likely: Option<Arc<Content>>,
    /// The version it was last found to be, whatever a power cut leaves; nothing changed since.
    good: Option<u64>,
    has_rotted: bool,
}

impl Inode {
    pub(super) fn new(form: Form, mode: u32) -> Self {
        let meta = Meta {
            mode,
            mtime: (0, 0),
        };
        Self {
            form,
            now: Content::default(),
            meta,
            durable: Content::default(),
            durable_meta: meta,
            dirty: BTreeSet::new(),
            size_dirty: false,
            meta_dirty: false,
            errors: 0,
            told: 0,
            likely: None,
            good: None,
            has_rotted: false,
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || self.size_dirty || self.meta_dirty
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let size = self.now.size();
        let touched = self.now.write(offset, bytes, self.likely.as_deref());
        self.dirty.extend(touched);
        self.size_dirty |= self.now.size() != size;
        self.good = None;
    }

    pub(super) fn set_size(&mut self, size: u64) {
        if size < self.now.size() {
            let first = usize::try_from(size).unwrap() / super::content::PAGE;
            self.now.set_size(size);
            // What was cut off may be on the medium still, and come back if the file grows again.
            let behind = self.now.pages().max(self.durable.pages());
            self.dirty.split_off(&behind);
            for index in first..behind {
                if !same_page(self.now.page(index), self.durable.page(index)) {
                    self.dirty.insert(index);
                }
            }
        } else {
            self.now.set_size_alone(size);
        }
        self.size_dirty = true;
        self.good = None;
    }

    pub(super) fn set_meta(&mut self, meta: Meta) {
        self.meta = meta;
        self.meta_dirty = true;
        self.good = None;
    }

    /// Makes everything durable; with `lossy`, loses some of the pages for good.
    pub(super) fn sync(&mut self, mut lossy: Option<&mut Rng>) {
        let mut lost = false;
        for index in std::mem::take(&mut self.dirty) {
            if lossy.as_mut().is_none_or(|rng| rng.coin()) {
                self.durable.set_page(index, self.now.page(index).clone());
            } else {
                lost = true;
            }
        }
        if lost {
            self.errors += 1;
            self.good = None;
        }
        self.sync_size();
        self.sync_meta();
    }

    pub(super) fn sync_meta(&mut self) {
        self.durable_meta = self.meta;
        self.meta_dirty = false;
    }

    fn sync_size(&mut self) {
        if self.size_dirty {
            self.durable.set_size(self.now.size());
            self.size_dirty = false;
        }
    }

    /// Returns what a sync that is asked for now covers.
    pub(super) fn cover(&self) -> Covered {
        let page = |&index: &usize| (index, self.now.page(index).clone());
        Covered {
            pages: self.dirty.iter().map(page).collect(),
            size: self.size_dirty.then_some(self.now.size()),
        }
    }

    /// Ends a sync of this file; with `lossy`, it fails and loses some of the pages for good.
    pub(super) fn sync_covered(&mut self, covered: Covered, mut lossy: Option<&mut Rng>) {
        for (index, page) in covered.pages {
            if !self.dirty.contains(&index) {
                continue;
            }
            let is_newest = self.now.shares_page(index, &page);
            if lossy.as_mut().is_none_or(|rng| rng.coin()) {
                self.durable.set_page(index, page);
            }
            if is_newest {
                self.dirty.remove(&index);
            }
        }
        if covered.size == Some(self.now.size()) {
            self.sync_size();
        } else if let Some(size) = covered.size.filter(|size| *size > self.durable.size()) {
            self.durable.set_size_alone(size);
        }
        self.good = None;
    }

    /// Writes back some dirty pages, as the kernel may at any time; with `lossy`, loses them.
    pub(super) fn write_back(&mut self, rng: &mut Rng, lossy: bool) {
        let chosen: Vec<usize> = self.dirty.iter().copied().filter(|_| rng.coin()).collect();
        for index in chosen {
            self.dirty.remove(&index);
            if !lossy {
                self.durable.set_page(index, self.now.page(index).clone());
            }
        }
        if lossy {
            self.errors += 1;
            self.good = None;
        }
    }

    /// Returns what a descriptor that is opened now has told: an error nobody heard of yet is told
    /// once more.
    pub(super) fn errors_told(&self) -> u64 {
        self.told
    }

    pub(super) fn tell_all(&mut self) {
        self.told = self.errors;
    }

    /// Tells a descriptor that has told `heard` errors whether there was another.
    pub(super) fn tell(&mut self, heard: &mut u64) -> Result<(), Errno> {
        if *heard == self.errors {
            return Ok(());
        }
        *heard = self.errors;
        self.told = self.errors;
        Err(Errno::IO)
    }

    /// Leaves what is on the medium after a power cut: each dirty thing with `odds` in a thousand.
    pub(super) fn crash(&mut self, rng: &mut Rng, odds: u32) {
        for index in std::mem::take(&mut self.dirty) {
            if rng.chance(odds) {
                self.durable.set_page(index, self.now.page(index).clone());
            }
        }
        if std::mem::take(&mut self.size_dirty) && rng.chance(odds) {
            self.durable.set_size_alone(self.now.size());
        }
        self.durable.set_size(self.durable.size());
        if std::mem::take(&mut self.meta_dirty) && rng.chance(odds) {
            self.durable_meta = self.meta;
        }
        self.now = self.durable.clone();
        self.meta = self.durable_meta;
        (self.errors, self.told) = (0, 0);
        self.likely = None;
    }

    /// Writes that were on their way at a power cut: any of their pages may have arrived.
    pub(super) fn tear(&mut self, offset: u64, bytes: &[u8], rng: &mut Rng) {
        let page = super::content::PAGE as u64;
        let mut at = offset;
        let mut left = bytes;
        while !left.is_empty() {
            let len = usize::try_from(page - at % page).unwrap().min(left.len());
            let (piece, rest) = left.split_at(len);
            if rng.coin() {
                self.write(at, piece);
            }
            at += len as u64;
            left = rest;
        }
    }

    /// Lets a page that was synced long ago be something else.
    pub(super) fn rot(&mut self, index: usize) {
        let page = self.durable.page(index).as_ref();
        let mut page = page.map_or([0; super::content::PAGE], |page| **page);
        page[0] ^= 1;
        let page = Some(Arc::new(page));
        self.now.set_page(index, page.clone());
        self.durable.set_page(index, page);
        self.good = None;
        self.has_rotted = true;
    }

    /// Returns the first of the first `count` pages that is not for good what it should be; rot
    /// does not count.
    pub(super) fn lacks(&self, wanted: &Content, count: usize) -> Option<usize> {
        let bad = |&index: &usize| {
            let [now, durable] = [&self.now, &self.durable].map(|it| it.page(index));
            let wanted = wanted.page(index);
            !same_page(now, wanted) || !same_page(durable, wanted)
        };
        (0..count).find(bad).filter(|_| !self.has_rotted)
    }

    /// Reads past the cache: what is clean comes from the medium.
    pub(super) fn read_medium(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let mut seen = self.now.clone();
        for index in 0..seen.pages().max(self.durable.pages()) {
            if !self.dirty.contains(&index) {
                seen.set_page(index, self.durable.page(index).clone());
            }
        }
        seen.read(offset, buffer)
    }

    /// Returns why this is not `version` now, or would not be after some power cut.
    pub(super) fn differs(&mut self, version: &Version) -> Option<String> {
        if self.good == Some(version.id) {
            return None;
        }
        let why = self.differs_somewhere(version);
        if why.is_none() {
            self.good = Some(version.id);
        }
        why
    }

    /// Returns why this is not what could be read of `version`, with zeros in the place of the rest,
    /// now and after every power cut.
    pub(super) fn differs_but_for_zeros(&self, version: &Version) -> Option<String> {
        let wanted = &*version.content;
        if self.form != Form::File || version.form != Form::File {
            return Some(format!("it is {:?}", self.form));
        }
        if [self.now.size(), self.durable.size()] != [wanted.size(); 2] {
            return Some("its length is or may be wrong".to_owned());
        }
        let is_right =
            |page: &Page, index| same_page(page, wanted.page(index)) || same_page(page, &None);
        (0..wanted.pages())
            .find(|&index| {
                !is_right(self.now.page(index), index) || !is_right(self.durable.page(index), index)
            })
            .map(|page| format!("page {page} is or may be wrong, and not zeros"))
    }

    fn differs_somewhere(&self, version: &Version) -> Option<String> {
        if self.form != version.form {
            return Some(format!("it is {:?}", self.form));
        }
        if self.form != Form::File {
            return None;
        }
        let (now, wanted) = (&self.now, &*version.content);
        if now.size() != wanted.size() {
            let (now, wanted) = (now.size(), wanted.size());
            return Some(format!("its length is {now}, not {wanted}"));
        }
        if let Some(page) = now.difference(wanted) {
            return Some(format!("page {page} is wrong"));
        }
        if self.durable.size() != wanted.size() {
            let size = self.durable.size();
            return Some(format!("a power cut may leave a length of {size}"));
        }
        let pages = 0..wanted.pages();
        let bad = |&index: &usize| !same_page(self.durable.page(index), wanted.page(index));
        if let Some(page) = pages.clone().find(bad) {
            return Some(format!("a power cut may leave page {page} as it was"));
        }
        let meta = [self.meta, self.durable_meta];
        if meta.iter().any(|meta| *meta != version.meta) {
            return Some(format!("its metadata may be {meta:?}"));
        }
        None
    }
}
