//! The steps 5.3 to 5.6, each broken by itself.

use super::*;
use crate::ota::tests::repository::Describe;

#[test]
fn a_first_refresh_fetches_each_role_once_and_finds_a_target() {
    let world = World::fresh(Repository::new());
    let target = world.find(FILE).unwrap().unwrap();
    assert!(target.is(b"one") && !target.is(b"two") && !target.is(b"one "));
    assert_eq!(target.length, 3);
    let hash = &target.hashes["sha256"];
    assert_eq!(target.file, format!("{hash}.{FILE}"));
    assert_eq!(key::hex(&target.sha256().unwrap()), *hash);
    assert_eq!(
        world.asked(),
        [
            "2.root.json",
            "timestamp.json",
            "1.snapshot.json",
            "1.targets.json"
        ]
    );
    assert_eq!(world.find("other").unwrap(), None);
    // What is stored is good, so only what may be new is asked for.
    assert_eq!(world.asked(), ["2.root.json", "timestamp.json"]);
}

#[test]
fn a_search_needs_a_refresh_that_succeeded() {
    let world = World::new();
    let mut client = world.client();
    let mut files = world.repository.files.clone();
    assert!(matches!(
        client.find(FILE, &mut files),
        Err(TufError::NotRefreshed)
    ));
    client.refresh(NOW, &mut files).unwrap();
    assert!(client.find(FILE, &mut files).unwrap().is_some());
    files.files.remove("timestamp.json");
    assert!(client.refresh(NOW, &mut files).is_err());
    assert!(matches!(
        client.find(FILE, &mut files),
        Err(TufError::NotRefreshed)
    ));
    assert!(client.find_stored(FILE).unwrap().is_some());
}

#[test]
fn files_without_versions_in_their_names_are_found_too() {
    let mut repository = Repository::new();
    repository.root.consistent_snapshot = Some(false);
    repository.sign_root();
    repository
        .files
        .files
        .retain(|name, _| name == "1.root.json");
    repository.publish();
    let world = World::fresh(repository);
    let target = world.find(FILE).unwrap().unwrap();
    assert_eq!(target.file, FILE);
    assert_eq!(
        world.asked(),
        [
            "2.root.json",
            "timestamp.json",
            "snapshot.json",
            "targets.json"
        ]
    );
}

#[test]
fn descriptions_may_give_the_version_alone() {
    let mut repository = Repository::new();
    repository.describe = Describe::VersionOnly;
    repository.publish();
    let world = World::fresh(repository);
    assert!(world.find(FILE).unwrap().is_some());
}

#[test]
fn a_target_below_a_folder_has_the_hash_before_its_own_name() {
    let mut world = World::new();
    world.repository.put(TARGETS, "a/b/c.json", b"deep");
    world.repository.publish();
    let target = world.find("a/b/c.json").unwrap().unwrap();
    assert_eq!(
        target.file,
        format!("a/b/{}.c.json", target.hashes["sha256"])
    );
}

// 5.3: the root.

/// Root 2, with root keys by number, signed by other numbers.
fn root_2(keys: &[usize], threshold: u64, signed_by: &[usize]) -> Result<Refreshed, TufError> {
    let mut world = World::new();
    for _ in 0..4 {
        world.repository.signer();
    }
    world
        .repository
        .entrust(metadata::Kind::Root, threshold, keys);
    let hands = signed_by.to_vec();
    world.repository.hands.insert("root".to_owned(), hands);
    world.repository.publish_root(&[]);
    world.refresh()
}

#[test]
fn a_root_needs_the_old_roots_keys_and_its_own() {
    // The first root has key 0 alone.
    assert_eq!(root_2(&[0], 1, &[0]).unwrap().root, 2);
    assert_eq!(root_2(&[4], 1, &[0, 4]).unwrap().root, 2);
    assert_eq!(root_2(&[0, 4, 5], 2, &[0, 5]).unwrap().root, 2);
    assert_eq!(
        told(root_2(&[4], 1, &[4])),
        "root: signed by 0 of its keys, and it takes 1"
    );
    assert_eq!(
        told(root_2(&[4], 1, &[0])),
        "root: signed by 0 of its keys, and it takes 1"
    );
    assert_eq!(
        told(root_2(&[0, 4, 5], 2, &[0])),
        "root: signed by 1 of its keys, and it takes 2"
    );
    // A key that is in neither root counts nowhere.
    assert_eq!(
        told(root_2(&[0, 4], 2, &[0, 6])),
        "root: signed by 1 of its keys, and it takes 2"
    );
}

