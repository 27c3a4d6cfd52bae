//! The program under test, as a process.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A run that takes longer hangs.
const HANG: Duration = Duration::from_secs(180);

/// The path of the program.
pub(crate) const INHAUL: &str = env!("CARGO_BIN_EXE_inhaul");

/// A state folder that cannot be.
pub(crate) const NO_STATE: &str = "/dev/null/state";

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; 128 + N when signal N ended it.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: Vec<u8>,
    /// Standard error.
    pub(crate) stderr: Vec<u8>,
    /// Most memory it held, in KiB; 0 unless it was watched.
    pub(crate) peak_kib: u64,
}

impl Ran {
    /// Returns standard error as text.
    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Returns standard output as text.
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Fails unless the run ended with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "\n-- stdout\n{}\n-- stderr\n{}",
            self.out(),
            self.err()
        );
        self
    }

    /// Fails unless this text was printed.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        let all = self.out() + &self.err();
        assert!(all.contains(text), "no {text:?} in\n{all}");
        self
    }

    /// Returns the events of a `--json` run, each line parsed.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = std::str::from_utf8(&self.stdout).unwrap();
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "a line is cut: {text}"
        );
        text.lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
            })
            .collect()
    }
}

/// Returns the program with arguments, ready to start.
pub(crate) fn inhaul(args: &[&dyn AsRef<OsStr>]) -> Command {
    let mut command = Command::new(INHAUL);
    command.args(args.iter().map(AsRef::as_ref));
    command.env_remove("CLICOLOR_FORCE");
    // No test leaves a note of its copies with whoever runs it.
    command.env("XDG_STATE_HOME", NO_STATE);
    command
}

/// Runs the program.
pub(crate) fn run(args: &[&dyn AsRef<OsStr>]) -> Ran {
    Running::start(inhaul(args)).finish()
}

/// Runs the program to where it kills itself: at a point of its own, the n-th time that it passes it.
pub(crate) fn killed_at(args: &[&dyn AsRef<OsStr>], point: &str) -> Ran {
    let mut command = inhaul(args);
    command.env("INHAUL_TEST_KILL", point);
    Running::start(command).finish().expect(137)
}

/// Returns `command` with another program before it that ends in running it, as `strace` does.
pub(crate) fn under<S: AsRef<OsStr>>(prefix: &[S], command: &Command) -> Command {
    let (program, args) = prefix.split_first().unwrap();
    let mut outer = Command::new(program);
    outer
        .args(args)
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        outer.current_dir(dir);
    }
    outer.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    outer.env_remove("CLICOLOR_FORCE");
    outer
}

/// Returns `command` without any capability: even root then needs permission for what it reads.
pub(crate) fn powerless(command: &Command) -> Command {
    if rustix::process::geteuid().is_root() {
        under(
            &["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
            command,
        )
    } else {
        under(&["env"], command)
    }
}

/// Returns a path with a slash at its end: "the contents of".
pub(crate) fn contents(path: &Path) -> OsString {
    let mut text = path.as_os_str().to_owned();
    text.push("/");
    text
}

/// A started run; killed when dropped before its end.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: File,
    stderr: File,
    peak_kib: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

impl Running {
    /// Starts a command. Its output goes to files, so that it never waits for us.
    pub(crate) fn start(mut command: Command) -> Self {
        let stdout = tempfile::tempfile().unwrap();
        let stderr = tempfile::tempfile().unwrap();
        command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().unwrap())
            .stderr(stderr.try_clone().unwrap());
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            child,
            stdout,
            stderr,
            peak_kib: 0,
        }
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until it has printed this to standard output.
    pub(crate) fn until(&self, text: &str) {
        super::wait_for(text, || {
            let so_far = String::from_utf8_lossy(&so_far(&self.stdout)).into_owned();
            so_far.contains(text).then_some(())
        });
    }

    /// Waits until it has said this, on standard output or standard error.
    pub(crate) fn until_told(&self, text: &str) {
        super::wait_for(text, || {
            let told = [&self.stdout, &self.stderr].map(so_far);
            let is_in = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).contains(text);
            told.iter().any(is_in).then_some(())
        });
    }

    /// Returns whether it still runs.
    pub(crate) fn alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end, noting the most memory held on the way.
    pub(crate) fn finish(mut self) -> Ran {
        let status = self.wait(HANG).unwrap_or_else(|| {
            let text = self.text();
            panic!("hangs; standard error so far:\n{text}")
        });
        let read = |mut file: &File| {
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        };
        Ran {
            code: code_of(status),
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
            peak_kib: self.peak_kib,
        }
    }

    /// Waits for the end, at most so long.
    pub(crate) fn wait(&mut self, most: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        let status_file = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            let status = std::fs::read_to_string(&status_file).unwrap_or_default();
            self.peak_kib = self.peak_kib.max(high_water(&status));
            if start.elapsed() > most {
                return None;
            }
            std::thread::sleep(Duration::from_millis(4));
        }
    }

    /// Returns the file that it writes its standard output to, for [`so_far`].
    pub(crate) fn stdout_file(&self) -> File {
        self.stdout.try_clone().unwrap()
    }

    /// Returns the file that it writes its standard error to, for [`so_far`].
    pub(crate) fn stderr_file(&self) -> File {
        self.stderr.try_clone().unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&so_far(&self.stderr)).into_owned()
    }
}

/// Returns what is in a file that another process writes, without moving where it writes.
pub(crate) fn so_far(file: &File) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let len = file.metadata().unwrap().len();
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap())
}

/// Returns VmHWM of a proc_pid_status(5), in KiB.
fn high_water(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

/// Returns the folder of the newest job.
pub(crate) fn job(target: &Path) -> PathBuf {
    let home = target.join(".inhaul");
    home.join(std::fs::read_link(home.join("latest")).unwrap())
}

/// Returns the newest job's report.
pub(crate) fn report(target: &Path) -> Value {
    let bytes = std::fs::read(job(target).join("report.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// Returns the newest job's manifest.
pub(crate) fn manifest(target: &Path) -> Vec<u8> {
    std::fs::read(job(target).join("manifest.b3")).unwrap()
}

/// Returns `kind path` of everything in a report's list, sorted.
pub(crate) fn listed(report: &Value, list: &str) -> Vec<String> {
    let mut lines: Vec<String> = report[list]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            format!(
                "{} {}",
                p["kind"].as_str().unwrap(),
                p["path"].as_str().unwrap()
            )
        })
        .collect();
    lines.sort();
    lines
}
