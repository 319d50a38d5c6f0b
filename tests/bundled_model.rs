//! The package in `models/factory-triage`, which every appliance starts with: it is whole, its
//! files compute what was trained, the engine says what plain decoding says, and its gate lets it
//! pass and stops one that was harmed.
//!
//! `tools/train/parity.py` proves the exported model against the training code and writes
//! `tests/golden/`: prompts of all tasks with the tokens that each file must answer, taken only
//! where no rival token was near, so that every processor gives them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use lineside::engine::exam::{self, Mark, Sitting};
use lineside::engine::order::{Book, raw_confidence};
use lineside::engine::process::{Launch, SUBCOMMAND};
use lineside::engine::protocol::{Flash, KvType, Load, Mapping, Options, Without};
use lineside::package::{Package, Rule, Task, Variant};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};
use serde::Deserialize;
use serde_json::Value;

use engine::{Constraint, Engine, Grammars, Prompt};

#[allow(dead_code, reason = "the program `answer` uses the rest")]
#[path = "../tools/train/answer/engine.rs"]
mod engine;

/// More than the longest answer of any task.
const MAX_TOKENS: usize = 96;
const CONTEXT: NonZeroU32 = NonZeroU32::new(512).unwrap();
/// Of so many answers one may differ between the engine and plain decoding: tokens that are read
/// together go through other sums than one by one, and where two answers are equally likely a
/// rounding decides.
const MAX_TIES_IN: usize = 50;
/// How far the confidence in the same answer may be apart for the same reason.
const MAX_APART: f64 = 0.05;
/// Of so many answers the engine may be surer of one than plain decoding. What the rule forces is
/// put down as text, in the tokens that the model was trained on; for plain decoding a token that
/// begins that text is a choice as soon as it can be cut in two, and what the model would have
/// said instead of it, and may not, counts against the answer.
const MAX_SURER_IN: usize = 50;
/// A bar is missed clearly by this: no other processor's rounding mends that.
const CLEARLY: f64 = 0.05;
/// Golden answers that each file has at least.
const GOLDENS: usize = 40;

/// Initialized once for all tests here, as the library wants it.
static BACKEND: LazyLock<LlamaBackend> = LazyLock::new(|| {
    send_logs_to_tracing(LogOptions::default().with_logs_enabled(false));
    LlamaBackend::init().unwrap()
});

