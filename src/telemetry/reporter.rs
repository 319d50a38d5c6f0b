//! The reporter: carries batches from samples over the disk to the broker.
//!
//! ```text
//!  on_sample ─► gather ─► on the disk (bounded; the oldest gives way) ─► broker ─► gone from the disk
//!                              │                                          │
//!                              └─ dropped: counted by reason              └─ counted as sent
//! ```
//!
//! A plain struct: inputs with the time, effects out. Every batch lies on the disk before it is sent,
//! and until the broker has it. They go in the order in which they were taken, one at a time; after
//! an outage no faster than [`Plan::pause`] apart, so that requests and replies never wait for them.
//! One that is older than [`FRESH`], or of an earlier life, goes to the topic of replays.
//!
//! Invariants:
//!
//! - samples taken = sent + dropped + on the disk + in memory ([`Reporter::audit`]);
//! - what is counted as sent, the broker has; a restart may send the last batch once more, with its
//!   number;
//! - numbers never go back: the newest batch stays on the disk until there is a newer one;
//! - the tree never takes more than [`Plan::cap_bytes`], and memory never holds more than
//!   [`MAX_HELD`] batches whatever the disk does.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::batch::{self, Batch, Gatherer, Sample};
use crate::broker::{Command, Delivery, Event, Parcel, ParcelId, Retain};
use crate::clock::{Mono, Now};
use crate::spool::record::seal;
use crate::spool::shell as spool;
use crate::spool::{Numbered, Op, Room, Tree};

/// Parcels of the reporter have this bit in their number, and no other has.
pub const PARCEL: u64 = 1 << 62;
/// Tokens of the reporter have this bit in their number, and no other has.
pub const TOKEN: u64 = 1 << 62;
/// A batch that is sent within this is no replay.
pub const FRESH: Duration = Duration::from_mins(2);
/// Batches that memory holds while the disk cannot take them.
pub const MAX_HELD: usize = 16;
/// Sent batches whose removal waits for the next write; so many are removed by themselves.
const REMOVE_AT: usize = 16;

/// Whether a parcel is the reporter's: the bit above belongs to others.
pub fn is_ours(id: ParcelId) -> bool {
    id.0 >> 62 == 1
}

/// What the site wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The appliance's name.
    pub appliance: String,
    /// Where batches go that are fresh, and those that are not.
    pub topics: [String; 2],
    /// Samples of a batch.
    pub samples: usize,
    /// Bytes of records on the disk.
    pub cap_bytes: u64,
    /// Between two batches of a backlog.
    pub pause: Duration,
}

/// What became of samples since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples that were taken, those that the disk held at the start included.
    pub taken: u64,
    /// Samples that the broker has.
    pub sent: u64,
    /// Samples that were dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Batches that the broker has.
    pub batches: u64,
    /// Of those, replays.
    pub replays: u64,
    /// Bytes that went to the broker.
    pub bytes: u64,
}

/// A batch that an earlier life left on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its number.
    pub seq: u64,
    /// Bytes of its record.
    pub bytes: u64,
    /// Samples in it.
    pub samples: u64,
}

impl Left {
    /// Of a record's body; none if it holds no batch.
    pub fn of(seq: u64, body: &[u8]) -> Option<Self> {
        let (samples, _) = batch::read_body(body)?;
        let bytes = seal(body).len() as u64;
        Some(Self {
            seq,
            bytes,
            samples,
        })
    }
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the spool.
    pub spool: Vec<spool::Command>,
    /// For the broker's connection.
    pub broker: Vec<Command>,
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    seq: u64,
    bytes: u64,
    samples: u64,
    /// When it was sealed; none in an earlier life.
    sealed: Option<Mono>,
}

#[derive(Debug)]
struct Held {
    stored: Stored,
    record: Vec<u8>,
}

#[derive(Debug)]
enum Write {
    Nothing,
    /// A batch, and the removals that ride along.
    Batch(spool::Token, Held, Vec<u64>),
    /// Removals alone.
    Removal(spool::Token, Vec<u64>),
}

#[derive(Debug)]
enum Sending {
    Nothing,
    Reading(spool::Token, u64),
    /// It is with the connection.
    Away(u64, u64),
}

