//! Making a ring: the best set of flags this kernel takes, and nothing allowed that is never asked.
//!
//! A ring carries out calls that no seccomp filter sees. So it is made disabled, told once which
//! operations it will ever take, and only then enabled: whoever gets hold of it cannot have it open,
//! link or send anything. A kernel without these restrictions (before 5.15) gives a ring that takes all.

use io_uring::register::Restriction;
use io_uring::{Builder, IoUring, opcode, squeue};
use rustix::io::Errno;

use crate::io::errno;

/// Sets of flags, the best first; a kernel that does not know one says `EINVAL`.
///
/// With DEFER_TASKRUN (6.1) answers are delivered only when we ask for them, on this thread;
/// COOP_TASKRUN (5.19) does without an interrupt; TASKRUN_FLAG shows that there is something to ask
/// for; SUBMIT_ALL (5.18) does not stop at a bad entry. Source: io_uring_setup(2).
pub(super) const RUNGS: [fn(&mut Builder); 4] = [
    |b| {
        b.setup_single_issuer().setup_defer_taskrun();
        b.setup_taskrun_flag().setup_submit_all();
    },
    |b| {
        b.setup_coop_taskrun();
        b.setup_taskrun_flag().setup_submit_all();
    },
    |b| {
        b.setup_submit_all();
    },
    |_| {},
];

/// All that is ever asked of a ring.
pub(super) const OPERATIONS: [u8; 7] = [
    opcode::Read::CODE,
    opcode::Write::CODE,
    opcode::ReadFixed::CODE,
    opcode::WriteFixed::CODE,
    opcode::SyncFileRange::CODE,
    opcode::Fsync::CODE,
    opcode::PollAdd::CODE,
];

/// All that is ever registered with one: buffers (0, 15, 16), a question what it can do (8), the
/// limit of workers (19). Source: `enum io_uring_register_op` of linux/io_uring.h.
const REGISTRATIONS: [u8; 5] = [0, 8, 15, 16, 19];

/// Makes a ring with the first of these sets of flags that this kernel takes.
pub(super) fn build(entries: u32, rungs: &[fn(&mut Builder)]) -> Result<IoUring, Errno> {
    for rung in rungs {
        if let Ok(ring) = restricted(entries, *rung) {
            return Ok(ring);
        }
        match make(entries, *rung, false) {
            Ok(ring) => return Ok(ring),
            Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::INVAL)
}

fn make(entries: u32, rung: fn(&mut Builder), disabled: bool) -> Result<IoUring, Errno> {
    let mut builder = IoUring::builder();
    builder.setup_clamp();
    rung(&mut builder);
    if disabled {
        builder.setup_r_disabled();
    }
    builder
        .build(entries)
        .map_err(|error| errno::from_error(&error))
}

/// Makes a ring that takes nothing but what is listed here.
fn restricted(entries: u32, rung: fn(&mut Builder)) -> Result<IoUring, Errno> {
    let ring = make(entries, rung, true)?;
    let operations = OPERATIONS.into_iter().map(Restriction::sqe_op);
    let registrations = REGISTRATIONS.into_iter().map(Restriction::register_op);
    // What the kernel would not take at once is handed to a worker.
    let flags = Restriction::sqe_flags_allowed(squeue::Flags::ASYNC.bits());
    let mut all: Vec<Restriction> = operations.chain(registrations).chain([flags]).collect();
    let submitter = ring.submitter();
    submitter
        .register_restrictions(&mut all)
        .and_then(|()| submitter.register_enable_rings())
        .map_err(|error| errno::from_error(&error))?;
    Ok(ring)
}

#[cfg(test)]
mod tests {
    #![expect(
        unsafe_code,
        reason = "entries that are to be refused are pushed by hand"
    )]

    use super::*;

    /// Asks a ring for something without memory; its answer.
    fn ask(ring: &mut IoUring, entry: &squeue::Entry) -> i32 {
        // SAFETY: the entry has no memory, and no descriptor.
        unsafe { ring.submission().push(entry) }.unwrap();
        ring.submit_and_wait(1).unwrap();
        ring.completion().next().unwrap().result()
    }

    #[test]
    fn a_ring_takes_nothing_that_is_never_asked_of_it() {
        for rung in RUNGS {
            let Ok(mut ring) = restricted(4, rung) else {
                eprintln!("SKIPPED: no restricted ring with these flags");
                continue;
            };
            let nop = opcode::Nop::new().build();
            assert_eq!(ask(&mut ring, &nop), -libc::EACCES, "an operation");
            let bad = io_uring::types::Fd(-1);
            let sync = opcode::Fsync::new(bad).build();
            let drained = sync.clone().flags(squeue::Flags::IO_DRAIN);
            assert_eq!(ask(&mut ring, &drained), -libc::EACCES, "a flag");
            assert_eq!(ask(&mut ring, &sync), -libc::EBADF, "one of ours");
            let forced = sync.flags(squeue::Flags::ASYNC);
            assert_eq!(ask(&mut ring, &forced), -libc::EBADF, "one of ours");
            let files = ring.submitter().register_files(&[-1]).unwrap_err();
            assert_eq!(files.raw_os_error(), Some(libc::EACCES), "a registration");
        }
    }

    #[test]
    fn without_restrictions_every_operation_is_taken() {
        // The control: shows that the test above can fail.
        let Ok(mut ring) = make(4, RUNGS[3], false) else {
            eprintln!("SKIPPED: no io_uring");
            return;
        };
        assert_eq!(ask(&mut ring, &opcode::Nop::new().build()), 0);
    }

    #[test]
    fn a_ring_is_restricted_where_the_kernel_can() {
        let (Ok(_), Ok(mut ring)) = (restricted(4, RUNGS[3]), build(4, &RUNGS)) else {
            eprintln!("SKIPPED: no restricted ring");
            return;
        };
        let nop = opcode::Nop::new().build();
        assert_eq!(ask(&mut ring, &nop), -libc::EACCES);
    }
}
