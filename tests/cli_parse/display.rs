//! Where progress is shown.

use std::path::Path;

use inhaul::cli::parse;
use inhaul::cli::resolve::{Progress, Surroundings, Task};

use crate::words;

#[test]
fn progress_goes_where_it_can_be_seen() {
    let cases = [
        // (stdout, stderr are terminals, options, progress)
        (true, true, "", Progress::Bars),
        (true, false, "", Progress::Plain),
        (false, true, "", Progress::Bars),
        (true, true, "-q", Progress::None),
        (true, true, "-q -v", Progress::Bars),
        (true, true, "-q -P", Progress::None),
        (true, true, "--json", Progress::None),
        (false, true, "--json", Progress::Bars),
        (true, false, "--json", Progress::None),
        (true, true, "--json -P", Progress::Bars),
        (true, true, "--progress plain", Progress::Plain),
        (true, true, "--progress none", Progress::None),
        (true, false, "-P", Progress::Plain),
    ];
    for (stdout, stderr, options, progress) in cases {
        let mut read = |_: &Path| Ok(Vec::new());
        let mut world = Surroundings {
            stdout_is_terminal: stdout,
            stderr_is_terminal: stderr,
            read: &mut read,
        };
        let line = format!("verify /t {options}");
        match parse(words(&line).into_iter(), &mut world) {
            Ok(Task::Verify { display, .. }) => assert_eq!(display.progress, progress, "{line}"),
            other => panic!("{other:?}"),
        }
    }
}
