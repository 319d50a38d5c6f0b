//! The task around the supervisor: processes, sockets, and nothing that decides.
//!
//! Each process is this very program, started as `lineside engine` with one end of a socket pair
//! as its standard input. A task of its own tends it:
//!
//! ```text
//!  commands ─► ┌─────┐ ── frames, bounded ──► ┌──────┐ ══ socket ══► ┌────────┐
//!   events ◄── │ run │                        │ tend │               │ engine │
//!              └─────┘ ◄─ frames, then exit ─ └──────┘ ◄═ socket ═══ └────────┘
//! ```
//!
//! Invariants:
//!
//! - Nothing here waits for a process: one that does not read what it is told counts as stuck,
//!   and is ended.
//! - What a process said before its end is heard before its end.
//! - Work is never behind more than one piece of a beginning that is brought back.
//! - A process is ended when its number is let go of, and when this task is dropped.
//! - Of what a process prints, only lines of known kinds reach the log, cut and counted: native
//!   code may print whatever it was given.

mod environment;
mod running;
mod start;
mod words;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};

pub use environment::{ENVIRONMENT, environment};
pub use running::{Processes, Running};

use start::{Process, lead, lead_sealed, start};
use words::{is_sigkill, tell, told};

use super::cage::Guard;
use super::handover::{Opened, Sealed};
use super::protocol::{Allowance, Frames, FromEngine, ToEngine, frame};
use super::stockroom::Stockroom;
use super::supervise::{ChildNo, Delivery, Effects, Errand, Supervisor, Wanted};
use super::{Command, Event};
use crate::clock::Clock;
use crate::service::EngineGroup;

/// What it is called among processes.
const NAME: &str = "lineside";
/// The subcommand that makes this program an engine.
pub const SUBCOMMAND: &str = "engine";
/// Frames that may wait for a process to read them: more than the work that it may have.
const OUTGOING: usize = 1024;
/// Pieces of beginnings that may wait behind them: what is read ahead of a process.
const RESTORED: usize = 4;
/// Frames that may wait to be heard, of all processes together.
const INCOMING: usize = 1024;
/// Inputs taken in one turn.
const MAX_INPUTS_A_TURN: usize = 256;
/// Bytes read at once: some hundred frames.
const READ_BYTES: usize = 64 << 10;
/// The longest that the task sleeps: the watchdog wants to hear from it.
const BEAT: Duration = Duration::from_millis(500);
/// How long a process may take to end once its socket is closed.
const PARTING: Duration = Duration::from_millis(500);

/// Where inputs come from and events go.
#[derive(Debug)]
pub struct Ends {
    /// What the dispatcher wants; the task ends when nobody can want anything any more.
    pub commands: mpsc::Receiver<Command>,
    /// What the dispatcher hears.
    pub events: mpsc::Sender<Event>,
    /// What is to be served.
    pub wanted: watch::Receiver<Wanted>,
    /// How much may run; none until somebody says.
    pub allowance: watch::Receiver<Option<Allowance>>,
    /// Where beginnings are kept for the next start, if anywhere.
    pub stockroom: Option<Stockroom>,
    /// Told which processes there are, for whoever watches what they take.
    pub processes: watch::Sender<Processes>,
}

/// How a process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// What it is called with.
    pub arguments: Vec<String>,
    /// The control group that its processes are moved into, if there is one.
    pub group: Option<EngineGroup>,
}

impl Default for Launch {
    /// This very program, even if its file was replaced meanwhile.
    fn default() -> Self {
        Self {
            program: "/proc/self/exe".into(),
            arguments: vec![SUBCOMMAND.into()],
            group: None,
        }
    }
}

/// A process, as the task knows it.
#[derive(Debug)]
struct Line {
    outgoing: mpsc::Sender<ToEngine>,
    /// For what may wait: it goes when nothing else is to be said.
    restored: mpsc::Sender<ToEngine>,
    /// Used or dropped, it ends the process.
    hold: oneshot::Sender<&'static str>,
    /// None if it could not be started.
    running: Option<Running>,
}

/// What comes from a process.
#[derive(Debug)]
enum Input {
    Frame(FromEngine),
    /// It runs only now, because what it loads had to be opened first.
    Began(Running),
    /// Not from itself, but from the stockroom.
    Delivery(Delivery),
    Exit(Parted),
}

