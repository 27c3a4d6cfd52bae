//! Problems as they happen: the first in memory, all of them in a file.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::engine::report::{PROBLEMS_MAX, Problem};
use crate::error::{Error, ErrorKind, Side};

/// The file of everything that was not copied, one JSON object a line.
pub const PROBLEMS_FILE: &str = "problems.ndjson";

/// Most text held in memory, in bytes; [`PROBLEMS_MAX`] problems of ordinary length are far below
/// it, as many with the longest of paths are not.
const HELD_BYTES_MAX: usize = 16 << 20;

/// A list of problems that takes bounded memory, however many there are.
///
/// Each problem goes to the file at once, so that it can be watched and outlives a kill. A file
/// that cannot be written never stops the copy: the first failure is kept for
/// [`finish`](Self::finish), and counting goes on.
#[derive(Debug)]
pub struct Spool {
    dir: OwnedFd,
    name: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    count: u64,
    first: Vec<Problem>,
    held_bytes: usize,
    is_full: bool,
    file: Option<File>,
    has_failed: bool,
    is_closed: bool,
    failure: Option<io::Error>,
}

impl Spool {
    /// Returns an empty spool; the file `name` in `dir` is created by the first problem.
    ///
    /// `dir` must be open for reading, not merely as a path, because it is synced in the end.
    pub fn new(dir: OwnedFd, name: &'static str) -> Self {
        Self {
            dir,
            name,
            state: Mutex::default(),
        }
    }

    /// Adds a problem, unless it is [`close`](Self::close)d; returns the number of its line, counted
    /// from 0.
    pub fn push(&self, problem: Problem) -> u64 {
        let line = serde_json::to_vec(&problem).map(|mut line| {
            line.push(b'\n');
            line
        });
        let mut state = self.lock();
        let number = state.count;
        if state.is_closed {
            return number;
        }
        state.count += 1;
        if !state.has_failed {
            let written = line
                .map_err(io::Error::from)
                .and_then(|line| self.append(&mut state, &line));
            if let Err(error) = written {
                // The line may be there in part. Another behind it would be joined to it, so
                // nothing more is written.
                state.has_failed = true;
                state.failure = Some(error);
            }
        }
        state.hold(problem);
        number
    }

    /// Returns how many problems there are in all.
    pub fn count(&self) -> u64 {
        self.lock().count
    }

    /// Returns the first problems, in order: at most [`PROBLEMS_MAX`], fewer if they are huge.
    pub fn first(&self) -> Vec<Problem> {
        self.lock().first.clone()
    }

    /// Takes nothing any more, from now on: the folder is another run's, or nobody's. Waits for a line
    /// that is being written.
    pub fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Makes the file durable and readable by all (mode 0644), without the lines of these numbers:
    /// what they say holds no longer. Says once whether anything failed.
    ///
    /// # Durability
    /// After `Ok`, every problem pushed before survives a power cut. Until then, none need.
    ///
    /// # Errors
    /// [`ErrorKind::RecordWrite`], with the first failure since the last call.
    pub fn finish(&self, without: Vec<u64>) -> Result<(), Error> {
        let mut state = self.lock();
        // Behind a line that is there in part none can be told by its number.
        let is_cut = !without.is_empty() && !state.has_failed && state.file.is_some();
        let cut = if is_cut {
            self.cut(&mut state, &without.into_iter().collect())
        } else {
            Ok(())
        };
        let synced = cut.and_then(|()| match &state.file {
            Some(file) => self.sync(file),
            None => Ok(()),
        });
        match state.failure.take().map_or(synced, Err) {
            Ok(()) => Ok(()),
            Err(error) => {
                let what = "write the list of problems";
                Err(
                    Error::new(ErrorKind::RecordWrite, Side::Record, self.name, what)
                        .because(error),
                )
            }
        }
    }

    fn append(&self, state: &mut State, line: &[u8]) -> io::Result<()> {
        let file = match &mut state.file {
            Some(file) => file,
            None => state.file.insert(self.create(self.name)?),
        };
        file.write_all(line)
    }

