//! Memory: what a model will take, whether it fits, how it is run so that it does, and what is
//! given up when memory runs short all the same.
//!
//! ```text
//!  Shape (the file's header) ─┐
//!  Board (room, cores) ───────┼─► plan ─► Plan: how it is run, its parts in bytes, the reasons
//!  Wishes (the site's) ───────┘     └───► Refusal: what it needs, what is there, what would fit
//!                 ▲
//!                 └── Learned ◄── the kernel killed the engine
//!
//!  MemoryReading ─► Pressure ─► Relief: evict, fewer conversations, a smaller plan, reroute
//! ```
//!
//! Purpose: a model that does not fit is refused before a byte of it is loaded, with the numbers.
//! [`parts::of`] predicts what the engine's process takes when everything in it is as full as it
//! gets; `tests/plan_prediction.rs` holds it against real engines, `tools/bench plan` against any
//! model. What is predicted is the process's anonymous memory, which nothing but its end gives
//! back. The program's own pages, shared with the service, are counted once, there.
//!
//! Invariants: [`plan`] is pure and gives the best step of [`ladder`] that fits; what the site has
//! fixed is never changed; a plan made for less memory never needs more.
//!
//! How it fails: by [`Refusal`], a value.

mod ladder;
mod learned;
pub mod parts;
pub mod pressure;
mod reasons;
mod refusal;
pub mod room;
mod runtime;
mod shape;
#[cfg(test)]
mod tests;

pub use parts::HUGE_PAGES_FROM_BYTES;

pub use ladder::{BATCH_TOKENS, MAX_CACHE_TOKENS, MIN_CONTEXT_TOKENS, SEQUENCES};
pub use learned::Learned;
pub use parts::Parts;
pub use reasons::{Reason, Setting};
pub use refusal::{Refusal, Suggestion};
pub use runtime::Cpu;
pub use shape::{Kv, Matrix, Run, Shape};

/// What the service itself takes at its fullest: its program, brokers, store and queues.
pub const SERVICE_BYTES: u64 = 64 << 20;
/// What is kept free beside the prediction: one part in so many of what the engine takes. The
/// prediction is held to this in the tests.
const MARGIN_SHARE: u64 = 20;

/// What there is to run a model on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// Bytes of memory for service and engine together, what they hold already included.
    pub ram_bytes: u64,
    /// Bytes of a graphics processor's own memory; absent: unknown, and the site answers for it.
    pub vram_bytes: Option<u64>,
    /// Cores.
    pub cores: u16,
    /// What the build of the engine computes with.
    pub cpu: Cpu,
}

/// What the site has fixed, and what the package wants. Absent: as fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Tokens of one conversation.
    pub context_tokens: Option<u32>,
    /// Conversations at a time.
    pub sequences: Option<u16>,
    /// How the cache stores its numbers.
    pub kv: Option<Kv>,
    /// Blocks on a graphics processor.
    pub gpu_layers: Option<u32>,
    /// Threads.
    pub threads: Option<u16>,
    /// Whether attention is computed in one go.
    pub flash: Option<bool>,
    /// Tokens of one conversation that the package is made for.
    pub package_context_tokens: u32,
    /// Instructions of the package.
    pub instructions: u16,
    /// Bytes of files that are loaded beside the model: an adapter.
    pub adapter_bytes: u64,
    /// Whether model and adapter lie sealed: they are in memory as files, too, while they are loaded.
    pub sealed: bool,
    /// A small model that guesses ahead.
    pub draft: Option<Shape>,
}

/// How a model is run so that it fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// How it is run.
    pub run: Run,
    /// Threads, if the site fixed them; else the engine measures which are best.
    pub threads: Option<u16>,
    /// What the engine's process will take.
    pub parts: Parts,
    /// All of it: engine, service and margin.
    pub needs_bytes: u64,
    /// What there is.
    pub there_bytes: u64,
    /// Why each setting is what it is.
    pub reasons: Vec<Reason>,
}

/// How to run the model, or why it cannot be.
pub fn plan(shape: &Shape, board: &Board, wishes: &Wishes) -> Result<Plan, Refusal> {
    let board = *board;
    let mut least: Option<(Run, Parts)> = None;
    for mut run in ladder::steps(shape, &board, wishes) {
        if wishes.gpu_layers.is_none() {
            run.gpu_layers = layers_that_fit(shape, &board, run, wishes);
        }
        let parts = parts::of(shape, &run, wishes);
        if fits(&parts, &board) {
            return Ok(Plan {
                run,
                threads: wishes.threads,
                parts,
                needs_bytes: needs(&parts),
                there_bytes: board.ram_bytes,
                reasons: reasons::of(shape, &board, wishes, &run),
            });
        }
        if least.is_none_or(|(_, known)| needs(&parts) < needs(&known)) {
            least = Some((run, parts));
        }
    }
    Err(refusal::of(shape, &board, wishes, least))
}

/// Engine, service and margin.
pub fn needs(parts: &Parts) -> u64 {
    let engine = parts.engine_bytes();
    engine
        .saturating_add(SERVICE_BYTES)
        .saturating_add(engine / MARGIN_SHARE)
}

fn fits(parts: &Parts, board: &Board) -> bool {
    needs(parts) <= board.ram_bytes
        && board
            .vram_bytes
            .is_none_or(|bytes| parts.graphics_bytes <= bytes)
}

/// As many blocks on the graphics processor as go there.
fn layers_that_fit(shape: &Shape, board: &Board, run: Run, wishes: &Wishes) -> u32 {
    let Some(vram) = board.vram_bytes.filter(|bytes| *bytes > 0) else {
        return 0;
    };
    let with = |gpu_layers| parts::of(shape, &Run { gpu_layers, ..run }, wishes);
    let all = shape.blocks.saturating_add(1);
    let fitting = |layers: &u32| with(*layers).graphics_bytes <= vram;
    (0..=all).rev().find(fitting).unwrap_or(0)
}
