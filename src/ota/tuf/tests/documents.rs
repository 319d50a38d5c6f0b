//! Documents that are signed, and wrong all the same.

use super::*;

/// What a refresh says of version 2 of a role, changed like that and signed by who must.
fn changed(role: &str, change: impl FnOnce(&mut Value)) -> Result<Refreshed, TufError> {
    let mut repository = Repository::new();
    repository.describe = crate::ota::tests::repository::Describe::VersionOnly;
    repository.publish_root(&[]);
    repository.publish();
    let file = match role {
        "timestamp" => "timestamp.json".to_owned(),
        role => format!("2.{role}.json"),
    };
    let bytes = resigned(&repository, &file, role, change);
    repository.files.files.insert(file, bytes);
    World::fresh(repository).refresh()
}

fn set(pointer: &'static str, to: impl Into<Value>) -> impl FnOnce(&mut Value) {
    let to = to.into();
    move |value| {
        if let Some(place) = value.pointer_mut(pointer) {
            *place = to;
            return;
        }
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = value.pointer_mut(parent).unwrap();
        parent.as_object_mut().unwrap().insert(name.to_owned(), to);
    }
}

fn without(pointer: &'static str) -> impl FnOnce(&mut Value) {
    move |value| {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = value.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        parent.remove(name).unwrap();
    }
}

const ROLES: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];

#[test]
fn fields_that_nobody_knows_are_part_of_what_is_signed() {
    for role in ROLES {
        changed(role, set("/more", serde_json::json!({"a": [1, null, "ü"]}))).unwrap();
    }
    changed("root", set("/roles/root/more", 1)).unwrap();
    changed("timestamp", set("/meta/snapshot.json/more", 1)).unwrap();
    changed("targets", set("/targets/triage-1.json/more", 1)).unwrap();

    // Added behind the signers' back.
    let mut repository = Repository::new();
    let mut value: Value =
        serde_json::from_slice(&repository.files.files["timestamp.json"]).unwrap();
    value["signed"]["more"] = 1.into();
    let bytes = value.to_string().into_bytes();
    repository
        .files
        .files
        .insert("timestamp.json".to_owned(), bytes);
    assert!(told(World::fresh(repository).refresh()).starts_with("timestamp: signed by 0"));
}

#[test]
fn a_document_of_another_role_is_refused() {
    for role in ROLES {
        let other = if role == "timestamp" {
            "snapshot"
        } else {
            "timestamp"
        };
        let error = told(changed(role, set("/_type", other)));
        assert_eq!(error, format!("{role}: it is of type {other}, not {role}"));
        assert!(told(changed(role, set("/_type", "mirrors"))).starts_with(role));
        assert!(told(changed(role, without("/_type"))).contains("_type"));
    }
}

#[test]
fn versions_are_whole_numbers_from_one_on() {
    for role in ROLES {
        assert_eq!(
            told(changed(role, set("/version", 0))),
            format!("{role}: version 0")
        );
        for wrong in [Value::from(-1), "2".into(), true.into(), Value::Null] {
            let error = told(changed(role, set("/version", wrong.clone())));
            assert!(error.starts_with(role), "{role} {wrong}: {error}");
        }
        assert!(told(changed(role, without("/version"))).contains("version"));
    }
    assert!(
        told(changed("timestamp", set("/meta/snapshot.json/version", 0))).contains("version 0")
    );
    assert!(told(changed("snapshot", set("/meta/targets.json/version", 0))).contains("version 0"));
}

#[test]
fn only_the_specification_that_is_known_is_read() {
    for role in ROLES {
        for good in ["1.0", "1.0.0", "1.99.1"] {
            changed(role, set("/spec_version", good)).unwrap();
        }
        for bad in [
            "2.0.0", "1", "", "1.0.0.0", "1..0", "1.x", "1.0.", "01.0", "-1.0",
        ] {
            let error = told(changed(role, set("/spec_version", bad)));
            assert_eq!(
                error,
                format!("{role}: specification {bad}, and only 1.x is known")
            );
        }
    }
}

#[test]
fn an_expiry_has_one_form() {
    for role in ROLES {
        for bad in ["2030-01-01", "2030-01-01T00:00:00", "never", ""] {
            assert!(told(changed(role, set("/expires", bad))).contains("`expires` is"));
        }
        assert!(told(changed(role, set("/expires", 2_000_000_000))).starts_with(role));
    }
}

#[test]
fn a_root_names_the_four_roles_with_keys_that_are_listed_once() {
    let four = "root: its roles are not root, timestamp, snapshot and targets";
    assert_eq!(told(changed("root", without("/roles/timestamp"))), four);
    let extra = serde_json::json!({"keyids": [], "threshold": 1});
    assert_eq!(told(changed("root", set("/roles/mirrors", extra))), four);
    let error = told(changed("root", set("/roles/root/threshold", 0)));
    assert_eq!(error, "root: role root has a threshold of 0");
    let twice = |value: &mut Value| {
        let ids = value["roles"]["root"]["keyids"].as_array_mut().unwrap();
        ids.push(ids[0].clone());
    };
    assert_eq!(
        told(changed("root", twice)),
        "root: role root lists a key twice"
    );
    // A threshold beyond the number of keys can be written, and is never reached.
    let error = told(changed("root", set("/roles/timestamp/threshold", u64::MAX)));
    assert!(error.starts_with("timestamp: signed by 1"), "{error}");
}

