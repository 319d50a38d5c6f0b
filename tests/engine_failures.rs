//! Native failure under load: the engine process is killed, stopped, aborted and starved in the
//! middle of fifty requests that came over MQTT. No request is lost, none is answered twice.
//!
//! How long the service was without answers is printed, not asserted.

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

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use appliance::Appliance;
use device::{Ask, Device, Version};
use mosquitto::{Mosquitto, Setup};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::{Value, json};

const REQUESTS: usize = 50;
const ANSWERS: &str = "devices/press7/answers";

/// Processes whose parent this is, with this argument.
fn children(parent: Pid, argument: &str) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse().ok()) else {
            continue;
        };
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let is_child = status
            .lines()
            .any(|line| line == format!("PPid:\t{}", parent.as_raw_nonzero()));
        let line = read("cmdline");
        let called = line
            .split(|byte| *byte == 0)
            .any(|it| it == argument.as_bytes());
        if is_child && called {
            found.extend(Pid::from_raw(pid));
        }
    }
    found
}

/// The engine of an appliance that is ready.
fn engine_of(appliance: &Appliance) -> Pid {
    let engines = children(appliance.pid(), "engine");
    assert_eq!(engines.len(), 1, "{engines:?}");
    engines[0]
}

/// An appliance with the bundled model, ready to answer.
fn plant(more: &str) -> (Mosquitto, Appliance) {
    let broker = Mosquitto::start(&Setup::default());
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    let config = format!("[model]\npackage = \"{}\"\n{more}", package.display());
    let mut appliance = Appliance::at(broker.port, &config);
    appliance.start();
    let status = appliance.until(|status| settled(&status["engine"]));
    assert_eq!(status["engine"], "ready", "{status}");
    (broker, appliance)
}

fn settled(engine: &Value) -> bool {
    ["ready", "unloadable", "absent"].contains(&engine.as_str().unwrap())
}

/// One of fifty different requests.
fn plain(n: usize) -> Value {
    json!({
        "id": format!("f-{n}"), "task": "summary", "reply_to": ANSWERS,
        "input": format!("press {n} reports oil at {n} bar and a noise at spindle {}", n * 7),
    })
}

/// The same with a schema of its own, of two hundred values: each one that is compiled stays in
/// the engine's memory.
fn with_schema(n: usize) -> Value {
    let name = |value: usize| format!("machine {} of hall {n}, line {}", value * 7919, value % 13);
    let values: Vec<_> = (0..200).map(name).collect();
    let mut ask = plain(n);
    ask["schema"] = json!({
        "type": "object", "properties": { "machine": { "enum": values } },
        "required": ["machine"], "additionalProperties": false,
    });
    ask
}

