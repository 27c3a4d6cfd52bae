//! What a copy was asked for, written down: nothing is lost on the way, and what makes two copies
//! one job is told from what does not.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of the test bench is a failed test"
)]

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inhaul::engine::job::{CopyJob, EngineSettings, Existing, IoChoice, Preserve, Verify};
use inhaul::engine::{JOB_FILE, Recipe};
use inhaul::error::ErrorKind;
use inhaul::scan::{FilesFrom, Filter, Rule};
use proptest::prelude::*;

fn plain() -> CopyJob {
    CopyJob {
        sources: vec!["/mnt/d1".into(), "/mnt/d2/".into()],
        target: "/tank/in".into(),
        spill: Vec::new(),
        filter: Arc::default(),
        files_from: None,
        existing: Existing::Refuse,
        preserve: Preserve::default(),
        salvage: false,
        verify: Verify::None,
        resume: None,
        engine: EngineSettings::default(),
    }
}

/// A job with something in every field.
fn full() -> CopyJob {
    CopyJob {
        sources: vec![path(b"/mnt/\xff"), path(b"/a\nb/.")],
        target: path(b"/tank/\xfe\""),
        spill: vec!["/tank/more".into()],
        filter: Arc::new(
            Filter::new(vec![
                Rule::Include(b"keep.tmp".to_vec()),
                Rule::Exclude(b"\xff*".to_vec()),
                Rule::Exclude(b"*.tmp".to_vec()),
            ])
            .unwrap(),
        ),
        files_from: Some(list(&[b"b", b"a/b", b"\x80"])),
        existing: Existing::Overwrite,
        preserve: Preserve {
            setid: true,
            caps: false,
            special: true,
        },
        salvage: true,
        verify: Verify::Both,
        resume: None,
        engine: EngineSettings {
            io: IoChoice::Blocking,
            memory: 64 << 20,
            bwlimit: Some(200_000_000),
            hash_threads: None,
            ..EngineSettings::default()
        },
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

fn list(paths: &[&[u8]]) -> Arc<FilesFrom> {
    Arc::new(FilesFrom::of_paths(paths.iter().copied()).unwrap())
}

fn parsed(text: &[u8]) -> Recipe {
    Recipe::from_json(text, Path::new("job.json")).unwrap()
}

/// Writes a job down and reads it again.
fn again(job: &CopyJob) -> CopyJob {
    parsed(&Recipe::of(job).to_json().unwrap()).into_job()
}

#[track_caller]
fn assert_same(job: &CopyJob, again: &CopyJob) {
    // Path compares what two paths mean; here their spelling counts.
    let spelled = |paths: &[PathBuf]| -> Vec<OsString> {
        paths
            .iter()
            .map(|path| path.clone().into_os_string())
            .collect()
    };
    assert_eq!(spelled(&job.sources), spelled(&again.sources));
    assert_eq!(job.target.as_os_str(), again.target.as_os_str());
    assert_eq!(job.filter.rules(), again.filter.rules());
    let paths = |job: &CopyJob| -> Option<Vec<Vec<u8>>> {
        let list = job.files_from.as_ref()?;
        Some(list.paths().map(<[u8]>::to_vec).collect())
    };
    assert_eq!(paths(job), paths(again));
    assert_eq!(job.existing, again.existing);
    assert_eq!(job.preserve, again.preserve);
    assert_eq!(job.verify, again.verify);
    assert_eq!(job.engine, again.engine);
}

#[test]
fn what_was_asked_for_comes_back() {
    assert_same(&plain(), &again(&plain()));
    assert_same(&full(), &again(&full()));
    let mut job = full();
    job.files_from = Some(list(&[]));
    assert_same(&job, &again(&job));
    job.files_from = Some(list(&[b""]));
    assert_same(&job, &again(&job));
    job.engine.hash_threads = Some(3);
    job.resume = Some("J1".to_owned());
    let later = again(&job);
    assert_eq!((later.engine.hash_threads, later.resume), (None, None));
}

#[test]
fn the_file_can_be_read_by_people() {
    let mut job = full();
    job.files_from = None;
    let text = String::from_utf8(Recipe::of(&job).to_json().unwrap()).unwrap();
    let here = std::env::current_dir().unwrap();
    let expected = format!(
        r#"{{
  "version": 1,
  "folder": "{}",
  "sources": [
    {{
      "hex": "2f6d6e742fff"
    }},
    "/a\nb/."
  ],
  "target": {{
    "hex": "2f74616e6b2ffe22"
  }},
  "spill": [
    "/tank/more"
  ],
  "filter": [
    {{
      "include": "keep.tmp"
    }},
    {{
      "exclude": {{
        "hex": "ff2a"
      }}
    }},
    {{
      "exclude": "*.tmp"
    }}
  ],
  "files_from": null,
  "existing": "overwrite",
  "preserve": {{
    "setid": true,
    "caps": false,
    "special": true
  }},
  "verify": "both",
  "salvage": true,
  "io": "blocking",
  "memory": 67108864,
  "bwlimit": 200000000
}}
"#,
        here.display()
    );
    assert_eq!(text, expected);
}

