use super::*;
use crate::fleet::init::post;
use crate::fleet::key::KeyFile;
use crate::fleet::rotate::{Rotation, renew, rotate};
use crate::fleet::tests::{NOW, Plant};
use crate::fleet::verify::{Whole, verify};
use crate::fleet::{rings, rings::Named};

const PACKAGE: &str = "factory-triage-2.json";
const RING: &str = "rollout/canary.json";

fn shown<'a>(folder: &'a Path, over: &'a BTreeMap<String, Vec<u8>>) -> Shown<'a> {
    Shown { folder, over }
}

/// A public key's file.
fn public(plant: &Plant, name: &str) -> KeyFile {
    let path = plant.scratch.at(&format!("{name}.pub"));
    let key = plant.signers[name].key();
    let wire = serde_json::json!({
        "format": 1, "keytype": key.keytype, "scheme": key.scheme, "public": key.keyval.public,
    });
    fs::write(&path, wire.to_string()).unwrap();
    KeyFile::read(&path).unwrap()
}

/// Crashes before every single write. After each, two devices accept what lies there, what they find
/// is whole, and publishing again finishes.
fn survives_every_crash(prepare: impl Fn(&mut Plant, &mut Desk)) {
    let nothing = BTreeMap::new();
    for crash in 0.. {
        let mut plant = Plant::new();
        let folder = plant.repo().join(METADATA);
        let anchor = fs::read(folder.join("1.root.json")).unwrap();
        let mut old = Device::new(&anchor).unwrap();
        old.refresh(NOW, shown(&folder, &nothing)).unwrap();
        let mut desk = plant.desk();
        prepare(&mut plant, &mut desk);
        let mut writes = 0;
        let result = publish(&mut desk, Gap::Never, &mut |_| {
            writes += 1;
            if writes > crash {
                Err(io::Error::other("the power went"))
            } else {
                Ok(())
            }
        });
        drop(desk);
        let crashed = result.is_err();
        for mut device in [old, Device::new(&anchor).unwrap()] {
            let seen = device.refresh(NOW, shown(&folder, &nothing));
            seen.unwrap_or_else(|error| panic!("after {crash} writes: {error}"));
            for path in [PACKAGE, RING] {
                let found = device.find(path, shown(&folder, &nothing));
                if let Some(target) = found.unwrap() {
                    let file = plant.repo().join(TARGETS).join(&target.file);
                    assert!(target.is(&fs::read(file).unwrap()), "after {crash} writes");
                }
            }
        }
        let report = verify(&plant.repo(), Some(anchor.clone()), NOW, Whole::Everything).unwrap();
        assert!(report.ok, "after {crash} writes: {:?}", report.faults);
        if !crashed {
            assert!(crash > 1, "it took {crash} writes only");
            break;
        }
        let mut desk = plant.desk();
        publish(&mut desk, Gap::Never, &mut |_| Ok(())).unwrap();
        drop(desk);
        assert!(plant.desk().staged().0.is_empty());
    }
}

#[test]
fn a_crash_between_any_two_writes_leaves_what_devices_accept() {
    survives_every_crash(|plant, desk| {
        Plant::propose(desk);
        plant.sign(desk, &["ann", "ben", "online"]);
    });
}

#[test]
fn a_first_publishing_that_broke_off_anywhere_is_finished_by_the_next() {
    for crash in 0.. {
        let plant = Plant::unpublished();
        let mut desk = plant.desk();
        let mut writes = 0;
        let result = publish(&mut desk, Gap::Never, &mut |_| {
            writes += 1;
            if writes > crash {
                Err(io::Error::other("the power went"))
            } else {
                Ok(())
            }
        });
        drop(desk);
        if result.is_ok() {
            assert!(crash > 5, "it took {crash} writes only");
            break;
        }
        let mut desk = plant.desk();
        publish(&mut desk, Gap::Never, &mut |_| Ok(())).unwrap();
        let report = verify(&plant.repo(), None, NOW, Whole::Everything).unwrap();
        assert!(report.ok, "after {crash} writes: {:?}", report.faults);
    }
}

#[test]
fn so_does_one_in_a_change_of_every_key_that_old_and_new_sign() {
    survives_every_crash(|plant, desk| {
        for role in ["root", "targets", "snapshot", "timestamp", "packages"] {
            let name = format!("new-{role}");
            plant.person(&name);
            let before = desk.latest().circle(role).unwrap();
            let rotation = Rotation {
                add: vec![public(plant, &name)],
                remove: vec![before.keyids[0].clone()],
                threshold: None,
            };
            rotate(desk, post(role).unwrap(), &rotation).unwrap();
        }
        let all: Vec<_> = plant.signers.keys().map(String::as_str).collect();
        plant.sign(desk, &all);
    });
}

