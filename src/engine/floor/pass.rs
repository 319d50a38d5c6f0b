//! One pass: what rides in it, and what becomes of those who did.

use std::time::Duration;

use super::{Floor, failure};
use crate::clock::Clock;
use crate::engine::foresight::Foresight;
use crate::engine::native::{Logits, PassError};
use crate::engine::pace::MIN_READ;
use crate::engine::protocol::{Failure, WorkNo};
use crate::engine::shelf::Place;
use crate::engine::talk::{Loaded, Turn};

/// What a pass was made of.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) talks: Vec<(WorkNo, Loaded)>,
    /// Place, and from which token to which.
    pub(super) beginnings: Vec<(Place, usize, usize)>,
}

impl Floor<'_> {
    /// Makes up a pass.
    pub(super) fn compose(&mut self) -> Plan {
        self.batch.clear();
        let whole = self.options.batch_tokens as usize;
        let most = self
            .pace
            .tokens_in(self.longest_pass())
            .clamp(MIN_READ.min(whole), whole);
        let mut plan = Plan::default();
        let mut ranked: Vec<usize> = (0..self.talks.len()).collect();
        ranked.sort_by_key(|index| {
            let slip = self.talks[*index].slip();
            (std::cmp::Reverse(slip.priority), slip.due, slip.no)
        });
        for index in &ranked {
            if self.talks[*index].is_writing() {
                self.load(*index, most, &mut plan);
            }
        }
        let read_until = if self.batch.is_empty() {
            most
        } else {
            let bound = Duration::from_millis(self.options.pass_ms.into());
            let while_writing = self.pace.tokens_in(bound).max(self.batch.len() + MIN_READ);
            while_writing.min(most)
        };
        self.load_beginnings(read_until, &mut plan);
        for index in ranked {
            let talk = &self.talks[index];
            if !talk.is_writing() && talk.waits_for().is_none() {
                self.load(index, read_until, &mut plan);
            }
        }
        plan
    }

    /// Lets the small model guess how free texts go on.
    pub(super) fn foresee(&mut self, clock: &Clock) {
        let share = self.guess_share();
        let Some(foresight) = self.foresight.as_mut().filter(|_| share.is_finite()) else {
            return;
        };
        let writing = self.talks.iter().filter(|talk| talk.is_writing());
        if !Foresight::can_serve(writing.count()) {
            return;
        }
        for talk in &mut self.talks {
            let no = talk.slip().no;
            let pace = &self.pace;
            if let Some((line, most)) = talk.open_line(share) {
                let guesses = foresight.propose(no, line, most, self.wording, pace, clock);
                talk.foresee(guesses);
            }
        }
    }

    fn load(&mut self, index: usize, until: usize, plan: &mut Plan) {
        let room = until.saturating_sub(self.batch.len());
        if room > 0 {
            let most = self.options.batch_tokens as usize - self.batch.len();
            let share = self.guess_share();
            let loaded = self.talks[index].load(&mut self.batch, room, most, share);
            plan.talks.push((self.talks[index].slip().no, loaded));
        }
    }

    fn load_beginnings(&mut self, until: usize, plan: &mut Plan) {
        for (place, beginning, done) in self.shelf.filling() {
            let room = until.saturating_sub(self.batch.len());
            let end = beginning.tokens.len().min(done + room);
            for (position, token) in beginning.tokens.iter().enumerate().take(end).skip(done) {
                let position = u32::try_from(position).unwrap_or(u32::MAX);
                let sequence = [beginning.sequence];
                self.batch
                    .add(*token, position, &sequence, Logits::Unwanted);
            }
            if end > done {
                plan.beginnings.push((place, done, end));
            }
        }
    }

    pub(super) fn absorb(&mut self, plan: Plan, now: Duration) {
        for (place, _, end) in plan.beginnings {
            self.shelf.filled(place, end);
        }
        for (no, loaded) in plan.talks {
            let Some(index) = self.talks.iter().position(|talk| talk.slip().no == no) else {
                continue;
            };
            let talk = &mut self.talks[index];
            let context = &self.context;
            let turn = talk.absorb(&loaded, |row| context.logits(row), self.wording, now);
            self.desk.charge(talk.slip().client, loaded.tokens as u64);
            if loaded.has_guesses() {
                let (sequence, seen) = (talk.sequences()[0], talk.seen());
                let forgot = self
                    .context
                    .forget(sequence, u32::try_from(seen).unwrap_or(u32::MAX));
                debug_assert!(forgot, "guesses are made only where they can be forgotten");
            }
            self.tell(index);
            match turn {
                Ok(Turn::On) => {}
                Ok(Turn::Over(finish)) => self.end(index, Ok(finish), now),
                Err(error) => self.end(index, Err(failure(&error)), now),
            }
        }
    }

    /// A pass was stopped: what of it is in the cache is taken out again. Some kinds of models
    /// cannot forget the end of what they read; then they read all of it anew.
    pub(super) fn undo(&mut self, plan: &Plan) {
        for (place, done, _) in &plan.beginnings {
            if !self.trim(self.shelf.at(*place).sequence, *done) {
                let sequence = self.shelf.spoil(*place);
                self.empty(sequence);
            }
        }
        for (no, _) in &plan.talks {
            let Some(index) = self.talks.iter().position(|talk| talk.slip().no == *no) else {
                continue;
            };
            let talk = &self.talks[index];
            let (sequences, seen) = (talk.sequences().to_vec(), talk.seen());
            let trimmed = sequences.iter().filter(|it| self.trim(**it, seen)).count();
            if trimmed < sequences.len() {
                for sequence in sequences {
                    self.empty(sequence);
                }
                self.talks[index].start_over();
            }
        }
    }

    /// False where this cannot be done.
    fn trim(&mut self, sequence: u32, from: usize) -> bool {
        let from = u32::try_from(from).unwrap_or(u32::MAX);
        self.context.forget(sequence, from)
    }

    /// A pass failed: those in it are failed, the others begin again on an empty cache.
    pub(super) fn give_up(&mut self, plan: &Plan, error: PassError) {
        for (no, _) in &plan.talks {
            let Some(index) = self.talks.iter().position(|talk| talk.slip().no == *no) else {
                continue;
            };
            self.end(index, Err(Failure::Sick(error.to_string())), Duration::ZERO);
        }
        self.context.forget_all();
        self.shelf.spoil_all();
        for talk in &mut self.talks {
            talk.start_over();
        }
    }
}
