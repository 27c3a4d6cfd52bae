//! Tools on the same data, in alternation, each run cold and into an empty target, or a new one.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use super::child::{Sample, measure};
use super::data::Size;
use super::peers::Tool;
use super::table::{self, Row};
use super::{Context as _, Plan, Result, compare, host, shell};

/// Where a run is when a scenario is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Caches are cold; the run starts next.
    Before,
    /// The run has ended; its target is still full and not yet checked.
    After,
}

/// For scenarios with nothing to do around a run.
#[allow(clippy::unnecessary_wraps, reason = "the shape of the others")]
pub(crate) fn nothing(_: Moment, _: &Tool) -> Result<()> {
    Ok(())
}

/// What becomes of a target between two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Targets {
    /// One, emptied after each run.
    Emptied,
    /// Each run has a folder of its own in it; all go at the end.
    New,
}

/// One race.
#[derive(Debug, Clone)]
pub(crate) struct Race<'a> {
    /// How to run.
    pub(crate) plan: &'a Plan,
    /// Scenario and variant, such as `P1, 15 drives`.
    pub(crate) name: &'a str,
    /// What is copied.
    pub(crate) sources: Vec<PathBuf>,
    /// The parent of all sources and of nothing else.
    pub(crate) parent: PathBuf,
    /// Where it goes: an empty directory.
    pub(crate) target: PathBuf,
    /// The group whose limits hold, if any.
    pub(crate) door: Option<PathBuf>,
    /// What a right copy holds.
    pub(crate) holds: Size,
    /// The least seconds possible; zero when unknown.
    pub(crate) limit: f64,
}

