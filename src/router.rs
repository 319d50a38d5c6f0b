//! The router: which tier serves a request.
//!
//! This build has one tier, so there is one decision: the edge. The ordered table of rules and
//! the judgement of an answer's confidence join here with the tiers that they choose among.

pub mod confidence;

use crate::intake::Request;
use crate::reply::Route;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Which tier.
    pub tier: Tier,
    /// By which rule, for the reply.
    pub route: Route,
}

/// Who may serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The model on this appliance.
    Edge,
}

/// Decides where a request goes. Pure: the same request, the same decision.
pub fn admit(request: &Request) -> Decision {
    Decision {
        tier: Tier::Edge,
        route: Route {
            rule: "edge-only".into(),
            reasons: vec![format!(
                "{} request; this appliance has no other tier",
                request.classification.word()
            )],
        },
    }
}