/// The end of a process.
#[derive(Debug)]
struct Parted {
    why: String,
    /// Somebody else killed it.
    killed: bool,
}

impl From<String> for Parted {
    fn from(why: String) -> Self {
        Self { why, killed: false }
    }
}

type Inputs = mpsc::Sender<(ChildNo, Input)>;

/// Runs engines until nobody wants any more. `beat` is called at each turn.
pub async fn run(
    mut supervisor: Supervisor,
    launch: Launch,
    mut ends: Ends,
    clock: Clock,
    beat: impl Fn(),
) {
    let (inputs, mut heard) = mpsc::channel(INCOMING);
    let mut crew = Crew {
        launch,
        inputs,
        lines: HashMap::new(),
        killed: 0,
        stockroom: ends.stockroom.take(),
    };
    serve(
        &mut supervisor,
        &mut crew,
        &mut heard,
        &mut ends,
        clock,
        beat,
    )
    .await;
    // Each process is ended with its line, and its task says so last.
    drop(crew);
    while heard.recv().await.is_some() {}
}

/// Returns when the dispatcher is gone.
async fn serve(
    supervisor: &mut Supervisor,
    crew: &mut Crew,
    heard: &mut mpsc::Receiver<(ChildNo, Input)>,
    ends: &mut Ends,
    clock: Clock,
    beat: impl Fn(),
) {
    supervisor.on_wanted(ends.wanted.borrow_and_update().clone(), clock.now().mono);
    loop {
        beat();
        let effects = supervisor.take_effects();
        if crew.carry_out(effects, &ends.events).await.is_err() {
            return;
        }
        crew.tell_processes(&ends.processes);
        let now = clock.now().mono;
        let due = supervisor.deadline().map(|(at, _why)| at);
        let wake = due.map_or(now.after(BEAT), |at| at.min(now.after(BEAT)));
        tokio::select! {
            biased;
            Some((child, input)) = heard.recv() => {
                hear(supervisor, crew, child, input, clock);
            }
            command = ends.commands.recv() => match command {
                Some(command) => supervisor.on_command(command, clock.now().mono),
                None => return,
            },
            Ok(()) = ends.wanted.changed() => {
                let wanted = ends.wanted.borrow_and_update().clone();
                supervisor.on_wanted(wanted, clock.now().mono);
            }
            Ok(()) = ends.allowance.changed() => {
                let allowance = *ends.allowance.borrow_and_update();
                if let Some(allowance) = allowance {
                    supervisor.on_allowance(allowance);
                }
            }
            () = sleep_until(clock.instant(wake).into()) => {}
        }
        // Neither side may keep the other waiting, however much it says; and nobody counts as
        // silent who was not listened to.
        let mut all_heard = false;
        for _ in 0..MAX_INPUTS_A_TURN {
            let Ok((child, input)) = heard.try_recv() else {
                all_heard = true;
                break;
            };
            hear(supervisor, crew, child, input, clock);
        }
        let now = clock.now().mono;
        if all_heard && supervisor.deadline().is_some_and(|(at, _why)| at <= now) {
            supervisor.on_timeout(now);
        }
        for _ in 0..MAX_INPUTS_A_TURN {
            let Ok(command) = ends.commands.try_recv() else {
                break;
            };
            supervisor.on_command(command, clock.now().mono);
        }
    }
}

fn hear(supervisor: &mut Supervisor, crew: &mut Crew, child: ChildNo, input: Input, clock: Clock) {
    let now = clock.now().mono;
    match input {
        Input::Frame(mut frame) => {
            if let FromEngine::Beat(beat) = &frame {
                crew.note_threads(child, beat.threads);
            }
            if let FromEngine::Ready(facts) = &mut frame {
                // Of what was done to it from outside it knows nothing.
                if !crew.is_limited(child) {
                    facts.unguarded.push(Guard::Memory);
                }
                complain(&facts.unguarded);
            }
            supervisor.on_frame(child, frame, now);
        }
        Input::Began(running) => {
            if let Some(line) = crew.lines.get_mut(&child) {
                line.running = Some(running);
            }
        }
        Input::Delivery(delivery) => supervisor.on_delivery(child, delivery, now),
        Input::Exit(parted) => {
            crew.lines.remove(&child);
            crew.killed += u32::from(parted.killed);
            supervisor.on_exit(child, &parted.why, now);
        }
    }
}

