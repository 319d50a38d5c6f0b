//! The engine: how it is run, and its task.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::GOODBYE;
use super::planner::{self, Order, Planner};
use crate::clock::Clock;
use crate::config::Settings;
use crate::dispatch::Outfit;
use crate::engine::process::{self, Ends, Launch, Processes};
use crate::engine::protocol::Allowance;
use crate::engine::stockroom::Stockroom;
use crate::engine::supervise::{Beginnings, Supervisor, Wanted};
use crate::engine::{Command, Event, memo};
use crate::governor::memory::Board;
use crate::governor::memory::pressure::Replan;
use crate::package::{Manifest, Task};
use crate::router::confidence::thresholds::{Aim, Thresholds};
use crate::router::{Bars, Estimator, Router, TaskBar};
use crate::service::{EngineGroup, Pulse};

/// Plans asked for and not made yet: the governor asks once, and again when that did not help.
const REPLANS: usize = 4;
/// Where computed beginnings lie, below the state directory.
const BEGINNINGS: &str = "engine/beginnings";

/// The engine's task.
pub(super) struct Inference {
    task: JoinHandle<()>,
}

/// The governor's ends.
pub(super) struct Reins {
    /// What may run.
    pub(super) allow: watch::Sender<Option<Allowance>>,
    /// Which processes there are.
    pub(super) processes: watch::Receiver<Processes>,
    /// Asks for another plan.
    pub(super) replans: mpsc::Sender<Replan>,
    /// Conversations at a time by the present plan.
    pub(super) planned: watch::Receiver<Option<u16>>,
    /// Bytes that the present plan needs.
    pub(super) needs: Arc<AtomicU64>,
    /// How engines are started.
    pub(super) launch: Launch,
}

/// The ends of the engine's task that others have the other ends of.
pub(super) struct Ways {
    /// From the dispatcher.
    pub(super) commands: mpsc::Receiver<Command>,
    /// To the dispatcher.
    pub(super) events: mpsc::Sender<Event>,
    /// To the dispatcher: what goes with a model.
    pub(super) outfits: mpsc::Sender<Outfit>,
    /// What is to serve.
    pub(super) orders: mpsc::Receiver<Order>,
}

/// Starts the engine. What it serves is looked at meanwhile: a large package takes a while to be
/// verified, and requests are taken all the same.
pub(super) fn start(
    settings: &Settings,
    board: Board,
    clock: Clock,
    ways: Ways,
    pulse: Pulse,
) -> (Inference, Reins) {
    let Ways {
        commands,
        events,
        outfits,
        orders,
    } = ways;
    // Where nothing can come, that is said at once.
    let first = match (&settings.model_package, &settings.ota) {
        (None, None) => Wanted::Nothing {
            why: planner::NO_PACKAGE.into(),
        },
        (Some(_), _) | (None, Some(_)) => Wanted::Coming,
    };
    let (say, wanted) = watch::channel(first);
    let (allow, allowance) = watch::channel(None);
    let (processes, watched) = watch::channel(Processes::default());
    let (replans, asked_for) = mpsc::channel(REPLANS);
    let (plan, planned) = watch::channel(None);
    let unload_after = settings.engine.unload_after_idle;
    let needs = Arc::new(AtomicU64::new(0));
    let planner = Planner::new(settings.clone(), board, clock, Arc::clone(&needs));
    tokio::spawn(planner.run(planner::Ends {
        say,
        planned: plan,
        outfits,
        asked_for,
        orders,
    }));
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
    let launch = launch(settings);
    let beside = launch.clone();
    let task = tokio::spawn(async move {
        let beat = || pulse.beat(clock.now());
        process::run(supervisor, launch, ends, clock, beat).await;
        pulse.retire();
    });
    let reins = Reins {
        allow,
        processes: watched,
        replans,
        planned,
        needs,
        launch: beside,
    };
    (Inference { task }, reins)
}

/// How engines are started: in a control group of their own, where this service may divide its own.
pub(super) fn launch(settings: &Settings) -> Launch {
    let (procfs, sysfs) = (Path::new("/proc"), Path::new("/sys"));
    // Groups that stand in files for others to read are not to be divided.
    let is_real = settings.roots.procfs == procfs && settings.roots.sysfs == sysfs;
    let divided = if is_real {
        EngineGroup::divide(procfs, sysfs, settings.memory_budget_bytes)
    } else {
        Ok(None)
    };
    let group = divided.unwrap_or_else(|error| {
        tracing::warn!(%error, "engines share the service's control group");
        None
    });
    match group.as_ref().map(EngineGroup::limit) {
        Some(Ok(bytes)) => tracing::info!(bytes, "engines have a limit of memory of their own"),
        Some(Err(error)) => tracing::warn!(%error, "engines have no limit of memory of their own"),
        None => tracing::info!("engines have no control group of their own: none was handed over"),
    }
    Launch {
        group,
        ..Launch::default()
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
