//! The spool: everything that must survive a power cut, as queues of records.
//!
//! Purpose: records go in by [`Op::Append`], readers take them by [`Spool::lease`] and give them
//! back by [`Op::Ack`]; [`Op::Extend`] keeps a lease alive. Several operations make one
//! transaction: all of it reaches the disk, or none.
//!
//! Owned: the [`Disk`] below it (one thread owns both), the bytes alive in each [`Tree`], the
//! leases (in memory alone: a restart ends them all, and the records are there again).
//!
//! ```text
//!  writers ── transaction ──┐                          ┌── Committed │ Refused │ Failed ──► writers
//!  writers ── transaction ──┼─► one group ─► write ─► sync
//!  writers ── transaction ──┘   (whatever came while the last group was being synced)
//! ```
//!
//! Invariants:
//!
//! - [`Event::Committed`] is told only after the disk's cache was forced out.
//! - Transactions take effect in the order in which they came.
//! - A tree never holds more than its cap by records that asked for room ([`Room::IfFree`]);
//!   records that finish what was begun ([`Room::Always`]) are never refused, because room for
//!   them was part of the price of the beginning.
//! - The appender numbers its records: each tree has one appender, and appending a number again
//!   replaces the record. So a transaction may be sent again after a failure.
//! - A record that does not carry its own checksum is set aside and counted, never handed out.
//!
//! How it fails: a full tree or a disk short of headroom is [`Event::Refused`]. A failed write or
//! sync is [`Event::Failed`] for the whole group (some of it may still be on the disk); the disk
//! is reopened with growing pauses, and [`Event::Restored`] says when transactions can be sent
//! again.

pub mod forms;
pub mod record;
pub mod shell;
pub mod sled;

use std::collections::BTreeMap;

use crate::clock::Mono;

/// The queues and tables of the spool. Each is a range of keys in one store, because only there
/// are several writes one atomic batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tree {
    /// Accepted requests without an outcome.
    Inbox,
    /// Replies that the broker has not taken yet.
    Outbox,
    /// Escalations on their way to a cloud model.
    Cloud,
    /// Escalations that wait for a person.
    Review,
    /// Measurements.
    Telemetry,
    /// What became of each request, for a window of time.
    Outcomes,
    /// Steps of each request's life.
    Trail,
    /// Records that were found damaged, as they were found.
    Aside,
}

impl Tree {
    /// All of them, in the order of their tags.
    pub const ALL: [Tree; 8] = [
        Tree::Inbox,
        Tree::Outbox,
        Tree::Cloud,
        Tree::Review,
        Tree::Telemetry,
        Tree::Outcomes,
        Tree::Trail,
        Tree::Aside,
    ];

    /// The byte before each key. Never changed, never used again.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Inbox => 1,
            Self::Outbox => 2,
            Self::Cloud => 3,
            Self::Review => 4,
            Self::Telemetry => 5,
            Self::Outcomes => 6,
            Self::Trail => 7,
            Self::Aside => 8,
        }
    }

    /// The word in status, metrics and errors.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Outbox => "outbox",
            Self::Cloud => "cloud",
            Self::Review => "review",
            Self::Telemetry => "telemetry",
            Self::Outcomes => "outcomes",
            Self::Trail => "trail",
            Self::Aside => "aside",
        }
    }

    const fn index(self) -> usize {
        self.tag() as usize - 1
    }
}

/// One figure for each tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerTree([u64; Tree::ALL.len()]);

impl PerTree {
    /// The figure of one tree.
    pub fn of(&self, tree: Tree) -> u64 {
        self.0[tree.index()]
    }

    /// Sets the figure of one tree.
    pub fn set(&mut self, tree: Tree, value: u64) {
        self.0[tree.index()] = value;
    }

    fn add(&mut self, tree: Tree, value: u64) {
        self.0[tree.index()] += value;
    }

    fn take(&mut self, tree: Tree, value: u64) {
        let held = &mut self.0[tree.index()];
        *held = held.saturating_sub(value);
    }
}

/// Byte limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Bytes of records alive, for each tree.
    pub bytes: PerTree,
    /// Bytes that stay free on the file system, for the store's own rewriting and for the rest
    /// of the machine.
    pub headroom_bytes: u64,
}

/// Whether a record may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Only if the tree's cap and the disk's headroom allow.
    IfFree,
    /// In any case: it finishes something for which room was kept.
    Always,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A record joins a tree.
    Append {
        /// Which tree.
        tree: Tree,
        /// Its number, chosen by the tree's one appender; order of numbers is order of leasing.
        seq: u64,
        /// Its bytes, sealed by [`record::seal`].
        record: Vec<u8>,
        /// Whether it may be refused.
        room: Room,
        /// Until when it is leased to the appender at once; `None` leaves it to be leased.
        leased_until: Option<Mono>,
    },
    /// A record has served and goes.
    Ack {
        /// Which tree.
        tree: Tree,
        /// Its number.
        seq: u64,
    },
    /// A lease goes on.
    Extend {
        /// Which tree.
        tree: Tree,
        /// Its number.
        seq: u64,
        /// Until when.
        until: Mono,
    },
    /// A lease ends early: the record is there for the next reader.
    Release {
        /// Which tree.
        tree: Tree,
        /// Its number.
        seq: u64,
    },
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is on the disk.
    Committed,
    /// Nothing of it was done: this tree is full.
    Full(Tree),
    /// It may or may not be on the disk; send it again once the store is back.
    Failed,
}

