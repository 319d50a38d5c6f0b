//! Review: requests that wait for a person, who looks at which, and what they say.
//!
//! ```text
//!                     take                       verdict of the holder
//!  ──put──► free ─────────────────────────► held ─────────────┐
//!            │ ▲    give_back, or time       │ ▲ take again    ▼
//!            │ └─────────────────────────────┘ └──┘          ruled: settled by a person
//!            ├──────────── verdict ──────────────────────────►
//!            └──────────── remove: expired, or settled in another way
//! ```
//!
//! Purpose: persons answer at the appliance (`lineside review`, later its page and its console) and
//! elsewhere (MQTT), all through one port: an [`Asked`] goes in, a [`Told`] or a [`Refusal`] comes
//! out. Everything here is pure: no clock, no channel, no disk.
//!
//! What it owns: the [`desk`], which knows numbers, ages, priorities and leases and never a text;
//! what a reviewer sees of one item ([`sheet`]); the form that a correction must have ([`form`]);
//! the messages of reviewers elsewhere ([`remote`]) and the files of Label Studio
//! ([`label_studio`]). The texts lie in the spool.
//!
//! Invariants:
//!
//! - Two reviewers never work on one item unknown to each other: who has taken it has it until the
//!   lease ends, and the verdict of anybody else is refused meanwhile, with the holder's name.
//! - The first verdict counts. Whatever comes after it is told that the item is settled.
//! - A verdict that leads to an answer leads to one of the form that the task's answers have.
//! - An item keeps its name over restarts, and the name tells nothing of what was asked.
//! - Restricted items exist at the appliance only: they are never published, never exported, and
//!   for a reviewer elsewhere there is no such item.
//!
//! How it fails: by a [`Refusal`], which never quotes a text.

pub mod desk;
pub mod form;
pub mod label_studio;
pub mod remote;
pub mod sheet;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use desk::{Cursor, Desk, Head, Page, Seen};
pub use form::{Forms, Wanted};
pub use sheet::{Row, Sheet};

use crate::clock::{DAY_MS, Wall};
use crate::intake::{Digest, Request};
use crate::ticket::Key;

/// How long an item is kept for who took it: time to read, to walk to the machine and to look.
pub const LEASE: Duration = Duration::from_mins(10);
/// Items on the desk. Each is an open request, so the gate's limit comes first; this one bounds the
/// memory of the desk whatever the gate allows.
pub const MAX_ITEMS: usize = 16_384;
/// Items on one page of the list: an answer of some dozen kilobytes.
pub const MAX_PAGE: usize = 100;
/// Bytes of a correction: as much as the longest answer of a model has.
pub const MAX_TEXT_BYTES: usize = 32_768;
/// Bytes of the reason of a rejection: the device's programmer reads it in an error's message.
pub const MAX_REASON_BYTES: usize = 500;
/// Bytes of a reviewer's name.
pub const MAX_REVIEWER_BYTES: usize = 64;
/// Digits of an item's name that are enough to mean it, where no other begins so.
pub const MIN_DIGITS: usize = 6;
/// Digits of a whole name.
pub const ID_DIGITS: usize = 2 * ID_BYTES;
/// Digits that are shown where people choose.
pub const SHORT_DIGITS: usize = 12;

const ID_BYTES: usize = OWN_BYTES + 16;
const OWN_BYTES: usize = 8;

/// What somebody wants of the desk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// What waits, from the most urgent on.
    List {
        /// Behind this place; none from the beginning.
        after: Option<Cursor>,
        /// This many at most.
        max: usize,
    },
    /// One item, with its texts.
    Show(Named),
    /// Take an item, or keep it for longer.
    Take(Named, Reviewer),
    /// Give an item back.
    GiveBack(Named, Reviewer),
    /// Settle an item.
    Rule(Named, Reviewer, Verdict),
}

/// What the desk says.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// To [`Asked::List`].
    Listed {
        /// The items.
        rows: Vec<Row>,
        /// All that wait.
        total: usize,
        /// What asks for the next page, where there is one.
        next: Option<Cursor>,
    },
    /// To [`Asked::Show`] and [`Asked::Take`].
    Sheet(Box<Sheet>),
    /// To [`Asked::GiveBack`].
    GivenBack(ItemId),
    /// To [`Asked::Rule`]; it is durable.
    Ruled(ItemId),
}

/// What the site decided about persons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// The forms that answers have.
    pub forms: Forms,
    /// What becomes of an item for which nobody was found in time.
    pub at_expiry: Fallback,
}

/// What becomes of an item for which nobody was found in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Its draft is the answer, degraded; without a draft it is refused.
    #[default]
    Draft,
    /// It is refused.
    Refuse,
}

/// What a person says of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The draft is right.
    Approve,
    /// This is right.
    Correct(String),
    /// There is no answer, for this reason.
    Reject(String),
}

impl Verdict {
    /// The word in counters, requests and files.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Correct(_) => "correct",
            Self::Reject(_) => "reject",
        }
    }

    /// Whether its text is there and not too long.
    pub fn check(&self) -> Result<(), Refusal> {
        let (what, text, limit) = match self {
            Self::Approve => return Ok(()),
            Self::Correct(text) => ("correction", text, MAX_TEXT_BYTES),
            Self::Reject(reason) => ("reason", reason, MAX_REASON_BYTES),
        };
        if text.trim().is_empty() {
            Err(Refusal::Empty { what })
        } else if text.len() > limit {
            Err(Refusal::TooLong { what, limit })
        } else {
            Ok(())
        }
    }
}

/// Who looks at an item, by the name that they give themselves: whoever may open the control
/// socket, or publish on the topic of verdicts, is trusted with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reviewer(String);

