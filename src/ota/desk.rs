//! What people and programs see of the keeper, and may ask of it.
//!
//! Purpose: a [`Desk`] is what the console holds; a [`Report`] is the keeper's latest word, the same
//! for a technician and for a program.
//!
//! How it fails: [`DeskError`], with a stable code.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use serde::Serialize;
use tokio::sync::watch;

use super::course::Wheel;
use super::keeper::{Found, KeepError, Ready};
use super::rollout::Turn;
use super::store::PackageId;
use super::tuf::Refreshed;
use super::update::State;

/// The state of a keeper that waits for the next look.
pub const IDLE: &str = "idle";

/// What is asked of the keeper.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// This folder, and no other source: a stick that somebody has put in.
    pub from: Option<PathBuf>,
    /// This package, whatever the ring says.
    pub package: Option<PackageId>,
}

/// How the keeper is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The ring, and this device's place in it, from 0 to 999.
    pub ring: String,
    /// See there.
    pub place: u16,
    /// Where packages come from, in their order.
    pub sources: Vec<String>,
    /// `idle`, `asking`, `downloading`, `verifying`.
    pub state: &'static str,
    /// The source that is being asked, or was last.
    pub source: Option<String>,
    /// Looks that ended since the start.
    pub looks: u64,
    /// When the last one ended.
    pub looked_ms: Option<u64>,
    /// When the next one begins.
    pub next_ms: Option<u64>,
    /// The trusted root.
    pub root: Option<Root>,
    /// The metadata that was last believed.
    pub metadata: Option<Versions>,
    /// How the last look ended.
    pub outcome: Option<Outcome>,
    /// What is on its way.
    pub progress: Option<Fetching>,
    /// Sources that made trouble in the last look, and what.
    pub troubles: Vec<(String, String)>,
    /// Every package that is here.
    pub packages: Vec<String>,
}

/// The trusted root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Root {
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: String,
}

/// Versions of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// Of the timestamp.
    pub timestamp: u64,
    /// Of the snapshot.
    pub snapshot: u64,
    /// Of the top targets role.
    pub targets: u64,
}

impl From<Refreshed> for Versions {
    fn from(it: Refreshed) -> Self {
        Self {
            timestamp: it.timestamp,
            snapshot: it.snapshot,
            targets: it.targets,
        }
    }
}

/// How a look ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// `ready`, `nothing`, `later`, `halted`, `taken_back` or `failed`.
    pub state: &'static str,
    /// What is meant for this device.
    pub package: Option<String>,
    /// The variant that was taken.
    pub quantization: Option<String>,
    /// Where it lies.
    pub folder: Option<PathBuf>,
    /// Better variants, and why not.
    pub left_out: Vec<(String, String)>,
    /// The code of a failure.
    pub code: Option<&'static str>,
    /// A failure in words.
    pub message: Option<String>,
}

impl Outcome {
    /// Of a look.
    pub fn of(looked: &Result<Found, KeepError>) -> Self {
        let plain = |state| Self {
            state,
            ..Self::default()
        };
        match looked {
            Ok(Found::Nothing) => plain("nothing"),
            Ok(Found::Waiting(id, turn)) => Self {
                package: Some(id.to_string()),
                ..plain(match turn {
                    Turn::Halted => "halted",
                    Turn::Later | Turn::Now => "later",
                })
            },
            Ok(Found::Ready(ready)) => Self::ready(ready),
            Ok(Found::TakenBack(id, why)) => Self {
                package: Some(id.to_string()),
                message: Some(why.clone()),
                ..plain("taken_back")
            },
            Err(error) => Self {
                code: Some(error.code()),
                message: Some(error.to_string()),
                ..plain("failed")
            },
        }
    }

    fn ready(ready: &Ready) -> Self {
        let left_out = ready.left_out.iter();
        Self {
            state: "ready",
            package: Some(ready.id.to_string()),
            quantization: Some(ready.quantization.clone()),
            folder: Some(ready.folder.clone()),
            left_out: left_out
                .map(|it| (it.quantization.clone(), it.why.clone()))
                .collect(),
            ..Self::default()
        }
    }
}

/// A package on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fetching {
    /// Which.
    pub package: String,
    /// Bytes that were not here when it began.
    pub needed_bytes: u64,
    /// Of them, those that are here now.
    pub there_bytes: u64,
    /// Bytes that were here already, as parts of other packages.
    pub reused_bytes: u64,
    /// Bytes that came from sources, wasted ones included.
    pub fetched_bytes: u64,
}

impl Report {
    /// A package came further.
    pub fn bringing(&mut self, id: &PackageId, state: State) {
        self.state = match state {
            State::Offered | State::Downloading(_) => "downloading",
            State::Verified | State::Staged => "verifying",
        };
        let mut fetching = Fetching {
            package: id.to_string(),
            needed_bytes: 0,
            there_bytes: 0,
            reused_bytes: 0,
            fetched_bytes: 0,
        };
        match (state, &self.progress) {
            (State::Downloading(tally), _) => {
                fetching.needed_bytes = tally.needed_bytes;
                fetching.there_bytes = tally.there_bytes;
                fetching.reused_bytes = tally.reused_bytes;
                fetching.fetched_bytes = tally.fetched_bytes;
            }
            (_, Some(before)) => fetching = before.clone(),
            (_, None) => {}
        }
        self.progress = Some(fetching);
    }
}

