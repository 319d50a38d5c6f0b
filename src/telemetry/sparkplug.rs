//! The node: the appliance's figures as an edge node of Sparkplug B 3.0, for SCADA systems.
//!
//! ```text
//!            on_connecting        on_broker (up)
//!     Away ───────────────► Away ───────────────► Waiting ── a sample, and the host ──► Born
//!      ▲                                             ▲                                    │
//!      │                 on_broker (down)            │      on_broker (STATE: offline):   │
//!      └─────────────────────────────────────────────┴──── says NDEATH and hangs up ──────┤
//!                                                                                         │
//!                  Born ◄── on_broker (NCMD: rebirth), on_sample with a new metric ───────┘
//! ```
//!
//! It has a connection of its own, because the last will of each is its death: the broker says it
//! when the line breaks, and `bdSeq` in it tells to which birth it belongs. The number goes up with
//! each connection and over restarts; [`shell`] keeps it on the disk. A birth names every metric that
//! there ever was in this life, and gives it a number that stays; what follows names only what has
//! changed, by number.
//!
//! What changes while nobody listens is held in memory and told afterwards, marked as historical, at
//! the pace of [`Plan::pause`]. It does not outlive the process: the batches of the
//! [`reporter`](super::reporter) do.
//!
//! Invariants:
//!
//! - nothing but a death is said before a birth, and a birth is the first message of its `seq`, 0;
//!   every message after it has the next, modulo 256;
//! - no data bears a number that its birth did not name;
//! - where a primary host is set, nothing is said while it is away;
//! - [`MAX_HELD`] changes are held at most, the oldest give way and are counted; births are at least
//!   [`BIRTHS_APART`] apart, whoever asks for them.

pub mod payload;
pub mod shell;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Deserialize;

use self::payload::{Called, Kind, Metric, REBIRTH, Value, payload};
use crate::broker::{Command, Delivery, Event, Parcel, ParcelId, Retain, Will};
use crate::clock::{Mono, Now, Wall};
use crate::intake::Message;

/// Changes that are held while nobody listens: a night of them, some megabytes.
pub const MAX_HELD: usize = 65_536;
/// Between two births: a host that asks without end is not answered without end.
pub const BIRTHS_APART: Duration = Duration::from_secs(1);
/// Changes of one message of replays: it stays far below any broker's limit.
const REPLAYED_AT_ONCE: usize = 256;
/// Parcels of the node, on a connection that is its own.
const PARCEL: ParcelId = ParcelId(1);
const REPLAY: ParcelId = ParcelId(2);

/// Values by their metrics' names.
pub type Values = BTreeMap<String, Value>;

/// One look at all values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When it was taken.
    pub at: Wall,
    /// What was seen then.
    pub values: Values,
}

/// What the site wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The group that the node belongs to.
    pub group: String,
    /// The node's name.
    pub node: String,
    /// The host without which nothing is said.
    pub primary_host: Option<String>,
    /// Between two messages of replays.
    pub pause: Duration,
}

impl Plan {
    fn topic(&self, kind: &str) -> String {
        format!("spBv1.0/{}/{kind}/{}", self.group, self.node)
    }

    fn host_topic(&self) -> Option<String> {
        let host = self.primary_host.as_ref()?;
        Some(format!("spBv1.0/STATE/{host}"))
    }

    /// What the node listens to.
    pub fn subscriptions(&self) -> Vec<String> {
        let commands = [self.topic("NCMD")];
        commands.into_iter().chain(self.host_topic()).collect()
    }
}

/// What became of it since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Births that were said.
    pub births: u64,
    /// Messages with changes, replays among them.
    pub messages: u64,
    /// Changes that are held now.
    pub held: usize,
    /// Changes that gave way.
    pub dropped: u64,
}

/// What a host says of itself.
#[derive(Deserialize)]
struct HostState {
    online: bool,
    timestamp: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No connection, or one that is being left.
    Away,
    /// A connection; there is no host, or nothing to tell yet.
    Waiting,
    /// Said what there is; the next `seq`.
    Born(u8),
}

/// A metric that was seen in this life.
#[derive(Clone, Copy, Debug)]
struct Known {
    alias: u64,
    kind: Kind,
}

/// A change that nobody heard of.
#[derive(Clone, Debug)]
struct Change {
    at: Wall,
    known: Known,
    value: Option<Value>,
}

/// The node.
#[derive(Debug)]
pub struct Node {
    plan: Plan,
    state: State,
    bd_seq: u8,
    known: BTreeMap<String, Known>,
    latest: Option<Look>,
    held: VecDeque<Change>,
    /// Said, and not yet with the connection.
    under_way: Vec<Change>,
    next_replay: Mono,
    /// Somebody wants a birth, as soon as it may be.
    wants_birth: bool,
    next_birth: Mono,
    is_host_online: bool,
    /// When the host said that.
    host_since: u64,
    tally: Tally,
    out: Vec<Command>,
}

