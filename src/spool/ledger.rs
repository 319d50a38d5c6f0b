//! The record level: transactions in, atomic batches down, leases in memory.
//!
//! Owned: the [`Disk`], the count of bytes alive, the leases. No clock and no channel: the
//! [shell](super::shell) brings both.
//!
//! A transaction is weighed against what is alive *at its turn*: what an earlier one in the same
//! group removes has made room for it, and a record that is sent again weighs only by how much
//! it grew. So a writer that repeats itself after a failure is never refused what it already has.

mod draft;
mod leases;
mod stock;

use std::collections::BTreeMap;

use super::{
    Caps, Disk, DiskError, MAX_RECORD_BYTES, Numbered, Op, PerTree, Room, Scan, Tree, Verdict,
    Write, record,
};
use crate::clock::Mono;
use draft::{Change, Draft};
use leases::Leases;
use stock::ASIDE_AT_ONCE;

/// Bytes that a record costs in a tree beside its value: its key.
const KEY_BYTES: u64 = 9;

/// Writes that go down as one batch, at least one transaction. The store pays for large batches
/// more than in proportion: it keeps every replaced page in memory until the batch ends.
const BATCH_WRITES: usize = 256;

type Key = (Tree, u64);

/// The record level over one disk.
#[derive(Debug)]
pub struct Spool<D> {
    disk: D,
    caps: Caps,
    live: PerTree,
    /// The highest number seen in each tree: a record above it replaces nothing.
    highest: PerTree,
    leases: Leases,
    set_aside: u64,
}

impl<D: Disk> Spool<D> {
    /// Takes over an open disk: counts what is alive and sets damaged records aside.
    pub fn open(disk: D, caps: Caps) -> Result<Self, DiskError> {
        let mut spool = Self {
            disk,
            caps,
            live: PerTree::default(),
            highest: PerTree::default(),
            leases: Leases::default(),
            set_aside: 0,
        };
        spool.take_stock()?;
        Ok(spool)
    }

