//! The form that an answer must have, whoever gives it.
//!
//! What a device reads of a task keeps to the task's rule. A person writes freely, so a correction
//! is held against the rule before it becomes the answer: with [`fits`], as what comes from a model
//! elsewhere. A schema that the request brought along goes before the task's rule.
//!
//! How it fails: a task that no package knows has no rule, and takes any text.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Refusal;
use crate::engine::order::rule_of;
use crate::engine::protocol::Rule;
use crate::engine::{Form, fits};
use crate::intake::Request;
use crate::package::Package;

/// Choices that a refusal names; a list beyond is not read.
const MAX_NAMED: usize = 12;

/// The forms of a package's answers, by task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forms {
    tasks: BTreeMap<String, Wanted>,
}

/// What an answer must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    rule: Rule,
    form: Form,
}

/// Any text.
const ANY: Wanted = Wanted {
    rule: Rule::Text,
    form: Form::Text,
};

impl Forms {
    /// Those of a package.
    pub fn of(package: &Package) -> Self {
        let tasks = package.manifest().tasks.iter().map(|task| {
            let form = if task.answer.is_json() {
                Form::Json
            } else {
                Form::Text
            };
            let rule = rule_of(package.rule(task));
            (task.name.clone(), Wanted { rule, form })
        });
        Self {
            tasks: tasks.collect(),
        }
    }

    /// What the answer to a request must be.
    pub fn wanted(&self, request: &Request) -> Cow<'_, Wanted> {
        if let Some(schema) = &request.schema {
            return Cow::Owned(Wanted {
                rule: Rule::Schema(schema.clone()),
                form: Form::Json,
            });
        }
        let task = request.ask.task();
        let known = task.and_then(|task| self.tasks.get(task));
        known.map_or(Cow::Owned(ANY), Cow::Borrowed)
    }
}

impl Wanted {
    /// A correction as the answer that it becomes.
    pub fn fitted(&self, text: &str) -> Result<String, Refusal> {
        fits::fitted(text, &self.rule, self.form).ok_or_else(|| Refusal::Form {
            wanted: self.in_words(),
        })
    }

    /// Whether the answer is JSON.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The answers, where they are given.
    pub fn choices(&self) -> &[String] {
        match &self.rule {
            Rule::Choices(choices) => choices,
            Rule::Text | Rule::Grammar(_) | Rule::Schema(_) | Rule::Regex(_) => &[],
        }
    }

    /// What kind of answer it is, for programs.
    pub fn kind(&self) -> &'static str {
        match (&self.rule, self.form) {
            (Rule::Choices(_), _) => "choice",
            (_, Form::Json) => "json",
            (_, Form::Text) => "text",
        }
    }

    /// What an answer must be, for people.
    fn in_words(&self) -> String {
        match (&self.rule, self.form) {
            (Rule::Choices(choices), _) => {
                let named: Vec<_> = choices.iter().take(MAX_NAMED).map(String::as_str).collect();
                let more = if choices.len() > MAX_NAMED {
                    ", …"
                } else {
                    ""
                };
                format!("one of: {}{more}", named.join(", "))
            }
            (Rule::Schema(_), _) => "JSON that fits the schema of the answer".into(),
            (Rule::Grammar(_), Form::Json) => "JSON that fits the grammar of the task".into(),
            (Rule::Grammar(_), Form::Text) => "a text that fits the grammar of the task".into(),
            (Rule::Regex(_), _) => "a text that fits the pattern of the task".into(),
            (Rule::Text, Form::Json) => "JSON".into(),
            (Rule::Text, Form::Text) => "a text".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(rule: Rule, form: Form) -> Wanted {
        Wanted { rule, form }
    }

    #[test]
    fn a_correction_of_a_choice_is_the_choice_itself() {
        let choices = vec!["stop".to_owned(), "go on".to_owned()];
        let wanted = wanted(Rule::Choices(choices), Form::Text);
        assert_eq!(wanted.fitted(" Stop.\n").unwrap(), "stop");
        let refusal = wanted.fitted("perhaps").unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the correction must be one of: stop, go on"
        );
        assert_eq!(wanted.kind(), "choice");
    }

    #[test]
    fn a_correction_of_json_must_fit_the_schema() {
        let schema = r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}"#;
        let wanted = wanted(Rule::Schema(schema.into()), Form::Json);
        assert!(wanted.fitted(r#"{"a": 1}"#).is_ok());
        for text in [r#"{"a":"x"}"#, "{}", "one", ""] {
            assert_eq!(wanted.fitted(text).unwrap_err().code(), "form", "{text}");
        }
    }

    #[test]
    fn a_refusal_never_quotes_the_correction() {
        for (rule, form) in [
            (Rule::Choices(vec!["a".into()]), Form::Text),
            (Rule::Schema("{\"type\":\"null\"}".into()), Form::Json),
            (Rule::Grammar("root ::= \"a\"".into()), Form::Json),
            (Rule::Regex("a".into()), Form::Text),
            (Rule::Text, Form::Json),
        ] {
            let refusal = wanted(rule, form).fitted("CANARY").unwrap_err();
            assert!(!refusal.to_string().contains("CANARY"), "{refusal}");
        }
    }
}
