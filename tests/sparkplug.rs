//! The appliance as an edge node of Sparkplug B: over a real broker, read by somebody else's codec.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "support/device.rs"]
#[allow(dead_code, unreachable_pub)]
mod device;
#[path = "support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use appliance::Appliance;
use device::{Ask, Device, Memory, Version};
use mosquitto::{Mosquitto, Setup};
use serde_json::{Value, json};

const HOST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sparkplug/host.py");
const REQUIREMENTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/sparkplug/requirements.txt"
);

/// A Python with the codec; installed once below `target`. None where that is impossible.
fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sparkplug");
            let python = place.join("bin/python");
            let runs = |command: &mut Command| command.status().is_ok_and(|it| it.success());
            let has_it = || {
                let mut command = Command::new(&python);
                runs(
                    command
                        .args(["-c", "import pysparkplug"])
                        .stderr(Stdio::null()),
                )
            };
            let mut venv = Command::new("python3");
            let mut pip = Command::new(place.join("bin/pip"));
            let is_there = has_it()
                || (runs(venv.args(["-m", "venv"]).arg(&place))
                    && runs(pip.args(["install", "-q", "-r", REQUIREMENTS]))
                    && has_it());
            if !is_there {
                // Past the harness, which shows nothing of a test that passes.
                let line =
                    b"\nSKIPPED: no codec of Sparkplug B: python3 with venv and PyPI are needed\n";
                let _ = std::io::stderr().write_all(line);
            }
            is_there.then_some(python)
        })
        .as_deref()
}

/// What the host's side says to this.
fn host(python: &Path, args: &[&str], input: &str) -> String {
    let mut child = Command::new(python)
        .arg(HOST)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A host that writes down what it hears.
struct Listener {
    device: Device,
    python: &'static Path,
    heard: String,
}

impl Listener {
    async fn start(python: &'static Path, port: u16) -> Self {
        let memory = Memory::Session;
        let device = Device::named("scada", Version::V5, memory, port, &["spBv1.0/plant/#"]).await;
        Self {
            device,
            python,
            heard: String::new(),
        }
    }

    /// The kind of the next message of the node.
    async fn next(&mut self) -> String {
        loop {
            let reply = self.device.reply().await;
            let levels: Vec<_> = reply.topic.split('/').collect();
            let ["spBv1.0", "plant", kind, "line-3"] = levels[..] else {
                panic!("{}", reply.topic);
            };
            assert!(!reply.retained, "{kind}");
            if kind != "NCMD" {
                write!(self.heard, "{kind} ").unwrap();
                for byte in &reply.payload {
                    write!(self.heard, "{byte:02x}").unwrap();
                }
                self.heard.push('\n');
                return kind.to_owned();
            }
        }
    }

    async fn until(&mut self, wanted: &str) {
        while self.next().await != wanted {}
    }

    async fn tell(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        let mut ask = Ask::new(payload).on(topic);
        ask.retain = topic.contains("STATE");
        self.device.publish(&ask).await;
    }

    /// A request that the appliance refuses: it has no engine.
    async fn ask(&mut self, id: &str) {
        let request = json!({"id": id, "prompt": "p"}).to_string();
        self.device.publish(&Ask::new(request)).await;
    }

    async fn state(&mut self, online: &str) {
        let state = host(self.python, &["state", online], "");
        self.tell("spBv1.0/STATE/scada", state).await;
    }

    /// Everything that was heard so far, as the host reads it.
    fn read(&self) -> Vec<Value> {
        let read = host(self.python, &["read"], &self.heard);
        let read = read.lines().map(|line| serde_json::from_str(line).unwrap());
        read.collect()
    }
}

fn broker() -> Mosquitto {
    Mosquitto::start(&Setup {
        persistent: true,
        // The listener may come back later than the node does.
        more: "queue_qos0_messages true\n",
        ..Setup::default()
    })
}

fn metric<'v>(message: &'v Value, name: &str) -> Option<&'v Value> {
    let metrics = message["metrics"].as_array().unwrap();
    metrics.iter().find(|it| it["name"] == name)
}

fn bd_seq(message: &Value) -> u64 {
    metric(message, "bdSeq").unwrap()["value"].as_u64().unwrap()
}

fn of_kind<'m>(messages: &'m [Value], kind: &str) -> Vec<&'m Value> {
    messages.iter().filter(|it| it["kind"] == kind).collect()
}

/// Whether each birth begins its sequence, and each message after it goes on with it.
fn in_sequence(messages: &[Value]) {
    let mut next = None;
    for message in messages {
        match message["kind"].as_str().unwrap() {
            "NBIRTH" => {
                assert_eq!(message["seq"], 0);
                next = Some(1);
            }
            "NDATA" => {
                assert_eq!(message["seq"].as_u64(), next, "{message}");
                next = next.map(|seq| (seq + 1) % 256);
            }
            _ => next = None,
        }
    }
}

fn all_historical(message: &Value, wanted: bool) -> bool {
    let metrics = message["metrics"].as_array().unwrap();
    metrics.iter().all(|it| it["historical"] == wanted)
}

