//! Which job a copy is: one that an earlier run began and did not finish, or a new one.
//!
//! It is the same job when its options, its target and at least one of its sources are: then what
//! the journal says is done is not done again, and what is named under no record is not ours.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ahead::Ahead;
use super::copy::Asked;
use super::job::CopyJob;
use super::links::{First, LinkTable};
use super::log::Log;
use super::owed::{self, Owing, owing};
use super::pass::Pass;
use super::recipe::{JOB_FILE, Point, Recipe};
use super::session::Session;
use super::settle::{Settled, settle};
use super::spill::Round;
use super::spots::{Spots, check_further};
use super::standing::{Copied, at, found};
use super::traces::{self, Unfit};
use super::unmounted;
use crate::error::{Error, ErrorKind, Side};
use crate::journal::{self, Identity, JobHead, Likeness, Loaded, Record, Stamp, Writer};
use crate::manifest::PROBLEMS_FILE;
use crate::plan::{self, Recognised, Source, TargetPlace, identity};
use crate::scan::Tree;
use crate::seam;
use crate::target::{Home, HomeLock, JobDir, LocalTarget, Settings, Target};
use crate::topology::Topology;

/// What was found out about the job before anything is written.
#[derive(Debug)]
pub(super) struct Opening {
    /// Held from here on; `None` when the target has no private folder yet.
    lock: Option<HomeLock>,
    begun: Option<Begun>,
    /// What each source is on, in their order, and the number it has in the journal.
    identities: Vec<Identity>,
    numbers: Vec<u32>,
    /// Where the file system of each is mounted.
    points: Vec<PathBuf>,
    options: [u8; 32],
    /// What a new job is called, if that is settled.
    name: Option<String>,
    recipe: Recipe,
    /// What becomes of the sources that were left out when the job was begun.
    owing: Owing,
}

/// A job that is gone on with.
#[derive(Debug)]
struct Begun {
    job: JobDir,
    loaded: Loaded,
    writer: Writer,
}

/// Looks for a job to go on with. Sources that are recognised take over the place in the target
/// that they had.
///
/// # Errors
/// `Locked` when another run holds the target; what keeps the job asked for from being opened.
pub(super) fn look(
    asked: Asked<'_>,
    round: &Round<'_>,
    place: &TargetPlace,
    sources: &mut [Source],
    topology: &Topology,
    session: &Session,
) -> Result<Opening, Error> {
    let job = asked.job;
    let places = sources.iter();
    let places = places.map(|source| plan::source_place(source, topology));
    let places: Vec<(Identity, PathBuf)> = places.collect::<Result<_, _>>()?;
    let (identities, points) = places.into_iter().unzip();
    let mut opening = Opening {
        lock: None,
        begun: None,
        numbers: (0..).take(sources.len()).collect(),
        identities,
        points,
        options: Recipe::of(job).hash(),
        name: round.name.clone(),
        recipe: Recipe::of(round.whole)
            .on(round.spots.map(Spots::further).unwrap_or_default())
            .without(asked.left_out.silent.iter().map(|it| {
                let mounted = asked.mounted.get(it.path());
                (it.path(), mounted)
            })),
        owing: Owing::default(),
    };
    // A job that is gone on with is in the first of its targets, or that is not here.
    let wanted = job.resume.as_deref().filter(|_| round.name.is_none());
    let Some(root) = place.existing() else {
        return wanted.map_or(Ok(opening), |name| Err(not_there(name, &job.target)));
    };
    let Some(lock) = HomeLock::take_existing(root, &job.target)? else {
        return wanted.map_or(Ok(opening), |name| Err(not_there(name, &job.target)));
    };
    let found = unfinished(&lock, round, job)?;
    let is_meant = job.resume.is_some() || round.name.is_some();
    let home = lock.label().to_owned();
    opening.lock = Some(lock);
    if found.is_empty() {
        return Ok(opening);
    }
    let (identities, points) = (&opening.identities, &opening.points);
    unmounted::check(round, &found, &home, sources, identities, points)?;
    let target = target_identity(root, &job.target, topology)?;
    let mut strange = None;
    for found in found {
        let label = home.join(&found.name);
        let Some(begun) = load(found, &label, job, session)? else {
            continue;
        };
        let is_named = round.name.is_some();
        match opening.numbers_in(&begun, &target, sources, is_named, job, session) {
            Ok(numbers) => {
                // A copy may do without its recipe; resume needs it.
                let recipe = Recipe::load_if_there(begun.job.dir.as_fd(), &label)?;
                check_further(recipe.as_ref(), round, &label)?;
                // Of a target that is closed as well: another that it went on in owes nothing of its own.
                if let Some(recipe) = recipe {
                    let note = |line: &str| {
                        if !round.finishes {
                            session.observer.note(line);
                        }
                    };
                    let loaded = &begun.loaded;
                    opening.owing =
                        owing(&recipe, loaded, &numbers, sources, asked, topology, &note)?;
                }
                if begun.loaded.has_gaps() {
                    session.observer.note(
                        "the journal of this job is not whole (a power cut does that): files it \
                         lost sight of are read and hashed again",
                    );
                }
                opening.numbers = numbers;
                opening.begun = Some(begun);
                return Ok(opening);
            }
            Err(Unfit::Strange(error)) if is_meant => return Err(error),
            // Another job may have begun with what is given.
            Err(Unfit::Strange(error)) => strange = strange.or(Some(error)),
            Err(Unfit::Other(why)) if is_meant => {
                let what = format!("this job cannot be gone on with: {why}");
                return Err(Error::new(ErrorKind::Refused, Side::Record, label, &what));
            }
            Err(Unfit::Other(why)) => {
                let name = &begun.job.name;
                session.observer.note(&format!(
                    "job {name} is not finished and stays so: {why} ('inhaul resume {name}')"
                ));
            }
        }
    }
    strange.map_or(Ok(opening), Err)
}

