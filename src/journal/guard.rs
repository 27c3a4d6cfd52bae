//! Maps whose medium fails: where a page cannot be read any more, zeros are read instead.
//!
//! A journal lies on the target, and is looked things up in as long as a run goes on. When that
//! drive is pulled, the kernel answers an access to a page it has dropped with SIGBUS, which would
//! end the process: the lanes in flight, the summary, everything. Instead the page is replaced. A
//! record that is zeros does not fit its tag, so it is not there any more; and [`has_lost`] tells
//! that there was such a page.
//!
//! # Safety invariants
//!
//! - **G1** (nothing but calls that may be made there) The handler reads atomics and calls mmap(2)
//!   and signal(2): no lock, no allocation, no other memory. (mmap is a plain system call here.)
//! - **G2** (our pages only) A range is registered after it was mapped and withdrawn before it is
//!   unmapped, so a page is replaced only while a map of ours is there.
//! - **G3** (nobody else's handler is lost) It is set once, and what is not about a range of ours
//!   gets the default action, which ends the process as before.
#![expect(
    unsafe_code,
    reason = "a signal handler: this is one of the files ARCHITECTURE.md names"
)]

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// Most maps that are guarded at a time: a journal has at most 64 segments and 8 tables, and few are
/// open at a time. One more is a map as it was without this.
const MAPS_MAX: usize = 512;

/// A map, by its first byte and the one behind its last; 0 and 0 when there is none.
struct Range {
    start: AtomicUsize,
    end: AtomicUsize,
}

static RANGES: [Range; MAPS_MAX] = [const {
    Range {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
    }
}; MAPS_MAX];
static PAGE: AtomicUsize = AtomicUsize::new(4096);
static LOST: AtomicBool = AtomicBool::new(false);
static SET: Once = Once::new();

/// Returns whether a page of any guarded map could not be read: something that was recorded was not
/// found since.
pub(super) fn has_lost() -> bool {
    LOST.load(SeqCst)
}

/// Guards a map as long as it lives.
#[derive(Debug)]
pub(super) struct Guard(Option<usize>);

impl Guard {
    /// Guards the `len` bytes from `start` on, which are mapped until this is dropped.
    pub(super) fn new(start: *const u8, len: usize) -> Self {
        SET.call_once(set);
        let start = start.addr();
        let mut ranges = RANGES.iter().enumerate();
        let free = ranges.find(|(_, range)| {
            let taken = range.start.compare_exchange(0, start, SeqCst, SeqCst);
            taken.is_ok()
        });
        Self(free.map(|(index, range)| {
            range.end.store(start.saturating_add(len), SeqCst);
            index
        }))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(range) = self.0.and_then(|index| RANGES.get(index)) {
            range.end.store(0, SeqCst);
            range.start.store(0, SeqCst);
        }
    }
}

fn set() {
    PAGE.store(rustix::param::page_size(), SeqCst);
    // SAFETY: all zeros are a valid `sigaction`: no handler, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_bus as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler does what a handler may, G1; the action it replaces is the default one or
    // that of the standard library, which knows no more of a SIGBUS than to end the process: G3.
    // Without it, a page that cannot be read ends the process, as it would have.
    let _best_effort =
        unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
}

extern "C" fn on_bus(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid record.
    let info = unsafe { &*info };
    // SAFETY: errno is the thread's own; the code that was interrupted must find it as it was.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the pointer is good for the life of the thread.
    let before = unsafe { *errno };
    // Of one that somebody sent, the record has no address, and no access is repeated.
    let was_sent = info.si_code <= 0;
    // SAFETY: of a SIGBUS for an access, the record has the address.
    if was_sent || !replace(unsafe { info.si_addr() }.addr()) {
        // SAFETY: signal(2) may be called there, G1. The access is repeated, and ends us: G3.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    if was_sent {
        // SAFETY: raise(3) may be called there, G1. It ends us when the handler returns.
        unsafe { libc::raise(signal) };
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Puts a page of zeros where the one at `at` cannot be read, if that is ours.
fn replace(at: usize) -> bool {
    let is_in = |range: &Range| (range.start.load(SeqCst)..range.end.load(SeqCst)).contains(&at);
    if !RANGES.iter().any(is_in) {
        return false;
    }
    let page = PAGE.load(SeqCst);
    let start = std::ptr::without_provenance_mut(at & !(page - 1));
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page lies in a map of ours (maps begin and end with pages), which is there: G2. Who
    // reads there takes any bytes, as from a medium that answers otherwise than before.
    let mapped = unsafe { libc::mmap(start, page, access, kind, -1, 0) };
    LOST.store(true, SeqCst);
    mapped == start
}
