//! Packages that are right, and one fault at a time.

#[path = "../../tests/support/gguf.rs"]
pub(crate) mod made;

mod adapter;
mod folder;
mod gate;
mod make;
mod manifest;
mod model;
mod notes;
mod recalibrate;
mod sealed;
mod tasks;

use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use made::TinyGguf;

const GRAMMAR: &str = "root ::= \"{\" [^}]* \"}\"\n";

/// A folder with a good package in it, gone after the test.
struct Bench(PathBuf);

impl Bench {
    fn empty() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lineside-package-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("grammars")).unwrap();
        Self(folder)
    }

    fn new() -> Self {
        let bench = Self::empty();
        bench.write("tiny.gguf", &TinyGguf::new("llama").bytes());
        bench.write("grammars/triage.gbnf", GRAMMAR.as_bytes());
        bench.write("gate.jsonl", suite(2).as_bytes());
        bench.write(MANIFEST, bench.manifest().as_bytes());
        bench
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    /// Size and digest of a file, as a manifest lists them.
    fn listed(&self, name: &str) -> String {
        let bytes = fs::read(self.0.join(name)).unwrap();
        format!(
            "bytes = {}\nsha256 = \"{}\"\n",
            bytes.len(),
            Digest::of(&bytes)
        )
    }

    fn manifest(&self) -> String {
        format!(
            r#"format = 1
name = "tiny"
seq = 1
version = "1.0"
description = "A tiny thing"
license = "MIT"
languages = ["en", "de"]
data_digest = "sha256:{digest}"

[runtime]
lineside = "0.1.0"
architecture = "llama"
context_tokens = 512
chat_template = "chatml"

[[model]]
file = "tiny.gguf"
quantization = "Q8_0"
{model}
[[file]]
path = "grammars/triage.gbnf"
{grammar}
[[file]]
path = "gate.jsonl"
{suite}
[[task]]
name = "triage"
prompt_version = "1"
system = "triage"
answer = {{ grammar = "grammars/triage.gbnf" }}
max_tokens = 48
threshold = 0.65
needs_person_field = "needs_human"

[[task]]
name = "classify"
prompt_version = "2"
system = "classify"
answer = {{ choices = ["press", "lathe"] }}
max_tokens = 4
threshold = 0.5

[[calibration]]
task = "triage"
quantization = "Q8_0"
method = "isotonic"
points = [[0.0, 0.1], [0.5, 0.4], [1, 0.99]]

[bars]
suite = "gate.jsonl"
memory_bytes = 67108864
latency_ms = 250
calibration_error = 0.08

[[bars.task]]
name = "triage"
accuracy = 0.9
"#,
            digest = "ab".repeat(32),
            model = self.listed("tiny.gguf"),
            grammar = self.listed("grammars/triage.gbnf"),
            suite = self.listed("gate.jsonl"),
        )
    }

    fn open(&self) -> Result<Package, Faults> {
        Package::open(&self.0)
    }

    /// The only fault.
    #[track_caller]
    fn fault(&self) -> String {
        let faults = self.open().unwrap_err();
        assert_eq!(faults.list.len(), 1, "{faults}");
        faults.list[0].to_string()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn suite(pairs: usize) -> String {
    let mut text = String::new();
    for index in 0..pairs {
        let _ = writeln!(
            text,
            r#"{{"id":"t-{index}","task":"triage","input":"hums","expect":"{{\"needs_human\":true}}","kind":"iid"}}"#
        );
        let _ = writeln!(
            text,
            r#"{{"id":"c-{index}","task":"classify","input":"hums","expect":"lathe"}}"#
        );
    }
    text
}

/// Reads a manifest that differs in one place from a good one.
#[track_caller]
fn changed(from: &str, to: &str) -> Result<Sheet, Faults> {
    let bench = Bench::new();
    let text = bench.manifest();
    assert!(text.contains(from), "{from}");
    read_manifest(&text.replacen(from, to, 1), Path::new("m.toml"))
}

/// Asserts that the change has one fault, about this key, that wants this.
#[track_caller]
fn faulty(from: &str, to: &str, key: &str, wants: &str) {
    let faults = changed(from, to).expect_err(to);
    assert_eq!(faults.list.len(), 1, "{to}: {faults}");
    let fault = &faults.list[0];
    assert_eq!(fault.key, key, "{to}");
    assert!(fault.wanted.contains(wants), "{to}: {}", fault.wanted);
    assert!(fault.place.as_ref().is_some_and(|place| place.line > 0));
}

/// The same for one more listed file at this path.
#[track_caller]
fn faulty_file(path: &str, wants: &str) {
    let file = format!(
        "[[file]]\npath = \"{path}\"\nbytes = 1\nsha256 = \"{}\"\n[bars]",
        "0".repeat(64)
    );
    faulty("[bars]", &file, "file[3].path", wants);
}

#[test]
fn a_good_package_opens_and_every_byte_of_it_is_vouched_for() {
    let bench = Bench::new();
    let package = bench.open().unwrap();
    package.verify().unwrap();
    let (variant, header) = package.variants().next().unwrap();
    assert_eq!(variant.quantization, "Q8_0");
    assert_eq!(header.architecture, "llama");
    assert_eq!(package.model_path(variant), bench.0.join("tiny.gguf"));
    assert_eq!(package.wording(), Wording::Family(Template::ChatMl));
    let triage = package.task("triage").unwrap();
    assert_eq!(package.rule(triage), Rule::Grammar(GRAMMAR));
    let classify = package.task("classify").unwrap();
    let choices = ["press".to_owned(), "lathe".to_owned()];
    assert_eq!(package.rule(classify), Rule::Choices(&choices));
    let curve = package.calibration("triage", "Q8_0").unwrap();
    assert!((curve.probability(0.25) - 0.25).abs() < 1e-12);
    assert_eq!(package.calibration("triage", "F16"), None);
    assert_eq!(package.gate().unwrap().count("triage"), 2);
}

fn whats(notes: &[Note]) -> Vec<&str> {
    notes.iter().map(|note| note.what.as_str()).collect()
}