/// The reporter.
#[derive(Debug)]
pub struct Reporter {
    plan: Plan,
    gatherer: Gatherer,
    gathered: u64,
    /// On the disk, the oldest first.
    stored: VecDeque<Stored>,
    stored_bytes: u64,
    /// Sealed, and not on the disk yet.
    held: VecDeque<Held>,
    write: Write,
    sending: Sending,
    /// With the broker, and still on the disk.
    remove: Vec<u64>,
    next_seq: u64,
    next_token: u64,
    is_online: bool,
    is_failing: bool,
    next_send: Mono,
    tally: Tally,
    out: Effects,
}

impl Reporter {
    /// Goes on with what the disk holds.
    pub fn new(plan: Plan, left: &[Left]) -> Self {
        let stored: VecDeque<_> = left
            .iter()
            .map(|it| Stored {
                seq: it.seq,
                bytes: it.bytes,
                samples: it.samples,
                sealed: None,
            })
            .collect();
        Self {
            gatherer: Gatherer::new(plan.samples),
            gathered: 0,
            stored_bytes: stored.iter().map(|it| it.bytes).sum(),
            next_seq: stored.back().map_or(1, |it| it.seq + 1),
            tally: Tally {
                taken: stored.iter().map(|it| it.samples).sum(),
                ..Tally::default()
            },
            stored,
            held: VecDeque::new(),
            write: Write::Nothing,
            sending: Sending::Nothing,
            remove: Vec::new(),
            next_token: 0,
            is_online: false,
            is_failing: false,
            next_send: Mono::default(),
            out: Effects::default(),
            plan,
        }
    }

    /// Figures were looked at.
    pub fn on_sample(&mut self, sample: Sample, now: Now) {
        self.tally.taken += 1;
        self.gathered += 1;
        for samples in self.gatherer.add(sample) {
            self.seal(&samples, now);
        }
        self.work(now);
    }

    /// No more samples will come: what was gathered is a batch, however short.
    pub fn on_close(&mut self, now: Now) {
        let rest = self.gatherer.rest();
        if !rest.is_empty() {
            self.seal(&rest, now);
        }
        self.work(now);
    }

    /// The spool has news for a token of ours, or is back.
    pub fn on_spool(&mut self, event: spool::Event, now: Now) {
        match event {
            spool::Event::Committed { token, .. } => self.on_committed(token),
            spool::Event::Refused { token, .. } => self.on_refused(token),
            spool::Event::Failed { token } => self.on_failed(token),
            spool::Event::Records { token, records } => self.on_records(token, records, now),
            spool::Event::Restored { .. } => self.is_failing = false,
        }
        self.work(now);
    }

    /// The connection has news.
    pub fn on_broker(&mut self, event: &Event, now: Now) {
        match event {
            Event::Up(_) => self.is_online = true,
            Event::Down { .. } => self.is_online = false,
            Event::Delivered(id) => self.on_parcel(*id, Ok(()), now),
            Event::Undeliverable { parcel, why } => self.on_parcel(*parcel, Err(why), now),
            Event::Deaf { .. } | Event::Message(_) => {}
        }
        self.work(now);
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Now) {
        self.work(now);
    }

    /// When [`Reporter::on_timeout`] is of use.
    pub fn deadline(&self) -> Option<Mono> {
        let waits = self.is_online && !self.is_failing && !self.stored.is_empty();
        (waits && matches!(self.sending, Sending::Nothing)).then_some(self.next_send)
    }

