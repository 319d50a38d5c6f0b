//! What must hold after every step, and what must be true in the end.
//!
//! The numbers are those of the invariants in the library's overview.

use std::collections::{BTreeMap, BTreeSet};

use lineside::broker::Parcel;
use lineside::dispatch::{Answer, Dispatch, SessionNo};
use lineside::engine::Job;
use lineside::intake::{AckToken, Message, Request, RequestId, ReturnAddress};
use lineside::spool::forms::{Filed, Waiting};
use lineside::spool::{Op, Tree};
use lineside::ticket::TicketNo;

use crate::broker::Fate;
use crate::cloud::SECRET;
use crate::devices::{Sent, Why};
use crate::disk::{Durable, Gone, is_provisional};
use crate::world::World;

const VOLATILE: u64 = 1 << 63;
const STATUS: u64 = u64::MAX;
/// More than any letter in these scenarios weighs.
const LETTER_BYTES: u64 = 2048;
const ADDRESSES: u64 = 4;

/// What the world remembers to hold the appliance to it.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Inside the engine, as far as the dispatcher can know.
    pub(crate) running: BTreeSet<TicketNo>,
    finished: BTreeSet<TicketNo>,
    /// What the process was told is on the disk, or found there.
    accepted: BTreeSet<TicketNo>,
    settled: BTreeSet<TicketNo>,
    /// Tickets that the process was ever told of, either way.
    safe: BTreeSet<TicketNo>,
    /// Left the disk in the group that brought them, before anybody was told.
    early: BTreeMap<TicketNo, Waiting>,
    letters: BTreeSet<u64>,
    /// Letters that the broker took or refused for good.
    letters_done: BTreeSet<u64>,
    /// Letters that were published and not taken, with their tickets.
    in_post: BTreeMap<u64, TicketNo>,
    retired: BTreeSet<TicketNo>,
    /// Sessions that wait for an answer.
    pub(crate) asked: BTreeSet<SessionNo>,
    refusals_published: BTreeSet<String>,
    refusals_taken: BTreeSet<String>,
    pub(crate) received: BTreeMap<String, BTreeSet<Vec<u8>>>,
    /// What reviewers elsewhere got, in order.
    pub(crate) shown: Vec<Vec<u8>>,
    undeliverable: BTreeSet<String>,
    /// Accepted requests that left the inbox.
    served: Vec<Waiting>,
    pub(crate) wall_jumped: bool,
    most_open: usize,
    delivered: usize,
}

impl Books {
    pub(crate) fn on_start(&mut self, durable: &Durable) {
        self.accepted = durable.open().map(|waiting| waiting.no).collect();
        self.settled = durable.outcomes.keys().copied().collect();
        self.safe.extend(&self.settled);
        self.safe.extend(&self.accepted);
        self.early.clear();
        self.letters = durable.letters.keys().copied().collect();
    }

    pub(crate) fn is_safe(&self, no: TicketNo) -> bool {
        self.safe.contains(&no)
    }

    pub(crate) fn on_stop(&mut self) {
        self.running.clear();
        self.finished.clear();
        self.in_post.clear();
        self.asked.clear();
        self.retired.clear();
    }

    /// The process heard that these operations are durable.
    pub(crate) fn told(&mut self, ops: &[Op]) {
        for op in ops {
            if let Op::Append { tree, seq, .. } = op {
                match tree {
                    Tree::Inbox | Tree::Cloud | Tree::Review => {
                        let no = TicketNo::from_inbox_seq(*seq);
                        self.safe.insert(no);
                        match self.early.remove(&no) {
                            Some(waiting) => self.served.push(waiting),
                            None if self.settled.contains(&no) => {}
                            None => drop(self.accepted.insert(no)),
                        }
                    }
                    Tree::Outcomes => {
                        self.settled.insert(TicketNo(*seq));
                        self.safe.insert(TicketNo(*seq));
                    }
                    Tree::Outbox => drop(self.letters.insert(*seq)),
                    Tree::Telemetry | Tree::Trail | Tree::Aside => {}
                }
            }
        }
    }

    pub(crate) fn on_message(&mut self, _message: &Message) {
        self.delivered += 1;
    }

    pub(crate) fn on_ended(&mut self, no: TicketNo, answered: bool) {
        if self.running.remove(&no) && answered {
            self.finished.insert(no);
        }
    }
}

