//! How a request reads for a model elsewhere.
//!
//! The words are those of the package: a task's instruction, its input as the task words it, its
//! rule for answers. A model elsewhere gets no template: its server has one of its own.
//!
//! How it fails: a task that the package does not have, and values that do not suit the task's
//! form, make no question. The edge would refuse them too.

use super::Question;
use crate::engine::Form;
use crate::engine::order::PLAIN_TOKENS;
use crate::engine::protocol::Rule;
use crate::intake::{Ask, Request};
use crate::package::{self, Given, Package, Task};

/// What is said to a model elsewhere when the request is a free prompt.
const PLAIN: &str = "Answer briefly and precisely.";

/// What requests can be put to a model elsewhere, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Briefs(Vec<(Task, Rule)>);

impl Briefs {
    /// Of a package's tasks.
    pub fn of(package: &Package) -> Self {
        let tasks = package.manifest().tasks.iter();
        let brief = |task: &Task| {
            let rule = match package.rule(task) {
                package::Rule::Grammar(text) => Rule::Grammar(text.to_owned()),
                package::Rule::Schema(text) => Rule::Schema(text.to_owned()),
                package::Rule::Choices(choices) => Rule::Choices(choices.to_vec()),
                package::Rule::Text => Rule::Text,
            };
            (task.clone(), rule)
        };
        Self(tasks.map(brief).collect())
    }

    /// The question that this request is; none if it is none.
    pub fn question(&self, request: &Request) -> Option<Question> {
        let brief = match request.ask.task() {
            Some(name) => Some(self.0.iter().find(|(task, _)| task.name == name)?),
            None => None,
        };
        let given = match &request.ask {
            Ask::Prompt(text) | Ask::Task { input: text, .. } => Given::Text(text),
            Ask::Values { values, .. } => Given::Values(values),
        };
        let input = match (brief, given) {
            (Some((task, _)), given) => task.input(given).ok()?.into_owned(),
            (None, Given::Text(text) | Given::Values(text)) => text.to_owned(),
        };
        let (rule, form) = match (&request.schema, brief) {
            (Some(schema), _) => (Rule::Schema(schema.clone()), Form::Json),
            (None, Some((task, rule))) if task.answer.is_json() => (rule.clone(), Form::Json),
            (None, Some((_, rule))) => (rule.clone(), Form::Text),
            (None, None) => (Rule::Text, Form::Text),
        };
        let most = brief.map_or(PLAIN_TOKENS, |(task, _)| task.max_tokens);
        let wanted = match brief {
            Some(_) => request.max_tokens.map_or(most, |wanted| wanted.min(most)),
            None => request.max_tokens.unwrap_or(most),
        };
        Some(Question {
            instruction: brief.map_or(PLAIN, |(task, _)| task.system.as_str()).into(),
            input,
            rule,
            form,
            max_tokens: wanted,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::intake::{Limits, Message, Topics, read};

    fn request(json: &str) -> Request {
        let message = Message {
            topic: "lineside/A/request".into(),
            payload: json.into(),
            ..Message::default()
        };
        let topics = Topics {
            prefix: "lineside".into(),
            appliance: "A".into(),
            pool: None,
        };
        let limits = Limits {
            max_payload_bytes: 4096,
            max_prompt_bytes: 2048,
            deadlines: crate::intake::DeadlineLimits {
                default: std::time::Duration::from_secs(1),
                max: std::time::Duration::from_secs(1),
            },
            default_classification: crate::intake::Classification::Restricted,
            classification_by_topic: Vec::new(),
            reply_topics: Vec::new(),
        };
        read(&message, &topics, &limits, crate::clock::Wall(0)).unwrap()
    }

    #[test]
    fn a_task_is_asked_in_the_package_s_words_and_by_its_rule() {
        let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
        let package = Package::open(&bundled).unwrap();
        let briefs = Briefs::of(&package);
        let task = &package.manifest().tasks[0];
        let json = format!(
            r#"{{"task":"{}","input":"CNC-07 hums","max_tokens":4}}"#,
            task.name
        );
        let question = briefs.question(&request(&json)).unwrap();
        assert_eq!(question.instruction, task.system);
        assert_eq!(question.input, "CNC-07 hums");
        assert_ne!(question.rule, Rule::Text);
        assert_eq!(question.max_tokens, 4);
    }

    #[test]
    fn a_free_prompt_needs_no_package_and_a_strange_task_is_no_question() {
        let briefs = Briefs::default();
        let plain = briefs.question(&request(r#"{"prompt":"why"}"#)).unwrap();
        assert_eq!((plain.rule, plain.max_tokens), (Rule::Text, PLAIN_TOKENS));
        let own = request(r#"{"prompt":"why","schema":{"type":"object"}}"#);
        assert_eq!(briefs.question(&own).unwrap().form, Form::Json);
        let strange = request(r#"{"task":"strange","input":"x"}"#);
        assert_eq!(briefs.question(&strange), None);
    }
}
