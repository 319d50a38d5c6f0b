//! Leases, in memory alone: a restart ends them all.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{PerTree, Tree};
use super::Key;
use crate::clock::Mono;

/// Who has which record until when, and where the next free one may be.
#[derive(Debug, Default)]
pub(super) struct Leases {
    until: BTreeMap<Key, Mono>,
    /// The same, by time: expiry costs only what expires.
    ends: BTreeSet<(Mono, Key)>,
    /// No record below this is free: a reader need not pass a long row of leased ones again.
    first_free: PerTree,
}

impl Leases {
    pub(super) fn holds(&self, key: Key) -> bool {
        self.until.contains_key(&key)
    }

    pub(super) fn first_free(&self, tree: Tree) -> u64 {
        self.first_free.of(tree)
    }

    pub(super) fn set(&mut self, key: Key, until: Mono) {
        self.drop_entry(key);
        self.until.insert(key, until);
        self.ends.insert((until, key));
    }

    pub(super) fn drop_entry(&mut self, key: Key) {
        if let Some(until) = self.until.remove(&key) {
            self.ends.remove(&(until, key));
        }
    }

    pub(super) fn join(&mut self, key: Key) {
        if !self.holds(key) {
            self.free(key);
        }
    }

    pub(super) fn free(&mut self, key: Key) {
        self.drop_entry(key);
        let first = self.first_free.of(key.0).min(key.1);
        self.first_free.set(key.0, first);
    }

    pub(super) fn expire(&mut self, now: Mono) {
        while let Some((until, key)) = self.ends.first().copied()
            && until <= now
        {
            self.free(key);
        }
    }

    /// A scan from the first free record on has leased everything free up to `seq`.
    pub(super) fn all_taken_up_to(&mut self, tree: Tree, seq: u64) {
        self.first_free.set(tree, seq.saturating_add(1));
    }
}
