//! What an answer may be: rules, compiled once, as masks over tokens.
//!
//! ```text
//!  Schema ─┐
//!  Regex  ─┤                                     ┌─► mask      which tokens may follow
//!  Choices ┼─► expressions ─► program ─► states ─┼─► forced    which follow in any case
//!  Grammar ┘   (expr)         (program)  (automaton) └─► advance, rollback
//! ```
//!
//! Every kind of rule becomes one program over bytes, with calls where rules call each other, so
//! that a recursive grammar is followed exactly. Its states are found as answers need them and
//! kept with the compiled rule: what the first answer of a task paid for, the others have.
//!
//! # Terms
//!
//! A place in an answer is *free* where the mask allows more than one token. Where the rule
//! leaves only one way, the bytes are *forced*, and their canonical tokens are taken without
//! asking the model. The end token is allowed exactly where the answer may end; other control
//! tokens never are.
//!
//! # JSON schemas
//!
//! Answers are compact JSON, properties in the order in which the schema names them. Every answer
//! is valid; not every valid document can be an answer (spaces, other orders, properties that the
//! schema does not name). Supported keywords are [`SCHEMA_KEYWORDS`]; see [`schema`] for what
//! each may look like. Everything else is refused, and the refusal says where it stands.
//!
//! # How it fails
//!
//! By [`RuleFault`]: when a rule is compiled, because it is wrong, or larger than one of the
//! limits that stand as constants at the top of each file here; later, because a token is not
//! allowed, or because a rule that looked small can be read in too many ways. No rule, however
//! hostile, takes more than bounded time and memory. Nothing here is native.

mod automaton;
mod cache;
mod expr;
mod forced;
mod gbnf;
mod mask;
mod program;
mod regex;
pub mod schema;
mod survey;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use cache::Compiler;
pub use mask::Mask;
pub use schema::SCHEMA_KEYWORDS;
pub use vocabulary::{Pieces, Tokenize, Vocabulary};

use automaton::{Automaton, DEAD, StateNo, Trouble};
use program::Program;

/// Why a rule cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// The vocabulary is not one.
    #[error("the vocabulary: {0}")]
    Vocabulary(String),
    /// A list of choices is wrong.
    #[error("the choices: {0}")]
    Choices(String),
    /// A regular expression is wrong or not supported.
    #[error("the regular expression: {0}")]
    Regex(String),
    /// A grammar is wrong.
    #[error("the grammar, line {line}: {why}")]
    Grammar {
        /// Where; 0 means as a whole.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A schema is wrong or not supported.
    #[error("the schema, at {path}: {why}")]
    Schema {
        /// Where, as a JSON pointer.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A rule has no text that ends.
    #[error("the rule `{0}` has no answer that ends")]
    Endless(String),
    /// A rule calls itself before it took a character.
    #[error("the rule `{0}` calls itself at its own beginning")]
    LeftRecursion(String),
    /// A rule is larger than one of the limits.
    #[error("the rule asks for too much: {0}")]
    Excess(Excess),
    /// No token leads on: the vocabulary cannot spell what the rule wants.
    #[error("no token of the vocabulary can follow")]
    Stuck,
    /// This token cannot follow.
    #[error("token {0} is not allowed here")]
    NotAllowed(u32),
    /// There are not so many tokens to take back.
    #[error("cannot take back {wanted} of {there} tokens")]
    Rollback {
        /// Tokens to take back.
        wanted: usize,
        /// Tokens that are there.
        there: usize,
    },
}

/// A limit, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// Of the rule's text.
    #[error("more than {0} bytes")]
    Bytes(usize),
    /// Of a regular expression.
    #[error("a regular expression of more than {0} bytes")]
    Pattern(usize),
    /// Of groups, or of a schema.
    #[error("nested more than {0} deep")]
    Depth(usize),
    /// Of a repetition.
    #[error("more than {0} repetitions")]
    Repetitions(u32),
    /// Of a grammar.
    #[error("more than {0} rules")]
    Rules(usize),
    /// Of character classes.
    #[error("more than {0} ranges of characters")]
    Ranges(usize),
    /// Of a list of choices.
    #[error("more than {0} choices")]
    Choices(usize),
    /// Of a schema.
    #[error("more than {0} schemas in one")]
    Schemas(usize),
    /// Of an enum.
    #[error("more than {0} values to choose from")]
    Values(usize),
    /// Of the program, copies for repetitions included.
    #[error("with all repetitions written out, more than {0} steps")]
    Program(usize),
    /// Of readings of one text.
    #[error("a text can be read in more than {0} ways")]
    Ways(usize),
    /// Of work for one token.
    #[error("too much work for one token")]
    Work,
    /// Of memory for its states.
    #[error("more memory than there is for one rule")]
    Memory,
}

impl From<Trouble> for RuleFault {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Full => Self::Excess(Excess::Memory),
            Trouble::Excess(excess) => Self::Excess(excess),
            Trouble::Stuck => Self::Stuck,
        }
    }
}

/// A compiled rule, shared by all answers under it.
struct Compiled {
    program: Program,
    vocabulary: Vocabulary,
    automaton: Mutex<Automaton>,
}

impl Compiled {
    fn automaton(&self) -> MutexGuard<'_, Automaton> {
        // What is in there is complete after every call, so a panic elsewhere spoils nothing.
        let lock = self.automaton.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }
}

/// What may follow in one answer.
#[derive(Clone)]
pub struct Constraint {
    vocabulary: Vocabulary,
    /// None where anything may be said.
    rule: Option<Arc<Compiled>>,
    /// What was taken so far.
    tokens: Vec<u32>,
    /// The state behind each token, and the first.
    states: Vec<StateNo>,
    /// Which states these are.
    generation: u64,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint")
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

impl Constraint {
    /// An answer of which nothing is there yet.
    fn new(vocabulary: Vocabulary, rule: Option<Arc<Compiled>>) -> Self {
        Self {
            vocabulary,
            rule,
            tokens: Vec::new(),
            states: Vec::new(),
            generation: 0,
        }
    }