/// An address as a key.
pub(crate) fn place(topic: &str, correlation: Option<&Vec<u8>>) -> String {
    format!("{topic} {correlation:?}")
}

pub(crate) fn place_of(address: &ReturnAddress) -> Option<String> {
    match address {
        ReturnAddress::Topic {
            topic, correlation, ..
        } => Some(place(topic, correlation.as_ref())),
        ReturnAddress::Local => None,
    }
}

fn same_request(request: &Request, scope: &str, id: &RequestId) -> bool {
    request.client.scope() == scope
        && match (&request.id, id) {
            (RequestId::Given(a), RequestId::Given(b)) => a == b,
            (RequestId::Made(_), RequestId::Made(_)) => true, // the content tells
            (RequestId::Given(_), RequestId::Made(_))
            | (RequestId::Made(_), RequestId::Given(_)) => false,
        }
}

impl World {
    /// After every turn.
    pub(crate) fn check(&mut self) {
        let dispatch = self.dispatch.as_ref().expect("it runs");
        if let Err(what) = dispatch.audit() {
            self.fail(&format!("the books do not add up: {what}"));
        }
        let total = self.plan.setup.gate.total as usize;
        let most = if self.restarts == 0 { total } else { 2 * total };
        if dispatch.in_flight() > most {
            self.fail("(6) more tickets are open than the gate lets in");
        }
        self.books.most_open = self.books.most_open.max(dispatch.open_tickets());
        if let Some(wrong) = self.cloud.wrong.take() {
            self.fail(&wrong);
        }
        if dispatch.refusals_under_way() > 256 + 2 * self.plan.receive_max {
            self.fail("(6) too many refusals in memory");
        }
        if let Some(spool) = self.spool.as_ref() {
            let (live, caps) = (spool.live(), self.plan.caps.bytes);
            if live.of(Tree::Inbox) > caps.of(Tree::Inbox) {
                self.fail("(6) the inbox is above its cap");
            }
            for tree in [Tree::Cloud, Tree::Review] {
                // What a record there says more of itself than before is never refused.
                let more = self.books.most_open as u64 * 64;
                if live.of(tree) > caps.of(tree) + more {
                    self.fail(&format!("(6) {} is above its cap", tree.word()));
                }
            }
            let owed = self.books.most_open as u64 * 2 * ADDRESSES * LETTER_BYTES;
            if live.of(Tree::Outbox) > caps.of(Tree::Outbox) + owed {
                self.fail("(6) the outbox is above its cap and what was owed");
            }
        }
    }

    /// After everything that may change what is durable.
    pub(crate) fn look_at_disk(&mut self) {
        let (gone, wrong, faults) = {
            let mut disk = self.disk.borrow_mut();
            let gone = std::mem::take(&mut disk.durable.gone);
            (
                gone,
                disk.durable.wrong.take(),
                std::mem::take(&mut disk.faults),
            )
        };
        for fault in faults {
            self.note(|| format!("FAULT disk: {fault}"));
        }
        if let Some(wrong) = wrong {
            self.fail(&format!("(2) {wrong}"));
        }
        for gone in gone {
            match gone {
                Gone::Inbox(waiting) => self.check_gone_request(*waiting),
                Gone::Outcome(filed, count) => self.check_gone_outcome(&filed, count),
                Gone::Letter(seq, letter) => {
                    let done = self.books.letters_done.remove(&seq);
                    if self.books.letters.remove(&seq) && !done {
                        let no = letter.no.0;
                        self.fail(&format!("(9) letter {seq} of ticket {no} went unsent"));
                    }
                }
            }
        }
    }

    fn check_gone_request(&mut self, waiting: Waiting) {
        if !self.books.accepted.remove(&waiting.no) {
            self.books.early.insert(waiting.no, waiting);
            return;
        }
        let settled = self
            .disk
            .borrow()
            .durable
            .ever
            .iter()
            .any(|filed| filed.no == waiting.no && filed.content == waiting.request.content);
        if !settled {
            self.fail(&format!(
                "(9) accepted {:?} is gone without outcome",
                waiting.no
            ));
        }
        self.books.served.push(waiting);
    }

    fn check_gone_outcome(&mut self, filed: &Filed, count: usize) {
        let old = count > self.plan.setup.window.count || self.books.wall_jumped;
        if self.books.settled.remove(&filed.no) && !old {
            self.fail(&format!(
                "(9) the outcome of {:?} is gone within the window",
                filed.no
            ));
        }
    }

