//! Grammars as llama.cpp writes them (GBNF), read into expressions.
//!
//! ```text
//!  root  ::= "{\"value\":" value "}"      # literals with \n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH
//!  value ::= "null" | "-"? [0-9]{1,6}     # classes [a-z] [^"], `.`, groups, | * + ? {m} {m,} {m,n}
//! ```
//!
//! What llama.cpp reads differently from what it says is not read at all: a rule that is defined
//! twice, an empty class, and names of single tokens (`<…>`) are refused.

use std::collections::HashMap;

use super::expr::{Class, Expr, Rules};
use super::{Excess, RuleFault};

/// Groups inside groups: deeper than any hand writes, and far from the end of the stack.
pub(super) const MAX_GROUP_DEPTH: usize = 64;
/// Repetitions of one item, as in llama.cpp.
pub(super) const MAX_REPETITIONS: u32 = 2000;
/// Rules of a grammar: JSON's own grammar has about ten.
pub(super) const MAX_RULES: usize = 2000;

/// The rules of a grammar.
pub(super) fn parse(text: &str) -> Result<Rules, RuleFault> {
    let mut parser = Parser {
        rest: text,
        whole: text,
        names: HashMap::new(),
        bodies: Vec::new(),
    };
    parser.space(Newlines::Skip);
    while !parser.rest.is_empty() {
        parser.rule()?;
    }
    parser.finish()
}

/// Whether the end of a line is only a space here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Newlines {
    Skip,
    Stop,
}

struct Parser<'a> {
    rest: &'a str,
    whole: &'a str,
    names: HashMap<&'a str, usize>,
    bodies: Vec<(&'a str, Option<Expr>)>,
}

impl<'a> Parser<'a> {
    fn rule(&mut self) -> Result<(), RuleFault> {
        let name = self.name();
        if name.is_empty() {
            return Err(self.fault("expected the name of a rule"));
        }
        let number = self.number_of(name)?;
        if self.bodies[number].1.is_some() {
            return Err(self.fault(format!("the rule `{name}` is defined twice")));
        }
        self.space(Newlines::Stop);
        if !self.eat("::=") {
            return Err(self.fault(format!("expected `::=` behind `{name}`")));
        }
        self.space(Newlines::Skip);
        let body = self.alternatives(0)?;
        self.bodies[number].1 = Some(body);
        if !(self.rest.is_empty() || self.rest.starts_with(['\n', '\r'])) {
            return Err(self.fault("expected the end of the rule"));
        }
        self.space(Newlines::Skip);
        Ok(())
    }

    fn finish(self) -> Result<Rules, RuleFault> {
        let Some(&root) = self.names.get("root") else {
            return Err(grammar_fault(0, "there is no rule `root`"));
        };
        let mut list = Vec::with_capacity(self.bodies.len());
        for (name, body) in self.bodies {
            let Some(body) = body else {
                let why = format!("the rule `{name}` is called but not defined");
                return Err(grammar_fault(0, why));
            };
            list.push((name.to_owned(), body));
        }
        Ok(Rules { list, root })
    }

    fn alternatives(&mut self, depth: usize) -> Result<Expr, RuleFault> {
        if depth > MAX_GROUP_DEPTH {
            return Err(RuleFault::Excess(Excess::Depth(MAX_GROUP_DEPTH)));
        }
        let mut all = vec![self.sequence(depth)?];
        while self.eat("|") {
            self.space(Newlines::Skip);
            all.push(self.sequence(depth)?);
        }
        Ok(match all.len() {
            1 => all.swap_remove(0),
            _ => Expr::Alt(all),
        })
    }

    fn sequence(&mut self, depth: usize) -> Result<Expr, RuleFault> {
        let newlines = match depth {
            0 => Newlines::Stop,
            _ => Newlines::Skip,
        };
        let mut items = Vec::new();
        while let Some(first) = self.rest.chars().next() {
            match first {
                '*' | '+' | '?' | '{' => {
                    let Some(of) = items.pop() else {
                        return Err(self.fault("a repetition of nothing"));
                    };
                    let (min, max) = self.repetition(newlines)?;
                    items.push(Expr::times(of, min, max));
                }
                '"' => items.push(self.literal()?),
                '[' => items.push(self.class()?),
                '.' => {
                    self.skip(1);
                    items.push(Expr::Class(Class::any()));
                }
                '(' => {
                    self.skip(1);
                    self.space(Newlines::Skip);
                    items.push(self.alternatives(depth + 1)?);
                    if !self.eat(")") {
                        return Err(self.fault("expected `)`"));
                    }
                }
                '<' | '!' => {
                    return Err(self.fault("names of single tokens are not supported"));
                }
                c if is_word(c) => {
                    let name = self.name();
                    items.push(Expr::Call(self.number_of(name)?));
                }
                _ => break,
            }
            self.space(newlines);
        }
        Ok(match items.len() {
            1 => items.swap_remove(0),
            _ => Expr::Seq(items),
        })
    }

