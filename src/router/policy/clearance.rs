//! Clearance: the right to hand one request to one place outside.
//!
//! A port that leads out of the appliance takes a [`Cleared`], which is an [`Escalation`] together
//! with the [`Clearance`] for it and for that very place. Both can only be made here, by the
//! policy, from the request's classification and what the place accepts; what accepts cannot say
//! "restricted" ([`Accepts`]). So a way around the policy does not compile, and restricted content
//! never gets as far as a port. The same holds for a request that was relabelled on the way: its
//! digest tells ([`Denied::Altered`]).
//!
//! Forging one does not compile:
//!
//! ```compile_fail,E0451
//! use lineside::intake::Digest;
//! use lineside::router::{Clearance, ToCloud};
//! use lineside::ticket::TicketNo;
//!
//! fn forge(place: ToCloud) -> Clearance<ToCloud> {
//!     Clearance { ticket: TicketNo(7), content: Digest([0; 16]), place }
//! }
//! ```
//!
//! Nor can one clearance be used twice, or for another request or another kind of place:
//!
//! ```compile_fail,E0599
//! use lineside::router::{Clearance, ToCloud};
//!
//! fn twice(clearance: Clearance<ToCloud>) -> [Clearance<ToCloud>; 2] {
//!     [clearance.clone(), clearance]
//! }
//! ```
//!
//! ```compile_fail,E0451
//! use lineside::router::{Clearance, Cleared, Escalation, ToCloud};
//!
//! fn swap(escalation: Escalation, clearance: Clearance<ToCloud>) -> Cleared<ToCloud> {
//!     Cleared { escalation, clearance }
//! }
//! ```
//!
//! ```compile_fail,E0308
//! use lineside::router::{Cleared, CloudPort, ToReviewers};
//!
//! fn elsewhere(cloud: &mut impl CloudPort, cleared: Cleared<ToReviewers>) {
//!     cloud.ask(cleared);
//! }
//! ```
//!
//! What the policy cleared goes through:
//!
//! ```
//! use lineside::router::{CloudPort, Denied, Escalation, Policy};
//!
//! fn send(policy: &Policy, it: Escalation, cloud: &mut impl CloudPort) -> Result<(), Denied> {
//!     let cleared = policy.clear_for_cloud(it, "plant").map_err(|(_, denied)| denied)?;
//!     cloud.ask(cleared);
//!     Ok(())
//! }
//! ```
//!
//! A clearance is not written to the disk. What waits there is cleared anew before it leaves, by
//! the rules of that day: a site that narrows what an upstream accepts stops what still waits.

use crate::engine::Completion;
use crate::intake::{Classification, Digest, Request, digest_of};
use crate::reply::Source;
use crate::ticket::TicketNo;
pub use crate::ticket::Why;

/// A request that the edge alone is not to answer, on its way to somebody else.
#[derive(Clone, Debug, PartialEq)]
pub struct Escalation {
    /// Whose it is.
    pub ticket: TicketNo,
    /// What was asked.
    pub request: Request,
    /// The best answer so far, and who gave it.
    pub draft: Option<(Source, Completion)>,
    /// Why it does not stay.
    pub why: Why,
}

/// What a place accepts. It cannot be told to accept what is restricted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepts {
    public: bool,
    internal: bool,
}

impl Accepts {
    /// Those of these classifications that may leave at all.
    pub fn of(classifications: &[Classification]) -> Self {
        Self {
            public: classifications.contains(&Classification::Public),
            internal: classifications.contains(&Classification::Internal),
        }
    }

    /// Whether content of this classification may go there.
    pub fn takes(self, classification: Classification) -> bool {
        match classification {
            Classification::Public => self.public,
            Classification::Internal => self.internal,
            Classification::Restricted => false,
        }
    }

    /// Whether it accepts anything.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// An upstream: a model that is not on this appliance.
#[derive(Debug, PartialEq, Eq)]
pub struct ToCloud {
    /// Its name in the configuration.
    pub upstream: String,
}

/// Persons who are not at this appliance.
#[derive(Debug, PartialEq, Eq)]
pub struct ToReviewers;

/// The right to hand one request to one place outside. See the module.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "whoever holds it is to hand the request over"]
pub struct Clearance<P> {
    ticket: TicketNo,
    content: Digest,
    place: P,
}

impl<P> Clearance<P> {
    /// The only place where one comes into being. What was accepted is known by its digest, the
    /// classification included: a request that was given another on the way is not cleared.
    fn mint(
        request: &Request,
        ticket: TicketNo,
        place: P,
        accepts: Accepts,
    ) -> Result<Self, Denied> {
        let classification = request.classification;
        if !accepts.takes(classification) {
            return Err(match classification {
                Classification::Restricted => Denied::Restricted,
                Classification::Public | Classification::Internal => Denied::NotAccepted,
            });
        }
        let content = digest_of(
            &request.ask,
            classification,
            request.risk,
            request.complexity,
            request.max_tokens,
            request.schema.as_deref(),
        );
        if content != request.content {
            return Err(Denied::Altered);
        }
        Ok(Self {
            ticket,
            content,
            place,
        })
    }

    /// Where to.
    pub fn place(&self) -> &P {
        &self.place
    }

    /// For which ticket.
    pub fn ticket(&self) -> TicketNo {
        self.ticket
    }

    /// For which content.
    pub fn content(&self) -> Digest {
        self.content
    }
}

/// An escalation with the clearance for it.
#[derive(Debug, PartialEq)]
#[must_use = "what is cleared is to be handed over"]
pub struct Cleared<P> {
    escalation: Escalation,
    clearance: Clearance<P>,
}

impl<P> Cleared<P> {
    /// Puts the two together; gives the escalation back where it may not go.
    pub(super) fn of(
        escalation: Escalation,
        place: P,
        accepts: Accepts,
    ) -> Result<Self, (Escalation, Denied)> {
        match Clearance::mint(&escalation.request, escalation.ticket, place, accepts) {
            Ok(clearance) => Ok(Self {
                escalation,
                clearance,
            }),
            Err(denied) => Err((escalation, denied)),
        }
    }

    /// What goes out.
    pub fn escalation(&self) -> &Escalation {
        &self.escalation
    }

    /// The right to it.
    pub fn clearance(&self) -> &Clearance<P> {
        &self.clearance
    }

    /// Both, for the port that carries it out.
    pub fn into_parts(self) -> (Escalation, Clearance<P>) {
        (self.escalation, self.clearance)
    }
}

/// Why something may not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is restricted, and nothing makes up for that.
    #[error("it is restricted")]
    Restricted,
    /// That place does not accept its classification.
    #[error("its classification is not accepted there")]
    NotAccepted,
    /// It is not what was accepted.
    #[error("it is not what was accepted")]
    Altered,
    /// The configuration knows no such place.
    #[error("there is no such place")]
    NoSuchPlace,
}
