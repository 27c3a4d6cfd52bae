//! What a copy can prove in the end: what was read back, what was mended, and what is withdrawn
//! because it is wrong and cannot be mended.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::OFlags;

use super::context::Context;
use super::findings::{Findings, trusts_direct};
use super::inspect::{BlockNames, Copy, Expected, Found, blocks_named, open_direct, stamp_of};
use super::job::{CopyJob, Verify};
use super::log::Log;
use super::outcomes::shown;
use super::report::{Evidence, Repair};
use super::sealing::is_saved;
use super::second_read::SourceAgain;
use super::standing::Copied;
use crate::buffer::{Arena, Lease};
use crate::error::{Error, ErrorKind, Side};
use crate::journal::{self, Done, Grade, Loaded};
use crate::scan::as_path;
use crate::seam;
use crate::target::{LocalTarget, TargetStamp};

/// List of all files of a job, with what is known of each.
const EVIDENCE_FILE: &str = "evidence.ndjson";

/// What is known when everything was done.
#[derive(Debug, Default)]
pub(super) struct Proof {
    pub(super) evidence: Evidence,
    /// The same of each lane's files. Those of sources that are not here are no lane's.
    pub(super) by_lane: HashMap<usize, Evidence>,
    /// Whether some files were not read again because the run was asked to stop.
    pub(super) cut_short: bool,
    pub(super) repairs: Vec<Repair>,
    /// Files that were taken back out of the target.
    pub(super) withdrawn: HashSet<Vec<u8>>,
}

/// What judging needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge<'r> {
    pub(super) context: &'r Context,
    pub(super) target: &'r LocalTarget,
    pub(super) log: &'r Log,
    pub(super) sources: &'r [SourceAgain],
}

/// How it is known what a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Hashed,
    Cached,
    Near,
    Medium,
}

impl Known {
    fn word(self) -> &'static str {
        match self {
            Self::Hashed => "hashed",
            Self::Cached => "cached",
            Self::Near => "read-back-near",
            Self::Medium => "read-back",
        }
    }

    fn count(self, evidence: &mut Evidence) -> &mut u64 {
        match self {
            Self::Hashed => &mut evidence.hashed,
            Self::Cached => &mut evidence.cached,
            Self::Near => &mut evidence.read_back_near,
            Self::Medium => &mut evidence.read_back,
        }
    }
}

impl Proof {
    /// Says of what was asked for and could not be done that it was not: such a run does not end
    /// with 0. (One that was cut short says so itself.)
    pub(super) fn say_unverified(&self, job: &CopyJob, context: &Context) {
        if self.cut_short {
            return;
        }
        let say = |side, what: &str| {
            let error = Error::new(ErrorKind::Unverified, side, &job.target, what);
            context.outcomes.unverified(&error);
        };
        if self.evidence.cached > 0 {
            let files = self.evidence.cached;
            let what = format!(
                "{files} files could only be read back from memory: that proves nothing of the \
                 medium; {EVIDENCE_FILE} lists them as cached"
            );
            say(Side::Target, &what);
        }
        let once = match job.verify {
            Verify::Both => self.by_lane.values().map(Evidence::read_once).sum(),
            Verify::None | Verify::Target => 0,
        };
        if once > 0 && context.outcomes.kinds().is_empty() {
            let what = format!("{once} files were not there for the second read");
            say(Side::Source, &what);
        }
    }
}

/// Returns what the journal has of a job by now.
///
/// # Errors
/// `RecordWrite` and `RecordCorrupt` when it cannot be read back.
pub(super) fn recorded(target: &LocalTarget, log: &Log) -> Result<Loaded, Error> {
    log.commit()?;
    // It is in the target, and long: each record that is read counts as an answer.
    let asking = log.vigil().ask();
    let home = target.home();
    let dir = home.job_dir()?;
    let (dir, label) = (dir.as_fd(), home.job_label());
    journal::read_heard(dir, &label, dir, &|| asking.renew())
}

