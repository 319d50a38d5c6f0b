//! Packages over the air with the real service: what its ring is to run comes, from a folder, a stick
//! or a server, through a kill in the middle, and serves requests in the end.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "support/device.rs"]
#[allow(dead_code, unreachable_pub)]
mod device;
#[path = "support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;
#[path = "support/publisher.rs"]
#[allow(dead_code, unreachable_pub)]
mod publisher;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use appliance::{Appliance, fresh_dir};
use device::{Ask, Device, Version};
use lineside::appliance::plan;
use lineside::clock::Clock;
use lineside::config;
use lineside::governor::memory;
use lineside::ota::object::{CHUNK_BYTES, MIN_CHUNK_BYTES};
use lineside::ota::rollout::Rollout;
use lineside::package::Package;
use mosquitto::{Mosquitto, Setup};
use publisher::Publisher;
use serde_json::{Value, json};

fn bundled() -> Package {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    Package::open(&folder).unwrap()
}

/// A repository with the bundled package, open to all of the ring `canary`.
fn publisher(chunk_bytes: u64) -> Publisher {
    let mut publisher = Publisher::new(&fresh_dir(), Clock::start().now().wall);
    let package = bundled();
    publisher.package(&package, chunk_bytes);
    let manifest = package.manifest();
    let rollout = Rollout::new("canary", &manifest.name, manifest.seq, 1000).unwrap();
    publisher.open("canary", &rollout);
    publisher.publish();
    publisher
}

/// The package's name and number.
fn id() -> String {
    let package = bundled();
    let manifest = package.manifest();
    format!("{}-{}", manifest.name, manifest.seq)
}

/// An appliance that takes its packages from this place.
fn follower(port: u16, publisher: &Publisher, repository: &str, more: &str) -> Appliance {
    let config = format!(
        "[ota]\nrepository = \"{repository}\"\nroot_file = \"{}\"\nring = \"canary\"\n{more}",
        publisher.anchor().display()
    );
    Appliance::at(port, &config)
}

