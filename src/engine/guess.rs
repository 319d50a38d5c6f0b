//! What a pass says about the next token, and what can be guessed without one.
//!
//! [`Weighed`] reads a row of logits. [`likely`] proposes how a free text goes on, by what stood
//! behind the same words before: factory answers repeat their messages. A guess is checked in
//! the pass that computes the token before it; if it is what the model would have said, it cost
//! no pass of its own, and if not, nothing changes but the time that it took.

use super::protocol::FreeChoice;

/// Logits so far below the best add nothing that a float could hold.
const NEGLIGIBLE: f32 = 24.0;
/// Sums that are kept beside each other, so that the compiler can compute them at once.
const LANES: usize = 8;
/// Tokens that must be the same before a guess is made: two happen by chance.
const SAME: usize = 3;
/// Tokens guessed at a time, at most: beyond, a pass costs more than it may save.
pub(super) const MAX_GUESSED: usize = 8;
/// Weight of a guess in the running share of those that were right: the memory of an answer.
const FRESH: f64 = 1.0 / 16.0;

/// A row of logits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighed<'l> {
    logits: &'l [f32],
    top: f32,
    /// Logarithm of the sum of all exponentials.
    total: f32,
    entropy: f32,
}

impl<'l> Weighed<'l> {
    /// Reads a row.
    pub(super) fn of(logits: &'l [f32]) -> Self {
        let top = highest(logits);
        let (mut sums, mut weighted) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        let (rows, rest) = logits.as_chunks::<LANES>();
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..rest.len()].copy_from_slice(rest);
        for row in rows.iter().chain([&last]) {
            for lane in 0..LANES {
                let (share, below) = share(row[lane], top);
                sums[lane] += share;
                weighted[lane] += share * below;
            }
        }
        let (sum, weighted) = (sums.iter().sum::<f32>(), weighted.iter().sum::<f32>());
        Self {
            logits,
            top,
            total: top + sum.ln(),
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

    /// The likeliest token of those that are allowed, the first of equals.
    pub(super) fn likeliest(&self, is_allowed: impl Fn(u32) -> bool) -> Option<u32> {
        let first = (0_u32..).zip(self.logits).find(|(_, it)| **it >= self.top);
        match first {
            Some((token, _)) if is_allowed(token) => Some(token),
            Some(_) | None => likeliest(self.logits, is_allowed),
        }
    }

    /// The likeliest of these tokens, the first of equals.
    pub(super) fn likeliest_of(&self, tokens: &[u32]) -> Option<u32> {
        let likelier = |best, token| {
            if self.logit(token) > self.logit(best) {
                token
            } else {
                best
            }
        };
        tokens.iter().copied().reduce(likelier)
    }
}

/// The highest of them; what is no number is left out.
fn highest(logits: &[f32]) -> f32 {
    let higher = |a: f32, b: f32| if b > a { b } else { a };
    let (rows, rest) = logits.as_chunks::<LANES>();
    let mut highest = [f32::NEG_INFINITY; LANES];
    for row in rows {
        for lane in 0..LANES {
            highest[lane] = higher(highest[lane], row[lane]);
        }
    }
    highest
        .into_iter()
        .chain(rest.iter().copied())
        .fold(f32::NEG_INFINITY, higher)
}

/// A logit's share before all are divided by their sum, and how far it is below the best. What
/// is no number gives none.
fn share(logit: f32, top: f32) -> (f32, f32) {
    let below = logit - top;
    let is_negligible = below < -NEGLIGIBLE;
    let below = if is_negligible { -NEGLIGIBLE } else { below };
    let share = if is_negligible {
        0.0
    } else {
        exponential(below)
    };
    (share, below)
}

/// The exponential of a number from minus [`NEGLIGIBLE`] to zero, to seven digits. The standard
/// library's is a call for each number; this one the compiler computes for several at once.
fn exponential(number: f32) -> f32 {
    /// Added to a small number and taken away again, it leaves the nearest whole one; until then
    /// that stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// The logarithm of two in two parts, so that its product has no error that counts.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let shifted = number * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = number - whole * LN_2[0] - whole * LN_2[1];
    // The series of the exponential, for a rest of at most half of that logarithm.
    let series = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
    ];
    let series = series.into_iter().fold(0.0, |sum, it| sum * rest + it);
    let fraction = series * rest + 1.0;
    // Two to the power of the whole part is a matter of the exponent's bits.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    let power = f32::from_bits(exponent.wrapping_add(127) << 23);
    fraction * power
}

/// [`Weighed::likeliest`] where the best of all is not allowed.
fn likeliest(logits: &[f32], is_allowed: impl Fn(u32) -> bool) -> Option<u32> {
    let mut best = None;
    let mut most = f32::NEG_INFINITY;
    for (token, logit) in (0_u32..).zip(logits) {
        if *logit > most && is_allowed(token) {
            (best, most) = (Some(token), *logit);
        }
    }
    best
}

/// How a line may go on: as it did behind the same words before.
pub(super) fn likely(line: &[u32], at_most: usize) -> &[u32] {
    if at_most == 0 || line.len() <= SAME {
        return &[];
    }
    let (before, same) = line.split_at(line.len() - SAME);
    let found = before.windows(SAME).rposition(|window| window == same);
    let Some(found) = found else {
        return &[];
    };
    let from = found + SAME;
    &line[from..line.len().min(from + at_most)]
}

