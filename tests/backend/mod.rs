//! Shared by the backend tests: every backend there is, a mischievous one, and a pump.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests, outside of test functions"
)]
#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use inhaul::buffer::{ALIGN, Arena, Credits, Lease, View};
use inhaul::io::blocking::Blocking;
use inhaul::io::resume::{Step, Transfer};
use inhaul::io::uring::Uring;
use inhaul::io::{Backend, Completion, Full, Op, Request, Wait, Wake};
use rustix::io::Errno;

/// Longer than any test runs: a reap that waits this long hangs the test, which is the failure.
pub(crate) const EVER: Wait = Wait::AtMost(Duration::from_secs(3600));

/// One way of doing I/O, made on the thread that calls `make`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) make: fn(usize, &Credits) -> Box<dyn Backend>,
}

/// Returns every backend this machine has; says which it has not.
pub(crate) fn kinds() -> Vec<Kind> {
    let mut kinds = vec![Kind {
        name: "blocking",
        make: |depth, _| Box::new(Blocking::new(3, depth).unwrap()),
    }];
    match Uring::probe() {
        Ok(()) => {
            kinds.push(Kind {
                name: "io_uring",
                make: |depth, _| Box::new(Uring::new(depth, None).unwrap().with_workers(3)),
            });
            kinds.push(Kind {
                name: "io_uring+registered",
                make: |depth, credits| {
                    let ring = Uring::new(depth, Some(credits)).unwrap();
                    if let Some(errno) = ring.unregistered() {
                        eprintln!("SKIPPED: registered memory: {errno}");
                    }
                    Box::new(ring.with_fixed_writes(true))
                },
            });
        }
        Err(why) => eprintln!("SKIPPED: both kinds of io_uring: {why}"),
    }
    kinds
}

/// Returns one lane's slots.
pub(crate) fn credits(count: usize) -> Credits {
    Arena::new(count).unwrap().lend(count).unwrap()
}

/// Opens for reading and writing, made if need be; `None` if the file system has no O_DIRECT.
pub(crate) fn open(path: &Path, direct: bool) -> Option<Arc<OwnedFd>> {
    let flags = if direct { libc::O_DIRECT } else { 0 };
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags)
        .open(path);
    match opened {
        Ok(file) => Some(Arc::new(OwnedFd::from(file))),
        Err(why) if direct && why.raw_os_error() == Some(libc::EINVAL) => {
            eprintln!("SKIPPED: no O_DIRECT on {}", path.display());
            None
        }
        Err(why) => panic!("{}: {why}", path.display()),
    }
}

/// Returns bytes in which a swapped or shifted page shows: the period, 251, is prime.
pub(crate) fn painted(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| u8::try_from((i + usize::from(seed)) % 251).unwrap())
        .collect()
}

/// Returns a lease of the first `len` bytes of a fresh slot.
pub(crate) fn lease(credits: &Credits, len: usize) -> Lease {
    let mut lease = credits.take().unwrap();
    lease.truncate(len);
    lease
}

/// Returns a view of `bytes` in a fresh slot.
pub(crate) fn view(credits: &Credits, bytes: &[u8]) -> View {
    let mut lease = lease(credits, bytes.len());
    lease.as_mut_slice().copy_from_slice(bytes);
    lease.freeze(bytes.len())
}

pub(crate) fn read(token: u64, file: &Arc<OwnedFd>, offset: u64, lease: Lease) -> Request {
    Request {
        token,
        file: Arc::clone(file),
        op: Op::Read { offset, lease },
    }
}

pub(crate) fn write(token: u64, file: &Arc<OwnedFd>, offset: u64, view: View) -> Request {
    Request {
        token,
        file: Arc::clone(file),
        op: Op::Write { offset, view },
    }
}

/// Submits one request and waits for it.
pub(crate) fn once(backend: &mut dyn Backend, request: Request) -> Completion {
    backend.submit(request).unwrap();
    let mut done = Vec::new();
    while done.is_empty() {
        backend.reap(EVER, &mut done).unwrap();
    }
    assert_eq!(done.len(), 1);
    done.pop().unwrap()
}

/// How a request ended, above resumption.
#[derive(Debug)]
pub(crate) enum End {
    Done(Request),
    Short(Request, usize),
    Failed(Request, Errno),
}

/// Requests on their way through a backend, resumed until they end.
#[derive(Debug)]
pub(crate) struct Pump<'a> {
    backend: &'a mut dyn Backend,
    transfers: HashMap<u64, Transfer>,
    /// How often something was short and had to go on.
    pub(crate) resumed: usize,
}

