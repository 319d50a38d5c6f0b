//! What was learned from engines that the kernel killed for their memory.
//!
//! A plan is a prediction, and what else runs on the machine nobody planned. So each kill by the
//! kernel raises a reserve by so much that the plan that was killed would not be made again: the
//! next one takes fewer conversations, then a smaller context, then a cache in 8 bit, and in the
//! end there is none. The reserve is kept in memory alone: a restart of the service begins with
//! what the machine says.

use super::{Board, Plan};

/// How much lower the next plan is, as a share of the one that was killed.
const STEP_SHARE: u64 = 20;
/// And at least: less is lost in what the rest of the machine does meanwhile.
const LEAST_STEP_BYTES: u64 = 8 << 20;

/// The reserve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    kills: u32,
    reserve_bytes: u64,
}

impl Learned {
    /// The kernel killed the engine that ran by this plan, on a board that seemed to have so much.
    pub fn on_oom(&mut self, killed: &Plan) {
        self.kills = self.kills.saturating_add(1);
        let step = (killed.needs_bytes / STEP_SHARE).max(LEAST_STEP_BYTES);
        let lower = killed.needs_bytes.saturating_sub(step);
        // The board was given to the plan with the reserve already taken off.
        let there = killed.there_bytes.saturating_add(self.reserve_bytes);
        let reserve = there.saturating_sub(lower);
        self.reserve_bytes = self.reserve_bytes.saturating_add(step).max(reserve);
    }

    /// Kills since the start.
    pub fn kills(&self) -> u32 {
        self.kills
    }

    /// What is kept back.
    pub fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// The board without what is kept back.
    #[must_use]
    pub fn lower(&self, board: Board) -> Board {
        Board {
            ram_bytes: board.ram_bytes.saturating_sub(self.reserve_bytes),
            ..board
        }
    }
}