    /// Carries out the transactions as one group: one sync for all of them. The verdicts stand
    /// in their order.
    pub fn commit(&mut self, transactions: Vec<Vec<Op>>) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(transactions.len());
        match self.carry_out(transactions, &mut verdicts) {
            Ok(()) => verdicts,
            Err(_) => fail(verdicts),
        }
    }

    /// Leases up to `max` records, lowest number first, for as long as until `until`.
    pub fn lease(
        &mut self,
        tree: Tree,
        now: Mono,
        until: Mono,
        max: usize,
    ) -> Result<Vec<Numbered>, DiskError> {
        self.leases.expire(now);
        loop {
            let (found, damaged) = self.free_records(tree, max)?;
            let again = found.is_empty() && !damaged.is_empty();
            self.put_aside(tree, damaged)?;
            for (seq, _) in &found {
                self.leases.set((tree, *seq), until);
            }
            if let Some((last, _)) = found.last() {
                self.leases.all_taken_up_to(tree, *last);
            }
            if !again {
                return Ok(found);
            }
        }
    }

    /// The first records that nobody has, and the damaged ones met on the way.
    fn free_records(
        &self,
        tree: Tree,
        max: usize,
    ) -> Result<(Vec<Numbered>, Vec<Numbered>), DiskError> {
        let mut found = Vec::new();
        let mut damaged = Vec::new();
        let first = self.leases.first_free(tree);
        self.disk.scan(tree, first, &mut |seq, value| {
            if found.len() == max || damaged.len() == ASIDE_AT_ONCE {
                return Scan::Stop;
            }
            if !self.leases.holds((tree, seq)) {
                match body(tree, value) {
                    Ok(bytes) => found.push((seq, bytes.to_vec())),
                    Err(_) => damaged.push((seq, value.to_vec())),
                }
            }
            Scan::More
        })?;
        Ok((found, damaged))
    }

    /// Reads up to `max` records numbered from `from` to `to`, leased or not.
    pub fn look(
        &self,
        tree: Tree,
        from: u64,
        to: u64,
        max: usize,
    ) -> Result<Vec<Numbered>, DiskError> {
        let mut found = Vec::new();
        self.disk.scan(tree, from, &mut |seq, value| {
            if seq > to || found.len() == max {
                return Scan::Stop;
            }
            if let Ok(bytes) = body(tree, value) {
                found.push((seq, bytes.to_vec()));
            }
            Scan::More
        })?;
        Ok(found)
    }

    /// Visits every sound record of a tree, in order.
    pub fn each(&self, tree: Tree, visit: &mut dyn FnMut(u64, &[u8])) -> Result<(), DiskError> {
        self.disk.scan(tree, 0, &mut |seq, value| {
            if let Ok(bytes) = body(tree, value) {
                visit(seq, bytes);
            }
            Scan::More
        })
    }

    /// Sets records aside that are sound and yet say nothing to whoever reads them.
    pub fn put_away(&mut self, tree: Tree, unread: &[u64]) -> Result<(), DiskError> {
        for some in unread.chunks(ASIDE_AT_ONCE) {
            let mut found = Vec::new();
            for seq in some {
                found.extend(self.disk.get(tree, *seq)?.map(|value| (*seq, value)));
            }
            self.put_aside(tree, found)?;
        }
        Ok(())
    }

    /// After [`Verdict::Failed`]: reopens the disk and takes stock anew. Leases stay.
    pub fn repair(&mut self) -> Result<(), DiskError> {
        self.disk.reopen()?;
        self.take_stock()
    }

    /// Bytes alive in each tree.
    pub fn live(&self) -> PerTree {
        self.live
    }

    /// Records that were set aside since the start.
    pub fn set_aside(&self) -> u64 {
        self.set_aside
    }

    /// The disk, to look at.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk, to close it.
    pub fn into_disk(self) -> D {
        self.disk
    }

    /// Weighs and writes transaction by transaction, syncs once, and only then changes what it
    /// remembers. On an error the memory is as before; the disk may be ahead of it.
    fn carry_out(
        &mut self,
        transactions: Vec<Vec<Op>>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), DiskError> {
        let short_of_space = self.disk.free_bytes() < self.caps.headroom_bytes;
        let mut draft = Draft {
            live: self.live,
            highest: self.highest,
            ..Draft::default()
        };
        let mut failed = None;
        for ops in transactions {
            if failed.is_some() {
                verdicts.push(Verdict::Failed); // still one verdict for each transaction
                continue;
            }
            match self.weigh(&ops, &draft, short_of_space) {
                Ok(Ok(live)) => {
                    draft.take(ops, live);
                    verdicts.push(Verdict::Committed);
                    if draft.writes.len() >= BATCH_WRITES {
                        failed = self.write(&mut draft).err();
                    }
                }
                Ok(Err(tree)) => verdicts.push(Verdict::Full(tree)),
                Err(error) => {
                    failed = Some(error);
                    verdicts.push(Verdict::Failed);
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.write(&mut draft)?;
        if draft.dirty {
            self.disk.sync()?;
        }
        self.live = draft.live;
        self.highest = draft.highest;
        for (key, change) in draft.leases {
            match change {
                Change::Until(until) => self.leases.set(key, until),
                Change::Joins => self.leases.join(key),
                Change::Free => self.leases.free(key),
                Change::Gone => self.leases.drop_entry(key),
            }
        }
        Ok(())
    }

    fn write(&mut self, draft: &mut Draft) -> Result<(), DiskError> {
        if draft.writes.is_empty() {
            return Ok(());
        }
        draft.dirty = true;
        let batch = std::mem::take(&mut draft.writes);
        self.disk.write(
            batch
                .into_iter()
                .map(|((tree, seq), value)| Write { tree, seq, value })
                .collect(),
        )
    }

    /// What would be alive after `ops`, or the tree that has no room for them.
    fn weigh(
        &self,
        ops: &[Op],
        draft: &Draft,
        short_of_space: bool,
    ) -> Result<Result<PerTree, Tree>, DiskError> {
        let mut live = draft.live;
        let mut own: BTreeMap<Key, u64> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Append {
                    tree,
                    seq,
                    record,
                    room,
                    ..
                } => {
                    if record.len() > MAX_RECORD_BYTES {
                        return Ok(Err(*tree));
                    }
                    let held = self.held((*tree, *seq), &own, draft)?;
                    let cost = cost(record.len());
                    live.take(*tree, held);
                    live.add(*tree, cost);
                    let grows = cost > held;
                    let over = live.of(*tree) > self.caps.bytes.of(*tree);
                    if *room == Room::IfFree && grows && (over || short_of_space) {
                        return Ok(Err(*tree));
                    }
                    own.insert((*tree, *seq), cost);
                }
                Op::Ack { tree, seq } => {
                    live.take(*tree, self.held((*tree, *seq), &own, draft)?);
                    own.insert((*tree, *seq), 0);
                }
                Op::Extend { .. } | Op::Release { .. } => {}
            }
        }
        Ok(Ok(live))
    }

    /// What the record under `key` weighs at this turn; zero if there is none.
    fn held(&self, key: Key, own: &BTreeMap<Key, u64>, draft: &Draft) -> Result<u64, DiskError> {
        if let Some(cost) = own.get(&key) {
            return Ok(*cost);
        }
        if let Some(pending) = draft.writes.get(&key) {
            return Ok(pending.as_ref().map_or(0, |value| cost(value.len())));
        }
        if key.1 > draft.highest.of(key.0) {
            return Ok(0);
        }
        let old = self.disk.get(key.0, key.1)?;
        Ok(old.map_or(0, |value| cost(value.len())))
    }
}

/// What is inside a stored value. What was set aside is shown as it was found.
fn body(tree: Tree, value: &[u8]) -> Result<&[u8], record::Damage> {
    if tree == Tree::Aside {
        return Ok(value);
    }
    record::unseal(value)
}

/// What a record weighs against its tree's cap.
fn cost(value_bytes: usize) -> u64 {
    KEY_BYTES + value_bytes as u64
}

/// A refusal stays true when the group fails: nothing of that transaction was ever written.
fn fail(verdicts: Vec<Verdict>) -> Vec<Verdict> {
    verdicts
        .into_iter()
        .map(|verdict| match verdict {
            Verdict::Committed | Verdict::Failed => Verdict::Failed,
            Verdict::Full(tree) => Verdict::Full(tree),
        })
        .collect()
}
