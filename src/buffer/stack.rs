//! The free slots of a lane. The one used last is on top: what is in use stays in the caches of the
//! processor, and what is not needed is never touched.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A stack of slot numbers with room for all of them.
#[derive(Debug)]
pub(super) struct Stack {
    free: Mutex<Vec<usize>>,
    total: usize,
}

impl Stack {
    /// Returns all of these, the lowest on top.
    pub(super) fn new(slots: Range<usize>) -> Self {
        Self {
            total: slots.len(),
            free: Mutex::new(slots.rev().collect()),
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the one on top.
    pub(super) fn pop(&self) -> Option<usize> {
        self.free().pop()
    }

    /// Puts one back.
    pub(super) fn push(&self, slot: usize) {
        let mut free = self.free();
        debug_assert!(!free.contains(&slot), "a slot came back twice");
        free.push(slot);
    }

    /// Returns how many are free.
    pub(super) fn len(&self) -> usize {
        self.free().len()
    }

    /// Returns how many there are, free or not.
    pub(super) fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_back_last_is_taken_first() {
        let stack = Stack::new(4..7);
        assert_eq!((stack.len(), stack.total()), (3, 3));
        assert_eq!([stack.pop(), stack.pop()], [Some(4), Some(5)]);
        stack.push(4);
        assert_eq!(stack.len(), 2);
        assert_eq!(
            [stack.pop(), stack.pop(), stack.pop()],
            [Some(4), Some(6), None]
        );
    }
}
