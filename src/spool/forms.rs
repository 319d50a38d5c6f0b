//! What stands in the envelope: the wire form of each kind of record.
//!
//! | Tree | Record | Number |
//! | --- | --- | --- |
//! | inbox | [`Waiting`] | [`TicketNo::inbox_seq`] |
//! | cloud, review | [`Passed`] | the same |
//! | outcomes | [`Filed`] | the ticket's number |
//! | trail | [`Step`](crate::ticket::Step) | [`TicketNo::trail_seq`] |
//! | outbox | [`Letter`] | counted by the dispatcher |
//!
//! The wire structs are private: postcard names no fields, so their order is the format, and a
//! change is a new [`super::record::VERSION`]. What came to be known later stands behind: a record
//! of before it ends earlier and reads as it did.

mod passed;
mod steps;

pub use passed::{Draft, Passed};
pub use steps::{read_step, seal_step};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::{Damage, seal};
use crate::clock::{Wall, millis};
use crate::intake::{
    Ask, Classification, Client, Detail, Digest, Late, Priority, Request, RequestId, ReturnAddress,
    Stream,
};
use crate::reply::Route;
use crate::ticket::TicketNo;

/// An accepted request without an outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Its ticket.
    pub no: TicketNo,
    /// When it was accepted.
    pub accepted: Wall,
    /// What was asked.
    pub request: Request,
    /// On which topic it came, where it came on one.
    pub topic: Option<String>,
    /// What was decided on it; none in a record of before that was kept.
    pub course: Option<Course>,
}

/// What was decided on a request, as far as whoever takes it up again must keep to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// By which rule, for which reasons.
    pub route: Route,
    /// Whether the rule wanted somebody who is not there.
    pub degraded: bool,
    /// Whether a model elsewhere has the last word, as soon as it can be reached.
    pub owed: bool,
    /// Whether the device has a provisional reply.
    pub told: bool,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Filed {
    /// Its ticket.
    pub no: TicketNo,
    /// Whose: [`Client::scope`].
    pub scope: String,
    /// Its id.
    pub id: RequestId,
    /// What was asked, as a digest.
    pub content: Digest,
    /// When it was accepted.
    pub accepted: Wall,
    /// When it was settled.
    pub settled: Wall,
    /// `answered`, or the refusal's code.
    pub verdict: String,
    /// Name of the rule that decided.
    pub rule: String,
    /// Steps in its trail, those for the delivery of its letters included.
    pub steps: u64,
    /// The final reply, as it goes out.
    pub reply: Vec<u8>,
}

/// A reply that the broker has not taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Whose.
    pub no: TicketNo,
    /// The step of the trail that its delivery is.
    pub step: u64,
    /// Where to.
    pub topic: String,
    /// Byte for byte from the request.
    pub correlation: Option<Vec<u8>>,
    /// Pair for pair from the request.
    pub user_properties: Vec<(String, String)>,
    /// The reply.
    pub payload: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
enum WireAddress {
    Local,
    Topic {
        topic: String,
        correlation: Option<Vec<u8>>,
        user_properties: Vec<(String, String)>,
    },
}

#[derive(Serialize, Deserialize)]
enum WireClient {
    Proven(String),
    Claimed(String),
    Anonymous,
    Local,
}

#[derive(Serialize, Deserialize)]
enum WireAsk {
    Prompt(String),
    Task {
        task: String,
        input: String,
    },
    /// Behind the others: records of before it read as they did.
    Values {
        task: String,
        values: String,
    },
}

#[derive(Serialize, Deserialize)]
enum WireId {
    Given(String),
    Made(String),
}

#[derive(Serialize, Deserialize)]
enum WireClassification {
    Public,
    Internal,
    Restricted,
}

#[derive(Serialize, Deserialize)]
enum WirePriority {
    High,
    Normal,
    Low,
}

/// What is wanted beside the reply. The first two read as the truth value that stood here before.
#[derive(Serialize, Deserialize)]
enum WireExtras {
    Nothing,
    Stream,
    Tokens,
    StreamAndTokens,
}

#[derive(Serialize, Deserialize)]
struct WireWaiting {
    no: u64,
    accepted_ms: u64,
    id: WireId,
    client: WireClient,
    ask: WireAsk,
    classification: WireClassification,
    risk: Option<u8>,
    complexity: Option<f32>,
    priority: WirePriority,
    deadline_ms: u64,
    max_tokens: Option<u32>,
    schema: Option<String>,
    extras: WireExtras,
    reply: WireAddress,
    content: [u8; 16],
}

