//! The engine's shell with real processes: what becomes of one that dies, hangs, does not listen
//! or talks nonsense, and of the jobs that it had.
//!
//! The process is this very test, run once more with a part to play, so that it can be told to
//! misbehave; the real engine process has its turn where a model cannot be loaded.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use lineside::clock::Clock;
use lineside::engine::order::Book;
use lineside::engine::process::{self, ENVIRONMENT, Ends, Launch};
use lineside::engine::protocol::{
    self, Allowance, Beat, Done, Facts, Flash, FromEngine, Guessing, Keeping, KvType, Mapping,
    Options, ToEngine, Without,
};
use lineside::engine::supervise::{ActiveModel, Succession, Supervisor, Wanted};
use lineside::engine::worker::BEAT;
use lineside::engine::{Command, Completion, Event, Fault, Job, LoadNo, Report, State, memo};
use lineside::intake::{
    Ask, Classification, Client, Detail, Digest, Late, Priority, Request, RequestId, ReturnAddress,
    Stream,
};
use lineside::package::Package;
use lineside::ticket::TicketNo;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Far longer than anything here takes on a crowded machine; only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(1);
/// Tells the test's binary that it plays a part.
const PART: &str = "LINESIDE_TEST_PART";

// The part.

/// Not a test: the engine process of the others.
#[test]
#[ignore = "a part in the other tests"]
fn stand_in() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut say = |message: &FromEngine| {
        let bytes = protocol::frame(message).unwrap();
        if socket.write_all(&bytes).is_err() {
            std::process::exit(0);
        }
    };
    let (heard, messages) = channel();
    let mut ears = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    std::thread::spawn(move || {
        while let Ok(Some(message)) = protocol::read::<ToEngine>(&mut ears) {
            let is_load = matches!(message, ToEngine::Load(_));
            heard.send(message).unwrap();
            if is_load && part == "deaf" {
                stand_still();
            }
        }
        std::process::exit(0);
    });
    loop {
        match messages.recv_timeout(BEAT) {
            Ok(ToEngine::Load(_)) => say(&FromEngine::Ready(Box::new(Facts {
                tokens_per_s: 9000.0,
                ..Facts::default()
            }))),
            Ok(ToEngine::Start(work)) => {
                say(&FromEngine::Began(work.no));
                let text = match work.input.as_str() {
                    "die" => std::process::abort(),
                    "hang" => stand_still(),
                    "never" => continue,
                    "pid" => std::process::id().to_string(),
                    "environment" => {
                        let all = std::env::vars().map(|(name, value)| name + "=" + &value);
                        all.collect::<Vec<_>>().join("\n")
                    }
                    "nonsense" => {
                        let mut raw = std::io::stdin()
                            .as_fd()
                            .try_clone_to_owned()
                            .map(UnixStream::from);
                        raw.as_mut().unwrap().write_all(&[0xff; 64]).unwrap();
                        continue;
                    }
                    other => other.to_owned(),
                };
                let done = Done {
                    no: work.no,
                    text,
                    ..Done::default()
                };
                say(&FromEngine::Done(Box::new(done)));
            }
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => say(&FromEngine::Beat(Beat::default())),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn stand_still() -> ! {
    loop {
        std::thread::park();
    }
}

/// A shell keeps the part's name, which the cleared environment would not.
fn playing(part: &str) -> Launch {
    let test = std::env::current_exe().unwrap();
    let line = format!(
        "{PART}={part} exec '{}' --exact stand_in --ignored",
        test.display()
    );
    Launch {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), line],
        ..Launch::default()
    }
}

fn real() -> Launch {
    Launch {
        program: env!("CARGO_BIN_EXE_lineside").into(),
        ..Launch::default()
    }
}

// The house.

/// The shell in a task of its own, and its ends.
struct House {
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Event>,
    wanted: watch::Sender<Wanted>,
    allowance: watch::Sender<Option<Allowance>>,
    task: JoinHandle<()>,
    clock: Clock,
    last_ticket: u64,
    /// What was said while something else was waited for.
    reports: Vec<Report>,
}

