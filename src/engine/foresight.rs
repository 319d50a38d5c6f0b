//! A smaller model of the same vocabulary that guesses ahead for free text.
//!
//! ```text
//!  line of a talk ─► the small model reads it, and writes some tokens ─► guesses
//!                                                                          │
//!  the large model checks them in the pass that it does anyway  ◄──────────┘
//! ```
//!
//! Owns the small model's context. What it reads of a talk it keeps, so each token is read once;
//! how many guesses were right it learns from the line that comes next time. It is asked while
//! few write: a pass of many conversations has no room that would cost nothing.
//!
//! Whether it pays depends on both models, the processor and the text, so it is measured while it
//! is used ([`Worth`]): where the guesses cost more time than they save, it rests, for twice as
//! long each time.
//!
//! How it fails: a pass that fails gives no guesses; answers are the same with and without.

use std::time::Duration;

use super::guess::{MAX_GUESSED, Weighed};
use super::native::{Batch, Context, Logits};
use super::pace::Pace;
use super::protocol::WorkNo;
use super::wording::Wording;
use crate::clock::Clock;
use crate::governor::memory::parts::{DRAFT_TALKS, DRAFTED_TOKENS};

/// Talks for which it guesses at a time.
pub(super) const TALKS: u32 = 2;
// What the plan of memory counts with.
const _: () = assert!(TALKS == DRAFT_TALKS && MAX_GUESSED == DRAFTED_TOKENS as usize);
/// Tokens guessed at first.
const FIRST_LENGTH: usize = 4;
/// Guessed tokens after which it is settled whether they were worth their time.
const TRIAL: usize = 64;
/// Tokens without a guess after the first trial that did not pay. Each further one doubles it.
const FIRST_REST: u32 = 256;
/// Tokens without a guess at most: a trial in so many is not felt, and a machine that was busy
/// elsewhere is looked at again.
const MAX_REST: u32 = 1 << 14;

/// The small model.
pub(super) struct Foresight<'m> {
    context: Context<'m>,
    batch: Batch,
    heard: Vec<Heard>,
    worth: Worth,
}

/// What it has read of a talk.
struct Heard {
    no: WorkNo,
    sequence: u32,
    /// Tokens that are in its cache.
    line: Vec<u32>,
    /// What it guessed last, behind so many tokens.
    guesses: Vec<u32>,
    behind: usize,
    /// Tokens that it guesses next time.
    length: usize,
}

impl<'m> Foresight<'m> {
    /// With a context of its own, of [`TALKS`] sequences.
    pub(super) fn new(context: Context<'m>) -> Self {
        Self {
            context,
            batch: Batch::default(),
            heard: Vec::new(),
            worth: Worth::default(),
        }
    }

    /// As many as that of the large model.
    pub(super) fn set_threads(&mut self, threads: u16) {
        self.context.set_threads(threads);
    }

    /// Whether it guesses while so many write.
    pub(super) fn can_serve(talks: usize) -> bool {
        talks <= TALKS as usize
    }

    /// How a talk's line may go on; `pace` is the large model's.
    pub(super) fn propose(
        &mut self,
        no: WorkNo,
        line: &[u32],
        at_most: usize,
        wording: &Wording<'_>,
        pace: &Pace,
        clock: &Clock,
    ) -> Vec<u32> {
        if let Some(heard) = self.heard.iter_mut().find(|it| it.no == no) {
            let (guessed, right) = heard.check(line);
            self.worth.learn(guessed, right, pace);
        }
        if !self.worth.may_guess() {
            return Vec::new();
        }
        let begun = clock.now().mono;
        let guesses = self.guess(no, line, at_most, wording);
        self.worth.spend(clock.now().mono.since(begun));
        guesses.unwrap_or_default()
    }

    /// A talk is over.
    pub(super) fn forget(&mut self, no: WorkNo) {
        if let Some(at) = self.heard.iter().position(|it| it.no == no) {
            let heard = self.heard.swap_remove(at);
            let _ = self.context.forget(heard.sequence, 0); // a whole sequence always can be
        }
    }

    fn guess(
        &mut self,
        no: WorkNo,
        line: &[u32],
        at_most: usize,
        wording: &Wording<'_>,
    ) -> Option<Vec<u32>> {
        let at = self.place_of(no)?;
        let heard = &mut self.heard[at];
        // The last token is read again if need be: what follows it is the question.
        let same = common(&heard.line, line).min(line.len().checked_sub(1)?);
        heard.line.truncate(same);
        let length = heard.length.min(at_most);
        if !self.context.forget(heard.sequence, narrow(same)) || length == 0 {
            return None;
        }
        let mut guesses = Vec::new();
        self.read(at, &line[same..])?;
        while let Some(token) = self.next_token(wording) {
            guesses.push(token);
            if guesses.len() >= length {
                break; // nothing is guessed behind it, so it need not be read
            }
            self.read(at, &[token])?;
        }
        let heard = &mut self.heard[at];
        (heard.guesses, heard.behind) = (guesses.clone(), line.len());
        Some(guesses)
    }

    /// Reads on in a talk. If that fails, the talk is read anew next time.
    fn read(&mut self, at: usize, tokens: &[u32]) -> Option<()> {
        let heard = &mut self.heard[at];
        let most = self.context.shape().batch_tokens as usize;
        for piece in tokens.chunks(most) {
            self.batch.clear();
            for (index, token) in piece.iter().enumerate() {
                let position = narrow(heard.line.len() + index);
                let sequence = [heard.sequence];
                self.batch
                    .add(*token, position, &sequence, Logits::Unwanted);
            }
            self.batch.want_last();
            if self.context.pass(&mut self.batch).is_err() {
                heard.line.clear();
                let _ = self.context.forget(heard.sequence, 0); // a whole sequence always can be
                return None;
            }
            heard.line.extend_from_slice(piece);
        }
        Some(())
    }

