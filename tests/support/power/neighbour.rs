//! Somebody else who uses the target.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// Syncs a file of somebody else's in the target.
///
/// That makes the file system commit what it has at that moment, which we never asked it to: what
/// is wrong for a moment can be what a power cut leaves.
pub(crate) fn nudge(target: &Path) {
    let path = target.join("neighbour");
    let file = File::create(&path).unwrap();
    file.write_all_at(b"mine", 0).unwrap();
    file.sync_all().unwrap();
    std::fs::remove_file(&path).unwrap();
}

/// Somebody who does so again and again.
#[derive(Debug)]
pub(super) struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    pub(super) fn new(target: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !told.load(Relaxed) {
                nudge(&target);
                std::thread::sleep(Duration::from_millis(15));
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        let is_sound = matches!(ended, Some(Ok(())));
        assert!(is_sound || std::thread::panicking(), "the neighbour failed");
    }
}
