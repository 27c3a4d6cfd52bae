//! Jobs, made up, and what is given of them later: what is recognised and what is not.

use proptest::prelude::*;

use super::recognise::{Given, Recognised, Shape, last_component, settle};
use crate::journal::{self, Identity, Likeness};

/// A file system by its UUID and, if it is known, the serial number of its drive.
fn drive(uuid: &str, serial: Option<&str>, root_ino: u64) -> Identity {
    Identity {
        fs_uuid: (!uuid.is_empty()).then(|| uuid.as_bytes().to_vec()),
        fs_type: "ext4".to_owned(),
        serial: serial.map(str::to_owned),
        size: 1000,
        root_ino,
    }
}

fn recorded(index: u32, label: &str, landing: &str, identity: Identity) -> journal::Source {
    journal::Source {
        index,
        identity,
        label: label.as_bytes().to_vec(),
        landing: landing.as_bytes().to_vec(),
    }
}

/// A source as it would be opened: where it lands is in how it is typed.
fn typed<'a>(label: &'a str, identity: &'a Identity) -> Given<'a> {
    let name = last_component(label.as_bytes());
    let (shape, landing) = if name.ends_with(b".mov") {
        (Shape::File(name), &b""[..])
    } else if name.is_empty() {
        (Shape::Contents, &b""[..])
    } else {
        (Shape::Folder, name)
    };
    Given {
        label: label.as_bytes(),
        shape,
        landing,
        identity,
    }
}

/// Index and landing of each, or why not.
type Answer = Result<Vec<(u32, String)>, String>;

fn answer(recorded: &[journal::Source], given: &[(&str, &Identity)]) -> Answer {
    let given: Vec<Given<'_>> = given
        .iter()
        .map(|(label, identity)| typed(label, identity))
        .collect();
    match settle(recorded, &given) {
        Recognised::Same(matched) => Ok(matched
            .into_iter()
            .map(|m| (m.index, String::from_utf8(m.landing).unwrap()))
            .collect()),
        Recognised::Other(why) => Err(why),
    }
}

fn at(places: &[(u32, &str)]) -> Vec<(u32, String)> {
    let owned = places
        .iter()
        .map(|(index, landing)| (*index, (*landing).to_owned()));
    owned.collect()
}

#[test]
fn a_drive_keeps_its_place_under_another_mount_point() {
    let (a, b) = (drive("A", None, 2), drive("B", Some("S"), 2));
    let job = [
        recorded(0, "/mnt/d1", "d1", a.clone()),
        recorded(1, "/mnt/d2", "d2", b.clone()),
    ];
    let found = answer(&job, &[("/media/x", &b), ("/media/y", &a)]);
    assert_eq!(found, Ok(at(&[(1, "d2"), (0, "d1")])));
    // The mount points changed hands.
    let found = answer(&job, &[("/mnt/d1", &b), ("/mnt/d2", &a)]);
    assert_eq!(found, Ok(at(&[(1, "d2"), (0, "d1")])));
    assert_eq!(answer(&job, &[("/mnt/d2", &b)]), Ok(at(&[(1, "d2")])));
    let Recognised::Same(matched) = settle(&job, &[typed("/media/x", &a)]) else {
        panic!("it is one of them");
    };
    let line = "d1: known as /mnt/d1 before, found at /media/x";
    assert_eq!(matched[0].note.as_deref(), Some(line));
    let Recognised::Same(matched) = settle(&job, &[typed("/mnt/d1", &a)]) else {
        panic!("it is one of them");
    };
    assert_eq!(matched[0].note, None);
}

#[test]
fn a_path_that_was_relative_is_the_same_path() {
    let a = drive("A", None, 2);
    let job = [recorded(0, "d1", "d1", a.clone())];
    for (label, noted) in [("d1", false), ("/srv/d1", false), ("/srv/xd1", true)] {
        let Recognised::Same(matched) = settle(&job, &[typed(label, &a)]) else {
            panic!("it is one of them");
        };
        assert_eq!(matched[0].note.is_some(), noted, "{label}");
    }
}

