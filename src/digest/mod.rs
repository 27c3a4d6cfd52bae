//! Port 2: what identifies a file's bytes.
//!
//! **Boundary.** Knows bytes and their place in a file; knows nothing of names, buffers or I/O.

mod pool;
mod tree;

use std::fmt::Debug;

pub use blake3::Hash;
pub use pool::{Bytes, HashJob, HashPool};
pub use tree::{Blake3Tree, BlockValue, block_value};

/// Bytes in one block: a whole BLAKE3 subtree, and the unit the engine reads, hashes and writes.
///
/// 1 MiB keeps every SIMD lane busy (16 KiB is enough for AVX-512) at 32 bytes of chaining value
/// a block, and a lost block costs little to read again.
pub const BLOCK_LEN: u64 = 1 << 20;

/// The digest of one file, built from its blocks. Shared by the lane and the hash workers.
///
/// # Contract
///
/// 1. `absorb` takes each block of the file exactly once, from any thread.
/// 2. Blocks may come in any order. (A hash that needs ascending order would queue inside.)
/// 3. Every block but the last is [`BLOCK_LEN`] bytes; the last has 1 to `BLOCK_LEN` bytes.
/// 4. `finish` returns `None` until every block of a file of `len` bytes has been absorbed, and
///    then always the same digest: the standard one of the algorithm over the whole file.
/// 5. Memory does not grow with the length of the file, only with how far blocks are out of order.
pub trait FileDigest: Debug + Send + Sync {
    /// Takes block number `index`, counted from 0.
    fn absorb(&self, index: u64, bytes: &[u8]);

    /// Returns the digest of the whole file of `len` bytes, once every block is in.
    fn finish(&self, len: u64) -> Option<Hash>;
}

/// Returns how many blocks a file of `len` bytes has.
pub fn block_count(len: u64) -> u64 {
    len.div_ceil(BLOCK_LEN)
}
