//! What a pass says about the next token, and what can be guessed without one.
//!
//! [`Weighed`] reads a row of logits. [`Guesses`] proposes how a free text goes on, by what stood
//! behind the same words before: factory answers repeat their messages. A guess is checked in
//! the pass that computes the token before it; if it is what the model would have said, it cost
//! no pass of its own, and if not, nothing changes but the time that it took.

use super::protocol::FreeChoice;

/// Logits so far below the best add nothing that a float could hold.
const NEGLIGIBLE: f32 = 24.0;
/// Tokens that must be the same before a guess is made: two happen by chance.
const SAME: usize = 3;
/// Tokens guessed at a time, at most: beyond, a pass costs more than it may save.
pub(super) const MAX_GUESSED: usize = 8;
/// Tokens without a guess after one that was all wrong.
const REST_AFTER_MISS: u32 = 8;

/// A row of logits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighed<'l> {
    logits: &'l [f32],
    /// Logarithm of the sum of all exponentials.
    total: f32,
    entropy: f32,
}

impl<'l> Weighed<'l> {
    /// Reads a row.
    pub(super) fn of(logits: &'l [f32]) -> Self {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sick = logits.iter().any(|logit| logit.is_nan());
        let (mut sum, mut weighted) = (0.0_f32, 0.0_f32);
        for logit in logits {
            let below = logit - top;
            if below > -NEGLIGIBLE {
                let share = below.exp();
                sum += share;
                weighted += share * below;
            }
        }
        Self {
            logits,
            total: if sick { f32::NAN } else { top + sum.ln() },
            entropy: sum.ln() - weighted / sum,
        }
    }

    /// Of this token.
    pub(super) fn logit(&self, token: u32) -> f32 {
        self.logits[token as usize]
    }

    /// Of this token.
    pub(super) fn logprob(&self, token: u32) -> f32 {
        self.logit(token) - self.total
    }

    /// The record of a choice that fell on this token.
    pub(super) fn free(&self, token: u32) -> FreeChoice {
        FreeChoice {
            logprob: self.logprob(token),
            entropy: self.entropy,
        }
    }

    /// Whether these are numbers at all.
    pub(super) fn is_sound(&self) -> bool {
        self.total.is_finite()
    }
}

/// The likeliest token of those that are allowed, the first of equals.
pub(super) fn likeliest(logits: &[f32], is_allowed: impl Fn(u32) -> bool) -> Option<u32> {
    let mut best = None;
    let mut most = f32::NEG_INFINITY;
    for (token, logit) in (0_u32..).zip(logits) {
        if *logit > most && is_allowed(token) {
            (best, most) = (Some(token), *logit);
        }
    }
    best
}

/// The likeliest of these tokens, the first of equals.
pub(super) fn likeliest_of(logits: &[f32], tokens: &[u32]) -> Option<u32> {
    let logit = |token: u32| logits[token as usize];
    let likelier = |best, token| {
        if logit(token) > logit(best) {
            token
        } else {
            best
        }
    };
    tokens.iter().copied().reduce(likelier)
}

/// How eagerly a text is guessed ahead.
#[derive(Clone, Debug)]
pub(super) struct Guesses {
    length: usize,
    rest: u32,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { length: 2, rest: 0 }
    }
}

impl Guesses {
    /// How the line may go on.
    pub(super) fn propose<'l>(&self, line: &'l [u32], at_most: usize) -> &'l [u32] {
        let length = self.length.min(at_most);
        if self.rest > 0 || length == 0 || line.len() <= SAME {
            return &[];
        }
        let (before, same) = line.split_at(line.len() - SAME);
        let found = before.windows(SAME).rposition(|window| window == same);
        let Some(found) = found else {
            return &[];
        };
        let from = found + SAME;
        &line[from..line.len().min(from + length)]
    }

    /// Of so many guesses, so many were right.
    pub(super) fn learn(&mut self, guessed: usize, right: usize) {
        if guessed == 0 {
            self.rest = self.rest.saturating_sub(1);
        } else if right == guessed {
            self.length = (self.length * 2).min(MAX_GUESSED);
        } else {
            self.length = (self.length / 2).max(1);
            if right == 0 {
                self.rest = REST_AFTER_MISS;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_add_up_to_one_and_entropy_is_that_of_the_distribution() {
        let logits = [0.0, 0.0, 0.0, 0.0, -100.0];
        let weighed = Weighed::of(&logits);
        assert!((weighed.logprob(0) - 0.25_f32.ln()).abs() < 1e-6);
        assert!((weighed.free(0).entropy - 4.0_f32.ln()).abs() < 1e-6);
        assert!(!Weighed::of(&[f32::NAN, 0.0]).is_sound());
        assert!(!Weighed::of(&[f32::NEG_INFINITY]).is_sound());
    }

    #[test]
    fn the_first_of_equals_is_the_likeliest_and_the_barred_are_not() {
        let logits = [1.0, 3.0, 3.0, 9.0];
        assert_eq!(likeliest(&logits, |token| token != 3), Some(1));
        assert_eq!(likeliest(&logits, |_| false), None);
        assert_eq!(likeliest_of(&logits, &[0, 1, 2]), Some(1));
        assert_eq!(likeliest_of(&logits, &[]), None);
    }

    #[test]
    fn what_stood_behind_the_same_words_is_proposed() {
        let guesses = Guesses::default();
        let line = [1, 2, 3, 4, 5, 9, 9, 1, 2, 3];
        assert_eq!(guesses.propose(&line, 8), [4, 5]);
        assert_eq!(guesses.propose(&line, 1), [4]);
        assert!(guesses.propose(&line[..9], 8).is_empty());
    }

    #[test]
    fn luck_makes_bold_and_a_miss_makes_pause() {
        let mut guesses = Guesses::default();
        guesses.learn(2, 2);
        guesses.learn(4, 4);
        assert_eq!(guesses.length, 8);
        guesses.learn(8, 0);
        assert_eq!(guesses.length, 4);
        let line = [1, 2, 3, 4, 5, 9, 9, 1, 2, 3];
        assert!(guesses.propose(&line, 8).is_empty());
        (0..REST_AFTER_MISS).for_each(|_| guesses.learn(0, 0));
        assert!(!guesses.propose(&line, 8).is_empty());
    }
}
