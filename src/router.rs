//! The router: which tier serves a request, and by which rule.
//!
//! ```text
//!  Request ──► estimate: what it does not say ─► Facts ─┐
//!                                                       ├─► policy ─► Decision
//!  Situation: time, lines, engine, governor ────────────┘                │
//!                                                                       ▼
//!            Tier::Edge ◄── stands in, provisional where owed ── Tier::Cloud ─► Tier::Review
//!                 └───────── onward, where the answer is in doubt ───┴────────────┘
//! ```
//!
//! Purpose: [`Router::admit`] is the one decision that each request gets before anything is done for it.
//! Everything here is pure: no clock, no channel, no disk. The time of day and how things stand
//! are handed in as a [`Situation`], so the same request in the same situation has the same
//! decision, and `lineside explain` can tell why from nothing but a file.
//!
//! What it owns: the table of rules ([`rule`]) and what follows from one ([`policy`]), the
//! estimators ([`estimate`]), the explanation of a decision ([`explain`]), the check that a table
//! means what its author thinks ([`reach`]), what makes like questions get like answers
//! ([`affinity`]), and what confidence is worth ([`confidence`]).
//!
//! What leads out of the appliance: [`CloudPort`] and [`RemoteReviewPort`]. They take nothing but
//! what the policy [`Cleared`], and only it can clear; see [`policy`] for why that holds.
//!
//! How it fails: it does not. A tier that is not there is stood in for or refused, by the cascade
//! that [`policy`] describes, and the [`Decision`] says so.

pub mod affinity;
pub mod confidence;
pub mod estimate;
pub mod explain;
pub mod facts;
pub mod judge;
pub mod pattern;
pub mod policy;
pub mod reach;
pub mod rule;

pub use estimate::Estimator;
pub use facts::{Edge, Facts, Reach, Situation, Strain};
pub use judge::{Bars, By, Judgement, Said, TaskBar};
pub use pattern::{Minute, Window};
pub use policy::{
    Accepts, Clearance, Cleared, Denied, Escalation, MAX_RULES, MAX_UPSTREAMS, Policy, ToCloud,
    ToReviewers, Upstream, Ways, Why,
};
pub use rule::{Aspect, Rule, To, When};

use crate::clock::Wall;
use crate::intake::{Code, Request};
pub use crate::reply::Connectivity;
use crate::reply::Route;

/// What decides on a request before anything is done for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    /// The rules.
    pub policy: Policy,
    /// What stands in for what a request does not say.
    pub estimator: Estimator,
    /// Tokens that fit the context of the model on this appliance; [`u32::MAX`] as long as nobody
    /// knows.
    pub context_tokens: u32,
    /// How far the site's clocks are ahead of UTC.
    pub ahead_minutes: i16,
    /// How sure answers must be.
    pub bars: Bars,
}

impl Default for Router {
    /// The reference rules on an appliance with no other tier.
    fn default() -> Self {
        Self {
            policy: Policy::reference(Ways::default()),
            estimator: Estimator::default(),
            context_tokens: u32::MAX,
            ahead_minutes: 0,
            bars: Bars::default(),
        }
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Who serves it.
    pub tier: Tier,
    /// Who may answer at once where `tier` cannot in time; that answer is provisional.
    pub stopgap: Option<Tier>,
    /// Who has the last word as soon as they can be reached; what `tier` answers before is
    /// provisional.
    pub owed: Option<Tier>,
    /// Who may be asked where the answer is in doubt, in this order.
    pub onward: Vec<Tier>,
    /// Whether the rule wanted somebody who is not there.
    pub degraded: bool,
    /// By which rule, and why, for the reply.
    pub route: Route,
}

/// Who may serve a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The model on this appliance.
    Edge,
    /// The upstream of this name.
    Cloud(String),
    /// A person.
    Review(Persons),
    /// Nobody; the device is told so with this code.
    Refuse(Code),
}

impl Tier {
    /// The word in logs and explanations.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Cloud(_) => "cloud",
            Self::Review(_) => "review",
            Self::Refuse(_) => "refuse",
        }
    }
}

/// Which persons may see a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persons {
    /// Those at this appliance.
    Here,
    /// Those elsewhere; they need a [`Clearance`].
    Elsewhere,
    /// Both.
    Everywhere,
}

impl Router {
    /// Decides where a request goes. Pure: the same request in the same situation, the same
    /// decision.
    pub fn admit(&self, request: &Request, situation: &Situation<'_>) -> Decision {
        self.policy
            .decide(&self.facts(request, situation), situation)
    }

    /// What the rules go by: what the request says, and estimates of what it does not.
    pub fn facts<'a>(&'a self, request: &'a Request, situation: &Situation<'a>) -> Facts<'a> {
        let estimate = self.estimator.estimate(request);
        let reached = situation.clouds.contains(&Reach::Open);
        Facts {
            classification: request.classification,
            task: request.ask.task(),
            client: request.client.name(),
            topic: situation.topic,
            risk: request.risk.unwrap_or(estimate.risk),
            complexity: request.complexity.unwrap_or(estimate.complexity),
            tokens: estimate.tokens,
            context_tokens: self.context_tokens,
            text: request.ask.text(),
            minute: situation.minute,
            broker: situation.broker,
            cloud: if reached {
                Connectivity::Online
            } else {
                Connectivity::Offline
            },
            strain: situation.strain,
            ..Facts::blank(self.policy.lexicon())
        }
    }

    /// The time of day at this site.
    pub fn minute(&self, now: Wall) -> Minute {
        Minute::of(now.0, self.ahead_minutes)
    }
}

/// A model that is not on this appliance, as the dispatcher sees it. The only way to it.
pub trait CloudPort {
    /// Takes a request that may go to the upstream that its clearance names.
    fn ask(&mut self, cleared: Cleared<ToCloud>);
}

/// Persons who are not at this appliance, as the dispatcher sees them. The only way to them;
/// those who are at it need no clearance.
pub trait RemoteReviewPort {
    /// Takes a request that may be shown to them.
    fn publish(&mut self, cleared: Cleared<ToReviewers>);
}
