//! What the supervisor promises, case by case; [`random`] does whatever may happen.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one message of many"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use super::jobs::MAX_SICK;
use super::*;
use crate::engine::protocol::{
    Done, Facts, Failure, Flash, Guessing, Keeping, KvType, Mapping, Without, WorkNo,
};
use crate::engine::{Completion, Fault, Job, Origin};
use crate::intake::{
    Ask, Classification, Client, Detail, Digest, Late, Priority, Request, RequestId, ReturnAddress,
    Stream,
};
use crate::package::Package;
use crate::ticket::TicketNo;

mod loads;
mod random;

/// Two models of one package.
static MODELS: LazyLock<[Arc<ActiveModel>; 2]> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    let package = Package::open(&folder).unwrap();
    let model = |place: usize| {
        let (variant, _) = package.variants().nth(place).unwrap();
        Arc::new(ActiveModel {
            book: Book::of(&package, variant),
            options: options(),
            draft: None,
            succession: Succession::Beside,
            load: LoadNo(place as u64 + 1),
        })
    };
    [model(0), model(1)]
});

/// As many as stand in line.
const SLOTS: u32 = 8;

fn options() -> Options {
    Options {
        context_tokens: 512,
        cache_tokens: 4096,
        sequences: 4,
        queue: 8,
        threads: None,
        batch_tokens: 512,
        pass_ms: 25,
        gpu_layers: 0,
        kv_type: KvType::F16,
        flash_attention: Flash::Auto,
        mapping: Mapping::Read,
        without: Without::default(),
    }
}

fn facts() -> Facts {
    Facts {
        tokens_per_s: 9000.0,
        ..Facts::default()
    }
}

fn job(ticket: u64, text: &str, due: Mono) -> Job {
    Job {
        ticket: TicketNo(ticket),
        request: Request {
            id: RequestId::Given(ticket.to_string()),
            client: Client::Anonymous,
            ask: Ask::Task {
                task: "triage".into(),
                input: text.into(),
            },
            classification: Classification::Public,
            risk: None,
            complexity: None,
            priority: Priority::Normal,
            deadline: Duration::from_mins(1),
            late: Late::No,
            max_tokens: None,
            schema: None,
            stream: Stream::No,
            detail: Detail::Whole,
            reply: ReturnAddress::Local,
            content: Digest([0; 16]),
        },
        due,
        fresh: false,
    }
}

/// A supervisor whose effects are kept.
struct Rig {
    supervisor: Supervisor,
    now: Mono,
    spawned: Vec<ChildNo>,
    killed: Vec<ChildNo>,
    frames: Vec<(ChildNo, ToEngine)>,
    errands: Vec<Errand>,
    events: Vec<Event>,
}

impl Rig {
    fn new(unload_after: Option<Duration>) -> Self {
        Self::of(Supervisor::new(unload_after, memo::Limits::default()))
    }

    fn of(supervisor: Supervisor) -> Self {
        let mut rig = Self {
            supervisor,
            now: Mono::default(),
            spawned: Vec::new(),
            killed: Vec::new(),
            frames: Vec::new(),
            errands: Vec::new(),
            events: Vec::new(),
        };
        rig.take();
        rig
    }

    /// One that serves the first model.
    fn ready() -> Self {
        let mut rig = Self::new(None);
        rig.want(0);
        rig.load(1);
        rig
    }

    fn take(&mut self) {
        let effects = self.supervisor.take_effects();
        self.spawned.extend(effects.spawn);
        self.killed.extend(effects.kill);
        self.frames.extend(effects.frames);
        self.errands.extend(effects.errands);
        self.events.extend(effects.events);
        self.supervisor.pieces.assert_whole();
    }

    fn want(&mut self, model: usize) {
        let wanted = Wanted::Model(Arc::clone(&MODELS[model]));
        self.supervisor.on_wanted(wanted, self.now);
        self.take();
    }

    fn frame(&mut self, child: u64, frame: FromEngine) {
        self.supervisor.on_frame(ChildNo(child), frame, self.now);
        self.take();
    }

    fn load(&mut self, child: u64) {
        self.frame(child, FromEngine::Ready(Box::new(facts())));
    }

    fn exit(&mut self, child: u64) {
        self.supervisor
            .on_exit(ChildNo(child), "it was ended by signal 9", self.now);
        self.take();
    }

