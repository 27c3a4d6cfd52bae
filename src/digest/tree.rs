//! BLAKE3 by subtrees: blocks hashed anywhere, in any order, merged as soon as neighbours meet.
//!
//! A block's chaining value depends on its bytes and its offset only, so any worker can compute
//! it. Values of the finished prefix are kept as the binary counter of subtrees that BLAKE3
//! itself keeps (one value for each set bit of the block count); values ahead of the prefix wait
//! in a map. The last merge is the root merge, so a subtree is completed only when more input is
//! known to follow: the prefix is merged lazily.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use blake3::Hash;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};

use super::{BLOCK_LEN, FileDigest, block_count};

/// The value of one block: what BLAKE3 merges into the digest of a file of several blocks.
pub type BlockValue = ChainingValue;

/// Returns the value of block number `index` of a file of several blocks.
pub fn block_value(index: u64, bytes: &[u8]) -> BlockValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(index * BLOCK_LEN).update(bytes);
    hasher.finalize_non_root()
}

/// The BLAKE3 digest of one file.
#[derive(Debug, Default)]
pub struct Blake3Tree {
    state: Mutex<State>,
    /// Whether block values are kept until they are taken.
    keeps: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Digest of a file of one block, which has no subtree value: its only node is the root.
    single: Option<Hash>,
    /// Subtree values of the finished prefix, largest subtree first.
    stack: Vec<ChainingValue>,
    /// How many blocks the prefix has.
    prefix: u64,
    /// Values of blocks beyond the prefix, by block number.
    ahead: BTreeMap<u64, ChainingValue>,
    /// Values of the last blocks of the prefix, which nobody has taken yet.
    kept: VecDeque<ChainingValue>,
}

impl State {
    fn push(&mut self, value: ChainingValue) {
        // After n blocks the counter holds one subtree for each set bit of n. Merge what the new
        // block completes only now, when it is certain that it is not the root.
        while self.stack.len() > self.prefix.count_ones() as usize {
            self.merge_last();
        }
        self.stack.push(value);
        self.prefix += 1;
    }

    fn merge_last(&mut self) {
        if let (Some(right), Some(left)) = (self.stack.pop(), self.stack.pop()) {
            self.stack
                .push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
    }
}

impl Blake3Tree {
    /// Returns the digest of no bytes so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the digest of no bytes so far, which keeps block values for
    /// [`take_values`](Self::take_values): 32 bytes for each MiB that nobody has taken.
    pub fn keeping() -> Self {
        Self {
            keeps: true,
            ..Self::default()
        }
    }

    /// Takes the value of the next block from a record instead of its bytes. Blocks come in order,
    /// and before any that are absorbed; of a file of one block this gives no digest.
    pub fn absorb_value(&self, value: BlockValue) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.push(value);
    }

    /// Returns how many blocks from the first on are in, without gaps.
    pub fn prefix(&self) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.prefix
    }

    /// Returns the values that nobody has taken yet of the blocks before `end`, at most `most`, and
    /// the number of the first; fewer when blocks are missing.
    pub fn take_values(&self, end: u64, most: usize) -> (u64, Vec<BlockValue>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let first = state.prefix - state.kept.len() as u64;
        let ready = end.min(state.prefix).saturating_sub(first);
        let count = usize::try_from(ready).unwrap_or(usize::MAX).min(most);
        (first, state.kept.drain(..count).collect())
    }

    /// Returns how many block values wait for an earlier block.
    pub fn ahead(&self) -> usize {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ahead
            .len()
    }
}

impl FileDigest for Blake3Tree {
    fn absorb(&self, index: u64, bytes: &[u8]) {
        debug_assert!(
            !bytes.is_empty() && bytes.len() as u64 <= BLOCK_LEN,
            "contract 3"
        );
        // The expensive part, outside the lock. Block 0 may turn out to be the whole file, which
        // only `finish` can know; a short block 0 certainly is.
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(index * BLOCK_LEN).update(bytes);
        let value = hasher.finalize_non_root();
        let single = (index == 0).then(|| hasher.finalize());

        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if single.is_some() {
            state.single = single;
        }
        if index != state.prefix {
            state.ahead.insert(index, value);
            return;
        }
        let mut next = Some(value);
        while let Some(value) = next {
            if self.keeps {
                state.kept.push_back(value);
            }
            state.push(value);
            let wanted = state.prefix;
            next = state.ahead.remove(&wanted);
        }
    }

