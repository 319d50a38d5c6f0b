//! Replies: what became of a request, as the device reads it.
//!
//! A [`Reply`] is the domain's word; [`Reply::to_json`] its wire form. Every reply says who
//! answered, by which rule, how sure, from which model, and whether it is final. A provisional one
//! is followed by a final one; it may be an answer, or only word that somebody else is asked.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::engine::{Choice, Completion, Finish, Form, FreeChoice, Model, Origin, Tokens};
use crate::intake::{Code, Refusal};

/// MIME type of every reply.
pub const CONTENT_TYPE: &str = "application/json";

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The request's id.
    pub id: Option<String>,
    /// Answer or refusal.
    pub outcome: Outcome,
    /// Whether this is the last word.
    pub finality: Finality,
    /// Whether the appliance was cut off or weakened when it decided.
    pub condition: Condition,
    /// By which rule, for which reasons.
    pub route: Route,
    /// Spans of time.
    pub timing: Timing,
}

/// Answer, refusal, or word that one will follow.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// There is an answer.
    Answered {
        /// Who gave it.
        source: Source,
        /// What it says, how sure, and from which model.
        completion: Completion,
    },
    /// There is none yet, and somebody is still to give one.
    Awaited,
    /// There is none.
    Refused {
        /// For programs.
        code: Code,
        /// For people.
        message: String,
        /// When another try makes sense.
        retry_after_ms: Option<u64>,
    },
}

/// Who answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The local model.
    Edge,
    /// A model elsewhere.
    Cloud(Elsewhere),
    /// A person.
    Human,
}

/// A model that is not on this appliance.
#[derive(Clone, Debug, PartialEq)]
pub struct Elsewhere {
    /// The name that the site gave it.
    pub upstream: String,
    /// What it is called there.
    pub model: String,
    /// How sure it was, where it told.
    pub confidence: Option<f32>,
}

/// Whether more may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// The last word.
    Final,
    /// Another reply will follow.
    Provisional,
}

/// How the appliance was when it decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether the broker was connected.
    pub connectivity: Connectivity,
    /// Whether something it needs was missing.
    pub degraded: bool,
}

/// Whether the appliance had its broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connectivity {
    /// It had.
    Online,
    /// It had not.
    Offline,
}

impl Connectivity {
    /// The word in replies and status.
    pub fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }
}

/// By which rule, for which reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Name of the rule.
    pub rule: String,
    /// What decided.
    pub reasons: Vec<String>,
}

/// Spans of time, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// From acceptance to the engine.
    pub queued: f64,
    /// From the engine's start to its first token.
    pub first_token: Option<f64>,
    /// From acceptance to the outcome.
    pub total: f64,
}

#[derive(Serialize)]
struct Wire<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    status: &'static str,
    #[serde(rename = "final")]
    is_final: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// The text once more, as JSON, where it is whole and is some.
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<&'a RawValue>,
    /// `end`, or `length` if the answer was cut off at the limit of its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    finish: Option<&'static str>,
    /// Where the answer is one of several: each with its probability.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choices: Vec<WireChoice<'a>>,
    /// For who asked: of each token at which the model had a choice, the natural logarithm of its
    /// probability and the entropy of all. No more than an answer has tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logprobs: Vec<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f32>,
    degraded: bool,
    connectivity: &'static str,
    route: WireRoute<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<WireModel<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<WireTokens>,
    /// `model`; `duplicate` if the answer was computed for the same request of somebody else at
    /// the same time; `cache` if it was computed earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_from: Option<&'static str>,
    timing_ms: WireTiming,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<WireError<'a>>,
}

#[derive(Serialize)]
struct WireRoute<'a> {
    rule: &'a str,
    reasons: &'a [String],
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireModel<'a> {
    Here {
        package: &'a str,
        seq: u64,
        digest: &'a str,
        prompt_version: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        variant: Option<&'a str>,
        /// What kind of board the device is.
        #[serde(skip_serializing_if = "Option::is_none")]
        board: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ring: Option<&'a str>,
        /// Of its gate on the device: items that were right, and how many there were.
        #[serde(skip_serializing_if = "Option::is_none")]
        gate: Option<(usize, usize)>,
    },
    Elsewhere {
        upstream: &'a str,
        name: &'a str,
    },
}

#[derive(Serialize)]
struct WireChoice<'a> {
    label: &'a str,
    logprob: f32,
}

#[derive(Serialize)]
struct WireTokens {
    prompt: u32,
    cached: u32,
    completion: u32,
}

#[derive(Serialize)]
struct WireTiming {
    queued: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_token: Option<f64>,
    total: f64,
}

#[derive(Serialize)]
struct WireError<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Reply {
    /// The last word on a message that never became a request.
    pub fn to_refusal(refusal: &Refusal, condition: Condition) -> Self {
        Self {
            id: refusal.id.clone(),
            outcome: Outcome::Refused {
                code: refusal.code,
                message: refusal.message.clone(),
                retry_after_ms: refusal.retry_after_ms,
            },
            finality: Finality::Final,
            condition,
            route: Route {
                rule: "intake".into(),
                reasons: vec![refusal.code.word().into()],
            },
            timing: Timing::default(),
        }
    }

