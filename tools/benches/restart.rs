//! How long the first answer takes when there is no engine yet: after it was unloaded, with and
//! without the beginnings that lie on the disk, and after it was killed.
//!
//! A whole appliance is asked over its control socket, so everything counts that a device would
//! wait for: the start of the process, the model, the instruction, the answer. Cold and warm
//! starts alternate; before a cold one the files are removed. A figure is the median of its rounds.
//!
//! | Figure | What |
//! | --- | --- |
//! | cold, warm | from the request to its answer, where it starts an engine that was unloaded |
//! | killed | the same, where the engine was ended by SIGKILL just before the request |
//!
//! `tools/bench restart [--quick] [MODEL.gguf …]` measures the bundled model, and those that are
//! named with an instruction of a page's length. Figures are written as JSON too.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../../tests/support/appliance.rs"]
#[allow(dead_code)]
mod appliance;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lineside::package::make::{Existing, Order, make};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use appliance::{Appliance, fresh_dir};

/// An instruction as they are written for models that were not trained for it: some 400 tokens.
const SENTENCE: &str = "The press stops when its guard is open, and nobody resets it alone. ";
const SENTENCES: usize = 25;
/// What an engine must have lived for its death not to count as one in a row, and a bit.
const GOOD_LIFE: Duration = Duration::from_secs(11);
/// How long anything may take before the bench gives up.
const PATIENCE: Duration = Duration::from_mins(2);

fn main() -> Result<()> {
    let (mut rounds, mut kills, mut models) = (15, 5, Vec::new());
    // Cargo adds `--bench` to what it runs.
    for word in std::env::args().skip(1).filter(|word| word != "--bench") {
        match word.as_str() {
            "--quick" => (rounds, kills) = (5, 2),
            option if option.starts_with('-') => bail!("there is no option {option}"),
            model => models.push(PathBuf::from(model)),
        }
    }
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    let mut figures = serde_json::Map::new();
    figures.insert(
        "bundled".into(),
        measure("bundled", &bundled, "triage", rounds, kills)?,
    );
    for model in &models {
        let name = model.file_stem().unwrap_or_default().to_string_lossy();
        let dir = fresh_dir();
        let package = package_of(model, &dir)?;
        let measured = measure(&name, &package, "department", rounds, kills)?;
        figures.insert(name.into_owned(), measured);
        fs::remove_dir_all(dir)?;
    }
    let file = std::env::var_os("LINESIDE_BENCH_JSON")
        .map_or_else(|| "target/bench/restart.json".into(), PathBuf::from);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")?;
    Ok(())
}

/// A package with this model and one task.
fn package_of(model: &Path, dir: &Path) -> Result<PathBuf> {
    let tasks = dir.join("tasks.toml");
    let system = SENTENCE.repeat(SENTENCES);
    fs::write(
        &tasks,
        format!(
            "description = \"a bench\"\n[[task]]\nname = \"department\"\nprompt_version = \"1\"\n\
             system = \"{}\"\nanswer = {{ choices = [\"maintenance\", \"quality\"] }}\n\
             max_tokens = 8\nthreshold = 0.0\n",
            system.trim_end()
        ),
    )?;
    let out = dir.join("package");
    let order = Order {
        models: vec![model.to_owned()],
        tasks,
        gate: None,
        out: out.clone(),
        name: None,
        seq: None,
        existing: Existing::Keep,
    };
    make(&order).with_context(|| format!("a package of {}", model.display()))?;
    Ok(out)
}