impl Judge<'_> {
    /// Looks at every file of the job that was not found right while it was read back, and mends
    /// it or takes it out of the target; writes down what is known of each.
    ///
    /// # Errors
    /// What keeps the journal from being read, or the list from being written.
    pub(super) fn judge(&self, loaded: &Loaded, findings: &Findings) -> Result<Proof, Error> {
        let mut proof = Proof::default();
        let mut look = Look {
            loaded,
            names: BlockNames::default(),
            lease: one_buffer()?,
            findings,
        };
        let vigil = self.log.vigil();
        let asking = vigil.ask();
        let mut list = self.target.home().begin_record(EVIDENCE_FILE)?;
        drop(asking);
        for done in loaded.iter_done() {
            let is_wrong = findings.wrong.contains(done.target_path);
            let known = match loaded.verified(done.target_path) {
                Some(Grade::Medium) => Some(Known::Medium),
                Some(Grade::Near) => Some(Known::Near),
                None if !is_wrong && findings.unproven.contains(done.target_path) => {
                    Some(Known::Cached)
                }
                // (A full target can be read, mended in place and withdrawn from all the same.)
                None if self.context.is_ending() => {
                    proof.cut_short = true;
                    if is_wrong {
                        let what = "read back wrong, and stopped before it was looked at closer";
                        self.wrong(&done, &mismatch(&done, what));
                    }
                    Some(Known::Hashed)
                }
                None => self.look_at(&done, &mut look, &mut proof),
            };
            let Some(known) = known else { continue };
            *known.count(&mut proof.evidence) += 1;
            // What was saved of a file is no file of its source: nobody reads it there once more.
            if let Some(lane) = self.lane_of(&done).filter(|_| !is_saved(&done)) {
                *known.count(proof.by_lane.entry(lane).or_default()) += 1;
            }
            let _asking = vigil.ask();
            list.write(&line(&done, known))?;
        }
        let _asking = vigil.ask();
        list.publish()?;
        Ok(proof)
    }

    /// Looks at a file by itself; `None` when it is not in the target any more.
    fn look_at(&self, done: &Done<'_>, look: &mut Look<'_>, proof: &mut Proof) -> Option<Known> {
        match self.seen(done, look, proof) {
            Seen::Right { from_medium: false } => Some(Known::Cached),
            Seen::Right { from_medium: true } => {
                let (source, path, ino) = (done.source, done.target_path, done.target_stamp.ino);
                match self.log.verified(source, path, ino, Grade::Near) {
                    Ok(()) => Some(Known::Near),
                    Err(error) => {
                        self.wrong(done, &error);
                        Some(Known::Hashed)
                    }
                }
            }
            Seen::Nothing(error) if error.kind() == ErrorKind::Missing => {
                self.wrong(done, &error);
                proof.withdrawn.insert(done.target_path.to_vec());
                None
            }
            Seen::Nothing(error) => {
                self.context.outcomes.unverified(&error);
                Some(Known::Hashed)
            }
            Seen::Wrong { error, stamp } => {
                self.wrong(done, &error);
                proof.withdrawn.insert(done.target_path.to_vec());
                if let Err(error) = self.withdraw(done, stamp, &error) {
                    self.wrong(done, &error);
                }
                None
            }
        }
    }

    /// Takes a file out of the target that has this stamp there, and is wrong.
    ///
    /// Until the end it is neither done nor failed by the journal, but named: if it is cut off in
    /// between, the next run reads it, and takes it away.
    fn withdraw(&self, done: &Done<'_>, stamp: TargetStamp, error: &Error) -> Result<(), Error> {
        let path = done.target_path;
        self.log.doubted(std::slice::from_ref(done))?;
        seam::point("withdrawing");
        let target = &self.context.target;
        target.withdraw(path, stamp)?;
        target.settle(&[path])?;
        self.log.found_wrong(done.source, path, error)
    }

    fn wrong(&self, done: &Done<'_>, error: &Error) {
        match self.lane_of(done) {
            Some(lane) => self.context.outcomes.problem(lane, error),
            None => self.context.outcomes.problem_of_run(error),
        }
    }

    fn seen(&self, done: &Done<'_>, look: &mut Look<'_>, proof: &mut Proof) -> Seen {
        let path = done.target_path;
        let expected = Expected::of(done, look.loaded, &look.names);
        let asking = self.log.vigil().ask();
        let opened = Copy::open(self.target.root(), done, expected, true);
        let found = opened.and_then(|copy| {
            let found = copy.look(&mut look.lease, &|| asking.renew())?;
            Ok((copy, found))
        });
        drop(asking);
        let (copy, found) = match found {
            Ok(found) => found,
            Err(error) => return Seen::Nothing(error),
        };
        let from_medium = self.is_from_medium(&copy, done, look);
        let stamp = stamp_of(done);
        let bad = match found {
            Found::Right => return Seen::Right { from_medium },
            Found::Somewhere => {
                let what = "its bytes differ, and it cannot be mended: its blocks are not recorded";
                let error = mismatch(done, what);
                return Seen::Wrong { error, stamp };
            }
            Found::Blocks(bad) => bad,
        };
        if let Err(error) = self.mend(done, look, &copy, &bad) {
            // (It may have been written to: then this is how it is recognised.)
            let stamp = copy.stamp_now().unwrap_or(stamp);
            return Seen::Wrong { error, stamp };
        }
        let named = blocks_named(&bad, done.target_stamp.size);
        self.context.session.observer.note(&format!(
            "{}: {named}: wrong when read back; read again from the source, written anew and \
             found right",
            as_path(path).display()
        ));
        let (text, path_hex) = shown(path);
        proof.repairs.push(Repair {
            path: text,
            path_hex,
            blocks: bad,
        });
        let from_medium = self.is_from_medium(&copy, done, look);
        Seen::Right { from_medium }
    }

    /// Returns whether what was read of a file came from the medium.
    fn is_from_medium(&self, copy: &Copy<'_>, done: &Done<'_>, look: &Look<'_>) -> bool {
        let is_direct = copy.is_direct() && trusts_direct(self.target.fs());
        is_direct && !look.findings.unproven.contains(done.target_path) || copy.was_uncached()
    }

    /// Writes blocks of a file anew from its source.
    fn mend(
        &self,
        done: &Done<'_>,
        look: &mut Look<'_>,
        copy: &Copy<'_>,
        bad: &[u64],
    ) -> Result<(), Error> {
        let path = done.target_path;
        let named = blocks_named(bad, done.target_stamp.size);
        let Some(source) = self.source_of(done) else {
            let what = format!("{named}: wrong in the target, and its source is not here");
            return Err(mismatch(done, &what));
        };
        let source = open_direct(
            source.tree.root.as_fd(),
            &source.below(path),
            OFlags::RDONLY,
        )
        .map_err(|errno| Error::source(as_path(path), "open it again to mend", errno))?;
        let mender = copy.writable(self.target.root()).map_err(|error| {
            let what = format!("{named}: wrong in the target, and not mended ({error})");
            mismatch(done, &what)
        })?;
        let names: Vec<Done<'_>> = if done.linked {
            let all = look.loaded.iter_done();
            all.filter(|other| other.target_stamp == done.target_stamp)
                .collect()
        } else {
            vec![*done]
        };
        self.log.doubted(&names)?;
        mender.mend(&source, bad, &mut look.lease)?;
        self.log.done_again(&names)
    }

    fn source_of(&self, done: &Done<'_>) -> Option<&SourceAgain> {
        let mut sources = self.sources.iter();
        sources.find(|source| source.number == done.source)
    }

    /// Returns the lane a file was read by; `None` when its source is not here.
    fn lane_of(&self, done: &Done<'_>) -> Option<usize> {
        self.source_of(done).map(|source| source.lane)
    }
}

