//! The dispatcher: carries each request from the broker to exactly one outcome.
//!
//! Purpose: it owns the life of every ticket. It is a plain struct: inputs are the `on_…`
//! methods, each with the time; outputs pile up as [`Effects`], which the [`shell`] carries out.
//! No clock, no channel, no disk in here, so that the scenarios can run it through years of bad
//! luck in seconds.
//!
//! ```text
//!            on_broker          on_spool         on_engine       on_local        on_timeout
//!                │                  │                │               │               │
//!  ┌─────────────▼──────────────────▼────────────────▼───────────────▼───────────────▼──┐
//!  │ accept: read, known already?, gate      work: start, requeue, settle, deadlines     │
//!  │ cascade: judge, pass on, provisional    away: errands to models elsewhere           │
//!  │ store:  transactions under way, redo    post: letters until the broker has them     │
//!  └─────────────┬──────────────────┬────────────────┬───────────────┬──────────────────┘
//!                ▼                  ▼                ▼               ▼
//!          broker commands    spool commands   engine commands    answers
//! ```
//!
//! What is durable when:
//!
//! - acceptance: inbox record; PUBACK only after it (invariant 1);
//! - outcome: outcome record, letters and the end of the inbox record in one transaction; the
//!   reply leaves only after it (invariants 2 and 9);
//! - a move to another tier: its record there, the end of the one here and the provisional letters
//!   in one transaction, so that a request lies in exactly one tree;
//! - start, requeue and delivery ride with the next transaction, or go after [`LAZY`]: losing
//!   one to a power cut costs a repetition, never a request.
//!
//! What is in memory for a request that waits: its number, priority and counts; its text stays on
//! the disk until the engine has room.
//!
//! A request that cannot be taken is refused from memory, without a write: rubbish must not wear
//! the flash. Its PUBACK waits until the broker has the refusal, so a crash in between brings the
//! request again, not silence.
//!
//! How it fails: a failing store refuses new requests (`spool_full`) and keeps everything that
//! was decided until it can be written; a lost broker leaves the letters where they are.

mod accept;
mod again;
mod alarm;
mod audit;
mod away;
mod cascade;
mod doors;
mod inquiry;
mod latest;
mod lessons;
mod measure;
mod memory;
mod moves;
mod outfit;
mod persons;
mod post;
mod recover;
mod refuse;
mod settle;
pub mod shell;
mod store;
mod strain;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub use doors::{Doors, Maintenance};
pub use inquiry::{Answer, Governed, Inquiry, SessionNo, StatusReport, Timeline};
pub use latest::{Brief, Latest, Standing, Wanted};
pub use lessons::{Changed, Lesson, Lessons, TaskLessons};
pub use outfit::{Heard, Outfit, Probe};
pub use post::farewell;
pub use recover::Recovered;

use alarm::MAX_EXPIRING;
use memory::{Also, Case, Held, InboxRecord, Slip, Trip};

use crate::broker;
use crate::clock::{Mono, Now};
use crate::engine;
use crate::governor::{Allowance, Appetite, Taken};
use crate::intake::{Code, Gate, GateLimits, Limits, Request, Topics};
use crate::reply::{Condition, Connectivity};
use crate::router::affinity::Habits;
use crate::router::confidence::learning::Learning;
use crate::router::{Decision, Edge, Router};
use crate::spool::PerTree;
use crate::spool::shell as spool;
use crate::telemetry::Meters;
use crate::ticket::{Key, Known, Register, TicketNo, Window};
use crate::{review, uplink};

/// How long a step that nobody waits for may stay in memory.
pub const LAZY: Duration = Duration::from_millis(100);
/// How long a record is leased; renewed at a third of it.
pub const LEASE: Duration = Duration::from_mins(1);
/// Letters on their way to the broker at a time: enough to fill a slow link's round trip, small
/// enough that a restart repeats few.
pub const POST_WINDOW: usize = 64;
/// Addresses that one open request may be answered to: a device that asks again from a new
/// session each time must not grow a record without end.
pub const MAX_ADDRESSES: usize = 4;
/// Refusals on their way from memory, for messages that need no PUBACK.
pub const MAX_VOLATILE: usize = 256;
/// Questions to the spool under way.
pub const MAX_QUESTIONS: usize = 1024;
/// When an engine that said `Busy`, or an inbox that had nothing, is asked again although nobody
/// said that anything changed.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Crashes of the engine with the same request inside, after which it is not tried again.
pub const MAX_CRASHES: u8 = 2;
/// Reasons of one reply: a rule has a dozen conditions, and there are three tiers.
pub const MAX_REASONS: usize = 24;
/// When a store that fails may be well again.
const STORE_RETRY_MS: u64 = 2000;

