//! The cascade: from an answer, or from none, to the next tier.
//!
//! ```text
//!  edge ─ sure ─► final            cloud ─ sure, or agrees ─► final
//!    ├─ owed, to be verified ─► cloud   ├─ in doubt ─► person, if one can be had; else final
//!    ├─ in doubt ─► cloud ─► person     └─ cannot ─► person; else the best answer so far
//!    └─ cannot: over context, crashed twice, absent ─► cloud ─► person ─► refused
//! ```
//!
//! Who comes next is decided anew each time, by how things stand then; what was decided before
//! about the request itself (rule, reasons, who has the last word) goes with its record.

use std::time::Duration;

use super::away::Last;
use super::moves::Tell;
use super::{Case, Dispatch, Trip, engine};
use crate::clock::Now;
use crate::engine::{Completion, Form, LoadNo};
use crate::intake::{Code, Detail, Late, Request};
use crate::reply::Source;
use crate::router::affinity::Went;
use crate::router::judge::Measured;
use crate::router::{By, Decision, Edge, Judgement, Reach, Said, Situation, Tier, confidence};
use crate::spool::Tree;
use crate::spool::forms::Draft;
use crate::ticket::{TicketNo, What, Why};
use crate::uplink::{self, CloudAnswer};

/// What goes with a request to the next tier.
#[derive(Debug)]
pub(super) struct Onward {
    pub why: Why,
    /// The best answer so far, where there is a better one than before.
    pub draft: Option<Draft>,
    pub tell: Tell,
}

impl Dispatch {
    /// Where a request goes, as things stand and with the edge being so.
    pub(super) fn route_with(
        &mut self,
        request: &Request,
        topic: Option<&str>,
        edge: Edge,
        now: Now,
    ) -> Decision {
        let clouds = self.cloud_reaches();
        let situation = self.situation(topic, edge, &clouds, now);
        let router = &self.setup.router;
        self.habits.decide(router, request, &situation, now.mono)
    }