#[test]
fn a_source_more_is_new() {
    let (a, b) = (drive("A", None, 2), drive("B", None, 2));
    let job = [
        recorded(7, "/mnt/d1", "d1", a.clone()),
        recorded(3, "/mnt/d2", "d2", drive("C", None, 2)),
    ];
    let (c, d) = (drive("D", None, 2), drive("E", None, 2));
    let found = answer(&job, &[("/mnt/d3", &b), ("/mnt/d1", &a), ("/mnt/d4/", &c)]);
    assert_eq!(found, Ok(at(&[(8, "d3"), (7, "d1"), (9, "")])));
    // None that is known, and none at all yet.
    let other = "no source of it is among these".to_owned();
    assert_eq!(answer(&job, &[("/mnt/d9", &d)]), Err(other));
    let found = answer(&[], &[("/mnt/d1", &a), ("/mnt/d2", &b)]);
    assert_eq!(found, Ok(at(&[(0, "d1"), (1, "d2")])));
}

#[test]
fn another_drive_at_a_known_mount_point_is_another_job() {
    let (a, b) = (drive("A", None, 2), drive("B", None, 2));
    let job = [
        recorded(0, "/mnt/d1", "d1", a),
        recorded(1, "/mnt/d2", "d2", b.clone()),
    ];
    let stranger = drive("X", None, 2);
    let found = answer(&job, &[("/mnt/d1", &stranger)]);
    let why = "the UUID of the file system of /mnt/d1 was another".to_owned();
    assert_eq!(found, Err(why));
    let found = answer(&job, &[("/mnt/d2", &b), ("/mnt/d1", &stranger)]);
    let why = "/mnt/d1 would land where /mnt/d1 did, and is not the same".to_owned();
    assert_eq!(found, Err(why));
    // Also when the one that landed there has come back by another name.
    let again = drive("A", None, 2);
    let found = answer(&job, &[("/media/x", &again), ("/mnt/d1", &stranger)]);
    assert!(found.is_err());
}

#[test]
fn folders_of_one_file_system_are_told_apart() {
    let (one, two) = (drive("A", None, 100), drive("A", None, 200));
    let job = [
        recorded(0, "/mnt/a/one", "one", one.clone()),
        recorded(1, "/mnt/a/two", "two", two.clone()),
    ];
    let found = answer(&job, &[("/x/two", &two), ("/x/one", &one)]);
    assert_eq!(found, Ok(at(&[(1, "two"), (0, "one")])));
    // A folder that was renamed is the same folder.
    assert_eq!(
        answer(&job, &[("/mnt/a/three", &two)]),
        Ok(at(&[(1, "two")]))
    );
}

#[test]
fn files_are_told_apart_by_their_names() {
    let folder = drive("A", None, 100);
    let job = [
        recorded(0, "/mnt/a/1.mov", "", folder.clone()),
        recorded(1, "/mnt/a/2.mov", "", folder.clone()),
        recorded(2, "/mnt/a/", "", folder.clone()),
        recorded(3, "/mnt/a", "a", folder.clone()),
    ];
    let given = [
        ("/x/", &folder),
        ("/x/2.mov", &folder),
        ("/x", &folder),
        ("/x/1.mov", &folder),
    ];
    let found = answer(&job, &given);
    assert_eq!(found, Ok(at(&[(2, ""), (1, ""), (3, "a"), (0, "")])));
    assert!(answer(&job, &[("/mnt/a/3.mov", &folder)]).is_err());
    // Where nothing unique is known, only the same path will do.
    let plain = drive("", None, 100);
    let job = [recorded(0, "/mnt/a/1.mov", "", plain.clone())];
    assert_eq!(
        answer(&job, &[("/mnt/a/1.mov", &plain)]),
        Ok(at(&[(0, "")]))
    );
    assert!(answer(&job, &[("/x/1.mov", &plain)]).is_err());
}