    /// What is to be done now.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.out)
    }

    /// What became of samples.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Batches on the disk and their bytes.
    pub fn backlog(&self) -> (usize, u64) {
        (self.stored.len(), self.stored_bytes)
    }

    /// Whether nothing is under way.
    pub fn is_quiet(&self) -> bool {
        matches!(self.write, Write::Nothing) && self.held.is_empty()
    }

    /// Says what does not add up.
    pub fn audit(&self) -> Result<(), String> {
        let dropped: u64 = self.tally.dropped.values().sum();
        let stored: u64 = self.stored.iter().map(|it| it.samples).sum();
        let written = match &self.write {
            Write::Batch(_, held, _) => held.stored.samples,
            Write::Nothing | Write::Removal(..) => 0,
        };
        let held: u64 = self.held.iter().map(|it| it.stored.samples).sum();
        let found = self.tally.sent + dropped + stored + written + held + self.gathered;
        if found != self.tally.taken {
            return Err(format!(
                "{} taken, {found} found: {:?}",
                self.tally.taken, self.tally
            ));
        }
        let bytes: u64 = self.stored.iter().map(|it| it.bytes).sum();
        if bytes != self.stored_bytes || bytes > self.plan.cap_bytes {
            return Err(format!(
                "{bytes} bytes stored, {} counted",
                self.stored_bytes
            ));
        }
        if self.held.len() > MAX_HELD {
            return Err(format!("{} batches in memory", self.held.len()));
        }
        Ok(())
    }

    fn drop_samples(&mut self, why: &'static str, samples: u64) {
        *self.tally.dropped.entry(why).or_default() += samples;
    }

    fn seal(&mut self, samples: &[Sample], now: Now) {
        let count = samples.len() as u64;
        self.gathered -= count;
        let seq = self.next_seq;
        self.next_seq += 1;
        let packed = Batch::of(&self.plan.appliance, seq, samples).pack();
        let record = seal(&batch::body(samples.len(), &packed));
        let stored = Stored {
            seq,
            bytes: record.len() as u64,
            samples: count,
            sealed: Some(now.mono),
        };
        if stored.bytes > self.plan.cap_bytes {
            self.drop_samples("larger than all room", count);
            return;
        }
        if self.held.len() == MAX_HELD
            && let Some(oldest) = self.held.pop_front()
        {
            self.drop_samples("the disk fails", oldest.stored.samples);
        }
        self.held.push_back(Held { stored, record });
    }

    fn token(&mut self) -> spool::Token {
        self.next_token += 1;
        spool::Token(TOKEN | self.next_token)
    }

    fn work(&mut self, now: Now) {
        self.write_next();
        self.send_next(now);
    }

    fn write_next(&mut self) {
        if self.is_failing || !matches!(self.write, Write::Nothing) {
            return;
        }
        if let Some(held) = self.held.pop_front() {
            self.make_room(held.stored.bytes);
            let removed = std::mem::take(&mut self.remove);
            let token = self.token();
            self.commit(token, Some(&held), &removed);
            self.write = Write::Batch(token, held, removed);
        } else if self.remove.len() > REMOVE_AT {
            // The newest stays until there is a newer one: the next life counts on from it.
            let newest = self.next_seq - 1;
            let all = std::mem::take(&mut self.remove).into_iter();
            let (kept, removed) = all.partition::<Vec<_>, _>(|seq| *seq == newest);
            self.remove = kept;
            let token = self.token();
            self.commit(token, None, &removed);
            self.write = Write::Removal(token, removed);
        }
    }

    /// The oldest gives way; never the one that may be with the broker already.
    fn make_room(&mut self, bytes: u64) {
        while self.stored_bytes + bytes > self.plan.cap_bytes {
            let busy = match self.sending {
                Sending::Nothing => None,
                Sending::Reading(_, seq) | Sending::Away(seq, _) => Some(seq),
            };
            let place = self.stored.iter().position(|it| Some(it.seq) != busy);
            let Some(old) = place.and_then(|place| self.stored.remove(place)) else {
                return; // all that is left is on its way; it goes in a moment
            };
            self.stored_bytes -= old.bytes;
            self.remove.push(old.seq);
            self.drop_samples("no room", old.samples);
        }
    }

    fn commit(&mut self, token: spool::Token, held: Option<&Held>, removed: &[u64]) {
        let tree = Tree::Telemetry;
        let ack = |seq: &u64| Op::Ack { tree, seq: *seq };
        let mut ops: Vec<_> = removed.iter().map(ack).collect();
        ops.extend(held.map(|held| Op::Append {
            tree,
            seq: held.stored.seq,
            record: held.record.clone(),
            room: Room::IfFree,
            leased_until: None,
        }));
        self.out.spool.push(spool::Command::Commit { token, ops });
    }

    fn on_committed(&mut self, token: spool::Token) {
        match std::mem::replace(&mut self.write, Write::Nothing) {
            Write::Batch(own, held, _) if own == token => {
                self.stored_bytes += held.stored.bytes;
                self.stored.push_back(held.stored);
            }
            Write::Removal(own, _) if own == token => {}
            other @ (Write::Nothing | Write::Batch(..) | Write::Removal(..)) => self.write = other,
        }
    }

    /// The disk has no room, whatever this tree may take: what is old gives way first.
    fn on_refused(&mut self, token: spool::Token) {
        match std::mem::replace(&mut self.write, Write::Nothing) {
            Write::Batch(own, held, removed) if own == token => {
                self.remove.extend(removed);
                self.drop_samples("no room on the disk", held.stored.samples);
            }
            other @ (Write::Nothing | Write::Batch(..) | Write::Removal(..)) => self.write = other,
        }
    }

    /// It may or may not be on the disk: it is written again when the store is back.
    fn on_failed(&mut self, token: spool::Token) {
        self.is_failing = true;
        match std::mem::replace(&mut self.write, Write::Nothing) {
            Write::Batch(own, held, removed) if own == token => {
                self.remove.extend(removed);
                if self.held.len() == MAX_HELD {
                    self.drop_samples("the disk fails", held.stored.samples);
                } else {
                    self.held.push_front(held);
                }
            }
            Write::Removal(own, removed) if own == token => self.remove.extend(removed),
            other @ (Write::Nothing | Write::Batch(..) | Write::Removal(..)) => self.write = other,
        }
    }

    fn send_next(&mut self, now: Now) {
        let ready = self.is_online && !self.is_failing && now.mono >= self.next_send;
        if !ready || !matches!(self.sending, Sending::Nothing) {
            return;
        }
        let Some(seq) = self.stored.front().map(|it| it.seq) else {
            return;
        };
        let token = self.token();
        self.sending = Sending::Reading(token, seq);
        self.out.spool.push(spool::Command::Look {
            token,
            tree: Tree::Telemetry,
            from: seq,
            to: seq,
            max: 1,
        });
    }

    fn on_records(&mut self, token: spool::Token, records: Vec<Numbered>, now: Now) {
        let Sending::Reading(own, seq) = self.sending else {
            return;
        };
        if own != token {
            return;
        }
        self.sending = Sending::Nothing;
        let Some(stored) = self.stored.iter().find(|it| it.seq == seq).copied() else {
            return;
        };
        let body = records.into_iter().next().map(|(_, body)| body);
        let packed = body.as_deref().and_then(batch::read_body);
        let Some((_, packed)) = packed else {
            if !self.is_failing {
                self.forget(seq);
                self.remove.push(seq);
                self.drop_samples("unreadable", stored.samples);
            }
            return;
        };
        let fresh = (stored.sealed).is_some_and(|sealed| now.mono.since(sealed) <= FRESH);
        let replay = u64::from(!fresh);
        self.sending = Sending::Away(seq, replay);
        self.tally.bytes += packed.len() as u64;
        self.out.broker.push(Command::Publish(Parcel {
            id: ParcelId(PARCEL | seq),
            topic: self.plan.topics[usize::from(!fresh)].clone(),
            payload: packed.to_vec(),
            correlation: None,
            user_properties: vec![
                ("format".into(), "lineside-telemetry/1".into()),
                ("encoding".into(), "zstd".into()),
                ("historical".into(), (!fresh).to_string()),
            ],
            content_type: Some("application/zstd"),
            expiry_s: None,
            delivery: Delivery::AtLeastOnce,
            retain: Retain::No,
        }));
    }

    fn on_parcel(&mut self, id: ParcelId, result: Result<(), &String>, now: Now) {
        let Sending::Away(seq, replay) = self.sending else {
            return;
        };
        if id.0 != PARCEL | seq {
            return;
        }
        self.sending = Sending::Nothing;
        let Some(stored) = self.forget(seq) else {
            return;
        };
        self.remove.push(seq);
        match result {
            Ok(()) => {
                self.tally.sent += stored.samples;
                self.tally.batches += 1;
                self.tally.replays += replay;
            }
            Err(why) => {
                tracing::warn!(error = why.as_str(), "the broker refused figures");
                self.drop_samples("refused by the broker", stored.samples);
            }
        }
        self.next_send = now.mono.after(self.plan.pause);
    }

    fn forget(&mut self, seq: u64) -> Option<Stored> {
        let place = self.stored.iter().position(|it| it.seq == seq)?;
        let stored = self.stored.remove(place)?;
        self.stored_bytes -= stored.bytes;
        Some(stored)
    }
}

#[cfg(test)]
mod tests;
