//! What must be true of a target after a power cut, and after going on from it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use inhaul::journal;

use super::{Bench, Image};
use crate::support::judge::{Node, Tree, b3sum_agrees, rsync_differences, walk};
use crate::support::lab::clone_file;
use crate::support::mounts::Mounted;
use crate::support::program::{Running, inhaul, run};

impl Bench {
    /// Mounts an image in the place of the target and says what is wrong with it. Then goes on
    /// with the copy, unless `only_look`, and says what is wrong with that.
    pub(crate) fn judge(&mut self, image: &Image, only_look: bool) -> Vec<String> {
        self.target = None;
        // As it was: the judges change it.
        let kept = std::env::var_os("INHAUL_TEST_KEEP").map(|place| {
            let name = image.path.file_name().unwrap();
            let kept = Path::new(&place).join(name);
            clone_file(&File::open(&image.path).unwrap(), &kept);
            kept
        });
        let mut complaints = match Mounted::open(&self.point(), &image.path, self.fs) {
            Ok(target) => {
                let target = target.path();
                let mut complaints = caught(|| self.look(target, image));
                if !only_look {
                    complaints.extend(caught(|| self.go_on(target)));
                }
                complaints
            }
            Err(told) => vec![format!("cannot be mounted: {told}")],
        };
        for complaint in &mut complaints {
            *complaint = format!("{}: {complaint}", image.story);
        }
        if let Some(kept) = kept.filter(|_| complaints.is_empty()) {
            std::fs::remove_file(kept).unwrap();
        }
        std::fs::remove_file(&image.path).unwrap();
        complaints
    }

    /// Looks at what is there after a power cut.
    fn look(&self, target: &Path, image: &Image) -> Vec<String> {
        let mut complaints = Vec::new();
        let copy = target.join("source");
        let copies = if copy.exists() {
            walk(&copy)
        } else {
            Tree::new()
        };
        let mut there = 0;
        for (path, node) in copies.iter().filter(|(_, node)| node.kind != "dir") {
            let shown = path.escape_ascii();
            match self.originals.get(path) {
                None => complaints.push(format!("{shown}: unknown name")),
                Some(original) if original.content != node.content => complaints.push(format!(
                    "{shown}: {} bytes of {} under its final name, and not the right ones",
                    node.size, original.size
                )),
                Some(original) => {
                    there += u64::from(node.kind == "file");
                    let of = |node: &Node| (node.mode, node.owner, node.time);
                    if of(original) != of(node) {
                        complaints.push(format!("{shown}: {node:?} is not {original:?}"));
                    }
                }
            }
        }
        let done = self.recorded(target, &copies, &mut complaints);
        if there < image.acknowledged {
            let acknowledged = image.acknowledged;
            complaints.push(format!("{there} files, of {acknowledged} acknowledged"));
        }
        if done < image.acknowledged {
            let acknowledged = image.acknowledged;
            complaints.push(format!("{done} recorded, of {acknowledged} acknowledged"));
        }
        if image.all_done {
            let lost = self
                .originals
                .keys()
                .filter(|path| !copies.contains_key(*path));
            complaints.extend(lost.map(|path| format!("{}: lost", path.escape_ascii())));
        }
        complaints
    }

    /// Checks what the journals say is done; returns of how many files they say so.
    fn recorded(&self, target: &Path, copies: &Tree, complaints: &mut Vec<String>) -> u64 {
        let mut done = BTreeMap::new();
        for folder in jobs(target) {
            if !folder.join(journal::JOURNAL_FILE).exists() {
                continue;
            }
            let dir = File::open(&folder).unwrap();
            let scratch = File::open(self.lab.path()).unwrap();
            match journal::read(dir.as_fd(), &folder, scratch.as_fd()) {
                Ok(loaded) => {
                    let records = loaded.iter_done();
                    done.extend(records.map(|done| (done.target_path.to_vec(), done.digest)));
                }
                Err(error) => complaints.push(format!("{}: {error}", folder.display())),
            }
        }
        for (path, digest) in &done {
            let shown = path.escape_ascii();
            let below = path.strip_prefix(b"source/").unwrap_or(path);
            let original = self.originals.get(below).map(|node| &node.content[..]);
            if original != Some(digest) {
                complaints.push(format!("{shown}: recorded with another digest"));
            }
            if !copies.contains_key(below) {
                complaints.push(format!("{shown}: recorded as done, and lost"));
            }
        }
        done.len() as u64
    }

    /// Runs the command once more, which must make the copy whole. A job that was finished when
    /// the power went is whole without.
    fn go_on(&self, target: &Path) -> Vec<String> {
        let mut complaints = Vec::new();
        let home = target.join(".inhaul");
        let is_finished = home.join("latest").exists() && !home.join("current").exists();
        let ran = if is_finished {
            run(&[&"verify", &target])
        } else {
            let mut command = inhaul(&[&"copy"]);
            command.args(self.options).args([&*self.source, target]);
            Running::start(command).finish()
        };
        if ran.code != 0 {
            let told = ran.err();
            let told: Vec<&str> = told.lines().take(8).collect();
            let told = told.join("\n    ");
            complaints.push(format!("going on ends with code {}:\n    {told}", ran.code));
            return complaints;
        }
        let differences = rsync_differences(&self.source, &target.join("source"), &[]);
        if !differences.is_empty() {
            let differences: Vec<&str> = differences.lines().take(8).collect();
            let differences = differences.join("\n    ");
            complaints.push(format!(
                "after going on, rsync would change:\n    {differences}"
            ));
        }
        b3sum_agrees(target, self.files());
        for folder in jobs(target) {
            if folder.join("stage").exists() {
                complaints.push(format!("{}: a stage is left", folder.display()));
            }
        }
        complaints
    }
}

/// Judges, and makes it a complaint if that cannot be done: the file system may be broken.
fn caught(judge: impl FnOnce() -> Vec<String>) -> Vec<String> {
    catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        vec![text.unwrap_or_else(|| "a judge panicked".to_owned())]
    })
}

/// Returns the folders of all jobs of a target.
fn jobs(target: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(target.join(".inhaul")) else {
        return Vec::new();
    };
    let entries = entries.map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.path())
        .collect()
}
