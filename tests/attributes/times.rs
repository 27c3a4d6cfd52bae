//! Times, to the nanosecond and before 1970.

use std::path::Path;

use inhaul::scan::Attributes;
use rustix::io::Errno;

use crate::{PLAIN, apply_new, clean, file, loss, read_file, set_times, times_of};

pub(crate) fn times_keep_nanoseconds_and_signs(at: &Path) {
    for (n, (atime, mtime)) in [
        ((0, 0), (0, 999_999_999)),
        ((-1, 1), (-1, 999_999_999)),
        ((-86_400 * 365, 5), (-1_000_000_000, 42)),
        ((4_102_444_800, 7), (4_102_444_800, 8)),
    ]
    .into_iter()
    .enumerate()
    {
        let source = file(at, &format!("source {n}"), 0o600);
        set_times(&source, atime, mtime);
        assert_eq!(times_of(&source), [atime, mtime]);
        let wanted = read_file(&source, PLAIN);
        let (target, applied) = apply_new(at, &format!("target {n}"), &wanted, PLAIN);
        assert_eq!(applied, clean());
        assert_eq!(times_of(&target), [atime, mtime]);
    }
    // UTIME_NOW, from a record rather than a file system: not an order to be carried out.
    let wanted = Attributes {
        mtime: (0, 0x3fff_ffff),
        ..Attributes::default()
    };
    let (_, applied) = apply_new(at, "forged", &wanted, PLAIN);
    assert_eq!(applied.losses, [loss("times", Errno::INVAL)]);
}
