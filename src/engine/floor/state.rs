//! Shared beginnings as bytes, for a warm start: they leave and come back in pieces.

use std::time::Duration;

use super::Floor;
use crate::engine::protocol::{FromEngine, MAX_PIECE_BYTES, Piece};
use crate::engine::shelf::{Beginning, Fill};

/// Bytes of a saved beginning that are taken back: sixteen thousand tokens of a large model.
const MAX_STATE_BYTES: u64 = 1 << 30;

impl Floor<'_> {
    pub(super) fn save_prefixes(&mut self) {
        let states: Vec<_> = (0_u16..)
            .zip(&self.known)
            .filter_map(|(index, known)| {
                let ready = |(_, it): &(_, &Beginning)| it.tokens == known.frame.prefix;
                let (_, beginning) = self.shelf.ready().find(ready)?;
                Some((index, beginning.sequence))
            })
            .collect();
        for (instruction, sequence) in states {
            let state = self.context.save(sequence);
            let total = state.len() as u64;
            for (index, bytes) in state.chunks(MAX_PIECE_BYTES).enumerate() {
                self.news.push(FromEngine::Prefix(Piece {
                    instruction,
                    offset: (index * MAX_PIECE_BYTES) as u64,
                    total,
                    bytes: bytes.to_vec(),
                }));
            }
        }
    }

    /// Pieces come in order; one that does not fit ends the attempt, and the beginning is
    /// computed as if nothing had been saved.
    pub(super) fn restore_prefix(&mut self, piece: &Piece, now: Duration) {
        let mut state = match self.restoring.take() {
            Some((instruction, state)) if instruction == piece.instruction => state,
            Some(_) | None => Vec::new(),
        };
        if piece.offset != state.len() as u64 || piece.total > MAX_STATE_BYTES {
            return;
        }
        state.extend_from_slice(&piece.bytes);
        if (state.len() as u64) < piece.total {
            self.restoring = Some((piece.instruction, state));
            return;
        }
        let Some(known) = self.known.get(usize::from(piece.instruction)) else {
            return;
        };
        let prefix = known.frame.prefix.clone();
        let room = self.used() + prefix.len() <= self.options.cache_tokens as usize;
        if !room || self.shelf.ready().any(|(_, it)| it.tokens == prefix) {
            return;
        }
        let Some(place) = self.shelf.claim(&prefix, now) else {
            return;
        };
        let beginning = self.shelf.at(place);
        let (sequence, started) = (beginning.sequence, beginning.fill != Fill::Filling(0));
        if !started && self.context.restore(sequence, &state) {
            self.shelf.filled(place, prefix.len());
        }
        self.shelf.release(place);
    }
}
