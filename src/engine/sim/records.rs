//! The journal in the simulated world: a real file for whoever reads it, and beside it an inode of
//! the simulated disk, which decides what of it a power cut leaves.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;

use super::aim::Call;
use super::check::{is_final, show};
use super::content::PAGE;
use super::disk::Path;
use super::inode::Form;
use super::target::staged_path;
use super::world::{Odds, Shared, World};
use crate::error::{Error, ErrorKind};
use crate::journal::{
    self, BlocksView, Identity, JOURNAL_FILE, JobHead, Loaded, Medium, Record, Source, Writer,
};

/// Pages in a block.
const PAGES: usize = crate::buffer::SLOT_LEN / PAGE;

/// Folder of the journal on the simulated disk.
const FOLDER: &[u8] = b".inhaul/job";

/// One segment, open for appending.
#[derive(Debug)]
struct SimMedium {
    world: Shared,
    file: File,
    /// Its path on the simulated disk, once that is known.
    path: Option<Path>,
    /// Write-back errors it has told.
    heard: u64,
}

impl Medium for SimMedium {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let shared = self.world.clone();
        let mut world = shared.lock();
        world.op(format_args!("append {} to the journal", bytes.len()));
        let ino = self.ino(&mut world);
        let odds = |odds: &Odds| odds.journal_error;
        let fails = world.fails(Call::JournalAppend, odds, Errno::NOSPC);
        let most = bytes.len();
        let count = match fails {
            Some(_) => world.rng.below(most),
            None => most,
        };
        let inode = world.disk.inode_mut(ino);
        let end = inode.now.size();
        inode.write(end, &bytes[..count]);
        Medium::append(&mut self.file, &bytes[..count])?;
        fails.map_or(Ok(()), |errno| Err(errno.into()))
    }

    fn sync(&mut self) -> io::Result<()> {
        let shared = self.world.clone();
        let mut world = shared.lock();
        world.op(format_args!("sync the journal"));
        let ino = self.ino(&mut world);
        let covered = world.disk.inode(ino).cover();
        let fails = world.fails(Call::JournalSync, |odds| odds.sync_error, Errno::IO);
        world.sync_inode(ino, &mut self.heard, covered, fails)?;
        Ok(())
    }
}

impl SimMedium {
    /// Returns its inode. Which file it is shows when it is first used: it has its name by then.
    fn ino(&mut self, world: &mut World) -> u64 {
        if self.path.is_none() {
            world.adopt_journal();
            self.path = Some(world.path_of(&self.file));
            let ino = world.disk.find(self.path.as_ref().unwrap()).unwrap();
            self.heard = world.disk.inode(ino).errors_told();
        }
        let path = self.path.as_ref().unwrap();
        world.disk.find(path).expect("a journal in use is there")
    }
}

