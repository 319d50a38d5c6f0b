//! What a package over the air costs the device: time, memory, and what a break wastes.
//!
//! Baseline, in the same run and alternating: **hash**, SHA-256 over the same bytes from the same
//! file, and nothing else. A figure is the median over rounds of the ratio within a round.
//!
//! | Figure | What |
//! | --- | --- |
//! | verify | every chunk of a large object held against its digest |
//! | fetch | from a folder into the store: read, hash, write, force out, name |
//! | serve | the same from a server on this machine, over HTTP |
//! | seal | the same from a folder, where models lie encrypted; and opened into memory, as for an engine |
//! | memory | the most that verify and fetch take beside what the process has before |
//! | resume | bytes that are read and hashed again after a break within a chunk |
//!
//! The large object is a file with holes: reading it costs memory, not a disk. Figures are written
//! as JSON too.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "figures are far below 2^52"
)]

use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lineside::clock::Clock;
use lineside::config::{AtRest, Form};
use lineside::ota::fetch::{Fetcher, Pulse as _, RealPulse, Stop, Tally, Terms, Wanted};
use lineside::ota::manifest::{File as ManifestFile, Manifest};
use lineside::ota::object::{CHUNK_BYTES, Object};
use lineside::ota::release::cut;
use lineside::ota::source::{Folder, Http, HttpSettings, Source};
use lineside::ota::store::{Store, object_path};
use lineside::package::FilePath;
use lineside::safe::{DeviceKey, ENDING, Reader, in_memory};
use ring::digest::{Context, SHA256};
use serde_json::json;

type Fault = Box<dyn std::error::Error>;

const MIB: u64 = 1 << 20;
const TERMS: Terms = Terms {
    max_bytes_per_s: None,
    min_bytes_per_s: 1,
    hours: None,
};

fn main() -> Result<(), Fault> {
    let quick = std::env::args().any(|it| it == "--quick");
    let (large, small, rounds) = if quick {
        (1024 * MIB, 128 * MIB, 3)
    } else {
        (8192 * MIB, 512 * MIB, 5)
    };
    let work =
        std::env::var_os("LINESIDE_BENCH_DIR").map_or("target/bench/work".into(), PathBuf::from);
    let work = work.join("ota");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;

    let verified = verify(&work.join("large"), large, rounds)?;
    let fetched = fetch(&work.join("small"), small, rounds)?;
    let resumed = resume(&work.join("small"), small)?;
    let row = |what: &str, value: String| println!("  {what:<58}{value:>16}");
    println!(
        "\nota, {} MiB verified, {} MiB fetched",
        large / MIB,
        small / MIB
    );
    row("verify, against hash", format!("{:.2}", verified.ratio));
    row("  a second", mib(verified.per_s));
    row("  memory (goal <= 10 MB)", mb(verified.memory));
    row(
        "fetch from a folder, against hash",
        format!("{:.2}", fetched.folder.ratio),
    );
    row("  a second", mib(fetched.folder.per_s));
    row("  memory (goal <= 10 MB)", mb(fetched.folder.memory));
    row(
        "fetch from a server, against hash",
        format!("{:.2}", fetched.server.ratio),
    );
    row("  a second", mib(fetched.server.per_s));
    row("  memory (goal <= 10 MB)", mb(fetched.server.memory));
    row(
        "fetch and encrypt, against hash",
        format!("{:.2}", fetched.sealed.ratio),
    );
    row("  a second", mib(fetched.sealed.per_s));
    row("  memory (goal <= 10 MB)", mb(fetched.sealed.memory));
    row(
        "open into memory, against hash",
        format!("{:.2}", fetched.open_ratio),
    );
    row(
        "write and force out alone, against hash",
        format!("{:.2}", fetched.write_ratio),
    );
    row(
        "read again after a break (goal <= a chunk)",
        mb(resumed.reread),
    );
    row("fetched twice after a break", mb(resumed.twice));
    let figure = |it: &Figure| json!({"ratio_to_hash": it.ratio, "bytes_per_s": it.per_s, "memory_bytes": it.memory});
    let json = json!({
        "large_bytes": large, "small_bytes": small, "chunk_bytes": CHUNK_BYTES,
        "verify": figure(&verified),
        "fetch_folder": figure(&fetched.folder),
        "fetch_server": figure(&fetched.server),
        "fetch_sealed": figure(&fetched.sealed),
        "open_ratio_to_hash": fetched.open_ratio,
        "write_ratio_to_hash": fetched.write_ratio,
        "resume": {"reread_bytes": resumed.reread, "fetched_twice_bytes": resumed.twice},
    });
    let file = std::env::var_os("LINESIDE_BENCH_JSON")
        .map_or_else(|| "target/bench/ota.json".into(), PathBuf::from);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, serde_json::to_string_pretty(&json)? + "\n")?;
    fs::remove_dir_all(work)?;
    Ok(())
}

