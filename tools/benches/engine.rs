//! What the engine's shortcuts are worth, what the service adds to them, and how both do against
//! what a plant would build without them.
//!
//! A figure is a ratio to a baseline of the same run, asked in turn, so that a busy machine
//! disturbs both alike; it is the median over rounds of the ratio within a round. Each stands on
//! the sheet beside its goal.
//!
//! | Part | Figure | What against what |
//! | --- | --- | --- |
//! | [`pair`] | choices, JSON | time of an answer ÷ that of a plain engine: nothing shared, scored, forced or guessed |
//! | | computed | tokens sent through the model ÷ those of its own that a request needs: its input, and its answer but for the last token |
//! | | burst | plain time for eight requests with a new prefix of 1,000 tokens ÷ time |
//! | | text | tokens a second behind the first ÷ those of bare decoding in this process |
//! | | hop | there and back with a request that is refused at once, halved |
//! | [`mixed`] | urgent | time of short urgent answers alone, and while long prompts are read and texts written |
//! | [`server`] | direct | time of an answer ÷ that of `llama-server` over HTTP |
//! | [`plant`] | duplicates | computations for many identical requests at once, and for repeats |
//! | | memory | service and engine, having answered |
//! | [`line`] | one device | time from request to reply through MQTT and the durable spool ÷ that of `peer.py` in front of `llama-server` |
//! | | crowds | answers a second with 8 and 32 devices ÷ those of the same script |
//!
//! `tools/bench engine [--quick] [--threads N] [--only models|service] [MODEL.gguf …]` prints the
//! sheet, for the bundled model and those that are named, and writes the figures as JSON. Where
//! `LLAMA_SERVER` names no program, what needs one is left out, loudly.

#![allow(clippy::cast_precision_loss, reason = "figures are far below 2^52")]
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]

#[path = "../../tests/support/appliance.rs"]
#[allow(dead_code)]
mod appliance;
#[path = "../train/answer/engine.rs"]
#[allow(dead_code)]
mod bare;
#[path = "../../tests/support/device.rs"]
#[allow(dead_code)]
mod device;
#[path = "engine/figures.rs"]
mod figures;
#[path = "engine/line.rs"]
mod line;
#[path = "engine/mixed.rs"]
mod mixed;
#[path = "../../tests/support/mosquitto.rs"]
#[allow(dead_code)]
mod mosquitto;
#[path = "engine/pair.rs"]
mod pair;
#[path = "engine/peer.rs"]
mod peer;
#[path = "engine/plant.rs"]
mod plant;
#[path = "probe.rs"]
mod probe;
#[path = "engine/process.rs"]
mod process;
#[path = "engine/server.rs"]
mod server;
#[path = "engine/system.rs"]
mod system;
#[path = "engine/tasks.rs"]
mod tasks;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use lineside::package::Package;
use llama_cpp_2::llama_backend::LlamaBackend;
use serde_json::{Value, json};

use figures::Sheet;
use peer::Peer;
use plant::{Messages, Plant};
use process::CONTEXT_TOKENS;
use tasks::Tasks;

/// Rounds that are not counted.
const WARM_UP: usize = 5;

/// How much of everything.
struct Effort {
    rounds: usize,
    bursts: usize,
    hops: usize,
    duplicates: usize,
    line: line::Effort,
}

const THOROUGH: Effort = Effort {
    rounds: 200,
    bursts: 9,
    hops: 5000,
    duplicates: 15,
    line: line::Effort {
        alone: 500,
        rounds: 7,
        messages: 600,
    },
};
const QUICK: Effort = Effort {
    rounds: 20,
    bursts: 3,
    hops: 500,
    duplicates: 3,
    line: line::Effort {
        alone: 60,
        rounds: 3,
        messages: 160,
    },
};

/// Which half is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Only {
    Models,
    Service,
}

struct Arguments {
    effort: Effort,
    threads: u16,
    only: Option<Only>,
    models: Vec<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    let package = Package::open(&folder).map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let tasks = Tasks::of(&package)?;
    let mut sheet = Sheet::default();
    if server::program().is_none() {
        sheet.part("LEFT OUT: every comparison with llama-server, and the script in front of it");
        sheet.note("LLAMA_SERVER names no program to measure against");
    }
    let mut figures = serde_json::Map::new();
    if arguments.only != Some(Only::Service) {
        measure_models(&package, &tasks, &arguments, &mut sheet, &mut figures)?;
    }
    if arguments.only != Some(Only::Models) {
        let measured = measure_service(&folder, &package, &tasks, &arguments, &mut sheet)?;
        figures.insert("service".into(), measured);
    }
    figures.insert("sheet".into(), sheet.close());
    let file = std::env::var_os("LINESIDE_BENCH_JSON")
        .map_or_else(|| "target/bench/engine.json".into(), PathBuf::from);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")?;
    Ok(())
}

