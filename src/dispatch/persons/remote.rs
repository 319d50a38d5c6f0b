//! Reviewers elsewhere: items out, verdicts in.
//!
//! Items leave through [`RemoteReviewPort`] alone, and so only as what the policy cleared: anew each
//! time, also after a restart and for each reconnect. A verdict's message is acknowledged to the
//! broker when what it led to is durable, or was refused; what became of it goes to the topic of
//! results, with the verdict's correlation data.
//!
//! Who may give a verdict is what the broker's access list says of the topic.
//!
//! How it fails: an item that cannot be read or is not cleared is not published, and counted. What
//! is to be withdrawn while there is no line is remembered up to a limit; after it, a reviewer
//! finds out by the answer to a verdict.

use super::Ruler;
use crate::broker::{Command, Delivery, Parcel, ParcelId, Retain};
use crate::clock::Now;
use crate::dispatch::store::Pending;
use crate::dispatch::{Dispatch, Link, MAX_QUESTIONS, MAX_VOLATILE, Phase};
use crate::intake::{MAX_CORRELATION_BYTES, Message};
use crate::reply;
use crate::review::desk::From;
use crate::review::{ItemId, Named, Refusal, Seen, Told, remote};
use crate::router::{Cleared, Escalation, RemoteReviewPort, ToReviewers};
use crate::spool::Numbered;
use crate::spool::forms::Passed;
use crate::ticket::TicketNo;

/// Messages to reviewers under way at a time: enough for a list to arrive in a moment, few enough
/// that replies never wait for them.
const WINDOW: usize = 16;
/// Items to be withdrawn that are remembered while there is no line.
const MAX_WITHDRAWN: usize = 1024;

/// The board that reviewers elsewhere look at.
struct Board<'a> {
    dispatch: &'a mut Dispatch,
    now: Now,
}

impl RemoteReviewPort for Board<'_> {
    fn publish(&mut self, cleared: Cleared<ToReviewers>) {
        let dispatch = &mut *self.dispatch;
        let no = cleared.clearance().ticket();
        let Some(seen) = dispatch.persons.desk.seen(no, self.now) else {
            return; // settled meanwhile
        };
        let request = &cleared.escalation().request;
        let wanted = dispatch.setup.review.forms.wanted(request);
        if let Some(message) = remote::open(&cleared, &seen, &wanted, self.now) {
            let topic = dispatch.setup.topics.review_item();
            let id = dispatch.publish_to_reviewers(topic, message, None);
            dispatch.persons.publishing.insert(id);
        }
    }
}

impl Dispatch {
    /// A new line: whoever listens there now may have seen nothing.
    pub(in crate::dispatch) fn show_items_again(&mut self) {
        self.persons.desk.publish_all_again();
    }

    /// Publishes what is to be published, as far as the window has room.
    pub(in crate::dispatch) fn pump_items(&mut self) {
        if self.link == Link::Down || self.phase == Phase::Draining {
            return;
        }
        while self.has_room_for_items()
            && let Some(id) = self.persons.withdrawn.pop_front()
        {
            let topic = self.setup.topics.review_item();
            let id = self.publish_to_reviewers(topic, remote::withdrawn(id), None);
            self.persons.publishing.insert(id);
        }
        while self.has_room_for_items()
            && !self.store.is_failing()
            && self.store.questions() < MAX_QUESTIONS
            && let Some(no) = self.persons.desk.publish_next()
        {
            self.persons.reading.insert(no);
            let (tree, seq) = self.home(no);
            self.ask(tree, seq, seq, 1, Pending::Publish(no));
        }
    }

    fn has_room_for_items(&self) -> bool {
        self.persons.publishing.len() + self.persons.reading.len() < WINDOW
    }

    /// The record of an item that is to be published.
    pub(in crate::dispatch) fn publish_read(
        &mut self,
        no: TicketNo,
        record: Option<Numbered>,
        now: Now,
    ) {
        self.persons.reading.remove(&no);
        if self.link == Link::Down {
            return; // everything is shown again when it is back
        }
        let Some(passed) = record.and_then(|(_, body)| Passed::read(&body).ok()) else {
            if self.store.is_failing() {
                self.persons.desk.publish_again(no); // when it is back
            } else if self.persons.desk.holds(no) {
                self.count("review", "unreadable");
            }
            return;
        };
        let escalation = escalation(passed);
        match self.setup.router.policy.clear_for_reviewers(escalation) {
            Ok(cleared) => Board {
                dispatch: self,
                now,
            }
            .publish(cleared),
            Err(_) => self.count("review", "not cleared"),
        }
    }

