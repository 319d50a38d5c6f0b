//! python-tuf reads what the tool makes, and the tool and a device read what python-tuf makes.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lineside::clock::Clock;
use serde_json::{Value, json};

use crate::device::Device;
use crate::plant::{Plant, bundled, bundled_name};

/// A Python with `tuf`; says so where there is none.
fn python() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = match std::env::var_os("LINESIDE_TUF_PYTHON") {
        Some(python) => PathBuf::from(python),
        None => here.join("target/tuf-oracle/bin/python"),
    };
    if python.exists() {
        return Some(python);
    }
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED: no Python with python-tuf at {}: `tools/conformance fleet` makes one",
        python.display()
    );
    None
}

fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tools")
        .join(name)
}

/// The metadata of a repository, as the oracle wants it.
fn metadata(plant: &Plant) -> Value {
    let files = crate::plant::files(&plant.repo().join("metadata"));
    let files = files.into_iter().map(|(path, bytes)| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, Value::String(lineside::ota::tuf::hex(&bytes)))
    });
    Value::Object(files.collect())
}

/// What python-tuf says that saw the first state, then the second.
fn asked(python: &Path, before: &Value, after: &Value, target: &str) -> String {
    let case = json!({
        "anchor": before["1.root.json"],
        "before": before,
        "after": after,
        "target": target,
        "now": Clock::start().now().wall.0 / 1000,
    });
    let mut oracle = Command::new(python)
        .arg(tool("tuf_oracle.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(oracle.stdin.take().unwrap(), "{case}").unwrap();
    let output = oracle.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn python_tuf_accepts_what_is_published_through_every_change_of_keys() {
    let Some(python) = python() else { return };
    let plant = Plant::simple();
    let empty = metadata(&plant);
    let folder = bundled();
    let add = ["package", "add", folder.to_str().unwrap()];
    let skip = ["--without-gate", "its gate is run in another test"];
    plant.with(&["ann", "online"], &[&add[..], &skip].concat(), 0);
    let name = bundled_name();
    let open = [
        "ring",
        "open",
        "canary",
        "--package",
        &name,
        "--share",
        "10%",
    ];
    plant.with(&["ann", "online"], &open, 0);
    let full = metadata(&plant);
    let told = asked(&python, &empty, &full, &format!("{name}.json"));
    assert!(told.starts_with("ok 1 3 3 1 "), "{told}");
    let file = format!("{}.{name}.json", told.rsplit_once(' ').unwrap().1);
    assert!(plant.repo().join("targets").join(&file).exists(), "{file}");
    let told = asked(&python, &empty, &full, "rollout/canary.json");
    let file = format!("{}.canary.json", told.rsplit_once(' ').unwrap().1);
    assert!(
        plant.repo().join("targets/rollout").join(&file).exists(),
        "{told}"
    );
    assert!(asked(&python, &empty, &full, "rollout/broad.json").ends_with(" none"));

    // A second holder of the root with P-256, two of two; then other keys for everything.
    plant.key("ben");
    let second = ["root", "rotate", "--add", "ben.pub", "--new-threshold", "2"];
    plant.with(&["ann", "ben", "online"], &second, 0);
    plant.key("next");
    for role in ["packages", "rollout", "targets", "snapshot", "timestamp"] {
        let order = ["root", "rotate", "--role", role, "--add", "next.pub"];
        plant.with(&["ann", "ben", "online", "next"], &order, 0);
    }
    let ids = plant.ids("timestamp");
    let order = ["root", "rotate", "--role", "timestamp", "--remove", &ids[0]];
    plant.with(&["ann", "ben", "next"], &order, 0);
    plant.sound("repo");
    let turned = metadata(&plant);
    for before in [&empty, &full] {
        let told = asked(&python, before, &turned, "rollout/canary.json");
        assert!(told.starts_with("ok 6 "), "{told}");
        assert!(!told.ends_with("none"), "{told}");
    }
    // A state that went back is refused by both.
    let told = asked(&python, &turned, &full, "rollout/canary.json");
    assert!(told.starts_with("no "), "{told}");
}

#[test]
fn a_repository_of_python_tufs_is_read_by_the_tool_and_by_a_device() {
    let Some(python) = python() else { return };
    // A manifest and its objects, as the tool lays them out.
    let plant = Plant::simple();
    let folder = bundled();
    let add = ["package", "add", folder.to_str().unwrap()];
    let skip = ["--without-gate", "its gate is run in another test"];
    plant.with(&["ann", "online"], &[&add[..], &skip].concat(), 0);
    let name = format!("{}.json", bundled_name());
    let served = plant.served();
    let is_manifest = |path: &&PathBuf| path.to_string_lossy().ends_with(&format!(".{name}"));
    let manifest = served.keys().find(is_manifest).unwrap();
    fs::copy(manifest, plant.at(&name)).unwrap();

    let made = Command::new(&python)
        .arg(tool("tuf_made.py"))
        .args([plant.at("theirs"), plant.at(&name)])
        .status()
        .unwrap();
    assert!(made.success());
    fs::rename(plant.repo().join("objects"), plant.at("theirs/objects")).unwrap();
    plant.sound("theirs");
    let (told, _) = plant.done(&["list", "--repo", "theirs"]);
    assert!(told.contains("canary") && told.contains("2 of"), "{told}");

    let theirs = plant.at("theirs");
    let mut device = Device::new(&plant.at("device"), &theirs.join("metadata/1.root.json"));
    device.refresh(&theirs).unwrap();
    assert_eq!(device.versions(), (2, 1));
    let ring = device.ring(&theirs, "canary").unwrap();
    let (staged, _) = device.update(&theirs, &ring).unwrap();
    staged.package.verify().unwrap();
    assert_eq!(format!("{}-{}.json", staged.id.name, staged.id.seq), name);
}