impl World {
    fn names_of_segments(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.job_dir.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| is_segment(name)).collect();
        names.sort();
        names
    }

    /// Takes over what was done to segments behind the disk's back: made durable, or cut durably.
    pub(super) fn adopt_journal(&mut self) {
        for name in self.names_of_segments() {
            let path = path_of(&name);
            let bytes = std::fs::read(self.job_dir.path().join(&name)).unwrap();
            let ino = self.disk.find(&path).unwrap_or_else(|| {
                let ino = self.disk.make(Form::File, 0o600, false);
                self.disk.bind(&path, ino);
                self.disk.inode_mut(ino).write(0, &bytes);
                self.disk.inode_mut(ino).sync(None);
                self.disk.sync_dir(FOLDER);
                ino
            });
            let len = bytes.len() as u64;
            if self.disk.inode(ino).now.size() != len {
                self.disk.inode_mut(ino).set_size(len);
                self.disk.inode_mut(ino).sync(None);
            }
        }
    }

    fn path_of(&self, file: &File) -> Path {
        let stat = rustix::fs::fstat(file).unwrap();
        let mut names = self.names_of_segments().into_iter();
        let found = names.find(|name| {
            let there = rustix::fs::stat(self.job_dir.path().join(name)).unwrap();
            there.st_ino == stat.st_ino
        });
        path_of(&found.expect("a segment has a name"))
    }

    /// Returns what is staged, and still there, of files that are not done.
    fn staged<'l>(&self, loaded: &'l Loaded) -> Vec<(&'l [u8], BlocksView<'l>)> {
        let paths = loaded.staged().map(|blocks| blocks.target_path);
        let views = paths.filter_map(|path| Some((path, loaded.blocks(path)?)));
        let there = views.filter(|(_, view)| {
            let thread = String::from_utf8_lossy(view.stage.thread);
            let path = staged_path(&thread, view.stage.number);
            self.disk.find(&path) == Some(view.stage_ino)
        });
        let mut staged: Vec<_> = there.collect();
        staged.sort_by_key(|(path, _)| *path);
        staged
    }

    /// Checks that the blocks that the journal has are there for good.
    pub(super) fn check_blocks(&mut self, loaded: &Loaded) {
        for (path, view) in self.staged(loaded) {
            let mut versions = self.versions(path);
            versions.retain(|version| version.stamp == view.source_stamp);
            let Some(version) = versions.pop() else {
                continue;
            };
            let count = usize::try_from(view.block_count).unwrap() * PAGES;
            let count = count.min(version.content.pages());
            let inode = self.disk.inode(view.stage_ino);
            if let Some(page) = inode.lacks(&version.content, count) {
                let what = "is recorded as staged, and is not there for good";
                self.violated(format!("page {page} of {} {what}", show(path)));
            }
        }
    }

    /// Lets what is staged rot where that is noticed: in the blocks that were synced last.
    pub(super) fn rot(&mut self, loaded: &Loaded) {
        for (_, view) in self.staged(loaded) {
            let ino = view.stage_ino;
            let has_name = self.disk.names_of(ino).iter().any(|path| is_final(path));
            if has_name || !self.fault(|odds| odds.rot, "the medium") {
                continue;
            }
            if let Some((first, values)) = view.slices().last() {
                let first = usize::try_from(first).unwrap() * PAGES;
                let behind = first + values.len() * PAGES;
                let behind = behind.min(self.disk.inode(ino).now.pages());
                let page = self.rng.between(first, behind - 1);
                self.disk.examine(ino).rot(page);
            }
        }
    }

    /// Makes the real files what the simulated disk has kept.
    pub(super) fn restore_journal(&mut self) {
        for name in self.names_of_segments() {
            let real = self.job_dir.path().join(&name);
            let Some(ino) = self.disk.find(&path_of(&name)) else {
                std::fs::remove_file(real).unwrap();
                continue;
            };
            let content = &self.disk.inode(ino).now;
            let mut bytes = vec![0; usize::try_from(content.size()).unwrap()];
            content.read(0, &mut bytes);
            std::fs::write(real, bytes).unwrap();
        }
    }
}

fn is_segment(name: &str) -> bool {
    let number = name.strip_prefix(JOURNAL_FILE);
    number.is_some_and(|number| number.chars().all(|c| c == '.' || c.is_ascii_digit()))
}

fn path_of(name: &str) -> Path {
    [FOLDER, b"/", name.as_bytes()].concat()
}

/// Loads the job's journal, or begins it, as the opening of a job does.
pub(super) fn open(world: &Shared) -> Result<(Option<Loaded>, Writer), Error> {
    let mut here = world.lock();
    here.make_folder(FOLDER);
    here.disk.sync_dir(super::disk::parent(FOLDER));
    here.op(format_args!("open the journal"));
    let label = here.job_dir.path().to_owned();
    drop(here);
    let dir: OwnedFd = File::open(&label).unwrap().into();
    let mut wrap = |file| -> Box<dyn Medium> {
        Box::new(SimMedium {
            world: world.clone(),
            file,
            path: None,
            heard: 0,
        })
    };
    match journal::open_with(dir.as_fd(), &label, &mut wrap) {
        Ok((loaded, writer)) => {
            world.lock().adopt_journal();
            Ok((Some(loaded), writer))
        }
        Err(error) if error.kind() == ErrorKind::Missing => {
            let mut writer = journal::create_with(dir.as_fd(), &label, &head(), &mut wrap)?;
            world.lock().adopt_journal();
            let source = Record::Source(Source {
                index: 0,
                identity: Identity::default(),
                label: b"source".to_vec(),
                landing: super::tree::LANDING.into(),
            });
            writer.append(&source, Instant::now())?;
            writer.commit()?;
            Ok((None, writer))
        }
        Err(error) => Err(error),
    }
}

fn head() -> JobHead {
    JobHead {
        job: "job".to_owned(),
        options: [0; 32],
        target: Identity::default(),
    }
}

/// Reads what the journal says now, and changes nothing.
pub(super) fn read(world: &Shared) -> Loaded {
    let label = world.lock().job_dir.path().to_owned();
    let dir: OwnedFd = File::open(&label).unwrap().into();
    journal::read(dir.as_fd(), &label, dir.as_fd()).unwrap()
}