/// What stands behind a waiting request.
#[derive(Serialize, Deserialize)]
struct WireBehind {
    late: bool,
    topic: Option<String>,
    course: Option<WireCourse>,
}

#[derive(Serialize, Deserialize)]
struct WireCourse {
    rule: String,
    reasons: Vec<String>,
    degraded: bool,
    owed: bool,
    told: bool,
}

#[derive(Serialize, Deserialize)]
struct WireFiled {
    no: u64,
    scope: String,
    id: WireId,
    content: [u8; 16],
    accepted_ms: u64,
    settled_ms: u64,
    verdict: String,
    rule: String,
    steps: u64,
    reply: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct WireLetter {
    no: u64,
    step: u64,
    topic: String,
    correlation: Option<Vec<u8>>,
    user_properties: Vec<(String, String)>,
    payload: Vec<u8>,
}

fn encode<T: Serialize>(wire: &T) -> Vec<u8> {
    seal(&postcard::to_stdvec(wire).expect("plain data in memory always encodes"))
}

fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Damage> {
    match postcard::take_from_bytes(body) {
        Ok((wire, [])) => Ok(wire),
        Ok(_) | Err(_) => Err(Damage::Content),
    }
}

impl Waiting {
    /// The sealed record.
    pub fn seal(&self) -> Vec<u8> {
        encode(&self.wire())
    }

    fn wire(&self) -> (WireWaiting, WireBehind) {
        let request = &self.request;
        let waiting = WireWaiting {
            no: self.no.0,
            accepted_ms: self.accepted.0,
            id: WireId::of(&request.id),
            client: WireClient::of(&request.client),
            ask: match request.ask.clone() {
                Ask::Prompt(prompt) => WireAsk::Prompt(prompt),
                Ask::Task { task, input } => WireAsk::Task { task, input },
                Ask::Values { task, values } => WireAsk::Values { task, values },
            },
            classification: match request.classification {
                Classification::Public => WireClassification::Public,
                Classification::Internal => WireClassification::Internal,
                Classification::Restricted => WireClassification::Restricted,
            },
            risk: request.risk,
            complexity: request.complexity,
            priority: match request.priority {
                Priority::High => WirePriority::High,
                Priority::Normal => WirePriority::Normal,
                Priority::Low => WirePriority::Low,
            },
            deadline_ms: millis(request.deadline),
            max_tokens: request.max_tokens,
            schema: request.schema.clone(),
            extras: match (request.stream, request.detail) {
                (Stream::No, Detail::Whole) => WireExtras::Nothing,
                (Stream::Yes, Detail::Whole) => WireExtras::Stream,
                (Stream::No, Detail::Tokens) => WireExtras::Tokens,
                (Stream::Yes, Detail::Tokens) => WireExtras::StreamAndTokens,
            },
            reply: WireAddress::of(&request.reply),
            content: request.content.0,
        };
        let behind = WireBehind {
            late: request.late == Late::Yes,
            topic: self.topic.clone(),
            course: self.course.as_ref().map(|course| WireCourse {
                rule: course.route.rule.clone(),
                reasons: course.route.reasons.clone(),
                degraded: course.degraded,
                owed: course.owed,
                told: course.told,
            }),
        };
        (waiting, behind)
    }

    /// From the body of a sealed record.
    pub fn read(body: &[u8]) -> Result<Self, Damage> {
        let (wire, rest) = postcard::take_from_bytes(body).map_err(|_| Damage::Content)?;
        if rest.is_empty() {
            let nothing = WireBehind {
                late: false,
                topic: None,
                course: None,
            };
            return Ok(Self::of(wire, nothing));
        }
        Ok(Self::of(wire, decode(rest)?))
    }

