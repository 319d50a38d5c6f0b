//! The search through delegated roles.

use super::write::Then;
use super::*;

/// The delegated roles that a search for a path asked for, in order.
fn asked_for(world: &World, path: &str) -> Vec<String> {
    let _ = world.find(path);
    world
        .asked()
        .into_iter()
        .skip(4)
        .map(|file| file.split('.').nth(1).unwrap().to_owned())
        .collect()
}

fn world(delegations: &[(&str, &str, &[&str], Then)]) -> World {
    let mut repository = Repository::new();
    for (from, to, patterns, then) in delegations {
        repository.delegate(from, to, patterns, *then);
    }
    repository.publish();
    World::fresh(repository)
}

#[test]
fn roles_are_searched_depth_first_in_their_order() {
    let all = &["*"][..];
    let go = Then::GoOn;
    let graph = [
        (TARGETS, "a", all, go),
        (TARGETS, "b", all, go),
        ("a", "c", all, go),
        ("a", "d", all, go),
    ];
    assert_eq!(asked_for(&world(&graph), "x"), ["a", "c", "d", "b"]);
}

#[test]
fn a_terminating_delegation_ends_the_search_for_its_paths() {
    let all = &["*"][..];
    let graph = [
        (TARGETS, "a", all, Then::GoOn),
        (TARGETS, "b", all, Then::GoOn),
        ("a", "c", &["c*"][..], Then::Stop),
        ("a", "d", all, Then::GoOn),
    ];
    assert_eq!(asked_for(&world(&graph), "c"), ["a", "c"]);
    assert_eq!(asked_for(&world(&graph), "x"), ["a", "d", "b"]);
}

#[test]
fn a_role_speaks_only_of_the_paths_that_it_was_given() {
    let mut world = world(&[
        (TARGETS, "packages", &["packages/*"], Then::GoOn),
        ("packages", "press", &["packages/press-*"], Then::Stop),
    ]);
    // Everybody claims everything.
    for role in ["packages", "press"] {
        for path in [
            "packages/press-1.json",
            "packages/other.json",
            "rollout.json",
        ] {
            world.repository.put(role, path, role.as_bytes());
        }
    }
    world.repository.publish();
    let says = |path: &str| world.find(path).unwrap().map(|target| target.length);
    assert_eq!(says("rollout.json"), None);
    assert_eq!(says("packages/other.json"), Some(8));
    // The first that knows it wins, and that is who delegates.
    assert_eq!(says("packages/press-1.json"), Some(8));
    let packages = world.repository.roles.get_mut("packages").unwrap();
    packages.targets.clear();
    world.repository.publish();
    let says = |path: &str| world.find(path).unwrap().map(|target| target.length);
    assert_eq!(says("packages/press-1.json"), Some(5));
    assert_eq!(says("packages/other.json"), None);
}

#[test]
fn paths_may_be_given_by_the_beginnings_of_their_hashes() {
    let mut world = world(&[(TARGETS, "bin", &["*"], Then::Stop)]);
    world.repository.put("bin", "a", b"in the bin");
    let list = world.repository.roles.get_mut(TARGETS).unwrap();
    let role = &mut list.delegations.as_mut().unwrap().roles[0];
    role.paths = None;
    // SHA-256 of "a" begins with ca978112.
    role.path_hash_prefixes = Some(vec!["00".to_owned(), "ca9".to_owned()]);
    world.repository.publish();
    assert!(world.find("a").unwrap().is_some());
    let list = world.repository.roles.get_mut(TARGETS).unwrap();
    let role = &mut list.delegations.as_mut().unwrap().roles[0];
    role.path_hash_prefixes = Some(vec!["00".to_owned(), "cb".to_owned()]);
    world.repository.publish();
    assert_eq!(world.find("a").unwrap(), None);
}

#[test]
fn a_delegated_role_needs_the_keys_that_its_delegator_names() {
    let mut world = world(&[(TARGETS, "packages", &["*"], Then::Stop)]);
    world.repository.put("packages", "p", b"p");
    // The operator's own key for targets does not sign for the role.
    world
        .repository
        .hands
        .insert("packages".to_owned(), vec![3]);
    world.repository.publish();
    assert_eq!(
        told(world.find("p")),
        "packages: signed by 0 of its keys, and it takes 1"
    );
    // The top roles are good all the same.
    assert!(world.find(FILE).unwrap().is_some());
}

