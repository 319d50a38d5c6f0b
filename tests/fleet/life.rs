//! The whole life of a repository, and what devices make of each step.

use std::fs;

use lineside::clock::{Clock, DAY_MS, Wall};
use lineside::ota::rollout::Turn;
use lineside::ota::tuf::TufError;
use lineside::package::Package;

use crate::device::Device;
use crate::plant::{Plant, bundled, bundled_name, numbered};

/// Two people hold the root, one of them elsewhere; a third one opens rings; a machine signs
/// timestamps.
fn two_people() -> Plant {
    let plant = Plant::new();
    for name in ["ann", "ben", "rings", "online"] {
        plant.key(name);
    }
    // Here there is one of the root's keys only; of the others the public halves.
    let keys = [
        "root,targets,packages=ann.pub",
        "root=ben.pub",
        "rollout,offline=rings.pub",
        "snapshot,timestamp=online.pub",
    ];
    let mut order = vec![
        "init",
        "repo",
        "--threshold",
        "root=2",
        "--yes",
        "--key",
        "ann",
    ];
    order.extend(keys.iter().flat_map(|it| ["--keys", it]));
    order.extend(["--passphrase-env", "PLANT_PASSPHRASE"]);
    plant.done(&order);
    plant
}

#[test]
fn from_two_peoples_keys_to_a_package_on_a_device() {
    let plant = two_people();
    // The other holder of the root, and whoever opens rings, sign elsewhere, what was carried to them.
    assert!(!plant.repo().join("metadata").exists());
    let (told, _) = plant.done(&["status", "--repo", "repo"]);
    assert!(told.contains("root 1: 1 of 2 signatures"), "{told}");
    let (slips, _) = plant.done(&["export-unsigned", "--to", "stick", "--repo", "repo"]);
    let slips: Vec<_> = slips.lines().collect();
    assert_eq!(slips.len(), 3, "{slips:?}");
    for (slip, key) in [
        ("stick/root-1.slip.json", "ben"),
        ("stick/rollout-1.slip.json", "rings"),
        ("stick/offline-1.slip.json", "rings"),
    ] {
        let (told, _) = plant.done(&[
            "sign",
            slip,
            "--key",
            key,
            "--passphrase-env",
            "PLANT_PASSPHRASE",
            "--yes",
        ]);
        assert!(told.contains("new, version 1, good until"), "{told}");
    }
    plant.with(&["online"], &[&["merge"], &slips[..]].concat(), 0);
    plant.sound("repo");

    let name = bundled_name();
    let folder = bundled();
    let folder = folder.to_str().unwrap();
    let (told, _) = plant.with(&["ann", "online"], &["package", "add", folder], 0);
    assert!(told.contains("passes  accuracy of triage"), "{told}");
    assert!(told.contains("published: packages 2"), "{told}");
    let added = plant.with(&["ann", "online"], &["package", "add", folder], 78);
    assert!(
        added.1.contains("is in this repository already"),
        "{}",
        added.1
    );

    // A rehearsal, and a proposal without the key that signs: nothing is visible.
    let before = plant.served();
    let open = [
        "ring",
        "open",
        "canary",
        "--package",
        &name,
        "--share",
        "10%",
    ];
    plant.with(
        &["rings", "online"],
        &[&open[..], &["--dry-run"]].concat(),
        0,
    );
    let (told, _) = plant.with(&["online"], &open, 0);
    assert!(told.contains("rollout 2: 0 of 1 signatures"), "{told}");
    assert!(told.contains("+ targets/rollout/canary.json"), "{told}");
    assert!(told.contains("\"permille\":100"), "{told}");
    // Who signs elsewhere is not told one thing to sign another.
    plant.done(&["export-unsigned", "--to", "stick", "--repo", "repo"]);
    let slip = plant.at("stick/rollout-2.slip.json");
    let honest = fs::read_to_string(&slip).unwrap();
    let lying = honest.replace("\"permille\": 100", "\"permille\": 10");
    assert_ne!(lying, honest);
    fs::write(&slip, lying).unwrap();
    let sign = ["sign", "stick/rollout-2.slip.json", "--key", "rings"];
    let sign = [
        &sign[..],
        &["--passphrase-env", "PLANT_PASSPHRASE", "--yes"],
    ]
    .concat();
    let (_, told) = plant.ended(&sign, 78);
    assert!(told.contains("its hash is of something else"), "{told}");
    assert_eq!(plant.served(), before);
    let published = plant.json(&["rings", "online"], &["publish"]);
    assert_eq!(published["published"]["versions"]["rollout"], 2);
    plant.sound("repo");

    let root = plant.repo().join("metadata/1.root.json");
    let mut device = Device::new(&plant.at("device"), &root);
    device.refresh(&plant.repo()).unwrap();
    let ring = device.ring(&plant.repo(), "canary").unwrap();
    assert_eq!(ring.permille, 100);
    assert_eq!(device.ring(&plant.repo(), "broad"), None);
    let (staged, custom) = device.update(&plant.repo(), &ring).unwrap();
    assert_eq!(format!("{}-{}", staged.id.name, staged.id.seq), name);
    staged.package.verify().unwrap();
    let own = Package::open(&bundled()).unwrap();
    assert_eq!(staged.package.manifest().tasks, own.manifest().tasks);
    assert_eq!(
        staged.package.manifest().variants[0],
        own.manifest().variants[0]
    );
    let gate = &custom.unwrap()["gate"]["variants"][0];
    assert_eq!(
        gate["items"].as_u64().unwrap(),
        own.gate().unwrap().items.len() as u64
    );

    halt_and_resume(&plant, &mut device);
    rotate(&plant, &mut device);
    refresh(&plant, &mut device);
    export(&plant, &name);
    let (told, _) = plant.done(&["list", "--repo", "repo"]);
    assert!(told.contains(&name) && told.contains("canary"), "{told}");
}