    fn start(&mut self, ticket: u64, text: &str) {
        self.start_job(job(ticket, text, self.now.after(Duration::from_mins(10))));
    }

    fn start_job(&mut self, job: Job) {
        self.supervisor.on_command(Command::Start(job), self.now);
        self.take();
    }

    fn cancel(&mut self, ticket: u64) {
        self.supervisor
            .on_command(Command::Cancel(TicketNo(ticket)), self.now);
        self.take();
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now.after(span);
        self.supervisor.on_timeout(self.now);
        self.take();
    }

    /// To the moment that the supervisor waits for.
    fn pass_to_deadline(&mut self) {
        let (at, _) = self.supervisor.deadline().expect("something to wait for");
        self.pass(at.since(self.now));
    }

    fn answer(&mut self, child: u64, no: WorkNo) {
        let done = Done {
            no,
            text: "{}".into(),
            ..Done::default()
        };
        self.frame(child, FromEngine::Done(Box::new(done)));
    }

    /// Work that this process was given, oldest first.
    fn works(&self, child: u64) -> Vec<WorkNo> {
        let works = self.frames.iter().filter_map(|(on, frame)| match frame {
            ToEngine::Start(work) if *on == ChildNo(child) => Some(work.no),
            _ => None,
        });
        works.collect()
    }

    fn result(&self, ticket: u64) -> Option<&Result<Completion, Fault>> {
        let mut ends = self.events.iter().filter_map(|event| match event {
            Event::Ended {
                ticket: it, result, ..
            } if *it == TicketNo(ticket) => Some(result),
            _ => None,
        });
        let result = ends.next();
        assert!(ends.next().is_none(), "{ticket} ended twice");
        result
    }

    fn origin(&self, ticket: u64) -> Option<Origin> {
        self.result(ticket)?.as_ref().ok().map(|it| it.origin)
    }

    fn state(&self) -> State {
        let mut states = self.events.iter().filter_map(|event| match event {
            Event::State(state) => Some(*state),
            _ => None,
        });
        states.next_back().unwrap()
    }

    fn report(&self) -> &Report {
        let mut reports = self.events.iter().filter_map(|event| match event {
            Event::Report(report) => Some(report),
            _ => None,
        });
        reports.next_back().unwrap()
    }
}

#[test]
fn a_model_is_loaded_first_and_then_there_is_room() {
    let mut rig = Rig::new(None);
    rig.want(0);
    assert_eq!(rig.state(), State::Starting);
    assert_eq!(rig.spawned, [ChildNo(1)]);
    assert!(matches!(rig.frames[0], (ChildNo(1), ToEngine::Load(_))));
    rig.load(1);
    assert_eq!(rig.state(), State::Ready { slots: SLOTS });
    assert_eq!(rig.report().word, "ready");
    assert_eq!(rig.report().package, Some(MODELS[0].name()));
}

#[test]
fn a_death_is_told_to_what_was_computed_and_not_to_what_waited() {
    let mut rig = Rig::ready();
    for ticket in 1..=4 {
        rig.start(ticket, &ticket.to_string());
    }
    let works = rig.works(1);
    rig.answer(1, works[0]);
    rig.frame(1, FromEngine::Began(works[1]));
    rig.frame(1, FromEngine::Began(works[2]));
    rig.exit(1);
    assert!(matches!(rig.result(1), Some(Ok(_))));
    assert_eq!(rig.result(2), Some(&Err(Fault::Crashed)));
    assert_eq!(rig.result(3), Some(&Err(Fault::Crashed)));
    assert_eq!(rig.result(4), Some(&Err(Fault::Busy)));
    assert_eq!(rig.state(), State::Starting);
    assert_eq!(
        rig.report().why.as_deref(),
        Some("it was ended by signal 9")
    );
    rig.pass_to_deadline();
    assert_eq!(rig.spawned, [ChildNo(1), ChildNo(2)]);
    rig.load(2);
    assert_eq!(rig.state(), State::Ready { slots: SLOTS });
    assert_eq!(rig.report().crashes, 1);
}

