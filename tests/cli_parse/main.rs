//! Command lines and what they mean.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod copying;
mod definition;
mod display;
mod filters;
mod misuses;
mod others;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use inhaul::cli::resolve::{DisplaySettings, Misuse, Surroundings, Task};
use inhaul::cli::{Rejected, parse};
use inhaul::engine::job::CopyJob;

/// Lists that can be read, by name.
type Lists<'a> = BTreeMap<&'a str, &'a [u8]>;

fn in_world<T>(lists: &Lists<'_>, run: impl FnOnce(&mut Surroundings<'_>) -> T) -> T {
    let mut read = |path: &Path| {
        let list = path.to_str().and_then(|name| lists.get(name));
        list.map(|bytes| bytes.to_vec())
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    };
    run(&mut Surroundings {
        stdout_is_terminal: true,
        stderr_is_terminal: true,
        read: &mut read,
    })
}

fn words(line: &str) -> Vec<OsString> {
    std::iter::once("inhaul")
        .chain(line.split_whitespace())
        .map(OsString::from)
        .collect()
}

fn task(line: &str) -> Result<Task, Rejected> {
    let lists = Lists::from([("list", &b"a\nb\n"[..]), ("-", b"c\n")]);
    in_world(&lists, |world| parse(words(line).into_iter(), world))
}

fn copy(line: &str) -> (CopyJob, bool, DisplaySettings) {
    match task(line) {
        Ok(Task::Copy {
            job,
            dry_run,
            display,
        }) => (job, dry_run, display),
        other => panic!("{line}: {other:?}"),
    }
}

fn misuse(line: &str) -> Misuse {
    match task(line) {
        Err(Rejected::Misuse(misuse)) => misuse,
        other => panic!("{line}: {other:?}"),
    }
}

fn clap_code(line: &str) -> i32 {
    match task(line) {
        Err(Rejected::Clap(error)) => error.exit_code(),
        other => panic!("{line}: {other:?}"),
    }
}