fn mib(per_s: f64) -> String {
    format!("{:.0} MiB", per_s / MIB as f64)
}

fn mb(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// How something fares.
struct Figure {
    /// Its speed as a share of plain hashing's.
    ratio: f64,
    per_s: f64,
    memory: u64,
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Seconds of a piece of work.
fn timed<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<(f64, T), Fault> {
    let begun = Instant::now();
    let done = work()?;
    Ok((begun.elapsed().as_secs_f64(), done))
}

/// The most memory that a piece of work takes beside what was there before.
fn weighed<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<(u64, T), Fault> {
    fs::write("/proc/self/clear_refs", "5")?; // the peak is that of now
    let before = status("VmRSS")?;
    let done = work()?;
    Ok((status("VmHWM")?.saturating_sub(before), done))
}

fn status(key: &str) -> Result<u64, Fault> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|line| line.starts_with(key));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.ok_or("no such line")?.parse::<u64>()? * 1024)
}

/// The baseline.
fn hash(path: &Path) -> Result<(), Fault> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; 1 << 17];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => context.update(&piece[..read]),
        }
    }
    std::hint::black_box(context.finish());
    Ok(())
}

/// A repository with one object; bytes that a disk cannot compress away, or none at all.
fn repository(root: &Path, bytes: u64, holes: bool) -> Result<Object, Fault> {
    fs::create_dir_all(root)?;
    let path = root.join("made");
    let mut file = File::create(&path)?;
    if holes {
        file.set_len(bytes)?;
    } else {
        let mut piece = vec![0u8; 1 << 20];
        let mut state = 1u64;
        for _ in 0..bytes / MIB {
            for word in piece.chunks_exact_mut(8) {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                word.copy_from_slice(&state.to_le_bytes());
            }
            file.write_all(&piece)?;
        }
    }
    let object = cut(&path, CHUNK_BYTES)?;
    let place = root.join(object_path(object.sha256()));
    fs::create_dir_all(place.parent().ok_or("a folder")?)?;
    fs::rename(path, place)?;
    Ok(object)
}

fn verify(dir: &Path, bytes: u64, rounds: usize) -> Result<Figure, Fault> {
    let root = dir.join("models");
    let object = repository(&root, bytes, true)?;
    let store = Store::open(&root, 0)?;
    let path = store.object_file(&object);
    let (mut ratios, mut speeds, mut memory) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let (plain, ()) = timed(|| hash(&path))?;
        let (took, (weight, sound)) = timed(|| weighed(|| Ok(store.is_sound(&object)?)))?;
        assert!(sound);
        ratios.push(plain / took);
        speeds.push(bytes as f64 / took);
        memory = memory.max(weight);
    }
    fs::remove_dir_all(dir)?;
    Ok(Figure {
        ratio: median(ratios),
        per_s: median(speeds),
        memory,
    })
}

struct Fetched {
    folder: Figure,
    server: Figure,
    sealed: Figure,
    open_ratio: f64,
    write_ratio: f64,
}

fn fetch(dir: &Path, bytes: u64, rounds: usize) -> Result<Fetched, Fault> {
    let root = dir.join("repository");
    let object = repository(&root, bytes, false)?;
    let from = root.join(object_path(object.sha256()));
    let url = serve(root.clone())?;
    let mut figures = [const { (Vec::new(), Vec::new(), 0) }; 3];
    let (mut writes, mut opens) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (plain, ()) = timed(|| hash(&from))?;
        let (write, ()) = timed(|| write_alone(&from, &dir.join("copy")))?;
        writes.push(plain / write);
        for (which, (ratios, speeds, memory)) in figures.iter_mut().enumerate() {
            let device = dir.join("device");
            let source: Box<dyn Source> = match which {
                1 => Box::new(Http::new(&url, &HttpSettings::default())?),
                _ => Box::new(Folder::new(root.clone())),
            };
            let at_rest = if which == 2 {
                sealing()
            } else {
                AtRest::default()
            };
            let (took, (weight, tally)) =
                timed(|| weighed(|| bring(&device, &object, source, u64::MAX, &at_rest)))?;
            assert_eq!(tally.fetched_bytes, bytes);
            ratios.push(plain / took);
            speeds.push(bytes as f64 / took);
            *memory = weight.max(*memory);
            if which == 2 {
                opens.push(plain / open(&device, &object)?);
            }
            fs::remove_dir_all(&device)?;
        }
    }
    let [folder, server, sealed] = figures.map(|(ratios, speeds, memory)| Figure {
        ratio: median(ratios),
        per_s: median(speeds),
        memory,
    });
    let write_ratio = median(writes);
    Ok(Fetched {
        folder,
        server,
        sealed,
        open_ratio: median(opens),
        write_ratio,
    })
}

/// A device whose models lie encrypted.
fn sealing() -> AtRest {
    AtRest {
        form: Form::Encrypted,
        device_key: DeviceKey::read(&[7; 32]),
    }
}

