//! The inference engine, as the rest of the appliance sees it.
//!
//! A [`Job`] goes in, a [`Completion`] or a [`Fault`] comes out, and [`State`] says how many jobs
//! may be under way. The dispatcher defines nothing more of the engine than this, so a
//! simulated one stands in for it in the scenarios.
//!
//! The model itself lives in a process of its own, because native code may abort, hang or be
//! killed for its memory, and nothing else of the appliance may feel that:
//!
//! ```text
//!  dispatcher ── Command ──► supervise ─── ToEngine ──► process ══ socket ══► worker
//!             ◄─── Event ──  (order, memo) ◄ FromEngine ──      ══════════   (llama.cpp)
//! ```
//!
//! [`order`] turns a request into work and what was computed into an answer, [`memo`] computes
//! nothing twice, [`supervise`] decides, [`process`] carries out, [`worker`] is the other side;
//! [`handover`] gives it a model that lies sealed on the disk; [`stockroom`] keeps on the disk what
//! an engine needs for a warm start; [`cage`] is what the other side cannot get out of. Beside all that,
//! [`exam`] has an engine of its own, for whoever asks in bulk.

pub mod cage;
mod choices;
pub mod constraint;
mod desk;
pub mod exam;
pub mod fits;
mod floor;
mod foresight;
mod guess;
pub mod handover;
pub mod memo;
mod native;
pub mod order;
mod pace;
pub mod process;
pub mod protocol;
pub mod quantize;
mod shelf;
pub mod stockroom;
pub mod supervise;
mod talk;
mod trial;
pub mod vitals;
mod wording;
pub mod worker;

pub use protocol::{Finish, FreeChoice};

use serde::Serialize;

use crate::clock::Mono;
use crate::intake::{Code, Request};
use crate::ticket::TicketNo;

/// One request, on its way to be computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Whose it is; comes back with the result.
    pub ticket: TicketNo,
    /// What to compute.
    pub request: Request,
    /// When its time is up.
    pub due: Mono,
    /// It must be computed, whatever was computed before: it is asked to see how well.
    pub fresh: bool,
}

/// Which load of a model: whatever happens under it bears this, so that nothing counts for the
/// model that came after. The first is 1; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoadNo(pub u64);

/// What became of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadEnd {
    /// It serves from now on.
    Serves,
    /// The model cannot be loaded; what served before still does, if anything did.
    Failed(String),
    /// Its process ended without being asked to, while it loaded or later.
    Crashed(String),
}

/// What the engine can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none in this configuration, or its model cannot be loaded; none is in sight.
    Absent,
    /// One is being started; jobs wait.
    Starting,
    /// Up to this many jobs at a time.
    Ready {
        /// Concurrent jobs.
        slots: u32,
    },
}

/// How the engine is, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One word: `absent`, `starting`, `ready`, `unloaded`, `restarting`, `unloadable` or `paused`.
    pub word: &'static str,
    /// The reason, where there is one.
    pub why: Option<String>,
    /// The package that it serves, with its sequence number.
    pub package: Option<String>,
    /// How often its process ended without being asked to.
    pub crashes: u64,
    /// What this kernel lacks of the cage around its process.
    pub unguarded: Vec<cage::Guard>,
}

/// Bytes of an answer, whoever gives it: far above what the largest number of tokens spells, and
/// little enough that a reply that says it as text and as JSON, each byte of it escaped, still
/// fits into a record of the spool.
pub const MAX_TEXT_BYTES: usize = 256 << 10;

/// A finished answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// What the model said.
    pub text: String,
    /// What kind of text that is.
    pub form: Form,
    /// Why it ends there.
    pub finish: Finish,
    /// Calibrated probability that it is right.
    pub confidence: f32,
    /// Mean entropy of the tokens at which the model had a choice, in nats.
    pub entropy: f32,
    /// Each token at which the model had a choice, in order. Only for who asked for it.
    pub free: Vec<FreeChoice>,
    /// Where the answer was one of several: all of them.
    pub choices: Vec<Choice>,
    /// Which model said it.
    pub model: Model,
    /// Tokens spent.
    pub tokens: Tokens,
    /// Whether it was computed for this request.
    pub origin: Origin,
    /// From the start of the job to its first token.
    pub first_token_ms: f32,
}

/// What kind of text an answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Words.
    #[default]
    Text,
    /// JSON, by a grammar or a schema.
    Json,
}

/// One of the answers that were possible.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// What it says.
    pub label: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// Whether an answer was computed for the request that it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// It was.
    #[default]
    Model,
    /// For the same request of somebody else, at the same time.
    Duplicate,
    /// For the same request, earlier.
    Cache,
}

/// Which model answered, for the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// Package name.
    pub package: String,
    /// Package sequence number.
    pub seq: u64,
    /// Digest of the weights.
    pub digest: String,
    /// Version of the prompt.
    pub prompt_version: String,
    /// How it came to serve, where that is known.
    pub standing: Option<Standing>,
}

/// How a model came to serve here: what makes two devices of a fleet differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The variant that was taken for this board.
    pub variant: String,
    /// What kind of board this is.
    pub board: String,
    /// The ring of roll-outs that the device belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring: Option<String>,
    /// Of its gate on this device: items that were right, and how many there were. None where it was
    /// set by hand, or has no suite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<(usize, usize)>,
}

/// Tokens that an answer cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// In the prompt.
    pub prompt: u32,
    /// Of those, found computed already.
    pub cached: u32,
    /// Generated.
    pub completion: u32,
}

/// Why a job did not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All slots were taken, or it waited in an engine that ended: it may be offered again.
    Busy,
    /// The engine failed with the job inside.
    Crashed,
    /// It cannot be answered here, and another try would not change that.
    Refused {
        /// For programs.
        code: Code,
        /// For people. May quote the request, so it goes back to the sender only.
        message: String,
    },
}

/// What the engine reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It can take more, less or nothing now.
    State(State),
    /// How it is has changed, for people.
    Report(Report),
    /// The next words of an answer that is wanted as it comes.
    Tokens {
        /// Of which job.
        ticket: TicketNo,
        /// Whole characters.
        text: String,
    },
    /// A job ended.
    Ended {
        /// Which.
        ticket: TicketNo,
        /// How.
        result: Result<Completion, Fault>,
        /// Under which load; none if it came to no model.
        load: LoadNo,
    },
    /// A load was successful, or not.
    Load {
        /// Which.
        load: LoadNo,
        /// How.
        end: LoadEnd,
    },
}

/// What the dispatcher asks of the engine.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Compute this.
    Start(Job),
    /// Its answer is no longer wanted. Nothing more is said of it.
    Cancel(TicketNo),
}
