//! One sequence of one model: prompts in, greedy answers out, with how likely each token was.
//!
//! Owns the context and its cache. Invariants: an answer depends on its own prompt alone; the
//! grammar sees all candidates, and accepts only tokens that it allowed (the library aborts the process
//! otherwise); an answer under a constraint holds no marker but the end token.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::vocab::LlamaVocab;
use serde::Serialize;

/// A prompt in two parts: what all requests of a task share, and what is this request's own.
pub(crate) struct Prompt {
    pub(crate) head: Vec<LlamaToken>,
    pub(crate) own: Vec<LlamaToken>,
}

impl Prompt {
    /// The head ends with the marker before the word `user`, so that this word's line break and the
    /// input are tokenized together: an input that begins with a line break would otherwise give
    /// other tokens than the whole text does.
    pub(crate) fn new(vocab: &LlamaVocab<'_>, system: &str, input: &str) -> Self {
        let head = format!("<|im_start|>system\n{system}<|im_end|>\n<|im_start|>");
        let mut own = vocab.tokenize(format!("user\n{input}").as_bytes(), false, false);
        own.extend(vocab.tokenize(b"<|im_end|>\n<|im_start|>assistant\n", false, true));
        Self {
            head: vocab.tokenize(head.as_bytes(), false, true),
            own,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.own.len()
    }
}

/// The head of the last prompt stays decoded for the next.
pub(crate) struct Engine<'m> {
    pub(crate) model: &'m LlamaModel,
    pub(crate) vocab: LlamaVocab<'m>,
    pub(crate) context: LlamaContext<'m>,
    pub(crate) context_tokens: usize,
    batch: LlamaBatch<'static>,
    head: Vec<LlamaToken>,
    pub(crate) end: LlamaToken,
}

impl<'m> Engine<'m> {
    pub(crate) fn new(
        backend: &LlamaBackend,
        model: &'m LlamaModel,
        threads: i32,
        context: NonZeroU32,
    ) -> Result<Self> {
        let params = LlamaContextParams::default()
            .with_n_ctx(Some(context))
            .with_n_batch(context.get())
            .with_n_ubatch(context.get())
            .with_n_threads(threads)
            .with_n_threads_batch(threads);
        let vocab = model.vocab();
        let end = end_token(&vocab)?;
        let context_tokens = usize::try_from(context.get())?;
        Ok(Self {
            model,
            vocab,
            context: model.new_context(backend, params)?,
            context_tokens,
            batch: LlamaBatch::new(context_tokens, 1),
            head: Vec::new(),
            end,
        })
    }

    pub(crate) fn answer(
        &mut self,
        id: String,
        prompt: &Prompt,
        max_tokens: usize,
        mut constraint: Constraint,
    ) -> Result<Answer> {
        let start = Instant::now();
        self.keep_head(&prompt.head)?;
        self.decode(&prompt.own, prompt.head.len())?;
        let prompt_ms = millis(start.elapsed());

        let start = Instant::now();
        let mut steps = Vec::with_capacity(max_tokens);
        let mut ended = false;
        while !ended && steps.len() < max_tokens {
            let step = self.choose(&mut constraint)?;
            let token = step.token;
            steps.push(step);
            ended = self.vocab.is_eog(token);
            if !ended {
                constraint.advance(token)?;
                self.decode(&[token], prompt.len() + steps.len() - 1)?;
            }
        }
        Ok(Answer {
            id,
            text: self.text(&steps),
            tokens: steps.iter().map(|step| step.token.0).collect(),
            logprobs: steps.iter().map(|step| short(step.logprob)).collect(),
            masked_logprobs: steps
                .iter()
                .map(|step| short(step.masked_logprob))
                .collect(),
            free: steps.iter().map(|step| step.free).collect(),
            fits: ended && constraint.fits,
            prompt_tokens: prompt.len(),
            prompt_ms,
            decode_ms: millis(start.elapsed()),
        })
    }