/// How well a task's free texts can be guessed ahead.
///
/// That costs nothing to find out: what would have been guessed is held against what the model
/// says, whether or not it was computed ahead. It is computed only where it pays: a guess costs
/// one more token in its pass and saves a pass if it is right, and all those before it.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub(super) struct Guesses {
    /// The share of guesses that were right lately.
    accuracy: f64,
}

impl Guesses {
    /// How many guesses pay, where one more token in a pass costs this share of a pass with one.
    pub(super) fn that_pay(self, token_share: f64) -> usize {
        let mut all_right = 1.0;
        let pays = |_: &usize| {
            all_right *= self.accuracy;
            all_right > token_share
        };
        (1..=MAX_GUESSED).take_while(pays).count()
    }

    /// What would have been guessed was right, or was not.
    pub(super) fn learn(&mut self, was_right: bool) {
        let sample = if was_right { 1.0 } else { 0.0 };
        self.accuracy += FRESH * (sample - self.accuracy);
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
        assert!(!Weighed::of(&[f32::INFINITY, 0.0]).is_sound());
        assert!(Weighed::of(&[0.0, f32::NEG_INFINITY]).is_sound());
    }

    #[test]
    fn the_quick_exponential_is_that_of_the_standard_library() {
        for step in 0..=24_000 {
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let number = step as f32 / -1000.0;
            let (quick, exact) = (exponential(number), number.exp());
            assert!(
                (quick / exact - 1.0).abs() < 5e-7,
                "{number}: {quick} {exact}"
            );
        }
    }

    #[test]
    fn a_row_of_any_length_weighs_what_it_does_one_by_one() {
        let mut random = fastrand::Rng::with_seed(5);
        for length in 1..70 {
            let logits: Vec<f32> = (0..length).map(|_| random.f32() * 60.0 - 30.0).collect();
            let weighed = Weighed::of(&logits);
            let exact = |it: &f32| f64::from(it - weighed.top).exp();
            let sum: f64 = logits.iter().map(exact).sum();
            let entropy: f64 = logits
                .iter()
                .map(|it| exact(it) / sum)
                .map(|share| -share * share.max(1e-300).ln())
                .sum();
            let total = f64::from(weighed.top) + sum.ln();
            assert!((f64::from(weighed.total) - total).abs() < 1e-5);
            assert!((f64::from(weighed.entropy) - entropy).abs() < 1e-4);
            assert_eq!(weighed.likeliest(|_| true), likeliest(&logits, |_| true));
            let second = likeliest(&logits, |token| Some(token) != weighed.likeliest(|_| true));
            let not_first = |token| Some(token) != weighed.likeliest(|_| true);
            assert_eq!(weighed.likeliest(not_first), second);
        }
    }

    #[test]
    fn the_first_of_equals_is_the_likeliest_and_the_barred_are_not() {
        let logits = [1.0, 3.0, 3.0, 9.0];
        assert_eq!(likeliest(&logits, |token| token != 3), Some(1));
        assert_eq!(likeliest(&logits, |_| false), None);
        let weighed = Weighed::of(&logits);
        assert_eq!(weighed.likeliest(|token| token != 3), Some(1));
        assert_eq!(weighed.likeliest_of(&[0, 1, 2]), Some(1));
        assert_eq!(weighed.likeliest_of(&[]), None);
    }

    #[test]
    fn what_stood_behind_the_same_words_is_proposed() {
        let line = [1, 2, 3, 4, 5, 9, 9, 1, 2, 3];
        assert_eq!(likely(&line, 2), [4, 5]);
        assert_eq!(likely(&line, 1), [4]);
        assert!(likely(&line[..9], 8).is_empty());
    }

    #[test]
    fn guesses_are_computed_as_soon_as_they_pay_and_no_longer() {
        let mut guesses = Guesses::default();
        assert_eq!(guesses.that_pay(0.1), 0, "nothing is known of them");
        let needed = |guesses: &mut Guesses, share| {
            let mut right = 0;
            while guesses.that_pay(share) == 0 {
                guesses.learn(true);
                right += 1;
            }
            right
        };
        let (cheap, dear) = (needed(&mut guesses, 0.2), needed(&mut guesses, 0.8));
        assert!(
            (1..8).contains(&cheap) && (8..40).contains(&dear),
            "{cheap} {dear}"
        );
        (0..100).for_each(|_| guesses.learn(true));
        assert_eq!(guesses.that_pay(0.2), MAX_GUESSED);
        (0..40).for_each(|_| guesses.learn(false));
        assert_eq!(guesses.that_pay(0.2), 0);
    }

    #[test]
    fn where_half_of_them_are_right_few_are_computed_and_only_if_they_are_cheap() {
        let half = Guesses { accuracy: 0.5 };
        assert_eq!(half.that_pay(0.6), 0);
        assert_eq!(half.that_pay(0.3), 1);
        assert_eq!(half.that_pay(0.1), 3);
    }
}