impl Node {
    /// A node whose last connection, in an earlier life, had this number.
    pub fn new(plan: Plan, last_bd_seq: Option<u8>) -> Self {
        Self {
            plan,
            state: State::Away,
            bd_seq: last_bd_seq.unwrap_or(u8::MAX),
            known: BTreeMap::new(),
            latest: None,
            held: VecDeque::new(),
            under_way: Vec::new(),
            next_replay: Mono::default(),
            wants_birth: false,
            next_birth: Mono::default(),
            is_host_online: false,
            host_since: 0,
            tally: Tally::default(),
            out: Vec::new(),
        }
    }

    /// A connection is about to be made: its last will. [`Node::bd_seq`] is on the disk before it is.
    pub fn on_connecting(&mut self, now: Now) -> Will {
        self.bd_seq = self.bd_seq.wrapping_add(1);
        Will {
            topic: self.plan.topic("NDEATH"),
            payload: self.death(now.wall),
            retain: Retain::No,
        }
    }

    /// The number of the connection that is there or about to be made.
    pub fn bd_seq(&self) -> u8 {
        self.bd_seq
    }

    /// Values were looked at.
    pub fn on_look(&mut self, look: Look, now: Now) {
        self.wants_birth |= self.learn(&look.values) && matches!(self.state, State::Born(_));
        let changes = self.changes(&look);
        self.latest = Some(look);
        match self.state {
            State::Born(seq) if !self.wants_birth => {
                if !changes.is_empty() {
                    self.tell(seq, &changes, false, now);
                }
            }
            State::Away | State::Waiting | State::Born(_) => self.hold(changes),
        }
        self.work(now);
    }

    /// The connection has news.
    pub fn on_broker(&mut self, event: &Event, now: Now) {
        match event {
            Event::Up(_) => {
                self.state = State::Waiting;
                self.wants_birth = true;
            }
            Event::Down { .. } => self.on_gone(),
            Event::Message(message) => self.on_message(message, now),
            Event::Delivered(id) | Event::Undeliverable { parcel: id, .. } => {
                if *id == REPLAY {
                    self.under_way.clear();
                }
            }
            Event::Deaf { .. } => {}
        }
        self.work(now);
    }

    /// The connection is no more.
    pub fn on_gone(&mut self) {
        self.state = State::Away;
        self.is_host_online = false;
        for change in self.under_way.drain(..).rev() {
            self.held.push_front(change);
        }
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Now) {
        self.work(now);
    }

    /// When [`Node::on_timeout`] is of use.
    pub fn deadline(&self) -> Option<Mono> {
        let may = self.may_speak();
        match self.state {
            State::Waiting | State::Born(_) if may && self.wants_birth => Some(self.next_birth),
            State::Born(_) if !self.held.is_empty() && self.under_way.is_empty() => {
                Some(self.next_replay)
            }
            State::Away | State::Waiting | State::Born(_) => None,
        }
    }

    /// The appliance ends: says so itself, because the broker will not after a proper goodbye.
    pub fn on_close(&mut self, now: Now) {
        self.leave(now);
    }

