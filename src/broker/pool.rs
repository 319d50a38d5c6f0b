//! A member of a pool: several lines to the broker behind the port of one.
//!
//! ```text
//!                   ┌─ main line ─────── own requests, replies, status
//!  commands ─► run ─┼─ pool line ─────── this member's share; the status of the others
//!  events   ◄───────┼─ stand-in for A ── what dead A had not acknowledged, and its share
//!                   └─ stand-in for B ── …
//! ```
//!
//! Why stand-ins: a broker does not hand a dead member's requests to the others (see
//! [`crate::broker`]), but gives them at once to whoever connects as that member. [`roster`]
//! decides who stands in for whom, from the retained status of every member, so that the living
//! agree without talking: for each dead member the one whose name scores lowest against it.
//!
//! Owned: all the lines. An [`AckToken`] carries the number of the line on which its message came,
//! so the acknowledgement finds its way back. Replies always leave on the main line.
//!
//! How it fails: a stand-in that loses its line is tried again after a pause while its member is
//! still away. A status that is not understood is ignored: it belongs to another program.

mod roster;

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use super::mqtt::{self, TlsError};
use super::{Command, End, Event, Link};
use crate::clock::{Clock, Now};
use crate::intake::{AckToken, Message, Topics};
use roster::{Roster, Turn};

/// Commands for one line that it has not taken: acknowledgements, bounded by the receive
/// maximum.
const LINE_COMMANDS: usize = 1024;
/// Messages of one line on their way to the common queue.
const LINE_EVENTS: usize = 64;
/// The common timer's longest sleep.
const TICK: Duration = Duration::from_secs(1);

/// The number of the main line: what is not said to be otherwise came there.
const MAIN: u16 = 0;
const POOL: u16 = 1;

/// The client id of a member's pool line: the same rule on every member, because a stand-in has
/// to know it.
pub fn client_id(appliance: &str, pool: &str) -> String {
    format!("lineside-{appliance}-pool-{pool}")
}

/// Keeps all lines until the main one is closed.
pub async fn run<B: Fn() + Send + 'static>(
    main: Link,
    topics: Topics,
    pool: String,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    clock: Clock,
    beat: B,
) -> Result<End, TlsError> {
    let (news, inlet) = mpsc::channel(LINE_EVENTS);
    let shared = Link {
        client_id: client_id(&topics.appliance, &pool),
        subscriptions: vec![topics.pool_requests(&pool), topics.every_status()],
        will: None,
        ..main.clone()
    };
    let (main_commands, for_main) = mpsc::channel(LINE_COMMANDS);
    let to_events = events.clone();
    let main_line = tokio::spawn(mqtt::run(
        main,
        for_main,
        to_events,
        clock,
        fastrand::u64(..),
        beat,
    ));
    let mut member = Member {
        roster: Roster::new(&topics.appliance, &pool),
        lines: HashMap::new(),
        next_line: POOL + 1,
        shared,
        pool,
        topics,
        events,
        news,
        clock,
    };
    member.open(POOL, member.shared.clone(), None);
    member.serve(commands, inlet, main_commands).await;
    main_line.await.unwrap_or(Ok(End::Lost))
}

/// What a line beside the main one reports.
enum News {
    /// A message for the appliance, or another member's status.
    Message(u16, Message),
    /// A stand-in ended.
    Ended(String, u16, End),
}

struct Line {
    commands: mpsc::Sender<Command>,
    member: Option<String>,
}

struct Member {
    roster: Roster,
    lines: HashMap<u16, Line>,
    next_line: u16,
    shared: Link,
    pool: String,
    topics: Topics,
    events: mpsc::Sender<Event>,
    news: mpsc::Sender<News>,
    clock: Clock,
}

