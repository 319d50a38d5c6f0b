//! Whether an answer is of the form that was asked for.
//!
//! For answers that were not written here: by a model elsewhere, or by a person. The rules are
//! those of the appliance, but nobody was held to them word by word, so what comes is looked at as
//! a whole:
//!
//! - choices: the text, without blanks and quotes around it, is one of them, whatever the case;
//! - a schema: the text is JSON that the schema lets through, see [`schema`]; spaces and
//!   the order of properties are free, and a code fence around it is taken off;
//! - a grammar or a regular expression: the text is followed byte by byte with the engine's own
//!   automaton; of JSON also without spaces.
//!
//! How it fails: it does not. A rule that cannot be followed lets nothing through.

mod schema;

use serde_json::Value;

use super::Form;
use super::constraint::{Compiler, Pieces, Vocabulary};
use super::protocol::Rule;

/// Token numbers of a vocabulary of bytes: each byte is its own, and the end comes behind.
const END: u32 = 256;

/// The text as the answer that was asked for; none if it is none.
pub fn fitted(text: &str, rule: &Rule, form: Form) -> Option<String> {
    let text = text.trim();
    match (rule, form) {
        (Rule::Text, Form::Text) => Some(text.to_owned()),
        (Rule::Text, Form::Json) => json(text).map(|(text, _)| text.to_owned()),
        (Rule::Choices(choices), _) => chosen(text, choices),
        (Rule::Schema(schema), _) => {
            let (text, value) = json(text)?;
            let schema: Value = serde_json::from_str(schema).ok()?;
            schema::lets_through(&schema, &value).then(|| text.to_owned())
        }
        (Rule::Grammar(_) | Rule::Regex(_), Form::Text) => {
            follows(text, rule).then(|| text.to_owned())
        }
        (Rule::Grammar(_) | Rule::Regex(_), Form::Json) => {
            let (text, _) = json(text)?;
            let all = [text.to_owned(), without_spaces(text)];
            all.into_iter().find(|text| follows(text, rule))
        }
    }
}

fn chosen(text: &str, choices: &[String]) -> Option<String> {
    let is = |choice: &&String| choice.as_str() == text;
    if let Some(choice) = choices.iter().find(is) {
        return Some(choice.clone());
    }
    let bare = text.trim_matches(['"', '\'', '`', '.']).trim();
    let mut alike = choices
        .iter()
        .filter(|it| it.to_lowercase() == bare.to_lowercase());
    match (alike.next(), alike.next()) {
        (Some(choice), None) => Some(choice.clone()),
        (None, _) | (_, Some(_)) => None,
    }
}

/// A JSON document, and what stands for it without a code fence.
fn json(text: &str) -> Option<(&str, Value)> {
    let bare = text
        .strip_prefix("```json")
        .or_else(|| text.strip_prefix("```"))
        .and_then(|text| text.strip_suffix("```"))
        .map_or(text, str::trim);
    Some((bare, serde_json::from_str(bare).ok()?))
}

/// The same JSON without the spaces between its parts.
fn without_spaces(json: &str) -> String {
    let mut in_string = false;
    let mut escaped = false;
    let keep = |c: &char| {
        let inside = in_string;
        if *c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = inside && *c == '\\' && !escaped;
        inside || !c.is_ascii_whitespace()
    };
    json.chars().filter(keep).collect()
}

/// Whether the engine's own automaton, given the bytes one by one, comes to an end.
fn follows(text: &str, rule: &Rule) -> bool {
    let mut bytes: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    bytes.push(Vec::new());
    let pieces = Pieces {
        bytes,
        end: END,
        tokenize: Box::new(|text| text.iter().copied().map(u32::from).collect()),
    };
    let vocabulary = Vocabulary::new(pieces).expect("it has bytes and an end");
    let Ok(mut answer) = Compiler::new(vocabulary).compile(rule) else {
        return false;
    };
    let tokens = text.bytes().map(u32::from).chain([END]);
    tokens
        .into_iter()
        .all(|token| answer.advance(token).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(text: &str, rule: &Rule, form: Form) -> Option<String> {
        fitted(text, rule, form)
    }

    #[test]
    fn a_choice_is_found_behind_case_quotes_and_a_full_stop() {
        let rule = Rule::Choices(vec!["stop".into(), "go on".into()]);
        for text in ["stop", " Stop.\n", "\"STOP\"", "`stop`"] {
            assert_eq!(
                fits(text, &rule, Form::Text).as_deref(),
                Some("stop"),
                "{text}"
            );
        }
        for text in ["stop it", "", "go", "stop go on"] {
            assert_eq!(fits(text, &rule, Form::Text), None, "{text}");
        }
    }

    #[test]
    fn choices_that_differ_in_case_alone_are_told_apart() {
        let rule = Rule::Choices(vec!["A".into(), "a".into()]);
        assert_eq!(fits("a", &rule, Form::Text).as_deref(), Some("a"));
        assert_eq!(fits("\"A\"", &rule, Form::Text), None, "it could be either");
    }

    #[test]
    fn json_may_stand_in_a_fence_with_spaces_and_in_any_order() {
        let schema = r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"enum":["x"]}},"required":["a","b"],"additionalProperties":false}"#;
        let rule = Rule::Schema(schema.into());
        let text = "```json\n{ \"b\": \"x\", \"a\": 1 }\n```";
        let fitted = fits(text, &rule, Form::Json);
        assert_eq!(fitted.as_deref(), Some("{ \"b\": \"x\", \"a\": 1 }"));
        for text in [
            r#"{"a":1}"#,
            r#"{"a":1,"b":"y"}"#,
            r#"{"a":1,"b":"x""#,
            "yes",
        ] {
            assert_eq!(fits(text, &rule, Form::Json), None, "{text}");
        }
    }

    #[test]
    fn spaces_in_strings_stay() {
        let text = r#"{ "a b" : "c \" d\\" , "e": [ 1, 2 ] }"#;
        let bare = r#"{"a b":"c \" d\\","e":[1,2]}"#;
        assert_eq!(without_spaces(text), bare);
    }

    #[test]
    fn a_grammar_and_a_regular_expression_are_followed_to_their_end() {
        let grammar =
            Rule::Grammar("root ::= \"{\\\"urgent\\\":\" (\"true\" | \"false\") \"}\"".into());
        let text = "{ \"urgent\":\n true }";
        let fitted = fits(text, &grammar, Form::Json);
        assert_eq!(fitted.as_deref(), Some(r#"{"urgent":true}"#));
        assert_eq!(fits(r#"{"urgent":1}"#, &grammar, Form::Json), None);
        let regex = Rule::Regex("[A-Z]{3}-[0-9]+".into());
        assert!(fits("CNC-07", &regex, Form::Text).is_some());
        assert!(fits("CNC-", &regex, Form::Text).is_none());
        assert!(fits("CNC-07 it is", &regex, Form::Text).is_none());
        let broken = Rule::Regex("(".into());
        assert!(
            fits("(", &broken, Form::Text).is_none(),
            "nothing follows it"
        );
    }
}
