//! What a drive stores: what is on the medium, and what is still in its cache.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::dice::Dice;
use crate::support::lab::clone_file;

/// What a power cut spares of the writes that no flush had reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spared {
    /// None of them.
    Nothing,
    /// Those that came before some moment.
    Prefix,
    /// Some and not others, whatever their order.
    Subset,
    /// Some of the sectors of each.
    Torn,
}

impl Spared {
    /// All of them, in the order in which seeds choose.
    pub(crate) const ALL: [Self; 4] = [Self::Nothing, Self::Prefix, Self::Subset, Self::Torn];
}

/// A cut, for messages.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "read through Debug")]
pub(crate) struct Cut {
    /// What was spared.
    pub(crate) spared: Spared,
    /// Writes that no flush had reached.
    pub(crate) unflushed: usize,
    /// Writes, or when torn sectors, that are in the image all the same.
    pub(crate) kept: usize,
}

/// A write in the cache.
#[derive(Debug, Clone)]
struct Unflushed {
    offset: u64,
    data: Arc<[u8]>,
}

/// The store of a drive. Two files: one is what the drive answers from, the other what a power cut
/// leaves.
#[derive(Debug)]
pub(crate) struct Medium {
    seen: File,
    durable: File,
    unflushed: Vec<Unflushed>,
    has_cache: bool,
    /// What the drive writes at once or not at all, in bytes.
    sector: usize,
}

impl Medium {
    /// Returns one in `dir` that holds what `image` holds. Without a cache at first.
    pub(super) fn new(dir: &Path, image: &File, sector: usize) -> Self {
        Self {
            seen: clone_file(image, &dir.join("seen")),
            durable: clone_file(image, &dir.join("durable")),
            unflushed: Vec::new(),
            has_cache: false,
            sector,
        }
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.seen.read_exact_at(buffer, offset)
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.seen.write_all_at(data, offset)?;
        if self.has_cache {
            let data = Arc::from(data);
            self.unflushed.push(Unflushed { offset, data });
            Ok(())
        } else {
            self.durable.write_all_at(data, offset)
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        for write in self.unflushed.drain(..) {
            self.durable.write_all_at(&write.data, write.offset)?;
        }
        Ok(())
    }

    pub(super) fn set_cache(&mut self, has_cache: bool) -> io::Result<()> {
        self.has_cache = has_cache;
        if has_cache { Ok(()) } else { self.flush() }
    }

    /// Freezes what is durable in a file, and the unflushed writes beside it.
    pub(super) fn freeze(&self, path: &Path) -> Frozen {
        Frozen {
            image: clone_file(&self.durable, path),
            path: path.to_owned(),
            unflushed: self.unflushed.clone(),
            sector: self.sector,
        }
    }
}

/// A medium at the moment of a power cut, before it is decided what the cut spares.
#[derive(Debug)]
pub(crate) struct Frozen {
    image: File,
    path: PathBuf,
    unflushed: Vec<Unflushed>,
    sector: usize,
}

impl Frozen {
    /// Finishes the image at this path: adds what is spared.
    pub(crate) fn cut(self, spared: Spared, dice: &mut Dice) -> (PathBuf, Cut) {
        let unflushed = self.unflushed.len();
        let mut kept = 0;
        let mut keep = |offset, data: &[u8]| {
            self.image.write_all_at(data, offset).unwrap();
            kept += 1;
        };
        let before = dice.index(unflushed + 1);
        for (number, write) in self.unflushed.iter().enumerate() {
            match spared {
                Spared::Nothing => {}
                Spared::Prefix if number >= before => {}
                Spared::Subset if dice.coin() => {}
                Spared::Prefix | Spared::Subset => keep(write.offset, &write.data),
                Spared::Torn => {
                    let sectors = write.data.chunks(self.sector);
                    let offsets = (write.offset..).step_by(self.sector);
                    for (sector, offset) in sectors.zip(offsets) {
                        if dice.coin() {
                            keep(offset, sector);
                        }
                    }
                }
            }
        }
        let cut = Cut {
            spared,
            unflushed,
            kept,
        };
        (self.path, cut)
    }
}

/// Cuts at moments that are spread evenly over what happens on a drive.
///
/// A copy sleeps most of its time when it is slowed down, and what can go wrong does so while it
/// writes. Each request is as likely as any other to be one of the moments, however many there are
/// (Vitter's algorithm R).
pub(super) struct Sampler {
    dir: PathBuf,
    count: usize,
    dice: Dice,
    /// What else is to be known of the moment.
    note: Note,
    requests: u64,
    samples: Vec<Sample>,
}

/// Answers what is to be known of a moment beside the medium.
pub(crate) type Note = Box<dyn Fn() -> u64 + Send>;

/// One of the moments.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The medium.
    pub(crate) frozen: Frozen,
    /// How many requests came before.
    pub(crate) request: u64,
    /// What was noted.
    pub(crate) note: u64,
}

impl Sampler {
    pub(super) fn new(dir: &Path, count: usize, dice: Dice, note: Note) -> Self {
        Self {
            dir: dir.to_owned(),
            count,
            dice,
            note,
            requests: 0,
            samples: Vec::new(),
        }
    }

    /// Looks at a request that is about to be carried out.
    pub(super) fn request(&mut self, medium: &Medium) {
        let request = self.requests;
        self.requests += 1;
        let place = usize::try_from(self.dice.below(self.requests)).unwrap();
        if self.samples.len() >= self.count && place >= self.count {
            return;
        }
        let note = (self.note)();
        let path = self.dir.join(format!("sample{request}.img"));
        let frozen = medium.freeze(&path);
        let sample = Sample {
            frozen,
            request,
            note,
        };
        if self.samples.len() < self.count {
            self.samples.push(sample);
        } else {
            let overtaken = std::mem::replace(&mut self.samples[place], sample);
            std::fs::remove_file(overtaken.frozen.path).unwrap();
        }
    }

    pub(super) fn end(mut self) -> Vec<Sample> {
        self.samples.sort_by_key(|sample| sample.request);
        self.samples
    }
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler")
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}
