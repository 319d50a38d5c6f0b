//! What durability costs: the spool against the plainest way to make records durable.
//!
//! Baselines, in the same run and alternating with the spool, on the same disk:
//!
//! - **group**: one `write` of as many records as are in flight, then one `fdatasync`;
//! - **single**: one `write` and one `fdatasync` for each record.
//!
//! A figure is the median over rounds of the ratio within a round, so that a disk whose speed
//! drifts does not favour either side.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are far below 2^52 and not negative"
)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lineside::clock::Clock;
use lineside::spool::shell::{self, Command, Event, Token};
use lineside::spool::sled::{SledDisk, SledSettings};
use lineside::spool::{Caps, DiskError, Op, PerTree, Room, Spool, Tree, record};
use serde_json::{Value, json};

/// Records in flight at once.
const IN_FLIGHT: [usize; 4] = [1, 16, 64, 1024];

/// Bytes of a record's body.
const BODY_BYTES: [usize; 2] = [256, 1024];

/// Records already queued when one more is made durable.
const DEPTHS: [u64; 4] = [100, 1_000, 10_000, 100_000];

/// Bytes around a body: version and checksum.
const ENVELOPE_BYTES: usize = 5;

/// The bench is never refused for want of room.
const NO_CAP: u64 = u64::MAX / 4;

type Fault = Box<dyn std::error::Error>;

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let dir =
        std::env::var_os("LINESIDE_BENCH_DIR").map_or("target/bench/work".into(), PathBuf::from);
    fs::create_dir_all(&dir)?;
    if let [child, records, bytes] = &arguments[..]
        && child == "memory-child"
    {
        return memory_child(&dir, records.parse()?, bytes.parse()?);
    }
    let effort = if arguments.iter().any(|argument| argument == "--quick") {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    let figures = json!({
        "intakes": intakes(&dir, &effort)?,
        "latency": latency(&dir, &effort)?,
        "memory": memory(&effort)?,
    });
    if let Some(path) = std::env::var_os("LINESIDE_BENCH_JSON") {
        fs::write(&path, serde_json::to_vec_pretty(&figures)?)?;
        println!("\nfigures: {}", Path::new(&path).display());
    }
    fs::remove_dir_all(&dir)?;
    Ok(())
}

/// How long to measure.
struct Effort {
    rounds: usize,
    round: Duration,
    samples: usize,
    depths: &'static [u64],
    queued: &'static [(u64, usize)],
}

impl Effort {
    const QUICK: Self = Self {
        rounds: 3,
        round: Duration::from_millis(100),
        samples: 200,
        depths: DEPTHS.split_at(3).0,
        queued: &[(20_000, 256)],
    };
    const FULL: Self = Self {
        rounds: 7,
        round: Duration::from_millis(400),
        samples: 1_000,
        depths: &DEPTHS,
        queued: &[(100_000, 256), (50_000, 1024)],
    };
}

/// The spool's thread and both ends of its channels.
struct Rig {
    commands: SyncSender<Command>,
    events: Receiver<Event>,
    thread: JoinHandle<Result<(), DiskError>>,
    body: Vec<u8>,
    next: u64,
    acked: u64,
}

impl Rig {
    fn start(dir: &Path, body_bytes: usize) -> Result<Self, Fault> {
        let store = dir.join("store");
        let _ = fs::remove_dir_all(&store);
        let settings = SledSettings {
            dir: store,
            ballast_bytes: 1 << 20,
        };
        let mut bytes = PerTree::default();
        for tree in Tree::ALL {
            bytes.set(tree, NO_CAP);
        }
        let caps = Caps {
            bytes,
            headroom_bytes: 0,
        };
        let spool = Spool::open(SledDisk::open(settings)?.disk, caps)?;
        let (commands, inbox) = sync_channel(2048);
        let (outbox, events) = channel();
        let thread = shell::spawn(
            spool,
            inbox,
            move |event| drop(outbox.send(event)),
            Clock::start(),
            || (),
        )?;
        Ok(Self {
            commands,
            events,
            thread,
            body: vec![0x5a; body_bytes],
            next: 1,
            acked: 0,
        })
    }

