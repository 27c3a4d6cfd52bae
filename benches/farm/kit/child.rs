//! One measured run: wall time, CPU time and peak memory of a process and all it started.
//!
//! Invariants the `unsafe` block rests on:
//!
//! 1. Both out-parameters of `wait4` are plain data for which all zeroes is a valid value.

#![allow(
    unsafe_code,
    reason = "wait4 is the only call that gives the resource use of one finished child"
)]

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Context as _, Result, host};

/// What one run cost.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Sample {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// CPU seconds in user space, children included.
    pub(crate) user: f64,
    /// CPU seconds in the kernel, children included.
    pub(crate) system: f64,
    /// Peak resident memory of all its processes together, in bytes.
    pub(crate) peak: u64,
    /// Cores busy with other work in the second before the run.
    pub(crate) busy_before: f64,
    /// Exit code; 128 and more for a signal.
    pub(crate) code: i32,
}

impl Sample {
    /// CPU seconds in all.
    pub(crate) fn cpu(&self) -> f64 {
        self.user + self.system
    }
}

fn seconds(time: libc::timeval) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "seconds of one run")]
    let whole = time.tv_sec as f64;
    #[allow(clippy::cast_precision_loss, reason = "below a million")]
    let part = time.tv_usec as f64;
    whole + part / 1e6
}

/// How often memory is looked at: peaks are kept by the kernel, only processes come and go.
const LOOK: Duration = Duration::from_millis(25);

/// Starts the command and waits for it.
pub(crate) fn measure(command: &mut Command, busy_before: f64) -> Result<Sample> {
    let start = Instant::now();
    let child = command.spawn().context("starting the tool")?;
    let ended = AtomicBool::new(false);
    // What wait4 says of memory begins with this program's own, which the child shares until it
    // becomes another program; so the peaks are read while it runs.
    thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut peak = 0;
            while !ended.load(Ordering::Relaxed) {
                peak = peak.max(host::memory_of(child.id()));
                thread::park_timeout(LOOK);
            }
            peak
        });
        let sample = wait(child.id(), start, busy_before);
        ended.store(true, Ordering::Relaxed);
        looker.thread().unpark();
        let peak = looker.join().map_err(|_| "looking at memory failed")?;
        sample.map(|sample| Sample { peak, ..sample })
    })
}

/// As [`measure`], without memory: looking at it wakes a processor forty times a second, and who writes
/// to a drive in RAM has none to spare.
pub(crate) fn cost(command: &mut Command) -> Result<Sample> {
    let start = Instant::now();
    let child = command.spawn().context("starting the tool")?;
    wait(child.id(), start, 0.0)
}

fn wait(pid: u32, start: Instant, busy_before: f64) -> Result<Sample> {
    let pid = libc::pid_t::try_from(pid).context("process id")?;
    let mut status: libc::c_int = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: wait4 needs two places it may write to; invariant 1, and both live here.
        let answer = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
        if answer == pid {
            break;
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(format!("waiting for the tool: {error}"));
        }
    }
    let wall = start.elapsed().as_secs_f64();
    // SAFETY: the place must hold a valid value; invariant 1, it began as zeroes.
    let usage = unsafe { usage.assume_init() };
    Ok(Sample {
        wall,
        user: seconds(usage.ru_utime),
        system: seconds(usage.ru_stime),
        peak: 0,
        busy_before,
        code: if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        },
    })
}
