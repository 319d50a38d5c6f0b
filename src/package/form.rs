//! An input with a form: typed variables, and a template that makes the text of them.
//!
//! ```toml
//! input_template = "Machine {{ asset }}: {{ text }}"
//! [[task.variable]]
//! name = "asset"
//! type = "text"
//! max_bytes = 32
//! default = "unknown"
//! ```
//!
//! Purpose: a device sends what it has (`{"asset":"CNC-07","text":"hums"}`) and the package says
//! how that reads to the model. The result is an input like any other: foreign text, in which a
//! marker is text.
//!
//! Invariants: what a form lets through is of its type and within its limits; the template sees
//! the variables and nothing else; what it costs is bounded.
//!
//! How it fails: by [`InputFault`], which names the variable and what it must be, and never says
//! what was sent.

use std::borrow::Cow;

use super::jinja::{self, JinjaError, Limits, Value};
use super::task::Task;
use crate::fault::{did_you_mean, nearest, quoted, shortened};

/// Bytes of an input that was made of variables: far above any prompt that a site allows.
pub const MAX_INPUT_BYTES: usize = 1 << 20;
/// What an input's template may take, for each request anew.
const LIMITS: Limits = Limits {
    steps: 20_000,
    work_bytes: 4 * MAX_INPUT_BYTES,
    output_bytes: MAX_INPUT_BYTES,
};

/// The form of an input.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    pub(super) template: String,
    pub(super) variables: Vec<Variable>,
}

/// Something that a request says by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it can be.
    pub kind: Kind,
    /// What it is where a request leaves it out; without this, a request may not.
    pub default: Option<Datum>,
}

/// What a variable can be.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A text of so many bytes at most.
    Text {
        /// Bytes.
        max_bytes: usize,
    },
    /// A number, whole or not, from one to the other.
    Number {
        /// The least.
        min: f64,
        /// The greatest.
        max: f64,
    },
    /// A whole number from one to the other.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// True or false.
    Boolean,
    /// One of these.
    Choice(Vec<String>),
}

/// What a variable is.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    /// A text, also one of a choice.
    Text(String),
    /// A number.
    Number(f64),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
}

/// What a request brings for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given<'a> {
    /// The input as it is.
    Text(&'a str),
    /// A JSON object of variables.
    Values(&'a str),
}

/// Why a request's values make no input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputFault {
    /// The task has no variables.
    #[error("the task {task} takes a text as its input, not an object")]
    NoForm {
        /// The task.
        task: String,
    },
    /// The values are no JSON object.
    #[error("the input must be a text or a JSON object")]
    NoObject,
    /// The task has no such variable.
    #[error("the task has no variable {variable}{meant}")]
    Unknown {
        /// Its name, safe to show.
        variable: String,
        /// A guess at what was meant.
        meant: String,
    },
    /// A variable is left out that has no default.
    #[error("the variable {variable} is missing: {wanted}")]
    Missing {
        /// Its name.
        variable: String,
        /// What it must be.
        wanted: String,
    },
    /// A variable is of another type, or beyond its limits.
    #[error("the variable {variable} must be {wanted}")]
    Wrong {
        /// Its name.
        variable: String,
        /// What it must be.
        wanted: String,
    },
    /// The template makes too much of the values, or nothing.
    #[error("these values make no input: {0}")]
    Template(String),
}

impl Task {
    /// The text of an input, whichever way it was given.
    pub fn input<'a>(&self, given: Given<'a>) -> Result<Cow<'a, str>, InputFault> {
        match (given, &self.form) {
            (Given::Text(text), _) => Ok(text.into()),
            (Given::Values(values), Some(form)) => form.fill(values).map(Cow::Owned),
            (Given::Values(_), None) => Err(InputFault::NoForm {
                task: self.name.clone(),
            }),
        }
    }
}

impl Form {
    /// The template of the text.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// What a request says by name.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The text that a JSON object of values makes.
    pub fn fill(&self, values: &str) -> Result<String, InputFault> {
        let values: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(values).map_err(|_| InputFault::NoObject)?;
        if let Some(stranger) = values.keys().find(|name| self.variable(name).is_none()) {
            let known = self.variables.iter().map(|it| it.name.as_str());
            return Err(InputFault::Unknown {
                variable: quoted(stranger),
                meant: did_you_mean(nearest(stranger, known)),
            });
        }
        let mut filled = Vec::new();
        for variable in &self.variables {
            let said = values.get(&variable.name).filter(|value| !value.is_null());
            filled.push((variable.name.as_str(), variable.take(said)?));
        }
        let text = self.render(&filled);
        let text = text.map_err(|error| InputFault::Template(error.to_string()))?;
        if text.trim().is_empty() {
            return Err(InputFault::Template("the text is empty".into()));
        }
        Ok(text)
    }

