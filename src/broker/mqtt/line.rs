//! The loop that moves packets and events; it decides nothing about parcels.
//!
//! rumqttc's `poll` may lose a packet when it is dropped half-way, so it is dropped only with its
//! connection: while it waits, commands, events and the watchdog are served beside it.
//!
//! Nothing here waits for the appliance: events queue up to a limit, and beyond it the line is no
//! longer read, which in turn stops the broker. Commands are taken all the while.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish, RetainForwardRule, SubAck};
use rumqttc::v5::{AsyncClient, ConnectionError, Event as Polled, EventLoop, MqttOptions, Request};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use super::backoff::Outcome;
use super::ledger::{Ledger, Step};
use super::wire;
use crate::broker::{Command, End, Event, Link, Role, Session};
use crate::clock::{Clock, Mono};

/// Room of rumqttc's own queue. At most one acknowledgement for each of the 65,535 packet ids and
/// a window of publishes can be in it, so giving something to it never waits and never fails.
const QUEUE: usize = 1 << 17;
/// Events that the appliance has not taken yet before the line is no longer read.
const MAX_EVENTS_WAITING: usize = 256;
/// How often the watchdog hears from here.
const BEAT: Duration = Duration::from_millis(500);
/// How long a close waits for the broker's answers.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Slack on top of two keep-alives before a silent line counts as dead.
const SILENCE_SLACK: Duration = Duration::from_secs(5);

/// How a connection was left.
pub(super) enum Left {
    End(End),
    Lost(Outcome),
}

/// How a pause ended.
#[derive(PartialEq, Eq)]
pub(super) enum Pause {
    Over,
    Close,
}

/// What a connection waited for. Lives for one turn on the stack, where size costs nothing.
#[allow(clippy::large_enum_variant)]
enum Turn {
    Polled(Result<Polled, ConnectionError>),
    Stuck,
    Closed,
}

/// Whether a connection is of use.
#[derive(PartialEq, Eq)]
enum Goes {
    On,
    /// A stand-in found nothing to stand in for.
    Nowhere,
}

/// What happened beside the connection. Lives for one turn on the stack, where size costs nothing.
#[allow(clippy::large_enum_variant)]
enum Aside {
    Command(Option<Command>),
    EventTaken,
    Beat,
}

/// The state of one connection.
struct Connection {
    client: AsyncClient,
    /// When the broker accepted it.
    since: Option<Mono>,
    /// To be announced once subscribed.
    session: Option<Session>,
    heard: Mono,
    goodbye: bool,
}

pub(super) struct Line<B> {
    link: Link,
    ledger: Ledger,
    /// Messages that the broker keeps are wanted once in a process, not at each reconnection.
    kept: RetainForwardRule,
    commands: Receiver<Command>,
    events: Sender<Event>,
    outbox: VecDeque<Event>,
    clock: Clock,
    beats: Interval,
    beat: B,
    last_why: Option<String>,
    closing: Option<Mono>,
}

impl<B: Fn()> Line<B> {
    pub(super) fn new(
        mut link: Link,
        commands: Receiver<Command>,
        events: Sender<Event>,
        clock: Clock,
        beat: B,
    ) -> Self {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // rumqttc would refuse the whole SUBSCRIBE for one of these.
        let not_filters = link.subscriptions.extract_if(.., |f| !wire::is_filter(f));
        let deaf = |filter| Event::Deaf {
            filter,
            why: "not a topic filter".into(),
        };
        let outbox = not_filters.map(deaf).collect();
        Self {
            ledger: Ledger::new(!link.subscriptions.is_empty()),
            kept: RetainForwardRule::OnEverySubscribe,
            link,
            commands,
            events,
            outbox,
            clock,
            beats,
            beat,
            last_why: None,
            closing: None,
        }
    }

    /// One connection from its first byte to its last.
    pub(super) async fn connect(&mut self, options: MqttOptions) -> Left {
        let (client, mut rumqttc) = AsyncClient::new(options, QUEUE);
        let mut connection = Connection {
            client,
            since: None,
            session: None,
            heard: self.clock.now().mono,
            goodbye: false,
        };
        loop {
            let turn = self.turn(&mut rumqttc, &mut connection).await;
            if let Turn::Polled(Ok(polled)) = turn {
                connection.heard = self.clock.now().mono;
                if self.on_polled(polled, &mut rumqttc, &mut connection) == Goes::On {
                    self.hand_over(&mut connection);
                    continue;
                }
                return Left::End(End::NoSession);
            }
            self.settle(&mut rumqttc);
            return match turn {
                Turn::Polled(Err(error)) if !connection.goodbye => {
                    self.on_error(&error, &connection)
                }
                Turn::Stuck => self.on_lost("the line is stuck".into(), self.held(&connection)),
                Turn::Polled(_) | Turn::Closed => Left::End(End::Closed),
            };
        }
    }

