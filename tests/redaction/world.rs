//! The dispatcher with a store in memory, an engine by hand and a log that is kept whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lineside::broker::{self, Parcel, Session};
use lineside::clock::{Mono, Now, Wall};
use lineside::dispatch::{
    Answer, Dispatch, Heard, Inquiry, Outfit, Patience, Probe, Recovered, SessionNo, Setup,
};
use lineside::engine::{self, Completion, Fault, Model};
use lineside::intake::{Classification, DeadlineLimits, GateLimits, Limits, Message, Topics};
use lineside::router::Router;
use lineside::spool::record::unseal;
use lineside::spool::shell as spool;
use lineside::spool::{Op, PerTree, Room, Tree};
use lineside::ticket::{TicketNo, Window};
use lineside::uplink;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Turns without a step of the clock: far more than any life here takes.
const MAX_TURNS: usize = 1000;

/// Everything that was told to anyone.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Every field of every log line, whether or not the appliance's own log would show it.
    pub(crate) log: String,
    /// Status and traces, as JSON and as `Debug` shows them.
    pub(crate) reports: Vec<String>,
    /// Replies to those who asked at the appliance.
    pub(crate) answers: Vec<String>,
    /// All that was published.
    pub(crate) parcels: Vec<Parcel>,
    /// All that went to a model elsewhere.
    pub(crate) errands: Vec<String>,
    /// What whoever decides what serves heard.
    pub(crate) heard: Vec<Heard>,
}

impl Told {
    pub(crate) fn replies(&self) -> impl Iterator<Item = &str> {
        let replies = self
            .parcels
            .iter()
            .filter(|it| !it.topic.ends_with("/status"));
        replies.map(|parcel| std::str::from_utf8(&parcel.payload).unwrap())
    }

    pub(crate) fn replies_quote(&self, word: &str) -> bool {
        self.replies().any(|reply| reply.contains(word))
    }

    /// The codes of the refusals, in their order.
    pub(crate) fn codes(&self) -> Vec<String> {
        self.replies()
            .filter_map(|reply| {
                let reply: serde_json::Value = serde_json::from_str(reply).unwrap();
                Some(reply["error"]["code"].as_str()?.to_owned())
            })
            .collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Well,
    Full,
    Failing,
}

#[derive(Debug)]
pub(crate) struct World {
    dispatch: Dispatch,
    now: Now,
    store: Store,
    takes_parcels: bool,
    records: BTreeMap<(Tree, u64), Vec<u8>>,
    leased: BTreeSet<(Tree, u64)>,
    running: Vec<TicketNo>,
    asking: Vec<TicketNo>,
    next_session: u64,
    told: Told,
}

impl World {
    /// Runs a life with a line that is up, and returns all that was told in it.
    pub(crate) fn live(life: impl FnOnce(&mut Self)) -> Told {
        Self::live_by(Router::default(), life)
    }

    /// The same where others may answer besides the edge.
    pub(crate) fn live_by(router: Router, life: impl FnOnce(&mut Self)) -> Told {
        let log = Arc::new(Mutex::new(String::new()));
        let subscriber = tracing_subscriber::registry().with(Capture(Arc::clone(&log)));
        let mut told = tracing::subscriber::with_default(subscriber, || {
            let mut world = Self::new(router);
            world
                .dispatch
                .on_broker(broker::Event::Up(Session::Fresh), world.now);
            world.settle_down();
            life(&mut world);
            world.settle_down();
            world.told
        });
        told.log.clone_from(&log.lock().unwrap());
        told
    }

    fn new(router: Router) -> Self {
        let now = Now {
            mono: Mono(Duration::ZERO),
            wall: Wall(1_800_000_000_000),
        };
        Self {
            dispatch: Dispatch::new(setup(router), Recovered::default(), now),
            now,
            store: Store::Well,
            takes_parcels: true,
            records: BTreeMap::new(),
            leased: BTreeSet::new(),
            running: Vec::new(),
            asking: Vec::new(),
            next_session: 0,
            told: Told::default(),
        }
    }

    pub(crate) fn message(&mut self, message: Message) {
        let event = broker::Event::Message(message);
        self.dispatch.on_broker(event, self.now);
        self.settle_down();
    }

    pub(crate) fn engine(&mut self, state: engine::State) {
        self.dispatch
            .on_engine(engine::Event::State(state), self.now);
        self.settle_down();
    }

    pub(crate) fn complete(&mut self, text: &str) {
        self.complete_with(text, 0.9);
    }

    pub(crate) fn complete_with(&mut self, text: &str, confidence: f32) {
        self.complete_under(engine::LoadNo(1), text, confidence);
    }

    /// An answer that was computed under this load.
    pub(crate) fn complete_under(&mut self, load: engine::LoadNo, text: &str, confidence: f32) {
        let result = Ok(Completion {
            text: text.into(),
            confidence,
            model: Model {
                package: "p".into(),
                seq: 1,
                digest: "sha256:00".into(),
                prompt_version: "1".into(),
                standing: None,
            },
            first_token_ms: 1.0,
            ..Completion::default()
        });
        self.end_under(load, result);
    }