/// Seconds to open what was fetched into memory.
fn open(device: &Path, object: &Object) -> Result<f64, Fault> {
    let path = device
        .join("models")
        .join(object_path(object.sha256()) + ENDING);
    let key = sealing().device_key.ok_or("a key")?;
    let (took, _memory) = timed(|| {
        let sealed = Reader::open(File::open(&path)?, &key, object.sha256().0)?;
        Ok(in_memory(sealed)?)
    })?;
    Ok(took)
}

/// A manifest of which this object is the model.
fn manifest(object: &Object) -> Result<Manifest, Fault> {
    let path = FilePath::parse("model.gguf").ok_or("a path")?;
    let object = object.clone();
    Ok(Manifest {
        name: "bench".into(),
        seq: 1,
        sheet: object.clone(),
        variants: Vec::new(),
        files: vec![ManifestFile { path, object }],
    })
}

/// What the disk alone takes: the same bytes, forced out as often.
fn write_alone(from: &Path, to: &Path) -> Result<(), Fault> {
    let (mut from, mut file) = (File::open(from)?, File::create(to)?);
    let mut piece = vec![0; 1 << 17];
    let mut written = 0;
    loop {
        let read = from.read(&mut piece)?;
        file.write_all(&piece[..read])?;
        written += read as u64;
        if read == 0 || written.is_multiple_of(CHUNK_BYTES) {
            file.sync_data()?;
        }
        if read == 0 {
            return Ok(fs::remove_file(to)?);
        }
    }
}

/// Brings an object into a store; breaks off after so many bytes.
fn bring(
    device: &Path,
    object: &Object,
    source: Box<dyn Source>,
    break_after: u64,
    at_rest: &AtRest,
) -> Result<Tally, Fault> {
    let store = Store::open(&device.join("models"), 0)?;
    let mut store = store.lying(at_rest.clone());
    store.note(&manifest(object)?);
    let mut sources = [source];
    let stop = Arc::new(AtomicBool::new(false));
    let mut pulse = RealPulse {
        clock: Clock::start(),
        stop: Arc::clone(&stop),
    };
    assert!(pulse.wanted());
    // Heard after each chunk; the next piece is then the last.
    let mut tell = |tally: &Tally| {
        if tally.fetched_bytes > break_after {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let paths = [object_path(object.sha256())];
    let mut fetcher = Fetcher::new(&mut store, &mut sources, &mut pulse, TERMS, &mut tell);
    fetcher.plan(&[object])?;
    let wanted = Wanted {
        object,
        paths: &paths,
    };
    match fetcher.object(wanted) {
        Ok(()) | Err(Stop::Unwanted) => Ok(fetcher.tally()),
        Err(other) => Err(other.into()),
    }
}

struct Resumed {
    reread: u64,
    twice: u64,
}

/// A break in the middle, within a chunk: the part is cut there, as a power cut would leave it.
fn resume(dir: &Path, bytes: u64) -> Result<Resumed, Fault> {
    let root = dir.join("repository");
    let path = fs::read_dir(root.join("objects/sha256"))?
        .next()
        .ok_or("an object")??;
    let path = fs::read_dir(path.path())?
        .next()
        .ok_or("an object")??
        .path();
    let object = cut(&path, CHUNK_BYTES)?;
    let device = dir.join("device");
    let source = || Box::new(Folder::new(root.clone())) as Box<dyn Source>;
    let plain = AtRest::default();
    let first = bring(&device, &object, source(), bytes / 2, &plain)?;
    let begun = fs::read_dir(device.join("models/incoming"))?;
    let begun = begun.last().ok_or("a part")??.path();
    let there = fs::metadata(&begun)?.len();
    // As many bytes of the next chunk as a break leaves at worst.
    let torn = (there / CHUNK_BYTES + 1) * CHUNK_BYTES - 1;
    let mut rest = File::open(&path)?;
    rest.seek(SeekFrom::Start(there))?;
    let mut part = fs::OpenOptions::new().append(true).open(&begun)?;
    std::io::copy(&mut rest.take(torn - there), &mut part)?;
    let second = bring(&device, &object, source(), u64::MAX, &plain)?;
    let fetched = first.fetched_bytes + (torn - there) + second.fetched_bytes;
    fs::remove_dir_all(&device)?;
    Ok(Resumed {
        reread: second.reread_bytes,
        twice: fetched.saturating_sub(bytes),
    })
}

/// The plainest server of files there can be.
fn serve(root: PathBuf) -> Result<String, Fault> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let root = root.clone();
            std::thread::spawn(move || answer(stream, &root).unwrap_or_default());
        }
    });
    Ok(url)
}

fn answer(mut stream: TcpStream, root: &Path) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default();
    let mut file = File::open(root.join(path.trim_start_matches('/')))?;
    let length = file.metadata()?.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    std::io::copy(&mut file, &mut stream)?;
    Ok(())
}
