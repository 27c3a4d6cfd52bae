//! Sources that change while they are copied: what is published is a state the file really had,
//! everything else is reported.
//!
//! The source is on ext4 and read with O_DIRECT: there no read overlaps a write call, so a file
//! has exactly the states that lie between two calls.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use inhaul::engine::job::{Existing, IoChoice};
use ports::copying::{BACKENDS, Copying, contents, copy_all, job, least_memory};
use ports::looking::{files, staged};
use ports::{Dice, Fs, Place, painted};

const PAGE: usize = 4096;

/// One page of a file: full of the number of its file, its generation and its place.
fn page(file: u64, generation: u32, place: usize) -> Vec<u8> {
    let word = file << 48 | u64::from(generation) << 16 | place as u64;
    word.to_le_bytes().repeat(PAGE / 8)
}

fn pages(file: u64, generation: u32, places: std::ops::Range<usize>) -> Vec<u8> {
    places
        .flat_map(|place| page(file, generation, place))
        .collect()
}

/// The generation of each page.
type State = Vec<u32>;

/// Reads the state out of the bytes of a copy; `None` if no page was ever painted like that.
fn state(file: u64, bytes: &[u8]) -> Option<State> {
    let read = |(place, bytes): (usize, &[u8])| {
        let word = u64::from_le_bytes(bytes.get(..8)?.try_into().unwrap());
        let generation = u32::try_from(word >> 16 & 0xffff_ffff).unwrap();
        (bytes == page(file, generation, place)).then_some(generation)
    };
    bytes.chunks(PAGE).enumerate().map(read).collect()
}

/// A file that is changed, and every state it ever had under its name.
struct Changing {
    number: u64,
    path: PathBuf,
    now: Option<State>,
    generation: u32,
    states: BTreeSet<State>,
}

impl Changing {
    fn new(root: &Path, number: u64, len: usize) -> Self {
        let path = root.join(format!("{}/{number}", number % 3));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, pages(number, 0, 0..len)).unwrap();
        let now = vec![0; len];
        let states = BTreeSet::from([now.clone()]);
        Self {
            number,
            path,
            now: Some(now),
            generation: 0,
            states,
        }
    }

    fn open(&self) -> File {
        File::options()
            .read(true)
            .write(true)
            .open(&self.path)
            .unwrap()
    }

    fn becomes(&mut self, state: State) {
        self.states.insert(state.clone());
        self.now = Some(state);
    }

    /// Changes the file; the state after each call is one that may be copied.
    fn change(&mut self, dice: &mut Dice, elsewhere: &Path) {
        let Some(mut now) = self.now.clone() else {
            return;
        };
        self.generation += 1;
        let (number, generation, len) = (self.number, self.generation, now.len());
        match dice.below(10) {
            0..=2 => {
                let more = 1 + usize::try_from(dice.below(8)).unwrap();
                let bytes = pages(number, generation, len..len + more);
                self.open()
                    .write_all_at(&bytes, (len * PAGE) as u64)
                    .unwrap();
                now.resize(len + more, generation);
                self.becomes(now);
            }
            3 | 4 => {
                let left = usize::try_from(dice.below(len as u64 + 1)).unwrap();
                self.open().set_len((left * PAGE) as u64).unwrap();
                now.truncate(left);
                self.becomes(now);
            }
            5..=7 => {
                let file = self.open();
                for place in 0..len.min(40) {
                    let bytes = page(number, generation, place);
                    file.write_all_at(&bytes, (place * PAGE) as u64).unwrap();
                    now[place] = generation;
                    self.becomes(now.clone());
                }
            }
            8 => {
                let new = elsewhere.join("new");
                std::fs::write(&new, pages(number, generation, 0..len)).unwrap();
                let cwd = rustix::fs::CWD;
                rustix::fs::renameat(cwd, &new, cwd, &self.path).unwrap();
                self.becomes(vec![generation; len]);
            }
            _ => {
                std::fs::remove_file(&self.path).unwrap();
                self.now = None;
            }
        }
    }
}