/// A record and its number.
pub type Numbered = (u64, Vec<u8>);

/// One write below the level of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Which tree.
    pub tree: Tree,
    /// Which record.
    pub seq: u64,
    /// Its bytes; `None` removes it.
    pub value: Option<Vec<u8>>,
}

/// Why the disk did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// No space left.
    #[error("the disk is full")]
    Full,
    /// Anything else that the store or the system said.
    #[error("{0}")]
    Io(String),
}

/// The port to the store below: ordered keys, atomic batches, an explicit sync.
pub trait Disk {
    /// Applies the batch as one; readers see it at once, a power cut may still take it back.
    fn write(&mut self, batch: Vec<Write>) -> Result<(), DiskError>;
    /// Returns when everything written before is safe from a power cut.
    fn sync(&mut self) -> Result<(), DiskError>;
    /// Reads one record.
    fn get(&self, tree: Tree, seq: u64) -> Result<Option<Vec<u8>>, DiskError>;
    /// Visits the records from `from` on, in order, until `visit` has enough.
    fn scan(
        &self,
        tree: Tree,
        from: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> Scan,
    ) -> Result<(), DiskError>;
    /// Starts over after an error: closes the store, makes room where it can, opens it again.
    fn reopen(&mut self) -> Result<(), DiskError>;
    /// Bytes free on the file system.
    fn free_bytes(&self) -> u64;
}

/// Whether a scan goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The next record, please.
    More,
    /// Enough.
    Stop,
}

/// Bytes that a record costs in a tree beside its value: its key.
const KEY_BYTES: u64 = 9;

/// The record level over one disk.
#[derive(Debug)]
pub struct Spool<D> {
    disk: D,
    caps: Caps,
    live: PerTree,
    leases: BTreeMap<(Tree, u64), Mono>,
    set_aside: u64,
    next_aside: u64,
}

impl<D: Disk> Spool<D> {
    /// Takes over an open disk: counts what is alive and sets damaged records aside.
    pub fn open(disk: D, caps: Caps) -> Result<Self, DiskError> {
        let mut spool = Self {
            disk,
            caps,
            live: PerTree::default(),
            leases: BTreeMap::new(),
            set_aside: 0,
            next_aside: 0,
        };
        spool.take_stock()?;
        Ok(spool)
    }

