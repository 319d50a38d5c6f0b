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
//! - [`Event::Committed`](shell::Event::Committed) is told only after the disk's cache was forced out.
//! - Transactions take effect in the order in which they came.
//! - A tree never holds more than its cap by records that asked for room ([`Room::IfFree`]);
//!   records that finish what was begun ([`Room::Always`]) are never refused, because room for
//!   them was part of the price of the beginning. A record above [`MAX_RECORD_BYTES`] always is:
//!   its transaction alone, and not the whole group with it.
//! - The appender numbers its records: each tree has one appender, and appending a number again
//!   replaces the record. So a transaction may be sent again after a failure.
//! - A record that does not carry its own checksum is set aside and counted, never handed out.
//!
//! How it fails: a full tree or a disk short of headroom is [`Event::Refused`](shell::Event::Refused). A failed write or
//! sync is [`Event::Failed`](shell::Event::Failed) for the whole group (some of it may still be on the disk); the disk
//! is reopened with growing pauses, and [`Event::Restored`](shell::Event::Restored) says when transactions can be sent
//! again.

pub mod forms;
mod ledger;
pub mod record;
pub mod shell;
pub mod sled;
pub mod timed;

use crate::clock::Mono;
pub use ledger::Spool;

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

impl Op {
    /// Bytes that it brings.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Append { record, .. } => record.len(),
            Self::Ack { .. } | Self::Extend { .. } | Self::Release { .. } => 0,
        }
    }
}

/// Bytes of a record: far more than the longest request with an answer to it, and what any disk
/// below takes. A longer one could be sent again for ever and never be written.
pub const MAX_RECORD_BYTES: usize = 3 << 20;

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is on the disk.
    Committed,
    /// Nothing of it was done: this tree is full, or takes no record that is so long.
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
    /// The store is damaged beyond what a retry can mend: the next start sets it aside.
    #[error("the store is damaged: {0}")]
    Broken(String),
    /// Another process has the store open.
    #[error("another process has the store open: {0}")]
    Locked(String),
    /// Anything else that the store or the system said.
    #[error("{0}")]
    Io(String),
}

impl From<std::io::Error> for DiskError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(error.kind(), StorageFull | QuotaExceeded) {
            Self::Full
        } else {
            Self::Io(error.to_string())
        }
    }
}

/// The port to the store below: ordered keys, atomic batches, an explicit sync.
pub trait Disk {
    /// Applies the batch as one; readers see it at once, a power cut may still take it back
    /// (all of it, never a part). Several writes may share one sync.
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
