//! Trees to copy: noise that neither compresses nor repeats, from a fixed seed.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use super::{Context as _, Result};

/// A stream of noise (xorshift64*), the same for the same seed.
#[derive(Debug)]
pub(crate) struct Noise(u64);

impl Noise {
    /// The stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next word.
    pub(crate) fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.word() % (high - low + 1)
    }

    /// Writes a file of noise.
    pub(crate) fn file(&mut self, path: &Path, length: u64) -> Result<()> {
        let mut file = File::create(path).context(path.to_string_lossy())?;
        let mut left = length;
        let mut block = Vec::with_capacity(1 << 18);
        while left > 0 {
            block.clear();
            let want = usize::try_from(left.min(1 << 18)).context("block length")?;
            while block.len() < want {
                block.extend_from_slice(&self.word().to_le_bytes());
            }
            block.truncate(want);
            file.write_all(&block).context(path.to_string_lossy())?;
            left -= want as u64;
        }
        Ok(())
    }
}

/// What a tree holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Regular files.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl std::ops::Add for Size {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// `count` files of `each` bytes in `dir`.
pub(crate) fn large(dir: &Path, count: u64, each: u64, seed: u64) -> Result<Size> {
    std::fs::create_dir_all(dir).context("a tree")?;
    let mut noise = Noise::new(seed);
    for at in 0..count {
        noise.file(&dir.join(format!("large-{at:03}.bin")), each)?;
    }
    Ok(Size {
        files: count,
        bytes: count * each,
    })
}

/// Small files of `low` to `high` bytes spread over `dirs` directories.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Small {
    /// How many files.
    pub(crate) files: u64,
    /// Over how many directories.
    pub(crate) dirs: u64,
    /// Least length.
    pub(crate) low: u64,
    /// Greatest length.
    pub(crate) high: u64,
    /// Written in random order over all directories, as a disk in long use looks.
    pub(crate) shuffled: bool,
}

impl Small {
    /// Writes the tree.
    pub(crate) fn write(self, dir: &Path, seed: u64) -> Result<Size> {
        let mut noise = Noise::new(seed);
        let mut order: Vec<u64> = (0..self.files).collect();
        if self.shuffled {
            for at in (1..order.len()).rev() {
                let other = usize::try_from(noise.between(0, at as u64)).unwrap_or(0);
                order.swap(at, other);
            }
        }
        for at in 0..self.dirs {
            let path = dir.join(format!("dir-{at:04}"));
            std::fs::create_dir_all(path).context("a tree")?;
        }
        let mut size = Size::default();
        for number in order {
            let length = noise.between(self.low, self.high);
            let path = dir.join(format!("dir-{:04}/file-{number:07}", number % self.dirs));
            noise.file(&path, length)?;
            size = size
                + Size {
                    files: 1,
                    bytes: length,
                };
        }
        Ok(size)
    }
}
