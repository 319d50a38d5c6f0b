//! The engine as it is, and a plain one beside it: what its shortcuts are worth.
//!
//! Both are asked the same things in turn, so that a busy machine disturbs both alike, and every
//! answer of one is held against the other's: a shortcut that changes an answer is a defect and
//! is counted as one.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lineside::engine::protocol::{Ask, Done, Finish, Instruction, Rule, Without};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use serde_json::{Value, json};

use crate::figures::{Goal, Sheet, median, median_ratio, quantiles_us};
use crate::process::{CONTEXT_TOKENS, Engine, options};
use crate::tasks::{CHOICES, JSON, LONG, TEXT, Tasks};
use crate::{Arguments, WARM_UP, bare};

/// Requests that come at once in a burst, and tokens of the prefix that is new to the engine.
const BURST: usize = 8;
const BURST_PREFIX_TOKENS: u32 = 1000;
/// Sentences of the first one, which shows how many tokens a sentence has.
const PROBE_SENTENCES: usize = 20;

/// Measures a model. The engine as it is comes back: others have questions for it.
pub(crate) fn measure(
    model: &Path,
    tasks: &Tasks,
    arguments: &Arguments,
    backend: &LlamaBackend,
    sheet: &mut Sheet,
) -> Result<(Engine, Value)> {
    let effort = &arguments.effort;
    let start = |without| {
        let options = options(arguments.threads, without);
        Engine::start(model, options, &tasks.instructions)
    };
    let plain = Without {
        prefixes: true,
        jumps: true,
        scoring: true,
        guesses: true,
    };
    let mut pair = Pair {
        fast: start(Without::default())?,
        plain: start(plain)?,
    };
    let facts = pair.fast.facts.clone();
    sheet.row("threads", f64::from(facts.threads), "", Goal::Open);
    let choices = pair.answers(CHOICES, tasks, effort.rounds)?;
    choices.row("choices / plain", Goal::AtMost(0.5), sheet);
    let long = pair.answers(LONG, tasks, effort.rounds)?;
    let shared = long.prefix();
    let what = format!("choices, instruction of {shared} tokens / plain");
    long.row(&what, Goal::AtMost(0.5), sheet);
    let fixed = pair.answers(JSON, tasks, effort.rounds)?;
    fixed.row("JSON with fixed keys / plain", Goal::AtMost(0.7), sheet);
    let computed = fixed.computed();
    let what = "JSON: tokens computed / needed";
    sheet.row(what, computed, "", Goal::AtMost(1.02));
    let text = against_bare(&mut pair.fast, model, tasks, arguments, backend)?;
    let what = "free text / bare decoding";
    sheet.row(what, text.ratio, "", Goal::AtLeast(0.98));
    let burst = pair.bursts(effort.bursts)?;
    let faster = 1.0 / burst.ratio();
    let what = "burst of 8, prefix of 1,000: plain / engine";
    sheet.row(what, faster, "", Goal::AtLeast(3.0));
    let busy = burst.busy_us();
    sheet.row("  by computing time", busy[1] / busy[0], "", Goal::Open);
    // Beginnings that nobody uses any more lie beside it now, and every pass looks over them.
    let beside = against_bare(&mut pair.fast, model, tasks, arguments, backend)?;
    let what = "  the same beside prefixes of 1,000";
    sheet.row(what, beside.ratio, "", Goal::Open);
    let hop = pair.fast.hops(effort.hops)?;
    let what = "hop over the socket, p99";
    sheet.row(what, hop[1], "us", Goal::AtMost(100.0));
    let rss = pair.fast.rss_kb()?;
    let kb = u32::try_from(rss).map_or(f64::MAX, f64::from);
    sheet.row("memory of the engine", kb, "kB", Goal::Open);
    let all = [
        ("choices", &choices),
        ("choices, long instruction", &long),
        ("JSON", &fixed),
        ("burst", &burst),
    ];
    let wrong: u32 = all.iter().map(|(_, compared)| compared.different).sum();
    let what = "answers that differ from plain";
    sheet.row(what, f64::from(wrong), "", Goal::AtMost(0.0));
    for (what, compared) in all {
        if let Some([ours, theirs]) = &compared.example {
            let (different, answers) = (compared.different, compared.done.len());
            sheet.note(&format!(
                "{what}: {different} of {answers} differ, such as {ours} instead of {theirs}"
            ));
        }
    }
    pair.plain.shutdown()?;
    let figures = json!({
        "threads": facts.threads,
        "choices": choices.figures(),
        "long": long.figures(),
        "json": fixed.figures(),
        "computed_ratio": computed,
        "burst": burst.figures(),
        "text": { "ratio": text.ratio, "per_s": text.per_s, "bare_per_s": text.bare_per_s },
        "text_beside_prefixes": beside.ratio,
        "hop_us": { "p50": hop[0], "p99": hop[1] },
        "engine_rss_kb": rss,
        "different_answers": wrong,
    });
    Ok((pair.fast, figures))
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
        let run = |engine: &mut Engine| {
            let before = engine.busy()?;
            let (span, done) = engine.ask_all((0..count).map(&work).collect())?;
            let busy = engine.busy()?.saturating_sub(before);
            Ok::<_, anyhow::Error>((span, done, busy))
        };
        let (fast, plain) = if round.is_multiple_of(2) {
            let fast = run(&mut self.fast)?;
            (fast, run(&mut self.plain)?)
        } else {
            let plain = run(&mut self.plain)?;
            (run(&mut self.fast)?, plain)
        };
        compared.fast.push(fast.0);
        compared.plain.push(plain.0);
        compared.busy[0] += fast.2;
        compared.busy[1] += plain.2;
        for (ours, theirs) in fast.1.iter().zip(&plain.1) {
            if ours.text != theirs.text {
                compared.different += 1;
                compared.example = Some([told(ours), told(theirs)]);
            }
        }
        compared.done.extend(fast.1);
        Ok(())
    }
}

