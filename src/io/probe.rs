//! Which backend: what was asked for, what the kernel grants, and why not.

use crate::buffer::Credits;
use crate::engine::job::IoChoice;
use crate::error::{Error, ErrorKind, Side};

use super::Backend;
use super::blocking::Blocking;
use super::uring::{SetupError, Uring};

/// The backend a run uses, on every lane alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// [`Uring`].
    Uring,
    /// [`Blocking`].
    Blocking,
}

/// Chooses a backend by trying: a tiny ring is made, asked what it can do, and taken down.
///
/// The second value is for people: one line on why [`IoChoice::Auto`] does without a ring.
///
/// # Errors
/// `Unsupported` if a ring was asked for by name and the kernel grants none.
pub fn choose(choice: IoChoice) -> Result<(Chosen, Option<String>), Error> {
    match choice {
        IoChoice::Blocking => Ok((Chosen::Blocking, None)),
        IoChoice::Auto | IoChoice::Uring => judge(choice, Uring::probe()),
    }
}

/// Returns what a probe's outcome means for a choice.
fn judge(
    choice: IoChoice,
    probed: Result<(), SetupError>,
) -> Result<(Chosen, Option<String>), Error> {
    match probed {
        Ok(()) => Ok((Chosen::Uring, None)),
        Err(refusal) if choice == IoChoice::Auto => {
            let line = format!("using blocking I/O, as io_uring was refused: {refusal}");
            Ok((Chosen::Blocking, Some(line)))
        }
        Err(refusal) => Err(unsupported(&refusal.to_string())),
    }
}

/// Makes a backend on the calling thread, where it stays.
///
/// - `depth`: requests at once.
/// - `threads`: threads that block at once: our workers, or the kernel's for a ring.
/// - `credits`: the memory this backend reads into or writes from; a ring registers it if it can.
/// - `fixed_writes`: whether a ring may write from registered memory; never for ZFS, see
///   [`Uring::with_fixed_writes`].
///
/// # Errors
/// `Unsupported`, with the kernel's reason: a limit may be reached now that was not at [`choose`].
pub fn open(
    chosen: Chosen,
    depth: usize,
    threads: usize,
    credits: Option<&Credits>,
    fixed_writes: bool,
) -> Result<Box<dyn Backend>, Error> {
    match chosen {
        Chosen::Uring => {
            let ring = Uring::new(depth, credits).map_err(|why| unsupported(&why.to_string()))?;
            let workers = u32::try_from(threads).unwrap_or(u32::MAX);
            Ok(Box::new(
                ring.with_workers(workers).with_fixed_writes(fixed_writes),
            ))
        }
        Chosen::Blocking => Blocking::new(threads, depth)
            .map(|backend| Box::new(backend) as Box<dyn Backend>)
            .map_err(|why| unsupported("starting I/O threads").because(why)),
    }
}

/// Returns a failure to get a backend. No path is involved, so its place names the backend.
fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, Side::Record, "I/O backend", what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::uring::Step;
    use rustix::io::Errno;

    const DENIED: SetupError = SetupError {
        errno: Errno::PERM,
        step: Step::Setup,
    };

    #[test]
    fn auto_falls_back_and_says_why() {
        let (chosen, line) = judge(IoChoice::Auto, Err(DENIED)).unwrap();
        assert_eq!(chosen, Chosen::Blocking);
        assert_eq!(
            line.unwrap(),
            "using blocking I/O, as io_uring was refused: io_uring_setup: Operation not permitted \
             (os error 1); likely cause: sysctl kernel.io_uring_disabled, or the seccomp filter of \
             a container"
        );
    }

    #[test]
    fn a_ring_asked_for_by_name_is_refused_by_name() {
        let error = judge(IoChoice::Uring, Err(DENIED)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("kernel.io_uring_disabled"));
    }

    #[test]
    fn a_granted_ring_needs_no_words() {
        for choice in [IoChoice::Auto, IoChoice::Uring] {
            assert_eq!(judge(choice, Ok(())).unwrap(), (Chosen::Uring, None));
        }
    }

    #[test]
    fn blocking_asked_for_by_name_is_not_probed() {
        let chosen = choose(IoChoice::Blocking).unwrap();
        assert_eq!(chosen, (Chosen::Blocking, None));
    }

    #[test]
    fn what_was_chosen_is_what_opens() {
        let backend = open(Chosen::Blocking, 4, 2, None, false).unwrap();
        assert_eq!((backend.name(), backend.capacity()), ("blocking", 4));
    }
}
