//! The policy: which rule decides, what follows from it, and what may leave the appliance.
//!
//! ```text
//!  Facts ─► rules in order ─► the first that fits ─► To ─┐
//!                                                        ├─► cascade ─► Tier, and who comes after
//!  Situation: what is there, what can be reached ────────┘
//! ```
//!
//! A rule says where a request belongs. Whether that tier is there is another question, and the
//! cascade answers it, the same way for all rules:
//!
//! - What is there and can be reached takes the request.
//! - **The edge stands in** for a cloud that cannot be reached, does not accept the request or is
//!   not configured, and for persons where nobody answers. The decision is `degraded`. Where the
//!   cloud is only out of reach, the request is [`Decision::owed`] to it: the edge's answer is
//!   provisional, and the last word comes when the line is back.
//! - **The edge is shut** (no engine, too hot): the next tier that accepts the request, first an
//!   upstream within reach, then a person, then an upstream to wait for.
//! - **Restricted** stays: on the edge, or with a person at this appliance where a rule or doubt
//!   sends it there. What cannot be served so is refused with the edge's reason.
//! - Standing in never leads further out than the rule does, unless the edge is shut.
//!
//! Invariant: for a restricted request no tier in a decision is outside, and
//! [`Policy::clear_for_cloud`] and [`Policy::clear_for_reviewers`] deny it, whatever the
//! configuration says.

mod clearance;
mod reference;
#[cfg(test)]
pub(super) mod tests;

pub use clearance::{Accepts, Clearance, Cleared, Denied, Escalation, ToCloud, ToReviewers, Why};

use super::facts::{Edge, Facts, Reach, Situation};
use super::pattern::Lexicon;
use super::rule::{Rule, To};
use super::{Decision, Persons, Tier};
use crate::intake::{Classification, Code};
use crate::reply::Route;

/// Rules of a table: each decision walks through them, and each is held against all before it
/// when the configuration is read.
pub const MAX_RULES: usize = 256;
/// Upstreams: a plant has a few.
pub const MAX_UPSTREAMS: usize = 16;
/// The rule that stands behind all others.
pub const DEFAULT_RULE: &str = "default";

/// The table, and who is there besides the edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    rules: Vec<Rule>,
    lexicon: Lexicon,
    ways: Ways,
}

/// Who is there besides the edge, by configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// The upstreams, in the order in which they stand in for each other.
    pub upstreams: Vec<Upstream>,
    /// Whether persons answer at this appliance.
    pub local_review: bool,
    /// What persons elsewhere may see.
    pub remote_review: Accepts,
    /// Whether persons are asked about answers in doubt, too, and not only where a rule says so or
    /// nobody else can answer.
    pub doubtful_review: bool,
}

/// A model that is not on this appliance, as far as the policy knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in the configuration.
    pub name: String,
    /// What may go there.
    pub accepts: Accepts,
}

impl Policy {
    /// A policy of these rules, in this order.
    pub fn new(mut rules: Vec<Rule>, ways: Ways) -> Self {
        let mut lexicon = Lexicon::default();
        for rule in &mut rules {
            if let Some(text) = &mut rule.when.text {
                lexicon.take_up(text);
            }
        }
        Self {
            rules,
            lexicon,
            ways,
        }
    }

    /// The rules that hold where a site writes none.
    pub fn reference(ways: Ways) -> Self {
        Self::new(reference::rules(), ways)
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Who is there besides the edge.
    pub fn ways(&self) -> &Ways {
        &self.ways
    }

    pub(super) fn lexicon(&self) -> &Lexicon {
        &self.lexicon
    }

    /// The first rule that fits; none means that [`DEFAULT_RULE`] decides.
    pub fn rule_for(&self, facts: &Facts<'_>) -> Option<(usize, &Rule)> {
        let mut rules = self.rules.iter().enumerate();
        rules.find(|(_, rule)| rule.when.matches(facts))
    }

    /// Where a request goes.
    pub fn decide(&self, facts: &Facts<'_>, situation: &Situation<'_>) -> Decision {
        let rule = self.rule_for(facts).map(|(_, rule)| rule);
        let to = rule.map_or(&To::Edge, |rule| &rule.to);
        let asked = rule.map_or_else(Vec::new, |rule| reasons(rule, facts));
        let cascade = Cascade {
            ways: &self.ways,
            situation,
            classification: facts.classification,
        };
        let mut decision = cascade.follow(to);
        let name = rule.map_or(DEFAULT_RULE, |rule| &rule.name);
        name.clone_into(&mut decision.route.rule);
        decision.route.reasons.splice(0..0, asked);
        decision
    }

    /// Who may be asked after this tier, in order.
    pub(super) fn onward(
        &self,
        after: Tier,
        facts: &Facts<'_>,
        situation: &Situation<'_>,
    ) -> Vec<Tier> {
        let cascade = Cascade {
            ways: &self.ways,
            situation,
            classification: facts.classification,
        };
        cascade.settle(after).onward
    }

    /// Whether any person may see what is so classified.
    pub fn has_person_for(&self, classification: Classification) -> bool {
        self.ways.local_review || self.ways.remote_review.takes(classification)
    }

    /// Clears an escalation for an upstream; gives it back where it may not go there.
    pub fn clear_for_cloud(
        &self,
        escalation: Escalation,
        upstream: &str,
    ) -> Result<Cleared<ToCloud>, (Escalation, Denied)> {
        let mut upstreams = self.ways.upstreams.iter();
        let Some(found) = upstreams.find(|it| it.name == upstream) else {
            return Err((escalation, Denied::NoSuchPlace));
        };
        let place = ToCloud {
            upstream: found.name.clone(),
        };
        Cleared::of(escalation, place, found.accepts)
    }

    /// Clears an escalation for persons elsewhere; gives it back where they may not see it.
    pub fn clear_for_reviewers(
        &self,
        escalation: Escalation,
    ) -> Result<Cleared<ToReviewers>, (Escalation, Denied)> {
        let accepts = self.ways.remote_review;
        if accepts.is_nothing() {
            return Err((escalation, Denied::NoSuchPlace));
        }
        Cleared::of(escalation, ToReviewers, accepts)
    }
}

/// What a rule asked for and the request had, for the reply. Texts and words of the request are
/// never told: a reply may be logged where it is read.
fn reasons(rule: &Rule, facts: &Facts<'_>) -> Vec<String> {
    let told = |aspect| {
        let wanted = rule.when.wanted(aspect)?;
        let value = facts.shown(aspect);
        Some(if value == wanted {
            format!("{} {value}", aspect.word())
        } else {
            format!("{} {value}: {wanted}", aspect.word())
        })
    };
    rule.when.aspects().filter_map(told).collect()
}

/// From where a rule sends a request to who takes it.
struct Cascade<'a> {
    ways: &'a Ways,
    situation: &'a Situation<'a>,
    classification: Classification,
}