    /// Something goes with a load.
    pub(crate) fn outfit(&mut self, outfit: Outfit) {
        self.dispatch.on_outfit(outfit);
        self.settle_down();
    }

    /// A load serves, or does not.
    pub(crate) fn load(&mut self, load: engine::LoadNo, end: engine::LoadEnd) {
        let event = engine::Event::Load { load, end };
        self.dispatch.on_engine(event, self.now);
        self.settle_down();
    }

    /// The watch wants to know.
    pub(crate) fn probe(&mut self, probe: Probe) {
        self.dispatch.on_probe(probe, self.now);
        self.settle_down();
    }

    /// Upstreams that can be asked.
    pub(crate) fn cloud_is_up(&mut self, names: &[&str]) {
        let standing = |name: &&str| uplink::Standing {
            name: (*name).into(),
            reach: uplink::Reach::Open,
        };
        let state = uplink::State {
            slots: 4,
            upstreams: names.iter().map(standing).collect(),
        };
        let event = uplink::Event::State(state);
        self.dispatch.on_uplink(event, self.now);
        self.settle_down();
    }

    /// How the last errand ends.
    pub(crate) fn cloud(&mut self, result: Result<&str, uplink::Fault>) {
        let ticket = self.asking.pop().expect("an errand in the uplink");
        let result = result.map(|text| uplink::CloudAnswer {
            upstream: "main".into(),
            model: "large".into(),
            text: text.into(),
            form: engine::Form::Text,
            confidence: Some(0.1),
            tokens: engine::Tokens::default(),
            took_ms: 1.0,
            tries: 1,
        });
        let event = uplink::Event::Ended { ticket, result };
        self.dispatch.on_uplink(event, self.now);
        self.settle_down();
    }

    /// The next words of the answer that is being computed.
    pub(crate) fn say(&mut self, text: &str) {
        let ticket = *self.running.last().expect("a job in the engine");
        let text = text.into();
        let event = engine::Event::Tokens { ticket, text };
        self.dispatch.on_engine(event, self.now);
        self.settle_down();
    }

    pub(crate) fn lose_the_line(&mut self) {
        let why = "reset by peer".into();
        self.dispatch
            .on_broker(broker::Event::Down { why }, self.now);
        self.settle_down();
    }

    pub(crate) fn fail(&mut self, fault: Fault) {
        self.end(Err(fault));
    }

    fn end(&mut self, result: Result<Completion, Fault>) {
        self.end_under(engine::LoadNo(1), result);
    }

    fn end_under(&mut self, load: engine::LoadNo, result: Result<Completion, Fault>) {
        let ticket = self.running.pop().expect("a job in the engine");
        let event = engine::Event::Ended {
            ticket,
            result,
            load,
        };
        self.dispatch.on_engine(event, self.now);
        self.settle_down();
    }