    /// Waits until rumqttc has something; serves commands, events and the watchdog meanwhile.
    async fn turn(&mut self, rumqttc: &mut EventLoop, connection: &mut Connection) -> Turn {
        let mut poll = pin!(rumqttc.poll());
        loop {
            let reads = self.outbox.len() < MAX_EVENTS_WAITING;
            if !reads {
                connection.heard = self.clock.now().mono;
            }
            tokio::select! {
                polled = &mut poll, if reads => return Turn::Polled(polled),
                aside = self.aside() => match aside {
                    Aside::Command(command) => {
                        if let Some(token) = self.on_command(command) {
                            acknowledge(&connection.client, token);
                        }
                    }
                    Aside::Beat if self.is_stuck(connection) => return Turn::Stuck,
                    Aside::Beat | Aside::EventTaken => {}
                }
            }
            if let Some(waited) = self.closing_for()
                && (connection.since.is_none() || waited > CLOSE_WITHIN * 2)
            {
                return Turn::Closed;
            }
            self.hand_over(connection);
        }
    }

    /// Between two connections.
    pub(super) async fn pause(&mut self, span: Duration) -> Pause {
        let mut over = pin!(sleep(span));
        loop {
            tokio::select! {
                () = &mut over => return Pause::Over,
                aside = self.aside() => match aside {
                    // No packet to acknowledge: the tokens died with their connection.
                    Aside::Command(command) => drop(self.on_command(command)),
                    Aside::Beat | Aside::EventTaken => {}
                }
            }
            if self.closing.is_some() {
                return Pause::Close;
            }
        }
    }

    /// One thing that happens beside the connection. May be dropped while it waits.
    async fn aside(&mut self) -> Aside {
        let takes = self.closing.is_none() && self.ledger.has_room();
        let tells = !self.outbox.is_empty();
        tokio::select! {
            command = self.commands.recv(), if takes => Aside::Command(command),
            permit = self.events.reserve(), if tells => match (permit, self.outbox.pop_front()) {
                (Ok(permit), Some(event)) => {
                    permit.send(event);
                    Aside::EventTaken
                }
                (Ok(_), None) => Aside::EventTaken,
                (Err(_), _) => {
                    // Nobody is left who wants them; what is still to be said, the goodbye above
                    // all, comes over the commands, and so does the end.
                    self.outbox.clear();
                    Aside::EventTaken
                }
            },
            _ = self.beats.tick() => {
                (self.beat)();
                // With no room for commands, only this notices that their sender is gone.
                if self.commands.is_closed() && self.commands.is_empty() {
                    Aside::Command(None)
                } else {
                    Aside::Beat
                }
            }
        }
    }

    /// Returns the packet to acknowledge, where the command was that and its token still counts.
    fn on_command(&mut self, command: Option<Command>) -> Option<u16> {
        match command {
            Some(Command::Publish(parcel)) => {
                self.ledger.accept(wire::pack(parcel));
                None
            }
            Some(Command::Acknowledge(token)) => self.ledger.redeem(token),
            Some(Command::Close) | None => {
                self.close();
                None
            }
        }
    }

    fn close(&mut self) {
        self.closing.get_or_insert(self.clock.now().mono);
    }

    fn closing_for(&self) -> Option<Duration> {
        let now = self.clock.now().mono;
        self.closing.map(|since| now.since(since))
    }

    /// rumqttc tests a silent line itself, but not while it is stuck in a write.
    fn is_stuck(&self, connection: &Connection) -> bool {
        let silence = self.link.keep_alive.saturating_mul(2) + SILENCE_SLACK;
        self.clock.now().mono.since(connection.heard) > silence
    }

    /// Gives rumqttc what may go now.
    fn hand_over(&mut self, connection: &mut Connection) {
        if connection.goodbye {
            return;
        }
        while let Some(step) = self.ledger.next() {
            // What is given to a queue that never fills fails only with the event loop gone, and
            // then the next connection does it all again.
            match step {
                Step::Subscribe => {
                    let filters = wire::filters(&self.link, &self.kept);
                    let _ = connection.client.try_subscribe_many(filters);
                }
                Step::Publish(parcel) => {
                    let publish = wire::publish(&parcel);
                    let _ = connection.client.try_publish_with_properties(
                        parcel.topic,
                        publish.qos,
                        publish.retain,
                        publish.payload,
                        publish.properties.unwrap_or_default(),
                    );
                }
                Step::Refuse(parcel, why) => {
                    let event = Event::Undeliverable { parcel, why };
                    self.outbox.push_back(event);
                }
            }
        }
        if self.ledger.is_up()
            && let Some(session) = connection.session.take()
        {
            self.last_why = None;
            self.outbox.push_back(Event::Up(session));
        }
        if let Some(waited) = self.closing_for()
            && (self.ledger.is_idle() || waited > CLOSE_WITHIN)
        {
            // The broker closes the line once it has read this. Closing it here could throw the
            // goodbye away unread, and the broker would speak the last will.
            connection.goodbye = connection.client.try_disconnect().is_ok();
        }
    }

