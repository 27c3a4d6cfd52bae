//! Watching which files of the sources are read.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use super::world::World;

/// A watch on all folders of the sources.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: OwnedFd,
    /// The path below TARGET of each folder, by the number of its watch.
    dirs: BTreeMap<i32, Vec<u8>>,
}

impl Watch {
    /// Begins to watch.
    pub(crate) fn new(world: &World) -> Self {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let mut watch = Self {
            inotify,
            dirs: BTreeMap::new(),
        };
        for source in world.sources() {
            let name = source.file_name().unwrap().as_encoded_bytes();
            watch.add(source, name);
        }
        watch
    }

    fn add(&mut self, dir: &Path, path: &[u8]) {
        let number = add_watch(&self.inotify, dir, WatchFlags::ACCESS).unwrap();
        self.dirs.insert(number, path.to_vec());
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                let name = entry.file_name();
                let below = [path, b"/", name.as_encoded_bytes()].concat();
                self.add(&entry.path(), &below);
            }
        }
    }

    /// Returns the paths below TARGET of the files that were read since, by those names.
    pub(crate) fn read(self) -> BTreeSet<Vec<u8>> {
        let mut buffer = [MaybeUninit::uninit(); 1 << 14];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut read = BTreeSet::new();
        loop {
            let event = match reader.next() {
                Err(Errno::AGAIN) => return read,
                event => event.unwrap(),
            };
            assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW));
            if let Some(name) = event.file_name()
                && !event.events().contains(ReadFlags::ISDIR)
            {
                let dir = &self.dirs[&event.wd()];
                read.insert([dir, b"/".as_slice(), name.to_bytes()].concat());
            }
        }
    }
}
