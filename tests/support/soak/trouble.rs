//! What can happen to a run.

use std::time::Duration;

use super::Job;
use crate::drive::Fate;
use crate::support::dice::Dice;

/// Something that happens, and when: in microseconds after the start, or at which request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    Kill(u64),
    /// It is killed when it passes a point for the N-th time, and then power goes, or does not.
    KillAt(&'static str, u64, bool),
    Stop(u64),
    PowerCut(u64),
    /// The N-th flush of the target fails.
    FlushFails(u64),
    /// The N-th write to the target fails.
    WriteFails(u64),
    TargetDies(u64),
    TargetHangs(u64),
    /// Every request takes so many microseconds longer.
    Slow(u64),
    /// A place of the source cannot be read so often: always, if that is 0.
    BadSpot(u64, u32),
    SourceDies(u64),
}

impl Trouble {
    /// Chooses one.
    pub(super) fn roll(dice: &mut Dice, has_drive: bool, has_cache: bool) -> Self {
        // Most runs take a tenth of a second, some with slow drives and limits much longer.
        let when = match dice.below(4) {
            0 => dice.below(500_000),
            1 => dice.below(40_000),
            _ => dice.below(120_000),
        };
        loop {
            match dice.below(15) {
                0 => return Self::None,
                1 | 2 => return Self::Kill(when),
                12..15 => {
                    let points = inhaul::seam::POINTS;
                    let point = points[dice.index(points.len())];
                    return Self::KillAt(point, 1 + dice.below(6), has_cache && dice.coin());
                }
                3 => return Self::Stop(when),
                4 | 5 if has_cache => return Self::PowerCut(when),
                6 => return Self::FlushFails(dice.below(30)),
                7 => return Self::WriteFails(dice.below(80)),
                8 => return Self::TargetDies(when),
                9 if dice.coin() => return Self::TargetHangs(when),
                9 => return Self::Slow(dice.below(3_000)),
                10 if has_drive => {
                    let times = [0, 1, 2, 20][dice.index(4)];
                    return Self::BadSpot(dice.below(64 << 20) & !0xfff, times);
                }
                11 if has_drive => return Self::SourceDies(when),
                _ => {}
            }
        }
    }

    /// Returns one word for it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill(_) => "kill",
            Self::KillAt(.., false) => "kill-at",
            Self::KillAt(.., true) => "power-cut-at",
            Self::Stop(_) => "stop",
            Self::PowerCut(_) => "power-cut",
            Self::FlushFails(_) => "flush-fails",
            Self::WriteFails(_) => "write-fails",
            Self::TargetDies(_) => "target-dies",
            Self::TargetHangs(_) => "target-hangs",
            Self::Slow(_) => "slow",
            Self::BadSpot(..) => "bad-spot",
            Self::SourceDies(_) => "source-dies",
        }
    }

    /// Prepares the drives for it.
    pub(super) fn set(&self, job: &Job) {
        match *self {
            Self::FlushFails(after) => job.target().fail_flushes(after, 1),
            Self::WriteFails(number) => {
                let mut left = number;
                job.target().judge_writes(move |_| {
                    left = left.wrapping_sub(1);
                    if left == u64::MAX {
                        Fate::Failed
                    } else {
                        Fate::Stored
                    }
                });
            }
            Self::Slow(micros) => job.target().set_delay(Duration::from_micros(micros)),
            Self::BadSpot(at, times) => {
                let drive = job.source_drive().unwrap();
                if times == 0 {
                    drive.fail_reads(at..at + 4096);
                } else {
                    drive.weaken(at..at + 4096, times);
                }
            }
            _ => {}
        }
    }
}