#[test]
fn a_change_of_the_timestamps_key_that_would_leave_a_gap_is_refused_and_goes_in_two_steps() {
    let mut plant = Plant::new();
    plant.person("fresh");
    let fresh = public(&plant, "fresh");
    let old = plant.signers["online"].id().to_owned();
    let replace = Rotation {
        add: vec![fresh.clone()],
        remove: vec![old.clone()],
        threshold: None,
    };
    let mut desk = plant.desk();
    rotate(&mut desk, Post::Timestamp, &replace).unwrap();
    let before = files(&plant);
    let error = plant
        .publish(&mut desk, &["ann", "ben", "fresh"])
        .unwrap_err();
    assert!(
        error.to_string().contains("add the new key, publish"),
        "{error}"
    );
    assert_eq!(files(&plant), before);
    desk.clear().unwrap();

    let add = Rotation {
        add: vec![fresh],
        ..Rotation::default()
    };
    rotate(&mut desk, Post::Timestamp, &add).unwrap();
    plant.publish(&mut desk, &["ann", "ben", "fresh"]).unwrap();
    drop(desk);
    // The old key is gone, and nobody needs it.
    let mut desk = plant.desk();
    let remove = Rotation {
        remove: vec![old],
        ..Rotation::default()
    };
    rotate(&mut desk, Post::Timestamp, &remove).unwrap();
    plant.publish(&mut desk, &["ann", "ben", "fresh"]).unwrap();
    assert!(
        verify(&plant.repo(), None, NOW, Whole::Everything)
            .unwrap()
            .ok
    );
}

#[test]
fn where_the_old_key_is_lost_a_gap_can_be_accepted() {
    let mut plant = Plant::new();
    plant.person("fresh");
    let replace = Rotation {
        add: vec![public(&plant, "fresh")],
        remove: vec![plant.signers["online"].id().to_owned()],
        threshold: None,
    };
    let mut desk = plant.desk();
    for post in [Post::Snapshot, Post::Timestamp] {
        rotate(&mut desk, post, &replace).unwrap();
    }
    plant.sign(&mut desk, &["ann", "ben", "fresh"]);
    assert!(publish(&mut desk, Gap::Never, &mut |_| Ok(())).is_err());
    publish(&mut desk, Gap::Accepted, &mut |_| Ok(())).unwrap();
    assert!(
        verify(&plant.repo(), None, NOW, Whole::Everything)
            .unwrap()
            .ok
    );
}