    /// Sends one intake; with `ack`, a record that was there before goes in the same transaction.
    fn send(&mut self, ack: bool) -> Result<(), Fault> {
        self.body[..8].copy_from_slice(&self.next.to_le_bytes());
        let mut ops = vec![Op::Append {
            tree: Tree::Inbox,
            seq: self.next,
            record: record::seal(&self.body),
            room: Room::IfFree,
            leased_until: None,
        }];
        if ack {
            self.acked += 1;
            ops.push(Op::Ack {
                tree: Tree::Inbox,
                seq: self.acked,
            });
        }
        let token = Token(self.next);
        self.next += 1;
        self.commands.send(Command::Commit { token, ops })?;
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Fault> {
        match self.events.recv()? {
            Event::Committed { .. } => Ok(()),
            other @ (Event::Refused { .. }
            | Event::Failed { .. }
            | Event::Records { .. }
            | Event::Restored { .. }) => Err(format!("not committed: {other:?}").into()),
        }
    }

    /// Records made durable per second with `in_flight` of them under way.
    fn rate(&mut self, in_flight: usize, span: Duration, ack: bool) -> Result<f64, Fault> {
        let started = Instant::now();
        for _ in 0..in_flight {
            self.send(ack)?;
        }
        let mut done = 0;
        while started.elapsed() < span {
            self.receive()?;
            self.send(ack)?;
            done += 1;
        }
        let rate = f64::from(done) / started.elapsed().as_secs_f64();
        for _ in 0..in_flight {
            self.receive()?;
        }
        Ok(rate)
    }

    fn fill(&mut self, until: u64) -> Result<(), Fault> {
        let mut under_way = 0;
        while self.next <= until || under_way > 0 {
            if self.next <= until && under_way < 1024 {
                self.send(false)?;
                under_way += 1;
            } else {
                self.receive()?;
                under_way -= 1;
            }
        }
        Ok(())
    }

    fn stop(self) -> Result<(), Fault> {
        drop(self.commands);
        Ok(self
            .thread
            .join()
            .map_err(|_| "the spool's thread panicked")??)
    }
}

/// The baseline: records per second by plain appends of `group` records and an `fdatasync` each.
fn raw_rate(dir: &Path, body_bytes: usize, group: usize, span: Duration) -> Result<f64, Fault> {
    let path = dir.join("raw");
    let mut file = File::create(&path)?;
    let bytes = vec![0x5a; (body_bytes + ENVELOPE_BYTES) * group];
    let started = Instant::now();
    let mut groups = 0;
    while started.elapsed() < span {
        file.write_all(&bytes)?;
        file.sync_data()?;
        groups += group;
    }
    let rate = groups as f64 / started.elapsed().as_secs_f64();
    fs::remove_file(&path)?;
    Ok(rate)
}

fn intakes(dir: &Path, effort: &Effort) -> Result<Value, Fault> {
    println!("durable intakes (medians of {} rounds)\n", effort.rounds);
    println!(
        "{:>5} {:>9} {:>10} {:>10} {:>10} {:>7} {:>7} {:>9} {:>8} {:>8} {:>6}",
        "bytes",
        "in flight",
        "spool/s",
        "+ack/s",
        "group/s",
        "ratio",
        "+ack",
        "x single",
        "us CPU",
        "written",
        "file"
    );
    let mut rows = Vec::new();
    for body_bytes in BODY_BYTES {
        for in_flight in IN_FLIGHT {
            rows.push(intake_row(dir, effort, body_bytes, in_flight)?);
        }
    }
    println!(
        "\nratio: to group; +ack: each intake also removes an older record; us CPU: for one\n\
         record, both threads and the bench; written: bytes to the disk for a byte of record;\n\
         file: the store's size for a byte alive"
    );
    Ok(rows.into())
}

fn intake_row(
    dir: &Path,
    effort: &Effort,
    body_bytes: usize,
    in_flight: usize,
) -> Result<Value, Fault> {
    let mut columns: [Vec<f64>; 8] = Default::default();
    let mut rig = Rig::start(dir, body_bytes)?;
    rig.rate(in_flight, effort.round / 4, false)?; // warm
    for _ in 0..effort.rounds {
        let group = raw_rate(dir, body_bytes, in_flight, effort.round)?;
        let before = (rig.next, cpu()?, written()?);
        let spool = rig.rate(in_flight, effort.round, false)?;
        let records = (rig.next - before.0) as f64;
        let cpu_us = cpu()?.saturating_sub(before.1).as_secs_f64() * 1e6 / records;
        let amplification =
            (written()? - before.2) as f64 / records / (body_bytes + ENVELOPE_BYTES) as f64;
        let single = raw_rate(dir, body_bytes, 1, effort.round / 4)?;
        let with_ack = rig.rate(in_flight, effort.round, true)?;
        let row = [
            spool,
            with_ack,
            group,
            spool / group,
            with_ack / group,
            spool / single,
            cpu_us,
            amplification,
        ];
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value);
        }
    }
    let alive = (rig.next - 1 - rig.acked) * (body_bytes + ENVELOPE_BYTES) as u64;
    let file = fs::metadata(dir.join("store/db"))?.len() as f64 / alive as f64;
    rig.stop()?;
    let [
        spool,
        with_ack,
        group,
        ratio,
        ack_ratio,
        times_single,
        cpu_us,
        amplification,
    ] = columns.map(|mut column| quantile(&mut column, 0.5));
    println!(
        "{body_bytes:>5} {in_flight:>9} {spool:>10.0} {with_ack:>10.0} {group:>10.0} {ratio:>7.2} {ack_ratio:>7.2} {times_single:>9.2} {cpu_us:>8.1} {amplification:>8.2} {file:>6.2}"
    );
    Ok(json!({
        "body_bytes": body_bytes, "in_flight": in_flight, "spool_per_s": spool,
        "spool_with_ack_per_s": with_ack, "raw_group_per_s": group, "ratio_to_group": ratio,
        "ratio_with_ack": ack_ratio, "ratio_to_single": times_single, "cpu_us_per_record": cpu_us,
        "written_per_byte": amplification, "file_per_live_byte": file,
    }))
}

