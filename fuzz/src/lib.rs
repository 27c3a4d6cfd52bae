//! Everything that reads bytes which others may have written, each held to what must be true
//! whatever these are: no panic, no end that does not come, and nothing made up.
//!
//! `tests/fuzz_parsers.rs` runs them in the gate with mutated samples; cargo-fuzz runs them for as
//! long as somebody lets it.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use inhaul::bench::compare::compare;
use inhaul::bench::report::Report;
use inhaul::cli::registry::Registry;
use inhaul::cli::resolve::listed_rules;
use inhaul::cli::units::{parse_rate, parse_size};
use inhaul::engine::Recipe;
use inhaul::error::ErrorKind;
use inhaul::journal;
use inhaul::manifest::{self, B3sum, Codec, NulList, reader};
use inhaul::scan::{FilesFrom, Filter, Want};
use inhaul::topology::mountinfo;

/// What is fed with bytes; panics if something is wrong with them that must not be.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 10] = [
    ("journal", journal),
    ("journal_frames", journal_frames),
    ("manifest", manifest),
    ("recipe", recipe),
    ("files_from", files_from),
    ("patterns", patterns),
    ("mount_table", mount_table),
    ("registry", registry),
    ("bench_report", bench_report),
    ("sizes", sizes),
];

/// A folder of a thread, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let number = NUMBER.fetch_add(1, Relaxed);
        let path = place.join(format!("inhaul-fuzz-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a folder in memory");
        Self(path)
    }

    /// Empties it and puts one file there.
    fn hold(&self, name: &str, bytes: &[u8]) -> File {
        for entry in std::fs::read_dir(&self.0).expect("our folder") {
            let path = entry.expect("our folder").path();
            std::fs::remove_file(path).expect("our files");
        }
        std::fs::write(self.0.join(name), bytes).expect("room in memory");
        File::open(&self.0).expect("our folder")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_dir_all(&self.0);
    }
}

fn with_folder<T>(use_it: impl FnOnce(&Folder) -> T) -> T {
    thread_local! {
        static FOLDER: OnceCell<Folder> = const { OnceCell::new() };
    }
    FOLDER.with(|folder| use_it(folder.get_or_init(Folder::new)))
}

/// Reads a journal, asks it everything, opens it to go on, and reads it again: it says the same.
pub fn journal(bytes: &[u8]) {
    with_folder(|folder| {
        let dir = folder.hold("journal", bytes);
        let label = Path::new("JOB");
        let before = match journal::read(dir.as_fd(), label, dir.as_fd()) {
            Ok(loaded) => ask(&loaded),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::RecordCorrupt, "{error}");
                return;
            }
        };
        let (loaded, mut writer) = journal::open(dir.as_fd(), label).expect("it can be read");
        assert_eq!(ask(&loaded), before, "opened, it says something else");
        writer.commit().expect("a sound folder");
        drop((loaded, writer));
        let loaded = journal::read(dir.as_fd(), label, dir.as_fd()).expect("it was opened");
        assert_eq!(
            ask(&loaded),
            before,
            "opened before, it says something else"
        );
    });
}

/// Asks a journal all there is to ask; returns how much it says is done.
fn ask(loaded: &journal::Loaded) -> (u64, usize, usize) {
    let mut done = 0;
    for file in loaded.iter_done() {
        done += 1;
        let path = file.target_path;
        assert!(loaded.done(path).is_some(), "listed and not found");
        let _grade = loaded.verified(path);
    }
    for blocks in loaded.staged() {
        let path = blocks.target_path;
        if let Some(view) = loaded.blocks(path) {
            let values: usize = view.slices().map(|(_, values)| values.len()).sum();
            assert_eq!(values, view.values().count());
        }
        let _of_it = (loaded.done(path), loaded.naming(path), loaded.failed(path));
        let _of_it = (loaded.other(path), loaded.left_behind(path));
    }
    let staged = loaded.staged().count();
    let listed = loaded.iter_other().count() + loaded.iter_failed().count();
    let waiting = loaded.unacknowledged().count();
    let _counts = (
        loaded.done_bytes(),
        loaded.has_gaps(),
        loaded.sources().count(),
    );
    assert_eq!(loaded.done_count(), done);
    (done, staged, listed + waiting)
}

/// The same for frames whose tags are right: kind, length (two bytes, little endian) and payload,
/// one after the other. What a tag keeps out is all that [`journal`] mostly sees.
pub fn journal_frames(bytes: &[u8]) {
    journal(&segment(bytes));
}

/// Returns a segment with these frames, each with the tag that it has to have.
pub fn segment(frames: &[u8]) -> Vec<u8> {
    let mut bytes = b"inhaulj\n".to_vec();
    // Version and number.
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([7; 16]);
    let mut tag = blake3::hash(&bytes);
    let (mut rest, mut seq) = (frames, 0_u64);
    while let [kind, low, high, more @ ..] = rest {
        let len =
            u16::from_le_bytes([*low, *high]).min(u16::try_from(more.len()).unwrap_or(u16::MAX));
        let (payload, behind) = more.split_at(usize::from(len));
        let start = bytes.len();
        bytes.extend(u32::from(len).to_le_bytes());
        bytes.push(*kind);
        bytes.extend(seq.to_le_bytes());
        bytes.extend(payload);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&tag.as_bytes()[..16]);
        hasher.update(&bytes[start..]);
        tag = hasher.finalize();
        bytes.extend(&tag.as_bytes()[..16]);
        (rest, seq) = (behind, seq + 1);
    }
    bytes
}

