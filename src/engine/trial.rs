//! Measures how quick the model is here, and with how many threads best.
//!
//! Done after the load, and again between two passes when passes have become much slower than
//! they were: a busy neighbour makes threads wait for each other, and then fewer are quicker. It
//! uses a sequence of its own and leaves nothing in the cache.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::native::{Batch, Context, Logits, PassError};
use super::pace::{Measured, Pace, best_threads};
use crate::clock::Clock;

/// Tokens of the pass that tells what a token costs when there are few, as with guesses.
const FEW: u32 = 4;
/// Tokens of the pass that tells what a token costs when there are many.
const MANY: u32 = 64;

/// How long it may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Passes with each number of threads; the median counts.
    passes: usize,
    /// Time for each number of threads, if the passes take longer.
    span: Duration,
}

impl Effort {
    /// Nobody waits yet.
    pub(super) const AT_START: Self = Self {
        passes: 9,
        span: Duration::from_millis(400),
    };
    /// Somebody may.
    pub(super) const AT_WORK: Self = Self {
        passes: 5,
        span: Duration::from_millis(30),
    };
}

/// The numbers of threads that are worth a look.
pub(super) fn candidates(at_most: Option<u16>) -> Vec<u16> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let cores = u16::try_from(cores).unwrap_or(u16::MAX);
    let most = at_most.map_or(cores, |most| most.clamp(1, cores));
    let doubled = std::iter::successors(Some(1_u16), |threads| threads.checked_mul(2));
    doubled
        .take_while(|threads| *threads < most)
        .chain([most])
        .collect()
}

/// The best of these numbers of threads, which is set, and the pace with it.
pub(super) fn measure(
    context: &mut Context<'_>,
    sequence: u32,
    candidates: &[u16],
    effort: Effort,
    clock: &Clock,
) -> Result<(u16, Pace), PassError> {
    let mut trials = Vec::new();
    for threads in candidates {
        context.set_threads(*threads);
        trials.push((*threads, median(context, sequence, 1, effort, clock)?));
    }
    let (threads, one) = best_threads(&trials).unwrap_or((1, effort.span));
    context.set_threads(threads);
    let mut pass = |tokens: u32| {
        let tokens = tokens.min(context.shape().batch_tokens).max(2);
        let took = median(context, sequence, tokens, effort, clock)?;
        Ok(Measured {
            tokens: tokens as usize,
            took,
        })
    };
    let (few, many) = (pass(FEW)?, pass(MANY)?);
    Ok((threads, Pace::measured(one, few, many)))
}

fn median(
    context: &mut Context<'_>,
    sequence: u32,
    tokens: u32,
    effort: Effort,
    clock: &Clock,
) -> Result<Duration, PassError> {
    let mut batch = Batch::default();
    let mut times = Vec::new();
    let started = clock.now().mono;
    // The first pass warms caches and threads, and counts only if it is all there is time for.
    for pass in 0..=effort.passes {
        batch.clear();
        for position in 0..tokens {
            batch.add(0, position, &[sequence], Logits::Unwanted);
        }
        batch.want_last();
        let before = clock.now().mono;
        let result = context.pass(&mut batch);
        let forgot = context.forget(sequence, 0);
        debug_assert!(forgot, "a whole sequence can always be forgotten");
        result?;
        let after = clock.now().mono;
        let over = after.since(started) > effort.span;
        if pass > 0 || over {
            times.push(after.since(before));
        }
        if over {
            break;
        }
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_is_always_looked_at_and_no_more_than_allowed() {
        assert_eq!(candidates(Some(1)), [1]);
        let all = candidates(None);
        assert_eq!(all[0], 1);
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
    }
}