/// What the site decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// The appliance's topics.
    pub topics: Topics,
    /// What a request may be.
    pub limits: Limits,
    /// How many, how fast.
    pub gate: GateLimits,
    /// Where they go.
    pub router: Router,
    /// How long outcomes are kept.
    pub window: Window,
    /// Bytes of letters above which no more work is begun.
    pub outbox_bytes: u64,
    /// How long a broker keeps a reply for a device that is away.
    pub reply_expiry_s: u32,
    /// What persons may do with what waits for them.
    pub review: review::Site,
    /// How requests read for a model elsewhere.
    pub briefs: uplink::Briefs,
    /// How long others may take.
    pub patience: Patience,
}

/// How long those may take who are not the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A model elsewhere, before the device is told something else meanwhile.
    pub cloud: Duration,
    /// How long a request is kept for the cloud.
    pub cloud_keep: Duration,
    /// How long it is kept for a person.
    pub review_keep: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            cloud: Duration::from_secs(2),
            cloud_keep: Duration::from_hours(24),
            review_keep: Duration::from_hours(24),
        }
    }
}

/// What is to be done now, in this order within each list.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the broker's connection.
    pub broker: Vec<broker::Command>,
    /// For the spool.
    pub spool: Vec<spool::Command>,
    /// For the engine.
    pub engine: Vec<engine::Command>,
    /// For the uplink.
    pub uplink: Vec<uplink::Command>,
    /// For those who asked at the appliance.
    pub answers: Vec<(SessionNo, Answer)>,
    /// For those of them who want the words as they come.
    pub words: Vec<(SessionNo, String)>,
    /// What was learnt of reviewers, to be kept in place of what was.
    pub learnt: Option<Vec<u8>>,
    /// For whoever decides what serves.
    pub heard: Vec<Heard>,
}

impl Effects {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.broker.is_empty()
            && self.spool.is_empty()
            && self.engine.is_empty()
            && self.uplink.is_empty()
            && self.answers.is_empty()
            && self.words.is_empty()
            && self.learnt.is_none()
            && self.heard.is_empty()
    }
}

/// The dispatcher.
#[derive(Debug)]
pub struct Dispatch {
    setup: Setup,
    gate: Gate,
    register: Register,
    slips: BTreeMap<TicketNo, Slip>,
    deadlines: BTreeSet<(Mono, TicketNo)>,
    held: HashMap<TicketNo, Held>,
    addresses: HashMap<TicketNo, Vec<Also>>,
    callers: HashMap<TicketNo, Vec<SessionNo>>,
    /// Requests that were not accepted after all, while their traces are being removed.
    leaving: BTreeMap<TicketNo, (Key, Option<Key>)>,
    engine: EngineView,
    away: away::Away,
    habits: Habits,
    learning: Learning,
    worn: outfit::Worn,
    rollout: Vec<u8>,
    meters: Arc<Meters>,
    persons: persons::Persons,
    /// What the governor allows, and what was last said of it.
    allowance: Allowance,
    /// What was asked of the engine so far.
    appetite: Appetite,
    reported: strain::Reported,
    /// What was announced as missing.
    reduced: Vec<&'static str>,
    store: store::Store,
    post: post::Post,
    link: Link,
    /// Why there is no line, as it last said.
    link_why: Option<String>,
    phase: Phase,
    doors: Doors,
    listings: latest::Listings,
    drafts: inquiry::Drafts,
    next_draft: u64,
    counts: Counts,
    next_no: u64,
    renew_at: Mono,
    out: Effects,
}