    /// What is wrong with the template itself, tried on values that the variables allow.
    pub(super) fn fault(&self) -> Option<String> {
        let names = match jinja::names(&self.template) {
            Ok(names) => names,
            Err(error) => return Some(error.to_string()),
        };
        if let Some(stranger) = names.iter().find(|name| self.variable(name).is_none()) {
            return Some(format!("{stranger} is not among the task's variables"));
        }
        let idle = |variable: &&Variable| !names.contains(&variable.name);
        if let Some(variable) = self.variables.iter().find(idle) {
            return Some(format!("the variable {} is not used", variable.name));
        }
        let tried = |variable: &Variable| variable.kind.example();
        let filled = self
            .variables
            .iter()
            .map(|it| (it.name.as_str(), tried(it)));
        let filled: Vec<_> = filled.collect();
        self.render(&filled).err().map(|error| error.to_string())
    }

    fn variable(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|variable| variable.name == name)
    }

    fn render(&self, filled: &[(&str, Datum)]) -> Result<String, JinjaError> {
        let values = filled.iter().map(|(name, datum)| {
            let value = match datum {
                Datum::Text(text) => Value::from(text),
                Datum::Number(number) => Value::from(*number),
                Datum::Integer(number) => Value::from(*number),
                Datum::Boolean(yes) => Value::from(*yes),
            };
            (*name, value)
        });
        jinja::render(&self.template, values.collect(), LIMITS)
    }
}

impl Variable {
    /// What a request said, if that is right; else the default, where nothing was said.
    fn take(&self, said: Option<&serde_json::Value>) -> Result<Datum, InputFault> {
        let (variable, wanted) = (self.name.clone(), self.kind.wanted());
        let Some(said) = said else {
            let default = self.default.clone();
            return default.ok_or(InputFault::Missing { variable, wanted });
        };
        let datum = if let Some(text) = said.as_str() {
            Datum::Text(text.to_owned())
        } else if let Some(yes) = said.as_bool() {
            Datum::Boolean(yes)
        } else if let Some(whole) = said.as_i64() {
            Datum::Integer(whole)
        } else if let Some(number) = said.as_f64() {
            Datum::Number(number)
        } else {
            return Err(InputFault::Wrong { variable, wanted });
        };
        let good = self.kind.take(datum);
        good.ok_or(InputFault::Wrong { variable, wanted })
    }
}

impl Kind {
    /// The datum as this kind has it, if it is one.
    pub(super) fn take(&self, datum: Datum) -> Option<Datum> {
        let good = match (self, &datum) {
            (Self::Text { max_bytes }, Datum::Text(text)) => text.len() <= *max_bytes,
            (Self::Choice(all), Datum::Text(text)) => all.contains(text),
            (Self::Boolean, Datum::Boolean(_)) => true,
            (Self::Integer { min, max }, Datum::Integer(whole)) => (min..=max).contains(&whole),
            (Self::Number { min, max }, Datum::Number(number)) => (min..=max).contains(&number),
            #[expect(
                clippy::cast_precision_loss,
                reason = "a bound is no finer than a float"
            )]
            (Self::Number { min, max }, Datum::Integer(whole)) => {
                (*min..=*max).contains(&(*whole as f64))
            }
            _ => false,
        };
        good.then_some(datum)
    }

    /// What it must be, in words.
    pub(super) fn wanted(&self) -> String {
        match self {
            Self::Text { max_bytes } => format!("a text of up to {max_bytes} bytes"),
            Self::Number { min, max } => {
                format!("a number{}", between(min, max, [f64::MIN, f64::MAX]))
            }
            Self::Integer { min, max } => {
                format!("a whole number{}", between(min, max, [i64::MIN, i64::MAX]))
            }
            Self::Boolean => "true or false".into(),
            Self::Choice(all) => format!("one of {}", shortened(&all.join(", "))),
        }
    }

    /// Something that it can be.
    fn example(&self) -> Datum {
        match self {
            Self::Text { .. } => Datum::Text("a".into()),
            Self::Number { min, max } => Datum::Number(0.0_f64.clamp(*min, *max)),
            Self::Integer { min, max } => Datum::Integer(0.clamp(*min, *max)),
            Self::Boolean => Datum::Boolean(true),
            Self::Choice(all) => Datum::Text(all.first().cloned().unwrap_or_default()),
        }
    }
}

/// The bounds in words, where there are any.
fn between<T: PartialEq + std::fmt::Display>(min: &T, max: &T, all: [T; 2]) -> String {
    let [lowest, highest] = all;
    match (*min == lowest, *max == highest) {
        (true, true) => String::new(),
        (false, true) => format!(" from {min}"),
        (true, false) => format!(" up to {max}"),
        (false, false) => format!(" from {min} to {max}"),
    }
}

#[cfg(test)]
mod tests;