impl Member {
    async fn serve(
        &mut self,
        mut commands: mpsc::Receiver<Command>,
        mut news: mpsc::Receiver<News>,
        main: mpsc::Sender<Command>,
    ) {
        loop {
            let now = self.clock.now();
            let tick = now.mono.after(TICK);
            let wake = self.roster.deadline().map_or(tick, |due| due.min(tick));
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Acknowledge(ack)) if ack.line != MAIN => self.acknowledge(ack),
                    Some(Command::Close) | None => break,
                    Some(command @ (Command::Acknowledge(_) | Command::Publish(_))) => {
                        if main.send(command).await.is_err() {
                            break;
                        }
                    }
                },
                Some(news) = news.recv() => self.on_news(news).await,
                () = sleep_until(self.clock.instant(wake).into()) => {}
            }
            self.take_turns();
        }
        // What the other lines hold unacknowledged is the business of the next stand-in.
        self.lines.clear();
        let _ = main.send(Command::Close).await; // a closed channel: it has ended already
    }

    async fn on_news(&mut self, news: News) {
        let now = self.clock.now();
        match news {
            News::Message(line, message) if line == POOL && self.is_status(&message) => {
                if let Some(ack) = message.ack {
                    self.acknowledge(AckToken { line, ..ack });
                }
                if let Some(name) = self.topics.status_of(&message.topic) {
                    self.roster.on_status(name, &message.payload);
                }
            }
            News::Message(line, mut message) => {
                message.ack = message.ack.map(|ack| AckToken { line, ..ack });
                let _ = self.events.send(Event::Message(message)).await; // gone: we end with it
            }
            News::Ended(name, line, end) => {
                self.lines.remove(&line);
                let pause = Duration::from_millis(fastrand::u64(1000..5000));
                self.roster.on_ended(&name, end, now.mono.after(pause));
            }
        }
    }

    fn is_status(&self, message: &Message) -> bool {
        self.topics.status_of(&message.topic).is_some()
    }

    /// Opens and closes lines as the roster says.
    fn take_turns(&mut self) {
        let now: Now = self.clock.now();
        for turn in self.roster.turns(now.mono) {
            match turn {
                Turn::StandIn(name) => {
                    tracing::warn!(client = name, "standing in for a member of the pool");
                    let line = self.next_line;
                    self.next_line = self.next_line.checked_add(1).unwrap_or(POOL + 1);
                    let link = self.shared.stand_in(client_id(&name, &self.pool));
                    self.open(line, link, Some(name));
                }
                Turn::StepBack(name) => {
                    tracing::info!(client = name, "a member of the pool is back");
                    // A dropped sender closes the line.
                    self.lines
                        .retain(|_, line| line.member.as_ref() != Some(&name));
                }
            }
        }
    }

    fn acknowledge(&self, ack: AckToken) {
        if let Some(line) = self.lines.get(&ack.line)
            && line.commands.try_send(Command::Acknowledge(ack)).is_err()
        {
            // The broker will deliver it again, and the register knows it.
            tracing::debug!("an acknowledgement found its line closed");
        }
    }

    fn open(&mut self, line: u16, link: Link, member: Option<String>) {
        let (commands, for_line) = mpsc::channel(LINE_COMMANDS);
        let (to_us, events) = mpsc::channel(LINE_EVENTS);
        let seed = fastrand::u64(..);
        let task = tokio::spawn(mqtt::run(link, for_line, to_us, self.clock, seed, || {}));
        tokio::spawn(forward(
            line,
            member.clone(),
            events,
            task,
            self.news.clone(),
        ));
        self.lines.insert(line, Line { commands, member });
    }
}

/// Brings one line's messages to the common queue, and its end.
async fn forward(
    line: u16,
    member: Option<String>,
    mut events: mpsc::Receiver<Event>,
    task: JoinHandle<Result<End, TlsError>>,
    news: mpsc::Sender<News>,
) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Message(message) => {
                if news.send(News::Message(line, message)).await.is_err() {
                    return;
                }
            }
            Event::Deaf { filter, why } => {
                tracing::error!(topic = filter, error = why, "the broker refuses the pool");
            }
            // It carries nothing out, and the main line says whether the broker is there.
            Event::Up(_)
            | Event::Down { .. }
            | Event::Delivered(_)
            | Event::Undeliverable { .. } => {}
        }
    }
    let end = match task.await {
        Ok(Ok(end)) => end,
        Ok(Err(_)) | Err(_) => End::Lost,
    };
    if let Some(member) = member {
        let _ = news.send(News::Ended(member, line, end)).await; // gone: nobody needs to know
    }
}
