//! A drive under load: a load generator on a thread of its own, which can be left behind.
//!
//! A generator stays on the thread that made it. That thread may be held by the kernel for as long as
//! its drive likes, and so may requests of its own; whoever measures goes on without it then.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::cursor::Cursor;
use super::generate::Generator;
use super::sample::{Load, Sample, Ties};
use super::silence::{Silence, TICK, no_thread, wait};
use crate::buffer::Credits;
use crate::error::{Error, ErrorKind, Side};
use crate::io::probe::Chosen;

/// How much longer the thread is waited for than the drives it asks: it knows which of them is silent.
const LAST_WORD: Duration = TICK.saturating_mul(5);

/// What the thread is to do.
type Job = Box<dyn FnOnce(&mut Generator) + Send>;

/// A drive under load.
#[derive(Debug)]
pub(crate) struct Loader {
    /// `None` only while it is dropped: that ends the thread.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    depth_max: usize,
    backend: &'static str,
    /// Whether the thread was left behind.
    is_left: bool,
}

impl Loader {
    /// Starts its thread, with all of `credits` as its memory.
    ///
    /// # Errors
    /// As [`probe::open`](crate::io::probe::open).
    pub(crate) fn new(chosen: Chosen, credits: &Credits) -> Result<Self, Error> {
        let (jobs, to_do) = bounded(1);
        let (made, making) = bounded(1);
        let own = credits.clone();
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                let generator = Generator::new(chosen, &own);
                let generator = generator.map_err(|error| drop(made.send(Err(error))));
                if let Ok(generator) = generator {
                    drop(made.send(Ok(generator.backend())));
                    work(generator, &to_do);
                }
            })
            .map_err(|source| no_thread(&source))?;
        let ended = || {
            let what = "a bug in inhaul ended it";
            Error::new(ErrorKind::Panic, Side::Record, "I/O backend", what)
        };
        // No drive is asked for anything yet.
        let backend = making.recv().map_err(|_| ended())??;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
            depth_max: credits.total(),
            backend,
            is_left: false,
        })
    }

    /// Returns the backend's word.
    pub(crate) fn backend(&self) -> &'static str {
        self.backend
    }

    /// Returns how many requests may be under way at once.
    pub(crate) fn depth_max(&self) -> usize {
        self.depth_max
    }

    /// Loads a drive for the time of one sample, or to the end of what there is.
    ///
    /// # Errors
    /// The first request that fails ends the sample: a drive with errors has no rate. `SourceStalled`
    /// when it does not answer; it is never asked again by this loader.
    pub(crate) fn sample(
        &mut self,
        cursor: &mut Cursor,
        load: &Load,
        ties: &Ties,
    ) -> Result<Sample, Error> {
        let label = cursor.label();
        let (mut moving, load) = (cursor.clone(), load.clone());
        let (sample, moved) = self.run(&label, ties, move |generator, ties| {
            let sample = generator.sample(&mut moving, &load, ties);
            (sample, moving)
        })?;
        *cursor = moved;
        sample
    }

    /// Does something with the generator, on its thread.
    ///
    /// # Errors
    /// `SourceStalled` and `Stopped` when nothing comes of it, as [`wait`].
    pub(crate) fn run<T: Send + 'static>(
        &mut self,
        label: &Path,
        ties: &Ties,
        job: impl FnOnce(&mut Generator, &Ties) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let own = ties.own();
        let given = own.clone();
        let (answer, answers) = bounded(1);
        let job: Job = Box::new(move |generator| {
            let result = job(generator, &given);
            // Nobody waits any more if it came too late.
            let _late = answer.send((result, generator.is_busy()));
        });
        let jobs = self.jobs.as_ref().filter(|_| !self.is_left);
        if jobs.is_none_or(|jobs| jobs.send(job).is_err()) {
            let what = "it did not answer before, and is not asked again";
            return Err(Error::new(
                ErrorKind::SourceStalled,
                Side::Source,
                label,
                what,
            ));
        }
        let limit = ties.stall.map(|stall| stall + LAST_WORD);
        match wait(&answers, label, &mut Silence::new(limit), &own) {
            Ok((result, is_busy)) => {
                self.is_left |= is_busy;
                Ok(result)
            }
            Err(error) => {
                self.is_left = true;
                Err(error)
            }
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take().filter(|_| !self.is_left) {
            // All its memory is back then. (A panic was told of where its answer was waited for.)
            drop(thread.join());
        }
    }
}

/// Works until the other end is gone. Never returns while the kernel has requests of the generator:
/// their buffers are not given back, and the thread that submitted them does not end.
fn work(mut generator: Generator, jobs: &Receiver<Job>) {
    for job in jobs {
        job(&mut generator);
        while generator.is_busy() {
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cursor::Extent;
    use crate::bench::sample::Way;
    use crate::buffer::Arena;
    use std::os::fd::OwnedFd;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    fn cursor(file: OwnedFd) -> Cursor {
        let extent = Extent {
            file: Arc::new(file),
            start: 0,
            len: 1 << 20,
            path: Arc::new(PathBuf::from("/mnt/hung/file")),
        };
        Cursor::new(Arc::from([extent]), true)
    }

    fn load() -> Load {
        Load {
            block: 4096,
            depth: 2,
            warm: Duration::ZERO,
            time: Duration::from_millis(10),
            way: Way::Read,
        }
    }

    fn credits() -> Credits {
        Arena::new(4).unwrap().lend(4).unwrap()
    }

    /// A ring waits for a pipe that nobody writes to as for a drive that does not answer.
    fn left(ties: &Ties, stops: bool) -> Error {
        let (pipe, writer) = std::io::pipe().unwrap();
        let credits = credits();
        let mut loader = Loader::new(Chosen::Uring, &credits).unwrap();
        let mut cursor = cursor(OwnedFd::from(pipe));
        let stop = Arc::clone(&ties.stop);
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            stop.store(stops, Relaxed);
        });
        let error = loader.sample(&mut cursor, &load(), ties).unwrap_err();
        stopper.join().unwrap();
        let again = loader.sample(&mut cursor, &load(), ties).unwrap_err();
        assert!(again.reason().contains("not asked again"), "{again}");
        drop(loader);
        assert_eq!(credits.free(), 2, "the kernel has two buffers for good");
        drop(writer);
        assert_eq!(credits.free(), 2, "whatever comes of them");
        error
    }

    #[test]
    fn a_drive_that_does_not_answer_is_left_with_its_buffers() {
        if crate::io::uring::Uring::probe().is_err() {
            eprintln!("SKIPPED: no ring");
            return;
        }
        let ties = Ties {
            stall: Some(Duration::from_millis(300)),
            ..Ties::default()
        };
        let error = left(&ties, false);
        assert_eq!(error.kind(), ErrorKind::SourceStalled);
        assert_eq!(error.path(), Path::new("/mnt/hung/file"));
        assert!(error.reason().contains("does not answer"), "{error}");
        // Without a limit, a stop is what ends it.
        let error = left(&Ties::default(), true);
        assert_eq!(error.kind(), ErrorKind::Stopped);
    }

    #[test]
    fn a_panic_is_told_of_and_takes_nobody_with_it() {
        let credits = credits();
        let mut loader = Loader::new(Chosen::Blocking, &credits).unwrap();
        let ties = Ties::default();
        let panicked = loader.run(Path::new("x"), &ties, |_, _| panic!("on purpose"));
        let error = panicked.map(|(): ()| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panic);
        drop(loader);
        assert_eq!(credits.free(), 4);
    }
}
