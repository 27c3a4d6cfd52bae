//! What the machine does meanwhile: the processors that we may use, and its memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity};
use rustix::time::{ClockId, clock_gettime};

use super::surroundings::quota;

/// Longer than the caches of processors: 32 MiB for each thread, half read and half written.
const COPIED: u64 = 16 << 20;
/// Most that all of them take. Of more than eight, each has less, and caches may answer some of it: the
/// rate is then too high, and nothing is blamed on memory that is not its doing.
const ALL_COPIED: u64 = 256 << 20;
/// Most threads.
const THREADS_MAX: usize = 64;
/// How long memory is measured.
const MEMORY_TIME: Duration = Duration::from_millis(200);

/// The time of the processors that this process may use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Ticks {
    /// Theirs since the machine started, whoever had it, in ticks.
    busy: u64,
    all: u64,
    /// Seconds of a processor that this process has had.
    own: f64,
    /// Seconds since the machine started.
    now: f64,
    /// Of how many processors it may have all the time.
    processors: f64,
}

impl Ticks {
    /// Reads them; zeros where /proc is not there.
    pub(crate) fn now() -> Self {
        let allowed = sched_getaffinity(None).ok();
        let is_allowed = |cpu: usize| {
            let set = allowed.filter(|_| cpu < CpuSet::MAX_CPU);
            set.is_none_or(|set| set.is_set(cpu))
        };
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let (busy, all) = parse(&text, is_allowed);
        let count = allowed.map_or(u32::MAX, |set| set.count());
        Self {
            busy,
            all,
            own: cpu_seconds(),
            now: seconds(ClockId::Monotonic),
            processors: f64::from(count).min(quota().unwrap_or(f64::INFINITY)),
        }
    }

    /// Returns the share of the time since `before` in which processors were busy, 0 to 1; or, if that
    /// is more, what this process had of all that it may have. A limit on its time leaves processors idle
    /// that are of no use to it.
    pub(crate) fn busy_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        let busy = self.busy.saturating_sub(before.busy);
        let share = |part: f64, all: f64| if all > 0.0 { part / all } else { 0.0 };
        #[allow(clippy::cast_precision_loss, reason = "ticks of seconds")]
        let busy = share(busy as f64, all as f64);
        let may = (self.now - before.now) * self.processors;
        busy.max(share(self.own - before.own, may)).min(1.0)
    }
}

/// Returns the busy and all time of those processors that are allowed, in ticks; of all of them where
/// none of these is told of. A line each: user, nice, system, idle, iowait, irq, softirq, steal; what
/// follows is in the first two already. Source: `proc_stat(5)`.
fn parse(text: &str, is_allowed: impl Fn(usize) -> bool) -> (u64, u64) {
    let of = |pick: &dyn Fn(&str) -> bool| {
        let (mut busy, mut all) = (0, 0);
        let lines = text.lines().filter_map(|line| line.strip_prefix("cpu"));
        for (number, fields) in lines.filter_map(|line| line.split_once(' ')) {
            if pick(number) {
                let fields = fields.split_whitespace().take(8);
                let fields: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
                let idle: u64 = fields.iter().skip(3).take(2).sum();
                let ticks: u64 = fields.iter().sum();
                (busy, all) = (busy + ticks - idle, all + ticks);
            }
        }
        (busy, all)
    };
    let allowed = of(&|number| number.parse::<usize>().is_ok_and(&is_allowed));
    if allowed.1 > 0 {
        allowed
    } else {
        of(&|number| number.is_empty())
    }
}

fn seconds(clock: ClockId) -> f64 {
    let time = Duration::try_from(clock_gettime(clock));
    time.unwrap_or_default().as_secs_f64()
}

/// Seconds of a processor that this process has had, in all its threads, the kernel's workers for
/// its ring among them. Source: clock_getres(2), `CLOCK_PROCESS_CPUTIME_ID`.
pub(crate) fn cpu_seconds() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

/// What it takes to measure how fast memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryRoom {
    threads: usize,
    /// Bytes that each of them reads, and as many that it writes.
    copied: usize,
}

impl MemoryRoom {
    /// Divides what there is for it among the processors: no more than the buffers may have.
    pub(crate) fn of(cpus: usize, memory: u64) -> Self {
        let threads = cpus.clamp(1, THREADS_MAX);
        let each = memory.min(ALL_COPIED) / threads as u64 / 2;
        Self {
            threads,
            copied: usize::try_from(each.min(COPIED)).unwrap_or(0),
        }
    }

    /// Returns so many bytes that are there; `None` where there is no memory for them.
    fn take(self, byte: u8) -> Option<Vec<u8>> {
        let mut taken = Vec::new();
        taken.try_reserve_exact(self.copied).ok()?;
        taken.resize(self.copied, byte);
        Some(taken)
    }
}