fn ota(appliance: &Appliance, words: &[&str]) -> Output {
    let mut command = appliance.subcommand("ota");
    command.args(words).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn report(appliance: &Appliance) -> Value {
    let line = json!({ "cmd": "ota", "action": "status" });
    appliance.command(&line).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_ring_is_to_run_comes_and_serves() {
    let broker = Mosquitto::start(&Setup::default());
    let publisher = publisher(CHUNK_BYTES);
    let from = publisher.root().display().to_string();
    let mut appliance = follower(broker.port, &publisher, &from, "");
    appliance.start();
    let output = ota(&appliance, &["check"]);
    let told = text(&output);
    assert!(output.status.success(), "{told} {output:?}");
    assert!(
        told.starts_with(&format!("{} is here, as Q8_0\n", id())),
        "{told}"
    );
    let status = text(&ota(&appliance, &["status"]));
    assert!(
        status.contains(&format!("here        {}\n", id())),
        "{status}"
    );
    assert!(
        status.contains("ring        canary, place 404 of 1000\n"),
        "{status}"
    );
    let json = text(&ota(&appliance, &["--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["outcome"]["state"], "ready", "{json}");
    let folder = PathBuf::from(json["outcome"]["folder"].as_str().unwrap());
    Package::open(&folder).unwrap().verify().unwrap();
    assert!(
        appliance.log().contains("a package has come"),
        "{}",
        appliance.log()
    );
    appliance.stop();

    // It is a package like any other: the site may name it.
    let more = format!("[model]\npackage = \"{}\"\n", folder.display());
    let mut serving = follower(broker.port, &publisher, &from, &more);
    serving.start();
    serving.until(|status| status["engine"] == "ready");
    let mut device = Device::start(Version::V5, broker.port, &["devices/press7/answers"]).await;
    let request = json!({
        "id": "q-1", "task": "triage", "input": "spindle vibration 9.3 mm/s",
        "deadline_ms": 30_000, "reply_to": "devices/press7/answers",
    });
    let question = Ask::new(request.to_string()).on("lineside/line-3/request/press7");
    let reply = device.ask(&question).await.json();
    assert_eq!(reply["status"], "answered", "{reply}");
}

#[test]
fn a_stick_helps_where_the_server_is_away_and_nothing_else_is_disturbed() {
    let broker = Mosquitto::start(&Setup::default());
    let publisher = publisher(CHUNK_BYTES);
    let more = "plain_http = true\n\
                [cloud]\nurl = \"http://127.0.0.1:9/v1/chat/completions\"\nmodel = \"large\"\n\
                accepts = [\"public\"]\n";
    let mut appliance = follower(broker.port, &publisher, "http://127.0.0.1:9/", more);
    // A small board has no certificates, and in the clear it needs none.
    let none = ("SSL_CERT_FILE".into(), "/dev/null".into());
    appliance.env.push(none);
    appliance.start();
    let output = ota(&appliance, &["check"]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let told = text(&output);
    assert!(
        told.contains("failed (unreachable): http://127.0.0.1:9/:"),
        "{told}"
    );
    assert!(told.contains("cannot be reached"), "{told}");
    let stick = publisher.root().display().to_string();
    let output = ota(&appliance, &["check", "--from", &stick]);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output).contains("is here, as Q8_0"), "{output:?}");
    // What makes no sense is told, and nothing is looked for.
    let output = ota(&appliance, &["check", "--package", "triage"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("NAME-SEQ"), "{told}");
    let status = appliance.status();
    assert_eq!(status["state"], "online", "{status}");
}

#[test]
fn a_kill_in_the_middle_costs_no_more_than_a_chunk() {
    let broker = Mosquitto::start(&Setup::default());
    let publisher = publisher(MIN_CHUNK_BYTES);
    let from = publisher.root().display().to_string();
    // Some seconds for the model, so that there is a middle.
    let slow = "max_bytes_per_s = 400000\n";
    let mut appliance = follower(broker.port, &publisher, &from, slow);
    appliance.start();
    let begun = ota(&appliance, &["check", "--no-wait"]);
    assert!(begun.status.success(), "{begun:?}");
    let (mut before, mut needed) = (0, 0);
    while before < 1_000_000 {
        let report = report(&appliance);
        assert_eq!(report["looks"], 0, "it was over too soon: {report}");
        let bytes = |what: &str| report["progress"][what].as_u64().unwrap_or(0);
        (before, needed) = (bytes("there_bytes"), bytes("needed_bytes"));
    }
    // Whoever asks now would take this look's end for that of his own.
    let second = ota(&appliance, &["check", "--from", "/media/stick"]);
    assert_eq!(second.status.code(), Some(69), "{second:?}");
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.contains("a look is under way"), "{told}");
    appliance.kill();
    appliance.start();
    let output = ota(&appliance, &["check"]);
    assert!(output.status.success(), "{output:?}");
    let report = report(&appliance);
    let fetched = report["progress"]["fetched_bytes"].as_u64().unwrap();
    assert!(needed > 2_000_000, "{report}");
    assert!(fetched <= needed - before + MIN_CHUNK_BYTES, "{report}");
    let folder = PathBuf::from(report["outcome"]["folder"].as_str().unwrap());
    Package::open(&folder).unwrap().verify().unwrap();
}

/// However often the power goes, and wherever.
#[test]
fn kills_at_any_moment_lose_nothing_and_leave_nothing_half() {
    const KILLS: u64 = 8;
    let broker = Mosquitto::start(&Setup::default());
    let publisher = publisher(MIN_CHUNK_BYTES);
    let from = publisher.root().display().to_string();
    let slow = "max_bytes_per_s = 2000000\n";
    let mut appliance = follower(broker.port, &publisher, &from, slow);
    let packages = appliance.dir.join("state/models/packages");
    for kill in 0..KILLS {
        appliance.start();
        let begun = ota(&appliance, &["check", "--no-wait"]);
        assert!(begun.status.success(), "{begun:?}");
        // From the first metadata to the last name: some two seconds in all.
        std::thread::sleep(Duration::from_millis(kill * 300));
        appliance.kill();
        for name in std::fs::read_dir(&packages).into_iter().flatten() {
            for seq in std::fs::read_dir(name.unwrap().path()).unwrap() {
                let seq = seq.unwrap();
                if !seq.file_name().to_string_lossy().starts_with('.') {
                    let package = Package::open(&seq.path().join("package")).unwrap();
                    package.verify().unwrap();
                }
            }
        }
    }
    appliance.start();
    let output = ota(&appliance, &["check"]);
    assert!(output.status.success(), "{output:?}");
    let report = report(&appliance);
    assert_eq!(report["packages"], json!([id()]), "{report}");
    assert_eq!(report["metadata"]["timestamp"], 1, "{report}");
}

#[test]
fn a_small_device_takes_the_variant_that_fits_and_says_why() {
    let engine = config::Engine::default();
    let wishes = plan::wishes_of_site(&engine);
    let package = bundled();
    let fits = |bytes: u64, place: usize| {
        let (_, header) = package.variants().nth(place).unwrap();
        memory::plan(&plan::shape(header), &plan::board_with(bytes), &wishes).is_ok()
    };
    let budget = (20..400)
        .map(|it| it << 18)
        .find(|bytes| fits(*bytes, 1))
        .unwrap();
    assert!(!fits(budget, 0), "both fit into {budget}");
    let broker = Mosquitto::start(&Setup::default());
    let publisher = publisher(CHUNK_BYTES);
    let from = publisher.root().display().to_string();
    let more = format!("[governor]\nmemory_budget_bytes = {budget}\n");
    let mut appliance = follower(broker.port, &publisher, &from, &more);
    appliance.start();
    let output = ota(&appliance, &["check"]);
    let told = text(&output);
    assert!(
        told.starts_with(&format!("{} is here, as Q4_K_M\n", id())),
        "{told}"
    );
    assert!(told.contains("  Q8_0 was not taken: "), "{told}");
    let report = report(&appliance);
    let folder = PathBuf::from(report["outcome"]["folder"].as_str().unwrap());
    assert_eq!(Package::open(&folder).unwrap().variants().count(), 1);
}

#[test]
fn without_packages_over_the_air_the_command_says_what_to_set() {
    let broker = Mosquitto::start(&Setup::default());
    let mut appliance = Appliance::at(broker.port, "");
    appliance.start();
    let output = ota(&appliance, &["status"]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("set ota.repository, ota.root_file and ota.ring"),
        "{told}"
    );
}

#[test]
fn a_root_that_is_none_is_told_and_the_service_serves() {
    let broker = Mosquitto::start(&Setup::default());
    let publisher = publisher(CHUNK_BYTES);
    std::fs::write(publisher.anchor(), "{}").unwrap();
    let from = publisher.root().display().to_string();
    let mut appliance = follower(broker.port, &publisher, &from, "");
    appliance.start();
    let output = ota(&appliance, &["check"]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(
        text(&output).contains("failed (untrusted): root:"),
        "{output:?}"
    );
    assert_eq!(appliance.status()["state"], "online");
}
