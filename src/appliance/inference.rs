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
use crate::engine::process::{self, Ends, Launch, Processes};
use crate::engine::protocol::Allowance;
use crate::engine::stockroom::Stockroom;
use crate::engine::supervise::{ActiveModel, Beginnings, Succession, Supervisor, Wanted};
use crate::engine::{Command, Event, memo};
use crate::governor::memory::pressure::Replan;
use crate::governor::memory::{Board, Learned, Plan};
use crate::package::{Manifest, Package, Task};
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
) -> (Inference, Reins) {
    let first = match settings.model_package {
        Some(_) => Wanted::Coming,
        None => Wanted::Nothing {
            why: "no model package is set".into(),
        },
    };
    let (say, wanted) = watch::channel(first);
    let (allow, allowance) = watch::channel(None);
    let (processes, watched) = watch::channel(Processes::default());
    let (replans, asked_for) = mpsc::channel(REPLANS);
    let (plan, planned) = watch::channel(None);
    let unload_after = settings.engine.unload_after_idle;
    if let Some(folder) = settings.model_package.clone() {
        let planner = Planner {
            folder,
            engine: settings.engine.clone(),
            board,
            learned: Learned::default(),
            plan: None,
        };
        tokio::spawn(planner.run(say, plan, asked_for));
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
    let launch = launch(settings);
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
    };
    (Inference { task }, reins)
}

/// How engines are started: in a control group of their own, where this service may divide its own.
pub(super) fn launch(settings: &Settings) -> Launch {
    let (procfs, sysfs) = (Path::new("/proc"), Path::new("/sys"));
    // Groups that stand in files for others to read are not to be divided.
    let is_real = settings.roots.procfs == procfs && settings.roots.sysfs == sysfs;
    let divided = if is_real {
        EngineGroup::divide(procfs, sysfs)
    } else {
        Ok(None)
    };
    let group = divided.unwrap_or_else(|error| {
        tracing::warn!(%error, "engines share the service's control group");
        None
    });
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

/// Looks at the package and plans for it; again when the governor asks for it.
struct Planner {
    folder: PathBuf,
    engine: config::Engine,
    board: Board,
    /// What kills by the kernel have taught.
    learned: Learned,
    /// The plan in force.
    plan: Option<Plan>,
}

impl Planner {
    async fn run(
        mut self,
        say: watch::Sender<Wanted>,
        planned: watch::Sender<Option<u16>>,
        mut asked_for: mpsc::Receiver<Replan>,
    ) {
        let mut cause = None;
        loop {
            // It reads and digests gigabytes.
            let work = move || {
                let wanted = self.what_to_serve(cause);
                (self, wanted)
            };
            let Ok((planner, wanted)) = tokio::task::spawn_blocking(work).await else {
                return; // a defect, logged as such; what is served goes on
            };
            self = planner;
            planned.send_replace(self.plan.as_ref().map(|plan| plan.run.sequences));
            say.send_replace(wanted);
            match asked_for.recv().await {
                Some(replan) => cause = Some(replan),
                None => return, // the governor is gone
            }
        }
    }

    /// What is to be served, planned for what there is now.
    fn what_to_serve(&mut self, cause: Option<Replan>) -> Wanted {
        match (cause, &self.plan) {
            (Some(Replan::Killed), Some(plan)) => self.learned.on_oom(plan),
            (Some(Replan::Killed | Replan::Smaller | Replan::Whole) | None, _) => {}
        }
        let mut board = self.learned.lower(self.board);
        if let (Some(Replan::Smaller), Some(plan)) = (cause, &self.plan) {
            let mut once = self.learned;
            once.on_oom(plan);
            board = once.lower(self.board);
        }
        match active_model(&self.folder, &self.engine, &board) {
            Ok((mut model, plan)) => {
                if cause.is_some() {
                    model.succession = Succession::InPlace;
                }
                self.plan = Some(plan);
                Wanted::Model(Arc::new(model))
            }
            Err(why) => {
                let path = self.folder.display();
                tracing::error!(%path, error = why, "the package is not served");
                Wanted::Nothing { why }
            }
        }
    }
}

/// The package in a folder, every byte verified, and how the best variant that fits is run. One that
/// does not fit is never loaded.
fn active_model(
    folder: &Path,
    engine: &config::Engine,
    board: &Board,
) -> Result<(ActiveModel, Plan), String> {
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
    let model = ActiveModel {
        book: Book::of(&package, chosen.variant),
        options: plan::options(&chosen.plan, engine),
        draft: engine.draft_model.as_deref().map(PathBuf::from),
        succession: Succession::Beside,
    };
    Ok((model, chosen.plan))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundled() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage")
    }

    fn planner(folder: &Path, ram_bytes: u64) -> Planner {
        Planner {
            folder: folder.to_owned(),
            engine: config::Engine::default(),
            board: plan::board_with(ram_bytes),
            learned: Learned::default(),
            plan: None,
        }
    }

    fn why(folder: &Path, ram_bytes: u64) -> String {
        match planner(folder, ram_bytes).what_to_serve(None) {
            Wanted::Nothing { why } => why,
            Wanted::Model(_) | Wanted::Coming => panic!("it is served"),
        }
    }

    fn served(ram_bytes: u64) -> Arc<ActiveModel> {
        model(planner(&bundled(), ram_bytes).what_to_serve(None))
    }

    fn model(wanted: Wanted) -> Arc<ActiveModel> {
        match wanted {
            Wanted::Model(model) => model,
            Wanted::Nothing { why } => panic!("it is not served: {why}"),
            Wanted::Coming => panic!("it is not looked at"),
        }
    }

    #[test]
    fn an_engine_that_the_kernel_killed_is_planned_smaller_and_takes_over_in_place() {
        let mut planner = planner(&bundled(), u64::MAX);
        let first = model(planner.what_to_serve(None));
        assert_eq!(first.succession, Succession::Beside);
        let smaller = model(planner.what_to_serve(Some(Replan::Killed)));
        assert_eq!(smaller.succession, Succession::InPlace);
        let size = |model: &ActiveModel| (model.options.sequences, model.options.cache_tokens);
        assert!(size(&smaller) < size(&first), "{smaller:?}");
        // It is remembered: enough again is not more than what was killed.
        let again = model(planner.what_to_serve(Some(Replan::Whole)));
        assert_eq!(size(&again), size(&smaller));
    }

    #[test]
    fn a_plan_that_was_made_smaller_for_a_shortage_is_whole_again_after_it() {
        let mut planner = planner(&bundled(), u64::MAX);
        let first = model(planner.what_to_serve(None));
        let smaller = model(planner.what_to_serve(Some(Replan::Smaller)));
        assert!(smaller.options.cache_tokens < first.options.cache_tokens);
        let again = model(planner.what_to_serve(Some(Replan::Whole)));
        assert_eq!(again.options, first.options);
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
