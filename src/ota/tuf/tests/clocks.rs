//! Clocks that stand, jump and go back.

use super::*;

const IN_1970: Wall = Wall(0);

fn in_2100() -> Wall {
    Expiry::at(Wall(4_102_444_800_000)).moment()
}

#[test]
fn a_clock_in_1970_does_not_block_the_first_refresh_nor_a_later_one() {
    let world = World::fresh(Repository::new());
    world.refresh_at(IN_1970).unwrap();
    world.refresh_at(NOW).unwrap();
    world.refresh_at(IN_1970).unwrap();
    assert_eq!(world.floors().time_ms, NOW.0);
}

#[test]
fn a_clock_that_went_back_extends_no_expiry_that_was_seen() {
    let mut world = World::new();
    // Nothing newer comes, and the clock passes the timestamp's end.
    assert!(told(world.refresh_at(days(NOW, 7))).starts_with("timestamp: expired"));
    for clock in [NOW, IN_1970, days(NOW, 6)] {
        assert!(told(world.refresh_at(clock)).starts_with("timestamp: expired"));
    }
    // What is stored serves on.
    assert!(world.client().find_stored(FILE).unwrap().is_some());
    // A newer timestamp is good at once, wherever the clock stands.
    world.repository.timestamp.expires = Expiry::at(days(NOW, 14));
    world.repository.publish_timestamp();
    world.refresh_at(IN_1970).unwrap();
}

#[test]
fn time_passes_while_the_clock_stands() {
    let mut world = World::new();
    world.repository.timestamp.expires = Expiry::at(days(NOW, 300));
    world.repository.publish_timestamp();
    // The snapshot is good for 30 days, and 40 have been seen.
    assert!(told(world.refresh_at(days(NOW, 40))).starts_with("snapshot: expired"));
    assert!(told(world.refresh_at(IN_1970)).starts_with("snapshot: expired"));
    world.repository.snapshot.expires = Expiry::at(days(NOW, 41));
    world.repository.publish();
    world.refresh_at(IN_1970).unwrap();
}

#[test]
fn a_clock_that_once_stood_in_2100_blocks_no_later_timestamp() {
    let mut world = World::new();
    assert!(told(world.refresh_at(in_2100())).contains("expired"));
    assert!(world.client().find_stored(FILE).unwrap().is_some());
    world.repository.timestamp.expires = Expiry::at(days(NOW, 8));
    world.repository.publish_timestamp();
    world.refresh_at(days(NOW, 1)).unwrap();
}

#[test]
fn a_clock_that_was_ahead_within_the_roots_life_blocks_no_later_timestamp() {
    let mut world = World::new();
    // The root is good for a year, the timestamp for a week: that week is what is vouched for.
    assert!(told(world.refresh_at(days(NOW, 100))).starts_with("timestamp: expired"));
    world.repository.timestamp.expires = Expiry::at(days(NOW, 8));
    world.repository.publish_timestamp();
    world.refresh_at(days(NOW, 1)).unwrap();
}

#[test]
fn whoever_has_the_timestamps_key_cannot_move_the_floor_of_time_beyond_the_root() {
    let mut world = World::new();
    world.repository.timestamp.expires = Expiry::at(in_2100());
    world.repository.publish_timestamp();
    // The root is expired by then, so nothing is believed at all.
    assert!(told(world.refresh_at(days(in_2100(), 1))).starts_with("root: expired"));
    assert_eq!(world.floors().time_ms, NOW.0);
    let nearly = Wall(world.repository.root.expires.moment().0 - 1);
    assert!(told(world.refresh_at(nearly)).starts_with("snapshot: expired"));
    assert_eq!(world.floors().time_ms, nearly.0);
}

#[test]
fn a_rolled_back_timestamp_says_nothing_of_the_time() {
    let mut world = World::new();
    let old = world.repository.files.clone();
    world.repository.timestamp.expires = Expiry::at(days(NOW, 14));
    world.repository.publish_timestamp();
    world.refresh().unwrap();
    world.repository.files = old;
    assert!(told(world.refresh_at(days(NOW, 100))).contains("was seen before"));
    assert_eq!(world.floors().time_ms, NOW.0);
}

#[test]
fn what_is_stored_is_found_after_it_has_expired() {
    let world = World::new();
    let mut client = world.client();
    let stored = client.find_stored(FILE).unwrap().unwrap();
    assert!(stored.is(b"one"));
    assert_eq!(client.find_stored("other").unwrap(), None);
}