    /// What it would say after what it read last; none where the answer would end.
    fn next_token(&self, wording: &Wording<'_>) -> Option<u32> {
        let weighed = Weighed::of(self.context.logits(self.batch.len() - 1));
        let token = weighed.likeliest(|_| true)?;
        (weighed.is_sound() && !wording.markers()[token as usize]).then_some(token)
    }

    fn place_of(&mut self, no: WorkNo) -> Option<usize> {
        if let Some(at) = self.heard.iter().position(|it| it.no == no) {
            return Some(at);
        }
        let taken = |sequence: &u32| self.heard.iter().any(|it| it.sequence == *sequence);
        let sequence = (0..TALKS).find(|sequence| !taken(sequence))?;
        self.heard.push(Heard {
            no,
            sequence,
            line: Vec::new(),
            guesses: Vec::new(),
            behind: 0,
            length: FIRST_LENGTH,
        });
        Some(self.heard.len() - 1)
    }
}

impl Heard {
    /// How many of the last guesses there were, and how many the line now shows to be right.
    fn check(&mut self, line: &[u32]) -> (usize, usize) {
        let guesses = std::mem::take(&mut self.guesses);
        if guesses.is_empty() {
            return (0, 0);
        }
        let right = common(&guesses, line.get(self.behind..).unwrap_or_default());
        if right == guesses.len() {
            self.length = (self.length * 2).min(MAX_GUESSED);
        } else if right * 2 < guesses.len() {
            self.length = (self.length / 2).max(1);
        }
        (guesses.len(), right)
    }
}

/// Whether guessing pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Worth {
    guessed: usize,
    cost: Duration,
    saved: Duration,
    rest: u32,
    next_rest: u32,
}

impl Default for Worth {
    fn default() -> Self {
        Self {
            guessed: 0,
            cost: Duration::ZERO,
            saved: Duration::ZERO,
            rest: 0,
            next_rest: FIRST_REST,
        }
    }
}

impl Worth {
    /// Whether it may guess now. To be asked once for each token that is written.
    fn may_guess(&mut self) -> bool {
        let may = self.rest == 0;
        self.rest = self.rest.saturating_sub(1);
        may
    }

    /// Guessing took so long.
    fn spend(&mut self, time: Duration) {
        self.cost += time;
    }

    /// Of so many guesses, so many were right; `pace` is the large model's.
    fn learn(&mut self, guessed: usize, right: usize, pace: &Pace) {
        self.guessed += guessed;
        let pass = pace.pass(1);
        self.cost += pace.pass(1 + guessed).saturating_sub(pass);
        self.saved += pass * u32::try_from(right).unwrap_or(u32::MAX);
        if self.guessed >= TRIAL {
            let (rest, next_rest) = if self.saved > self.cost {
                (0, FIRST_REST)
            } else {
                (self.next_rest, (self.next_rest * 2).min(MAX_REST))
            };
            *self = Self {
                rest,
                next_rest,
                ..Self::default()
            };
        }
    }
}

/// How many tokens are the same from the start.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pace::Measured;

    const US: fn(u64) -> Duration = Duration::from_micros;

    /// A pass of one token takes 110 µs, and each further one 10.
    fn pace() -> Pace {
        let pass = |tokens, us| Measured {
            tokens,
            took: US(us),
        };
        Pace::measured(US(110), pass(4, 140), pass(100, 1100))
    }

    /// Guesses four at a time until it is settled; tells how long it rests then.
    fn trial(worth: &mut Worth, time: Duration, right: usize) -> u32 {
        for _ in 0..TRIAL.div_ceil(4) {
            assert!(worth.may_guess());
            worth.spend(time);
            worth.learn(4, right, &pace());
        }
        worth.rest
    }

    #[test]
    fn guesses_that_save_more_than_they_cost_go_on() {
        let mut worth = Worth::default();
        // Three passes saved are 330 µs; four guesses cost 40 µs beside the time of the small model.
        assert_eq!(trial(&mut worth, US(250), 3), 0);
        assert_eq!(trial(&mut worth, US(350), 3), FIRST_REST);
    }

    #[test]
    fn who_does_not_pay_rests_longer_each_time_and_is_tried_again() {
        let mut worth = Worth::default();
        for rest in [FIRST_REST, FIRST_REST * 2, FIRST_REST * 4] {
            assert_eq!(trial(&mut worth, US(250), 0), rest);
            let waited = (0..=rest).take_while(|_| !worth.may_guess()).count();
            assert_eq!(waited, rest as usize);
        }
        assert_eq!(trial(&mut worth, US(1), 4), 0);
        assert_eq!(trial(&mut worth, US(250), 0), FIRST_REST);
    }

    #[test]
    fn the_line_shows_which_guesses_were_right() {
        let mut heard = Heard {
            no: WorkNo(1),
            sequence: 0,
            line: Vec::new(),
            guesses: vec![7, 8, 9, 10],
            behind: 2,
            length: 4,
        };
        assert_eq!(heard.check(&[1, 2, 7, 8, 9, 10, 3]), (4, 4));
        assert_eq!(heard.length, MAX_GUESSED);
        assert_eq!(heard.check(&[1, 2, 7]), (0, 0), "each is counted once");
        heard.guesses = vec![7, 8, 9, 10];
        assert_eq!(heard.check(&[1, 2, 7, 5]), (4, 1));
        assert_eq!(heard.length, MAX_GUESSED / 2);
        heard.guesses = vec![7];
        assert_eq!(heard.check(&[1]), (1, 0), "a line may have been cut");
    }
}