#[test]
fn an_engine_without_a_sign_of_life_is_ended_and_one_with_some_is_not() {
    let mut rig = Rig::ready();
    rig.start(1, "a");
    let works = rig.works(1);
    rig.frame(1, FromEngine::Began(works[0]));
    for _ in 0..100 {
        rig.pass(MIN_SILENCE / 2);
        rig.frame(
            1,
            FromEngine::Beat(crate::engine::protocol::Beat::default()),
        );
    }
    assert_eq!(rig.killed, []);
    rig.pass_to_deadline();
    assert_eq!(rig.killed, [ChildNo(1)]);
    assert_eq!(rig.result(1), Some(&Err(Fault::Crashed)));
    assert_eq!(rig.report().why.as_deref(), Some("no sign of life"));
}

#[test]
fn a_service_that_was_stopped_itself_does_not_blame_its_engine() {
    let mut rig = Rig::ready();
    rig.pass(Duration::from_hours(1));
    assert_eq!(rig.killed, []);
    rig.pass_to_deadline();
    assert_eq!(rig.killed, [ChildNo(1)], "once only");
}

#[test]
fn loading_may_take_long_but_not_for_ever() {
    let mut rig = Rig::new(None);
    rig.want(0);
    rig.pass(LOAD_LIMIT.saturating_sub(Duration::from_secs(1)));
    assert_eq!(rig.killed, []);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.killed, [ChildNo(1)]);
}

#[test]
fn pauses_grow_with_each_death_and_shrink_after_good_work() {
    let mut rig = Rig::ready();
    let mut pauses = Vec::new();
    let mut child = 1;
    for _ in 0..12 {
        rig.exit(child);
        let (at, _) = rig.supervisor.deadline().unwrap();
        pauses.push(at.since(rig.now));
        rig.pass_to_deadline();
        child += 1;
        rig.load(child);
    }
    assert_eq!(pauses[0], FIRST_PAUSE);
    assert!(pauses.is_sorted());
    assert_eq!(pauses[11], MAX_PAUSE);

    rig.start(1, "a");
    let works = rig.works(child);
    rig.answer(child, works[0]);
    for _ in 0..20 {
        rig.now = rig.now.after(Duration::from_secs(1));
        rig.frame(
            child,
            FromEngine::Beat(crate::engine::protocol::Beat::default()),
        );
    }
    rig.exit(child);
    let (at, _) = rig.supervisor.deadline().unwrap();
    assert_eq!(at.since(rig.now), FIRST_PAUSE);
}

#[test]
fn a_model_that_cannot_be_loaded_is_a_lasting_fault_with_its_reason() {
    let mut rig = Rig::new(None);
    rig.want(0);
    rig.frame(1, FromEngine::Unloadable("not a GGUF file".into()));
    assert_eq!(rig.state(), State::Absent);
    assert_eq!(rig.report().word, "unloadable");
    assert_eq!(rig.report().why.as_deref(), Some("not a GGUF file"));
    rig.start(1, "a"); // sent before the news arrived
    assert_eq!(rig.result(1), Some(&Err(Fault::Busy)));
    rig.exit(1);
    rig.pass(RETRY_UNLOADABLE.saturating_sub(Duration::from_secs(1)));
    assert_eq!(rig.spawned, [ChildNo(1)]);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.spawned, [ChildNo(1), ChildNo(2)]);
    rig.load(2);
    assert_eq!(rig.state(), State::Ready { slots: SLOTS });
}

#[test]
fn an_engine_that_keeps_dying_while_it_loads_has_a_model_that_cannot_be_loaded() {
    let mut rig = Rig::new(None);
    rig.want(0);
    for child in 1..=u64::from(life::MAX_LOAD_DEATHS) {
        assert_eq!(rig.state(), State::Starting);
        rig.exit(child);
        rig.pass_to_deadline();
    }
    // The last wait was the long one, and it is being tried again.
    let absent = Event::State(State::Absent);
    assert!(rig.events.contains(&absent));
    assert!(rig.now.0 > RETRY_UNLOADABLE);
}

