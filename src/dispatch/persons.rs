//! Persons: what is kept for them, and what they rule.

use super::Dispatch;
use super::cascade::Onward;
use super::store::Pending;
use crate::clock::Now;
use crate::engine::Completion;
use crate::intake::Code;
use crate::reply::Source;
use crate::spool::forms::Draft;
use crate::spool::{Numbered, Tree};
use crate::ticket::{State, TicketNo, What};

/// What a person rules on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The best answer so far is right.
    Approve,
    /// This is the answer.
    Correct(String),
    /// There is no answer to this, for this reason.
    Reject(String),
}

impl Dispatch {
    /// A person is to answer: the record moves to them.
    pub(super) fn to_person(&mut self, no: TicketNo, onward: Onward, now: Now) {
        let keep = self.setup.patience.review_keep;
        if !self.step(no, What::ToPerson(onward.why.clone()), now) {
            return;
        }
        let tell = onward.tell;
        self.take_along(no, onward, keep, now);
        self.relocate(no, Tree::Review, tell, now);
    }

    /// A person ruled on it. Nothing is done where it has left them meanwhile.
    pub fn ruled(&mut self, no: TicketNo, ruling: Ruling, now: Now) {
        let pending = self.slips.get(&no).map(|slip| slip.state) == Some(State::Pending);
        if !pending || self.held.get(&no).is_some_and(|held| held.moving > 0) {
            return;
        }
        if self.held.contains_key(&no) {
            self.settle_ruled(no, ruling, now);
        } else {
            let (tree, seq) = self.home(no);
            self.ask(tree, seq, seq, 1, Pending::Rule { no, ruling });
        }
    }

    pub(super) fn ruled_read(
        &mut self,
        no: TicketNo,
        ruling: Ruling,
        record: Option<Numbered>,
        now: Now,
    ) {
        let pending = self.slips.get(&no).map(|slip| slip.state) == Some(State::Pending);
        if !pending {
            return;
        }
        if self.held.contains_key(&no) || self.recall(no, Tree::Review, record, now) {
            self.settle_ruled(no, ruling, now);
        }
    }

    fn settle_ruled(&mut self, no: TicketNo, ruling: Ruling, now: Now) {
        let draft = self.held.get(&no).and_then(|held| held.draft()).cloned();
        let form = draft.as_ref().map(|draft| draft.completion.form);
        let by_hand = |completion: Completion| Draft {
            source: Source::Human,
            completion,
            features: None,
        };
        match (ruling, draft) {
            (Ruling::Approve, Some(draft)) => {
                self.settle_answered(no, by_hand(draft.completion), None, now);
            }
            (Ruling::Correct(text), _) => {
                let completion = Completion {
                    text,
                    form: form.unwrap_or_default(),
                    ..Completion::default()
                };
                self.settle_answered(no, by_hand(completion), None, now);
            }
            (Ruling::Reject(why), _) => {
                self.settle_refused(no, Code::Rejected, &why, None, now);
            }
            (Ruling::Approve, None) => {
                self.let_go(no); // there is nothing to approve
            }
        }
    }

    /// Nobody ruled on it in the time that it was kept.
    pub(super) fn person_too_late(&mut self, no: TicketNo, now: Now) {
        let why = "no person answered in the time that it was kept";
        self.settle_with_draft(no, why, Code::Expired, now);
    }

    /// A request waits for a person, durably.
    pub(super) fn remember_person(&mut self, _no: TicketNo, _now: Now) {}

    /// It does not any more.
    pub(super) fn forget_person(&mut self, _no: TicketNo) {}
}
