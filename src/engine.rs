//! The inference engine, as the rest of the appliance sees it.
//!
//! A [`Job`] goes in, a [`Completion`] or a [`Fault`] comes out, and [`State`] says how many jobs
//! may be under way. The dispatcher defines nothing more of the engine than this, so a
//! simulated one stands in for it in the scenarios.
//!
//! This build carries no engine yet: [`State::Absent`] is the honest truth, and requests that
//! need one are refused with `engine_unavailable`.

mod choices;
pub mod constraint;
mod desk;
mod floor;
mod guess;
mod native;
mod pace;
pub mod protocol;
mod shelf;
mod talk;
mod trial;
mod wording;
pub mod worker;

use crate::intake::Request;
use crate::ticket::TicketNo;

/// One request, on its way to be computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Whose it is; comes back with the result.
    pub ticket: TicketNo,
    /// What to compute.
    pub request: Request,
}

/// What the engine can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none in this build or configuration, and none will come.
    Absent,
    /// One is being started; jobs wait.
    Starting,
    /// Up to this many jobs at a time.
    Ready {
        /// Concurrent jobs.
        slots: u32,
    },
}

/// A finished answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// What the model said.
    pub text: String,
    /// Calibrated probability that it is right.
    pub confidence: f32,
    /// Which model said it.
    pub model: Model,
    /// Tokens spent.
    pub tokens: Tokens,
    /// From the start of the job to its first token.
    pub first_token_ms: f32,
}

/// Which model answered, for the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Package name.
    pub package: String,
    /// Package sequence number.
    pub seq: u64,
    /// Digest of the weights.
    pub digest: String,
    /// Version of the prompt.
    pub prompt_version: String,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All slots were taken: it may be offered again.
    Busy,
    /// The engine died with the job inside.
    Crashed,
}

/// What the engine reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It can take more, less or nothing now.
    State(State),
    /// A job ended.
    Ended {
        /// Which.
        ticket: TicketNo,
        /// How.
        result: Result<Completion, Fault>,
    },
}

/// What the dispatcher asks of the engine.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Compute this.
    Start(Job),
    /// Its answer is no longer wanted.
    Cancel(TicketNo),
}
