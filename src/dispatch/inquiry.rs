//! Questions from the appliance's own surfaces: ask, status, trace.

use std::collections::HashMap;

use serde::Serialize;

use super::doors::{Doors, Maintenance};
use super::latest::{Latest, Wanted};
use super::lessons::{Lesson, Lessons};
use super::moves::read_home;
use super::store::Pending;
use super::{Dispatch, MAX_QUESTIONS, Phase, engine};
use crate::clock::{Now, Wall};
use crate::engine::Standing;
use crate::governor::{Allowance, Taken};
use crate::intake::{Client, Code, Priority, Topics};
use crate::review::desk::From;
use crate::router::Reach;
use crate::spool::forms::{Filed, Waiting, read_step};
use crate::spool::{Numbered, Tree};
use crate::ticket::{Known, MAX_STEPS, State, Step, What};
use crate::{review, uplink};

/// Names whoever asked, so that the answer finds the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNo(pub u64);

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inquiry {
    /// Answer this request, as one that came over MQTT.
    Ask(Vec<u8>),
    /// How are you?
    Status,
    /// What became of this id?
    Trace(String),
    /// What was learnt of reviewers?
    Learned(Lesson),
    /// What waits for a person, and what one says.
    Review(review::Asked),
    /// The same, for somebody who is not at the appliance.
    ReviewElsewhere(review::Asked),
    /// Which requests came last?
    Latest(Wanted),
    /// Is anything new let in? With doors, it is so from now on.
    Maintenance(Option<Doors>),
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The reply to [`Inquiry::Ask`], as a device would get it.
    Reply(Vec<u8>),
    /// To [`Inquiry::Status`].
    Status(Box<StatusReport>),
    /// To [`Inquiry::Trace`]; one for each client that used the id.
    Trace(Vec<Timeline>),
    /// To [`Inquiry::Learned`].
    Learned(Lessons),
    /// To [`Inquiry::Review`] and [`Inquiry::ReviewElsewhere`].
    Review(Result<review::Told, review::Refusal>),
    /// To [`Inquiry::Latest`].
    Latest(Latest),
    /// To [`Inquiry::Maintenance`].
    Maintenance(Maintenance),
}

/// How the appliance is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StatusReport {
    /// Its name.
    pub appliance: String,
    /// The version of its software.
    pub version: &'static str,
    /// `online`, `offline`, `maintenance` or `draining`.
    pub state: &'static str,
    /// Whether there is a broker.
    pub broker_online: bool,
    /// Why there is no broker, where there is none.
    pub broker_why: Option<String>,
    /// `absent`, `starting`, `ready`, `unloaded`, `restarting` or `unloadable`.
    pub engine: &'static str,
    /// Why it is so, where there is a reason.
    pub engine_why: Option<String>,
    /// The package that it serves.
    pub package: Option<String>,
    /// How it came to serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// How often the engine's process ended without being asked to.
    pub engine_crashes: u64,
    /// What is missing of the cage around the engine's process: `files`, `calls`, `privileges`,
    /// `limits`, `oom`, `memory`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub engine_unguarded: Vec<&'static str>,
    /// `well` or `failing`.
    pub store: &'static str,
    /// Requests without an outcome.
    pub open: usize,
    /// Of those, being computed.
    pub running: u32,
    /// Of those, waiting on disk.
    pub waiting: u64,
    /// Of those, waiting for a model elsewhere, or being asked there.
    pub away: usize,
    /// Of those, waiting for a person.
    pub pending: usize,
    /// Each model elsewhere, and whether it can be asked: `open`, `resting` or `spent`.
    pub cloud: Vec<(String, &'static str)>,
    /// What is missing now: `engine`, `cloud`.
    pub reduced: Vec<&'static str>,
    /// What the governor allows.
    pub governor: Governed,
    /// Replies that the broker does not have yet.
    pub outbox: u64,
    /// Outcomes on record.
    pub outcomes: usize,
    /// Bytes alive on disk, by tree.
    pub bytes: Vec<(&'static str, u64)>,
    /// What was counted since the start.
    pub counts: Vec<(&'static str, &'static str, u64)>,
}

/// What the governor allows, and where the temperature is going.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Governed {
    /// `nominal`, `warm`, `hot` or `critical`.
    pub state: &'static str,
    /// What is short, where the edge does not take everything: `hot` or `memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short: Option<&'static str>,
    /// The temperature nearest to its limit; this and what follows only where there is a sensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub celsius: Option<f32>,
    /// That limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_celsius: Option<f32>,
    /// The temperature in a minute, if everything stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead_celsius: Option<f32>,
    /// When the limit would be reached, if ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_in_s: Option<u64>,
    /// Rest after each pass, in thousandths of its time.
    pub rest_permille: u16,
    /// In words, where there is something to say.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub why: String,
}

