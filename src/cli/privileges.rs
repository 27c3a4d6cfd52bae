//! What the process may do: as little as its command needs, from before it opens anything.
//!
//! Capabilities belong to threads, and a thread is started with those of the one that starts it: so
//! a command gives up what it does not need before its first thread. Nothing is needed for opening
//! sources and target that is not needed later, too.
//!
//! | kept | for |
//! | --- | --- |
//! | `CAP_DAC_READ_SEARCH` | reading what only its owner may |
//! | `CAP_DAC_OVERRIDE` | writing below a folder of the target that is somebody else's: an earlier run has given it to the owner it has in the source |
//! | `CAP_CHOWN`, `CAP_FOWNER`, `CAP_FSETID` | owners, then mode, attributes and times of what is no longer ours; `CAP_FOWNER` leaves access times of sources alone, too |
//! | `CAP_IPC_LOCK` | registered buffers, without which a root whose limit of locked memory is the usual 8 MiB has few |
//! | `CAP_MKNOD`, `CAP_SETFCAP` | device nodes and file capabilities, if these are asked for |
//! | `CAP_SYS_ADMIN` | a ring, where `kernel.io_uring_disabled` is 1 |
//!
//! `CAP_SYS_RESOURCE` stays for a copy: without, giving a file to an owner who is at the limit of a
//! quota fails, and one such owner would keep everybody else's files from being copied.

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

use crate::engine::job::{IoChoice, Preserve};

/// What is going to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Drives are looked at from outside.
    Look,
    /// Files are read.
    Read(IoChoice),
    /// Blocks of a target are written anew.
    Mend(IoChoice),
    /// Files are copied.
    Copy(IoChoice, Preserve),
    /// Drives are measured: files are read, and written where no name is.
    Measure,
}

impl Work {
    /// Returns the capabilities it takes.
    fn needs(self, ring_takes_admin: bool) -> CapabilitySet {
        let read = CapabilitySet::DAC_READ_SEARCH | CapabilitySet::FOWNER | CapabilitySet::IPC_LOCK;
        let ring = |io| {
            if ring_takes_admin && io != IoChoice::Blocking {
                CapabilitySet::SYS_ADMIN
            } else {
                CapabilitySet::empty()
            }
        };
        match self {
            Self::Look => CapabilitySet::DAC_READ_SEARCH,
            Self::Read(io) => read | ring(io),
            // A write takes set-id bits and file capabilities away, and both are given back.
            Self::Mend(io) => {
                let keep = CapabilitySet::FSETID | CapabilitySet::SETFCAP;
                read | CapabilitySet::DAC_OVERRIDE | keep | ring(io)
            }
            Self::Copy(io, preserve) => {
                let mut set = read | CapabilitySet::DAC_OVERRIDE | ring(io);
                set |= CapabilitySet::CHOWN | CapabilitySet::FSETID | CapabilitySet::SYS_RESOURCE;
                set.set(CapabilitySet::MKNOD, preserve.special);
                set.set(CapabilitySet::SETFCAP, preserve.caps);
                set
            }
            Self::Measure => read | CapabilitySet::DAC_OVERRIDE | ring(IoChoice::Auto),
        }
    }
}

/// Makes sure of the process what no command needs otherwise: no memory with other people's bytes
/// is left in a core file, and no program that it might start gets more rights.
pub fn harden() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Refused by a sandbox at most, and nothing relies on either.
    let _as_it_was = setrlimit(Resource::Core, none);
    let _as_it_was = set_no_new_privs(true);
}

/// Gives up, for this thread and those that it starts, every capability that `work` does not take.
///
/// # Errors
/// The kernel's answer; then it has what it had.
pub fn keep_for(work: Work) -> Result<(), Errno> {
    let now = capabilities(None)?;
    let kept = now.permitted & work.needs(ring_takes_admin());
    let sets = CapabilitySets {
        effective: now.effective & kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    if (sets.effective, sets.permitted, sets.inheritable)
        == (now.effective, now.permitted, now.inheritable)
    {
        return Ok(());
    }
    set_capabilities(None, sets)
}

/// Gives up every capability of this thread, which has nothing to do that takes one.
///
/// # Errors
/// The kernel's answer; then it has what it had.
pub fn keep_nothing() -> Result<(), Errno> {
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )
}

/// Closes to everybody else what is made from now on without a mode of its own. Nothing is: this is
/// for the day that something is forgotten. Not before TARGET is made, whose mode is the user's.
pub fn close_umask() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// Returns whether this kernel makes rings for administrators alone. Source: sysctl
/// `kernel.io_uring_disabled`, Linux 6.6.
fn ring_takes_admin() -> bool {
    std::fs::read("/proc/sys/kernel/io_uring_disabled")
        .is_ok_and(|value| value.trim_ascii() == b"1")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Preserve = Preserve {
        setid: true,
        caps: false,
        special: false,
    };

    #[test]
    fn options_bring_what_they_take_and_nothing_else_does() {
        let copy = |preserve| Work::Copy(IoChoice::Auto, preserve).needs(false);
        let plain = copy(PLAIN);
        assert!(
            !plain.intersects(
                CapabilitySet::MKNOD | CapabilitySet::SETFCAP | CapabilitySet::SYS_ADMIN
            )
        );
        let special = Preserve {
            special: true,
            ..PLAIN
        };
        assert_eq!(copy(special) - plain, CapabilitySet::MKNOD);
        let caps = Preserve {
            caps: true,
            ..PLAIN
        };
        assert_eq!(copy(caps) - plain, CapabilitySet::SETFCAP);
    }

    #[test]
    fn only_a_ring_that_takes_an_administrator_brings_one() {
        let admin = CapabilitySet::SYS_ADMIN;
        assert!(!Work::Read(IoChoice::Auto).needs(false).contains(admin));
        assert!(Work::Read(IoChoice::Auto).needs(true).contains(admin));
        assert!(!Work::Read(IoChoice::Blocking).needs(true).contains(admin));
        assert!(!Work::Look.needs(true).contains(admin));
    }

    #[test]
    fn nothing_that_reads_may_write() {
        for work in [Work::Look, Work::Read(IoChoice::Auto)] {
            let writes = CapabilitySet::DAC_OVERRIDE | CapabilitySet::CHOWN;
            assert!(!work.needs(true).intersects(writes), "{work:?}");
        }
    }

    #[test]
    fn a_thread_that_gave_them_up_has_none() {
        let left = std::thread::spawn(|| {
            keep_nothing().unwrap();
            keep_for(Work::Measure).unwrap();
            capabilities(None).unwrap()
        });
        let left = left.join().unwrap();
        assert!(left.effective.is_empty() && left.permitted.is_empty());
        assert!(left.inheritable.is_empty());
    }
}
