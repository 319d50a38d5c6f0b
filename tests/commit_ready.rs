//! `lineside check --commit-ready`, as the health step of a system update runs it: the real service,
//! the real model, and no broker.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;

use std::process::Output;

use appliance::Appliance;

/// `EX_UNAVAILABLE`.
const NOT_READY: i32 = 69;
/// Nothing listens at the port of "discard".
const NO_BROKER: u16 = 9;
/// Longer than any start takes on a crowded machine.
const PATIENCE_S: &str = "60";

fn with_model() -> Appliance {
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/models/factory-triage");
    let model = format!("[model]\npackage = \"{package}\"\n");
    Appliance::at(NO_BROKER, &model)
}

fn asked(appliance: &Appliance, more: &[&str]) -> Output {
    appliance.told("check", &[&["--commit-ready"], more].concat())
}

#[track_caller]
fn not_ready(output: &Output, why: &str) {
    assert_eq!(output.status.code(), Some(NOT_READY), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.starts_with("not ready: "), "{told}");
    assert!(told.contains(why), "{why}: {told}");
}

#[test]
fn a_system_is_kept_once_the_appliance_serves_and_not_before() {
    let mut appliance = with_model();
    not_ready(&asked(&appliance, &[]), "no running appliance");

    appliance.launch();
    let kept = asked(&appliance, &["--wait-s", PATIENCE_S]);
    assert_eq!(kept.status.code(), Some(0), "{kept:?}");
    assert!(kept.stdout.starts_with(b"ready"), "{kept:?}");
    let json = asked(&appliance, &["--json"]);
    assert_eq!(json.stdout, b"{\"commit_ready\":true,\"reasons\":[]}\n");
    not_ready(&asked(&appliance, &["--with-broker"]), "no broker");

    let closed = appliance.told("do", &["maintenance on"]);
    assert!(closed.status.success(), "{closed:?}");
    not_ready(&asked(&appliance, &[]), "takes no requests: maintenance");

    appliance.kill();
    not_ready(
        &asked(&appliance, &["--wait-s", "1"]),
        "no running appliance",
    );
}

#[test]
fn a_system_without_a_package_is_not_kept_and_says_so() {
    let mut appliance = Appliance::at(NO_BROKER, "");
    appliance.launch();
    appliance.until(|status| status["engine"] == "absent");
    let told = asked(&appliance, &[]);
    not_ready(&told, "no package is served");
    not_ready(&told, "the engine is absent");
}

#[test]
fn what_makes_no_sense_beside_it_is_a_fault_of_usage() {
    let appliance = with_model();
    for more in [&["--reference"][..], &["--patience-ms", "1"]] {
        assert_eq!(asked(&appliance, more).status.code(), Some(64), "{more:?}");
    }
    let alone = appliance.told("check", &["--wait-s", "1"]);
    assert_eq!(alone.status.code(), Some(64), "{alone:?}");
}
