//! Asks a GGUF in bulk: through the appliance's own engine, or plainly, token by token.
//!
//! The evaluation, the gate, the parity proof and the quantization of the bundled model all run
//! this one program. What is told about a model is measured by `exam`, on the path that a
//! device's request takes; `ask` is what that path and the training code are held against:
//!
//! ```text
//! answer exam MODEL.gguf [--threads N] [--context N] [--sequences N]        requests → answers
//! answer ask MODEL.gguf [--threads N] [--context N] [--grammar FILE|none]   requests → answers
//! answer tokens MODEL.gguf                                                  requests → token ids
//! answer fits MODEL.gguf                                                  requests → yes or no
//! answer quantize IN.gguf OUT.gguf Q8_0|Q4_K_M|Q2_K|…
//! answer speed MODEL.gguf [--threads N]
//! ```
//!
//! Requests and answers are JSON, one object a line. An answer of `ask` lists each token with its log
//! probability, once over the whole vocabulary and once over the tokens that the constraint
//! allowed; `tokens` ends with the end token unless `max_tokens` came first. `free` says where the
//! constraint left more than one token, `fits` whether the whole answer is one that it allows.
//!
//! Invariants: decoding is greedy; an answer depends on its own request alone, never on the ones
//! before it, nor, in an exam of one sequence, on those beside it; markers in a request's input are text. A request that does not fit the context gets
//! an `error` in its answer; everything else that fails ends the program.

use std::io::{self, BufRead as _, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use lineside::engine::quantize::{Log, Tier, quantize};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use serde::{Deserialize, Serialize};

use engine::{Constraint, Engine, Grammars, Prompt, end_token};

#[path = "answer/engine.rs"]
mod engine;
#[path = "answer/exam.rs"]
mod exam;

/// Asks a GGUF in bulk through llama.cpp.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
    /// Let the library write its log to stderr.
    #[arg(long, global = true)]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Answer the requests on stdin through the appliance's engine.
    Exam(exam::Way),
    /// Be that engine. Started by `exam`, with a socket as standard input.
    #[command(hide = true)]
    Engine,
    /// Write a quantized copy of a model.
    Quantize {
        input: PathBuf,
        output: PathBuf,
        #[arg(value_parser = tier)]
        tier: Tier,
    },
    #[command(flatten)]
    Plain(Plain),
}

/// What is done without the appliance's engine.
#[derive(Subcommand)]
enum Plain {
    /// Answer the requests on stdin plainly.
    Ask {
        model: PathBuf,
        #[arg(long, default_value_t = 1)]
        threads: i32,
        #[arg(long, default_value_t = NonZeroU32::new(512).expect("512 is not 0"))]
        context: NonZeroU32,
        /// A grammar for all requests; `none` leaves every answer free and only tells whether it fits
        /// what its request says.
        #[arg(long)]
        grammar: Option<PathBuf>,
    },
    /// Print the token ids of the requests on stdin: of the prompt in parts, and of its whole text.
    Tokens { model: PathBuf },
    /// Tell of the requests on stdin whether the constraint allows the input as an answer.
    Fits { model: PathBuf },
    /// Measure tokens a second.
    Speed {
        model: PathBuf,
        #[arg(long, default_value_t = 1)]
        threads: i32,
    },
}

