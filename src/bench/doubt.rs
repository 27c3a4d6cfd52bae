//! Why a figure may be wrong: a word and numbers for programs, a sentence for people. What is doubted
//! is shown all the same; it is not remembered of a drive, and some of it is held against nothing.

use serde::{Deserialize, Serialize};

use super::report::{Report, Subject};
use super::words::percent;

/// More than this share of blocks full of zeros is said, in percent.
pub(super) const ZEROS_TOLD: u64 = 5;

/// From this share on, in percent, a figure says less of the drive than of its answers to what was never
/// written.
const ZEROS_MOST: u64 = 50;

/// What held processors back for less than this share of their time is no doubt of a drive's rate:
/// samples count as steady when they differ by more.
const HELD_BACK: f64 = 0.10;

/// Why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum Doubt {
    /// Much of what was read was zeros.
    Zeros {
        /// How much.
        percent: u64,
    },
    /// The same bytes were read more than once.
    ReadAgain,
    /// Little can be read before it is read again.
    SmallSpan {
        /// How much.
        bytes: u64,
    },
    /// Some of it was not dropped from the page cache.
    PageCache,
    /// The same, when others were read as well.
    PageCacheBeside,
    /// Its file system does not say whether all of it was dropped.
    PageCacheUnknown,
    /// A loop device reads its image through the page cache.
    ImageCached {
        /// Which one, of several drives.
        drive: Option<String>,
    },
    /// The image of a loop device has holes.
    ImageHoles {
        /// Which one, of several drives.
        drive: Option<String>,
    },
    /// It is memory that looks like a drive.
    MemoryDrive {
        /// Which one, of several drives.
        drive: Option<String>,
    },
    /// It is a ZFS volume.
    ZfsVolume {
        /// Which one, of several drives.
        drive: Option<String>,
    },
    /// A control group held this process back.
    Limited {
        /// How often.
        times: u64,
        /// For how long in all.
        seconds: f64,
        /// Of the time that was measured, 0 to 1.
        #[serde(default)]
        share: Option<f64>,
    },
    /// Processors were slowed down by heat.
    Hot {
        /// How often.
        times: u64,
        /// Of their time, 0 to 1; `None` where the kernel does not say.
        #[serde(default)]
        share: Option<f64>,
    },
    /// Other guests of the host had processors meanwhile.
    Stolen {
        /// Of their time, 0 to 1.
        share: f64,
    },
    /// Processors stay at their lowest frequency.
    PowerSaving {
        /// What sets it.
        driver: String,
    },
    /// Processors may not go as fast as they can.
    Slowed {
        /// How fast they may go.
        mhz: u32,
        /// How fast they can go.
        mhz_max: u32,
    },
    /// One that a later version knows.
    #[serde(other)]
    Other,
}

impl Doubt {
    /// Returns whether memory may have answered what was read of it alone, once and not another time:
    /// such a figure cannot be held against another.
    pub(super) fn is_of_memory(&self) -> bool {
        matches!(
            self,
            Self::PageCache | Self::ImageCached { .. } | Self::ZfsVolume { .. } | Self::Other
        )
    }

    /// Returns whether what a whole drive gave alone may be another rate than the drive's. One that is
    /// smaller than caches are is so whenever it is measured; and a drive with zeros is held against one
    /// with as many.
    fn touches_drive(&self) -> bool {
        !matches!(
            self,
            Self::SmallSpan { .. } | Self::PageCacheBeside | Self::Zeros { .. }
        )
    }

    /// Returns whether what all drives gave may be another rate than theirs. A few of a hundred moments
    /// that processors were held back are lost in what samples differ by. A setting makes every bench
    /// give the same.
    fn touches_all(&self) -> bool {
        match self {
            Self::Stolen { share } => *share >= HELD_BACK,
            Self::Limited { share, .. } | Self::Hot { share, .. } => {
                share.is_none_or(|share| share >= HELD_BACK)
            }
            _ => !self.is_setting(),
        }
    }

