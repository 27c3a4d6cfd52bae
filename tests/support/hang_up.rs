//! Which signal stands for a closed terminal.

use rustix::process::Signal;

/// Returns SIGHUP, or SIGTERM where the tests run under nohup: a copy leaves it ignored then, too.
pub(crate) fn hang_up() -> Signal {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
    if ignored & 1 == 0 {
        Signal::HUP
    } else {
        Signal::TERM
    }
}
