//! Planning: how memory and room are divided, where sources land, what is refused, which sources
//! share a lane. What is refused must be refused before anything is written.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod ports;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use inhaul::buffer::SLOT_LEN;
use inhaul::error::{Error, ErrorKind};
use inhaul::plan::{
    Budget, LANE_SLOTS_MAX, LANE_SLOTS_MIN, NamedLink, Need, Room, Source, check_landings, lanes,
    look_at_target, open_sources,
};
use inhaul::topology::Topology;
use ports::{Cover, Fs, Place, root, scratch};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

/// What a run takes: a fixed part, and for each lane a fixed part, buffers, and three windows.
fn taken(budget: Budget, lanes: usize) -> u64 {
    let lane = budget.slots_per_lane * SLOT_LEN + 3 * budget.window_bytes;
    24 * MIB + (lanes * lane + budget.sorter_bytes) as u64 + lanes as u64 * MIB
}

fn amount_named(error: &Error) -> u64 {
    assert_eq!(error.kind(), ErrorKind::Usage);
    let reason = error.reason();
    let (_, rest) = reason.split_once("it takes at least ").unwrap();
    rest.strip_suffix(" MiB").unwrap().parse().unwrap()
}

fn check_budget(memory: u64, lanes: usize) -> Option<Budget> {
    match Budget::new(memory, lanes) {
        Ok(budget) => {
            let all = taken(budget, lanes);
            assert!(
                all <= memory,
                "{lanes} lanes, {memory} bytes: {budget:?} is {all}"
            );
            assert!((LANE_SLOTS_MIN..=LANE_SLOTS_MAX).contains(&budget.slots_per_lane));
            assert!(budget.window_bytes >= 64 << 10 && budget.sorter_bytes >= 1 << 20);
            Some(budget)
        }
        Err(error) => {
            let enough = amount_named(&error) * MIB;
            assert!(
                enough > memory,
                "{lanes} lanes: {memory} were refused, {enough} named"
            );
            check_budget(enough, lanes).expect("what was named must do");
            None
        }
    }
}

