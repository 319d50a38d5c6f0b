//! Any order of jobs, deaths, wishes and times: every job ends once, whatever its engines do.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Start {
        text: u8,
        due_s: u64,
        priority: u8,
    },
    Cancel(u8),
    Want(u8),
    /// The child with this place among those alive does something.
    Child(u8, Does),
    Wait(u64),
    ToDeadline,
}

#[derive(Clone, Debug)]
enum Does {
    Ready,
    Unloadable,
    Begin(u8),
    Finish(u8),
    Fail(u8, u8),
    Nonsense(u64),
    Beat(u64),
    /// It tells the piece that it was asked for, of a state of so many bytes; or one unasked.
    Tell(u64),
    /// The stockroom is done with its errand, and this is how it went.
    Deliver(bool),
    Exit,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let does = prop_oneof![
        4 => Just(Does::Ready),
        1 => Just(Does::Unloadable),
        4 => any::<u8>().prop_map(Does::Begin),
        6 => any::<u8>().prop_map(Does::Finish),
        3 => (any::<u8>(), 0u8..7).prop_map(|(which, why)| Does::Fail(which, why)),
        1 => (0u64..40).prop_map(Does::Nonsense),
        2 => any::<u64>().prop_map(Does::Beat),
        3 => (0u64..40).prop_map(Does::Tell),
        3 => any::<bool>().prop_map(Does::Deliver),
        1 => Just(Does::Exit),
    ];
    let step = prop_oneof![
        8 => (0u8..6, 1u64..40, 0u8..3)
            .prop_map(|(text, due_s, priority)| Step::Start { text, due_s, priority }),
        2 => any::<u8>().prop_map(Step::Cancel),
        1 => (0u8..4).prop_map(Step::Want),
        14 => (any::<u8>(), does).prop_map(|(child, does)| Step::Child(child, does)),
        2 => (0u64..3000).prop_map(Step::Wait),
        1 => Just(Step::ToDeadline),
    ];
    proptest::collection::vec(step, 0..150)
}

/// A process as the supervisor must believe it to be.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is so or not, on its own"
)]
struct SimChild {
    loaded: bool,
    ready: bool,
    begun: BTreeMap<WorkNo, bool>,
    cancelled: BTreeSet<WorkNo>,
    /// The piece that it was asked for.
    asked: Option<(u16, u64)>,
    /// What the stockroom does for it.
    fetching: bool,
    putting: bool,
}

#[derive(Default)]
struct Sim {
    children: BTreeMap<ChildNo, SimChild>,
    /// Tickets that wait for their end.
    open: BTreeSet<TicketNo>,
    last_ticket: u64,
}

impl Sim {
    /// Holds effects against what may be, and carries them out.
    fn take(&mut self, supervisor: &mut Supervisor) {
        let effects = supervisor.take_effects();
        supervisor.pieces.assert_whole();
        for child in effects.spawn {
            assert!(self.children.insert(child, SimChild::default()).is_none());
        }
        for (child, frame) in effects.frames {
            let sim = self
                .children
                .get_mut(&child)
                .expect("a frame to a live process");
            match frame {
                ToEngine::Load(_) => assert!(!std::mem::replace(&mut sim.loaded, true)),
                ToEngine::Start(work) => {
                    assert!(sim.ready, "work before it was ready");
                    assert!(sim.begun.insert(work.no, false).is_none());
                }
                ToEngine::Cancel(no) => assert!(sim.cancelled.insert(no), "cancelled twice"),
                ToEngine::SavePrefix {
                    instruction,
                    offset,
                } => {
                    assert!(sim.ready && !sim.fetching && !sim.putting, "out of turn");
                    assert!(sim.asked.replace((instruction, offset)).is_none());
                }
                ToEngine::Allow(_)
                | ToEngine::Evict { .. }
                | ToEngine::RestorePrefix(_)
                | ToEngine::Files { .. }
                | ToEngine::Shutdown => panic!("{frame:?}"),
            }
        }
        for errand in effects.errands {
            match errand {
                Errand::Fetch(child, keys) => {
                    assert!(!keys.is_empty());
                    self.children.get_mut(&child).unwrap().fetching = true;
                }
                Errand::Put(child, _, _) => {
                    let sim = self.children.get_mut(&child).unwrap();
                    assert!(!std::mem::replace(&mut sim.putting, true), "two at a time");
                }
                Errand::Keep(_) => {}
            }
        }
        for child in effects.kill {
            assert!(self.children.remove(&child).is_some(), "killed twice");
        }
        assert!(self.children.len() <= 3);
        for event in effects.events {
            if let Event::Ended { ticket, .. } = event {
                assert!(self.open.remove(&ticket), "{ticket:?} was not open");
            }
        }
    }

    fn carry_out(&mut self, supervisor: &mut Supervisor, step: &Step, now: Mono) {
        match step {
            Step::Start {
                text,
                due_s,
                priority,
            } => {
                self.last_ticket += 1;
                let due = now.after(Duration::from_secs(*due_s));
                let mut job = job(self.last_ticket, &text.to_string(), due);
                job.request.priority =
                    [Priority::High, Priority::Normal, Priority::Low][usize::from(*priority)];
                self.open.insert(job.ticket);
                supervisor.on_command(Command::Start(job), now);
            }
            Step::Cancel(which) => {
                if let Some(ticket) = pick(self.open.iter(), *which).copied() {
                    self.open.remove(&ticket);
                    supervisor.on_command(Command::Cancel(ticket), now);
                }
            }
            Step::Want(which) => {
                let wanted = match which {
                    0 => Wanted::Nothing { why: "no".into() },
                    1 => Wanted::Coming,
                    more => Wanted::Model(Arc::clone(&MODELS[usize::from(*more) - 2])),
                };
                supervisor.on_wanted(wanted, now);
            }
            Step::Child(which, does) => {
                if let Some(child) = pick(self.children.keys(), *which).copied() {
                    self.child(supervisor, child, does, now);
                }
            }
            Step::Wait(_) | Step::ToDeadline => supervisor.on_timeout(now),
        }
        self.take(supervisor);
    }

