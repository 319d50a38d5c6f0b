//! What the disk says at the start.

use std::collections::{BTreeMap, BTreeSet};

use super::accept::{also_key, key};
use super::persons::head_of;
use super::{Also, Dispatch, MAX_ADDRESSES, Slip, Trip};
use crate::clock::{Now, Wall};
use crate::intake::{Client, Late, Priority, RequestId, ReturnAddress};
use crate::review::desk::Head;
use crate::spool::forms::{Filed, Letter, Passed, Waiting, read_step};
use crate::spool::{Disk, DiskError, Op, PerTree, Spool, Tree};
use crate::ticket::{Key, MAX_STEPS, Requeue, State, TicketNo, What};

/// Everything the dispatcher needs of an earlier process.
#[derive(Debug, Default)]
pub struct Recovered {
    open: Vec<Open>,
    settled: Vec<Settled>,
    trails: BTreeMap<TicketNo, Trail>,
    letters: u64,
    next_letter: u64,
    /// The highest ticket that a letter belongs to: its outcome may have left the window.
    last_no: TicketNo,
    live: PerTree,
}

#[derive(Debug)]
struct Open {
    no: TicketNo,
    key: Key,
    also: Option<Key>,
    client: Client,
    priority: Priority,
    accepted: Wall,
    due: Wall,
    late: Late,
    reply: ReturnAddress,
    home: Tree,
    passed: Option<Kept>,
    /// What the desk is to know of it.
    head: Option<Head>,
}

/// What a record in another tree than the inbox says besides.
#[derive(Clone, Copy, Debug)]
struct Kept {
    since: Wall,
    expires: Wall,
    has_draft: bool,
    told: bool,
}

#[derive(Debug)]
struct Settled {
    no: TicketNo,
    key: Key,
    also: Option<Key>,
    at: Wall,
    steps: u64,
}

#[derive(Debug, Default)]
struct Trail {
    steps: u8,
    crashes: u8,
    also_to: Vec<(u64, ReturnAddress)>,
}

impl Recovered {
    /// Reads what is needed of every record. Records that do not decode are set aside: they may
    /// be of a version that knows them, and somebody was promised what is in them.
    pub fn read<D: Disk>(spool: &mut Spool<D>) -> Result<Self, DiskError> {
        let mut found = Self::default();
        let unreadable = found.take_in(spool)?;
        for (tree, unread) in unreadable {
            tracing::error!(
                tree = tree.word(),
                count = unread.len(),
                "records that this version cannot read are set aside"
            );
            spool.put_away(tree, &unread)?;
        }
        found.live = spool.live();
        Ok(found)
    }

    /// Returns those that do not decode.
    fn take_in<D: Disk>(
        &mut self,
        spool: &Spool<D>,
    ) -> Result<BTreeMap<Tree, Vec<u64>>, DiskError> {
        let found = self;
        let mut unreadable = BTreeMap::<Tree, Vec<u64>>::new();
        let mut note = |tree, seq| unreadable.entry(tree).or_default().push(seq);
        spool.each(Tree::Inbox, &mut |seq, body| match Waiting::read(body) {
            Ok(waiting) => found.open.push(Open::of(waiting, Tree::Inbox, None)),
            Err(_) => note(Tree::Inbox, seq),
        })?;
        for tree in [Tree::Cloud, Tree::Review] {
            spool.each(tree, &mut |seq, body| match Passed::read(body) {
                Ok(passed) => found.open.push(Open::passed(passed, tree)),
                Err(_) => note(tree, seq),
            })?;
        }
        spool.each(Tree::Outcomes, &mut |seq, body| match Filed::read(body) {
            Ok(filed) => found.settled.push(Settled::of(&filed)),
            Err(_) => note(Tree::Outcomes, seq),
        })?;
        let open: BTreeSet<_> = found.open.iter().map(|open| open.no).collect();
        spool.each(Tree::Trail, &mut |seq, body| {
            let no = TicketNo::from_trail_seq(seq);
            let trail = found.trails.entry(no).or_default();
            let index = u8::try_from(seq % MAX_STEPS).unwrap_or(u8::MAX);
            trail.steps = trail.steps.max(index + 1);
            match read_step(body).map(|step| step.what) {
                Ok(What::Requeued(Requeue::Crashed)) => trail.crashes += 1,
                // Nobody waits any more for what has its outcome, and these are long.
                Ok(What::AlsoTo(address)) if open.contains(&no) => {
                    trail.also_to.push((seq % MAX_STEPS, address));
                }
                Ok(
                    What::Accepted
                    | What::AlsoTo(_)
                    | What::Started
                    | What::Requeued(Requeue::Busy)
                    | What::Passed(_)
                    | What::Asked
                    | What::Returned(_)
                    | What::StoodIn
                    | What::ToPerson(_)
                    | What::Provisional
                    | What::LateAnswer
                    | What::Settled(_)
                    | What::Delivered
                    | What::Undeliverable,
                ) => {}
                Err(_) => note(Tree::Trail, seq),
            }
        })?;
        spool.each(Tree::Outbox, &mut |seq, body| {
            found.letters += 1;
            found.next_letter = found.next_letter.max(seq + 1);
            if let Ok(letter) = Letter::read(body) {
                found.last_no = found.last_no.max(letter.no);
            }
        })?;
        Ok(unreadable)
    }
}

