//! The thread that owns the spool: commands in, groups down, events out.
//!
//! It waits for one command, then takes whatever else has come meanwhile, commits it as one
//! group and answers. So an idle store commits at once and the group grows only with load.
//! Reads are answered in turn, after the group before them.

use super::{Numbered, Op, PerTree, Tree};
use crate::clock::Mono;

/// Names a transaction or a question; comes back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What the owner of a tree asks of the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make this durable, all or nothing.
    Commit {
        /// Comes back.
        token: Token,
        /// The changes.
        ops: Vec<Op>,
    },
    /// Hand out the next records.
    Lease {
        /// Comes back.
        token: Token,
        /// From which tree.
        tree: Tree,
        /// Until when.
        until: Mono,
        /// How many at most.
        max: usize,
    },
    /// Show records, leased or not.
    Look {
        /// Comes back.
        token: Token,
        /// From which tree.
        tree: Tree,
        /// First number.
        from: u64,
        /// Last number.
        to: u64,
        /// How many at most.
        max: usize,
    },
}

/// What the spool answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The transaction is on the disk.
    Committed {
        /// Which.
        token: Token,
        /// Bytes alive now.
        live: PerTree,
    },
    /// Nothing of it was done: this tree is full.
    Refused {
        /// Which.
        token: Token,
        /// What is full.
        tree: Tree,
    },
    /// It may or may not be on the disk.
    Failed {
        /// Which.
        token: Token,
    },
    /// The records asked for by `Lease` or `Look`; none if the store is failing.
    Records {
        /// Which question.
        token: Token,
        /// The answer.
        records: Vec<Numbered>,
    },
    /// The store is back after a failure: what failed can be sent again.
    Restored {
        /// Bytes alive now.
        live: PerTree,
    },
}

/// tmp
pub fn spawn<D: super::Disk + Send + 'static>(
    mut spool: super::Spool<D>,
    mut commands: tokio::sync::mpsc::Receiver<Command>,
    events: tokio::sync::mpsc::Sender<Event>,
    clock: crate::clock::Clock,
    beat: impl Fn() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("spool".into())
        .spawn(move || {
            while let Some(first) = commands.blocking_recv() {
                beat();
                let mut group = vec![first];
                while let Ok(c) = commands.try_recv() {
                    group.push(c);
                }
                let mut txs = Vec::new();
                let mut tokens = Vec::new();
                let mut rest = Vec::new();
                for c in group {
                    match c {
                        Command::Commit { token, ops } => {
                            txs.push(ops);
                            tokens.push(token);
                        }
                        other => rest.push(other),
                    }
                }
                let verdicts = spool.commit(txs);
                for (t, v) in tokens.into_iter().zip(verdicts) {
                    let e = match v {
                        super::Verdict::Committed => Event::Committed {
                            token: t,
                            live: spool.live(),
                        },
                        super::Verdict::Full(tree) => Event::Refused { token: t, tree },
                        super::Verdict::Failed => Event::Failed { token: t },
                    };
                    let _ = events.blocking_send(e);
                }
                for c in rest {
                    match c {
                        Command::Lease {
                            token,
                            tree,
                            until,
                            max,
                        } => {
                            let records = spool
                                .lease(tree, clock.now().mono, until, max)
                                .unwrap_or_default();
                            let _ = events.blocking_send(Event::Records { token, records });
                        }
                        Command::Look {
                            token,
                            tree,
                            from,
                            to,
                            max,
                        } => {
                            let records = spool.look(tree, from, to, max).unwrap_or_default();
                            let _ = events.blocking_send(Event::Records { token, records });
                        }
                        Command::Commit { .. } => {}
                    }
                }
            }
        })
}
