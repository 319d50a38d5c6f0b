//! A model that keeps one state instead of a cache of tokens: it cannot forget the end of what it
//! has read. The real engine runs a small one with made-up weights and the bundled tokenizer.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use lineside::engine::protocol::{
    Allowance, Done, FromEngine, Guessing, Instruction, Keeping, Load, Options, Rule, ToEngine,
};

use gguf::TinyGguf;
use support::{Engine, bundled, options};

#[path = "support/gguf.rs"]
#[allow(dead_code)]
mod gguf;
#[path = "support/engine.rs"]
mod support;

/// Sides of the network: wide enough that a pass takes a while.
const WIDTH: u64 = 128;
const INNER: u64 = 2 * WIDTH;
const STATES: u64 = 16;
const KERNEL: u64 = 4;
const STEP_RANK: u64 = 8;
const BLOCKS: u64 = 4;
/// The kinds of the format.
const FLOAT: u32 = 6;
const F32: u32 = 0;

/// Reads a model file's pairs, to take the tokenizer over.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn length(&mut self) -> usize {
        usize::try_from(u64::from_le_bytes(self.take(8).try_into().unwrap())).unwrap()
    }

    fn text(&mut self) -> &'a str {
        let length = self.length();
        std::str::from_utf8(self.take(length)).unwrap()
    }

    /// A value of this kind, as it stands there.
    fn value(&mut self, kind: u32) -> &'a [u8] {
        let start = self.0;
        match kind {
            0 | 1 | 7 => _ = self.take(1),
            2 | 3 => _ = self.take(2),
            4..=6 => _ = self.take(4),
            8 => _ = self.text(),
            9 => {
                let (kind, count) = (self.u32(), self.length());
                for _ in 0..count {
                    self.value(kind);
                }
            }
            _ => _ = self.take(8),
        }
        &start[..start.len() - self.0.len()]
    }
}

/// Numbers that are the same in each run, from -0.5 to 0.5 times a scale.
struct Dice(u64);

impl Dice {
    fn next(&mut self, scale: f32) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        #[expect(clippy::cast_precision_loss, reason = "24 bits")]
        let unit = (self.0 >> 40) as f32 / (1_u64 << 24) as f32;
        (unit - 0.5) * scale
    }
}

struct Weights {
    file: TinyGguf,
    dice: Dice,
}

impl Weights {
    fn add(&mut self, name: &str, shape: &[u64], number: impl Fn(&mut Dice) -> f32) {
        let offset = self.file.data.len() as u64;
        self.file
            .tensors
            .push((name.into(), shape.to_vec(), F32, offset));
        for _ in 0..shape.iter().product() {
            let number = number(&mut self.dice);
            self.file.data.extend(number.to_le_bytes());
        }
        let padded = self.file.data.len().next_multiple_of(32);
        self.file.data.resize(padded, 0);
    }
}

/// Each engine has a file of its own, which goes as soon as it is loaded.
static FILES: AtomicU32 = AtomicU32::new(0);

/// A Mamba with the bundled model's tokenizer.
fn recurrent_model() -> PathBuf {
    let bytes = std::fs::read(support::model(&bundled())).unwrap();
    let mut reader = Reader(&bytes[16..]);
    let pairs = reader.length();
    let number = |value: u64| u32::try_from(value).unwrap();
    let mut file = TinyGguf {
        pairs: Vec::new(),
        tensors: Vec::new(),
        data: Vec::new(),
        ..TinyGguf::new("mamba")
    };
    for _ in 0..pairs {
        let (key, kind) = (reader.text(), reader.u32());
        let value = reader.value(kind);
        if key.starts_with("tokenizer.") {
            file = file.pair(key, kind, value);
        }
    }
    let words = bundled_vocabulary();
    let file = file
        .text("general.architecture", "mamba")
        .text("general.name", "made up")
        .number("mamba.context_length", 1 << 16)
        .number("mamba.embedding_length", number(WIDTH))
        .number("mamba.feed_forward_length", 0)
        .number("mamba.block_count", number(BLOCKS))
        .number("mamba.attention.head_count", 0)
        .number("mamba.ssm.conv_kernel", number(KERNEL))
        .number("mamba.ssm.inner_size", number(INNER))
        .number("mamba.ssm.state_size", number(STATES))
        .number("mamba.ssm.time_step_rank", number(STEP_RANK))
        .pair(
            "mamba.attention.layer_norm_rms_epsilon",
            FLOAT,
            &1e-5_f32.to_le_bytes(),
        );
    let mut weights = Weights {
        file,
        dice: Dice(7),
    };
    let small = |dice: &mut Dice| dice.next(0.3);
    weights.add("token_embd.weight", &[WIDTH, words], |dice| dice.next(1.0));
    weights.add("output.weight", &[WIDTH, words], |dice| dice.next(1.0));
    weights.add("output_norm.weight", &[WIDTH], |_| 1.0);
    for block in 0..BLOCKS {
        let name = |what: &str| format!("blk.{block}.{what}");
        weights.add(&name("attn_norm.weight"), &[WIDTH], |_| 1.0);
        weights.add(&name("ssm_in.weight"), &[WIDTH, 2 * INNER], small);
        weights.add(&name("ssm_conv1d.weight"), &[KERNEL, INNER], small);
        weights.add(&name("ssm_conv1d.bias"), &[INNER], small);
        weights.add(
            &name("ssm_x.weight"),
            &[INNER, STEP_RANK + 2 * STATES],
            |dice| dice.next(1.0),
        );
        weights.add(&name("ssm_dt.weight"), &[STEP_RANK, INNER], small);
        // Short steps: what it read some dozen tokens ago is still felt.
        weights.add(&name("ssm_dt.bias"), &[INNER], |_| -3.0);
        // The state fades: these are negative.
        weights.add(&name("ssm_a"), &[STATES, INNER], |dice| {
            dice.next(0.5) - 0.5
        });
        weights.add(&name("ssm_d"), &[INNER], |_| 1.0);
        weights.add(&name("ssm_out.weight"), &[INNER, WIDTH], small);
    }
    let file = FILES.fetch_add(1, Ordering::Relaxed);
    let name = format!("recurrent-{}-{file}.gguf", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, weights.file.bytes()).unwrap();
    path
}

