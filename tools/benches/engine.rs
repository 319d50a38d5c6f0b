//! What the engine's shortcuts are worth: the same engine process with and without them.
//!
//! Two processes of `lineside engine` run the same model beside each other, one as it is and one
//! **plain**: each prompt computed whole, each token one by one, nothing scored or guessed. They
//! are asked the same things in turn, so that a busy machine disturbs both alike, and every
//! answer of one is held against the other's: a shortcut that changes an answer is a defect and is
//! counted as one. A figure is the median over rounds of the ratio within a round.
//!
//! | Figure | What against what |
//! | --- | --- |
//! | computed | tokens sent through the model ÷ those of its own that a request needs: its input, and its answer but for the last token |
//! | choices, JSON | time of an answer ÷ the plain one's |
//! | burst | plain time for eight requests with a new prefix of 1,000 tokens ÷ time |
//! | text | tokens a second behind the first ÷ those of bare decoding in this process |
//! | hop | there and back with a request that is refused at once, halved |
//!
//! `tools/bench engine [--quick] [--threads N] [MODEL.gguf …]` prints the tables, for the bundled
//! model and those that are named, and writes the figures as JSON.

#![allow(clippy::cast_precision_loss, reason = "figures are far below 2^52")]
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]

#[path = "../../tests/support/appliance.rs"]
#[allow(dead_code)]
mod appliance;
#[path = "../train/answer/engine.rs"]
#[allow(dead_code)]
mod bare;

use std::fs;
use std::io::{BufReader, Write as _};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lineside::engine::protocol::{
    self, Ask, Done, Facts, Failure, Flash, FromEngine, Instruction, KvType, Load, Mapping,
    Options, Rule, ToEngine, Without, Work, WorkNo,
};
use lineside::package::{self, Answer, Package};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use serde_json::{Value, json};

use appliance::{Appliance, fresh_dir};

/// Fixed keys, and few choices for each: what machines ask for most.
const SCHEMA: &str = r#"{"type":"object","properties":{
    "severity":{"enum":["low","medium","high"]},
    "department":{"enum":["maintenance","quality","safety","logistics"]},
    "needs_human":{"type":"boolean"}},
    "required":["severity","department","needs_human"],"additionalProperties":false}"#;
/// Requests that come at once in a burst, and tokens of the prefix that is new to the engine.
const BURST: usize = 8;
const BURST_PREFIX_TOKENS: u32 = 1000;
/// Sentences of the first one, which shows how many tokens a sentence has.
const PROBE_SENTENCES: usize = 20;
/// Tokens of a free answer.
const TEXT_TOKENS: u32 = 64;
/// How long anything may take before the bench gives up.
const PATIENCE: Duration = Duration::from_mins(5);

/// The instructions by their places.
const CHOICES: u16 = 0;
const JSON: u16 = 1;
const TEXT: u16 = 2;
/// One that nobody loaded.
const NOWHERE: u16 = u16::MAX;

/// How much of everything.
struct Effort {
    rounds: usize,
    bursts: usize,
    hops: usize,
}

struct Arguments {
    effort: Effort,
    threads: u16,
    models: Vec<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    let package = Package::open(&package).map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let (variant, _) = package.variants().last().context("a package has a model")?;
    let mut models = vec![package.model_path(variant)];
    models.extend(arguments.models.iter().cloned());
    let backend = {
        let mut backend = LlamaBackend::init()?;
        backend.void_logs();
        backend
    };
    let tasks = Tasks::of(&package)?;
    let mut figures = serde_json::Map::new();
    for model in &models {
        let name = model.file_stem().unwrap_or_default().to_string_lossy();
        println!("\n{name}");
        let measured = measure(model, &tasks, &arguments, &backend)
            .with_context(|| format!("measuring {}", model.display()))?;
        figures.insert(name.into_owned(), measured);
    }
    println!("\nboth processes, with the bundled model");
    figures.insert("rss_kb".into(), both_rss()?);
    let file = std::env::var_os("LINESIDE_BENCH_JSON")
        .map_or_else(|| "target/bench/engine.json".into(), PathBuf::from);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")?;
    Ok(())
}

