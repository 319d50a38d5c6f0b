//! When the beginnings of a process go to the disk, and what is known to lie there.
//!
//! ```text
//!             fetched              due                  told
//!   Fetching ─────────► Watching ───────► Asking ─────────────────► Writing
//!                         ▲  ▲              ▲ │ told: void             │ │
//!                         │  └──────────────┼─┘                        │ │
//!                         │                 └── written: more of it ───┘ │
//!                         └── written: whole, or failed ─────────────────┘
//! ```
//!
//! Each beginning is saved once, soon after it was computed: a process that is killed leaves it
//! behind. Best in an idle moment; where there is none, piece by piece between the passes.
//!
//! Invariants: at most one piece of a process is on its way to the disk; a beginning that could
//! not be saved is not tried again in the same process.

use std::time::Duration;

use crate::clock::Mono;
use crate::engine::memo::Key;
use crate::engine::protocol::{Piece, ToEngine};

/// How long nothing was asked when beginnings are saved: a gap in the work, shorter than the time
/// after which any site ends an engine.
pub(super) const REST: Duration = Duration::from_millis(200);
/// How long a beginning waits for such a moment, and the end of an idle engine for the beginning.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30);

/// What is kept of one process.
#[derive(Debug)]
pub(super) struct Stock {
    /// Of each instruction.
    keys: Vec<Key>,
    /// Of each of the first instructions: whether there is nothing left to do for it.
    settled: u64,
    /// The same: whether it is computed, as the process last said.
    warm: u64,
    /// Since when there has been something to save.
    since: Option<Mono>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is not known yet what lies there.
    Fetching,
    /// Nothing is on its way.
    Watching,
    /// The process was asked for a piece, from this byte on.
    Asking { instruction: u16, offset: u64 },
    /// The piece is being written; the next one begins there, unless the state ends there.
    Writing {
        instruction: u16,
        end: u64,
        total: u64,
    },
}

impl Stock {
    /// Of a process that starts. Without keys nothing is saved.
    pub(super) fn new(keys: Vec<Key>) -> Self {
        Self {
            keys,
            settled: 0,
            warm: 0,
            since: None,
            stage: Stage::Fetching,
        }
    }

    /// What belongs to this model.
    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// These lie there.
    pub(super) fn fetched(&mut self, kept: &[Key]) {
        if self.stage == Stage::Fetching {
            self.stage = Stage::Watching;
            for key in kept {
                self.settle(*key);
            }
        }
    }

    /// The process says which beginnings it has computed.
    pub(super) fn on_beat(&mut self, warm: u64, now: Mono) {
        self.warm = warm;
        self.since = self.next().map(|_| self.since.unwrap_or(now));
    }

    /// Whether something is still to be saved, or on its way.
    pub(super) fn is_open(&self) -> bool {
        let moving = match self.stage {
            Stage::Fetching | Stage::Watching => false,
            Stage::Asking { .. } | Stage::Writing { .. } => true,
        };
        moving || self.next().is_some()
    }

    /// What to ask the process for, if it is the moment for that.
    pub(super) fn due(&mut self, idle: Option<Duration>, now: Mono) -> Option<ToEngine> {
        let waited = now.since(self.since?);
        let rests = idle.is_some_and(|idle| idle >= REST);
        if self.stage != Stage::Watching || !(rests || waited >= MAX_WAIT) {
            return None;
        }
        let instruction = self.next()?;
        Some(self.ask(instruction, 0))
    }

    /// The process tells a piece. If it was asked for it: under which key it is to be written.
    pub(super) fn told(&mut self, piece: &Piece) -> Option<Key> {
        let Stage::Asking {
            instruction,
            offset,
        } = self.stage
        else {
            return None;
        };
        let key = self.keys.get(usize::from(instruction)).copied()?;
        if piece.instruction != instruction || piece.offset != offset {
            self.stage = Stage::Watching; // it has let go of it meanwhile
            self.settle(key);
            return None;
        }
        self.stage = Stage::Writing {
            instruction,
            end: offset.saturating_add(piece.bytes.len() as u64),
            total: piece.total,
        };
        Some(key)
    }

    /// The piece was written, or could not be. What to ask for next, if the state goes on.
    pub(super) fn written(&mut self, how: bool) -> Option<ToEngine> {
        let Stage::Writing {
            instruction,
            end,
            total,
        } = self.stage
        else {
            return None;
        };
        if how && end < total {
            return Some(self.ask(instruction, end));
        }
        self.stage = Stage::Watching;
        if let Some(key) = self.keys.get(usize::from(instruction)) {
            self.settle(*key);
        }
        None
    }