    fn of(wire: WireWaiting, behind: WireBehind) -> Self {
        Self {
            no: TicketNo(wire.no),
            accepted: Wall(wire.accepted_ms),
            request: Request {
                id: wire.id.into(),
                client: match wire.client {
                    WireClient::Proven(name) => Client::Proven(name),
                    WireClient::Claimed(name) => Client::Claimed(name),
                    WireClient::Anonymous => Client::Anonymous,
                    WireClient::Local => Client::Local,
                },
                ask: match wire.ask {
                    WireAsk::Prompt(prompt) => Ask::Prompt(prompt),
                    WireAsk::Task { task, input } => Ask::Task { task, input },
                    WireAsk::Values { task, values } => Ask::Values { task, values },
                },
                classification: match wire.classification {
                    WireClassification::Public => Classification::Public,
                    WireClassification::Internal => Classification::Internal,
                    WireClassification::Restricted => Classification::Restricted,
                },
                risk: wire.risk,
                complexity: wire.complexity,
                priority: match wire.priority {
                    WirePriority::High => Priority::High,
                    WirePriority::Normal => Priority::Normal,
                    WirePriority::Low => Priority::Low,
                },
                deadline: Duration::from_millis(wire.deadline_ms),
                late: if behind.late { Late::Yes } else { Late::No },
                max_tokens: wire.max_tokens,
                schema: wire.schema,
                stream: match wire.extras {
                    WireExtras::Nothing | WireExtras::Tokens => Stream::No,
                    WireExtras::Stream | WireExtras::StreamAndTokens => Stream::Yes,
                },
                detail: match wire.extras {
                    WireExtras::Nothing | WireExtras::Stream => Detail::Whole,
                    WireExtras::Tokens | WireExtras::StreamAndTokens => Detail::Tokens,
                },
                reply: wire.reply.into(),
                content: Digest(wire.content),
            },
            topic: behind.topic,
            course: behind.course.map(|course| Course {
                route: Route {
                    rule: course.rule,
                    reasons: course.reasons,
                },
                degraded: course.degraded,
                owed: course.owed,
                told: course.told,
            }),
        }
    }
}

impl Filed {
    /// The sealed record.
    pub fn seal(&self) -> Vec<u8> {
        encode(&WireFiled {
            no: self.no.0,
            scope: self.scope.clone(),
            id: WireId::of(&self.id),
            content: self.content.0,
            accepted_ms: self.accepted.0,
            settled_ms: self.settled.0,
            verdict: self.verdict.clone(),
            rule: self.rule.clone(),
            steps: self.steps,
            reply: self.reply.clone(),
        })
    }

    /// From the body of a sealed record.
    pub fn read(body: &[u8]) -> Result<Self, Damage> {
        let wire: WireFiled = decode(body)?;
        Ok(Self {
            no: TicketNo(wire.no),
            scope: wire.scope,
            id: wire.id.into(),
            content: Digest(wire.content),
            accepted: Wall(wire.accepted_ms),
            settled: Wall(wire.settled_ms),
            verdict: wire.verdict,
            rule: wire.rule,
            steps: wire.steps,
            reply: wire.reply,
        })
    }
}

impl Letter {
    /// Where it goes.
    pub fn address(&self) -> ReturnAddress {
        ReturnAddress::Topic {
            topic: self.topic.clone(),
            correlation: self.correlation.clone(),
            user_properties: self.user_properties.clone(),
        }
    }

    /// The sealed record.
    pub fn seal(&self) -> Vec<u8> {
        encode(&WireLetter {
            no: self.no.0,
            step: self.step,
            topic: self.topic.clone(),
            correlation: self.correlation.clone(),
            user_properties: self.user_properties.clone(),
            payload: self.payload.clone(),
        })
    }

    /// From the body of a sealed record.
    pub fn read(body: &[u8]) -> Result<Self, Damage> {
        let wire: WireLetter = decode(body)?;
        Ok(Self {
            no: TicketNo(wire.no),
            step: wire.step,
            topic: wire.topic,
            correlation: wire.correlation,
            user_properties: wire.user_properties,
            payload: wire.payload,
        })
    }
}

impl WireAddress {
    fn of(address: &ReturnAddress) -> Self {
        match address.clone() {
            ReturnAddress::Local => Self::Local,
            ReturnAddress::Topic {
                topic,
                correlation,
                user_properties,
            } => Self::Topic {
                topic,
                correlation,
                user_properties,
            },
        }
    }
}

impl From<WireAddress> for ReturnAddress {
    fn from(wire: WireAddress) -> Self {
        match wire {
            WireAddress::Local => Self::Local,
            WireAddress::Topic {
                topic,
                correlation,
                user_properties,
            } => Self::Topic {
                topic,
                correlation,
                user_properties,
            },
        }
    }
}

impl WireClient {
    fn of(client: &Client) -> Self {
        match client.clone() {
            Client::Proven(name) => Self::Proven(name),
            Client::Claimed(name) => Self::Claimed(name),
            Client::Anonymous => Self::Anonymous,
            Client::Local => Self::Local,
        }
    }
}

impl WireId {
    fn of(id: &RequestId) -> Self {
        match id.clone() {
            RequestId::Given(id) => Self::Given(id),
            RequestId::Made(id) => Self::Made(id),
        }
    }
}

impl From<WireId> for RequestId {
    fn from(wire: WireId) -> Self {
        match wire {
            WireId::Given(id) => Self::Given(id),
            WireId::Made(id) => Self::Made(id),
        }
    }
}

#[cfg(test)]
mod tests;