    fn is_setting(&self) -> bool {
        matches!(self, Self::PowerSaving { .. } | Self::Slowed { .. })
    }

    /// Returns the sentence.
    pub(super) fn text(&self) -> String {
        let it = |drive: &Option<String>| drive.clone().unwrap_or_else(|| "it".to_owned());
        match self {
            Self::Zeros { percent } => format!(
                "{percent}% of what was read is zeros: where nothing was ever written, a drive may \
                 answer without reading"
            ),
            Self::ReadAgain => {
                "the same bytes were read more than once: a cache of a controller or of \
                                a host that is large enough may have answered"
                    .to_owned()
            }
            Self::SmallSpan { bytes } => format!(
                "only {} MB can be read before they are read again: a cache in the drive or its \
                 controller may have answered",
                bytes / 1_000_000
            ),
            Self::PageCache => {
                "some of it stayed in the page cache, which may have answered: the rate \
                                may be that of memory"
                    .to_owned()
            }
            Self::PageCacheBeside => {
                "beside others, some of it stayed in the page cache, which may \
                                      have answered: that rate may be that of memory"
                    .to_owned()
            }
            Self::PageCacheUnknown => {
                "its file system does not say whether all of it was dropped from the \
                                       page cache: the rate may be that of memory"
                    .to_owned()
            }
            Self::ImageCached { drive } => format!(
                "{} reads its image through the page cache: what is measured may be memory; attach it \
                 with 'losetup --direct-io=on'",
                it(drive)
            ),
            Self::ImageHoles { drive } => {
                let its = drive.as_ref();
                let its = its.map_or("its image".to_owned(), |name| {
                    format!("the image of {name}")
                });
                format!("{its} has holes: reading those asks no drive")
            }
            Self::MemoryDrive { drive } => format!(
                "{} is memory, not a drive: the rate is that of memory",
                it(drive)
            ),
            Self::ZfsVolume { drive } => format!(
                "{} is a ZFS volume: what was read of it lately, ZFS answers from memory, whoever asks \
                 past the page cache; the rate may be that of memory",
                it(drive)
            ),
            Self::Limited { times, seconds, .. } => format!(
                "processor time is limited by a control group, which held this process back {times} \
                 times, {seconds:.1} s in all: rates may be those of the limit"
            ),
            Self::Hot { times, .. } => format!(
                "processors got too hot and were slowed down ({times} times counted): rates may be too \
                 low"
            ),
            Self::Stolen { share } => format!(
                "other guests of this machine's host took {} of the processors' time: rates may be too \
                 low",
                percent(*share)
            ),
            Self::PowerSaving { driver } => format!(
                "processors stay at their lowest frequency (governor powersave of {driver}): rates may \
                 be too low; set the governor to performance"
            ),
            Self::Slowed { mhz, mhz_max } => format!(
                "processors may go up to {mhz} MHz of {mhz_max} (scaling_max_freq): rates may be too \
                 low"
            ),
            Self::Other => {
                "its figures are in doubt, for a reason that this inhaul does not know".to_owned()
            }
        }
    }
}

impl Subject {
    /// Adds a doubt, for programs and for people; one that is there already is not said again.
    pub(super) fn doubt(&mut self, doubt: Doubt) {
        if !self.doubts.contains(&doubt) {
            self.warnings.push(doubt.text());
            self.doubts.push(doubt);
        }
    }

    /// Returns how much of what was read is zeros that a drive may have answered without reading, in
    /// percent; 0 where it is too little to be told of.
    pub(super) fn zeros(&self) -> u64 {
        let share = |doubt: &Doubt| match doubt {
            Doubt::Zeros { percent } => Some(*percent),
            _ => None,
        };
        self.doubts.iter().find_map(share).unwrap_or(0)
    }

    /// Returns whether that is most of it, on a drive that does not spin.
    pub fn is_mostly_unread(&self) -> bool {
        let spins = self.drives.iter().all(|it| it.rotational == Some(true));
        self.zeros() >= ZEROS_MOST && !spins
    }
}