/// Other tokens for the same text are another context, so their number is told too.
fn told(done: &Done) -> String {
    format!("{} ({} tokens)", done.text, done.tokens.completion)
}

/// Times of both, round by round.
#[derive(Default)]
struct Compared {
    fast: Vec<Duration>,
    plain: Vec<Duration>,
    done: Vec<Done>,
    /// What both spent on a core for all of that.
    busy: [Duration; 2],
    different: u32,
    /// The last that differed.
    example: Option<[String; 2]>,
}

impl Compared {
    fn ratio(&self) -> f64 {
        median_ratio(&self.fast, &self.plain)
    }

    /// Tokens that all answers share.
    fn prefix(&self) -> u32 {
        let cached = self.done.iter().map(|done| done.tokens.cached);
        cached.max().unwrap_or(0)
    }

    /// Tokens that went through the model, against those that had to. The prefix is computed once
    /// for all and belongs to nobody; behind the last free choice nothing has to be computed, but
    /// where that is cannot be seen from here, so the whole answer counts as needed.
    fn computed(&self) -> f64 {
        let prefix = self.prefix();
        let computed: u32 = self.done.iter().map(|done| done.tokens.computed).sum();
        let needed = self.done.iter().map(|done| {
            let own = done.tokens.prompt.saturating_sub(prefix);
            own + done.tokens.completion.saturating_sub(1)
        });
        f64::from(computed) / f64::from(needed.sum::<u32>().max(1))
    }

    fn row(&self, what: &str, goal: Goal, sheet: &mut Sheet) {
        sheet.row(what, self.ratio(), "", goal);
        let [ours, theirs] = [&self.fast, &self.plain].map(|spans| quantiles_us(spans)[0]);
        sheet.row("  the engine's median", ours, "us", Goal::Open);
        sheet.row("  the plain one's", theirs, "us", Goal::Open);
        let busy = self.busy_us();
        sheet.row("  by computing time", busy[0] / busy[1], "", Goal::Open);
    }

    /// Computing time of an answer.
    fn busy_us(&self) -> [f64; 2] {
        self.busy
            .map(|busy| busy.as_secs_f64() * 1e6 / self.done.len() as f64)
    }

    fn figures(&self) -> Value {
        let busy = self.busy_us();
        let (fast, plain) = (quantiles_us(&self.fast), quantiles_us(&self.plain));
        json!({
            "ratio": self.ratio(),
            "p50_us": fast[0], "p99_us": fast[1],
            "plain_p50_us": plain[0], "plain_p99_us": plain[1],
            "busy_us": busy[0], "plain_busy_us": busy[1],
            "rounds": self.fast.len(),
            "answers": self.done.len(),
            "different": self.different,
        })
    }
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
    let context = NonZeroU32::new(CONTEXT_TOKENS).context("a context has tokens")?;
    let threads = i32::from(arguments.threads);
    let mut bare = bare::Engine::new(backend, &loaded, threads, context)?;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..arguments.effort.rounds.div_ceil(4) + WARM_UP {
        let done = engine.ask_one(Ask::Known(TEXT), tasks.input(round))?;
        // The end is a token too, and takes a pass as any other; the first has its time already.
        let ended = u32::from(done.finish == Finish::End);
        let written = (done.tokens.completion + ended).saturating_sub(1);
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
