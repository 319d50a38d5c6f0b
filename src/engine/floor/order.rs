//! Work as it waits: everything that can be known of it before it is computed.

use std::time::Duration;

use super::{Floor, TREE_LINES};
use crate::engine::choices::{Tree, Walk};
use crate::engine::guess::MAX_GUESSED;
use crate::engine::protocol::{Ask, Failure, Instruction, Rule, Work};
use crate::engine::shelf::Place;
use crate::engine::talk::Guide;
use crate::engine::wording::Frame;

/// An instruction, ready to be asked.
pub(super) struct Known {
    pub(super) frame: Frame,
    /// Where its prefix lies for good, unless there was no place.
    pub(super) pinned: Option<Place>,
    pub(super) rule: Rule,
    /// Its alternatives, where it has any and they can be scored.
    pub(super) ballot: Option<Ballot>,
    pub(super) max_tokens: u32,
}

/// Alternatives to be scored, and what that takes beside the prompt.
#[derive(Clone)]
pub(super) struct Ballot {
    pub(super) tree: Tree,
    pub(super) labels: Vec<String>,
    pub(super) lines: usize,
    pub(super) twigs: usize,
}

/// Work that waits.
pub(super) struct Order {
    pub(super) prefix: Vec<u32>,
    pub(super) own: Vec<u32>,
    pub(super) guide: Guide,
    /// Further sequences and tokens of the cache that its tree needs.
    pub(super) tree: (usize, usize),
    pub(super) limit: usize,
    pub(super) stream: bool,
    pub(super) arrived: Duration,
}

impl Floor<'_> {
    pub(super) fn learn(&mut self, instruction: Instruction) {
        let frame = self.wording.frame(&instruction);
        let shared = !self.options.without.prefixes && !frame.prefix.is_empty();
        // Without a place it is computed whole each time.
        let pinned = shared.then(|| self.shelf.pin(frame.prefix.clone()));
        self.known.push(Known {
            pinned: pinned.flatten(),
            frame,
            ballot: self.ballot(&instruction.rule),
            rule: instruction.rule,
            max_tokens: instruction.max_tokens,
        });
    }

    /// Everything about a piece of work that can be known before it is computed.
    pub(super) fn order(&mut self, work: Work, now: Duration) -> Result<Order, Failure> {
        let (frame, rule, ballot, most) = match work.ask {
            Ask::Known(index) => {
                let known = self.known.get(usize::from(index)).ok_or(Failure::Unknown)?;
                let (rule, ballot) = (known.rule.clone(), known.ballot.clone());
                (known.frame.clone(), rule, ballot, known.max_tokens)
            }
            Ask::Own(own) => {
                let ballot = self.ballot(&own.rule);
                (self.wording.frame(&own), own.rule, ballot, own.max_tokens)
            }
        };
        let limit = work
            .max_tokens
            .map_or(most, |wanted| wanted.min(most))
            .max(1) as usize;
        let mut prefix = frame.prefix.clone();
        let mut own = self.wording.own(&frame, &work.input);
        if own.is_empty() {
            // The answer begins after a token of its own, so the last shared one is computed.
            own.extend(prefix.pop());
        }
        if own.is_empty() {
            return Err(Failure::Rule("there is no prompt".into()));
        }
        let tokens = prefix.len() + own.len() + limit;
        let context = self.options.context_tokens.min(self.options.cache_tokens);
        let spare = MAX_GUESSED;
        if tokens + spare > context as usize {
            return Err(Failure::Overflow {
                tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
                context: context.saturating_sub(u32::try_from(spare).unwrap_or_default()),
            });
        }
        let scored = ballot.as_ref().filter(|it| self.can_be_scored(it));
        let tree = scored.map_or((0, 0), |it| (it.lines, it.twigs));
        let guide = match (ballot, &rule) {
            (Some(ballot), _) if self.can_be_scored(&ballot) => {
                Guide::Tree(ballot.tree, ballot.labels)
            }
            (Some(ballot), _) => Guide::Walk(Walk::new(ballot.tree, self.wording.end())),
            (None, Rule::Text) => Guide::Free,
            (None, rule) => {
                let compiled = self.compiler.compile(rule);
                Guide::Rule(Box::new(
                    compiled.map_err(|why| Failure::Rule(why.to_string()))?,
                ))
            }
        };
        Ok(Order {
            prefix,
            own,
            guide,
            tree,
            limit,
            stream: work.stream,
            arrived: now,
        })
    }

    /// A rule's alternatives, if it has any.
    fn ballot(&self, rule: &Rule) -> Option<Ballot> {
        let Rule::Choices(labels) = rule else {
            return None;
        };
        let paths = labels
            .iter()
            .map(|label| self.wording.text(label.as_bytes()));
        let tree = Tree::new(&paths.collect::<Vec<_>>());
        let ballot = Ballot {
            lines: tree.lines().saturating_sub(1),
            twigs: tree.twigs().len(),
            labels: labels.clone(),
            tree,
        };
        (!labels.is_empty()).then_some(ballot)
    }

    /// Whether they can be scored in one pass; else they are generated.
    fn can_be_scored(&self, ballot: &Ballot) -> bool {
        !self.options.without.scoring
            && ballot.lines <= TREE_LINES as usize
            && ballot.twigs <= self.options.batch_tokens as usize / 4
    }
}
