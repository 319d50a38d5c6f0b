//! The log: one pipeline from `tracing` events to the journal or to standard error.
//!
//! ```text
//! any thread ─event─► Shipper ─try_send─► bounded queue ─► writer thread ─► journal | stderr
//!                        └─ full: counted, reported when there is room again
//! ```
//!
//! A journal that stands still blocks whoever writes to it. Therefore only the writer thread
//! ever writes; a stage that logs hands over an owned record or, when the queue is full, a
//! count.
//!
//! **What may be logged.** A line consists of a constant message and of the fields in
//! [`FIELDS`]; what varies goes into a field, never into the message. Any other field is left
//! out of the line, whoever logs it, and an ordinary test keeps such fields out of the source.
//! So the content of a request has no way into the log by accident. Vendor crates handle
//! content too and word their messages freely; they are kept to [`VENDOR_CEILING`] at most.
//!
//! How it fails: lines are lost and counted ([`LogGuard::dropped`]); nothing else happens.

mod host;
mod pipeline;
mod sinks;
mod tail;

use std::io;
use std::panic::PanicHookInfo;
use std::str::FromStr;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use host::{Channel, Host, Stderr, choose};
pub use pipeline::Flushed;
use pipeline::{Pipeline, Shipper, Sink, start};
use sinks::{Journal, Lines, Stamp};
pub use tail::{LogTail, TailLine};

use crate::clock::Clock;

/// Every field that a log line may carry. None of them ever holds what a device asked or what
/// it was answered; in the journal each is found under its name in capitals.
pub const FIELDS: &[&str] = &[
    // Whose: names and numbers that identify a request without telling it.
    "request_id",
    "client",
    "ticket",
    "appliance",
    "parcel",
    "generation",
    // How it went.
    "rule",
    "source",
    "outcome",
    "reason",
    "code",
    "state",
    "attempt",
    "attempts",
    // Where: a stage, a store, a place on the bus or on the disk.
    "stage",
    "tree",
    "topic",
    "path",
    "url",
    "listen",
    "device",
    "peer",
    "unit",
    "sensor",
    // Which model or programme.
    "package",
    "variant",
    "seq",
    "digest",
    "version",
    "expires",
    "pid",
    // How much and how long.
    "count",
    "bytes",
    "tokens",
    "celsius",
    "free_bytes",
    "limit_bytes",
    "elapsed_ms",
    "pause_ms",
    "silent_ms",
    "limit_ms",
    // Why: an error's own words. An error type that may quote a payload is not logged.
    "error",
    // From the process itself.
    "signal",
    "status",
    "location",
    "thread",
    "panic",
    // From people at the appliance: which command, and as whom on this machine.
    "command",
    "uid",
];

/// A crate that is not ours never says more than this, whatever the settings ask.
const VENDOR_CEILING: LevelFilter = LevelFilter::INFO;
/// What it says where the settings do not name it.
const VENDOR_DEFAULT: LevelFilter = LevelFilter::WARN;
/// Calls every client that hangs up an error, so it is heard only where the settings ask for it.
const EMBEDDED_BROKER: &str = "rumqttd";
/// Our own crates' targets begin with this.
const OWN: &str = "lineside";
/// How long the end of the process waits for the last lines, where nobody has flushed before.
const LAST_FLUSH: Duration = Duration::from_secs(1);

/// What is logged and where to.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    /// How much.
    pub levels: Levels,
    /// Where to.
    pub to: Destination,
    /// Stands in each journal entry as `APPLIANCE`.
    pub appliance: String,
}

/// Where the lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// The journal when it is there and has started us, else standard error.
    #[default]
    Auto,
    /// The journal; standard error only for lines that it cannot take.
    Journald,
    /// Standard error.
    Stderr,
}

/// How much each crate says, read from `info` or from directives such as
/// `lineside=debug,rumqttc=warn`. A level without a name is that of `lineside`.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels(Targets);