    /// (1) Only what is safe, or was refused in a way that arrived, is acknowledged.
    pub(crate) fn check_acknowledge(&mut self, token: AckToken) {
        let key = (token.generation, token.packet);
        let Some(no) = self.broker.tokens.get(&key).copied() else {
            self.fail("(1) a token that never was is acknowledged");
        };
        let again = self.broker.redelivered.contains(&no);
        match self.why_acknowledged(&self.devices.sent[no], again) {
            Some(why) => self.devices.sent[no].acked = Some(why),
            None => self.fail(&format!("(1) message {no} is acknowledged and not safe")),
        }
    }

    fn why_acknowledged(&self, sent: &Sent, again: bool) -> Option<Why> {
        let emptied = sent.message.retained && sent.message.payload.is_empty();
        if emptied || matches!(sent.read, Err(None)) {
            return Some(Why::Nobody);
        }
        // Where a refusal arrived, a trace of the refused try on the disk proves nothing.
        let refused = sent.address().and_then(place_of);
        let refused = refused.is_some_and(|place| {
            self.books.refusals_taken.contains(&place)
                || (again && self.books.refusals_published.contains(&place))
        });
        if let (false, Ok(request)) = (refused, &sent.read)
            && self.is_durable(request, sent.address())
        {
            return Some(Why::Durable);
        }
        let Some(place) = sent.address().and_then(place_of) else {
            let some = |places: &BTreeSet<String>| !places.is_empty();
            let taken = some(&self.books.refusals_taken);
            let any = taken || (again && some(&self.books.refusals_published));
            return any.then_some(Why::RefusalTaken);
        };
        if self.books.refusals_taken.contains(&place) {
            return Some(Why::RefusalTaken);
        }
        let published = self.books.refusals_published.contains(&place);
        (again && published).then_some(Why::RefusedAgain)
    }

    /// Whether the request and the way back to this address are on the disk, or done.
    fn is_durable(&self, request: &Request, address: Option<&ReturnAddress>) -> bool {
        let disk = self.disk.borrow();
        let durable = &disk.durable;
        let inbox = durable.open().filter(|waiting| {
            same_request(
                request,
                &waiting.request.client.scope(),
                &waiting.request.id,
            ) && waiting.request.content == request.content
                && self.books.accepted.contains(&waiting.no)
        });
        let ever = durable.ever.iter().filter(|filed| {
            same_request(request, &filed.scope, &filed.id)
                && filed.content == request.content
                && self.books.safe.contains(&filed.no)
        });
        let Some((address, place)) = address.and_then(|a| Some((a, place_of(a)?))) else {
            return inbox.count() + ever.count() > 0;
        };
        let also = |no: TicketNo| {
            let also = durable.also_to.get(&no);
            also.is_some_and(|also| also.values().any(|also| also == address))
        };
        let waits = inbox
            .into_iter()
            .any(|w| w.request.reply == *address || also(w.no));
        waits
            || ever.into_iter().any(|filed| {
                let received = self.books.received.get(&place);
                received.is_some_and(|all| all.contains(&filed.reply))
                    || self.books.undeliverable.contains(&place)
                    || durable
                        .letters
                        .values()
                        .any(|l| l.no == filed.no && l.address() == *address)
            })
    }

    /// (2) Nothing runs twice, and nothing runs that has its outcome.
    pub(crate) fn check_start(&mut self, job: &Job) {
        let no = job.ticket;
        self.check_let_in(job.request.priority);
        if self.books.finished.contains(&no) || !self.books.running.insert(no) {
            self.fail(&format!("(2) {no:?} runs a second time"));
        }
        let (scope, id) = (job.request.client.scope(), &job.request.id);
        let disk = self.disk.borrow();
        let durable = &disk.durable;
        let settled = durable.outcomes.values().any(|filed| {
            filed.scope == scope
                && filed.id == *id
                && self.books.settled.contains(&filed.no)
                && !self.books.retired.contains(&filed.no)
        });
        let other = durable.open().any(|waiting| {
            let (request, accepted) = (&waiting.request, &self.books.accepted);
            request.client.scope() == scope
                && request.id == *id
                && waiting.no != no
                && accepted.contains(&waiting.no)
                && !self.books.settled.contains(&waiting.no)
        });
        drop(disk);
        if settled {
            self.fail(&format!(
                "(2) {no:?} runs although its outcome is on record"
            ));
        }
        if other {
            self.fail(&format!(
                "(2) {no:?} runs beside another ticket for the same request"
            ));
        }
    }

