//! The program as a process: exit codes, pipes, signals.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/hang_up.rs"]
mod hang_up;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use inhaul::cli::screen::{Screen, terminal_size};
use inhaul::cli::signals;
use inhaul::cli::text::Paint;
use rustix::process::{Pid, Signal, kill_process};

fn inhaul(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inhaul"));
    command.args(args).stdin(Stdio::null());
    // Its copies are noted nowhere.
    command.env("XDG_STATE_HOME", "/dev/null/state");
    command
}

#[test]
fn help_goes_to_stdout_and_errors_to_stderr() {
    let output = inhaul(&["--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.starts_with(b"Copy many drives"));
    assert!(output.stderr.is_empty());
    let output = inhaul(&["copy", "--delete", "a", "b"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "\
error: --delete is absent on purpose
  why:  inhaul only ever adds to a target: no slip of a path may cost data
  next: copy without it; to mirror, run 'rsync -a --delete SOURCE/ TARGET' afterwards
"
    );
}

#[test]
fn arguments_made_from_names_cannot_write_to_the_terminal() {
    for name in ["--\u{1b}[2Jx", "--x\u{9b}2J", "--x\u{7}", "--\u{202e}x"] {
        // Colour is forced, as it would be on a terminal: else clap drops every sequence anyway.
        let output = inhaul(&["copy", name, "b", "c"])
            .env("CLICOLOR_FORCE", "1")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(text.starts_with("error: unexpected argument"), "{text:?}");
        assert!(!text.contains(bad), "{text:?}");
    }
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    for args in [&["man"][..], &["completions", "bash"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = inhaul(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(output.stderr, b"", "{args:?}");
    }
}

#[test]
fn a_full_disk_under_stdout_is_an_error() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let status = inhaul(&["man"]).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

/// Not a test of its own: the process that the signal tests send signals to.
#[test]
fn waits_for_signals() {
    if std::env::var_os("INHAUL_TEST_CHILD").is_none() {
        return;
    }
    let screen = Arc::new(Screen::stderr(Paint(false)));
    signals::watch(screen, "stopping: as asked", || println!("stop was called")).unwrap();
    println!("ready");
    // The parent ends this process with a second signal, or by closing standard input.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

struct Waiting {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Waiting {
    fn start(shell_prefix: &str) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "{shell_prefix} exec \"$0\" --exact waits_for_signals --nocapture"
            ))
            .arg(this)
            .env("INHAUL_TEST_CHILD", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut waiting = Self { child, lines };
        waiting.until("ready");
        waiting
    }

    /// Reads lines until one ends like this; the test harness may write before it.
    fn until(&mut self, wanted: &str) {
        let found = self
            .lines
            .by_ref()
            .any(|line| line.unwrap().ends_with(wanted));
        assert!(found, "no line: {wanted}");
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut told = String::new();
        // Waiting closes standard input, which would let the child end by itself.
        let stdin = self.child.stdin.take();
        let status = self.child.wait().unwrap();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut told)
            .unwrap();
        drop(stdin);
        (status.code(), told)
    }
}

#[test]
fn the_first_signal_asks_and_the_second_ends() {
    for (first, second) in [
        (Signal::INT, Signal::INT),
        (Signal::TERM, hang_up::hang_up()),
        (hang_up::hang_up(), Signal::TERM),
    ] {
        let mut waiting = Waiting::start("");
        waiting.send(first);
        waiting.until("stop was called");
        waiting.send(second);
        let (code, _) = waiting.end();
        assert_eq!(code, Some(130));
    }
}

#[test]
fn after_the_first_signal_the_program_ends_by_itself() {
    let mut waiting = Waiting::start("");
    waiting.send(Signal::TERM);
    waiting.until("stop was called");
    let stderr = waiting.child.stderr.take().unwrap();
    let line = BufReader::new(stderr).lines().next().unwrap().unwrap();
    assert!(line.starts_with("stopping: "), "{line}");
    drop(waiting.child.stdin.take());
    assert_eq!(waiting.child.wait().unwrap().code(), Some(0));
}

#[test]
fn nohup_is_honoured() {
    let mut waiting = Waiting::start("trap '' HUP;");
    waiting.send(Signal::HUP);
    waiting.send(Signal::TERM);
    waiting.until("stop was called");
    // Had the hang-up counted, TERM would have been the second signal.
    drop(waiting.child.stdin.take());
    assert_eq!(waiting.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_size_is_known_without_a_terminal() {
    let size = terminal_size();
    assert!(size.rows > 0 && size.columns > 0);
}
