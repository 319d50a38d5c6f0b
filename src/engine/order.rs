//! From a request to work, and from what was computed to an answer.
//!
//! Purpose: a [`Book`] knows what one model of one package can be asked for. It is the one place
//! where a task's name becomes an instruction, and where log-probabilities become a confidence.
//!
//! Invariants: the instructions of a book are those of the package's tasks in their order, and a
//! plain one behind them for free prompts; an answer is as long as the shortest of the limits
//! that apply; confidence is a number from 0 to 1, whatever the engine sent.
//!
//! How it fails: a request that names no known task is a [`Fault::Refused`]. Whether a schema
//! can be kept and the context suffices, only the engine knows; [`Book::fault`] says how that
//! reads for a device.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use super::exam::Question;
use super::handover::Sealed;
use super::memo::Key;
use super::protocol::{Ask, Done, Failure, Instruction, Load, Options, Rule, Work, WorkNo};
use super::{Choice, Completion, Fault, Form, Model, Origin, Tokens};
use crate::intake::{self, Classification, Code, Priority, Request, Stream};
use crate::package::gate::Item;
use crate::package::{self, Calibration, Features, Frame, Given, Package, Task, Variant};

/// Tokens of an answer to a free prompt that asks for no limit: a paragraph.
pub const PLAIN_TOKENS: u32 = 256;
/// The version of the plain instruction, for the reply.
const PLAIN_VERSION: &str = "plain-1";
/// Bytes of the engine's own words in a refusal.
const MAX_WORDS_BYTES: usize = 300;

/// What can be asked of one model of one package.
#[derive(Clone, Debug, PartialEq)]
pub struct Book {
    /// Without the version of the prompt, which each task has of its own.
    model: Model,
    file: PathBuf,
    /// What goes on top of the file, and how much of it counts.
    adapter: Option<(PathBuf, f32)>,
    /// Those of the two that lie sealed.
    sealed: Sealed,
    /// The digests of both: with the options, all that a computed token depends on.
    weights: String,
    instructions: Vec<Instruction>,
    /// One for each instruction.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    /// None for the plain instruction.
    task: Option<Task>,
    /// What stands around its inputs.
    frame: Frame,
    prompt_version: String,
    form: Form,
    choices: Vec<String>,
    curve: Option<Calibration>,
    /// Of its instruction and the model.
    key: Key,
}

/// What was asked, as far as the answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    place: usize,
    rule: Whose,
}

/// Whose rule an answer keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The task's.
    Task,
    /// The request's own schema.
    Request,
}

impl Book {
    /// The book of a variant of a package.
    pub fn of(package: &Package, variant: &Variant) -> Self {
        let manifest = package.manifest();
        let model = Model {
            package: manifest.name.clone(),
            seq: manifest.seq,
            digest: format!("sha256:{}", variant.file.sha256),
            prompt_version: String::new(),
            standing: None,
        };
        let mut weights = model.digest.clone();
        let adapter = package.adapter().map(|(path, adapter)| {
            let scale = narrow(adapter.scale);
            let digest = adapter.file.sha256;
            let _ = write!(weights, " and {scale} of sha256:{digest}"); // a String takes all
            (path, scale)
        });
        let mut book = Self {
            file: package.model_path(variant),
            sealed: Sealed {
                model: package.sealed_model(variant).cloned(),
                adapter: package.sealed_adapter().cloned(),
            },
            adapter,
            weights,
            model,
            instructions: Vec::new(),
            entries: Vec::new(),
        };
        for task in &manifest.tasks {
            let rule = rule_of(package.rule(task));
            let curve = package.calibration(&task.name, &variant.quantization);
            if let Some(frame) = package.frame(&task.name) {
                let instruction = instruction(frame, rule, task.max_tokens);
                book.add(Some(task), frame, instruction, curve.cloned());
            }
        }
        let room = u32::try_from(manifest.runtime.context_tokens / 2).unwrap_or(u32::MAX);
        if let Some(frame) = package.plain_frame() {
            let limit = room.min(PLAIN_TOKENS);
            book.add(None, frame, instruction(frame, Rule::Text, limit), None);
        }
        book
    }

