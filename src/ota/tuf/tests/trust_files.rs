//! Trust files that are cut short, emptied, deleted or swapped; floors that are lost.

use super::*;
use crate::ota::floor::PLACES;

const FILES: [&str; 4] = [
    "trust/roots/2.root.json",
    "trust/timestamp.json",
    "trust/snapshot.json",
    "trust/targets.json",
];

/// The appliance has seen root 2 and version 3 of everything. Also what the repository had before:
/// root 1 and version 2.
fn advanced() -> (World, crate::ota::tests::repository::Shelf) {
    let mut world = World::new();
    world.repository.publish();
    let old = world.repository.files.clone();
    world.repository.publish_root(&[]);
    world.repository.publish();
    world.refresh().unwrap();
    (world, old)
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    Delete,
    Empty,
    CutShort,
    Garbage,
    OneBit,
    Unreadable,
}

const HARMS: [Harm; 6] = [
    Harm::Delete,
    Harm::Empty,
    Harm::CutShort,
    Harm::Garbage,
    Harm::OneBit,
    Harm::Unreadable,
];

fn harm(world: &World, path: &str, harm: Harm) {
    let disk = &world.disk;
    let mut bytes = disk.files()[path].clone();
    match harm {
        Harm::Delete => disk.lose(path),
        Harm::Empty => disk.plant(path, b""),
        Harm::CutShort => disk.plant(path, &bytes[..bytes.len() - 1]),
        Harm::Garbage => disk.plant(path, &[0xff; 700]),
        Harm::OneBit => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            disk.plant(path, &bytes);
        }
        Harm::Unreadable => disk.make_unreadable(path),
    }
}

#[test]
fn whatever_becomes_of_the_files_nothing_older_is_accepted_and_the_next_refresh_mends_them() {
    // Each file by itself, and all of them.
    let mut cases: Vec<Vec<&str>> = FILES.iter().map(|&file| vec![file]).collect();
    cases.push(FILES.to_vec());
    for files in cases {
        for how in HARMS {
            let (mut world, old) = advanced();
            for file in &files {
                harm(&world, file, how);
            }
            let new = std::mem::replace(&mut world.repository.files, old);
            let error = told(world.refresh());
            assert!(
                error.contains("was seen before"),
                "{files:?} {how:?}: {error}"
            );
            world.repository.files = new;
            let refreshed = world.refresh().unwrap();
            assert_eq!(
                (refreshed.root, refreshed.timestamp, refreshed.targets),
                (2, 3, 3)
            );
            let stored = world.client().find_stored(FILE);
            if !matches!(how, Harm::Unreadable) {
                assert!(stored.unwrap().is_some());
            }
        }
    }
}

#[test]
fn older_files_that_are_signed_as_well_are_not_believed() {
    let (world, old) = advanced();
    let planted = [
        ("trust/timestamp.json", "timestamp.json"),
        ("trust/snapshot.json", "2.snapshot.json"),
        ("trust/targets.json", "2.targets.json"),
    ];
    // All of them fit together: a whole older state.
    for (path, file) in planted {
        world.disk.plant(path, &old.files[file]);
    }
    assert!(world.client().find_stored(FILE).is_err());
    let mut client = world.client();
    let mut files = old.clone();
    files.files.insert(
        "2.root.json".to_owned(),
        world.disk.files()[FILES[0]].clone(),
    );
    let error = told(client.refresh(NOW, &mut files));
    assert_eq!(error, "timestamp: version 2, and 3 was seen before");
    assert_eq!(world.refresh().unwrap().targets, 3);
}

#[test]
fn files_of_another_time_do_not_mix() {
    let (world, old) = advanced();
    // An older snapshot beside the newest timestamp; older targets beside the newest snapshot.
    for (path, file) in [
        ("trust/snapshot.json", "2.snapshot.json"),
        ("trust/targets.json", "2.targets.json"),
    ] {
        let newest = world.disk.files()[path].clone();
        world.disk.plant(path, &old.files[file]);
        let error = world.client().find_stored(FILE).unwrap_err();
        assert!(matches!(error, TufError::Fetch { .. }), "{error}");
        assert_eq!(world.refresh().unwrap().targets, 3);
        assert_eq!(world.disk.files()[path], newest);
    }
}

#[test]
fn without_its_newest_root_the_client_asks_for_it_again_and_takes_no_older_one() {
    let (mut world, old) = advanced();
    world.disk.lose(FILES[0]);
    let new = std::mem::replace(&mut world.repository.files, old);
    assert_eq!(
        told(world.refresh()),
        "root: version 1, and 2 was seen before"
    );
    world.repository.files = new;
    assert_eq!(world.refresh().unwrap().root, 2);
}

#[test]
fn a_root_of_strangers_in_the_history_is_passed_over() {
    let (world, _) = advanced();
    let mut strangers = Repository::new();
    strangers.publish_root(&[]);
    let root = strangers.files.files["2.root.json"].clone();
    world.disk.plant(FILES[0], &root);
    assert_eq!(world.client().root().version, 1);
    assert_eq!(world.refresh().unwrap().root, 2);
    assert_ne!(world.disk.files()[FILES[0]], root);
}

#[test]
fn lost_floors_are_read_from_the_files_that_hold() {
    let (mut world, old) = advanced();
    let before = world.floors();
    for path in PLACES {
        world.disk.lose(path);
    }
    world.repository.files = old;
    assert_eq!(
        told(world.refresh()),
        "timestamp: version 2, and 3 was seen before"
    );
    let floors = world.floors();
    assert_eq!(
        (floors.root, floors.timestamp, &floors.roles),
        (2, 3, &before.roles)
    );
}

#[test]
fn damaged_floors_beside_whole_files_open_no_door() {
    let (mut world, old) = advanced();
    for path in PLACES {
        world.disk.plant(path, b"");
    }
    world.repository.files = old;
    assert!(told(world.refresh()).contains("was seen before"));
}

#[test]
fn files_of_roles_that_are_gone_and_half_written_ones_are_cleared_away() {
    let world = World::new();
    world.disk.plant("trust/ghost.json", b"{}");
    world.disk.plant("trust/targets.json.new", b"{");
    world.disk.plant("trust/README", b"kept");
    world.refresh().unwrap();
    let files = world.disk.files();
    assert!(!files.contains_key("trust/ghost.json"));
    assert!(!files.contains_key("trust/targets.json.new"));
    assert!(files.contains_key("trust/README"));
    assert!(files.contains_key("trust/targets.json"));
}

#[test]
fn a_newer_first_root_continues_the_same_chain() {
    let (world, _) = advanced();
    let anchor = world.repository.files.files["2.root.json"].clone();
    let book = Book::open(world.disk.clone()).unwrap();
    let client = Client::open(world.disk.clone(), book, &anchor, Limits::default()).unwrap();
    assert_eq!(client.root().version, 2);
}
