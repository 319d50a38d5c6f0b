//! What serves: the thread that holds the course of packages, between the keeper, the engine and the
//! dispatcher.
//!
//! ```text
//!  keeper ── what is here, the ring ──┐                  ┌── Serve, Rest, Go ─► planner ─► engine
//!  dispatcher ── loads, answers, heat ─┤   Helm: course   ├── Gate ─► a thread of its own
//!  console ── pin, unpin, rollback ────┼─► and journal ───┼── Settle ─► keeper: what stays, `current`
//!  gate, watch ── verdicts, marks ─────┤                  └── Tell ─► ota/state, console
//!  once a second ── time ─────────────┘
//! ```
//!
//! Purpose: [`Helm`] decides and keeps; this carries out what it releases. It may wait for the disk,
//! so it is a thread, and nobody waits for it but who gave it an order.
//!
//! Owns the journal's course, the gate under way and the [watch](mod@watch) of what serves. Invariants: one
//! input at a time; an effect is carried out only when what it rests on is durable.
//!
//! How it fails: where the journal cannot be read at the start, the configuration's package serves,
//! nothing is swapped until a restart, and whoever asks is told why.

mod gate;
mod topic;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch as latest};
use tokio::time::{MissedTickBehavior, interval};

use self::topic::Topic;
use self::watch::Watching;
use super::planner::{self, Planned, Serve};
use crate::clock::Clock;
use crate::config::{self, OnAlarm, Settings};
use crate::dispatch::{Heard, Probe};
use crate::engine::process::{Launch, Processes};
use crate::engine::{LoadEnd, LoadNo};
use crate::governor::memory::Board;
use crate::ota::course::{
    Course, Effect, GateEnd, Helm, Memory, Named, No, Order, Refusal, Released, Ring, Sight,
    TakenBack, Terms, Wheel, WheelError, Wish,
};
use crate::ota::desk;
use crate::ota::disk::Folder;
use crate::ota::floor::{Book, Journal};
use crate::ota::keeper::STORE;
use crate::ota::store::{self, PackageId};
use crate::ota::verdict::Findings;
use crate::package::Digest;

/// Inputs between two tasks before the sender waits: a few seconds of answers.
const CHANNEL: usize = 1024;
/// How often time is told.
const TICK: Duration = Duration::from_secs(1);

/// Something happened.
#[derive(Debug)]
enum Input {
    Heard(Heard),
    Planned(Planned),
    Looked(Looked),
    Order(Order),
    Gate(No, GateEnd),
    Tick,
}

/// What the keeper found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// A package that is here for this device.
    pub(super) ready: Option<Named>,
    /// What the ring says, where it was looked at.
    pub(super) ring: Option<Ring>,
}

/// What the keeper has to know of the course.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// What is committed.
    pub(super) current: Option<PackageId>,
    /// What stays on the disk.
    pub(super) held: Vec<PackageId>,
    /// What is not tried again, and why.
    pub(super) taken_back: Vec<(Digest, String)>,
}

impl Holding {
    fn learn(&mut self, memory: &Memory) {
        let reason = |it: &TakenBack| (it.package.digest, it.reason.clone());
        self.taken_back = memory.taken_back.iter().map(reason).collect();
        self.held = memory.held();
    }
}

/// The course, as it was found at the start.
pub(super) struct Opened {
    helm: Result<(Helm<Folder>, Released), String>,
    /// For the keeper, which writes the same journal.
    pub(super) journal: Option<Journal<Folder>>,
    /// The folder that serves first.
    pub(super) first: Option<PathBuf>,
}