    fn finish(&self, len: u64) -> Option<Hash> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match block_count(len) {
            0 => Some(blake3::hash(&[])),
            blocks if state.prefix != blocks => None,
            1 => state.single,
            _ => {
                let (mut right, rest) = state.stack.split_last().map(|(r, l)| (*r, l))?;
                let (first, middle) = rest.split_first()?;
                for left in middle.iter().rev() {
                    right = merge_subtrees_non_root(left, &right, Mode::Hash);
                }
                Some(merge_subtrees_root(first, &right, Mode::Hash))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::SLOT_LEN;

    /// Paints bytes with a period of 251, so that swapped blocks show.
    fn painted(len: usize) -> Vec<u8> {
        (0..=250).cycle().take(len).collect()
    }

    fn absorb_in(order: &[u64], bytes: &[u8]) -> Blake3Tree {
        let tree = Blake3Tree::new();
        for &index in order {
            let start = usize::try_from(index * BLOCK_LEN).unwrap();
            let end = bytes.len().min(start + SLOT_LEN);
            tree.absorb(index, &bytes[start..end]);
        }
        tree
    }

    #[test]
    fn the_empty_file_has_the_digest_of_nothing() {
        let digest = Blake3Tree::new().finish(0).unwrap();
        assert_eq!(
            digest.to_hex().as_str(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn every_order_gives_the_standard_digest() {
        let block = SLOT_LEN;
        for len in [
            1,
            1023,
            1024,
            1025,
            block - 1,
            block,
            block + 1,
            2 * block,
            2 * block + 1,
            3 * block,
            5 * block - 1,
            7 * block,
            8 * block,
            8 * block + 17,
        ] {
            let bytes = painted(len);
            let blocks: Vec<u64> = (0..block_count(len as u64)).collect();
            let mut reversed = blocks.clone();
            reversed.reverse();
            let mut interleaved: Vec<u64> = blocks.iter().copied().filter(|i| i % 2 == 1).collect();
            interleaved.extend(blocks.iter().copied().filter(|i| i % 2 == 0));
            let standard = blake3::hash(&bytes);
            for order in [blocks, reversed, interleaved] {
                let tree = absorb_in(&order, &bytes);
                assert_eq!(
                    tree.finish(len as u64),
                    Some(standard),
                    "{len} bytes, {order:?}"
                );
                assert_eq!(tree.ahead(), 0);
            }
        }
    }

    #[test]
    fn a_missing_block_gives_no_digest() {
        let bytes = painted(3 * SLOT_LEN);
        let tree = absorb_in(&[0, 2], &bytes);
        assert_eq!(tree.finish(bytes.len() as u64), None);
        assert_eq!(tree.ahead(), 1);
    }

    #[test]
    fn swapped_blocks_give_another_digest() {
        let bytes = painted(2 * SLOT_LEN);
        let tree = Blake3Tree::new();
        tree.absorb(0, &bytes[SLOT_LEN..]);
        tree.absorb(1, &bytes[..SLOT_LEN]);
        assert_ne!(tree.finish(bytes.len() as u64), Some(blake3::hash(&bytes)));
    }

    #[test]
    fn recorded_values_stand_for_the_blocks_they_are_of() {
        let len = 7 * SLOT_LEN + 5;
        let bytes = painted(len);
        let blocks: Vec<&[u8]> = bytes.chunks(SLOT_LEN).collect();
        for known in 0..=8 {
            let first = Blake3Tree::keeping();
            for (index, block) in (0..known).zip(&blocks) {
                first.absorb(index, block);
            }
            let (start, values) = first.take_values(known, 100);
            assert_eq!((start, values.len() as u64), (0, known));
            let second = Blake3Tree::keeping();
            for (index, value) in (0..).zip(&values) {
                assert_eq!(
                    *value,
                    block_value(index, blocks[usize::try_from(index).unwrap()])
                );
                second.absorb_value(*value);
            }
            for index in (known..8).rev() {
                second.absorb(index, blocks[usize::try_from(index).unwrap()]);
            }
            assert_eq!(second.finish(len as u64), Some(blake3::hash(&bytes)));
            assert_eq!(second.take_values(u64::MAX, 100).0, known);
        }
    }

    #[test]
    fn values_are_taken_once_and_only_without_gaps() {
        let bytes = painted(4 * SLOT_LEN);
        let tree = Blake3Tree::keeping();
        for index in [0, 1, 3] {
            let start = usize::try_from(index * BLOCK_LEN).unwrap();
            tree.absorb(index, &bytes[start..start + SLOT_LEN]);
        }
        assert_eq!(tree.prefix(), 2);
        assert_eq!(tree.take_values(1, 100).1.len(), 1);
        let (first, values) = tree.take_values(4, 100);
        assert_eq!((first, values.len()), (1, 1));
        tree.absorb(2, &bytes[2 * SLOT_LEN..3 * SLOT_LEN]);
        let (first, values) = tree.take_values(4, 1);
        assert_eq!((first, values.len()), (2, 1));
        assert_eq!(tree.take_values(4, 100).0, 3);
    }

    #[test]
    fn memory_stays_small_for_a_long_file_in_order() {
        let tree = Blake3Tree::new();
        let block = vec![7u8; SLOT_LEN];
        for index in 0..300 {
            tree.absorb(index, &block);
        }
        let state = tree.state.lock().unwrap();
        assert!(
            state.stack.len() <= 10,
            "one value for each bit of 300, plus lazy ones"
        );
    }
}