/// What is missing is never passed over in silence.
fn complain(unguarded: &[Guard]) {
    if !unguarded.is_empty() {
        let missing: Vec<_> = unguarded.iter().map(|guard| guard.word()).collect();
        tracing::warn!(
            reason = missing.join(", "),
            "not every guard is around the engine"
        );
    }
}

/// The processes that run.
struct Crew {
    launch: Launch,
    inputs: Inputs,
    lines: HashMap<ChildNo, Line>,
    killed: u32,
    stockroom: Option<Stockroom>,
}

/// The dispatcher is gone.
struct Alone;

impl Crew {
    async fn carry_out(
        &mut self,
        effects: Effects,
        events: &mpsc::Sender<Event>,
    ) -> Result<(), Alone> {
        for child in effects.spawn {
            let model = effects.frames.iter().find_map(|(to, frame)| match frame {
                ToEngine::Load(load) if *to == child => Some(Path::new(&load.model)),
                ToEngine::Load(_)
                | ToEngine::Start(_)
                | ToEngine::Cancel(_)
                | ToEngine::Allow(_)
                | ToEngine::Evict { .. }
                | ToEngine::SavePrefix { .. }
                | ToEngine::RestorePrefix(_)
                | ToEngine::Files { .. }
                | ToEngine::Shutdown => None,
            });
            let sealed = effects.sealed.iter().find(|(to, _)| *to == child);
            let sealed = sealed.map(|(_, sealed)| sealed.clone()).unwrap_or_default();
            self.spawn(child, model, sealed);
        }
        for (child, frame) in effects.frames {
            self.send(child, frame);
        }
        for errand in effects.errands {
            self.run_errand(errand);
        }
        for child in effects.kill {
            self.lines.remove(&child);
        }
        for event in effects.events {
            if let Event::Report(report) = &event {
                tracing::info!(
                    state = report.word,
                    package = report.package.as_deref(),
                    reason = report.why.as_deref(),
                    "engine"
                );
            }
            // The dispatcher never waits for this task, so this wait is short.
            events.send(event).await.map_err(|_| Alone)?;
        }
        Ok(())
    }

    fn tell_processes(&self, to: &watch::Sender<Processes>) {
        let running = self.lines.values().filter_map(|line| line.running.clone());
        Processes::tell(running, self.killed, to);
    }

    /// Whether a process has a limit of memory of its own.
    fn is_limited(&self, child: ChildNo) -> bool {
        let running = self
            .lines
            .get(&child)
            .and_then(|line| line.running.as_ref());
        running.is_some_and(|it| it.is_limited)
    }

    fn note_threads(&mut self, child: ChildNo, threads: u16) {
        let line = self.lines.get_mut(&child);
        if let Some(running) = line.and_then(|line| line.running.as_mut()) {
            running.threads = Some(threads);
        }
    }

    fn spawn(&mut self, child: ChildNo, model: Option<&Path>, sealed: Sealed) {
        let (outgoing, frames) = mpsc::channel(OUTGOING);
        let (restored, pieces) = mpsc::channel(RESTORED);
        let (hold, held) = oneshot::channel();
        let frames = Outgoing { frames, pieces };
        let inputs = self.inputs.clone();
        let mut running = None;
        if sealed.is_empty() {
            let started = start(&self.launch, environment(model), Opened::default());
            running = started.as_ref().ok().and_then(Process::running);
            tokio::spawn(async move {
                let parted = lead(child, started, frames, held, &inputs).await;
                // Without anybody to hear it, the end is everybody's.
                let _ = inputs.send((child, Input::Exit(parted))).await;
            });
        } else {
            let (launch, environment) = (self.launch.clone(), environment(model));
            tokio::spawn(async move {
                let parted =
                    lead_sealed(child, (launch, environment), sealed, frames, held, &inputs).await;
                let _ = inputs.send((child, Input::Exit(parted))).await; // the same
            });
        }
        let line = Line {
            outgoing,
            restored,
            hold,
            running,
        };
        self.lines.insert(child, line);
    }