/// Asks fifty things, does something to the engine once the first answers are there, and holds
/// the rest against what was promised. Returns how often an engine died.
async fn in_the_middle(name: &str, ask: impl Fn(usize) -> Value, fail: impl Fn(Pid)) -> u64 {
    let (broker, mut appliance) = plant("");
    let mut device = Device::start(Version::V5, broker.port, &[ANSWERS]).await;
    for n in 0..REQUESTS {
        device.send(&Ask::new(ask(n).to_string()));
    }
    let mut replies: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    // When the last answer came, once the engine has failed, and the longest wait for one.
    let (mut last, mut gap) = (None, Duration::ZERO);
    while replies.len() < REQUESTS {
        let reply = device.reply().await;
        let now = Instant::now();
        gap = gap.max(last.map_or(Duration::ZERO, |last| now.duration_since(last)));
        last = last.map(|_| now);
        replies.entry(reply.id()).or_default().push(reply.json());
        if replies.len() == 3 {
            fail(engine_of(&appliance));
            last = Some(Instant::now());
        }
    }
    assert!(
        device.is_quiet().await,
        "{name}: something was answered twice"
    );
    for (id, copies) in &replies {
        assert_eq!(copies.len(), 1, "{name}: {id}");
        assert_eq!(copies[0]["status"], "answered", "{name}: {}", copies[0]);
    }
    let status = appliance.until(|status| status["open"] == 0 && status["engine"] == "ready");
    println!(
        "{name}: at most {gap:?} without an answer, crashes {}",
        status["engine_crashes"]
    );
    assert!(appliance.stop().success());
    status["engine_crashes"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_survive_an_engine_that_is_killed() {
    let crashes = in_the_middle("SIGKILL", plain, |engine| {
        kill_process(engine, Signal::KILL).unwrap();
    });
    assert_eq!(crashes.await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_survive_an_engine_that_aborts() {
    let crashes = in_the_middle("SIGABRT", plain, |engine| {
        kill_process(engine, Signal::ABORT).unwrap();
    });
    assert_eq!(crashes.await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_survive_an_engine_that_stands_still() {
    let crashes = in_the_middle("SIGSTOP", plain, |engine| {
        kill_process(engine, Signal::STOP).unwrap();
    });
    assert_eq!(crashes.await, 1);
}

/// A line of `/proc/PID/status`, in bytes.
fn memory_of(process: Pid, line: &str) -> u64 {
    let status = format!("/proc/{}/status", process.as_raw_nonzero());
    let status = std::fs::read_to_string(status).unwrap();
    let found = status.lines().find_map(|it| it.strip_prefix(line));
    let number = found.unwrap().trim_start_matches(':').trim();
    let kb: u64 = number.trim_end_matches(" kB").parse().unwrap();
    kb * 1024
}

/// What the engine has is enough for what it has begun, not for what is still to come.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_survive_an_engine_that_runs_out_of_memory() {
    let crashes = in_the_middle("RLIMIT_AS", with_schema, |engine| {
        let most = Some(memory_of(engine, "VmSize") + (256 << 10));
        let limit = Rlimit {
            current: most,
            maximum: most,
        };
        prlimit(Some(engine), Resource::As, limit).unwrap();
    });
    // On a crowded machine the next one may seem stuck once.
    let crashes = crashes.await;
    assert!(
        (1..=2).contains(&crashes),
        "{crashes}: the limit was too wide, or the next engine has it too"
    );
}

/// The engine inherits the service's limit, and wants a cache that is far beyond it.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_without_memory_for_its_model_is_a_reason_and_a_typed_refusal() {
    let broker = Mosquitto::start(&Setup::default());
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    let config = format!(
        "[model]\npackage = \"{}\"\n[engine]\ncontext_tokens = {CACHE_TOKENS}\n",
        package.display()
    );
    let mut appliance = Appliance::at(broker.port, &config);
    appliance.memory_bytes = Some(2 << 30);
    appliance.start();
    let status = appliance.until(|status| settled(&status["engine"]));
    assert_eq!(status["engine"], "unloadable", "{status}");
    let mut device = Device::start(Version::V5, broker.port, &[ANSWERS]).await;
    for n in 0..REQUESTS {
        let reply = device.ask(&Ask::new(plain(n).to_string())).await.json();
        assert_eq!(reply["status"], "refused", "{reply}");
        assert_eq!(reply["error"]["code"], "engine_unavailable", "{reply}");
    }
    let status = appliance.until(|status| status["open"] == 0);
    assert_eq!(status["engine"], "unloadable", "{status}");
    let log = appliance.log();
    let told = log
        .lines()
        .filter(|line| line.contains("not enough memory"));
    assert_eq!(
        told.count(),
        1,
        "it is told once, and not tried again and again"
    );
    assert!(appliance.stop().success());
}

/// Tokens of a cache that takes more than two gigabytes, whatever the model.
const CACHE_TOKENS: u32 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_engine_gives_its_memory_back_and_the_next_request_starts_it() {
    let (broker, mut appliance) = plant("[engine]\nunload_after_idle_s = 1\n");
    let mut device = Device::start(Version::V5, broker.port, &[ANSWERS]).await;
    for round in 0..2 {
        appliance.until(|status| status["engine"] == "unloaded");
        assert_eq!(children(appliance.pid(), "engine"), []);
        let ask = json!({
            "id": format!("u-{round}"), "task": "classify-urgency", "reply_to": ANSWERS,
            "input": format!("press {round} is on fire"),
        });
        let reply = device.ask(&Ask::new(ask.to_string())).await;
        assert_eq!(reply.json()["status"], "answered", "{}", reply.json());
    }
    let status = appliance.until(|status| status["open"] == 0);
    assert_eq!(status["engine_crashes"], 0);
}

/// SIGKILL of the service leaves no engine behind.
#[tokio::test(flavor = "multi_thread")]
async fn no_engine_outlives_its_service() {
    let (_broker, mut appliance) = plant("");
    let engine = engine_of(&appliance);
    appliance.kill();
    let place = format!("/proc/{}", engine.as_raw_nonzero());
    let begun = Instant::now();
    while Path::new(&place).exists() {
        assert!(begun.elapsed() < appliance::PATIENCE, "it is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}
