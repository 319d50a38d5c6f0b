//! One conversation: a prompt that is read, an answer that is written.
//!
//! Holds the line of tokens, how much of it the model has seen, and what guides the answer. A
//! pass takes as much of the line as there is room for ([`Talk::load`]); what comes out decides
//! the next tokens ([`Talk::absorb`]). Tokens that the rule forces are put on the line without
//! asking the model; they ride with the next pass, and if the end is among them there is none.
//!
//! ```text
//!  line:  prefix │ own part of the prompt │ answer so far │ forced │ guessed
//!         └──── shared, once computed ───┘                └── one pass ────┘
//! ```
//!
//! Invariants: the answer is the one that decoding one token at a time under the same rule would
//! give; what the model has seen is always a beginning of the line.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::choices::{Ballot, Twig, Walk};
use super::constraint::{Constraint, RuleFault};
use super::desk::Slip;
use super::guess::{Guesses, MAX_GUESSED, Weighed, likely};
use super::native::{Batch, Logits};
use super::protocol::{Done, Finish, FreeChoice, Spent, Without};
use super::shelf::Place;
use super::wording::{Text, Wording};

/// What guides an answer.
#[derive(Debug)]
pub(super) enum Guide {
    /// Nothing.
    Free,
    /// A rule.
    Rule(Box<Constraint>),
    /// It is one of several, which are scored.
    Ballot(Rc<Ballot>),
    /// It is one of several, generated token by token.
    Walk(Walk),
}

/// What a talk begins with.
#[derive(Debug)]
pub(super) struct Opening {
    /// Who it is for.
    pub slip: Slip,
    /// Whether words are wanted as they come.
    pub stream: bool,
    /// When it came.
    pub arrived: Duration,
    /// When it was begun.
    pub began: Duration,
    /// The prompt.
    pub prompt: Vec<u32>,
    /// How much of it is shared, and lies on the shelf.
    pub shared: Option<(Place, usize)>,
    /// How much of it somebody had computed already.
    pub cached: usize,
    /// Tokens of the answer at most.
    pub limit: usize,
    /// What guides the answer.
    pub guide: Guide,
    /// Sequences: its own, and one for each further line of a tree.
    pub sequences: Vec<u32>,
    /// Tokens of the cache that are set aside for it.
    pub reserved: usize,
    /// How it went with earlier texts like this.
    pub guesses: Rc<Cell<Guesses>>,
    /// Shortcuts that are not taken.
    pub without: Without,
}

/// A conversation.
#[derive(Debug)]
pub(super) struct Talk {
    opening: Opening,
    line: Vec<u32>,
    /// Tokens of the line that the model has seen.
    seen: usize,
    /// It waits until its shared beginning is computed.
    waits: bool,
    /// How somebody else thinks that it goes on.
    foreseen: Vec<u32>,
    free: Vec<FreeChoice>,
    choices: Vec<f32>,
    text: Text,
    spent: Spent,
    first_token: Option<Duration>,
}

/// What a talk put into a pass.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Tokens of the line.
    pub tokens: usize,
    /// Rows whose logits were asked for: of the line's last token, then of each guess or twig.
    rows: Vec<usize>,
    guessed: Vec<u32>,
    /// What would have been guessed first, where no guess was sent.
    silent: Option<u32>,
    /// Whether the guesses are those of somebody else.
    foreseen: bool,
}

impl Loaded {
    /// Whether more was sent than the line, so that some of it may have to be forgotten.
    pub(super) fn has_guesses(&self) -> bool {
        !self.guessed.is_empty()
    }
}

/// How a talk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// With another pass.
    On,
    /// It is over.
    Over(Finish),
}

/// Why a talk cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum TalkError {
    /// The rule lets nothing through, or failed.
    #[error(transparent)]
    Rule(#[from] RuleFault),
    /// The model computed something that is no number.
    #[error("the model's output is not a number")]
    Unsound,
    /// No token is allowed.
    #[error("the rule allows no token here")]
    DeadEnd,
}