/// The engine alone, with each model.
fn measure_models(
    package: &Package,
    tasks: &Tasks,
    arguments: &Arguments,
    sheet: &mut Sheet,
    figures: &mut serde_json::Map<String, Value>,
) -> Result<()> {
    let backend = {
        let mut backend = LlamaBackend::init()?;
        backend.void_logs();
        backend
    };
    let (variant, _) = package.variants().last().context("a package has a model")?;
    let mut models = vec![package.model_path(variant)];
    models.extend(arguments.models.iter().cloned());
    for model in &models {
        let name = model.file_stem().unwrap_or_default().to_string_lossy();
        sheet.part(&name);
        let measured = measure(model, tasks, arguments, &backend, sheet)
            .with_context(|| format!("measuring {}", model.display()))?;
        figures.insert(name.into_owned(), measured);
    }
    Ok(())
}

fn measure(
    model: &Path,
    tasks: &Tasks,
    arguments: &Arguments,
    backend: &LlamaBackend,
    sheet: &mut Sheet,
) -> Result<Value> {
    let rounds = arguments.effort.rounds;
    let (mut engine, mut figures) = pair::measure(model, tasks, arguments, backend, sheet)?;
    figures["mixed"] = mixed::measure(&mut engine, tasks, rounds, sheet)?;
    if let Some(program) = server::program() {
        let cache = CONTEXT_TOKENS * u32::from(process::SEQUENCES);
        let mut server = server::Server::start(&program, model, arguments.threads, cache)?;
        figures["llama_server"] = server::compare(&mut engine, &mut server, tasks, rounds, sheet)?;
    }
    engine.shutdown()?;
    Ok(figures)
}

/// The service with the bundled package: the variant that it chooses, at a broker.
fn measure_service(
    folder: &Path,
    package: &Package,
    tasks: &Tasks,
    arguments: &Arguments,
    sheet: &mut Sheet,
) -> Result<Value> {
    // One thread for all devices: the cores belong to what is measured.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let effort = &arguments.effort;
    let (variant, _) = package.variants().next().context("a package has a model")?;
    let model = package.model_path(variant);
    let name = model.file_stem().unwrap_or_default().to_string_lossy();
    sheet.part(&format!("the service, with {name}"));
    let count = Messages::for_duplicates(effort.duplicates) + effort.line.all();
    let mut messages = Messages::generated(&tasks.triage, count)?;
    let mut plant = Plant::start(folder, arguments.threads)?;
    let task = tasks.triage.as_str();
    let duplicates = plant::duplicates(&plant, task, &mut messages, effort.duplicates, sheet);
    let duplicates = runtime.block_on(duplicates)?;
    let memory = plant::memory(&plant, sheet)?;
    sheet.part(&format!("through MQTT and the durable spool, with {name}"));
    let peer = server::program().map(|program| {
        let port = plant.broker.port;
        Peer::start(&program, &model, tasks, arguments.threads, port)
    });
    let peer = peer.transpose()?;
    let line = line::measure(
        &plant,
        peer.as_ref(),
        task,
        &mut messages,
        effort.line,
        sheet,
    );
    let line = runtime.block_on(line)?;
    plant.stop();
    Ok(json!({ "duplicates": duplicates, "memory_kb": memory, "line": line }))
}

impl Arguments {
    fn read() -> Result<Self> {
        let mut read = Self {
            effort: THOROUGH,
            threads: 1,
            only: None,
            models: Vec::new(),
        };
        // Cargo adds `--bench` to what it runs.
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => read.effort = QUICK,
                "--threads" => {
                    let threads = words.next().context("--threads wants a number")?;
                    read.threads = threads.parse().context("--threads wants a number")?;
                }
                "--only" => {
                    read.only = match words.next().as_deref() {
                        Some("models") => Some(Only::Models),
                        Some("service") => Some(Only::Service),
                        _ => bail!("--only wants \"models\" or \"service\""),
                    }
                }
                option if option.starts_with('-') => bail!("there is no option {option}"),
                model => read.models.push(model.into()),
            }
        }
        Ok(read)
    }
}