/// Every file of a repository with its content.
fn files(plant: &Plant) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![plant.repo()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn nothing_is_published_that_lacks_a_signature_an_object_or_its_bytes() {
    let plant = Plant::new();
    let mut desk = plant.desk();
    let before = files(&plant);
    Plant::propose(&mut desk);
    let error = plant.publish(&mut desk, &["ann", "online"]).unwrap_err();
    assert!(
        error.to_string().contains("rollout 2: 0 of 1 signatures"),
        "{error}"
    );

    plant.sign(&mut desk, &["ben", "online"]);
    let staged = desk.staged_folder();
    let role = desk.role(Post::Packages).unwrap();
    let manifest = manifest(&desk, PACKAGE, &role.targets[PACKAGE]).unwrap();
    let object = staged.join(object_path(manifest.variants[0].file.object.sha256()));
    let whole = fs::read(&object).unwrap();
    let mut spoilt = whole.clone();
    spoilt[1_000_000] ^= 1;
    fs::write(&object, &spoilt).unwrap();
    let error = publish(&mut desk, Gap::Never, &mut |_| Ok(())).unwrap_err();
    assert!(
        error.to_string().contains("not what its manifest says"),
        "{error}"
    );
    fs::remove_file(&object).unwrap();
    let error = publish(&mut desk, Gap::Never, &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("is not there"), "{error}");
    assert_eq!(files(&plant), before);

    fs::write(&object, whole).unwrap();
    publish(&mut desk, Gap::Never, &mut |_| Ok(())).unwrap();
    assert!(
        verify(&plant.repo(), None, NOW, Whole::Everything)
            .unwrap()
            .ok
    );
}

#[test]
fn rings_name_packages_that_are_there_and_never_go_back() {
    let plant = Plant::new();
    let mut desk = plant.desk();
    Plant::propose(&mut desk);
    plant.publish(&mut desk, &["ann", "ben", "online"]).unwrap();
    drop(desk);
    let mut desk = plant.desk();
    let none = Named::parse("factory-triage-3").unwrap();
    let error = rings::open(&mut desk, "canary", &none, 1000, None).unwrap_err();
    assert!(
        error.to_string().contains("not in this repository"),
        "{error}"
    );
    let named = Named::parse("factory-triage-2").unwrap();
    let error = crate::fleet::packages::remove(&mut desk, &named).unwrap_err();
    assert!(error.to_string().contains("ring canary runs it"), "{error}");
    let halted = rings::set_halted(&mut desk, &[], true).unwrap();
    assert!(halted[0].halt && rings::set_halted(&mut desk, &[], true).unwrap().is_empty());
    assert!(rings::set_halted(&mut desk, &["broad".into()], true).is_err());
    plant.publish(&mut desk, &["ben", "online"]).unwrap();
    drop(desk);
    assert!(rings::all(&plant.desk()).unwrap()["canary"].halt);
}

#[test]
fn what_others_overtook_is_refused_and_can_be_proposed_anew() {
    let plant = Plant::new();
    let mut late = plant.desk();
    renew(&mut late, Post::Packages).unwrap();
    plant.sign(&mut late, &["ann"]);
    let kept = late.staged_folder();
    drop(late);
    // Somebody else, at another desk.
    let aside = plant.scratch.at("aside");
    fs::rename(&kept, &aside).unwrap();
    let mut desk = plant.desk();
    Plant::propose(&mut desk);
    plant.publish(&mut desk, &["ann", "ben", "online"]).unwrap();
    drop(desk);
    fs::rename(&aside, &kept).unwrap();
    let mut desk = plant.desk();
    assert_eq!(desk.stale().unwrap(), ["packages"]);
    let error = plant
        .publish(&mut desk, &["ann", "ben", "online"])
        .unwrap_err();
    assert!(
        error.to_string().contains("discard them and propose again"),
        "{error}"
    );
    desk.clear().unwrap();
    renew(&mut desk, Post::Packages).unwrap();
    plant.publish(&mut desk, &["ann", "online"]).unwrap();
    assert!(
        verify(&plant.repo(), None, NOW, Whole::Everything)
            .unwrap()
            .ok
    );
}

#[test]
fn a_repository_that_was_swapped_for_anothers_is_not_signed_for() {
    let (plant, other) = (Plant::new(), Plant::new());
    fs::remove_dir_all(plant.repo()).unwrap();
    fs::rename(other.repo(), plant.repo()).unwrap();
    let opened = Desk::open(&plant.repo(), None, NOW, crate::fleet::desk::Pile::Taken);
    assert!(matches!(opened, Err(FleetError::Refused(_))));
}

#[test]
fn every_kind_of_damage_is_found_by_name() {
    let plant = Plant::new();
    let mut desk = plant.desk();
    Plant::propose(&mut desk);
    plant.publish(&mut desk, &["ann", "ben", "online"]).unwrap();
    drop(desk);
    let whole = files(&plant);
    for path in whole.keys() {
        let mut bytes = whole[path].clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        // What was replaced is kept for devices that are in between, and is nobody's any more.
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let superseded = name.starts_with("1.")
            && name != "1.root.json"
            && name != "1.targets.json"
            && name != "1.offline.json";
        fs::write(path, &bytes).unwrap();
        let report = verify(&plant.repo(), None, NOW, Whole::Everything);
        let found = report.map_or(true, |report| !report.ok);
        assert_eq!(found, !superseded, "{name}");
        fs::write(path, &whole[path]).unwrap();
        if !superseded {
            fs::remove_file(path).unwrap();
            let report = verify(&plant.repo(), None, NOW, Whole::Everything);
            assert!(report.map_or(true, |report| !report.ok), "{name} is gone");
            fs::write(path, &whole[path]).unwrap();
        }
    }
    assert!(
        verify(&plant.repo(), None, NOW, Whole::Everything)
            .unwrap()
            .ok
    );
    let later = crate::fleet::settings::expiry(NOW, 8).moment();
    let report = verify(&plant.repo(), None, later, Whole::Everything).unwrap();
    assert!(
        report
            .faults
            .iter()
            .any(|it| it.starts_with("timestamp: expired"))
    );
}
