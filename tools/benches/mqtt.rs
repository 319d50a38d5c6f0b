//! What the appliance adds to a message's way: from request to reply, against a bare echo.
//!
//! Both devices stand at the same mosquitto in the same run, and are asked in turn, so that a
//! busy machine disturbs both alike. The echo takes a message and publishes it again, QoS 1 and
//! `TCP_NODELAY` on both sides: the least that any MQTT service needs. The appliance has no
//! engine here, so the difference is its own way through intake, durable spool and outbox.
//!
//! `cargo bench --bench mqtt [-- --quick]` prints the table and writes `target/bench/mqtt.json`.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

#[path = "../../tests/support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "../../tests/support/device.rs"]
#[allow(dead_code, unreachable_pub)]
mod device;
#[path = "../../tests/support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;
#[path = "probe.rs"]
#[allow(unreachable_pub)]
mod probe;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use appliance::{Appliance, fresh_dir};
use device::{Ask, Device, Version};
use mosquitto::{Mosquitto, Setup, free_port};
use probe::Probe;
use rumqttc::NetworkOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use serde_json::{Value, json};

/// Limits that stand in nobody's way: what is measured is not the gate.
const NO_LIMITS: &str = "[intake]\nmax_in_flight = 100000\nmax_in_flight_per_client = 100000\n\
    requests_per_client_per_s = 10000\nrequests_per_client_burst = 100000\n";
const ANSWERS: &str = "devices/bench/answers";

