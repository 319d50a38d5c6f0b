//! Intake: bytes from a device become a [`Request`], or a [`Refusal`] that says why not.
//!
//! Purpose: the one place where foreign bytes are read. [`read`] is a pure function of the
//! message and the site's [`Limits`]; [`Gate`] adds what needs memory of the past (rate and
//! requests in flight for each client).
//!
//! Invariants:
//!
//! - Whatever arrives, the answer is a request or a typed refusal: no panic, no error.
//! - A [`Request`] that left here is within every limit, and its reply goes to a topic that is
//!   allowed, has no wildcard and is none that an appliance listens to or speaks on.
//! - Nothing of the content stands in a refusal's code; its message may quote the sender's own
//!   words and therefore goes back to the sender only, never into a log.
//!
//! How it fails: it does not. A message that cannot even be answered (no id, no valid reply
//! topic) yields a refusal without an address, which is counted.

mod digest;
mod gate;
mod topics;
mod values;
mod wire;

use std::time::Duration;

pub use digest::digest_of;
pub use gate::{Gate, GateLimits, MAX_CLIENTS, Shut};
pub use topics::{FilterError, Topics, filter_matches, is_topic_filter, is_topic_name};
pub use values::MAX_VALUES;
pub use wire::{read, read_local};

/// A message as the broker delivered it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The topic on which it was published.
    pub topic: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// MQTT 5 response topic.
    pub response_topic: Option<String>,
    /// MQTT 5 correlation data.
    pub correlation: Option<Vec<u8>>,
    /// MQTT 5 message expiry that is left, in seconds.
    pub expiry_s: Option<u32>,
    /// MQTT 5 content type.
    pub content_type: Option<String>,
    /// MQTT 5 user properties.
    pub user_properties: Vec<(String, String)>,
    /// The broker kept it for late subscribers.
    pub retained: bool,
    /// The broker has delivered it before.
    pub redelivered: bool,
    /// What acknowledges it; none for QoS 0.
    pub ack: Option<AckToken>,
}

/// The right to acknowledge one delivery of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AckToken {
    /// Which of the appliance's lines to the broker; 0 is the main one.
    pub line: u16,
    /// Which connection delivered it.
    pub generation: u32,
    /// MQTT packet id within that connection.
    pub packet: u16,
}

/// A request within all limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Unique within its client.
    pub id: RequestId,
    /// Who asked, as far as that is known.
    pub client: Client,
    /// What is asked.
    pub ask: Ask,
    /// Where the content may go.
    pub classification: Classification,
    /// 0 to 100, where the device knows.
    pub risk: Option<u8>,
    /// 0 to 1, where the device knows.
    pub complexity: Option<f32>,
    /// Who goes first.
    pub priority: Priority,
    /// How long the device waits.
    pub deadline: Duration,
    /// Whether an answer is of use after that.
    pub late: Late,
    /// Upper limit for the answer.
    pub max_tokens: Option<u32>,
    /// JSON Schema that the answer must meet, as sent.
    pub schema: Option<String>,
    /// Whether tokens are wanted as they come.
    pub stream: Stream,
    /// How much the reply tells of how sure the model was.
    pub detail: Detail,
    /// Where the reply goes.
    pub reply: ReturnAddress,
    /// Digest of what is asked (not of who, where to or how fast): the same id with another
    /// digest is a conflict.
    pub content: Digest,
}

/// The first 16 bytes of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

/// A request's name, within its client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestId {
    /// The device chose it.
    Given(String),
    /// The device gave none: made from the digest and the time, so that a broker's redelivery
    /// can still be told from a new request.
    Made(String),
}

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Given(id) | Self::Made(id) => id,
        }
    }
}

/// Who asked. A broker hides the publisher, so only a topic of its own proves a client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// Published on its own request topic, which the broker's access list can enforce.
    Proven(String),
    /// Named itself in the payload.
    Claimed(String),
    /// Said nothing.
    Anonymous,
    /// A person at the appliance: control socket or serial console.
    Local,
}

impl Client {
    /// The name for people and replies.
    pub fn name(&self) -> &str {
        match self {
            Self::Proven(name) | Self::Claimed(name) => name,
            Self::Anonymous => "anonymous",
            Self::Local => "local",
        }
    }

    /// A name that two kinds of client cannot share: a claimed name never reaches the requests
    /// of a proven one.
    pub fn scope(&self) -> String {
        match self {
            Self::Proven(name) => format!("p:{name}"),
            Self::Claimed(name) => format!("c:{name}"),
            Self::Anonymous => "a:".into(),
            Self::Local => "l:".into(),
        }
    }

    /// The [`Client::name`] of whoever has this [`Client::scope`].
    pub fn name_in_scope(scope: &str) -> &str {
        match scope.split_once(':') {
            Some(("p" | "c", name)) => name,
            Some(("l", _)) => Self::Local.name(),
            Some(_) | None => Self::Anonymous.name(),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Free text.
    Prompt(String),
    /// An input for a task of the model package.
    Task {
        /// The task's name.
        task: String,
        /// Its input.
        input: String,
    },
    /// Values for the variables of a task of the model package.
    Values {
        /// The task's name.
        task: String,
        /// A flat JSON object of texts, numbers and truth values, its names in order.
        values: String,
    },
}

impl Ask {
    /// What is asked, as it was sent; of values, their JSON.
    pub fn text(&self) -> &str {
        match self {
            Self::Prompt(text)
            | Self::Task { input: text, .. }
            | Self::Values { values: text, .. } => text,
        }
    }

    /// The task, where one is named.
    pub fn task(&self) -> Option<&str> {
        match self {
            Self::Prompt(_) => None,
            Self::Task { task, .. } | Self::Values { task, .. } => Some(task),
        }
    }
}

/// Where content may go. The order is from open to closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Classification {
    /// Anywhere.
    Public,
    /// Within the company.
    Internal,
    /// Back to the device that asked, and nowhere else.
    Restricted,
}

impl Classification {
    /// The word used in requests and configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Restricted => "restricted",
        }
    }
}

