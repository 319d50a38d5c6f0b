//! The world: one appliance core, its surroundings, and what may go wrong, by a seed.
//!
//! Each channel keeps its order; which channel moves next is chance. The dispatcher and the
//! record level of the spool are the real ones; disk, broker, engine, clock and devices are not.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use lineside::broker::{Command as ToBroker, Event as FromBroker, Parcel, Session};
use lineside::clock::{Mono, Now, Wall};
use lineside::dispatch::{Dispatch, Doors, Effects, Inquiry, Recovered, SessionNo, Wanted};
use lineside::engine;
use lineside::governor::{Allowance, Taken};
use lineside::intake::Message;
use lineside::review::{Asked, ItemId, Named, Reviewer, Verdict};
use lineside::spool::shell::{Command as ToSpool, Event as FromSpool, Token};
use lineside::spool::{self, Op, Spool, Tree};
use lineside::ticket::TicketNo;

use crate::brief::{
    brief_answer, brief_broker, brief_brokered, brief_engine, brief_spool, brief_spooled,
};
use crate::broker::{Broker, Fate};
use crate::cloud::Cloud;
use crate::devices::{Devices, Sent};
use crate::disk::{Die, Shared, SimDisk, State as DiskState};
use crate::engine::Engine;
pub(crate) use crate::plan::Plan;

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) rng: fastrand::Rng,
    pub(crate) plan: Plan,
    /// Time of the world; the process's clock starts anew with it.
    pub(crate) at: Duration,
    started: Duration,
    wall_offset_ms: i64,
    pub(crate) disk: Shared,
    pub(crate) spool: Option<Spool<SimDisk>>,
    spool_failing: bool,
    pub(crate) to_spool: VecDeque<ToSpool>,
    pub(crate) from_spool: VecDeque<FromSpool>,
    /// What is in each transaction that was not answered yet.
    open_ops: BTreeMap<Token, Vec<Op>>,
    pub(crate) dispatch: Option<Dispatch>,
    pub(crate) broker: Broker,
    pub(crate) engine: Engine,
    pub(crate) cloud: Cloud,
    pub(crate) devices: Devices,
    pub(crate) books: crate::invariants::Books,
    step: u32,
    log: VecDeque<String>,
    pub(crate) verbose: bool,
    next_session: u64,
    pub(crate) draining: bool,
    /// Whom the governor lets in.
    pub(crate) door: Taken,
    /// Whether somebody rules when there is no trouble; else what waits for a person expires.
    pub(crate) rules_at_rest: bool,
    pub(crate) moody: bool,
    pub(crate) restarts: u32,
    counts: lineside::dispatch::Counts,
}

