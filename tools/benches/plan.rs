//! What the plan of memory is worth: for a model, what was predicted from its header beside what an
//! engine really takes, once it was worked to its full batch, cache and context.
//!
//! | Figure | What |
//! | --- | --- |
//! | predicted | all parts of the engine's process, from the file's header alone |
//! | taken | the process's anonymous memory, which nothing but its end gives back |
//! | pss | the same with pages of files, shared ones by their share |
//!
//! `tools/bench plan [--quick] [MODEL.gguf …]` measures both variants of the bundled model with its
//! instructions, and those that are named without any. Each is run with several settings; with
//! `--quick` with one. Figures are written as JSON too.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../../tests/support/engine.rs"]
mod support;
#[path = "../../tests/support/takes.rs"]
mod takes;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use lineside::appliance::plan;
use lineside::engine::protocol::{Flash, Instruction, KvType, Load, Mapping, Options};
use lineside::governor::memory::{Parts, Shape};
use lineside::package::{Package, gguf};
use serde_json::{Value, json};

/// Tokens of a pass, as the appliance sets them.
const BATCH_TOKENS: u32 = 512;

fn main() -> Result<()> {
    let (mut quick, mut models) = (false, Vec::new());
    // Cargo adds `--bench` to what it runs.
    for word in std::env::args().skip(1).filter(|word| word != "--bench") {
        match word.as_str() {
            "--quick" => quick = true,
            option if option.starts_with('-') => bail!("there is no option {option}"),
            model => models.push(PathBuf::from(model)),
        }
    }
    let runs = if quick { vec![run(512, 8)] } else { runs() };
    let mut figures = Vec::new();
    println!(
        "{:<18}{:>6}{:>4}{:>6}{:>6}{:>6}{:>8}{:>11}{:>10}{:>7}",
        "model", "ctx", "seq", "batch", "kv", "flash", "threads", "predicted", "taken", "off"
    );
    let package = support::bundled();
    let instructions = support::instructions(&package);
    for (variant, header) in package.variants() {
        let subject = Subject {
            name: variant.quantization.clone(),
            path: package.model_path(variant),
            shape: plan::shape(header),
            package: Some(&package),
            instructions: instructions.clone(),
        };
        for options in &runs {
            figures.push(subject.measure(options)?);
        }
    }
    for model in models {
        let subject = Subject::file(model)?;
        for options in &runs {
            figures.push(subject.measure(options)?);
        }
    }
    let file = std::env::var_os("LINESIDE_BENCH_JSON")
        .map_or_else(|| "target/bench/plan.json".into(), PathBuf::from);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")?;
    Ok(())
}

fn run(context_tokens: u32, sequences: u16) -> Options {
    let all = context_tokens * (u32::from(sequences) + 1);
    Options {
        context_tokens,
        cache_tokens: all.min(context_tokens.max(16 << 10)),
        sequences,
        queue: 64,
        batch_tokens: BATCH_TOKENS,
        // Passes get as long as they can.
        pass_ms: 250,
        mapping: Mapping::Read,
        ..support::options()
    }
}

fn runs() -> Vec<Options> {
    let whole = run(512, 8);
    vec![
        whole,
        run(512, 1),
        run(1024, 4),
        Options {
            kv_type: KvType::Q8_0,
            ..whole
        },
        Options {
            kv_type: KvType::Q4_0,
            ..whole
        },
        Options {
            flash_attention: Flash::Off,
            ..whole
        },
        Options {
            threads: None,
            ..whole
        },
        // The engine cuts its passes to a quarter of a second, so that a large model on a slow
        // machine never comes to a whole batch; to this one it does.
        Options {
            batch_tokens: 64,
            ..whole
        },
    ]
}

/// A model that is measured.
struct Subject<'p> {
    name: String,
    path: PathBuf,
    shape: Shape,
    package: Option<&'p Package>,
    instructions: Vec<Instruction>,
}

impl Subject<'_> {
    fn file(path: PathBuf) -> Result<Self> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Self {
            name: name.into_owned(),
            shape: shape_of(&path).with_context(|| path.display().to_string())?,
            path,
            package: None,
            instructions: Vec::new(),
        })
    }

    fn measure(&self, options: &Options) -> Result<Value> {
        let mut engine = support::Engine::load(Load {
            model: self.path.to_string_lossy().into_owned(),
            adapter: None,
            draft: None,
            options: *options,
            instructions: self.instructions.clone(),
        })
        .map_err(|why| anyhow!("{}: {why}", self.path.display()))?;
        let loaded = takes::taken(engine.process.id());
        takes::fill(&mut engine, options.sequences, self.package);
        let taken = takes::taken(engine.process.id());
        let parts = takes::predicted(&self.shape, options, self.instructions.len());
        self.tell(options, &parts, taken);
        let parts_json: serde_json::Map<String, Value> = parts
            .list()
            .into_iter()
            .map(|(name, bytes)| (name.to_owned(), bytes.into()))
            .collect();
        Ok(json!({
            "model": self.name, "context_tokens": options.context_tokens,
            "cache_tokens": options.cache_tokens, "sequences": options.sequences,
            "kv_type": format!("{:?}", options.kv_type), "batch_tokens": options.batch_tokens,
            "flash_attention": format!("{:?}", options.flash_attention),
            "predicted_bytes": parts.engine_bytes(), "parts": parts_json,
            "taken": { "anonymous": taken.anonymous, "pss": taken.pss, "rss": taken.rss },
            "after_load": { "anonymous": loaded.anonymous, "pss": loaded.pss, "rss": loaded.rss },
        }))
    }

    fn tell(&self, options: &Options, parts: &Parts, taken: takes::Taken) {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let (predicted, real) = (
            parts.engine_bytes() as f64 / 1_048_576.0,
            taken.anonymous as f64 / 1_048_576.0,
        );
        let threads = options.threads.map_or("auto".into(), |it| it.to_string());
        println!(
            "{:<18}{:>6}{:>4}{:>6}{:>6}{:>6}{:>8}{:>7.1} MiB{:>6.1} MiB{:>+6.1}%",
            self.name.chars().take(17).collect::<String>(),
            options.context_tokens,
            options.sequences,
            options.batch_tokens,
            format!("{:?}", options.kv_type).to_lowercase(),
            format!("{:?}", options.flash_attention).to_lowercase(),
            threads,
            predicted,
            real,
            (predicted / real - 1.0) * 100.0
        );
    }
}

fn shape_of(path: &Path) -> Result<Shape> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    Ok(plan::shape(&gguf::read(BufReader::new(file), bytes)?))
}