/// Reads a manifest by each codec: what it takes for a record is written the same way again.
pub fn manifest(bytes: &[u8]) {
    let codecs: [&dyn Codec; 2] = [&B3sum, &NulList];
    for codec in codecs {
        for record in reader(codec, bytes).flatten() {
            assert!(codec.can_express(&record.path));
            let mut frame = Vec::new();
            codec.encode(&record, &mut frame);
            assert_eq!(frame.pop(), Some(codec.terminator()));
            assert_eq!(codec.decode(&frame), Ok(record));
        }
    }
    with_folder(|folder| {
        let dir = folder.hold("manifest.b3", bytes);
        if let Ok(loaded) = manifest::load(dir.as_fd()) {
            drop(loaded);
        }
    });
}

/// Reads what a copy was asked for: written down again, it is the same.
pub fn recipe(bytes: &[u8]) {
    let label = Path::new("JOB/job.json");
    match Recipe::from_json(bytes, label) {
        Ok(recipe) => {
            let text = recipe.to_json().expect("it was read");
            let again = Recipe::from_json(&text, label).expect("it was written");
            assert_eq!(again.hash(), recipe.hash());
            assert_eq!(again.to_json().expect("it was read"), text);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::RecordCorrupt, "{error}"),
    }
}

/// Reads a list of files: its paths make the same list again, and it wants them.
pub fn files_from(bytes: &[u8]) {
    for nul_separated in [false, true] {
        let Ok(list) = FilesFrom::parse(bytes, nul_separated) else {
            continue;
        };
        let again = FilesFrom::of_paths(list.paths()).expect("they were taken");
        assert!(again.paths().eq(list.paths()), "not the same list");
        for path in list.paths() {
            assert_eq!(list.wants(path, false), Want::Yes);
            assert!(!path.split(|byte| *byte == b'/').any(|name| name == b".."));
        }
    }
}

/// Reads a list of patterns and holds paths against them: the bytes themselves, and others.
pub fn patterns(bytes: &[u8]) {
    for nul_separated in [false, true] {
        let Ok(filter) = Filter::new(listed_rules(bytes, nul_separated)) else {
            continue;
        };
        let long = [&b"a/"[..]; 40].concat();
        let names = bytes.split(|byte| matches!(byte, 0 | b'\n')).take(20);
        for path in names.chain([&b"a"[..], b"a/b/c.tmp", &long]) {
            for is_dir in [false, true] {
                let _allowed = filter.allows(path, is_dir);
            }
        }
    }
}

/// Reads a table of mounts.
pub fn mount_table(bytes: &[u8]) {
    let mounts = mountinfo::parse(bytes);
    assert!(mounts.len() <= bytes.split(|byte| *byte == b'\n').count());
    for mount in mounts {
        for name in ["lowerdir", "subvol", ""] {
            let _values = mount.option_values(name);
        }
    }
}

/// Reads a user's notes of copies: one with these bytes, and one whose name they are.
pub fn registry(bytes: &[u8]) {
    with_folder(|folder| {
        let state = folder.0.join("state");
        let _none_yet = std::fs::remove_dir_all(&state);
        let jobs = state.join("inhaul/jobs");
        std::fs::create_dir_all(&jobs).expect("room in memory");
        std::fs::write(jobs.join("20260101-000000-0000"), bytes).expect("room in memory");
        let name: Vec<u8> = bytes
            .iter()
            .copied()
            .filter(|b| !matches!(b, 0 | b'/'))
            .collect();
        let name = OsStr::from_bytes(&name[..name.len().min(255)]);
        if !matches!(name.as_bytes(), b"" | b"." | b"..") {
            std::fs::write(jobs.join(name), bytes).expect("room in memory");
        }
        let unfinished = Registry::at(&state).unfinished();
        assert!(unfinished.len() <= 2);
        assert!(unfinished.iter().all(|entry| entry.target.is_absolute()));
        std::fs::remove_dir_all(&state).expect("our files");
    });
}

/// Reads the report of a bench, and holds it against itself and another.
pub fn bench_report(bytes: &[u8]) {
    let Ok(report) = serde_json::from_slice::<Report>(bytes) else {
        return;
    };
    let text = serde_json::to_vec(&report).expect("it was read");
    serde_json::from_slice::<Report>(&text).expect("it was written");
    for other in [&report, &Report::default()] {
        let _rows = compare(&report, other);
        let _rows = compare(other, &report);
    }
}

/// Reads sizes and rates as people type them.
pub fn sizes(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _size = parse_size(text);
        let _rate = parse_rate(text);
    }
}