/// How much of everything.
struct Effort {
    round_trips: usize,
    starts: usize,
    at_once: Duration,
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let effort = if quick {
        Effort {
            round_trips: 300,
            starts: 3,
            at_once: Duration::from_secs(1),
        }
    } else {
        Effort {
            round_trips: 3000,
            starts: 9,
            at_once: Duration::from_secs(4),
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let report = runtime.block_on(measure(&effort));
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    fs::create_dir_all(&folder).unwrap();
    let text = serde_json::to_string_pretty(&report).unwrap();
    fs::write(folder.join("mqtt.json"), text + "\n").unwrap();
}

async fn measure(effort: &Effort) -> Value {
    let broker = Mosquitto::start(&Setup {
        more: "log_type none\n",
        ..Setup::default()
    });
    let mut appliance = Appliance::at(broker.port, NO_LIMITS);
    appliance.start();
    let idle_kb = rss_kb(&appliance);
    let round_trip = round_trips(&broker, effort).await;
    let mut throughput = Vec::new();
    for devices in [1, 8, 32] {
        throughput.push(replies_a_second(&broker, devices, effort.at_once).await);
    }
    let loaded_kb = rss_kb(&appliance);
    assert!(appliance.stop().success());
    let start = starts(&broker, effort);
    let embedded_kb = embedded_rss_kb();
    let row = |what: &str, value: String| println!("{what:<44}{value:>14}");
    println!();
    let us = |key: &str| round_trip[key].as_f64().unwrap();
    for (what, key) in [
        ("bare echo, median", "echo_p50_us"),
        ("bare echo, p99", "echo_p99_us"),
        ("request to reply, median", "appliance_p50_us"),
        ("request to reply, p99", "appliance_p99_us"),
        (
            "difference at the median (goal <= 1000)",
            "difference_p50_us",
        ),
        ("one fdatasync of 4 KiB there, median", "fdatasync_p50_us"),
    ] {
        row(what, format!("{:.0} us", us(key)));
    }
    row("ratio at the median", format!("{:.2}", us("ratio_p50")));
    for line in &throughput {
        let what = format!("replies a second, {} devices", line["devices"]);
        row(
            &what,
            format!("{:.0}", line["replies_per_s"].as_f64().unwrap()),
        );
    }
    row(
        "start to online, median (goal <= 150)",
        format!("{:.0} ms", start["p50_ms"].as_f64().unwrap()),
    );
    row("memory when idle (goal <= 13000)", format!("{idle_kb} kB"));
    row("memory after the load", format!("{loaded_kb} kB"));
    row(
        "memory when idle, embedded broker",
        format!("{embedded_kb} kB"),
    );
    json!({
        "round_trip": round_trip,
        "throughput": throughput,
        "start": start,
        "rss_kb": { "idle": idle_kb, "after_load": loaded_kb, "embedded_idle": embedded_kb },
    })
}

async fn round_trips(broker: &Mosquitto, effort: &Effort) -> Value {
    tokio::spawn(echo(broker.port));
    let mut device = Device::start(Version::V5, broker.port, &[ANSWERS]).await;
    let to_echo = |n: usize| {
        let payload = json!({ "prompt": "stop or go?", "id": format!("b-{n}") });
        Ask::new(payload.to_string()).to(ANSWERS).on("echo/request")
    };
    let to_appliance = |n: usize| to_echo(n).on("lineside/line-3/request/bench");
    device.publish(&to_echo(0)).await;
    while device
        .reply_within(Duration::from_millis(500))
        .await
        .is_none()
    {
        device.publish(&to_echo(0)).await; // until it listens
    }
    while device
        .reply_within(Duration::from_millis(500))
        .await
        .is_some()
    {}
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    let mut probe = Probe::at(fresh_dir());
    for n in 0..effort.round_trips + WARM_UP {
        let echoed = round_trip(&mut device, &to_echo(n)).await;
        let answered = round_trip(&mut device, &to_appliance(n)).await;
        probe.sync();
        if n >= WARM_UP {
            bare.push(echoed);
            ours.push(answered);
        }
    }
    let (echo_50, echo_99) = quantiles_us(&mut bare);
    let (ours_50, ours_99) = quantiles_us(&mut ours);
    json!({
        "echo_p50_us": echo_50,
        "echo_p99_us": echo_99,
        "appliance_p50_us": ours_50,
        "appliance_p99_us": ours_99,
        "difference_p50_us": ours_50 - echo_50,
        "ratio_p50": ours_50 / echo_50,
        "fdatasync_p50_us": probe.median_us(),
    })
}

/// Round trips that are not counted.
const WARM_UP: usize = 50;

async fn round_trip(device: &mut Device, ask: &Ask) -> Duration {
    let begun = Instant::now();
    device.send(ask);
    device.reply().await;
    let span = begun.elapsed();
    device.acked().await;
    span
}

/// The least that an MQTT service can do.
async fn echo(port: u16) {
    let mut options = MqttOptions::new("bare-echo", "127.0.0.1", port);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    let (client, mut line) = AsyncClient::new(options, 1024);
    client
        .try_subscribe("echo/request", QoS::AtLeastOnce)
        .unwrap();
    // Ends with the broker.
    while let Ok(event) = line.poll().await {
        if let Event::Incoming(Packet::Publish(message)) = event {
            let to = message.properties.unwrap().response_topic.unwrap();
            client
                .try_publish(to, QoS::AtLeastOnce, false, message.payload)
                .unwrap();
        }
    }
}

/// Each device has eight requests under way all the time.
async fn replies_a_second(broker: &Mosquitto, devices: usize, span: Duration) -> Value {
    const UNDER_WAY: usize = 8;
    let mut tasks = Vec::new();
    for number in 0..devices {
        let port = broker.port;
        tasks.push(tokio::spawn(async move {
            let answers = format!("devices/t{number}/answers");
            let mut device = Device::start(Version::V5, port, &[&answers]).await;
            let topic = format!("lineside/line-3/request/t{devices}-{number}");
            let ask = |n: usize| {
                let payload = json!({ "prompt": "stop or go?", "id": format!("{n}") });
                Ask::new(payload.to_string()).to(&answers).on(&topic)
            };
            for n in 0..UNDER_WAY {
                device.send(&ask(n));
            }
            let begun = Instant::now();
            let mut replies = 0;
            while begun.elapsed() < span {
                device.reply().await;
                replies += 1;
                device.send(&ask(UNDER_WAY + replies));
            }
            replies
        }));
    }
    let mut replies = 0;
    for task in tasks {
        replies += task.await.unwrap();
    }
    #[allow(clippy::cast_precision_loss)] // a count of seconds' work
    let rate = replies as f64 / span.as_secs_f64();
    json!({ "devices": devices, "under_way_each": UNDER_WAY, "replies_per_s": rate })
}

/// From the start of the process until its status says online.
fn starts(broker: &Mosquitto, effort: &Effort) -> Value {
    let mut spans = Vec::new();
    for _ in 0..effort.starts {
        let mut appliance = Appliance::at(broker.port, "");
        let begun = Instant::now();
        appliance.launch();
        appliance.until_often(|status| status["state"] == "online");
        spans.push(begun.elapsed());
        assert!(appliance.stop().success());
    }
    let (median, worst) = quantiles_us(&mut spans);
    json!({ "p50_ms": median / 1000.0, "worst_ms": worst / 1000.0, "times": effort.starts })
}

fn embedded_rss_kb() -> u64 {
    let (dir, port) = (fresh_dir(), free_port());
    let state = dir.join("state");
    let config = format!(
        "[appliance]\nstate_dir = \"{}\"\n[broker]\nembedded_listen = \"127.0.0.1:{port}\"\n",
        state.display()
    );
    let mut appliance = Appliance::configured(dir, &config);
    appliance.start();
    rss_kb(&appliance)
}

/// Memory of the process once it has settled.
fn rss_kb(appliance: &Appliance) -> u64 {
    std::thread::sleep(Duration::from_secs(2));
    let status = format!("/proc/{}/status", appliance.pid().as_raw_nonzero());
    let status = fs::read_to_string(status).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The median and the 99th of a hundred, in microseconds.
fn quantiles_us(spans: &mut [Duration]) -> (f64, f64) {
    spans.sort();
    let at = |percent: usize| spans[(spans.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    (at(50), at(99))
}