impl Reviewer {
    /// A reviewer of this name, without the blanks around it.
    pub fn named(name: &str) -> Result<Self, Refusal> {
        let name = name.trim();
        let good = !name.is_empty()
            && name.len() <= MAX_REVIEWER_BYTES
            && !name.chars().any(char::is_control);
        good.then(|| Self(name.to_owned()))
            .ok_or(Refusal::BadReviewer)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of an item: the same over restarts and for every way in.
///
/// Made of the client's scope, the request's id and the digest of what was asked; the second part
/// is the [`Key`] under which the request is known, so that an item which was settled long ago is
/// told from one that never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId([u8; ID_BYTES]);

impl ItemId {
    /// The name of a request's item.
    pub fn of(request: &Request) -> Self {
        let id = request.id.as_str();
        let scope = request.client.scope();
        let parts: [&[u8]; 4] = [
            b"review",
            scope.as_bytes(),
            id.as_bytes(),
            &request.content.0,
        ];
        let mut bytes = [0; ID_BYTES];
        bytes[..OWN_BYTES].copy_from_slice(&Digest::of(&parts).0[..OWN_BYTES]);
        bytes[OWN_BYTES..].copy_from_slice(&Key::of(&request.client, id).bytes());
        Self(bytes)
    }

    /// Under which its request is known.
    pub fn key(&self) -> Key {
        let mut key = [0; 16];
        key.copy_from_slice(&self.0[OWN_BYTES..]);
        Key::from_bytes(key)
    }

    /// The first digits, for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(SHORT_DIGITS);
        text
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An item as somebody names it: by all digits of its name, or by enough of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    low: ItemId,
    high: ItemId,
}

impl Named {
    /// Whether all digits were given; the item then.
    pub fn whole(&self) -> Option<ItemId> {
        (self.low == self.high).then_some(self.low)
    }
}

impl fmt::Display for Named {
    /// The digits that were given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (self.low.to_string(), self.high.to_string());
        let mut both = low.chars().zip(high.chars());
        both.by_ref()
            .take_while(|(low, high)| low == high)
            .try_for_each(|(digit, _)| write!(f, "{digit}"))
    }
}

impl From<ItemId> for Named {
    fn from(id: ItemId) -> Self {
        Self { low: id, high: id }
    }
}

impl FromStr for Named {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let digits = text.trim().as_bytes();
        if !(MIN_DIGITS..=ID_DIGITS).contains(&digits.len()) {
            return Err(Refusal::BadId);
        }
        let (mut low, mut high) = ([0; ID_BYTES], [u8::MAX; ID_BYTES]);
        for (place, digit) in digits.iter().enumerate() {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                b'A'..=b'F' => digit - b'A' + 10,
                _ => return Err(Refusal::BadId),
            };
            let shift = if place % 2 == 0 { 4 } else { 0 };
            for bytes in [&mut low, &mut high] {
                let byte = &mut bytes[place / 2];
                *byte = (*byte & !(0xF << shift)) | (value << shift);
            }
        }
        Ok(Self {
            low: ItemId(low),
            high: ItemId(high),
        })
    }
}

/// Why the desk does not do it. No text of a request or an answer stands in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such item.
    #[error("no item of this id waits for a person")]
    Unknown,
    /// It was settled.
    #[error("it has its outcome already; nothing was changed")]
    Settled,
    /// More than one begins so.
    #[error("{count} items begin like this: give more digits")]
    Ambiguous {
        /// How many.
        count: usize,
    },
    /// Somebody else looks at it.
    #[error("held by {by} until {}", utc_time(*until))]
    Held {
        /// Who.
        by: String,
        /// Until when, if nothing happens before.
        until: Wall,
    },
    /// It is not held by who gives it back or wants to keep it.
    #[error("it is not held by you")]
    NotHeld,
    /// There is nothing to approve.
    #[error("there is no draft to approve: correct it with an answer, or reject it")]
    NoDraft,
    /// A text is missing.
    #[error("the {what} is empty")]
    Empty {
        /// Which.
        what: &'static str,
    },
    /// A text is too long.
    #[error("the {what} has more than {limit} bytes")]
    TooLong {
        /// Which.
        what: &'static str,
        /// Its limit.
        limit: usize,
    },
    /// A correction is not what the task's answers are.
    #[error("the correction must be {wanted}")]
    Form {
        /// What it must be.
        wanted: String,
    },
    /// What was given as an id is none.
    #[error(
        "an item's id is {MIN_DIGITS} to {ID_DIGITS} digits of 0-9 a-f; `lineside review list` shows them"
    )]
    BadId,
    /// What was given as a place in the list is none.
    #[error("no place in the list: take `next` as the page before gave it")]
    BadCursor,
    /// What was given as a name is none.
    #[error("a reviewer's name has 1 to {MAX_REVIEWER_BYTES} bytes and no control characters")]
    BadReviewer,
    /// It could not be read or written.
    #[error("the store fails, or is asked too much at once: try again in a moment")]
    Store,
}

impl Refusal {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown_item",
            Self::Settled => "settled",
            Self::Ambiguous { .. } => "ambiguous_item",
            Self::Held { .. } => "held",
            Self::NotHeld => "not_held",
            Self::NoDraft => "no_draft",
            Self::Empty { .. } => "empty",
            Self::TooLong { .. } => "too_long",
            Self::Form { .. } => "form",
            Self::BadId => "bad_id",
            Self::BadCursor => "bad_cursor",
            Self::BadReviewer => "bad_reviewer",
            Self::Store => "store",
        }
    }
}

/// A time of day, as people write it.
fn utc_time(at: Wall) -> String {
    let seconds = at.0 % DAY_MS / 1000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests;