impl Arguments {
    fn read() -> Result<Self> {
        let mut read = Self {
            effort: Effort {
                rounds: 200,
                bursts: 9,
                hops: 5000,
            },
            threads: 1,
            models: Vec::new(),
        };
        // Cargo adds `--bench` to what it runs.
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => {
                    read.effort = Effort {
                        rounds: 20,
                        bursts: 3,
                        hops: 500,
                    };
                }
                "--threads" => {
                    let threads = words.next().context("--threads wants a number")?;
                    read.threads = threads.parse().context("--threads wants a number")?;
                }
                option if option.starts_with('-') => bail!("there is no option {option}"),
                model => read.models.push(model.into()),
            }
        }
        Ok(read)
    }
}

/// What is asked, the same of every model: their tokenizers are alike.
struct Tasks {
    instructions: Vec<Instruction>,
    inputs: Vec<String>,
}

impl Tasks {
    fn of(package: &Package) -> Result<Self> {
        let tasks = &package.manifest().tasks;
        let choices = tasks
            .iter()
            .find(|task| matches!(task.answer, Answer::Choices(_)));
        let choices = choices.context("the bundled package has a task with choices")?;
        let json = tasks.iter().find(|task| task.answer.is_json());
        let json = json.context("the bundled package has a task with JSON")?;
        let text = tasks.iter().find(|task| task.answer == Answer::Text);
        let text = text.context("the bundled package has a task with free text")?;
        let instruction = |task: &package::Task, rule: Rule, max_tokens: u32| {
            let frame = package.frame(&task.name).context("each task has a frame")?;
            Ok::<_, anyhow::Error>(Instruction {
                head: frame.prefix().to_owned(),
                tail: frame.suffix().to_owned(),
                rule,
                max_tokens,
            })
        };
        let package::Rule::Choices(all) = package.rule(choices) else {
            bail!("a task with choices has them");
        };
        let gate = package.gate().context("the bundled package has a suite")?;
        let items = gate.items.iter().filter(|item| item.task == json.name);
        Ok(Self {
            instructions: vec![
                instruction(choices, Rule::Choices(all.to_vec()), choices.max_tokens)?,
                instruction(json, Rule::Schema(SCHEMA.into()), 64)?,
                instruction(text, Rule::Text, TEXT_TOKENS)?,
            ],
            inputs: items.map(|item| item.input.clone()).collect(),
        })
    }

    fn input(&self, round: usize) -> &str {
        &self.inputs[round % self.inputs.len()]
    }
}

