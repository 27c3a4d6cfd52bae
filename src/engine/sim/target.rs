//! The simulated target: the real order of a publication over a file system that can lose power.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;

use super::aim::Call;
use super::check::show;
use super::disk::{Path, parent};
use super::inode::{Form, Meta};
use super::stager::SimStager;
use super::world::{Held, Shared, World};
use crate::error::{Error, ErrorKind, Side};
use crate::scan::{Attributes, as_path};
use crate::seam;
use crate::target::protocol::{Protocol, Steps};
use crate::target::{Applied, Sealed, Stager, Target, TargetStamp};

/// Where files wait for their names.
pub(super) const STAGE: &str = ".inhaul/stage";

pub(super) fn staged_path(thread: &str, number: u64) -> Path {
    format!("{STAGE}/{thread}/{number}").into_bytes()
}

/// Returns what was set: nothing is lost here.
pub(super) fn all_applied() -> Applied {
    Applied {
        owner_kept: true,
        ..Applied::default()
    }
}

pub(super) fn meta_of(attributes: &Attributes) -> Meta {
    Meta {
        mode: attributes.mode,
        mtime: attributes.mtime,
    }
}

pub(super) fn failed(path: &[u8], what: &str, errno: Errno) -> Error {
    Error::target(as_path(path), what, errno)
}

#[derive(Debug)]
pub(super) struct SimTarget {
    world: Shared,
    protocol: Protocol,
    /// Write-back errors that the two descriptors for syncs have told.
    sync: Mutex<u64>,
    witness: Mutex<u64>,
    /// What the names of this run's staging folders end with.
    run: String,
    link_number: AtomicU64,
}

impl SimTarget {
    /// Opens the target, as a process does that has just started, and with a job that is there.
    pub(super) fn open(world: &Shared, goes_on: bool) -> Self {
        let mut here = world.lock();
        let run = match goes_on {
            true if seam::bug("stage-names-come-again") => String::new(),
            true => format!(".{:016x}", here.rng.next()),
            false => String::new(),
        };
        let links = format!("{STAGE}/links{run}");
        here.make_folder(links.as_bytes());
        let errors = here.disk.told;
        let target = Self {
            world: world.clone(),
            protocol: Protocol::new("target".into(), !here.syncs_whole),
            sync: Mutex::new(errors),
            witness: Mutex::new(errors),
            link_number: AtomicU64::new(here.highest(links.as_bytes()) + 1),
            run,
        };
        drop(here);
        target
    }

    /// Returns a path in the stage for a name that is on its way in or out.
    fn aside(&self) -> Path {
        let number = self.link_number.fetch_add(1, Relaxed);
        staged_path(&format!("links{}", self.run), number)
    }

    /// Removes what is staged, but for what `keep` holds: thread and number.
    pub(super) fn sweep(&self, keep: &HashSet<(String, u64)>) {
        let mut world = self.world.lock();
        for folder in world.disk.list(STAGE.as_bytes()) {
            for path in world.disk.list(&folder) {
                let name = |path: &[u8]| show(&path[parent(path).len() + 1..]);
                let number = name(&path).parse().unwrap();
                if !keep.contains(&(name(&folder), number)) {
                    world.op(format_args!("sweep {}", show(&path)));
                    world.disk.unbind(&path);
                }
            }
        }
    }
}

impl World {
    /// Makes a folder of our own unless it is there.
    pub(super) fn make_folder(&mut self, path: &[u8]) {
        if self.disk.find(path).is_none() {
            self.op(format_args!("mkdir {}", show(path)));
            let ino = self.disk.make(Form::Dir, 0o700, false);
            self.disk.bind(path, ino);
        }
    }

    /// Returns the highest number taken in a staging folder.
    pub(super) fn highest(&self, folder: &[u8]) -> u64 {
        let names = self.disk.list(folder);
        let number = |path: &Path| {
            let name = std::str::from_utf8(&path[folder.len() + 1..]).ok()?;
            name.parse().ok()
        };
        names.iter().filter_map(number).max().unwrap_or(0)
    }

    fn link(
        &mut self,
        existing: &[u8],
        to: &Sealed,
        aside: &dyn Fn() -> Path,
    ) -> Result<(), Errno> {
        let path = &to.target_path;
        if let Some(errno) = self.fails(Call::Link, |_| 0, Errno::IO) {
            return Err(errno);
        }
        let ino = self.disk.find(existing).ok_or(Errno::NOENT)?;
        match self.disk.find(path) {
            None => {
                self.op(format_args!("link {} to {}", show(path), show(existing)));
                self.disk.bind(path, ino);
            }
            Some(there) if there == ino => return Ok(()),
            Some(_) if !to.replace => return Err(Errno::EXIST),
            Some(_) => {
                let staged = aside();
                self.op(format_args!("link {} to {}", show(&staged), show(existing)));
                self.disk.bind(&staged, ino);
                self.op(format_args!("rename {} to {}", show(&staged), show(path)));
                self.disk.rename(&staged, path);
            }
        }
        self.check_name(path);
        Ok(())
    }