    /// The stockroom works on its own thread; what it says comes in like what a process says.
    fn run_errand(&mut self, errand: Errand) {
        let Some(stockroom) = &self.stockroom else {
            return;
        };
        let inputs = self.inputs.clone();
        match errand {
            Errand::Fetch(child, keys) => {
                let Some(line) = self.lines.get(&child) else {
                    return;
                };
                let kept = stockroom.fetch(keys, line.restored.clone());
                tokio::spawn(async move {
                    let delivery = Delivery::Fetched(kept.await.unwrap_or_default());
                    let _ = inputs.send((child, Input::Delivery(delivery))).await;
                });
            }
            Errand::Put(child, key, piece) => {
                let written = stockroom.put(key, piece);
                tokio::spawn(async move {
                    let delivery = Delivery::Put(written.await.unwrap_or(false));
                    let _ = inputs.send((child, Input::Delivery(delivery))).await;
                });
            }
            Errand::Keep(keys) => stockroom.keep(keys),
        }
    }

    fn send(&mut self, child: ChildNo, frame: ToEngine) {
        let Some(line) = self.lines.get(&child) else {
            return;
        };
        if let Err(TrySendError::Full(_)) = line.outgoing.try_send(frame)
            && let Some(line) = self.lines.remove(&child)
        {
            let _ = line.hold.send("it does not read what it is told"); // or it is gone already
        }
    }
}

/// What is to be said to a process: frames in their order, and pieces in the gaps.
struct Outgoing {
    frames: mpsc::Receiver<ToEngine>,
    pieces: mpsc::Receiver<ToEngine>,
}

impl Outgoing {
    async fn next(&mut self) -> Option<ToEngine> {
        tokio::select! {
            biased;
            Some(frame) = self.frames.recv() => Some(frame),
            Some(piece) = self.pieces.recv() => Some(piece),
            else => None,
        }
    }
}

/// Moves frames both ways until the process is gone or let go of; returns how it ended.
async fn tend(
    no: ChildNo,
    process: Process,
    frames: Outgoing,
    held: oneshot::Receiver<&'static str>,
    inputs: &Inputs,
) -> Parted {
    let Process {
        mut child, socket, ..
    } = process;
    let pid = child.id();
    tracing::debug!(pid, "an engine process was started");
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(tell(stderr, pid));
    }
    let (from, to) = socket.into_split();
    let end = tokio::select! {
        end = listen(no, from, inputs) => end,
        end = speak(to, frames) => end,
        why = held => why.ok().map(|why| End::Faulty(why.into())),
    };
    // One that closed its socket is ending and may do so in peace; any other is ended.
    let status = match end {
        Some(End::Closed) => timeout(PARTING, child.wait()).await.ok(),
        Some(End::Faulty(_)) | None => None,
    };
    let went_alone = status.is_some();
    let status = match status {
        Some(status) => status,
        None => match child.start_kill() {
            Ok(()) => child.wait().await,
            Err(error) => Err(error),
        },
    };
    match (end, status) {
        (Some(End::Faulty(why)), _) => why.into(),
        (Some(End::Closed), Ok(status)) => Parted {
            why: told(status),
            killed: went_alone && is_sigkill(status),
        },
        (None, Ok(status)) => told(status).into(),
        (_, Err(error)) => format!("its end is unknown: {error}").into(),
    }
}

/// Why nothing more goes over a socket.
enum End {
    Closed,
    Faulty(String),
}

async fn listen(no: ChildNo, mut from: OwnedReadHalf, inputs: &Inputs) -> Option<End> {
    let mut frames = Frames::default();
    let mut bytes = vec![0; READ_BYTES];
    loop {
        match from.read(&mut bytes).await {
            Ok(0) | Err(_) => return Some(End::Closed),
            Ok(count) => frames.extend(&bytes[..count]),
        }
        loop {
            match frames.take::<FromEngine>() {
                Ok(Some(frame)) => {
                    if inputs.send((no, Input::Frame(frame))).await.is_err() {
                        return None;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    return Some(End::Faulty(format!("it cannot be understood: {error}")));
                }
            }
        }
    }
}

/// Ends only with a fault of this side: what the other side closes is heard by [`listen`], after
/// all that was said before.
async fn speak(mut to: OwnedWriteHalf, mut frames: Outgoing) -> Option<End> {
    while let Some(message) = frames.next().await {
        let bytes = match frame(&message) {
            Ok(bytes) => bytes,
            Err(error) => return Some(End::Faulty(format!("it cannot be told: {error}"))),
        };
        if to.write_all(&bytes).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}