#[test]
fn the_same_work_is_computed_once_for_all_who_ask_meanwhile() {
    let mut rig = Rig::ready();
    rig.start(1, "a");
    rig.start(2, "a");
    rig.start(3, "b");
    rig.start(4, "a");
    let works = rig.works(1);
    assert_eq!(works.len(), 2);
    rig.answer(1, works[0]);
    assert_eq!(rig.origin(1), Some(Origin::Model));
    assert_eq!(rig.origin(2), Some(Origin::Duplicate));
    assert_eq!(rig.origin(4), Some(Origin::Duplicate));
    assert_eq!(rig.result(3), None);
    rig.start(5, "a");
    assert_eq!(rig.origin(5), Some(Origin::Cache));
    assert_eq!(rig.works(1).len(), 2);
}

#[test]
fn who_leaves_shared_work_leaves_alone_and_the_last_one_ends_it() {
    let cancels = |rig: &Rig| {
        let cancelled = rig.frames.iter();
        let cancelled = cancelled.filter(|(_, frame)| matches!(frame, ToEngine::Cancel(_)));
        cancelled.count()
    };
    for order in [[1, 2, 3], [3, 2, 1], [2, 1, 3]] {
        let mut rig = Rig::ready();
        for ticket in 1..=3 {
            rig.start(ticket, "a");
        }
        rig.cancel(order[0]);
        rig.cancel(order[1]);
        assert_eq!(cancels(&rig), 0);
        let works = rig.works(1);
        let mut served = Rig { ..rig };
        served.answer(1, works[0]);
        assert!(matches!(served.result(order[2]), Some(Ok(_))));
        assert_eq!(served.result(order[0]), None);

        let mut rig = Rig::ready();
        for ticket in 1..=3 {
            rig.start(ticket, "a");
        }
        for ticket in order {
            rig.cancel(ticket);
        }
        assert_eq!(cancels(&rig), 1);
        // A new one does not wait for work that is being given up.
        rig.start(4, "a");
        assert_eq!(rig.works(1).len(), 2);
    }
}

#[test]
fn who_joined_with_more_time_is_not_late_with_the_first() {
    let mut rig = Rig::ready();
    rig.start_job(job(1, "a", Mono(Duration::from_secs(1))));
    rig.start_job(job(2, "a", Mono(Duration::from_mins(1))));
    let works = rig.works(1);
    assert_eq!(works.len(), 1);
    let late = FromEngine::Failed {
        no: works[0],
        why: Failure::Late,
    };
    rig.frame(1, late);
    let refused = rig.result(1).unwrap().as_ref().unwrap_err();
    assert!(matches!(refused, Fault::Refused { .. }), "{refused:?}");
    assert_eq!(rig.result(2), None);
    let works = rig.works(1);
    rig.answer(1, works[1]);
    assert!(matches!(rig.result(2), Some(Ok(_))));
}

#[test]
fn a_more_urgent_request_does_not_wait_behind_an_idle_one() {
    let mut rig = Rig::ready();
    let due = Mono(Duration::from_mins(1));
    let mut idle = job(1, "a", due);
    idle.request.priority = Priority::Low;
    rig.start_job(idle);
    rig.start_job(job(2, "a", due));
    assert_eq!(rig.works(1).len(), 2);
    let mut idle = job(3, "a", due);
    idle.request.priority = Priority::Low;
    rig.start_job(idle);
    assert_eq!(rig.works(1).len(), 2);
}

#[test]
fn words_go_to_the_one_who_wants_them_as_they_come() {
    let mut rig = Rig::ready();
    let due = Mono(Duration::from_mins(1));
    let mut streamed = job(1, "a", due);
    streamed.request.stream = Stream::Yes;
    rig.start_job(streamed);
    rig.start(2, "a");
    let works = rig.works(1);
    assert_eq!(works.len(), 1);
    let text = "loud".to_owned();
    rig.frame(
        1,
        FromEngine::Tokens {
            no: works[0],
            text: text.clone(),
        },
    );
    let words: Vec<_> = rig
        .events
        .iter()
        .filter(|event| matches!(event, Event::Tokens { .. }))
        .collect();
    assert_eq!(
        words,
        [&Event::Tokens {
            ticket: TicketNo(1),
            text
        }]
    );
}

