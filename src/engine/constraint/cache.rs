//! Compiles rules, and keeps what was compiled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::automaton::Automaton;
use super::expr::{Expr, Rules};
use super::program::Program;
use super::{Compiled, Constraint, Excess, RuleFault, Vocabulary, gbnf, regex, schema};
use crate::engine::protocol::Rule;
use crate::package::MAX_RULE_BYTES;

/// Rules that are kept: more than a package has tasks, and some that requests bring along.
pub(super) const MAX_KEPT: usize = 128;
/// Bytes of all that is kept, states included.
pub(super) const MAX_KEPT_BYTES: usize = 64 << 20;
/// Choices of one rule.
pub(super) const MAX_CHOICES: usize = 1024;
/// Bytes of an entry beside what its parts tell.
const ENTRY_BYTES: usize = 1024;

/// Compiles rules for one vocabulary. A rule that was compiled lately is not compiled again, and
/// one that was refused lately is refused at once.
pub struct Compiler {
    vocabulary: Vocabulary,
    pub(super) kept: HashMap<Rule, Kept>,
    /// Counts calls, to know what was used last.
    calls: u64,
}

pub(super) struct Kept {
    pub(super) result: Result<Arc<Compiled>, RuleFault>,
    used: u64,
}

impl Compiler {
    /// A compiler that keeps nothing yet.
    pub fn new(vocabulary: Vocabulary) -> Self {
        Self {
            vocabulary,
            kept: HashMap::new(),
            calls: 0,
        }
    }

    /// A fresh answer under the rule.
    pub fn compile(&mut self, rule: &Rule) -> Result<Constraint, RuleFault> {
        if *rule == Rule::Text {
            return Ok(Constraint::new(self.vocabulary.clone(), None));
        }
        // Before anything else: what is kept must be small enough to be kept.
        check_bytes(rule)?;
        self.calls += 1;
        let used = self.calls;
        let result = match self.kept.get_mut(rule) {
            Some(kept) => {
                kept.used = used;
                kept.result.clone()
            }
            None => {
                let result = compile(rule, &self.vocabulary).map(Arc::new);
                let kept = Kept {
                    result: result.clone(),
                    used,
                };
                self.kept.insert(rule.clone(), kept);
                result
            }
        };
        self.make_room();
        Ok(Constraint::new(self.vocabulary.clone(), Some(result?)))
    }

    /// Lets go of what was not used for longest. Answers under way keep theirs.
    fn make_room(&mut self) {
        let size = |(rule, kept): (&Rule, &Kept)| {
            let states = kept.result.as_ref().map_or(0, |compiled| {
                compiled.program.bytes() + compiled.automaton().bytes()
            });
            ENTRY_BYTES + rule_bytes(rule) + states
        };
        let mut bytes: usize = self.kept.iter().map(size).sum();
        while self.kept.len() > 1 && (self.kept.len() > MAX_KEPT || bytes > MAX_KEPT_BYTES) {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used);
            let Some((rule, kept)) = oldest else { return };
            bytes = bytes.saturating_sub(size((rule, kept)));
            let rule = rule.clone();
            self.kept.remove(&rule);
        }
    }
}

fn rule_bytes(rule: &Rule) -> usize {
    match rule {
        Rule::Text => 0,
        Rule::Choices(choices) => choices.iter().map(String::len).sum(),
        Rule::Grammar(text) | Rule::Schema(text) | Rule::Regex(text) => text.len(),
    }
}

fn check_bytes(rule: &Rule) -> Result<(), RuleFault> {
    if let Rule::Choices(choices) = rule
        && choices.len() > MAX_CHOICES
    {
        return Err(RuleFault::Excess(Excess::Choices(MAX_CHOICES)));
    }
    let max = usize::try_from(MAX_RULE_BYTES).unwrap_or(usize::MAX);
    match rule_bytes(rule) <= max {
        true => Ok(()),
        false => Err(RuleFault::Excess(Excess::Bytes(max))),
    }
}

fn compile(rule: &Rule, vocabulary: &Vocabulary) -> Result<Compiled, RuleFault> {
    let rules = match rule {
        Rule::Text => Rules::single(Expr::Class(super::expr::Class::any()).times(0, None)),
        Rule::Choices(choices) => Rules::single(one_of(choices)?),
        Rule::Grammar(text) => gbnf::parse(text)?,
        Rule::Schema(text) => schema::parse(text)?,
        Rule::Regex(text) => Rules::single(regex::parse(text)?.expr),
    };
    let compiled = Compiled {
        program: Program::new(&rules)?,
        vocabulary: vocabulary.clone(),
        automaton: Mutex::new(Automaton::new()),
    };
    {
        // The first mask of every answer; and a rule that is too much shows it here.
        let mut automaton = compiled.automaton();
        let start = automaton.start(&compiled.program)?;
        automaton.rest();
        automaton.mask(&compiled.program, vocabulary, start)?;
    }
    Ok(compiled)
}

fn one_of(choices: &[String]) -> Result<Expr, RuleFault> {
    if choices.is_empty() {
        return Err(RuleFault::Choices("there are none".to_owned()));
    }
    if choices.iter().any(String::is_empty) {
        return Err(RuleFault::Choices("one of them is empty".to_owned()));
    }
    Ok(Expr::Alt(choices.iter().map(|it| Expr::text(it)).collect()))
}
