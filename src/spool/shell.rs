//! The thread that owns the spool: commands in, groups down, events out.
//!
//! It waits for one command, then takes whatever else has come meanwhile, commits it as one
//! group and answers. So an idle store commits at once and the group grows only with load.
//! Answers keep the order of the commands; a read sees what was committed before it.
//!
//! ```text
//!            serve                          serve: Failed, no records
//!         ┌───────┐                             ┌───────┐
//!         │       ▼     a write or read fails   │       ▼
//!         └─── Sound ───────────────────────► Failing ◄─┐
//!                ▲                              │    │  │ mend: not yet, a longer pause
//!                └────── mend: Restored ────────┘    └──┘
//! ```
//!
//! Without deadlock: the sender of commands never waits (`try_send`), so it always comes back to
//! take events; therefore the sink here may wait for it.
//!
//! How it ends: when every sender of commands is gone, after the last commit; or with an error
//! when the store is damaged beyond a retry, and then the process should start anew.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::{Disk, DiskError, Numbered, Op, PerTree, Spool, Tree, Verdict};
use crate::clock::{Clock, Mono};

/// Commands taken in one turn. More would make the first of them wait for longer than a sync.
pub const GROUP_COMMANDS: usize = 1024;

/// Bytes of records in one group, at least one transaction: bounds the memory of a turn and what
/// the store writes between two syncs (see [`sled`](super::sled)).
pub const GROUP_BYTES: usize = 256 * 1024;

/// The longest wait between two beats.
const BEAT: Duration = Duration::from_secs(1);

/// Pauses between attempts to mend the store: short at first, because most faults pass.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A full disk may stay full for hours.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

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
    /// Nothing of it was done: this tree is full, or takes no record that is so long.
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

/// Starts the thread. `events` takes the answers and may block; `beat` is called at least every
/// second while the store makes progress.
pub fn spawn<D, E, B>(
    spool: Spool<D>,
    commands: Receiver<Command>,
    events: E,
    clock: Clock,
    beat: B,
) -> io::Result<JoinHandle<Result<(), DiskError>>>
where
    D: Disk + Send + 'static,
    E: FnMut(Event) + Send + 'static,
    B: Fn() + Send + 'static,
{
    Builder::new().name("spool".to_owned()).spawn(move || {
        let mut shell = Shell {
            spool,
            events,
            clock,
            state: State::Sound,
        };
        shell.run(&commands, &beat)
    })
}

enum State {
    Sound,
    Failing { next_try: Mono, pause: Duration },
}

struct Shell<D, E> {
    spool: Spool<D>,
    events: E,
    clock: Clock,
    state: State,
}

/// Transactions that will share one sync.
#[derive(Default)]
struct Group {
    tokens: Vec<Token>,
    transactions: Vec<Vec<Op>>,
    bytes: usize,
}

impl<D: Disk, E: FnMut(Event)> Shell<D, E> {
    fn run(&mut self, commands: &Receiver<Command>, beat: &dyn Fn()) -> Result<(), DiskError> {
        loop {
            match commands.recv_timeout(self.wait()) {
                Ok(first) => self.serve(first, commands),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.mend_if_due()?;
            beat();
        }
    }

    fn wait(&self) -> Duration {
        match self.state {
            State::Sound => BEAT,
            State::Failing { next_try, .. } => next_try.since(self.clock.now().mono).min(BEAT),
        }
    }

    /// One turn: the command that came and what else is there, within the bounds of a group.
    fn serve(&mut self, first: Command, commands: &Receiver<Command>) {
        let mut group = Group::default();
        let others = std::iter::from_fn(|| commands.try_recv().ok());
        for command in std::iter::once(first).chain(others).take(GROUP_COMMANDS) {
            match command {
                Command::Commit { token, ops } => {
                    group.add(token, ops);
                    if group.bytes >= GROUP_BYTES {
                        break;
                    }
                }
                Command::Lease {
                    token,
                    tree,
                    until,
                    max,
                } => {
                    self.commit(std::mem::take(&mut group));
                    let now = self.clock.now().mono;
                    self.read(token, |spool| spool.lease(tree, now, until, max));
                }
                Command::Look {
                    token,
                    tree,
                    from,
                    to,
                    max,
                } => {
                    self.commit(std::mem::take(&mut group));
                    self.read(token, |spool| spool.look(tree, from, to, max));
                }
            }
        }
        self.commit(group);
    }

    fn commit(&mut self, group: Group) {
        if group.tokens.is_empty() {
            return;
        }
        let verdicts = match self.state {
            State::Sound => self.spool.commit(group.transactions),
            State::Failing { .. } => vec![Verdict::Failed; group.tokens.len()],
        };
        let live = self.spool.live();
        if verdicts.contains(&Verdict::Failed) {
            self.start_failing();
        }
        for (token, verdict) in group.tokens.into_iter().zip(verdicts) {
            (self.events)(match verdict {
                Verdict::Committed => Event::Committed { token, live },
                Verdict::Full(tree) => Event::Refused { token, tree },
                Verdict::Failed => Event::Failed { token },
            });
        }
    }

    fn read(
        &mut self,
        token: Token,
        ask: impl FnOnce(&mut Spool<D>) -> Result<Vec<Numbered>, DiskError>,
    ) {
        let records = match self.state {
            State::Sound => ask(&mut self.spool),
            State::Failing { .. } => Ok(Vec::new()),
        };
        let records = records.unwrap_or_else(|_| {
            self.start_failing();
            Vec::new()
        });
        (self.events)(Event::Records { token, records });
    }

    fn start_failing(&mut self) {
        if matches!(self.state, State::Sound) {
            self.state = State::Failing {
                next_try: self.clock.now().mono.after(FIRST_PAUSE),
                pause: FIRST_PAUSE,
            };
        }
    }

    fn mend_if_due(&mut self) -> Result<(), DiskError> {
        let State::Failing { next_try, pause } = self.state else {
            return Ok(());
        };
        if self.clock.now().mono < next_try {
            return Ok(());
        }
        match self.spool.repair() {
            Ok(()) => {
                self.state = State::Sound;
                let live = self.spool.live();
                (self.events)(Event::Restored { live });
            }
            Err(error @ DiskError::Broken(_)) => return Err(error),
            Err(DiskError::Full | DiskError::Locked(_) | DiskError::Io(_)) => {
                let pause = (pause * 2).min(LONGEST_PAUSE);
                self.state = State::Failing {
                    next_try: self.clock.now().mono.after(pause),
                    pause,
                };
            }
        }
        Ok(())
    }
}

impl Group {
    fn add(&mut self, token: Token, ops: Vec<Op>) {
        self.bytes += ops.iter().map(Op::bytes).sum::<usize>();
        self.tokens.push(token);
        self.transactions.push(ops);
    }
}
