//! Failing writes and syncs, hostile names, and memory at large counts.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests, which may panic and say why they skip"
)]

mod journal_support;

use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use inhaul::error::ErrorKind;
use inhaul::journal::{Follower, Grade, HEAP_LEN_MAX, Position, Record, Tail, check_pages};
use journal_support::{
    Folder, append_all, assert_holds, assert_latched, blocks, done, failed, naming, sample,
    verified,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Set in a child of a test: where it works.
const CHILD: &str = "INHAUL_JOURNAL_CHILD";

/// Runs one test of this binary again as a child, by way of `wrapper`, a shell command that ends
/// in `"$@"`.
fn again(test: &str, folder: &Folder, wrapper: &str) -> Output {
    let program = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .args(["-c", wrapper, "sh"])
        .arg(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, folder.dir.path())
        // A backtrace takes more memory than a child may have left, and then waits for ever.
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("CHILD WAS HERE"), "{text}");
    output
}

/// Runs one test of this binary again as a child in which the `bad`-th fdatasync fails, once.
fn again_with_bad_sync(test: &str, bad: u32) {
    let traced = Command::new("strace").args(["-f", "true"]).output();
    if !traced.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: strace is missing or not allowed");
        return;
    }
    let wrapper = format!(
        "exec strace -f -o /dev/null -e trace=fdatasync \
         -e inject=fdatasync:error=EIO:when={bad} \"$@\""
    );
    again(test, &on_disk(), &wrapper);
}

fn is_child() -> bool {
    let is_child = std::env::var_os(CHILD).is_some();
    if is_child {
        eprintln!("CHILD WAS HERE");
    }
    is_child
}

fn child_folder() -> Folder {
    let path = std::env::var_os(CHILD).unwrap();
    let dir = tempfile::tempdir_in(path).unwrap();
    Folder::of(dir)
}

fn on_disk() -> Folder {
    Folder::of(tempfile::tempdir().unwrap())
}

#[test]
fn after_a_failed_write_nothing_is_acknowledged_any_more() {
    if !is_child() {
        // 8 blocks of 512 bytes; without the trap the signal would end the child.
        let wrapper = "trap '' XFSZ; ulimit -f 8; exec \"$@\"";
        again(
            "after_a_failed_write_nothing_is_acknowledged_any_more",
            &on_disk(),
            wrapper,
        );
        return;
    }
    let folder = child_folder();
    let mut writer = folder.create();
    let records = sample(200);
    let now = Instant::now();
    let mut acknowledged = 0;
    for (count, record) in (1..).zip(&records) {
        writer.append(&record.get(), now).unwrap();
        match writer.commit() {
            Ok(()) => acknowledged = count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::RecordWrite);
                break;
            }
        }
    }
    assert!((10..100).contains(&acknowledged), "{acknowledged}");
    let len = folder.bytes().len();
    assert_latched(&mut writer);
    assert_eq!(folder.bytes().len(), len, "nothing is written behind it");
    // The frame that was cut off is cut away, and all that was acknowledged is there.
    let (loaded, _) = folder.open().unwrap();
    assert!(matches!(loaded.tail(), Tail::Torn { .. }));
    assert_holds(&loaded, &records[..acknowledged]);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    if !is_child() {
        // A fourth would say yes.
        again_with_bad_sync("after_a_failed_sync_nothing_is_acknowledged_any_more", 3);
        return;
    }
    let folder = child_folder();
    let mut writer = folder.create();
    append_all(&mut writer, &[done("a", 1)]);
    append_all(&mut writer, &[done("b", 2)]);
    writer.append(&done("c", 3).get(), Instant::now()).unwrap();
    let error = writer.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RecordWrite);
    assert!(error.reason().contains("sync"), "{error}");
    assert_latched(&mut writer);
}

/// What a killed run wrote and never synced is trusted by a load, so it has to be durable first.
#[test]
fn what_is_opened_again_is_synced_before_it_is_trusted() {
    let test = "what_is_opened_again_is_synced_before_it_is_trusted";
    if !is_child() {
        again_with_bad_sync(test, 1);
        return;
    }
    let folder = child_folder();
    let mut writer = folder.create();
    writer
        .append(&naming("a", 1).get(), Instant::now())
        .unwrap();
    writer.flush().unwrap();
    drop(writer);
    assert_holds(&folder.read().unwrap(), &[naming("a", 1)]);
    let error = folder.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RecordWrite);
    assert!(error.reason().contains("sync"), "{error}");
    assert_holds(&folder.open().unwrap().0, &[naming("a", 1)]);
}