/// Some looks at the figures go by.
const LOOKS: std::time::Duration = std::time::Duration::from_secs(3);
const SPARKPLUG: &str = "[telemetry]\nmqtt = false\nevery_s = 1\nbatches_per_s = 100\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_host_reads_births_changes_and_deaths_over_crash_and_outage() {
    let Some(python) = python() else { return };
    let mut broker = broker();
    let mut scada = Listener::start(python, broker.port).await;
    let more = format!("{SPARKPLUG}sparkplug = {{ group = \"plant\" }}\n");
    let mut appliance = Appliance::at(broker.port, &more);
    appliance.start();
    scada.until("NBIRTH").await;
    // There is no engine: it is refused, which is a figure that was not there before.
    scada.ask("a").await;
    scada.until("NBIRTH").await;
    scada.ask("b").await;
    scada.until("NDATA").await;
    let command = host(python, &["rebirth"], "");
    let command: Vec<_> = (0..command.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&command[at..at + 2], 16).unwrap())
        .collect();
    scada.tell("spBv1.0/plant/NCMD/line-3", command).await;
    scada.until("NBIRTH").await;
    appliance.kill();
    scada.until("NDEATH").await;
    appliance.start();
    scada.until("NBIRTH").await;
    scada.ask("c").await;
    scada.until("NBIRTH").await;
    let before = scada.read().len();

    broker.stop();
    appliance.until(|status| status["state"] == "offline");
    tokio::time::sleep(LOOKS).await; // the node has noticed, too
    let asked = json!({"cmd": "ask", "request": {"id": "d", "prompt": "what now"}});
    let reply = appliance.command(&asked).unwrap();
    assert_eq!(reply["error"]["code"], "engine_unavailable", "{reply}");
    tokio::time::sleep(LOOKS).await;
    broker.restart();
    scada.until("NBIRTH").await;
    scada.until("NDATA").await;
    assert!(appliance.stop().success());
    scada.until("NDEATH").await;

    let all = scada.read();
    in_sequence(&all);
    let births = of_kind(&all, "NBIRTH");
    let rebirth = |birth: &Value| metric(birth, "Node Control/Rebirth").unwrap()["value"].clone();
    assert!(births.iter().all(|it| rebirth(it) == false));
    let numbers: Vec<_> = births.iter().map(|it| bd_seq(it)).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(
        numbers[..4],
        [0, 0, 0, 1],
        "a rebirth keeps it, a restart goes on"
    );
    assert!(numbers.last() > Some(&1), "{numbers:?}");
    let deaths: Vec<_> = of_kind(&all, "NDEATH")
        .iter()
        .map(|it| bd_seq(it))
        .collect();
    assert_eq!(
        deaths.first(),
        Some(&0),
        "the will of the connection that broke"
    );
    assert_eq!(deaths.last(), numbers.last());
    // At the first look the appliance's own line may not be there yet.
    let later = births[2];
    assert_eq!(metric(later, "state").unwrap()["value"], "online");
    assert_eq!(metric(later, "queue/open").unwrap()["kind"], "INT64");
    assert_eq!(
        metric(later, "broker/connected").unwrap()["kind"],
        "BOOLEAN"
    );
    let refused = "requests/restricted-stays/refused/engine_unavailable";
    let counted = of_kind(&all[..before], "NDATA");
    let counted = counted.into_iter().filter_map(|it| metric(it, refused));
    assert_eq!(counted.map(|it| it["value"].clone()).next(), Some(json!(2)));
    // What changed during the outage came afterwards, as history with its own times.
    let after = &all[before..];
    let birth = after.iter().position(|it| it["kind"] == "NBIRTH").unwrap();
    let history: Vec<_> = after[birth + 1..]
        .iter()
        .filter(|it| it["kind"] == "NDATA" && all_historical(it, true))
        .collect();
    let came_late = history.iter().any(|it| {
        let counted = metric(it, refused);
        counted
            .is_some_and(|it| it["value"] == 2 && it["at"].as_u64() < after[birth]["at"].as_u64())
    });
    assert!(came_late, "{after:?}");
    assert!(
        of_kind(&all[..before], "NDATA")
            .iter()
            .all(|it| all_historical(it, false))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_primary_host_the_node_is_silent_and_tells_afterwards() {
    let Some(python) = python() else { return };
    let broker = broker();
    let mut scada = Listener::start(python, broker.port).await;
    let more =
        format!("{SPARKPLUG}sparkplug = {{ group = \"plant\", primary_host = \"scada\" }}\n");
    let mut appliance = Appliance::at(broker.port, &more);
    appliance.start();
    assert!(scada.device.is_quiet().await);
    scada.state("true").await;
    scada.until("NBIRTH").await;
    scada.state("false").await;
    scada.until("NDEATH").await;
    scada.ask("a").await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await; // some looks go by
    assert!(scada.device.is_quiet().await);
    scada.state("true").await;
    scada.until("NBIRTH").await;
    scada.until("NDATA").await;
    let all = scada.read();
    in_sequence(&all);
    let births: Vec<_> = of_kind(&all, "NBIRTH")
        .iter()
        .map(|it| bd_seq(it))
        .collect();
    assert_eq!(births[0], bd_seq(of_kind(&all, "NDEATH")[0]));
    assert!(births[1] > births[0], "{births:?}");
    let last = all.last().unwrap();
    assert!(all_historical(last, true), "{last}");
}