/// What is said of a source that was left out stays as it was written; in a recipe of before nothing is.
#[test]
fn what_was_left_out_and_where_sources_were_mounted_is_kept() {
    let text = String::from_utf8(Recipe::of(&plain()).to_json().unwrap()).unwrap();
    assert!(!text.contains("left_out") && !text.contains("points"));
    let left_out = r#""left_out": [
    {
      "path": {
        "hex": "2f6d6e742fff"
      },
      "on": {
        "device": [
          8,
          17
        ],
        "fs": "ext4",
        "source": "/dev/sdb1",
        "root": "/",
        "point": {
          "hex": "2f6d6e742fff"
        },
        "uuid": null
      }
    },
    {
      "path": "/mnt/d2/",
      "on": null
    }
  ],
  "points": [
    {
      "source": 0,
      "path": "/mnt/d1",
      "point": {
        "hex": "2f6d6e742fff"
      }
    }
  ],
  "filter"#;
    let text = text.replace("\"filter", left_out);
    let again = parsed(text.as_bytes()).to_json().unwrap();
    assert_eq!(String::from_utf8(again).unwrap(), text);
}

#[test]
fn relative_paths_begin_where_they_were_typed() {
    let mut job = plain();
    job.sources = vec!["d1".into(), "./d2/".into(), "/d3".into(), ".".into()];
    job.target = "../in".into();
    // Where they were typed they are as they were.
    assert_same(&job, &again(&job));
    let text = String::from_utf8(Recipe::of(&job).to_json().unwrap()).unwrap();
    let here = format!("{:?}", std::env::current_dir().unwrap());
    let elsewhere = parsed(text.replace(&here, "\"/srv/x\"").as_bytes()).into_job();
    let spelled: Vec<&str> = elsewhere
        .sources
        .iter()
        .map(|source| source.to_str().unwrap())
        .collect();
    assert_eq!(spelled, ["/srv/x/d1", "/srv/x/./d2/", "/d3", "/srv/x/."]);
    assert_eq!(elsewhere.target, Path::new("/srv/x/../in"));
}

/// Returns the digest of a text, as hex.
fn digest(text: &[u8]) -> [u8; 32] {
    blake3::hash(text).into()
}

#[test]
fn the_hash_is_that_of_a_plain_text() {
    let text = "inhaul copy 1\nsetid false\ncaps false\nspecial false\n";
    assert_eq!(Recipe::of(&plain()).hash(), digest(text.as_bytes()));
    let text = b"inhaul copy 1\nsetid true\ncaps false\nspecial true\n\
        include 8 keep.tmp\nexclude 2 \xff*\nexclude 5 *.tmp\n\
        list 1 3\npath 3 a/b\npath 1 b\npath 1 \x80\n";
    assert_eq!(Recipe::of(&full()).hash(), digest(text));
}

