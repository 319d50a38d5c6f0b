//! The committed model files compute what was trained: greedy answers, token by token.
//!
//! `tools/train/parity.py` proves the exported model against the training code and writes
//! `tests/golden/`: prompts of all tasks with the tokens that each file must answer, taken only
//! where no rival token was near, so that every processor gives them.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};
use serde::Deserialize;

use engine::{Constraint, Engine, Prompt};

#[allow(dead_code, reason = "the program `answer` uses the rest")]
#[path = "../tools/train/answer/engine.rs"]
mod engine;

/// The longest golden answer is a guide; this is twice that.
const MAX_TOKENS: usize = 96;
const CONTEXT: NonZeroU32 = NonZeroU32::new(512).unwrap();

#[derive(Deserialize)]
struct Golden {
    system: String,
    input: String,
    tokens: Vec<i32>,
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn goldens(quantization: &str) -> Vec<Golden> {
    let path = in_repository("tests/golden").join(format!("factory-triage-2.0-{quantization}.jsonl"));
    fs::read_to_string(&path)
        .unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_committed_files_answer_token_by_token_as_they_were_exported() {
    send_logs_to_tracing(LogOptions::default().with_logs_enabled(false));
    let backend = LlamaBackend::init().unwrap();
    for quantization in ["Q8_0", "Q4_K_M"] {
        let file = in_repository(&format!("models/factory-triage/factory-triage-2-{quantization}.gguf"));
        let model = LlamaModel::load_from_file(&backend, &file, &LlamaModelParams::default()).unwrap();
        let mut engine = Engine::new(&backend, &model, 1, CONTEXT).unwrap();
        let goldens = goldens(quantization);
        assert!(goldens.len() >= 40, "{quantization}: {} goldens", goldens.len());
        for golden in goldens {
            let prompt = Prompt::new(&engine.vocab, &golden.system, &golden.input);
            let answer = engine
                .answer(String::new(), &prompt, MAX_TOKENS, Constraint::none())
                .unwrap();
            let tokens = &serde_json::to_value(&answer).unwrap()["tokens"];
            assert_eq!(*tokens, serde_json::json!(golden.tokens), "{quantization}: {}", golden.input);
        }
    }
}