#[derive(Debug)]
struct EngineView {
    state: engine::State,
    /// In words, where it gave any.
    report: Option<engine::Report>,
    running: u32,
    /// Tickets on disk that wait for a slot.
    queued: u64,
    /// A lease of waiting tickets is under way.
    leasing: bool,
    /// The last lease brought nothing, or the engine said `Busy`: wait for a reason to ask again,
    /// or until then.
    pause: Option<Mono>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Up,
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
}

/// What was counted since the start. Names are stable: they are the metrics.
pub type Counts = BTreeMap<(&'static str, &'static str), u64>;

impl Dispatch {
    /// Takes up where the disk says that the last process stopped.
    pub fn new(setup: Setup, recovered: Recovered, now: Now) -> Self {
        let mut dispatch = Self {
            gate: Gate::new(setup.gate),
            register: Register::new(setup.window),
            slips: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            held: HashMap::new(),
            addresses: HashMap::new(),
            callers: HashMap::new(),
            leaving: BTreeMap::new(),
            engine: EngineView {
                state: engine::State::Starting,
                report: None,
                running: 0,
                queued: 0,
                leasing: false,
                pause: None,
            },
            away: away::Away::default(),
            habits: Habits::default(),
            learning: Learning::default(),
            worn: outfit::Worn::default(),
            rollout: Vec::new(),
            meters: Arc::default(),
            persons: persons::Persons::default(),
            allowance: Allowance::default(),
            appetite: Appetite::default(),
            reported: strain::Reported::default(),
            reduced: Vec::new(),
            store: store::Store::default(),
            post: post::Post::default(),
            link: Link::Down,
            link_why: None,
            phase: Phase::Serving,
            doors: Doors::Open,
            listings: latest::Listings::default(),
            drafts: inquiry::Drafts::default(),
            next_draft: 0,
            counts: Counts::new(),
            next_no: 1,
            renew_at: now.mono.after(LEASE / 3),
            out: Effects::default(),
            setup,
        };
        dispatch.recover(recovered, now);
        dispatch
    }

    /// The connection has news.
    pub fn on_broker(&mut self, event: broker::Event, now: Now) {
        match event {
            broker::Event::Up(_) => {
                self.link = Link::Up;
                self.link_why = None;
                self.announce();
                self.announce_rollout();
                self.show_items_again();
            }
            broker::Event::Down { why } => {
                tracing::warn!(error = why.as_str(), "no broker");
                self.link = Link::Down;
                self.link_why = Some(why);
            }
            broker::Event::Deaf { filter, why } => {
                tracing::error!(
                    topic = filter,
                    error = why,
                    "the broker refuses a subscription"
                );
                self.count("broker", "subscription refused");
            }
            broker::Event::Message(message) => self.on_message(&message, now),
            broker::Event::Delivered(parcel) => self.on_parcel(parcel, Ok(()), now),
            broker::Event::Undeliverable { parcel, why } => self.on_parcel(parcel, Err(why), now),
        }
        self.work(now);
    }

    /// The spool has news.
    pub fn on_spool(&mut self, event: spool::Event, now: Now) {
        match event {
            spool::Event::Committed { token, live } => {
                self.store.live = live;
                self.on_committed(token, now);
            }
            spool::Event::Refused { token, tree } => self.on_full(token, tree, now),
            spool::Event::Failed { token } => self.on_failed(token, now),
            spool::Event::Records { token, records } => self.on_records(token, records, now),
            spool::Event::Restored { live } => {
                self.store.live = live;
                self.on_restored();
            }
        }
        self.work(now);
    }

    /// The engine has news.
    pub fn on_engine(&mut self, event: engine::Event, now: Now) {
        match event {
            engine::Event::State(state) => {
                self.engine.state = state;
                self.engine.pause = None;
            }
            engine::Event::Report(report) => {
                let before = self.status().engine;
                self.engine.report = Some(report);
                if self.link == Link::Up && self.status().engine != before {
                    self.announce();
                }
            }
            engine::Event::Tokens { ticket, text } => self.stream(ticket, &text),
            engine::Event::Ended {
                ticket,
                result,
                load,
            } => self.on_ended(ticket, result, load, now),
            engine::Event::Load { load, end } => self.on_load(load, end),
        }
        self.work(now);
    }