fn measure(name: &str, package: &Path, task: &str, rounds: usize, kills: usize) -> Result<Value> {
    println!("\n{name}");
    let mut plant = Plant::start(package, task, "[engine]\nunload_after_idle_s = 1\n")?;
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    plant.ask()?; // the first look at the files of model and program is nobody's figure
    for _ in 0..rounds {
        plant.until_unloaded()?;
        plant.forget()?;
        let (took, cached) = plant.ask()?;
        ensure!(cached == 0, "it was to be cold");
        cold.push(took);
        plant.until_unloaded()?;
        let (took, cached) = plant.ask()?;
        ensure!(cached > 0, "it was to be warm");
        warm.push(took);
    }
    let bytes = plant.saved_bytes()?;
    drop(plant);
    let mut plant = Plant::start(package, task, "")?;
    let mut killed = Vec::new();
    for _ in 0..kills {
        plant.ask()?;
        std::thread::sleep(GOOD_LIFE);
        kill_process(plant.engine()?, Signal::KILL)?;
        killed.push(plant.ask()?.0);
    }
    let (cold, warm, killed) = (median(cold), median(warm), median(killed));
    let row = |what: &str, value: String| println!("  {what:<52}{value:>16}");
    row("first answer after unloading, cold", shown(cold));
    row("first answer after unloading, warm", shown(warm));
    row("first answer after SIGKILL (goal <= 1 s)", shown(killed));
    row("beginnings on the disk", format!("{bytes} bytes"));
    let ms = |span: Duration| span.as_secs_f64() * 1000.0;
    Ok(json!({
        "cold_ms": ms(cold), "warm_ms": ms(warm), "killed_ms": ms(killed), "saved_bytes": bytes,
    }))
}

fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans[spans.len() / 2]
}

fn shown(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1000.0)
}

/// An appliance without a broker that anybody uses.
struct Plant {
    appliance: Appliance,
    task: String,
    asked: u32,
}

impl Plant {
    fn start(package: &Path, task: &str, more: &str) -> Result<Self> {
        let (dir, port) = (fresh_dir(), free_port()?);
        let config = format!(
            "[appliance]\nstate_dir = \"{}\"\n[broker]\nembedded_listen = \"127.0.0.1:{port}\"\n\
             [log]\nto = \"stderr\"\n[model]\npackage = \"{}\"\n{more}",
            dir.join("state").display(),
            package.display()
        );
        let mut appliance = Appliance::configured(dir, &config);
        appliance.start();
        let loaded = |status: &Value| {
            ["ready", "unloaded"]
                .iter()
                .any(|it| status["engine"] == *it)
        };
        appliance.until(loaded);
        let task = task.to_owned();
        Ok(Self {
            appliance,
            task,
            asked: 0,
        })
    }

    /// How long an answer took, and how many tokens of its prompt were there.
    fn ask(&mut self) -> Result<(Duration, u64)> {
        self.asked += 1;
        // Another text each time, of the same length: an answer that was given is not computed.
        let input = format!("spindle {:04} of CNC-07 is loud and hot", self.asked);
        let request = json!({
            "id": format!("r-{}", self.asked), "task": self.task, "input": input,
            "deadline_ms": 60_000,
        });
        let line = json!({ "cmd": "ask", "request": request });
        let begun = Instant::now();
        let reply = self.appliance.command(&line).context("an answer")?;
        let took = begun.elapsed();
        ensure!(reply["status"] == "answered", "{reply}");
        let cached = reply["tokens"]["cached"].as_u64();
        Ok((took, cached.context("tokens are counted")?))
    }

    /// Waits until what was computed is kept and the engine is gone.
    fn until_unloaded(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.saved_bytes()? == 0 {
            ensure!(begun.elapsed() < PATIENCE, "nothing is saved");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.appliance
            .until(|status| status["engine"] == "unloaded");
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        self.appliance.dir.join("state/engine/beginnings")
    }

    /// Bytes of whole files.
    fn saved_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(self.folder())? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|it| it == "state") {
                bytes += entry.metadata()?.len();
            }
        }
        Ok(bytes)
    }

    fn forget(&self) -> Result<()> {
        for entry in fs::read_dir(self.folder())? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    fn engine(&self) -> Result<Pid> {
        let service = self.appliance.pid().as_raw_nonzero();
        let tasks = format!("/proc/{service}/task");
        for task in fs::read_dir(tasks)? {
            let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            if let Some(first) = children.split_whitespace().next() {
                return Pid::from_raw(first.parse()?).context("a process number");
            }
        }
        bail!("there is no engine");
    }
}

/// A port that nobody listens on.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}
