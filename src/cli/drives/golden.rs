//! What is said of recorded machines, word for word, in `tests/golden`.

use super::{json, table};
use crate::cli::text::{Paint, push};
use crate::topology::machines::{
    ARRAY_TABLE, MULTIPATH_TABLE, UNITS_TABLE, with_degraded_array, with_expander, with_hub,
    with_multipath,
};
use crate::topology::recorded::with_sata_disks;
use crate::topology::{Shelf, Usage};

/// The shelves of all, by what is on them.
fn shelves() -> Vec<(&'static str, Shelf)> {
    let shelf = |machine: &crate::topology::recorded::Machine, table: &str| {
        let mut shelf = machine.topology(table).shelf();
        let mounts = shelf.drives.iter_mut().flat_map(|drive| &mut drive.mounts);
        for used in mounts {
            // A recorded machine cannot be asked.
            used.usage = Some(Usage {
                size: 4_000_000_000_000,
                used: 1_000_000_000_000,
                available: 2_900_000_000_000,
            });
        }
        shelf
    };
    vec![
        ("expander", shelf(&with_expander(), "")),
        ("hub", shelf(&with_hub(), "")),
        ("array", shelf(&with_degraded_array(), ARRAY_TABLE)),
        ("multipath", shelf(&with_multipath(), MULTIPATH_TABLE)),
        ("units", shelf(&with_sata_disks(), UNITS_TABLE)),
    ]
}

fn text(verbose: bool) -> String {
    let mut text = String::new();
    for (name, shelf) in shelves() {
        let table = table::render(&shelf, verbose, Paint(false));
        push(&mut text, format_args!("== {name}\n{table}\n"));
    }
    text
}

#[test]
fn the_table_is_as_written_down() {
    let golden = include_str!("../../../tests/golden/drives.txt");
    assert_eq!(text(false), golden);
}

#[test]
fn the_verbose_table_is_as_written_down() {
    let golden = include_str!("../../../tests/golden/drives-verbose.txt");
    assert_eq!(text(true), golden);
}

#[test]
fn the_json_is_as_written_down() {
    let golden = include_str!("../../../tests/golden/drives.ndjson");
    let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    let documents: String = shelves()
        .iter()
        .map(|(_, shelf)| String::from_utf8(json::document(shelf, "6.9.0")).unwrap())
        .collect();
    assert_eq!(
        documents.replace(&version, "\"version\":\"VERSION\""),
        golden
    );
}
