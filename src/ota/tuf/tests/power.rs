//! A power cut at every durable step of an update.

use super::*;
use crate::ota::floor::Floors;
use crate::ota::tests::disk::Kept;

/// The next state of the repository: a root, a delegated role, another target.
fn next(world: &mut World) {
    let repository = &mut world.repository;
    repository.publish_root(&[]);
    if !repository.roles.contains_key("packages") {
        repository.delegate(TARGETS, "packages", &["packages/*"], write::Then::Stop);
    }
    repository.put("packages", "packages/p.json", b"package");
    repository.put(TARGETS, FILE, b"two!");
    repository.publish();
}

fn none_fell(before: &Floors, after: &Floors) -> bool {
    let map_rose = |before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>| {
        before
            .iter()
            .all(|(name, floor)| after.get(name) >= Some(floor))
    };
    after.root >= before.root
        && after.timestamp >= before.timestamp
        && after.snapshot >= before.snapshot
        && after.time_ms >= before.time_ms
        && map_rose(&before.roles, &after.roles)
        && map_rose(&before.packages, &after.packages)
}

/// What the appliance does in one turn, until the power goes. Reports the floors after each part.
fn turn(world: &World, clock: Wall, seq: u64, reached: &mut Floors) -> Result<(), TufError> {
    let book = Book::open(world.disk.clone())?;
    let anchor = world.repository.anchor();
    let mut client = Client::open(world.disk.clone(), book, &anchor, Limits::default())?;
    let mut files = world.repository.files.clone();
    client.refresh(clock, &mut files)?;
    *reached = client.book().floors().clone();
    client.find("packages/p.json", &mut files)?.unwrap();
    client.book_mut().raise_package("triage", seq)?;
    *reached = client.book().floors().clone();
    Ok(())
}

#[test]
fn a_power_cut_at_any_step_loses_no_floor_and_leaves_nothing_half_believed() {
    for kept in Kept::ALL {
        let mut n = 0;
        loop {
            let mut world = World::new();
            let old = world.repository.files.clone();
            world
                .client()
                .book_mut()
                .raise_package("triage", 1)
                .unwrap();
            let mut reached = world.floors();
            next(&mut world);
            world.disk.cut_after(n);
            let done = turn(&world, days(NOW, 1), 2, &mut reached).is_ok();
            world.disk.restart(kept);
            let at = format!("step {n}, {kept:?}");

            // No floor that somebody could have acted on has fallen.
            let floors = world.floors();
            assert!(none_fell(&reached, &floors), "{at}: {reached:?} {floors:?}");
            // What is stored is whole: the old target, the new one, or none to be had.
            if let Ok(found) = world.client().find_stored(FILE) {
                let target = found.unwrap();
                assert!(target.is(b"one") || target.is(b"two!"), "{at}");
            }
            // Where the new timestamp was seen, the old one is refused.
            if floors.timestamp > 1 {
                let refused = world.client().refresh(NOW, &mut old.clone());
                assert!(refused.is_err(), "{at}: the old state came back");
            }
            // And an update goes through, with the clock back in 1970.
            turn(&world, Wall(0), 2, &mut reached).expect(&at);
            assert!(
                world
                    .client()
                    .find_stored(FILE)
                    .unwrap()
                    .unwrap()
                    .is(b"two!"),
                "{at}"
            );
            let files = world.disk.files();
            assert!(
                files
                    .keys()
                    .all(|path| path.rsplit_once('.').is_none_or(|(_, end)| end != "new")),
                "{at}: {:?}",
                files.keys()
            );
            if done {
                break;
            }
            n += 1;
        }
        assert!(n > 40, "only {n} steps");
    }
}

#[test]
fn two_power_cuts_in_a_row_do_no_more_harm() {
    for first in (0..60).step_by(3) {
        for second in (0..60).step_by(7) {
            let mut world = World::new();
            let mut reached = world.floors();
            next(&mut world);
            world.disk.cut_after(first);
            let _ = turn(&world, NOW, 2, &mut reached);
            world.disk.restart(Kept::Half);
            assert!(none_fell(&reached, &world.floors()), "{first} {second}");
            next(&mut world);
            world.disk.cut_after(second);
            let _ = turn(&world, NOW, 3, &mut reached);
            world.disk.restart(Kept::Everything);
            assert!(none_fell(&reached, &world.floors()), "{first} {second}");
            turn(&world, NOW, 3, &mut reached).unwrap();
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_not_a_lost_floor() {
    let mut world = World::new();
    next(&mut world);
    for n in 0..8 {
        let mut client = world.client();
        world.disk.cut_after(n);
        let before = client.book().floors().clone();
        assert!(
            client
                .refresh(NOW, &mut world.repository.files.clone())
                .is_err()
        );
        assert!(none_fell(&before, client.book().floors()));
        world.disk.restart(Kept::Everything);
        // The same process goes on when there is room again.
        client
            .refresh(NOW, &mut world.repository.files.clone())
            .unwrap();
        assert!(none_fell(client.book().floors(), &world.floors()));
        let mut repository = Repository::new();
        std::mem::swap(&mut repository, &mut world.repository);
        world = World::fresh(repository);
    }
}