/// Reads where the course stands. Without packages over the air there is none.
pub(super) fn open(settings: &Settings, clock: Clock) -> Option<Opened> {
    let ota = settings.ota.as_ref()?;
    let book = Book::open(Folder::new(&settings.state_dir)).map_err(|error| error.to_string());
    let journal = book.as_ref().ok().map(Book::journal);
    let helm = book.and_then(|book| {
        let started = Helm::start(terms(ota), book.journal(), clock.now().mono);
        started.map_err(|error| error.to_string())
    });
    let mut first = settings.model_package.clone();
    match &helm {
        Ok((_, released)) => {
            let serves = released.effects.iter().find_map(|effect| match effect {
                Effect::Serve { package, .. } => package.as_ref(),
                Effect::Gate { .. }
                | Effect::StopGate(_)
                | Effect::Settle { .. }
                | Effect::Tell(_) => None,
            });
            if let Some(package) = serves {
                first = Some(store::folder_in(
                    &settings.state_dir.join(STORE),
                    &package.id,
                ));
            }
        }
        Err(error) => tracing::error!(
            error,
            "where packages stand cannot be read; the configuration's serves, and none is swapped"
        ),
    }
    Some(Opened {
        helm,
        journal,
        first,
    })
}

fn terms(ota: &config::Ota) -> Terms {
    Terms {
        good_answers: ota.trial_requests,
        trial: ota.trial_for,
        alarm_takes_back: ota.on_alarm == OnAlarm::RollBack,
    }
}

/// What the thread holds of others.
pub(super) struct Ways {
    /// To the planner.
    pub(super) planner: mpsc::Sender<planner::Order>,
    /// From the dispatcher.
    pub(super) heard: mpsc::Receiver<Heard>,
    /// To the dispatcher: what the watch asks.
    pub(super) probes: mpsc::Sender<Probe>,
    /// To the dispatcher: for the topic.
    pub(super) rollout: latest::Sender<Vec<u8>>,
    /// From the engine.
    pub(super) processes: latest::Receiver<Processes>,
    /// Bytes that what serves needs.
    pub(super) needs: Arc<AtomicU64>,
    /// How engines are started.
    pub(super) launch: Launch,
}

/// The others' ends, made before there is a thread.
pub(super) struct Inlet {
    inputs: mpsc::Sender<Input>,
    inbox: mpsc::Receiver<Input>,
    orders: mpsc::Sender<Order>,
    order_inbox: mpsc::Receiver<Order>,
    /// What the keeper has to know.
    pub(super) holding: Arc<Mutex<Holding>>,
    sight: (latest::Sender<Sight>, latest::Receiver<Sight>),
}

impl Inlet {
    /// What is held is known before there is a keeper that could let go of it.
    pub(super) fn new(opened: &Opened) -> Self {
        let mut holding = Holding::default();
        if let Ok((helm, _)) = &opened.helm {
            let memory = helm.course().memory();
            holding.current = memory.committed().map(|it| it.id.clone());
            holding.learn(memory);
        }
        let (inputs, inbox) = mpsc::channel(CHANNEL);
        let (orders, order_inbox) = mpsc::channel(1);
        Self {
            inputs,
            inbox,
            orders,
            order_inbox,
            holding: Arc::new(Mutex::new(holding)),
            sight: latest::channel(Sight::default()),
        }
    }

    /// The way for what the keeper finds.
    pub(super) fn looked(&self) -> impl Fn(Looked) + Send + use<> {
        let inputs = self.inputs.clone();
        move |looked| {
            let _ = inputs.blocking_send(Input::Looked(looked)); // it ends with the process
        }
    }

    /// What the console holds.
    pub(super) fn wheel(&self, opened: &Opened) -> Wheel {
        match &opened.helm {
            Ok(_) => Wheel::new(self.orders.clone(), self.sight.1.clone()),
            Err(why) => Wheel::broken(why.clone()),
        }
    }
}

/// Serves the configuration's package, where there is no course.
pub(super) async fn serve_configured(settings: &Settings, planner: &mpsc::Sender<planner::Order>) {
    let serve = Serve {
        load: LoadNo(1),
        folder: settings.model_package.clone(),
        ..Serve::default()
    };
    let _ = planner.send(planner::Order::Serve(serve)).await; // it is at its start
}

