//! The gate on this device: a candidate's suite in an engine of its own, beside what serves or in a
//! pause.
//!
//! What serves is put to the same suite, so that both are held to the same items. Where both engines
//! do not fit into memory at once, what serves rests meanwhile, and requests wait. A time that
//! misses its bar is taken once more while nothing else computes: beside a busy engine it says
//! nothing about the candidate.
//!
//! How it fails: a candidate whose engine does not come, dies or falls silent is told as broken.
//! Without a suite there is nothing to hold it to: it passes, and the log says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::super::{plan, planner};
use crate::config;
use crate::engine::exam::ExamError;
use crate::engine::process::{Launch, Processes};
use crate::governor::memory::{self, Board};
use crate::ota::course::{GateEnd, Named};
use crate::ota::gate::{self, Paper};
use crate::ota::verdict::{self, Demands, Findings, Verdict};
use crate::package::{Package, Variant};
use crate::safe::DeviceKey;

/// How long the engine that rests may take to end.
const PARTING: Duration = Duration::from_secs(10);
/// The pause between two looks whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// A gate to be run.
pub(super) struct Job {
    pub(super) package: Named,
    pub(super) folder: PathBuf,
    /// The folder that serves.
    pub(super) before: Option<PathBuf>,
    /// What the gate of what serves found, should it not come through this suite.
    pub(super) recorded: Option<Findings>,
    pub(super) engine: config::Engine,
    /// Opens what lies encrypted.
    pub(super) key: Option<DeviceKey>,
    pub(super) board: Board,
    /// Bytes that what serves needs.
    pub(super) needs: u64,
    pub(super) planner: mpsc::Sender<planner::Order>,
    pub(super) processes: watch::Receiver<Processes>,
    pub(super) launch: Launch,
    pub(super) stop: Arc<AtomicBool>,
}

impl Job {
    /// Runs it; may take minutes.
    pub(super) fn run(&self) -> GateEnd {
        let package = match whole(&self.folder, self.key.as_ref()) {
            Ok(package) => package,
            Err(why) => return GateEnd::Broken(why),
        };
        let chosen = match plan::choose(&package, &self.board, &self.engine) {
            Ok(chosen) => chosen,
            Err(refused) => return GateEnd::Broken(plan::why(&refused)),
        };
        let Some(suite) = package.gate() else {
            tracing::warn!(
                package = %self.package,
                "the package has no gate suite: nothing is known of it but that it loads"
            );
            return GateEnd::Passed(Findings::default());
        };
        let paper = Paper {
            package: &package,
            variant: chosen.variant,
            gate: suite,
        };
        let fits = self.fits_beside(&paper);
        let rest = (!fits).then(|| self.rest());
        let end = self.hold(&paper, fits);
        drop(rest);
        match end {
            Ok(end) => end,
            Err(ExamError::Stopped) => GateEnd::Interrupted,
            Err(error) => GateEnd::Broken(error.to_string()),
        }
    }

    fn hold(&self, paper: &Paper<'_>, is_beside: bool) -> Result<GateEnd, ExamError> {
        let mut found = gate::examine(*paper, &self.launch, &self.stop)?;
        let before = match self.before_on(paper) {
            Err(ExamError::Stopped) => return Err(ExamError::Stopped),
            // What serves has its own troubles; the candidate may be their end.
            Err(_) | Ok(None) => self.recorded.clone(),
            Ok(Some(before)) => Some(before),
        };
        let bars = paper.package.manifest().bars.as_ref();
        let judge =
            |found: &Findings| verdict::judge(found, bars, before.as_ref(), Demands::default());
        let mut verdict = judge(&found);
        if is_beside && !verdict.passes() && passes_but_for_time(&found, &judge) {
            let rest = self.rest();
            found.median_ms = gate::time_alone(*paper, &self.launch, &self.stop)?;
            drop(rest);
            verdict = judge(&found);
        }
        let missed: Vec<_> = verdict.failures().collect();
        let (right, of) = found.overall();
        tracing::info!(
            package = %self.package,
            outcome = format!("{right} of {of} right"),
            reason = missed.join("; "),
            "the gate has run"
        );
        Ok(if missed.is_empty() {
            GateEnd::Passed(found)
        } else {
            GateEnd::Failed(missed)
        })
    }

    /// What serves, on the candidate's items.
    fn before_on(&self, paper: &Paper<'_>) -> Result<Option<Findings>, ExamError> {
        let Some(package) = self.before_package() else {
            return Ok(None);
        };
        let chosen = plan::choose(&package, &self.board, &self.engine);
        let Some(variant) = chosen.ok().map(|it| it.variant) else {
            return Ok(None);
        };
        let before = Paper {
            package: &package,
            variant,
            gate: paper.gate,
        };
        gate::examine(before, &self.launch, &self.stop).map(Some)
    }

    fn before_package(&self) -> Option<Package> {
        Package::open_with(self.before.as_deref()?, self.key.as_ref()).ok()
    }

    /// Whether there is memory for both engines.
    fn fits_beside(&self, paper: &Paper<'_>) -> bool {
        let needs = |variant: &Variant| {
            let header = paper.package.variants().find(|(it, _)| *it == variant);
            let wishes = memory::Wishes {
                sequences: Some(1),
                ..plan::wishes(paper.package, &self.engine)
            };
            let planned = memory::plan(&plan::shape(header?.1), &self.board, &wishes);
            planned.ok().map(|plan| plan.needs_bytes)
        };
        let both = needs(paper.variant).and_then(|own| own.checked_add(self.needs));
        both.is_some_and(|both| both <= self.board.ram_bytes)
    }

    /// What serves rests until this is dropped.
    fn rest(&self) -> Rest<'_> {
        let why = format!("the gate of {} needs the board", self.package);
        let _ = self.planner.blocking_send(planner::Order::Rest(why)); // it ends with the process
        let mut waited = Duration::ZERO;
        while waited < PARTING && !self.processes.borrow().running.is_empty() {
            std::thread::sleep(LOOK);
            waited += LOOK;
        }
        Rest(self)
    }
}

struct Rest<'j>(&'j Job);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        let _ = self.0.planner.blocking_send(planner::Order::Go); // it ends with the process
    }
}

/// A package whose every byte is what it was.
fn whole(folder: &Path, key: Option<&DeviceKey>) -> Result<Package, String> {
    let package = Package::open_with(folder, key).map_err(|faults| faults.to_string())?;
    package.verify().map_err(|faults| faults.to_string())?;
    Ok(package)
}

/// Whether another time would do.
fn passes_but_for_time(found: &Findings, judge: &impl Fn(&Findings) -> Verdict) -> bool {
    let in_no_time = Findings {
        median_ms: Some(0.0),
        ..found.clone()
    };
    judge(&in_no_time).passes()
}
