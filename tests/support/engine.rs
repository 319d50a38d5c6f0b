//! A real engine process, spoken to as the service does, with the bundled package in it.

#![allow(dead_code, reason = "each test binary takes what it needs")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "what was not expected fails the test"
)]

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lineside::engine::process::environment;
use lineside::engine::protocol::{
    self, Ask, Done, Facts, Failure, Flash, FromEngine, Instruction, KvType, Load, Mapping,
    Options, Piece, Rule, ToEngine, Without, Work, WorkNo,
};
use lineside::package::{self, Package};

/// Longer than anything here takes on the slowest machine; only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Nothing is left out of a plain engine but the shortcuts.
pub(crate) const PLAIN: Without = Without {
    prefixes: true,
    jumps: true,
    scoring: true,
    guesses: true,
};

pub(crate) fn options() -> Options {
    Options {
        context_tokens: 512,
        cache_tokens: 8192,
        sequences: 8,
        queue: 256,
        threads: Some(1),
        batch_tokens: 512,
        pass_ms: 20,
        gpu_layers: 0,
        kv_type: KvType::F16,
        flash_attention: Flash::Auto,
        mapping: Mapping::Mapped,
        without: Without::default(),
    }
}

pub(crate) fn bundled() -> Package {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    Package::open(&folder).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The smallest file of the package.
pub(crate) fn model(package: &Package) -> PathBuf {
    let smallest = package
        .variants()
        .min_by_key(|(variant, _)| variant.file.bytes);
    package.model_path(smallest.unwrap().0)
}

/// The package's tasks, in its order.
pub(crate) fn instructions(package: &Package) -> Vec<Instruction> {
    let instruction = |task: &package::Task| {
        let frame = package.frame(&task.name).unwrap();
        Instruction {
            head: frame.prefix().to_owned(),
            tail: frame.suffix().to_owned(),
            rule: match package.rule(task) {
                package::Rule::Grammar(text) => Rule::Grammar(text.into()),
                package::Rule::Schema(text) => Rule::Schema(text.into()),
                package::Rule::Choices(choices) => Rule::Choices(choices.to_vec()),
                package::Rule::Text => Rule::Text,
            },
            max_tokens: task.max_tokens,
        }
    };
    package.manifest().tasks.iter().map(instruction).collect()
}

pub(crate) struct Engine {
    pub(crate) process: Child,
    pub(crate) facts: Facts,
    pub(crate) beats: Vec<protocol::Beat>,
    pub(crate) began: Vec<WorkNo>,
    pub(crate) said: HashMap<WorkNo, String>,
    socket: UnixStream,
    next: u64,
}

impl Engine {
    /// With the bundled package.
    pub(crate) fn start(options: Options) -> Self {
        let package = bundled();
        Self::load(Load {
            model: model(&package).to_string_lossy().into_owned(),
            adapter: None,
            draft: None,
            options,
            instructions: instructions(&package),
        })
        .unwrap()
    }

    /// With anything; the reason, if it cannot be loaded.
    pub(crate) fn load(load: Load) -> Result<Self, String> {
        Self::load_by(Command::new(env!("CARGO_BIN_EXE_lineside")), load)
    }

    /// The same by another program.
    pub(crate) fn load_by(program: Command, load: Load) -> Result<Self, String> {
        let mut engine = Self::spawn(program, Path::new(&load.model));
        engine.say(&ToEngine::Load(Box::new(load)));
        match engine.hear() {
            Some(FromEngine::Ready(facts)) => {
                engine.facts = *facts;
                Ok(engine)
            }
            Some(FromEngine::Unloadable(why)) => Err(why),
            Some(other) => panic!("{other:?} before it was loaded"),
            None => Err("it died".into()),
        }
    }

    /// A process that was told nothing yet.
    fn spawn(mut program: Command, model: &Path) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let process = program
            .arg("engine")
            .env_clear()
            .envs(environment(Some(model)))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            facts: Facts::default(),
            beats: Vec::new(),
            began: Vec::new(),
            said: HashMap::new(),
            socket: ours,
            next: 0,
        }
    }

    pub(crate) fn say(&mut self, message: &ToEngine) {
        let frame = protocol::frame(message).unwrap();
        self.socket.write_all(&frame).unwrap();
    }

    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// The service is gone.
    pub(crate) fn hang_up(&mut self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// The next message; none when the process is gone.
    pub(crate) fn hear(&mut self) -> Option<FromEngine> {
        protocol::read(&mut self.socket).unwrap_or(None)
    }

    pub(crate) fn work(&mut self, instruction: usize, input: &str) -> Work {
        self.next += 1;
        Work {
            no: WorkNo(self.next),
            ask: Ask::Known(u16::try_from(instruction).unwrap()),
            input: input.to_owned(),
            max_tokens: None,
            due_ms: 60_000,
            priority: 1,
            client: 0,
            stream: false,
        }
    }

    pub(crate) fn begin(&mut self, work: Work) -> WorkNo {
        let no = work.no;
        self.say(&ToEngine::Start(Box::new(work)));
        no
    }

    /// The next end of a piece of work, whichever comes.
    pub(crate) fn next_end(&mut self) -> (WorkNo, Result<Done, Failure>) {
        loop {
            match self.hear().expect("the engine is alive") {
                FromEngine::Done(done) => return (done.no, Ok(*done)),
                FromEngine::Failed { no, why } => return (no, Err(why)),
                FromEngine::Began(no) => self.began.push(no),
                FromEngine::Beat(beat) => self.beats.push(beat),
                FromEngine::Tokens { no, text } => self.said.entry(no).or_default().push_str(&text),
                other @ (FromEngine::Ready(_)
                | FromEngine::Unloadable(_)
                | FromEngine::Prefix(_)) => panic!("{other:?}"),
            }
        }
    }

    /// The state of an instruction's prefix, piece by piece; none if it has none.
    pub(crate) fn saved(&mut self, instruction: u16) -> Option<Vec<Piece>> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut offset = 0;
        loop {
            self.say(&ToEngine::SavePrefix {
                instruction,
                offset,
            });
            let piece = loop {
                match self.hear().expect("the engine is alive") {
                    FromEngine::Prefix(piece) => break piece,
                    FromEngine::Beat(beat) => self.beats.push(beat),
                    other => panic!("{other:?}"),
                }
            };
            if piece == Piece::void(instruction) {
                assert_eq!(pieces, [], "it ended in the middle");
                return None;
            }
            assert_eq!((piece.instruction, piece.offset), (instruction, offset));
            offset += piece.bytes.len() as u64;
            let whole = offset == piece.total;
            pieces.push(piece);
            if whole {
                return Some(pieces);
            }
        }
    }

    pub(crate) fn answer(&mut self, work: Work) -> Result<Done, Failure> {
        let no = self.begin(work);
        let (ended, result) = self.next_end();
        assert_eq!(ended, no);
        result
    }

    /// All of it at once; results in the order of the work.
    pub(crate) fn answers(&mut self, works: Vec<Work>) -> Vec<Result<Done, Failure>> {
        let order: Vec<WorkNo> = works.into_iter().map(|work| self.begin(work)).collect();
        let mut ends: HashMap<WorkNo, Result<Done, Failure>> = HashMap::new();
        while ends.len() < order.len() {
            let (no, result) = self.next_end();
            assert!(ends.insert(no, result).is_none(), "{no:?} ended twice");
        }
        order.iter().map(|no| ends.remove(no).unwrap()).collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
