//! The engine: which package it serves, how it is run, and its task.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::GOODBYE;
use crate::clock::Clock;
use crate::config::{self, Settings};
use crate::engine::order::Book;
use crate::engine::process::{self, Ends, Launch, Processes};
use crate::engine::protocol::{Allowance, Flash, KvType, Mapping, Options, Without};
use crate::engine::stockroom::Stockroom;
use crate::engine::supervise::{ActiveModel, Beginnings, Succession, Supervisor, Wanted};
use crate::engine::{Command, Event, memo};
use crate::package::{Manifest, Package, Task};
use crate::router::confidence::thresholds::{Aim, Thresholds};
use crate::router::{Bars, Estimator, Router, TaskBar};
use crate::service::Pulse;

/// Conversations at a time where nobody says: what a board of two to eight cores gains from.
const SEQUENCES: u16 = 8;
/// Jobs inside the engine, for each conversation: enough that no pass runs with a place free while
/// requests wait on the disk.
const QUEUE_FACTOR: u16 = 4;
/// Tokens in one pass.
const BATCH_TOKENS: u32 = 512;
/// How long reading a prompt may hold up those who write.
const PASS_MS: u32 = 25;
/// Tokens of the shared cache, unless one conversation needs more: with the models of small
/// boards a quarter of a gigabyte.
const MAX_CACHE_TOKENS: u32 = 16 << 10;

/// Where computed beginnings lie, below the state directory.
const BEGINNINGS: &str = "engine/beginnings";

/// The engine's task.
pub(super) struct Inference {
    task: JoinHandle<()>,
    /// The governor's end: what may run, and which processes there are.
    pub(super) allow: watch::Sender<Option<Allowance>>,
    pub(super) processes: watch::Receiver<Processes>,
}

/// Starts the engine. What it serves is looked at meanwhile: a large package takes a while to be
/// verified, and requests are taken all the same.
pub(super) fn start(
    settings: &Settings,
    clock: Clock,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    pulse: Pulse,
) -> Inference {
    let first = match settings.model_package {
        Some(_) => Wanted::Coming,
        None => Wanted::Nothing {
            why: "no model package is set".into(),
        },
    };
    let (say, wanted) = watch::channel(first);
    let (allow, allowance) = watch::channel(None);
    let (processes, watched) = watch::channel(Processes::default());
    let (folder, engine) = (settings.model_package.clone(), settings.engine.clone());
    let unload_after = engine.unload_after_idle;
    if let Some(folder) = folder {
        tokio::task::spawn_blocking(move || say.send_replace(what_to_serve(&folder, &engine)));
    }
    let stockroom = stockroom(settings.state_dir.join(BEGINNINGS));
    let beginnings = match stockroom {
        Some(_) => Beginnings::Kept,
        None => Beginnings::Forgotten,
    };
    let supervisor = Supervisor::new(unload_after, memo::Limits::default()).with(beginnings);
    let ends = Ends {
        commands,
        events,
        wanted,
        allowance,
        stockroom,
        processes,
    };
    let task = tokio::spawn(async move {
        let beat = || pulse.beat(clock.now());
        process::run(supervisor, Launch::default(), ends, clock, beat).await;
        pulse.retire();
    });
    Inference {
        task,
        allow,
        processes: watched,
    }
}

/// The router, with what a package says of its requests.
pub fn router(settings: &Settings, manifest: Option<&Manifest>) -> Router {
    let context = (settings.engine.context_tokens)
        .or_else(|| u32::try_from(manifest?.runtime.context_tokens).ok());
    Router {
        policy: settings.policy.clone(),
        estimator: manifest.map(Estimator::of).unwrap_or_default(),
        context_tokens: context.unwrap_or(u32::MAX),
        ahead_minutes: settings.utc_offset_minutes,
        bars: bars(settings, manifest),
    }
}

/// How sure answers must be: as the site says, else as the package does.
fn bars(settings: &Settings, manifest: Option<&Manifest>) -> Bars {
    let tasks = manifest.into_iter().flat_map(|manifest| &manifest.tasks);
    let said = settings.confidence;
    let thresholds = thresholds(manifest, Aim::of(said.threshold, said.risk_target));
    let bar = |task: &Task| TaskBar {
        threshold: thresholds.for_task(Some(&task.name)),
        verify: task.verify,
    };
    Bars {
        site: said.threshold.map(narrow),
        cloud: settings.cloud_threshold.map(narrow),
        tasks: tasks.map(|task| (task.name.clone(), bar(task))).collect(),
    }
}

/// Of the variant that is served. Where the site wants a promise that the package cannot give,
/// it is told so.
fn thresholds(manifest: Option<&Manifest>, aim: Aim) -> Thresholds {
    let served = manifest.and_then(|it| Some((it, it.variants.first()?)));
    let Some((manifest, variant)) = served else {
        return Thresholds::default();
    };
    let thresholds = Thresholds::of(manifest, &variant.quantization, aim);
    let unpromised = thresholds.unpromised().collect::<Vec<_>>();
    if !unpromised.is_empty() {
        tracing::error!(
            reason = unpromised.join(", "),
            "the package cannot promise confidence.risk_target for these tasks, so none of their \
             answers counts as sure: run lineside calibrate on it"
        );
    }
    thresholds
}

