//! The post: letters (durable replies) and refusals (from memory) on their way to the broker.
//!
//! A letter is on the disk before it is sent and stays there until the broker has it. At most
//! [`POST_WINDOW`] are under way; the rest wait on the disk (the backlog) and are leased as the
//! window opens. A letter whose turn is right now is sent from memory, without reading it back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::store::Pending;
use super::{Dispatch, LEASE, Link, POST_WINDOW};
use crate::broker::{Command, Delivery, Parcel, ParcelId, Retain};
use crate::clock::Now;
use crate::intake::{AckToken, ReturnAddress, Stream, Topics};
use crate::reply;
use crate::spool::forms::Letter;
use crate::spool::{Numbered, Op, Room, Tree};
use crate::ticket::{State, Step, TicketNo, What};

/// Parcels that carry no letter have this bit in their number.
const VOLATILE: u64 = 1 << 63;
/// The status of the appliance; always the last one counts.
const STATUS: ParcelId = ParcelId(u64::MAX);
/// Pieces of answers that the connection may hold: a line that stands still must not fill memory.
const MAX_PIECES: usize = 256;
/// A piece of an answer; nobody asks what became of it.
const PIECE: ParcelId = ParcelId(u64::MAX - 1);
/// Where packages stand; always the last one counts.
const ROLLOUT: ParcelId = ParcelId(u64::MAX - 2);

#[derive(Debug, Default)]
pub(super) struct Post {
    next_seq: u64,
    next_volatile: u64,
    /// Letters whose slot in the window is taken: being written or being sent.
    under_way: BTreeMap<u64, UnderWay>,
    /// Letters on disk that nobody has leased.
    backlog: u64,
    /// The disk may hold more than `backlog` says, until a lease finds nothing.
    doubt: bool,
    leasing: bool,
    volatile: HashMap<ParcelId, Vec<AckToken>>,
    /// Pieces of answers that the connection holds.
    pieces: usize,
    /// Letters that the broker has and whose removal is not on the disk yet: a lease that ran
    /// out meanwhile must not send them again.
    done: BTreeSet<u64>,
}

#[derive(Debug)]
struct UnderWay {
    no: TicketNo,
    step: u64,
    address: ReturnAddress,
    /// It is on the disk: nobody has to write it again.
    written: bool,
}

/// A letter and its number in the outbox.
#[derive(Debug)]
pub(super) struct Envelope {
    pub seq: u64,
    pub letter: Letter,
    turn: Turn,
}

/// Whether a letter has a slot in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Now,
    Later,
}

impl Post {
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty() && !self.has_backlog() && self.volatile.is_empty()
    }

    /// Letters that the broker does not have yet.
    pub(super) fn waiting(&self) -> u64 {
        self.under_way.len() as u64 + self.backlog.max(u64::from(self.doubt))
    }

    /// Whether a letter of this ticket is on the disk and on its way to this address.
    pub(super) fn carries(&self, no: TicketNo, address: &ReturnAddress) -> bool {
        self.under_way
            .values()
            .any(|letter| letter.no == no && letter.written && letter.address == *address)
    }

    /// Whether more letters are under way than may be.
    pub(super) fn is_beyond_window(&self) -> bool {
        self.under_way.len() > POST_WINDOW
    }

    /// The store is back: whatever was counted, look what the disk has.
    pub(super) fn look_again(&mut self) {
        self.doubt = true;
    }

    /// Letters may lie on the disk that nobody has leased.
    fn has_backlog(&self) -> bool {
        self.backlog > 0 || self.doubt
    }

    /// These operations are on the disk.
    pub(super) fn written(&mut self, ops: &[Op]) {
        for op in ops {
            if let Op::Ack { tree, seq } = op
                && *tree == Tree::Outbox
            {
                self.done.remove(seq);
            }
        }
    }

    /// Whether letters are being leased.
    pub(super) fn is_leasing(&self) -> bool {
        self.leasing
    }

    /// Whether a letter of this ticket has a slot in the window.
    pub(super) fn concerns(&self, no: TicketNo) -> bool {
        self.under_way.values().any(|letter| letter.no == no)
    }

    /// What the disk held at the start.
    pub(super) fn recover(&mut self, next_seq: u64, backlog: u64) {
        self.next_seq = next_seq;
        self.backlog = backlog;
    }

    /// A number for a refusal from memory; its delivery acknowledges `acks`.
    pub(super) fn volatile(&mut self, acks: Vec<AckToken>) -> ParcelId {
        self.next_volatile += 1;
        let id = ParcelId(VOLATILE | self.next_volatile);
        self.volatile.insert(id, acks);
        id
    }

    pub(super) fn volatile_count(&self) -> usize {
        self.volatile.len()
    }

    /// A letter was not written after all.
    pub(super) fn give_up(&mut self, seq: u64) {
        if self.under_way.remove(&seq).is_none() {
            self.backlog = self.backlog.saturating_sub(1);
        }
    }
}

