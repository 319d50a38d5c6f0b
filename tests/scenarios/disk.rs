//! A disk in memory, with a cache that a power cut empties and faults on demand.
//!
//! It also keeps an index of what is durable, because that is what the invariants are about.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use lineside::intake::{Classification, ReturnAddress};
use lineside::spool::forms::{Filed, Letter, Passed, Waiting, read_step};
use lineside::spool::record::unseal;
use lineside::spool::{Disk, DiskError, Scan, Tree, Write};
use lineside::ticket::{TicketNo, What};

use crate::invariants::Books;

pub(crate) type Shared = Rc<RefCell<State>>;

#[derive(Debug, Clone)]
pub(crate) struct SimDisk(pub(crate) Shared);

/// Where the process dies inside a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Die {
    BeforeWrite,
    BeforeSync,
    AfterSync,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    view: BTreeMap<(Tree, u64), Vec<u8>>,
    pub(crate) durable: Durable,
    unsynced: Vec<Vec<Write>>,
    pub(crate) fail_write: bool,
    pub(crate) fail_sync: bool,
    pub(crate) fail_read: bool,
    pub(crate) die: Option<Die>,
    pub(crate) died: bool,
    broken: bool,
    pub(crate) reopen_failures: u32,
    pub(crate) short_of_space: bool,
    pub(crate) rng: Option<fastrand::Rng>,
    pub(crate) faults: Vec<String>,
}