/// Who goes first. The order is from first to last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before the others.
    High,
    /// In turn.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

/// Whether an answer is of use after the deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Late {
    /// It is not: at the deadline there is an outcome.
    #[default]
    No,
    /// It is: what the edge cannot answer well may take a cloud or a person the time it takes.
    Yes,
}

/// Whether tokens are wanted as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stream {
    /// The reply as a whole.
    #[default]
    No,
    /// Also token by token.
    Yes,
}

/// How much a reply tells of how sure the model was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// The confidence in the answer as a whole.
    #[default]
    Whole,
    /// Also every token at which the model had a choice.
    Tokens,
}

/// Where a reply goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReturnAddress {
    /// Over MQTT.
    Topic {
        /// The topic.
        topic: String,
        /// Copied byte for byte.
        correlation: Option<Vec<u8>>,
        /// Copied pair for pair.
        user_properties: Vec<(String, String)>,
    },
    /// To whoever asked at the appliance itself, if still there.
    Local,
}

/// What the site allows; each with its own refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Whole payload.
    pub max_payload_bytes: usize,
    /// Prompt or input.
    pub max_prompt_bytes: usize,
    /// Time a device may ask for, and gets where it asks for none.
    pub deadlines: DeadlineLimits,
    /// Classification of a request that does not say; the first filter that matches decides.
    pub default_classification: Classification,
    /// Exceptions to it, by topic filter.
    pub classification_by_topic: Vec<(String, Classification)>,
    /// Topic filters on which devices may ask to be answered.
    pub reply_topics: Vec<String>,
}

/// Bounds of a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineLimits {
    /// Where the device asks for none.
    pub default: Duration,
    /// The longest that counts.
    pub max: Duration,
}

/// Bytes of an id: it stands in a topic and in each log line.
pub const MAX_ID_BYTES: usize = 128;
/// Bytes of a client's or a task's name.
pub const MAX_NAME_BYTES: usize = 64;
/// Bytes of a reply topic: far below the protocol's 65,535, far above any plant's scheme, and
/// enough for the longest prefix, appliance's name and id together.
pub const MAX_TOPIC_BYTES: usize = 320;
/// Bytes of correlation data: held in memory and on disk for each open request.
pub const MAX_CORRELATION_BYTES: usize = 256;
/// Bytes of all user properties together, as they stand in the packet, for the same reason.
pub const MAX_USER_PROPERTIES_BYTES: usize = 1024;
/// Nesting of JSON: a schema needs about ten; the parser's stack bounds the rest.
pub const MAX_JSON_DEPTH: usize = 32;
/// Tokens of an answer.
pub const MAX_ANSWER_TOKENS: u32 = 4096;

/// Why a message is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For the person who wrote the device's program. May quote the sender.
    pub message: String,
    /// When another try makes sense.
    pub retry_after_ms: Option<u64>,
    /// The id, as far as it could be read.
    pub id: Option<String>,
    /// Where to say so; none if nobody can be told.
    pub reply: Option<ReturnAddress>,
}

/// Error codes of refusals: stable words for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Not a request: bytes, JSON, types, ranges or missing parts.
    Invalid,
    /// A limit on size was exceeded.
    TooLarge,
    /// The same id came with other content.
    IdConflict,
    /// A retained message.
    Retained,
    /// The reply topic is not allowed.
    ReplyTopic,
    /// The client sends faster than it may.
    RateLimited,
    /// Too much is under way: for this client, or at all.
    Busy,
    /// The disk's share for requests is used up, or the disk fails.
    Spool,
    /// There is no engine that could answer.
    EngineUnavailable,
    /// Time was up.
    Deadline,
    /// The appliance is going down.
    Draining,
    /// The engine failed on it more than once.
    EngineFailed,
    /// Prompt and answer do not fit into the model's context.
    OverContext,
    /// The model package has no task of that name.
    UnknownTask,
    /// Answers cannot be held to this schema.
    Schema,
    /// A rule of the site sends it nowhere.
    Policy,
    /// Nobody who was asked elsewhere can answer it.
    CloudFailed,
    /// Nobody answered it in the time that it was kept for them.
    Expired,
    /// A person rejected it.
    Rejected,
    /// The appliance is too hot to compute.
    Hot,
    /// It is short of memory.
    Memory,
    /// Somebody works on the appliance.
    Maintenance,
}

impl Code {
    /// The word in the reply.
    pub fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::IdConflict => "id_conflict",
            Self::Retained => "retained",
            Self::ReplyTopic => "reply_topic",
            Self::RateLimited => "rate_limited",
            Self::Busy => "busy",
            Self::Spool => "spool_full",
            Self::EngineUnavailable => "engine_unavailable",
            Self::Deadline => "deadline",
            Self::Draining => "draining",
            Self::EngineFailed => "engine_failed",
            Self::OverContext => "over_context",
            Self::UnknownTask => "unknown_task",
            Self::Schema => "schema",
            Self::Policy => "policy",
            Self::CloudFailed => "cloud_failed",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Hot => "hot",
            Self::Memory => "memory",
            Self::Maintenance => "maintenance",
        }
    }
}

#[cfg(test)]
mod tests;