    /// The wire form.
    pub fn to_json(&self) -> Vec<u8> {
        let empty = Wire {
            id: self.id.as_deref(),
            status: "refused",
            is_final: match self.finality {
                Finality::Final => true,
                Finality::Provisional => false,
            },
            text: None,
            json: None,
            finish: None,
            choices: Vec::new(),
            logprobs: Vec::new(),
            source: None,
            confidence: None,
            degraded: self.condition.degraded,
            connectivity: self.condition.connectivity.word(),
            route: WireRoute {
                rule: &self.route.rule,
                reasons: &self.route.reasons,
            },
            model: None,
            tokens: None,
            answered_from: None,
            timing_ms: WireTiming {
                queued: tenths(self.timing.queued),
                first_token: self.timing.first_token.map(tenths),
                total: tenths(self.timing.total),
            },
            error: None,
        };
        let wire = match &self.outcome {
            Outcome::Answered { source, completion } => Wire {
                status: match self.finality {
                    Finality::Final => "answered",
                    Finality::Provisional => "provisional",
                },
                text: Some(&completion.text),
                json: json_of(completion),
                finish: Some(finish_word(completion.finish)),
                choices: completion.choices.iter().map(WireChoice::of).collect(),
                logprobs: completion.free.iter().copied().map(nats).collect(),
                source: Some(source.word()),
                confidence: match source {
                    Source::Edge => Some(completion.confidence),
                    Source::Cloud(elsewhere) => elsewhere.confidence,
                    Source::Human => None,
                },
                model: WireModel::of(source, &completion.model),
                tokens: match source {
                    Source::Edge | Source::Cloud(_) => Some(WireTokens::of(completion.tokens)),
                    Source::Human => None,
                },
                answered_from: match source {
                    Source::Edge => Some(origin_word(completion.origin)),
                    Source::Cloud(_) | Source::Human => None,
                },
                ..empty
            },
            Outcome::Awaited => Wire {
                status: "provisional",
                ..empty
            },
            Outcome::Refused {
                code,
                message,
                retry_after_ms,
            } => Wire {
                error: Some(WireError {
                    code: code.word(),
                    message,
                    retry_after_ms: *retry_after_ms,
                }),
                ..empty
            },
        };
        serde_json::to_vec(&wire).expect("strings and finite numbers always serialize")
    }
}

/// An answer in JSON, if it is whole.
fn json_of(completion: &Completion) -> Option<&RawValue> {
    match completion.form {
        Form::Json => serde_json::from_str(&completion.text).ok(),
        Form::Text => None,
    }
}

fn finish_word(finish: Finish) -> &'static str {
    match finish {
        Finish::End => "end",
        Finish::Length => "length",
    }
}

fn origin_word(origin: Origin) -> &'static str {
    match origin {
        Origin::Model => "model",
        Origin::Duplicate => "duplicate",
        Origin::Cache => "cache",
    }
}

/// In ten-thousandths, which is more than two processors agree on.
fn nats(free: FreeChoice) -> [f64; 2] {
    let short = |nats: f32| (f64::from(nats.clamp(f32::MIN, f32::MAX)) * 1e4).round() / 1e4;
    [short(free.logprob), short(free.entropy)]
}

/// A tenth of a millisecond is as fine as a device can use.
fn tenths(ms: f64) -> f64 {
    (ms * 10.0).round() / 10.0
}

impl Source {
    /// The word in the reply.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Cloud(_) => "cloud",
            Self::Human => "human",
        }
    }
}

impl<'a> WireModel<'a> {
    fn of(source: &'a Source, model: &'a Model) -> Option<Self> {
        match source {
            Source::Edge => {
                let standing = model.standing.as_ref();
                Some(Self::Here {
                    package: &model.package,
                    seq: model.seq,
                    digest: &model.digest,
                    prompt_version: &model.prompt_version,
                    variant: standing.map(|it| it.variant.as_str()),
                    board: standing.map(|it| it.board.as_str()),
                    ring: standing.and_then(|it| it.ring.as_deref()),
                    gate: standing.and_then(|it| it.gate),
                })
            }
            Source::Cloud(elsewhere) => Some(Self::Elsewhere {
                upstream: &elsewhere.upstream,
                name: &elsewhere.model,
            }),
            Source::Human => None,
        }
    }
}

impl<'a> WireChoice<'a> {
    fn of(choice: &'a Choice) -> Self {
        Self {
            label: &choice.label,
            logprob: choice.logprob,
        }
    }
}

