//! Why a request goes where it goes, and what would have sent it elsewhere.
//!
//! An explanation asks the same functions as a decision: why a rule did not fit is told by
//! [`When`](super::When), and what would have changed it is found by changing one fact and deciding
//! again. So it holds for any table, and it never quotes the request.
//!
//! Of the values that would change the rule, the nearest is told, in each direction; of names,
//! filters and keywords those that stand in rules. What would take two changes is not told.

use super::facts::{Facts, Situation, Strain};
use super::pattern::{Found, Minute, NamePattern};
use super::policy::{DEFAULT_RULE, Policy};
use super::rule::{Aspect, Rule, To, Tokens};
use super::{Connectivity, Decision};
use crate::intake::Classification;

/// Names, filters and keywords that are told for one aspect: beyond, nobody reads on.
const MAX_TOLD: usize = 8;

/// Why a request goes where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The rule that decided, and how the request fits it.
    pub rule: Seen,
    /// The rules before it, and why each did not.
    pub before: Vec<Seen>,
    /// What follows from it as things stand.
    pub decision: Decision,
    /// What would have made another rule decide.
    pub changes: Vec<Change>,
}

/// A rule, held against a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The rule's name.
    pub rule: String,
    /// Where it sends.
    pub to: To,
    /// Of the rule that decided, all that it asks; of another, what did not fit.
    pub about: Vec<Asked>,
}

/// One thing that a rule asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// About what.
    pub aspect: Aspect,
    /// What the request has.
    pub value: String,
    /// What the rule wants.
    pub wanted: String,
}

/// One change that another rule would have decided after.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Of what.
    pub aspect: Aspect,
    /// To what.
    pub value: String,
    /// Which rule would decide.
    pub rule: String,
    /// Where it sends.
    pub to: To,
}

/// Explains a decision.
pub fn explain(policy: &Policy, facts: &Facts<'_>, situation: &Situation<'_>) -> Explanation {
    let decided = policy.rule_for(facts).map(|(place, _)| place);
    let before = policy.rules().iter().take(decided.unwrap_or(usize::MAX));
    let misses = |rule: &Rule| {
        let misses = rule.when.aspects();
        let misses = misses.filter(|aspect| !rule.when.fits(*aspect, facts));
        seen(rule, misses, facts)
    };
    Explanation {
        rule: match decided.and_then(|place| policy.rules().get(place)) {
            Some(rule) => seen(rule, rule.when.aspects(), facts),
            None => Seen {
                rule: DEFAULT_RULE.into(),
                to: To::Edge,
                about: Vec::new(),
            },
        },
        before: before.map(misses).collect(),
        decision: policy.decide(facts, situation),
        changes: changes(policy, facts, decided),
    }
}

fn seen(rule: &Rule, aspects: impl Iterator<Item = Aspect>, facts: &Facts<'_>) -> Seen {
    let asked = |aspect| {
        Some(Asked {
            aspect,
            value: facts.shown(aspect),
            wanted: rule.when.wanted(aspect)?,
        })
    };
    Seen {
        rule: rule.name.clone(),
        to: rule.to.clone(),
        about: aspects.filter_map(asked).collect(),
    }
}

/// Looks for changes of one fact each.
struct Search<'a> {
    policy: &'a Policy,
    facts: &'a Facts<'a>,
    decided: Option<usize>,
    found: Vec<Change>,
}

fn changes(policy: &Policy, facts: &Facts<'_>, decided: Option<usize>) -> Vec<Change> {
    let mut search = Search {
        policy,
        facts,
        decided,
        found: Vec::new(),
    };
    for aspect in Aspect::ALL {
        match aspect {
            Aspect::Classification => search.classification(),
            Aspect::Risk => search.risk(),
            Aspect::Complexity => search.complexity(),
            Aspect::Tokens => search.tokens(),
            Aspect::Task => search.names(Named::Task),
            Aspect::Client => search.names(Named::Client),
            Aspect::Topic => search.topics(),
            Aspect::Time => search.time(),
            Aspect::Broker => search.broker(),
            Aspect::Cloud => search.cloud(),
            Aspect::Allowance => search.allowance(),
            Aspect::Text => search.text(),
        }
    }
    search.found
}

