//! How far writing and acknowledging have come: what the read-back follows, and keeps its distance
//! from.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::journal::Position;

/// How far acknowledging has come.
#[derive(Debug)]
struct Progress {
    /// Bytes of files acknowledged by this run.
    bytes: u64,
    /// Bytes of those written that had left memory when a batch was synced last.
    flushed: u64,
    /// Bytes written at the last acknowledgement.
    last_written: u64,
    /// Most bytes written between one acknowledgement and the next.
    batch_max: u64,
    /// What was acknowledged and not taken yet.
    acknowledged: VecDeque<Acknowledged>,
    /// Whether nothing more will be.
    ended: bool,
}

/// Files acknowledged together: what the read-back follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// Their records are before this.
    pub(crate) position: Position,
    /// How many bytes had been written by then: none of theirs was written later.
    pub(crate) written: u64,
}

/// What comes next for who follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Files, and the bytes written since their last one left memory.
    Of(Acknowledged, u64),
    /// The same, and nothing more is written.
    AtEnd(Acknowledged, u64),
    /// Nothing for now.
    NotYet,
    /// Nothing more.
    Never,
}

/// Most batches that are kept apart for who follows: a day's worth.
const ACKNOWLEDGED_MAX: usize = 1 << 16;

/// Bytes that may be on their way to being read: handed over together, and in buffers.
const SLACK: u64 = 128 << 20;
/// Most bytes of margin. A batch is closed at 1 GiB; one that is much larger holds a large file, of
/// which each byte has the others in between.
const MARGIN_MAX: u64 = 3 << 29;

impl Progress {
    fn add(&mut self, batch: Acknowledged) {
        if self.acknowledged.len() >= ACKNOWLEDGED_MAX {
            // Together with the last: that only makes the distance behind it look shorter.
            self.acknowledged.pop_back();
        }
        self.acknowledged.push_back(batch);
    }

    /// Returns the next batch if `distance` bytes and a margin were written behind it, or none will
    /// be.
    ///
    /// The margin is for the end, when what is left is read in the same order and takes the place
    /// of what is no longer written: what is acknowledged together has no distance within itself.
    fn turn(&self, distance: u64) -> Turn {
        let Some(&next) = self.acknowledged.front() else {
            return if self.ended {
                Turn::Never
            } else {
                Turn::NotYet
            };
        };
        let behind = self.flushed.saturating_sub(next.written);
        if self.ended {
            Turn::AtEnd(next, behind)
        } else if behind >= distance + (self.batch_max + SLACK).min(MARGIN_MAX) {
            Turn::Of(next, behind)
        } else {
            Turn::NotYet
        }
    }
}

/// The pace of a run.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes that were really written to the target's files by this run.
    written: AtomicU64,
    progress: Mutex<Progress>,
    moved: Condvar,
}

impl Pace {
    /// Returns that of a run whose journal is at `position`.
    pub(crate) fn new(position: Position) -> Self {
        // What earlier runs acknowledged is in front of everything.
        let earlier_files = Acknowledged {
            position,
            written: 0,
        };
        let progress = Progress {
            bytes: 0,
            flushed: 0,
            last_written: 0,
            batch_max: 0,
            acknowledged: VecDeque::from([earlier_files]),
            ended: false,
        };
        Self {
            written: AtomicU64::new(0),
            progress: Mutex::new(progress),
            moved: Condvar::new(),
        }
    }

    /// Notes that a batch of files with `bytes` bytes is acknowledged, whose records are before
    /// `position`. `flushed` is what [`written`](Self::written) was when its sync began, if that
    /// succeeded.
    pub(crate) fn acknowledge(&self, position: Position, bytes: u64, flushed: Option<u64>) {
        let mut progress = self.progress();
        progress.bytes += bytes;
        progress.flushed = flushed.unwrap_or(progress.flushed);
        let written = self.written();
        let before = std::mem::replace(&mut progress.last_written, written);
        progress.batch_max = progress.batch_max.max(written.saturating_sub(before));
        progress.add(Acknowledged { position, written });
        self.moved.notify_all();
    }

    /// Counts bytes that the target has taken.
    pub(crate) fn count_written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Relaxed);
    }

    /// Returns how many bytes were written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Says that nothing more will be acknowledged.
    pub(crate) fn set_ended(&self) {
        self.progress().ended = true;
        self.moved.notify_all();
    }

    /// Returns the bytes of files that this run acknowledged.
    pub(crate) fn bytes_acknowledged(&self) -> u64 {
        self.progress().bytes
    }

    /// Takes the next batch behind which `distance` bytes and a margin were written, or any in the
    /// end. Waits for it a tenth of a second.
    pub(crate) fn take_turn(&self, distance: u64) -> Turn {
        let tenth = std::time::Duration::from_millis(100);
        let waiting = |progress: &mut Progress| progress.turn(distance) == Turn::NotYet;
        let (mut progress, _) = self
            .moved
            .wait_timeout_while(self.progress(), tenth, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        let turn = progress.turn(distance);
        if matches!(turn, Turn::Of(..) | Turn::AtEnd(..)) {
            progress.acknowledged.pop_front();
        }
        turn
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_behind_a_batch_is_its_distance() {
        let position = |len| Position { segment: 1, len };
        let batch = |len, written| Acknowledged {
            position: position(len),
            written,
        };
        let (mib, far) = (|count: u64| count << 20, 60 << 20);
        let pace = Pace::new(position(10));
        pace.count_written(mib(100));
        pace.acknowledge(position(20), 5000, Some(0));
        assert_eq!(pace.take_turn(far), Turn::NotYet, "none has left memory");
        pace.count_written(mib(70));
        pace.acknowledge(position(30), 0, Some(mib(100)));
        assert_eq!(pace.take_turn(far), Turn::NotYet, "no margin: 100 + 128");
        pace.count_written(mib(200));
        pace.acknowledge(position(40), 0, Some(mib(170)));
        pace.count_written(mib(30));
        pace.acknowledge(position(50), 0, None);
        assert_eq!(pace.take_turn(far), Turn::NotYet, "a sync failed");
        pace.count_written(mib(100));
        // The largest batch is of 200 now: 60 + 200 + 128.
        pace.acknowledge(position(60), 0, Some(mib(387)));
        assert_eq!(pace.take_turn(far), Turn::NotYet);
        pace.acknowledge(position(70), 0, Some(mib(388)));
        assert_eq!(pace.take_turn(far), Turn::Of(batch(10, 0), mib(388)));
        assert_eq!(pace.take_turn(far), Turn::NotYet, "written along with it");
        pace.set_ended();
        let end = |at, written, behind| {
            let expected = Turn::AtEnd(batch(at, mib(written)), mib(behind));
            assert_eq!(pace.take_turn(far), expected);
        };
        end(20, 100, 288);
        end(30, 170, 218);
        end(40, 370, 18);
        end(50, 400, 0);
        end(60, 500, 0);
        end(70, 500, 0);
        assert_eq!(pace.take_turn(far), Turn::Never);
        assert_eq!(pace.bytes_acknowledged(), 5000);
    }
}