#[expect(clippy::cast_possible_truncation, reason = "from 0 to 1")]
fn narrow(share: f64) -> f32 {
    share as f32
}

impl Inference {
    /// Waits for the processes to be gone. The dispatcher's end is what ends them.
    pub(super) async fn close(self) {
        if timeout(GOODBYE, self.task).await.is_err() {
            tracing::warn!("the engine did not end in time");
        }
    }
}

/// Without it the engine serves as well, only that each start is a cold one.
fn stockroom(folder: PathBuf) -> Option<Stockroom> {
    let shown = folder.display().to_string();
    match Stockroom::open(folder) {
        Ok(stockroom) => Some(stockroom),
        Err(error) => {
            tracing::warn!(path = shown, %error, "starts of the engine will be cold");
            None
        }
    }
}

fn what_to_serve(folder: &Path, engine: &config::Engine) -> Wanted {
    match active_model(folder, engine) {
        Ok(model) => Wanted::Model(Arc::new(model)),
        Err(why) => {
            tracing::error!(path = %folder.display(), error = why, "the package is not served");
            Wanted::Nothing { why }
        }
    }
}

/// The package in a folder, every byte verified, and how its best variant is run.
fn active_model(folder: &Path, engine: &config::Engine) -> Result<ActiveModel, String> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let package = Package::open(&folder).map_err(|faults| faults.to_string())?;
    package.verify().map_err(|faults| faults.to_string())?;
    let best = package.variants().next();
    let (variant, header) = best.ok_or("the package has no model")?;
    let trained = header.context_tokens.unwrap_or(u64::MAX);
    let context = package.manifest().runtime.context_tokens.min(trained);
    Ok(ActiveModel {
        book: Book::of(&package, variant),
        options: options(engine, u32::try_from(context).unwrap_or(u32::MAX)),
        draft: engine.draft_model.as_deref().map(PathBuf::from),
        succession: Succession::Beside,
    })
}

/// How a model is run: as the site says, else as suits small boards.
fn options(engine: &config::Engine, package_context: u32) -> Options {
    let context_tokens = engine.context_tokens.unwrap_or(package_context);
    let sequences = engine.sequences.unwrap_or(SEQUENCES);
    let all = context_tokens.saturating_mul(u32::from(sequences) + 1);
    Options {
        context_tokens,
        cache_tokens: all.min(MAX_CACHE_TOKENS.max(context_tokens)),
        sequences,
        queue: sequences.saturating_mul(QUEUE_FACTOR),
        threads: engine.threads,
        batch_tokens: BATCH_TOKENS,
        pass_ms: PASS_MS,
        gpu_layers: engine.gpu_layers.unwrap_or(0),
        kv_type: match engine.kv_type {
            None | Some(config::KvType::F16) => KvType::F16,
            Some(config::KvType::Q8) => KvType::Q8_0,
            Some(config::KvType::Q4) => KvType::Q4_0,
        },
        flash_attention: match engine.flash_attention {
            None => Flash::Auto,
            Some(true) => Flash::On,
            Some(false) => Flash::Off,
        },
        // A mapped file is in memory twice where weights are repacked.
        mapping: Mapping::Read,
        without: Without::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sets_suits_the_package_and_a_small_board() {
        let options = |engine: &config::Engine, context| options(engine, context);
        let auto = config::Engine::default();
        let small = options(&auto, 512);
        assert_eq!(small.context_tokens, 512);
        assert_eq!(small.cache_tokens, 512 * (u32::from(SEQUENCES) + 1));
        assert_eq!(options(&auto, 8192).cache_tokens, MAX_CACHE_TOKENS);
        assert_eq!(options(&auto, 65_536).cache_tokens, 65_536);
        let site = config::Engine {
            context_tokens: Some(256),
            sequences: Some(2),
            ..config::Engine::default()
        };
        let site = options(&site, 512);
        assert_eq!((site.context_tokens, site.sequences), (256, 2));
        assert_eq!(site.cache_tokens, 768);
    }

    #[test]
    fn the_bundled_package_can_be_served_and_one_that_is_not_there_has_a_reason() {
        let engine = config::Engine::default();
        let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
        let Wanted::Model(model) = what_to_serve(&bundled, &engine) else {
            panic!("it is not served");
        };
        assert!(model.book.file().starts_with(&bundled));
        let gone = Path::new("/nonexistent/package");
        let Wanted::Nothing { why } = what_to_serve(gone, &engine) else {
            panic!("it is served");
        };
        assert!(why.contains("manifest"), "{why}");
    }
}