    /// The uplink has news.
    pub fn on_uplink(&mut self, event: uplink::Event, now: Now) {
        match event {
            uplink::Event::State(state) => self.away.learn(state),
            uplink::Event::Ended { ticket, result } => self.on_errand_ended(ticket, result, now),
        }
        self.work(now);
    }

    /// Time has passed; see [`Dispatch::deadline`].
    pub fn on_timeout(&mut self, now: Now) {
        self.expire(now);
        self.renew(now);
        self.retire(now);
        self.flush_lazy_if_due(now);
        self.away.wake(now);
        if self.engine.pause.is_some_and(|until| until <= now.mono) {
            self.engine.pause = None;
        }
        self.work(now);
    }

    /// The process is asked to end: nothing new is taken, what is under way is finished.
    pub fn on_drain(&mut self) {
        self.phase = Phase::Draining;
        self.flush_lazy();
        self.announce();
    }

    /// Whether everything that could be finished is.
    pub fn is_drained(&self) -> bool {
        self.phase == Phase::Draining
            && self.engine.running == 0
            && self.store.is_quiet()
            && (self.link == Link::Down || self.post.is_empty())
    }

    /// When [`Dispatch::on_timeout`] wants to be called, and why.
    pub fn deadline(&self) -> (Mono, &'static str) {
        let mut next = (self.renew_at, "leases to renew, outcomes to retire");
        if let Some((at, _)) = self.deadlines.first()
            && self.store.expiring < MAX_EXPIRING
        {
            next = next.min((*at, "a request's time is up"));
        }
        if let Some(at) = self.away.wakes() {
            next = next.min((at, "an errand to be offered again"));
        }
        if let Some(at) = self.store.lazy_due() {
            next = next.min((at, "steps to write"));
        }
        if let Some(at) = self.engine.pause
            && self.engine.queued > 0
        {
            next = next.min((at, "the engine to be offered work again"));
        }
        next
    }

    /// Hands over what is to be done. Called once after each turn.
    pub fn take_effects(&mut self, now: Now) -> Effects {
        self.ride_along(now);
        std::mem::take(&mut self.out)
    }

    /// What was counted since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Bytes alive in each tree, as the spool last said.
    pub fn live(&self) -> PerTree {
        self.store.live
    }

    /// Whether this request is known, for the scenarios' invariants.
    pub fn known(&self, client: &crate::intake::Client, id: &str) -> Option<Known> {
        self.register.find(Key::of(client, id))
    }

    /// Refusals from memory that the broker does not have yet.
    pub fn refusals_under_way(&self) -> usize {
        self.post.volatile_count()
    }

    /// Requests that count against what may be in flight.
    pub fn in_flight(&self) -> usize {
        self.gate.open() as usize
    }

    /// Errands that the uplink has, those included whose answer is of no use any more.
    pub fn errands_under_way(&self) -> usize {
        self.away.inside()
    }

    /// Requests that are open.
    pub fn open_tickets(&self) -> usize {
        self.slips.len()
    }

    fn count(&mut self, what: &'static str, why: &'static str) {
        *self.counts.entry((what, why)).or_default() += 1;
    }

    /// Where a request goes, as things stand.
    fn route(&mut self, request: &Request, topic: Option<&str>, now: Now) -> Decision {
        match self.edge_for(request.priority) {
            Edge::Shut(code @ (Code::Hot | Code::Memory)) => {
                self.route_shut_out(request, topic, code, now)
            }
            edge @ (Edge::Open | Edge::Shut(_)) => self.route_with(request, topic, edge, now),
        }
    }

    fn connectivity(&self) -> Connectivity {
        match self.link {
            Link::Up => Connectivity::Online,
            Link::Down => Connectivity::Offline,
        }
    }

    /// How the appliance is, for a reply.
    fn condition(&self) -> Condition {
        Condition {
            connectivity: self.connectivity(),
            degraded: !matches!(self.engine.state, engine::State::Ready { .. })
                || self.allowance.taken != Taken::All
                || self.store.is_failing(),
        }
    }
}