    fn add(
        &mut self,
        task: Option<&Task>,
        frame: &Frame,
        instruction: Instruction,
        curve: Option<Calibration>,
    ) {
        let choices = match &instruction.rule {
            Rule::Choices(choices) => choices.clone(),
            Rule::Text | Rule::Grammar(_) | Rule::Schema(_) | Rule::Regex(_) => Vec::new(),
        };
        let is_json = task.is_some_and(|task| task.answer.is_json());
        let version = task.map_or(PLAIN_VERSION, |task| task.prompt_version.as_str());
        self.entries.push(Entry {
            task: task.cloned(),
            frame: frame.clone(),
            prompt_version: version.to_owned(),
            form: if is_json { Form::Json } else { Form::Text },
            choices,
            curve,
            key: key_of(&self.weights, &instruction),
        });
        self.instructions.push(instruction);
    }

    /// The model file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Which model this is; the version of the prompt is each task's own.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The digests of the weights, those of an adapter included: what was computed with one text
    /// here serves whoever has the same.
    pub fn weights(&self) -> &str {
        &self.weights
    }

    /// What of it lies sealed: whoever starts an engine opens it and hands it over.
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    /// What the engine loads.
    pub fn load(&self, options: &Options, draft: Option<&Path>) -> Load {
        Load {
            model: self.file.display().to_string(),
            adapter: (self.adapter.as_ref())
                .map(|(path, scale)| (path.display().to_string(), *scale)),
            draft: draft.map(|path| path.display().to_string()),
            options: *options,
            instructions: self.instructions.clone(),
        }
    }

    /// The work that answers a request.
    pub fn work(&self, no: WorkNo, request: &Request, due_ms: u32) -> Result<(Work, Asked), Fault> {
        let named = request.ask.task();
        let place = self.entries.iter().position(|it| it.name() == named);
        let (place, instruction) = place
            .and_then(|place| Some((place, self.instructions.get(place)?)))
            .ok_or_else(|| self.unknown(named.unwrap_or_default()))?;
        let (ask, rule) = if let Some(schema) = &request.schema {
            let own = Instruction {
                rule: Rule::Schema(schema.clone()),
                ..instruction.clone()
            };
            (Ask::Own(own), Whose::Request)
        } else {
            (known(place), Whose::Task)
        };
        let limit = |wanted: u32| wanted.min(instruction.max_tokens);
        let work = Work {
            no,
            ask,
            input: self.input(request, place)?,
            max_tokens: request.max_tokens.map(limit),
            due_ms,
            priority: rank(request.priority),
            client: fairness(request),
            stream: request.stream == Stream::Yes,
        };
        Ok((work, Asked { place, rule }))
    }

    /// What an exam asks for an input of a task, in the words in which a device's request would
    /// be asked.
    pub fn question(&self, task: &str, input: &str) -> Result<(Question, Asked), Fault> {
        let place = self
            .entries
            .iter()
            .position(|it| it.name() == Some(task))
            .ok_or_else(|| self.unknown(task))?;
        let question = Question {
            ask: known(place),
            input: self.worded(Given::Text(input), place)?,
            max_tokens: None,
        };
        let rule = Whose::Task;
        Ok((question, Asked { place, rule }))
    }

    /// Whether an answer to an item of the gate's suite is right.
    pub fn is_right(&self, asked: Asked, item: &Item, given: &str) -> bool {
        let entry = self.entries.get(asked.place);
        let task = entry.and_then(|entry| entry.task.as_ref());
        task.is_some_and(|task| item.is_right(&task.answer, given))
    }

