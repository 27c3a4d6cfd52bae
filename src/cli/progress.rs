//! Counters into rows: how far each lane is, how fast, how long it will take.
//!
//! Pure but for reading the counters: time comes in as an argument.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::escape::escape_path;
use crate::engine::telemetry::{Health, LaneState, LaneView, Telemetry};

/// The rate shown is that of the last 5 s: short enough to see a stall, long enough to be read.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// The time left is reckoned with the last 30 s, so that it does not jump with every big file.
const ETA_WINDOW: Duration = Duration::from_secs(30);
/// Below this much history there is no rate: the first reads say nothing.
const RATE_AFTER: Duration = Duration::from_millis(900);

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Total {
    /// The scan has not ended and there is no estimate.
    Unknown,
    /// The scan has not ended; so many bytes are expected.
    Estimate(u64),
    /// The scan has ended.
    Exact(u64),
}

impl Total {
    /// Returns the bytes, if there is any number.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Self::Unknown => None,
            Self::Estimate(bytes) | Self::Exact(bytes) => Some(bytes),
        }
    }

    /// Returns the total of two lanes: as sure as the less sure of them.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Exact(a), Self::Exact(b)) => Self::Exact(a.saturating_add(b)),
            (Self::Estimate(a), Self::Estimate(b) | Self::Exact(b))
            | (Self::Exact(a), Self::Estimate(b)) => Self::Estimate(a.saturating_add(b)),
        }
    }
}

/// One lane, or all of them, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Short name, safe to print.
    pub name: String,
    /// The sources, safe to print.
    pub sources: String,
    /// What it is doing.
    pub state: LaneState,
    /// How the drive fares; for the total, the worst of them.
    pub health: Health,
    /// Bytes that need no more reading: read, left alone, or given up.
    pub done: u64,
    /// Bytes in all.
    pub total: Total,
    /// Bytes of files that are durable.
    pub durable: u64,
    /// Files that are durable.
    pub files: u64,
    /// Things not copied.
    pub problems: u64,
    /// Bytes a second, recently; for a lane that has ended, over its life. `None` when too early.
    pub rate: Option<u64>,
    /// Time left; `None` when unknown or over.
    pub left: Option<Duration>,
    /// When the lane moved its last byte, as time since the run began.
    pub ended: Option<Duration>,
}

impl Row {
    /// Returns whether nothing more will happen in the lane.
    pub fn is_over(&self) -> bool {
        matches!(self.state, LaneState::Done | LaneState::Failed)
    }

    /// Returns whole per cent done, rounded down; 100 only when all is. `None` when unknown.
    pub fn percent(&self) -> Option<u64> {
        let total = self.total.bytes()?;
        if total == 0 {
            return (self.state == LaneState::Done).then_some(100);
        }
        u64::try_from(u128::from(self.done) * 100 / u128::from(total)).ok()
    }

    /// Returns bytes still to read, as far as known.
    pub fn remaining(&self) -> Option<u64> {
        Some(self.total.bytes()?.saturating_sub(self.done))
    }
}

/// All rows at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Time since the run began.
    pub elapsed: Duration,
    /// One for each lane, in lane order.
    pub lanes: Vec<Row>,
    /// All of them together; its name is `total`.
    pub total: Row,
    /// Lanes that read again what was copied; not in the total.
    pub again: Vec<Row>,
}

/// Bytes read at some moments of the last half minute.
#[derive(Debug, Default)]
struct Meter {
    samples: VecDeque<(Duration, u64)>,
}

impl Meter {
    fn add(&mut self, now: Duration, bytes: u64) {
        self.samples.push_back((now, bytes));
        // One sample older than the window is kept: it is where the window begins.
        while let Some((second, _)) = self.samples.get(1)
            && now.saturating_sub(*second) >= ETA_WINDOW
        {
            self.samples.pop_front();
        }
    }

    /// Returns bytes a second over the last `window`, or over all there is of it.
    fn rate(&self, window: Duration) -> Option<u64> {
        let (now, newest) = *self.samples.back()?;
        let begin = self
            .samples
            .iter()
            .rev()
            .find(|(at, _)| now.saturating_sub(*at) >= window)
            .or_else(|| self.samples.front())?;
        let time = now.saturating_sub(begin.0);
        (time >= RATE_AFTER).then(|| per_second(newest.saturating_sub(begin.1), time))
    }
}

