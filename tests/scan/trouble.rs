//! What changes under the walk, or may not be read.

use std::collections::HashSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use inhaul::error::ErrorKind;
use inhaul::scan::{FilesFrom, Order};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use crate::scan_support::{Setup, make_file, skip};

#[test]
fn a_directory_swapped_for_a_link_never_leads_out() {
    let top = TempDir::new().unwrap();
    let outside = TempDir::new().unwrap();
    make_file(outside.path(), "secret", b"x");
    make_file(outside.path(), "sub/secret", b"x");
    make_file(top.path(), "d/inside", b"x");
    make_file(top.path(), "d/sub/inside", b"x");
    make_file(top.path(), "e/inside", b"x");
    make_file(top.path(), "f/only-in-f", b"x");
    let (real, link) = (top.path().join("d"), outside.path().join("link"));
    symlink(outside.path(), &link).unwrap();
    // This one stays inside, where only the ban on links keeps the walk off it.
    let (near_real, near_link) = (top.path().join("e"), top.path().join("l"));
    symlink("f", &near_link).unwrap();
    let done = AtomicBool::new(false);
    let mut problems = HashSet::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                let exchange = RenameFlags::EXCHANGE;
                renameat_with(CWD, &near_real, CWD, &near_link, exchange).unwrap();
            }
        });
        let start = std::time::Instant::now();
        let setup = Setup {
            order: Order::Physical,
            ..Setup::default()
        };
        while start.elapsed().as_secs() < 1 {
            let record = setup.walk(top.path());
            let leaked = record.paths().iter().any(|path| {
                path.contains("secret") || path.contains("only") && path != "f/only-in-f"
            });
            if leaked {
                done.store(true, Ordering::Relaxed);
            }
            assert!(!leaked, "{:?}", record.paths());
            problems.extend(record.problems.into_iter().map(|problem| problem.0));
        }
        done.store(true, Ordering::Relaxed);
    });
    let expected = HashSet::from([
        ErrorKind::Escape,
        ErrorKind::SourceChanged,
        ErrorKind::SourceVanished,
        // openat2 gives up with EAGAIN when renames keep racing it.
        ErrorKind::SourceRead,
    ]);
    assert!(problems.is_subset(&expected), "{problems:?}");
}

#[test]
fn what_may_not_be_read_is_reported_and_the_rest_goes_on() {
    const NAME: &str = "trouble::what_may_not_be_read_is_reported_and_the_rest_goes_on";
    const PLACE: &str = "INHAUL_TEST_UNREADABLE";
    if let Some(place) = std::env::var_os(PLACE) {
        let place = Path::new(&place);
        let list = FilesFrom::parse(b".\nlocked/hidden", false).unwrap();
        let setup = Setup {
            order: Order::Physical,
            files_from: Some(list),
            ..Setup::default()
        };
        let record = setup.walk(place);
        // "listable" may be listed but not searched, so its file cannot be looked at.
        assert_eq!(record.paths(), ["open/file", "secret-file"]);
        let mut problems: Vec<_> = record
            .problems
            .iter()
            .map(|p| (p.0, p.1.as_str()))
            .collect();
        problems.sort_by_key(|problem| problem.1);
        let denied = ErrorKind::SourceDenied;
        assert_eq!(
            problems,
            [
                (denied, "/SOURCE/listable/file"),
                (denied, "/SOURCE/locked")
            ]
        );
        return;
    }
    if !rustix::process::geteuid().is_root() {
        skip("needs root, to stop being root");
        return;
    }
    let top = TempDir::new().unwrap();
    let mode = |path: &str, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(top.path().join(path), mode).unwrap();
    };
    let program = top.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [
        "t/locked/hidden",
        "t/listable/file",
        "t/open/file",
        "t/secret-file",
    ] {
        make_file(top.path(), path, b"x");
    }
    for (path, bits) in [
        ("", 0o755),
        ("program", 0o755),
        ("t/locked", 0o700),
        ("t/listable", 0o744),
        ("t/secret-file", 0o600),
    ] {
        mode(path, bits);
    }
    let words = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let child = Command::new("setpriv")
        .args(words)
        .arg(&program)
        .args(["--exact", NAME, "--nocapture"])
        .env(PLACE, top.path().join("t"))
        .output();
    match child {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}");
            assert!(said.contains("1 passed"), "{said}");
        }
        Err(error) => skip(format!("setpriv: {error}")),
    }
}
