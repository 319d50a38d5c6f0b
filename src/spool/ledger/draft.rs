//! A group of transactions before it is on the disk.

use std::collections::BTreeMap;

use super::super::{Op, PerTree};
use super::Key;
use crate::clock::Mono;

/// A group in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// The last word on each key, in key order, not written yet.
    pub(super) writes: BTreeMap<Key, Option<Vec<u8>>>,
    /// Something was written that is not synced yet.
    pub(super) dirty: bool,
    pub(super) live: PerTree,
    pub(super) highest: PerTree,
    pub(super) leases: Vec<(Key, Change)>,
}

/// What becomes of a lease once the group is on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// The record is taken until then.
    Until(Mono),
    /// The record is new; or it was sent again, and who has it keeps it.
    Joins,
    /// The record is there for the next reader.
    Free,
    /// There is no record any more.
    Gone,
}

impl Draft {
    pub(super) fn take(&mut self, ops: Vec<Op>, live: PerTree) {
        self.live = live;
        for op in ops {
            match op {
                Op::Append {
                    tree,
                    seq,
                    record,
                    leased_until,
                    ..
                } => {
                    let highest = self.highest.of(tree).max(seq);
                    self.highest.set(tree, highest);
                    self.writes.insert((tree, seq), Some(record));
                    let change = leased_until.map_or(Change::Joins, Change::Until);
                    self.leases.push(((tree, seq), change));
                }
                Op::Ack { tree, seq } => {
                    self.writes.insert((tree, seq), None);
                    self.leases.push(((tree, seq), Change::Gone));
                }
                Op::Extend { tree, seq, until } => {
                    self.leases.push(((tree, seq), Change::Until(until)));
                }
                Op::Release { tree, seq } => self.leases.push(((tree, seq), Change::Free)),
            }
        }
    }
}