/// Where no governor has said anything.
impl Default for Governed {
    fn default() -> Self {
        Self::of(&Allowance::default(), None)
    }
}

impl Governed {
    fn of(allowance: &Allowance, short: Option<Code>) -> Self {
        let forecast = allowance.forecast;
        Self {
            state: allowance.state.name(),
            short: short.map(Code::word),
            celsius: forecast.map(|it| it.celsius),
            limit_celsius: forecast.map(|it| it.limit_celsius),
            ahead_celsius: forecast.map(|it| it.ahead_celsius),
            limit_in_s: forecast.and_then(|it| it.limit_in).map(|it| it.as_secs()),
            rest_permille: allowance.rest_permille,
            why: allowance.why.clone(),
        }
    }
}

/// A request's life, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// Its id.
    pub id: String,
    /// Whose.
    pub client: String,
    /// Its ticket.
    pub ticket: u64,
    /// Where it stands.
    pub state: &'static str,
    /// The rule that decided, once one did.
    pub rule: Option<String>,
    /// How it ended, once it did.
    pub verdict: Option<String>,
    /// What happened, oldest first.
    pub steps: Vec<TimelineStep>,
}

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimelineStep {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// What happened.
    pub what: String,
}

/// Tickets shown for one id.
const MAX_TIMELINES: usize = 16;

/// A piece of a timeline, read from the spool.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// The record of an open ticket, in this tree.
    Home(Tree),
    Outcome,
    /// The last piece of a ticket.
    Trail,
}

/// Timelines in the making, by a number of their own: a session may ask again before it has
/// its answer.
pub(super) type Drafts = HashMap<u64, Draft>;

#[derive(Debug)]
pub(super) struct Draft {
    session: SessionNo,
    done: Vec<Timeline>,
    current: Timeline,
    open_parts: usize,
}

impl Dispatch {
    /// Somebody at the appliance wants something; the answer comes in [`super::Effects::answers`].
    pub fn on_inquiry(&mut self, session: SessionNo, inquiry: Inquiry, now: Now) {
        match inquiry {
            Inquiry::Ask(payload) => self.on_local_ask(session, &payload, now),
            Inquiry::Status => {
                let report = Box::new(self.status());
                self.out.answers.push((session, Answer::Status(report)));
            }
            Inquiry::Trace(id) => self.trace(session, &id),
            Inquiry::Learned(lesson) => {
                let lessons = self.on_lesson(&lesson, now);
                self.out.answers.push((session, Answer::Learned(lessons)));
            }
            Inquiry::Review(asked) => self.on_review(session, From::Here, asked, now),
            Inquiry::ReviewElsewhere(asked) => {
                self.on_review(session, From::Elsewhere, asked, now);
            }
            Inquiry::Latest(wanted) => self.list_latest(session, wanted),
            Inquiry::Maintenance(doors) => self.on_maintenance(session, doors),
        }
        self.work(now);
    }

    /// How the appliance is.
    pub fn status(&self) -> StatusReport {
        let engine = self.engine.report.clone().unwrap_or(engine::Report {
            word: match self.engine.state {
                engine::State::Absent => "absent",
                engine::State::Starting => "starting",
                engine::State::Ready { .. } => "ready",
            },
            ..engine::Report::default()
        });
        StatusReport {
            appliance: self.setup.topics.appliance.clone(),
            version: env!("CARGO_PKG_VERSION"),
            state: self.state_word(),
            broker_online: self.is_online(),
            broker_why: self.link_why.clone().filter(|_| !self.is_online()),
            engine: engine.word,
            engine_why: engine.why,
            standing: self.standing().cloned(),
            package: engine.package,
            engine_crashes: engine.crashes,
            engine_unguarded: engine.unguarded.iter().map(|it| it.word()).collect(),
            store: if self.store.is_failing() {
                "failing"
            } else {
                "well"
            },
            open: self.slips.len(),
            running: self.engine.running,
            waiting: self.engine.queued,
            away: self.count_in(&[State::Away, State::Asking]),
            pending: self.count_in(&[State::Pending]),
            cloud: self.clouds(),
            reduced: self.missing(),
            governor: Governed::of(&self.allowance, self.shut_out(Priority::Low)),
            outbox: self.post.waiting(),
            outcomes: self.register.settled_count(),
            bytes: Tree::ALL
                .iter()
                .map(|tree| (tree.word(), self.store.live.of(*tree)))
                .collect(),
            counts: self
                .counts
                .iter()
                .map(|((what, why), n)| (*what, *why, *n))
                .collect(),
        }
    }