#[test]
fn no_budget_exceeds_its_memory() {
    for lanes in (1..=12usize).chain([20, 60, 61, 199, 200]) {
        let mut before: Option<Budget> = None;
        // Small memory byte by byte is where rounding hurts; 64 KiB steps meet every case.
        for memory in (0..4096).map(|step| step * MIB / 16 * lanes.div_ceil(4) as u64) {
            let budget = check_budget(memory, lanes);
            assert!(
                before.is_none() || budget.is_some(),
                "more memory, and now it is too little"
            );
            if let (Some(before), Some(now)) = (before, budget) {
                assert!(now.slots_per_lane >= before.slots_per_lane);
                assert!(now.window_bytes >= before.window_bytes);
                assert!(now.sorter_bytes >= before.sorter_bytes);
            }
            before = budget;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_memory_and_any_lanes(memory in 0..=8u64 << 30, lanes in 1..=300usize) {
        let budget = check_budget(memory, lanes);
        // A drive more never gives the others more.
        if let (Some(one), Some(more)) = (budget, check_budget(memory, lanes + 1)) {
            prop_assert!(more.slots_per_lane <= one.slots_per_lane);
        }
    }

    #[test]
    fn what_fits_is_counted_with_what_files_waste(
        bytes in 0..=1u64 << 40, inodes in 0..=1u64 << 24, unit in prop_oneof![Just(512u64), Just(4096), Just(1 << 16)],
    ) {
        let need = Need { bytes, inodes };
        let exact = bytes + inodes * unit / 2;
        let room = |bytes, inodes| Room { bytes, inodes, unit };
        prop_assert!(room(exact, Some(inodes)).fits(need));
        prop_assert!(room(exact, None).fits(need));
        prop_assert!(exact == 0 || !room(exact - 1, None).fits(need));
        prop_assert!(inodes == 0 || !room(u64::MAX, Some(inodes - 1)).fits(need));
    }
}

#[test]
fn absurd_needs_do_not_wrap_around() {
    let room = Room {
        bytes: 1 << 30,
        inodes: None,
        unit: 4096,
    };
    let (bytes, inodes) = (u64::MAX, u64::MAX);
    assert!(!room.fits(Need { bytes, inodes }));
    assert!(!room.fits(Need { bytes: 0, inodes }));
    assert!(!room.fits(Need { bytes, inodes: 0 }));
    assert!(Budget::new(u64::MAX / 2, 1).is_ok());
}

/// `a/inner/`, `b/`, `file`, and symlinks to a directory, to a file and to nothing.
fn sources() -> ports::Scratch {
    let dir = scratch();
    let top = dir.path();
    std::fs::create_dir_all(top.join("a/inner")).unwrap();
    std::fs::create_dir(top.join("b")).unwrap();
    std::fs::write(top.join("file"), b"x").unwrap();
    std::fs::write(top.join("a/inside"), b"x").unwrap();
    for (to, name) in [
        ("a", "to-dir"),
        ("file", "to-file"),
        ("nowhere", "dangling"),
    ] {
        symlink(to, top.join(name)).unwrap();
    }
    dir
}

/// Opens sources as typed: joined as text, because `Path::join` tidies nothing but says less.
fn opened(top: &Path, typed: &[&str]) -> Result<Vec<Source>, Error> {
    let paths: Vec<PathBuf> = typed
        .iter()
        .map(|name| PathBuf::from(format!("{}/{name}", top.display())))
        .collect();
    open_sources(&paths, NamedLink::Itself)
}

#[test]
fn where_a_source_lands() {
    let dir = sources();
    let table: [(&str, Option<&str>, &str); 15] = [
        ("a", None, "a"),
        ("a/", None, ""),
        ("a//", None, ""),
        ("a/.", None, ""),
        ("a/./", None, ""),
        ("a/inner", None, "inner"),
        ("a/inner/..", None, ""),
        ("a/inner/../", None, ""),
        (".", None, ""),
        ("./a", None, "a"),
        ("a/../b", None, "b"),
        ("to-dir", None, "to-dir"),
        ("to-dir/", None, ""),
        ("file", Some("file"), ""),
        ("to-file", Some("to-file"), ""),
    ];
    for (typed, only, landing) in table {
        let source = opened(dir.path(), &[typed]).unwrap().remove(0);
        assert_eq!(source.only.as_deref(), only.map(str::as_bytes), "{typed}");
        assert_eq!(source.landing, landing.as_bytes(), "{typed}");
    }
    let source = open_sources(&["/".into()], NamedLink::Itself)
        .unwrap()
        .remove(0);
    assert_eq!((source.only, source.landing), (None, Vec::new()));
    for typed in [
        "no-such",
        "file/",
        "file/.",
        "dangling",
        "/dev/null",
        "a/inside/",
    ] {
        let error = opened(dir.path(), &[typed]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{typed}");
    }
    let null = open_sources(&["/dev/null".into()], NamedLink::Itself);
    assert_eq!(null.unwrap_err().kind(), ErrorKind::Usage);
}

fn landing_refused(top: &Path, typed: &[&str]) -> bool {
    match check_landings(&opened(top, typed).unwrap()) {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Refused);
            true
        }
    }
}

#[test]
fn two_sources_on_one_name_are_refused() {
    let dir = sources();
    let top = dir.path();
    std::fs::create_dir_all(top.join("c/a")).unwrap();
    std::fs::create_dir_all(top.join("d/file")).unwrap();
    std::fs::create_dir_all(top.join("e/.inhaul")).unwrap();
    std::fs::create_dir(top.join("f")).unwrap();
    std::fs::write(top.join("f/file"), b"x").unwrap();
    std::fs::create_dir_all(top.join("g/.inhaul")).unwrap();
    let table: [(&[&str], bool); 15] = [
        (&["a", "b"], false),
        (&["a", "c/a"], true),
        (&["a", "c/"], true),
        (&["file", "f/file"], true),
        (&["file", "d/"], true),
        (&["f/", "d/"], true),
        (&["a/", "b/"], false),
        (&["a/", "a/inner"], true),
        // The private folder of an earlier target is not copied, so it collides with nothing.
        (&["e/", "g/"], false),
        (&["e/.inhaul"], true),
        (&["e/.inhaul/"], false),
        (&["a", "file", "b", "f/"], true),
        (&["to-dir", "b"], false),
        (&["c/a", "b", "a"], true),
        (&["c", "c/a"], false),
    ];
    for (typed, refused) in table {
        assert_eq!(landing_refused(top, typed), refused, "{typed:?}");
    }
}

#[test]
fn the_same_place_twice_is_refused_however_it_is_spelled() {
    let dir = sources();
    let top = dir.path();
    for other in [
        "a",
        "a/",
        "a/.",
        "./a",
        "b/../a",
        "a/inner/..",
        "to-dir",
        "to-dir/",
    ] {
        assert!(landing_refused(top, &["a", other]), "{other}");
        assert!(landing_refused(top, &[other, "b", "a"]), "{other}");
    }
    assert!(landing_refused(top, &["file", "./file"]));
    assert!(landing_refused(top, &["file", "a/../file"]));
    if !root() {
        return;
    }
    let bound = top.join("bound");
    std::fs::create_dir(&bound).unwrap();
    let _cover = Cover::bind(&top.join("a"), &bound);
    assert!(landing_refused(top, &["a", "bound"]));
    assert!(landing_refused(top, &["bound/", "b", "a/"]));
    assert!(!landing_refused(top, &["bound", "b"]));
}

/// Returns whether the target is there, or why it is refused.
fn look(top: &Path, typed: &[&str], target: &str) -> Result<bool, ErrorKind> {
    let sources = opened(top, typed).unwrap();
    let target = PathBuf::from(format!("{}/{target}", top.display()));
    match look_at_target(&target, &sources) {
        Ok(place) => Ok(place.existing().is_some()),
        Err(error) => Err(error.kind()),
    }
}

#[test]
fn targets_in_sources_and_sources_in_targets_are_refused() {
    let dir = sources();
    let top = dir.path();
    std::fs::create_dir_all(top.join("target/old")).unwrap();
    std::fs::write(top.join("target/file"), b"x").unwrap();
    symlink("a/inner", top.join("to-inner")).unwrap();
    symlink("target", top.join("to-target")).unwrap();
    let (refused, usage) = (Err(ErrorKind::Refused), Err(ErrorKind::Usage));
    let table: [(&[&str], &str, Result<bool, ErrorKind>); 20] = [
        (&["a"], "target", Ok(true)),
        (&["a"], "target/", Ok(true)),
        (&["a"], "target/new", Ok(false)),
        (&["a"], "target/new/", Ok(false)),
        (&["a"], "target/new/deeper", usage),
        (&["a"], "a", refused),
        (&["a"], "a/", refused),
        (&["a"], "a/inner", refused),
        (&["a"], "a/new", refused),
        (&["a"], "a/inner/new", refused),
        (&["a/inner"], "a/other", Ok(false)),
        (&["a/inner"], "a", refused),
        (&["b", "a/inner"], ".", refused),
        (&["a"], "to-inner", refused),
        (&["a"], "to-inner/new", refused),
        (&["to-dir"], "a/new", refused),
        (&["target/old"], "to-target", refused),
        (&["target/file"], "target", refused),
        (&["file"], "file", usage),
        (&["a"], "dangling", usage),
    ];
    for (typed, target, answer) in table {
        let looked = look(top, typed, target);
        assert_eq!(looked, answer, "{typed:?} to {target}");
    }
    assert_eq!(look(top, &["file"], "target"), Ok(true));
    if !root() {
        return;
    }
    // The same through mounts: a directory is where its inode is, whatever it is called.
    let bound = top.join("b");
    let _cover = Cover::bind(&top.join("a"), &bound);
    assert_eq!(look(top, &["a"], "b"), refused);
    assert_eq!(look(top, &["a"], "b/inner"), refused);
    assert_eq!(look(top, &["a"], "b/new"), refused);
    assert_eq!(look(top, &["b/inner"], "a"), refused);
}

#[test]
fn a_missing_target_is_made_once_and_nothing_before() {
    let dir = sources();
    let target = dir.path().join("target");
    let sources = opened(dir.path(), &["a"]).unwrap();
    let place = look_at_target(&target, &sources).unwrap();
    assert!(place.existing().is_none() && !target.exists());
    let made = place.make().unwrap();
    let identity = |fd: &OwnedFd| rustix::fs::fstat(fd.as_fd()).unwrap().st_ino;
    let there = OwnedFd::from(std::fs::File::open(&target).unwrap());
    assert_eq!(identity(&made), identity(&there));
    let place = look_at_target(&target, &sources).unwrap();
    assert!(place.existing().is_some());
    assert_eq!(identity(&place.make().unwrap()), identity(&there));
    // Somebody else was faster: no error hides behind success.
    let other = dir.path().join("other");
    let place = look_at_target(&other, &sources).unwrap();
    symlink("a", &other).unwrap();
    assert_eq!(place.make().unwrap_err().kind(), ErrorKind::TargetExists);
}

/// Returns which sources share a lane, by their place in the list.
fn grouped(paths: &[PathBuf]) -> Vec<Vec<usize>> {
    let sources = open_sources(paths, NamedLink::Itself).unwrap();
    let (sender, _finished) = crossbeam::channel::bounded(1);
    let plans = lanes(sources, &Topology::live().unwrap(), &sender).unwrap();
    let index = |plan: &inhaul::plan::LanePlan| plan.trees.iter().map(|tree| tree.index).collect();
    plans.iter().map(index).collect()
}

#[test]
fn one_lane_a_drive() {
    let places: Vec<Place> = [Fs::Ext4, Fs::Ext4, Fs::Btrfs, Fs::Tmpfs, Fs::Tmpfs]
        .into_iter()
        .map_while(|fs| Place::new(fs, 16))
        .collect();
    let [one, two, btrfs, memory, more] = places.as_slice() else {
        return;
    };
    let on = |place: &Place, name: &str| place.dir(name);
    std::fs::write(one.path.join("file"), b"x").unwrap();
    let bound = two.dir("bound");
    let _cover = Cover::bind(&on(one, "b"), &bound);
    let subvolume = btrfs.path.join("subvolume");
    ports::tool(&[
        "btrfs",
        "-q",
        "subvolume",
        "create",
        subvolume.to_str().unwrap(),
    ])
    .unwrap();
    let paths = [
        on(one, "a"),
        on(two, "a"),
        on(one, "c/d"),
        subvolume,
        on(memory, "a"),
        one.path.join("file"),
        on(btrfs, "a"),
        on(more, "a"),
        bound, // on the first drive, whatever it lies below
        two.path.join("a/"),
        on(memory, "b"),
    ];
    let groups = grouped(&paths);
    assert_eq!(
        groups,
        [
            vec![0, 2, 5, 8],
            vec![1, 9],
            vec![3, 6],
            vec![4, 10],
            vec![7]
        ]
    );
}