const LOG_LINES: usize = 40;
const WALL_AT_START_MS: u64 = 1_700_000_000_000;

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, verbose: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let disk: Shared = Rc::new(RefCell::new(DiskState::default()));
        disk.borrow_mut().rng = Some(rng.fork());
        let mut world = Self {
            seed,
            rng,
            at: Duration::ZERO,
            started: Duration::ZERO,
            wall_offset_ms: 0,
            disk,
            spool: None,
            spool_failing: false,
            to_spool: VecDeque::new(),
            from_spool: VecDeque::new(),
            open_ops: BTreeMap::new(),
            dispatch: None,
            broker: Broker::new(plan.receive_max),
            engine: Engine::new(plan.engine, plan.slots, plan.slow_ms),
            cloud: Cloud::new(
                plan.setup
                    .router
                    .policy
                    .ways()
                    .upstreams
                    .iter()
                    .map(|it| it.name.clone())
                    .collect(),
                plan.cloud_slots,
                plan.cloud_slow_ms,
            ),
            devices: Devices::new(),
            books: crate::invariants::Books::default(),
            step: 0,
            log: VecDeque::new(),
            verbose,
            next_session: 1,
            draining: false,
            door: Taken::default(),
            rules_at_rest: seed.is_multiple_of(2),
            moody: true,
            restarts: 0,
            counts: lineside::dispatch::Counts::new(),
            plan,
        };
        world.boot();
        world
    }

    pub(crate) fn now(&self) -> Now {
        let wall = WALL_AT_START_MS + u64::try_from(self.at.as_millis()).expect("short lives");
        Now {
            mono: Mono(self.at.saturating_sub(self.started)),
            wall: Wall(wall.saturating_add_signed(self.wall_offset_ms)),
        }
    }

    /// Somebody, or the network, sets the clock.
    pub(crate) fn set_wall(&mut self, to: Wall) {
        let by = i64::try_from(to.0).unwrap() - i64::try_from(self.now().wall.0).unwrap();
        self.wall_offset_ms += by;
    }

    pub(crate) fn set_wall_forward(&mut self, by: Duration) {
        self.set_wall(self.now().wall.after(by));
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{:5} {:>10.3} {}", self.step, self.at.as_secs_f64(), line());
        if self.verbose {
            println!("{line}");
        }
        if self.log.len() == LOG_LINES {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    /// Ends the run: an invariant is broken.
    pub(crate) fn fail(&self, what: &str) -> ! {
        let log: Vec<_> = self.log.iter().cloned().collect();
        panic!(
            "seed {}, step {}: {what}\n{}\nreplay: LINESIDE_SEED={} cargo test --test scenarios seeds -- --nocapture",
            self.seed,
            self.step,
            log.join("\n"),
            self.seed
        );
    }

    // ----- the process -----

    fn boot(&mut self) {
        self.started = self.at;
        let mut spool = loop {
            match Spool::open(SimDisk(self.disk.clone()), self.plan.caps) {
                Ok(spool) => break spool,
                Err(_) => self.disk.borrow_mut().heal(),
            }
        };
        let recovered =
            Recovered::read(&mut spool).unwrap_or_else(|error| self.fail(&error.to_string()));
        let now = self.now();
        let dispatch = Dispatch::new(self.plan.setup.clone(), recovered, now);
        self.spool = Some(spool);
        self.dispatch = Some(dispatch);
        self.spool_failing = false;
        self.draining = false;
        self.door = Taken::default();
        self.note(|| "the process starts".into());
        self.disk.borrow_mut().durable.forget_traces(&self.books);
        self.books.on_start(&self.disk.borrow().durable);
        self.after_turn();
    }

    /// The power goes, at any moment.
    pub(crate) fn crash(&mut self) {
        self.note(|| "POWER CUT".into());
        self.stop_and_boot();
    }

    pub(crate) fn stop_and_boot(&mut self) {
        self.restarts += 1;
        self.disk.borrow_mut().crash();
        self.dispatch = None;
        self.spool = None;
        self.to_spool.clear();
        self.from_spool.clear();
        self.open_ops.clear();
        self.broker.appliance_gone();
        self.engine.begin(self.at);
        self.cloud.begin();
        self.books.on_stop();
        self.look_at_disk();
        self.boot();
    }

    pub(crate) fn turn(&mut self, input: impl FnOnce(&mut Dispatch, Now)) {
        let now = self.now();
        input(self.dispatch.as_mut().expect("it runs"), now);
        self.after_turn();
    }

    fn after_turn(&mut self) {
        let now = self.now();
        let effects = self.dispatch.as_mut().expect("it runs").take_effects(now);
        self.carry_out(effects);
        self.check();
    }

    fn carry_out(&mut self, effects: Effects) {
        let published: Vec<Parcel> = effects
            .broker
            .iter()
            .filter_map(|command| match command {
                ToBroker::Publish(parcel) => Some(parcel.clone()),
                ToBroker::Acknowledge(_) | ToBroker::Close => None,
            })
            .collect();
        for parcel in &published {
            self.check_publish(parcel);
        }
        for command in effects.broker {
            if let ToBroker::Acknowledge(token) = command {
                self.check_acknowledge(token);
            }
            self.note(|| format!("  → broker {}", brief_broker(&command)));
            self.broker.commands.push_back(command);
        }
        for command in effects.engine {
            self.note(|| format!("  → engine {}", brief_engine(&command)));
            if let engine::Command::Start(job) = &command {
                self.check_start(job);
            }
            if let engine::Command::Cancel(no) = &command {
                self.books.running.remove(no);
            }
            self.engine.commands.push_back(command);
        }
        for command in effects.uplink {
            self.note(|| format!("  → uplink {command:?}").chars().take(90).collect());
            self.cloud.commands.push_back(command);
        }
        for command in effects.spool {
            self.note(|| format!("  → spool {}", brief_spool(&command)));
            if let ToSpool::Commit { token, ops } = &command {
                self.check_retire(ops);
                self.open_ops.insert(*token, ops.clone());
            }
            self.to_spool.push_back(command);
        }
        for (session, answer) in effects.answers {
            self.note(|| format!("  → session {} {}", session.0, brief_answer(&answer)));
            self.check_answer(session, &answer);
        }
    }

    // ----- the channels -----

    /// The spool's thread takes a group, a question or a try at repair.
    pub(crate) fn spool_turn(&mut self) {
        let now = self.now();
        let mut spool = self.spool.take().expect("it runs");
        if self.spool_failing {
            while let Some(command) = self.to_spool.pop_front() {
                let event = match command {
                    ToSpool::Commit { token, .. } => FromSpool::Failed { token },
                    ToSpool::Lease { token, .. } | ToSpool::Look { token, .. } => {
                        let records = Vec::new();
                        FromSpool::Records { token, records }
                    }
                };
                self.from_spool.push_back(event);
                if self.rng.u8(0..4) == 0 {
                    break;
                }
            }
            if self.rng.bool() && spool.repair().is_ok() {
                self.spool_failing = false;
                let live = spool.live();
                self.note(|| "the store is repaired".into());
                self.from_spool.push_back(FromSpool::Restored { live });
            }
        } else {
            self.spool_group(&mut spool, now);
        }
        self.spool = Some(spool);
        if self.disk.borrow().died {
            self.note(|| "died inside a commit".into());
            self.crash();
        } else {
            self.look_at_disk();
        }
    }

    fn spool_group(&mut self, spool: &mut Spool<SimDisk>, now: Now) {
        let mut group = Vec::new();
        let most = self.rng.usize(1..6);
        while group.len() < most
            && let Some(ToSpool::Commit { .. }) = self.to_spool.front()
        {
            if let Some(ToSpool::Commit { token, ops }) = self.to_spool.pop_front() {
                group.push((token, ops));
            }
        }
        if group.is_empty() {
            self.spool_question(spool, now);
            return;
        }
        let (tokens, transactions): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let verdicts = spool.commit(transactions);
        let live = spool.live();
        for (token, verdict) in tokens.into_iter().zip(verdicts) {
            self.from_spool.push_back(match verdict {
                spool::Verdict::Committed => FromSpool::Committed { token, live },
                spool::Verdict::Full(tree) => FromSpool::Refused { token, tree },
                spool::Verdict::Failed => {
                    self.spool_failing = true;
                    FromSpool::Failed { token }
                }
            });
        }
    }

    fn spool_question(&mut self, spool: &mut Spool<SimDisk>, now: Now) {
        let (token, records) = match self.to_spool.pop_front() {
            Some(ToSpool::Lease {
                token,
                tree,
                until,
                max,
            }) => (token, spool.lease(tree, now.mono, until, max)),
            Some(ToSpool::Look {
                token,
                tree,
                from,
                to,
                max,
            }) => (token, spool.look(tree, from, to, max)),
            Some(ToSpool::Commit { .. }) | None => return,
        };
        let records = records.unwrap_or_else(|_| {
            self.spool_failing = true;
            Vec::new()
        });
        self.from_spool
            .push_back(FromSpool::Records { token, records });
    }

    pub(crate) fn deliver_spool(&mut self) {
        let Some(event) = self.from_spool.pop_front() else {
            return;
        };
        self.note(|| format!("spool: {}", brief_spooled(&event)));
        match &event {
            FromSpool::Committed { token, .. } => {
                let ops = self.open_ops.remove(token).unwrap_or_default();
                self.books.told(&ops);
            }
            FromSpool::Refused { token, .. } | FromSpool::Failed { token } => {
                self.open_ops.remove(token);
            }
            FromSpool::Records { .. } | FromSpool::Restored { .. } => {}
        }
        self.turn(|dispatch, now| dispatch.on_spool(event, now));
    }

    pub(crate) fn deliver_broker(&mut self) {
        let Some(event) = self.broker.events.pop_front() else {
            return;
        };
        self.note(|| format!("broker: {}", brief_brokered(&event)));
        if let FromBroker::Message(message) = &event {
            self.books.on_message(message);
        }
        self.turn(|dispatch, now| dispatch.on_broker(event, now));
    }

    pub(crate) fn deliver_engine(&mut self) {
        let Some(event) = self.engine.events.pop_front() else {
            return;
        };
        self.note(|| format!("engine: {event:?}").chars().take(90).collect());
        if let engine::Event::Ended { ticket, result, .. } = &event {
            self.books.on_ended(*ticket, result.is_ok());
        }
        self.turn(|dispatch, now| dispatch.on_engine(event, now));
    }

    pub(crate) fn cloud_turn(&mut self) {
        let (at, started, moody) = (self.at, self.started, self.moody);
        self.cloud.take_command(at, started, &mut self.rng, moody);
    }

    pub(crate) fn deliver_cloud(&mut self) {
        let Some(event) = self.cloud.events.pop_front() else {
            return;
        };
        self.note(|| format!("cloud: {event:?}").chars().take(110).collect());
        self.turn(|dispatch, now| dispatch.on_uplink(event, now));
    }

    /// A person looks at what waits, takes it, gives it back or rules on it: at the appliance, or
    /// elsewhere. While there is trouble, also what does not wait.
    pub(crate) fn person_turn(&mut self) {
        let waiting: Vec<_> = self.disk.borrow().durable.review.keys().copied().collect();
        let no = match waiting.len() {
            0 => TicketNo(0),
            n => waiting[self.rng.usize(0..n)],
        };
        let nobody = || "0123456789abcdef".repeat(3).parse().expect("an id");
        let id: Named = self.named(no).unwrap_or_else(nobody);
        let name = ["anna", "ben"][self.rng.usize(0..2)];
        let by = Reviewer::named(name).expect("a name");
        let verdict = match self.rng.u8(0..3) {
            0 if self.moody => Verdict::Approve,
            1 => Verdict::Reject("no".into()),
            _ => Verdict::Correct("by hand".into()),
        };
        if self.moody && self.broker.up && self.rng.u8(0..4) == 0 {
            self.remote_verdict(&id, name, &verdict);
            return;
        }
        let asked = match self.rng.u8(0..10) {
            0 if self.moody => Asked::List {
                after: None,
                max: 3,
            },
            1 if self.moody => Asked::Show(id),
            2 | 3 if self.moody => Asked::Take(id, by),
            4 if self.moody => Asked::GiveBack(id, by),
            _ => Asked::Rule(id, by, verdict),
        };
        self.inquire(Inquiry::Review(asked));
    }

    /// Somebody elsewhere rules, by a message that needs no acknowledgement.
    fn remote_verdict(&mut self, id: &Named, name: &str, verdict: &Verdict) {
        let setup = &self.plan.setup;
        if setup.router.policy.ways().remote_review.is_nothing() {
            return; // nobody listens there
        }
        let text = match verdict {
            Verdict::Approve => String::new(),
            Verdict::Correct(text) => format!(r#","text":"{text}""#),
            Verdict::Reject(reason) => format!(r#","reason":"{reason}""#),
        };
        let word = verdict.word();
        let json = format!(r#"{{"v":1,"id":"{id}","reviewer":"{name}","verdict":"{word}"{text}}}"#);
        let message = Message {
            topic: setup.topics.review_verdict(),
            payload: json.into_bytes(),
            ..Message::default()
        };
        self.note(|| format!("from elsewhere: {word} of {id}"));
        self.turn(|dispatch, now| dispatch.on_broker(FromBroker::Message(message), now));
    }

    /// What a reviewer calls the item of this ticket.
    fn named(&self, no: TicketNo) -> Option<Named> {
        let disk = self.disk.borrow();
        let passed = disk.durable.review.get(&no)?;
        Some(ItemId::of(&passed.waiting.request).into())
    }

    /// Somebody here rules on the only ticket.
    pub(crate) fn rule(&mut self, verdict: Verdict) {
        let named = self.named(TicketNo(1)).expect("it waits for a person");
        let by = Reviewer::named("anna").expect("a name");
        self.inquire(Inquiry::Review(Asked::Rule(named, by, verdict)));
    }

    pub(crate) fn broker_turn(&mut self, fate: Fate) {
        let deep = if self.moody { self.rng.usize(0..3) } else { 0 };
        if let Some(parcel) = self.broker.take_parcel(deep, fate) {
            self.note(|| format!("broker: {fate:?} parcel {:x}", parcel.id.0));
            self.on_taken(&parcel, fate);
        }
    }

    pub(crate) fn timeout_if_due(&mut self) {
        let now = self.now();
        let due = |world: &Self| world.dispatch.as_ref().expect("it runs").deadline();
        if due(self).0 <= now.mono {
            self.note(|| "timeout".into());
            self.turn(Dispatch::on_timeout);
            let (next, why) = due(self);
            if next <= now.mono {
                self.fail(&format!("after the timeout it is due at once again: {why}"));
            }
        }
    }

    /// To the next moment at which something happens by itself.
    pub(crate) fn wait(&mut self) {
        let (due, _) = self.dispatch.as_ref().expect("it runs").deadline();
        let mut next = self.started + due.0;
        if let Some(engine) = self.engine.next() {
            next = next.min(engine);
        }
        if let Some(cloud) = self.cloud.next() {
            next = next.min(cloud);
        }
        self.at = self.at.max(next);
        self.cloud.pass(self.at);
        self.engine.pass(self.at);
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        self.at += span;
        self.cloud.pass(self.at);
        self.engine.pass(self.at);
    }

    // ----- what happens -----

    pub(crate) fn publish(&mut self, message: Message) -> usize {
        let setup = &self.plan.setup;
        let sent = Sent::new(message.clone(), &setup.topics, &setup.limits);
        let no = self.devices.sent.len();
        self.devices.sent.push(sent);
        self.note(|| {
            let text = String::from_utf8_lossy(&message.payload);
            let text: String = text.chars().take(60).collect();
            let kind = if message.ack.is_some() {
                "QoS 1"
            } else {
                "QoS 0"
            };
            format!(
                "device: message {no}, {kind}, to {:?}: {text}",
                message.response_topic
            )
        });
        self.broker.waiting.push_back((no, message, false));
        no
    }

    pub(crate) fn inquire(&mut self, inquiry: Inquiry) -> SessionNo {
        let session = SessionNo(self.next_session);
        self.next_session += 1;
        self.note(|| {
            format!("session {}: {inquiry:?}", session.0)
                .chars()
                .take(90)
                .collect()
        });
        self.books.asked.insert(session);
        self.turn(|dispatch, now| dispatch.on_inquiry(session, inquiry, now));
        session
    }

    fn random_inquiry(&mut self) {
        let inquiry = match self.rng.u8(0..6) {
            0 => Inquiry::Status,
            4 => Inquiry::Latest(Wanted::default()),
            5 => {
                let doors = [None, Some(Doors::Open), Some(Doors::Shut)];
                Inquiry::Maintenance(doors[self.rng.usize(0..3)])
            }
            1 => Inquiry::Trace(format!("{}-{}", self.rng.u8(0..5), self.rng.u8(1..9))),
            2 => Inquiry::Ask(b"{\"prompt\":".to_vec()),
            _ => {
                let (id, text) = (self.rng.u8(0..6), self.rng.u8(0..2));
                let deadline = [30, 5000][self.rng.usize(0..2)];
                let json = format!(
                    r#"{{"id":"l-{id}","prompt":"why {id} {text}","deadline_ms":{deadline}}}"#
                );
                Inquiry::Ask(json.into_bytes())
            }
        };
        self.inquire(inquiry);
    }

    fn fault(&mut self) {
        match self.rng.u8(0..20) {
            18 | 19 => self.random_heat(),
            16 | 17 => {
                let up = self.rng.bool();
                self.note(|| format!("FAULT the cloud is up: {up}"));
                self.cloud.set_up(up);
            }
            0 | 1 => {
                self.note(|| "FAULT connection lost".into());
                self.broker.drop_connection();
            }
            2 => {
                self.note(|| "FAULT session lost".into());
                for no in self.broker.lose_session() {
                    self.devices.sent[no].lost = true;
                }
            }
            3 => self.disk.borrow_mut().fail_write = true,
            4 | 5 => {
                let mut disk = self.disk.borrow_mut();
                disk.fail_sync = true;
                disk.reopen_failures = self.rng.u32(0..4);
            }
            6 => self.disk.borrow_mut().fail_read = true,
            7 => {
                let mut disk = self.disk.borrow_mut();
                disk.short_of_space = !disk.short_of_space;
            }
            8 | 9 => self.crash(),
            10 | 11 => {
                let die = [Die::BeforeWrite, Die::BeforeSync, Die::AfterSync];
                self.disk.borrow_mut().die = Some(die[self.rng.usize(0..3)]);
            }
            12 => {
                self.note(|| "FAULT the engine dies".into());
                self.engine.crash(self.at);
            }
            13 => {
                let by = [-3_600_000, -900, 900, 40_000, 3_600_000][self.rng.usize(0..5)];
                self.note(|| format!("FAULT the wall clock jumps by {by} ms"));
                self.wall_offset_ms += by;
                self.books.wall_jumped = true;
            }
            14 => {
                self.note(|| "drain".into());
                self.draining = true;
                self.turn(|dispatch, _| dispatch.on_drain());
            }
            _ => {
                self.note(|| "a long pause".into());
                let span = Duration::from_millis(self.rng.u64(1000..90_000));
                self.pass(span);
            }
        }
    }

    /// One step of a random life.
    fn random_step(&mut self) {
        self.step += 1;
        if self.rng.u8(..) < self.plan.trouble {
            self.fault();
            return;
        }
        if self.draining
            && (self.dispatch.as_ref().expect("it runs").is_drained() || self.rng.u8(0..40) == 0)
        {
            self.note(|| "drained, or out of patience: the process ends".into());
            self.stop_and_boot();
            return;
        }
        let most = [1, 5, 60, 400][self.rng.usize(0..4)];
        let span = Duration::from_micros(self.rng.u64(0..=most * 1000));
        if self.rng.u8(0..3) == 0 {
            self.pass(span);
        }
        match self.rng.u8(0..30) {
            24 | 25 => self.cloud_turn(),
            26 | 27 => self.deliver_cloud(),
            28 if self.rng.u8(0..4) == 0 => self.person_turn(),
            0..=2 => {
                let message = self.devices.think(&mut self.rng);
                self.publish(message);
            }
            3 if self.rng.bool() => self.random_inquiry(),
            4..=7 => self.spool_turn(),
            8..=11 => self.deliver_spool(),
            12 | 13 => self.deliver_broker(),
            14 | 15 if self.broker.can_deliver() => self.broker.deliver(),
            14..=16 => self.broker.take_command(),
            17 if !self.broker.up => {
                self.broker.connect(Session::Resumed);
            }
            17 | 18 if self.broker.can_take() => {
                let fate = match self.rng.u8(0..30) {
                    0 => Fate::Refused,
                    1..=4 => Fate::TakenButNotSaid,
                    _ => Fate::Taken,
                };
                self.broker_turn(fate);
            }
            19 | 20 => {
                let (at, moody) = (self.at, self.moody);
                self.engine.take_command(at, &mut self.rng, moody);
            }
            21 | 22 => self.deliver_engine(),
            _ => self.timeout_if_due(),
        }
    }

    /// One turn of everything, in a fair order, without any trouble.
    pub(crate) fn fair_round(&mut self) {
        self.step += 1;
        if !self.broker.up {
            self.broker.connect(Session::Resumed);
        }
        while self.broker.can_deliver() {
            self.broker.deliver();
        }
        self.drain_queues();
        while self.broker.can_take() {
            self.broker_turn(Fate::Taken);
        }
        self.drain_queues();
        if self.rules_at_rest && !self.disk.borrow().durable.review.is_empty() {
            self.person_turn();
        }
        self.timeout_if_due();
        self.drain_queues();
    }

    pub(crate) fn drain_queues(&mut self) {
        while !self.broker.commands.is_empty() {
            self.broker.take_command();
        }
        while !self.engine.commands.is_empty() {
            let at = self.at;
            self.engine.take_command(at, &mut self.rng, false);
        }
        while !self.cloud.commands.is_empty() {
            self.cloud_turn();
        }
        if !self.to_spool.is_empty() || self.spool_failing {
            self.spool_turn();
        }
        while !self.from_spool.is_empty() {
            self.deliver_spool();
        }
        while !self.broker.events.is_empty() {
            self.deliver_broker();
        }
        while !self.engine.events.is_empty() {
            self.deliver_engine();
        }
        while !self.cloud.events.is_empty() {
            self.deliver_cloud();
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        let status = self.dispatch.as_ref().expect("it runs").status();
        status.open == 0
            && status.outbox == 0
            && status.store == "well"
            && self.broker.is_idle()
            && self.engine.is_idle()
            && self.cloud.is_idle()
            && self.to_spool.is_empty()
            && self.from_spool.is_empty()
            && !self.spool_failing
    }

    /// No more trouble: everything must come to its end within bounded time.
    pub(crate) fn run_until_quiet(&mut self) {
        self.note(|| "---- from here on, no trouble ----".into());
        self.moody = false;
        self.disk.borrow_mut().heal();
        self.cloud.set_up(true);
        if self.draining {
            self.stop_and_boot();
        }
        self.allow(Allowance::default());
        let until = self.at + Duration::from_mins(40);
        let mut rounds = 0;
        loop {
            self.fair_round();
            if self.is_quiet() {
                break;
            }
            rounds += 1;
            if self.at > until || rounds > 20_000 {
                let status = self.dispatch.as_ref().expect("it runs").status();
                self.fail(&format!("it does not come to rest: {status:?}"));
            }
            if self.to_spool.is_empty() && !self.spool_failing && !self.broker.can_take() {
                self.wait();
            }
        }
        // Steps that nobody waited for are written now.
        for _ in 0..4 {
            self.wait();
            self.fair_round();
        }
        while !self.is_quiet() {
            self.fair_round();
        }
        let trail = self.spool.as_ref().expect("it runs").live().of(Tree::Trail);
        if trail > self.plan.setup.window.trail_bytes {
            self.fail("(6) the trails are above their share");
        }
        self.counts = self.dispatch.as_ref().expect("it runs").counts().clone();
        self.check_end();
    }

    /// What the process that came to rest had counted.
    pub(crate) fn counts_before_end(&self) -> lineside::dispatch::Counts {
        self.counts.clone()
    }

    /// A whole life.
    pub(crate) fn live(seed: u64, verbose: bool) -> u32 {
        let life = || {
            let mut rng = fastrand::Rng::with_seed(seed);
            let plan = Plan::of(&mut rng);
            let steps = plan.steps;
            let mut world = Self::new(seed, plan, verbose);
            for _ in 0..steps {
                world.random_step();
            }
            world.run_until_quiet();
            world
        };
        let (world, leak) = crate::ears::listening(life);
        if let Some(line) = leak {
            world.fail(&format!("(3) something restricted is logged: {line}"));
        }
        world.step
    }
}
