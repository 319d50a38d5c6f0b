//! What figures cost: bytes of a sample on the disk and on the wire against plain JSON, how fast a
//! backlog drains, what a scrape takes, and what requests feel of a panel that is in heavy use.
//!
//! The service, the broker and the requests are real; there is no engine, so that a request's way is
//! short and whatever disturbs it shows. Requests are timed in turns, so that a busy machine disturbs
//! all alike: with the panel left alone; with open windows at all of its places and a scrape each
//! 100 ms; and with scrapers that make no pause, which also take the processor from everybody else.
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
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use appliance::Appliance;
use device::{Ask, Device, Version};
use http::Http;
use lineside::spool::record::seal;
use lineside::telemetry::batch::{self, Batch};
use mosquitto::{Mosquitto, Setup, free_port};
use serde_json::json;

/// The shipped settings have six samples in a batch; only the clock runs faster.
const FASTER: &str = "[telemetry]\nevery_s = 1\nbatch_s = 6\nbatches_per_s = 1000\n\
    [intake]\nrequests_per_client_per_s = 10000\nrequests_per_client_burst = 100000\n";
/// How the panel is used meanwhile: threads that scrape, and the pause of each.
const WATCHED: (usize, Duration) = (1, Duration::from_millis(100));
const HAMMERED: (usize, Duration) = (4, Duration::ZERO);
/// Requests of a turn.
const REQUESTS: usize = 300;
/// Samples of a batch, as set above.
const IN_A_BATCH: f64 = 6.0;

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

    let (mut wire, mut disk, mut plain, mut samples) = (0, 0, 0, 0);
    for no in 0..batches {
        for request in 0..50 {
            round_trip(&mut device, &format!("{no}-{request}")).await;
        }
        let payload = watcher.reply().await.payload;
        wire += payload.len();
        let packed = samples;
        for sample in Batch::unpack(&payload).unwrap().samples() {
            let line = json!({"at_ms": sample.at.0, "figures": sample.figures});
            plain += line.to_string().len();
            samples += 1;
        }
        disk += seal(&batch::body(samples - packed, &payload)).len();
    }

    broker.stop();
    // Longer than the patience of a test.
    while figure(http, "lineside_telemetry_backlog ") < f64::from(backlog) {
        std::thread::sleep(Duration::from_millis(200));
    }
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
    let (mut alone, mut watched, mut hammered) = (Vec::new(), Vec::new(), Vec::new());
    let mut scraped = [0, 0];
    for round in 0..rounds {
        timed(&mut device, &format!("a{round}"), &mut alone).await;
        for (way, (times, scraped)) in [WATCHED, HAMMERED]
            .into_iter()
            .zip([&mut watched, &mut hammered].into_iter().zip(&mut scraped))
        {
            let users = Users::start(http, way);
            timed(&mut device, &format!("u{round}-{}", way.0), times).await;
            *scraped += users.stop();
        }
    }
    let alone = percentiles(&mut alone);
    let (watched, hammered) = (percentiles(&mut watched), percentiles(&mut hammered));
    let [wire, disk, plain] = [wire, disk, plain].map(|it| it as f64 / samples as f64);
    let figures = json!({
        "plain_json_bytes_per_sample": plain, "wire_bytes_per_sample": wire,
        "disk_bytes_per_sample": disk, "wire_ratio": wire / plain, "disk_ratio": disk / plain,
        "drained_batches": held, "drain_s": drain_s, "drained_samples_per_s": held * IN_A_BATCH / drain_s,
        "scrape_bytes": bytes, "scrape_p50_ms": scrape[0], "scrape_p99_ms": scrape[1],
        "request_alone_p50_ms": alone[0], "request_alone_p99_ms": alone[1],
        "request_watched_p50_ms": watched[0], "request_watched_p99_ms": watched[1],
        "request_hammered_p50_ms": hammered[0], "request_hammered_p99_ms": hammered[1],
        "watched_ratio_p50": watched[0] / alone[0], "watched_ratio_p99": watched[1] / alone[1],
        "hammered_ratio_p50": hammered[0] / alone[0], "hammered_ratio_p99": hammered[1] / alone[1],
        "windows": lineside::panel::MAX_STREAMS,
        "scrapes_watched": scraped[0], "scrapes_hammered": scraped[1],
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

/// A turn of requests, one after the other.
async fn timed(device: &mut Device, turn: &str, times: &mut Vec<Duration>) {
    for no in 0..REQUESTS {
        times.push(round_trip(device, &format!("{turn}-{no}")).await);
    }
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

/// Scrapers, and a window at every place that the panel has.
struct Users {
    end: Arc<AtomicBool>,
    scraped: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    windows: Vec<TcpStream>,
}

impl Users {
    fn start(http: Http, (scrapers, pause): (usize, Duration)) -> Self {
        let (end, scraped) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let open = |_| {
            let mut stream = http.connect();
            let ask = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(ask.as_bytes()).unwrap();
            stream
        };
        let windows: Vec<_> = (0..lineside::panel::MAX_STREAMS).map(open).collect();
        // A window that nobody reads would soon get nothing more.
        let read = |window: &TcpStream| {
            let mut window = window.try_clone().unwrap();
            std::thread::spawn(move || {
                let mut bytes = [0; 1 << 14];
                while window.read(&mut bytes).is_ok_and(|count| count > 0) {}
            })
        };
        let mut threads: Vec<_> = windows.iter().map(read).collect();
        let scraper = |_| {
            let (end, scraped) = (Arc::clone(&end), Arc::clone(&scraped));
            std::thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    http.get("/metrics");
                    scraped.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(pause);
                }
            })
        };
        threads.extend((0..scrapers).map(scraper));
        Self {
            end,
            scraped,
            threads,
            windows,
        }
    }

    fn stop(self) -> u64 {
        self.end.store(true, Ordering::Relaxed);
        for window in self.windows {
            let _ = window.shutdown(Shutdown::Both); // the panel may have hung up first
        }
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.scraped.load(Ordering::Relaxed)
    }
}
