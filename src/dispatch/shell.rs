//! The task around the dispatcher: inputs in, effects out, and nothing else.
//!
//! It never waits for a receiver of its effects. What a full channel does not take waits in an
//! [`Outlet`] here, which the dispatcher's own limits bound; so the broker's task, which waits
//! for this one when messages pour in, can never wait for itself through it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;

use super::{Answer, Dispatch, Effects, Heard, Inquiry, Outfit, Probe, SessionNo};
use crate::clock::Clock;
use crate::governor::{Allowance, Appetite};
use crate::service::{Pulse, Stop};
use crate::spool::shell as spool;
use crate::telemetry::reporter;
use crate::{broker, engine, uplink};

/// The longest that the task sleeps: the watchdog wants to hear from it.
const BEAT: Duration = Duration::from_millis(500);

/// Messages taken in one turn: enough to fill a group commit, not so many that an answer waits.
const MAX_EVENTS_A_TURN: usize = 256;

/// Ends of requests that wait to be heard of: a disk may take seconds for a decision. Beyond, the
/// oldest are forgotten, which makes a trial longer and nothing else.
const MAX_HEARD: usize = 4096;

/// A question and the way back.
#[derive(Debug)]
pub struct Inquirer {
    /// What is asked.
    pub inquiry: Inquiry,
    /// Takes the answer; dropped if there will be none.
    pub answer: oneshot::Sender<Answer>,
    /// Takes the words of an answer as they come, where somebody wants them. What it has no room
    /// for is gone: the answer brings everything in any case.
    pub words: Option<mpsc::Sender<String>>,
}

/// Whoever waits for an answer.
struct Caller {
    answer: oneshot::Sender<Answer>,
    words: Option<mpsc::Sender<String>>,
}

/// Where inputs come from.
#[derive(Debug)]
pub struct Inlets {
    /// Messages and the state of the line.
    pub broker: mpsc::Receiver<broker::Event>,
    /// What became durable.
    pub spool: mpsc::Receiver<spool::Event>,
    /// What was computed.
    pub engine: mpsc::Receiver<engine::Event>,
    /// What was heard from elsewhere.
    pub uplink: mpsc::Receiver<uplink::Event>,
    /// What the governor allows.
    pub allowance: watch::Receiver<Allowance>,
    /// What people ask.
    pub inquiries: mpsc::Receiver<Inquirer>,
    /// What goes with a model.
    pub outfits: mpsc::Receiver<Outfit>,
    /// What is to be asked of a model again.
    pub probes: mpsc::Receiver<Probe>,
    /// Where packages stand, for its topic.
    pub rollout: watch::Receiver<Vec<u8>>,
}

/// Where effects go.
#[derive(Debug)]
pub struct Outlets {
    /// To the broker's connection.
    pub broker: Outlet<broker::Command>,
    /// To the spool, whose thread is no task. Without a bound of its own: each command waits for
    /// a message that the broker counts, a letter in the window or a job, all of them bounded.
    pub spool: std::sync::mpsc::Sender<spool::Command>,
    /// To the engine.
    pub engine: Outlet<engine::Command>,
    /// To the uplink.
    pub uplink: Outlet<uplink::Command>,
    /// To whoever keeps what was learnt: only the last of it counts.
    pub learnt: watch::Sender<Vec<u8>>,
    /// To the governor: what is asked of the engine.
    pub appetite: watch::Sender<Appetite>,
    /// To whoever decides what serves.
    pub heard: Outlet<Heard>,
    /// To the reporter of figures, where there is one: the state of the line, and its own parcels.
    pub tap: Option<mpsc::Sender<broker::Event>>,
}

/// A bounded channel, and what it did not take yet.
#[derive(Debug)]
pub struct Outlet<T> {
    channel: mpsc::Sender<T>,
    waiting: VecDeque<T>,
}

impl<T> Outlet<T> {
    /// An outlet into this channel.
    pub fn new(channel: mpsc::Sender<T>) -> Self {
        Self {
            channel,
            waiting: VecDeque::new(),
        }
    }