    /// The text that the model is to see.
    fn input(&self, request: &Request, place: usize) -> Result<String, Fault> {
        match &request.ask {
            intake::Ask::Prompt(text) | intake::Ask::Task { input: text, .. } => {
                self.worded(Given::Text(text), place)
            }
            intake::Ask::Values { values, .. } => self.worded(Given::Values(values), place),
        }
    }

    fn worded(&self, given: Given<'_>, place: usize) -> Result<String, Fault> {
        let entry = self.entries.get(place);
        let entry = entry.ok_or_else(|| self.unknown(""))?;
        entry.worded(given)
    }

    fn unknown(&self, task: &str) -> Fault {
        let known: Vec<_> = self.entries.iter().filter_map(Entry::name).collect();
        Fault::Refused {
            code: Code::UnknownTask,
            message: format!(
                "package {} has no task \"{task}\"; it has {}",
                self.model.package,
                known.join(", ")
            ),
        }
    }

    /// What the answer to this work depends on. Restricted questions are nobody else's.
    pub fn key(&self, request: &Request, work: &Work, asked: Asked) -> Key {
        let own = match &work.ask {
            Ask::Own(instruction) => Some(key_of(&self.weights, instruction)),
            Ask::Known(_) => self.entries.get(asked.place).map(|entry| entry.key),
        };
        let limit = work.max_tokens.map(u32::to_le_bytes);
        let scope = match request.classification {
            Classification::Restricted => request.client.scope(),
            Classification::Internal | Classification::Public => String::new(),
        };
        Key::of(&[
            own.as_ref().map_or(&[], Key::bytes),
            work.input.as_bytes(),
            limit.as_ref().map_or(&[], |limit| limit.as_slice()),
            scope.as_bytes(),
        ])
    }

    /// The answer that was computed, as the reply tells it.
    pub fn completion(&self, asked: Asked, done: Done, origin: Origin) -> Completion {
        let entry = self.entries.get(asked.place);
        let own_rule = asked.rule == Whose::Request;
        let features = features(&done);
        // A curve says how often a task's own answers are right; under another rule they are not.
        let curve = entry.and_then(|entry| entry.curve.as_ref());
        let confidence = match curve.filter(|_| !own_rule) {
            Some(curve) => curve.confidence(&features),
            None => features.product(),
        };
        let labels = entry.filter(|_| !own_rule).map(|entry| &entry.choices);
        let labels = labels.into_iter().flatten();
        let choices = labels.zip(&done.choices).map(|(label, logprob)| Choice {
            label: label.clone(),
            logprob: finite(*logprob),
        });
        let confidence = narrow(confidence.clamp(0.0, 1.0));
        Completion {
            form: match (own_rule, entry) {
                (true, _) => Form::Json,
                (false, Some(entry)) => entry.form,
                (false, None) => Form::Text,
            },
            finish: done.finish,
            confidence,
            entropy: narrow(features.mean_entropy()),
            free: done.free,
            choices: choices.collect(),
            model: Model {
                prompt_version: entry.map_or_else(String::new, |it| it.prompt_version.clone()),
                ..self.model.clone()
            },
            tokens: Tokens {
                prompt: done.tokens.prompt,
                cached: match origin {
                    Origin::Model => done.tokens.cached,
                    Origin::Duplicate | Origin::Cache => done.tokens.prompt,
                },
                completion: done.tokens.completion,
            },
            first_token_ms: match origin {
                Origin::Model | Origin::Duplicate => ms(done.first_token_us),
                Origin::Cache => 0.0,
            },
            origin,
            text: done.text,
        }
    }

    /// How the engine's failure reads for a device.
    pub fn fault(failure: &Failure) -> Fault {
        let refused = |code, message: String| Fault::Refused { code, message };
        match failure {
            Failure::Full | Failure::Cancelled => Fault::Busy,
            Failure::Late => {
                let why = "it could not be answered in the time that was left";
                refused(Code::Deadline, why.into())
            }
            Failure::Overflow { tokens, context } => refused(
                Code::OverContext,
                format!("prompt and answer take {tokens} tokens, {context} fit"),
            ),
            Failure::Rule(words) => refused(
                Code::Schema,
                format!("the rule for the answer cannot be kept: {}", cut(words)),
            ),
            Failure::Unknown | Failure::Sick(_) => Fault::Crashed,
        }
    }
}

