//! Packages over the air, put together: the keeper that brings them and the course that lets them
//! serve. Without `[ota]` there is neither, and the configuration's package serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::inference::Reins;
use super::packages::{self, Keeping, Ties};
use super::swap::{self, Inlet, Opened};
use super::{CHANNEL, plan, planner};
use crate::clock::Clock;
use crate::config::Settings;
use crate::dispatch::{Heard, Probe};
use crate::governor::memory::Board;
use crate::ota::desk::{Desk, Report};
use crate::package::Manifest;

/// What was found at the start.
pub(super) struct Air {
    first: Option<PathBuf>,
    over: Option<Over>,
}

struct Over {
    opened: Opened,
    inlet: Inlet,
    keeping: Keeping,
    desk: Desk,
    report: watch::Receiver<Report>,
}

/// The ends that others hold.
pub(super) struct Ends {
    /// The console's.
    pub(super) desk: Desk,
    /// The dispatcher's.
    pub(super) heard: mpsc::Sender<Heard>,
    pub(super) probes: mpsc::Receiver<Probe>,
    pub(super) rollout: watch::Receiver<Vec<u8>>,
}

impl Air {
    /// Reads where packages stand, and lets the keeper look for more.
    pub(super) fn open(settings: &Settings, board: &Board, clock: Clock) -> std::io::Result<Self> {
        let opened = swap::open(settings, clock);
        let (Some(opened), Some(ota)) = (opened, settings.ota.clone()) else {
            return Ok(Self {
                first: settings.model_package.clone(),
                over: None,
            });
        };
        let inlet = Inlet::new(&opened);
        let ties = Ties {
            journal: opened.journal.clone(),
            holding: Arc::clone(&inlet.holding),
            looked: Box::new(inlet.looked()),
        };
        let (keeping, desk, report) = packages::start(settings, ota, board, clock, ties)?;
        Ok(Self {
            first: opened.first.clone(),
            over: Some(Over {
                desk: desk.with(inlet.wheel(&opened)),
                opened,
                inlet,
                keeping,
                report,
            }),
        })
    }

    /// The folder that serves first.
    pub(super) fn first(&self) -> Option<&Path> {
        self.first.as_deref()
    }

    /// Its manifest, as it is served on this board.
    pub(super) fn manifest(&self, settings: &Settings, board: &Board) -> Option<Manifest> {
        plan::served(self.first()?, board, settings)
    }

    /// Lets serve what is to serve.
    pub(super) async fn start(
        self,
        settings: &Settings,
        board: Board,
        clock: Clock,
        planner: mpsc::Sender<planner::Order>,
        reins: &Reins,
    ) -> std::io::Result<(Option<Keeping>, Ends)> {
        let (heard, hears) = mpsc::channel(CHANNEL);
        let (probes, probe_inlet) = mpsc::channel(1);
        let (say_rollout, rollout) = watch::channel(Vec::new());
        let ends = |desk| Ends {
            desk,
            heard,
            probes: probe_inlet,
            rollout,
        };
        let Some(over) = self.over else {
            swap::serve_configured(settings, &planner).await;
            tokio::spawn(no_course(hears, planner));
            return Ok((None, ends(Desk::default())));
        };
        let ways = swap::Ways {
            planner,
            heard: hears,
            probes,
            rollout: say_rollout,
            processes: reins.processes.clone(),
            needs: Arc::clone(&reins.needs),
            launch: reins.launch.clone(),
        };
        let (opened, inlet) = (over.opened, over.inlet);
        swap::start(settings, board, clock, opened, inlet, over.report, ways).await?;
        Ok((Some(over.keeping), ends(over.desk)))
    }
}

/// Nobody decides anything: what is heard is let go of. The planner goes on as long as the dispatcher.
pub(super) async fn no_course(
    mut hears: mpsc::Receiver<Heard>,
    planner: mpsc::Sender<planner::Order>,
) {
    while hears.recv().await.is_some() {}
    drop(planner);
}