impl House {
    fn open(launch: Launch, wanted: Wanted) -> Self {
        let clock = Clock::start();
        let (commands, for_it) = mpsc::channel(64);
        let (to_us, events) = mpsc::channel(64);
        let (say, wanted) = watch::channel(wanted);
        let (allow, allowance) = watch::channel(None);
        let ends = Ends {
            commands: for_it,
            events: to_us,
            wanted,
            allowance,
            stockroom: None,
            processes: watch::channel(process::Processes::default()).0,
        };
        let supervisor = Supervisor::new(None, memo::Limits::default());
        let task = tokio::spawn(process::run(supervisor, launch, ends, clock, || {}));
        Self {
            commands,
            events,
            wanted: say,
            allowance: allow,
            task,
            clock,
            last_ticket: 0,
            reports: Vec::new(),
        }
    }

    /// One that plays a part and is ready.
    async fn ready(part: &str) -> Self {
        let mut house = Self::open(playing(part), bundled());
        house.until_ready().await;
        house
    }

    async fn event(&mut self) -> Event {
        let event = timeout(PATIENCE, self.events.recv()).await;
        let event = event.expect("an event").expect("a shell");
        if let Event::Report(report) = &event {
            self.reports.push(report.clone());
        }
        event
    }

    async fn until_ready(&mut self) {
        while !matches!(self.event().await, Event::State(State::Ready { .. })) {}
    }

    async fn start(&mut self, text: &str) -> TicketNo {
        self.last_ticket += 1;
        let ticket = TicketNo(self.last_ticket);
        let due = self.clock.now().mono.after(PATIENCE);
        let job = Job {
            ticket,
            request: request(text),
            due,
            fresh: false,
        };
        self.commands.send(Command::Start(job)).await.unwrap();
        ticket
    }

    async fn end(&mut self) -> (TicketNo, Result<Completion, Fault>) {
        loop {
            if let Event::Ended { ticket, result, .. } = self.event().await {
                return (ticket, result);
            }
        }
    }

    /// The answer to this, and nothing else.
    async fn answer(&mut self, text: &str) -> String {
        let asked = self.start(text).await;
        let (ticket, result) = self.end().await;
        assert_eq!(ticket, asked);
        result.unwrap().text
    }

    /// Whether some report gave a reason with these words.
    fn reason(&self, words: &str) -> bool {
        let whys = self.reports.iter().filter_map(|it| it.why.as_deref());
        let found = whys.into_iter().any(|why| why.contains(words));
        assert!(found, "{words}: {:?}", self.reports);
        found
    }
}

fn request(text: &str) -> Request {
    Request {
        id: RequestId::Given("x".into()),
        client: Client::Anonymous,
        ask: Ask::Prompt(text.into()),
        classification: Classification::Public,
        risk: None,
        complexity: None,
        priority: Priority::Normal,
        deadline: PATIENCE,
        late: Late::No,
        max_tokens: None,
        schema: None,
        stream: Stream::No,
        detail: Detail::Whole,
        reply: ReturnAddress::Local,
        content: Digest([0; 16]),
    }
}

fn bundled() -> Wanted {
    model_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage"))
}

fn model_in(folder: &Path) -> Wanted {
    let package = Package::open(folder).unwrap();
    let (variant, _) = package.variants().next().unwrap();
    Wanted::Model(Arc::new(ActiveModel {
        book: Book::of(&package, variant),
        options: Options {
            context_tokens: 512,
            cache_tokens: 4096,
            sequences: 4,
            queue: 4,
            threads: Some(1),
            batch_tokens: 512,
            pass_ms: 25,
            gpu_layers: 0,
            kv_type: KvType::F16,
            flash_attention: Flash::Auto,
            mapping: Mapping::Read,
            without: Without::default(),
        },
        draft: None,
        succession: Succession::Beside,
        load: LoadNo(1),
    }))
}

#[tokio::test]
async fn a_process_answers_and_knows_nothing_of_its_service() {
    let mut house = House::ready("engine").await;
    assert_eq!(house.answer("spindle").await, "spindle");
    let environment = house.answer("environment").await;
    for (name, value) in ENVIRONMENT {
        assert!(
            environment
                .lines()
                .any(|line| line == format!("{name}={value}")),
            "{environment}"
        );
    }
    assert!(!environment.contains("CARGO"), "{environment}");
    assert!(!environment.contains("HOME="), "{environment}");
}