    fn repetition(&mut self, newlines: Newlines) -> Result<(u32, Option<u32>), RuleFault> {
        for (sign, bounds) in [("*", (0, None)), ("+", (1, None)), ("?", (0, Some(1)))] {
            if self.eat(sign) {
                return Ok(bounds);
            }
        }
        self.skip(1);
        self.space(newlines);
        let min = self.count()?;
        self.space(newlines);
        let mut max = Some(min);
        if self.eat(",") {
            self.space(newlines);
            max = None;
            if !self.rest.starts_with('}') {
                max = Some(self.count()?);
            }
            self.space(newlines);
        }
        if !self.eat("}") {
            return Err(self.fault("expected `}`"));
        }
        if max.is_some_and(|max| max < min) {
            return Err(self.fault("more repetitions at least than at most"));
        }
        Ok((min, max))
    }

    fn count(&mut self) -> Result<u32, RuleFault> {
        let digits = self.take_while(|c| c.is_ascii_digit());
        if digits.is_empty() {
            return Err(self.fault("expected a number"));
        }
        match digits.parse() {
            Ok(count) if count <= MAX_REPETITIONS => Ok(count),
            _ => Err(RuleFault::Excess(Excess::Repetitions(MAX_REPETITIONS))),
        }
    }

    fn literal(&mut self) -> Result<Expr, RuleFault> {
        self.skip(1);
        let mut text = String::new();
        while !self.eat("\"") {
            text.push(self.character()?);
        }
        Ok(Expr::text(&text))
    }

    fn class(&mut self) -> Result<Expr, RuleFault> {
        self.skip(1);
        let negated = self.eat("^");
        let mut ranges = Vec::new();
        while !self.eat("]") {
            let from = self.character()?;
            let mut to = from;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.skip(1);
                to = self.character()?;
            }
            if to < from {
                return Err(self.fault("a range that runs backwards"));
            }
            ranges.push((from, to));
        }
        if ranges.is_empty() {
            return Err(self.fault("a class without characters"));
        }
        let class = Class::new(ranges);
        Ok(Expr::Class(if negated { class.negated() } else { class }))
    }

    /// A character of a literal or class, escaped or not.
    fn character(&mut self) -> Result<char, RuleFault> {
        let mut rest = self.rest.chars();
        let c = match rest.next() {
            None => return Err(self.fault("the text ends in the middle of a literal or class")),
            Some('\\') => match rest.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(same @ ('\\' | '"' | '[' | ']')) => same,
                Some('x') => return self.code(2),
                Some('u') => return self.code(4),
                Some('U') => return self.code(8),
                _ => return Err(self.fault("an unknown escape")),
            },
            Some(c) => c,
        };
        self.rest = rest.as_str();
        Ok(c)
    }

    /// `\x`, `\u` or `\U` and so many digits of a code point.
    fn code(&mut self, digits: usize) -> Result<char, RuleFault> {
        let found = self.rest.get(2..2 + digits);
        let c = found
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .and_then(char::from_u32);
        let Some(c) = c else {
            return Err(self.fault(format!("expected {digits} hex digits of a character")));
        };
        self.skip(2 + digits);
        Ok(c)
    }

    fn number_of(&mut self, name: &'a str) -> Result<usize, RuleFault> {
        if let Some(&number) = self.names.get(name) {
            return Ok(number);
        }
        if self.bodies.len() >= MAX_RULES {
            return Err(RuleFault::Excess(Excess::Rules(MAX_RULES)));
        }
        self.names.insert(name, self.bodies.len());
        self.bodies.push((name, None));
        Ok(self.bodies.len() - 1)
    }

    fn name(&mut self) -> &'a str {
        self.take_while(is_word)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest;
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.rest = &rest[end..];
        &rest[..end]
    }

    /// Skips spaces and comments, and the ends of lines where they mean nothing.
    fn space(&mut self, newlines: Newlines) {
        loop {
            self.take_while(|c| {
                c == ' ' || c == '\t' || (newlines == Newlines::Skip && (c == '\n' || c == '\r'))
            });
            if !self.rest.starts_with('#') {
                return;
            }
            self.take_while(|c| c != '\n' && c != '\r');
        }
    }

    fn eat(&mut self, wanted: &str) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Skips ASCII that was looked at.
    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn fault(&self, why: impl Into<String>) -> RuleFault {
        let done = &self.whole[..self.whole.len() - self.rest.len()];
        grammar_fault(done.matches('\n').count() + 1, why)
    }
}

fn grammar_fault(line: usize, why: impl Into<String>) -> RuleFault {
    RuleFault::Grammar {
        line,
        why: why.into(),
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}