    fn rename_staged(&mut self, staged: &[u8], to: &Sealed) -> Result<(), Errno> {
        let path = &to.target_path;
        self.op(format_args!("rename {} to {}", show(staged), show(path)));
        if self.disk.find(staged).is_none() || self.disk.find(parent(path)).is_none() {
            return Err(Errno::NOENT);
        }
        let fails = self.fails(Call::Rename, |odds| odds.name_error, Errno::IO);
        if fails.is_some() || self.disk.find(path).is_some() && !to.replace {
            let errno = fails.unwrap_or(Errno::EXIST);
            self.op(format_args!("unlink {}", show(staged)));
            self.disk.unbind(staged);
            return Err(errno);
        }
        self.disk.rename(staged, path);
        self.check_name(path);
        Ok(())
    }
}

impl Steps for SimTarget {
    fn sync_all(&self) -> Result<(), Errno> {
        let mut world = self.world.lock();
        world.op(format_args!("syncfs"));
        let mut heard = self.sync.lock().unwrap();
        world.sync_all(&mut heard)
    }

    fn sync_dir(&self, path: &[u8]) -> Result<(), Errno> {
        let mut world = self.world.lock();
        world.op(format_args!("fsync folder {}", show(path)));
        if let Some(errno) = world.fails(Call::SyncDir, |odds| odds.sync_error, Errno::IO) {
            return Err(errno);
        }
        world.disk.sync_dir(path);
        Ok(())
    }

    fn name(&self, sealed: &Sealed) -> Result<(), Errno> {
        use crate::target::Form::{Link, Nothing, Staged};
        let mut world = self.world.lock();
        match &sealed.form {
            Nothing => Ok(()),
            Staged { dir, number } => {
                let staged = staged_path(&world.folder(dir), *number);
                world.rename_staged(&staged, sealed)
            }
            Link { existing } => world.link(existing, sealed, &|| self.aside()),
        }
    }

    fn ask_witness(&self) -> Result<(), Errno> {
        let mut world = self.world.lock();
        world.op(format_args!("syncfs (witness)"));
        let mut heard = self.witness.lock().unwrap();
        let answer = world.sync_all(&mut heard);
        world.heard = world.disk.errors;
        answer
    }
}

impl Target for SimTarget {
    fn namesake(&self, _path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }

    fn spelling(&self, _path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }

    fn look_again(&self) -> Result<(), Error> {
        Ok(())
    }

    fn make_dir(&self, path: &[u8]) -> Result<bool, Error> {
        let mut world = self.world.lock();
        if let Some(ino) = world.disk.find(path) {
            if world.disk.inode(ino).form == Form::Dir {
                return Ok(false);
            }
            let what = "something that is not a folder has this name";
            let kind = ErrorKind::TargetExists;
            return Err(Error::new(kind, Side::Target, as_path(path), what));
        }
        if world.disk.find(parent(path)).is_none() {
            return Err(failed(path, "make the folder", Errno::NOENT));
        }
        world.fails_aimed(Call::MakeDir, path, "make the folder")?;
        world.make_folder(path);
        Ok(true)
    }

    fn stager(&self, name: &str) -> Result<Box<dyn Stager>, Error> {
        let mut world = self.world.lock();
        let name = format!("{name}{}", self.run);
        let folder = format!("{STAGE}/{name}");
        world.make_folder(folder.as_bytes());
        let taken = world.highest(folder.as_bytes());
        let dir = world.hold(Held::Folder(name.as_str().into()));
        drop(world);
        Ok(Box::new(SimStager::new(&self.world, &name, dir, taken)))
    }

    fn publish(&self, batch: &[Sealed]) -> Vec<Result<(), Error>> {
        self.protocol.publish(self, batch)
    }

    fn syncs_whole(&self) -> bool {
        self.world.lock().syncs_whole
    }

    fn withdraw(&self, path: &[u8], stamp: TargetStamp) -> Result<(), Error> {
        let mut world = self.world.lock();
        if world.disk.find(path).is_none() {
            return Ok(());
        }
        let aside = self.aside();
        world.op(format_args!("move {} to {}", show(path), show(&aside)));
        world.disk.rename(path, &aside);
        if world.disk.find(&aside) == Some(stamp.ino) {
            world.op(format_args!("unlink {}", show(&aside)));
            world.disk.unbind(&aside);
        } else {
            world.op(format_args!("move {} back to {}", show(&aside), show(path)));
            world.disk.rename(&aside, path);
        }
        Ok(())
    }

    fn settle(&self, paths: &[&[u8]]) -> Result<(), Error> {
        self.protocol.settle(self, paths)
    }

    fn finish_dir(&self, path: &[u8], attributes: &Attributes) -> Result<Applied, Error> {
        let mut world = self.world.lock();
        world.op(format_args!("finish {}", show(path)));
        let Some(ino) = world.disk.find(path) else {
            return Err(failed(path, "open the folder to finish it", Errno::NOENT));
        };
        world.fails_aimed(Call::FinishDir, path, "finish the folder")?;
        world.disk.inode_mut(ino).set_meta(meta_of(attributes));
        if !world.syncs_whole {
            world.disk.inode_mut(ino).sync(None);
        }
        Ok(all_applied())
    }

    fn close(&self, keep: bool) -> Result<(), Error> {
        if !keep {
            self.sweep(&HashSet::new());
        }
        self.protocol.close(self)
    }
}