#[test]
fn what_decides_what_is_copied_makes_another_job() {
    let hash = |change: &dyn Fn(&mut CopyJob)| {
        let mut job = full();
        change(&mut job);
        Recipe::of(&job).hash()
    };
    let rules = |rules: Vec<Rule>| Arc::new(Filter::new(rules).unwrap());
    let [a, b] = ["a", "b"].map(|name| Rule::Exclude(name.as_bytes().to_vec()));
    let kept = Rule::Include(b"a".to_vec());
    let hashes = [
        hash(&|_| {}),
        hash(&|job| job.preserve.setid = false),
        hash(&|job| job.preserve.caps = true),
        hash(&|job| job.preserve.special = false),
        hash(&|job| job.filter = Arc::default()),
        hash(&|job| job.filter = rules(vec![a.clone()])),
        hash(&|job| job.filter = rules(vec![kept.clone()])),
        hash(&|job| job.filter = rules(vec![a.clone(), b.clone()])),
        hash(&|job| job.filter = rules(vec![b.clone(), a.clone()])),
        hash(&|job| job.files_from = None),
        hash(&|job| job.files_from = Some(list(&[]))),
        hash(&|job| job.files_from = Some(list(&[b""]))),
        hash(&|job| job.files_from = Some(list(&[b"a"]))),
        hash(&|job| job.files_from = Some(list(&[b"a", b"b"]))),
        hash(&|job| job.files_from = Some(list(&[b"a\npath 1 b"]))),
    ];
    for (at, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..at].contains(hash), "{at}");
    }
    // The order in which paths are listed decides nothing.
    assert_eq!(
        hash(&|job| job.files_from = Some(list(&[b"b", b"a", b"b"]))),
        hashes[13]
    );
}

#[test]
fn what_decides_nothing_does_not() {
    let same = Recipe::of(&full()).hash();
    let changes: [fn(&mut CopyJob); 10] = [
        |job| job.existing = Existing::Skip,
        |job| job.sources = vec!["/elsewhere".into()],
        |job| job.target = "/other".into(),
        |job| job.verify = Verify::None,
        |job| job.verify = Verify::Target,
        |job| job.resume = Some("J1".to_owned()),
        |job| job.engine.io = IoChoice::Uring,
        |job| job.engine.memory = 1 << 30,
        |job| job.engine.bwlimit = None,
        |job| job.engine.hash_threads = Some(1),
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut job = full();
        change(&mut job);
        assert_eq!(Recipe::of(&job).hash(), same, "{at}");
    }
}

#[test]
fn what_is_no_recipe_is_refused() {
    let good = String::from_utf8(Recipe::of(&full()).to_json().unwrap()).unwrap();
    let cases = [
        String::new(),
        "{}".to_owned(),
        "[1]".to_owned(),
        good.replace("\"version\": 1", "\"version\": 2"),
        good.replace("\"memory\": 67108864", "\"memory\": -1"),
        good.replace("\"verify\": \"both\"", "\"verify\": \"all\""),
        good.replace("2f6d6e742fff", "2f6d6e742ff"),
        good.replace("2f6d6e742fff", "2f6d6e742fxx"),
        good.replace("keep.tmp", "a//b"),
        good.replace("\"a/b\"", "\"a/../b\""),
    ];
    for text in cases {
        assert_ne!(text, good);
        let error = Recipe::from_json(text.as_bytes(), Path::new("J/job.json")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RecordCorrupt, "{text}");
        assert_eq!(error.path(), Path::new("J/job.json"));
    }
    // A field of a later program, which an older one can do without.
    let more = good.replace("\"version\": 1", "\"version\": 1, \"colour\": [\"red\"]");
    assert_same(&full(), &parsed(more.as_bytes()).into_job());
}

#[test]
fn a_folder_is_looked_into_without_following_anything() {
    let dir = tempfile::tempdir().unwrap();
    let folder = std::fs::File::open(dir.path()).unwrap();
    let load = || Recipe::load(folder.as_fd(), Path::new("J"));
    let error = load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert_eq!(error.path(), Path::new("J/job.json"));
    let file = dir.path().join(JOB_FILE);
    std::fs::write(
        dir.path().join("real"),
        Recipe::of(&full()).to_json().unwrap(),
    )
    .unwrap();
    std::os::unix::fs::symlink("real", &file).unwrap();
    assert_eq!(load().unwrap_err().kind(), ErrorKind::RecordCorrupt);
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(load().unwrap_err().kind(), ErrorKind::RecordCorrupt);
    std::fs::remove_dir(&file).unwrap();
    std::fs::copy(dir.path().join("real"), &file).unwrap();
    assert_same(&full(), &load().unwrap().into_job());
}

