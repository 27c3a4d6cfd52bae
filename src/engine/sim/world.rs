//! The world of one simulated job: its disk, its luck, and how often anything was done to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{Arguments, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::aim::{Aimed, Answer, Call};
use super::change::Past;
use super::check::Acked;
use super::content::PAGE;
use super::disk::{Disk, Ino, Path};
use super::inode::{Covered, Form};
use super::job::Cut;
use super::meddle::Foreign;
use super::rng::Rng;
use super::tree::SourceTree;
use crate::buffer::View;
use crate::engine::job::Existing;

/// Most operations of a job: many times what the longest takes.
const OPS_MAX: u64 = 200_000;

/// Unwinds through the engine: the machine is off.
#[derive(Debug)]
pub(super) struct Crash;

/// Unwinds through the engine: something that must never be so is so.
#[derive(Debug)]
pub(super) struct Violation(pub(super) String);

/// How often things go wrong, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Odds {
    pub(super) short: u32,
    pub(super) read_error: u32,
    pub(super) source_lost: u32,
    /// That a page of the source is bad, for a whole attempt.
    pub(super) bad_page: u32,
    pub(super) write_error: u32,
    pub(super) stage_error: u32,
    pub(super) name_error: u32,
    pub(super) sync_error: u32,
    pub(super) journal_error: u32,
    /// That the kernel writes something back by itself, and that this fails.
    pub(super) write_back: u32,
    pub(super) write_back_error: u32,
    /// That the user asks to stop, at any one step.
    pub(super) stop: u32,
    /// That somebody changes the source, at any one step.
    pub(super) change: u32,
    /// That somebody takes a name in the target, at any one step.
    pub(super) intrude: u32,
    /// That what is staged has rotted by the time a run begins.
    pub(super) rot: u32,
}

/// What a descriptor that the engine holds stands for.
#[derive(Debug, Clone)]
pub(super) enum Held {
    /// A file, and how many of its write-back errors this descriptor has told.
    File(Ino, u64),
    /// The staging folder of a thread.
    Folder(Arc<str>),
}

/// What was done, as text if wanted, and as one number.
#[derive(Debug, Default)]
struct Log {
    sum: u64,
    lines: Option<Vec<String>>,
}