    pub(crate) fn pass_ms(&mut self, span_ms: u64) {
        let span = Duration::from_millis(span_ms);
        self.now.mono = self.now.mono.after(span);
        self.now.wall = self.now.wall.after(span);
        self.dispatch.on_timeout(self.now);
        self.settle_down();
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    pub(crate) fn fill_the_disk(&mut self) {
        self.store = Store::Full;
    }

    pub(crate) fn fail_the_disk(&mut self) {
        self.store = Store::Failing;
    }

    pub(crate) fn refuse_parcels(&mut self) {
        self.takes_parcels = false;
    }

    pub(crate) fn drain(&mut self) {
        self.dispatch.on_drain();
        self.settle_down();
    }

    pub(crate) fn ask(&mut self, payload: &str) {
        self.inquire(Inquiry::Ask(payload.into()));
    }

    pub(crate) fn ask_status(&mut self) {
        self.inquire(Inquiry::Status);
    }

    pub(crate) fn ask_trace(&mut self, id: &str) {
        self.inquire(Inquiry::Trace(id.into()));
    }

    fn inquire(&mut self, inquiry: Inquiry) {
        self.next_session += 1;
        let session = SessionNo(self.next_session);
        self.dispatch.on_inquiry(session, inquiry, self.now);
        self.settle_down();
    }

    /// Carries out effects until there are none.
    fn settle_down(&mut self) {
        for _ in 0..MAX_TURNS {
            let effects = self.dispatch.take_effects(self.now);
            if effects.is_empty() {
                return;
            }
            self.told.heard.extend(effects.heard);
            for (_, answer) in effects.answers {
                self.answered(answer);
            }
            for command in effects.engine {
                match command {
                    engine::Command::Start(job) => self.running.push(job.ticket),
                    engine::Command::Cancel(no) => self.running.retain(|it| *it != no),
                }
            }
            for command in effects.uplink {
                match command {
                    uplink::Command::Send(errand) => {
                        self.asking.push(errand.ticket());
                        self.told.errands.push(format!("{errand:?}"));
                    }
                    uplink::Command::Cancel(no) => self.asking.retain(|it| *it != no),
                }
            }
            for command in effects.spool {
                let event = self.spooled(command);
                self.dispatch.on_spool(event, self.now);
            }
            for command in effects.broker {
                self.sent(command);
            }
        }
        panic!("the dispatcher never comes to rest");
    }

    fn answered(&mut self, answer: Answer) {
        let shown = format!("{answer:?}");
        let json = match answer {
            Answer::Reply(json) => return self.told.answers.push(String::from_utf8(json).unwrap()),
            Answer::Learned(lessons) => serde_json::to_string(&lessons),
            // Whoever reviews here sees what waits here.
            Answer::Review(_) => return,
            Answer::Status(report) => serde_json::to_string(&report),
            Answer::Trace(timelines) => serde_json::to_string(&timelines),
            Answer::Latest(latest) => serde_json::to_string(&latest),
            Answer::Maintenance(report) => serde_json::to_string(&report),
        };
        self.told.reports.extend([json.unwrap(), shown]);
    }

    fn sent(&mut self, command: broker::Command) {
        let broker::Command::Publish(parcel) = command else {
            return;
        };
        let event = if self.takes_parcels {
            broker::Event::Delivered(parcel.id)
        } else {
            broker::Event::Undeliverable {
                parcel: parcel.id,
                why: "not authorized".into(),
            }
        };
        self.told.parcels.push(parcel);
        self.dispatch.on_broker(event, self.now);
    }

    fn spooled(&mut self, command: spool::Command) -> spool::Event {
        match command {
            spool::Command::Commit { token, ops } => self.commit(token, ops),
            spool::Command::Lease {
                token, tree, max, ..
            } => {
                let free = |key: &(Tree, u64)| !self.leased.contains(key);
                let keys: Vec<_> = self
                    .keys(tree, 0, u64::MAX)
                    .filter(free)
                    .take(max)
                    .collect();
                self.leased.extend(&keys);
                let records = self.bodies(&keys);
                spool::Event::Records { token, records }
            }
            spool::Command::Look {
                token,
                tree,
                from,
                to,
                max,
            } => {
                let keys: Vec<_> = self.keys(tree, from, to).take(max).collect();
                let records = self.bodies(&keys);
                spool::Event::Records { token, records }
            }
        }
    }

    fn keys(&self, tree: Tree, from: u64, to: u64) -> impl Iterator<Item = (Tree, u64)> {
        self.records
            .range((tree, from)..=(tree, to))
            .map(|(key, _)| *key)
    }

    fn bodies(&self, keys: &[(Tree, u64)]) -> Vec<(u64, Vec<u8>)> {
        let body = |key| unseal(&self.records[key]).unwrap().to_vec();
        keys.iter().map(|key| (key.1, body(key))).collect()
    }

    fn commit(&mut self, token: spool::Token, ops: Vec<Op>) -> spool::Event {
        let may_be_refused = ops.iter().any(|op| {
            matches!(
                op,
                Op::Append {
                    room: Room::IfFree,
                    ..
                }
            )
        });
        match self.store {
            Store::Failing => return spool::Event::Failed { token },
            Store::Full if may_be_refused => {
                let tree = Tree::Inbox;
                return spool::Event::Refused { token, tree };
            }
            Store::Full | Store::Well => {}
        }
        for op in ops {
            match op {
                Op::Append {
                    tree,
                    seq,
                    record,
                    leased_until,
                    ..
                } => {
                    self.records.insert((tree, seq), record);
                    if leased_until.is_some() {
                        self.leased.insert((tree, seq));
                    }
                }
                Op::Ack { tree, seq } => {
                    self.records.remove(&(tree, seq));
                    self.leased.remove(&(tree, seq));
                }
                Op::Extend { .. } => {}
                Op::Release { tree, seq } => {
                    self.leased.remove(&(tree, seq));
                }
            }
        }
        let live = PerTree::default();
        spool::Event::Committed { token, live }
    }
}

fn setup(router: Router) -> Setup {
    Setup {
        topics: Topics {
            prefix: "lineside".into(),
            appliance: "line-3".into(),
            pool: None,
        },
        limits: Limits {
            max_payload_bytes: 8192,
            max_prompt_bytes: 1000,
            deadlines: DeadlineLimits {
                default: Duration::from_secs(30),
                max: Duration::from_mins(10),
            },
            default_classification: Classification::Restricted,
            classification_by_topic: Vec::new(),
            reply_topics: vec!["devices/+/answers".into()],
        },
        router,
        review: lineside::review::Site::default(),
        briefs: uplink::Briefs::default(),
        patience: Patience::default(),
        gate: GateLimits {
            per_client: 8,
            total: 8,
            rate_per_s: 100.0,
            burst: 100.0,
        },
        window: Window {
            count: 100,
            age: Duration::from_hours(1),
            bytes: 1 << 20,
            trail_bytes: 1 << 20,
        },
        outbox_bytes: 1 << 20,
        reply_expiry_s: 60,
    }
}

/// Keeps every field of every event, unlike the appliance's own log.
#[derive(Debug)]
struct Capture(Arc<Mutex<String>>);

impl<S: Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(format!("{} ", event.metadata().name()));
        event.record(&mut line);
        let mut log = self.0.lock().unwrap();
        log.push_str(&line.0);
        log.push('\n');
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}