fn halt_and_resume(plant: &Plant, device: &mut Device) {
    plant.with(&["rings", "online"], &["halt"], 0);
    device.refresh(&plant.repo()).unwrap();
    let ring = device.ring(&plant.repo(), "canary").unwrap();
    assert_eq!(ring.turn("line-3", Clock::start().now().wall), Turn::Halted);
    let (told, _) = plant.done(&["ring", "show", "--repo", "repo"]);
    assert!(told.contains("HALTED"), "{told}");
    plant.with(&["rings", "online"], &["halt", "canary"], 78);
    plant.with(&["rings", "online"], &["resume", "canary"], 0);
    device.refresh(&plant.repo()).unwrap();
    assert!(!device.ring(&plant.repo(), "canary").unwrap().halt);
}

/// One of the root's keys is replaced: the old two sign, and the new one.
fn rotate(plant: &Plant, device: &mut Device) {
    let dora = plant.key("dora");
    let ids = plant.ids("root");
    assert_eq!(ids.len(), 2);
    let replace = format!("{}=dora.pub", ids[1]);
    let order = ["root", "rotate", "--replace", &replace];
    let (told, _) = plant.with(&["ann", "ben"], &order, 0);
    assert!(told.contains("root 2: 1 of 2 signatures"), "{told}");
    assert!(told.contains(&format!("+ keys/{dora}")), "{told}");
    plant.done(&["export-unsigned", "--to", "stick", "--repo", "repo"]);
    let slip = "stick/root-2.slip.json";
    let sign = [
        "sign",
        slip,
        "--passphrase-env",
        "PLANT_PASSPHRASE",
        "--yes",
        "--key",
    ];
    let stranger = plant.ended(&[&sign[..], &["online"]].concat(), 78);
    assert!(
        stranger.1.contains("none of the keys of root"),
        "{}",
        stranger.1
    );
    plant.done(&[&sign[..], &["dora"]].concat());
    plant.with(&[], &["merge", slip], 0);
    device.refresh(&plant.repo()).unwrap();
    assert_eq!(device.versions().0, 2);
    plant.sound("repo");
    // The old key signs no more.
    let renewed = plant.with(&["ann", "ben"], &["renew", "root"], 0);
    assert!(
        renewed.0.contains("root 3: 1 of 2 signatures"),
        "{}",
        renewed.0
    );
    plant.done(&["discard", "--repo", "repo", "--yes"]);
}

