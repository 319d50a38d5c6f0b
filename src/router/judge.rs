//! Whether an answer is good enough, and who comes next where it is not.
//!
//! ```text
//!  answer ─► sure enough? ─ yes ─► final
//!                └─────────  no ─► the next tier that can be had; none: final all the same
//! ```
//!
//! Purpose: [`Router::judge`] holds an answer's confidence against its threshold, and
//! [`Router::onward`] says who may be asked after a tier. Both are pure.
//!
//! What a threshold is: the site's own, else the task's of the package. An answer to a free prompt
//! is held against the site's alone: the probability of a whole text falls with its length, and
//! without a task nothing calibrates it. An upstream that tells no probabilities is believed.

use std::collections::BTreeMap;

use super::facts::{Facts, Situation};
use super::rule::To;
use super::{Router, Tier, Why};
use crate::intake::Request;

/// Below this an answer of a task that says nothing itself is in doubt.
pub const THRESHOLD: f32 = 0.65;

/// How sure answers must be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bars {
    /// For all tasks, by the site.
    pub site: Option<f32>,
    /// For answers from the cloud, by the site; else as for the edge.
    pub cloud: Option<f32>,
    /// What the package says of its tasks.
    pub tasks: BTreeMap<String, TaskBar>,
}

/// What a package says of one task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskBar {
    /// How sure an answer must be.
    pub threshold: f32,
    /// Whether the cloud is to check what the edge answers.
    pub verify: bool,
}

/// Who has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The model on this appliance.
    Edge,
    /// A model elsewhere.
    Cloud,
}

/// What was answered, as far as a judgement looks at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Said {
    /// Who has answered.
    pub by: By,
    /// How sure they were, where that is known.
    pub confidence: Option<f32>,
}

/// Whether an answer is good enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Judgement {
    /// It is, by these figures where there are some.
    Sure(Option<Measured>),
    /// It is not.
    Doubt(Measured),
}

/// A confidence, and what it was held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// How sure the answer was.
    pub confidence: f32,
    /// How sure it had to be.
    pub threshold: f32,
}

impl Measured {
    /// The figures as a reason in the reply.
    pub fn reason(self) -> String {
        let Self {
            confidence,
            threshold,
        } = self;
        let sign = if confidence < threshold { "<" } else { ">=" };
        format!("confidence {confidence:.2} {sign} {threshold:.2}")
    }
}

impl From<Measured> for Why {
    fn from(it: Measured) -> Self {
        Self::Doubt {
            confidence: it.confidence,
            threshold: it.threshold,
        }
    }
}

impl Bars {
    /// How sure an answer must be; none where nothing is measured.
    pub fn of(&self, by: By, task: Option<&str>) -> Option<f32> {
        let own = |task: &str| self.tasks.get(task).map_or(THRESHOLD, |bar| bar.threshold);
        let edge = self.site.or_else(|| task.map(own));
        match by {
            By::Edge => edge,
            By::Cloud => self.cloud.or(edge),
        }
    }
}

impl Router {
    /// Whether an answer to this request is good enough.
    pub fn judge(&self, request: &Request, said: &Said) -> Judgement {
        let threshold = self.bars.of(said.by, request.ask.task());
        let (Some(confidence), Some(threshold)) = (said.confidence, threshold) else {
            return Judgement::Sure(None);
        };
        let measured = Measured {
            confidence,
            threshold,
        };
        // What is no number is no confidence.
        if confidence >= threshold {
            Judgement::Sure(Some(measured))
        } else {
            Judgement::Doubt(measured)
        }
    }

    /// Whether the cloud is to check what the edge answers.
    pub fn verifies(&self, request: &Request) -> bool {
        let bar = request
            .ask
            .task()
            .and_then(|task| self.bars.tasks.get(task));
        bar.is_some_and(|bar| bar.verify)
    }

    /// Who may be asked after this tier, in order.
    pub fn onward(&self, after: Tier, request: &Request, situation: &Situation<'_>) -> Vec<Tier> {
        let facts = Facts {
            classification: request.classification,
            ..Facts::blank(self.policy.lexicon())
        };
        self.policy.onward(after, &facts, situation)
    }

    /// The upstreams to ask under a rule: the one that it names, or all in their order.
    pub fn upstreams(&self, rule: &str) -> Vec<&str> {
        let mut rules = self.policy.rules().iter();
        let rule = rules.find(|it| it.name == rule).map(|it| &it.to);
        let named = match rule {
            Some(To::CloudAt(name)) => Some(name.as_str()),
            Some(To::Edge | To::Cloud | To::Review | To::Refuse) | None => None,
        };
        let all = self.policy.ways().upstreams.iter();
        let all = all.map(|it| it.name.as_str());
        all.filter(|name| named.is_none_or(|named| named == *name))
            .collect()
    }
}

#[cfg(test)]
mod tests;