    fn on_polled(
        &mut self,
        polled: Polled,
        rumqttc: &mut EventLoop,
        connection: &mut Connection,
    ) -> Goes {
        if let Polled::Incoming(Packet::ConnAck(connack)) = &polled {
            let session = wire::session(connack);
            if (session, self.link.role) == (Session::Fresh, Role::StandIn) {
                return Goes::Nowhere;
            }
            connection.since = Some(connection.heard);
            connection.session = Some(session);
            let again = self.ledger.connected(session, wire::terms(connack));
            let again = again.iter().map(wire::publish_again);
            rumqttc.pending.extend(again.map(Request::Publish));
        }
        if let Polled::Incoming(Packet::SubAck(suback)) = &polled {
            self.on_suback(suback);
        }
        self.on_outcome(&polled);
        if let Polled::Incoming(Packet::Publish(publish)) = polled {
            let ack = match publish.qos {
                QoS::AtMostOnce => None,
                QoS::AtLeastOnce | QoS::ExactlyOnce => Some(self.ledger.received(publish.pkid)),
            };
            let message = wire::message(publish, ack);
            self.outbox.push_back(Event::Message(message));
        }
        Goes::On
    }

    fn on_suback(&mut self, suback: &SubAck) {
        for (filter, reason) in self.link.subscriptions.iter().zip(&suback.return_codes) {
            if let Some(why) = wire::deafness(*reason) {
                let filter = filter.clone();
                self.outbox.push_back(Event::Deaf { filter, why });
            }
        }
        self.kept = RetainForwardRule::OnNewSubscribe;
        self.ledger.subscribed();
    }

    /// What moves a parcel on or ends it.
    fn on_outcome(&mut self, polled: &Polled) {
        if let Polled::Outgoing(Outgoing::Publish(packet)) = polled
            && let Some(parcel) = self.ledger.wrote(*packet)
        {
            self.outbox.push_back(Event::Delivered(parcel));
        }
        if let Polled::Incoming(Packet::PubAck(puback)) = polled
            && let Some(parcel) = self.ledger.acknowledged(puback.pkid)
        {
            self.outbox.push_back(match wire::refusal(puback.reason) {
                None => Event::Delivered(parcel),
                Some(why) => Event::Undeliverable { parcel, why },
            });
        }
    }

    fn on_error(&mut self, error: &ConnectionError, connection: &Connection) -> Left {
        let why = wire::why(error, &self.link);
        if wire::was_taken_over(error) {
            self.on_lost(why, Outcome::TakenOver)
        } else {
            self.on_lost(why, self.held(connection))
        }
    }

    fn on_lost(&mut self, why: String, outcome: Outcome) -> Left {
        if self.last_why.as_ref() != Some(&why) {
            self.last_why = Some(why.clone());
            self.outbox.push_back(Event::Down { why });
        }
        match self.link.role {
            Role::Owner => Left::Lost(outcome),
            // Another try would throw out the owner, who may be back; a visitor has a new will first.
            Role::StandIn | Role::Visitor => Left::End(End::Lost),
        }
    }

    fn held(&self, connection: &Connection) -> Outcome {
        let now = self.clock.now().mono;
        connection
            .since
            .map_or(Outcome::Refused, |since| Outcome::Lost(now.since(since)))
    }

    /// Reads what rumqttc had seen but not yet told: an answer in there ends its parcel, and a
    /// parcel written in there may be with the broker.
    fn settle(&mut self, rumqttc: &mut EventLoop) {
        for polled in std::mem::take(&mut rumqttc.state.events) {
            if let Polled::Incoming(Packet::SubAck(suback)) = &polled {
                self.on_suback(suback);
            }
            self.on_outcome(&polled);
        }
        if let Some(parcel) = self.ledger.lost() {
            let why = "the broker hangs up on it, each time".into();
            self.outbox.push_back(Event::Undeliverable { parcel, why });
        }
    }

    /// The last events, as far as they are still wanted.
    pub(super) async fn hand_in_events(&mut self) {
        let events = &self.events;
        let outbox = self.outbox.drain(..);
        let all = async {
            for event in outbox {
                if events.send(event).await.is_err() {
                    break;
                }
            }
        };
        // Whoever does not take them within that time has stopped looking.
        let _ = timeout(CLOSE_WITHIN, all).await;
    }
}

fn acknowledge(client: &AsyncClient, packet: u16) {
    let publish = Publish {
        pkid: packet,
        qos: QoS::AtLeastOnce,
        ..Publish::default()
    };
    // It fails only with the event loop gone; the broker then sends the message again.
    let _ = client.try_ack(&publish);
}