/// What looking at files takes.
struct Look<'l> {
    loaded: &'l Loaded,
    names: BlockNames,
    lease: Lease,
    findings: &'l Findings,
}

/// What looking at a file came to.
enum Seen {
    /// It is right, or is now.
    Right { from_medium: bool },
    /// Nothing is known of its bytes.
    Nothing(Error),
    /// The medium gave other bytes, or none, and they could not be mended. It has this stamp.
    Wrong { error: Error, stamp: TargetStamp },
}

fn mismatch(done: &Done<'_>, what: &str) -> Error {
    let kind = ErrorKind::DigestMismatch;
    Error::new(kind, Side::Target, as_path(done.target_path), what)
}

/// Returns a buffer of one block.
pub(super) fn one_buffer() -> Result<Lease, Error> {
    let none = |source| {
        let what = "set a buffer aside";
        Error::new(ErrorKind::Unsupported, Side::Record, "buffers", what).because(source)
    };
    let mut arena = Arena::new(1).map_err(none)?;
    let credits = arena.lend(1);
    let lease = credits.and_then(|credits| credits.take());
    lease.ok_or_else(|| none(std::io::ErrorKind::OutOfMemory.into()))
}

/// Returns a line of the list: the path, exactly, and what is known of it.
fn line(done: &Done<'_>, known: Known) -> Vec<u8> {
    let (path, path_hex) = shown(as_path(done.target_path).as_os_str().as_bytes());
    let mut line = serde_json::json!({
        "path": path,
        "size": done.target_stamp.size,
        "blake3": Copied::of(done).digest.to_hex().as_str(),
        "evidence": known.word(),
    });
    if let (Some(hex), Some(object)) = (path_hex, line.as_object_mut()) {
        object.insert("path_hex".to_owned(), hex.into());
    }
    let mut line = line.to_string().into_bytes();
    line.push(b'\n');
    line
}
