//! A request that was passed on: what lies in the trees for the cloud and for persons.

use serde::{Deserialize, Serialize};

use super::steps::WireWhy;
use super::{Waiting, WireBehind, WireWaiting, decode, encode};
use crate::clock::Wall;
use crate::engine::{Choice, Completion, Finish, Form, FreeChoice, Model, Origin, Tokens};
use crate::package::Features;
use crate::reply::{Elsewhere, Source};
use crate::spool::record::Damage;
use crate::ticket::Why;

/// A request that a model elsewhere or a person is to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Passed {
    /// The request as it came, and what was decided on it so far.
    pub waiting: Waiting,
    /// Why it is here.
    pub why: Why,
    /// The best answer so far.
    pub draft: Option<Draft>,
    /// When it was passed on.
    pub since: Wall,
    /// How long it is kept for them.
    pub expires: Wall,
}

/// An answer that is not the last word.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Who gave it.
    pub source: Source,
    /// What it says, how sure, and from which model.
    pub completion: Completion,
    /// What it showed of how sure the model was; of an answer from elsewhere nothing is known.
    pub features: Option<Features>,
}

#[derive(Serialize, Deserialize)]
struct WirePassed {
    why: WireWhy,
    draft: Option<WireDraft>,
    since_ms: u64,
    expires_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct WireDraft {
    source: WireSource,
    text: String,
    is_json: bool,
    is_cut: bool,
    confidence: f32,
    free: Vec<(f32, f32)>,
    choices: Vec<(String, f32)>,
    model: WireModel,
    tokens: (u32, u32, u32),
    features: Option<WireFeatures>,
}

#[derive(Serialize, Deserialize)]
enum WireSource {
    Edge,
    Cloud {
        upstream: String,
        model: String,
        confidence: Option<f32>,
    },
    Human,
}

#[derive(Serialize, Deserialize)]
struct WireModel {
    package: String,
    seq: u64,
    digest: String,
    prompt_version: String,
}

#[derive(Serialize, Deserialize)]
struct WireFeatures {
    figures: [f64; 5],
    margin: Option<f64>,
    choices: u32,
}

impl Passed {
    /// The sealed record.
    pub fn seal(&self) -> Vec<u8> {
        let (waiting, behind) = self.waiting.wire();
        let passed = WirePassed {
            why: WireWhy::of(&self.why),
            draft: self.draft.as_ref().map(WireDraft::of),
            since_ms: self.since.0,
            expires_ms: self.expires.0,
        };
        encode(&(waiting, behind, passed))
    }

    /// From the body of a sealed record.
    pub fn read(body: &[u8]) -> Result<Self, Damage> {
        let (waiting, behind, passed): (WireWaiting, WireBehind, WirePassed) = decode(body)?;
        Ok(Self {
            waiting: Waiting::of(waiting, behind),
            why: passed.why.into(),
            draft: passed.draft.map(WireDraft::draft),
            since: Wall(passed.since_ms),
            expires: Wall(passed.expires_ms),
        })
    }
}

impl WireDraft {
    fn of(draft: &Draft) -> Self {
        let it = draft.completion.clone();
        Self {
            source: WireSource::of(&draft.source),
            text: it.text,
            is_json: it.form == Form::Json,
            is_cut: it.finish == Finish::Length,
            confidence: it.confidence,
            free: it.free.iter().map(|it| (it.logprob, it.entropy)).collect(),
            choices: it
                .choices
                .into_iter()
                .map(|it| (it.label, it.logprob))
                .collect(),
            model: WireModel {
                package: it.model.package,
                seq: it.model.seq,
                digest: it.model.digest,
                prompt_version: it.model.prompt_version,
            },
            tokens: (it.tokens.prompt, it.tokens.cached, it.tokens.completion),
            features: draft.features.as_ref().map(|features| {
                let (figures, margin, choices) = features.figures();
                WireFeatures {
                    figures,
                    margin,
                    choices,
                }
            }),
        }
    }

    fn draft(self) -> Draft {
        let free = |(logprob, entropy)| FreeChoice { logprob, entropy };
        let choice = |(label, logprob)| Choice { label, logprob };
        let (prompt, cached, completion) = self.tokens;
        Draft {
            source: self.source.into(),
            completion: Completion {
                text: self.text,
                form: if self.is_json { Form::Json } else { Form::Text },
                finish: if self.is_cut {
                    Finish::Length
                } else {
                    Finish::End
                },
                confidence: self.confidence,
                entropy: 0.0,
                free: self.free.into_iter().map(free).collect(),
                choices: self.choices.into_iter().map(choice).collect(),
                model: Model {
                    package: self.model.package,
                    seq: self.model.seq,
                    digest: self.model.digest,
                    prompt_version: self.model.prompt_version,
                    standing: None,
                },
                tokens: Tokens {
                    prompt,
                    cached,
                    completion,
                },
                origin: Origin::Model,
                first_token_ms: 0.0,
            },
            features: (self.features)
                .map(|it| Features::of_figures(it.figures, it.margin, it.choices)),
        }
    }
}

impl WireSource {
    fn of(source: &Source) -> Self {
        match source.clone() {
            Source::Edge => Self::Edge,
            Source::Cloud(Elsewhere {
                upstream,
                model,
                confidence,
            }) => Self::Cloud {
                upstream,
                model,
                confidence,
            },
            Source::Human => Self::Human,
        }
    }
}

impl From<WireSource> for Source {
    fn from(wire: WireSource) -> Self {
        match wire {
            WireSource::Edge => Self::Edge,
            WireSource::Cloud {
                upstream,
                model,
                confidence,
            } => Self::Cloud(Elsewhere {
                upstream,
                model,
                confidence,
            }),
            WireSource::Human => Self::Human,
        }
    }
}