    /// Makes the cache hold this head and nothing else. Only the head is ever reused, so that each
    /// prompt is decoded in the same two batches whatever came before it.
    fn keep_head(&mut self, head: &[LlamaToken]) -> Result<()> {
        if self.head == head {
            let kept = u32::try_from(head.len())?;
            let removed = self.context.clear_kv_cache_seq(Some(0), Some(kept), None)?;
            ensure!(removed, "the cache does not let go of a sequence's end");
            return Ok(());
        }
        self.context.clear_kv_cache();
        self.head = Vec::new();
        self.decode(head, 0)?;
        self.head = head.to_vec();
        Ok(())
    }

    pub(crate) fn decode(&mut self, tokens: &[LlamaToken], position: usize) -> Result<()> {
        self.batch.clear();
        for (index, token) in tokens.iter().enumerate() {
            let last = index + 1 == tokens.len();
            let at = i32::try_from(position + index)?;
            self.batch.add(*token, at, &[0], last)?;
        }
        Ok(self.context.decode(&mut self.batch)?)
    }

    /// The likeliest token, and how likely it was: of those that the constraint allows, or of all
    /// where it is only watched.
    fn choose(&self, constraint: &mut Constraint) -> Result<Step> {
        let mut candidates = LlamaTokenDataArray::from_iter(self.context.candidates_ith(-1), false);
        let everything = log_sum_exp(&candidates.data);
        let favourite = likeliest(&candidates.data)?;
        if constraint.mask(&mut candidates) {
            self.bar_markers(&mut candidates);
        }
        candidates.data.retain(|it| it.logit() > f32::NEG_INFINITY);
        if !constraint.enforced {
            constraint.fits &= is_left(&candidates, favourite.id());
            let logprob = f64::from(favourite.logit()) - everything;
            return Ok(Step {
                token: favourite.id(),
                logprob,
                masked_logprob: logprob,
                free: true,
            });
        }
        let best = likeliest(&candidates.data)?;
        let logit = f64::from(best.logit());
        Ok(Step {
            token: best.id(),
            logprob: logit - everything,
            masked_logprob: logit - log_sum_exp(&candidates.data),
            free: candidates.data.len() > 1,
        })
    }

    /// A grammar sees a marker as its text; in an answer it would be a forged turn. And one end
    /// token is enough: with two, an answer that must end would look undecided.
    fn bar_markers(&self, candidates: &mut LlamaTokenDataArray) {
        for candidate in &mut candidates.data {
            let token = candidate.id();
            let marker = self.vocab.is_control(token) || self.vocab.is_eog(token);
            if marker && token != self.end {
                candidate.set_logit(f32::NEG_INFINITY);
            }
        }
    }