#[test]
fn an_engine_without_work_is_unloaded_and_the_next_job_starts_it() {
    let idle = Duration::from_mins(5);
    let mut rig = Rig::new(Some(idle));
    rig.want(0);
    rig.load(1);
    let beat = || FromEngine::Beat(crate::engine::protocol::Beat::default());
    let wait = |rig: &mut Rig, child| {
        for _ in 0..300 {
            rig.frame(child, beat());
            rig.pass(Duration::from_secs(1));
        }
    };
    rig.start(1, "a");
    wait(&mut rig, 1);
    assert_eq!(rig.killed, [], "it has work");
    let works = rig.works(1);
    rig.answer(1, works[0]);
    wait(&mut rig, 1);
    assert_eq!(rig.killed, [ChildNo(1)]);
    assert_eq!(rig.report().word, "unloaded");
    assert_eq!(rig.state(), State::Ready { slots: SLOTS });
    rig.exit(1);
    assert_eq!(rig.report().crashes, 0);
    assert_eq!(rig.supervisor.deadline(), None);

    rig.start(2, "a");
    rig.start(3, "b");
    assert_eq!(rig.spawned, [ChildNo(1), ChildNo(2)]);
    assert_eq!(rig.result(2), None, "nothing of before is kept");
    assert_eq!(rig.works(2), []);
    rig.load(2);
    let works = rig.works(2);
    assert_eq!(works.len(), 2);
    rig.answer(2, works[1]);
    assert!(matches!(rig.result(3), Some(Ok(_))));
}

#[test]
fn a_new_model_starts_beside_the_old_one_which_finishes_what_it_began() {
    let mut rig = Rig::ready();
    rig.start(1, "a");
    rig.want(1);
    assert_eq!(rig.spawned, [ChildNo(1), ChildNo(2)]);
    rig.start(2, "b");
    assert_eq!(rig.works(1).len(), 2, "until then the old one serves");
    rig.load(2);
    rig.start(3, "c");
    assert_eq!(rig.works(2).len(), 1);
    let works = rig.works(1);
    rig.answer(1, works[0]);
    assert_eq!(rig.killed, []);
    rig.answer(1, works[1]);
    assert_eq!(rig.killed, [ChildNo(1)]);
    let works = rig.works(2);
    rig.answer(2, works[0]);
    let digest = |ticket| match rig.result(ticket) {
        Some(Ok(completion)) => completion.model.digest.clone(),
        other => panic!("{ticket} {other:?}"),
    };
    assert_eq!(digest(1), MODELS[0].book.model().digest);
    assert_eq!(digest(2), MODELS[0].book.model().digest);
    assert_eq!(digest(3), MODELS[1].book.model().digest);
    assert_eq!(rig.state(), State::Ready { slots: SLOTS });
    assert_eq!(rig.report().crashes, 0);
}

#[test]
fn if_the_new_model_cannot_be_loaded_the_old_one_goes_on() {
    let mut rig = Rig::ready();
    rig.want(1);
    rig.frame(2, FromEngine::Unloadable("no room".into()));
    assert_eq!(rig.state(), State::Ready { slots: SLOTS });
    let why = rig.report().why.clone().unwrap();
    assert!(why.contains("no room"), "{why}");
    rig.start(1, "a");
    let works = rig.works(1);
    rig.answer(1, works[0]);
    assert!(matches!(rig.result(1), Some(Ok(_))));
    assert_eq!(rig.spawned.len(), 2, "it is not tried again unasked");
    rig.want(0);
    assert_eq!(rig.report().why, None);
}

#[test]
fn the_last_wish_counts() {
    let mut rig = Rig::ready();
    rig.want(1);
    rig.want(0);
    assert_eq!(rig.killed, [ChildNo(2)]);
    rig.load(2); // it was about to say so
    rig.start(1, "a");
    assert_eq!(rig.works(1).len(), 1);
    let wanted = Wanted::Nothing {
        why: "taken away".into(),
    };
    rig.supervisor.on_wanted(wanted, rig.now);
    rig.take();
    assert_eq!(rig.killed, [ChildNo(2), ChildNo(1)]);
    assert_eq!(rig.result(1), Some(&Err(Fault::Busy)));
    assert_eq!(rig.state(), State::Absent);
}