/// Keeps what rates need between two looks at the counters.
#[derive(Debug, Default)]
pub struct Tracker {
    lanes: Vec<Meter>,
    total: Meter,
    again: Vec<Meter>,
}

impl Tracker {
    /// Reads all counters; `now` is the time since the run began and never goes back.
    pub fn look(&mut self, telemetry: &Telemetry, now: Duration) -> View {
        let (lanes, read_in_all) = rows(telemetry.lanes.iter(), &mut self.lanes, now);
        self.total.add(now, read_in_all);
        let total = sum(&lanes, now, read_in_all, &self.total);
        let groups = telemetry.again();
        let further = groups.iter().flat_map(|group| &group.lanes);
        let (again, _) = rows(further, &mut self.again, now);
        View {
            elapsed: now,
            lanes,
            total,
            again,
        }
    }
}

/// Returns a row for each lane, and the bytes they have read in all. Each keeps its meter.
fn rows<'a>(
    lanes: impl Iterator<Item = &'a Arc<LaneView>>,
    meters: &mut Vec<Meter>,
    now: Duration,
) -> (Vec<Row>, u64) {
    let mut read_in_all: u64 = 0;
    let mut rows = Vec::new();
    for (number, lane) in lanes.enumerate() {
        if meters.len() <= number {
            meters.push(Meter::default());
        }
        let Some(meter) = meters.get_mut(number) else {
            break;
        };
        let read = lane.counters.bytes_read.load(Relaxed);
        read_in_all = read_in_all.saturating_add(read);
        meter.add(now, read);
        rows.push(row(lane, read, meter));
    }
    (rows, read_in_all)
}

fn row(lane: &LaneView, read: u64, meter: &Meter) -> Row {
    let counters = &lane.counters;
    let state = counters.state();
    let found = counters.bytes_found.load(Relaxed);
    let expected = counters.bytes_expected.load(Relaxed);
    let total = if counters.scan_ended.load(Relaxed) {
        Total::Exact(found)
    } else if expected > 0 {
        Total::Estimate(expected.max(found))
    } else {
        Total::Unknown
    };
    let handled = read
        .saturating_add(counters.bytes_skipped.load(Relaxed))
        .saturating_add(counters.bytes_kept.load(Relaxed))
        .saturating_add(counters.bytes_failed.load(Relaxed));
    // A file that failed half-way counts as read and as given up: cap it.
    let done = total.bytes().map_or(handled, |bytes| handled.min(bytes));
    let ended = counters.ended();
    let over = matches!(state, LaneState::Done | LaneState::Failed);
    let rate = match (over, ended) {
        (true, Some(time)) => Some(per_second(read, time)),
        (true, None) => None,
        (false, _) => meter.rate(RATE_WINDOW),
    };
    let mut row = Row {
        name: escape_path(std::path::Path::new(&lane.name)),
        sources: sources(lane),
        state,
        health: counters.health(),
        done,
        total,
        durable: counters.bytes_done.load(Relaxed),
        files: counters.files_done.load(Relaxed),
        problems: counters.problems.load(Relaxed),
        rate,
        left: None,
        ended,
    };
    if !over && let Some(remaining) = row.remaining() {
        let known = counters.known().map(|known| known.rate);
        row.left = time_for(remaining, meter.rate(ETA_WINDOW).or(known));
    }
    row
}

fn sources(lane: &LaneView) -> String {
    let escaped: Vec<String> = lane.sources.iter().map(|s| escape_path(s)).collect();
    escaped.join(", ")
}

fn sum(rows: &[Row], now: Duration, read: u64, meter: &Meter) -> Row {
    let state = |state: LaneState| rows.iter().any(|row| row.state == state);
    let all = |pick: fn(&Row) -> u64| rows.iter().map(pick).fold(0, u64::saturating_add);
    let running = rows.iter().filter(|row| !row.is_over());
    let over = rows.iter().all(Row::is_over);
    Row {
        name: "total".to_owned(),
        sources: String::new(),
        state: if state(LaneState::Running) || state(LaneState::Waiting) {
            LaneState::Running
        } else if state(LaneState::Finishing) {
            LaneState::Finishing
        } else if state(LaneState::Failed) {
            LaneState::Failed
        } else {
            LaneState::Done
        },
        health: worst(rows),
        done: all(|row| row.done),
        total: rows
            .iter()
            .map(|row| row.total)
            .fold(Total::Exact(0), Total::plus),
        durable: all(|row| row.durable),
        files: all(|row| row.files),
        problems: all(|row| row.problems),
        rate: if over {
            let last = rows.iter().filter_map(|row| row.ended).max();
            Some(per_second(read, last.unwrap_or(now)))
        } else {
            meter.rate(RATE_WINDOW)
        },
        // The run ends with its slowest lane; if one cannot say, neither can the whole.
        left: running
            .map(|row| row.left)
            .reduce(|a, b| Some(a?.max(b?)))
            .flatten(),
        ended: if over { Some(now) } else { None },
    }
}

