//! A broker and the adapter before it, by the contract of `lineside::broker`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lineside::broker::{Command, Event, Parcel, Session};
use lineside::intake::{AckToken, Message};

/// Names a message that a device handed to the broker.
pub(crate) type MsgNo = usize;

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) up: bool,
    generation: u32,
    next_packet: u16,
    pub(crate) receive_max: usize,
    /// Taken from devices, not yet sent on.
    pub(crate) waiting: VecDeque<(MsgNo, Message, bool)>,
    in_flight: BTreeMap<u16, (MsgNo, Message)>,
    pub(crate) commands: VecDeque<Command>,
    pub(crate) events: VecDeque<Event>,
    parcels: VecDeque<Parcel>,
    /// Which message a token stands for, for every connection so far.
    pub(crate) tokens: BTreeMap<(u32, u16), MsgNo>,
    /// Messages that were delivered as redelivered.
    pub(crate) redelivered: BTreeSet<MsgNo>,
    /// What stands on the status topic.
    pub(crate) last_status: String,
}

/// What became of a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Taken,
    TakenButNotSaid,
    Refused,
}

impl Broker {
    pub(crate) fn new(receive_max: usize) -> Self {
        Self {
            up: false,
            generation: 0,
            next_packet: 0,
            receive_max,
            waiting: VecDeque::new(),
            in_flight: BTreeMap::new(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
            parcels: VecDeque::new(),
            tokens: BTreeMap::new(),
            redelivered: BTreeSet::new(),
            last_status: String::new(),
        }
    }

    /// The appliance's process is gone, and the adapter with it.
    pub(crate) fn appliance_gone(&mut self) {
        self.lose_connection();
        self.commands.clear();
        self.events.clear();
        self.parcels.clear();
    }

    fn lose_connection(&mut self) {
        self.up = false;
        for (no, message) in std::mem::take(&mut self.in_flight).into_values().rev() {
            self.waiting.push_front((no, message, true));
        }
    }

    pub(crate) fn drop_connection(&mut self) {
        if self.up {
            self.lose_connection();
            self.events.push_back(Event::Down { why: "cut".into() });
        }
    }

    /// What the broker held for the appliance is gone.
    pub(crate) fn lose_session(&mut self) -> Vec<MsgNo> {
        self.drop_connection();
        self.waiting.drain(..).map(|(no, ..)| no).collect()
    }

    pub(crate) fn connect(&mut self, session: Session) {
        if !self.up {
            self.up = true;
            self.generation += 1;
            self.next_packet = 0;
            self.events.push_back(Event::Up(session));
        }
    }

    pub(crate) fn can_deliver(&self) -> bool {
        self.up && !self.waiting.is_empty() && self.in_flight.len() < self.receive_max
    }

    pub(crate) fn deliver(&mut self) {
        let Some((no, mut message, again)) = self.waiting.pop_front() else {
            return;
        };
        if message.ack.is_some() {
            self.next_packet += 1;
            let packet = self.next_packet;
            message.ack = Some(AckToken {
                line: 0,
                generation: self.generation,
                packet,
            });
            message.redelivered = again;
            if again {
                self.redelivered.insert(no);
            }
            self.tokens.insert((self.generation, packet), no);
            self.in_flight.insert(packet, (no, message.clone()));
        }
        self.events.push_back(Event::Message(message));
    }

    /// The adapter carries out the next command. Stale tokens are ignored.
    pub(crate) fn take_command(&mut self) {
        match self.commands.pop_front() {
            Some(Command::Publish(parcel)) => {
                if parcel.topic.ends_with("/status") {
                    self.last_status = String::from_utf8_lossy(&parcel.payload).into_owned();
                }
                self.parcels.push_back(parcel);
            }
            Some(Command::Acknowledge(token)) => {
                if self.up && token.generation == self.generation {
                    self.in_flight.remove(&token.packet);
                }
            }
            Some(Command::Close) | None => {}
        }
    }

    pub(crate) fn can_take(&self) -> bool {
        self.up && !self.parcels.is_empty()
    }

    pub(crate) fn take_parcel(&mut self, index: usize, fate: Fate) -> Option<Parcel> {
        let index = index.min(self.parcels.len().checked_sub(1)?);
        let parcel = match fate {
            Fate::TakenButNotSaid => self.parcels.get(index).cloned(),
            Fate::Taken | Fate::Refused => self.parcels.remove(index),
        }?;
        match fate {
            Fate::Taken => self.events.push_back(Event::Delivered(parcel.id)),
            Fate::Refused => self.events.push_back(Event::Undeliverable {
                parcel: parcel.id,
                why: "refused".into(),
            }),
            Fate::TakenButNotSaid => {}
        }
        Some(parcel)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.in_flight.is_empty()
            && self.commands.is_empty()
            && self.events.is_empty()
            && self.parcels.is_empty()
    }
}