    /// The tokens that may follow. Behind the end it is the end again.
    pub fn mask(&mut self) -> Result<Mask, RuleFault> {
        if self.has_ended() {
            let mut only_end = mask::Draft::new(self.vocabulary.end() as usize + 1);
            only_end.allow(self.vocabulary.end());
            return Ok(only_end.finish());
        }
        let anything = self.vocabulary.anything().clone();
        self.with(anything, |rule, automaton, at| {
            automaton.mask(&rule.program, &rule.vocabulary, at.state)
        })
    }

    /// Whether more than one token may follow.
    pub fn is_free(&mut self) -> Result<bool, RuleFault> {
        Ok(self.mask()?.is_free())
    }

    /// The tokens that follow in any case, in their canonical form, the end among them where
    /// nothing else can follow; none if there is a choice. What could still become part of a
    /// longer token with what may follow is held back, so it can be none where bytes are forced;
    /// the mask tells what may follow then.
    pub fn forced(&mut self) -> Vec<u32> {
        if self.has_ended() {
            return Vec::new();
        }
        let found = self.with(Arc::from([]), |rule, automaton, at| {
            forced::tokens(rule, automaton, at.state, at.tokens)
        });
        // A rule that is too much for this is too much for the mask, which says so.
        found.map_or_else(|_| Vec::new(), |tokens| tokens.to_vec())
    }

    /// Takes a token. One that is not allowed changes nothing.
    pub fn advance(&mut self, token: u32) -> Result<(), RuleFault> {
        let ended = self.has_ended();
        let state = self.with(None, |rule, automaton, at| {
            at.after(rule, automaton, token).map(Some)
        })?;
        let allowed = match state {
            None => self.vocabulary.anything().allows(token),
            Some(state) => state != DEAD,
        };
        if ended || !allowed {
            return Err(RuleFault::NotAllowed(token));
        }
        self.tokens.push(token);
        self.states.extend(state);
        Ok(())
    }

    /// Takes back the last tokens.
    pub fn rollback(&mut self, tokens: usize) -> Result<(), RuleFault> {
        let there = self.tokens.len();
        let Some(left) = there.checked_sub(tokens) else {
            let wanted = tokens;
            return Err(RuleFault::Rollback { wanted, there });
        };
        self.tokens.truncate(left);
        self.states.truncate(left + 1);
        Ok(())
    }

    /// How many of these tokens may follow, one after the other.
    pub fn allowed_ahead(&mut self, tokens: &[u32]) -> usize {
        let taken = tokens
            .iter()
            .take_while(|&&token| self.advance(token).is_ok());
        let taken = taken.count();
        self.rollback(taken).expect("they were just taken");
        taken
    }

    /// Whether the answer is at its end: the end was taken, or nothing else can follow.
    pub fn is_over(&self) -> bool {
        let is_over =
            |_: &Compiled, automaton: &mut Automaton, at: At<'_>| Ok(automaton.is_over(at.state));
        // On a copy: the states may have to be found again.
        self.has_ended() || self.clone().with(false, is_over).unwrap_or(false)
    }

    fn has_ended(&self) -> bool {
        self.tokens.last() == Some(&self.vocabulary.end())
    }

    /// Does something with the state of the answer, or gives what holds without a rule. If the
    /// automaton is full, it forgets everything, and this answer is followed anew.
    fn with<T>(
        &mut self,
        anything: T,
        act: impl Fn(&Compiled, &mut Automaton, At<'_>) -> Result<T, Trouble>,
    ) -> Result<T, RuleFault> {
        let Some(rule) = self.rule.clone() else {
            return Ok(anything);
        };
        let mut automaton = rule.automaton();
        for last_try in [false, true] {
            let result = self.follow(&rule, &mut automaton).and_then(|state| {
                automaton.rest();
                let tokens = &self.tokens;
                act(&rule, &mut automaton, At { state, tokens })
            });
            match result {
                Err(Trouble::Full) if !last_try => automaton.forget(),
                result => return Ok(result?),
            }
        }
        Err(RuleFault::Excess(Excess::Memory))
    }

    /// The state behind the tokens, found again if it was forgotten.
    fn follow(&mut self, rule: &Compiled, automaton: &mut Automaton) -> Result<StateNo, Trouble> {
        if self.generation != automaton.generation || self.states.is_empty() {
            self.generation = automaton.generation;
            self.states.clear();
            automaton.rest();
            let mut states = vec![automaton.start(&rule.program)?];
            for &token in &self.tokens {
                automaton.rest();
                let state = *states.last().expect("there is the first");
                let tokens = &[];
                states.push(At { state, tokens }.after(rule, automaton, token)?);
            }
            self.states = states;
        }
        Ok(*self.states.last().expect("there is the first"))
    }
}

/// A place in an answer.
#[derive(Clone, Copy)]
struct At<'a> {
    state: StateNo,
    tokens: &'a [u32],
}

impl At<'_> {
    /// The state behind the token; dead if it is not allowed.
    fn after(
        self,
        rule: &Compiled,
        automaton: &mut Automaton,
        token: u32,
    ) -> Result<StateNo, Trouble> {
        if token == rule.vocabulary.end() {
            let may_end = automaton.may_end(self.state);
            return Ok(if may_end { self.state } else { DEAD });
        }
        let bytes = rule.vocabulary.bytes(token);
        if !vocabulary::is_usable(bytes) {
            return Ok(DEAD);
        }
        automaton.walk(&rule.program, self.state, bytes)
    }
}
