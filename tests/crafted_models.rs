//! Model files made to hurt whoever reads them. The engine that reads one may refuse it or die of
//! it; whatever it does, the engine beside it goes on answering, and no file has changed.
//!
//! The service's own reader of headers keeps most of these away from llama.cpp. Here they are put
//! before it all the same, as if that reader had been fooled.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/gguf.rs"]
#[allow(dead_code, reason = "each test binary takes what it needs")]
mod gguf;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use engine::{Engine, bundled, instructions, model, options};
use gguf::TinyGguf;
use lineside::engine::protocol::Load;

/// Changed bytes of a header, in files of each kind.
const FUZZED: u64 = 24;
/// And how many at most in one.
const FLIPS: u64 = 4;

/// What came of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Served,
    Refused,
    Died,
}

/// An engine that serves meanwhile, and a folder for the files.
struct Scene {
    folder: PathBuf,
    beside: Engine,
    right: String,
}

const ASKED: &str = "CNC-07 spindle vibration 9.8 mm/s rising";

impl Scene {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("crafted-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let mut beside = Engine::start(options());
        let work = beside.work(0, ASKED);
        let right = beside.answer(work).unwrap().text;
        Self {
            folder,
            beside,
            right,
        }
    }

    /// Puts a file before an engine of its own, and one question, if it is served.
    fn read(&mut self, name: &str, bytes: &[u8]) -> End {
        let path = self.folder.join("crafted.gguf");
        fs::write(&path, bytes).unwrap();
        let loaded = Engine::load(Load {
            model: path.to_string_lossy().into_owned(),
            adapter: None,
            draft: None,
            options: options(),
            instructions: instructions(&bundled()),
        });
        let end = match loaded {
            Ok(mut engine) => {
                let work = engine.work(0, ASKED);
                engine.begin(work);
                // Nonsense for an answer is no harm; nor is an end.
                while let Some(heard) = engine.hear() {
                    use lineside::engine::protocol::FromEngine::{Done, Failed};
                    if matches!(heard, Done(_) | Failed { .. }) {
                        break;
                    }
                }
                End::Served
            }
            Err(why) if why == "it died" => End::Died,
            Err(_) => End::Refused,
        };
        println!("{name}: {end:?}");
        let work = self.beside.work(0, ASKED);
        let answer = self.beside.answer(work).unwrap().text;
        assert_eq!(answer, self.right, "{name}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
        let files = fs::read_dir(&self.folder).unwrap().count();
        assert_eq!(files, 1, "{name} left something behind");
        end
    }
}

fn sound() -> Vec<u8> {
    fs::read(model(&bundled())).unwrap()
}

fn find(bytes: &[u8], what: &str) -> usize {
    let found = (bytes.windows(what.len())).position(|it| it == what.as_bytes());
    found.unwrap() + what.len()
}

fn number(bytes: &[u8], at: usize) -> usize {
    let it: [u8; 8] = bytes[at..at + 8].try_into().unwrap();
    usize::try_from(u64::from_le_bytes(it)).unwrap()
}

/// Where the texts of a list stand, by its key.
fn texts(bytes: &[u8], key: &str) -> Vec<Range<usize>> {
    let mut at = find(bytes, key) + 8; // the kinds of the list and of what is in it
    let count = number(bytes, at);
    at += 8;
    let text = |_| {
        let begin = at + 8;
        at = begin + number(bytes, at);
        begin..at
    };
    (0..count).map(text).collect()
}

#[test]
fn a_header_with_changed_bytes_harms_nobody_else() {
    let mut scene = Scene::new("fuzzed");
    let sound = sound();
    let header = find(&sound, "output_norm.weight").min(sound.len());
    let mut ends = Vec::new();
    for seed in 0..FUZZED {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = sound.clone();
        // Most of a header are tokens; what counts stands in its first part.
        let reach = if seed % 2 == 0 { 4096 } else { header };
        for _ in 0..=seed % FLIPS {
            bytes[random.usize(4..reach)] = random.u8(..);
        }
        ends.push(scene.read(&format!("seed {seed}"), &bytes));
    }
    assert!(ends.contains(&End::Refused), "{ends:?}");
}

#[test]
fn counts_beyond_all_measure_harm_nobody_else() {
    let mut scene = Scene::new("counts");
    let sound = sound();
    let tokens = find(&sound, "tokenizer.ggml.tokens");
    let places = [
        ("tensors", 8),
        ("pairs", 16),
        ("the first key's length", 24),
        ("tokens", tokens + 8),
        ("the first token's length", tokens + 16),
    ];
    for (name, at) in places {
        for count in [1 << 31, 1 << 40, 1 << 60, u64::MAX] {
            let mut bytes = sound.clone();
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            let end = scene.read(&format!("{count} {name}"), &bytes);
            assert_ne!(end, End::Served, "{count} {name}");
        }
    }
}

#[test]
fn tensors_on_top_of_each_other_harm_nobody_else() {
    let mut scene = Scene::new("overlapping");
    // Behind a tensor's name: its dimensions, its shape, its kind, and where it begins.
    for offset in [0, 32, 1 << 20, 1 << 40, u64::MAX - 31] {
        let mut bytes = sound();
        for name in [
            "output_norm.weight",
            "blk.0.attn_norm.weight",
            "blk.1.ffn_norm.weight",
        ] {
            let at = find(&bytes, name);
            let sides = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let place = at + 4 + 8 * usize::try_from(sides).unwrap() + 4;
            bytes[place..place + 8].copy_from_slice(&offset.to_le_bytes());
        }
        scene.read(&format!("all at {offset}"), &bytes);
    }
}

#[test]
fn merges_that_go_round_in_circles_harm_nobody_else() {
    let mut scene = Scene::new("merges");
    let sound = sound();
    let merges = texts(&sound, "tokenizer.ggml.merges");
    // Each pair the other way round: "ab c" becomes "c ab".
    let mut turned = sound.clone();
    for place in &merges {
        let text = &sound[place.clone()];
        if let Some(gap) = text.iter().skip(1).position(|byte| *byte == b' ') {
            let (left, right) = (&text[..=gap], &text[gap + 2..]);
            turned[place.clone()].copy_from_slice(&[right, b" ", left].concat());
        }
    }
    scene.read("turned", &turned);
    // All the same, and none with a gap.
    let mut blank = sound.clone();
    for place in &merges {
        blank[place.clone()].fill(b'a');
    }
    scene.read("without gaps", &blank);
    let mut gaps = sound;
    for place in merges {
        gaps[place].fill(b' ');
    }
    scene.read("nothing but gaps", &gaps);
}

#[test]
fn a_file_that_ends_too_early_harms_nobody_else() {
    let mut scene = Scene::new("short");
    let sound = sound();
    for length in [0, 3, 4, 12, 24, 100, 5000, sound.len() / 2, sound.len() - 1] {
        let end = scene.read(&format!("{length} bytes"), &sound[..length]);
        assert_ne!(end, End::Served, "{length} bytes");
    }
}

#[test]
fn a_network_of_one_tensor_harms_nobody_else() {
    let mut scene = Scene::new("tiny");
    for architecture in ["llama", "mamba", "gpt2", "clip", "no-such-thing", ""] {
        let end = scene.read(architecture, &TinyGguf::new(architecture).bytes());
        assert_ne!(end, End::Served, "{architecture}");
    }
    let zero = TinyGguf::new("llama")
        .number("llama.block_count", u32::MAX)
        .number("llama.embedding_length", 0)
        .number("llama.attention.head_count", 0);
    assert_ne!(scene.read("zeros", &zero.bytes()), End::Served);
}
