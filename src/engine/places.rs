//! Where each file of a copy is that has several targets: `places.ndjson`, in the job of each.

use std::fs::canonicalize;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::io::Errno;
use serde::Serialize;

use super::elsewhere::Elsewhere;
use super::outcomes::shown;
use super::report::{SCHEMA, TargetReport};
use super::vigil::{Asking, Vigil};
use crate::error::{Error, ErrorKind, Side};
use crate::manifest;
use crate::target::{LocalTarget, RecordWriter};

/// Name of the file, in the folder of a job.
pub(super) const PLACES_FILE: &str = "places.ndjson";

/// The first line.
#[derive(Debug, Serialize)]
struct Head<'a> {
    schema: u32,
    r#type: &'static str,
    job: &'a str,
    targets: Vec<String>,
}

/// Every other line: a file.
#[derive(Debug, Serialize)]
struct Place<'a> {
    /// Which of the targets in the first line, counted from 0.
    target: usize,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<&'a str>,
    blake3: String,
}

/// Writes down where everything is, by the manifests of all targets; returns how many files each
/// has, this one first. `vigil` is over this target, and blamed for no other.
///
/// # Durability
/// Durable under its name when this returns.
///
/// # Errors
/// `RecordWrite`; what keeps a manifest from being read.
pub(super) fn write(
    target: &LocalTarget,
    label: &Path,
    elsewhere: &[Elsewhere],
    vigil: &Arc<Vigil>,
) -> Result<Vec<TargetReport>, Error> {
    let home = target.home();
    let others = elsewhere.iter().map(|other| (other.label(), other.job()));
    let all: Vec<(&Path, BorrowedFd<'_>)> =
        std::iter::once((label, home.job())).chain(others).collect();
    let full = |path: &Path| {
        let path = canonicalize(path).unwrap_or_else(|_| path.to_owned());
        shown(path.as_os_str().as_bytes()).0
    };
    let asking = vigil.ask();
    let mut out = home.begin_record(PLACES_FILE)?;
    let head = Head {
        schema: SCHEMA,
        r#type: "places",
        job: home.job_name(),
        targets: all.iter().map(|(label, _)| full(label)).collect(),
    };
    drop(asking);
    line(&mut out, vigil, &head)?;
    let mut counts = Vec::new();
    for (number, (label, job)) in all.into_iter().enumerate() {
        let mut files = 0;
        let asking = (number == 0).then(|| vigil.ask());
        for record in records(job)?.into_iter().flatten() {
            let record = record?;
            asking.iter().for_each(Asking::renew);
            let (path, path_hex) = shown(&record.path);
            let place = Place {
                target: number,
                path: &path,
                path_hex: path_hex.as_deref(),
                blake3: record.digest.to_hex().to_string(),
            };
            line(&mut out, vigil, &place)?;
            files += 1;
        }
        counts.push(TargetReport {
            target: full(label),
            files,
        });
    }
    let _asking = vigil.ask();
    out.publish()?;
    Ok(counts)
}

/// Returns the records of a job's manifest; `None` when it has none yet: one that was killed. What that
/// has is in its journal, and listed when it ends.
fn records(job: BorrowedFd<'_>) -> Result<Option<manifest::Load>, Error> {
    match rustix::fs::statat(job, manifest::B3SUM_FILE, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        _ => manifest::load(job).map(Some),
    }
}

fn line(out: &mut RecordWriter, vigil: &Arc<Vigil>, value: &impl Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_vec(value).map_err(|source| {
        let what = "write down where files are";
        Error::new(ErrorKind::RecordWrite, Side::Record, PLACES_FILE, what).because(source)
    })?;
    text.push(b'\n');
    let _asking = vigil.ask();
    out.write(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_manifest_that_is_there_and_cannot_be_read_is_no_empty_one() {
        let top = tempfile::tempdir().unwrap();
        let job = std::fs::File::open(top.path()).unwrap();
        assert!(records(job.as_fd()).unwrap().is_none());
        std::fs::create_dir(top.path().join("manifest.b3")).unwrap();
        let error = records(job.as_fd()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::RecordCorrupt);
    }
}