impl Talk {
    /// Begins. Tokens that the rule forces from the start are on the line at once; if they are
    /// the whole answer, it is over before it was asked.
    pub(super) fn open(opening: Opening, wording: &Wording<'_>) -> Result<(Self, Turn), TalkError> {
        let spent = Spent {
            prompt: narrow(opening.prompt.len()),
            cached: narrow(opening.cached),
            ..Spent::default()
        };
        let mut talk = Self {
            line: opening.prompt.clone(),
            seen: 0,
            waits: opening.shared.is_some(),
            foreseen: Vec::new(),
            free: Vec::new(),
            choices: Vec::new(),
            text: Text::default(),
            first_token: None,
            spent,
            opening,
        };
        let turn = talk.jump(wording)?;
        Ok((talk, turn))
    }

    /// Who it is for.
    pub(super) fn slip(&self) -> &Slip {
        &self.opening.slip
    }

    /// Whether words are wanted as they come.
    pub(super) fn streams(&self) -> bool {
        self.opening.stream
    }

    /// Its sequences.
    pub(super) fn sequences(&self) -> &[u32] {
        &self.opening.sequences
    }

    /// Tokens of the cache that are set aside for it.
    pub(super) fn reserved(&self) -> usize {
        self.opening.reserved
    }

    /// Its shared beginning.
    pub(super) fn shared(&self) -> Option<Place> {
        self.opening.shared.map(|(place, _)| place)
    }

    /// The shared beginning that it waits for.
    pub(super) fn waits_for(&self) -> Option<Place> {
        self.shared().filter(|_| self.waits)
    }

    /// Its shared beginning is in its sequences now.
    pub(super) fn shared_is_there(&mut self) {
        self.waits = false;
        self.seen = self.opening.shared.map_or(0, |(_, tokens)| tokens);
    }

    /// Nothing that it had is in the cache any more.
    pub(super) fn start_over(&mut self) {
        self.waits = self.opening.shared.is_some();
        self.seen = 0;
    }

    /// Tokens that the model has seen.
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// Whether the prompt is read.
    pub(super) fn is_writing(&self) -> bool {
        !self.waits && self.seen >= self.opening.prompt.len()
    }

    fn answer(&self) -> &[u32] {
        &self.line[self.opening.prompt.len()..]
    }

    /// Puts what comes next into a pass that should take so many tokens more, and can take no
    /// more than `most`: a tree comes whole or not at all, and so goes a little beyond. Of a pass
    /// with one token, one more costs `token_share`.
    pub(super) fn load(
        &mut self,
        batch: &mut Batch,
        room: usize,
        most: usize,
        token_share: f64,
    ) -> Loaded {
        let pending = self.line.len() - self.seen;
        let ballot = match &self.opening.guide {
            Guide::Ballot(ballot) => Some(Rc::clone(ballot)),
            Guide::Free | Guide::Rule(_) | Guide::Walk(_) => None,
        };
        let twigs = ballot.as_ref().map_or(&[][..], |it| &it.twigs);
        let whole = pending <= room && pending + twigs.len() <= most;
        let take = if whole {
            pending
        } else {
            room.min(pending - 1)
        };
        let mut loaded = Loaded {
            tokens: take,
            ..Loaded::default()
        };
        for index in self.seen..self.seen + take {
            let last = whole && index + 1 == self.line.len();
            let row = self.add(batch, self.line[index], index, last);
            if last {
                loaded.rows.push(row);
            }
        }
        if whole {
            self.load_guesses(batch, room - take, token_share, &mut loaded);
            self.load_twigs(batch, twigs, &mut loaded);
            self.spent.passes += 1;
        }
        let extra = if whole { twigs.len() } else { 0 };
        self.spent.computed += narrow(take + loaded.guessed.len() + extra);
        loaded
    }

    fn add(&self, batch: &mut Batch, token: u32, position: usize, wanted: bool) -> usize {
        let wanted = if wanted {
            Logits::Wanted
        } else {
            Logits::Unwanted
        };
        batch.add(token, narrow(position), &self.opening.sequences, wanted)
    }

    fn load_guesses(
        &mut self,
        batch: &mut Batch,
        room: usize,
        token_share: f64,
        loaded: &mut Loaded,
    ) {
        let foreseen = std::mem::take(&mut self.foreseen);
        let Some((mut own, most)) = self.guesses() else {
            return;
        };
        let likely = own.first().copied();
        own.truncate(self.opening.guesses.get().that_pay(token_share));
        loaded.foreseen = own.is_empty() && !foreseen.is_empty();
        loaded.guessed = if own.is_empty() { foreseen } else { own };
        loaded.guessed.truncate(most.min(room));
        if loaded.guessed.is_empty() {
            loaded.silent = likely;
        }
        for (index, token) in loaded.guessed.iter().enumerate() {
            let row = self.add(batch, *token, self.line.len() + index, true);
            loaded.rows.push(row);
        }
    }

