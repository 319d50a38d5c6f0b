//! An engine with slots, moods and poison.

use std::collections::VecDeque;
use std::time::Duration;

use lineside::engine::{Command, Completion, Event, Fault, FreeChoice, Job, LoadNo, Model, State};
use lineside::intake::{Classification, Code};
use lineside::ticket::TicketNo;

use crate::cloud::SECRET;

/// A request with this in its text kills the engine, always.
pub(crate) const POISON: &str = "poison";
/// A request with this in its text does not fit into the engine's context, ever.
pub(crate) const TOO_LONG: &str = "endless";

/// Of a request with this in its text the engine is never sure.
pub(crate) const UNSURE: &str = "perhaps";

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) state: State,
    pub(crate) slots: u32,
    pub(crate) slow_ms: u64,
    jobs: Vec<(Job, Duration)>,
    pub(crate) commands: VecDeque<Command>,
    pub(crate) events: VecDeque<Event>,
    ready_at: Option<Duration>,
    answers: u64,
}

impl Engine {
    pub(crate) fn new(state: State, slots: u32, slow_ms: u64) -> Self {
        let mut engine = Self {
            state,
            slots,
            slow_ms,
            jobs: Vec::new(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
            ready_at: None,
            answers: 0,
        };
        engine.begin(Duration::ZERO);
        engine
    }

    /// With a new process comes a new engine.
    pub(crate) fn begin(&mut self, at: Duration) {
        self.jobs.clear();
        self.commands.clear();
        self.events.clear();
        if self.state == State::Absent {
            self.events.push_back(Event::State(State::Absent));
        } else {
            self.state = State::Starting;
            self.ready_at = Some(at + Duration::from_millis(300));
        }
    }

    /// When something happens by itself.
    pub(crate) fn next(&self) -> Option<Duration> {
        let jobs = self.jobs.iter().map(|(_, done)| *done);
        jobs.chain(self.ready_at).min()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.commands.is_empty() && self.events.is_empty()
    }

    pub(crate) fn take_command(&mut self, at: Duration, rng: &mut fastrand::Rng, moody: bool) {
        match self.commands.pop_front() {
            Some(Command::Start(job)) => {
                let ready = matches!(self.state, State::Ready { .. });
                let full = self.jobs.len() >= self.slots as usize;
                if !ready || full || (moody && rng.u8(..) < 20) {
                    self.end(job.ticket, Err(Fault::Busy));
                    return;
                }
                if job.request.ask.text().contains(TOO_LONG) {
                    let code = Code::OverContext;
                    let message = "it does not fit".into();
                    self.end(job.ticket, Err(Fault::Refused { code, message }));
                    return;
                }
                let spread = if moody { rng.u64(0..=self.slow_ms) } else { 5 };
                self.jobs.push((job, at + Duration::from_millis(spread)));
            }
            // A cancelled job may stop at once or be found too late to stop.
            Some(Command::Cancel(no)) if rng.bool() => {
                self.jobs.retain(|(job, _)| job.ticket != no);
            }
            Some(Command::Cancel(_)) | None => {}
        }
    }

    pub(crate) fn pass(&mut self, at: Duration) {
        if self.ready_at.is_some_and(|ready| ready <= at) {
            self.ready_at = None;
            self.state = State::Ready { slots: self.slots };
            self.events.push_back(Event::State(self.state));
        }
        let (done, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.jobs)
            .into_iter()
            .partition(|(_, done)| *done <= at);
        self.jobs = rest;
        let mut done = done.into_iter();
        while let Some((job, due)) = done.next() {
            if job.request.ask.text().contains(POISON) {
                self.jobs.push((job, due));
                self.jobs.extend(done);
                self.crash(at);
                return;
            }
            self.answers += 1;
            let text = if self.answers.is_multiple_of(3) {
                "same".into()
            } else {
                format!("answer {}", self.answers)
            };
            let text = if job.request.classification == Classification::Restricted {
                format!("{text} {SECRET}")
            } else {
                text
            };
            let unsure = job.request.ask.text().contains(UNSURE);
            let confidence = if unsure { 0.3 } else { 0.9 };
            self.end(
                job.ticket,
                Ok(Completion {
                    confidence,
                    ..completion(text)
                }),
            );
        }
    }

    pub(crate) fn crash(&mut self, at: Duration) {
        if self.state == State::Absent {
            return;
        }
        for (job, _) in std::mem::take(&mut self.jobs) {
            self.end(job.ticket, Err(Fault::Crashed));
        }
        if self.state != State::Starting {
            self.state = State::Starting;
            self.events.push_back(Event::State(State::Starting));
        }
        self.ready_at = Some(at + Duration::from_millis(200));
    }

    fn end(&mut self, ticket: TicketNo, result: Result<Completion, Fault>) {
        let load = LoadNo(1);
        self.events.push_back(Event::Ended {
            ticket,
            result,
            load,
        });
    }
}

pub(crate) fn completion(text: String) -> Completion {
    Completion {
        text,
        confidence: 0.9,
        free: vec![FreeChoice {
            logprob: -0.25,
            entropy: 0.5,
        }],
        model: Model {
            package: "simulated".into(),
            seq: 1,
            digest: "sha256:00".into(),
            prompt_version: "1".into(),
            standing: None,
        },
        first_token_ms: 1.0,
        ..Completion::default()
    }
}