impl<'a> Pump<'a> {
    pub(crate) fn new(backend: &'a mut dyn Backend) -> Self {
        Self {
            backend,
            transfers: HashMap::new(),
            resumed: 0,
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.transfers.len()
    }

    /// Starts a request; there must be room for it.
    pub(crate) fn start(&mut self, request: Request) {
        let transfer = Transfer::new(&request.op);
        self.transfers.insert(request.token, transfer);
        self.backend.submit(request).unwrap();
    }

    /// Waits until something has ended.
    pub(crate) fn pump(&mut self) -> Vec<End> {
        let mut ends = Vec::new();
        while ends.is_empty() && !self.transfers.is_empty() {
            let mut done = Vec::new();
            self.backend.reap(EVER, &mut done).unwrap();
            for completion in done {
                let token = completion.request.token;
                let transfer = self.transfers.get_mut(&token).unwrap();
                let end = match transfer.settle(completion) {
                    Step::Again(request) => {
                        self.resumed += 1;
                        self.backend.submit(request).unwrap();
                        continue;
                    }
                    Step::Done(request) => End::Done(request),
                    Step::EndOfFile { request, len } => End::Short(request, len),
                    Step::Failed { request, errno } => End::Failed(request, errno),
                };
                self.transfers.remove(&token);
                ends.push(end);
            }
        }
        ends
    }
}

/// A small generator with a seed, so that mischief can be repeated.
#[derive(Debug)]
pub(crate) struct Dice(pub u64);

impl Dice {
    /// Returns a number below `n`, at least 1.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        // xorshift64, Marsaglia 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n).unwrap()).unwrap()
    }
}

/// A backend that keeps to the letter of the contract and to nothing else: transfers are cut short,
/// completions held back and handed out in any order, and bytes beyond a short read are overwritten.
#[derive(Debug)]
pub(crate) struct Mischief {
    inner: Box<dyn Backend>,
    dice: Dice,
    direct: bool,
    held: Vec<Completion>,
    /// The whole views of writes in flight, and what to claim was written.
    writes: HashMap<u64, (View, usize)>,
    /// How often a token was cut short. Four times at most: with two honest answers between, the
    /// end of a file is then seen three times in a row before sixteen rounds have passed.
    cut: HashMap<u64, u8>,
}

impl Mischief {
    pub(crate) fn new(inner: Box<dyn Backend>, seed: u64, direct: bool) -> Self {
        Self {
            inner,
            dice: Dice(seed | 1),
            direct,
            held: Vec::new(),
            writes: HashMap::new(),
            cut: HashMap::new(),
        }
    }

    /// Returns `len`, or now and then less, but not less than 1.
    fn shorten(&mut self, token: u64, len: usize) -> usize {
        let cut = self.cut.entry(token).or_default();
        if len < 2 || *cut >= 4 || self.dice.below(2) == 0 {
            return len;
        }
        *cut += 1;
        1 + self.dice.below(len - 1)
    }

    fn distort(&mut self, mut completion: Completion) -> Completion {
        let token = completion.request.token;
        let Ok(moved) = completion.result else {
            return completion;
        };
        match &mut completion.request.op {
            Op::Read { lease, .. } => {
                let claim = self.shorten(token, moved);
                lease.as_mut_slice()[claim..].fill(0xEE);
                completion.result = Ok(claim);
            }
            Op::Write { view, .. } => {
                let (whole, claim) = self.writes.remove(&token).unwrap();
                *view = whole;
                completion.result = Ok(claim.min(moved));
            }
            Op::WriteBack { .. } | Op::Sync => {}
        }
        completion
    }
}

impl Backend for Mischief {
    fn submit(&mut self, mut request: Request) -> Result<(), Full> {
        if self.in_flight() >= self.capacity() {
            return Err(Full(request));
        }
        if let Op::Write { view, .. } = &mut request.op {
            let whole = view.clone();
            let claim = self.shorten(request.token, whole.len());
            // An aligned descriptor takes no odd length; more is written than will be claimed.
            let len = if self.direct {
                claim.next_multiple_of(ALIGN).min(whole.len())
            } else {
                claim
            };
            *view = whole.slice(0..len);
            self.writes.insert(request.token, (whole, claim));
        }
        self.inner.submit(request)
    }

    fn reap(&mut self, wait: Wait, done: &mut Vec<Completion>) -> Result<(), Errno> {
        let patience = if self.held.is_empty() {
            wait
        } else {
            Wait::Poll
        };
        let mut fresh = Vec::new();
        self.inner.reap(patience, &mut fresh)?;
        for completion in fresh {
            let completion = self.distort(completion);
            self.held.push(completion);
        }
        let least = usize::from(wait != Wait::Poll);
        let mut released = 0;
        while !self.held.is_empty() && (released < least || self.dice.below(2) == 0) {
            let index = self.dice.below(self.held.len());
            done.push(self.held.swap_remove(index));
            released += 1;
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.held.len()
    }

    fn capacity(&self) -> usize {
        self.inner.capacity()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.inner.waker()
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }
}

const CHILD: &str = "INHAUL_TEST_CHILD";

pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs one test of this program again in a process of its own, where limits can be changed.
pub(crate) fn run_child(test: &str, prepare: impl FnOnce(&mut Command)) {
    // Two at once, and one fork would inherit the descriptor the other's copy is written through;
    // a program that is open for writing cannot be run (ETXTBSY).
    static ONE: Mutex<()> = Mutex::new(());
    let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // From a place that other users can reach.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("child");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [dir.path(), &program] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let mut child = Command::new(&program);
    child
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .current_dir("/");
    prepare(&mut child);
    let running = child
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(alone);
    let output = running.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    eprintln!("{told}");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let counted = String::from_utf8_lossy(&output.stdout);
    assert!(
        counted.contains("1 passed"),
        "the child ran nothing: {counted}"
    );
}