#[test]
fn roots_follow_one_another_without_a_gap() {
    let mut world = World::new();
    for _ in 0..3 {
        world.repository.publish_root(&[]);
    }
    assert_eq!(world.refresh().unwrap().root, 4);
    let files = world.disk.files();
    assert!(files.contains_key("trust/roots/2.root.json"));
    assert!(files.contains_key("trust/roots/4.root.json"));

    // Version 6 under the name of version 5.
    world.repository.publish_root(&[]);
    world.repository.publish_root(&[]);
    let six = world.repository.files.files["6.root.json"].clone();
    world
        .repository
        .files
        .files
        .insert("5.root.json".to_owned(), six);
    assert_eq!(told(world.refresh()), "root: version 6, and 5 was due");
    // The same version again.
    let four = world.repository.files.files["4.root.json"].clone();
    world
        .repository
        .files
        .files
        .insert("5.root.json".to_owned(), four);
    assert_eq!(told(world.refresh()), "root: version 4, and 5 was due");
}

#[test]
fn each_root_of_a_chain_is_held_against_the_one_before_it() {
    let mut world = World::new();
    let (second, third) = (world.repository.signer(), world.repository.signer());
    world.repository.entrust(metadata::Kind::Root, 1, &[second]);
    world.repository.publish_root(&[0]);
    world.repository.entrust(metadata::Kind::Root, 1, &[third]);
    // Signed by the first root's key, which the second no longer has.
    world.repository.publish_root(&[0]);
    assert!(told(world.refresh()).starts_with("root: signed by 0"));
    let version = world.repository.root.version - 1;
    world.repository.root.version = version;
    world.repository.publish_root(&[second]);
    assert_eq!(world.refresh().unwrap().root, 3);
}

#[test]
fn an_expired_root_on_the_way_is_good_and_at_the_end_is_not() {
    let mut world = World::new();
    let good = world.repository.root.expires;
    world.repository.root.expires = Expiry::at(days(NOW, 0));
    world.repository.publish_root(&[]);
    world.repository.publish();
    assert!(told(world.refresh()).starts_with("root: expired at 2026-12-01"));
    // It is kept all the same, and nothing else.
    assert_eq!(world.floors().root, 2);
    assert_eq!(world.stored("timestamp"), Some(1));
    world.repository.root.expires = good;
    world.repository.publish_root(&[]);
    assert_eq!(world.refresh().unwrap().root, 3);
}

#[test]
fn so_many_roots_at_once_and_the_rest_the_next_time() {
    let mut world = World::new();
    for _ in 0..5 {
        world.repository.publish_root(&[]);
    }
    let limits = Limits {
        root_chain: 3,
        ..Limits::default()
    };
    let anchor = world.repository.anchor();
    let refresh = || {
        let book = Book::open(world.disk.clone()).unwrap();
        let mut client = Client::open(world.disk.clone(), book, &anchor, limits).unwrap();
        client.refresh(NOW, &mut world.repository.files.clone())
    };
    assert_eq!(
        told(refresh()),
        "more than 3 new versions of the root at once"
    );
    assert_eq!(refresh().unwrap().root, 6);
}

#[test]
fn a_fault_of_the_network_is_not_the_end_of_the_chain() {
    struct Broken;
    impl Transport for Broken {
        fn open(&mut self, _: &str) -> Result<Box<dyn Read + '_>, FetchError> {
            Err(io::Error::other("no route").into())
        }
    }
    let world = World::new();
    let error = world.client().refresh(NOW, &mut Broken).unwrap_err();
    assert_eq!(error.to_string(), "2.root.json: no route");
}