impl Report {
    /// Adds doubts that touch every figure, for programs and for people.
    pub(super) fn doubt(&mut self, doubts: Vec<Doubt>) {
        self.warnings.extend(doubts.iter().map(Doubt::text));
        self.doubts.extend(doubts);
    }

    /// Returns whether what a whole drive gave alone in this bench may be another rate than the drive's.
    pub fn is_in_doubt(&self, subject: &Subject) -> bool {
        let own = subject.doubts.iter().any(Doubt::touches_drive);
        let all = self.doubts_alone.as_ref().unwrap_or(&self.doubts);
        own || all.iter().any(Doubt::touches_all)
    }

    /// Returns whether processors might go as fast in the one bench as in the other.
    pub fn is_set_like(&self, other: &Self) -> bool {
        let settings = |report: &Self| -> Vec<Doubt> {
            let doubts = report.doubts.iter();
            doubts.filter(|it| it.is_setting()).cloned().collect()
        };
        settings(self) == settings(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_is_a_word_with_numbers_and_a_sentence() {
        let mut subject = Subject::default();
        for _ in 0..2 {
            subject.doubt(Doubt::Zeros { percent: 97 });
            subject.doubt(Doubt::ReadAgain);
        }
        let text = serde_json::to_string(&subject.doubts).unwrap();
        let expected = r#"[{"about":"zeros","percent":97},{"about":"read-again"}]"#;
        assert_eq!(text, expected);
        let read: Vec<Doubt> = serde_json::from_str(expected).unwrap();
        assert_eq!(read, subject.doubts);
        assert!(subject.warnings[0].starts_with("97% of what was read is zeros: "));
        assert_eq!(subject.warnings.len(), 2);
    }

    #[test]
    fn a_doubt_of_a_later_version_is_one() {
        let report = r#"[{"about":"moonlight","lux":0.1}]"#;
        let doubts: Vec<Doubt> = serde_json::from_str(report).unwrap();
        assert_eq!(doubts, [Doubt::Other]);
        let subject = Subject {
            doubts,
            ..Subject::default()
        };
        assert!(Report::default().is_in_doubt(&subject));
    }

    fn touches(doubt: Doubt) -> bool {
        let report = Report {
            doubts: vec![doubt],
            ..Report::default()
        };
        report.is_in_doubt(&Subject::default())
    }

    #[test]
    fn a_drive_is_not_in_doubt_for_a_moment_that_processors_were_held_back() {
        let limited = |share| Doubt::Limited {
            times: 1,
            seconds: 1.0,
            share,
        };
        let hot = |share| Doubt::Hot { times: 1, share };
        assert!(!touches(Doubt::Stolen { share: 0.05 }));
        assert!(touches(Doubt::Stolen { share: 0.15 }));
        for (share, is_in_doubt) in [(Some(0.05), false), (Some(0.15), true), (None, true)] {
            assert_eq!(touches(limited(share)), is_in_doubt, "{share:?}");
            assert_eq!(touches(hot(share)), is_in_doubt, "{share:?}");
        }
    }

    #[test]
    fn a_setting_is_no_doubt_of_a_drive() {
        let driver = "acpi-cpufreq".to_owned();
        assert!(!touches(Doubt::PowerSaving { driver }));
        let slowed = Doubt::Slowed {
            mhz: 2000,
            mhz_max: 3500,
        };
        assert!(!touches(slowed));
    }

    #[test]
    fn what_came_after_a_drive_was_read_alone_is_no_doubt_of_it() {
        let mut report = Report {
            doubts: vec![Doubt::Stolen { share: 0.5 }],
            doubts_alone: Some(Vec::new()),
            ..Report::default()
        };
        assert!(!report.is_in_doubt(&Subject::default()));
        report.doubts_alone = Some(report.doubts.clone());
        assert!(report.is_in_doubt(&Subject::default()));
    }
}
