//! One thread's way into the simulated target.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::aim::Call;
use super::check::show;
use super::disk::Ino;
use super::inode::{Form, Inode};
use super::target::{all_applied, failed, meta_of, staged_path};
use super::world::{Held, Odds, Shared, World};
use crate::error::Error;
use crate::scan::{Attributes, Kind};
use crate::target::{
    Applied, Forgone, Form as SealedForm, Geometry, Outline, Sealed, StageId, Staged, Stager,
    TargetStamp, Vacancy,
};

/// What writes past the cache are multiples of.
const ALIGN: u64 = 4096;

#[derive(Debug)]
pub(super) struct SimStager {
    world: Shared,
    thread: Arc<str>,
    dir: Arc<OwnedFd>,
    /// Whether large files are written past the cache.
    direct: bool,
    next: u64,
}

fn stamp_of(ino: Ino, inode: &Inode) -> TargetStamp {
    TargetStamp {
        ino,
        size: inode.now.size(),
        mtime: inode.meta.mtime,
    }
}

impl SimStager {
    pub(super) fn new(world: &Shared, thread: &str, dir: Arc<OwnedFd>, taken: u64) -> Self {
        let direct = world.lock().rng.coin();
        Self {
            world: world.clone(),
            thread: thread.into(),
            dir,
            direct,
            next: taken,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Makes something under a number; returns that and its inode.
    fn make(&mut self, path: &[u8], form: Form) -> Result<(u64, Ino), Error> {
        let number = self.number();
        let staged = staged_path(&self.thread, number);
        let mut world = self.world.lock();
        world.op(format_args!("create {} for {}", show(&staged), show(path)));
        let odds = |odds: &Odds| odds.stage_error;
        if let Some(errno) = world.fails(Call::Create, odds, Errno::NOSPC) {
            return Err(failed(path, "create a staging file", errno));
        }
        if world.disk.find(&staged).is_some() {
            return Err(failed(path, "create a staging file", Errno::EXIST));
        }
        let reuse = world.rng.coin();
        let ino = world.disk.make(form, 0o600, reuse);
        world.disk.bind(&staged, ino);
        Ok((number, ino))
    }

    fn id(&self, number: u64, ino: Ino) -> StageId {
        StageId {
            thread: Arc::clone(&self.thread),
            number,
            ino,
        }
    }

    fn sealed(&self, ino: Ino, number: u64, target_path: Vec<u8>, replace: bool) -> Sealed {
        let world = self.world.lock();
        Sealed {
            form: SealedForm::Staged {
                dir: Arc::clone(&self.dir),
                number,
            },
            target_path,
            replace,
            stamp: Some(stamp_of(ino, world.disk.inode(ino))),
            lacks: false,
            forgone: Forgone::default(),
        }
    }

    fn staged(&self, ino: Ino, id: StageId, outline: Outline) -> Staged {
        let mut world = self.world.lock();
        let direct = self.direct && !outline.small;
        let errors = world.disk.inode(ino).errors_told();
        let file = world.hold(Held::File(ino, errors));
        let dir = world.hold(Held::Folder(Arc::clone(&id.thread)));
        Staged {
            file: Some(file),
            geometry: Geometry {
                align: if direct { 4096 } else { 1 },
                cached: !direct && !outline.small,
            },
            sparse: outline.sparse,
            id: Some(id),
            dir: Some(dir),
        }
    }

    /// Sets the space of a large file aside.
    fn reserve(&self, path: &[u8], ino: Ino, outline: Outline) -> Result<(), Error> {
        let mut world = self.world.lock();
        let align = if self.direct { ALIGN } else { 1 };
        let padded = outline.size.next_multiple_of(align);
        if !outline.small && (outline.sparse || self.direct) {
            world.op(format_args!("reserve {padded} for {}", show(path)));
            let odds = |odds: &Odds| odds.stage_error;
            if let Some(errno) = world.fails(Call::Reserve, odds, Errno::NOSPC) {
                return Err(failed(path, "set its space aside", errno));
            }
            world.set_size(ino, padded);
        }
        let version = world.tree.items.get(path);
        let likely = version.map(|version| Arc::clone(&version.content));
        world.disk.inode_mut(ino).likely = likely;
        Ok(())
    }

    fn remove(&self, id: &StageId) {
        let mut world = self.world.lock();
        let path = staged_path(&id.thread, id.number);
        world.op(format_args!("unlink {}", show(&path)));
        if world.disk.find(&path).is_some() {
            world.disk.unbind(&path);
        }
    }
}

impl World {
    /// Writes some bytes of a file, as one step.
    pub(super) fn write(&mut self, ino: Ino, offset: u64, bytes: &[u8]) {
        self.disk.inode_mut(ino).write(offset, bytes);
        self.check_names_of(ino);
    }

    /// Fails if it was aimed at.
    pub(super) fn fails_aimed(&mut self, call: Call, path: &[u8], what: &str) -> Result<(), Error> {
        match self.fails(call, |_| 0, Errno::IO) {
            Some(errno) => Err(failed(path, what, errno)),
            None => Ok(()),
        }
    }

    /// Sets the length of a file, as one step.
    fn set_size(&mut self, ino: Ino, size: u64) {
        self.disk.inode_mut(ino).set_size(size);
        self.check_names_of(ino);
    }
}

impl Stager for SimStager {
    fn vacancy(&mut self, path: &[u8]) -> Result<Vacancy, Error> {
        let mut world = self.world.lock();
        world.fails_aimed(Call::Lookup, path, "look it up")?;
        let Some(ino) = world.disk.find(path) else {
            return Ok(Vacancy::Free);
        };
        let inode = world.disk.inode(ino);
        let stamp = stamp_of(ino, inode);
        Ok(match inode.form {
            Form::File => Vacancy::File(stamp),
            Form::Dir => Vacancy::Dir,
            Form::Symlink(_) => Vacancy::Symlink(stamp),
            Form::Special => Vacancy::Other(stamp),
        })
    }

    fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>, Error> {
        let mut world = self.world.lock();
        world.fails_aimed(Call::ReadLink, path, "read an existing symlink")?;
        let ino = world.disk.find(path);
        match ino.map(|ino| &world.disk.inode(ino).form) {
            Some(Form::Symlink(text)) => Ok(text.clone()),
            _ => Err(failed(path, "read an existing symlink", Errno::INVAL)),
        }
    }

    fn stage(&mut self, path: &[u8], outline: Outline) -> Result<Staged, Error> {
        let (number, ino) = self.make(path, Form::File)?;
        let id = self.id(number, ino);
        if let Err(error) = self.reserve(path, ino, outline) {
            self.remove(&id);
            return Err(error);
        }
        Ok(self.staged(ino, id, outline))
    }

    fn reopen(
        &mut self,
        path: &[u8],
        id: &StageId,
        outline: Outline,
        keep: u64,
    ) -> Result<Option<Staged>, Error> {
        let mut world = self.world.lock();
        let found = world.disk.find(&staged_path(&id.thread, id.number));
        if found != Some(id.ino) || world.disk.inode(id.ino).form != Form::File {
            return Ok(None);
        }
        // Under a final name as well: a power cut can leave both.
        if world
            .disk
            .names()
            .values()
            .filter(|ino| **ino == id.ino)
            .count()
            > 1
        {
            return Ok(None);
        }
        world.op(format_args!(
            "cut {} for {} to {keep}",
            id.number,
            show(path)
        ));
        world.fails_aimed(Call::Cut, path, "cut it to length")?;
        world.set_size(id.ino, keep);
        drop(world);
        self.reserve(path, id.ino, outline)?;
        Ok(Some(self.staged(id.ino, id.clone(), outline)))
    }

    fn read_staged(
        &mut self,
        path: &[u8],
        staged: &Staged,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        let mut world = self.world.lock();
        world.op(format_args!("read {} back at {offset}", show(path)));
        if let Some(errno) = world.fails(Call::ReadBack, |odds| odds.read_error, Errno::IO) {
            return Err(failed(path, "read back what was staged of it", errno));
        }
        let Some(file) = &staged.file else {
            return Ok(0);
        };
        let ino = world.file(file);
        Ok(world.disk.inode(ino).read_medium(offset, buffer))
    }

    fn read_published(
        &mut self,
        path: &[u8],
        stamp: TargetStamp,
        put: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        let mut world = self.world.lock();
        world.op(format_args!("read {} as it is", show(path)));
        world.fails_aimed(Call::ReadPublished, path, "read it as it is")?;
        let Some(ino) = world.disk.find(path) else {
            return Ok(false);
        };
        let inode = world.disk.inode(ino);
        if stamp_of(ino, inode) != stamp {
            return Ok(false);
        }
        let mut bytes = vec![0; usize::try_from(stamp.size).unwrap()];
        let filled = inode.read_medium(0, &mut bytes);
        put(&bytes[..filled]);
        Ok(filled == bytes.len())
    }

    fn take_back(&mut self, path: &[u8], stamp: TargetStamp, id: &StageId) -> Result<bool, Error> {
        let mut world = self.world.lock();
        let Some(ino) = world.disk.find(path).filter(|ino| *ino == id.ino) else {
            return Ok(false);
        };
        if stamp_of(ino, world.disk.inode(ino)) != stamp {
            return Ok(false);
        }
        let staged = staged_path(&id.thread, id.number);
        let has_folder = world.disk.find(super::disk::parent(&staged)).is_some();
        if !has_folder || world.disk.find(&staged).is_some() {
            return Ok(false);
        }
        world.op(format_args!(
            "take {} back to {}",
            show(path),
            show(&staged)
        ));
        world.fails_aimed(Call::TakeBack, path, "take it back")?;
        world.disk.rename(path, &staged);
        Ok(true)
    }

    fn write_small(&mut self, path: &[u8], staged: &Staged, bytes: &[u8]) -> Result<(), Error> {
        let Some(file) = &staged.file else {
            return Ok(());
        };
        let mut world = self.world.lock();
        let ino = world.file(file);
        let version = world.tree.items.get(path);
        let likely = version.map(|version| Arc::clone(&version.content));
        world.disk.inode_mut(ino).likely = likely;
        let cut = world.rng.below(bytes.len() + 1);
        for (offset, piece) in [(0, &bytes[..cut]), (cut, &bytes[cut..])] {
            world.op(format_args!(
                "write {} of {} at {offset}",
                piece.len(),
                show(path)
            ));
            let odds = |odds: &Odds| odds.write_error;
            if let Some(errno) = world.fails(Call::Write, odds, Errno::IO) {
                return Err(failed(path, "write", errno));
            }
            world.write(ino, offset as u64, piece);
        }
        Ok(())
    }

    fn seal(
        &mut self,
        staged: Staged,
        size: u64,
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        let (Some(file), Some(id)) = (staged.file, staged.id) else {
            panic!("what was staged here is somewhere");
        };
        let mut world = self.world.lock();
        let ino = world.file(&file);
        let is_small = staged.geometry.align == 1 && !staged.geometry.cached;
        if !is_small {
            world.op(format_args!("cut {} to {size}", show(&path)));
            if let Err(error) = world.fails_aimed(Call::Cut, &path, "cut it to length") {
                drop(world);
                self.remove(&id);
                return Err(error);
            }
            world.set_size(ino, size);
        }
        world.op(format_args!("set attributes of {}", show(&path)));
        world.disk.inode_mut(ino).set_meta(meta_of(attributes));
        if !world.syncs_whole {
            world.op(format_args!("fsync {}", show(&path)));
            let covered = world.disk.inode(ino).cover();
            if let Err(errno) = world.sync_file(&file, covered) {
                drop(world);
                self.remove(&id);
                let path = crate::scan::as_path(&path);
                return Err(Error::target_sync(path, "make it durable", errno));
            }
            world.disk.inode_mut(ino).sync_meta();
        }
        drop(world);
        let mut sealed = self.sealed(ino, id.number, path, replace);
        if let (SealedForm::Staged { dir, .. }, Some(own)) = (&mut sealed.form, staged.dir) {
            *dir = own;
        }
        Ok((sealed, all_applied()))
    }

    fn set_again(
        &mut self,
        path: &[u8],
        stamp: TargetStamp,
        attributes: &Attributes,
    ) -> Result<Option<(Applied, TargetStamp)>, Error> {
        let mut world = self.world.lock();
        let Some(ino) = world.disk.find(path) else {
            return Ok(None);
        };
        if stamp_of(ino, world.disk.inode(ino)) != stamp {
            return Ok(None);
        }
        world.op(format_args!("set attributes of {} again", show(path)));
        world.disk.inode_mut(ino).set_meta(meta_of(attributes));
        if !world.syncs_whole {
            world.disk.inode_mut(ino).sync_meta();
        }
        let now = stamp_of(ino, world.disk.inode(ino));
        Ok(Some((all_applied(), now)))
    }

    fn symlink(
        &mut self,
        text: &[u8],
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        let (number, ino) = self.make(&path, Form::Symlink(text.to_vec()))?;
        let mut world = self.world.lock();
        world.disk.inode_mut(ino).set_meta(meta_of(attributes));
        drop(world);
        let sealed = self.sealed(ino, number, path, replace);
        Ok((sealed, all_applied()))
    }

    fn special(
        &mut self,
        _kind: Kind,
        _rdev: u64,
        path: Vec<u8>,
        replace: bool,
        _attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        let (number, ino) = self.make(&path, Form::Special)?;
        let sealed = self.sealed(ino, number, path, replace);
        Ok((sealed, all_applied()))
    }

    fn discard(&mut self, staged: Staged) {
        if let Some(id) = &staged.id {
            self.remove(id);
        }
    }
}
