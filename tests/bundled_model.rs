//! The package in `models/factory-triage`, which every appliance starts with: it is whole, its
//! files compute what was trained, and it passes its own gate.
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

use lineside::package::{Package, Rule};
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

#[test]
fn the_bundled_package_passes_its_own_gate() {
    let package = bundled();
    let gate = package.gate().unwrap();
    let bars = package.manifest().bars.as_ref().unwrap();
    for (variant, _) in package.variants() {
        let file = package.model_path(variant);
        let params = LlamaModelParams::default();
        let model = LlamaModel::load_from_file(&BACKEND, &file, &params).unwrap();
        let mut engine = Engine::new(&BACKEND, &model, 1, CONTEXT).unwrap();
        let mut grammars = Grammars::default();
        let mut right: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        for item in &gate.items {
            let task = package.task(&item.task).unwrap();
            let constraint = match package.rule(task) {
                Rule::Grammar(text) => Constraint::grammar(grammars.get(&model, text).unwrap()),
                Rule::Choices(choices) => Constraint::choices(&engine.vocab, engine.end, choices),
                Rule::Text => Constraint::none(),
                Rule::Schema(_) => panic!("the bundled package has no schemas"),
            };
            let prompt = Prompt::new(&engine.vocab, &task.system, &item.input);
            let answer = answer(&mut engine, &prompt, constraint);
            assert_eq!(answer["fits"], true, "{}: {answer}", item.input);
            let good = item.is_right(&task.answer, answer["text"].as_str().unwrap());
            let count = right.entry(&item.task).or_default();
            count.0 += u32::from(good);
            count.1 += 1;
        }
        for (task, bar) in &bars.accuracy {
            let (good, of) = right[task.as_str()];
            let share = f64::from(good) / f64::from(of);
            let which = (&variant.quantization, task);
            assert!(share >= *bar, "{which:?}: {good} of {of}, the bar is {bar}");
        }
    }
}