/// A level filter that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{directive}` is no log level: write off, error, warn, info, debug or trace, \
     or directives such as `lineside=debug,rumqttc=warn`"
)]
pub struct LevelsFault {
    /// The part that was not understood.
    pub directive: String,
}

impl FromStr for Levels {
    type Err = LevelsFault;

    fn from_str(text: &str) -> Result<Self, LevelsFault> {
        let mut targets = Targets::new()
            .with_default(VENDOR_DEFAULT)
            .with_target(EMBEDDED_BROKER, LevelFilter::OFF)
            .with_target(OWN, LevelFilter::INFO);
        for directive in text.split(',').map(str::trim) {
            let fault = || LevelsFault {
                directive: directive.to_owned(),
            };
            let (target, level) = directive.split_once('=').unwrap_or((OWN, directive));
            let level = level_of(level.trim()).ok_or_else(fault)?;
            targets = match target.trim() {
                "" => return Err(fault()),
                own if own.starts_with(OWN) => targets.with_target(own, level),
                vendor => targets.with_target(vendor, level.min(VENDOR_CEILING)),
            };
        }
        Ok(Self(targets))
    }
}

/// The vendor's own reader also takes numbers and the empty string.
fn level_of(word: &str) -> Option<LevelFilter> {
    match word {
        "off" => Some(LevelFilter::OFF),
        "error" => Some(LevelFilter::ERROR),
        "warn" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        _ => None,
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The thread that writes could not be started.
    #[error("cannot start the log's writer thread: {0}")]
    Thread(#[from] io::Error),
    /// This process has one already.
    #[error("the log has been installed before")]
    Installed,
}

/// Keeps the log; the last lines are written when it is dropped.
#[derive(Debug)]
pub struct LogGuard {
    pipeline: Pipeline,
    tail: LogTail,
}

impl LogGuard {
    /// Waits until all that was logged so far is written, but no longer than `limit`. Call it
    /// before the process exits without unwinding.
    pub fn flush(&self, limit: Duration) -> Flushed {
        self.pipeline.flush(limit)
    }

    /// The last lines, for those who look at the appliance itself.
    pub fn tail(&self) -> LogTail {
        self.tail.clone()
    }

    /// Lines lost since the start, for the telemetry.
    pub fn dropped(&self) -> u64 {
        self.pipeline.dropped()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.flush(LAST_FLUSH);
    }
}

/// Sets up the log and the panic hook for this process.
pub fn install(settings: LogSettings, clock: Clock) -> Result<LogGuard, LogError> {
    let LogSettings {
        levels,
        to,
        appliance,
    } = settings;
    let host = Host::look();
    let stamp = match host.stderr {
        Stderr::Journal => Stamp::Priority,
        Stderr::Terminal | Stderr::Other => Stamp::Time,
    };
    let lines = Lines::new(io::stderr(), stamp);
    let sink: Box<dyn Sink> = match choose(to, host) {
        Channel::Journal => Box::new(Journal::new(appliance, lines)),
        Channel::Stderr => Box::new(lines),
    };
    let tail = LogTail::default();
    let sink = Box::new(tail::Kept::new(tail.clone(), sink));
    let (shipper, pipeline) = start(clock, sink)?;
    subscriber(levels, shipper)
        .try_init()
        .map_err(|_| LogError::Installed)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(LogGuard { pipeline, tail })
}

fn subscriber(levels: Levels, shipper: Shipper) -> impl tracing::Subscriber + Send + Sync {
    tracing_subscriber::registry().with(levels.0).with(shipper)
}

/// Logs where a panic happened. Only a literal message is told: a formatted one may hold
/// anything, the content of a request included. The standard hook would print it, so it is
/// not called.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload().downcast_ref::<&'static str>();
    let thread = std::thread::current();
    tracing::error!(
        panic = message.copied().unwrap_or("(formatted, withheld)"),
        location = panic.location().map(tracing::field::display),
        thread = thread.name().unwrap_or("(unnamed)"),
        "a thread panicked"
    );
}

#[cfg(test)]
mod tests;
