//! The engine process: `lineside engine`, started by the service and by nobody else.
//!
//! ```text
//!  socket (standard input) ─► listener thread ─► inbox ─► computing thread ─► socket
//!                                  │ end of the socket, Shutdown
//!                                  └─► the brake, and the end of the process
//! ```
//!
//! Owns the model. One thread computes and speaks, one listens. The listener ends the process as
//! soon as the service is gone, also in the middle of a load or a pass: no engine outlives its
//! service. (The kernel's parent-death signal would fire when the thread that spawned us ends,
//! which in the service may be any time.)
//!
//! Signs of life come from the computing loop itself, at least every [`BEAT`] and a pass, so that
//! a model that hangs is silent.
//!
//! As soon as it knows what to load, it closes the [`cage`] around itself. No process of the kind
//! leaves a core dump: weights and requests were in it.
//!
//! How it fails: what cannot be loaded is told (`Unloadable`) and ends the process; a bad frame
//! ends it too. Whatever native code does to this process, the service goes on.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};

use super::cage::{self, Gear, Guard};
use super::constraint::{Compiler, Pieces, Vocabulary};
use super::floor::Floor;
use super::foresight::{Foresight, TALKS};
use super::guess::MAX_GUESSED;
use super::handover::{self, Opened};
use super::native::{Adapter, Brake, Context, Shape};
use super::protocol::{
    self, Facts, Flash, FrameError, FromEngine, KvType, Load, Mapping, Options, ToEngine,
};
use super::trial::{self, Effort};
use super::wording::Wording;
use crate::clock::Clock;
use crate::safe;

/// Between two signs of life.
pub const BEAT: Duration = Duration::from_millis(100);
/// Messages that wait to be read by the computing thread; then the service waits.
const INBOX: usize = 1024;
/// Messages taken between two passes: a burst must not hold up those who write.
const MAX_MESSAGES_A_PASS: usize = 64;
/// `EX_UNAVAILABLE`: the model cannot be loaded.
const EXIT_UNLOADABLE: u8 = 69;
/// `EX_PROTOCOL`: what came over the socket was no message.
const EXIT_PROTOCOL: u8 = 76;

/// Runs the engine on the socket that is its standard input, until it is told to stop.
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(End::Unloadable) => ExitCode::from(EXIT_UNLOADABLE),
        Err(End::Socket(error)) => {
            let _ = writeln!(std::io::stderr(), "lineside engine: {error}");
            ExitCode::from(EXIT_PROTOCOL)
        }
    }
}

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the model cannot be loaded")]
    Unloadable,
    #[error(transparent)]
    Socket(#[from] FrameError),
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        Self::Socket(error.into())
    }
}

fn serve() -> Result<(), End> {
    let clock = Clock::start();
    safe::no_core()?;
    let offered = cage::offer();
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let listening = socket.try_clone()?;
    let mut wire = Wire(socket);
    let Some((load, opened)) = handover::receive(&listening)? else {
        return Ok(()); // the service changed its mind
    };
    // From here on there may be foreign hands in this process, and threads.
    let unguarded = cage::close(&offered, &readable(&load), Gear::BUILT);
    let brake = Brake::default();
    let inbox = listen(listening, brake.clone())?;
    send_logs_to_tracing(LogOptions::default().with_logs_enabled(false));
    match run((load, opened), unguarded, &inbox, &mut wire, &brake, clock) {
        Ok(()) => Ok(()),
        Err(Stop::Socket(error)) => Err(error.into()),
        Err(Stop::Unloadable(why)) => {
            wire.say(&FromEngine::Unloadable(why))?;
            Err(End::Unloadable)
        }
    }
}

/// The files that this engine was started for.
fn readable(load: &Load) -> Vec<&Path> {
    let adapter = load.adapter.as_ref().map(|(path, _)| path);
    [Some(&load.model), adapter, load.draft.as_ref()]
        .into_iter()
        .flatten()
        .map(Path::new)
        .collect()
}

/// The way to the service.
struct Wire(UnixStream);

impl Wire {
    fn say(&mut self, message: &FromEngine) -> Result<(), FrameError> {
        Ok(self.0.write_all(&protocol::frame(message)?)?)
    }
}

/// Reads the socket on a thread of its own.
fn listen(mut socket: UnixStream, brake: Brake) -> std::io::Result<Receiver<ToEngine>> {
    let (sender, inbox) = sync_channel(INBOX);
    std::thread::Builder::new()
        .name("listener".into())
        .spawn(move || hear(&mut socket, &sender, &brake))?;
    Ok(inbox)
}