    fn text(&self, steps: &[Step]) -> String {
        let bytes: Vec<u8> = steps
            .iter()
            .filter(|step| !self.vocab.is_eog(step.token))
            .flat_map(|step| self.vocab.token_to_piece(step.token, true, None))
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[derive(Serialize)]
pub(crate) struct Answer {
    id: String,
    text: String,
    tokens: Vec<i32>,
    logprobs: Vec<f64>,
    masked_logprobs: Vec<f64>,
    free: Vec<bool>,
    /// Whether the answer came to its end and is one that the constraint allows.
    fits: bool,
    prompt_tokens: usize,
    prompt_ms: f64,
    decode_ms: f64,
}

/// What an answer under a constraint ends with.
pub(crate) fn end_token(vocab: &LlamaVocab<'_>) -> Result<LlamaToken> {
    [vocab.eot(), vocab.eos()]
        .into_iter()
        .find(|end| end.0 >= 0)
        .context("the model has no end token")
}

struct Step {
    token: LlamaToken,
    logprob: f64,
    masked_logprob: f64,
    /// Whether the constraint left more than this one token.
    free: bool,
}

/// What an answer may consist of.
pub(crate) struct Constraint {
    shape: Shape,
    /// Or only watched: the answer is free, and `fits` tells whether it would have been allowed.
    enforced: bool,
    fits: bool,
}

enum Shape {
    Any,
    Grammar(LlamaSampler),
    /// The choices that still fit the answer so far, each as its tokens with the end token.
    Choices {
        paths: Vec<Vec<LlamaToken>>,
        depth: usize,
    },
}

impl Constraint {
    pub(crate) fn none() -> Self {
        Self::of(Shape::Any)
    }

    pub(crate) fn grammar(grammar: LlamaSampler) -> Self {
        Self::of(Shape::Grammar(grammar))
    }

    pub(crate) fn choices(vocab: &LlamaVocab<'_>, end: LlamaToken, choices: &[String]) -> Self {
        let path = |choice: &String| {
            let mut path = vocab.tokenize(choice.as_bytes(), false, false);
            path.push(end);
            path
        };
        Self::of(Shape::Choices {
            paths: choices.iter().map(path).collect(),
            depth: 0,
        })
    }

    fn of(shape: Shape) -> Self {
        Self {
            shape,
            enforced: true,
            fits: true,
        }
    }

    pub(crate) fn only_watched(self) -> Self {
        Self {
            enforced: false,
            ..self
        }
    }

    /// Whether the constraint allows just this text.
    pub(crate) fn allows(
        mut self,
        vocab: &LlamaVocab<'_>,
        end: LlamaToken,
        text: &str,
    ) -> Result<bool> {
        let everything =
            || (0..vocab.n_tokens()).map(|id| LlamaTokenData::new(LlamaToken(id), 0.0, 0.0));
        for token in vocab.tokenize(text.as_bytes(), false, false) {
            let mut candidates = LlamaTokenDataArray::from_iter(everything(), false);
            self.mask(&mut candidates);
            if !is_left(&candidates, token) {
                return Ok(false);
            }
            self.advance(token)?;
        }
        let mut candidates = LlamaTokenDataArray::from_iter(everything(), false);
        self.mask(&mut candidates);
        Ok(is_left(&candidates, end))
    }

    /// Takes the probability from each token that is not allowed here; false where all are. The
    /// grammar needs all candidates to be there: it aborts the process on a shortened list.
    fn mask(&mut self, candidates: &mut LlamaTokenDataArray) -> bool {
        if !self.fits {
            return false;
        }
        match &mut self.shape {
            Shape::Any => return false,
            Shape::Grammar(grammar) => grammar.apply(candidates),
            Shape::Choices { paths, depth } => {
                for candidate in &mut candidates.data {
                    let token = candidate.id();
                    if !paths.iter().any(|path| path[*depth] == token) {
                        candidate.set_logit(f32::NEG_INFINITY);
                    }
                }
            }
        }
        true
    }

    fn advance(&mut self, token: LlamaToken) -> Result<()> {
        if !self.fits {
            return Ok(());
        }
        match &mut self.shape {
            Shape::Any => {}
            Shape::Grammar(grammar) => grammar.try_accept(token)?,
            Shape::Choices { paths, depth } => {
                paths.retain(|path| path[*depth] == token);
                *depth += 1;
            }
        }
        Ok(())
    }
}

/// Each grammar is parsed once and copied for each answer.
#[derive(Default)]
pub(crate) struct Grammars(HashMap<String, LlamaSampler>);

impl Grammars {
    pub(crate) fn get(&mut self, model: &LlamaModel, text: &str) -> Result<LlamaSampler> {
        if let Some(grammar) = self.0.get(text) {
            return Ok(grammar.clone());
        }
        let grammar = LlamaSampler::grammar(model, text, "root")
            .with_context(|| format!("parsing this grammar:\n{text}"))?;
        self.0.insert(text.to_owned(), grammar.clone());
        Ok(grammar)
    }
}

fn is_left(candidates: &LlamaTokenDataArray, token: LlamaToken) -> bool {
    let left = |it: &LlamaTokenData| it.id() == token && it.logit() > f32::NEG_INFINITY;
    candidates.data.iter().any(left)
}

/// The first of the likeliest.
fn likeliest(candidates: &[LlamaTokenData]) -> Result<LlamaTokenData> {
    candidates
        .iter()
        .copied()
        .reduce(|best, it| if it.logit() > best.logit() { it } else { best })
        .context("the constraint allows no token here")
}

fn log_sum_exp(candidates: &[LlamaTokenData]) -> f64 {
    let logits = || candidates.iter().map(|it| f64::from(it.logit()));
    let top = logits().fold(f64::NEG_INFINITY, f64::max);
    top + logits().map(|logit| (logit - top).exp()).sum::<f64>().ln()
}

/// A millionth of a nat is more than two machines agree on.
fn short(logprob: f64) -> f64 {
    (logprob * 1e6).round() / 1e6
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
