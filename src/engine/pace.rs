//! How fast this model is on this machine, learned from its passes.
//!
//! A pass costs a fixed part (the weights are read once) and a part for each token. Both are
//! running estimates, so that heat, a busy neighbour or a frequency cap show within seconds.
//! From them follow: how much of a prompt may ride in a pass without holding up those who write,
//! and whether a deadline can be met at all.

use std::time::Duration;

/// Weight of a new pass in the running estimates: about twenty passes' memory.
const FRESH: f64 = 0.05;
/// Tokens of a pass from which on it tells something about the cost of a token.
const MANY: usize = 16;
/// Tokens of a pass up to which it tells something about the fixed part.
const FEW: usize = 4;
/// A pass that takes so many times as long as before is a reason to look at the threads again.
const CHANGED: f64 = 1.6;
/// The longest pass: a cancelled request ends, and a sign of life comes, within that.
pub(super) const MAX_PASS: Duration = Duration::from_millis(250);
/// Tokens of a prompt that ride along at least: a prompt must come to an end.
pub(super) const MIN_READ: usize = 8;

/// Running estimates, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    fixed: f64,
    token: f64,
    /// What one token took when it was measured on purpose.
    measured: f64,
}

impl Pace {
    /// From a pass of one token and one of many.
    pub(super) fn measured(one: Duration, many: Duration, tokens: usize) -> Self {
        let (one, many) = (micros(one), micros(many));
        let token = (many - one).max(many * 0.01) / count(tokens.max(2) - 1);
        Self {
            fixed: (one - token).max(0.0),
            token,
            measured: one,
        }
    }

    /// A pass of so many tokens took so long.
    pub(super) fn learn(&mut self, tokens: usize, took: Duration) {
        let took = micros(took);
        if tokens >= MANY {
            let sample = (took - self.fixed).max(took * 0.1) / count(tokens);
            self.token += FRESH * (sample - self.token);
        } else if tokens <= FEW {
            let sample = (took - self.token * count(tokens)).max(took * 0.1);
            self.fixed += FRESH * (sample - self.fixed);
        }
    }

    /// Whether a pass takes much longer, or much less long, than when it was measured.
    pub(super) fn has_changed(&self) -> bool {
        let ratio = (self.fixed + self.token) / self.measured.max(1e-3);
        !(1.0 / CHANGED..CHANGED).contains(&ratio)
    }

    /// How long a pass will take. A request with so many tokens to read takes at least as long.
    pub(super) fn pass(&self, tokens: usize) -> Duration {
        let us = self.fixed + self.token * count(tokens);
        Duration::from_secs_f64(us / 1e6)
    }

    /// How many tokens fit into a pass of this length.
    pub(super) fn tokens_in(&self, span: Duration) -> usize {
        let tokens = (micros(span) - self.fixed).max(0.0) / self.token.max(1e-3);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and capped far below"
        )]
        let tokens = tokens.min(1e6) as usize;
        tokens
    }

    /// What one more token in a pass costs, as a share of a pass with one.
    pub(super) fn token_share(&self) -> f64 {
        self.token / (self.fixed + self.token).max(1e-3)
    }

    /// What one more token in a pass costs, in microseconds.
    pub(super) fn token_us(&self) -> f64 {
        self.token
    }

    /// Passes of one token in a second.
    pub(super) fn tokens_per_s(&self) -> f64 {
        1e6 / (self.fixed + self.token).max(1e-3)
    }
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a batch is far below 2^52 tokens"
)]
fn count(tokens: usize) -> f64 {
    tokens as f64
}

/// Which number of threads is best, of passes measured with each: the fewest that are within
/// a tenth of the quickest, for a core that gains so little serves the rest better.
pub(super) fn best_threads(measured: &[(u16, Duration)]) -> Option<(u16, Duration)> {
    let quickest = measured.iter().map(|(_, took)| *took).min()?;
    let good = |(_, took): &&(u16, Duration)| took.as_secs_f64() <= quickest.as_secs_f64() * 1.1;
    measured
        .iter()
        .filter(good)
        .min_by_key(|(threads, _)| *threads)
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: fn(u64) -> Duration = Duration::from_micros;

    #[test]
    fn two_passes_tell_what_is_fixed_and_what_a_token_costs() {
        let pace = Pace::measured(US(110), US(1000 + 100), 101);
        assert!((pace.token - 9.9).abs() < 0.01, "{pace:?}");
        assert!((pace.fixed - 100.1).abs() < 0.1, "{pace:?}");
        assert_eq!(pace.tokens_in(US(1100)), 101);
        assert_eq!(pace.tokens_in(US(50)), 0);
        assert!(!pace.has_changed());
    }

    #[test]
    fn a_machine_that_slows_down_is_believed_after_some_passes() {
        let mut pace = Pace::measured(US(110), US(1100), 101);
        for _ in 0..100 {
            pace.learn(1, US(500));
            pace.learn(64, US(5000));
        }
        assert!(pace.has_changed());
        assert!(pace.pass(1) > US(450), "{pace:?}");
        assert!(pace.pass(64) > US(4500), "{pace:?}");
    }

    #[test]
    fn the_fewest_threads_that_are_about_as_quick_win() {
        let measured = [(1, US(100)), (2, US(95)), (4, US(60)), (8, US(58))];
        assert_eq!(best_threads(&measured), Some((4, US(60))));
        assert_eq!(
            best_threads(&[(1, US(100)), (2, US(95))]),
            Some((1, US(100)))
        );
        assert_eq!(best_threads(&[]), None);
    }
}
