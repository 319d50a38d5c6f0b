use super::*;
use crate::fleet::rotate::renew;
use crate::fleet::tests::{NOW, Plant};

#[test]
fn the_snapshot_waits_for_those_below_it_and_the_timestamp_for_the_snapshot() {
    let plant = Plant::new();
    let mut desk = plant.desk();
    renew(&mut desk, Post::Packages).unwrap();
    desk.advance(News::default()).unwrap();
    assert_eq!(desk.staged_roles(), ["packages"]);
    plant.sign(&mut desk, &["ann"]);
    assert_eq!(desk.staged_roles(), ["packages", "snapshot"]);
    assert_eq!(desk.lacks().unwrap()[0].role, "snapshot");
    drop(desk);
    // It all lies there, for whoever comes next.
    let mut desk = plant.desk();
    assert_eq!(desk.staged_roles(), ["packages", "snapshot"]);
    plant.sign(&mut desk, &["online"]);
    assert_eq!(desk.staged_roles(), ["packages", "snapshot", "timestamp"]);
    assert!(desk.lacks().unwrap().is_empty());
}

#[test]
fn a_document_that_changes_loses_its_signatures_and_what_was_made_of_it() {
    let plant = Plant::new();
    let mut desk = plant.desk();
    renew(&mut desk, Post::Packages).unwrap();
    plant.sign(&mut desk, &["ann", "online"]);
    Plant::propose(&mut desk);
    desk.advance(News::default()).unwrap();
    assert_eq!(desk.staged_roles(), ["rollout", "packages"]);
    assert_eq!(
        desk.staged().head("packages").unwrap().0,
        2,
        "still the next version"
    );
    assert_eq!(desk.lacks().unwrap().len(), 2);
}

#[test]
fn a_refresh_leaves_what_waits_on_the_desk_where_it_is() {
    let plant = Plant::new();
    let mut desk = plant.desk();
    renew(&mut desk, Post::Packages).unwrap();
    plant.sign(&mut desk, &[]);
    drop(desk);
    let mut aside = Desk::open(&plant.repo(), None, NOW, Pile::Aside).unwrap();
    let news = News {
        timestamp: true,
        ..News::default()
    };
    aside.advance(news).unwrap();
    assert_eq!(aside.staged_roles(), ["timestamp"]);
    let draft = aside.staged_mut("timestamp").unwrap();
    draft.sign(&plant.signers["online"]).unwrap();
    crate::fleet::publish::publish(&mut aside, crate::fleet::publish::Gap::Never, &mut |_| {
        Ok(())
    })
    .unwrap();
    drop(aside);
    let desk = plant.desk();
    assert_eq!(desk.staged_roles(), ["packages"]);
    assert_eq!(desk.current().timestamp().unwrap().version, 2);
}

#[test]
fn a_timestamp_after_a_stick_names_a_snapshot_that_is_newer_than_the_sticks() {
    let plant = Plant::new();
    let mut desk = plant.desk();
    let news = News {
        timestamp: true,
        ..News::default()
    };
    desk.advance(news).unwrap();
    assert_eq!(desk.staged_roles(), ["timestamp"]);
    desk.settings.saw_exported(Post::Snapshot, 2);
    desk.settings.saw_exported(Post::Timestamp, 2);
    desk.advance(news).unwrap();
    assert_eq!(desk.staged_roles(), ["snapshot"]);
    assert_eq!(desk.staged().snapshot().unwrap().version, 3);
}

#[test]
fn a_role_with_a_threshold_takes_so_many_different_keys() {
    let plant = Plant::new();
    let mut desk = plant.desk();
    renew(&mut desk, Post::Root).unwrap();
    plant.sign(&mut desk, &["ann"]);
    let lacks = desk.lacks().unwrap();
    assert_eq!((lacks[0].signed, lacks[0].threshold), (1, 2));
    assert_eq!(lacks[0].by, [plant.signers["ben"].id()]);
    plant.sign(&mut desk, &["ben"]);
    assert!(desk.lacks().unwrap().is_empty());
    assert_eq!(desk.staged_roles(), ["root"], "nothing follows from it");
}

#[test]
fn a_desk_is_for_one_at_a_time_and_a_repository_is_made_once() {
    let plant = Plant::new();
    let _here = plant.desk();
    let folder = desk_of(&plant.repo());
    let file = File::open(folder.join(LOCK)).unwrap();
    assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_err());
    let again = Desk::begin(&plant.repo(), None, NOW, Settings::default(), true);
    assert!(matches!(again, Err(FleetError::Refused(_))));
}

#[test]
fn the_desk_lies_beside_the_repository() {
    for path in ["/srv/plant", "/srv/plant/", "/srv/plant//"] {
        assert_eq!(desk_of(Path::new(path)), Path::new("/srv/plant.desk"));
    }
    for path in ["/", "a/.."] {
        let begun = Desk::begin(Path::new(path), None, NOW, Settings::default(), false);
        assert!(matches!(begun, Err(FleetError::Usage(_))), "{path}");
    }
}
