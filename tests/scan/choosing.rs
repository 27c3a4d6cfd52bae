//! What is left out, and what is asked for by a list.

use inhaul::error::ErrorKind;
use inhaul::scan::{FilesFrom, Filter, Rule};
use tempfile::TempDir;

use crate::scan_support::{Setup, make_file};

#[test]
fn an_excluded_directory_is_not_entered() {
    let top = TempDir::new().unwrap();
    for path in ["keep/a", "keep/skip/b", "skip/c", "skip/deep/d", "skipper"] {
        make_file(top.path(), path, b"x");
    }
    let setup = Setup {
        filter: Filter::new(vec![Rule::Exclude(b"skip/".to_vec())]).unwrap(),
        ..Setup::default()
    };
    let record = setup.walk(top.path());
    assert_eq!(record.paths(), ["keep/a", "skipper"]);
    assert_eq!(record.dir_paths(), ["", "keep"]);
}

#[test]
fn a_list_of_files_takes_what_is_listed_and_names_what_is_missing() {
    let top = TempDir::new().unwrap();
    for path in [
        "a/1", "a/2", "a/sub/3", "b/4", "b/sub/5", "c/6", "top", "out/7",
    ] {
        make_file(top.path(), path, b"x");
    }
    let list = b"a\nb/sub/5\n/top\nb/gone\nnever/there\nout/7\nout/8\n";
    let setup = Setup {
        files_from: Some(FilesFrom::parse(list, false).unwrap()),
        filter: Filter::new(vec![Rule::Exclude(b"/out".to_vec())]).unwrap(),
        ..Setup::default()
    };
    let record = setup.walk(top.path());
    assert_eq!(record.paths(), ["a/1", "a/2", "a/sub/3", "b/sub/5", "top"]);
    assert_eq!(record.dir_paths(), ["", "a", "a/sub", "b", "b/sub"]);
    let missing: Vec<_> = record
        .problems
        .iter()
        .map(|p| (p.0, p.1.as_str()))
        .collect();
    // What a filter leaves out is not missing.
    let gone = ErrorKind::SourceVanished;
    assert_eq!(
        missing,
        [(gone, "/SOURCE/b/gone"), (gone, "/SOURCE/never/there")]
    );
    assert_eq!(record.problems[0].2, "listed in --files-from but not there");
}