/// Returns the jobs that may be gone on with: the one that is asked for, or all that are not finished.
fn unfinished(lock: &HomeLock, round: &Round<'_>, job: &CopyJob) -> Result<Vec<JobDir>, Error> {
    match (round.name.as_deref(), job.resume.as_deref()) {
        // The job of another target: there may be none of that name yet.
        (Some(name), _) => Ok(lock.unfinished(Some(name)).into_iter().flatten().collect()),
        (None, Some(name)) => match lock.unfinished(Some(name)) {
            Err(error) if error.kind() == ErrorKind::Missing => Err(not_there(name, &job.target)),
            found => Ok(found?.into_iter().collect()),
        },
        (None, None) => Ok(lock.all_unfinished()),
    }
}

/// Returns that a job is not in the target that its copy began in.
pub(super) fn not_there(name: &str, target: &Path) -> Error {
    let what = format!(
        "copy {name} began here and is not here now: another file system is there, or none, so its \
         drive is not mounted; nothing was written to it. Mount that drive and run again"
    );
    Error::new(ErrorKind::Refused, Side::Target, target, &what)
}

/// Loads the journal of a job; `None`, and a line that says why, when there is none to trust.
fn load(
    found: JobDir,
    label: &Path,
    job: &CopyJob,
    session: &Session,
) -> Result<Option<Begun>, Error> {
    match journal::open_with(found.dir.as_fd(), label, &mut Ahead::of) {
        Ok((loaded, writer)) => {
            seam::point("journal-opened");
            Ok(Some(Begun {
                job: found,
                loaded,
                writer,
            }))
        }
        Err(error) if job.resume.is_some() => Err(error),
        Err(error) if error.kind() == ErrorKind::Missing => Ok(None),
        Err(error) if error.kind() == ErrorKind::RecordCorrupt => {
            session.observer.note(&format!(
                "a new job: the journal of the one before cannot be trusted ({error})"
            ));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Returns what a target is on.
pub(super) fn target_identity(
    root: BorrowedFd<'_>,
    label: &Path,
    topology: &Topology,
) -> Result<Identity, Error> {
    let location = topology.locate_fd(root, label)?;
    identity(root, &location).map_err(|errno| Error::target(label, "look at the target", errno))
}

impl Opening {
    /// Returns the journal's number of each source, or says why this is another job.
    fn numbers_in(
        &self,
        begun: &Begun,
        target: &Identity,
        sources: &mut [Source],
        is_named: bool,
        job: &CopyJob,
        session: &Session,
    ) -> Result<Vec<u32>, Unfit> {
        let head = begun.loaded.head();
        if head.options != self.options {
            return Err(Unfit::Other("its options were others".to_owned()));
        }
        // A target may have grown since; nobody makes a target out of an image of another.
        let mut known = head.target.clone();
        if known.fs_uuid.is_some() && known.fs_uuid == target.fs_uuid {
            known.size = target.size;
        }
        if let Likeness::Different(what) = known.compare(target) {
            return Err(Unfit::Other(format!("{what} of the target was another")));
        }
        let recorded: Vec<journal::Source> = begun.loaded.sources().collect();
        // The job of another target is known by its name: it may have begun without these sources.
        let recognised = if is_named {
            plan::recognise_more(&recorded, sources, &self.identities)
        } else {
            plan::recognise(&recorded, sources, &self.identities)
        };
        match recognised {
            Recognised::Same(matched) => {
                let given = (&*sources, &*self.identities);
                traces::check(&begun.loaded, given, &matched, job, session)
                    .map_err(Unfit::Strange)?;
                for (source, matched) in sources.iter_mut().zip(&matched) {
                    if let Some(line) = &matched.note {
                        session.observer.note(line);
                    }
                    source.landing.clone_from(&matched.landing);
                }
                Ok(matched.iter().map(|matched| matched.index).collect())
            }
            Recognised::Other(why) => Err(Unfit::Other(why)),
        }
    }

    /// Returns the name of the job, if it has one.
    pub(super) fn name(&self) -> Option<&str> {
        let begun = self.begun.as_ref().map(|begun| begun.job.name.as_str());
        begun.or(self.name.as_deref())
    }

    /// Returns what each source is on, in their order.
    pub(super) fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// Returns whether an earlier run's job is gone on with.
    pub(super) fn goes_on(&self) -> bool {
        self.begun.is_some()
    }

    /// Returns whether the earlier run's job has all its sources here.
    pub(super) fn has_all_sources(&self) -> bool {
        let recorded = self.begun.iter().flat_map(|begun| begun.loaded.sources());
        let mut numbers = recorded.map(|source| source.index);
        !self.owing.is_owed && numbers.all(|index| self.numbers.contains(&index))
    }

    /// Opens the target with the job in it, and its journal; returns what is to be told of it, too.
    ///
    /// # Durability
    /// The journal, and what it belongs to, are durable when this returns.
    ///
    /// # Errors
    /// Why it cannot be opened, or the journal not be written.
    pub(super) fn open(
        self,
        job: &CopyJob,
        root: OwnedFd,
        settings: Settings,
        sources: &[RecordedSource],
        pass: Pass,
    ) -> Result<(LocalTarget, Log, Vec<Error>), Error> {
        let (mut lock, mut begun, name) = (self.lock, self.begun, self.name);
        let mut job_dir = None;
        let (mut loaded, mut writer) = (None, None);
        if let Some(found) = begun.take() {
            job_dir = Some(found.job);
            loaded = Some(found.loaded);
            writer = Some(found.writer);
        }
        let mut open_home = |root: BorrowedFd<'_>, label: &Path| {
            let lock = match lock.take() {
                Some(lock) => lock,
                None => HomeLock::take(root, label)?,
            };
            lock.open_named(job_dir.take(), name.as_deref())
        };
        let target = LocalTarget::open_with(job.target.clone(), root, settings, &mut open_home)?;
        let home = target.home();
        let first_new = loaded.as_ref().map_or(0, known_sources);
        let next = self.numbers.iter().map(|number| number + 1).max();
        let recipe = self.recipe.after(next.unwrap_or_default().max(first_new));
        let places = sources.iter().zip(&self.numbers).zip(self.points);
        let places = places.map(|((source, &number), at)| Point::of(number, &source.label, at));
        let recipe = recipe.mounted_at(places.collect());
        let mut writer = match writer {
            Some(writer) => writer,
            None => begin(job, &target, self.options, &recipe)?,
        };
        let is_here = |source| self.numbers.contains(&source);
        let settled = match &loaded {
            Some(earlier) => settle(earlier, &target, &mut writer, &is_here)?,
            None => Settled::default(),
        };
        if settled.has_learnt {
            drop((loaded.take(), writer));
            let (again, goes_on) =
                journal::open_with(home.job(), &home.job_label(), &mut Ahead::of)?;
            loaded = Some(again);
            writer = goes_on;
        }
        if loaded.is_some() {
            unmounted::note(home, &recipe, first_new)?;
        }
        let fresh = sources.iter().zip(&self.numbers).zip(self.identities);
        for ((source, &index), identity) in fresh {
            if index >= first_new {
                let record = Record::Source(journal::Source {
                    index,
                    identity,
                    label: source.label.clone(),
                    landing: source.landing.clone(),
                });
                writer.append(&record, std::time::Instant::now())?;
            }
        }
        writer.commit()?;
        if let Some(earlier) = &loaded {
            let named = sources.iter().zip(&self.numbers);
            let known = named.filter(|(_, index)| **index < first_new);
            owed::note(home, recipe, earlier, &self.owing.given, &|path| {
                let mut labels = known.clone().map(|(source, _)| &source.label);
                labels.any(|label| label == path.as_os_str().as_bytes())
            })?;
        }
        home.remove_record(PROBLEMS_FILE)?;
        seam::point("journal-created");
        let continues = pass == Pass::First;
        sweep(home, loaded.as_ref().filter(|_| continues))?;
        let log = Log::new(writer, loaded, self.numbers, continues);
        Ok((target, log, settled.told))
    }
}

/// A source as the journal has it.
#[derive(Debug, Clone)]
pub(super) struct RecordedSource {
    /// As the user typed it.
    pub(super) label: Vec<u8>,
    /// Where it lands.
    pub(super) landing: Vec<u8>,
}

pub(super) fn known_sources(loaded: &Loaded) -> u32 {
    loaded
        .sources()
        .map(|source| source.index + 1)
        .max()
        .unwrap_or(0)
}

/// Begins the journal of a new job, and writes down what the job is.
fn begin(
    job: &CopyJob,
    target: &LocalTarget,
    options: [u8; 32],
    recipe: &Recipe,
) -> Result<Writer, Error> {
    let home = target.home();
    let readable = home.job_dir()?;
    let topology = Topology::live()?;
    let head = JobHead {
        job: home.job_name().to_owned(),
        options,
        target: target_identity(target.root(), &job.target, &topology)?,
    };
    let writer = journal::create_with(readable.as_fd(), &home.job_label(), &head, &mut Ahead::of)?;
    home.write_record(JOB_FILE, &recipe.to_json()?)?;
    seam::point("recipe-written");
    Ok(writer)
}

/// Removes what earlier runs staged, but for what can be gone on with.
fn sweep(home: &Home, earlier: Option<&Loaded>) -> Result<(), Error> {
    let kept = kept_staged(earlier);
    journal::check_pages()?;
    if !seam::bug("stage-not-swept") {
        home.sweep(&mut |thread, number| kept.contains(&(thread.to_owned(), number)))?;
    }
    seam::point("stage-swept");
    Ok(())
}

/// Returns what earlier runs staged that can be gone on with: by thread and number.
pub(super) fn kept_staged(earlier: Option<&Loaded>) -> HashSet<(String, u64)> {
    let mut kept = HashSet::new();
    for blocks in earlier.into_iter().flat_map(Loaded::staged) {
        if let Ok(thread) = std::str::from_utf8(blocks.stage.thread) {
            kept.insert((thread.to_owned(), blocks.stage.number));
        }
    }
    kept
}

/// Tells the table of links which inodes earlier runs copied, so that names met now join them.
pub(super) fn recall_links(
    log: &Log,
    trees: &[Arc<Tree>],
    target: &dyn Target,
    links: &LinkTable,
) -> Result<(), Error> {
    let Some(earlier) = log.earlier().filter(|earlier| earlier.linked_count() > 0) else {
        return Ok(());
    };
    let mut stager = target.stager("links")?;
    let mut recall = |source, source_stamp: &Stamp, first: First| -> Result<(), Error> {
        let Some(tree) = trees.iter().find(|tree| log.number_of(tree) == source) else {
            return Ok(());
        };
        if at(&mut *stager, &first.path)?.stamp() == first.stamp {
            links.recall(tree.index, tree.device, source_stamp, first);
        }
        Ok(())
    };
    for done in earlier.iter_done().filter(|done| done.linked) {
        let copied = Copied::of(&done);
        let first = First {
            path: done.target_path.to_vec(),
            digest: Some(copied.digest),
            stamp: Some(copied.stamp),
            lacks: copied.lacks,
        };
        recall(done.source, &done.source_stamp, first)?;
    }
    // One that lacks attributes is made anew, and its other names are linked to that.
    let others = earlier.iter_other();
    for other in others.filter(|other| other.linked && !other.lacks) {
        let first = First {
            path: other.target_path.to_vec(),
            digest: None,
            stamp: Some(found(other.target_stamp)),
            lacks: other.lacks,
        };
        recall(other.source, &other.source_stamp, first)?;
    }
    Ok(())
}