#[tokio::test]
async fn what_was_computed_when_the_process_died_is_told_and_the_next_one_serves() {
    let mut house = House::ready("engine").await;
    let waits = house.start("never").await;
    let dies = house.start("die").await;
    for _ in 0..2 {
        let (ticket, result) = house.end().await;
        assert!([waits, dies].contains(&ticket));
        assert_eq!(result, Err(Fault::Crashed), "{ticket:?}");
    }
    house.until_ready().await;
    house.reason("it was ended by signal 6");
    assert_eq!(house.answer("spindle").await, "spindle");
}

#[tokio::test]
async fn a_process_that_hangs_is_ended_and_its_work_given_back() {
    let mut house = House::ready("engine").await;
    let hangs = house.start("hang").await;
    let behind = house.start("behind").await;
    let mut ends = [house.end().await, house.end().await];
    ends.sort_by_key(|(ticket, _)| *ticket);
    assert_eq!(ends[0], (hangs, Err(Fault::Crashed)));
    assert_eq!(ends[1], (behind, Err(Fault::Busy)));
    house.until_ready().await;
    house.reason("no sign of life");
    assert_eq!(house.answer("spindle").await, "spindle");
}

#[tokio::test]
async fn a_process_that_talks_nonsense_is_ended() {
    let mut house = House::ready("engine").await;
    house.start("nonsense").await;
    assert_eq!(house.end().await.1, Err(Fault::Crashed));
    house.until_ready().await;
    house.reason("it cannot be understood: a frame of 4294967295 bytes");
}

#[tokio::test]
async fn a_process_that_does_not_listen_holds_nobody_up() {
    let mut house = House::ready("deaf").await;
    let flood = async {
        for sequences in 0.. {
            let allowance = Allowance {
                sequences,
                threads: None,
                rest_permille: 0,
                guessing: Guessing::default(),
                keeping: Keeping::default(),
            };
            house.allowance.send_replace(Some(allowance));
            tokio::task::yield_now().await;
            if let Ok(Event::Report(report)) = house.events.try_recv()
                && report.word == "restarting"
            {
                return report;
            }
        }
        unreachable!("as many as there are numbers")
    };
    let report = timeout(PATIENCE, flood).await.expect("it is ended");
    assert_eq!(
        report.why.as_deref(),
        Some("it does not read what it is told")
    );
}

#[tokio::test]
async fn with_the_dispatcher_the_processes_end_too() {
    let mut house = House::ready("engine").await;
    let pid: u32 = house.answer("pid").await.parse().unwrap();
    let place = PathBuf::from(format!("/proc/{pid}"));
    assert!(place.exists());
    house.start("never").await;
    drop(house.commands);
    timeout(PATIENCE, house.task).await.unwrap().unwrap();
    assert!(!place.exists());
}

#[tokio::test]
async fn a_key_in_the_terminal_of_the_service_does_not_reach_the_processes() {
    let mut house = House::ready("engine").await;
    let pid: i32 = house.answer("pid").await.parse().unwrap();
    // A terminal signals a whole group.
    let group = rustix::process::getpgid(rustix::process::Pid::from_raw(pid)).unwrap();
    assert_ne!(group, rustix::process::getpgrp());
    assert_eq!(group.as_raw_pid(), pid);
}

#[tokio::test]
async fn a_model_that_is_taken_away_takes_its_process_along() {
    let mut house = House::ready("engine").await;
    let pid: u32 = house.answer("pid").await.parse().unwrap();
    let why = "taken away".to_owned();
    house.wanted.send_replace(Wanted::Nothing { why });
    while house.event().await != Event::State(State::Absent) {}
    drop(house.commands);
    timeout(PATIENCE, house.task).await.unwrap().unwrap();
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_a_reason_and_no_end() {
    let launch = Launch {
        program: "/nonexistent/lineside".into(),
        arguments: Vec::new(),
        ..Launch::default()
    };
    let mut house = House::open(launch, bundled());
    while house.event().await != Event::State(State::Absent) {}
    while house.reports.last().unwrap().word != "unloadable" {
        house.event().await;
    }
    house.reason("it could not be started");
}

/// A copy of the bundled package whose best model is cut or changed after it was opened.
struct Spoilt(PathBuf);

impl Spoilt {
    fn new(name: &str, spoil: impl Fn(&mut Vec<u8>)) -> (Self, Wanted) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
        let name = format!("lineside-spoilt-{}-{name}", std::process::id());
        let to = std::env::temp_dir().join(name);
        copy(&from, &to);
        let spoilt = Self(to);
        let wanted = model_in(&spoilt.0);
        let Wanted::Model(model) = &wanted else {
            unreachable!("it was just opened");
        };
        let file = model.book.file();
        let mut bytes = std::fs::read(file).unwrap();
        spoil(&mut bytes);
        std::fs::write(file, bytes).unwrap();
        (spoilt, wanted)
    }
}