#[test]
fn a_first_root_that_its_own_keys_did_not_sign_is_none() {
    let repository = Repository::new();
    let open = |anchor: &[u8]| {
        let disk = SimDisk::default();
        let book = Book::open(disk.clone()).unwrap();
        Client::open(disk, book, anchor, Limits::default()).map(drop)
    };
    open(&repository.anchor()).unwrap();
    let mut value: Value = serde_json::from_slice(&repository.anchor()).unwrap();
    value["signed"]["version"] = 2.into();
    assert!(told(open(value.to_string().as_bytes())).starts_with("root: signed by 0"));
    assert!(told(open(b"{}")).starts_with("root: missing field"));
}

// 5.4: the timestamp.

#[test]
fn a_timestamp_needs_its_keys() {
    let mut world = World::new();
    world
        .repository
        .hands
        .insert("timestamp".to_owned(), vec![0, 2]);
    world.repository.publish_timestamp();
    assert_eq!(
        told(world.refresh()),
        "timestamp: signed by 0 of its keys, and it takes 1"
    );
}

#[test]
fn an_older_timestamp_is_refused() {
    let mut world = World::new();
    let old = world.repository.files.clone();
    world.repository.publish_timestamp();
    world.refresh().unwrap();
    world.repository.files = old;
    assert_eq!(
        told(world.refresh()),
        "timestamp: version 1, and 2 was seen before"
    );
    assert_eq!(world.stored("timestamp"), Some(2));
}

#[test]
fn a_newer_timestamp_with_an_older_snapshot_is_refused() {
    let mut world = World::new();
    world.repository.publish();
    world.refresh().unwrap();
    world.repository.snapshot.version = 1;
    world.repository.sign_snapshot();
    world.repository.publish_timestamp();
    assert_eq!(
        told(world.refresh()),
        "snapshot: version 1, and 2 was seen before"
    );
    assert_eq!(world.stored("timestamp"), Some(2));
}

#[test]
fn the_same_version_of_the_timestamp_is_no_news() {
    let mut world = World::new();
    world.repository.publish_snapshot();
    world.repository.sign_timestamp();
    assert_eq!(world.refresh().unwrap().snapshot, 1);
    // Nor does it last longer than it did.
    world.repository.timestamp.expires = Expiry::at(days(NOW, 100));
    world.repository.sign_timestamp();
    assert!(told(world.refresh_at(days(NOW, 8))).starts_with("timestamp: expired"));
}

#[test]
fn an_expired_timestamp_is_refused_and_the_old_one_stays() {
    let mut world = World::new();
    world.repository.timestamp.expires = Expiry::at(NOW);
    world.repository.publish_timestamp();
    assert_eq!(
        told(world.refresh()),
        "timestamp: expired at 2026-12-01T00:00:00Z"
    );
    assert_eq!(world.stored("timestamp"), Some(1));
}

// 5.5: the snapshot.

#[test]
fn a_snapshot_needs_its_keys() {
    let mut world = World::new();
    world
        .repository
        .hands
        .insert("snapshot".to_owned(), vec![1]);
    world.repository.publish();
    assert_eq!(
        told(world.refresh()),
        "snapshot: signed by 0 of its keys, and it takes 1"
    );
    // Step by step: the timestamp before it is accepted.
    assert_eq!(world.stored("timestamp"), Some(2));
    assert_eq!(world.stored("snapshot"), Some(1));
}

#[test]
fn a_snapshot_is_the_file_that_the_timestamp_describes() {
    let mut world = World::new();
    world.repository.publish_snapshot();
    let described = world
        .repository
        .timestamp
        .meta
        .get_mut("snapshot.json")
        .unwrap();
    let right = described.clone();
    let hashes = described.hashes.as_mut().unwrap();
    hashes.insert("sha256".to_owned(), "0".repeat(64));
    world.repository.publish_timestamp();
    let not = "snapshot: its length or hash is not the one that was signed for";
    assert_eq!(told(world.refresh()), not);

    // Shorter than it should be.
    let described = world
        .repository
        .timestamp
        .meta
        .get_mut("snapshot.json")
        .unwrap();
    *described = right.clone();
    described.length = Some(right.length.unwrap() + 1);
    described.hashes = None;
    world.repository.publish_timestamp();
    assert_eq!(told(world.refresh()), not);

    // Longer than it should be.
    let described = world
        .repository
        .timestamp
        .meta
        .get_mut("snapshot.json")
        .unwrap();
    described.length = Some(right.length.unwrap() - 1);
    world.repository.publish_timestamp();
    assert!(told(world.refresh()).starts_with("2.snapshot.json: more than"));

    *world
        .repository
        .timestamp
        .meta
        .get_mut("snapshot.json")
        .unwrap() = right;
    world.repository.publish_timestamp();
    assert_eq!(world.refresh().unwrap().snapshot, 2);
}