fn measure(
    model: &Path,
    tasks: &Tasks,
    arguments: &Arguments,
    backend: &LlamaBackend,
) -> Result<Value> {
    let effort = &arguments.effort;
    let load = |without| Load {
        model: model.display().to_string(),
        adapter: None,
        draft: None,
        options: options(arguments.threads, without),
        instructions: tasks.instructions.clone(),
    };
    let plain = Without {
        prefixes: true,
        jumps: true,
        scoring: true,
        guesses: true,
    };
    let mut pair = Pair {
        fast: Engine::start(load(Without::default()))?,
        plain: Engine::start(load(plain))?,
    };
    let row = |what: &str, value: String| println!("  {what:<52}{value:>16}");
    let facts = pair.fast.facts.clone();
    row("threads", format!("{}", facts.threads));

    let choices = pair.answers(CHOICES, tasks, effort.rounds)?;
    choices.print("choices, ratio to plain (goal <= 0.5)");
    let fixed = pair.answers(JSON, tasks, effort.rounds)?;
    fixed.print("JSON with fixed keys, ratio to plain (goal <= 0.7)");
    let computed = fixed.computed();
    row(
        "JSON, computed / needed (goal <= 1.02)",
        format!("{computed:.3}"),
    );
    let burst = pair.bursts(effort.bursts)?;
    row(
        "burst of 8, prefix of 1,000, times faster (goal >= 3)",
        format!("{:.2}", 1.0 / burst.ratio()),
    );
    let text = against_bare(&mut pair.fast, model, tasks, arguments, backend)?;
    row(
        "free text / bare decoding (goal >= 0.98)",
        format!("{:.3}", text.ratio),
    );
    let hop = pair.fast.hops(effort.hops)?;
    row(
        "hop over the socket, p99 (goal <= 100)",
        format!("{:.0} us", hop[1]),
    );
    let rss = pair.fast.rss_kb()?;
    row("memory of the engine", format!("{rss} kB"));
    let wrong = choices.different + fixed.different + burst.different;
    row("answers that differ from plain (goal 0)", wrong.to_string());
    for (what, compared) in [("choices", &choices), ("JSON", &fixed), ("burst", &burst)] {
        if let Some([ours, theirs]) = &compared.example {
            println!(
                "    {what}: {} of {}, such as {ours:?} instead of {theirs:?}",
                compared.different,
                compared.done.len()
            );
        }
    }
    pair.fast.shutdown()?;
    pair.plain.shutdown()?;
    Ok(json!({
        "threads": facts.threads,
        "choices": choices.figures(),
        "json": fixed.figures(),
        "computed_ratio": computed,
        "burst": burst.figures(),
        "text": { "ratio": text.ratio, "per_s": text.per_s, "bare_per_s": text.bare_per_s },
        "hop_us": { "p50": hop[0], "p99": hop[1] },
        "engine_rss_kb": rss,
        "different_answers": wrong,
    }))
}

fn options(threads: u16, without: Without) -> Options {
    Options {
        context_tokens: 2048,
        cache_tokens: 16_384,
        sequences: 8,
        queue: 64,
        threads: Some(threads),
        batch_tokens: 512,
        pass_ms: 50,
        gpu_layers: 0,
        kv_type: KvType::F16,
        flash_attention: Flash::Auto,
        mapping: Mapping::Mapped,
        without,
    }
}

/// The engine as it is, and the plain one.
struct Pair {
    fast: Engine,
    plain: Engine,
}

impl Pair {
    /// The same request to both, in turn, with another input each round.
    fn answers(&mut self, known: u16, tasks: &Tasks, rounds: usize) -> Result<Compared> {
        let mut compared = Compared::default();
        for round in 0..rounds + WARM_UP {
            let work = |_: usize| (Ask::Known(known), tasks.input(round).to_owned());
            self.round(round, 1, work, &mut compared)?;
            if round + 1 == WARM_UP {
                compared = Compared::default();
            }
        }
        Ok(compared)
    }

