//! 5.3.11: recovery from versions that somebody with a key drove up.

use super::*;
use metadata::Kind;

/// Everything is at version 1000, and the appliance has seen it.
fn driven_up() -> World {
    driven_up_in(World::new())
}

/// The same, where timestamp and snapshot are signed by two keys each: when one is taken, what was
/// driven up still has the signature of the other. Returns the one that is to be taken.
fn driven_up_by_two() -> (World, usize) {
    let mut world = World::new();
    let bad = world.repository.signer();
    for kind in [Kind::Timestamp, Kind::Snapshot] {
        let own = world.repository.hands[kind.name()][0];
        world.repository.entrust(kind, 1, &[own, bad]);
    }
    world.repository.publish_root(&[]);
    (driven_up_in(world), bad)
}

impl World {
    /// A root that takes this key from timestamp and snapshot, and what the others sign then.
    fn disown(&mut self, bad: usize) {
        for kind in [Kind::Timestamp, Kind::Snapshot] {
            let mut left = self.repository.hands[kind.name()].clone();
            left.retain(|number| *number != bad);
            self.repository.entrust(kind, 1, &left);
        }
        self.repository.publish_root(&[]);
        self.repository.publish();
    }
}

fn driven_up_in(mut world: World) -> World {
    let repository = &mut world.repository;
    repository.roles.get_mut(TARGETS).unwrap().version = 999;
    repository.snapshot.version = 999;
    repository.timestamp.version = 999;
    repository.publish();
    world.refresh().unwrap();
    let repository = &mut world.repository;
    repository.roles.get_mut(TARGETS).unwrap().version = 1;
    repository.snapshot.version = 1;
    repository.timestamp.version = 1;
    world
}

#[test]
fn a_root_that_takes_a_key_lets_the_versions_begin_anew() {
    for kind in [Kind::Timestamp, Kind::Snapshot] {
        let mut world = driven_up();
        let fresh = world.repository.signer();
        world.repository.entrust(kind, 1, &[fresh]);
        world.repository.publish_root(&[]);
        world.repository.publish();
        let refreshed = world.refresh().unwrap();
        assert_eq!((refreshed.timestamp, refreshed.targets), (2, 2), "{kind:?}");
        // And from there they rise again.
        let floors = world.floors();
        assert_eq!(
            (floors.timestamp, floors.snapshot, floors.roles[TARGETS]),
            (2, 2, 2)
        );
    }
}

#[test]
fn what_was_driven_up_is_forgotten_though_a_key_that_stays_has_signed_it() {
    let (mut world, bad) = driven_up_by_two();
    world.disown(bad);
    assert_eq!(world.refresh().unwrap().timestamp, 2);
    assert_eq!(world.stored("timestamp"), Some(2));
}

#[test]
fn a_root_that_takes_no_key_lets_nothing_go_back() {
    let older = "timestamp: version 2, and 1000 was seen before";
    // No other key at all.
    let mut world = driven_up();
    world.repository.publish_root(&[]);
    world.repository.publish();
    assert_eq!(told(world.refresh()), older);
    // A key more.
    let mut world = driven_up();
    let fresh = world.repository.signer();
    world.repository.entrust(Kind::Timestamp, 1, &[1, fresh]);
    world.repository.publish_root(&[]);
    world.repository.publish();
    assert_eq!(told(world.refresh()), older);
    // Another key for targets.
    let mut world = driven_up();
    let fresh = world.repository.signer();
    world.repository.entrust(Kind::Targets, 1, &[fresh]);
    world.repository.publish_root(&[]);
    world.repository.publish();
    assert_eq!(told(world.refresh()), older);
    // The same key under another name.
    let mut world = driven_up();
    let key = world.repository.signers[1].key().clone();
    let root = &mut world.repository.root;
    root.keys.insert("other".to_owned(), key);
    root.roles.get_mut("timestamp").unwrap().keyids = vec!["other".to_owned()];
    world.repository.publish_root(&[]);
    world.repository.publish();
    let file = &world.repository.files.files["timestamp.json"];
    let mut value: Value = serde_json::from_slice(file).unwrap();
    value["signatures"][0]["keyid"] = "other".into();
    let file = value.to_string().into_bytes();
    world
        .repository
        .files
        .files
        .insert("timestamp.json".to_owned(), file);
    assert_eq!(told(world.refresh()), older);
}

#[test]
fn the_recovery_happens_once_and_not_again_from_a_root_that_was_seen() {
    let mut world = driven_up();
    let fresh = world.repository.signer();
    world.repository.entrust(Kind::Timestamp, 1, &[fresh]);
    world.repository.publish_root(&[]);
    world.repository.publish();
    let old = world.repository.files.clone();
    for _ in 0..5 {
        world.repository.publish();
    }
    assert_eq!(world.refresh().unwrap().timestamp, 7);
    // The history is lost, so the root that took the key comes again; with it an older state that
    // the new keys signed.
    world.disk.lose("trust/roots/2.root.json");
    world.disk.lose("trust/timestamp.json");
    world.disk.lose("trust/snapshot.json");
    world.repository.files = old;
    assert_eq!(
        told(world.refresh()),
        "timestamp: version 2, and 7 was seen before"
    );
}

#[test]
fn sequence_numbers_and_time_survive_the_recovery() {
    let mut world = driven_up();
    world
        .client()
        .book_mut()
        .raise_package("triage", 12)
        .unwrap();
    let time = world.floors().time_ms;
    assert_eq!(time, NOW.0);
    let fresh = world.repository.signer();
    world.repository.entrust(Kind::Snapshot, 1, &[fresh]);
    world.repository.publish_root(&[]);
    world.repository.publish();
    world.refresh_at(Wall(0)).unwrap();
    let floors = world.floors();
    assert_eq!(
        (floors.package("triage"), floors.time_ms, floors.root),
        (12, time, 2)
    );
}

#[test]
fn a_power_cut_in_the_recovery_neither_blocks_nor_repeats_it() {
    use crate::ota::tests::disk::Kept;
    for (kept, journals_too) in Kept::ALL
        .into_iter()
        .flat_map(|kept| [(kept, false), (kept, true)])
    {
        let mut n = 0;
        loop {
            let (mut world, bad) = driven_up_by_two();
            world.disown(bad);
            world.disk.cut_after(n);
            let done = world.refresh().is_ok();
            world.disk.restart(kept);
            if journals_too {
                // Then the files alone say how far everything has come.
                world.disk.lose("ota/journal.a");
                world.disk.lose("ota/journal.b");
            }
            let refreshed = world.refresh().unwrap();
            assert_eq!(
                (refreshed.root, refreshed.timestamp),
                (3, 2),
                "step {n}, {kept:?}, {journals_too}"
            );
            if done {
                break;
            }
            n += 1;
        }
        assert!(n > 20, "only {n} steps");
    }
}
