//! Work for each of several drives, on a thread of its own, begun at one moment.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

use crate::error::{Error, ErrorKind, Reach, Side};

/// Why measuring several at once ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The error, for people.
    pub(crate) text: String,
    /// The subjects that failed, by name; none when it was not a drive's doing.
    pub(crate) subjects: Vec<String>,
    /// Those of them that did not answer.
    pub(crate) silent: Vec<String>,
    /// Whether it is nothing but a stop.
    pub(crate) stopped: bool,
}

impl Failed {
    /// Adds it to what a report says of failures.
    pub(crate) fn note(self, error: &mut Option<String>, subjects: &mut Vec<String>) {
        *error = Some(match error.take() {
            Some(before) => format!("{before}; {}", self.text),
            None => self.text,
        });
        subjects.extend(self.subjects);
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            text: error.to_string(),
            subjects: Vec::new(),
            silent: Vec::new(),
            stopped: error.kind() == ErrorKind::Stopped,
        }
    }
}

/// Prepares each of `items`, then runs all of them from one moment on; what they gave, in order.
///
/// # Errors
/// `Unsupported` when a thread cannot be had. Then nothing has run.
pub(crate) fn at_once<I: Send, P, T: Send>(
    items: Vec<I>,
    prepare: impl Fn(I) -> P + Sync,
    run: impl Fn(P) -> T + Sync,
) -> Result<Vec<T>, Error> {
    let named = |index: usize| Builder::new().name(format!("bench-{index}"));
    on_threads(items, &named, &prepare, &run)
}