impl WireTokens {
    fn of(tokens: Tokens) -> Self {
        Self {
            prompt: tokens.prompt,
            cached: tokens.cached,
            completion: tokens.completion,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONLINE: Condition = Condition {
        connectivity: Connectivity::Online,
        degraded: false,
    };

    #[test]
    fn an_answer_says_who_how_sure_and_from_which_model() {
        let reply = Reply {
            id: Some("press7-1".into()),
            outcome: Outcome::Answered {
                source: Source::Edge,
                completion: Completion {
                    text: "stop".into(),
                    confidence: 0.5,
                    free: vec![FreeChoice {
                        logprob: -0.123_456,
                        entropy: 0.5,
                    }],
                    choices: vec![Choice {
                        label: "stop".into(),
                        logprob: -0.5,
                    }],
                    model: Model {
                        package: "factory-triage".into(),
                        seq: 7,
                        digest: "sha256:00".into(),
                        prompt_version: "3".into(),
                        standing: None,
                    },
                    tokens: Tokens {
                        prompt: 9,
                        cached: 8,
                        completion: 1,
                    },
                    ..Completion::default()
                },
            },
            finality: Finality::Final,
            condition: ONLINE,
            route: Route {
                rule: "edge-only".into(),
                reasons: vec![],
            },
            timing: Timing {
                queued: 1.24,
                first_token: Some(8.4),
                total: 31.0,
            },
        };
        let json = String::from_utf8(reply.to_json()).unwrap();
        assert_eq!(
            json,
            r#"{"id":"press7-1","status":"answered","final":true,"text":"stop","finish":"end","choices":[{"label":"stop","logprob":-0.5}],"logprobs":[[-0.1235,0.5]],"source":"edge","confidence":0.5,"degraded":false,"connectivity":"online","route":{"rule":"edge-only","reasons":[]},"model":{"package":"factory-triage","seq":7,"digest":"sha256:00","prompt_version":"3"},"tokens":{"prompt":9,"cached":8,"completion":1},"answered_from":"model","timing_ms":{"queued":1.2,"first_token":8.4,"total":31.0}}"#
        );
    }

    #[test]
    fn an_answer_in_json_stands_there_as_json_if_it_is_whole() {
        let json = |text: &str, form| {
            let outcome = Outcome::Answered {
                source: Source::Edge,
                completion: Completion {
                    text: text.into(),
                    form,
                    ..Completion::default()
                },
            };
            let reply = Reply {
                id: None,
                outcome,
                finality: Finality::Final,
                condition: ONLINE,
                route: Route::default(),
                timing: Timing::default(),
            };
            let json: serde_json::Value = serde_json::from_slice(&reply.to_json()).unwrap();
            json.get("json").cloned()
        };
        let whole = json(r#"{"urgency":"now"}"#, Form::Json).unwrap();
        assert_eq!(whole["urgency"], "now");
        assert_eq!(json(r#"{"urgency":"no"#, Form::Json), None);
        assert_eq!(json(r#"{"urgency":"now"}"#, Form::Text), None);
    }

    #[test]
    fn a_provisional_reply_says_that_more_will_follow_and_an_answer_from_elsewhere_whose_it_is() {
        let reply = |finality, outcome| {
            let reply = Reply {
                id: None,
                outcome,
                finality,
                condition: ONLINE,
                route: Route::default(),
                timing: Timing::default(),
            };
            let json: serde_json::Value = serde_json::from_slice(&reply.to_json()).unwrap();
            json
        };
        let answered = |source| Outcome::Answered {
            source,
            completion: Completion::default(),
        };
        let cloud = Source::Cloud(Elsewhere {
            upstream: "plant".into(),
            model: "large-1".into(),
            confidence: None,
        });
        let json = reply(Finality::Provisional, answered(Source::Edge));
        assert_eq!(
            (&json["status"], &json["final"]),
            (&"provisional".into(), &false.into())
        );
        let json = reply(Finality::Final, answered(cloud));
        assert_eq!(
            (&json["source"], &json["final"]),
            (&"cloud".into(), &true.into())
        );
        assert_eq!(
            json["model"],
            serde_json::json!({"upstream": "plant", "name": "large-1"})
        );
        assert!(json.get("confidence").is_none(), "{json}");
        let json = reply(Finality::Final, answered(Source::Human));
        assert_eq!(
            (&json["source"], json.get("model")),
            (&"human".into(), None)
        );
        let json = reply(Finality::Provisional, Outcome::Awaited);
        assert_eq!(
            (&json["status"], json.get("text")),
            (&"provisional".into(), None)
        );
    }

    #[test]
    fn a_refusal_says_why_and_when_to_come_back() {
        let refusal = Refusal {
            code: Code::Busy,
            message: "later".into(),
            retry_after_ms: Some(500),
            id: Some("x".into()),
            reply: None,
        };
        let json = String::from_utf8(Reply::to_refusal(&refusal, ONLINE).to_json()).unwrap();
        assert!(
            json.contains(r#""status":"refused","final":true"#),
            "{json}"
        );
        assert!(
            json.contains(r#""error":{"code":"busy","message":"later","retry_after_ms":500}"#),
            "{json}"
        );
    }
}