#[test]
fn a_key_of_an_unknown_kind_is_kept_and_signs_nothing() {
    let unknown = serde_json::json!({
        "keytype": "sphincs+", "scheme": "sphincs+", "keyval": {"public": "00"}
    });
    let add = |value: &mut Value| {
        value["keys"]["new"] = unknown.clone();
        let ids = value["roles"]["timestamp"]["keyids"]
            .as_array_mut()
            .unwrap();
        ids.push("new".into());
    };
    changed("root", add).unwrap();
    let add = |value: &mut Value| {
        value["keys"]["new"] = unknown.clone();
        value["roles"]["timestamp"]["keyids"] = serde_json::json!(["new"]);
    };
    assert!(told(changed("root", add)).starts_with("timestamp: signed by 0"));
    assert!(told(changed("root", set("/keys/new", serde_json::json!({})))).starts_with("root:"));
    // An id that no key has.
    let missing = |value: &mut Value| {
        value["roles"]["timestamp"]["keyids"] = serde_json::json!(["none"]);
    };
    assert!(told(changed("root", missing)).starts_with("timestamp: signed by 0"));
}

#[test]
fn a_timestamp_names_the_snapshot() {
    let error = told(changed("timestamp", without("/meta/snapshot.json")));
    assert_eq!(error, "timestamp: it does not name snapshot.json");
    let error = told(changed(
        "timestamp",
        set("/meta/snapshot.json/hashes", serde_json::json!({})),
    ));
    assert_eq!(
        error,
        "timestamp: snapshot.json has an empty list of hashes"
    );
    assert!(
        told(changed("timestamp", set("/meta/snapshot.json/length", -1))).starts_with("timestamp")
    );
}

#[test]
fn delegations_that_cannot_be_followed_are_refused() {
    let key = serde_json::json!({
        "keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "00"}
    });
    let with = |change: fn(&mut Value)| {
        let mut role = serde_json::json!({
            "name": "a", "keyids": ["k"], "threshold": 1, "terminating": true, "paths": ["*"]
        });
        change(&mut role);
        let list = serde_json::json!({"keys": {"k": key}, "roles": [role]});
        changed("targets", set("/delegations", list))
    };
    with(|_| {}).unwrap();
    for name in [
        "",
        "root",
        "timestamp",
        "snapshot",
        "targets",
        &"x".repeat(81),
    ] {
        let list = serde_json::json!({"keys": {}, "roles": [
            {"name": name, "keyids": [], "threshold": 1, "terminating": true, "paths": []}
        ]});
        let error = told(changed("targets", set("/delegations", list)));
        assert!(
            error.ends_with("cannot be the name of a delegated role"),
            "{error}"
        );
    }
    assert!(told(with(|role| role["threshold"] = 0.into())).contains("threshold of 0"));
    assert!(told(with(|role| role["keyids"] = serde_json::json!(["k", "k"]))).contains("twice"));
    let either = "needs either paths or path_hash_prefixes";
    assert!(told(with(|role| role["paths"] = Value::Null)).contains(either));
    assert!(
        told(with(
            |role| role["path_hash_prefixes"] = serde_json::json!([])
        ))
        .contains(either)
    );
    assert!(told(with(|role| role["terminating"] = 1.into())).starts_with("targets"));
    let role = serde_json::json!(
        {"name": "a", "keyids": [], "threshold": 1, "terminating": true, "paths": []}
    );
    let list = serde_json::json!({"keys": {}, "roles": [role, role]});
    assert!(told(changed("targets", set("/delegations", list))).ends_with("stands twice"));
    for list in [
        Value::Null,
        serde_json::json!([]),
        serde_json::json!({"keys": {}}),
    ] {
        assert!(told(changed("targets", set("/delegations", list))).starts_with("targets"));
    }
}

#[test]
fn the_envelope_is_held_to_its_form_too() {
    let mut world = World::new();
    for bad in [
        &b""[..],
        b"{}",
        b"[]",
        b"null",
        b"{\"signatures\": [], \"signed\": null}",
        b"{\"signatures\": {}, \"signed\": {}}",
        b"{\"signatures\": [], \"signatures\": [], \"signed\": {}}",
        b"{\"signatures\": [{\"keyid\": 1, \"sig\": \"00\"}], \"signed\": {}}",
        b"{\"signatures\": [], \"signed\": {\"version\": 1e400}}",
    ] {
        let files = &mut world.repository.files.files;
        files.insert("timestamp.json".to_owned(), bad.to_vec());
        assert!(told(world.refresh()).starts_with("timestamp: "));
    }
    let deep = [&b"{\"signed\":"[..], "[".repeat(8000).as_bytes()].concat();
    world
        .repository
        .files
        .files
        .insert("timestamp.json".to_owned(), deep);
    assert!(told(world.refresh()).starts_with("timestamp: deeper than 32 levels"));
}

#[test]
fn nothing_is_written_that_would_not_be_read() {
    let repository = Repository::new();
    let signers: Vec<&Signer> = repository.signers.iter().map(|signer| &**signer).collect();
    let mut root = repository.root.clone();
    root.version = 0;
    assert_eq!(
        write::sign(&root, &signers).unwrap_err().to_string(),
        "root: version 0"
    );
    let mut targets = repository.roles[TARGETS].clone();
    targets
        .extra
        .insert("half".to_owned(), serde_json::json!(0.5));
    assert!(write::sign(&targets, &signers).is_err());
}

#[test]
fn what_is_written_reads_back_the_same() {
    let repository = Repository::new();
    let file = &repository.files.files["1.targets.json"];
    let read = metadata::read::<metadata::Targets>(file).unwrap();
    let again = repository.signed(TARGETS, &read.content);
    assert_eq!(*file, again);
    assert_eq!(
        read.payload,
        canonical(&serde_json::to_value(&read.content).unwrap()).unwrap()
    );
}
