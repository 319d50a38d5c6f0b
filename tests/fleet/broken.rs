//! What must not work: each is told clearly, and leaves what is served as it was.

use std::fs;

use crate::plant::{Plant, bundled, bundled_name, changed, numbered};

#[test]
fn wrong_passphrases_missing_keys_and_short_secrets_are_told_and_change_nothing() {
    let plant = Plant::simple();
    let before = plant.served();
    let wrong = |words: &[&str], code: i32, told: &str| {
        let (_, err) = plant.ended(words, code);
        assert!(err.contains(told), "{words:?}: {err}");
        assert!(!err.contains("horse"), "{err}");
        assert_eq!(plant.served(), before, "{words:?}");
    };
    let refresh = ["refresh", "--repo", "repo", "--yes", "--key", "online"];
    wrong(
        &[&refresh[..], &["--passphrase-env", "WRONG"]].concat(),
        69,
        "none of the passphrases",
    );
    wrong(
        &[&refresh[..], &["--passphrase-env", "UNSET"]].concat(),
        69,
        "not set",
    );
    wrong(
        &[&refresh[..4], &[]].concat(),
        69,
        "timestamp 2: 0 of 1 signatures",
    );
    let renew = [
        "renew", "packages", "--repo", "repo", "--key", "ann", "--yes",
    ];
    wrong(
        &[&renew[..], &["--passphrase-env", "WRONG"]].concat(),
        69,
        "none of the passphrases",
    );
    // Nobody is there to be asked.
    wrong(&renew[..6], 64, "--yes says yes");
    let nowhere = ["refresh", "--repo", "nowhere", "--key", "online"];
    wrong(&nowhere, 69, "nowhere: not there");
    wrong(&["ring", "open"], 64, "Usage");
    wrong(
        &["init", "repo", "--keys", "root=ann"],
        64,
        "nobody signs for",
    );
    let all = "root,targets,packages,rollout,offline,snapshot,timestamp=ann";
    let again = ["init", "repo", "--keys", all, "--key", "ann", "--yes"];
    wrong(&again, 78, "is there already");
    let many = ["init", "other", "--keys", all, "--threshold", "root=2"];
    wrong(&many, 64, "root: 2 of 1 keys cannot be");
    assert!(!plant.at("other").exists());
    let failed = [
        "init",
        "other",
        "--keys",
        all,
        "--key",
        "ann",
        "--yes",
        "--passphrase-env",
        "WRONG",
    ];
    wrong(&failed, 69, "none of the passphrases");
    assert!(!plant.at("other").exists() && !plant.at("other.desk").exists());
    wrong(
        &["key", "new", "ann", "--passphrase-env", "WRONG"],
        78,
        "is there already",
    );
}

#[test]
fn too_few_signatures_wait_on_the_desk_and_another_document_is_not_merged() {
    let plant = Plant::simple();
    let before = plant.served();
    plant.with(&[], &["renew", "root", "targets"], 0);
    let (_, told) = plant.with(&["online"], &["publish"], 69);
    assert!(told.contains("signatures are missing"), "{told}");
    let (told, _) = plant.done(&["status", "--repo", "repo"]);
    assert!(
        told.contains("root 2: 0 of 1") && told.contains("nothing else differs"),
        "{told}"
    );
    plant.done(&["export-unsigned", "--to", "stick", "--repo", "repo"]);
    plant.done(&["discard", "--repo", "repo", "--yes"]);
    let (_, told) = plant.with(&[], &["merge", "stick/root-2.slip.json"], 78);
    assert!(told.contains("nothing of it is on the desk"), "{told}");
    std::thread::sleep(std::time::Duration::from_millis(1100)); // another second, another expiry
    plant.with(&[], &["renew", "root"], 0);
    let (_, told) = plant.with(&[], &["merge", "stick/root-2.slip.json"], 78);
    assert!(told.contains("another document"), "{told}");
    fs::write(plant.at("stick/root-2.slip.json"), "{}").unwrap();
    let (_, told) = plant.with(&[], &["merge", "stick/root-2.slip.json"], 78);
    assert!(told.contains("no slip"), "{told}");
    assert_eq!(plant.served(), before);
}