fn bundled_vocabulary() -> u64 {
    let package = bundled();
    let (_, header) = package.variants().next().unwrap();
    header.vocabulary
}

/// The engine with that model and one instruction.
fn engine(options: Options) -> Engine {
    let path = recurrent_model();
    let engine = Engine::load(Load {
        model: path.to_string_lossy().into_owned(),
        adapter: None,
        draft: None,
        options,
        instructions: vec![Instruction {
            head: format!(
                "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n",
                "The press stops when its guard is open. ".repeat(20)
            ),
            tail: "<|im_end|>\n<|im_start|>assistant\n".into(),
            rule: Rule::Text,
            max_tokens: 64,
        }],
    });
    let _ = std::fs::remove_file(path);
    engine.unwrap()
}

fn roomy() -> Options {
    Options {
        context_tokens: 4096,
        cache_tokens: 16_384,
        sequences: 2,
        ..options()
    }
}

/// Long enough to be stopped in the middle of being read. What differs stands at the end: such a
/// network forgets.
fn input(n: usize) -> String {
    let noise = "spindle 7 is loud and hot, oil at 3 bar. ".repeat(40);
    let words = ["press", "robot arm", "gate 4", "forklift", "label", "pump"];
    format!("{noise}{} {}", words[n % words.len()], n * 131)
}

fn allow(engine: &mut Engine, sequences: u16) {
    engine.say(&ToEngine::Allow(Allowance {
        sequences,
        threads: None,
        rest_permille: 0,
        guessing: Guessing::default(),
        keeping: Keeping::default(),
    }));
}

const ROUNDS: usize = 6;

#[test]
fn a_pass_that_is_stopped_again_and_again_changes_no_answer() {
    let mut calm = engine(roomy());
    let expected: Vec<Done> = (0..ROUNDS)
        .map(|n| {
            let work = calm.work(0, &input(n));
            calm.answer(work).unwrap()
        })
        .collect();
    assert!(
        expected
            .iter()
            .skip(1)
            .all(|done| done.text != expected[0].text)
    );
    let mut shaken = engine(roomy());
    for (n, expected) in expected.iter().enumerate() {
        let work = shaken.work(0, &input(n));
        let no = shaken.begin(work);
        // Stopped while it reads the beginning, the prompt, and while it writes; each time a sign
        // of life passes, so that some of the work is done in between.
        let mut done = None;
        for _ in 0..8 {
            for sequences in [0, 2] {
                allow(&mut shaken, sequences);
            }
            while done.is_none() {
                match shaken.hear().expect("it is alive") {
                    FromEngine::Done(it) => done = Some(it),
                    FromEngine::Beat(_) => break,
                    FromEngine::Began(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        let done = done.map_or_else(|| shaken.next_end().1.unwrap(), |done| *done);
        assert_eq!(done.no, no);
        assert_eq!(
            (&done.text, done.finish),
            (&expected.text, expected.finish),
            "{n}"
        );
    }
}

#[test]
fn its_saved_beginning_warms_a_new_engine_and_changes_no_answer() {
    let mut first = engine(roomy());
    let work = first.work(0, &input(0));
    let fresh = first.answer(work).unwrap();
    let pieces = first.saved(0).unwrap();
    let mut second = engine(roomy());
    for piece in pieces {
        second.say(&ToEngine::RestorePrefix(piece));
    }
    let work = second.work(0, &input(0));
    let restored = second.answer(work).unwrap();
    assert!(restored.tokens.cached > 0);
    assert_eq!(restored.text, fresh.text);
}