    /// What somebody sees of an item who is not at the appliance: nothing but what the policy cleared
    /// for reviewers. What it did not clear does not exist for them.
    pub(super) fn cleared_sheet(
        &mut self,
        passed: Passed,
        seen: &Seen,
        now: Now,
    ) -> Result<Told, Refusal> {
        let policy = &self.setup.router.policy;
        let cleared = policy.clear_for_reviewers(escalation(passed));
        let Ok(cleared) = cleared else {
            self.count("review", "not cleared");
            return Err(Refusal::Unknown);
        };
        let request = &cleared.escalation().request;
        let wanted = self.setup.review.forms.wanted(request);
        let sheet = remote::sheet(&cleared, seen, &wanted, now);
        sheet
            .map(|it| Told::Sheet(Box::new(it)))
            .ok_or(Refusal::Unknown)
    }

    /// An item waits no more.
    pub(super) fn withdraw_item(&mut self, id: ItemId) {
        if self.persons.withdrawn.len() >= MAX_WITHDRAWN {
            self.persons.withdrawn.pop_front();
            self.count("dropped", "withdrawn item");
        }
        self.persons.withdrawn.push_back(id);
    }

    /// The broker has a message to reviewers, or never will.
    pub(in crate::dispatch) fn on_item_parcel(&mut self, id: ParcelId) {
        self.persons.publishing.remove(&id);
    }

    /// A message on the topic of verdicts.
    pub(in crate::dispatch) fn on_remote_verdict(&mut self, message: &Message, now: Now) {
        if message.retained {
            self.count("verdicts", "retained"); // it would come at each subscription
            self.acknowledge(message.ack);
            return;
        }
        let correlation = message.correlation.clone();
        let ruler = Ruler::Elsewhere {
            ack: message.ack,
            correlation: correlation.filter(|data| data.len() <= MAX_CORRELATION_BYTES),
        };
        match remote::read(&message.payload) {
            Ok(told) => {
                let named = Named::from(told.id);
                self.on_verdict(
                    &named,
                    told.reviewer,
                    told.verdict,
                    ruler,
                    From::Elsewhere,
                    now,
                );
            }
            Err(garble) => {
                self.count("verdicts", "garbled");
                if let Ruler::Elsewhere { ack, correlation } = ruler {
                    let fault = Err((garble.code(), garble.to_string()));
                    self.publish_result(None, fault, correlation);
                    self.acknowledge(ack);
                }
            }
        }
    }

    /// Says what became of a verdict.
    pub(super) fn publish_result(
        &mut self,
        id: Option<ItemId>,
        outcome: Result<(), (&'static str, String)>,
        correlation: Option<Vec<u8>>,
    ) {
        if self.post.volatile_count() >= MAX_VOLATILE {
            self.count("dropped", "verdict result");
            return;
        }
        let topic = self.setup.topics.review_result();
        let message = remote::result(id, outcome);
        self.publish_to_reviewers(topic, message, correlation);
    }

    fn publish_to_reviewers(
        &mut self,
        topic: String,
        payload: Vec<u8>,
        correlation: Option<Vec<u8>>,
    ) -> ParcelId {
        let id = self.post.volatile(Vec::new());
        self.out.broker.push(Command::Publish(Parcel {
            id,
            topic,
            payload,
            correlation,
            content_type: Some(reply::CONTENT_TYPE),
            expiry_s: Some(self.setup.reply_expiry_s),
            user_properties: Vec::new(),
            delivery: Delivery::AtLeastOnce,
            retain: Retain::No,
        }));
        id
    }
}

/// What is to be cleared of a record.
fn escalation(passed: Passed) -> Escalation {
    Escalation {
        ticket: passed.waiting.no,
        request: passed.waiting.request,
        draft: passed.draft.map(|it| (it.source, it.completion)),
        why: passed.why,
    }
}