/// Whether a reply says that more will follow.
pub(crate) fn is_provisional(payload: &[u8]) -> bool {
    String::from_utf8_lossy(payload).contains(r#""final":false"#)
}

/// What a power cut leaves, and what it ever left.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    records: BTreeMap<(Tree, u64), Vec<u8>>,
    pub(crate) inbox: BTreeMap<TicketNo, Waiting>,
    pub(crate) cloud: BTreeMap<TicketNo, Passed>,
    pub(crate) review: BTreeMap<TicketNo, Passed>,
    /// Left a tree in the batch that is being applied.
    left: Vec<Waiting>,
    pub(crate) outcomes: BTreeMap<TicketNo, Filed>,
    pub(crate) letters: BTreeMap<u64, Letter>,
    pub(crate) also_to: BTreeMap<TicketNo, BTreeMap<u64, ReturnAddress>>,
    pub(crate) retired: BTreeSet<TicketNo>,
    pub(crate) trail: BTreeMap<TicketNo, BTreeSet<u64>>,
    /// Every outcome that was ever durable.
    pub(crate) ever: Vec<Filed>,
    /// What went since the world last looked, and what became durable.
    pub(crate) gone: Vec<Gone>,
    /// What should never have been written.
    pub(crate) wrong: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Gone {
    Inbox(Box<Waiting>),
    Outcome(Box<Filed>, usize),
    Letter(u64, Box<Letter>),
}

impl State {
    /// The bodies of a ticket's trail, in order.
    pub(crate) fn steps(&self, no: TicketNo) -> Vec<Vec<u8>> {
        let (first, last) = (no.trail_seq(0), no.trail_seq(u64::MAX));
        let range = (Tree::Trail, first)..=(Tree::Trail, last);
        let sealed = self.durable.records.range(range);
        sealed
            .map(|(_, value)| unseal(value).expect("a sealed record").to_vec())
            .collect()
    }

    fn chance(&mut self) -> bool {
        self.rng.as_mut().expect("the world gives one").bool()
    }

    /// The power goes: of what was not synced, the first few batches may have made it.
    pub(crate) fn crash(&mut self) {
        let batches = std::mem::take(&mut self.unsynced);
        let kept = self
            .rng
            .as_mut()
            .expect("the world gives one")
            .usize(0..=batches.len());
        for batch in batches.into_iter().take(kept) {
            self.durable.apply(batch);
        }
        self.view = self.durable.records.clone();
        *self = Self {
            view: std::mem::take(&mut self.view),
            durable: std::mem::take(&mut self.durable),
            rng: self.rng.take(),
            faults: std::mem::take(&mut self.faults),
            ..Self::default()
        };
    }

    fn fault<T>(&mut self, what: &str) -> Result<T, DiskError> {
        self.broken = true;
        self.faults.push(what.into());
        Err(DiskError::Io(what.into()))
    }

    pub(crate) fn heal(&mut self) {
        self.fail_write = false;
        self.fail_sync = false;
        self.fail_read = false;
        self.die = None;
        self.reopen_failures = 0;
        self.short_of_space = false;
    }

    fn apply_to_view(&mut self, batch: &[Write]) {
        for write in batch {
            match &write.value {
                Some(value) => self.view.insert((write.tree, write.seq), value.clone()),
                None => self.view.remove(&(write.tree, write.seq)),
            };
        }
    }
}

impl Durable {
    /// Outcomes of which nobody was ever told and that are gone again: their numbers may be given
    /// anew.
    pub(crate) fn forget_traces(&mut self, books: &Books) {
        let outcomes = &self.outcomes;
        let counts = |filed: &Filed| books.is_safe(filed.no) || outcomes.contains_key(&filed.no);
        self.ever.retain(counts);
    }

    /// Every open request, whatever tree it lies in.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Waiting> {
        let passed = self.cloud.values().chain(self.review.values());
        self.inbox.values().chain(passed.map(|it| &it.waiting))
    }

    /// A request lies in one tree, or in none and has its outcome.
    fn check_moves(&mut self) {
        for left in std::mem::take(&mut self.left) {
            let trees = [
                self.inbox.contains_key(&left.no),
                self.cloud.contains_key(&left.no),
                self.review.contains_key(&left.no),
            ];
            match trees.iter().filter(|there| **there).count() {
                0 => self.gone.push(Gone::Inbox(Box::new(left))),
                1 => {}
                n => self.wrong = Some(format!("{:?} lies in {n} trees", left.no)),
            }
        }
        let mut all: Vec<_> = self.open().map(|waiting| waiting.no).collect();
        all.sort_unstable();
        let twice = all.iter().zip(all.iter().skip(1)).find(|(a, b)| a == b);
        if let Some((no, _)) = twice {
            self.wrong = Some(format!("{no:?} lies in two trees"));
        }
    }

    fn apply(&mut self, batch: Vec<Write>) {
        for write in batch {
            if let Some(value) = write.value {
                self.index(write.tree, write.seq, &value);
                self.records.insert((write.tree, write.seq), value);
            } else {
                self.unindex(write.tree, write.seq);
                self.records.remove(&(write.tree, write.seq));
            }
        }
        self.check_moves();
    }

    fn index(&mut self, tree: Tree, seq: u64, value: &[u8]) {
        let body = unseal(value).expect("only sealed records are written");
        match tree {
            Tree::Inbox => {
                let waiting = Waiting::read(body).expect("a request");
                self.inbox.insert(waiting.no, waiting);
            }
            Tree::Outcomes => {
                let filed = Filed::read(body).expect("an outcome");
                self.check_outcome(&filed);
                if !self.ever.contains(&filed) {
                    self.ever.push(filed.clone());
                }
                self.outcomes.insert(filed.no, filed);
            }
            Tree::Outbox => {
                let letter = Letter::read(body).expect("a letter");
                let settled = self.outcomes.contains_key(&letter.no);
                let known = self.letters.contains_key(&seq);
                if is_provisional(&letter.payload) && settled && !known {
                    self.wrong = Some(format!("{:?}: provisional after final", letter.no));
                }
                self.letters.insert(seq, letter);
            }
            Tree::Trail => {
                let no = TicketNo::from_trail_seq(seq);
                self.trail.entry(no).or_default().insert(seq);
                if let What::AlsoTo(address) = read_step(body).expect("a step").what {
                    self.also_to.entry(no).or_default().insert(seq, address);
                } else if let Some(also) = self.also_to.get_mut(&no)
                    && also.remove(&seq).is_some()
                {
                    self.wrong = Some(format!("{no:?}: a second address was overwritten"));
                }
            }
            Tree::Cloud => {
                let passed = Passed::read(body).expect("a request that was passed on");
                if passed.waiting.request.classification == Classification::Restricted {
                    self.wrong = Some("(3) a restricted request waits for the cloud".into());
                }
                self.cloud.insert(passed.waiting.no, passed);
            }
            Tree::Review => {
                let passed = Passed::read(body).expect("a request that was passed on");
                self.review.insert(passed.waiting.no, passed);
            }
            Tree::Telemetry | Tree::Aside => {
                self.wrong = Some(format!("a record in {tree:?}"));
            }
        }
    }

    /// At most one outcome for each request in the window, and it never changes.
    fn check_outcome(&mut self, filed: &Filed) {
        let other = self.outcomes.values().find(|other| {
            other.scope == filed.scope
                && other.id.as_str() == filed.id.as_str()
                && *other != filed
                && !self.retired.contains(&other.no)
        });
        if let Some(other) = other {
            self.wrong = Some(format!(
                "two outcomes for {} {}: {:?} and {:?}",
                filed.scope,
                filed.id.as_str(),
                other.no,
                filed.no
            ));
        }
    }

    fn unindex(&mut self, tree: Tree, seq: u64) {
        match tree {
            Tree::Inbox => {
                let gone = self.inbox.remove(&TicketNo::from_inbox_seq(seq));
                self.left.extend(gone);
            }
            Tree::Cloud => {
                let gone = self.cloud.remove(&TicketNo::from_inbox_seq(seq));
                self.left.extend(gone.map(|passed| passed.waiting));
            }
            Tree::Review => {
                let gone = self.review.remove(&TicketNo::from_inbox_seq(seq));
                self.left.extend(gone.map(|passed| passed.waiting));
            }
            Tree::Outcomes => {
                let count = self.outcomes.len();
                if let Some(filed) = self.outcomes.remove(&TicketNo(seq)) {
                    self.gone.push(Gone::Outcome(Box::new(filed), count));
                }
            }
            Tree::Outbox => {
                if let Some(letter) = self.letters.remove(&seq) {
                    self.gone.push(Gone::Letter(seq, Box::new(letter)));
                }
            }
            Tree::Trail => {
                let no = TicketNo::from_trail_seq(seq);
                if let Some(steps) = self.trail.get_mut(&no) {
                    steps.remove(&seq);
                    if steps.is_empty() {
                        self.trail.remove(&no);
                    }
                }
                if let Some(also) = self.also_to.get_mut(&no) {
                    also.remove(&seq);
                }
            }
            Tree::Telemetry | Tree::Aside => {}
        }
    }
}

