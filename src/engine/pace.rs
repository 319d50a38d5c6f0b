//! How fast this model is on this machine, learned from its passes.
//!
//! A pass costs a fixed part (the weights are read once) and a part for each token. That part is
//! small where there are many, for then products of whole matrices are computed; of a few tokens
//! each may cost nearly a pass of its own, depending on how the weights are stored. All are
//! running estimates, so that heat, a busy neighbour or a frequency cap show within seconds.
//! From them follow: how much of a prompt may ride in a pass without holding up those who write,
//! how many guesses pay, and whether a deadline can be met at all.

use std::time::Duration;

use super::guess::MAX_GUESSED;

/// Weight of a new pass in the running estimates: about twenty passes' memory.
const FRESH: f64 = 0.05;
/// Tokens of a pass from which on it tells something about the cost of a token.
const MANY: usize = 16;
/// Tokens of a pass up to which there are few: the next token and all guesses of what follows.
const FEW: usize = 1 + MAX_GUESSED;
/// A pass that takes so many times as long as before is a reason to look at the threads again.
const CHANGED: f64 = 1.6;
/// The longest pass: a cancelled request ends, and a sign of life comes, within that.
pub(super) const MAX_PASS: Duration = Duration::from_millis(250);
/// The longest rest between two passes while the appliance paces itself: longer ones would be
/// pauses that whoever waits for the next word notices.
pub(super) const MAX_REST: Duration = Duration::from_millis(250);
/// Tokens of a prompt that ride along at least: a prompt must come to an end.
pub(super) const MIN_READ: usize = 8;

/// A pass that was measured on purpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// Tokens in it.
    pub tokens: usize,
    /// How long it took.
    pub took: Duration,
}

/// Running estimates, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    fixed: f64,
    token: f64,
    /// What one more token costs where there are few.
    further: f64,
    /// What one token took when it was measured on purpose.
    measured: f64,
}

impl Pace {
    /// From a pass of one token, one of a few and one of many.
    pub(super) fn measured(one: Duration, few: Measured, many: Measured) -> Self {
        let one = micros(one);
        let token =
            (micros(many.took) - one).max(micros(many.took) * 0.01) / count(many.tokens.max(2) - 1);
        Self {
            fixed: (one - token).max(0.0),
            token,
            further: ((micros(few.took) - one) / count(few.tokens.max(2) - 1)).max(token),
            measured: one,
        }
    }

    /// A pass of so many tokens took so long.
    pub(super) fn learn(&mut self, tokens: usize, took: Duration) {
        let took = micros(took);
        let one = self.fixed + self.token;
        if tokens == 1 {
            let sample = (took - self.token).max(took * 0.1);
            self.fixed += FRESH * (sample - self.fixed);
        } else if (2..=FEW).contains(&tokens) {
            let sample = (took - one).max(0.0) / count(tokens - 1);
            self.further += FRESH * (sample.max(self.token) - self.further);
        } else if tokens >= MANY {
            let sample = (took - self.fixed).max(took * 0.1) / count(tokens);
            self.token += FRESH * (sample - self.token);
        }
    }

    /// Whether a pass takes much longer, or much less long, than when it was measured.
    pub(super) fn has_changed(&self) -> bool {
        let ratio = (self.fixed + self.token) / self.measured.max(1e-3);
        !(1.0 / CHANGED..CHANGED).contains(&ratio)
    }

    /// How long a pass will take. A request with so many tokens to read takes at least as long.
    pub(super) fn pass(&self, tokens: usize) -> Duration {
        let all = self.fixed + self.token * count(tokens);
        let few = self.fixed + self.token + self.further * count(tokens.clamp(1, FEW) - 1);
        Duration::from_secs_f64(all.max(few) / 1e6)
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

    /// What one more token in a pass of few costs, as a share of a pass with one.
    pub(super) fn token_share(&self) -> f64 {
        self.further / (self.fixed + self.token).max(1e-3)
    }

    /// What one more token in a pass of many costs, in microseconds.
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

    fn measured(one: u64, few: (usize, u64), many: (usize, u64)) -> Pace {
        let pass = |(tokens, us)| Measured {
            tokens,
            took: US(us),
        };
        Pace::measured(US(one), pass(few), pass(many))
    }

    #[test]
    fn three_passes_tell_what_is_fixed_and_what_tokens_cost() {
        let pace = measured(110, (4, 170), (101, 1100));
        assert!((pace.token - 9.9).abs() < 0.01, "{pace:?}");
        assert!((pace.fixed - 100.1).abs() < 0.1, "{pace:?}");
        assert!((pace.further - 20.0).abs() < 0.1, "{pace:?}");
        assert_eq!(pace.tokens_in(US(1100)), 101);
        assert_eq!(pace.tokens_in(US(50)), 0);
        assert!(!pace.has_changed());
        assert!((pace.token_share() - 20.0 / 110.0).abs() < 0.001);
        let near = |tokens, us| pace.pass(tokens).abs_diff(US(us)) < US(1);
        assert!(near(1, 110) && near(4, 170) && near(101, 1100));
    }

    #[test]
    fn a_token_among_few_never_costs_less_than_one_among_many() {
        let pace = measured(110, (4, 111), (101, 1100));
        assert!((pace.further - pace.token).abs() < 0.01, "{pace:?}");
    }

    #[test]
    fn a_machine_that_slows_down_is_believed_after_some_passes() {
        let mut pace = measured(110, (4, 170), (101, 1100));
        for _ in 0..100 {
            pace.learn(1, US(500));
            pace.learn(3, US(1300));
            pace.learn(64, US(5000));
        }
        assert!(pace.has_changed());
        assert!(pace.pass(1) > US(450), "{pace:?}");
        assert!(pace.pass(64) > US(4500), "{pace:?}");
        assert!((0.7..0.9).contains(&pace.token_share()), "{pace:?}");
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