fn latency(dir: &Path, effort: &Effort) -> Result<Value, Fault> {
    println!("\nlatency of one durable intake (256 bytes, one in flight), by records queued\n");
    println!(
        "{:>8} {:>9} {:>9} {:>12} {:>7}",
        "queued", "p50 us", "p99 us", "raw p50 us", "ratio"
    );
    let mut rows = Vec::new();
    let mut rig = Rig::start(dir, BODY_BYTES[0])?;
    for depth in effort.depths {
        rig.fill(*depth)?;
        let (mut spool, mut raw) = (Vec::new(), Vec::new());
        let mut file = File::create(dir.join("raw"))?;
        for _ in 0..effort.samples {
            let started = Instant::now();
            rig.send(false)?;
            rig.receive()?;
            spool.push(started.elapsed().as_secs_f64() * 1e6);
            let started = Instant::now();
            file.write_all(&rig.body)?;
            file.sync_data()?;
            raw.push(started.elapsed().as_secs_f64() * 1e6);
        }
        let (p50, p99) = (quantile(&mut spool, 0.5), quantile(&mut spool, 0.99));
        let raw = quantile(&mut raw, 0.5);
        println!(
            "{depth:>8} {p50:>9.0} {p99:>9.0} {raw:>12.0} {:>7.2}",
            p50 / raw
        );
        rows.push(json!({"queued": depth, "p50_us": p50, "p99_us": p99, "raw_p50_us": raw}));
    }
    rig.stop()?;
    Ok(rows.into())
}

fn memory(effort: &Effort) -> Result<Value, Fault> {
    println!("\nmemory, each in a process of its own\n");
    println!(
        "{:>8} {:>6} {:>12} {:>12} {:>18}",
        "queued", "bytes", "idle KiB", "queued KiB", "B/record - payload"
    );
    let mut rows = Vec::new();
    for (records, bytes) in effort.queued {
        let child = Process::new(std::env::current_exe()?)
            .args(["memory-child", &records.to_string(), &bytes.to_string()])
            .output()?;
        let figures: Value = serde_json::from_slice(&child.stdout)?;
        let (idle, queued) = (
            figures["idle_bytes"].as_f64(),
            figures["queued_bytes"].as_f64(),
        );
        let (idle, queued) = idle.zip(queued).ok_or("the child gave no figures")?;
        let over = (queued - idle) / *records as f64 - *bytes as f64;
        println!(
            "{records:>8} {bytes:>6} {:>12.0} {:>12.0} {over:>18.0}",
            idle / 1024.0,
            queued / 1024.0
        );
        rows.push(json!({"queued": records, "body_bytes": bytes, "idle_bytes": idle, "queued_bytes": queued, "over_payload_bytes": over}));
    }
    Ok(rows.into())
}

fn memory_child(dir: &Path, records: u64, bytes: usize) -> Result<(), Fault> {
    let mut rig = Rig::start(dir, bytes)?;
    rig.fill(1)?;
    let idle = resident()?;
    rig.fill(records)?;
    println!(
        "{}",
        json!({"idle_bytes": idle, "queued_bytes": resident()?})
    );
    rig.stop()
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

/// Processor time of this process.
fn cpu() -> Result<Duration, Fault> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(
        time.tv_sec.try_into()?,
        time.tv_nsec.try_into()?,
    ))
}

/// Bytes that this process had the disk write.
fn written() -> Result<u64, Fault> {
    let io = fs::read_to_string("/proc/self/io")?;
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("no write_bytes")?.parse()?)
}

/// Bytes in memory.
fn resident() -> Result<u64, Fault> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("no VmRSS")?.parse::<u64>()? * 1024)
}