fn refresh(plant: &Plant, device: &mut Device) {
    let before = device.versions().1;
    let done = plant.json(&["online"], &["refresh"]);
    assert_eq!(done["published"]["versions"]["timestamp"], before + 1);
    assert_eq!(
        done["published"]["versions"]["snapshot"],
        serde_json::Value::Null
    );
    device.refresh(&plant.repo()).unwrap();
    assert_eq!(device.versions().1, before + 1);
    let (_, told) = plant.with(&["ann"], &["refresh"], 69);
    assert!(told.contains("timestamp"), "{told}");
    let done = plant.json(&["online"], &["refresh", "--snapshot"]);
    assert!(done["published"]["versions"]["snapshot"].is_u64());
}

/// A stick for a line that is visited every two months.
fn export(plant: &Plant, name: &str) {
    numbered(&plant.at("next"), 3);
    let add = [
        "package",
        "add",
        "next",
        "--without-gate",
        "the same model under another number",
    ];
    let (told, _) = plant.with(&["ann", "online"], &add, 0);
    assert!(told.contains("WARNING"), "{told}");
    let (told, _) = plant.with(
        &["online"],
        &["export", "--to", "usb", "--for-days", "60"],
        0,
    );
    assert!(
        told.contains("whoever holds it can keep a device"),
        "{told}"
    );
    let (told, _) = plant.done(&["verify", "usb", "--partial"]);
    assert!(told.contains("not here: factory-triage-3.json") && told.contains("nothing is wrong"));
    plant.ended(&["verify", "usb"], 78);
    let later = Wall(Clock::start().now().wall.0 + 59 * DAY_MS);
    let root = plant.repo().join("metadata/1.root.json");
    let mut far = Device::new(&plant.at("far"), &root);
    let stale = far.refresh_at(&plant.repo(), later);
    assert!(matches!(stale, Err(TufError::Expired { .. })), "{stale:?}");
    far.refresh_at(&plant.at("usb"), later).unwrap();
    let ring = far.ring(&plant.at("usb"), "canary").unwrap();
    let (staged, _) = far.update(&plant.at("usb"), &ring).unwrap();
    assert_eq!(format!("{}-{}", staged.id.name, staged.id.seq), name);
    // The package that no ring runs did not go along, but for what both have.
    assert!(!fs::read_dir(plant.at("usb/targets")).unwrap().any(|it| {
        it.unwrap()
            .file_name()
            .to_string_lossy()
            .ends_with("factory-triage-3.json")
    }));
    // A device that saw the stick takes nothing older, and the server's word after its next refresh.
    let mut near = Device::new(&plant.at("near"), &root);
    near.refresh(&plant.at("usb")).unwrap();
    let older = near.refresh(&plant.repo());
    assert!(matches!(older, Err(TufError::Rollback { .. })), "{older:?}");
    // What comes from the server afterwards is newer than the stick, and good for its usual term.
    plant.with(&["online"], &["refresh"], 0);
    let list = plant.list();
    let mut roles = list["roles"].as_array().unwrap().iter();
    let timestamp = roles.find(|it| it["role"] == "timestamp");
    assert!(timestamp.unwrap()["days"].as_i64().unwrap() <= 7, "{list}");
    near.refresh(&plant.repo()).unwrap();
    let (_, told) = plant.with(
        &["online"],
        &["export", "--to", "usb", "--for-days", "200"],
        78,
    );
    assert!(told.contains("rollout expires at"), "{told}");
}
