//! Somebody who tidies up when a test process is killed before it can do so itself.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// A shell of its own that waits for this process to die, and is dismissed when dropped.
#[derive(Debug)]
pub(crate) struct Sentinel(Child);

impl Sentinel {
    /// Runs `script` with `args` as `$1`, `$2` and so on, should this process end before the
    /// sentinel is dropped.
    ///
    /// A killed process whose threads wait for a drive that it serves itself never goes away:
    /// it stays a zombie with threads. That counts as dead, so that a script can set them free.
    pub(crate) fn new<S: AsRef<OsStr>>(script: &str, args: &[S]) -> Self {
        let pid = std::process::id();
        let watch = format!(
            "while grep -qs '^State:.[^ZX]' /proc/{pid}/status; do sleep 1; done\n{script}"
        );
        let child = Command::new("sh")
            .args(["-c", &watch, "sentinel"])
            .args(args)
            // Not among those whom Ctrl-C reaches.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _already_gone = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        drop(self.0.wait());
    }
}
