//! What a drive stores: what is on the medium, and what is still in its cache.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
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
}

impl Medium {
    /// Returns one in `dir` that holds what `image` holds. Without a cache at first.
    pub(crate) fn new(dir: &Path, image: &File) -> Self {
        Self {
            seen: clone_file(image, &dir.join("seen")),
            durable: clone_file(image, &dir.join("durable")),
            unflushed: Vec::new(),
            has_cache: false,
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
            unflushed: self.unflushed.clone(),
        }
    }
}

/// A medium at the moment of a power cut.
#[derive(Debug)]
pub(crate) struct Frozen {
    image: File,
    unflushed: Vec<Unflushed>,
}

impl Frozen {
    /// Finishes the image: adds what is spared. A sector is what the drive writes at once or not
    /// at all.
    pub(super) fn cut(self, spared: Spared, sector: usize, dice: &mut Dice) -> Cut {
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
                    let sectors = write.data.chunks(sector);
                    for (sector_data, offset) in sectors.zip((write.offset..).step_by(sector)) {
                        if dice.coin() {
                            keep(offset, sector_data);
                        }
                    }
                }
            }
        }
        Cut {
            spared,
            unflushed,
            kept,
        }
    }
}