#[test]
fn a_hash_of_an_unknown_kind_alone_vouches_for_nothing() {
    let mut world = World::new();
    world.repository.publish_snapshot();
    let described = world
        .repository
        .timestamp
        .meta
        .get_mut("snapshot.json")
        .unwrap();
    let hashes = described.hashes.as_mut().unwrap();
    let known = hashes.clone();
    let sha256 = hashes.remove("sha256").unwrap();
    hashes.insert("md5".to_owned(), sha256);
    world.repository.publish_timestamp();
    assert!(told(world.refresh()).starts_with("snapshot: its length or hash"));
    let described = world
        .repository
        .timestamp
        .meta
        .get_mut("snapshot.json")
        .unwrap();
    described.hashes.as_mut().unwrap().extend(known);
    world.repository.publish_timestamp();
    assert_eq!(world.refresh().unwrap().snapshot, 2);
}

#[test]
fn a_snapshot_has_the_version_that_the_timestamp_names() {
    let mut world = World::new();
    world.repository.describe = Describe::VersionOnly;
    world.repository.publish();
    let named = world
        .repository
        .timestamp
        .meta
        .get_mut("snapshot.json")
        .unwrap();
    named.version = 3;
    world.repository.publish_timestamp();
    let two = world.repository.files.files["2.snapshot.json"].clone();
    world
        .repository
        .files
        .files
        .insert("3.snapshot.json".to_owned(), two);
    assert_eq!(told(world.refresh()), "snapshot: version 2, and 3 was due");
}

#[test]
fn no_role_in_the_snapshot_goes_back() {
    let mut world = World::new();
    world.repository.publish();
    world.refresh().unwrap();
    world.repository.roles.get_mut(TARGETS).unwrap().version = 0;
    world.repository.publish();
    assert_eq!(
        told(world.refresh()),
        "targets: version 1, and 2 was seen before"
    );
    assert_eq!(world.stored("snapshot"), Some(2));
}

#[test]
fn no_role_in_the_snapshot_vanishes() {
    let mut world = World::new();
    world
        .repository
        .delegate(TARGETS, "rollout", &["ring-*"], write::Then::Stop);
    world.repository.publish();
    world.refresh().unwrap();
    world.repository.snapshot.meta.remove("rollout.json");
    world.repository.publish_snapshot();
    world.repository.publish_timestamp();
    assert_eq!(
        told(world.refresh()),
        "snapshot: role rollout was there before and is no longer listed"
    );
}

#[test]
fn an_expired_snapshot_is_refused_and_the_old_one_stays() {
    let mut world = World::new();
    world.repository.snapshot.expires = Expiry::at(NOW);
    world.repository.publish();
    assert_eq!(
        told(world.refresh()),
        "snapshot: expired at 2026-12-01T00:00:00Z"
    );
    assert_eq!(world.stored("snapshot"), Some(1));
}

#[test]
fn a_stored_snapshot_expires_too() {
    let mut world = World::new();
    world.repository.timestamp.expires = Expiry::at(days(NOW, 60));
    world.repository.publish_timestamp();
    assert!(told(world.refresh_at(days(NOW, 31))).starts_with("snapshot: expired"));
}

// 5.6: targets.

#[test]
fn targets_need_their_keys() {
    let mut world = World::new();
    world.repository.hands.insert(TARGETS.to_owned(), vec![2]);
    world.repository.publish();
    assert_eq!(
        told(world.refresh()),
        "targets: signed by 0 of its keys, and it takes 1"
    );
    assert_eq!(world.stored("snapshot"), Some(2));
    assert_eq!(world.stored("targets"), Some(1));
}

