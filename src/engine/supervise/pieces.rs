//! Work under way, and who waits for it.
//!
//! Identical work is one [`Piece`] with several [`Waiter`]s. Nobody in it leads: who cancels
//! leaves alone, and the work is given up when the last one has left.
//!
//! Invariant: a ticket waits for one piece at most, and each piece that is not being given up
//! has a waiter.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{ActiveModel, ChildNo};
use crate::clock::Mono;
use crate::engine::Origin;
use crate::engine::memo::Key;
use crate::engine::order::Asked;
use crate::engine::protocol::{Work, WorkNo};
use crate::ticket::TicketNo;

/// One computation.
#[derive(Debug)]
pub(super) struct Piece {
    pub key: Key,
    pub asked: Asked,
    pub model: Arc<ActiveModel>,
    pub work: Work,
    /// Until when the engine was told to be done.
    pub due: Mono,
    pub place: Place,
    pub waiters: Vec<Waiter>,
}

/// How far a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It waits for a process.
    Held,
    /// In this one's queue.
    Queued(ChildNo),
    /// Being computed there.
    Begun(ChildNo),
}

/// Somebody who waits for a piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub ticket: TicketNo,
    pub due: Mono,
    pub origin: Origin,
}

impl Place {
    pub(super) fn child(self) -> Option<ChildNo> {
        match self {
            Self::Held => None,
            Self::Queued(child) | Self::Begun(child) => Some(child),
        }
    }
}

/// All pieces.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    all: BTreeMap<WorkNo, Piece>,
    by_ticket: HashMap<TicketNo, WorkNo>,
    /// The piece that a further one of the same key may join.
    by_key: HashMap<Key, WorkNo>,
}

/// What becomes of a piece that somebody left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Others wait for it.
    Wanted,
    /// Nobody does, and no process knows it: it is gone.
    Gone,
    /// Nobody does; this process is to be told.
    Unwanted(ChildNo, WorkNo),
}

impl Pieces {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get_mut(&mut self, no: WorkNo) -> Option<&mut Piece> {
        self.all.get_mut(&no)
    }

    /// Adds one that nobody computes yet.
    pub(super) fn add(&mut self, no: WorkNo, piece: Piece) {
        for waiter in &piece.waiters {
            self.by_ticket.insert(waiter.ticket, no);
        }
        self.by_key.insert(piece.key, no);
        self.all.insert(no, piece);
    }

    /// Waits along with those who want the same, if it is not less urgent to them.
    pub(super) fn join(&mut self, key: Key, priority: u8, waiter: Waiter) -> bool {
        let Some(no) = self.by_key.get(&key) else {
            return false;
        };
        let Some(piece) = self.all.get_mut(no) else {
            return false;
        };
        if piece.work.priority < priority || piece.waiters.is_empty() {
            return false;
        }
        piece.waiters.push(waiter);
        self.by_ticket.insert(waiter.ticket, *no);
        true
    }

    /// This ticket waits no longer; none if it did not.
    pub(super) fn leave(&mut self, ticket: TicketNo) -> Option<Left> {
        let no = self.by_ticket.remove(&ticket)?;
        let piece = self.all.get_mut(&no)?;
        piece.waiters.retain(|waiter| waiter.ticket != ticket);
        if !piece.waiters.is_empty() {
            return Some(Left::Wanted);
        }
        Some(if let Some(child) = piece.place.child() {
            Left::Unwanted(child, no)
        } else {
            self.take(no);
            Left::Gone
        })
    }

    /// Takes a piece out, with all who wait for it.
    pub(super) fn take(&mut self, no: WorkNo) -> Option<Piece> {
        let piece = self.all.remove(&no)?;
        if self.by_key.get(&piece.key) == Some(&no) {
            self.by_key.remove(&piece.key);
        }
        for waiter in &piece.waiters {
            self.by_ticket.remove(&waiter.ticket);
        }
        Some(piece)
    }

    /// Takes out all that `which` picks.
    pub(super) fn take_all(&mut self, which: impl Fn(&Piece) -> bool) -> Vec<Piece> {
        let picked = self.all.iter().filter(|(_, piece)| which(piece));
        let picked: Vec<_> = picked.map(|(no, _)| *no).collect();
        picked.into_iter().filter_map(|no| self.take(no)).collect()
    }

    /// Whether a process has something to do.
    pub(super) fn busy(&self, child: ChildNo) -> bool {
        let mut places = self.all.values().map(|piece| piece.place.child());
        places.any(|on| on == Some(child))
    }

    /// Those that wait for a process, oldest first.
    pub(super) fn held(&self) -> Vec<WorkNo> {
        let held = self.all.iter();
        let held = held.filter(|(_, piece)| piece.place == Place::Held);
        held.map(|(no, _)| *no).collect()
    }

    /// Whether what is told here of itself agrees; for the tests.
    #[cfg(test)]
    pub(super) fn assert_whole(&self) {
        for (no, piece) in &self.all {
            for waiter in &piece.waiters {
                assert_eq!(self.by_ticket.get(&waiter.ticket), Some(no));
            }
            assert!(!piece.waiters.is_empty() || piece.place != Place::Held);
        }
        let waiters: usize = self.all.values().map(|piece| piece.waiters.len()).sum();
        assert_eq!(waiters, self.by_ticket.len());
        for (key, no) in &self.by_key {
            assert_eq!(self.all[no].key, *key);
        }
    }
}
