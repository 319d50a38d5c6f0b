//! Expressions as a program of small steps over bytes, which [`super::automaton`] runs.
//!
//! ```text
//!  Jump    one byte, by ranges, each with the node behind it
//!  Fork    any of these nodes, without a byte
//!  Call    a rule, then on behind the call
//!  Return  behind the last call; at the end of the root, the answer may end
//! ```
//!
//! A rule is written once and called, so the program is no longer than the rule's text, except
//! that a repetition is as many copies as its bounds say: that is where a rule can grow beyond
//! measure, and where [`MAX_NODES`] holds it.
//!
//! Invariants of a program: from every node some answer can end (what cannot is left out), and no
//! rule calls itself before a byte was taken, so a step ends.

use std::collections::HashMap;

use super::expr::{Class, Expr, Member, Presence, Rules};
use super::survey::Survey;
use super::{Excess, RuleFault, regex};

/// Nodes of a program, about 60 bytes each: JSON's own grammar takes 100, a string of 2000
/// characters at most takes 4000.
pub(super) const MAX_NODES: usize = 1 << 17;
/// Where each rule ends.
pub(super) const RETURN: u32 = 0;

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// Takes a byte.
    Jump(Box<[Edge]>),
    /// Goes on at any of these.
    Fork(Box<[u32]>),
    /// Goes on at the rule, and then behind it.
    Call {
        /// The rule's first node.
        rule: u32,
        /// Where to go on.
        back: u32,
    },
    /// Goes on behind the last call.
    Return,
}

/// A range of bytes and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Edge {
    /// The smallest byte.
    pub(super) lo: u8,
    /// The largest byte.
    pub(super) hi: u8,
    /// The node behind it.
    pub(super) to: u32,
}

/// Nodes, and which bytes they tell apart.
#[derive(Clone, Debug)]
pub(super) struct Program {
    nodes: Vec<Node>,
    /// Where an answer begins.
    pub(super) start: u32,
    /// The group of each byte: all bytes of a group lead to the same places everywhere.
    groups: [u8; 256],
    /// How many groups there are.
    pub(super) group_count: usize,
}

impl Program {
    /// Writes the program of these rules.
    pub(super) fn new(rules: &Rules) -> Result<Self, RuleFault> {
        let survey = Survey::new(rules)?;
        let mut writer = Writer {
            nodes: vec![Node::Return],
            jumps: HashMap::new(),
            classes: HashMap::new(),
            survey: &survey,
        };
        for _ in &rules.list {
            writer.push(Node::Fork(Box::default()))?;
        }
        for (number, (_, body)) in rules.list.iter().enumerate() {
            if survey.can_end(number) {
                let first = writer.write(body, RETURN)?;
                let entry = entry(number) as usize;
                writer.nodes[entry] = Node::Fork(Box::new([first]));
            }
        }
        let (groups, group_count) = groups(&writer.nodes);
        Ok(Self {
            nodes: writer.nodes,
            start: entry(rules.root),
            groups,
            group_count,
        })
    }

    pub(super) fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    pub(super) fn group(&self, byte: u8) -> usize {
        usize::from(self.groups[usize::from(byte)])
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        let inside = self.nodes.iter().map(|node| match node {
            Node::Jump(edges) => size_of_val(&**edges),
            Node::Fork(to) => size_of_val(&**to),
            Node::Call { .. } | Node::Return => 0,
        });
        self.nodes.len() * size_of::<Node>() + inside.sum::<usize>()
    }
}

/// The node where a rule begins: they stand in their order, behind [`RETURN`].
fn entry(rule: usize) -> u32 {
    u32::try_from(rule + 1).expect("rules are fewer than nodes")
}

/// Splits all bytes into groups that no edge tells apart.
fn groups(nodes: &[Node]) -> ([u8; 256], usize) {
    let mut begins = [false; 257];
    for node in nodes {
        if let Node::Jump(edges) = node {
            for edge in edges {
                begins[usize::from(edge.lo)] = true;
                begins[usize::from(edge.hi) + 1] = true;
            }
        }
    }
    let mut groups = [0; 256];
    let mut group = 0;
    for byte in 1..256 {
        group += u8::from(begins[byte]);
        groups[byte] = group;
    }
    (groups, usize::from(group) + 1)
}

struct Writer<'a> {
    nodes: Vec<Node>,
    jumps: HashMap<Box<[Edge]>, u32>,
    classes: HashMap<Class, u32>,
    survey: &'a Survey,
}