impl Envelope {
    /// The operation that writes it: leased at once if its turn is now.
    pub(super) fn op(&self, room: Room, now: Now) -> Op {
        Op::Append {
            tree: Tree::Outbox,
            seq: self.seq,
            record: self.letter.seal(),
            room,
            leased_until: match self.turn {
                Turn::Now => Some(now.mono.after(LEASE)),
                Turn::Later => None,
            },
        }
    }
}

impl Dispatch {
    /// Makes a letter for an address over MQTT, with a slot in the window if there is one.
    pub(super) fn letter(
        &mut self,
        no: TicketNo,
        address: &ReturnAddress,
        payload: Vec<u8>,
        step: u64,
    ) -> Option<Envelope> {
        let ReturnAddress::Topic {
            topic,
            correlation,
            user_properties,
        } = address
        else {
            return None;
        };
        let seq = self.post.next_seq;
        self.post.next_seq += 1;
        let turn = if !self.post.has_backlog() && self.post.under_way.len() < POST_WINDOW {
            self.post.under_way.insert(
                seq,
                UnderWay {
                    no,
                    step,
                    address: address.clone(),
                    written: false,
                },
            );
            Turn::Now
        } else {
            self.post.backlog += 1;
            Turn::Later
        };
        Some(Envelope {
            seq,
            letter: Letter {
                no,
                step,
                topic: topic.clone(),
                correlation: correlation.clone(),
                user_properties: user_properties.clone(),
                payload,
            },
            turn,
        })
    }

    /// A letter is on the disk.
    pub(super) fn post_letter(&mut self, envelope: Envelope) {
        if let Some(under_way) = self.post.under_way.get_mut(&envelope.seq) {
            under_way.written = true;
        }
        if envelope.turn == Turn::Now {
            self.post_now(envelope.seq, envelope.letter);
        }
    }

    fn post_now(&mut self, seq: u64, letter: Letter) {
        self.out.broker.push(Command::Publish(Parcel {
            id: ParcelId(seq),
            topic: letter.topic,
            payload: letter.payload,
            correlation: letter.correlation,
            content_type: Some(reply::CONTENT_TYPE),
            expiry_s: Some(self.setup.reply_expiry_s),
            user_properties: letter.user_properties,
            delivery: Delivery::AtLeastOnce,
            retain: Retain::No,
        }));
    }

    /// Leases letters from the disk while the window has room.
    pub(super) fn pump(&mut self, now: Now) {
        let room = POST_WINDOW.saturating_sub(self.post.under_way.len());
        let wants = self.post.has_backlog() && room > 0 && !self.post.leasing;
        if wants && self.link == Link::Up && !self.store.is_failing() {
            self.post.leasing = true;
            let until = now.mono.after(LEASE);
            let pending = Pending::LeaseOutbox {
                max: room,
                failures: self.store.failures(),
            };
            self.ask_lease(Tree::Outbox, until, room, pending);
        }
    }

    /// Letters came from the disk. A letter that is not counted would lie there until the next
    /// start; so only a lease that finds nothing settles a doubt.
    pub(super) fn letters_leased(&mut self, records: Vec<Numbered>, max: usize, now: Now) {
        self.post.leasing = false;
        if records.is_empty() && !self.store.is_failing() && !self.store.has_letters_coming() {
            self.post.backlog = 0; // damaged letters were set aside
            self.post.doubt = false;
        }
        let all = records.len() == max;
        for (seq, body) in records {
            if self.post.under_way.contains_key(&seq) || self.post.done.contains(&seq) {
                continue; // its lease had run out; it was not in the backlog
            }
            self.post.backlog = self.post.backlog.saturating_sub(1);
            match Letter::read(&body) {
                Ok(letter) => {
                    let under_way = UnderWay {
                        no: letter.no,
                        step: letter.step,
                        address: letter.address(),
                        written: true,
                    };
                    self.post.under_way.insert(seq, under_way);
                    self.post_now(seq, letter);
                }
                Err(damage) => {
                    tracing::error!(error = %damage, "a letter cannot be read and is dropped");
                    self.count("lost", "damaged letter");
                    let tree = Tree::Outbox;
                    self.lazily(Op::Ack { tree, seq }, now);
                }
            }
        }
        if all {
            self.post.look_again();
        }
    }

    /// Letters came from the disk while the store failed: some of them may be on their way to
    /// the disk once more, and some were never to be written. They are leased again later.
    pub(super) fn letters_put_back(&mut self, records: &[Numbered], now: Now) {
        self.post.leasing = false;
        self.post.look_again();
        for (seq, _) in records {
            let (tree, seq) = (Tree::Outbox, *seq);
            if !self.post.under_way.contains_key(&seq) {
                self.lazily(Op::Release { tree, seq }, now);
            }
        }
    }

