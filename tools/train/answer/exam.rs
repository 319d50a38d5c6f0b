//! The same questions, put to the appliance's own engine: another process, which this program
//! starts as the service does, from its own file.
//!
//! What is asked most is loaded as an instruction, as a package's tasks are; the rest brings its
//! instruction along, as a request with a schema does.

use std::collections::HashMap;
use std::io::{self, BufRead as _, Write as _};
use std::num::NonZeroU32;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use lineside::engine::exam::{Question, Sitting};
use lineside::engine::order::raw_confidence;
use lineside::engine::process::Launch;
use lineside::engine::protocol::{
    Ask, Done, Failure, Finish, Flash, Instruction, KvType, Load, Mapping, Options, Rule, Spent,
    Without,
};
use lineside::package::{MAX_TASKS, Template};
use serde::Serialize;

use super::Request;

/// As in service.
const BATCH_TOKENS: u32 = 512;
const PASS_MS: u32 = 25;
/// Waiting questions for each conversation.
const QUEUE_FACTOR: u16 = 4;

/// Which model, and how the engine runs it.
#[derive(Args)]
pub(crate) struct Way {
    model: PathBuf,
    #[arg(long, default_value_t = 1)]
    threads: u16,
    #[arg(long, default_value_t = NonZeroU32::new(512).expect("512 is not 0"))]
    context: NonZeroU32,
    /// Conversations at a time: with one, the same requests have the same answers each time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    sequences: u16,
}

impl Way {
    fn options(&self) -> Options {
        let context_tokens = self.context.get();
        let room = u32::from(self.sequences) + 8;
        Options {
            context_tokens,
            cache_tokens: context_tokens * room,
            sequences: self.sequences,
            queue: self.sequences * QUEUE_FACTOR,
            threads: Some(self.threads),
            batch_tokens: BATCH_TOKENS.min(context_tokens),
            pass_ms: PASS_MS,
            gpu_layers: 0,
            kv_type: KvType::F16,
            flash_attention: Flash::Auto,
            mapping: Mapping::Read,
            without: Without::default(),
        }
    }
}

/// Answers the requests on stdin.
pub(crate) fn exam(way: &Way) -> Result<()> {
    let requests = io::stdin()
        .lock()
        .lines()
        .map(|line| serde_json::from_str(&line?).context("reading a request"))
        .collect::<Result<Vec<Request>>>()?;
    let asked: Vec<Instruction> = requests.iter().map(instruction).collect();
    let instructions = most_asked(&asked);
    let places: HashMap<String, u16> = (0..)
        .zip(&instructions)
        .map(|(place, it)| (key(it), place))
        .collect();
    let load = Load {
        model: way.model.display().to_string(),
        adapter: None,
        draft: None,
        options: way.options(),
        instructions: instructions.clone(),
    };
    let mut sitting = Sitting::open(&Launch::default(), load)?;
    let questions = requests
        .iter()
        .zip(asked)
        .map(|(request, instruction)| Question {
            ask: match places.get(&key(&instruction)) {
                Some(place) => Ask::Known(*place),
                None => Ask::Own(instruction),
            },
            input: request.input.clone(),
            max_tokens: None,
        });
    let answers = sitting.ask(questions)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (request, answer) in requests.iter().zip(answers) {
        match answer {
            Ok(done) => serde_json::to_writer(&mut out, &Answer::of(&request.id, &done))?,
            Err(why) => serde_json::to_writer(&mut out, &Refused::of(&request.id, &why))?,
        }
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

fn instruction(request: &Request) -> Instruction {
    let frame = Template::ChatMl.frame(&request.system);
    Instruction {
        head: frame.prefix().to_owned(),
        tail: frame.suffix().to_owned(),
        rule: match (&request.grammar, &request.choices) {
            (Some(grammar), _) => Rule::Grammar(grammar.clone()),
            (None, Some(choices)) => Rule::Choices(choices.clone()),
            (None, None) => Rule::Text,
        },
        max_tokens: u32::try_from(request.max_tokens).unwrap_or(u32::MAX),
    }
}

/// As many as a package has tasks at most, those that are asked most often first.
fn most_asked(asked: &[Instruction]) -> Vec<Instruction> {
    let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
    for (at, instruction) in asked.iter().enumerate() {
        counts.entry(key(instruction)).or_insert((0, at)).0 += 1;
    }
    let mut ranked: Vec<(usize, usize)> = counts.into_values().collect();
    ranked.sort_unstable_by_key(|(count, first)| (usize::MAX - count, *first));
    let first = ranked.into_iter().take(MAX_TASKS);
    first.map(|(_, at)| asked[at].clone()).collect()
}

fn key(instruction: &Instruction) -> String {
    format!("{instruction:?}")
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    text: &'a str,
    /// Whether it came to its end.
    whole: bool,
    /// As the appliance reckons it, before calibration.
    confidence: f64,
    /// Log probability and entropy of each token at which the model had a choice.
    free: Vec<[f64; 2]>,
    /// Where it is one of several: the log probability of each.
    choices: Vec<f64>,
    tokens: Spent,
    /// Without the wait for a place.
    took_ms: f64,
}

impl<'a> Answer<'a> {
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    fn of(id: &'a str, done: &'a Done) -> Self {
        let free = done.free.iter();
        let free = free.map(|it| [short(it.logprob), short(it.entropy)]);
        Self {
            id,
            text: &done.text,
            whole: done.finish == Finish::End,
            confidence: raw_confidence(done),
            free: free.collect(),
            choices: done.choices.iter().map(|it| short(*it)).collect(),
            tokens: done.tokens,
            took_ms: done.total_us.saturating_sub(done.queued_us) as f64 / 1e3,
        }
    }
}

#[derive(Serialize)]
struct Refused<'a> {
    id: &'a str,
    error: String,
}

impl<'a> Refused<'a> {
    fn of(id: &'a str, why: &Failure) -> Self {
        let error = format!("{why:?}");
        Self { id, error }
    }
}

/// A millionth of a nat is more than two machines agree on.
fn short(nats: f32) -> f64 {
    (f64::from(nats) * 1e6).round() / 1e6
}