impl Write for Log {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        // FNV-1a.
        for byte in text.bytes() {
            self.sum = (self.sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) disk: Disk,
    /// The source as it is now.
    pub(super) tree: Arc<SourceTree>,
    /// What was in the source, by path below TARGET, oldest first.
    pub(super) past: BTreeMap<Path, Vec<Past>>,
    /// Counts the attempts.
    pub(super) attempt: u64,
    /// What is in the target and not ours, by path.
    pub(super) foreign: BTreeMap<Path, Foreign>,
    /// Names that somebody took from us: nothing is promised of them until they are copied again.
    pub(super) spoiled: BTreeSet<Path>,
    /// What is to become of names that are taken.
    pub(super) existing: Existing,
    /// The write-back errors that this run knows of: those before it, and those its witness heard.
    pub(super) heard: u64,
    /// Whether the journal has lost something for good.
    pub(super) has_gaps: bool,
    pub(super) odds: Odds,
    /// What fails on purpose.
    pub(super) aimed: Option<Aimed>,
    /// What is to become of the bytes of the call that is on.
    struck: Option<Answer>,
    /// Where the journal's real files are.
    pub(super) job_dir: tempfile::TempDir,
    /// Bad pages of the source: inode and page.
    pub(super) bad: BTreeSet<(u64, u64)>,
    /// Whether what can be read of a file with bad pages is kept.
    pub(super) salvage: bool,
    /// Source inodes that are done and unchanged: nobody may read them again.
    pub(super) kept: BTreeSet<u64>,
    /// Asks the run to stop.
    pub(super) stop: Arc<AtomicBool>,
    /// Whether one sync covers the whole file system.
    pub(super) syncs_whole: bool,
    pub(super) held: HashMap<RawFd, Held>,
    /// Writes on their way: by token, to which file, where, what.
    pub(super) flying: BTreeMap<u64, (Ino, u64, View)>,
    /// Reads on their way: by token, of which source file.
    pub(super) reading: BTreeMap<u64, u64>,
    /// What was acknowledged, by path below TARGET.
    pub(super) acked: BTreeMap<Path, Acked>,
    ops: u64,
    crash_at: Option<u64>,
    is_kill: bool,
    log: Log,
    null: OwnedFd,
}

/// The world, for everybody in it.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(super) fn new(seed: u64, tree: Arc<SourceTree>, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let null = std::fs::File::open("/dev/null").unwrap();
        let dirs = [".inhaul", ".inhaul/stage"];
        Self(Arc::new(Mutex::new(World {
            syncs_whole: !rng.chance(250),
            rng,
            disk: Disk::new(&dirs),
            tree,
            past: BTreeMap::new(),
            attempt: 0,
            foreign: BTreeMap::new(),
            spoiled: BTreeSet::new(),
            existing: Existing::Refuse,
            heard: 0,
            has_gaps: false,
            odds: Odds::default(),
            aimed: None,
            struck: None,
            held: HashMap::new(),
            flying: BTreeMap::new(),
            reading: BTreeMap::new(),
            acked: BTreeMap::new(),
            job_dir: super::tree::scratch(),
            bad: BTreeSet::new(),
            salvage: false,
            kept: BTreeSet::new(),
            stop: Arc::default(),
            ops: 0,
            crash_at: None,
            is_kill: false,
            log: Log {
                sum: 0,
                lines: traced.then(Vec::new),
            },
            null: null.into(),
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        // A crash poisons it and leaves it whole all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    /// Begins an attempt that ends, if nothing else ends it, with this.
    pub(super) fn crash_after(&mut self, cut: Option<Cut>) {
        self.is_kill = cut.is_some_and(|cut| cut.is_kill);
        self.crash_at = cut.map(|cut| self.ops + cut.op);
    }

    /// Counts an operation, notes it down, and ends the world here if it is time.
    pub(super) fn op(&mut self, what: Arguments<'_>) {
        self.note(what);
        self.ops += 1;
        if self.ops > OPS_MAX {
            self.violated("there is no end of it".to_owned());
        }
        if self.fault(|odds| odds.stop, "patience") {
            self.stop.store(true, Relaxed);
        }
        if self.crash_at == Some(self.ops) {
            let kind = if self.is_kill { "killed" } else { "power cut" };
            self.note(format_args!("-- {kind}"));
            std::panic::resume_unwind(Box::new(Crash));
        }
    }

    pub(super) fn ops(&self) -> u64 {
        self.ops
    }

    pub(super) fn note(&mut self, what: Arguments<'_>) {
        if let Some(lines) = &mut self.log.lines {
            lines.push(format!("{:>5} {what}", self.ops));
        }
        self.log.write_fmt(what).expect("a sum takes any text");
    }

    /// Returns one number for everything that was done so far.
    pub(super) fn sum(&self) -> u64 {
        self.log.sum
    }

    pub(super) fn take_lines(&mut self) -> Vec<String> {
        self.log.lines.take().unwrap_or_default()
    }

    /// Ends the simulation: the engine has broken its word.
    pub(super) fn violated(&mut self, what: String) -> ! {
        self.note(format_args!("!! {what}"));
        std::panic::resume_unwind(Box::new(Violation(what)));
    }

    /// Says whether something goes wrong now.
    pub(super) fn fault(&mut self, odds: fn(&Odds) -> u32, what: &str) -> bool {
        let strikes = self.rng.chance(odds(&self.odds));
        if strikes {
            self.note(format_args!("   {what} fails"));
        }
        strikes
    }

    /// Says whether a call fails now, and how: as it was aimed at, or with this error by chance.
    pub(super) fn fails(
        &mut self,
        call: Call,
        odds: fn(&Odds) -> u32,
        usual: Errno,
    ) -> Option<Errno> {
        let struck = self.aimed.as_mut().and_then(|aimed| aimed.strike(call));
        if let Some(Answer::Error(errno)) = struck {
            self.note(format_args!("   {call:?} fails: {errno}"));
            return Some(errno);
        }
        // What moves no bytes at all moves them in `moved`, which comes next.
        self.struck = struck;
        let name = format!("{call:?}");
        self.fault(odds, &name).then_some(usual)
    }

    /// Returns how many of these bytes a call moves that did not fail.
    pub(super) fn moved(&mut self, len: usize, what: &str) -> usize {
        let struck = self.struck.take();
        if struck == Some(Answer::Nothing) {
            self.note(format_args!("   nothing of it moves"));
            return 0;
        }
        if len == 0 {
            return 0;
        }
        if struck == Some(Answer::Short) || self.fault(|odds| odds.short, what) {
            return self.rng.between(1, len);
        }
        len
    }

    /// Returns a descriptor for the engine to hold.
    pub(super) fn hold(&mut self, held: Held) -> Arc<OwnedFd> {
        let fd = rustix::io::fcntl_dupfd_cloexec(&self.null, 0).unwrap();
        let fd = Arc::new(fd);
        if let Held::File(ino, _) = &held {
            self.disk.opened(&fd, *ino);
        }
        self.held.insert(fd.as_raw_fd(), held);
        fd
    }

    /// Returns the inode behind a descriptor of the target.
    pub(super) fn file(&self, fd: &OwnedFd) -> Ino {
        match self.held.get(&fd.as_raw_fd()) {
            Some(Held::File(ino, _)) => *ino,
            other => panic!("not a file of the target: {other:?}"),
        }
    }

    pub(super) fn folder(&self, fd: &OwnedFd) -> Arc<str> {
        match self.held.get(&fd.as_raw_fd()) {
            Some(Held::Folder(thread)) => Arc::clone(thread),
            other => panic!("not a staging folder: {other:?}"),
        }
    }

    /// Syncs the whole file system for a descriptor that has told `heard` write-back errors.
    pub(super) fn sync_all(&mut self, heard: &mut u64) -> Result<(), Errno> {
        let fails = self.fails(Call::SyncAll, |odds| odds.sync_error, Errno::IO);
        if !self.syncs_whole {
            return fails.map_or(Ok(()), Err);
        }
        self.disk.sync_all(fails.is_some().then_some(&mut self.rng));
        if *heard == self.disk.errors {
            return Ok(());
        }
        *heard = self.disk.errors;
        self.disk.told = self.disk.errors;
        Err(fails.unwrap_or(Errno::IO))
    }

    /// Syncs one file by a descriptor of it.
    pub(super) fn sync_file(&mut self, fd: &OwnedFd, covered: Covered) -> Result<(), Errno> {
        let Some(Held::File(ino, mut heard)) = self.held.get(&fd.as_raw_fd()).cloned() else {
            panic!("not a file of the target");
        };
        let fails = self.fails(Call::SyncFile, |odds| odds.sync_error, Errno::IO);
        let answer = self.sync_inode(ino, &mut heard, covered, fails);
        self.held.insert(fd.as_raw_fd(), Held::File(ino, heard));
        answer
    }

    /// Syncs one file for a descriptor that has told `heard` of its write-back errors.
    pub(super) fn sync_inode(
        &mut self,
        ino: Ino,
        heard: &mut u64,
        covered: Covered,
        fails: Option<Errno>,
    ) -> Result<(), Errno> {
        let inode = self.disk.inode_mut(ino);
        inode.sync_covered(covered, fails.is_some().then_some(&mut self.rng));
        inode.errors += u64::from(fails.is_some());
        self.disk.errors += u64::from(fails.is_some());
        let told = self.disk.inode_mut(ino).tell(heard);
        told.map_err(|usual| fails.unwrap_or(usual))
    }

    /// Lets happen what happens by itself between two steps.
    pub(super) fn between_steps(&mut self) {
        self.write_back();
        if self.rng.chance(self.odds.change) {
            self.change_source(true);
        }
        if self.rng.chance(self.odds.intrude) {
            self.get_in_the_way();
        }
    }

    /// Lets the kernel write something back by itself.
    fn write_back(&mut self) {
        if !self.rng.chance(self.odds.write_back) {
            return;
        }
        if let Some(ino) = self.disk.some_dirty(&mut self.rng) {
            self.write_back_of(ino);
        }
    }

    pub(super) fn write_back_of(&mut self, ino: Ino) {
        let odds = |odds: &Odds| odds.write_back_error;
        let fails = self.fails(Call::WriteBack, odds, Errno::IO).is_some();
        self.disk.inode_mut(ino).write_back(&mut self.rng, fails);
        self.disk.errors += u64::from(fails);
    }

    /// Leaves what is left after an end out of order: a power cut, or a process that was killed.
    pub(super) fn end_badly(&mut self) {
        for (ino, offset, view) in std::mem::take(&mut self.flying).into_values() {
            self.disk.inode_mut(ino).tear(offset, &view, &mut self.rng);
        }
        if !self.is_kill {
            self.disk.crash(&mut self.rng);
            self.restore_journal();
        }
        self.end_process();
    }

    /// Lets other pages of the source be bad than before.
    pub(super) fn spoil(&mut self) {
        self.bad.clear();
        if self.odds.bad_page == 0 {
            return;
        }
        self.salvage = self.rng.coin();
        let tree = Arc::clone(&self.tree);
        let files = tree.items.values().filter(|it| it.form == Form::File);
        for version in files {
            for page in 0..version.content.size().div_ceil(PAGE as u64) {
                if self.rng.chance(self.odds.bad_page) {
                    self.bad.insert((version.inode.1, page));
                }
            }
        }
    }

    /// Returns whether a page of this range is bad.
    pub(super) fn is_bad(&self, ino: u64, offset: u64, len: usize) -> bool {
        let (first, last) = (
            offset / PAGE as u64,
            (offset + len as u64).div_ceil(PAGE as u64),
        );
        self.bad.range((ino, first)..(ino, last)).next().is_some()
    }

    /// Forgets a process that ended.
    pub(super) fn end_process(&mut self) {
        self.flying.clear();
        self.reading.clear();
        self.held.clear();
        self.stop = Arc::default();
    }
}