    /// (9) A reply leaves only when it and its outcome are durable.
    pub(crate) fn check_publish(&mut self, parcel: &Parcel) {
        let to_a_device = ["devices/", "lineside/A/reply/"];
        let quotes = String::from_utf8_lossy(&parcel.payload).contains(SECRET);
        if quotes && !to_a_device.iter().any(|it| parcel.topic.starts_with(it)) {
            self.fail("(3) something restricted goes elsewhere than to a device");
        }
        if parcel.id.0 == STATUS {
            return;
        }
        let place = place(&parcel.topic, parcel.correlation.as_ref());
        if parcel.topic.contains("/review/") {
            if String::from_utf8_lossy(&parcel.payload).contains(SECRET) {
                self.fail("(3) something restricted goes to reviewers elsewhere");
            }
            return;
        }
        if parcel.id.0 & VOLATILE != 0 {
            self.books.refusals_published.insert(place);
            return;
        }
        let disk = self.disk.borrow();
        let letter = disk.durable.letters.get(&parcel.id.0);
        let Some(letter) = letter.filter(|letter| letter.payload == parcel.payload) else {
            self.fail("(9) a letter is sent that is not on the disk");
        };
        let known = |filed: &&Filed| filed.no == letter.no && filed.reply == letter.payload;
        let provisional = is_provisional(&letter.payload);
        if !provisional && !disk.durable.ever.iter().any(|filed| known(&filed)) {
            self.fail("(2) a letter differs from the outcome on record");
        }
        let no = letter.no;
        drop(disk);
        self.books.in_post.insert(parcel.id.0, no);
    }

    pub(crate) fn on_taken(&mut self, parcel: &Parcel, fate: Fate) {
        let id = parcel.id.0;
        if id == STATUS {
            return;
        }
        let place = place(&parcel.topic, parcel.correlation.as_ref());
        if parcel.topic.contains("/review/") {
            if parcel.topic.ends_with("/review/item") {
                self.books.shown.push(parcel.payload.clone());
            }
            return;
        }
        if id & VOLATILE != 0 {
            self.books.refusals_taken.insert(place);
            return;
        }
        self.books.letters_done.insert(id);
        match fate {
            Fate::Taken | Fate::TakenButNotSaid => {
                let received = self.books.received.entry(place).or_default();
                received.insert(parcel.payload.clone());
            }
            Fate::Refused => drop(self.books.undeliverable.insert(place)),
        }
        if fate != Fate::TakenButNotSaid {
            self.books.in_post.remove(&id);
        }
    }

    /// An outcome is to go: not while its reply is on its way.
    pub(crate) fn check_retire(&mut self, ops: &[Op]) {
        for op in ops {
            let Op::Ack {
                tree: Tree::Outcomes,
                seq,
            } = op
            else {
                continue;
            };
            let no = TicketNo(*seq);
            let first = self.books.retired.insert(no);
            if self.books.settled.contains(&no) {
                self.disk.borrow_mut().durable.retired.insert(no);
            }
            if first && self.books.in_post.values().any(|posted| *posted == no) {
                self.fail(&format!(
                    "{no:?} leaves the window while its reply is on its way"
                ));
            }
        }
    }