#[test]
fn where_memory_does_not_suffice_for_two_the_old_model_makes_room_first_and_loses_nothing() {
    let mut rig = Rig::ready();
    for ticket in 1..=3 {
        rig.start(ticket, &ticket.to_string());
    }
    let works = rig.works(1);
    rig.frame(1, FromEngine::Began(works[0]));
    let smaller = ActiveModel {
        succession: Succession::InPlace,
        options: Options {
            sequences: 1,
            ..options()
        },
        ..(*MODELS[0]).clone()
    };
    let wanted = Wanted::Model(Arc::new(smaller));
    rig.supervisor.on_wanted(wanted, rig.now);
    rig.take();
    assert_eq!(
        (rig.killed.as_slice(), rig.spawned.len()),
        (&[ChildNo(1)][..], 2)
    );
    for ticket in 1..=3 {
        assert_eq!(rig.result(ticket), Some(&Err(Fault::Busy)), "{ticket}");
    }
    assert_eq!(rig.state(), State::Starting);
    rig.exit(1); // it was told to
    rig.load(2);
    assert_eq!(rig.state(), State::Ready { slots: SLOTS });
    assert_eq!(rig.report().crashes, 0);
    rig.start(4, "a");
    assert_eq!(rig.works(2).len(), 1);
}

#[test]
fn an_allowance_reaches_every_engine_also_one_that_starts_later() {
    let mut rig = Rig::ready();
    let allowance = Allowance {
        sequences: 2,
        threads: Some(1),
        rest_permille: 100,
        guessing: Guessing::default(),
        keeping: Keeping::default(),
    };
    rig.supervisor.on_allowance(allowance);
    rig.take();
    rig.want(1);
    rig.load(2);
    let allowed: Vec<_> = rig
        .frames
        .iter()
        .filter(|(_, frame)| *frame == ToEngine::Allow(allowance))
        .map(|(child, _)| child.0)
        .collect();
    assert_eq!(allowed, [1, 2]);
}

#[test]
fn a_pass_that_goes_wrong_again_and_again_ends_the_engine() {
    let mut rig = Rig::ready();
    for ticket in 1..=u64::from(MAX_SICK) {
        rig.start(ticket, &ticket.to_string());
        let no = *rig.works(1).last().unwrap();
        let why = Failure::Sick("no number".into());
        rig.frame(1, FromEngine::Failed { no, why });
        assert_eq!(rig.result(ticket), Some(&Err(Fault::Crashed)));
    }
    assert_eq!(rig.killed, [ChildNo(1)]);
}

// The stockroom.

/// One with a stockroom, that serves the first model.
fn keeping(unload_after: Option<Duration>) -> Rig {
    let supervisor = Supervisor::new(unload_after, memo::Limits::default());
    let mut rig = Rig::of(supervisor.with(Beginnings::Kept));
    rig.want(0);
    rig.load(1);
    rig
}

impl Rig {
    fn beat(&mut self, child: u64, warm: u64) {
        let beat = crate::engine::protocol::Beat {
            warm,
            ..Default::default()
        };
        self.frame(child, FromEngine::Beat(beat));
    }

    fn deliver(&mut self, child: u64, delivery: Delivery) {
        let now = self.now;
        self.supervisor.on_delivery(ChildNo(child), delivery, now);
        self.take();
    }

    /// Pieces that this process was asked for.
    fn asked(&self, child: u64) -> Vec<(u16, u64)> {
        let asked = self.frames.iter().filter_map(|(on, frame)| match frame {
            ToEngine::SavePrefix {
                instruction,
                offset,
            } if *on == ChildNo(child) => Some((*instruction, *offset)),
            _ => None,
        });
        asked.collect()
    }

    fn tell(&mut self, child: u64, instruction: u16, offset: u64, total: u64) -> Piece {
        let piece = Piece {
            instruction,
            offset,
            total,
            bytes: vec![7; 10],
        };
        self.frame(child, FromEngine::Prefix(piece.clone()));
        piece
    }
}

fn fetched(rig: &Rig) -> Vec<ChildNo> {
    let fetched = rig.errands.iter().filter_map(|errand| match errand {
        Errand::Fetch(child, _) => Some(*child),
        Errand::Put(..) | Errand::Keep(_) => None,
    });
    fetched.collect()
}