/// Starts the thread, and the tasks that feed it.
pub(super) async fn start(
    settings: &Settings,
    board: Board,
    clock: Clock,
    opened: Opened,
    inlet: Inlet,
    keeper: latest::Receiver<desk::Report>,
    ways: Ways,
) -> std::io::Result<()> {
    let Ok((helm, first)) = opened.helm else {
        serve_configured(settings, &ways.planner).await;
        tokio::spawn(super::air::no_course(ways.heard, ways.planner));
        return Ok(());
    };
    let (planned, mut from_planner) = mpsc::channel(1);
    let pilot = Pilot {
        helm,
        settings: settings.clone(),
        board,
        clock,
        inputs: inlet.inputs.clone(),
        planned,
        planner: ways.planner,
        probes: ways.probes,
        processes: ways.processes,
        needs: ways.needs,
        launch: ways.launch,
        keeper,
        holding: inlet.holding,
        sight: inlet.sight.0,
        serving: None,
        load: LoadNo::default(),
        gate: None,
        watching: None,
        alarm: None,
        topic: Topic::new(ways.rollout),
        logged: None,
        trouble: None,
    };
    let (inputs, mut heard, mut orders) = (inlet.inputs, ways.heard, inlet.order_inbox);
    tokio::spawn(async move {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let input = tokio::select! {
                it = heard.recv() => match it {
                    Some(it) => Input::Heard(it),
                    None => return, // the dispatcher has ended: what serves is decided at the next start
                },
                Some(it) = from_planner.recv() => Input::Planned(it),
                Some(it) = orders.recv() => Input::Order(it),
                _ = ticks.tick() => Input::Tick,
            };
            if inputs.send(input).await.is_err() {
                return;
            }
        }
    });
    let mut inbox = inlet.inbox;
    std::thread::Builder::new()
        .name("swaps".into())
        .spawn(move || pilot.run(first, &mut inbox))?;
    Ok(())
}

struct Pilot {
    helm: Helm<Folder>,
    settings: Settings,
    board: Board,
    clock: Clock,
    inputs: mpsc::Sender<Input>,
    planned: mpsc::Sender<Planned>,
    planner: mpsc::Sender<planner::Order>,
    probes: mpsc::Sender<Probe>,
    processes: latest::Receiver<Processes>,
    needs: Arc<AtomicU64>,
    launch: Launch,
    keeper: latest::Receiver<desk::Report>,
    holding: Arc<Mutex<Holding>>,
    sight: latest::Sender<Sight>,
    /// The folder that serves, or is being loaded.
    serving: Option<PathBuf>,
    /// The load that serves.
    load: LoadNo,
    gate: Option<(No, Arc<AtomicBool>)>,
    watching: Option<Watching>,
    /// What the watch found wrong with what serves.
    alarm: Option<String>,
    topic: Topic,
    /// What was last logged: state, package and attempt.
    logged: Option<(&'static str, Option<String>, u8)>,
    trouble: Option<String>,
}

impl Pilot {
    fn run(mut self, first: Released, inbox: &mut mpsc::Receiver<Input>) {
        self.carry_out(first);
        while let Some(input) = inbox.blocking_recv() {
            self.take(input);
        }
    }