#[derive(Deserialize)]
struct Golden {
    system: String,
    input: String,
    tokens: Vec<i32>,
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn bundled() -> Package {
    let folder = in_repository("models/factory-triage");
    Package::open(&folder).unwrap_or_else(|faults| panic!("{faults}"))
}

fn goldens(version: &str, quantization: &str) -> Vec<Golden> {
    let file = format!("factory-triage-{version}-{quantization}.jsonl");
    let path = in_repository("tests/golden").join(file);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn answer(engine: &mut Engine<'_>, prompt: &Prompt, constraint: Constraint) -> Value {
    let answer = engine.answer(String::new(), prompt, MAX_TOKENS, constraint);
    serde_json::to_value(answer.unwrap()).unwrap()
}

#[test]
fn the_bundled_package_is_whole() {
    let package = bundled();
    package.verify().unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(package.manifest().name, "factory-triage");
    // It is the example that others follow: it lacks nothing.
    let notes = package.notes();
    assert!(notes.is_empty(), "{notes:#?}");
    for (variant, header) in package.variants() {
        assert_eq!(header.quantization, Some(variant.quantization.as_str()));
    }
}

#[test]
fn the_committed_files_answer_token_by_token_as_they_were_exported() {
    let package = bundled();
    for (variant, _) in package.variants() {
        let file = package.model_path(variant);
        let params = LlamaModelParams::default();
        let model = LlamaModel::load_from_file(&BACKEND, &file, &params).unwrap();
        let mut engine = Engine::new(&BACKEND, &model, 1, CONTEXT).unwrap();
        let goldens = goldens(&package.manifest().version, &variant.quantization);
        assert!(goldens.len() >= GOLDENS, "{} goldens", goldens.len());
        for golden in goldens {
            let prompt = Prompt::new(&engine.vocab, &golden.system, &golden.input);
            let answer = answer(&mut engine, &prompt, Constraint::none());
            let tokens: Vec<i32> = serde_json::from_value(answer["tokens"].clone()).unwrap();
            let which = (&variant.quantization, &golden.input);
            assert_eq!(tokens, golden.tokens, "{which:?}");
        }
    }
}

/// The rule of a task for plain decoding.
fn constraint(
    package: &Package,
    task: &Task,
    engine: &Engine<'_>,
    grammars: &mut Grammars,
) -> Constraint {
    match package.rule(task) {
        Rule::Grammar(text) => Constraint::grammar(grammars.get(engine.model, text).unwrap()),
        Rule::Choices(choices) => Constraint::choices(&engine.vocab, engine.end, choices),
        Rule::Text => Constraint::none(),
        Rule::Schema(_) => panic!("the bundled package has no schemas"),
    }
}

/// What the answers under a constraint add up to: the raw confidence.
fn product(answer: &Value) -> f64 {
    let logprobs = answer["logprobs"].as_array().unwrap();
    let free = answer["free"].as_array().unwrap();
    let free = logprobs.iter().zip(free).filter(|(_, free)| **free == true);
    free.map(|(logprob, _)| logprob.as_f64().unwrap()).sum()
}

/// The engine skips most of the work: it scores choices, jumps over forced tokens and guesses
/// ahead. What it says, and how sure it is of it, must be what decoding token by token says, for
/// the bars and curves of a package were measured once and are believed everywhere.
#[test]
fn the_engine_answers_as_plain_decoding_does_and_is_as_sure() {
    let package = bundled();
    let (variant, _) = package.variants().last().unwrap();
    let book = Book::of(&package, variant);
    let items = &package.gate().unwrap().items;
    let mut sitting = sitting(&book, book.file());
    let questions = items.iter().map(|item| {
        let (question, _) = book.question(&item.task, &item.input).unwrap();
        question
    });
    let answers = sitting.ask(questions).unwrap();

    let params = LlamaModelParams::default();
    let model = LlamaModel::load_from_file(&BACKEND, book.file(), &params).unwrap();
    let mut plain = Engine::new(&BACKEND, &model, 1, CONTEXT).unwrap();
    let mut grammars = Grammars::default();
    let (mut ties, mut surer, mut widest) = (0, 0, 0.0_f64);
    for (item, done) in items.iter().zip(answers) {
        let done = done.unwrap();
        let task = package.task(&item.task).unwrap();
        let prompt = Prompt::new(&plain.vocab, &task.system, &item.input);
        let constraint = constraint(&package, task, &plain, &mut grammars);
        let answer = answer(&mut plain, &prompt, constraint);
        assert_eq!(answer["fits"], true, "{}: {answer}", item.input);
        if answer["text"] == done.text {
            let apart = raw_confidence(&done) - product(&answer).exp();
            surer += usize::from(apart > MAX_APART);
            if apart <= MAX_APART {
                widest = widest.max(apart.abs());
            }
        } else {
            ties += 1;
            println!("{}: {} and {}", item.input, answer["text"], done.text);
        }
    }
    println!(
        "{ties} of {} part, of {surer} the engine is surer; the rest is {widest} apart at most",
        items.len()
    );
    assert!(
        ties * MAX_TIES_IN <= items.len(),
        "{ties} of {}",
        items.len()
    );
    assert!(
        surer * MAX_SURER_IN <= items.len(),
        "{surer} of {}",
        items.len()
    );
    assert!(widest <= MAX_APART, "{widest}");
}

fn engine_program() -> Launch {
    Launch {
        program: env!("CARGO_BIN_EXE_lineside").into(),
        arguments: vec![SUBCOMMAND.into()],
        ..Launch::default()
    }
}

/// An engine with the book's instructions and this file, one conversation at a time.
fn sitting(book: &Book, file: &Path) -> Sitting {
    let options = Options {
        context_tokens: CONTEXT.get(),
        cache_tokens: 16 * CONTEXT.get(),
        sequences: 1,
        queue: 8,
        threads: Some(1),
        batch_tokens: CONTEXT.get(),
        pass_ms: 25,
        gpu_layers: 0,
        kv_type: KvType::F16,
        flash_attention: Flash::Auto,
        mapping: Mapping::Read,
        without: Without::default(),
    };
    let load = Load {
        model: file.display().to_string(),
        ..book.load(&options, None)
    };
    Sitting::open(&engine_program(), load).unwrap()
}

/// What the package's suite makes of a file that would come with its manifest.
fn marks(package: &Package, variant: &Variant, file: &Path) -> Vec<Mark> {
    let book = Book::of(package, variant);
    let mut sitting = sitting(&book, file);
    exam::suite(&mut sitting, &book, package.gate().unwrap()).unwrap()
}

/// The share of right answers to each task.
fn right_by_task(package: &Package, marks: &[Mark]) -> BTreeMap<String, f64> {
    let share = |(right, of): (usize, usize)| {
        f64::from(u32::try_from(right).unwrap()) / f64::from(u32::try_from(of).unwrap())
    };
    exam::by_task(package.gate().unwrap(), marks)
        .into_iter()
        .map(|(task, count)| (task.to_owned(), share(count)))
        .collect()
}

#[test]
fn the_bundled_package_passes_its_own_gate() {
    let package = bundled();
    let bars = package.manifest().bars.as_ref().unwrap();
    for (variant, _) in package.variants() {
        let which = &variant.quantization;
        let marks = marks(&package, variant, &package.model_path(variant));
        let right = right_by_task(&package, &marks);
        for (task, bar) in &bars.accuracy {
            let found = right[task];
            assert!(found >= *bar, "{which}: {task}: {found}, the bar is {bar}");
        }
        let error = exam::calibration_error(&marks).unwrap();
        let bar = bars.calibration_error.unwrap();
        assert!(
            error <= bar,
            "{which}: confidence is {error} off, the bar is {bar}"
        );
    }
}

#[test]
fn the_gate_stops_the_harmed_model() {
    let package = bundled();
    let bars = package.manifest().bars.as_ref().unwrap();
    let (variant, _) = package.variants().last().unwrap();
    let harmed = in_repository("models/variants/harmed-Q4_K_M.gguf");
    let right = right_by_task(&package, &marks(&package, variant, &harmed));
    let short = bars.accuracy.iter().map(|(task, bar)| bar - right[task]);
    let most = short.fold(f64::NEG_INFINITY, f64::max);
    println!("it misses a bar by {most}: {right:?}");
    assert!(most >= CLEARLY, "{most}: {right:?}");
}