#[test]
fn each_process_is_given_what_lies_there_and_the_rest_goes_once_one_is_ready() {
    let mut rig = keeping(Some(Duration::from_secs(1)));
    let [Errand::Fetch(ChildNo(1), keys), Errand::Keep(kept)] = &rig.errands[..] else {
        panic!("{:?}", rig.errands);
    };
    assert_eq!(keys, kept);
    assert_eq!(
        keys.len(),
        MODELS[0].book.load(&options(), None).instructions.len()
    );
    rig.exit(1);
    rig.pass_to_deadline();
    rig.load(2);
    rig.deliver(2, Delivery::Fetched(Vec::new()));
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.report().word, "unloaded");
    rig.start(1, "a");
    rig.load(3);
    rig.want(1);
    assert_eq!(fetched(&rig), [1, 2, 3, 4].map(ChildNo));
    let before = rig.errands.len();
    rig.load(4);
    let [Errand::Keep(others)] = &rig.errands[before..] else {
        panic!("{:?}", rig.errands);
    };
    let first = rig.errands[0].clone();
    assert_ne!(
        Errand::Fetch(ChildNo(1), others.clone()),
        first,
        "another model's"
    );
}

#[test]
fn a_beginning_goes_to_the_disk_in_an_idle_moment_one_piece_after_the_other() {
    let mut rig = keeping(None);
    rig.deliver(1, Delivery::Fetched(Vec::new()));
    rig.start(1, "a");
    rig.pass(stock::REST);
    rig.beat(1, 0b1);
    assert_eq!(rig.asked(1), [], "it is at work");
    let works = rig.works(1);
    rig.answer(1, works[0]);
    rig.beat(1, 0b1);
    rig.pass(stock::REST);
    assert_eq!(rig.asked(1), [(0, 0)]);
    let piece = rig.tell(1, 0, 0, 20);
    assert!(matches!(rig.errands.last(), Some(Errand::Put(ChildNo(1), _, it)) if *it == piece));
    rig.beat(1, 0b1);
    assert_eq!(
        rig.asked(1).len(),
        1,
        "the disk has the last one still to write"
    );
    rig.deliver(1, Delivery::Put(true));
    assert_eq!(rig.asked(1), [(0, 0), (0, 10)]);
    rig.tell(1, 0, 10, 20);
    rig.deliver(1, Delivery::Put(true));
    rig.beat(1, 0b1);
    rig.pass(stock::MAX_WAIT);
    assert_eq!(rig.asked(1).len(), 2, "once is enough");
}

#[test]
fn what_the_stockroom_says_of_a_process_that_is_gone_concerns_nobody() {
    let mut rig = keeping(None);
    rig.deliver(1, Delivery::Fetched(Vec::new()));
    rig.beat(1, 0b1);
    rig.pass(stock::REST);
    rig.tell(1, 0, 0, 20);
    rig.exit(1);
    rig.pass_to_deadline();
    rig.load(2);
    rig.deliver(1, Delivery::Put(true));
    assert_eq!(rig.asked(2), []);
    rig.deliver(2, Delivery::Fetched(Vec::new()));
    rig.beat(2, 0b1);
    rig.pass(stock::REST);
    assert_eq!(rig.asked(2), [(0, 0)], "it begins from the start");
}

#[test]
fn an_idle_engine_stays_until_its_beginnings_are_saved_but_not_for_ever() {
    let idle = Duration::from_secs(1);
    let mut rig = keeping(Some(idle));
    rig.deliver(1, Delivery::Fetched(Vec::new()));
    rig.beat(1, 0b1);
    rig.pass(idle);
    rig.beat(1, 0b1);
    assert_eq!(rig.report().word, "ready");
    rig.tell(1, 0, 0, 10);
    rig.deliver(1, Delivery::Put(true));
    rig.pass_to_deadline();
    assert_eq!(rig.report().word, "unloaded");
    let mut stuck = keeping(Some(idle));
    stuck.deliver(1, Delivery::Fetched(Vec::new()));
    stuck.beat(1, 0b1);
    while stuck.now < Mono::default().after(idle).after(stock::MAX_WAIT) {
        assert_eq!(stuck.report().word, "ready");
        stuck.beat(1, 0b1);
        stuck.pass(idle);
    }
    assert_eq!(stuck.report().word, "unloaded");
}

#[test]
fn without_a_stockroom_nobody_runs_there() {
    let mut rig = Rig::ready();
    rig.beat(1, u64::MAX);
    rig.pass(stock::MAX_WAIT);
    assert_eq!((rig.errands.len(), rig.asked(1).len()), (0, 0));
}

// Whatever happens.