    fn take(&mut self, input: Input) {
        let now = self.clock.now().mono;
        let released = match input {
            Input::Heard(Heard::Load(load, end)) => self.loaded(load, &end),
            Input::Heard(Heard::Answer(load, answer)) => {
                self.on(|course| course.on_answer(no(load), answer, now))
            }
            Input::Heard(Heard::Hot(is_hot)) => {
                if is_hot {
                    self.stop_gate();
                }
                self.on(|course| {
                    if is_hot {
                        course.on_hot_trip()
                    } else {
                        Vec::new()
                    }
                })
            }
            Input::Heard(Heard::Mark { load, item, text }) => {
                self.marked(load, item, text.as_deref())
            }
            Input::Planned(Planned::Nothing(load)) => self.loaded(load, &LoadEnd::Serves),
            Input::Planned(Planned::Failed(load, why)) => self.loaded(load, &LoadEnd::Failed(why)),
            Input::Looked(Looked { ready, ring }) => self.on(|course| {
                let mut effects = ring.map_or_else(Vec::new, |ring| course.on_rollout(ring));
                effects.extend(ready.map_or_else(Vec::new, |it| course.on_ready(it)));
                effects
            }),
            Input::Order(order) => return self.follow(order),
            Input::Gate(gate, end) => {
                if self.gate.as_ref().is_some_and(|(own, _)| *own == gate) {
                    self.gate = None;
                }
                self.on(|course| course.on_gate(gate, end))
            }
            Input::Tick => {
                self.watch();
                let released = self.on(|course| course.on_tick(now));
                self.carry_out(released);
                // What a trial has counted by now.
                let course = self.helm.course().report();
                self.sight.send_modify(|sight| sight.course = course);
                return self.show();
            }
        };
        self.carry_out(released);
    }

    fn on(&mut self, input: impl FnOnce(&mut Course) -> Vec<Effect>) -> Released {
        self.helm.on(input)
    }

    fn loaded(&mut self, load: LoadNo, end: &LoadEnd) -> Released {
        let now = self.clock.now().mono;
        match end {
            LoadEnd::Serves => {
                self.load = load;
                self.on(|course| course.on_switched(no(load), now))
            }
            LoadEnd::Failed(why) => self.on(|course| course.on_switch_failed(no(load), why)),
            LoadEnd::Crashed(why) => self.on(|course| course.on_engine_crash(no(load), why)),
        }
    }

    fn follow(&mut self, order: Order) {
        let told = self.wished(order.wish).map(|released| {
            self.carry_out(released);
            self.look_around()
        });
        let _ = order.answer.send(told); // who has left needs no answer
    }

    fn wished(&mut self, wish: Wish) -> Result<Released, WheelError> {
        let refused = |it: Refusal| WheelError::Refused(it);
        match wish {
            Wish::Pin(id) => {
                let Ok(digest) = store::signed_in(&self.store(), &id) else {
                    return Err(WheelError::NotHere(id));
                };
                let named = Named { id, digest };
                self.helm.order(|it| it.pin(named)).map_err(refused)
            }
            Wish::Unpin => Ok(self.on(Course::unpin)),
            Wish::Rollback(why) => self.helm.order(|it| it.rollback(&why)).map_err(refused),
        }
    }

    fn store(&self) -> PathBuf {
        self.settings.state_dir.join(STORE)
    }

    fn carry_out(&mut self, released: Released) {
        let Released { effects, trouble } = released;
        let trouble = trouble.map(|it| it.to_string());
        if trouble != self.trouble {
            if let Some(error) = &trouble {
                tracing::error!(error, "where packages stand cannot be written");
            } else {
                tracing::info!("where packages stand can be written again");
            }
            self.trouble = trouble;
        }
        if !effects.is_empty() || self.trouble.is_some() {
            self.hold();
        }
        for effect in effects {
            match effect {
                Effect::Gate {
                    no,
                    package,
                    serving,
                } => self.begin_gate(no, package, serving),
                Effect::StopGate(_) => self.stop_gate(),
                Effect::Serve {
                    no,
                    package,
                    is_trial,
                } => self.serve(no, package.as_ref(), is_trial),
                Effect::Settle { current, .. } => self.holding().current = current,
                Effect::Tell(report) => {
                    self.log(&report);
                    self.look_around();
                    self.show();
                }
            }
        }
    }

    /// The keeper knows what stays and what is not tried again. While the journal cannot be written,
    /// nothing is let go of.
    fn hold(&self) {
        let mut holding = self.holding();
        let before = std::mem::take(&mut holding.held);
        holding.learn(self.helm.course().memory());
        if self.trouble.is_some() {
            holding.held.extend(before);
            holding.held.sort();
            holding.held.dedup();
        }
    }

