//! What is under way on the line: pure book-keeping, no I/O, no clock, no vendor types.
//!
//! A parcel's way through the books:
//!
//! ```text
//!            next            wrote (QoS 1)         acknowledged
//!  waiting ────────► handed ───────────────► sent ──────────────► gone (Delivered/Undeliverable)
//!     ▲                │ wrote (QoS 0) ─────────────────────────► gone (Delivered)
//!     ├────────────────┘ lost (and gone, Undeliverable, where the broker hangs up on it each time)
//!     └─────────────────────────────────────── connected(Fresh): the broker forgot the ids
//! ```
//!
//! A *resumed* session sends what was sent again under the same ids, marked as duplicates; the
//! protocol demands it, and brokers tell duplicates by it.
//!
//! # Packet ids
//!
//! The client library chooses ids, counting from 1 to its own window and around again, and has no
//! way to tell which parcel got which id but their order. Where the next id is still in use it
//! parks the parcel and stops, in some cases for good. So the books count along and hand a parcel
//! over only when its id will be free. They also leave one place of the window empty: the library
//! stops taking *anything* when it is full, acknowledgements and the goodbye included.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::broker::{Delivery, Parcel, ParcelId, Retain, Session};
use crate::intake::{AckToken, is_topic_name};

/// Parcels that may be unacknowledged at once, if the broker allows as many. Above a few dozen
/// it only costs memory: the round trip is then no longer what limits.
pub(super) const MAX_WINDOW: u16 = 256;
/// Parcels taken over before the command channel is left to fill up.
const MAX_WAITING: usize = 512;
/// The same in bytes, so that a few hundred large replies do not exhaust a small board.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// Parcels given to the library and not yet written.
const MAX_HANDED: usize = 64;

/// Connections in a row that ended with the same parcel as the oldest without an answer, after which
/// it is given up: a broker that hangs up on what it will not take does so each time, and nothing
/// behind it would ever arrive. With the pauses between them these take minutes, so a line that
/// flaps or a broker that starts anew does not come near.
const MAX_HANG_UPS: u32 = 16;

/// What the broker said at the connection about what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Unacknowledged publishes it takes at once, as the client library will count them.
    pub(super) window: u16,
    /// Largest packet.
    pub(super) max_packet_bytes: u32,
    /// Whether it takes QoS 1 at all.
    pub(super) surest: Delivery,
    /// Whether it keeps messages.
    pub(super) retain: Retain,
}

/// A parcel with the size that it will have on the wire.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub(super) parcel: Parcel,
    pub(super) packet_bytes: usize,
}

/// Something to give to the client library.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// All filters.
    Subscribe,
    /// This parcel.
    Publish(Parcel),
    /// Nothing to send: the broker would never take this one.
    Refuse(ParcelId, String),
}

/// A parcel that goes out again under its old id.
#[derive(Clone, Debug)]
pub(super) struct Again {
    pub(super) packet: u16,
    pub(super) parcel: Parcel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Down,
    /// Before a SUBSCRIBE all that was sent again must be acknowledged: the library would give
    /// the SUBSCRIBE an id that one of them may have.
    Settling,
    Subscribing,
    Up,
}

#[derive(Debug)]
struct Handed {
    item: Packed,
    /// None for QoS 0.
    packet: Option<u16>,
    /// Whether an earlier connection sent it under this id.
    again: bool,
}

#[derive(Debug)]
struct Sent {
    item: Packed,
    turn: u64,
}

/// The books.
#[derive(Debug)]
pub(super) struct Ledger {
    line: Line,
    listens: bool,
    terms: Terms,
    waiting: VecDeque<Packed>,
    waiting_bytes: usize,
    handed: VecDeque<Handed>,
    sent: BTreeMap<u16, Sent>,
    turn: u64,
    last_packet: u16,
    generation: u32,
    unacknowledged: HashSet<u16>,
    /// What the last connection ended on, and how many before it in a row.
    suspect: Option<(ParcelId, u32)>,
}

