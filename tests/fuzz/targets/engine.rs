//! Whatever comes over the socket between service and engine, from either side: bytes become
//! whole messages or an end, and no order of messages takes the supervisor off its feet.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use lineside::clock::Mono;
use lineside::engine::memo;
use lineside::engine::order::Book;
use lineside::engine::protocol::{
    self, Done, Facts, Failure, Flash, Frames, FromEngine, KvType, Mapping, Options, ToEngine,
    Without, WorkNo,
};
use lineside::engine::supervise::{ActiveModel, ChildNo, Succession, Supervisor, Wanted};
use lineside::engine::{Command, Event, Job, LoadNo};
use lineside::intake::{
    Ask, Classification, Client, Detail, Late, Digest, Priority, Request, RequestId, ReturnAddress,
    Stream,
};
use lineside::package::Package;
use lineside::ticket::TicketNo;
use serde::Serialize;
use serde::de::DeserializeOwned;

static MODELS: LazyLock<Vec<Arc<ActiveModel>>> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/factory-triage");
    let package = Package::open(Path::new(folder)).expect("the bundled package");
    let model = |variant: &_| ActiveModel {
        book: Book::of(&package, variant),
        options: OPTIONS,
        draft: None,
        succession: Succession::Beside,
        load: LoadNo(1),
    };
    let variants = package.variants();
    variants.map(|(variant, _)| Arc::new(model(variant))).collect()
});