    /// What the text itself lets one guess, and how much may be guessed; none where nothing may.
    fn guesses(&self) -> Option<(Vec<u32>, usize)> {
        let may = matches!(self.opening.guide, Guide::Free) && !self.opening.without.guesses;
        let left = self.opening.limit.saturating_sub(self.answer().len() + 1);
        let most = MAX_GUESSED.min(left);
        let line = (may && most > 0 && !self.answer().is_empty()).then_some(&self.line)?;
        Some((likely(line, most).to_vec(), most))
    }

    /// The line, if somebody else may guess how it goes on, and how far.
    pub(super) fn open_line(&self, token_share: f64) -> Option<(&[u32], usize)> {
        let (own, most) = self.guesses()?;
        let none_pays = self.opening.guesses.get().that_pay(token_share) == 0;
        ((own.is_empty() || none_pays) && self.seen + 1 == self.line.len())
            .then_some((&self.line, most))
    }

    /// Somebody else thinks that the line goes on like this.
    pub(super) fn foresee(&mut self, tokens: Vec<u32>) {
        self.foreseen = tokens;
    }

    fn load_twigs(&self, batch: &mut Batch, twigs: &[Twig], loaded: &mut Loaded) {
        for twig in twigs {
            let lines = twig.lines.iter().map(|line| self.opening.sequences[*line]);
            let position = self.opening.prompt.len() + twig.depth as usize;
            let lines: Vec<u32> = lines.collect();
            loaded
                .rows
                .push(batch.add(twig.token, narrow(position), &lines, Logits::Wanted));
        }
    }