    fn count_in(&self, states: &[State]) -> usize {
        let slips = self.slips.values();
        slips.filter(|slip| states.contains(&slip.state)).count()
    }

    fn clouds(&self) -> Vec<(String, &'static str)> {
        let standing = |it: &uplink::Standing| (it.name.clone(), it.reach.word());
        self.away.state.upstreams.iter().map(standing).collect()
    }

    /// What this appliance has and cannot use now.
    fn missing(&self) -> Vec<&'static str> {
        let engine = match self.engine.state {
            engine::State::Absent | engine::State::Starting => Some("engine"),
            engine::State::Ready { .. } => {
                (self.allowance.taken == Taken::Nobody).then_some("engine")
            }
        };
        let cloud = match self.cloud_reach() {
            Some(Reach::Shut | Reach::Absent) => Some("cloud"),
            Some(Reach::Open) => self.away.unproven.then_some("cloud"),
            None => None,
        };
        engine.into_iter().chain(cloud).collect()
    }

    /// Says on the status topic when something begins or ceases to be missing.
    pub(super) fn disclose(&mut self) {
        let missing = self.missing();
        if missing != self.reduced {
            tracing::info!(reason = missing.join(", "), "what is missing has changed");
            self.reduced = missing;
            if self.is_online() {
                self.announce();
            }
        }
    }

    fn state_word(&self) -> &'static str {
        match self.phase {
            Phase::Draining => "draining",
            Phase::Serving if self.doors == Doors::Shut => "maintenance",
            Phase::Serving if self.is_online() => "online",
            Phase::Serving => "offline",
        }
    }

    /// The retained message on the status topic.
    pub(super) fn status_message(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Message<'a> {
            state: &'static str,
            appliance: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            pool: Option<&'a str>,
            version: &'static str,
            engine: &'static str,
            /// What is missing of the cage around the engine; left out where nothing is.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            engine_unguarded: Vec<&'static str>,
            store: &'static str,
            /// What is missing now; left out while nothing is.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            reduced: Vec<&'static str>,
            governor: Governed,
        }
        let status = self.status();
        let message = Message {
            state: status.state,
            appliance: &self.setup.topics.appliance,
            pool: self.setup.topics.pool.as_deref(),
            version: env!("CARGO_PKG_VERSION"),
            engine: status.engine,
            engine_unguarded: status.engine_unguarded,
            store: status.store,
            reduced: status.reduced,
            governor: status.governor,
        };
        serde_json::to_vec(&message).expect("plain words always serialize")
    }

    fn trace(&mut self, session: SessionNo, id: &str) {
        let mut known = self.register.find_id(id);
        known.truncate(MAX_TIMELINES);
        let parts = known.len() * 2;
        if parts > 0 && self.store.questions() + parts > MAX_QUESTIONS {
            self.count("dropped", "trace");
            known.clear();
        }
        if known.is_empty() {
            self.out.answers.push((session, Answer::Trace(Vec::new())));
            return;
        }
        self.next_draft += 1;
        let draft = self.next_draft;
        self.drafts.insert(
            draft,
            Draft {
                session,
                done: Vec::new(),
                current: Timeline::default(),
                open_parts: parts,
            },
        );
        for known in known {
            let (no, tree, seq, part) = match known {
                Known::Open(no) => {
                    let (home, seq) = self.home(no);
                    (no, home, seq, Part::Home(home))
                }
                Known::Settled(no) => (no, Tree::Outcomes, no.0, Part::Outcome),
            };
            self.ask(tree, seq, seq, 1, Pending::Trace { draft, part });
            let (first, last) = (no.trail_seq(0), no.trail_seq(MAX_STEPS - 1));
            let part = Part::Trail;
            let most = usize::try_from(MAX_STEPS).unwrap_or(usize::MAX);
            self.ask(
                Tree::Trail,
                first,
                last,
                most,
                Pending::Trace { draft, part },
            );
        }
    }

    pub(super) fn trace_part(&mut self, no: u64, part: Part, records: &[Numbered]) {
        let Some(draft) = self.drafts.get_mut(&no) else {
            return;
        };
        draft.open_parts -= 1;
        let first = records.first().map(|(_, body)| body.as_slice());
        match part {
            Part::Home(home) => {
                let read = first.map(|body| read_home(home, body));
                if let Some(Ok((waiting, _))) = read {
                    draft.current = begun(&waiting);
                }
            }
            Part::Outcome => {
                if let Some(Ok(filed)) = first.map(Filed::read) {
                    draft.current = ended(&filed);
                }
            }
            Part::Trail => {
                let steps = records.iter().filter_map(|(_, body)| read_step(body).ok());
                let timeline = std::mem::take(&mut draft.current);
                if timeline.ticket != 0 {
                    draft.done.push(told(timeline, steps.collect()));
                }
            }
        }
        if draft.open_parts == 0
            && let Some(draft) = self.drafts.remove(&no)
        {
            let answer = (draft.session, Answer::Trace(draft.done));
            self.out.answers.push(answer);
        }
    }
}