/// Returns the bytes a second that all processors together copy in memory: what is read and what
/// is written both count. `None` where there was no memory for it.
pub(crate) fn memory_rate(room: &MemoryRoom) -> Option<f64> {
    let moved = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..room.threads {
            let copy = || {
                let (Some(from), Some(mut to)) = (room.take(1), room.take(0)) else {
                    return;
                };
                while !over.load(Relaxed) {
                    to.copy_from_slice(&from);
                    std::hint::black_box(&mut to);
                    moved.fetch_add(2 * room.copied as u64, Relaxed);
                }
            };
            // As many as can be had: a panic here would leave the others running for ever.
            if std::thread::Builder::new()
                .spawn_scoped(scope, copy)
                .is_err()
            {
                break;
            }
        }
        std::thread::sleep(MEMORY_TIME);
        over.store(true, Relaxed);
    });
    #[allow(clippy::cast_precision_loss, reason = "a rate is no count")]
    let moved = moved.into_inner() as f64;
    let rate = moved / begun.elapsed().as_secs_f64().max(f64::EPSILON);
    (rate > 0.0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 60 0 40 390 10 0 0 0 7 7\n\
                          cpu1 40 0 10 410 40 0 0 0 0 0\nintr 5\n";
    const AFTER: &str = "cpu  160 0 70 900 70 0 0 0 7 7\ncpu0 118 0 60 410 12 0 0 0 7 7\n\
                         cpu1 42 0 10 490 58 0 0 0 0 0\nintr 6\n";

    fn ticks((busy, all): (u64, u64)) -> Ticks {
        Ticks {
            busy,
            all,
            ..Ticks::default()
        }
    }

    fn busy(is_allowed: impl Fn(usize) -> bool + Copy) -> f64 {
        ticks(parse(AFTER, is_allowed)).busy_since(ticks(parse(BEFORE, is_allowed)))
    }

    #[test]
    fn idle_and_waiting_for_drives_is_not_busy() {
        assert_eq!(parse(BEFORE, |_| true), (150, 1000));
        assert!((busy(|_| true) - 0.4).abs() < 1e-9);
        let same = ticks(parse(BEFORE, |_| true));
        assert!(same.busy_since(same).abs() < 1e-9);
        assert_eq!(parse("intr 5", |_| true), (0, 0));
        assert_eq!(parse("cpu  1 2 3", |_| true), (6, 6), "no line of its own");
    }

    #[test]
    fn processors_that_may_not_be_used_do_not_count() {
        assert!((busy(|cpu| cpu == 0) - 0.78).abs() < 1e-9);
        assert!((busy(|cpu| cpu == 1) - 0.02).abs() < 1e-9);
        assert!((busy(|cpu| cpu > 7) - 0.4).abs() < 1e-9, "told of nowhere");
    }

    #[test]
    fn a_limit_on_time_is_reached_with_idle_processors() {
        let at = |now: f64, own: f64, busy: u64, all: u64| Ticks {
            own,
            now,
            processors: 1.5,
            ..ticks((busy, all))
        };
        // 1.5 of 8 processors for 2 s, and nobody else.
        let before = at(100.0, 7.0, 0, 0);
        let busy = |own: f64, busy: u64| at(102.0, own, busy, 1600).busy_since(before);
        assert!((busy(10.0, 300) - 1.0).abs() < 1e-9);
        assert!((busy(8.5, 150) - 0.5).abs() < 1e-9);
        assert!((busy(7.1, 1440) - 0.9).abs() < 1e-9, "others have them");
        assert!((busy(10.1, 310) - 1.0).abs() < 1e-9, "clocks differ");
    }

    #[test]
    fn this_process_may_use_some_processor() {
        let now = Ticks::now();
        assert!(now.processors > 0.0 && now.processors.is_finite());
        assert!(now.all > 0 && now.own > 0.0 && now.now > 0.0);
    }

    #[test]
    fn memory_has_a_rate() {
        assert!(memory_rate(&MemoryRoom::of(1, 1 << 20)).is_some_and(|rate| rate > 0.0));
        assert_eq!(memory_rate(&MemoryRoom::of(1, 0)), None);
    }

    #[test]
    fn what_is_copied_in_memory_is_no_more_however_many_processors_there_are() {
        let of = |cpus: usize, mib: u64| {
            let room = MemoryRoom::of(cpus, mib << 20);
            (room.threads, room.copied)
        };
        assert_eq!(of(0, 512), (1, 16 << 20));
        assert_eq!(of(2, 512), (2, 16 << 20));
        assert_eq!(of(8, 512), (8, 16 << 20));
        assert_eq!(of(16, 512), (16, 8 << 20));
        assert_eq!(of(64, 512), (64, 2 << 20));
        assert_eq!(of(200, 100_000), (64, 2 << 20));
        assert_eq!(of(4, 8), (4, 1 << 20));
    }
}
