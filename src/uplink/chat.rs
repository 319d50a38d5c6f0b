//! The words of the protocol: chat completions, as most servers of large models speak them.
//!
//! Purpose: [`body`] makes a request of a question, [`read`] makes an answer or a fault of what
//! came back. Pure: bytes in, values out.
//!
//! What is asked for: temperature 0, the log-probabilities of the answer's tokens, and where the
//! answer is to be JSON by a schema, that schema as `response_format`. Few servers hold an answer
//! to all of a schema, so [`fits`] looks again. Choices are named in the
//! instruction.
//!
//! How it fails: by [`Fault`], for whatever bytes. The body of an error is not looked at: its
//! status says what is to be done, and its text may quote the question.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::desk::Outcome;
use super::line::Billed;
use super::{Fault, Garble, Misfit, Question};
use crate::clock::Wall;
use crate::engine::protocol::Rule;
use crate::engine::{MAX_TEXT_BYTES, Tokens, fits};

/// Tokens that a server may put around the texts of a request: its template, its own system text.
const TEMPLATE_TOKENS: u64 = 256;
/// Bytes of what an upstream calls its model: it stands in each reply.
const MAX_MODEL_BYTES: usize = 128;

/// What an upstream sent, before anybody has looked at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Status of the response.
    pub status: u16,
    /// Its content type, where it has one.
    pub content_type: Option<String>,
    /// When it wants to be asked again, as it said so.
    pub retry_after: Option<String>,
    /// Its body; of an error none.
    pub body: Vec<u8>,
}

/// An answer that fits its question.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What it says.
    pub text: String,
    /// What the upstream calls its model.
    pub model: String,
    /// The product of the probabilities of its tokens.
    pub confidence: Option<f32>,
    /// What it cost.
    pub tokens: Tokens,
}

#[derive(Serialize)]
struct Asked<'a> {
    model: &'a str,
    messages: [Message<'a>; 2],
    temperature: u8,
    max_tokens: u32,
    logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    r#type: &'static str,
    json_schema: NamedSchema<'a>,
}

#[derive(Serialize)]
struct NamedSchema<'a> {
    name: &'static str,
    schema: &'a RawValue,
}

/// The body of a request.
pub fn body(model: &str, question: &Question) -> Vec<u8> {
    let instruction = instruction(question);
    let schema: Option<&RawValue> = match &question.rule {
        Rule::Schema(schema) => serde_json::from_str(schema).ok(),
        Rule::Text | Rule::Choices(_) | Rule::Grammar(_) | Rule::Regex(_) => None,
    };
    let asked = Asked {
        model,
        messages: [
            Message {
                role: "system",
                content: &instruction,
            },
            Message {
                role: "user",
                content: &question.input,
            },
        ],
        temperature: 0,
        max_tokens: question.max_tokens,
        logprobs: true,
        response_format: schema.map(|schema| ResponseFormat {
            r#type: "json_schema",
            json_schema: NamedSchema {
                name: "answer",
                schema,
            },
        }),
    };
    serde_json::to_vec(&asked).expect("strings and whole numbers always serialize")
}

/// The instruction, with the answers to choose from where there are some.
fn instruction(question: &Question) -> String {
    let mut text = question.instruction.clone();
    if let Rule::Choices(choices) = &question.rule {
        text.push_str("\n\nAnswer with exactly one of these, and nothing else:");
        for choice in choices {
            text.push('\n');
            text.push_str(choice);
        }
    }
    text
}

/// More tokens than any server can make of a prompt: no token is shorter than a byte.
pub(super) fn worst_prompt_tokens(question: &Question) -> u64 {
    TEMPLATE_TOKENS + body("", question).len() as u64
}