    fn child(&mut self, supervisor: &mut Supervisor, no: ChildNo, does: &Does, now: Mono) {
        let child = self.children.get_mut(&no).unwrap();
        let work = |which: u8| pick(child.begun.keys(), which).copied();
        let frame = match does {
            Does::Ready if !child.ready => {
                child.ready = true;
                FromEngine::Ready(Box::new(facts()))
            }
            Does::Unloadable if !child.ready => FromEngine::Unloadable("no".into()),
            Does::Begin(which) => match work(*which) {
                Some(work) => {
                    child.begun.insert(work, true);
                    FromEngine::Began(work)
                }
                None => return,
            },
            Does::Finish(which) => match work(*which) {
                Some(work) => {
                    child.begun.remove(&work);
                    let done = Done {
                        no: work,
                        ..Done::default()
                    };
                    FromEngine::Done(Box::new(done))
                }
                None => return,
            },
            Does::Fail(which, why) => match work(*which) {
                Some(work) => {
                    child.begun.remove(&work);
                    FromEngine::Failed {
                        no: work,
                        why: failure(*why),
                    }
                }
                None => return,
            },
            Does::Nonsense(work) => FromEngine::Done(Box::new(Done {
                no: WorkNo(work + 1_000_000),
                ..Done::default()
            })),
            Does::Beat(warm) => FromEngine::Beat(crate::engine::protocol::Beat {
                warm: *warm,
                ..Default::default()
            }),
            Does::Tell(total) => FromEngine::Prefix(match child.asked.take() {
                Some((instruction, offset)) => Piece {
                    instruction,
                    offset,
                    total: *total,
                    bytes: vec![0; 9],
                },
                None => Piece::void(0),
            }),
            Does::Deliver(how) => {
                let delivery = if std::mem::take(&mut child.fetching) {
                    Delivery::Fetched(Vec::new())
                } else if std::mem::take(&mut child.putting) {
                    Delivery::Put(*how)
                } else {
                    return;
                };
                return supervisor.on_delivery(no, delivery, now);
            }
            Does::Exit => {
                self.children.remove(&no);
                return supervisor.on_exit(no, "gone", now);
            }
            Does::Ready | Does::Unloadable => {
                FromEngine::Beat(crate::engine::protocol::Beat::default())
            }
        };
        supervisor.on_frame(no, frame, now);
    }

    /// All goes well until nothing is open.
    fn calm(&mut self, supervisor: &mut Supervisor, now: &mut Mono) {
        self.carry_out(supervisor, &Step::Want(2), *now);
        for _ in 0..400 {
            let children: Vec<_> = self.children.keys().copied().collect();
            for (place, _) in children.iter().enumerate() {
                let place = u8::try_from(place).unwrap();
                for does in [Does::Ready, Does::Begin(0), Does::Finish(0)] {
                    self.carry_out(supervisor, &Step::Child(place, does), *now);
                }
            }
            let settled = self.open.is_empty() && supervisor.pieces.len() == 0;
            if settled && self.children.len() == 1 {
                break;
            }
            if children.is_empty() {
                let (at, _) = supervisor.deadline().expect("a wait for something");
                *now = at.max(*now);
                self.carry_out(supervisor, &Step::ToDeadline, *now);
            }
        }
    }
}

fn failure(which: u8) -> Failure {
    match which {
        0 => Failure::Full,
        1 => Failure::Late,
        2 => Failure::Overflow {
            tokens: 2,
            context: 1,
        },
        3 => Failure::Rule("no".into()),
        4 => Failure::Unknown,
        5 => Failure::Cancelled,
        _ => Failure::Sick("no".into()),
    }
}

fn pick<T>(mut all: impl ExactSizeIterator<Item = T>, which: u8) -> Option<T> {
    let count = all.len().max(1);
    all.nth(usize::from(which) % count)
}

proptest! {
    #[test]
    fn every_job_ends_once_whatever_its_engines_do(steps in steps()) {
        let supervisor = Supervisor::new(Some(Duration::from_secs(20)), memo::Limits::default());
        let mut supervisor = supervisor.with(Beginnings::Kept);
        let mut sim = Sim::default();
        let mut now = Mono::default();
        sim.take(&mut supervisor);
        for step in &steps {
            match step {
                Step::Wait(ms) => now = now.after(Duration::from_millis(*ms)),
                Step::ToDeadline => {
                    if let Some((at, _)) = supervisor.deadline() {
                        now = now.max(at);
                    }
                }
                _ => {}
            }
            sim.carry_out(&mut supervisor, step, now);
        }
        sim.calm(&mut supervisor, &mut now);
        prop_assert!(sim.open.is_empty(), "left: {:?}", sim.open);
        prop_assert_eq!(supervisor.pieces.len(), 0);
        prop_assert_eq!(sim.children.len(), 1);
    }
}