    /// Puts a list without these lines in the place of the one that there is; no list at all where
    /// none is left.
    fn cut(&self, state: &mut State, without: &HashSet<u64>) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let all: File = rustix::fs::openat(&self.dir, self.name, flags, Mode::empty())?.into();
        let fresh = format!("{}.new", self.name);
        match rustix::fs::unlinkat(&self.dir, &fresh, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut left = BufWriter::new(self.create(&fresh)?);
        let mut is_empty = true;
        for (number, line) in (0..).zip(BufReader::new(all).split(b'\n')) {
            let line = line?;
            if !without.contains(&number) {
                is_empty = false;
                left.write_all(&line)?;
                left.write_all(b"\n")?;
            }
        }
        let left = left.into_inner().map_err(io::IntoInnerError::into_error)?;
        if is_empty {
            rustix::fs::unlinkat(&self.dir, &fresh, AtFlags::empty())?;
            rustix::fs::unlinkat(&self.dir, self.name, AtFlags::empty())?;
            state.file = None;
            return Ok(rustix::fs::fsync(&self.dir)?);
        }
        self.sync(&left)?;
        rustix::fs::renameat(&self.dir, &fresh, &self.dir, self.name)?;
        state.file = Some(left);
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(rustix::fs::openat(&self.dir, name, flags, mode)?.into())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        rustix::fs::fchmod(file, Mode::from_raw_mode(0o644))?;
        rustix::fs::fsync(file)?;
        rustix::fs::fsync(&self.dir)?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not lose the list of what went wrong.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps the problem if it is among the first.
    fn hold(&mut self, problem: Problem) {
        let Problem {
            path,
            path_hex,
            kind,
            reason,
            unreadable,
        } = &problem;
        let hex_len = path_hex.as_ref().map_or(0, String::len);
        let ranges = unreadable.as_ref().map_or(0, |it| 16 * it.ranges.len());
        self.held_bytes += path.len() + hex_len + kind.len() + reason.len() + ranges;
        // Once one is left out, so are all that follow: what is held stays the beginning.
        self.is_full |= self.first.len() == PROBLEMS_MAX || self.held_bytes > HELD_BYTES_MAX;
        if !self.is_full {
            self.first.push(problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn problem(number: usize) -> Problem {
        Problem {
            path: format!("dir/{number}"),
            path_hex: None,
            kind: "source-read".to_owned(),
            reason: "read: Input/output error".to_owned(),
            unreadable: None,
        }
    }

    fn spool_in(dir: &tempfile::TempDir) -> Spool {
        Spool::new(File::open(dir.path()).unwrap().into(), PROBLEMS_FILE)
    }

    #[test]
    fn without_problems_there_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool_in(&dir);
        spool.finish(Vec::new()).unwrap();
        assert_eq!(spool.count(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_comes_after_it_is_closed_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let (begun, unused) = (spool_in(&dir), spool_in(&dir));
        begun.push(problem(1));
        let path = dir.path().join(PROBLEMS_FILE);
        let before = std::fs::read(&path).unwrap();
        begun.close();
        begun.push(problem(2));
        begun.finish(Vec::new()).unwrap();
        assert_eq!((begun.count(), begun.first().len()), (1, 1));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        // One that has made no file yet makes none.
        std::fs::remove_file(&path).unwrap();
        unused.close();
        unused.push(problem(3));
        unused.finish(Vec::new()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn each_problem_is_one_line_of_json() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool_in(&dir);
        spool.push(problem(1));
        spool.push(Problem {
            path: "new\nline\u{fffd}".to_owned(),
            path_hex: Some("6e65770a6c696e65ff".to_owned()),
            kind: "special".to_owned(),
            reason: "a \"quoted\" reason".to_owned(),
            unreadable: None,
        });
        let path = dir.path().join("problems.ndjson");
        let expected = concat!(
            r#"{"path":"dir/1","kind":"source-read","reason":"read: Input/output error"}"#,
            "\n",
            r#"{"path":"new\nline"#,
            "\u{fffd}",
            r#"","path_hex":"6e65770a6c696e65ff","kind":"special","#,
            r#""reason":"a \"quoted\" reason"}"#,
            "\n",
        );
        // Before the end: every problem is written as it comes.
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        spool.finish(Vec::new()).unwrap();
        assert_eq!(mode(&path), 0o644);
    }

    #[test]
    fn memory_holds_the_first_thousand_and_the_file_holds_all() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool_in(&dir);
        for number in 0..1500 {
            spool.push(problem(number));
        }
        spool.finish(Vec::new()).unwrap();
        assert_eq!(spool.count(), 1500);
        let first = spool.first();
        assert_eq!(first.len(), 1000);
        assert_eq!(first[0].path, "dir/0");
        assert_eq!(first[999].path, "dir/999");
        let text = std::fs::read_to_string(dir.path().join(PROBLEMS_FILE)).unwrap();
        assert_eq!(text.lines().count(), 1500);
        assert!(text.lines().last().unwrap().contains("dir/1499"));
    }

    #[test]
    fn huge_problems_are_counted_but_not_all_held() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool_in(&dir);
        for number in 0..20 {
            let path = "x".repeat(1 << 20);
            spool.push(Problem {
                path,
                ..problem(number)
            });
        }
        spool.push(problem(20));
        assert_eq!(spool.count(), 21);
        // 15 and not 16: kind and reason count too. The small one at the end is not held either.
        assert_eq!(spool.first().len(), 15);
    }

    #[test]
    fn many_threads_never_mix_their_lines() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool_in(&dir);
        std::thread::scope(|scope| {
            for lane in 0..4 {
                let spool = &spool;
                scope.spawn(move || {
                    for number in 0..250 {
                        spool.push(problem(lane * 250 + number));
                    }
                });
            }
        });
        let text = std::fs::read_to_string(dir.path().join(PROBLEMS_FILE)).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        let mut expected: Vec<_> = (0..1000)
            .map(|n| serde_json::to_string(&problem(n)).unwrap())
            .collect();
        expected.sort_unstable();
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_holds_no_longer_is_taken_out_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool_in(&dir);
        for number in 0..4 {
            assert_eq!(spool.push(problem(number)), number as u64);
        }
        let path = dir.path().join(PROBLEMS_FILE);
        spool.finish(vec![2, 0]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let paths: Vec<bool> = text.lines().map(|line| line.contains("dir/1")).collect();
        assert_eq!(paths, [true, false]);
        assert!(text.lines().last().unwrap().contains("dir/3"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        spool.finish(vec![0, 1]).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failed_write_is_said_once_and_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        // The name is taken, so the file cannot be created.
        std::fs::write(dir.path().join(PROBLEMS_FILE), "another's").unwrap();
        let spool = spool_in(&dir);
        spool.push(problem(1));
        spool.push(problem(2));
        assert_eq!(spool.count(), 2);
        assert_eq!(spool.first().len(), 2);
        let error = spool.finish(Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RecordWrite);
        assert!(error.to_string().starts_with("problems.ndjson: "));
        spool.finish(Vec::new()).unwrap();
        let text = std::fs::read_to_string(dir.path().join(PROBLEMS_FILE)).unwrap();
        assert_eq!(text, "another's");
    }

    #[test]
    fn a_write_that_fails_midway_is_said_once_and_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool_in(&dir);
        spool.push(problem(1));
        // A descriptor that can only be read: every write to it fails.
        let path = dir.path().join(PROBLEMS_FILE);
        spool.lock().file = Some(File::open(&path).unwrap());
        spool.push(problem(2));
        // From now on writes would succeed; none must follow a line that may be torn.
        spool.lock().file = Some(File::options().append(true).open(&path).unwrap());
        spool.push(problem(3));
        assert_eq!(spool.count(), 3);
        assert_eq!(spool.first().len(), 3);
        let error = spool.finish(Vec::new()).unwrap_err();
        assert!(error.to_string().contains("Bad file descriptor"), "{error}");
        spool.finish(Vec::new()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }
}