#[test]
fn folders_without_a_number_are_told_apart_by_name() {
    let card = drive("A", None, 0);
    let job = [
        recorded(0, "/mnt/card/DCIM", "DCIM", card.clone()),
        recorded(1, "/mnt/card/CLIP/", "", card.clone()),
        recorded(2, "/mnt/card/XDROOT/1.mov", "", card.clone()),
    ];
    let given = [
        ("/media/x/./CLIP/", &card),
        ("/media/x/XDROOT/1.mov", &card),
        ("/media/x/DCIM", &card),
    ];
    let found = answer(&job, &given);
    assert_eq!(found, Ok(at(&[(1, ""), (2, ""), (0, "DCIM")])));
    for stranger in ["/media/x/OTHER", "/media/x/OTHER/", "/media/x/CLIP/1.mov"] {
        assert!(answer(&job, &[(stranger, &card)]).is_err(), "{stranger}");
    }
    assert!(answer(&job, &[("1.mov", &card)]).is_err());
    // A path that does not tell the name is good if it is the same path.
    let job = [recorded(0, "1.mov", "", card.clone())];
    assert_eq!(answer(&job, &[("1.mov", &card)]), Ok(at(&[(0, "")])));
    assert!(answer(&job, &[("/x/1.mov", &card)]).is_err());
}

#[test]
fn contents_and_a_folder_are_not_the_same() {
    let a = drive("A", None, 2);
    let job = [recorded(0, "/mnt/d1", "d1", a.clone())];
    assert!(answer(&job, &[("/mnt/d1/", &a)]).is_err());
    let job = [recorded(0, "/mnt/d1/", "", a.clone())];
    assert!(answer(&job, &[("/mnt/d1", &a)]).is_err());
    assert_eq!(answer(&job, &[("/media/x/", &a)]), Ok(at(&[(0, "")])));
}

#[test]
fn twins_are_told_apart_by_serial_number_then_by_name_or_not_at_all() {
    let twin = |serial| drive("A", serial, 2);
    let job = [
        recorded(0, "/mnt/a", "a", twin(Some("S"))),
        recorded(1, "/mnt/b", "b", twin(Some("T"))),
    ];
    let (s, t, none) = (twin(Some("S")), twin(Some("T")), twin(None));
    let found = answer(&job, &[("/mnt/a", &t), ("/mnt/b", &s)]);
    assert_eq!(found, Ok(at(&[(1, "b"), (0, "a")])));
    // Its serial number is gone, but the other's is not.
    let found = answer(&job, &[("/mnt/a", &none), ("/mnt/b", &s)]);
    assert_eq!(found, Ok(at(&[(1, "b"), (0, "a")])));
    let found = answer(&job, &[("/mnt/b", &none), ("/mnt/a", &none)]);
    assert_eq!(found, Ok(at(&[(1, "b"), (0, "a")])));
    let untold = |found: Result<_, String>| {
        let why = found.unwrap_err();
        assert!(why.starts_with("it cannot be told whether /x/"), "{why}");
    };
    let third = drive("C", None, 2);
    let mut more = job.to_vec();
    more.push(recorded(2, "/mnt/c", "c", third.clone()));
    untold(answer(&more, &[("/mnt/c", &third), ("/x/b", &none)]));
    // The same with two of them here and one known.
    let alone = [recorded(0, "/mnt/a", "a", none.clone()), more[2].clone()];
    let given = [("/x/b", &none), ("/mnt/c", &third), ("/x/c", &none)];
    untold(answer(&alone, &given));
    let found = answer(&job, &[("/mnt/a", &s), ("/x/c", &none)]);
    assert_eq!(found, Ok(at(&[(0, "a"), (1, "b")])));
}