fn on_threads<I: Send, P, T: Send>(
    items: Vec<I>,
    builder: &dyn Fn(usize) -> Builder,
    prepare: &(impl Fn(I) -> P + Sync),
    run: &(impl Fn(P) -> T + Sync),
) -> Result<Vec<T>, Error> {
    let start = Barrier::new(items.len());
    // Held while threads are made, so that nobody waits for one that will never come; says
    // afterwards whether all are there.
    let gate = Mutex::new(false);
    std::thread::scope(|scope| {
        let mut all_there = lock(&gate);
        let mut threads = Vec::with_capacity(items.len());
        let mut refused = None;
        for (index, item) in items.into_iter().enumerate() {
            let (start, gate) = (&start, &gate);
            let thread = builder(index).spawn_scoped(scope, move || {
                // A panic must not keep the others waiting.
                let prepared = catch_unwind(AssertUnwindSafe(|| prepare(item)));
                if !*lock(gate) {
                    return None;
                }
                start.wait();
                match prepared {
                    Ok(prepared) => Some(run(prepared)),
                    Err(panic) => resume_unwind(panic),
                }
            });
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        *all_there = refused.is_none();
        drop(all_there);
        let mut done = Vec::with_capacity(threads.len());
        for thread in threads {
            match thread.join() {
                Ok(one) => done.extend(one),
                Err(panic) => resume_unwind(panic),
            }
        }
        match refused {
            Some(source) => {
                let what = "start one for each drive";
                let error = Error::new(ErrorKind::Unsupported, Side::Record, "threads", what);
                Err(error.because(source))
            }
            None => Ok(done),
        }
    })
}

fn lock(gate: &Mutex<bool>) -> MutexGuard<'_, bool> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns what all of them gave, or why not all did and whose failure it was.
///
/// # Errors
/// The first failure of a drive, with all drives that failed at that moment: a hub that goes takes
/// several with it. Without one, the first failure of anything else, and a stop only if there is
/// nothing but that. A target that does not answer counts before drives that do not: it holds them.
pub(crate) fn all_of<T>(results: Vec<(String, Result<T, Error>)>) -> Result<Vec<T>, Failed> {
    let (mut given, mut failed, mut other) = (Vec::new(), None::<Failed>, None::<Error>);
    let is_silent = |error: &Error| error.kind() == ErrorKind::SourceStalled;
    for (name, result) in results {
        match result {
            Ok(one) => given.push(one),
            Err(error) if error.side() == Side::Source && error.kind().reach() != Reach::Run => {
                let silent = is_silent(&error).then(|| name.clone());
                let failed = failed.get_or_insert_with(|| Failed::from(error));
                failed.silent.extend(silent);
                failed.subjects.push(name);
            }
            Err(error) => {
                let before = other.take().filter(|it| it.kind() != ErrorKind::Stopped);
                other = before.or(Some(error));
            }
        }
    }
    match (failed, other) {
        (Some(failed), Some(error)) if is_silent(&error) && failed.silent == failed.subjects => {
            Err(error.into())
        }
        (Some(failed), _) => Err(failed),
        (None, Some(error)) => Err(error.into()),
        (None, None) => Ok(given),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[test]
    fn nobody_runs_before_all_are_prepared() {
        let prepared = AtomicUsize::new(0);
        let prepare = |item: usize| {
            prepared.fetch_add(1, SeqCst);
            item
        };
        let run = |item: usize| (item, prepared.load(SeqCst));
        let done = at_once(vec![7, 8, 9], prepare, run).unwrap();
        assert_eq!(done, [(7, 3), (8, 3), (9, 3)]);
    }

    #[test]
    fn a_thread_that_cannot_be_had_is_an_error_and_nobody_waits_for_it() {
        // No machine has room for such a stack.
        let builder = |index: usize| match index {
            2 => Builder::new().stack_size(1 << 60),
            _ => Builder::new(),
        };
        let ran = AtomicUsize::new(0);
        let run = |(): ()| ran.fetch_add(1, SeqCst);
        let error = on_threads(vec![(); 4], &builder, &|()| (), &run).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("start one for each drive"));
        assert_eq!(ran.into_inner(), 0, "not even those that were there");
    }

    #[test]
    fn a_panic_does_not_keep_the_others_waiting() {
        let prepare = |item: usize| assert_ne!(item, 1, "as it was meant");
        let ended = catch_unwind(AssertUnwindSafe(|| {
            at_once(vec![0, 1, 2], prepare, |()| ())
        }));
        assert!(ended.is_err());
    }

    #[test]
    fn a_failure_is_told_with_all_whose_it_is() {
        let io = rustix::io::Errno::IO;
        let read = |name: &str| (name.to_owned(), Err(Error::source(name, "read", io)));
        let write = || ("b".to_owned(), Err(Error::target("/tank", "write", io)));
        let fine = || ("x".to_owned(), Ok(1));
        let failed = all_of(vec![fine(), read("sda"), write(), read("sdc")]).unwrap_err();
        assert_eq!(failed.subjects, ["sda", "sdc"]);
        assert!(failed.text.contains("sda"), "{failed:?}");
        let failed = all_of(vec![fine(), write()]).unwrap_err();
        assert!(failed.subjects.is_empty() && failed.text.contains("/tank"));
        assert_eq!(all_of(vec![fine()]).unwrap(), [1]);
    }

    #[test]
    fn a_silent_target_is_blamed_on_no_drive_and_a_stop_on_nobody() {
        let fails = |name: &str, kind: ErrorKind, side: Side| {
            let error = Error::new(kind, side, name, "no answer");
            (name.to_owned(), Err::<(), Error>(error))
        };
        let (silent, stopped) = (ErrorKind::SourceStalled, ErrorKind::Stopped);
        let (sda, tank) = (
            || fails("sda", silent, Side::Source),
            || fails("/tank", silent, Side::Target),
        );
        let failed = all_of(vec![sda(), tank()]).unwrap_err();
        assert_eq!(failed.text, "/tank: no answer");
        assert_eq!(failed.subjects, [""; 0]);
        let failed = all_of(vec![sda()]).unwrap_err();
        assert_eq!((&failed.silent, failed.stopped), (&failed.subjects, false));
        let stop = || fails("sdb", stopped, Side::Source);
        let failed = all_of(vec![stop(), tank()]).unwrap_err();
        assert!(!failed.stopped && failed.text.starts_with("/tank"));
        let failed = all_of(vec![stop(), stop()]).unwrap_err();
        assert!(failed.stopped && failed.subjects.is_empty());
    }
}
