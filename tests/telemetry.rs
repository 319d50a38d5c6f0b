//! Figures over MQTT, with the real service and broker: live, over an outage, and over a crash.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "support/device.rs"]
#[allow(dead_code, unreachable_pub)]
mod device;
#[path = "panel/http.rs"]
#[allow(dead_code, unreachable_pub)]
mod http;
#[path = "support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;

use std::net::TcpListener;

use appliance::Appliance;
use device::{Device, Memory, Reply, Version};
use http::Http;
use lineside::telemetry::batch::Batch;
use mosquitto::{Mosquitto, Setup};

const TOPICS: &str = "lineside/line-3/telemetry/+";

/// A batch as it came.
struct Came {
    topic: String,
    batch: Batch,
}

async fn next(watcher: &mut Device) -> Came {
    let Reply {
        topic,
        payload,
        user_properties,
        content_type,
        retained,
        ..
    } = watcher.reply().await;
    assert_eq!(content_type.as_deref(), Some("application/zstd"));
    assert!(!retained);
    let historical = topic.ends_with("/replay").to_string();
    assert!(user_properties.contains(&("historical".into(), historical)));
    let batch = Batch::unpack(&payload).unwrap();
    Came { topic, batch }
}

/// A figure of the reporter in /metrics.
fn figure(http: Http, line: &str) -> u64 {
    let metrics = http.get("/metrics").body;
    let found = metrics.lines().find_map(|it| it.strip_prefix(line));
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count"
    )]
    found.map_or(0, |it| it.trim().parse::<f64>().unwrap() as u64)
}

const SENT: &str = "lineside_telemetry_samples_total{what=\"sent\"} ";
const BACKLOG: &str = "lineside_telemetry_backlog ";

#[tokio::test(flavor = "multi_thread")]
async fn figures_outlive_an_outage_and_a_crash_and_arrive_in_order() {
    let mut broker = Mosquitto::start(&Setup {
        persistent: true,
        ..Setup::default()
    });
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let more = format!(
        "[panel]\nlisten = \"127.0.0.1:{port}\"\n\
         [telemetry]\nevery_s = 1\nbatch_s = 2\nbatches_per_s = 100\n"
    );
    let mut appliance = Appliance::at(broker.port, &more);
    let memory = Memory::Session;
    let mut watcher = Device::named("watcher", Version::V5, memory, broker.port, &[TOPICS]).await;
    appliance.start();
    let http = Http(port);
    let first = next(&mut watcher).await;
    assert_eq!(first.topic, "lineside/line-3/telemetry/live");
    assert_eq!((first.batch.v, first.batch.seq), (1, 1));
    assert!(first.batch.figures.contains_key("tokens.completion"));
    let mut came = vec![first];

    broker.stop();
    http.until("/metrics", |_| figure(http, BACKLOG) >= 3);
    appliance.kill();
    appliance.launch();
    http.until("/metrics", |_| figure(http, BACKLOG) >= 4);
    broker.restart();
    while came
        .iter()
        .filter(|it| it.topic.ends_with("/replay"))
        .count()
        < 3
    {
        came.push(next(&mut watcher).await);
    }
    // On, until one that was taken after the outage.
    while came.last().unwrap().topic.ends_with("/replay")
        || came.last().unwrap().batch.figures["broker.connected"] == [0]
    {
        came.push(next(&mut watcher).await);
    }
    let seqs: Vec<_> = came.iter().map(|it| it.batch.seq).collect();
    // What was on its way when it crashed may come once more, and nothing is missing.
    let mut known: Vec<_> = seqs.clone();
    known.dedup();
    assert!(known.windows(2).all(|two| two[1] == two[0] + 1), "{seqs:?}");
    let times = came
        .iter()
        .flat_map(|it| it.batch.samples())
        .map(|it| it.at);
    let times: Vec<_> = times.collect();
    assert!(times.is_sorted(), "{times:?}");
    let offline = |it: &&Came| it.batch.figures["broker.connected"].first() == Some(&0);
    assert!(
        came.iter().any(|it| offline(&it)),
        "taken during the outage"
    );
    let metrics = http.get("/metrics").body;
    assert!(
        !metrics.contains("lineside_telemetry_dropped_total{"),
        "{metrics}"
    );
    assert!(figure(http, SENT) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_telemetry_nothing_is_said() {
    let broker = Mosquitto::start(&Setup::default());
    let mut watcher = Device::start(Version::V5, broker.port, &[TOPICS]).await;
    let off = "[telemetry]\nmqtt = false\nevery_s = 1\nbatch_s = 1\n";
    let mut appliance = Appliance::at(broker.port, off);
    appliance.start();
    assert!(watcher.is_quiet().await);
    assert!(appliance.stop().success());
}
