//! Standard output: results for the next program.

use std::io::{ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

/// Standard output that remembers its first failure and is quiet after it.
///
/// The reader going away (`| head`) is no error to talk about; a copy goes on without it, because
/// its result is on the target. A full disk is an error, and shows in the exit code.
pub struct Output {
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    failure: Option<ErrorKind>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("failure", &self.failure())
            .finish_non_exhaustive()
    }
}

impl Output {
    /// Returns the real standard output.
    pub fn stdout() -> Self {
        Self::new(Box::new(std::io::stdout()))
    }

    /// Returns an output on any writer.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            state: Mutex::new(State { out, failure: None }),
        }
    }

    /// Writes bytes, whole lines of them, and hands them on at once.
    pub fn write(&self, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.failure.is_none() {
            let result = state.out.write_all(bytes).and_then(|()| state.out.flush());
            state.failure = result.err().map(|error| error.kind());
        }
    }

    /// Returns why nothing is written any more, if so.
    pub fn failure(&self) -> Option<ErrorKind> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    struct Broken(Arc<AtomicUsize>);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            self.0.fetch_add(1, Relaxed);
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_broken_pipe_is_tried_once() {
        let tries = Arc::new(AtomicUsize::new(0));
        let output = Output::new(Box::new(Broken(Arc::clone(&tries))));
        assert_eq!(output.failure(), None);
        output.write(b"one\n");
        output.write(b"two\n");
        assert_eq!(output.failure(), Some(ErrorKind::BrokenPipe));
        assert_eq!(tries.load(Relaxed), 1);
    }
}