    /// Eight requests at once, with a prefix that neither engine has ever seen.
    fn bursts(&mut self, bursts: usize) -> Result<Compared> {
        let sentence = "The press stops when its guard is open, and nobody resets it alone. ";
        let head = |number: usize, sentences: usize| {
            let text = sentence.repeat(sentences);
            format!("<|im_start|>system\nLine {number}. {text}<|im_end|>\n<|im_start|>user\n")
        };
        let own = |head: String| {
            Ask::Own(Instruction {
                head,
                tail: "<|im_end|>\n<|im_start|>assistant\n".into(),
                rule: Rule::Choices(vec!["yes".into(), "no".into()]),
                max_tokens: 4,
            })
        };
        let probe = self
            .fast
            .ask_one(own(head(usize::MAX, PROBE_SENTENCES)), "Is it safe?")?;
        let each = f64::from(probe.tokens.prompt) / PROBE_SENTENCES as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few hundred"
        )]
        let sentences = (f64::from(BURST_PREFIX_TOKENS) / each).ceil() as usize;
        let mut compared = Compared::default();
        for round in 0..bursts {
            let head = head(round, sentences);
            let work = |index: usize| {
                let input = format!("Gate {index} is open. Is it safe?");
                (own(head.clone()), input)
            };
            self.round(round, BURST, work, &mut compared)?;
        }
        Ok(compared)
    }

    /// One round: who goes first alternates.
    fn round(
        &mut self,
        round: usize,
        count: usize,
        work: impl Fn(usize) -> (Ask, String),
        compared: &mut Compared,
    ) -> Result<()> {
        let run = |engine: &mut Engine| engine.ask_all((0..count).map(&work).collect());
        let (fast, plain) = if round.is_multiple_of(2) {
            let fast = run(&mut self.fast)?;
            (fast, run(&mut self.plain)?)
        } else {
            let plain = run(&mut self.plain)?;
            (run(&mut self.fast)?, plain)
        };
        compared.fast.push(fast.0);
        compared.plain.push(plain.0);
        for (ours, theirs) in fast.1.iter().zip(&plain.1) {
            if ours.text != theirs.text {
                compared.different += 1;
                compared.example = Some([ours.text.clone(), theirs.text.clone()]);
            }
        }
        compared.done.extend(fast.1);
        Ok(())
    }
}

/// Rounds that are not counted.
const WARM_UP: usize = 5;

/// Times of both, round by round.
#[derive(Default)]
struct Compared {
    fast: Vec<Duration>,
    plain: Vec<Duration>,
    done: Vec<Done>,
    different: usize,
    /// The last that differed.
    example: Option<[String; 2]>,
}

impl Compared {
    fn ratio(&self) -> f64 {
        let pairs = self.fast.iter().zip(&self.plain);
        let mut ratios: Vec<_> = pairs
            .map(|(fast, plain)| fast.as_secs_f64() / plain.as_secs_f64())
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }

    /// Tokens that went through the model, against those that had to. The prefix is computed once
    /// for all and belongs to nobody; behind the last free choice nothing has to be computed, but
    /// where that is cannot be seen from here, so the whole answer counts as needed.
    fn computed(&self) -> f64 {
        let prefix = self.done.iter().map(|done| done.tokens.cached).max();
        let prefix = prefix.unwrap_or(0);
        let computed: u32 = self.done.iter().map(|done| done.tokens.computed).sum();
        let needed = self.done.iter().map(|done| {
            let own = done.tokens.prompt.saturating_sub(prefix);
            own + done.tokens.completion.saturating_sub(1)
        });
        f64::from(computed) / f64::from(needed.sum::<u32>().max(1))
    }

    fn print(&self, what: &str) {
        let (fast, plain) = (quantiles_us(&self.fast)[0], quantiles_us(&self.plain)[0]);
        println!(
            "  {what:<52}{:>16}   {fast:.0} us, plain {plain:.0} us",
            format!("{:.3}", self.ratio())
        );
    }

    fn figures(&self) -> Value {
        let (fast, plain) = (quantiles_us(&self.fast), quantiles_us(&self.plain));
        json!({
            "ratio": self.ratio(),
            "p50_us": fast[0], "p99_us": fast[1],
            "plain_p50_us": plain[0], "plain_p99_us": plain[1],
            "rounds": self.fast.len(),
            "answers": self.done.len(),
            "different": self.different,
        })
    }
}

/// The median and the 99th of a hundred, in microseconds.
fn quantiles_us(spans: &[Duration]) -> [f64; 2] {
    let mut spans = spans.to_vec();
    spans.sort();
    [50, 99].map(|percent| spans[(spans.len() - 1) * percent / 100].as_secs_f64() * 1e6)
}

/// Free text of the engine against decoding and nothing else.
struct Text {
    ratio: f64,
    per_s: f64,
    bare_per_s: f64,
}