/// What is left to chance in a job and in what is given of it.
type World = Vec<(u8, bool, bool)>;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    /// Every source is on a file system of its own or in a folder of its own; some come back,
    /// elsewhere, some without a serial number, in any order, with some that are new.
    #[test]
    fn what_comes_back_is_known(
        world in prop::collection::vec((0..3_u8, any::<bool>(), any::<bool>()), 1..8),
        order in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle(),
        news in 0..4_usize,
    ) {
        let world: World = world;
        let mut job = Vec::new();
        let mut now = Vec::new();
        for (at, (fs, hides, comes)) in world.iter().enumerate() {
            let uuid = format!("fs{fs}");
            let serial = format!("serial of {uuid}");
            let ino = 100 + at as u64;
            let index = u32::try_from(at * 2).unwrap();
            let before = drive(&uuid, Some(&serial), ino);
            job.push(recorded(index, &format!("/mnt/{at}"), &at.to_string(), before));
            if *comes {
                let serial = (!hides).then_some(&*serial);
                now.push((format!("/media/x{at}"), drive(&uuid, serial, ino), Some(at)));
            }
        }
        let known = now.len();
        for new in 0..news {
            now.push((format!("/media/new{new}"), drive("new", None, new as u64), None));
        }
        let order: Vec<usize> = order.into_iter().filter(|at| *at < now.len()).collect();
        let given: Vec<(&str, &Identity)> =
            order.iter().map(|&at| (&*now[at].0, &now[at].1)).collect();
        match answer(&job, &given) {
            Err(_) => prop_assert_eq!(known, 0),
            Ok(found) => {
                let mut next = u32::try_from(world.len() * 2 - 1).unwrap();
                for (&at, found) in order.iter().zip(found) {
                    let (label, _, was) = &now[at];
                    let expected = if let Some(was) = was {
                        (u32::try_from(was * 2).unwrap(), was.to_string())
                    } else {
                        next += 1;
                        (next - 1, label.replace("/media/", ""))
                    };
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }

    /// Whatever is known and given: no two sources become one, none takes the place of one that
    /// it is not, and the order of neither list matters.
    #[test]
    fn nothing_is_guessed(
        before in prop::collection::vec(any_source(), 0..5),
        now in prop::collection::vec(any_source(), 1..5),
    ) {
        let job: Vec<journal::Source> = (0..).zip(&before)
            .map(|(index, (label, identity))| {
                let given = typed(label, identity);
                let landing = String::from_utf8(given.landing.to_vec()).unwrap();
                recorded(index, label, &landing, identity.clone())
            })
            .collect();
        let given: Vec<(&str, &Identity)> = now.iter().map(|(l, i)| (&**l, i)).collect();
        let found = answer(&job, &given);

        let mut backwards = job.clone();
        backwards.reverse();
        prop_assert_eq!(found.is_ok(), answer(&backwards, &given).is_ok());
        let reversed: Vec<(&str, &Identity)> = given.iter().copied().rev().collect();
        let known = |found: &Answer| {
            let found = found.clone().unwrap_or_default().into_iter();
            found.map(|(index, _)| (index as usize) < job.len()).collect::<Vec<_>>()
        };
        let mut mirrored = known(&answer(&job, &reversed));
        mirrored.reverse();
        prop_assert_eq!(known(&found), mirrored);

        let Ok(found) = found else { return Ok(()) };
        let mut taken = Vec::new();
        for ((label, identity), (index, landing)) in given.iter().zip(&found) {
            prop_assert!(!taken.contains(index), "two are one");
            taken.push(*index);
            let landed = landing.as_bytes();
            if let Some(known) = job.get(*index as usize) {
                prop_assert_eq!(&known.landing, landed);
                let likeness = known.identity.compare(identity);
                let named = known.label == label.as_bytes();
                prop_assert!(
                    likeness == Likeness::Same || likeness == Likeness::Unknown && named
                );
            } else if !landed.is_empty() {
                let clash = job.iter().any(|known| known.landing == landed);
                prop_assert!(!clash, "two on one name");
            }
        }
    }
}

fn any_source() -> impl Strategy<Value = (String, Identity)> {
    (
        prop::sample::select(vec![
            "/a/x", "/b/x", "/a/x/", "/b/y", "/a/z.mov", "/b/z.mov",
        ]),
        prop::sample::select(vec!["", "A", "A", "B"]),
        prop::option::weighted(0.3, prop::sample::select(vec!["S", "T"])),
        1..3_u64,
    )
        .prop_map(|(label, uuid, serial, ino)| (label.to_owned(), drive(uuid, serial, ino)))
}