impl Race<'_> {
    /// Runs every tool `plan.runs` times; `around` is called before and after each run.
    pub(crate) fn run(
        &self,
        tools: &[Tool],
        around: impl FnMut(Moment, &Tool) -> Result<()>,
    ) -> Result<Vec<Row>> {
        self.all(tools, around, Targets::Emptied)
    }

    /// The same, each run into a new folder of the target; they are removed after the last run of
    /// all tools, or before when space runs short.
    ///
    /// ext4 gives out no inode again in the first minute after it was freed
    /// (`recently_deleted()` in fs/ext4/ialloc.c) and looks at each such bit again for every file it
    /// makes: a target that was just emptied costs whoever makes many files in few folders half as
    /// much again, which says nothing of the tool.
    pub(crate) fn run_into_new(
        &self,
        tools: &[Tool],
        around: impl FnMut(Moment, &Tool) -> Result<()>,
    ) -> Result<Vec<Row>> {
        self.all(tools, around, Targets::New)
    }

    fn all(
        &self,
        tools: &[Tool],
        mut around: impl FnMut(Moment, &Tool) -> Result<()>,
        targets: Targets,
    ) -> Result<Vec<Row>> {
        let mut samples: BTreeMap<usize, Vec<Sample>> = BTreeMap::new();
        let mut troubles: BTreeMap<usize, String> = BTreeMap::new();
        for run in 0..self.plan.runs {
            for (at, tool) in tools.iter().enumerate() {
                if let Some(program) = tool.missing() {
                    troubles.insert(at, format!("{program} is not installed"));
                }
                if troubles.contains_key(&at) || !self.wanted(tool) {
                    continue;
                }
                if self.plan.stop.load(Ordering::Relaxed) {
                    return Err("stopped".to_owned());
                }
                let race = match targets {
                    Targets::Emptied => self.clone(),
                    Targets::New => self.anew(&format!("run-{run}-{at}"))?,
                };
                let sample = race.once(tool, &mut around)?;
                table::progress(self.name, &tool.name, run, &sample);
                let checked = race.check(tool, &sample, run == 0);
                if checked.is_ok() {
                    samples.entry(at).or_default().push(sample);
                }
                if targets == Targets::Emptied {
                    self.clear()?;
                }
                match checked {
                    Err(error) if tool.ours() => return Err(format!("{}: {error}", tool.name)),
                    Err(error) => drop(troubles.insert(at, error)),
                    Ok(()) => {}
                }
            }
        }
        if targets == Targets::New {
            self.clear()?;
        }
        Ok(tools
            .iter()
            .enumerate()
            .filter(|(_, tool)| self.wanted(tool))
            .map(|(at, tool)| Row {
                scenario: self.name.to_owned(),
                tool: tool.name.clone(),
                hashes: tool.hashes,
                limit: self.limit,
                bytes: self.holds.bytes,
                samples: samples.remove(&at).unwrap_or_default(),
                trouble: troubles.remove(&at),
            })
            .collect())
    }

    /// The same race into a new folder of its target. What earlier runs left there goes first when
    /// there is not room for two more, of files that take a block each at least.
    fn anew(&self, name: &str) -> Result<Self> {
        let room = rustix::fs::statvfs(&self.target).context("the target")?;
        let files = self.holds.files;
        let takes = self.holds.bytes + files * 2 * room.f_frsize;
        if room.f_bavail * room.f_frsize < 2 * takes || room.f_favail < 2 * files {
            table::warn("space is short: what earlier runs copied is removed between two runs");
            self.clear()?;
        }
        let target = self.target.join(name);
        std::fs::create_dir(&target).context("a new target")?;
        Ok(Self {
            target,
            ..self.clone()
        })
    }

    fn wanted(&self, tool: &Tool) -> bool {
        let only = &self.plan.only;
        tool.ours() || only.is_empty() || only.iter().any(|word| tool.name.contains(word))
    }

    /// The command as it is measured, inside the group of limits.
    pub(crate) fn command(&self, tool: &Tool) -> Result<Command> {
        // The shell enters the group itself: what it starts is in it from the first instruction.
        let enter = match &self.door {
            Some(door) => format!("echo $$ > '{}'\n", door.display()),
            None => String::new(),
        };
        let log = File::create(self.plan.work.join("last-run.log")).context("the log")?;
        let mut command = Command::new("bash");
        command
            .arg("-c")
            .arg(format!("{enter}{}", tool.script()))
            .arg("bash")
            .args(&self.sources)
            .env("T", &self.target)
            .env("R", &self.parent)
            .env(
                "PATH",
                std::env::join_paths(shell::search_path()).context("search path")?,
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("the log")?)
            .stderr(log);
        Ok(command)
    }

    fn once(
        &self,
        tool: &Tool,
        around: &mut impl FnMut(Moment, &Tool) -> Result<()>,
    ) -> Result<Sample> {
        let busy = if self.plan.small {
            0.0
        } else {
            self.cool()?;
            host::wait_for_quiet(self.plan.patience)
        };
        around(Moment::Before, tool)?;
        let sample = measure(&mut self.command(tool)?, busy)?;
        around(Moment::After, tool)?;
        Ok(sample)
    }

    /// Everything written, nothing cached.
    pub(crate) fn cool(&self) -> Result<()> {
        for path in self.sources.iter().chain([&self.target]) {
            shell::run("sync", &["-f", &path.to_string_lossy()])?;
        }
        std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")
    }

    fn check(&self, tool: &Tool, sample: &Sample, thorough: bool) -> Result<()> {
        if sample.code != 0 {
            let log = std::fs::read_to_string(self.plan.work.join("last-run.log"));
            let log = log.unwrap_or_default();
            let said = log.lines().next_back().unwrap_or("nothing");
            return Err(format!("exit code {}: {said}", sample.code));
        }
        if !tool.copies {
            return Ok(());
        }
        if tool.ours() && thorough {
            for source in &self.sources {
                let name = source.file_name().ok_or("a source without a name")?;
                compare::same(source, &self.target.join(name))?;
            }
        }
        let found = self.count()?;
        if found != self.holds {
            return Err(format!("copied {found:?} of {:?}", self.holds));
        }
        Ok(())
    }

    fn count(&self) -> Result<Size> {
        let mut size = Size::default();
        for source in &self.sources {
            let name = source.file_name().ok_or("a source without a name")?;
            let path = self.target.join(name);
            size = size
                + if path.is_dir() {
                    compare::count(&path)?
                } else {
                    Size {
                        files: 1,
                        bytes: path.metadata().context(path.to_string_lossy())?.len(),
                    }
                };
        }
        Ok(size)
    }

    /// Empties the target.
    pub(crate) fn clear(&self) -> Result<()> {
        empty(&self.target)
    }
}

/// Removes everything below a directory.
pub(crate) fn empty(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).context("the target")? {
        let path = entry.context("the target")?.path();
        if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir_all(&path).context("the target")?;
        } else {
            std::fs::remove_file(&path).context("the target")?;
        }
    }
    Ok(())
}