fn hear(socket: &mut UnixStream, inbox: &SyncSender<ToEngine>, brake: &Brake) {
    loop {
        match protocol::read::<ToEngine>(socket) {
            Ok(Some(ToEngine::Shutdown)) => {
                brake.pull();
                let _ = inbox.send(ToEngine::Shutdown);
                return;
            }
            Ok(Some(message)) => {
                // A pause must not wait for the pass that is under way.
                if matches!(&message, ToEngine::Allow(allowance) if allowance.sequences == 0) {
                    brake.pull();
                }
                if inbox.send(message).is_err() {
                    return;
                }
            }
            // The service is gone, or speaks nonsense. There is nothing to tidy up that the
            // kernel would not do, and native code may be in the middle of anything.
            Ok(None) | Err(_) => {
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                );
                return;
            }
        }
    }
}

/// Why the engine stops.
enum Stop {
    Unloadable(String),
    Socket(FrameError),
}

impl From<FrameError> for Stop {
    fn from(error: FrameError) -> Self {
        Self::Socket(error)
    }
}

fn run(
    (load, mut opened): (Load, Opened),
    unguarded: Vec<Guard>,
    inbox: &Receiver<ToEngine>,
    wire: &mut Wire,
    brake: &Brake,
    clock: Clock,
) -> Result<(), Stop> {
    let unloadable = |why: &str| Stop::Unloadable(why.to_owned());
    let started = clock.now().mono;
    let mut options = load.options;
    check(&options)?;
    let backend = LlamaBackend::init().map_err(|error| Stop::Unloadable(error.to_string()))?;
    // One model for the whole life of this process; its end gives the memory back.
    let model: &'static LlamaModel = Box::leak(Box::new(open(&backend, &load.model, &options)?));
    opened.close_model();
    // What such a model has read it cannot forget in part, so a wrong guess would stay.
    options.without.guesses |= model.is_recurrent() || model.is_hybrid();
    let wording = Wording::new(model).ok_or_else(|| unloadable("the model has no end token"))?;
    let compiler = compiler(model, &wording)?;
    let shape = Shape {
        cache_tokens: options.cache_tokens,
        batch_tokens: options.batch_tokens,
        sequences: Floor::sequences_for(&options, load.instructions.len()),
        kv_type: options.kv_type,
        flash_attention: options.flash_attention,
        threads: options.threads.unwrap_or(1),
    };
    let mut context = Context::new(model, shape, brake)
        .ok_or_else(|| unloadable("there is not enough memory for its cache"))?;
    if let Some((path, scale)) = &load.adapter {
        adapt(&mut context, path, *scale)?;
    }
    drop(opened);
    let scratch = shape.sequences - 1;
    let tried = match options.threads {
        Some(threads) => vec![threads.max(1)],
        None => trial::candidates(None),
    };
    let (threads, pace) =
        trial::measure(&mut context, scratch, &tried, Effort::AT_START, &clock)
            .map_err(|error| Stop::Unloadable(format!("its first pass failed: {error}")))?;
    let foresight = match &load.draft {
        Some(path) if !options.without.guesses => {
            Some(foresight(&backend, path, &options, &wording, brake)?)
        }
        Some(_) | None => None,
    };
    let facts = Facts {
        name: model.meta_val_str("general.name").unwrap_or_default(),
        parameters: model.n_params(),
        context_tokens: options.context_tokens,
        cache_tokens: options.cache_tokens,
        sequences: options.sequences,
        threads,
        #[expect(clippy::cast_possible_truncation, reason = "a rate needs no exactness")]
        tokens_per_s: pace.tokens_per_s() as f32,
        load_ms: u32::try_from(clock.now().mono.since(started).as_millis()).unwrap_or(u32::MAX),
        unguarded,
    };
    let mut floor = Floor::new(
        context,
        foresight,
        &wording,
        compiler,
        options,
        load.instructions,
        pace,
    );
    floor.set_threads(threads);
    wire.say(&FromEngine::Ready(Box::new(facts)))?;
    work(&mut floor, inbox, wire, clock)
}

/// Sizes that native code would abort on, and what it refuses without a word.
fn check(options: &Options) -> Result<(), Stop> {
    let sound = options.context_tokens > 0
        && options.cache_tokens >= options.context_tokens
        && options.cache_tokens <= i32::MAX.cast_unsigned()
        && (1..=options.cache_tokens).contains(&options.batch_tokens)
        && (1..=64).contains(&options.sequences);
    if !sound {
        return Err(Stop::Unloadable("its sizes do not fit together".into()));
    }
    if options.kv_type != KvType::F16 && options.flash_attention == Flash::Off {
        let why = "a cache in 8 or 4 bit needs flash attention, which is turned off";
        return Err(Stop::Unloadable(why.into()));
    }
    Ok(())
}

fn open(backend: &LlamaBackend, path: &str, options: &Options) -> Result<LlamaModel, Stop> {
    if !Path::new(path).is_file() {
        return Err(Stop::Unloadable(format!("{path}: no such file")));
    }
    let params = LlamaModelParams::default()
        .with_n_gpu_layers(options.gpu_layers)
        .with_use_mmap(options.mapping == Mapping::Mapped);
    LlamaModel::load_from_file(backend, path, &params).map_err(|error| {
        // It does not tell these apart.
        let why = "no model that this build can load, or too little memory for it";
        Stop::Unloadable(format!("{path}: {why} ({error})"))
    })
}