fn known(place: usize) -> Ask {
    Ask::Known(u16::try_from(place).expect("a package has few tasks"))
}

/// How a task reads for the engine. The one place where a frame meets the wire.
fn instruction(frame: &Frame, rule: Rule, max_tokens: u32) -> Instruction {
    Instruction {
        head: frame.prefix().to_owned(),
        tail: frame.suffix().to_owned(),
        rule,
        max_tokens,
    }
}

impl Entry {
    /// An input in the words of its task, without the ends that the model's template takes away.
    fn worded(&self, given: Given<'_>) -> Result<String, Fault> {
        let said = match (&self.task, given) {
            (Some(task), given) => task.input(given).map_err(|fault| Fault::Refused {
                code: Code::Invalid,
                message: fault.to_string(),
            })?,
            (None, Given::Text(text) | Given::Values(text)) => text.into(),
        };
        Ok(self.frame.trimmed(&said).to_owned())
    }

    fn name(&self) -> Option<&str> {
        self.task.as_ref().map(|task| task.name.as_str())
    }
}

/// A package's rule, as the engine is told it.
pub fn rule_of(rule: package::Rule<'_>) -> Rule {
    match rule {
        package::Rule::Grammar(text) => Rule::Grammar(text.to_owned()),
        package::Rule::Schema(text) => Rule::Schema(text.to_owned()),
        package::Rule::Choices(choices) => Rule::Choices(choices.to_vec()),
        package::Rule::Text => Rule::Text,
    }
}

fn key_of(weights: &str, instruction: &Instruction) -> Key {
    let (kind, parts): (u8, Vec<&str>) = match &instruction.rule {
        Rule::Text => (0, Vec::new()),
        Rule::Choices(choices) => (1, choices.iter().map(String::as_str).collect()),
        Rule::Grammar(text) => (2, vec![text]),
        Rule::Schema(text) => (3, vec![text]),
        Rule::Regex(text) => (4, vec![text]),
    };
    let limit = instruction.max_tokens.to_le_bytes();
    let kind = [kind];
    let mut all: Vec<&[u8]> = vec![
        weights.as_bytes(),
        instruction.head.as_bytes(),
        instruction.tail.as_bytes(),
        &limit,
        &kind,
    ];
    all.extend(parts.iter().map(|part| part.as_bytes()));
    Key::of(&all)
}

/// Larger is sooner, as the engine wants it.
fn rank(priority: Priority) -> u8 {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}

/// A number for whoever asked, always the same.
fn fairness(request: &Request) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.client.scope().hash(&mut hasher);
    hasher.finish()
}

/// How sure the model was, as a calibration sees it.
pub fn features(done: &Done) -> Features {
    let free = done.free.iter().map(|free| (free.logprob, free.entropy));
    Features::of(free, done.choices.iter().copied())
}

/// The probability of all that was free in the answer.
pub fn raw_confidence(done: &Done) -> f64 {
    features(done).product()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "llama.cpp takes no more of a scale, and people no more of a share"
)]
fn narrow(number: f64) -> f32 {
    number as f32
}

/// JSON has no other numbers.
fn finite(number: f32) -> f32 {
    if number.is_nan() {
        f32::MIN
    } else {
        number.clamp(f32::MIN, f32::MAX)
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
fn ms(us: u64) -> f32 {
    us as f32 / 1000.0
}

/// No more of a text than a refusal should carry.
fn cut(words: &str) -> &str {
    let mut end = words.len().min(MAX_WORDS_BYTES);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    &words[..end]
}

#[cfg(test)]
mod tests;
