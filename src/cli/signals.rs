//! Being asked to stop: the first time in order, the second time at once.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::privileges;
use super::screen::Screen;
use crate::exit::Exit;

/// What is said at the first signal when files are copied, hashed or verified.
pub const STOPPING: &str = "stopping: what is in flight is finished and made durable first; \
                            a second signal stops at once";

/// What a first thread has of stack, in bytes; others have 2 MiB.
const STACK_LEN: usize = 8 << 20;

/// Lets the process outlive a write beyond its limit of file size (`ulimit -f`): the call gives an
/// error, which is reported like any other.
pub fn outlive_size_limit() {
    let ignored = Arc::new(AtomicBool::new(false));
    // Without it the kernel ends the process there; files are then as after a kill.
    let _best_effort = signal_hook::flag::register(SIGXFSZ, ignored);
}

/// Watches for SIGINT, SIGTERM and SIGHUP until the program ends.
///
/// The first of them calls `stop` and says `stopping` on `screen`; the second ends the program with code
/// 130, whatever state it is in. SIGHUP is left alone if it was ignored at the start, which is how
/// nohup(1) asks for it.
///
/// # Errors
/// When handlers cannot be set or the thread cannot start; the program can go on without.
pub fn watch(
    screen: Arc<Screen>,
    stopping: &'static str,
    stop: impl Fn() + Send + 'static,
) -> std::io::Result<()> {
    let mut wanted = vec![SIGINT, SIGTERM];
    if !hangup_is_ignored() {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted)?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            // It sets a flag and prints.
            let _at_most_as_the_others = privileges::keep_nothing();
            let mut arrived = signals.forever();
            if arrived.next().is_some() {
                stop();
                // Apart from this thread: if the terminal takes no output, a second signal must
                // still be heard.
                let teller = Arc::clone(&screen);
                let told = thread::Builder::new().spawn(move || teller.print(stopping));
                drop(told);
            }
            if arrived.next().is_some() {
                screen.restore_cursor_now();
                signal_hook::low_level::exit(i32::from(Exit::Interrupted.code()));
            }
        })?;
    Ok(())
}

/// Does work on a thread of its own while the first thread waits for it, and for signals: the kernel
/// hands those of a process to its first thread, also when a drive holds that in a call which no signal
/// ends, and then nobody would hear of them. (Source: `complete_signal` of linux/kernel/signal.c.)
pub fn apart<T: Send>(work: impl Fn() -> T + Sync) -> T {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("work".to_owned());
        match worker.stack_size(STACK_LEN).spawn_scoped(scope, &work) {
            Ok(worker) => worker.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // Then it is done here, where only a drive that hangs makes a difference.
            Err(_) => work(),
        }
    })
}

/// Returns whether SIGHUP is ignored now, from the `SigIgn` mask of proc_pid_status(5).
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores_hangup(&status)
}

fn ignores_hangup(status: &str) -> bool {
    // Bit 0 stands for signal 1, which is SIGHUP.
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        assert!(ignores_hangup(
            "Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"
        ));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup("SigBlk:\t0000000000000001\n"));
        assert!(!ignores_hangup(""));
    }
}