fn against_bare(
    engine: &mut Engine,
    model: &Path,
    tasks: &Tasks,
    arguments: &Arguments,
    backend: &LlamaBackend,
) -> Result<Text> {
    let params = LlamaModelParams::default().with_n_gpu_layers(0);
    let loaded = LlamaModel::load_from_file(backend, model, &params)?;
    let context = NonZeroU32::new(2048).context("2048 is not 0")?;
    let threads = i32::from(arguments.threads);
    let mut bare = bare::Engine::new(backend, &loaded, threads, context)?;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..arguments.effort.rounds.div_ceil(4) + WARM_UP {
        let done = engine.ask_one(Ask::Known(TEXT), tasks.input(round))?;
        let written = done.tokens.completion.saturating_sub(1);
        // The answers of a model of its own mind end when they end.
        if written < 8 {
            continue;
        }
        let span = Duration::from_micros(done.total_us - done.first_token_us);
        let rate = f64::from(written) / span.as_secs_f64();
        let bare_rate = bare_rate(&mut bare, done.tokens.prompt, written)?;
        if round >= WARM_UP {
            ratios.push(rate / bare_rate);
            ours.push(rate);
            theirs.push(bare_rate);
        }
    }
    ensure!(
        !ratios.is_empty(),
        "no free answer was long enough to measure"
    );
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Ok(Text {
        ratio: median(ratios),
        per_s: median(ours),
        bare_per_s: median(theirs),
    })
}