#[test]
fn targets_are_the_file_that_the_snapshot_describes() {
    let mut world = World::new();
    world.repository.publish_role(TARGETS);
    let described = world
        .repository
        .snapshot
        .meta
        .get_mut("targets.json")
        .unwrap();
    let hashes = described.hashes.as_mut().unwrap();
    hashes.insert("sha256".to_owned(), "0".repeat(64));
    world.repository.publish_snapshot();
    world.repository.publish_timestamp();
    let not = "targets: its length or hash is not the one that was signed for";
    assert_eq!(told(world.refresh()), not);
}

#[test]
fn targets_have_the_version_that_the_snapshot_names() {
    let mut world = World::new();
    world.repository.describe = Describe::VersionOnly;
    world.repository.publish_role(TARGETS);
    world
        .repository
        .snapshot
        .meta
        .get_mut("targets.json")
        .unwrap()
        .version = 3;
    world.repository.publish_snapshot();
    world.repository.publish_timestamp();
    let two = world.repository.files.files["2.targets.json"].clone();
    world
        .repository
        .files
        .files
        .insert("3.targets.json".to_owned(), two);
    assert_eq!(told(world.refresh()), "targets: version 2, and 3 was due");
}

#[test]
fn expired_targets_are_refused_and_the_old_ones_stay() {
    let mut world = World::new();
    world.repository.roles.get_mut(TARGETS).unwrap().expires = Expiry::at(NOW);
    world.repository.publish();
    assert_eq!(
        told(world.refresh()),
        "targets: expired at 2026-12-01T00:00:00Z"
    );
    assert_eq!(world.stored("targets"), Some(1));
}

#[test]
fn a_snapshot_without_targets_is_refused() {
    let mut world = World::fresh(Repository::new());
    world.repository.snapshot.meta.clear();
    world.repository.publish_snapshot();
    world.repository.publish_timestamp();
    assert_eq!(
        told(world.refresh()),
        "targets: the snapshot does not list it"
    );
}

#[test]
fn a_target_without_a_known_hash_is_no_target() {
    let mut world = World::new();
    world.repository.put(TARGETS, "sha512.json", b"x");
    let targets = world.repository.roles.get_mut(TARGETS).unwrap();
    let hashes = &mut targets.targets.get_mut("sha512.json").unwrap().hashes;
    hashes.clear();
    hashes.insert("blake9".to_owned(), "00".to_owned());
    world.repository.publish();
    assert_eq!(
        told(world.find("sha512.json")),
        "sha512.json: none of its hashes is of a known kind"
    );
    let sha512 = ring::digest::digest(&ring::digest::SHA512, b"x");
    let targets = world.repository.roles.get_mut(TARGETS).unwrap();
    let hashes = &mut targets.targets.get_mut("sha512.json").unwrap().hashes;
    hashes.insert("sha512".to_owned(), key::hex(sha512.as_ref()));
    world.repository.publish();
    let target = world.find("sha512.json").unwrap().unwrap();
    assert!(target.is(b"x") && !target.is(b"y"));
    assert_eq!(target.sha256(), None);
}

// Thresholds, whoever they are of.

#[test]
fn a_key_under_two_names_counts_once() {
    let mut world = World::new();
    let key = world.repository.signers[1].key().clone();
    let root = &mut world.repository.root;
    root.keys.insert("alias".to_owned(), key);
    let who = root.roles.get_mut("timestamp").unwrap();
    who.keyids.push("alias".to_owned());
    who.threshold = 2;
    world.repository.publish_root(&[]);
    let file = resigned(&world.repository, "timestamp.json", "timestamp", |_| {});
    let mut value: Value = serde_json::from_slice(&file).unwrap();
    let mut again = value["signatures"][0].clone();
    again["keyid"] = "alias".into();
    value["signatures"].as_array_mut().unwrap().push(again);
    let file = value.to_string().into_bytes();
    world
        .repository
        .files
        .files
        .insert("timestamp.json".to_owned(), file);
    world.disk.lose("trust/timestamp.json");
    assert_eq!(
        told(world.refresh()),
        "timestamp: signed by 1 of its keys, and it takes 2"
    );
}