    fn situation<'a>(
        &self,
        topic: Option<&'a str>,
        edge: Edge,
        clouds: &'a [Reach],
        now: Now,
    ) -> Situation<'a> {
        Situation {
            topic,
            minute: self.setup.router.minute(now.wall),
            broker: self.connectivity(),
            edge,
            clouds,
            review: Reach::Open,
            strain: self.allowance.state.into(),
        }
    }

    /// Whether each upstream can be reached, in the order of the policy. What the uplink has not
    /// told of yet cannot.
    fn cloud_reaches(&self) -> Vec<Reach> {
        let known = &self.setup.router.policy.ways().upstreams;
        let standing = |name: &str| {
            let mut all = self.away.state.upstreams.iter();
            all.find(|it| it.name == name).map(|it| it.reach)
        };
        known
            .iter()
            .map(|it| match standing(&it.name) {
                Some(uplink::Reach::Open) => Reach::Open,
                Some(uplink::Reach::Resting { .. } | uplink::Reach::Spent { .. }) | None => {
                    Reach::Shut
                }
            })
            .collect()
    }

    /// Whether any upstream can be reached; none where there is no upstream.
    pub(super) fn cloud_reach(&self) -> Option<Reach> {
        self.cloud_reaches()
            .into_iter()
            .min_by_key(|reach| match reach {
                Reach::Open => 0,
                Reach::Shut => 1,
                Reach::Absent => 2,
            })
    }

    /// Who may be asked after this tier.
    fn after(&self, tier: Tier, request: &Request, now: Now) -> Vec<Tier> {
        let clouds = self.cloud_reaches();
        let situation = self.situation(None, Edge::Open, &clouds, now);
        self.setup.router.onward(tier, request, &situation)
    }

    pub(super) fn is_in_reach(&self, upstream: &str) -> bool {
        let names = &self.setup.router.policy.ways().upstreams;
        let mut known = names.iter().zip(self.cloud_reaches());
        known.any(|(it, reach)| it.name == upstream && reach == Reach::Open)
    }

    /// The edge has answered.
    pub(super) fn edge_answered(
        &mut self,
        no: TicketNo,
        mut completion: Completion,
        load: LoadNo,
        now: Now,
    ) {
        let Some(held) = self.held.get(&no) else {
            return;
        };
        self.appetite.answered += 1;
        self.measure_computed(&completion);
        let features = Some(confidence::features(&completion));
        if held.request.detail == Detail::Whole {
            completion.free.clear();
        }
        completion.confidence = self.sure(&held.request, completion.confidence, load);
        let first_token = Some(f64::from(completion.first_token_ms));
        let said = Said {
            by: By::Edge,
            confidence: Some(completion.confidence),
        };
        let judged = self.router_of(load).judge(&held.request, &said);
        let owed = held.decision.owed.is_some();
        let rule = Why::Rule(held.decision.route.rule.clone());
        let next = self
            .after(Tier::Edge, &held.request, now)
            .into_iter()
            .next();
        let is_cloud = matches!(next, Some(Tier::Cloud(_)));
        let verifies = is_cloud && self.router_of(load).verifies(&held.request);
        let doubts = matches!(judged, Judgement::Doubt(_)) && next.is_some();
        self.hear_answer(load, &completion, doubts);
        self.went(
            no,
            if owed || verifies || doubts {
                Went::Onward
            } else {
                Went::Edge
            },
            now,
        );
        let draft = Draft {
            source: Source::Edge,
            completion,
            features,
        };
        let onward = |why, tell| Onward {
            why,
            draft: Some(draft.clone()),
            tell,
        };
        if owed {
            self.pass(no, onward(rule, Tell::Now), now);
            return;
        }
        if verifies {
            self.pass(no, onward(Why::Verification, Tell::Now), now);
            return;
        }
        let (doubt, next) = match (judged, next) {
            (Judgement::Doubt(doubt), Some(next)) => (doubt, next),
            (Judgement::Doubt(measured) | Judgement::Sure(Some(measured)), _) => {
                self.measured(no, measured);
                self.settle_answered(no, draft, first_token, now);
                return;
            }
            (Judgement::Sure(None), _) => {
                self.settle_answered(no, draft, first_token, now);
                return;
            }
        };
        match next {
            Tier::Cloud(name) if self.is_in_reach(&name) => {
                self.pass(no, onward(doubt.into(), Tell::Later), now);
            }
            Tier::Cloud(_) => {
                self.degrade(no);
                self.pass(no, onward(doubt.into(), Tell::Now), now);
            }
            Tier::Review(_) => self.to_person(no, onward(doubt.into(), Tell::Now), now),
            Tier::Edge | Tier::Refuse(_) => {
                self.settle_answered(no, draft, first_token, now);
            }
        }
    }

    fn measured(&mut self, no: TicketNo, measured: Measured) {
        if let Some(held) = self.held.get_mut(&no) {
            held.because(measured.reason());
        }
    }

    pub(super) fn degrade(&mut self, no: TicketNo) {
        if let Some(held) = self.held.get_mut(&no) {
            held.decision.degraded = true;
        }
    }

    /// The edge cannot answer it: whoever else may. `message` is for the device, if nobody.
    pub(super) fn without_edge(&mut self, no: TicketNo, code: Code, message: &str, now: Now) {
        let Some(held) = self.held.get(&no) else {
            return;
        };
        let topic = held.topic.clone();
        let request = held.request.clone();
        let owed = held.decision.owed.is_some();
        let decision = self.route_with(&request, topic.as_deref(), Edge::Shut(code), now);
        let is_shut = [Code::EngineUnavailable, Code::EngineFailed].contains(&code);
        let why = if is_shut {
            Why::EdgeShut
        } else {
            Why::Failed(code.word().into())
        };
        let onward = Onward {
            why,
            draft: None,
            tell: Tell::Later,
        };
        match decision.tier {
            Tier::Cloud(_) => {
                self.degrade(no);
                self.pass(no, onward, now);
            }
            Tier::Review(_) if owed => {
                self.degrade(no);
                self.pass(no, onward, now);
            }
            Tier::Review(_) => {
                self.degrade(no);
                self.to_person(no, onward, now);
            }
            Tier::Edge | Tier::Refuse(_) => {
                let again = self.comes_again_ms(code);
                self.settle_refused(no, code, message, again, now);
            }
        }
    }

    /// A request goes to the cloud: its record first, then the errand.
    pub(super) fn pass(&mut self, no: TicketNo, onward: Onward, now: Now) {
        let keep = self.setup.patience.cloud_keep;
        if !self.step(no, What::Passed(onward.why.clone()), now) {
            return;
        }
        let tell = onward.tell;
        self.take_along(no, onward, keep, now);
        self.relocate(no, Tree::Cloud, tell, now);
    }

    /// What goes with a request to another tier, in its record and in memory.
    pub(super) fn take_along(&mut self, no: TicketNo, onward: Onward, keep: Duration, now: Now) {
        self.leave_index(no);
        let (Some(slip), Some(held)) = (self.slips.get_mut(&no), self.held.get_mut(&no)) else {
            return;
        };
        if !matches!(onward.why, Why::Rule(_)) {
            held.because(onward.why.to_string());
        }
        let before = held.case.take().and_then(|case| case.draft);
        let draft = onward.draft.or(before);
        slip.trip = Some(Trip {
            expires: now.mono.after(keep),
            has_draft: draft.is_some(),
            told: held.told,
            overdue: slip.late == Late::Yes && slip.deadline <= now.mono,
            patience: None,
            failures: 0,
        });
        held.decision.owed = None;
        held.case = Some(Box::new(Case {
            why: onward.why,
            draft,
            since: now.wall,
            expires: now.wall.after(keep),
        }));
        self.wind(no);
    }

    /// The cloud has answered.
    pub(super) fn cloud_answered(&mut self, no: TicketNo, answer: CloudAnswer, now: Now) {
        let Some(held) = self.held.get_mut(&no) else {
            return;
        };
        let draft = uplink_draft(answer);
        if let (Some(case), Source::Cloud(_)) = (&held.case, &draft.source)
            && case.why == Why::Verification
            && let Some(before) = &case.draft
        {
            if agree(&before.completion, &draft.completion) {
                let before = before.clone();
                held.because("the cloud agrees".into());
                self.settle_answered(no, before, None, now);
                return;
            }
            held.because("the cloud disagrees".into());
        }
        let said = Said {
            by: By::Cloud,
            confidence: match &draft.source {
                Source::Cloud(elsewhere) => elsewhere.confidence,
                Source::Edge | Source::Human => None,
            },
        };
        let judged = self.setup.router.judge(&held.request, &said);
        let request = held.request.clone();
        let next = self.after(Tier::Cloud(String::new()), &request, now);
        match (judged, next.first()) {
            (Judgement::Doubt(doubt), Some(Tier::Review(_))) => {
                let onward = Onward {
                    why: doubt.into(),
                    draft: Some(draft),
                    tell: Tell::Now,
                };
                self.to_person(no, onward, now);
            }
            (Judgement::Doubt(measured) | Judgement::Sure(Some(measured)), _) => {
                self.measured(no, measured);
                self.settle_answered(no, draft, None, now);
            }
            (Judgement::Sure(None), _) => self.settle_answered(no, draft, None, now),
        }
    }

    /// The cloud cannot answer it, now or ever: a person, or what there is.
    pub(super) fn without_cloud(&mut self, no: TicketNo, word: &'static str, now: Now) {
        let Some(held) = self.held.get(&no) else {
            return;
        };
        let request = held.request.clone();
        let has_draft = held.case.as_ref().is_some_and(|case| case.draft.is_some());
        let next = self.after(Tier::Cloud(String::new()), &request, now);
        let asks = matches!(next.first(), Some(Tier::Review(_)));
        let needs_one = !has_draft && !self.may_stand_in(no, now);
        if asks
            || needs_one
                && self
                    .setup
                    .router
                    .policy
                    .has_person_for(request.classification)
        {
            let onward = Onward {
                why: Why::Failed(word.into()),
                draft: None,
                tell: Tell::Now,
            };
            self.degrade(no);
            self.to_person(no, onward, now);
        } else if self.may_stand_in(no, now) {
            let why = format!("the cloud cannot answer it: {}", word.replace('_', " "));
            self.stand_in(no, &why, Last::Edge, now);
        } else {
            let why = format!("the cloud cannot answer it: {}", word.replace('_', " "));
            self.settle_with_draft(no, &why, Code::CloudFailed, now);
        }
    }

    /// Whether the edge may still answer what was sent to the cloud at once.
    pub(super) fn may_stand_in(&self, no: TicketNo, now: Now) -> bool {
        let (Some(slip), Some(held)) = (self.slips.get(&no), self.held.get(&no)) else {
            return false;
        };
        let untried = held
            .case
            .as_ref()
            .is_some_and(|case| case.draft.is_none() && matches!(case.why, Why::Rule(_)));
        untried && slip.deadline > now.mono && self.engine.state != engine::State::Absent
    }
}

