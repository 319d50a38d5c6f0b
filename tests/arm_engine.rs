//! The engine of an ARM build under qemu-user, beside this machine's own: the same package, the same
//! questions, and the answers laid side by side.
//!
//! `tools/arm64-answers PROGRAM` runs it; without a program it says that nothing was compared.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/engine.rs"]
mod engine;

use std::path::PathBuf;
use std::process::Command;

use engine::{Engine, bundled, instructions, model, options};
use lineside::engine::cage::Guard;
use lineside::engine::protocol::Load;

/// Names the program.
const PROGRAM: &str = "LINESIDE_ARM_ENGINE";
const EMULATOR: &str = "qemu-aarch64-static";
/// Where the libraries of such programs lie.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// For which processors it was built: `armv8-a`, `armv8.2-a`.
const BASELINE: &str = "LINESIDE_ARM_BASELINE";
/// Logarithms of probabilities may differ by the order in which numbers are added.
const MAX_DIFFERENCE: f32 = 0.05;
/// From armv8.2-a on llama.cpp's kernels add the products of attention as halves (fp16), which have
/// 11 bits where a float has 24.
const MAX_DIFFERENCE_OF_HALVES: f32 = 0.1;

const INPUTS: [&str; 6] = [
    "CNC-07 spindle vibration 9.8 mm/s rising",
    "press 3 oil temperature 41 C steady",
    "conveyor B2 belt slip detected, motor current 14 A",
    "robot cell 5 door open during cycle",
    "compressor pressure 6.2 bar falling slowly",
    "pump P-11 seal leak, drops every minute",
];

#[test]
fn an_arm_build_answers_as_this_machine_does() {
    let Some(program) = std::env::var_os(PROGRAM).map(PathBuf::from) else {
        println!("*** NOTHING WAS COMPARED: {PROGRAM} names no ARM build");
        return;
    };
    let package = bundled();
    let load = Load {
        model: model(&package).to_string_lossy().into_owned(),
        adapter: None,
        draft: None,
        options: options(),
        instructions: instructions(&package),
    };
    let mut here = Engine::load(load.clone()).unwrap();
    let mut emulated = Command::new(EMULATOR);
    emulated.args(["-L", LIBRARIES]).arg(program);
    let mut arm = Engine::load_by(emulated, load.clone()).unwrap();
    // The emulator hands neither guard on, and the engine must notice.
    let missing = &arm.facts.unguarded;
    assert!(
        missing.contains(&Guard::Files) && missing.contains(&Guard::Calls),
        "{missing:?}"
    );

    let (mut same, mut all, mut furthest) = (0, 0, 0.0_f32);
    for instruction in 0..load.instructions.len() {
        for input in INPUTS {
            let work = here.work(instruction, input);
            let mine = here.answer(work).unwrap();
            let work = arm.work(instruction, input);
            let theirs = arm.answer(work).unwrap();
            all += 1;
            let is_same = mine.text == theirs.text;
            same += usize::from(is_same);
            if is_same {
                let pairs = mine.free.iter().zip(&theirs.free);
                let apart = pairs.map(|(a, b)| (a.logprob - b.logprob).abs());
                furthest = apart.fold(furthest, f32::max);
            } else {
                println!("differs: {} | {}", mine.text, theirs.text);
            }
        }
    }
    println!("{same} of {all} answers are the same, log-probabilities at most {furthest} apart");
    let has_halves = std::env::var(BASELINE).is_ok_and(|it| it == "armv8.2-a");
    let allowed = if has_halves {
        MAX_DIFFERENCE_OF_HALVES
    } else {
        MAX_DIFFERENCE
    };
    assert!(furthest < allowed, "{furthest}");
    // Kernels of another width round elsewhere, so that one answer in doubt may turn.
    assert!(same * 10 >= all * 9, "{same} of {all}");
}
