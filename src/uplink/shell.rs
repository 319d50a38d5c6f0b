//! The task around the desk: commands and answers in, calls and events out, and nothing else.
//!
//! Each call is a task of its own, so that a slow upstream holds up nobody. Marks are on the disk
//! before the calls of the same turn begin; a disk that fails is told in the log, and the budgets
//! go on in memory.
//!
//! It ends when the dispatcher does: calls under way are broken off, their errands are in the
//! spool.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::sleep_until;

use super::desk::{Call, CallNo, Desk, Effects, Outcome};
use super::openai::{self, Client, SetupError};
use super::{Billed, Command, Event, Fault, Marks, Settings, Spending, chat, keep};
use crate::clock::Clock;

/// The longest that the task sleeps: the watchdog wants to hear from it.
const BEAT: Duration = Duration::from_millis(500);

/// Where commands come from and events go.
#[derive(Debug)]
pub struct Ends {
    /// From the dispatcher.
    pub commands: mpsc::Receiver<Command>,
    /// To the dispatcher.
    pub events: mpsc::Sender<Event>,
    /// To whoever shows what the budgets look like.
    pub spending: watch::Sender<Vec<(String, Spending)>>,
}

/// Asks upstreams until nobody wants any more. `seed` is for the jitter of the pauses; `beat` is
/// called at each turn.
pub async fn run(
    settings: Settings,
    mut ends: Ends,
    clock: Clock,
    seed: u64,
    beat: impl Fn(),
) -> Result<(), SetupError> {
    openai::check(&settings)?;
    let kept_in = settings.kept_in.clone();
    let clients = settings.upstreams.iter().map(Client::new);
    let mut calls = Calls {
        clients: clients.collect::<Result<_, _>>()?,
        clock,
        tasks: JoinSet::new(),
        by_task: HashMap::new(),
        by_call: HashMap::new(),
    };
    let kept = kept_marks(&kept_in);
    let mut desk = Desk::new(settings, kept, seed, clock.now());
    serve(&mut desk, &mut calls, &mut ends, &kept_in, beat).await;
    calls.tasks.shutdown().await;
    keep_marks(&kept_in, desk.closing()).await;
    Ok(())
}

/// Returns when the dispatcher is gone.
async fn serve(
    desk: &mut Desk,
    calls: &mut Calls,
    ends: &mut Ends,
    kept_in: &Path,
    beat: impl Fn(),
) {
    let clock = calls.clock;
    loop {
        beat();
        let effects = desk.take_effects();
        if carry_out(effects, calls, ends, kept_in).await.is_err() {
            return;
        }
        let spending = desk.spending(clock.now());
        ends.spending.send_if_modified(|told| {
            let is_news = *told != spending;
            *told = spending;
            is_news
        });
        let now = clock.now().mono;
        let due = desk.deadline().map(|(at, _why)| at);
        let wake = due.map_or(now.after(BEAT), |at| at.min(now.after(BEAT)));
        tokio::select! {
            biased;
            Some(ended) = calls.tasks.join_next_with_id() => {
                if let Some((no, outcome)) = calls.ended(ended) {
                    desk.on_outcome(no, outcome, clock.now());
                }
            }
            command = ends.commands.recv() => match command {
                Some(command) => desk.on_command(command, clock.now()),
                None => return,
            },
            () = sleep_until(clock.instant(wake).into()) => {
                let now = clock.now();
                if due.is_some_and(|due| due <= now.mono) {
                    desk.on_timeout(now);
                }
            }
        }
    }
}

async fn carry_out(
    effects: Effects,
    calls: &mut Calls,
    ends: &Ends,
    kept_in: &Path,
) -> Result<(), mpsc::error::SendError<Event>> {
    if let Some(marks) = effects.marks {
        keep_marks(kept_in, marks).await;
    }
    for no in effects.aborts {
        calls.abort(no);
    }
    for call in effects.calls {
        calls.begin(call);
    }
    for event in effects.events {
        ends.events.send(event).await?;
    }
    Ok(())
}

/// The calls under way, each a task.
struct Calls {
    clients: Vec<Client>,
    clock: Clock,
    tasks: JoinSet<Outcome>,
    by_task: HashMap<Id, CallNo>,
    by_call: HashMap<CallNo, AbortHandle>,
}

impl Calls {
    fn begin(&mut self, call: Call) {
        let (client, clock) = (self.clients[call.upstream].clone(), self.clock);
        let no = call.no;
        let task = self.tasks.spawn(async move {
            let body = chat::body(client.model(), &call.question);
            let heard = client.carry(&call.key, body, call.limit).await;
            chat::read(heard, &call.question, clock.now().wall)
        });
        self.by_task.insert(task.id(), no);
        self.by_call.insert(no, task);
    }

    fn abort(&mut self, no: CallNo) {
        if let Some(task) = self.by_call.get(&no) {
            task.abort();
        }
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>) -> Option<(CallNo, Outcome)> {
        let (task, outcome) = match ended {
            Ok((task, outcome)) => (task, outcome),
            Err(error) => {
                // Broken off, which the desk knows; or a defect, which costs one call.
                let result = Err(Fault::Broken);
                let billed = Billed::Unknown;
                (error.id(), Outcome { result, billed })
            }
        };
        let no = self.by_task.remove(&task)?;
        self.by_call.remove(&no);
        Some((no, outcome))
    }
}

fn kept_marks(path: &Path) -> BTreeMap<String, Marks> {
    keep::load(path).unwrap_or_else(|error| {
        tracing::error!(path = %path.display(), %error, "the cloud's budgets begin anew");
        BTreeMap::new()
    })
}

async fn keep_marks(path: &Path, marks: BTreeMap<String, Marks>) {
    let path = PathBuf::from(path);
    let told = path.display().to_string();
    let stored = tokio::task::spawn_blocking(move || keep::store(&path, &marks)).await;
    if let Ok(Err(error)) = stored {
        tracing::error!(path = told, %error, "the cloud's budgets cannot be kept");
    }
}
