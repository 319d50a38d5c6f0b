//! A smaller model that guesses ahead: the answers are the same, and a wrong one is refused.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use lineside::engine::protocol::{Done, Load, Options, Rule};

use support::{Engine, bundled, instructions, model, options};

#[path = "support/engine.rs"]
mod support;

fn relative(name: &str) -> PathBuf {
    let variants = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/variants");
    variants.join(format!("{name}-Q4_K_M.gguf"))
}

/// The bundled package, with another model in front of it.
fn load(draft: Option<&Path>, options: Options) -> Result<Engine, String> {
    let package = bundled();
    Engine::load(Load {
        model: model(&package).to_string_lossy().into_owned(),
        adapter: None,
        draft: draft.map(|path| path.to_string_lossy().into_owned()),
        options,
        instructions: instructions(&package),
    })
}

/// Answers to everything that the package's suite wants as free text, `together` at a time.
fn answers(mut engine: Engine, together: usize) -> Vec<Done> {
    let package = bundled();
    let instructions = instructions(&package);
    let tasks = &package.manifest().tasks;
    let place = |name: &str| tasks.iter().position(|task| task.name == name).unwrap();
    let items = package.gate().unwrap().items.iter();
    let items = items.map(|item| (place(&item.task), item.input.as_str()));
    let free: Vec<_> = items
        .filter(|(task, _)| instructions[*task].rule == Rule::Text)
        .collect();
    assert!(free.len() > 50, "{} inputs", free.len());
    let mut done = Vec::new();
    for chunk in free.chunks(together) {
        let works = chunk.iter().map(|(task, input)| engine.work(*task, input));
        let works = works.collect();
        done.extend(engine.answers(works).into_iter().map(Result::unwrap));
    }
    done
}

fn texts(done: &[Done]) -> Vec<&str> {
    done.iter().map(|done| done.text.as_str()).collect()
}

fn guessed(done: &[Done]) -> u32 {
    done.iter().map(|done| done.tokens.guessed).sum()
}

#[test]
fn what_a_draft_model_guesses_changes_no_answer() {
    let alone = Options {
        sequences: 1,
        ..options()
    };
    let without = answers(load(None, alone).unwrap(), 1);
    let with = answers(load(Some(&relative("draft")), alone).unwrap(), 1);
    assert_eq!(texts(&with), texts(&without));
    // The draft was taught the same: in its first trial alone it foresees dozens of tokens.
    let (with, without) = (guessed(&with), guessed(&without));
    assert!(with > without + 30, "{with} guessed, {without} without");
}

#[test]
fn with_many_conversations_the_draft_model_stands_aside_and_all_are_answered() {
    let done = answers(load(Some(&relative("draft")), options()).unwrap(), 8);
    assert!(done.iter().all(|done| !done.text.is_empty()));
}

#[test]
fn a_draft_model_of_another_vocabulary_is_refused() {
    let why = load(Some(&relative("earlier")), options()).err().unwrap();
    assert!(why.contains("vocabulary"), "{why}");
    let why = load(Some(Path::new("/nonexistent.gguf")), options());
    assert!(why.err().unwrap().contains("no such file"));
}