impl Ledger {
    /// Empty books of a link that `listens`, i.e. has filters to subscribe to.
    pub(super) fn new(listens: bool) -> Self {
        Self {
            line: Line::Down,
            listens,
            terms: Terms {
                window: 1,
                max_packet_bytes: u32::MAX,
                surest: Delivery::AtLeastOnce,
                retain: Retain::Yes,
            },
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            handed: VecDeque::new(),
            sent: BTreeMap::new(),
            turn: 0,
            last_packet: 0,
            generation: 0,
            unacknowledged: HashSet::new(),
            suspect: None,
        }
    }

    /// Whether another command may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES
    }

    /// Whether every parcel has reached its end.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.handed.is_empty() && self.sent.is_empty()
    }

    /// Whether the line is connected and subscribed.
    pub(super) fn is_up(&self) -> bool {
        self.line == Line::Up
    }

    /// A parcel to carry out.
    pub(super) fn accept(&mut self, item: Packed) {
        self.waiting_bytes += item.packet_bytes;
        self.waiting.push_back(item);
    }

    /// A connection stands. Returns what must go out again first, in its order.
    pub(super) fn connected(&mut self, session: Session, terms: Terms) -> Vec<Again> {
        self.generation = self.generation.wrapping_add(1);
        self.unacknowledged.clear();
        self.last_packet = 0;
        self.terms = terms;
        let mut old: Vec<_> = std::mem::take(&mut self.sent).into_iter().collect();
        old.sort_by_key(|(_, sent)| sent.turn);
        let keep = match session {
            // A restarted broker may remember the session and yet take less than before; what no
            // longer fits goes the way of a new parcel.
            Session::Resumed => old
                .iter()
                .take(self.capacity())
                .take_while(|(_, sent)| self.never(&sent.item).is_none())
                .count(),
            Session::Fresh => 0,
        };
        for (_, sent) in old.drain(keep..).rev() {
            self.wait_first(sent.item);
        }
        let again = old
            .iter()
            .map(|(packet, sent)| Again {
                packet: *packet,
                parcel: sent.item.parcel.clone(),
            })
            .collect();
        self.handed
            .extend(old.into_iter().map(|(packet, sent)| Handed {
                item: sent.item,
                packet: Some(packet),
                again: true,
            }));
        self.line = Line::Settling;
        again
    }

    /// The connection is gone. Returns the parcel on which it went too often, which is at its end.
    pub(super) fn lost(&mut self) -> Option<ParcelId> {
        self.line = Line::Down;
        let given_up = self.blame();
        let mut unwritten = Vec::new();
        for handed in std::mem::take(&mut self.handed) {
            match (handed.packet, handed.again) {
                (Some(packet), true) => self.note_sent(packet, handed.item),
                (Some(_), false) | (None, _) => unwritten.push(handed.item),
            }
        }
        for item in unwritten.into_iter().rev() {
            self.wait_first(item);
        }
        given_up
    }

    /// A broker answers in order: what it hung up on is the oldest that this connection wrote and
    /// that has no answer. What came behind it is innocent.
    fn blame(&mut self) -> Option<ParcelId> {
        let oldest = self.sent.iter().min_by_key(|(_, sent)| sent.turn);
        let (packet, parcel) = oldest.map(|(packet, sent)| (*packet, sent.item.parcel.id))?;
        let before = self.suspect.filter(|(suspect, _)| *suspect == parcel);
        let times = before.map_or(1, |(_, times)| times + 1);
        if times < MAX_HANG_UPS {
            self.suspect = Some((parcel, times));
            return None;
        }
        self.suspect = None;
        self.sent.remove(&packet);
        Some(parcel)
    }

    /// The broker answered the SUBSCRIBE.
    pub(super) fn subscribed(&mut self) {
        if self.line == Line::Subscribing {
            self.line = Line::Up;
        }
    }

    /// The next thing to give to the library, if anything may go now.
    pub(super) fn next(&mut self) -> Option<Step> {
        match self.line {
            Line::Settling if !self.listens => {
                self.line = Line::Up;
                self.next_parcel()
            }
            Line::Settling if self.handed.is_empty() && self.sent.is_empty() => {
                self.line = Line::Subscribing;
                self.use_packet();
                Some(Step::Subscribe)
            }
            Line::Down | Line::Settling | Line::Subscribing => None,
            Line::Up => self.next_parcel(),
        }
    }

    /// The library wrote a PUBLISH with this id; zero for QoS 0. Returns what is thereby delivered.
    pub(super) fn wrote(&mut self, packet: u16) -> Option<ParcelId> {
        let handed = self.handed.pop_front()?;
        if packet == 0 {
            return Some(handed.item.parcel.id);
        }
        self.note_sent(packet, handed.item);
        None
    }

    /// The broker answered a PUBLISH, well or ill: the parcel is at its end.
    pub(super) fn acknowledged(&mut self, packet: u16) -> Option<ParcelId> {
        self.sent.remove(&packet).map(|sent| sent.item.parcel.id)
    }

    /// A QoS 1 message came in.
    pub(super) fn received(&mut self, packet: u16) -> AckToken {
        self.unacknowledged.insert(packet);
        AckToken {
            line: 0,
            generation: self.generation,
            packet,
        }
    }

    /// The id to acknowledge; none if the token is of another connection or was used already.
    pub(super) fn redeem(&mut self, token: AckToken) -> Option<u16> {
        let valid = self.line != Line::Down
            && token.generation == self.generation
            && self.unacknowledged.remove(&token.packet);
        valid.then_some(token.packet)
    }

    fn next_parcel(&mut self) -> Option<Step> {
        let first = self.waiting.front()?;
        if let Some(why) = self.never(first) {
            let item = self.take_first()?;
            return Some(Step::Refuse(item.parcel.id, why));
        }
        if self.handed.len() >= MAX_HANDED {
            return None;
        }
        let packet = match first.parcel.delivery {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce => {
                if self.is_full() || self.is_taken(self.last_packet + 1) {
                    return None;
                }
                Some(self.use_packet())
            }
        };
        let item = self.take_first()?;
        let parcel = item.parcel.clone();
        self.handed.push_back(Handed {
            item,
            packet,
            again: false,
        });
        Some(Step::Publish(parcel))
    }

    /// Why this broker will never take it, if so.
    fn never(&self, item: &Packed) -> Option<String> {
        let Packed {
            parcel,
            packet_bytes,
        } = item;
        let max = self.terms.max_packet_bytes;
        if !is_topic_name(&parcel.topic) {
            Some("its topic is not one that may be published on".into())
        } else if *packet_bytes > usize::try_from(max).unwrap_or(usize::MAX) {
            Some(format!(
                "{packet_bytes} bytes are more than the {max} that the broker takes"
            ))
        } else if parcel.delivery == Delivery::AtLeastOnce
            && self.terms.surest == Delivery::AtMostOnce
        {
            Some("the broker takes only QoS 0".into())
        } else if parcel.retain == Retain::Yes && self.terms.retain == Retain::No {
            Some("the broker keeps no retained messages".into())
        } else {
            None
        }
    }

    /// As the library counts: the id that equals the window is used, and then it starts over.
    fn use_packet(&mut self) -> u16 {
        let packet = self.last_packet + 1;
        self.last_packet = if packet == self.terms.window {
            0
        } else {
            packet
        };
        packet
    }

    /// Parcels that may be open at once: one place stays empty, where there is more than one.
    fn capacity(&self) -> usize {
        usize::from(self.terms.window.saturating_sub(1).max(1))
    }

    fn is_full(&self) -> bool {
        let numbered = self.handed.iter().filter(|h| h.packet.is_some()).count();
        self.sent.len() + numbered >= self.capacity()
    }

    fn is_taken(&self, packet: u16) -> bool {
        self.sent.contains_key(&packet) || self.handed.iter().any(|h| h.packet == Some(packet))
    }

    fn note_sent(&mut self, packet: u16, item: Packed) {
        let turn = self.turn;
        self.turn += 1;
        self.sent.insert(packet, Sent { item, turn });
    }

    fn wait_first(&mut self, item: Packed) {
        self.waiting_bytes += item.packet_bytes;
        self.waiting.push_front(item);
    }

    fn take_first(&mut self) -> Option<Packed> {
        let item = self.waiting.pop_front()?;
        self.waiting_bytes -= item.packet_bytes;
        Some(item)
    }
}

#[cfg(test)]
mod tests;