/// Tokens a second behind a prompt of this length, whatever they say.
fn bare_rate(bare: &mut bare::Engine<'_>, prompt: u32, count: u32) -> Result<f64> {
    let size = bare.vocab.n_tokens();
    let token = |index: u32| LlamaToken(i32::try_from(index).unwrap_or(0) * 7 % size);
    let filling: Vec<_> = (0..prompt).map(token).collect();
    bare.context.clear_kv_cache();
    bare.decode(&filling, 0)?;
    let begun = Instant::now();
    for index in 0..count {
        let position = usize::try_from(prompt + index)?;
        bare.decode(&[token(prompt + index)], position)?;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

/// An engine process and this end of its socket; killed when dropped.
struct Engine {
    process: Child,
    socket: UnixStream,
    from: BufReader<UnixStream>,
    facts: Facts,
    next: u64,
}

impl Engine {
    fn start(load: Load) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        let process = Command::new(env!("CARGO_BIN_EXE_lineside"))
            .arg("engine")
            .env_clear()
            .env("GOMP_SPINCOUNT", "1000")
            .env("GGML_NO_BACKTRACE", "1")
            .stdin(OwnedFd::from(theirs))
            .spawn()?;
        let mut engine = Self {
            process,
            from: BufReader::new(ours.try_clone()?),
            socket: ours,
            facts: Facts::default(),
            next: 0,
        };
        engine.send(&ToEngine::Load(Box::new(load)))?;
        loop {
            match engine.receive()? {
                FromEngine::Ready(facts) => {
                    engine.facts = *facts;
                    return Ok(engine);
                }
                FromEngine::Unloadable(why) => bail!("it cannot be loaded: {why}"),
                FromEngine::Beat(_) => {}
                other => bail!("{other:?} before it is ready"),
            }
        }
    }

    fn send(&mut self, message: &ToEngine) -> Result<()> {
        let bytes = protocol::frame(message)?;
        Ok(self.socket.write_all(&bytes)?)
    }

    fn receive(&mut self) -> Result<FromEngine> {
        let message = protocol::read(&mut self.from)?;
        message.context("the engine went away")
    }

    fn work(&mut self, ask: Ask, input: String) -> Work {
        self.next += 1;
        Work {
            no: WorkNo(self.next),
            ask,
            input,
            max_tokens: None,
            due_ms: 600_000,
            priority: 1,
            client: self.next,
            stream: false,
        }
    }

    fn ask_one(&mut self, ask: Ask, input: &str) -> Result<Done> {
        let (_, mut done) = self.ask_all(vec![(ask, input.to_owned())])?;
        done.pop().context("one answer to one request")
    }

    /// Asks for all at once and waits for the last; the answers are in the order of the requests.
    fn ask_all(&mut self, all: Vec<(Ask, String)>) -> Result<(Duration, Vec<Done>)> {
        let works: Vec<_> = all
            .into_iter()
            .map(|(ask, input)| self.work(ask, input))
            .collect();
        let first = works.first().map_or(0, |work| work.no.0);
        let mut done: Vec<Option<Done>> = vec![None; works.len()];
        // Put together before the clock runs, and sent in one go.
        let mut bytes = Vec::new();
        for work in works {
            bytes.extend(protocol::frame(&ToEngine::Start(Box::new(work)))?);
        }
        let begun = Instant::now();
        self.socket.write_all(&bytes)?;
        while done.iter().any(Option::is_none) {
            match self.receive()? {
                FromEngine::Done(answer) => {
                    let place = usize::try_from(answer.no.0 - first)?;
                    done[place] = Some(*answer);
                }
                FromEngine::Failed { why, .. } => bail!("no answer: {why:?}"),
                FromEngine::Beat(_) | FromEngine::Began(_) => {}
                other => bail!("{other:?} instead of an answer"),
            }
        }
        Ok((begun.elapsed(), done.into_iter().flatten().collect()))
    }

    /// Half of there and back, with a request that needs no computing.
    fn hops(&mut self, count: usize) -> Result<[f64; 2]> {
        let mut spans = Vec::with_capacity(count);
        for _ in 0..count {
            let work = self.work(Ask::Known(NOWHERE), "Is it safe?".into());
            let begun = Instant::now();
            self.send(&ToEngine::Start(Box::new(work)))?;
            loop {
                match self.receive()? {
                    FromEngine::Failed {
                        why: Failure::Unknown,
                        ..
                    } => break,
                    FromEngine::Beat(_) => {}
                    other => bail!("{other:?} to a request that nobody knows"),
                }
            }
            spans.push(begun.elapsed() / 2);
        }
        Ok(quantiles_us(&spans))
    }

    fn rss_kb(&self) -> Result<u64> {
        rss_kb(self.process.id())
    }

    fn shutdown(mut self) -> Result<()> {
        self.send(&ToEngine::Shutdown)?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the engine ended with {status}");
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended
        let _ = self.process.wait();
    }
}

/// Memory of a service with the bundled model, and of the engine process that it started.
fn both_rss() -> Result<Value> {
    let dir = fresh_dir();
    let (state, port) = (dir.join("state"), free_port()?);
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    let config = format!(
        "[appliance]\nstate_dir = \"{}\"\n[broker]\nembedded_listen = \"127.0.0.1:{port}\"\n\
         [model]\npackage = \"{}\"\n",
        state.display(),
        package.display()
    );
    let mut service = Appliance::configured(dir, &config);
    service.start();
    let pid = u32::try_from(service.pid().as_raw_nonzero().get())?;
    let begun = Instant::now();
    let child = loop {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let first = children.split_whitespace().next().map(str::parse);
        if let Some(child) = first.transpose()? {
            break Some(child);
        }
        if begun.elapsed() > Duration::from_secs(10) {
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    std::thread::sleep(Duration::from_secs(3)); // until both have settled
    let rss = [Some(pid), child].map(|pid| pid.and_then(|pid| rss_kb(pid).ok()));
    for (what, rss) in ["service, with the embedded broker", "engine"]
        .iter()
        .zip(rss)
    {
        let rss = rss.map_or("not running".into(), |kb| format!("{kb} kB"));
        println!("  {what:<52}{rss:>16}");
    }
    Ok(json!({ "service": rss[0], "engine": rss[1] }))
}

fn rss_kb(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let line = line.context("a process has memory")?;
    let number = line.split_whitespace().nth(1).context("a number of kB")?;
    Ok(number.parse()?)
}

/// A port that nobody listens on.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}
