//! What an engine process really takes: it is given work until its batch, its cache and its
//! grammars are as full as they get, and then the kernel is asked.

#![allow(dead_code, reason = "each who measures takes what he needs")]

use std::collections::BTreeMap;

use lineside::engine::protocol::{Ask, Failure, Flash, Instruction, KvType, Options, Rule, Work};
use lineside::governor::memory::{Cpu, Kv, Parts, Run, Shape, Wishes, parts};
use lineside::package::Package;

use super::support::Engine;

/// Tokens that each of the long requests writes: all are under way before the first one ends.
const WRITTEN: u32 = 24;
/// What they write: no model may end before, and leave its place in the cache to others.
const LONG_ANSWER: &str = "[a-z ]{300}";
/// Rounds of long requests. After the second one nothing grows any more.
const ROUNDS: usize = 3;
/// Words of the long requests.
const WORDS: [&str; 12] = [
    "spindle ", "press ", "guard ", "7 ", "mm/s ", "hot ", "line ", "valve ", "42 ", "oil ",
    "stopped ", "door ",
];

/// Bytes, as the kernel counts a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// What is in memory and belongs to no file: nothing but the end of the process gives it back.
    pub(crate) anonymous: u64,
    /// All that is in memory, shared pages by their share.
    pub(crate) pss: u64,
    /// All that is in memory.
    pub(crate) rss: u64,
}

/// Of a process.
pub(crate) fn taken(pid: u32) -> Taken {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let figures: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
            Some((key, kib * 1024))
        })
        .collect();
    Taken {
        anonymous: figures["Anonymous"],
        pss: figures["Pss"],
        rss: figures["Rss"],
    }
}

/// What is predicted for an engine with these options.
pub(crate) fn predicted(shape: &Shape, options: &Options, instructions: usize) -> Parts {
    let cores = std::thread::available_parallelism().unwrap().get();
    let run = Run {
        context_tokens: options.context_tokens,
        cache_tokens: options.cache_tokens,
        sequences: options.sequences,
        batch_tokens: options.batch_tokens,
        kv: match options.kv_type {
            KvType::F16 => Kv::F16,
            KvType::Q8_0 => Kv::Q8,
            KvType::Q4_0 => Kv::Q4,
        },
        flash: options.flash_attention != Flash::Off,
        threads: options.threads.unwrap_or(u16::try_from(cores).unwrap()),
        gpu_layers: options.gpu_layers,
        instructions: u16::try_from(instructions).unwrap(),
        cpu: Cpu::of_this_build(),
    };
    parts::of(shape, &run, &Wishes::default())
}

/// Text of so many bytes, another one for each number.
fn text(number: usize, bytes: usize) -> String {
    let mut text = format!("{number} ");
    let mut at = number;
    while text.len() < bytes {
        at = at
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(WORDS[(at >> 33) % WORDS.len()]);
    }
    text.truncate(bytes);
    text
}

/// A request that fills a context.
fn long(engine: &mut Engine, number: usize, bytes: usize) -> Work {
    Work {
        ask: Ask::Own(Instruction {
            head: String::new(),
            tail: String::new(),
            rule: Rule::Regex(LONG_ANSWER.into()),
            max_tokens: WRITTEN,
        }),
        client: number as u64,
        ..engine.work(0, &text(number, bytes))
    }
}

/// How long a text may be that fits: found by one that does not.
fn longest(engine: &mut Engine, context: u32) -> usize {
    let mut bytes = context as usize * 16;
    for number in 0.. {
        let work = long(engine, number, bytes);
        match engine.answer(work) {
            Ok(_) => return bytes,
            Err(Failure::Overflow { tokens, context }) => {
                let share = f64::from(context) / f64::from(tokens);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "some kilobytes"
                )]
                let fits = (bytes as f64 * share * 0.97) as usize;
                bytes = fits;
            }
            Err(why) => panic!("{why:?}"),
        }
    }
    unreachable!("each round is shorter")
}

/// Works an engine until nothing in it grows any more.
pub(crate) fn fill(engine: &mut Engine, sequences: u16, package: Option<&Package>) {
    let bytes = longest(engine, engine.facts.context_tokens);
    for round in 1..=ROUNDS {
        let works = (0..usize::from(sequences)).map(|no| (no + 1) * 1000 + round);
        let works: Vec<Work> = works.map(|no| long(engine, no, bytes)).collect();
        for result in engine.answers(works) {
            if let Err(why) = result {
                assert!(matches!(why, Failure::Overflow { .. }), "{why:?}");
            }
        }
    }
    let Some(package) = package else { return };
    let Some(gate) = package.gate() else { return };
    let tasks = &package.manifest().tasks;
    let place = |name: &str| tasks.iter().position(|task| task.name == name).unwrap();
    for chunk in gate.items.chunks(usize::from(sequences)) {
        let works = chunk
            .iter()
            .map(|item| engine.work(place(&item.task), &item.input));
        let works: Vec<Work> = works.collect();
        for result in engine.answers(works) {
            result.unwrap();
        }
    }
}