fn never_torn(io: IoChoice, seed: u64) {
    let Some(place) = Place::new(Fs::Ext4, 192) else {
        return;
    };
    let (source, elsewhere) = (place.dir("source"), place.dir("elsewhere"));
    let target = ports::scratch();
    let mut dice = Dice(seed);
    let mut all = Vec::new();
    for number in 0..100 {
        // Some below, at and above what is read in one piece; in pages.
        let len = *dice.pick(&[1, 3, 60, 255, 256, 257, 300, 700]);
        all.push(Changing::new(&source, number, len));
    }
    let mut job = job(&[contents(&source)], target.path());
    job.engine.io = io;
    job.engine.bwlimit = Some(64 << 20);
    let copying = Copying::start(&job);
    let done = AtomicBool::new(false);
    let (report, watch) = std::thread::scope(|scope| {
        let changer = scope.spawn(|| {
            while !done.load(Relaxed) {
                let index = usize::try_from(dice.below(all.len() as u64)).unwrap();
                all[index].change(&mut dice, &elsewhere);
                std::thread::sleep(Duration::from_millis(dice.below(12)));
            }
        });
        let ended = copying.end();
        done.store(true, Relaxed);
        changer.join().unwrap();
        ended
    });
    let mut told: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (path, kind) in watch.told() {
        assert!(
            ["source-changed", "source-vanished"].contains(&&*kind),
            "{kind}"
        );
        assert_eq!(
            told.insert(path.clone(), kind),
            None,
            "{} told twice",
            path.display()
        );
    }
    let worst = if told.values().any(|kind| kind == "source-changed") {
        4
    } else {
        3
    };
    assert_eq!(report.exit_code, if told.is_empty() { 0 } else { worst });
    for file in &all {
        let name = file.path.strip_prefix(&source).unwrap();
        let copy = std::fs::read(target.path().join(name)).ok();
        assert!(
            copy.is_none() || !told.contains_key(&file.path),
            "{} is both",
            name.display()
        );
        match copy.map(|bytes| state(file.number, &bytes)) {
            Some(Some(state)) => {
                assert!(
                    file.states.contains(&state),
                    "{}: torn: {state:?}",
                    name.display()
                );
            }
            Some(None) => panic!("{}: bytes that nobody wrote", name.display()),
            // Only what went away before it was listed may go without a word.
            None => assert!(
                told.contains_key(&file.path) || file.now.is_none(),
                "{} is lost",
                name.display()
            ),
        }
    }
    assert_eq!(report.totals.files, files(target.path()).len() as u64);
    assert!(staged(target.path()).is_empty());
    // Once it is quiet, the rest follows.
    job.existing = Existing::Overwrite;
    job.engine.bwlimit = None;
    copy_all(&job);
    for file in &all {
        let name = file.path.strip_prefix(&source).unwrap();
        if let Some(now) = &file.now {
            let bytes = std::fs::read(target.path().join(name)).unwrap();
            assert_eq!(
                state(file.number, &bytes).as_ref(),
                Some(now),
                "{}",
                name.display()
            );
        }
    }
}

#[test]
fn through_the_ring_nothing_is_torn() {
    never_torn(BACKENDS[0], 1);
    never_torn(BACKENDS[0], 2);
}

#[test]
fn through_blocking_calls_nothing_is_torn() {
    never_torn(BACKENDS[1], 3);
    never_torn(BACKENDS[1], 4);
}

/// Copies with the fewest buffers there can be, and changes the files once all are listed.
fn changed_after_the_listing(before: usize, after: usize, io: IoChoice) {
    let dir = ports::scratch();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    std::fs::create_dir(&source).unwrap();
    let mut names: Vec<_> = (0..40)
        .map(|number| source.join(format!("{number}")))
        .collect();
    for (number, name) in names.iter().enumerate() {
        std::fs::write(name, painted(number as u64, before)).unwrap();
    }
    let mut job = job(&[contents(&source)], &target);
    job.engine.io = io;
    job.engine.memory = least_memory(1);
    job.engine.bwlimit = Some(24 << 20);
    let copying = Copying::start(&job);
    copying.watch.wait_until(ports::copying::Watch::has_scanned);
    for (number, name) in names.iter().enumerate() {
        // In place: the inode is the one that was listed.
        let file = File::options().write(true).open(name).unwrap();
        file.set_len(after as u64).unwrap();
        file.write_all_at(&painted(1000 + number as u64, after), 0)
            .unwrap();
    }
    let (report, watch) = copying.end();
    let told: BTreeSet<_> = watch.told().into_iter().map(|(path, _)| path).collect();
    assert!(told.len() < 7, "most were not begun by then: {told:?}");
    names.retain(|name| !told.contains(name));
    assert_eq!(report.totals.files, names.len() as u64);
    for name in names {
        let copy = std::fs::read(target.join(name.file_name().unwrap())).unwrap();
        let number: u64 = name.file_name().unwrap().to_str().unwrap().parse().unwrap();
        // Those that were done before the change have the old bytes.
        let mut resized = painted(number, before);
        let old = copy == resized;
        // A quiet state, too: its length is new, its bytes are not yet.
        resized.resize(after, 0);
        let old = old || copy == resized;
        assert!(
            old || copy == painted(1000 + number, after),
            "{} bytes",
            copy.len()
        );
    }
}

#[test]
fn files_that_shrank_after_the_listing_are_copied_as_they_are() {
    for io in BACKENDS {
        changed_after_the_listing(1_500_000, 900_000, io);
        changed_after_the_listing(1_500_000, 5000, io);
        changed_after_the_listing(900_000, 0, io);
    }
}

#[test]
fn files_that_grew_after_the_listing_are_copied_as_they_are() {
    for io in BACKENDS {
        changed_after_the_listing(200_000, 1_040_000, io);
        changed_after_the_listing(200_000, 1_500_000, io);
    }
}
