//! Work as it waits: everything that can be known of it before it is computed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::{Floor, TREE_LINES};
use crate::engine::choices::{Ballot, Walk};
use crate::engine::guess::{Guesses, MAX_GUESSED};
use crate::engine::protocol::{Ask, Failure, Instruction, Rule, Work};
use crate::engine::shelf::Place;
use crate::engine::talk::Guide;
use crate::engine::wording::Frame;

/// An instruction, ready to be asked.
pub(super) struct Known {
    pub(super) frame: Frame,
    /// Where its prefix lies for good, unless there was no place.
    pub(super) pinned: Option<Place>,
    rule: Rule,
    /// Its alternatives, where it has any.
    ballot: Option<Rc<Ballot>>,
    max_tokens: u32,
    /// How it goes with guessing its answers.
    guesses: Rc<Cell<Guesses>>,
}

/// Work that waits.
pub(super) struct Order {
    pub(super) prefix: Vec<u32>,
    pub(super) own: Vec<u32>,
    pub(super) guide: Guide,
    /// Further sequences and tokens of the cache that its tree needs.
    pub(super) tree: (usize, usize),
    pub(super) limit: usize,
    pub(super) guesses: Rc<Cell<Guesses>>,
    pub(super) stream: bool,
    pub(super) arrived: Duration,
}

impl Floor<'_> {
    pub(super) fn learn(&mut self, instruction: Instruction) {
        let mut known = self.know(instruction, Rc::default());
        let prefix = &known.frame.prefix;
        if !self.options.without.prefixes && !prefix.is_empty() {
            // Without a place it is computed whole each time.
            known.pinned = self.shelf.pin(prefix.clone());
        }
        self.known.push(Rc::new(known));
    }

    fn know(&self, instruction: Instruction, guesses: Rc<Cell<Guesses>>) -> Known {
        let tokens = |label: &str| self.wording.text(label.as_bytes());
        let ballot = match &instruction.rule {
            Rule::Choices(labels) if !labels.is_empty() => Some(Ballot::new(labels, tokens)),
            Rule::Choices(_) | Rule::Text | Rule::Grammar(_) | Rule::Schema(_) | Rule::Regex(_) => {
                None
            }
        };
        Known {
            pinned: None,
            frame: self.wording.frame(&instruction),
            ballot: ballot.map(Rc::new),
            rule: instruction.rule,
            max_tokens: instruction.max_tokens,
            guesses,
        }
    }

    /// Everything about a piece of work that can be known before it is computed.
    pub(super) fn order(&mut self, work: Work, now: Duration) -> Result<Order, Failure> {
        let known = match work.ask {
            Ask::Known(index) => {
                let known = self.known.get(usize::from(index));
                Rc::clone(known.ok_or(Failure::Unknown)?)
            }
            Ask::Own(own) => Rc::new(self.know(own, Rc::clone(&self.guesses))),
        };
        let most = known.max_tokens;
        let limit = work
            .max_tokens
            .map_or(most, |wanted| wanted.min(most))
            .max(1) as usize;
        let mut prefix = known.frame.prefix.clone();
        let mut own = self.wording.own(&known.frame, &work.input);
        if own.is_empty() {
            // The answer begins after a token of its own, so the last shared one is computed.
            own.extend(prefix.pop());
        }
        if own.is_empty() {
            return Err(Failure::Rule("there is no prompt".into()));
        }
        self.hold_in_context(prefix.len() + own.len() + limit)?;
        let (guide, tree) = self.guide(&known)?;
        Ok(Order {
            prefix,
            own,
            guide,
            tree,
            limit,
            guesses: Rc::clone(&known.guesses),
            stream: work.stream,
            arrived: now,
        })
    }

    fn hold_in_context(&self, tokens: usize) -> Result<(), Failure> {
        let context = self.options.context_tokens.min(self.options.cache_tokens);
        if tokens + MAX_GUESSED <= context as usize {
            return Ok(());
        }
        let spare = u32::try_from(MAX_GUESSED).unwrap_or_default();
        Err(Failure::Overflow {
            tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            context: context.saturating_sub(spare),
        })
    }

    /// What guides an answer, and the further sequences and tokens of the cache that it needs.
    fn guide(&mut self, known: &Known) -> Result<(Guide, (usize, usize)), Failure> {
        let guide = match (&known.ballot, &known.rule) {
            (Some(ballot), _) if self.can_be_scored(ballot) => {
                let needs = (ballot.lines, ballot.twigs.len());
                return Ok((Guide::Ballot(Rc::clone(ballot)), needs));
            }
            (Some(ballot), _) => {
                let walk = Walk::new(ballot.tree.clone(), self.wording.end());
                Guide::Walk(walk)
            }
            (None, Rule::Text) => Guide::Free,
            (None, rule) => {
                let compiled = self.compiler.compile(rule);
                let constraint = compiled.map_err(|why| Failure::Rule(why.to_string()))?;
                Guide::Rule(Box::new(constraint))
            }
        };
        Ok((guide, (0, 0)))
    }

    /// Whether they can be scored in one pass; else they are generated.
    fn can_be_scored(&self, ballot: &Ballot) -> bool {
        !self.options.without.scoring
            && ballot.lines <= TREE_LINES as usize
            && ballot.twigs.len() <= self.options.batch_tokens as usize / 4
    }
}