    /// Carries out the transactions as one group. The verdicts stand in their order.
    pub fn commit(&mut self, transactions: Vec<Vec<Op>>) -> Vec<Verdict> {
        let short_of_space = self.disk.free_bytes() < self.caps.headroom_bytes;
        let mut batch = Batch::default();
        let verdicts: Vec<Verdict> = transactions
            .into_iter()
            .map(|ops| match self.admit(&ops, &batch, short_of_space) {
                Ok(()) => {
                    batch.take(ops);
                    Verdict::Committed
                }
                Err(tree) => Verdict::Full(tree),
            })
            .collect();
        match self.carry_out(batch) {
            Ok(()) => verdicts,
            Err(_) => verdicts
                .into_iter()
                .map(|verdict| match verdict {
                    Verdict::Committed | Verdict::Failed => Verdict::Failed,
                    Verdict::Full(tree) => Verdict::Full(tree),
                })
                .collect(),
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
        self.leases.retain(|_, end| *end > now);
        let mut found = Vec::new();
        let mut damaged = Vec::new();
        let leases = &self.leases;
        self.disk.scan(tree, 0, &mut |seq, value| {
            if found.len() == max {
                return Scan::Stop;
            }
            if !leases.contains_key(&(tree, seq)) {
                match record::unseal(value) {
                    Ok(bytes) => found.push((seq, bytes.to_vec())),
                    Err(_) => damaged.push((seq, value.to_vec())),
                }
            }
            Scan::More
        })?;
        self.put_aside(tree, damaged)?;
        for (seq, _) in &found {
            self.leases.insert((tree, *seq), until);
        }
        Ok(found)
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
            if let Ok(bytes) = record::unseal(value) {
                found.push((seq, bytes.to_vec()));
            }
            Scan::More
        })?;
        Ok(found)
    }

    /// Visits every sound record of a tree, in order.
    pub fn each(&self, tree: Tree, visit: &mut dyn FnMut(u64, &[u8])) -> Result<(), DiskError> {
        self.disk.scan(tree, 0, &mut |seq, value| {
            if let Ok(bytes) = record::unseal(value) {
                visit(seq, bytes);
            }
            Scan::More
        })
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

    /// Records that were found damaged since the start.
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

    fn admit(&self, ops: &[Op], batch: &Batch, short_of_space: bool) -> Result<(), Tree> {
        let mut wanted = PerTree::default();
        for op in ops {
            match op {
                Op::Append {
                    tree,
                    record,
                    room: Room::IfFree,
                    ..
                } => {
                    wanted.add(*tree, cost(record.len()));
                    let held = self.live.of(*tree) + batch.added.of(*tree) + wanted.of(*tree);
                    if short_of_space || held > self.caps.bytes.of(*tree) {
                        return Err(*tree);
                    }
                }
                Op::Append {
                    room: Room::Always, ..
                }
                | Op::Ack { .. }
                | Op::Extend { .. }
                | Op::Release { .. } => {}
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, batch: Batch) -> Result<(), DiskError> {
        if !batch.writes.is_empty() {
            let mut live = self.live;
            let writes: Vec<Write> = batch
                .writes
                .into_iter()
                .map(|((tree, seq), value)| Write { tree, seq, value })
                .collect();
            for write in &writes {
                if batch.replaces.contains_key(&(write.tree, write.seq)) {
                    let old = self.disk.get(write.tree, write.seq)?;
                    live.take(write.tree, old.map_or(0, |value| cost(value.len())));
                }
                if let Some(value) = &write.value {
                    live.add(write.tree, cost(value.len()));
                }
            }
            self.disk.write(writes)?;
            self.disk.sync()?;
            self.live = live;
        }
        for (key, until) in batch.leases {
            match until {
                Some(until) => self.leases.insert(key, until),
                None => self.leases.remove(&key),
            };
        }
        Ok(())
    }

    fn take_stock(&mut self) -> Result<(), DiskError> {
        let mut live = PerTree::default();
        let mut damaged = Vec::new();
        for tree in Tree::ALL {
            let mut bad = Vec::new();
            let mut last = 0;
            self.disk.scan(tree, 0, &mut |seq, value| {
                live.add(tree, cost(value.len()));
                last = seq;
                if tree != Tree::Aside && record::unseal(value).is_err() {
                    bad.push((seq, value.to_vec()));
                }
                Scan::More
            })?;
            if tree == Tree::Aside {
                self.next_aside = last + 1;
            }
            damaged.push((tree, bad));
        }
        self.live = live;
        for (tree, bad) in damaged {
            self.put_aside(tree, bad)?;
        }
        Ok(())
    }

    /// Moves damaged records out of the way, as far as the cap of [`Tree::Aside`] allows.
    fn put_aside(&mut self, tree: Tree, damaged: Vec<Numbered>) -> Result<(), DiskError> {
        let mut batch = Batch::default();
        let mut kept = 0;
        for (seq, value) in damaged {
            self.set_aside += 1;
            batch.put((tree, seq), None);
            batch.replaces.insert((tree, seq), ());
            kept += cost(value.len());
            if self.live.of(Tree::Aside) + kept <= self.caps.bytes.of(Tree::Aside) {
                batch.put((Tree::Aside, self.next_aside), Some(value));
                self.next_aside += 1;
            }
        }
        self.carry_out(batch)
    }
}

/// What a record weighs against its tree's cap.
fn cost(value_bytes: usize) -> u64 {
    KEY_BYTES + value_bytes as u64
}

/// A group in the making: the last word on each key, in key order.
#[derive(Debug, Default)]
struct Batch {
    writes: BTreeMap<(Tree, u64), Option<Vec<u8>>>,
    /// Keys that may hold a record on the disk already.
    replaces: BTreeMap<(Tree, u64), ()>,
    leases: Vec<((Tree, u64), Option<Mono>)>,
    added: PerTree,
}

impl Batch {
    fn take(&mut self, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::Append {
                    tree,
                    seq,
                    record,
                    leased_until,
                    ..
                } => {
                    self.added.add(tree, cost(record.len()));
                    self.replaces.insert((tree, seq), ());
                    self.put((tree, seq), Some(record));
                    if let Some(until) = leased_until {
                        self.leases.push(((tree, seq), Some(until)));
                    }
                }
                Op::Ack { tree, seq } => {
                    self.replaces.insert((tree, seq), ());
                    self.put((tree, seq), None);
                    self.leases.push(((tree, seq), None));
                }
                Op::Extend { tree, seq, until } => {
                    self.leases.push(((tree, seq), Some(until)));
                }
                Op::Release { tree, seq } => self.leases.push(((tree, seq), None)),
            }
        }
    }

    fn put(&mut self, key: (Tree, u64), value: Option<Vec<u8>>) {
        self.writes.insert(key, value);
    }
}
