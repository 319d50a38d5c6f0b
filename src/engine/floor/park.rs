//! Beginnings that nobody uses now leave the cache, as long as they would hold up those who
//! compute.
//!
//! Every token of a pass looks at every cell of the cache up to the highest used one, whoever's it
//! is. For a cell that does not concern it that is one comparison for each head of each layer,
//! and a small model has little else to do: with a thousand foreign cells the bundled one takes
//! more than twice its time.

use std::time::Duration;

use super::Floor;
use crate::engine::protocol::Keeping;

/// What one comparison takes, in microseconds: about five cycles of any core that matters here.
const COMPARISON_US: f64 = 0.0013;
/// Of a token's time, what unused beginnings may cost it: below that, leaving them is cheaper
/// than bringing them back.
const SHARE: f64 = 0.1;

/// What a cell costs each token, in microseconds, whoever's it is.
fn cell_us(layers: u32, heads: u32) -> f64 {
    COMPARISON_US * f64::from(layers) * f64::from(heads)
}

/// Cells of unused beginnings that a token can put up with, where it takes so long.
fn bearable_cells(token_us: f64, cell_us: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and capped far below"
    )]
    let cells = (SHARE * token_us / cell_us).clamp(0.0, 1e6) as usize;
    cells
}

impl Floor<'_> {
    /// Makes the cache narrow for those who are about to compute.
    pub(super) fn park_beginnings(&mut self, now: Duration) {
        // Where layers lie on a graphics processor, neither the costs nor the copies are these.
        let is_cheap = self.options.gpu_layers == 0;
        let may_keep = self.allowance.keeping == Keeping::WithinLimits;
        if self.talks.is_empty() || !is_cheap || !may_keep {
            return;
        }
        let model = self.context.model();
        let cell_us = cell_us(model.n_layer(), model.n_head());
        let bearable = bearable_cells(self.pace.token_us(), cell_us);
        while let Some((place, beginning)) = self.shelf.to_park(bearable, now) {
            if beginning.kept().is_none() {
                let (sequence, room) = (beginning.sequence, self.shelf.room_to_keep());
                let state = self.context.save(sequence, room as u64);
                let is_kept = state.is_some();
                self.shelf.keep(place, state);
                if !is_kept {
                    continue;
                }
            }
            let sequence = self.shelf.park(place);
            self.empty(sequence);
        }
    }

    /// Whoever waits for a beginning whose state is kept gets it. One that does not come back is
    /// computed as if it had never been kept.
    pub(super) fn bring_back_beginnings(&mut self) {
        while let Some((place, beginning)) = self.shelf.to_bring_back() {
            let (sequence, tokens) = (beginning.sequence, beginning.tokens.len());
            let state = beginning.kept().unwrap_or_default();
            if self.context.restore(sequence, state) {
                self.shelf.filled(place, tokens);
            } else {
                self.shelf.keep(place, None);
                self.empty(sequence); // some of it may be there
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_a_model_the_fewer_foreign_cells_it_bears() {
        let small = bearable_cells(120.0, cell_us(6, 6));
        let large = bearable_cells(20_000.0, cell_us(24, 16));
        assert!((100..600).contains(&small), "{small}");
        assert!(large > 2000, "{large}");
        assert_eq!(
            bearable_cells(120.0, cell_us(12, 0)),
            1_000_000,
            "nothing attends"
        );
    }
}