    /// What is to be done now.
    pub fn take_effects(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.out)
    }

    /// What became of it.
    pub fn tally(&self) -> Tally {
        Tally {
            held: self.held.len() + self.under_way.len(),
            ..self.tally
        }
    }

    /// Gives each metric that is new its number; says whether there was one.
    fn learn(&mut self, values: &Values) -> bool {
        let before = self.known.len();
        for (name, value) in values {
            let known = Known {
                alias: self.known.len() as u64,
                kind: value.kind(),
            };
            self.known.entry(name.clone()).or_insert(known);
        }
        self.known.len() > before
    }

    /// What is other than at the last look.
    fn changes(&self, look: &Look) -> Vec<Change> {
        let before = self.latest.as_ref().map(|it| &it.values);
        let known = self.known.iter();
        let changes = known.filter_map(|(name, known)| {
            let value = look.values.get(name);
            let is_same = before.and_then(|before| before.get(name)) == value;
            (!is_same).then(|| Change {
                at: look.at,
                known: *known,
                value: value.cloned(),
            })
        });
        changes.collect()
    }

    fn hold(&mut self, changes: Vec<Change>) {
        self.held.extend(changes);
        let over = self.held.len().saturating_sub(MAX_HELD);
        self.held.drain(..over);
        self.tally.dropped += over as u64;
    }

    fn on_message(&mut self, message: &Message, now: Now) {
        if let Some(ack) = message.ack {
            self.out.push(Command::Acknowledge(ack));
        }
        if Some(&message.topic) == self.plan.host_topic().as_ref() {
            self.on_host(&message.payload, now);
        } else if message.topic == self.plan.topic("NCMD") {
            match payload::wants_rebirth(&message.payload) {
                Ok(wants) => self.wants_birth |= wants,
                Err(error) => tracing::warn!(%error, topic = message.topic, "a command"),
            }
        }
    }

    /// What was said before what is known already is old news.
    fn on_host(&mut self, bytes: &[u8], now: Now) {
        let Ok(HostState { online, timestamp }) = serde_json::from_slice(bytes) else {
            tracing::warn!("the primary host's STATE is not that of Sparkplug 3.0");
            return;
        };
        if timestamp < self.host_since {
            return;
        }
        self.host_since = timestamp;
        self.is_host_online = online;
        match self.state {
            State::Born(_) if !online => self.leave(now),
            State::Away | State::Waiting | State::Born(_) => {}
        }
    }

    fn may_speak(&self) -> bool {
        let is_heard = self.plan.primary_host.is_none() || self.is_host_online;
        is_heard && self.latest.is_some()
    }

    fn work(&mut self, now: Now) {
        let is_there = self.state != State::Away;
        if is_there && self.wants_birth && self.may_speak() && now.mono >= self.next_birth {
            self.give_birth(now);
        }
        let State::Born(seq) = self.state else {
            return;
        };
        let is_due = !self.wants_birth && now.mono >= self.next_replay;
        if is_due && self.under_way.is_empty() && !self.held.is_empty() {
            let count = self.held.len().min(REPLAYED_AT_ONCE);
            let changes: Vec<_> = self.held.drain(..count).collect();
            self.tell(seq, &changes, true, now);
            self.under_way = changes;
            self.next_replay = now.mono.after(self.plan.pause);
        }
    }

    fn give_birth(&mut self, now: Now) {
        let Some(latest) = &self.latest else {
            return;
        };
        // The birth tells the last look itself.
        while self.held.back().is_some_and(|it| it.at == latest.at) {
            self.held.pop_back();
        }
        let (bd_seq, rebirth) = (Value::Whole(self.bd_seq.into()), Value::Truth(false));
        let own = [("bdSeq", &bd_seq), (REBIRTH, &rebirth)];
        let own = own.map(|(name, value)| named(Called::Name(name), now.wall, value));
        let known = self.known.iter().map(|(name, known)| Metric {
            called: Called::Both(name, known.alias),
            at: latest.at,
            kind: known.kind,
            value: latest.values.get(name),
            historical: false,
        });
        let bytes = payload(now.wall, Some(0), own.into_iter().chain(known));
        self.say("NBIRTH", PARCEL, bytes);
        self.state = State::Born(1);
        self.wants_birth = false;
        self.next_birth = now.mono.after(BIRTHS_APART);
        self.tally.births += 1;
    }

    fn tell(&mut self, seq: u8, changes: &[Change], historical: bool, now: Now) {
        let metrics = changes.iter().map(|change| Metric {
            called: Called::Alias(change.known.alias),
            at: change.at,
            kind: change.known.kind,
            value: change.value.as_ref(),
            historical,
        });
        let bytes = payload(now.wall, Some(seq), metrics);
        let id = if historical { REPLAY } else { PARCEL };
        self.say("NDATA", id, bytes);
        self.state = State::Born(seq.wrapping_add(1));
        self.tally.messages += 1;
    }

    fn leave(&mut self, now: Now) {
        match self.state {
            State::Away => {}
            State::Waiting => self.out.push(Command::Close),
            State::Born(_) => {
                self.say("NDEATH", PARCEL, self.death(now.wall));
                self.out.push(Command::Close);
            }
        }
        self.on_gone();
    }

    fn death(&self, at: Wall) -> Vec<u8> {
        let bd_seq = Value::Whole(self.bd_seq.into());
        payload(at, None, [named(Called::Name("bdSeq"), at, &bd_seq)])
    }

    fn say(&mut self, kind: &str, id: ParcelId, payload: Vec<u8>) {
        self.out.push(Command::Publish(Parcel {
            id,
            topic: self.plan.topic(kind),
            payload,
            correlation: None,
            user_properties: Vec::new(),
            content_type: None,
            expiry_s: None,
            delivery: Delivery::AtMostOnce, // as the specification wants births and data
            retain: Retain::No,
        }));
    }
}

fn named<'a>(called: Called<'a>, at: Wall, value: &'a Value) -> Metric<'a> {
    Metric {
        called,
        at,
        kind: value.kind(),
        value: Some(value),
        historical: false,
    }
}

#[cfg(test)]
mod tests;