/// Why nothing was asked of the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// There is no keeper.
    #[error("packages come only by hand here: set ota.repository, ota.root_file and ota.ring")]
    NoOta,
    /// It has enough to do.
    #[error("a look is under way; wait for its end, or cancel it")]
    Busy,
    /// It has ended.
    #[error("the appliance is going down")]
    Ending,
}

impl DeskError {
    /// The word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoOta => "no_ota",
            Self::Busy => "busy",
            Self::Ending => "no_answer",
        }
    }
}

/// The way to the keeper; without one, it says so.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    ways: Option<Ways>,
    wheel: Wheel,
}

#[derive(Clone, Debug)]
struct Ways {
    orders: SyncSender<Order>,
    report: watch::Receiver<Report>,
    stop: Arc<AtomicBool>,
}

impl Desk {
    /// The desk of a keeper that takes these orders, and looks at this flag while it is at work.
    pub fn new(
        orders: SyncSender<Order>,
        report: watch::Receiver<Report>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            ways: Some(Ways {
                orders,
                report,
                stop,
            }),
            wheel: Wheel::default(),
        }
    }

    /// With the way to whoever decides what serves.
    #[must_use]
    pub fn with(mut self, wheel: Wheel) -> Self {
        self.wheel = wheel;
        self
    }

    /// The way to whoever decides what serves.
    pub fn wheel(&self) -> &Wheel {
        &self.wheel
    }

    fn ways(&self) -> Result<&Ways, DeskError> {
        self.ways.as_ref().ok_or(DeskError::NoOta)
    }

    /// How it is.
    pub fn report(&self) -> Result<Report, DeskError> {
        Ok(self.ways()?.report.borrow().clone())
    }

    /// Asks for a look; its end is told by [`Report::looks`], which is returned as it is now. While
    /// one is under way there is none to be had: its end would be taken for that of the other.
    pub fn order(&self, order: Order) -> Result<Report, DeskError> {
        let ways = self.ways()?;
        // Held until the order is given, so that no look begins between the two.
        let report = ways.report.borrow();
        if report.state != IDLE {
            return Err(DeskError::Busy);
        }
        match ways.orders.try_send(order) {
            Ok(()) => Ok(report.clone()),
            Err(TrySendError::Full(_)) => Err(DeskError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(DeskError::Ending),
        }
    }

    /// Ends the look that is under way. What was fetched stays.
    pub fn cancel(&self) -> Result<Report, DeskError> {
        let ways = self.ways()?;
        ways.stop.store(true, Ordering::Relaxed);
        Ok(ways.report.borrow().clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::ota::fetch::Tally;

    #[test]
    fn without_a_keeper_the_desk_says_so() {
        let desk = Desk::default();
        assert_eq!(desk.report(), Err(DeskError::NoOta));
        assert_eq!(desk.order(Order::default()), Err(DeskError::NoOta));
        assert_eq!(desk.cancel(), Err(DeskError::NoOta));
    }

    #[test]
    fn one_order_waits_and_a_second_is_told_to() {
        let (orders, inbox) = sync_channel(1);
        let (_say, report) = watch::channel(idle());
        let stop = Arc::new(AtomicBool::new(false));
        let desk = Desk::new(orders, report, Arc::clone(&stop));
        assert!(desk.order(Order::default()).is_ok());
        assert_eq!(desk.order(Order::default()), Err(DeskError::Busy));
        desk.cancel().unwrap();
        assert!(stop.load(Ordering::Relaxed));
        drop(inbox);
        assert_eq!(desk.order(Order::default()), Err(DeskError::Ending));
    }

    fn idle() -> Report {
        Report {
            state: IDLE,
            ..Report::default()
        }
    }

    #[test]
    fn nothing_is_ordered_while_a_look_is_under_way() {
        let (orders, inbox) = sync_channel(1);
        let (say, report) = watch::channel(idle());
        let desk = Desk::new(orders, report, Arc::default());
        for state in ["asking", "downloading", "verifying"] {
            say.send_modify(|report| report.state = state);
            assert_eq!(desk.order(Order::default()), Err(DeskError::Busy));
            assert!(inbox.try_recv().is_err());
        }
        say.send_replace(idle());
        assert!(desk.order(Order::default()).is_ok());
    }

    #[test]
    fn what_was_fetched_is_still_told_while_it_is_verified() {
        let id = PackageId {
            name: "plant".into(),
            seq: 2,
        };
        let mut report = Report::default();
        report.bringing(&id, State::Offered);
        let mut tally = Tally::default();
        (tally.needed_bytes, tally.there_bytes) = (10, 4);
        report.bringing(&id, State::Downloading(tally));
        report.bringing(&id, State::Verified);
        assert_eq!(report.state, "verifying");
        assert_eq!(report.progress.unwrap().there_bytes, 4);
    }
}