impl Cascade<'_> {
    fn follow(&self, to: &To) -> Decision {
        match to {
            To::Edge => match self.situation.edge {
                Edge::Open => self.settle(Tier::Edge),
                Edge::Shut(code) => self.without_edge(code),
            },
            To::Cloud => self.cloud(None),
            To::CloudAt(name) => self.cloud(Some(name)),
            To::Review => match self.persons() {
                Some(persons) => self.settle(Tier::Review(persons)),
                None => self.stand_in("no person answers here"),
            },
            To::Refuse => self.settle(Tier::Refuse(Code::Policy)),
        }
    }

    fn cloud(&self, only: Option<&str>) -> Decision {
        let wanted = |name: &str| only.is_none_or(|only| only == name);
        if let Some(name) = self.upstreams(Reach::Open).find(|name| wanted(name)) {
            return self.settle(Tier::Cloud(name.to_owned()));
        }
        let waiting = self.upstreams(Reach::Shut).find(|name| wanted(name));
        let Some(name) = waiting else {
            let why = if self.ways.upstreams.is_empty() {
                "there is no cloud"
            } else {
                "no cloud accepts it"
            };
            return self.stand_in(why);
        };
        let mut decision = self.stand_in("the cloud is out of reach");
        if decision.tier == Tier::Edge {
            decision.owed = Some(Tier::Cloud(name.to_owned()));
        }
        decision
    }

    /// The edge, in place of a tier that is not there.
    fn stand_in(&self, why: &str) -> Decision {
        let mut decision = match self.situation.edge {
            Edge::Open => self.settle(Tier::Edge),
            Edge::Shut(code) => self.without_edge(code),
        };
        decision.degraded = true;
        decision.route.reasons.insert(0, why.into());
        decision
    }

    /// Who takes what the edge cannot.
    fn without_edge(&self, code: Code) -> Decision {
        let restricted = self.classification == Classification::Restricted;
        let person = if restricted { None } else { self.persons() };
        let cloud = |name: &str| Tier::Cloud(name.to_owned());
        let tier = (self.upstreams(Reach::Open).next().map(cloud))
            .or(person.map(Tier::Review))
            .or_else(|| self.upstreams(Reach::Shut).next().map(cloud))
            .unwrap_or(Tier::Refuse(code));
        let mut decision = self.settle(tier);
        decision.degraded = true;
        decision
            .route
            .reasons
            .push(format!("the edge cannot take it ({})", code.word()));
        decision
    }

    /// A decision for a tier, with those who may come after it.
    fn settle(&self, tier: Tier) -> Decision {
        let upstreams = (self.upstreams(Reach::Open)).chain(self.upstreams(Reach::Shut));
        let clouds = upstreams.map(|name| Tier::Cloud(name.to_owned()));
        let asked = self.persons().filter(|_| self.ways.doubtful_review);
        let persons = asked.map(Tier::Review);
        let onward = match &tier {
            Tier::Edge => clouds.chain(persons).collect(),
            Tier::Cloud(_) => persons.into_iter().collect(),
            Tier::Review(_) | Tier::Refuse(_) => Vec::new(),
        };
        let stopgap = match (&tier, self.situation.edge) {
            (Tier::Cloud(_), Edge::Open) => Some(Tier::Edge),
            (Tier::Cloud(_), Edge::Shut(_))
            | (Tier::Edge | Tier::Review(_) | Tier::Refuse(_), _) => None,
        };
        Decision {
            tier,
            stopgap,
            owed: None,
            onward,
            degraded: false,
            route: Route::default(),
        }
    }

    /// The upstreams that accept the request and are so far within reach, in order.
    fn upstreams(&self, reach: Reach) -> impl Iterator<Item = &str> {
        let reaches = self.situation.clouds.iter().copied();
        let reaches = reaches.chain(std::iter::repeat(Reach::Absent));
        let known = self.ways.upstreams.iter().zip(reaches);
        known
            .filter(move |(it, at)| *at == reach && it.accepts.takes(self.classification))
            .map(|(it, _)| it.name.as_str())
    }

    /// The persons who may see the request.
    fn persons(&self) -> Option<Persons> {
        if self.situation.review == Reach::Absent {
            return None;
        }
        let remote = self.ways.remote_review.takes(self.classification);
        match (self.ways.local_review, remote) {
            (true, true) => Some(Persons::Everywhere),
            (true, false) => Some(Persons::Here),
            (false, true) => Some(Persons::Elsewhere),
            (false, false) => None,
        }
    }
}