fn tier(name: &str) -> Result<Tier, String> {
    let known = || Tier::all().map(Tier::name).collect::<Vec<_>>().join(", ");
    Tier::parse(name).ok_or_else(|| format!("one of {}", known()))
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    match options.command {
        Command::Exam(way) => exam::exam(&way)?,
        Command::Engine => return Ok(lineside::engine::worker::main()),
        Command::Quantize {
            input,
            output,
            tier,
        } => {
            let log = if options.verbose {
                Log::Shown
            } else {
                Log::Silent
            };
            quantize(&input, &output, tier, 1, log).context("see --verbose")?;
        }
        Command::Plain(plain) => {
            let mut backend = LlamaBackend::init()?;
            if !options.verbose {
                backend.void_logs();
            }
            plainly(plain, &backend)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn plainly(command: Plain, backend: &LlamaBackend) -> Result<()> {
    match command {
        Plain::Ask {
            model,
            threads,
            context,
            grammar,
        } => {
            let model = load(backend, &model)?;
            let rule = Rule::read(grammar.as_deref())?;
            ask(Engine::new(backend, &model, threads, context)?, &rule)
        }
        Plain::Tokens { model } => print_tokens(&load(backend, &model)?.vocab()),
        Plain::Fits { model } => print_fits(&load(backend, &model)?),
        Plain::Speed { model, threads } => {
            let model = load(backend, &model)?;
            let context = NonZeroU32::new(SPEED_PREFILL_TOKENS).expect("a speed run has tokens");
            measure(Engine::new(backend, &model, threads, context)?, threads)
        }
    }
}

fn load(backend: &LlamaBackend, path: &Path) -> Result<LlamaModel> {
    let params = LlamaModelParams::default().with_n_gpu_layers(0);
    LlamaModel::load_from_file(backend, path, &params)
        .with_context(|| format!("loading {}", path.display()))
}

// ---- ask

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    id: String,
    system: String,
    input: String,
    #[serde(default = "default_max_tokens")]
    max_tokens: usize,
    grammar: Option<String>,
    choices: Option<Vec<String>>,
}

fn default_max_tokens() -> usize {
    64
}

#[derive(Serialize)]
struct Refused<'a> {
    id: &'a str,
    error: String,
}

/// What the command line says about constraints.
enum Rule {
    AsRequested,
    AllFree,
    AllBy(String),
}

impl Rule {
    fn read(grammar: Option<&Path>) -> Result<Self> {
        Ok(match grammar {
            None => Self::AsRequested,
            Some(path) if path == Path::new("none") => Self::AllFree,
            Some(path) => Self::AllBy(
                std::fs::read_to_string(path)
                    .with_context(|| format!("reading {}", path.display()))?,
            ),
        })
    }
}

fn ask(mut engine: Engine<'_>, rule: &Rule) -> Result<()> {
    let mut grammars = Grammars::default();
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?).context("reading a request")?;
        let prompt = Prompt::new(&engine.vocab, &request.system, &request.input);
        if prompt.len() + request.max_tokens > engine.context_tokens {
            let error = format!(
                "{} tokens of prompt and {} of answer exceed the context of {}",
                prompt.len(),
                request.max_tokens,
                engine.context_tokens
            );
            let id = &request.id;
            serde_json::to_writer(&mut out, &Refused { id, error })?;
        } else {
            let grammar = match rule {
                Rule::AllBy(grammar) => Some(grammar.as_str()),
                Rule::AsRequested | Rule::AllFree => None,
            };
            let constraint =
                constraint(&request, grammar, engine.model, &mut grammars, engine.end)?;
            let constraint = match rule {
                Rule::AllFree => constraint.only_watched(),
                Rule::AsRequested | Rule::AllBy(_) => constraint,
            };
            let answer = engine
                .answer(request.id, &prompt, request.max_tokens, constraint)
                .with_context(|| format!("answering {:?}", request.input))?;
            serde_json::to_writer(&mut out, &answer)?;
        }
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// The given grammar, else what the request asks for.
fn constraint(
    request: &Request,
    grammar: Option<&str>,
    model: &LlamaModel,
    grammars: &mut Grammars,
    end: LlamaToken,
) -> Result<Constraint> {
    Ok(
        match (grammar.or(request.grammar.as_deref()), &request.choices) {
            (Some(grammar), _) => Constraint::grammar(grammars.get(model, grammar)?),
            (None, Some(choices)) => Constraint::choices(&model.vocab(), end, choices),
            (None, None) => Constraint::none(),
        },
    )
}

// ---- tokens

#[derive(Serialize)]
struct Tokens {
    id: String,
    parts: Vec<i32>,
    whole: Vec<i32>,
}

fn print_tokens(vocab: &LlamaVocab<'_>) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?).context("reading a request")?;
        let prompt = Prompt::new(vocab, &request.system, &request.input);
        let text = format!(
            "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
            request.system, request.input
        );
        let whole = vocab.tokenize(text.as_bytes(), false, true);
        let tokens = Tokens {
            id: request.id,
            parts: prompt
                .head
                .iter()
                .chain(&prompt.own)
                .map(|it| it.0)
                .collect(),
            whole: whole.iter().map(|it| it.0).collect(),
        };
        serde_json::to_writer(&mut out, &tokens)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

// ---- fits

#[derive(Serialize)]
struct Fits {
    id: String,
    fits: bool,
}

fn print_fits(model: &LlamaModel) -> Result<()> {
    let vocab = model.vocab();
    let end = end_token(&vocab)?;
    let mut grammars = Grammars::default();
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?).context("reading a request")?;
        let constraint = constraint(&request, None, model, &mut grammars, end)?;
        let fits = constraint.allows(&vocab, end, &request.input)?;
        let id = request.id;
        serde_json::to_writer(&mut out, &Fits { id, fits })?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

// ---- speed

const SPEED_PREFILL_TOKENS: u32 = 256;
const SPEED_DECODE_TOKENS: usize = 128;
const SPEED_ROUNDS: usize = 15;

#[derive(Serialize)]
struct Speed {
    threads: i32,
    prefill_tokens_per_second: Rates,
    decode_tokens_per_second: Rates,
}

#[derive(Serialize)]
struct Rates {
    median: f64,
    best: f64,
}

impl Rates {
    fn of(tokens: u32, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let rate = |time: Duration| (f64::from(tokens) / time.as_secs_f64()).round();
        Self {
            median: rate(times[times.len() / 2]),
            best: rate(times[0]),
        }
    }
}

/// The first round warms up and does not count.
fn measure(mut engine: Engine<'_>, threads: i32) -> Result<()> {
    let size = engine.vocab.n_tokens();
    let prefill: Vec<LlamaToken> = (0..i32::try_from(SPEED_PREFILL_TOKENS)?)
        .map(|index| LlamaToken(index * 7 % size))
        .collect();
    let (mut filling, mut decoding) = (Vec::new(), Vec::new());
    for round in 0..=SPEED_ROUNDS {
        engine.context.clear_kv_cache();
        let start = Instant::now();
        engine.decode(&prefill, 0)?;
        let filled = start.elapsed();

        engine.context.clear_kv_cache();
        let start = Instant::now();
        for position in 0..SPEED_DECODE_TOKENS {
            engine.decode(&prefill[position..=position], position)?;
        }
        if round > 0 {
            filling.push(filled);
            decoding.push(start.elapsed());
        }
    }
    let speed = Speed {
        threads,
        prefill_tokens_per_second: Rates::of(SPEED_PREFILL_TOKENS, filling),
        decode_tokens_per_second: Rates::of(u32::try_from(SPEED_DECODE_TOKENS)?, decoding),
    };
    println!("{}", serde_json::to_string(&speed)?);
    Ok(())
}
