//! Maintenance: nothing new is let in, and what is here is finished.
//!
//! ```text
//!   Open ── on_maintenance(Shut) ──► Shut ── on_maintenance(Open), or a restart ──► Open
//! ```
//!
//! Behind shut doors everything that was accepted goes on as ever: it is computed, asked elsewhere,
//! reviewed and delivered. A request that is known already gets its recorded outcome. Only what is
//! new is refused, with the code `maintenance`, from memory. That is not kept on the disk: an
//! appliance that was switched off for the work serves again when it is switched on, and nobody
//! can forget it.

use serde::Serialize;

use super::{Answer, Dispatch, SessionNo};

/// Whether anything new is let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doors {
    /// Yes.
    #[default]
    Open,
    /// No: somebody works on the appliance.
    Shut,
}

/// How the maintenance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Maintenance {
    /// Whether it is on.
    pub on: bool,
    /// Requests that are not finished yet.
    pub open: usize,
}

/// What a device that is turned away may do: come again. Work on an appliance takes minutes.
pub(super) const COME_AGAIN_MS: u64 = 60_000;

impl Dispatch {
    /// Shuts or opens the doors, or only says how they stand.
    pub(super) fn on_maintenance(&mut self, session: SessionNo, doors: Option<Doors>) {
        if let Some(doors) = doors
            && doors != self.doors
        {
            self.doors = doors;
            let state = match doors {
                Doors::Open => "off",
                Doors::Shut => "on",
            };
            tracing::info!(state, "maintenance");
            if self.is_online() {
                self.announce();
            }
        }
        let report = Maintenance {
            on: self.doors == Doors::Shut,
            open: self.slips.len(),
        };
        self.out
            .answers
            .push((session, Answer::Maintenance(report)));
    }
}