    fn ask(&mut self, instruction: u16, offset: u64) -> ToEngine {
        self.stage = Stage::Asking {
            instruction,
            offset,
        };
        ToEngine::SavePrefix {
            instruction,
            offset,
        }
    }

    /// The first instruction that is computed and has not been saved.
    fn next(&self) -> Option<u16> {
        let open = self.warm & !self.settled;
        let first = u16::try_from(open.trailing_zeros()).ok()?;
        (usize::from(first) < self.keys.len()).then_some(first)
    }

    /// Nothing is left to do for the instructions of this key: several may begin alike.
    fn settle(&mut self, key: Key) {
        for (bit, it) in (0..u64::BITS).zip(&self.keys) {
            if *it == key {
                self.settled |= 1 << bit;
            }
        }
        if self.next().is_none() {
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Mono = Mono(Duration::ZERO);
    const ALL: u64 = 0b111;

    fn key(number: u8) -> Key {
        Key::of(&[&[number]])
    }

    /// Of three instructions, the first and the last of which begin alike.
    fn stock() -> Stock {
        Stock::new(vec![key(1), key(2), key(1)])
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "it is held against what may be none"
    )]
    fn ask(instruction: u16, offset: u64) -> Option<ToEngine> {
        Some(ToEngine::SavePrefix {
            instruction,
            offset,
        })
    }

    fn piece(instruction: u16, offset: u64, total: u64) -> Piece {
        Piece {
            instruction,
            offset,
            total,
            bytes: vec![0; 10],
        }
    }

    #[test]
    fn each_beginning_is_saved_once_piece_by_piece() {
        let mut stock = stock();
        stock.on_beat(ALL, START);
        assert_eq!(
            stock.due(Some(REST), START),
            None,
            "what lies there is not known"
        );
        stock.fetched(&[]);
        stock.on_beat(ALL, START);
        assert!(stock.is_open());
        assert_eq!(stock.due(Some(REST), START), ask(0, 0));
        assert_eq!(stock.due(Some(REST), START), None, "one at a time");
        assert_eq!(stock.told(&piece(0, 0, 20)), Some(key(1)));
        assert_eq!(
            stock.told(&piece(0, 10, 20)),
            None,
            "it was not asked for that"
        );
        assert_eq!(stock.written(true), ask(0, 10));
        assert_eq!(stock.told(&piece(0, 10, 20)), Some(key(1)));
        assert_eq!(stock.written(true), None);
        assert_eq!(stock.due(Some(REST), START), ask(1, 0));
        assert_eq!(stock.told(&piece(1, 0, 10)), Some(key(2)));
        assert!(stock.is_open(), "the last one is on its way");
        assert_eq!(stock.written(true), None);
        assert!(!stock.is_open());
        stock.on_beat(ALL, START.after(MAX_WAIT));
        assert_eq!(
            stock.due(Some(REST), START.after(MAX_WAIT)),
            None,
            "all are saved"
        );
    }

    #[test]
    fn what_lies_there_is_not_saved_again() {
        let mut stock = stock();
        stock.fetched(&[key(1)]);
        stock.on_beat(ALL, START);
        assert_eq!(stock.due(Some(REST), START), ask(1, 0));
    }

    #[test]
    fn a_beginning_is_saved_while_nothing_is_asked_or_after_a_while() {
        let mut stock = stock();
        stock.fetched(&[]);
        stock.on_beat(0, START);
        assert_eq!(stock.due(Some(REST), START), None, "nothing is computed");
        stock.on_beat(0b10, START);
        assert_eq!(stock.due(None, START), None);
        assert_eq!(stock.due(Some(REST / 2), START), None);
        let late = START.after(MAX_WAIT);
        stock.on_beat(0b10, late);
        assert_eq!(stock.due(None, late), ask(1, 0));
    }

    #[test]
    fn what_cannot_be_saved_is_not_tried_again() {
        let mut stock = stock();
        stock.fetched(&[]);
        stock.on_beat(ALL, START);
        assert_eq!(stock.due(Some(REST), START), ask(0, 0));
        assert_eq!(stock.told(&Piece::void(0)), None);
        assert_eq!(stock.due(Some(REST), START), ask(1, 0));
        assert_eq!(stock.told(&piece(1, 0, 99)), Some(key(2)));
        assert_eq!(stock.written(false), None);
        stock.on_beat(ALL, START);
        assert_eq!(stock.due(Some(REST), START), None);
    }

    #[test]
    fn without_keys_nothing_is_saved() {
        let mut stock = Stock::new(Vec::new());
        stock.fetched(&[]);
        stock.on_beat(u64::MAX, START);
        assert_eq!(stock.due(Some(REST), START.after(MAX_WAIT)), None);
    }
}
