//! What figures cost: bytes of a sample on the disk and on the wire against plain JSON, how fast a
//! backlog drains, what a scrape takes, and what requests feel of a panel that is being hammered.
//!
//! The service, the broker and the requests are real; there is no engine, so that a request's way is
//! short and whatever disturbs it shows. Requests are timed in turns, with the panel left alone and
//! with scrapers and open windows at all of its places, so that a busy machine disturbs both alike.
//!
//! `cargo bench --bench telemetry [-- --quick]` prints the table and writes
//! `target/bench/telemetry.json`.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, missing_docs)]

#[path = "../../tests/support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "../../tests/support/device.rs"]
#[allow(dead_code, unreachable_pub)]
mod device;
#[path = "../../tests/panel/http.rs"]
#[allow(dead_code, unreachable_pub)]
mod http;
#[path = "../../tests/support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use appliance::Appliance;
use device::{Ask, Device, Version};
use http::Http;
use lineside::telemetry::batch::Batch;
use mosquitto::{Mosquitto, Setup, free_port};
use serde_json::json;

/// The shipped settings have six samples in a batch; only the clock runs faster.
const FASTER: &str = "[telemetry]\nevery_s = 1\nbatch_s = 6\nbatches_per_s = 1000\n\
    [intake]\nrequests_per_client_per_s = 10000\nrequests_per_client_burst = 100000\n";
const SCRAPERS: usize = 4;

#[tokio::main]
async fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (batches, backlog, scrapes, rounds) = if quick {
        (4, 4, 50, 3)
    } else {
        (20, 20, 500, 10)
    };
    let mut broker = Mosquitto::start(&Setup::default());
    let port = free_port();
    let more = format!("[panel]\nlisten = \"127.0.0.1:{port}\"\n{FASTER}");
    let mut appliance = Appliance::at(broker.port, &more);
    let http = Http(port);
    let topic = ["lineside/line-3/telemetry/+"];
    let mut watcher = Device::start(Version::V5, broker.port, &topic).await;
    let reply = ["lineside/line-3/reply/+"];
    let mut device = Device::start(Version::V5, broker.port, &reply).await;
    appliance.start();

    let (mut wire, mut plain, mut samples) = (0, 0, 0);
    for no in 0..batches {
        for request in 0..50 {
            round_trip(&mut device, &format!("{no}-{request}")).await;
        }
        let payload = watcher.reply().await.payload;
        wire += payload.len();
        for sample in Batch::unpack(&payload).unwrap().samples() {
            let line = json!({"at_ms": sample.at.0, "figures": sample.figures});
            plain += line.to_string().len();
            samples += 1;
        }
    }

    broker.stop();
    http.until("/metrics", |_| {
        figure(http, "lineside_telemetry_backlog ") >= f64::from(backlog)
    });
    let stored = figure(http, "lineside_telemetry_backlog_bytes ");
    let held = figure(http, "lineside_telemetry_backlog ");
    let sent = figure(http, "lineside_telemetry_batches_total ");
    broker.restart();
    http.until("/metrics", |_| {
        figure(http, "lineside_telemetry_batches_total ") > sent
    });
    let begun = Instant::now();
    http.until("/metrics", |_| {
        figure(http, "lineside_telemetry_backlog ") < 1.0
    });
    let drain_s = begun.elapsed().as_secs_f64();

    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..scrapes {
        let begun = Instant::now();
        bytes = http.get("/metrics").body.len();
        times.push(begun.elapsed());
    }
    let scrape = percentiles(&mut times);

    let mut device = Device::start(Version::V5, broker.port, &reply).await;
    appliance.until(|status| status["state"] == "online");
    let (mut alone, mut hammered, mut scraped) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        for no in 0..100 {
            alone.push(round_trip(&mut device, &format!("a{round}-{no}")).await);
        }
        let hammer = Hammer::start(http);
        for no in 0..100 {
            hammered.push(round_trip(&mut device, &format!("h{round}-{no}")).await);
        }
        scraped += hammer.stop();
    }
    let (alone, hammered) = (percentiles(&mut alone), percentiles(&mut hammered));
    let per = |all: f64, count: f64| all / count;
    let (wire, plain) = (
        per(wire as f64, f64::from(samples)),
        per(plain as f64, f64::from(samples)),
    );
    let disk = per(stored, held * 6.0);
    let figures = json!({
        "plain_json_bytes_per_sample": plain, "wire_bytes_per_sample": wire,
        "disk_bytes_per_sample": disk, "wire_ratio": wire / plain, "disk_ratio": disk / plain,
        "drained_batches": held, "drain_s": drain_s,
        "scrape_bytes": bytes, "scrape_p50_ms": scrape[0], "scrape_p99_ms": scrape[1],
        "request_alone_p50_ms": alone[0], "request_alone_p99_ms": alone[1],
        "request_hammered_p50_ms": hammered[0], "request_hammered_p99_ms": hammered[1],
        "scrapes_while_hammered": scraped,
    });
    for (name, value) in figures.as_object().unwrap() {
        println!("{name:32} {value}");
    }
    let file = std::env::var_os("LINESIDE_BENCH_JSON");
    let file = file.map_or_else(
        || PathBuf::from("target/bench/telemetry.json"),
        PathBuf::from,
    );
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, format!("{figures:#}\n")).unwrap();
}

/// A request and its reply (a refusal: there is no engine).
async fn round_trip(device: &mut Device, id: &str) -> Duration {
    let ask = Ask::new(json!({"id": id, "prompt": "p"}).to_string());
    let begun = Instant::now();
    device.ask(&ask).await;
    begun.elapsed()
}

fn figure(http: Http, line: &str) -> f64 {
    let metrics = http.get("/metrics").body;
    let found = metrics.lines().find_map(|it| it.strip_prefix(line));
    found.map_or(0.0, |it| it.trim().parse().unwrap())
}

/// Half and 99 of 100, in milliseconds.
fn percentiles(times: &mut [Duration]) -> [f64; 2] {
    times.sort();
    let at = |permille: usize| times[(times.len() - 1) * permille / 1000].as_secs_f64() * 1000.0;
    [at(500), at(990)]
}

/// Scrapers without a pause, and a window at every place.
struct Hammer {
    end: Arc<AtomicBool>,
    scraped: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
    windows: Vec<std::net::TcpStream>,
}

impl Hammer {
    fn start(http: Http) -> Self {
        let (end, scraped) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let window = |_| {
            let mut stream = http.connect();
            let ask = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(ask.as_bytes()).unwrap();
            stream
        };
        let windows = (0..lineside::panel::MAX_STREAMS).map(window).collect();
        let scraper = |_| {
            let (end, scraped) = (Arc::clone(&end), Arc::clone(&scraped));
            std::thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    http.get("/metrics");
                    scraped.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let threads = (0..SCRAPERS).map(scraper).collect();
        Self {
            end,
            scraped,
            threads,
            windows,
        }
    }

    fn stop(self) -> u64 {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        drop(self.windows);
        self.scraped.load(Ordering::Relaxed)
    }
}