    /// The broker has a parcel, or never will.
    pub(super) fn on_parcel(&mut self, id: ParcelId, result: Result<(), String>, now: Now) {
        if id == PIECE {
            self.post.pieces = self.post.pieces.saturating_sub(1);
            return;
        }
        if id == STATUS || id == ROLLOUT {
            return;
        }
        self.on_item_parcel(id);
        if let Some(acks) = self.post.volatile.remove(&id) {
            if result.is_err() {
                self.count("undeliverable", "refusal");
            }
            self.acknowledge_all(acks);
            return;
        }
        let Some(letter) = self.post.under_way.remove(&id.0) else {
            return;
        };
        let what = match result {
            Ok(()) => {
                self.count("replies", "delivered");
                What::Delivered
            }
            Err(why) => {
                self.count("undeliverable", "reply");
                tracing::warn!(
                    ticket = letter.no.0,
                    error = why,
                    "the broker refused a reply"
                );
                What::Undeliverable
            }
        };
        let tree = Tree::Outbox;
        self.post.done.insert(id.0);
        self.lazily(Op::Ack { tree, seq: id.0 }, now);
        if !self.register.keeps_trail(letter.no) {
            return; // its trail has gone, with its outcome or before
        }
        let step = Step { at: now.wall, what };
        if let Some(op) = super::accept::trail_op(letter.no, letter.step, &step) {
            self.lazily(op, now);
        }
    }

    /// Keeps the leases of letters under way.
    pub(super) fn letters_to_renew(&self) -> Vec<u64> {
        self.post.under_way.keys().copied().collect()
    }

    /// Sends the next words of an answer ahead of it, where they are wanted. They are never kept:
    /// without a broker they are gone, and the reply brings everything in any case.
    pub(super) fn stream(&mut self, no: TicketNo, text: &str) {
        #[derive(Serialize)]
        struct Piece<'a> {
            id: &'a str,
            text: &'a str,
            /// Counted from one; a device sees that one is missing.
            n: u32,
        }
        let running = self.slips.get(&no).map(|slip| slip.state) == Some(State::Running);
        let Some(held) = self.held.get_mut(&no).filter(|_| running) else {
            return;
        };
        if held.request.stream == Stream::No {
            return;
        }
        let ReturnAddress::Topic {
            topic, correlation, ..
        } = &held.request.reply
        else {
            let callers = self.callers.get(&no).into_iter().flatten();
            let words = callers.map(|session| (*session, text.to_owned()));
            self.out.words.extend(words);
            return;
        };
        held.streamed += 1;
        let piece = Piece {
            id: held.request.id.as_str(),
            text,
            n: held.streamed,
        };
        let parcel = Parcel {
            id: PIECE,
            topic: format!("{topic}/stream"),
            payload: serde_json::to_vec(&piece).expect("text and a number always serialize"),
            correlation: correlation.clone(),
            content_type: Some(reply::CONTENT_TYPE),
            expiry_s: None,
            user_properties: Vec::new(),
            delivery: Delivery::AtMostOnce,
            retain: Retain::No,
        };
        if self.link == Link::Up && self.post.pieces < MAX_PIECES {
            self.post.pieces += 1;
            self.out.broker.push(Command::Publish(parcel));
        } else {
            self.count("dropped", "stream");
        }
    }

    /// Says on the status topic how the appliance is.
    pub(super) fn announce(&mut self) {
        self.out.broker.push(Command::Publish(Parcel {
            payload: self.status_message(),
            ..farewell(&self.setup.topics)
        }));
    }

    /// Where packages stand, in the words of whoever knows.
    pub fn on_rollout(&mut self, told: Vec<u8>) {
        self.rollout = told;
        self.announce_rollout();
    }

    /// Says it on its topic. Without a line it is said when there is one.
    pub(super) fn announce_rollout(&mut self) {
        if self.link == Link::Up && !self.rollout.is_empty() {
            self.out.broker.push(Command::Publish(Parcel {
                id: ROLLOUT,
                topic: self.setup.topics.ota_state(),
                payload: self.rollout.clone(),
                ..farewell(&self.setup.topics)
            }));
        }
    }
}

/// What the status topic says of an appliance that is gone: its last will, and its goodbye.
pub fn farewell(topics: &Topics) -> Parcel {
    Parcel {
        id: STATUS,
        topic: topics.status(),
        payload: super::inquiry::offline_message(topics),
        correlation: None,
        content_type: Some(reply::CONTENT_TYPE),
        expiry_s: None,
        user_properties: Vec::new(),
        delivery: Delivery::AtLeastOnce,
        retain: Retain::Yes,
    }
}
