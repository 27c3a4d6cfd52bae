//! The table of FAULTS.md is whole: every row is there, and every test that it names exists.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

use std::path::{Path, PathBuf};

/// How many faults there are of each kind.
const KINDS: [(char, usize); 4] = [('S', 19), ('C', 9), ('I', 17), ('A', 7)];

/// A row: the fault's number and its cells.
type Row = (String, Vec<String>);

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(top().join("FAULTS.md")).unwrap();
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim_start_matches('|').trim_end_matches('|');
        inner
            .split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let lines = text.lines().filter(|line| line.starts_with("| "));
    let all = lines.map(|line| {
        let mut cells = cells(line);
        (cells.remove(0), cells)
    });
    let is_number = |name: &str| {
        let digits = name.get(1..).unwrap_or_default();
        KINDS.iter().any(|(kind, _)| name.starts_with(*kind)) && digits.parse::<usize>().is_ok()
    };
    all.filter(|(name, _)| is_number(name)).collect()
}

/// Returns where a test is: in `tests`, or in a module below `src`.
fn file_of(name: &str) -> PathBuf {
    let test = top().join("tests").join(name);
    if test.is_file() {
        test
    } else {
        top().join("src").join(name)
    }
}

/// Says what is wrong with the name of a test.
fn complaint(named: &str) -> Option<String> {
    let Some((file, test)) = named.split_once("::") else {
        return Some(format!("{named}: not FILE::TEST"));
    };
    let Ok(text) = std::fs::read_to_string(file_of(file)) else {
        return Some(format!("{named}: there is no such file"));
    };
    let is_there = text.contains(&format!("fn {test}("));
    (!is_there).then(|| format!("{named}: there is no such test"))
}

#[test]
fn every_fault_has_its_row_in_order() {
    let found: Vec<String> = rows().into_iter().map(|(name, _)| name).collect();
    let all = KINDS.into_iter();
    let all =
        all.flat_map(|(kind, count)| (1..=count).map(move |number| format!("{kind}{number}")));
    assert_eq!(found, all.collect::<Vec<_>>());
}

#[test]
fn every_row_names_tests_that_exist() {
    let mut complaints = Vec::new();
    for (name, cells) in rows() {
        let [_, _, tests, _] = &cells[..] else {
            complaints.push(format!("{name}: five cells, not {}", cells.len() + 1));
            continue;
        };
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            complaints.push(format!("{name}: no test"));
        }
        let wrong = named.into_iter().filter_map(complaint);
        complaints.extend(wrong.map(|complaint| format!("{name}: {complaint}")));
        if cells.iter().any(String::is_empty) {
            complaints.push(format!("{name}: an empty cell"));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn a_test_that_does_not_exist_is_missed() {
    assert!(complaint("faults_table.rs::a_test_that_does_not_exist_is_missed").is_none());
    for wrong in ["faults_table.rs::no_such_test", "nowhere.rs::rows", "rows"] {
        assert!(complaint(wrong).is_some(), "{wrong}");
    }
}