#[test]
fn a_full_disk_is_final_too() {
    let folder = Folder::new();
    let mut writer = folder.create();
    append_all(&mut writer, &[done("a", 1)]);
    let room = mount_tmpfs();
    let Some(room) = room else { return };
    let mut writer_there = room.folder.create();
    append_all(&mut writer_there, &[done("a", 1)]);
    let filler = room.folder.path("filler");
    while std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&filler)
        .unwrap()
        .write_all(&[0; 4096])
        .is_ok()
    {}
    let now = Instant::now();
    for _ in 0..40 {
        let record = failed("path", &"x".repeat(1000));
        writer_there.append(&record.get(), now).unwrap();
    }
    let error = writer_there.commit().unwrap_err();
    // Not a full target, which would concern one file: the end of the run.
    assert_eq!(error.kind(), ErrorKind::RecordWrite);
    // Space that comes back changes nothing.
    std::fs::remove_file(&filler).unwrap();
    assert_latched(&mut writer_there);
    let (loaded, _) = room.folder.open().unwrap();
    assert!(loaded.done(b"a").is_some());
    drop((loaded, writer_there));
}

/// Not beside the tests of the engine: it trusts no journal any more in a process that has lost pages.
#[test]
fn pages_that_go_later_say_nothing_and_that_is_known() {
    let folder = on_disk();
    let records: Vec<_> = (0..100_u8).map(|n| done(&format!("file{n}"), n)).collect();
    folder.record(&records);
    let (loaded, _writer) = folder.open().unwrap();
    assert!(loaded.done(b"file99").is_some());
    check_pages().unwrap();
    // What a page past the end and one of a drive that was pulled have in common is the SIGBUS:
    // whoever reads there without a guard is killed.
    let file = std::fs::File::options()
        .write(true)
        .open(folder.path("journal"));
    file.unwrap().set_len(4096).unwrap();
    assert!(loaded.done(b"file99").is_none());
    let error = check_pages().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RecordWrite);
    assert!(loaded.done(b"file0").is_some());
    assert!(loaded.iter_done().count() < records.len());
}

/// A file system of 256 KiB, unmounted when it goes.
struct Room {
    folder: Folder,
    /// Declared last, so that nothing in it is open when it goes.
    _mount: Mount,
}

struct Mount(tempfile::TempDir);

impl Drop for Mount {
    fn drop(&mut self) {
        let output = Command::new("umount").arg("-l").arg(self.0.path()).output();
        assert!(output.is_ok_and(|output| output.status.success()));
    }
}

fn mount_tmpfs() -> Option<Room> {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(dir.path())
        .output();
    if !output.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no right to mount a tmpfs");
        return None;
    }
    let mount = Mount(dir);
    let folder = Folder::of(tempfile::tempdir_in(mount.0.path()).unwrap());
    Some(Room {
        folder,
        _mount: mount,
    })
}

#[test]
fn what_was_planted_under_its_name_is_not_opened() {
    let victim = Folder::new();
    victim.record(&[done("x", 1)]);
    let bytes = victim.bytes();
    let folder = Folder::new();
    let name = folder.path("journal");
    let refuses = |what: &str| {
        assert_eq!(
            folder.read().unwrap_err().kind(),
            ErrorKind::Refused,
            "{what}"
        );
        assert_eq!(
            folder.open().unwrap_err().kind(),
            ErrorKind::Refused,
            "{what}"
        );
        assert_eq!(
            folder.try_create().unwrap_err().kind(),
            ErrorKind::Refused,
            "{what}"
        );
        let from = Position {
            segment: 1,
            len: bytes.len() as u64,
        };
        let follower = Follower::new(folder.fd(), Path::new("JOB"), from);
        assert_eq!(follower.unwrap_err().kind(), ErrorKind::Refused, "{what}");
    };

    assert_eq!(folder.open().unwrap_err().kind(), ErrorKind::Missing);
    symlink(victim.path("journal"), &name).unwrap();
    refuses("a symlink to a journal");
    std::fs::remove_file(&name).unwrap();

    symlink(folder.path("nowhere"), &name).unwrap();
    refuses("a symlink to nothing");
    assert!(!folder.path("nowhere").exists());
    std::fs::remove_file(&name).unwrap();

    let status = Command::new("mkfifo").arg(&name).status().unwrap();
    assert!(status.success());
    refuses("a FIFO");
    std::fs::remove_file(&name).unwrap();

    std::fs::create_dir(&name).unwrap();
    refuses("a directory");
    std::fs::remove_dir(&name).unwrap();

    std::fs::write(&name, &bytes).unwrap();
    let mut open_to_all = name.metadata().unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut open_to_all, 0o666);
    std::fs::set_permissions(&name, open_to_all).unwrap();
    refuses("a file that others can write to");
    std::fs::remove_file(&name).unwrap();

    // A link where a new segment is put together is replaced, not followed.
    symlink(victim.path("journal"), folder.path("journal.new")).unwrap();
    folder.record(&[done("y", 2)]);
    assert!(!folder.path("journal.new").is_symlink());
    // The same for a later segment.
    let mut hit = folder.bytes();
    hit.extend_from_slice(&bytes);
    std::fs::write(&name, &hit).unwrap();
    symlink(victim.path("journal"), folder.path("journal.2")).unwrap();
    assert_eq!(folder.open().unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(victim.bytes(), bytes);
}

