//! A clock that a test can move: the program sees another time of day than the machine has.
//!
//! A library that is loaded before the C library answers for it; how far its time is from the real
//! one, in seconds, is in a file that it reads each time it is asked. The clocks that only count on
//! are as they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tool;

/// What answers in place of the C library. It is built for the test, and no part of the program.
const SHIM: &str = r#"
    #[repr(C)]
    pub struct Time { seconds: i64, part: i64 }

    extern "C" { fn syscall(number: i64, ...) -> i64; }

    const CALL: i64 = if cfg!(target_arch = "x86_64") { 228 } else { 113 };

    fn offset() -> i64 {
        let file = std::env::var_os("INHAUL_TEST_CLOCK").unwrap();
        std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }

    #[no_mangle]
    pub unsafe extern "C" fn clock_gettime(clock: i32, time: *mut Time) -> i32 {
        let answer = syscall(CALL, clock as i64, time) as i32;
        // CLOCK_REALTIME, CLOCK_REALTIME_COARSE
        if answer == 0 && (clock == 0 || clock == 5) {
            (*time).seconds += offset();
        }
        answer
    }

    #[no_mangle]
    pub unsafe extern "C" fn gettimeofday(time: *mut Time, _: *mut u8) -> i32 {
        let answer = clock_gettime(0, time);
        (*time).part /= 1000;
        answer
    }

    #[no_mangle]
    pub unsafe extern "C" fn time(to: *mut i64) -> i64 {
        let mut now = Time { seconds: 0, part: 0 };
        clock_gettime(0, &mut now);
        if !to.is_null() {
            *to = now.seconds;
        }
        now.seconds
    }
"#;

/// The clock of the programs that are started under it.
#[derive(Debug)]
pub(crate) struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// Builds it in a directory. It shows the real time at first.
    pub(crate) fn new(dir: &Path) -> Self {
        let clock = Self {
            library: dir.join("clock.so"),
            offset: dir.join("clock-offset"),
        };
        let source = dir.join("clock.rs");
        std::fs::write(&source, SHIM).unwrap();
        let args = [
            "--crate-type=cdylib",
            "--edition=2018",
            "-Cpanic=abort",
            "-O",
        ];
        let args = args.map(AsRef::as_ref).into_iter();
        let from_to = [source.as_os_str(), "-o".as_ref(), clock.library.as_os_str()];
        tool("rustc", &args.chain(from_to).collect::<Vec<_>>());
        clock.set(0);
        clock
    }

    /// From now on it is so many seconds ahead of the real time, or behind it.
    pub(crate) fn set(&self, seconds: i64) {
        // Whoever looks meanwhile sees the old or the new one.
        let new = self.offset.with_extension("new");
        std::fs::write(&new, seconds.to_string()).unwrap();
        rustix::fs::rename(&new, &self.offset).unwrap();
    }

    /// Has a program see it.
    pub(crate) fn show_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library);
        command.env("INHAUL_TEST_CLOCK", &self.offset);
    }
}
