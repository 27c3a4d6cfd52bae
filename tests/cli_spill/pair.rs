//! A source and two targets that hold it together.

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::judge::{b3sum_agrees, files, walk};
use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Ran, Running, inhaul, job, run};
use crate::support::{Scratch, tree};

/// Regular files of the source, further names of one inode counted.
pub(crate) const FILES: usize = 62;

pub(crate) fn fill_source(source: &Path) {
    for index in 0..60_u64 {
        let dir = source.join(format!("{}/{}", index % 3, index % 5));
        std::fs::create_dir_all(&dir).unwrap();
        let len = if index % 4 == 0 { 3_500_000 } else { 400_000 };
        tree::paint(&dir.join(format!("file{index:02}")), index, len);
    }
    // Names of one inode, first and last in any order.
    for name in ["0/0/a-name", "2/4/z-name"] {
        let first = source.join("1/1/file01");
        std::fs::hard_link(first, source.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("file00", source.join("0/0/link")).unwrap();
    std::fs::create_dir(source.join("empty")).unwrap();
    tree::set_mode(&source.join("0/0"), 0o750);
    tree::age(source, 1_000_000_000);
}

/// Two targets that hold the source together, and neither alone.
pub(crate) struct Pair {
    pub(crate) first: Mounted,
    pub(crate) second: Mounted,
    pub(crate) source: PathBuf,
    pub(crate) scratch: Scratch,
}

impl Pair {
    pub(crate) fn new(fs: [Fs; 2], mib: [u64; 2]) -> Self {
        let scratch = Scratch::new();
        let source = scratch.dir("source");
        fill_source(&source);
        Self {
            first: Mounted::image(&scratch, "first", fs[0], mib[0]),
            second: Mounted::image(&scratch, "second", fs[1], mib[1]),
            source,
            scratch,
        }
    }

    pub(crate) fn spill(&self) -> String {
        format!("--spill={}", self.second.path().display())
    }

    /// Copies the source into both.
    pub(crate) fn copy(&self) -> Ran {
        run(&[&"copy", &self.spill(), &self.source, &self.first.path()])
    }

    /// The same, in batches of eight files, and killed at a point.
    #[track_caller]
    pub(crate) fn copy_killed(&self, point: &str) {
        let mut command = inhaul(&[&"copy", &self.spill(), &self.source, &self.first.path()]);
        command.env("INHAUL_TEST_BATCH_FILES", "8");
        command.env("INHAUL_TEST_KILL", point);
        Running::start(command).finish().expect(137);
    }

    /// The same, killed while the second takes what the first cannot.
    #[track_caller]
    pub(crate) fn killed_in_the_second(&self) {
        self.copy_killed("lanes-ended:2");
        assert!(self.second.join(".inhaul/current").exists());
    }

    /// Mounts a target again that somebody has unmounted.
    pub(crate) fn mount_again(&mut self, name: &str) {
        let target = match name {
            "first" => &mut self.first,
            _ => &mut self.second,
        };
        let image = target.image_path().to_owned();
        let again = Mounted::again(&self.scratch, name, Fs::Ext4, &image);
        // It is unmounted already.
        let _unmounted = ManuallyDrop::new(std::mem::replace(target, again));
    }

    /// Fails unless the two hold the source together, and each says what it has.
    #[track_caller]
    pub(crate) fn check(&self) {
        let originals = walk(&self.source);
        let (first, second) = (
            walk(&self.first.join("source")),
            walk(&self.second.join("source")),
        );
        for (path, node) in &originals {
            let shown = path.escape_ascii();
            let there: Vec<_> = [&first, &second]
                .into_iter()
                .filter_map(|tree| tree.get(path))
                .collect();
            if node.kind == "dir" {
                assert!(!there.is_empty(), "{shown}");
            } else {
                assert_eq!(there.len(), 1, "{shown}");
            }
            for copy in there {
                let mut copy = copy.clone();
                // A hard link that would lead from one to the other is a file of its own.
                copy.names = node.names;
                assert_eq!(&copy, node, "{shown}");
            }
        }
        let all = first.keys().chain(second.keys());
        assert!(all.into_iter().all(|path| originals.contains_key(path)));
        let counts = [files(&first), files(&second)];
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        let places = self.places();
        assert_eq!(places.len(), FILES);
        for (number, target) in [&self.first, &self.second].into_iter().enumerate() {
            b3sum_agrees(target.path(), counts[number]);
            run(&[&"verify", &target.path()]).expect(0);
            for left in ["current", "latest/unfinished", "latest/stage"] {
                assert!(!target.join(".inhaul").join(left).exists(), "{left}");
            }
        }
        for (path, target) in &places {
            let path = path.strip_prefix("source/").unwrap();
            let tree = if *target == self.first.path().to_str().unwrap() {
                &first
            } else {
                assert_eq!(target, self.second.path().to_str().unwrap());
                &second
            };
            assert!(
                tree.contains_key(path.as_bytes()),
                "{path} is not in {target}"
            );
        }
    }

    /// Returns where each file is by the record that covers the whole, which both targets have.
    pub(crate) fn places(&self) -> BTreeMap<String, String> {
        let [here, there] = [&self.first, &self.second].map(|target| {
            let text = std::fs::read_to_string(job(target.path()).join("places.ndjson")).unwrap();
            let mut lines = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            let head = lines.next().unwrap();
            assert_eq!(head["type"], "places");
            let place = |line: Value| {
                let number = usize::try_from(line["target"].as_u64().unwrap()).unwrap();
                let target = head["targets"][number].as_str().unwrap().to_owned();
                (line["path"].as_str().unwrap().to_owned(), target)
            };
            lines.map(place).collect::<BTreeMap<_, _>>()
        });
        assert_eq!(here, there);
        here
    }
}
