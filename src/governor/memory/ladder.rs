//! The steps down: what is tried, one after the other, until it fits.
//!
//! ```text
//!  cache in 16 bit:  whole context:  8 conversations, a smaller shared cache, 6, 4, 3, 2, 1
//!                    half of it:     8, 6, …                      and so on down to the least
//!                    the same with shorter passes
//!  cache in 8 bit:   the same again
//! ```
//!
//! What the site has fixed stays. A cache in 4 bit is never chosen, only suggested: it costs
//! answers.

use super::shape::{Kv, Shape};
use super::{Board, Run, Wishes};

/// Conversations at a time where nobody says: what a board of two to eight cores gains from.
pub const SEQUENCES: u16 = 8;
/// And what is tried when memory is short.
const FEWER_SEQUENCES: &[u16] = &[SEQUENCES, 6, 4, 3, 2, 1];
/// Tokens in one pass.
pub const BATCH_TOKENS: u32 = 512;
/// The same when memory is short: below, reading a prompt becomes slow.
const SHORT_BATCH_TOKENS: u32 = 128;
/// Tokens of the shared cache, unless one conversation needs more: with the models of small
/// boards a quarter of a gigabyte.
pub const MAX_CACHE_TOKENS: u32 = 16 << 10;
/// No context is made smaller than this unless the package has less: an instruction and its input
/// have to fit.
pub const MIN_CONTEXT_TOKENS: u32 = 512;

/// All that may be tried, the best first.
pub(super) fn steps(
    shape: &Shape,
    board: &Board,
    wishes: &Wishes,
) -> impl Iterator<Item = Run> + use<> {
    let flash = wishes.flash.unwrap_or(true);
    let kvs = match wishes.kv {
        Some(kv) => vec![kv],
        None => vec![Kv::F16, Kv::Q8],
    };
    let usable = |kv: &Kv| *kv == Kv::F16 || (flash && shape.can_store(*kv));
    let kvs: Vec<Kv> = kvs.into_iter().filter(usable).collect();
    let contexts = contexts(shape, wishes);
    let sequences = match wishes.sequences {
        Some(sequences) => vec![sequences],
        None => FEWER_SEQUENCES.to_vec(),
    };
    let base = Run {
        context_tokens: 0,
        cache_tokens: 0,
        sequences: 0,
        batch_tokens: BATCH_TOKENS,
        kv: Kv::F16,
        flash,
        threads: wishes.threads.unwrap_or(board.cores).max(1),
        gpu_layers: wishes.gpu_layers.unwrap_or(0),
        instructions: wishes.instructions,
        cpu: board.cpu,
    };
    let mut steps = Vec::new();
    for kv in kvs {
        for batch_tokens in [BATCH_TOKENS, SHORT_BATCH_TOKENS] {
            for &context_tokens in &contexts {
                for &sequences in &sequences {
                    for cache_tokens in caches(context_tokens, sequences) {
                        steps.push(Run {
                            context_tokens,
                            cache_tokens,
                            sequences,
                            batch_tokens: batch_tokens.min(cache_tokens),
                            kv,
                            ..base
                        });
                    }
                }
            }
        }
    }
    steps.into_iter()
}

/// The whole context, and halves of it.
fn contexts(shape: &Shape, wishes: &Wishes) -> Vec<u32> {
    if let Some(context) = wishes.context_tokens {
        return vec![context.max(1)];
    }
    let whole = whole_context(shape, wishes);
    let least = whole.min(MIN_CONTEXT_TOKENS);
    let halves = std::iter::successors(Some(whole), |context| Some(context / 2));
    halves.take_while(|context| *context >= least).collect()
}

/// What the package and the model are made for.
pub(super) fn whole_context(shape: &Shape, wishes: &Wishes) -> u32 {
    wishes
        .package_context_tokens
        .min(shape.trained_tokens.max(1))
        .max(1)
}

/// Sizes of the cache: what all conversations at once and one beginning could use, up to the
/// limit; then halves of it, as long as two of them can be there at a time.
fn caches(context_tokens: u32, sequences: u16) -> Vec<u32> {
    let all = context_tokens.saturating_mul(u32::from(sequences) + 1);
    let whole = all.min(MAX_CACHE_TOKENS.max(context_tokens));
    let least = context_tokens.saturating_mul(u32::from(sequences.min(2)));
    let halves = std::iter::successors(Some(whole / 2), |cache| Some(cache / 2));
    let halves = halves.take_while(|cache| *cache >= least);
    std::iter::once(whole).chain(halves).collect()
}