    /// Takes what a pass said.
    pub(super) fn absorb<'l>(
        &mut self,
        loaded: &Loaded,
        logits: impl Fn(usize) -> &'l [f32],
        wording: &Wording<'_>,
        now: Duration,
    ) -> Result<Turn, TalkError> {
        self.seen += loaded.tokens;
        if loaded.rows.is_empty() {
            return Ok(Turn::On);
        }
        self.first_token.get_or_insert(now);
        if let Guide::Ballot(_) = &self.opening.guide {
            return self.judge(loaded, logits, wording);
        }
        let mut right = 0;
        let turn = loop {
            let turn = self.choose(logits(loaded.rows[right]), wording)?;
            let said = self.line.last().copied();
            let foreseen = loaded.guessed.get(right).copied();
            if turn != Turn::On || foreseen.is_none() || foreseen != said {
                break turn;
            }
            self.seen += 1; // the guess was computed with this pass, and is right
            right += 1;
        };
        self.spent.guessed += narrow(right);
        self.learn_of_guesses(loaded, right, turn);
        Ok(turn)
    }

    /// So many of the guesses were right; the one after them was not, unless the answer is over.
    fn learn_of_guesses(&self, loaded: &Loaded, right: usize, turn: Turn) {
        let mut guesses = self.opening.guesses.get();
        if let (Some(silent), Turn::On) = (loaded.silent, turn) {
            guesses.learn(self.line.last() == Some(&silent));
        } else if !loaded.foreseen {
            (0..right).for_each(|_| guesses.learn(true));
            if right < loaded.guessed.len() && turn == Turn::On {
                guesses.learn(false);
            }
        }
        self.opening.guesses.set(guesses);
    }

    /// Decides for one of several answers.
    fn judge<'l>(
        &mut self,
        loaded: &Loaded,
        logits: impl Fn(usize) -> &'l [f32],
        wording: &Wording<'_>,
    ) -> Result<Turn, TalkError> {
        let Guide::Ballot(ballot) = &self.opening.guide else {
            return Err(TalkError::DeadEnd);
        };
        let rows: Vec<_> = loaded
            .rows
            .iter()
            .map(|row| Weighed::of(logits(*row)))
            .collect();
        if !rows.iter().all(Weighed::is_sound) {
            return Err(TalkError::Unsound);
        }
        let verdict = ballot
            .tree
            .judge(wording.end(), |twig| rows[twig.map_or(0, |at| at + 1)]);
        self.text.extend(ballot.labels[verdict.label].as_bytes());
        self.spent.completion = verdict.tokens - 1;
        self.spent.forced = (verdict.tokens - narrow(verdict.free.len())).min(verdict.tokens - 1);
        self.free = verdict.free;
        self.choices = verdict.logprobs;
        Ok(Turn::Over(Finish::End))
    }

    /// The next token by these logits, and those that it brings along.
    fn choose(&mut self, logits: &[f32], wording: &Wording<'_>) -> Result<Turn, TalkError> {
        let token = match self.only_way()? {
            Some(token) => {
                self.spent.forced += 1;
                token
            }
            None => self.decide(&Weighed::of(logits), wording)?,
        };
        match self.push(token, wording)? {
            Turn::On => self.jump(wording),
            over @ Turn::Over(_) => Ok(over),
        }
    }

    /// The token that follows in any case.
    fn only_way(&mut self) -> Result<Option<u32>, TalkError> {
        Ok(match &mut self.opening.guide {
            Guide::Rule(rule) => rule.mask()?.only(),
            Guide::Walk(walk) => match walk.allowed().as_slice() {
                [token] => Some(*token),
                _ => None,
            },
            Guide::Free | Guide::Ballot(_) => None,
        })
    }

    /// The likeliest token of those that may follow.
    fn decide(&mut self, weighed: &Weighed<'_>, wording: &Wording<'_>) -> Result<u32, TalkError> {
        if !weighed.is_sound() {
            return Err(TalkError::Unsound);
        }
        let token = match &mut self.opening.guide {
            Guide::Free => {
                let markers = wording.markers();
                weighed.likeliest(|token| !markers[token as usize] || wording.ends(token))
            }
            Guide::Rule(rule) => {
                let mask = rule.mask()?;
                weighed.likeliest(|token| mask.allows(token))
            }
            Guide::Walk(walk) => weighed.likeliest_of(&walk.allowed()),
            Guide::Ballot(_) => None,
        };
        let token = token.ok_or(TalkError::DeadEnd)?;
        self.free.push(weighed.free(token));
        Ok(token)
    }

    fn turn(&self, token: u32, wording: &Wording<'_>) -> Turn {
        if wording.ends(token) {
            Turn::Over(Finish::End)
        } else if self.answer().len() >= self.opening.limit {
            Turn::Over(Finish::Length)
        } else {
            Turn::On
        }
    }

    fn push(&mut self, token: u32, wording: &Wording<'_>) -> Result<Turn, TalkError> {
        match &mut self.opening.guide {
            Guide::Rule(rule) => rule.advance(token)?,
            Guide::Walk(walk) => walk.advance(token),
            Guide::Free | Guide::Ballot(_) => {}
        }
        if !wording.ends(token) {
            self.line.push(token);
            self.text.extend(&wording.piece(token));
            self.spent.completion += 1;
        }
        Ok(self.turn(token, wording))
    }

    /// Puts down what is forced from here, without asking the model.
    fn jump(&mut self, wording: &Wording<'_>) -> Result<Turn, TalkError> {
        while !self.opening.without.jumps {
            let forced = match &mut self.opening.guide {
                Guide::Rule(rule) => rule.forced(),
                Guide::Walk(walk) => walk.forced(),
                Guide::Free | Guide::Ballot(_) => Vec::new(),
            };
            if forced.is_empty() {
                break;
            }
            for token in forced {
                let turn = self.push(token, wording)?;
                self.spent.forced += u32::from(!wording.ends(token));
                if turn != Turn::On {
                    return Ok(turn);
                }
            }
        }
        Ok(Turn::On)
    }

    /// What there is to tell to whom wants words as they come.
    pub(super) fn news(&mut self) -> String {
        self.text.news()
    }

    /// The answer.
    pub(super) fn close(self, finish: Finish, now: Duration) -> Done {
        let since = |at: Duration| {
            let span = at.saturating_sub(self.opening.arrived);
            u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
        };
        Done {
            no: self.opening.slip.no,
            text: self.text.whole(),
            finish,
            queued_us: since(self.opening.began),
            first_token_us: since(self.first_token.unwrap_or(now)),
            total_us: since(now),
            free: self.free,
            choices: self.choices,
            tokens: self.spent,
        }
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