impl Writer<'_> {
    /// Writes an expression in front of the node where it goes on; gives its first node. Only
    /// called for what can end.
    fn write(&mut self, expr: &Expr, next: u32) -> Result<u32, RuleFault> {
        match expr {
            Expr::Bytes(bytes) => bytes.iter().rev().try_fold(next, |to, &byte| {
                let (lo, hi) = (byte, byte);
                self.jump(vec![Edge { lo, hi, to }])
            }),
            Expr::Class(class) => self.class(class, next),
            Expr::Seq(items) => {
                let mut items = items.iter().rev();
                items.try_fold(next, |to, item| self.write(item, to))
            }
            Expr::Alt(items) => {
                let mut to = Vec::with_capacity(items.len());
                for item in items {
                    if self.survey.ends(item) {
                        to.push(self.write(item, next)?);
                    }
                }
                self.fork(to)
            }
            Expr::Repeat {
                of,
                between,
                min,
                max,
            } => self.repeat(of, between, *min, *max, next),
            Expr::Members(members, between) => self.members(members, between, next),
            Expr::Call(rule) => self.push(Node::Call {
                rule: entry(*rule),
                back: next,
            }),
        }
    }

    fn repeat(
        &mut self,
        of: &Expr,
        between: &[u8],
        min: u32,
        max: Option<u32>,
        next: u32,
    ) -> Result<u32, RuleFault> {
        if max == Some(0) || !self.survey.ends(of) {
            return Ok(next);
        }
        let between = Expr::Bytes(between.to_vec());
        // From the last item to the first: `first` is the one that was written last.
        let mut first;
        if let Some(max) = max {
            first = self.write(of, next)?;
            for place in (1..max).rev() {
                let more = self.write(&between, first)?;
                let mut after = more;
                if place >= min {
                    after = self.fork(vec![more, next])?;
                }
                first = self.write(of, after)?;
            }
        } else {
            let again = self.push(Node::Fork(Box::default()))?;
            first = self.write(of, again)?;
            let more = self.write(&between, first)?;
            self.nodes[again as usize] = Node::Fork(Box::new([more, next]));
            for _ in 1..min {
                let more = self.write(&between, first)?;
                first = self.write(of, more)?;
            }
        }
        match min {
            0 => self.fork(vec![first, next]),
            _ => Ok(first),
        }
    }

    /// Each member is written once, behind a node that either came from nothing or over a
    /// separator.
    fn members(&mut self, members: &[Member], between: &[u8], next: u32) -> Result<u32, RuleFault> {
        let between = Expr::Bytes(between.to_vec());
        // Where to go on if no member was there yet, and if one was.
        let (mut fresh, mut later) = (next, next);
        for member in members.iter().rev() {
            if !self.survey.ends(&member.expr) {
                continue;
            }
            let item = self.write(&member.expr, later)?;
            let more = self.write(&between, item)?;
            (fresh, later) = match member.presence {
                Presence::Required => (item, more),
                Presence::Optional => {
                    (self.fork(vec![item, fresh])?, self.fork(vec![more, later])?)
                }
            };
        }
        Ok(fresh)
    }

    fn class(&mut self, class: &Class, next: u32) -> Result<u32, RuleFault> {
        let ascii = |c: char| u8::try_from(c).ok().filter(u8::is_ascii);
        let edges = class.ranges().iter().map(|&(lo, hi)| {
            let (lo, hi) = (ascii(lo)?, ascii(hi)?);
            Some(Edge { lo, hi, to: next })
        });
        if let Some(edges) = edges.collect::<Option<Vec<_>>>() {
            return self.jump(edges);
        }
        // Characters of several bytes are a rule of their own, so that copies cost one node.
        let rule = if let Some(&rule) = self.classes.get(class) {
            rule
        } else {
            let ranges = class.ranges().iter();
            let all: Vec<_> = ranges.flat_map(|&(lo, hi)| regex::utf8(lo, hi)).collect();
            let all: Vec<_> = all.iter().map(Vec::as_slice).collect();
            let rule = self.bytes(&all)?;
            self.classes.insert(class.clone(), rule);
            rule
        };
        self.push(Node::Call { rule, back: next })
    }

    /// Rising sequences of byte ranges, which are one character.
    fn bytes(&mut self, mut all: &[&[(u8, u8)]]) -> Result<u32, RuleFault> {
        let mut edges = Vec::new();
        while let Some((&(lo, hi), _)) = all.first().and_then(|it| it.split_first()) {
            let same = all.iter().take_while(|it| it.first() == Some(&(lo, hi)));
            let tails: Vec<_> = same.map(|it| &it[1..]).collect();
            all = &all[tails.len()..];
            let to = match tails.first() {
                Some([]) | None => RETURN,
                Some(_) => self.bytes(&tails)?,
            };
            edges.push(Edge { lo, hi, to });
        }
        self.jump(edges)
    }

    fn jump(&mut self, mut edges: Vec<Edge>) -> Result<u32, RuleFault> {
        edges.dedup_by(|next, last| {
            let joins = next.to == last.to && u16::from(next.lo) == u16::from(last.hi) + 1;
            if joins {
                last.hi = next.hi;
            }
            joins
        });
        let edges = edges.into_boxed_slice();
        if let Some(&known) = self.jumps.get(&edges) {
            return Ok(known);
        }
        let at = self.push(Node::Jump(edges.clone()))?;
        self.jumps.insert(edges, at);
        Ok(at)
    }

    fn fork(&mut self, mut to: Vec<u32>) -> Result<u32, RuleFault> {
        to.sort_unstable();
        to.dedup();
        match to[..] {
            [only] => Ok(only),
            _ => self.push(Node::Fork(to.into_boxed_slice())),
        }
    }

    fn push(&mut self, node: Node) -> Result<u32, RuleFault> {
        let excess = RuleFault::Excess(Excess::Program(MAX_NODES));
        if self.nodes.len() >= MAX_NODES {
            return Err(excess);
        }
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).map_err(|_| excess)
    }
}
