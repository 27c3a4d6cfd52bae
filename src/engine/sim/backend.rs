//! The simulated I/O backend, which is the scheduler too: the lane sleeps in `reap`, and that is
//! when everybody else gets to do something.
//!
//! Reads come from the real source, at a moment and in an order of our choosing, short, or failed.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::aim::Call;
use super::check::show;
use super::crew::{Crew, Who};
use super::inode::Covered;
use super::world::{Shared, World};
use crate::io::{Backend, Completion, Full, Op, Request, Wait, Wake};

/// How often the lane may find nobody with anything to do: then it would sleep for ever.
const STALLS_MAX: u32 = 3;

#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(&self) {
        self.0.store(true, Relaxed);
    }
}

/// A request on its way.
#[derive(Debug)]
struct Flight {
    request: Request,
    key: u64,
    /// Whether a write has reached the file already.
    landed: bool,
    /// What a sync covers.
    covered: Option<Covered>,
}

#[derive(Debug)]
pub(super) struct SimBackend<'r> {
    world: Shared,
    crew: Arc<Mutex<Crew<'r>>>,
    flights: Vec<Flight>,
    capacity: usize,
    woken: Arc<Woken>,
    next_key: u64,
    stalls: u32,
}

impl<'r> SimBackend<'r> {
    pub(super) fn new(world: &Shared, crew: &Arc<Mutex<Crew<'r>>>, capacity: usize) -> Self {
        Self {
            world: world.clone(),
            crew: Arc::clone(crew),
            flights: Vec::new(),
            capacity,
            woken: Arc::default(),
            next_key: 0,
            stalls: 0,
        }
    }

    /// Lets somebody take a step; returns whether there was anybody.
    fn step(&mut self, done: &mut Vec<Completion>) -> bool {
        let crew = Arc::clone(&self.crew);
        let mut crew = crew.lock().unwrap_or_else(PoisonError::into_inner);
        match crew.choose(!self.flights.is_empty()) {
            None => return false,
            Some(Who::Disk) => {
                done.push(self.complete());
                self.world.lock().between_steps();
            }
            Some(who) => crew.step(who),
        }
        true
    }

    fn complete(&mut self) -> Completion {
        let mut world = self.world.lock();
        let next = world.rng.below(self.flights.len());
        let Flight {
            mut request,
            key,
            landed,
            covered,
        } = self.flights.swap_remove(next);
        world.flying.remove(&key);
        world.reading.remove(&key);
        let fd = &request.file;
        let result = match &mut request.op {
            Op::Read { offset, lease } => world.read(fd, *offset, lease.as_mut_slice()),
            Op::Write { offset, view } => world.finish_write(fd, *offset, view, landed),
            Op::WriteBack { .. } => {
                let ino = world.file(fd);
                world.op(format_args!("write back {ino}"));
                world.write_back_of(ino);
                Ok(0)
            }
            Op::Sync => {
                let ino = world.file(fd);
                world.op(format_args!("fdatasync {ino}"));
                let covered = covered.expect("a sync knows what it covers");
                world.sync_file(fd, covered).map(|()| 0)
            }
        };
        Completion { request, result }
    }
}

impl World {
    fn read(
        &mut self,
        fd: &std::os::fd::OwnedFd,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        let ino = rustix::fs::fstat(fd).unwrap().st_ino;
        let path = self.source_path(ino);
        let len = buffer.len();
        self.op(format_args!("read {len} of {} at {offset}", show(&path)));
        // After an error, reading twice costs time and nothing else.
        if self.kept.contains(&ino) && self.aimed.is_none() {
            self.violated(format!("{} is done, and read again", show(&path)));
        }
        if self.fault(|odds| odds.source_lost, "the drive") {
            return Err(Errno::NODEV);
        }
        if let Some(errno) = self.fails(Call::Read, |odds| odds.read_error, Errno::IO) {
            return Err(errno);
        }
        if self.is_bad(ino, offset, len) {
            self.note(format_args!("   a page is bad"));
            return Err(Errno::IO);
        }
        let count = rustix::io::pread(fd, &mut *buffer, offset)?;
        let count = self.moved(count, "half of the read");
        // The rest is anybody's: nobody may take it for bytes of the file.
        buffer[count..].fill(0xa5);
        Ok(count)
    }

    /// Returns the name of a source file, by its inode.
    fn source_path(&self, ino: u64) -> Vec<u8> {
        let mut items = self.tree.items.iter();
        let found = items.find(|(_, version)| version.inode.1 == ino);
        found.map_or_else(|| b"?".to_vec(), |(path, _)| path.clone())
    }

    fn finish_write(
        &mut self,
        fd: &std::os::fd::OwnedFd,
        offset: u64,
        view: &[u8],
        landed: bool,
    ) -> Result<usize, Errno> {
        let ino = self.file(fd);
        let len = view.len();
        self.op(format_args!("write {len} to {ino} at {offset}"));
        if landed {
            return Ok(len);
        }
        if let Some(errno) = self.fails(Call::Write, |odds| odds.write_error, Errno::IO) {
            self.disk.inode_mut(ino).tear(offset, view, &mut self.rng);
            let by_chance = self.rng.pick(&[Errno::IO, Errno::NOSPC]);
            return Err(if self.aimed.is_some() {
                errno
            } else {
                by_chance
            });
        }
        let count = self.moved(len, "half of the write");
        self.write(ino, offset, &view[..count]);
        Ok(count)
    }
}

impl Backend for SimBackend<'_> {
    fn submit(&mut self, request: Request) -> Result<(), Full> {
        if self.flights.len() >= self.capacity {
            return Err(Full(request));
        }
        self.next_key += 1;
        let key = self.next_key;
        let mut world = self.world.lock();
        let mut landed = false;
        let mut covered = None;
        match &request.op {
            Op::Write { offset, view } => {
                let ino = world.file(&request.file);
                // What was written early is whole; short writes and errors come later.
                landed = world.rng.chance(300);
                if landed {
                    world.op(format_args!("write early to {ino} at {offset}"));
                    world.write(ino, *offset, view);
                } else {
                    world.flying.insert(key, (ino, *offset, view.clone()));
                }
            }
            Op::Sync => covered = Some(world.disk.inode(world.file(&request.file)).cover()),
            Op::Read { .. } => {
                let ino = rustix::fs::fstat(&request.file).unwrap().st_ino;
                world.reading.insert(key, ino);
            }
            Op::WriteBack { .. } => {}
        }
        drop(world);
        self.flights.push(Flight {
            request,
            key,
            landed,
            covered,
        });
        Ok(())
    }

    fn reap(&mut self, wait: Wait, done: &mut Vec<Completion>) -> Result<(), Errno> {
        if wait == Wait::Poll && self.world.lock().rng.coin() {
            return Ok(());
        }
        loop {
            if !self.step(done) {
                let woken = self.woken.0.swap(false, Relaxed);
                self.stalls += u32::from(wait != Wait::Poll && done.is_empty() && !woken);
                if self.stalls > STALLS_MAX {
                    let what = "the lane waits and nobody has anything to do".to_owned();
                    self.world.lock().violated(what);
                }
                return Ok(());
            }
            self.stalls = 0;
            let woken = self.woken.0.load(Relaxed);
            let may_return = !done.is_empty() || woken || wait == Wait::Poll;
            if may_return && self.world.lock().rng.coin() {
                self.woken.0.store(false, Relaxed);
                return Ok(());
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.flights.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.woken) as Arc<dyn Wake>
    }

    fn name(&self) -> &'static str {
        "simulated"
    }
}
