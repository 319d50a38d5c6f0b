//! The end of a request: its outcome, its letters and the end of its record in one transaction.

use super::store::{Pending, Settling};
use super::strain::shut_words;
use super::{Dispatch, Held, InboxRecord};
use crate::clock::Now;
use crate::intake::{Code, ReturnAddress};
use crate::reply::{Finality, Outcome, Reply, Timing};
use crate::spool::forms::{Draft, Filed};
use crate::spool::{Op, Room, Tree};
use crate::ticket::{TicketNo, Verdict, What};

impl Dispatch {
    /// An answer is the last word.
    pub(super) fn settle_answered(
        &mut self,
        no: TicketNo,
        mut draft: Draft,
        first_token: Option<f64>,
        now: Now,
    ) {
        self.tell_standing(&mut draft);
        let outcome = Outcome::Answered {
            source: draft.source,
            completion: draft.completion,
        };
        self.settle(no, outcome, first_token, now);
    }

    /// Nobody gives a better answer: the best so far, or the refusal.
    pub(super) fn settle_with_draft(&mut self, no: TicketNo, why: &str, code: Code, now: Now) {
        let Some(held) = self.held.get_mut(&no) else {
            return;
        };
        match held.draft().cloned() {
            Some(draft) => {
                held.because(why.into());
                held.decision.degraded = true;
                self.settle_answered(no, draft, None, now);
            }
            None => self.settle_refused(no, code, why, None, now),
        }
    }

    pub(super) fn settle_without_engine(&mut self, no: TicketNo, now: Now) {
        let why = "this appliance has no engine that could answer";
        self.settle_refused(no, Code::EngineUnavailable, why, None, now);
    }

    /// The router sends it nowhere.
    pub(super) fn settle_by_rule(&mut self, no: TicketNo, code: Code, now: Now) {
        if matches!(code, Code::Hot | Code::Memory) {
            let again = self.comes_again_ms(code);
            self.settle_refused(no, code, shut_words(code), again, now);
            return;
        }
        if code != Code::Policy {
            self.settle_without_engine(no, now);
            return;
        }
        let rule = self.held.get(&no).map(|held| &held.decision.route.rule);
        let rule = rule.map_or("", String::as_str);
        let why = format!("rule {rule} of this appliance refuses it");
        self.settle_refused(no, code, &why, None, now);
    }

    pub(super) fn settle_refused(
        &mut self,
        no: TicketNo,
        code: Code,
        why: &str,
        retry_after_ms: Option<u64>,
        now: Now,
    ) {
        let outcome = Outcome::Refused {
            code,
            message: why.into(),
            retry_after_ms,
        };
        self.settle(no, outcome, None, now);
    }

    /// Gives a ticket its outcome: outcome record, letters and the end of its record in one
    /// transaction.
    fn settle(&mut self, no: TicketNo, outcome: Outcome, first_token: Option<f64>, now: Now) {
        let verdict = match &outcome {
            Outcome::Answered { .. } | Outcome::Awaited => Verdict::Answered,
            Outcome::Refused { code, .. } => Verdict::Refused(*code),
        };
        if !self.held.contains_key(&no) || !self.step(no, What::Settled(verdict), now) {
            return;
        }
        self.leave_tiers(no);
        let word = verdict.word();
        self.log_settled(no, &outcome, word);
        let mut condition = self.condition();
        let Some(held) = self.held.get(&no) else {
            return;
        };
        condition.degraded |= held.decision.degraded;
        self.measure(held, &outcome, now);
        let (id, client) = (held.request.id.clone(), held.request.client.clone());
        let reply = Reply {
            id: Some(id.as_str().into()),
            outcome,
            finality: Finality::Final,
            condition,
            timing: held.timing(first_token, now),
            route: held.decision.route.clone(),
        };
        let first = held.request.reply.clone();
        let (content, accepted, inbox) = (held.request.content, held.accepted, held.inbox);
        let rule = held.decision.route.rule.clone();
        let payload = reply.to_json();
        let letters: Vec<_> = std::iter::once(first)
            .chain(self.also_to(no))
            .filter(|address| *address != ReturnAddress::Local)
            .collect::<Vec<_>>()
            .iter()
            .filter_map(|address| {
                let step = self.next_step(no);
                self.letter(no, address, payload.clone(), step)
            })
            .collect();
        let steps = self.slips.get(&no).map_or(0, |slip| u64::from(slip.steps));
        let filed = Filed {
            no,
            scope: client.scope(),
            id,
            content,
            accepted,
            settled: now.wall,
            verdict: word.into(),
            rule,
            steps,
            reply: payload,
        };
        // What was never promised may be refused; what was, has its room.
        let room = match inbox {
            InboxRecord::Unwritten => Room::IfFree,
            InboxRecord::Writing | InboxRecord::Written => Room::Always,
        };
        let mut ops = vec![Op::Append {
            tree: Tree::Outcomes,
            seq: no.0,
            record: filed.seal(),
            room: Room::Always,
            leased_until: None,
        }];
        ops.extend(letters.iter().map(|letter| letter.op(room, now)));
        if inbox != InboxRecord::Unwritten {
            let (tree, seq) = self.home(no);
            ops.push(Op::Ack { tree, seq });
        }
        self.count("settled", word);
        let settling = Settling {
            no,
            letters,
            steps,
            ops: ops.clone(),
        };
        self.decide(ops, Pending::Settle(settling));
    }

    fn log_settled(&self, no: TicketNo, outcome: &Outcome, word: &'static str) {
        let Some(held) = self.held.get(&no) else {
            return;
        };
        tracing::info!(
            request_id = held.request.id.as_str(),
            client = held.request.client.name(),
            ticket = no.0,
            rule = held.decision.route.rule,
            source = match outcome {
                Outcome::Answered { source, .. } => source.word(),
                Outcome::Awaited | Outcome::Refused { .. } => "none",
            },
            outcome = word,
            "settled"
        );
    }

    /// Where a ticket's record lies.
    pub(super) fn home(&self, no: TicketNo) -> (Tree, u64) {
        let slip = self.slips.get(&no);
        let tree = slip.map_or(Tree::Inbox, |slip| slip.home);
        let priority = slip.map(|slip| slip.priority).unwrap_or_default();
        (tree, no.inbox_seq(priority))
    }

    /// Everything that was being done elsewhere for a ticket that has its outcome.
    fn leave_tiers(&mut self, no: TicketNo) {
        self.forget_person(no);
        self.leave_cloud(no);
    }

    pub(super) fn also_to(&self, no: TicketNo) -> Vec<ReturnAddress> {
        let also = self.addresses.get(&no).into_iter().flatten();
        also.map(|also| also.address.clone()).collect()
    }
}

impl Held {
    /// Since it was accepted.
    pub(super) fn age(&self, now: Now) -> std::time::Duration {
        self.waited + now.mono.since(self.since)
    }

    pub(super) fn timing(&self, first_token: Option<f64>, now: Now) -> Timing {
        let ms = |span: std::time::Duration| span.as_secs_f64() * 1000.0;
        let total = self.age(now);
        let computing = self.started.map(|started| now.mono.since(started));
        Timing {
            queued: ms(total.saturating_sub(computing.unwrap_or_default())),
            first_token,
            total: ms(total),
        }
    }
}

impl crate::ticket::Verdict {
    /// The word in records, logs and timelines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused(code) => code.word(),
        }
    }
}
