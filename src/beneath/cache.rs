//! Directory descriptors kept for reuse.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::open::open_dir;

/// The directories below one root that one thread used last.
///
/// Descriptors are `O_PATH`: good for `*at` calls, not for listing or fsync. A descriptor stays
/// with its directory when that is renamed; call [`DirCache::forget`] after renaming or removing.
/// Every miss starts at the root again, so what is handed out was below the root when opened,
/// even if a cached parent has been moved away since.
#[derive(Debug)]
pub struct DirCache {
    root: Arc<OwnedFd>,
    capacity: usize,
    clock: u64,
    slots: HashMap<Box<[u8]>, Slot>,
}

#[derive(Debug)]
struct Slot {
    dir: Arc<OwnedFd>,
    used: u64,
}

impl DirCache {
    /// Returns an empty cache that keeps at most `capacity` descriptors beside the root's.
    pub fn new(root: Arc<OwnedFd>, capacity: usize) -> Self {
        Self {
            root,
            capacity,
            clock: 0,
            slots: HashMap::new(),
        }
    }

    /// Returns the directory at `path` below the root; empty is the root itself.
    ///
    /// # Errors
    /// As [`open_dir`]. Failures are not remembered.
    pub fn get(&mut self, path: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        self.clock += 1;
        if let Some(slot) = self.slots.get_mut(path) {
            slot.used = self.clock;
            return Ok(Arc::clone(&slot.dir));
        }
        let dir = Arc::new(open_dir(self.root.as_fd(), path)?);
        if self.capacity > 0 {
            if self.slots.len() >= self.capacity {
                self.drop_oldest();
            }
            let slot = Slot {
                dir: Arc::clone(&dir),
                used: self.clock,
            };
            self.slots.insert(path.into(), slot);
        }
        Ok(dir)
    }

    /// Forgets `path` and everything below it; empty forgets all.
    pub fn forget(&mut self, path: &[u8]) {
        self.slots.retain(|key, _| !is_within(key, path));
    }

    /// Returns how many descriptors are kept, the root's not counted.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns whether no descriptor but the root's is kept.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn drop_oldest(&mut self) {
        // A scan of the few hundred slots there are costs less than the openat2 that follows.
        let oldest = self.slots.values().map(|slot| slot.used).min();
        self.slots.retain(|_, slot| Some(slot.used) != oldest);
    }
}

/// Returns whether `path` is `top` or below it. `ab` is not below `a`.
fn is_within(path: &[u8], top: &[u8]) -> bool {
    match path.strip_prefix(top) {
        Some(rest) => top.is_empty() || rest.is_empty() || rest.first() == Some(&b'/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_within;

    #[test]
    fn a_longer_name_is_not_below_a_shorter_one() {
        assert!(is_within(b"a", b"a"));
        assert!(is_within(b"a/b", b"a"));
        assert!(is_within(b"a", b""));
        assert!(!is_within(b"ab", b"a"));
        assert!(!is_within(b"a", b"a/b"));
    }
}
