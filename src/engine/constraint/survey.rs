//! What is known of rules before a program is written from them: which can end at all, which can
//! be empty, and whether one calls itself before it took a byte.

use super::RuleFault;
use super::expr::{Expr, Member, Presence, Rules};

/// Facts of each rule.
pub(super) struct Survey {
    ends: Vec<bool>,
    empties: Vec<bool>,
}

impl Survey {
    /// Looks at all rules; refuses those from which no program can be written.
    pub(super) fn new(rules: &Rules) -> Result<Self, RuleFault> {
        let mut survey = Self {
            ends: vec![false; rules.list.len()],
            empties: vec![false; rules.list.len()],
        };
        survey.settle(rules);
        let (name, _) = &rules.list[rules.root];
        if !survey.ends[rules.root] {
            return Err(RuleFault::Endless(name.clone()));
        }
        match survey.cycle(rules) {
            Some(rule) => Err(RuleFault::LeftRecursion(rules.list[rule].0.clone())),
            None => Ok(survey),
        }
    }

    /// Whether some answer of the rule has an end.
    pub(super) fn can_end(&self, rule: usize) -> bool {
        self.ends[rule]
    }

    /// Whether some text of the expression has an end.
    pub(super) fn ends(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Bytes(_) => true,
            Expr::Class(class) => !class.is_empty(),
            Expr::Seq(items) => items.iter().all(|it| self.ends(it)),
            Expr::Alt(items) => items.iter().any(|it| self.ends(it)),
            Expr::Repeat { of, min, .. } => *min == 0 || self.ends(of),
            Expr::Members(members, _) => members
                .iter()
                .all(|it| it.presence == Presence::Optional || self.ends(&it.expr)),
            Expr::Call(rule) => self.ends[*rule],
        }
    }

    fn empties(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Bytes(bytes) => bytes.is_empty(),
            Expr::Class(_) => false,
            Expr::Seq(items) => items.iter().all(|it| self.empties(it)),
            Expr::Alt(items) => items.iter().any(|it| self.empties(it)),
            Expr::Repeat {
                of, between, min, ..
            } => *min == 0 || (self.empties(of) && (between.is_empty() || *min == 1)),
            Expr::Members(members, between) => {
                let mut required = members
                    .iter()
                    .filter(|it| it.presence == Presence::Required);
                match (required.next(), required.next()) {
                    (None, _) => true,
                    (Some(one), None) => self.empties(&one.expr),
                    (Some(_), Some(_)) => {
                        between.is_empty() && members.iter().all(|it| self.empties(&it.expr))
                    }
                }
            }
            Expr::Call(rule) => self.empties[*rule],
        }
    }

    /// Looks again until nothing new is found; each round finds something of at least one rule.
    fn settle(&mut self, rules: &Rules) {
        let mut forward = true;
        loop {
            let mut found = false;
            for place in 0..rules.list.len() {
                let rule = if forward {
                    place
                } else {
                    rules.list.len() - 1 - place
                };
                let body = &rules.list[rule].1;
                let (ends, empties) = (self.ends(body), self.empties(body));
                found |= ends != self.ends[rule] || empties != self.empties[rule];
                self.ends[rule] = ends;
                self.empties[rule] = empties;
            }
            if !found {
                return;
            }
            forward = !forward;
        }
    }

    /// A rule that calls itself, over others or not, before a byte was taken.
    fn cycle(&self, rules: &Rules) -> Option<usize> {
        let mut calls: Vec<Vec<usize>> = Vec::with_capacity(rules.list.len());
        for (_, body) in &rules.list {
            let mut first = Vec::new();
            self.first_calls(body, &mut first);
            first.sort_unstable();
            first.dedup();
            calls.push(first);
        }
        // What is called only by rules that are no part of a cycle is no part of one either.
        let mut callers = vec![0_usize; calls.len()];
        for &rule in calls.iter().flatten() {
            callers[rule] += 1;
        }
        let mut clear: Vec<usize> = (0..calls.len()).filter(|&it| callers[it] == 0).collect();
        let mut left = calls.len();
        while let Some(rule) = clear.pop() {
            left -= 1;
            for &called in &calls[rule] {
                callers[called] -= 1;
                if callers[called] == 0 {
                    clear.push(called);
                }
            }
        }
        if left == 0 {
            return None;
        }
        // From a rule that is left, backwards along callers that are left, one meets a cycle.
        let mut at = callers.iter().position(|&it| it > 0)?;
        for _ in 0..calls.len() {
            let caller = |it: &usize| callers[*it] > 0 && calls[*it].contains(&at);
            at = (0..calls.len()).find(caller)?;
        }
        Some(at)
    }

    /// Rules that are called before a byte was taken.
    fn first_calls(&self, expr: &Expr, calls: &mut Vec<usize>) {
        if !self.ends(expr) {
            return;
        }
        match expr {
            Expr::Bytes(_) | Expr::Class(_) => {}
            Expr::Seq(items) => {
                for item in items {
                    self.first_calls(item, calls);
                    if !self.empties(item) {
                        break;
                    }
                }
            }
            Expr::Alt(items) => items.iter().for_each(|it| self.first_calls(it, calls)),
            Expr::Repeat { of, .. } => self.first_calls(of, calls),
            Expr::Members(members, _) => {
                for Member { expr, .. } in members {
                    self.first_calls(expr, calls);
                }
            }
            Expr::Call(rule) => calls.push(*rule),
        }
    }
}