impl Open {
    fn passed(passed: Passed, home: Tree) -> Self {
        let kept = Kept {
            since: passed.since,
            expires: passed.expires,
            has_draft: passed.draft.is_some(),
            told: passed.waiting.course.as_ref().is_some_and(|it| it.told),
        };
        let waiting = &passed.waiting;
        let head = head_of(
            waiting.no,
            &waiting.request,
            waiting.accepted,
            passed.expires,
        );
        Self {
            head: (home == Tree::Review).then_some(head),
            ..Self::of(passed.waiting, home, Some(kept))
        }
    }

    fn of(waiting: Waiting, home: Tree, passed: Option<Kept>) -> Self {
        let request = waiting.request;
        Self {
            no: waiting.no,
            key: key(&request),
            also: also_key(&request),
            priority: request.priority,
            accepted: waiting.accepted,
            due: waiting.accepted.after(request.deadline),
            late: request.late,
            home,
            passed,
            head: None,
            reply: request.reply,
            client: request.client,
        }
    }
}

impl Settled {
    fn of(filed: &Filed) -> Self {
        Self {
            no: filed.no,
            key: Key::in_scope(&filed.scope, filed.id.as_str()),
            also: match filed.id {
                RequestId::Given(_) => None,
                RequestId::Made(_) => Some(Key::of_content_in_scope(&filed.scope, filed.content)),
            },
            at: filed.settled,
            steps: filed.steps,
        }
    }
}

impl Dispatch {
    pub(super) fn recover(&mut self, recovered: Recovered, now: Now) {
        let mut known = BTreeSet::new();
        let mut redundant = Vec::new();
        let mut settled = recovered.settled;
        settled.sort_by_key(|outcome| (outcome.at, outcome.no));
        for outcome in settled {
            known.insert(outcome.no);
            self.next_no = self.next_no.max(outcome.no.0 + 1);
            self.register.settle(
                outcome.no,
                outcome.key,
                outcome.also,
                (now.wall.time_since(outcome.at), now.mono),
                outcome.steps,
            );
        }
        for open in recovered.open {
            self.next_no = self.next_no.max(open.no.0 + 1);
            if !known.insert(open.no) {
                // Its outcome is on record, and that is what counts.
                redundant.push(Op::Ack {
                    tree: open.home,
                    seq: open.no.inbox_seq(open.priority),
                });
                continue;
            }
            self.take_up(&open, &recovered.trails, now);
        }
        for (no, trail) in &recovered.trails {
            self.next_no = self.next_no.max(no.0 + 1);
            if !known.contains(no) {
                redundant.extend((0..u64::from(trail.steps)).map(|step| Op::Ack {
                    tree: Tree::Trail,
                    seq: no.trail_seq(step),
                }));
            }
        }
        self.next_no = self.next_no.max(recovered.last_no.0 + 1);
        self.post.recover(recovered.next_letter, recovered.letters);
        self.store.live = recovered.live;
        self.undo(redundant);
        if !self.slips.is_empty() {
            tracing::info!(
                count = self.slips.len(),
                "open requests were taken up again"
            );
        }
    }

    fn take_up(&mut self, open: &Open, trails: &BTreeMap<TicketNo, Trail>, now: Now) {
        self.register.open(open.no, open.key, open.also);
        if open.passed.is_none() {
            self.gate.resume(&open.client, now.mono);
        }
        let trail = trails.get(&open.no);
        // Time on the disk counts; a wall clock that went back since, or stood wrong then, counts
        // as no time.
        let waited = now.wall.time_since(open.accepted);
        let left = open.due.since(open.accepted).saturating_sub(waited);
        let deadline = now.mono.after(left);
        let state = match open.home {
            Tree::Cloud => State::Away,
            Tree::Review => State::Pending,
            Tree::Inbox
            | Tree::Outbox
            | Tree::Telemetry
            | Tree::Outcomes
            | Tree::Trail
            | Tree::Aside => State::Waiting,
        };
        let trip = open.passed.map(|kept| Trip {
            // As above: time on the disk counts, and what is left is never more than all of it.
            expires: now.mono.after(
                (kept.expires.since(kept.since)).saturating_sub(now.wall.time_since(kept.since)),
            ),
            has_draft: kept.has_draft,
            told: kept.told,
            overdue: false,
            patience: None,
            failures: 0,
        });
        self.slips.insert(
            open.no,
            Slip {
                state,
                home: open.home,
                gated: open.passed.is_none(),
                priority: open.priority,
                crashes: trail.map_or(0, |trail| trail.crashes),
                steps: trail.map_or(0, |trail| trail.steps),
                due: deadline,
                deadline,
                late: open.late,
                trip,
                missed: 0,
            },
        );
        self.wind(open.no);
        match state {
            State::Waiting => self.engine.queued += 1,
            State::Away => self.offer(open.no, now),
            State::Pending => {
                if let Some(head) = open.head.clone() {
                    self.put_on_desk(head);
                }
            }
            State::Running | State::Asking | State::Settled | State::Delivered | State::Lost => {}
        }
        let mut also_to: Vec<Also> = Vec::new();
        for (step, address) in trail.into_iter().flat_map(|trail| trail.also_to.clone()) {
            let known = also_to.iter().any(|also| also.address == address);
            if !known && address != open.reply && also_to.len() + 1 < MAX_ADDRESSES {
                also_to.push(Also {
                    address,
                    step,
                    written: true,
                });
            }
        }
        if !also_to.is_empty() {
            self.addresses.insert(open.no, also_to);
        }
    }
}