    fn extend(&mut self, items: Vec<T>) {
        self.waiting.extend(items);
        while let Some(item) = self.waiting.pop_front() {
            match self.channel.try_send(item) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(item)) => {
                    self.waiting.push_front(item);
                    break;
                }
                // The receiver is gone: the process is ending, and so is this task.
                Err(mpsc::error::TrySendError::Closed(_)) => break,
            }
        }
    }

    /// Lets go of the oldest that may be missed, where too many wait.
    fn forget_beyond(&mut self, most: usize, may_be_missed: impl Fn(&T) -> bool) {
        let mut over = self.waiting.len().saturating_sub(most);
        self.waiting.retain(|item| {
            let goes = over > 0 && may_be_missed(item);
            over -= usize::from(goes);
            !goes
        });
    }

    /// Waits until there is room for what waits. Safe to drop and call again.
    async fn has_room(&self) {
        if self.waiting.is_empty() {
            std::future::pending::<()>().await;
        }
        if self.channel.reserve().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// How the task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything that could be finished is.
    Drained,
    /// A channel closed under it: another task is gone.
    Abandoned(&'static str),
}

/// Runs the dispatcher until it is drained. The caller bounds the time of the drain by dropping
/// this.
pub async fn run(
    mut dispatch: Dispatch,
    mut inlets: Inlets,
    mut outlets: Outlets,
    clock: Clock,
    pulse: &Pulse,
    mut stop: Stop,
) -> End {
    let mut callers: HashMap<SessionNo, Caller> = HashMap::new();
    let mut next_session = 0_u64;
    let mut draining = false;
    let effects = dispatch.take_effects(clock.now());
    outlets.carry_out(effects, &mut callers);
    loop {
        pulse.beat(clock.now());
        if draining && dispatch.is_drained() {
            return End::Drained;
        }
        let (due, _why) = dispatch.deadline();
        let wake = due.min(clock.now().mono.after(BEAT));
        tokio::select! {
            biased;
            event = inlets.spool.recv() => match event {
                Some(event) => dispatch.on_spool(event, clock.now()),
                None => return End::Abandoned("the spool"),
            },
            event = inlets.engine.recv() => match event {
                Some(event) => dispatch.on_engine(event, clock.now()),
                None => return End::Abandoned("the engine"),
            },
            event = inlets.uplink.recv() => match event {
                Some(event) => dispatch.on_uplink(event, clock.now()),
                None => return End::Abandoned("the uplink"),
            },
            // A governor that is gone is noticed where its task is held.
            Ok(()) = inlets.allowance.changed() => {
                let allowance = inlets.allowance.borrow_and_update().clone();
                dispatch.on_allowance(allowance, clock.now());
            }
            Some(outfit) = inlets.outfits.recv() => dispatch.on_outfit(outfit),
            Some(probe) = inlets.probes.recv() => dispatch.on_probe(probe, clock.now()),
            Ok(()) = inlets.rollout.changed() => {
                let told = inlets.rollout.borrow_and_update().clone();
                dispatch.on_rollout(told);
            }
            Some(caller) = inlets.inquiries.recv() => {
                next_session += 1;
                let session = SessionNo(next_session);
                let Inquirer { inquiry, answer, words } = caller;
                callers.insert(session, Caller { answer, words });
                dispatch.on_inquiry(session, inquiry, clock.now());
            }
            () = stop.requested(), if !draining => {
                draining = true;
                dispatch.on_drain();
            }
            event = inlets.broker.recv() => match event {
                Some(event) => {
                    outlets.tap(&event);
                    dispatch.on_broker(event, clock.now());
                }
                None => return End::Abandoned("the broker's connection"),
            },
            () = outlets.broker.has_room() => {}
            () = outlets.engine.has_room() => {}
            () = outlets.uplink.has_room() => {}
            () = outlets.heard.has_room() => {}
            () = sleep_until(clock.instant(wake).into()) => {}
        }
        // Whatever else has come is dealt with in the same turn, so that it shares a commit.
        for _ in 0..MAX_EVENTS_A_TURN {
            let Ok(event) = inlets.broker.try_recv() else {
                break;
            };
            outlets.tap(&event);
            dispatch.on_broker(event, clock.now());
        }
        // Not a matter of the timer alone: it comes last, and behind an inlet that is never empty
        // it would not come at all.
        let now = clock.now();
        if due <= now.mono {
            dispatch.on_timeout(now);
        }
        let effects = dispatch.take_effects(clock.now());
        outlets.carry_out(effects, &mut callers);
        outlets.appetite.send_replace(dispatch.appetite());
        callers.retain(|_, caller| !caller.answer.is_closed());
    }
}

impl Outlets {
    /// Passes on what the reporter of figures waits for.
    fn tap(&self, event: &broker::Event) {
        let theirs = match event {
            broker::Event::Up(_) | broker::Event::Down { .. } => true,
            broker::Event::Delivered(id) | broker::Event::Undeliverable { parcel: id, .. } => {
                reporter::is_ours(*id)
            }
            broker::Event::Deaf { .. } | broker::Event::Message(_) => false,
        };
        if theirs && let Some(tap) = &self.tap {
            let _ = tap.try_send(event.clone()); // it has one parcel under way, and room for many
        }
    }

    fn carry_out(&mut self, effects: Effects, callers: &mut HashMap<SessionNo, Caller>) {
        for command in effects.spool {
            let _ = self.spool.send(command); // its thread is gone: so is its inlet, next turn
        }
        self.engine.extend(effects.engine);
        self.uplink.extend(effects.uplink);
        if let Some(learnt) = effects.learnt {
            self.learnt.send_replace(learnt);
        }
        self.broker.extend(effects.broker);
        self.heard.extend(effects.heard);
        self.heard
            .forget_beyond(MAX_HEARD, |it| matches!(it, Heard::Answer(..)));
        for (session, text) in effects.words {
            if let Some(words) = callers.get(&session).and_then(|it| it.words.as_ref()) {
                let _ = words.try_send(text); // without room it is in the answer all the same
            }
        }
        for (session, answer) in effects.answers {
            if let Some(caller) = callers.remove(&session) {
                let _ = caller.answer.send(answer); // who has left needs no answer
            }
        }
    }
}