fn uplink_draft(answer: CloudAnswer) -> Draft {
    Draft {
        source: Source::Cloud(crate::reply::Elsewhere {
            upstream: answer.upstream,
            model: answer.model,
            confidence: answer.confidence,
        }),
        completion: Completion {
            text: answer.text,
            form: answer.form,
            tokens: answer.tokens,
            ..Completion::default()
        },
        features: None,
    }
}

/// Whether two answers say the same: equal JSON, or equal words.
pub(super) fn agree(one: &Completion, other: &Completion) -> bool {
    if one.form == Form::Json && other.form == Form::Json {
        let value = |it: &Completion| serde_json::from_str::<serde_json::Value>(&it.text).ok();
        return match (value(one), value(other)) {
            (Some(one), Some(other)) => one == other,
            (None, _) | (_, None) => false,
        };
    }
    one.text
        .split_whitespace()
        .eq(other.text.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, form: Form) -> Completion {
        Completion {
            text: text.into(),
            form,
            ..Completion::default()
        }
    }

    #[test]
    fn answers_agree_by_what_they_say_and_not_by_how_it_is_written() {
        let same = |one, other, form| agree(&said(one, form), &said(other, form));
        assert!(same(
            r#"{"a":1,"b":[2]}"#,
            r#"{ "b": [2], "a": 1 }"#,
            Form::Json
        ));
        assert!(!same(r#"{"a":1}"#, r#"{"a":2}"#, Form::Json));
        assert!(!same(r#"{"a":1"#, r#"{"a":1"#, Form::Json), "cut off");
        assert!(same("stop  the\nline ", "stop the line", Form::Text));
        assert!(!same("stop", "go on", Form::Text));
    }
}