impl Disk for SimDisk {
    fn write(&mut self, batch: Vec<Write>) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        if state.broken || state.died {
            return Err(DiskError::Io("broken".into()));
        }
        if state.die == Some(Die::BeforeWrite) {
            state.died = true;
            return state.fault("died before the write");
        }
        if std::mem::take(&mut state.fail_write) {
            if state.chance() {
                state.apply_to_view(&batch);
                state.unsynced.push(batch);
            }
            return state.fault("write error");
        }
        state.apply_to_view(&batch);
        state.unsynced.push(batch);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        if state.broken || state.died {
            return Err(DiskError::Io("broken".into()));
        }
        if state.die == Some(Die::BeforeSync) {
            state.died = true;
            return state.fault("died before the sync");
        }
        if std::mem::take(&mut state.fail_sync) {
            return state.fault("sync error");
        }
        for batch in std::mem::take(&mut state.unsynced) {
            state.durable.apply(batch);
        }
        if state.die == Some(Die::AfterSync) {
            state.died = true;
            return state.fault("died after the sync");
        }
        Ok(())
    }

    fn get(&self, tree: Tree, seq: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let state = self.0.borrow();
        if state.broken || state.died {
            return Err(DiskError::Io("broken".into()));
        }
        Ok(state.view.get(&(tree, seq)).cloned())
    }

    fn scan(
        &self,
        tree: Tree,
        from: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> Scan,
    ) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        if state.broken || state.died {
            return Err(DiskError::Io("broken".into()));
        }
        if std::mem::take(&mut state.fail_read) {
            return state.fault("read error");
        }
        for ((_, seq), value) in state.view.range((tree, from)..=(tree, u64::MAX)) {
            if visit(*seq, value) == Scan::Stop {
                break;
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        if state.reopen_failures > 0 {
            state.reopen_failures -= 1;
            return Err(DiskError::Io("cannot be opened yet".into()));
        }
        // What was written before the error may be there or not; if it is, it may still be lost.
        let batches = std::mem::take(&mut state.unsynced);
        let kept = state
            .rng
            .as_mut()
            .expect("the world gives one")
            .usize(0..=batches.len());
        let kept: Vec<_> = batches.into_iter().take(kept).collect();
        let at_once = state.chance();
        state.view = state.durable.records.clone();
        for batch in kept {
            state.apply_to_view(&batch);
            if at_once {
                state.durable.apply(batch);
            } else {
                state.unsynced.push(batch);
            }
        }
        state.broken = false;
        Ok(())
    }

    fn free_bytes(&self) -> u64 {
        if self.0.borrow().short_of_space {
            0
        } else {
            u64::MAX
        }
    }
}