/// A million records, or as many as `INHAUL_JOURNAL_RECORDS` says, with private memory limited to
/// what the process had before and the constant that is promised.
#[test]
fn the_heap_stays_below_its_bound_at_any_count() {
    if !is_child() {
        again(
            "the_heap_stays_below_its_bound_at_any_count",
            &on_disk(),
            "exec \"$@\"",
        );
        return;
    }
    let count: u64 =
        std::env::var("INHAUL_JOURNAL_RECORDS").map_or(1_000_000, |count| count.parse().unwrap());
    let folder = child_folder();
    let limit = private_memory() + HEAP_LEN_MAX as u64;
    let old = getrlimit(Resource::Data);
    setrlimit(
        Resource::Data,
        Rlimit {
            current: Some(limit),
            maximum: old.maximum,
        },
    )
    .unwrap();
    // The limit bites: memory for half of the tables alone would be more.
    assert!(
        Vec::<u8>::new()
            .try_reserve_exact(HEAP_LEN_MAX * 2)
            .is_err()
    );

    let mut writer = folder.create();
    let mut follower = Follower::new(folder.fd(), Path::new("JOB"), writer.position()).unwrap();
    let mut followed = 0;
    let now = Instant::now();
    let path = |n: u64| format!("some directory/another one/file number {n}");
    for n in 0..count {
        let name = path(n);
        let byte = n.to_le_bytes()[0];
        let record = match n % 100 {
            0 => blocks(&name, n, 0, &[byte; 8]),
            1 => failed(&name, "read: Input/output error"),
            _ => done(&name, byte),
        };
        writer.append(&record.get(), now).unwrap();
        // Some are read back, and some named again after that.
        if (2..6).contains(&(n % 100)) {
            let read_back = verified(&name, byte, Grade::Medium);
            writer.append(&read_back.get(), now).unwrap();
        }
        if n % 100 == 2 {
            writer.append(&naming(&name, byte).get(), now).unwrap();
        }
        if n % 25_600 == 0 || n + 1 == count {
            writer.commit().unwrap();
            let mut visit = |_: Record<'_>| {
                followed += 1;
                ControlFlow::Continue(())
            };
            follower.next(writer.position(), &mut visit).unwrap();
        }
    }
    assert_eq!(followed, count + 5 * (count / 100));
    let (loaded, _) = folder.open().unwrap();
    assert_eq!(loaded.tail(), Tail::Clean);
    assert_eq!(loaded.done_count(), count - 3 * (count / 100));
    assert_eq!(loaded.failed_count(), count / 100);
    for n in (0..count).step_by(997) {
        let name = path(n);
        let byte = n.to_le_bytes()[0];
        match n % 100 {
            0 => assert_eq!(loaded.blocks(name.as_bytes()).unwrap().block_count, 8),
            1 => assert!(loaded.failed(name.as_bytes()).is_some()),
            2 => {
                let before = loaded.done_before(name.as_bytes()).unwrap();
                assert_eq!(before.digest, [byte; 32]);
            }
            part => {
                assert_eq!(loaded.done(name.as_bytes()).unwrap().digest, [byte; 32]);
                let grade = (part < 6).then_some(Grade::Medium);
                assert_eq!(loaded.verified(name.as_bytes()), grade);
            }
        }
        assert!(loaded.done(path(n + count).as_bytes()).is_none());
    }
    assert_eq!(loaded.iter_done().count() as u64, loaded.done_count());
    // The index has no name: the journal is alone in its folder.
    assert_eq!(std::fs::read_dir(folder.dir.path()).unwrap().count(), 1);
    setrlimit(Resource::Data, old).unwrap();
}

/// What the kernel counts against the limit on data, in bytes.
fn private_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse::<u64>().unwrap() * 1024
}