impl<'a> Search<'a> {
    /// Notes a change if it changes the rule, and says whether it does.
    fn try_out(&mut self, aspect: Aspect, value: String, changed: &Facts<'_>) -> bool {
        let rule = self.policy.rule_for(changed);
        let differs = rule.map(|(place, _)| place) != self.decided;
        let change = Change {
            aspect,
            value,
            rule: rule.map_or(DEFAULT_RULE, |(_, rule)| &rule.name).to_owned(),
            to: rule.map_or(To::Edge, |(_, rule)| rule.to.clone()),
        };
        if differs && !self.found.contains(&change) {
            self.found.push(change);
        }
        differs
    }

    fn facts(&self) -> Facts<'a> {
        self.facts.clone()
    }

    /// The rules' own words about an aspect.
    fn rules(&self) -> impl Iterator<Item = &'a Rule> + use<'a> {
        self.policy.rules().iter()
    }

    fn classification(&mut self) {
        for classification in [
            Classification::Public,
            Classification::Internal,
            Classification::Restricted,
        ] {
            let changed = Facts {
                classification,
                ..self.facts()
            };
            self.try_out(
                Aspect::Classification,
                classification.word().into(),
                &changed,
            );
        }
    }

    fn risk(&mut self) {
        let now = self.facts.risk;
        let mut nearest = |risks: &mut dyn Iterator<Item = u8>, side: &str| {
            for risk in risks {
                let changed = Facts {
                    risk,
                    ..self.facts()
                };
                if self.try_out(Aspect::Risk, format!("{risk} {side}"), &changed) {
                    break;
                }
            }
        };
        nearest(&mut (now.saturating_add(1)..=100), OR_MORE);
        nearest(&mut (0..now).rev(), OR_LESS);
    }

    fn complexity(&mut self) {
        let now = self.facts.complexity;
        let marks = self.rules().flat_map(|rule| rule.when.complexity.marks());
        let mut marks: Vec<_> = marks.collect();
        marks.sort_by(f32::total_cmp);
        let up = marks.iter().filter(|mark| **mark >= now);
        let up = up.flat_map(|mark| {
            [
                (*mark, format!("{mark} {OR_MORE}")),
                (mark.next_up(), format!("above {mark}")),
            ]
        });
        let down = marks.iter().rev().filter(|mark| **mark <= now);
        let down = down.flat_map(|mark| {
            [
                (*mark, format!("{mark} {OR_LESS}")),
                (mark.next_down(), format!("below {mark}")),
            ]
        });
        let (up, down): (Vec<_>, Vec<_>) = (up.collect(), down.collect());
        for way in [up, down] {
            for (complexity, value) in way {
                let changed = Facts {
                    complexity,
                    ..self.facts()
                };
                let possible = (0.0..=1.0).contains(&complexity);
                if possible && self.try_out(Aspect::Complexity, value, &changed) {
                    break;
                }
            }
        }
    }

    fn tokens(&mut self) {
        let now = self.facts.tokens;
        let context = self.facts.context_tokens;
        let marks = self.rules().flat_map(|rule| rule.when.tokens.marks());
        let mut marks: Vec<_> = marks
            .map(|mark| match mark {
                Tokens::Count(count) => count,
                Tokens::Context => context,
            })
            .flat_map(|mark| [mark.saturating_sub(1), mark, mark.saturating_add(1)])
            .collect();
        marks.sort_unstable();
        let up: Vec<_> = marks.iter().filter(|mark| **mark > now).copied().collect();
        let down = marks.iter().rev().filter(|mark| **mark < now);
        let down: Vec<_> = down.copied().collect();
        for (way, side) in [(up, OR_MORE), (down, OR_LESS)] {
            for tokens in way {
                let changed = Facts {
                    tokens,
                    ..self.facts()
                };
                if self.try_out(Aspect::Tokens, format!("{tokens} {side}"), &changed) {
                    break;
                }
            }
        }
    }

    fn names(&mut self, named: Named) {
        let patterns = self.rules().filter_map(|rule| match named {
            Named::Task => rule.when.task.as_ref(),
            Named::Client => rule.when.client.as_ref(),
        });
        let patterns: Vec<_> = patterns.flatten().collect();
        let mut told = 0;
        for pattern in patterns {
            let name = match pattern {
                NamePattern::Is(name) | NamePattern::Begins(name) => Some(name.as_str()),
                NamePattern::Absent => None,
            };
            told += usize::from(self.name(named, pattern.to_string(), name));
            if told == MAX_TOLD {
                return;
            }
        }
        // A name that no rule can have.
        self.name(named, "any other".into(), Some("\0"));
    }

    fn name(&mut self, named: Named, value: String, name: Option<&str>) -> bool {
        let mut changed = self.facts();
        let aspect = match named {
            Named::Task => {
                changed.task = name;
                Aspect::Task
            }
            Named::Client => {
                changed.client = name.unwrap_or_default();
                Aspect::Client
            }
        };
        self.try_out(aspect, value, &changed)
    }

    fn topics(&mut self) {
        let filters = self.rules().filter_map(|rule| rule.when.topic.as_ref());
        let filters: Vec<_> = filters.flatten().collect();
        let mut told = 0;
        for filter in filters {
            let name = filter.replace(['+', '#'], "x");
            let changed = Facts {
                topic: Some(&name),
                ..self.facts()
            };
            told += usize::from(self.try_out(Aspect::Topic, filter.clone(), &changed));
            if told == MAX_TOLD {
                return;
            }
        }
        let changed = Facts {
            topic: None,
            ..self.facts()
        };
        self.try_out(Aspect::Topic, "any other".into(), &changed);
    }

    fn time(&mut self) {
        let windows = self.rules().filter_map(|rule| rule.when.time);
        let mut bounds: Vec<_> = windows.flat_map(|it| [it.from, it.until]).collect();
        let now = self.facts.minute.number();
        bounds.sort_by_key(|minute| (minute.number() + Minute::DAY - now) % Minute::DAY);
        for minute in bounds {
            let changed = Facts {
                minute,
                ..self.facts()
            };
            if self.try_out(Aspect::Time, format!("from {minute} on"), &changed) {
                break;
            }
        }
    }

    fn broker(&mut self) {
        for broker in LINES {
            let changed = Facts {
                broker,
                ..self.facts()
            };
            self.try_out(Aspect::Broker, broker.word().into(), &changed);
        }
    }

    fn cloud(&mut self) {
        for cloud in LINES {
            let changed = Facts {
                cloud,
                ..self.facts()
            };
            self.try_out(Aspect::Cloud, cloud.word().into(), &changed);
        }
    }

    fn allowance(&mut self) {
        for strain in Strain::ALL {
            let changed = Facts {
                strain,
                ..self.facts()
            };
            self.try_out(Aspect::Allowance, strain.word().into(), &changed);
        }
    }

    fn text(&mut self) {
        let asked = self.rules().filter_map(|rule| rule.when.text.as_ref());
        let asked: Vec<_> = asked.collect();
        if asked.is_empty() {
            return;
        }
        for keywords in asked.into_iter().take(MAX_TOLD) {
            let changed = self.facts().with_found(*keywords.own());
            self.try_out(Aspect::Text, keywords.to_string(), &changed);
        }
        let without = self.facts().with_found(Found::NONE);
        self.try_out(Aspect::Text, "none of the rules' words".into(), &without);
    }
}

/// What can be named by a pattern.
#[derive(Clone, Copy)]
enum Named {
    Task,
    Client,
}

/// The two states of a line.
const LINES: [Connectivity; 2] = [Connectivity::Online, Connectivity::Offline];

/// How the nearest value is told, by where it lies.
const OR_MORE: &str = "or more";
const OR_LESS: &str = "or less";

#[cfg(test)]
mod tests;
