//! Shared beginnings as bytes, for a warm start: they leave and come back in pieces.
//!
//! Only the pinned beginnings of instructions leave. They hold the package's own text; what a
//! request brought lies in other sequences, and a beginning that no task owns stays here.
//!
//! Invariants: at most one state is on its way out and one on its way in; a state that cannot be
//! brought back leaves its sequence empty, and the beginning is computed as ever.

use std::time::Duration;

use super::Floor;
use crate::engine::protocol::{FromEngine, MAX_PIECE_BYTES, MAX_STATE_BYTES, Piece};
use crate::engine::shelf::{Beginning, Fill};

impl Floor<'_> {
    /// A bit for each instruction whose beginning is computed.
    pub(super) fn warm(&self) -> u64 {
        let known = (0..u64::BITS).zip(&self.known);
        let ready = known.filter(|(_, known)| {
            let place = known.pinned;
            place.is_some_and(|place| is_had(self.shelf.at(place)))
        });
        ready.fold(0, |warm, (index, _)| warm | 1 << index)
    }

    /// Tells the piece of a state from a byte on; a void one if there is no such state.
    pub(super) fn save_prefix(&mut self, instruction: u16, offset: u64) {
        if offset == 0 {
            self.saving = self.state_of(instruction).map(|state| (instruction, state));
        }
        let (piece, whole) = match &self.saving {
            Some((of, state)) if *of == instruction => cut(instruction, state, offset),
            Some(_) | None => (Piece::void(instruction), false),
        };
        self.news.push(FromEngine::Prefix(piece));
        if whole {
            self.saving = None;
        }
    }

    fn state_of(&mut self, instruction: u16) -> Option<Vec<u8>> {
        let beginning = self.pinned(instruction)?;
        if let Some(kept) = beginning.kept() {
            return Some(kept.to_vec());
        }
        let sequence = (beginning.fill == Fill::Ready).then_some(beginning.sequence)?;
        self.context.save(sequence, MAX_STATE_BYTES)
    }

    fn pinned(&self, instruction: u16) -> Option<&Beginning> {
        let known = self.known.get(usize::from(instruction))?;
        Some(self.shelf.at(known.pinned?))
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
        let Some(beginning) = self.pinned(piece.instruction) else {
            return;
        };
        let (tokens, sequence) = (beginning.tokens.clone(), beginning.sequence);
        let untouched = matches!(beginning.fill, Fill::Empty | Fill::Filling(0));
        // Who waits for it has been promised its room already.
        let promised = beginning.fill != Fill::Empty;
        let needed = if promised { 0 } else { tokens.len() };
        if !untouched || self.used() + needed > self.options.cache_tokens as usize {
            return;
        }
        let Some(place) = self.shelf.claim(&tokens, now) else {
            return;
        };
        let taken = self.context.restore(sequence, &state);
        if taken {
            self.shelf.filled(place, tokens.len());
        }
        self.shelf.release(place);
        if !taken {
            let sequence = self.shelf.spoil(place);
            self.empty(sequence); // some of it may be there
        }
    }
}

/// Whether a beginning need not be computed.
fn is_had(beginning: &Beginning) -> bool {
    beginning.fill == Fill::Ready || beginning.kept().is_some()
}

/// A piece, and whether it is the last.
fn cut(instruction: u16, state: &[u8], offset: u64) -> (Piece, bool) {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let to = state.len().min(from.saturating_add(MAX_PIECE_BYTES));
    match state.get(from..to) {
        Some(bytes) if !bytes.is_empty() => {
            let piece = Piece {
                instruction,
                offset,
                total: state.len() as u64,
                bytes: bytes.to_vec(),
            };
            (piece, to == state.len())
        }
        Some(_) | None => (Piece::void(instruction), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_leaves_in_pieces_that_make_it_up_again() {
        let bytes = (0..=250).cycle();
        let state: Vec<u8> = bytes.take(MAX_PIECE_BYTES * 2 + 7).collect();
        let mut whole = Vec::new();
        loop {
            let (piece, last) = cut(3, &state, whole.len() as u64);
            assert_eq!((piece.instruction, piece.total), (3, state.len() as u64));
            assert_eq!(piece.offset, whole.len() as u64);
            whole.extend(piece.bytes);
            if last {
                break;
            }
        }
        assert_eq!(whole, state);
        for beyond in [state.len() as u64, u64::MAX] {
            assert_eq!(cut(3, &state, beyond), (Piece::void(3), false));
        }
        assert_eq!(cut(3, &[], 0), (Piece::void(3), false));
    }
}
