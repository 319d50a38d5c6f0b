//! Persons: what waits for them, and what they say.
//!
//! ```text
//!  to_person ─► record moves to Tree::Review ─► remember_person ─► desk
//!                                                                   │
//!  control socket, page, console ──┐                                ▼
//!                                  ├─► Asked ─► desk ─► record ─► ruled ─► outcome ─► whoever ruled
//!  …/review/verdict (see remote) ──┘                                          (when it is durable)
//! ```
//!
//! Purpose: the one port through which persons see and settle requests ([`Dispatch::on_review`]).
//! The desk knows who has what; the texts are read from the disk each time they are looked at.
//!
//! Invariants: a reviewer hears that a verdict counts only after the outcome is on the disk; an item
//! is on the desk exactly while its ticket waits for a person.
//!
//! How it fails: by a [`Refusal`]; the item stays where it is.

mod remote;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::cascade::Onward;
use super::store::Pending;
use super::{Answer, Dispatch, InboxRecord, MAX_QUESTIONS, SessionNo};
use crate::broker::ParcelId;
use crate::clock::{Now, Wall};
use crate::engine::Completion;
use crate::intake::{AckToken, Code, Request};
use crate::reply::Source;
use crate::review::desk::{Elsewhere, From, Head};
use crate::review::sheet::{Answer as Form, Draft as Shown};
use crate::review::{
    Asked, Desk, Fallback, ItemId, Named, Refusal, Reviewer, Row, Sheet, Told, Verdict,
};
use crate::spool::forms::{Draft, Passed};
use crate::spool::{Numbered, Tree};
use crate::ticket::{Known, State, TicketNo, What};

/// What the dispatcher keeps of persons.
#[derive(Debug, Default)]
pub(super) struct Persons {
    desk: Desk,
    /// Verdicts whose outcome is on its way to the disk.
    ruled: BTreeMap<TicketNo, Ruled>,
    /// Items that are being read, to be published.
    reading: BTreeSet<TicketNo>,
    /// Messages to reviewers elsewhere that the broker does not have yet.
    publishing: BTreeSet<ParcelId>,
    /// Items of which they are to be told that they wait no more.
    withdrawn: VecDeque<ItemId>,
}

/// Who gave a verdict, and is told what became of it.
#[derive(Clone, Debug)]
pub(super) enum Ruler {
    /// Somebody at the appliance.
    Here(SessionNo),
    /// Somebody elsewhere.
    Elsewhere {
        ack: Option<AckToken>,
        correlation: Option<Vec<u8>>,
    },
}

/// Who looks at an item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looker {
    session: SessionNo,
    from: From,
}

/// A verdict that was carried out, until it is durable.
#[derive(Debug)]
struct Ruled {
    id: ItemId,
    ruler: Ruler,
    by: Reviewer,
    /// The answer that it led to; none of a rejection.
    answer: Option<Completion>,
}

/// A verdict, until it is carried out.
#[derive(Clone, Debug)]
pub(super) struct Ruling {
    pub id: ItemId,
    pub by: Reviewer,
    pub verdict: Verdict,
    pub ruler: Ruler,
}

impl Persons {
    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.desk.has_room()
    }
}