#[test]
fn a_package_that_misses_its_bars_or_has_no_gate_is_not_signed() {
    let plant = Plant::simple();
    let before = plant.served();
    // Nothing is right all the time.
    changed(&plant.at("proud"), |text| {
        text.replace("accuracy = 0.8\n", "accuracy = 1.0\n")
    });
    let (_, told) = plant.with(&["ann", "online"], &["package", "add", "proud"], 78);
    assert!(told.contains("does not pass its own gate"), "{told}");
    assert!(told.contains("accuracy of triage"), "{told}");
    changed(&plant.at("silent"), |text| {
        let tables = text.split("\n\n");
        let kept = tables.filter(|it| {
            !it.starts_with("[bars]") && !it.starts_with("[[bars.") && !it.contains("gate.jsonl")
        });
        kept.collect::<Vec<_>>().join("\n\n")
    });
    fs::remove_file(plant.at("silent/gate.jsonl")).unwrap();
    let (_, told) = plant.with(&["ann", "online"], &["package", "add", "silent"], 78);
    assert!(told.contains("no gate suite"), "{told}");
    let short = ["package", "add", "silent", "--without-gate", "no"];
    let (_, told) = plant.with(&["ann", "online"], &short, 64);
    assert!(told.contains("a reason of"), "{told}");
    let model = fs::read_dir(plant.at("proud"))
        .unwrap()
        .map(|it| it.unwrap().path());
    let model = model
        .into_iter()
        .find(|it| it.to_string_lossy().contains("Q8_0"))
        .unwrap();
    let mut bytes = fs::read(&model).unwrap();
    bytes[2_000_000] ^= 1;
    fs::write(model, bytes).unwrap();
    let (_, told) = plant.with(&["ann", "online"], &["package", "add", "proud"], 78);
    assert!(told.contains("its SHA-256 is"), "{told}");
    assert_eq!(plant.served(), before);
    assert!(!plant.at("repo.desk/staged").exists());

    let why = [
        "package",
        "add",
        "silent",
        "--without-gate",
        "for the test bench only",
    ];
    let (told, _) = plant.with(&["ann", "online"], &why, 0);
    assert!(
        told.contains("WARNING") && told.contains("NOT held against its gate"),
        "{told}"
    );
    let (told, _) = plant.done(&["list", "--repo", "repo"]);
    assert!(told.contains("SKIPPED: for the test bench only"), "{told}");
}

#[test]
fn rings_do_not_go_back_and_run_nothing_that_is_not_there() {
    let plant = Plant::simple();
    let skip = ["--without-gate", "its gate is run in another test"];
    let bundled = bundled();
    let bundled = bundled.to_str().unwrap();
    let add = |folder: &str, code| {
        plant.with(
            &["ann", "online"],
            &[&["package", "add", folder], &skip[..]].concat(),
            code,
        )
    };
    add(bundled, 0);
    numbered(&plant.at("next"), 7);
    add("next", 0);
    let open = |package: &str, code| {
        let words = ["ring", "open", "canary", "--package", package];
        plant.with(&["ann", "online"], &words, code)
    };
    open("factory-triage-7", 0);
    let before = plant.served();
    let (_, told) = open(&bundled_name(), 78);
    assert!(told.contains("devices refuse a lower number"), "{told}");
    let (_, told) = open("factory-triage-8", 78);
    assert!(told.contains("not in this repository"), "{told}");
    open("factory-triage", 64);
    let (_, told) = add(bundled, 78);
    assert!(told.contains("--seq 8"), "{told}");
    let (_, told) = plant.with(
        &["ann", "online"],
        &["package", "remove", "factory-triage-7"],
        78,
    );
    assert!(told.contains("ring canary runs it"), "{told}");
    assert_eq!(plant.served(), before);
    plant.with(
        &["ann", "online"],
        &["package", "remove", &bundled_name()],
        0,
    );
    plant.sound("repo");
}

#[test]
fn what_was_tampered_with_or_has_expired_is_found_and_is_not_built_upon() {
    let plant = Plant::simple();
    let folder = bundled();
    let add = ["package", "add", folder.to_str().unwrap()];
    let skip = ["--without-gate", "its gate is run in another test"];
    plant.with(&["ann", "online"], &[&add[..], &skip].concat(), 0);
    let (_, told) = plant.ended(&["verify", "repo", "--at", "2099-01-01T00:00:00Z"], 78);
    assert!(
        told.contains("timestamp: expired at") && told.contains("root: expired at"),
        "{told}"
    );
    let served = plant.served();
    let object = served
        .iter()
        .filter(|(path, _)| path.to_string_lossy().contains("objects/"));
    let (object, bytes) = object.max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let mut spoilt = bytes.clone();
    spoilt[3_000_000] ^= 1;
    fs::remove_file(object).unwrap(); // it may be a link to the package's own file
    fs::write(object, spoilt).unwrap();
    let (_, told) = plant.ended(&["verify", "repo"], 78);
    assert!(
        told.contains("its bytes are not what the manifest of"),
        "{told}"
    );
    fs::write(object, bytes).unwrap();
    plant.sound("repo");

    let metadata = plant.repo().join("metadata/2.packages.json");
    let text = fs::read_to_string(&metadata).unwrap();
    fs::write(&metadata, text.replace("\"length\":", "\"length\":1")).unwrap();
    let before = plant.served();
    let (_, told) = plant.with(&["ann", "online"], &["renew", "packages"], 78);
    assert!(
        told.contains("packages: not the file that was signed for"),
        "{told}"
    );
    plant.ended(&["verify", "repo"], 78);
    assert_eq!(plant.served(), before);
}

#[test]
fn a_repository_that_expired_is_mended_by_a_refresh() {
    let plant = Plant::simple();
    // The key of the machine is at hand, so a day is enough for a test: nothing waits here.
    let at = "2026-01-01T00:00:00Z";
    let (out, _) = plant.done(&["verify", "repo", "--at", at]);
    assert!(out.contains("nothing is wrong"), "{out}");
    let listed = plant.list();
    assert!(listed["soon"].as_array().unwrap().is_empty(), "{listed}");
    plant.with(
        &["ann", "online"],
        &["renew", "targets", "--days", "targets=1"],
        0,
    );
    let done = plant.json(&["online"], &["refresh"]);
    let told = done["told"].to_string();
    assert!(
        told.contains("soon: targets expires in 0 days") && told.contains("renew"),
        "{told}"
    );
}