/// The small model that guesses ahead. It must have the very same tokens.
fn foresight(
    backend: &LlamaBackend,
    path: &str,
    options: &Options,
    wording: &Wording<'_>,
    brake: &Brake,
) -> Result<Foresight<'static>, Stop> {
    let model: &'static LlamaModel = Box::leak(Box::new(open(backend, path, options)?));
    let unloadable = |why: &str| Stop::Unloadable(format!("{path}: {why}"));
    if model.is_recurrent() || model.is_hybrid() {
        return Err(unloadable(
            "a draft model must be able to forget what was guessed wrong",
        ));
    }
    let same = Wording::new(model).is_some_and(|its| its.has_tokens_of(wording));
    if !same {
        return Err(unloadable(
            "a draft model must have the vocabulary of the model that it guesses for",
        ));
    }
    let trained = model.n_ctx_train();
    if trained < options.context_tokens {
        let why = format!(
            "the draft model was trained for {trained} tokens of context, and {} are set",
            options.context_tokens
        );
        return Err(unloadable(&why));
    }
    let shape = Shape {
        cache_tokens: TALKS
            * (options.context_tokens + u32::try_from(MAX_GUESSED).unwrap_or_default()),
        batch_tokens: options.batch_tokens.min(options.context_tokens),
        sequences: TALKS,
        kv_type: options.kv_type,
        flash_attention: options.flash_attention,
        threads: options.threads.unwrap_or(1),
    };
    let context = Context::new(model, shape, brake)
        .ok_or_else(|| unloadable("there is not enough memory for the draft model's cache"))?;
    Ok(Foresight::new(context))
}

fn compiler(model: &'static LlamaModel, wording: &Wording<'_>) -> Result<Compiler, Stop> {
    let pieces = Pieces {
        bytes: wording.pieces(),
        end: wording.end(),
        tokenize: Wording::tokenizer(model),
    };
    let vocabulary =
        Vocabulary::new(pieces).map_err(|error| Stop::Unloadable(error.to_string()))?;
    Ok(Compiler::new(vocabulary))
}

fn adapt(context: &mut Context<'_>, path: &str, scale: f32) -> Result<(), Stop> {
    let unloadable = |why: String| Stop::Unloadable(why);
    let name = std::ffi::CString::new(path).map_err(|error| unloadable(error.to_string()))?;
    let adapter = Adapter::load(context.model(), &name)
        .ok_or_else(|| unloadable(format!("{path}: no adapter for this model")))?;
    if context.adapt(&adapter, scale) {
        Ok(())
    } else {
        Err(unloadable(format!("{path}: the adapter does not fit")))
    }
}

/// Until it is told to stop.
fn work(
    floor: &mut Floor<'_>,
    inbox: &Receiver<ToEngine>,
    wire: &mut Wire,
    clock: Clock,
) -> Result<(), Stop> {
    let mut beaten = clock.now().mono;
    let mut rested = clock.now().mono; // when the rest after the last pass is over
    loop {
        let rest = rested.since(clock.now().mono);
        let wait = if floor.is_busy() {
            rest.min(BEAT)
        } else {
            BEAT
        };
        if take_messages(floor, inbox, wait, clock) == Going::Down {
            return Ok(());
        }
        // A message ends the wait, but not the rest.
        if rested <= clock.now().mono {
            let took = floor.step(&clock);
            rested = clock
                .now()
                .mono
                .after(floor.rest_after(took.unwrap_or_default()));
        }
        for message in floor.news() {
            wire.say(&message)?;
        }
        let now = clock.now().mono;
        if now.since(beaten) >= BEAT {
            beaten = now;
            wire.say(&FromEngine::Beat(floor.beat()))?;
        }
    }
}

#[derive(PartialEq, Eq)]
enum Going {
    On,
    Down,
}

/// Takes what has come; waits for it so long, if nothing has.
fn take_messages(
    floor: &mut Floor<'_>,
    inbox: &Receiver<ToEngine>,
    wait: Duration,
    clock: Clock,
) -> Going {
    let mut wait = wait;
    for _ in 0..MAX_MESSAGES_A_PASS {
        let next = if wait.is_zero() {
            inbox
                .try_recv()
                .map_err(|error| error == TryRecvError::Disconnected)
        } else {
            inbox
                .recv_timeout(wait)
                .map_err(|error| error == RecvTimeoutError::Disconnected)
        };
        match next {
            Ok(ToEngine::Shutdown) | Err(true) => return Going::Down,
            Ok(message) => floor.take(message, clock.now().mono.0),
            Err(false) => return Going::On,
        }
        wait = Duration::ZERO;
    }
    Going::On
}