#[test]
fn a_role_that_two_delegate_to_is_held_against_each() {
    let mut repository = Repository::new();
    let go = Then::GoOn;
    repository.delegate(TARGETS, "left", &["left/*"], go);
    repository.delegate(TARGETS, "right", &["right/*"], go);
    repository.delegate("left", "shared", &["left/*"], go);
    let other = repository.signer();
    repository.delegate_by("right", "shared", &["right/*"], go, other);
    // Signed with the key that `left` names, not with that of `right`.
    repository.put("shared", "left/x", b"x");
    repository.put("shared", "right/x", b"x");
    repository.publish();
    let world = World::fresh(repository);
    let mut client = world.client();
    let mut files = world.repository.files.clone();
    client.refresh(NOW, &mut files).unwrap();
    assert!(client.find("left/x", &mut files).unwrap().is_some());
    assert!(told(client.find("right/x", &mut files)).starts_with("shared: signed by 0"));
}

#[test]
fn a_circle_ends_and_so_does_a_long_way_round() {
    let all = &["*"][..];
    let go = Then::GoOn;
    let circle = [
        (TARGETS, "a", all, go),
        ("a", "b", all, go),
        ("b", "c", all, go),
    ];
    let mut circle = world(&circle);
    let key = circle.repository.hands["a"][0];
    circle.repository.delegate_by("c", "a", all, go, key);
    circle.repository.publish();
    assert_eq!(circle.find("x").unwrap(), None);

    let names: Vec<String> = (0..40).map(|n| format!("r{n}")).collect();
    let wide: Vec<_> = names.iter().map(|to| (TARGETS, &**to, all, go)).collect();
    assert_eq!(
        told(world(&wide).find("x")),
        "more than 32 roles in a search"
    );
    let deep: Vec<_> = (0..12)
        .map(|n| {
            let from = if n == 0 { TARGETS } else { &names[n - 1] };
            (from, &*names[n], all, go)
        })
        .collect();
    assert_eq!(
        told(world(&deep).find("x")),
        "more than 8 delegations in each other"
    );
}

#[test]
fn a_role_that_the_snapshot_does_not_list_is_not_asked_for() {
    let mut world = world(&[(TARGETS, "packages", &["*"], Then::Stop)]);
    world.repository.snapshot.meta.remove("packages.json");
    world.repository.publish_snapshot();
    world.repository.publish_timestamp();
    assert_eq!(
        told(world.find("x")),
        "packages: the snapshot does not list it"
    );
    assert!(world.asked().iter().all(|file| !file.contains("packages")));
}

#[test]
fn an_expired_delegated_role_is_refused() {
    let mut world = world(&[(TARGETS, "packages", &["*"], Then::Stop)]);
    world.repository.roles.get_mut("packages").unwrap().expires = Expiry::at(NOW);
    world.repository.publish();
    assert!(told(world.find("x")).starts_with("packages: expired"));
    assert_eq!(world.stored("packages"), None);
}

#[test]
fn a_strange_name_of_a_role_stays_in_its_folder() {
    for name in [
        "?",
        "#",
        "/above",
        "../above",
        "a b",
        "ü",
        "timestamp.json",
        "1.root",
    ] {
        let mut world = world(&[(TARGETS, name, &["*"], Then::Stop)]);
        let quoted = super::quoted(name);
        world.repository.put(name, "x", b"x");
        world.repository.publish();
        let version = world.repository.roles[name].version;
        let file = world
            .repository
            .files
            .files
            .remove(&format!("{version}.{name}.json"));
        let files = &mut world.repository.files.files;
        files.insert(format!("{version}.{quoted}.json"), file.unwrap());
        assert!(world.find("x").unwrap().is_some(), "{name}");
        assert!(!quoted.contains('/'));
        assert!(
            world
                .disk
                .files()
                .contains_key(&format!("trust/{quoted}.json"))
        );
    }
}
