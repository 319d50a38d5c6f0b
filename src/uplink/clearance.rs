//! The right to hand one request to one upstream, as the uplink demands it.
//!
//! Stands in for the policy's own type, with the same methods.

use crate::intake::{Classification, Digest};
use crate::ticket::TicketNo;

/// What an upstream accepts. It cannot be told to accept what is restricted.
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
}

/// An upstream: a model that is not on this appliance.
#[derive(Debug, PartialEq, Eq)]
pub struct ToCloud {
    /// Its name in the configuration.
    pub upstream: String,
}

/// The right to hand one request to one place outside.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "whoever holds it is to hand the request over"]
pub struct Clearance<P> {
    ticket: TicketNo,
    content: Digest,
    place: P,
}

impl<P> Clearance<P> {
    /// For tests only, until the policy gives them.
    #[doc(hidden)]
    pub fn for_tests(ticket: TicketNo, content: Digest, place: P) -> Self {
        Self {
            ticket,
            content,
            place,
        }
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