    pub(crate) fn check_answer(&mut self, session: SessionNo, answer: &Answer) {
        if !self.books.asked.remove(&session) {
            self.fail(&format!(
                "session {} is answered and does not wait",
                session.0
            ));
        }
        let is_told = |answer: &Answer| format!("{answer:?}").contains(SECRET);
        match answer {
            // To whoever asked, and to persons at the appliance.
            Answer::Reply(_) | Answer::Review(_) => {}
            Answer::Status(_)
            | Answer::Trace(_)
            | Answer::Learned(_)
            | Answer::Latest(_)
            | Answer::Maintenance(_) => {
                if is_told(answer) {
                    self.fail("(3) something restricted stands in a report");
                }
            }
        }
        if let Answer::Reply(json) = answer {
            let refused = String::from_utf8_lossy(json).contains(r#""rule":"intake""#);
            let disk = self.disk.borrow();
            let known = disk.durable.ever.iter().any(|filed| filed.reply == *json);
            if !refused && !known {
                self.fail("(2) a reply differs from every outcome on record");
            }
        }
    }

    /// When all is quiet.
    pub(crate) fn check_end(&mut self) {
        if let Some(session) = self.books.asked.first() {
            self.fail(&format!("session {} never got its answer", session.0));
        }
        let errands = self.dispatch.as_ref().map(Dispatch::errands_under_way);
        if errands.is_some_and(|errands| errands > 0) {
            self.fail("an errand that ended still has a place in the uplink");
        }
        for (no, sent) in self.devices.sent.iter().enumerate() {
            self.check_sent(no, sent);
        }
        self.check_served();
        self.check_disk_at_rest();
        let outcomes = self.dispatch.as_ref().expect("it runs").status().outcomes;
        self.crash();
        let status = self.dispatch.as_ref().expect("it runs").status();
        if (status.open, status.outbox, status.outcomes) != (0, 0, outcomes) {
            self.fail(&format!("after a power cut at rest: {status:?}"));
        }
    }

    fn check_sent(&self, no: usize, sent: &Sent) {
        if sent.message.ack.is_some() && sent.acked.is_none() && !sent.lost {
            self.fail(&format!("message {no} was never acknowledged"));
        }
        let (Some(Why::Durable), Ok(request)) = (sent.acked, &sent.read) else {
            return;
        };
        let Some(place) = sent.address().and_then(place_of) else {
            return;
        };
        let disk = self.disk.borrow();
        let replied = disk.durable.ever.iter().any(|filed| {
            same_request(request, &filed.scope, &filed.id)
                && filed.content == request.content
                && self
                    .books
                    .received
                    .get(&place)
                    .is_some_and(|all| all.contains(&filed.reply))
        });
        if !replied && !self.books.undeliverable.contains(&place) {
            self.fail(&format!(
                "(2) message {no} was acknowledged and has no reply at {place}"
            ));
        }
    }

    fn check_served(&self) {
        let disk = self.disk.borrow();
        for waiting in &self.books.served {
            let Some(place) = place_of(&waiting.request.reply) else {
                continue;
            };
            let received = self.books.received.get(&place);
            let replied = disk.durable.ever.iter().any(|filed| {
                filed.no == waiting.no && received.is_some_and(|all| all.contains(&filed.reply))
            });
            if !replied && !self.books.undeliverable.contains(&place) {
                self.fail(&format!(
                    "(2) {:?} was accepted and has no reply",
                    waiting.no
                ));
            }
        }
        // A message without an id runs once, however often the broker brings it.
        if self.plan.setup.window.count < 1000 || self.books.wall_jumped {
            return;
        }
        let made = |filed: &&Filed| {
            matches!(filed.id, RequestId::Made(_)) && self.books.safe.contains(&filed.no)
        };
        for filed in disk.durable.ever.iter().filter(made) {
            let alike =
                |other: &&Filed| other.scope == filed.scope && other.content == filed.content;
            let runs = disk.durable.ever.iter().filter(made).filter(alike).count();
            let messages = self.devices.sent.iter().filter(|sent| {
                matches!(&sent.read, Ok(request)
                    if same_request(request, &filed.scope, &filed.id)
                        && request.content == filed.content)
            });
            if runs > messages.count() {
                self.fail(&format!("(2) a message without an id ran {runs} times"));
            }
        }
    }

    fn check_disk_at_rest(&self) {
        let disk = self.disk.borrow();
        let durable = &disk.durable;
        if let Some(waiting) = durable.open().next() {
            self.fail(&format!("at rest, {:?} is open", waiting.no));
        }
        if !durable.letters.is_empty() {
            let left: Vec<_> = durable.letters.keys().collect();
            self.fail(&format!("at rest, something is in the outbox: {left:?}"));
        }
        if let Some((no, steps)) = durable
            .trail
            .iter()
            .find(|(no, _)| !durable.outcomes.contains_key(no))
        {
            self.fail(&format!("{no:?} has a trail without an outcome: {steps:?}"));
        }
        if durable.outcomes.len() > self.plan.setup.window.count {
            self.fail("(6) more outcomes are kept than the window holds");
        }
    }
}