/// The status of an appliance that is gone.
pub(super) fn offline_message(topics: &Topics) -> Vec<u8> {
    #[derive(Serialize)]
    struct Message<'a> {
        state: &'static str,
        appliance: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        pool: Option<&'a str>,
    }
    let message = Message {
        state: "offline",
        appliance: &topics.appliance,
        pool: topics.pool.as_deref(),
    };
    serde_json::to_vec(&message).expect("plain words always serialize")
}

fn begun(waiting: &Waiting) -> Timeline {
    Timeline {
        id: waiting.request.id.as_str().into(),
        client: waiting.request.client.name().into(),
        ticket: waiting.no.0,
        steps: vec![line(waiting.accepted, &What::Accepted)],
        ..Timeline::default()
    }
}

fn ended(filed: &Filed) -> Timeline {
    let settled = if filed.verdict == "answered" {
        "answered".into()
    } else {
        format!("refused: {}", filed.verdict)
    };
    Timeline {
        id: filed.id.as_str().into(),
        client: Client::name_in_scope(&filed.scope).into(),
        ticket: filed.no.0,
        state: "settled",
        rule: Some(filed.rule.clone()),
        verdict: Some(filed.verdict.clone()),
        steps: vec![
            line(filed.accepted, &What::Accepted),
            TimelineStep {
                at_ms: filed.settled.0,
                what: settled,
            },
        ],
    }
}

fn line(at: Wall, what: &What) -> TimelineStep {
    TimelineStep {
        at_ms: at.0,
        what: what.told(),
    }
}

/// The timeline with its trail: in the order of time, and in the order of writing within it.
fn told(mut timeline: Timeline, trail: Vec<Step>) -> Timeline {
    let settled = timeline
        .verdict
        .is_some()
        .then(|| timeline.steps.pop())
        .flatten();
    let (before, after): (Vec<_>, Vec<_>) = trail.into_iter().partition(|step| match step.what {
        What::Delivered | What::Undeliverable | What::LateAnswer => false,
        What::Accepted
        | What::AlsoTo(_)
        | What::Started
        | What::Requeued(_)
        | What::Passed(_)
        | What::Asked
        | What::Returned(_)
        | What::StoodIn
        | What::ToPerson(_)
        | What::Provisional
        | What::Settled(_) => true,
    });
    let lines = |steps: Vec<Step>| steps.into_iter().map(|step| line(step.at, &step.what));
    let mut state = match settled {
        Some(_) => "settled",
        None => stands(before.iter().map(|step| &step.what)),
    };
    let delivered = |step: &&Step| step.what != What::LateAnswer;
    if let Some(step) = after.iter().rfind(delivered) {
        state = step.what.word();
    }
    timeline.steps.extend(lines(before));
    timeline.steps.extend(settled);
    timeline.steps.extend(lines(after));
    timeline.state = state;
    timeline
}

/// Where an open request stands after these steps.
fn stands<'a>(steps: impl DoubleEndedIterator<Item = &'a What>) -> &'static str {
    for what in steps.rev() {
        match what {
            What::Started => return "running",
            What::Passed(_) | What::Returned(_) => return "waiting for the cloud",
            What::Asked => return "cloud asked",
            What::ToPerson(_) => return "waiting for a person",
            What::Accepted | What::Requeued(_) | What::StoodIn => return "waiting",
            What::AlsoTo(_)
            | What::Provisional
            | What::LateAnswer
            | What::Settled(_)
            | What::Delivered
            | What::Undeliverable => {}
        }
    }
    "waiting"
}
