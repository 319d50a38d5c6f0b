//! The ways in which an engine can be run, and adapters, with the real bundled model: the cache in
//! 16, 8 and 4 bit, attention in one go or not, and what a package's adapter does to the answers.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use lineside::engine::exam::{ExamError, Question, Sitting};
use lineside::engine::order::Book;
use lineside::engine::process::{Launch, SUBCOMMAND};
use lineside::engine::protocol::{Done, Flash, KvType, Load, Mapping, Options, Without};
use lineside::package::gguf::{self, Tensors};
use lineside::package::{Digest, MANIFEST, Package, gate};

use made::TinyGguf;

#[allow(dead_code, reason = "other tests take the rest")]
#[path = "support/gguf.rs"]
mod made;

fn bundled_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage")
}

fn open(folder: &Path) -> Package {
    Package::open(folder).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The book of the smallest file.
fn book(package: &Package) -> Book {
    let (variant, _) = package.variants().last().unwrap();
    Book::of(package, variant)
}

/// One conversation at a time: what differs is then by the option alone.
fn options(kv_type: KvType, flash_attention: Flash) -> Options {
    Options {
        context_tokens: 512,
        cache_tokens: 8192,
        sequences: 1,
        queue: 4,
        threads: Some(1),
        batch_tokens: 512,
        pass_ms: 25,
        gpu_layers: 0,
        kv_type,
        flash_attention,
        mapping: Mapping::Read,
        without: Without::default(),
    }
}

fn sit(load: Load) -> Result<Sitting, ExamError> {
    let launch = Launch {
        program: env!("CARGO_BIN_EXE_lineside").into(),
        arguments: vec![SUBCOMMAND.into()],
        ..Launch::default()
    };
    Sitting::open(&launch, load)
}

/// Every so many items of the suite, all tasks among them.
fn questions(package: &Package, book: &Book, every: usize) -> Vec<Question> {
    let items = package.gate().unwrap().items.iter().step_by(every);
    let question = |item: &gate::Item| book.question(&item.task, &item.input).unwrap().0;
    items.map(question).collect()
}

fn answers(load: Load, questions: &[Question]) -> Vec<Done> {
    let mut sitting = sit(load).unwrap();
    let ends = sitting.ask(questions.iter().cloned()).unwrap();
    ends.into_iter().map(Result::unwrap).collect()
}

/// What an answer says, and every figure in it.
fn said(done: &Done) -> (&str, Vec<(u32, u32)>, Vec<u32>) {
    let free = done.free.iter();
    let free = free.map(|it| (it.logprob.to_bits(), it.entropy.to_bits()));
    let choices = done.choices.iter().map(|it| it.to_bits());
    (&done.text, free.collect(), choices.collect())
}

fn differing(some: &[Done], others: &[Done], of: impl Fn(&Done, &Done) -> bool) -> usize {
    some.iter()
        .zip(others)
        .filter(|(one, other)| of(one, other))
        .count()
}

/// Answers that may differ from those of a cache in 16 bit without attention in one go, in a
/// hundred. Measured over the suite of 420: one of each way in 16 and 8 bit, three in 4 bit; the
/// rest is for other processors, which round otherwise.
const FEW: usize = 2;
const SOME: usize = 5;

#[test]
fn every_kind_of_cache_and_attention_answers_and_most_answers_are_the_same() {
    let package = open(&bundled_folder());
    let book = book(&package);
    let questions = questions(&package, &book, 1);
    let way = |kv_type, flash| book.load(&options(kv_type, flash), None);
    let usual = answers(way(KvType::F16, Flash::Off), &questions);
    for (kv_type, flash, most) in [
        (KvType::F16, Flash::On, FEW),
        (KvType::F16, Flash::Auto, FEW),
        (KvType::Q8_0, Flash::On, FEW),
        (KvType::Q8_0, Flash::Auto, FEW),
        (KvType::Q4_0, Flash::On, SOME),
    ] {
        let other = answers(way(kv_type, flash), &questions);
        let texts = differing(&usual, &other, |one, other| one.text != other.text);
        let figures = differing(&usual, &other, |one, other| said(one) != said(other));
        println!("{kv_type:?} {flash:?}: {texts} texts differ, {figures} figures");
        let bound = questions.len() * most / 100;
        assert!(
            texts <= bound,
            "{kv_type:?} {flash:?}: {texts} of {}",
            questions.len()
        );
        // The option did arrive: another cache is computed with otherwise.
        assert!(
            kv_type == KvType::F16 || figures > questions.len() / 2,
            "{figures}"
        );
    }
}

#[test]
fn a_small_cache_without_attention_in_one_go_is_refused_with_the_reason() {
    let package = open(&bundled_folder());
    let book = book(&package);
    for kv_type in [KvType::Q8_0, KvType::Q4_0] {
        let error = sit(book.load(&options(kv_type, Flash::Off), None)).unwrap_err();
        let ExamError::Unloadable(why) = error else {
            panic!("{error}");
        };
        assert!(why.contains("flash attention"), "{why}");
    }
}

// ---- adapters

const F32: u32 = 0;
const MATRIX: &str = "blk.2.attn_q.weight";
const RANK: u64 = 2;

/// An adapter of one matrix: random halves of this spread.
fn adapter(architecture: &str, matrix: &str, sides: [u64; 2], spread: f32) -> TinyGguf {
    let mut random = fastrand::Rng::with_seed(7);
    let mut made = TinyGguf {
        version: 3,
        pairs: Vec::new(),
        tensors: Vec::new(),
        data: Vec::new(),
    }
    .text("general.architecture", architecture)
    .text("general.type", "adapter")
    .text("adapter.type", "lora");
    let halves = [
        (".lora_a", [sides[0], RANK], 1.0),
        (".lora_b", [RANK, sides[1]], spread),
    ];
    for (half, shape, spread) in halves {
        let offset = made.data.len() as u64;
        made.tensors
            .push((format!("{matrix}{half}"), shape.to_vec(), F32, offset));
        for _ in 0..shape.iter().product() {
            let weight: f32 = (random.f32() * 2.0 - 1.0) * spread;
            made.data.extend(weight.to_le_bytes());
        }
    }
    made
}

/// A folder of its own, gone after the test.
struct Folder(PathBuf);

impl Folder {
    /// The bundled package with this adapter.
    fn with(name: &str, adapter: &TinyGguf, scale: f32) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("adapter-{name}"));
        let _ = fs::remove_dir_all(&folder); // of a run that was broken off
        copy(&bundled_folder(), &folder);
        let bytes = adapter.bytes();
        fs::write(folder.join("own.gguf"), &bytes).unwrap();
        let mut manifest = fs::read_to_string(folder.join(MANIFEST)).unwrap();
        write!(
            manifest,
            "\n[adapter]\nfile = \"own.gguf\"\nbytes = {}\nsha256 = \"{}\"\nscale = {scale:?}\n",
            bytes.len(),
            Digest::of(&bytes)
        )
        .unwrap();
        fs::write(folder.join(MANIFEST), manifest).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The sides of a matrix of the bundled model.
fn sides(matrix: &str) -> [u64; 2] {
    let package = open(&bundled_folder());
    let (variant, _) = package.variants().last().unwrap();
    let file = fs::File::open(package.model_path(variant)).unwrap();
    let bytes = file.metadata().unwrap().len();
    let tensors: Tensors = gguf::read_tensors(std::io::BufReader::new(file), bytes).unwrap();
    let shape = tensors[matrix].shape;
    [shape[0], shape[1]]
}

#[test]
fn an_adapter_of_a_package_changes_the_answers_by_its_scale_and_its_weights() {
    let asked = |folder: &Path| {
        let package = open(folder);
        package.verify().unwrap_or_else(|faults| panic!("{faults}"));
        let book = book(&package);
        let load = book.load(&options(KvType::F16, Flash::Auto), None);
        (
            answers(load, &questions(&package, &book, 7)),
            book.weights().to_owned(),
        )
    };
    let (without, plain_weights) = asked(&bundled_folder());
    let strong = adapter("llama", MATRIX, sides(MATRIX), 0.5);
    let nothing = adapter("llama", MATRIX, sides(MATRIX), 0.0);
    let cases = [
        ("scale-0", &strong, 0.0, true),
        ("zeros", &nothing, 1.0, true),
        ("strong", &strong, 1.0, false),
    ];
    for (name, adapter, scale, is_same) in cases {
        let folder = Folder::with(name, adapter, scale);
        let (with, weights) = asked(&folder.0);
        let differing = differing(&without, &with, |one, other| said(one) != said(other));
        println!("{name}: {differing} of {} differ", without.len());
        if is_same {
            assert_eq!(differing, 0, "{name}");
        } else {
            assert!(differing > without.len() / 2, "{name}: {differing}");
        }
        // What was computed with one of them is no answer of another.
        assert_ne!(weights, plain_weights);
    }
}

#[test]
fn an_adapter_for_something_else_is_refused_by_the_package_and_by_the_engine() {
    let [inputs, outputs] = sides(MATRIX);
    let cases = [
        (
            "architecture",
            adapter("qwen2", MATRIX, [inputs, outputs], 1.0),
            "qwen2",
        ),
        (
            "shape",
            adapter("llama", MATRIX, [inputs, outputs + 32], 1.0),
            "256 by 256",
        ),
        (
            "matrix",
            adapter("llama", "blk.99.attn_q.weight", [inputs, outputs], 1.0),
            "blk.99",
        ),
        ("model", TinyGguf::new("llama"), "general.type"),
    ];
    let package = open(&bundled_folder());
    let book = book(&package);
    for (name, adapter, words) in cases {
        let folder = Folder::with(&format!("odd-{name}"), &adapter, 1.0);
        let fault = Package::open(&folder.0).unwrap_err().to_string();
        assert!(
            fault.contains(words) && fault.contains("own.gguf"),
            "{fault}"
        );
        let file = folder.0.join("own.gguf").display().to_string();
        let load = Load {
            adapter: Some((file, 1.0)),
            ..book.load(&options(KvType::F16, Flash::Auto), None)
        };
        let error = sit(load).unwrap_err();
        let ExamError::Unloadable(why) = error else {
            panic!("{name}: {error}");
        };
        assert!(why.contains("adapter"), "{why}");
    }
}