impl Dispatch {
    /// A person is to answer: the record moves to them.
    #[expect(
        clippy::wrong_self_convention,
        reason = "it goes to one; nothing is converted"
    )]
    pub(super) fn to_person(&mut self, no: TicketNo, onward: Onward, now: Now) {
        if !self.persons.has_room() {
            self.count("review", "desk full");
            let why = "too much waits for persons already";
            self.settle_with_draft(no, why, Code::Busy, now);
            return;
        }
        let keep = self.setup.patience.review_keep;
        if !self.step(no, What::ToPerson(onward.why.clone()), now) {
            return;
        }
        let tell = onward.tell;
        self.take_along(no, onward, keep, now);
        self.relocate(no, Tree::Review, tell, now);
    }

    /// A request waits for a person, durably.
    pub(super) fn remember_person(&mut self, no: TicketNo, now: Now) {
        let Some(held) = self.held.get(&no) else {
            return;
        };
        let expires = held.case.as_ref().map_or(now.wall, |case| case.expires);
        let head = head_of(no, &held.request, held.accepted, expires);
        self.put_on_desk(head);
    }

    /// The same for one that the disk brought back.
    pub(super) fn put_on_desk(&mut self, mut head: Head) {
        let ways = self.setup.router.policy.ways();
        if ways.remote_review.takes(head.classification) {
            head.elsewhere = Elsewhere::Allowed;
        }
        self.persons.desk.put(head);
    }

    /// It does not any more.
    pub(super) fn forget_person(&mut self, no: TicketNo) {
        if let Some(head) = self.persons.desk.remove(no)
            && head.elsewhere == Elsewhere::Allowed
        {
            self.withdraw_item(head.id);
        }
    }

    /// Somebody at one of the appliance's own surfaces wants something of the desk.
    pub(super) fn on_review(&mut self, session: SessionNo, from: From, asked: Asked, now: Now) {
        let looker = Looker { session, from };
        let told = match asked {
            Asked::List { after, max } => {
                let page = self.persons.desk.list(from, after, max, now);
                Some(Ok(Told::Listed {
                    rows: page.items.iter().map(|seen| Row::of(seen, now)).collect(),
                    total: page.total,
                    next: page.next,
                }))
            }
            Asked::Show(named) => self.show(looker, &named, None, now),
            Asked::Take(named, by) => self.show(looker, &named, Some(&by), now),
            Asked::GiveBack(named, by) => Some(self.give_back(&named, &by, from, now)),
            Asked::Rule(named, by, verdict) => {
                let ruler = Ruler::Here(session);
                self.on_verdict(&named, by, verdict, ruler, from, now);
                None
            }
        };
        if let Some(told) = told {
            self.out.answers.push((session, Answer::Review(told)));
        }
    }

    fn give_back(
        &mut self,
        named: &Named,
        by: &Reviewer,
        from: From,
        now: Now,
    ) -> Result<Told, Refusal> {
        let (no, id) = self.item(named, from)?;
        self.persons.desk.give_back(no, by, now)?;
        Ok(Told::GivenBack(id))
    }

    /// The item that is meant, or what became of it.
    fn item(&self, named: &Named, from: From) -> Result<(TicketNo, ItemId), Refusal> {
        match self.persons.desk.find(named, from) {
            Ok(head) => Ok((head.no, head.id)),
            Err(Refusal::Unknown) => Err(self.gone(named)),
            Err(refusal) => Err(refusal),
        }
    }

    /// Whether an item that is not on the desk was settled. By its name alone, which tells nothing of
    /// what was asked.
    fn gone(&self, named: &Named) -> Refusal {
        let known = named.whole().and_then(|id| self.register.find(id.key()));
        let settled = match known {
            Some(Known::Settled(_)) => true,
            Some(Known::Open(no)) => self.slips.get(&no).is_some_and(|it| !it.state.is_open()),
            None => false,
        };
        if settled {
            Refusal::Settled
        } else {
            Refusal::Unknown
        }
    }

    /// Reads an item for somebody, who takes it first where a name is given.
    fn show(
        &mut self,
        looker: Looker,
        named: &Named,
        taker: Option<&Reviewer>,
        now: Now,
    ) -> Option<Result<Told, Refusal>> {
        let no = match self.item(named, looker.from) {
            Ok((no, _)) => no,
            Err(refusal) => return Some(Err(refusal)),
        };
        if self.store.questions() >= MAX_QUESTIONS {
            return Some(Err(Refusal::Store));
        }
        if let Some(by) = taker
            && let Err(refusal) = self.persons.desk.take(no, by, now)
        {
            return Some(Err(refusal));
        }
        let (tree, seq) = self.home(no);
        self.ask(tree, seq, seq, 1, Pending::Show { no, looker });
        None
    }

    /// The record of an item that somebody looks at.
    pub(super) fn shown_read(
        &mut self,
        no: TicketNo,
        looker: Looker,
        record: Option<Numbered>,
        now: Now,
    ) {
        let seen = self.persons.desk.seen(no, now);
        let read = record.and_then(|(_, body)| Passed::read(&body).ok());
        let told = match (seen, read) {
            (Some(seen), Some(passed)) if looker.from == From::Elsewhere => {
                self.cleared_sheet(passed, &seen, now)
            }
            (Some(seen), Some(passed)) => {
                let request = &passed.waiting.request;
                let wanted = self.setup.review.forms.wanted(request);
                Ok(Told::Sheet(Box::new(Sheet {
                    row: Row::of(&seen, now),
                    question: request.ask.text().to_owned(),
                    answer: Form::of(&wanted),
                    draft: passed.draft.as_ref().map(shown),
                    why: passed.why.to_string(),
                })))
            }
            (None, _) => Err(Refusal::Settled), // while it was read
            (Some(_), None) => Err(Refusal::Store),
        };
        let answer = Answer::Review(told);
        self.out.answers.push((looker.session, answer));
    }

    /// Somebody says what is to become of an item.
    fn on_verdict(
        &mut self,
        named: &Named,
        by: Reviewer,
        verdict: Verdict,
        ruler: Ruler,
        from: From,
        now: Now,
    ) {
        let found = self.item(named, from).and_then(|(no, id)| {
            self.persons.desk.may_rule(no, &by, now)?;
            verdict.check()?;
            let crowded = self.store.questions() >= MAX_QUESTIONS;
            (!crowded).then_some((no, id)).ok_or(Refusal::Store)
        });
        match found {
            Ok((no, id)) => {
                let ruling = Ruling {
                    id,
                    by,
                    verdict,
                    ruler,
                };
                let (tree, seq) = self.home(no);
                self.ask(tree, seq, seq, 1, Pending::Rule { no, ruling });
            }
            Err(refusal) => self.tell_ruler(ruler, named.whole(), Err(refusal)),
        }
    }

    /// The record of an item that is to be settled: whatever has happened meanwhile counts.
    pub(super) fn ruled_read(
        &mut self,
        no: TicketNo,
        ruling: Ruling,
        record: Option<Numbered>,
        now: Now,
    ) {
        let Ruling {
            id,
            by,
            verdict,
            ruler,
        } = ruling;
        let refusal = match self.rule(no, &by, verdict, record, now) {
            Ok(answer) => {
                let ruled = Ruled {
                    id,
                    ruler,
                    by,
                    answer,
                };
                self.persons.ruled.insert(no, ruled);
                return;
            }
            Err(Refusal::Unknown) => Refusal::Settled, // while it was read
            Err(refusal) => refusal,
        };
        self.let_go(no);
        self.tell_ruler(ruler, Some(id), Err(refusal));
    }

    /// Carries a verdict out; the answer that it led to.
    fn rule(
        &mut self,
        no: TicketNo,
        by: &Reviewer,
        verdict: Verdict,
        record: Option<Numbered>,
        now: Now,
    ) -> Result<Option<Completion>, Refusal> {
        self.persons.desk.may_rule(no, by, now)?;
        let pending = self.slips.get(&no).map(|slip| slip.state) == Some(State::Pending);
        let moving = self.held.get(&no).is_some_and(|held| held.moving > 0);
        if !pending || moving {
            return Err(Refusal::Store);
        }
        if !self.held.contains_key(&no) && !self.recall(no, Tree::Review, record, now) {
            return Err(Refusal::Store);
        }
        let word = verdict.word();
        let answer = match verdict {
            Verdict::Approve => {
                let answer = self.approved(no)?;
                self.settle_by_hand(no, answer.clone(), "a person approved it", now);
                Some(answer)
            }
            Verdict::Correct(text) => {
                let answer = self.corrected(no, &text)?;
                self.settle_by_hand(no, answer.clone(), "a person corrected it", now);
                Some(answer)
            }
            Verdict::Reject(reason) => {
                self.settle_refused(no, Code::Rejected, &reason, None, now);
                None
            }
        };
        self.count("verdicts", word);
        Ok(answer)
    }

    fn approved(&self, no: TicketNo) -> Result<Completion, Refusal> {
        let held = self.held.get(&no).ok_or(Refusal::Store)?;
        let draft = held.draft().ok_or(Refusal::NoDraft)?;
        Ok(draft.completion.clone())
    }

    fn corrected(&self, no: TicketNo, text: &str) -> Result<Completion, Refusal> {
        let held = self.held.get(&no).ok_or(Refusal::Store)?;
        let wanted = self.setup.review.forms.wanted(&held.request);
        Ok(Completion {
            text: wanted.fitted(text)?,
            form: wanted.form(),
            ..Completion::default()
        })
    }

    fn settle_by_hand(&mut self, no: TicketNo, answer: Completion, said: &str, now: Now) {
        if let Some(held) = self.held.get_mut(&no) {
            held.because(said.into());
        }
        let answer = Draft {
            source: Source::Human,
            completion: answer,
            features: None,
        };
        self.settle_answered(no, answer, None, now);
    }

    /// An outcome is on the disk, its request still in memory: whoever ruled hears of it, and now
    /// the verdict teaches. A crash before costs a lesson, and never counts one twice.
    pub(super) fn ruled_durably(&mut self, no: TicketNo, now: Now) {
        if let Some(ruled) = self.persons.ruled.remove(&no) {
            if let Some(answer) = &ruled.answer {
                self.learn(no, answer, ruled.by.as_str(), now);
            }
            self.tell_ruler(ruled.ruler, Some(ruled.id), Ok(()));
        }
    }

    fn tell_ruler(&mut self, ruler: Ruler, id: Option<ItemId>, result: Result<(), Refusal>) {
        match (ruler, id) {
            (Ruler::Here(session), Some(id)) => {
                let told = result.map(|()| Told::Ruled(id));
                self.out.answers.push((session, Answer::Review(told)));
            }
            (Ruler::Here(session), None) => {
                let refusal = result.err().unwrap_or(Refusal::Unknown);
                self.out
                    .answers
                    .push((session, Answer::Review(Err(refusal))));
            }
            (Ruler::Elsewhere { ack, correlation }, id) => {
                let outcome = result.map_err(|refusal| (refusal.code(), refusal.to_string()));
                self.publish_result(id, outcome, correlation);
                self.acknowledge(ack);
            }
        }
    }

    /// Says what does not add up: an item is on the desk exactly while its ticket waits for a person
    /// and its record lies where it is to lie.
    pub(super) fn audit_desk(&self) -> Result<(), String> {
        for (no, slip) in &self.slips {
            let arrived = self
                .held
                .get(no)
                .is_none_or(|held| held.moving == 0 && held.inbox == InboxRecord::Written);
            let waits = slip.state == State::Pending && arrived;
            let listed = self.persons.desk.holds(*no);
            let moves = slip.state == State::Pending && !arrived;
            if listed != waits && !(listed && moves) {
                return Err(format!("{no:?} is {:?}; on the desk: {listed}", slip.state));
            }
        }
        let listed = self.persons.desk.len();
        let pending = self.slips.values().filter(|it| it.state == State::Pending);
        let most = pending.count();
        if listed > most {
            return Err(format!("{listed} on the desk, {most} wait for a person"));
        }
        let gone = |no: &&TicketNo| !self.slips.contains_key(no);
        match self.persons.ruled.keys().find(gone) {
            Some(no) => Err(format!("{no:?} is gone and somebody waits for its outcome")),
            None => Ok(()),
        }
    }

    /// Nobody ruled on it in the time that it was kept.
    pub(super) fn person_too_late(&mut self, no: TicketNo, now: Now) {
        let why = "no person answered in the time that it was kept";
        self.count("review", "expired");
        match self.setup.review.at_expiry {
            Fallback::Draft => self.settle_with_draft(no, why, Code::Expired, now),
            Fallback::Refuse => self.settle_refused(no, Code::Expired, why, None, now),
        }
    }
}

/// What the desk knows of a request.
pub(super) fn head_of(no: TicketNo, request: &Request, accepted: Wall, expires: Wall) -> Head {
    Head {
        no,
        id: ItemId::of(request),
        request: request.id.as_str().to_owned(),
        client: request.client.name().to_owned(),
        task: request.ask.task().map(str::to_owned),
        priority: request.priority,
        classification: request.classification,
        accepted,
        expires,
        elsewhere: Elsewhere::Never,
    }
}

/// A draft as a reviewer sees it.
fn shown(draft: &Draft) -> Shown {
    Shown::of(&draft.source, &draft.completion)
}