const OPTIONS: Options = Options {
    context_tokens: 512,
    cache_tokens: 4096,
    sequences: 2,
    queue: 2,
    threads: None,
    batch_tokens: 512,
    pass_ms: 25,
    gpu_layers: 0,
    kv_type: KvType::F16,
    flash_attention: Flash::Auto,
    mapping: Mapping::Read,
    without: Without {
        prefixes: false,
        jumps: false,
        scoring: false,
        guesses: false,
    },
};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// Bytes to the service, cut into pieces of this size.
    Heard(u8, &'a [u8]),
    /// Bytes to the engine.
    Told(u8, &'a [u8]),
    /// The supervisor lives through this.
    Life(Vec<Step<'a>>),
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Start { text: u8, due_s: u8, stream: bool },
    Cancel(u8),
    Want(u8),
    Allow(u8),
    Ready(u8, f32),
    Unloadable(u8),
    Began(u8, u8),
    Tokens(u8, u8),
    Done(u8, u8, f32),
    Failed(u8, u8, u8),
    /// A frame from its very bytes.
    Raw(u8, &'a [u8]),
    Exit(u8),
    Pass(u16),
    ToDeadline,
}

/// All whole messages in some bytes, by both readers; they must agree.
fn read_all<M: Serialize + DeserializeOwned>(bytes: &[u8], cut: u8) {
    let (mut frames, mut streamed) = (Frames::default(), Vec::new());
    let mut good = true;
    for piece in bytes.chunks(usize::from(cut).max(1)) {
        frames.extend(piece);
        while good {
            match frames.take::<M>() {
                Ok(Some(message)) => streamed.push(message),
                Ok(None) => break,
                Err(_) => good = false,
            }
        }
    }
    let mut socket = bytes;
    for message in &streamed {
        let read = protocol::read::<M>(&mut socket);
        let read = read.expect("a whole frame").expect("not the end");
        let again = protocol::frame(&read).expect("what was read can be told");
        // Numbers that are none do not equal themselves; their bytes do.
        assert_eq!(again, protocol::frame(message).expect("the same"));
    }
    if !good {
        assert!(protocol::read::<M>(&mut socket).is_err());
    }
}

fn job(ticket: u64, text: u8, due: Mono, stream: bool) -> Job {
    let request = Request {
        id: RequestId::Given(ticket.to_string()),
        client: Client::Anonymous,
        ask: match text % 5 {
            0 => Ask::Prompt("p".into()),
            1 => Ask::Task {
                task: "none".into(),
                input: "p".into(),
            },
            _ => Ask::Task {
                task: "triage".into(),
                input: (text % 7).to_string(),
            },
        },
        classification: Classification::Public,
        risk: None,
        complexity: None,
        priority: Priority::Normal,
        deadline: Duration::from_secs(60),
        late: Late::No,
        max_tokens: None,
        schema: (text % 11 == 0).then(|| "{}".into()),
        stream: if stream { Stream::Yes } else { Stream::No },
        detail: Detail::Whole,
        reply: ReturnAddress::Local,
        content: Digest([0; 16]),
    };
    Job {
        ticket: TicketNo(ticket),
        request,
        due,
        fresh: false,
    }
}

#[derive(Default)]
struct Life {
    now: Mono,
    last_ticket: u64,
    open: BTreeSet<TicketNo>,
    alive: BTreeMap<ChildNo, Vec<WorkNo>>,
}

impl Life {
    fn take(&mut self, supervisor: &mut Supervisor) {
        let effects = supervisor.take_effects();
        for child in effects.spawn {
            assert!(self.alive.insert(child, Vec::new()).is_none());
        }
        for (child, frame) in effects.frames {
            let works = self.alive.get_mut(&child).expect("a live process");
            if let ToEngine::Start(work) = &frame {
                works.push(work.no);
            }
            protocol::frame(&frame).expect("what is told can be told");
        }
        for child in effects.kill {
            assert!(self.alive.remove(&child).is_some(), "killed twice");
        }
        assert!(self.alive.len() <= 3);
        for event in effects.events {
            if let Event::Ended { ticket, result, .. } = event {
                assert!(self.open.remove(&ticket), "ended twice");
                if let Ok(completion) = result {
                    assert!((0.0..=1.0).contains(&completion.confidence));
                }
            }
        }
    }

    fn child(&self, which: u8) -> Option<ChildNo> {
        let count = self.alive.len().max(1);
        self.alive.keys().nth(usize::from(which) % count).copied()
    }

    /// Work of that process, or once in a while any number.
    fn work(&self, child: ChildNo, which: u8) -> WorkNo {
        let works = &self.alive[&child];
        let work = works.get(usize::from(which) % works.len().max(1));
        work.copied().unwrap_or(WorkNo(which.into()))
    }

    fn step(&mut self, supervisor: &mut Supervisor, step: &Step<'_>) {
        let now = self.now;
        let frame = |supervisor: &mut Supervisor, child, frame| {
            supervisor.on_frame(child, frame, now);
        };
        match step {
            Step::Start {
                text,
                due_s,
                stream,
            } => {
                self.last_ticket += 1;
                let due = now.after(Duration::from_secs((*due_s).into()));
                let job = job(self.last_ticket, *text, due, *stream);
                self.open.insert(job.ticket);
                supervisor.on_command(Command::Start(job), now);
            }
            Step::Cancel(which) => {
                let ticket = self.open.iter().nth((*which).into()).copied();
                let ticket = ticket.unwrap_or(TicketNo((*which).into()));
                self.open.remove(&ticket);
                supervisor.on_command(Command::Cancel(ticket), now);
            }
            Step::Want(0) => supervisor.on_wanted(Wanted::Coming, now),
            Step::Want(1) => supervisor.on_wanted(Wanted::Nothing { why: "no".into() }, now),
            Step::Want(which) => {
                let model = &MODELS[usize::from(*which) % MODELS.len()];
                supervisor.on_wanted(Wanted::Model(Arc::clone(model)), now);
            }
            Step::Allow(sequences) => supervisor.on_allowance(protocol::Allowance {
                sequences: (*sequences).into(),
                threads: None,
                rest_permille: 0,
                guessing: protocol::Guessing::default(),
                keeping: protocol::Keeping::default(),
            }),
            Step::Pass(ms) => {
                self.now = now.after(Duration::from_millis((*ms).into()));
                supervisor.on_timeout(self.now);
            }
            Step::ToDeadline => {
                if let Some((at, _)) = supervisor.deadline() {
                    self.now = now.max(at);
                }
                supervisor.on_timeout(self.now);
            }
            Step::Exit(which) => {
                if let Some(child) = self.child(*which) {
                    self.alive.remove(&child);
                    supervisor.on_exit(child, "gone", now);
                }
            }
            Step::Ready(which, _)
            | Step::Unloadable(which)
            | Step::Began(which, _)
            | Step::Tokens(which, _)
            | Step::Done(which, _, _)
            | Step::Failed(which, _, _)
            | Step::Raw(which, _) => {
                if let Some(child) = self.child(*which)
                    && let Some(said) = self.said(child, step)
                {
                    frame(supervisor, child, said);
                }
            }
        }
        self.take(supervisor);
    }

    fn said(&self, child: ChildNo, step: &Step<'_>) -> Option<FromEngine> {
        Some(match step {
            Step::Ready(_, tokens_per_s) => FromEngine::Ready(Box::new(Facts {
                tokens_per_s: *tokens_per_s,
                ..Facts::default()
            })),
            Step::Unloadable(_) => FromEngine::Unloadable("no".into()),
            Step::Began(_, which) => FromEngine::Began(self.work(child, *which)),
            Step::Tokens(_, which) => FromEngine::Tokens {
                no: self.work(child, *which),
                text: "t".into(),
            },
            Step::Done(_, which, logprob) => FromEngine::Done(Box::new(Done {
                no: self.work(child, *which),
                choices: vec![*logprob],
                ..Done::default()
            })),
            Step::Failed(_, which, why) => FromEngine::Failed {
                no: self.work(child, *which),
                why: match why % 7 {
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
                },
            },
            Step::Raw(_, bytes) => {
                let mut frames = Frames::default();
                frames.extend(bytes);
                frames.take().ok()??
            }
            Step::Start { .. }
            | Step::Cancel(_)
            | Step::Want(_)
            | Step::Allow(_)
            | Step::Exit(_)
            | Step::Pass(_)
            | Step::ToDeadline => return None,
        })
    }
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Heard(cut, bytes) => read_all::<FromEngine>(bytes, cut),
    Input::Told(cut, bytes) => read_all::<ToEngine>(bytes, cut),
    Input::Life(steps) => {
        let idle = Some(Duration::from_secs(10));
        let mut supervisor = Supervisor::new(idle, memo::Limits::default());
        let mut life = Life::default();
        for step in &steps {
            life.step(&mut supervisor, step);
        }
        supervisor.on_wanted(Wanted::Nothing { why: "end".into() }, life.now);
        life.take(&mut supervisor);
        assert!(life.open.is_empty() && life.alive.is_empty());
    }
});