impl Drop for Spoilt {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn a_model_file_that_cannot_be_loaded_makes_the_engine_absent_with_a_reason() {
    type Spoil = fn(&mut Vec<u8>);
    let spoils: [(&str, Spoil); 3] = [
        ("cut", |bytes| bytes.truncate(bytes.len() / 2)),
        ("empty", Vec::clear),
        ("torn", |bytes| bytes[8..4096].fill(0xa5)),
    ];
    for (name, spoil) in spoils {
        let (_spoilt, wanted) = Spoilt::new(name, spoil);
        let mut house = House::open(real(), wanted);
        while house.event().await != Event::State(State::Absent) {}
        while house.reports.last().unwrap().word != "unloadable" {
            house.event().await;
        }
        let why = house
            .reports
            .last()
            .unwrap()
            .why
            .clone()
            .unwrap_or_default();
        println!("{name}: {why}");
        assert!(!why.is_empty(), "{name}");
        // It stays honest: jobs are given back, not kept.
        house.start("spindle").await;
        assert_eq!(house.end().await.1, Err(Fault::Busy));
    }
}

/// From next to no memory to nearly enough: whatever fails first, it is tried a few times with
/// pauses, and then told; and whatever is asked of an engine that just fits has one end.
#[tokio::test]
async fn an_engine_with_too_little_memory_is_absent_with_a_reason_or_serves() {
    let mut house = House::open(real(), bundled());
    house.until_ready().await;
    let needed = engine_kb();
    drop(house.commands);
    timeout(PATIENCE, house.task).await.unwrap().unwrap();
    let mut absent = 0;
    for percent in [3, 20, 30, 40, 50, 55, 60, 65, 70, 80, 90] {
        let mut house = House::open(real_within(needed * percent / 100), bundled());
        let state = loop {
            match house.event().await {
                Event::State(State::Starting) => {}
                Event::State(state) => break state,
                _ => {}
            }
        };
        let asked = house.start("spindle").await;
        let (ticket, result) = house.end().await;
        assert_eq!(ticket, asked);
        if state == State::Absent {
            absent += 1;
            assert_eq!(result, Err(Fault::Busy));
            while house.reports.last().unwrap().word != "unloadable" {
                house.event().await;
            }
            let last = house.reports.last().unwrap();
            assert!(last.why.as_ref().is_some_and(|why| !why.is_empty()));
            assert!(last.crashes <= 3, "{}", last.crashes);
            println!("{percent} %: {}", last.why.as_deref().unwrap_or_default());
        } else {
            println!("{percent} %: it serves, {}", result.is_ok());
        }
    }
    assert!((3..11).contains(&absent), "{absent}");
}

/// A real engine that may take no more address space.
fn real_within(kb: u64) -> Launch {
    let line = format!("ulimit -v {kb} && exec \"$0\" \"$@\"");
    let program = env!("CARGO_BIN_EXE_lineside");
    Launch {
        program: "/bin/sh".into(),
        arguments: ["-c", &line, program, "engine"].map(str::to_owned).into(),
        ..Launch::default()
    }
}

/// The address space of the engine that this process has started.
fn engine_kb() -> u64 {
    let parent = format!("PPid:\t{}", std::process::id());
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let sizes = processes.filter_map(|entry| {
        let command = std::fs::read(entry.path().join("cmdline")).ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let is_ours = status.lines().any(|line| line == parent);
        let is_engine = command.ends_with(b"\0engine\0");
        let size = status.lines().find_map(|it| it.strip_prefix("VmSize:"))?;
        let kb: u64 = size.trim().trim_end_matches(" kB").parse().ok()?;
        (is_ours && is_engine).then_some(kb)
    });
    sizes.max().unwrap()
}
