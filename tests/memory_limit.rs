//! A control group that runs out of memory: the kernel kills the engine, not the service, and no
//! request is lost.

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

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use appliance::{Appliance, PATIENCE};
use device::{Ask, Device, Version};
use mosquitto::{Mosquitto, Setup};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
/// Service and engine fit into it many times.
const LIMIT_BYTES: u64 = 200 * MIB;
/// What the other program takes for a moment: with the service alone it fits (10 MiB), with the
/// engine never (25 MiB at least, of which its model's file may be given back).
const OTHER_BYTES: u64 = 185 * MIB;
const REQUESTS: usize = 60;

/// A control group of its own, of either version of the kernel's interface.
struct Group {
    folder: PathBuf,
}

impl Group {
    /// None where this machine does not let us make one.
    fn with_limit(bytes: u64) -> Option<Self> {
        let name = format!("lineside-test-{}", std::process::id());
        let unified = Path::new("/sys/fs/cgroup");
        let _ = fs::write(unified.join("cgroup.subtree_control"), "+memory");
        let places = [
            (unified.join(&name), "memory.max"),
            (unified.join("memory").join(&name), "memory.limit_in_bytes"),
        ];
        places.into_iter().find_map(|(folder, limit)| {
            fs::create_dir(&folder).ok()?;
            let group = Self { folder };
            // A folder that is no control group has no such file, and is left again.
            let file = group.folder.join(limit);
            (file.exists() && fs::write(&file, bytes.to_string()).is_ok()).then_some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It can be removed once the last process in it is gone.
        let begun = Instant::now();
        while self.folder.exists()
            && fs::remove_dir(&self.folder).is_err()
            && begun.elapsed() < PATIENCE
        {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Takes memory in the group: it holds all that it reads, for there is no end of a line in it.
fn take_memory(group: &Group) {
    let line = format!(
        "echo $$ > {}/cgroup.procs && head -c {OTHER_BYTES} /dev/zero | tail",
        group.folder.display()
    );
    let other = Command::new("/bin/sh")
        .args(["-c", &line])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    other.unwrap(); // it may have been killed, too
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kernel_kills_the_engine_and_not_the_service_and_no_request_is_lost() {
    let Some(group) = Group::with_limit(LIMIT_BYTES) else {
        // Past the harness, which shows nothing of a test that passes.
        let line = b"\nSKIPPED: no control group with a memory limit can be made here\n";
        std::io::stderr().write_all(line).unwrap();
        return;
    };
    let broker = Mosquitto::start(&Setup::default());
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/models/factory-triage");
    let config = format!("[model]\npackage = \"{package}\"\n[engine]\nthreads = 1\n");
    let mut appliance = Appliance::at(broker.port, &config);
    appliance.control_group = Some(group.folder.clone());
    appliance.start();
    appliance.until(|status| status["engine"] == "ready");
    let pid = appliance.pid();
    let mut device = Device::start(Version::V5, broker.port, &["devices/press7/answers"]).await;

    let hog = std::thread::spawn(move || {
        for _ in 0..3 {
            take_memory(&group);
        }
        group
    });
    for no in 0..REQUESTS {
        let request = json!({
            "id": format!("m-{no}"), "task": "triage", "deadline_ms": 60_000,
            "input": format!("CNC-{no:02} spindle vibration {no} mm/s"),
            "reply_to": "devices/press7/answers",
        });
        let ask = Ask::new(request.to_string()).on("lineside/line-3/request/press7");
        device.publish(&ask).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let mut outcomes = BTreeSet::new();
    let mut answered = 0;
    while outcomes.len() < REQUESTS {
        let reply = device.reply().await.json();
        let id = reply["id"].as_str().unwrap().to_owned();
        assert!(outcomes.insert(id), "answered twice: {reply}");
        answered += u32::from(reply["status"] == "answered");
    }
    let group = hog.join().unwrap();
    let status = appliance.until(|status| status["engine"] == "ready" && status["open"] == 0);
    assert!(
        status["engine_crashes"].as_u64().unwrap() > 0,
        "the kernel killed nobody: {status}"
    );
    assert_eq!(appliance.pid(), pid, "the service is the same process");
    // Whoever was inside at two kills is refused, so that it kills no third time.
    assert!(answered > 0, "{status}");
    drop(appliance);
    drop(group);
}

/// Nobody handed a control group over to this one, so its engine has no limit of its own; it serves all
/// the same, and whoever watches is told what is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_without_a_limit_of_its_own_serves_and_the_status_topic_says_so() {
    let broker = Mosquitto::start(&Setup::default());
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/models/factory-triage");
    let mut appliance = Appliance::at(broker.port, &format!("[model]\npackage = \"{package}\"\n"));
    appliance.start();
    let status = appliance.until(|status| status["engine"] == "ready");
    let says = |told: &Value| {
        let missing = told["engine_unguarded"].as_array();
        missing.is_some_and(|missing| missing.contains(&"memory".into()))
    };
    assert!(says(&status), "{status}");
    let mut watcher = Device::start(Version::V5, broker.port, &["lineside/line-3/status"]).await;
    loop {
        let told = watcher.reply().await.json();
        if told["engine"] == "ready" {
            assert!(says(&told), "{told}");
            break;
        }
    }
}