/// Any bytes a name can have, mostly those that are trouble.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => prop::sample::select(b"a\n\"\\{ \xff\xc3\xa9\x7f".to_vec()),
        1 => 1..=255_u8,
    ];
    prop::collection::vec(byte.prop_filter("one name", |byte| *byte != b'/'), 1..12)
        .prop_filter("a name", |name| name != b"." && name != b"..")
}

fn any_path() -> impl Strategy<Value = PathBuf> {
    (prop::collection::vec(name(), 1..4), any::<bool>()).prop_map(|(names, slash)| {
        let mut bytes = names.join(&b'/');
        bytes.insert(0, b'/');
        bytes.extend(slash.then_some(b'/'));
        path(&bytes)
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    (name(), any::<bool>()).prop_filter_map("a pattern", |(pattern, keeps)| {
        let rule = if keeps {
            Rule::Include(pattern)
        } else {
            Rule::Exclude(pattern)
        };
        Filter::new(vec![rule.clone()]).is_ok().then_some(rule)
    })
}

fn any_job() -> impl Strategy<Value = CopyJob> {
    let existing = [Existing::Refuse, Existing::Skip, Existing::Overwrite];
    let verify = [Verify::None, Verify::Target, Verify::Both];
    let io = [IoChoice::Auto, IoChoice::Uring, IoChoice::Blocking];
    (
        (prop::collection::vec(any_path(), 0..4), any_path()),
        prop::collection::vec(any_rule(), 0..4),
        prop::option::of(prop::collection::vec(name(), 0..5)),
        any::<[bool; 4]>(),
        (
            prop::sample::select(existing.to_vec()),
            prop::sample::select(verify.to_vec()),
            prop::sample::select(io.to_vec()),
        ),
        (any::<u64>(), any::<Option<u64>>()),
    )
        .prop_map(
            |((sources, target), rules, paths, preserve, chosen, engine)| CopyJob {
                spill: sources.iter().skip(1).cloned().collect(),
                sources,
                target,
                filter: Arc::new(Filter::new(rules).unwrap()),
                files_from: paths.map(|paths| {
                    Arc::new(FilesFrom::of_paths(paths.iter().map(Vec::as_slice)).unwrap())
                }),
                existing: chosen.0,
                preserve: Preserve {
                    setid: preserve[0],
                    caps: preserve[1],
                    special: preserve[2],
                },
                salvage: preserve[3],
                verify: chosen.1,
                resume: None,
                engine: EngineSettings {
                    io: chosen.2,
                    memory: engine.0,
                    bwlimit: engine.1,
                    hash_threads: None,
                    ..EngineSettings::default()
                },
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_job_comes_back(job in any_job()) {
        let again = again(&job);
        assert_same(&job, &again);
        prop_assert_eq!(Recipe::of(&job).hash(), Recipe::of(&again).hash());
    }

    /// The same hash takes the same filter, list and metadata.
    #[test]
    fn only_the_same_options_have_one_hash(one in any_job(), other in any_job()) {
        let counts = |job: &CopyJob| {
            let list = job.files_from.as_ref();
            let list: Option<Vec<Vec<u8>>> =
                list.map(|list| list.paths().map(<[u8]>::to_vec).collect());
            (job.filter.rules().to_vec(), list, job.preserve)
        };
        let same = counts(&one) == counts(&other);
        prop_assert_eq!(Recipe::of(&one).hash() == Recipe::of(&other).hash(), same);
    }

    #[test]
    fn any_text_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let read = Recipe::from_json(&text, Path::new("x"));
        prop_assert_eq!(read.unwrap_err().kind(), ErrorKind::RecordCorrupt);
    }
}
