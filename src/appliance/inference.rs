//! The engine: which package it serves, how it is run, and its task.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{GOODBYE, plan};
use crate::clock::Clock;
use crate::config::{self, Settings};
use crate::engine::order::Book;
use crate::engine::process::{self, Ends, Launch};
use crate::engine::protocol::Allowance;
use crate::engine::stockroom::Stockroom;
use crate::engine::supervise::{ActiveModel, Beginnings, Supervisor, Wanted};
use crate::engine::{Command, Event, memo};
use crate::governor::memory::Board;
use crate::package::{Manifest, Package, Task};
use crate::router::confidence::thresholds::{Aim, Thresholds};
use crate::router::{Bars, Estimator, Router, TaskBar};
use crate::service::Pulse;

/// Where computed beginnings lie, below the state directory.
const BEGINNINGS: &str = "engine/beginnings";

/// The engine's task.
pub(super) struct Inference {
    task: JoinHandle<()>,
    /// The governor's end, until there is one.
    _allowance: watch::Sender<Option<Allowance>>,
}

/// Starts the engine. What it serves is looked at meanwhile: a large package takes a while to be
/// verified, and requests are taken all the same.
pub(super) fn start(
    settings: &Settings,
    board: Board,
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
    let (folder, engine) = (settings.model_package.clone(), settings.engine.clone());
    let unload_after = engine.unload_after_idle;
    if let Some(folder) = folder {
        tokio::task::spawn_blocking(move || {
            say.send_replace(what_to_serve(&folder, &engine, &board))
        });
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
    };
    let task = tokio::spawn(async move {
        let beat = || pulse.beat(clock.now());
        process::run(supervisor, Launch::default(), ends, clock, beat).await;
        pulse.retire();
    });
    Inference {
        task,
        _allowance: allow,
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

fn what_to_serve(folder: &Path, engine: &config::Engine, board: &Board) -> Wanted {
    match active_model(folder, engine, board) {
        Ok(model) => Wanted::Model(Arc::new(model)),
        Err(why) => {
            tracing::error!(path = %folder.display(), error = why, "the package is not served");
            Wanted::Nothing { why }
        }
    }
}

/// The package in a folder, every byte verified, and how the best variant that fits is run. One that
/// does not fit is never loaded.
fn active_model(
    folder: &Path,
    engine: &config::Engine,
    board: &Board,
) -> Result<ActiveModel, String> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let package = Package::open(&folder).map_err(|faults| faults.to_string())?;
    // First what takes no time.
    let chosen = plan::choose(&package, board, engine).map_err(|refused| plan::why(&refused))?;
    package.verify().map_err(|faults| faults.to_string())?;
    tracing::info!(
        path = %folder.display(),
        reason = plan::told(&chosen),
        "the model is planned"
    );
    Ok(ActiveModel {
        book: Book::of(&package, chosen.variant),
        options: plan::options(&chosen.plan, engine),
        draft: engine.draft_model.as_deref().map(PathBuf::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundled() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage")
    }

    fn why(folder: &Path, ram_bytes: u64) -> String {
        let engine = config::Engine::default();
        match what_to_serve(folder, &engine, &plan::board_with(ram_bytes)) {
            Wanted::Nothing { why } => why,
            Wanted::Model(_) | Wanted::Coming => panic!("it is served"),
        }
    }

    fn served(ram_bytes: u64) -> Arc<ActiveModel> {
        let engine = config::Engine::default();
        match what_to_serve(&bundled(), &engine, &plan::board_with(ram_bytes)) {
            Wanted::Model(model) => model,
            Wanted::Nothing { why } => panic!("it is not served: {why}"),
            Wanted::Coming => panic!("it is not looked at"),
        }
    }

    #[test]
    fn the_bundled_package_can_be_served_and_one_that_is_not_there_has_a_reason() {
        assert!(served(u64::MAX).book.file().starts_with(bundled()));
        let why = why(Path::new("/nonexistent/package"), u64::MAX);
        assert!(why.contains("manifest"), "{why}");
    }

    #[test]
    fn a_model_that_does_not_fit_is_not_loaded_and_the_reason_has_the_numbers() {
        let why = why(&bundled(), 16 << 20);
        assert!(why.contains("does not fit into memory"), "{why}");
        assert!(why.contains("16.0 MiB are there"), "{why}");
        let package = Package::open(&bundled()).unwrap();
        for (variant, _) in package.variants() {
            assert!(why.contains(&variant.quantization), "{why}");
        }
    }

    #[test]
    fn where_the_best_variant_does_not_fit_the_next_one_is_served() {
        let package = Package::open(&bundled()).unwrap();
        let all: Vec<_> = package.variants().map(|(variant, _)| variant).collect();
        let engine = config::Engine::default();
        let file = |ram_bytes| served(ram_bytes).book.file().to_owned();
        assert_eq!(file(u64::MAX), package.model_path(all[0]));
        let first_fits = |ram_bytes: &u64| {
            let chosen = plan::choose(&package, &plan::board_with(*ram_bytes), &engine);
            chosen.is_ok_and(|chosen| chosen.variant == all[0])
        };
        let mut sizes = (16..256).map(|mib: u64| mib << 20);
        let least = sizes.find(first_fits).unwrap();
        assert_eq!(file(least), package.model_path(all[0]));
        assert_eq!(file(least - (1 << 20)), package.model_path(all[1]));
    }
}