#[test]
fn a_signature_that_stands_twice_makes_the_file_worthless() {
    let mut world = World::new();
    world.repository.publish_timestamp();
    let file = &world.repository.files.files["timestamp.json"];
    let mut value: Value = serde_json::from_slice(file).unwrap();
    let again = value["signatures"][0].clone();
    value["signatures"].as_array_mut().unwrap().push(again);
    let file = value.to_string().into_bytes();
    world
        .repository
        .files
        .files
        .insert("timestamp.json".to_owned(), file);
    assert!(told(world.refresh()).ends_with("signed twice"));
}

#[test]
fn wrong_signatures_beside_enough_right_ones_do_no_harm() {
    let mut world = World::new();
    let more = world.repository.signer();
    world
        .repository
        .entrust(metadata::Kind::Timestamp, 1, &[1, more]);
    world.repository.publish_root(&[]);
    for wrong in ["", "zz", "00", "not even hex", &"0".repeat(128)] {
        world.repository.publish_timestamp();
        let file = &world.repository.files.files["timestamp.json"];
        let mut value: Value = serde_json::from_slice(file).unwrap();
        value["signatures"][1]["sig"] = wrong.into();
        let file = value.to_string().into_bytes();
        world
            .repository
            .files
            .files
            .insert("timestamp.json".to_owned(), file);
        world.refresh().unwrap();
    }
}

// Sizes.

#[test]
fn a_file_that_does_not_end_is_given_up_at_its_limit() {
    let mut world = World::new();
    world.repository.publish_root(&[]);
    world.repository.publish();
    for (file, limit) in [
        ("2.root.json", "524288"),
        ("timestamp.json", "16384"),
        ("2.snapshot.json", "1048576"),
        ("2.targets.json", "4194304"),
    ] {
        let mut world = World::fresh(Repository::new());
        world.repository.describe = Describe::VersionOnly;
        world.repository.publish_root(&[]);
        world.repository.publish();
        world.repository.files.endless = Some(file.to_owned());
        let expected = format!("{file}: more than the {limit} bytes that it may have");
        assert_eq!(told(world.refresh()), expected);
    }
    // Where the length is signed for, that is the limit.
    world.repository.files.endless = Some("2.snapshot.json".to_owned());
    let length = world.repository.files.files["2.snapshot.json"].len();
    let expected = format!("2.snapshot.json: more than the {length} bytes that it may have");
    assert_eq!(told(world.refresh()), expected);
}

#[test]
fn a_signed_length_does_not_lift_the_limit() {
    let mut world = World::new();
    world.repository.publish_snapshot();
    let described = world
        .repository
        .timestamp
        .meta
        .get_mut("snapshot.json")
        .unwrap();
    described.length = Some(u64::MAX);
    world.repository.publish_timestamp();
    world.repository.files.endless = Some("2.snapshot.json".to_owned());
    assert!(told(world.refresh()).contains("more than the 1048576 bytes"));
}

#[test]
fn roles_and_targets_are_counted() {
    let mut world = World::new();
    world.repository.put(TARGETS, "second.json", b"2");
    world
        .repository
        .delegate(TARGETS, "a", &["*"], write::Then::GoOn);
    world
        .repository
        .delegate(TARGETS, "b", &["*"], write::Then::GoOn);
    world.repository.publish();
    let refresh = |limits: Limits| {
        let disk = SimDisk::default();
        let book = Book::open(disk.clone()).unwrap();
        let anchor = world.repository.anchor();
        let mut client = Client::open(disk, book, &anchor, limits).unwrap();
        client.refresh(NOW, &mut world.repository.files.clone())
    };
    let limits = Limits {
        targets: 2,
        roles: 3,
        ..Limits::default()
    };
    refresh(limits).unwrap();
    let few = Limits {
        targets: 1,
        ..limits
    };
    assert_eq!(told(refresh(few)), "more than 1 targets in a role");
    let few = Limits { roles: 2, ..limits };
    assert_eq!(told(refresh(few)), "more than 2 roles in the snapshot");
}