#[derive(Deserialize)]
struct Answered {
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    message: Option<Said>,
    finish_reason: Option<String>,
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Logprobs {
    content: Option<Vec<TokenLogprob>>,
}

#[derive(Deserialize)]
struct TokenLogprob {
    logprob: f64,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: u64,
}

/// Makes an answer or a fault of what came back.
pub fn read(heard: Result<Heard, Fault>, question: &Question, wall: Wall) -> Outcome {
    let answered = heard.and_then(|heard| understood(&heard, wall));
    let answered = match answered {
        Ok(answered) => answered,
        Err(fault) => {
            let billed = billed_by(&fault);
            let result = Err(fault);
            return Outcome { result, billed };
        }
    };
    let billed = answered.usage.as_ref().map_or(Billed::Unknown, |usage| {
        let (prompt, completion) = (usage.prompt_tokens, usage.completion_tokens);
        Billed::Tokens { prompt, completion }
    });
    let result = reading(answered, question);
    Outcome { result, billed }
}

/// What a call that brought no answer was billed.
fn billed_by(fault: &Fault) -> Billed {
    match fault {
        Fault::Unreachable | Fault::Untrusted => Billed::Unsent,
        Fault::Limited { .. } | Fault::Denied(_) | Fault::Rejected(_) | Fault::Elsewhere => {
            Billed::TurnedAway
        }
        Fault::Uncleared
        | Fault::Busy
        | Fault::Resting { .. }
        | Fault::Budget { .. }
        | Fault::TooDear
        | Fault::Broken
        | Fault::Slow
        | Fault::Late
        | Fault::Failing(_)
        | Fault::Garbled(_)
        | Fault::Misfit(_) => Billed::Unknown,
    }
}

fn understood(heard: &Heard, wall: Wall) -> Result<Answered, Fault> {
    let after = || {
        heard
            .retry_after
            .as_deref()
            .and_then(|it| retry_after(it, wall))
    };
    let status = heard.status;
    match status {
        200..=299 => {}
        300..=399 => return Err(Fault::Elsewhere),
        401..=405 | 407 => return Err(Fault::Denied(status)),
        429 => return Err(Fault::Limited { after: after() }),
        408 | 409 | 425 => return Err(Fault::Failing(status)),
        400..=499 => return Err(Fault::Rejected(status)),
        // A server that says when it will be back has not failed.
        503 if after().is_some() => return Err(Fault::Limited { after: after() }),
        _ => return Err(Fault::Failing(status)),
    }
    if heard.content_type.as_deref().is_some_and(|it| !is_json(it)) {
        return Err(Fault::Garbled(Garble::ContentType));
    }
    let answered: Answered =
        serde_json::from_slice(&heard.body).map_err(|_| Fault::Garbled(Garble::Json))?;
    if answered.error.as_ref().is_some_and(|it| !it.is_null()) {
        return Err(Fault::Garbled(Garble::Error));
    }
    Ok(answered)
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Seconds, or a date in one of HTTP's three forms; one that has passed is none at all.
fn retry_after(value: &str, wall: Wall) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let since_1970 = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since_1970.saturating_sub(Duration::from_millis(wall.0)))
}

fn reading(answered: Answered, question: &Question) -> Result<Reading, Fault> {
    let misfit = |why| Err(Fault::Misfit(why));
    let Some(choice) = answered.choices.into_iter().next() else {
        return misfit(Misfit::Empty);
    };
    match choice.finish_reason.as_deref() {
        Some("length") => return misfit(Misfit::Truncated),
        Some("content_filter") => return misfit(Misfit::Declined),
        Some(_) | None => {}
    }
    let said = choice.message;
    if said.as_ref().is_some_and(|said| said.refusal.is_some()) {
        return misfit(Misfit::Declined);
    }
    let text = said.and_then(|said| said.content).unwrap_or_default();
    if text.trim().is_empty() {
        return misfit(Misfit::Empty);
    }
    if text.len() > MAX_TEXT_BYTES {
        return misfit(Misfit::TooLong);
    }
    let Some(text) = fits::fitted(&text, &question.rule, question.form) else {
        return misfit(Misfit::Form);
    };
    let logprobs = choice.logprobs.and_then(|it| it.content);
    Ok(Reading {
        text,
        model: cut(answered.model.unwrap_or_default()),
        confidence: logprobs.as_deref().and_then(confidence),
        tokens: answered.usage.map(tokens).unwrap_or_default(),
    })
}

/// The product of the probabilities of all tokens; none where none was told.
#[expect(clippy::cast_possible_truncation, reason = "a probability")]
fn confidence(tokens: &[TokenLogprob]) -> Option<f32> {
    let sum: f64 = tokens.iter().map(|token| token.logprob).sum();
    let is_told = !tokens.is_empty() && !sum.is_nan();
    is_told.then(|| sum.exp().clamp(0.0, 1.0) as f32)
}

fn tokens(usage: Usage) -> Tokens {
    let count = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
    Tokens {
        prompt: count(usage.prompt_tokens),
        cached: count(usage.prompt_tokens_details.map_or(0, |it| it.cached_tokens)),
        completion: count(usage.completion_tokens),
    }
}

fn cut(mut model: String) -> String {
    model.truncate(model.floor_char_boundary(MAX_MODEL_BYTES));
    model
}

#[cfg(test)]
mod tests;