    fn holding(&self) -> std::sync::MutexGuard<'_, Holding> {
        // It is replaced as a whole, so a thread that ended with the lock left a whole one.
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&mut self, no: No, package: Option<&Named>, is_trial: bool) {
        let folder = package.map(|it| store::folder_in(&self.store(), &it.id));
        let folder = folder.or_else(|| self.settings.model_package.clone());
        self.watching = None;
        self.alarm = None;
        self.serving.clone_from(&folder);
        let serve = Serve {
            load: LoadNo(no.0),
            folder,
            gate: package.and_then(|it| self.gate_of(it)),
            is_trial,
            hears: Some(self.planned.clone()),
        };
        let _ = self.planner.blocking_send(planner::Order::Serve(serve)); // it ends with the process
    }

    /// What the gate of a package found here.
    fn gate_of(&self, package: &Named) -> Option<(usize, usize)> {
        let memory = self.helm.course().memory();
        let candidate = memory
            .candidate
            .as_ref()
            .filter(|it| it.package == *package);
        let commit = memory
            .commits
            .iter()
            .rev()
            .find(|it| it.package == *package);
        let findings = candidate.map(|it| it.findings.as_ref());
        let findings = findings.or(commit.map(|it| it.findings.as_ref())).flatten();
        findings.map(Findings::overall).filter(|(_, of)| *of > 0)
    }

    fn begin_gate(&mut self, no: No, package: Named, serving: Option<Findings>) {
        let stop = Arc::new(AtomicBool::new(false));
        self.gate = Some((no, Arc::clone(&stop)));
        let job = gate::Job {
            folder: store::folder_in(&self.store(), &package.id),
            package,
            before: self.serving.clone(),
            recorded: serving,
            engine: self.settings.engine.clone(),
            key: self.settings.at_rest.device_key.clone(),
            board: self.board,
            needs: self.needs.load(Ordering::Relaxed),
            planner: self.planner.clone(),
            processes: self.processes.clone(),
            launch: self.launch.clone(),
            stop,
        };
        let inputs = self.inputs.clone();
        let begun = std::thread::Builder::new()
            .name("gate".into())
            .spawn(move || {
                let end = job.run();
                let _ = inputs.blocking_send(Input::Gate(no, end)); // it ends with the process
            });
        if let Err(error) = begun {
            tracing::error!(%error, "the gate's thread");
            let released = self.on(|course| course.on_gate(no, GateEnd::Interrupted));
            self.carry_out(released);
        }
    }

    /// Its end is told all the same; if the course still waits for it, as one that was interrupted.
    fn stop_gate(&self) {
        if let Some((_, stop)) = &self.gate {
            stop.store(true, Ordering::Relaxed);
        }
    }

    /// Each step once; where it stood at the start is no news.
    fn log(&mut self, report: &crate::ota::course::Report) {
        let step = (report.state, report.package.clone(), report.attempt);
        let before = self.logged.replace(step.clone());
        if before.is_none_or(|before| before == step) {
            return;
        }
        let package = report.package.clone().unwrap_or_default();
        let reason = report.reason.clone().unwrap_or_default();
        match report.state {
            "idle" => {}
            "rolled_back" | "withdrawn" => {
                tracing::warn!(
                    package,
                    state = report.state,
                    reason,
                    "a package was taken back"
                );
            }
            state => tracing::info!(package, state, "a package on its way"),
        }
    }

    /// Everything that there is to see, for the console.
    fn look_around(&mut self) -> Sight {
        let configured = self.settings.model_package.as_deref();
        let here = store::packages_in(&self.store()).unwrap_or_default();
        let sight = Sight::of(self.helm.course(), configured.map(shown), &here);
        self.sight.send_replace(sight.clone());
        sight
    }

    /// What the topic says, if that is another word than before.
    fn show(&mut self) {
        let now = self.clock.now().mono;
        let course = self.helm.course().report();
        let keeper = self.keeper.borrow();
        self.topic
            .show(&course, &keeper, self.alarm.as_deref(), now);
    }
}

fn no(load: LoadNo) -> No {
    No(load.0)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