fn worst(rows: &[Row]) -> Health {
    let all = [Health::Gone, Health::Quarantined, Health::Suspect];
    let is = |health: &Health| rows.iter().any(|row| row.health == *health);
    all.into_iter().find(is).unwrap_or(Health::Ok)
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let nanos = time.as_nanos().max(1);
    u64::try_from(u128::from(bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

fn time_for(bytes: u64, rate: Option<u64>) -> Option<Duration> {
    match (bytes, rate?) {
        (0, _) => Some(Duration::ZERO),
        (_, 0) => None,
        (bytes, rate) => Some(Duration::from_secs(bytes.div_ceil(rate))),
    }
}

/// Returns how many rows are in each state, as in `38 running, 3 done`; most urgent first.
pub fn states<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let order = [
        LaneState::Failed,
        LaneState::Running,
        LaneState::Finishing,
        LaneState::Waiting,
        LaneState::Done,
    ];
    let mut counts = [0_u64; 5];
    for row in rows {
        for (count, state) in counts.iter_mut().zip(order) {
            *count += u64::from(row.state == state);
        }
    }
    let parts: Vec<String> = counts
        .into_iter()
        .zip(order)
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {}", state.word()))
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::job::KnownDrive;

    fn telemetry(names: &[&str]) -> Telemetry {
        let lane = |name: &&str| LaneView {
            name: (*name).to_owned(),
            sources: vec![format!("/mnt/{name}").into()],
            counters: crate::engine::telemetry::LaneCounters::default(),
        };
        Telemetry::new(names.iter().map(lane).collect())
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn rate_is_of_the_last_five_seconds() {
        let all = telemetry(&["sda"]);
        let counters = &all.lanes[0].counters;
        counters.set_state(LaneState::Running);
        counters.bytes_found.store(100_000, Relaxed);
        counters.scan_ended.store(true, Relaxed);
        let mut tracker = Tracker::default();
        assert_eq!(tracker.look(&all, at(0)).total.rate, None, "too early");
        // 1000 B/s for 10 s, then 200 B/s for 5 s.
        for second in 1..=10 {
            counters.bytes_read.store(second * 1000, Relaxed);
            tracker.look(&all, at(second * 1000));
        }
        assert_eq!(tracker.look(&all, at(10_000)).lanes[0].rate, Some(1000));
        for second in 1..=5 {
            counters.bytes_read.store(10_000 + second * 200, Relaxed);
            tracker.look(&all, at(10_000 + second * 1000));
        }
        let view = tracker.look(&all, at(15_000));
        assert_eq!(view.lanes[0].rate, Some(200));
        assert_eq!(view.total.rate, Some(200));
        // 11,000 bytes in 15 s are 733 B/s; 89,000 bytes are left.
        assert_eq!(view.lanes[0].left, Some(Duration::from_secs(122)));
        assert_eq!(view.lanes[0].percent(), Some(11));
        assert_eq!(view.lanes[0].sources, "/mnt/sda");
    }

    #[test]
    fn lanes_that_read_again_are_shown_and_not_summed() {
        let all = telemetry(&["sda"]);
        let back = Arc::new(telemetry(&["read back"]));
        let counters = &back.lanes[0].counters;
        counters.set_state(LaneState::Running);
        counters.bytes_expected.store(5000, Relaxed);
        let mut tracker = Tracker::default();
        assert_eq!(tracker.look(&all, at(0)).again, Vec::new());
        all.add_again(&back);
        tracker.look(&all, at(1000));
        counters.bytes_read.store(2000, Relaxed);
        let view = tracker.look(&all, at(2000));
        assert_eq!(view.again.len(), 1);
        assert_eq!(view.again[0].name, "read back");
        assert_eq!(view.again[0].rate, Some(2000));
        assert_eq!(view.again[0].percent(), Some(40));
        assert_eq!((view.total.done, view.total.rate), (0, Some(0)));
    }

    #[test]
    fn a_drive_that_was_measured_has_an_end_in_sight_at_once() {
        let all = telemetry(&["sda", "sdb"]);
        for lane in &all.lanes {
            lane.counters.set_state(LaneState::Running);
            lane.counters.bytes_expected.store(1000, Relaxed);
        }
        let known = KnownDrive {
            rate: 50,
            size: 1,
            queue: 4 << 20,
        };
        all.lanes[0].counters.set_known(known);
        let view = Tracker::default().look(&all, at(0));
        assert_eq!(view.lanes[0].left, Some(Duration::from_secs(20)));
        assert_eq!(view.lanes[1].left, None);
    }

    #[test]
    fn a_stall_has_no_end_in_sight() {
        let all = telemetry(&["sda", "sdb"]);
        for lane in &all.lanes {
            lane.counters.set_state(LaneState::Running);
            lane.counters.bytes_found.store(1000, Relaxed);
            lane.counters.scan_ended.store(true, Relaxed);
        }
        let mut tracker = Tracker::default();
        for second in 0..40 {
            all.lanes[1].counters.bytes_read.store(second * 10, Relaxed);
            tracker.look(&all, at(second * 1000));
        }
        let view = tracker.look(&all, at(40_000));
        assert_eq!(view.lanes[0].rate, Some(0));
        assert_eq!(view.lanes[0].left, None);
        assert!(view.lanes[1].left.is_some());
        assert_eq!(view.total.left, None);
    }

    #[test]
    fn totals_are_as_sure_as_the_least_sure_lane() {
        let (u, e, x) = (Total::Unknown, Total::Estimate(5), Total::Exact(7));
        assert_eq!(x.plus(x), Total::Exact(14));
        assert_eq!(x.plus(e), Total::Estimate(12));
        assert_eq!(e.plus(x), Total::Estimate(12));
        assert_eq!(e.plus(e), Total::Estimate(10));
        assert_eq!(u.plus(x), Total::Unknown);
        assert_eq!(e.plus(u), Total::Unknown);
    }

    #[test]
    fn given_up_and_skipped_bytes_count_as_done_once() {
        let all = telemetry(&["sda"]);
        let counters = &all.lanes[0].counters;
        counters.set_state(LaneState::Running);
        counters.bytes_found.store(100, Relaxed);
        counters.bytes_expected.store(80, Relaxed);
        counters.bytes_read.store(50, Relaxed);
        counters.bytes_skipped.store(20, Relaxed);
        counters.bytes_failed.store(40, Relaxed);
        let view = Tracker::default().look(&all, at(0));
        assert_eq!(view.lanes[0].done, 100);
        assert_eq!(view.lanes[0].total, Total::Estimate(100));
        counters.bytes_expected.store(0, Relaxed);
        let view = Tracker::default().look(&all, at(0));
        assert_eq!(view.lanes[0].total, Total::Unknown);
        assert_eq!(view.lanes[0].percent(), None);
    }

    #[test]
    fn an_ended_lane_shows_its_whole_life() {
        let all = telemetry(&["sda"]);
        let counters = &all.lanes[0].counters;
        counters.set_state(LaneState::Done);
        counters.scan_ended.store(true, Relaxed);
        counters.bytes_found.store(9000, Relaxed);
        counters.bytes_read.store(9000, Relaxed);
        counters.set_ended(Duration::from_secs(3));
        let view = Tracker::default().look(&all, at(60_000));
        assert_eq!(view.lanes[0].rate, Some(3000));
        assert_eq!(view.lanes[0].left, None);
        assert_eq!(view.lanes[0].percent(), Some(100));
        assert_eq!(view.total.state, LaneState::Done);
        assert_eq!(view.total.rate, Some(3000));
    }

    #[test]
    fn memory_of_a_meter_is_bounded() {
        let mut meter = Meter::default();
        for step in 0..100_000 {
            meter.add(at(step * 200), step);
        }
        // 30 s at five samples a second, and the one before.
        assert_eq!(meter.samples.len(), 151);
    }
}
