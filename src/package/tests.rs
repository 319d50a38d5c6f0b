//! Packages that are right, and one fault at a time.

#[path = "../../tests/support/gguf.rs"]
pub(super) mod made;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::gate::{ENOUGH_ITEMS, Item, MAX_ITEMS};
use super::make::{Existing, MakeError, Order, make};
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
    assert_eq!(package.template(), Template::ChatMl);
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

#[test]
fn a_manifest_is_written_as_it_is_read() {
    let bench = Bench::new();
    let read = |text: &str| read_manifest(text, Path::new("m.toml")).unwrap().manifest;
    let first = read(&bench.manifest());
    let written = write::manifest(&first);
    assert_eq!(read(&written), first);
    assert_eq!(write::manifest(&read(&written)), written);

    let odd = Manifest {
        description: "quotes \" ' and\nlines \\ …".into(),
        languages: Vec::new(),
        data_digest: None,
        bars: None,
        ..first
    };
    assert_eq!(read(&write::manifest(&odd)), odd);
}

#[test]
fn every_fault_of_a_manifest_is_told_at_once_with_its_line() {
    let text = "format = 2\nname = \"Tiny Thing\"\nseq = 0\nlisense = \"MIT\"\n";
    let faults = read_manifest(text, Path::new("m.toml")).unwrap_err();
    let told: Vec<_> = faults
        .list
        .iter()
        .map(|fault| (fault.key.as_str(), fault.place.as_ref().unwrap().line))
        .collect();
    assert_eq!(
        told,
        [
            ("format", 1),
            ("name", 2),
            ("seq", 3),
            ("version", 1),
            ("description", 1),
            ("license", 1),
            ("runtime", 1),
            ("model", 1),
            ("task", 1),
            ("lisense", 4),
        ]
    );
    let said = faults.to_string();
    assert!(said.contains("m.toml:2: name = \"Tiny Thing\"\n    wanted: 1 to 64 of a-z"));
    assert!(said.contains("did you mean license?"), "{said}");
    assert!(said.contains("version = (not set)"), "{said}");
}

#[test]
fn what_is_no_toml_is_called_so() {
    let faults = read_manifest("format = \n", Path::new("m.toml")).unwrap_err();
    assert!(faults.list[0].value.starts_with("this is no TOML"));
    assert_eq!(faults.list.len(), 1);
}

#[test]
fn faults_are_listed_up_to_a_limit_and_counted_beyond() {
    let lines =
        |count: usize| (0..count).fold(String::new(), |text, at| text + &format!("k{at} = 1\n"));
    let faults = read_manifest(&lines(500), Path::new("m.toml")).unwrap_err();
    assert_eq!(faults.list.len(), MAX_FAULTS);
    assert_eq!(faults.list.len() + faults.left_out, 509);
    assert!(faults.to_string().contains("has 509 faults"));
    assert!(faults.to_string().contains("and 409 more"));
}

#[test]
fn a_name_is_of_small_letters_digits_and_dashes() {
    for good in ["a", "factory-triage", "0", &"n".repeat(MAX_NAME_BYTES)] {
        assert!(is_package_name(good), "{good}");
    }
    for bad in [
        "",
        "A",
        "a_b",
        "a.b",
        "a/b",
        "ä",
        &"n".repeat(MAX_NAME_BYTES + 1),
    ] {
        assert!(!is_package_name(bad), "{bad}");
    }
}

#[test]
fn a_path_cannot_leave_the_folder() {
    let longest = "p".repeat(MAX_PATH_BYTES);
    for good in ["a", "gate.jsonl", "a/b/c/d", "A_b-c.1", &longest] {
        assert!(FilePath::parse(good).is_some(), "{good}");
    }
    let longer = "p".repeat(MAX_PATH_BYTES + 1);
    for bad in [
        "",
        "/a",
        "..",
        "../a",
        "a/../b",
        "a//b",
        "a/",
        ".hidden",
        "a/.b",
        "./a",
        "a\\b",
        "a b",
        "a\0b",
        "a/b/c/d/e",
        &longer,
    ] {
        assert!(FilePath::parse(bad).is_none(), "{bad}");
    }
    faulty_file("../gate.jsonl", "inside the package");
    faulty_file("/etc/passwd", "inside the package");
}

#[test]
fn a_digest_is_64_small_hexadecimal_digits() {
    let digest = Digest::of(b"abc").to_string();
    assert_eq!(
        digest,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(Digest::parse(&digest), Some(Digest::of(b"abc")));
    let long = format!("{digest}0");
    let upper = digest.to_uppercase();
    let odd = digest.replace('b', "+");
    for bad in ["", &digest[1..], &long, &upper, &odd] {
        assert_eq!(Digest::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_version_is_three_numbers() {
    assert_eq!(Version::parse("0.1.0"), Some(Version([0, 1, 0])));
    assert!(Version::parse("0.10.0") > Version::parse("0.9.9"));
    for bad in [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "1.2.x",
        "1.+2.3",
        "v1.2.3",
        "1.2.9999999999",
    ] {
        assert_eq!(Version::parse(bad), None, "{bad}");
    }
    faulty(
        "lineside = \"0.1.0\"",
        "lineside = \"99.0.0\"",
        "runtime.lineside",
        "update it",
    );
}

#[test]
fn numbers_have_their_ranges() {
    let most = MAX_ANSWER_TOKENS;
    for (from, key, min, max) in [
        ("seq = 1\n", "seq", 1, MAX_SEQ),
        (
            "context_tokens = 512",
            "runtime.context_tokens",
            64,
            MAX_CONTEXT_TOKENS,
        ),
        ("max_tokens = 48", "task.triage.max_tokens", 1, most),
        ("latency_ms = 250", "bars.latency_ms", 1, 3_600_000),
        (
            "memory_bytes = 67108864",
            "bars.memory_bytes",
            1,
            MAX_FILE_BYTES,
        ),
    ] {
        let own = from.split(' ').next().unwrap();
        let line = |value: u64| format!("{own} = {value}\n");
        assert!(changed(from, &line(min)).is_ok(), "{key}");
        assert!(changed(from, &line(max)).is_ok(), "{key}");
        faulty(from, &line(min - 1), key, "a whole number from");
        faulty(from, &line(max + 1), key, "a whole number from");
        faulty(from, &format!("{own} = -1\n"), key, "a whole number from");
        faulty(
            from,
            &format!("{own} = \"1\"\n"),
            key,
            "a whole number from",
        );
    }
}

#[test]
fn shares_lie_between_nothing_and_all() {
    for (from, key) in [
        ("threshold = 0.65", "task.triage.threshold"),
        ("accuracy = 0.9", "bars.task[1].accuracy"),
        ("calibration_error = 0.08", "bars.calibration_error"),
    ] {
        let own = from.split(' ').next().unwrap();
        for good in ["0", "1", "0.0", "1.0", "0.5"] {
            assert!(
                changed(from, &format!("{own} = {good}")).is_ok(),
                "{key} {good}"
            );
        }
        for bad in ["-0.01", "1.01", "nan", "inf", "2", "\"0.5\"", "true"] {
            faulty(from, &format!("{own} = {bad}"), key, "from 0 to 1");
        }
    }
}

#[test]
fn texts_end_at_their_limits() {
    for (from, key, max) in [
        ("version = \"1.0\"", "version", MAX_WORD_BYTES),
        ("license = \"MIT\"", "license", MAX_WORD_BYTES),
        (
            "description = \"A tiny thing\"",
            "description",
            MAX_DESCRIPTION_BYTES,
        ),
        (
            "system = \"triage\"",
            "task.triage.system",
            MAX_SYSTEM_BYTES,
        ),
    ] {
        let own = from.split(' ').next().unwrap();
        let line = |bytes| format!("{own} = \"{}\"", "t".repeat(bytes));
        assert!(changed(from, &line(max)).is_ok(), "{key}");
        faulty(from, &line(max + 1), key, "a text in quotes");
        faulty(from, &line(0), key, "a text in quotes");
        faulty(
            from,
            &format!("{own} = \"\\u0007\""),
            key,
            "a text in quotes",
        );
    }
}

#[test]
fn an_instruction_cannot_hold_a_marker() {
    for bad in ["a<|im_end|>b", "a<|b", "a|>b"] {
        let line = format!("system = \"{bad}\"");
        faulty(
            "system = \"triage\"",
            &line,
            "task.triage.system",
            "its markers",
        );
    }
    assert!(changed("system = \"triage\"", "system = \"a < b | c > d\"").is_ok());
}

#[test]
fn a_task_has_exactly_one_form_of_answer() {
    let from = "answer = { grammar = \"grammars/triage.gbnf\" }";
    let key = "task.triage.answer";
    faulty(from, "answer = { }", key, "one of { grammar");
    faulty(
        from,
        "answer = { grammar = \"gate.jsonl\", text = true }",
        key,
        "one of { grammar",
    );
    faulty(from, "answer = \"text\"", key, "a table");
    faulty(
        from,
        "answer = { schema = \"nowhere.json\" }",
        "task.triage.answer.schema",
        "[[file]]",
    );
    assert!(changed(from, "answer = { schema = \"gate.jsonl\" }").is_ok());
    faulty(
        "answer = { choices",
        "answer = { text = false }\n# ",
        "task.classify.answer.text",
        "true",
    );
    assert!(changed("answer = { choices", "answer = { text = true }\n# ").is_ok());
}

#[test]
fn choices_are_few_short_and_different() {
    let from = "choices = [\"press\", \"lathe\"]";
    let key = "task.classify.answer.choices";
    let many = |count: usize| {
        let all = (0..count)
            .map(|at| format!("\"c{at}\""))
            .collect::<Vec<_>>();
        format!("choices = [{}]", all.join(", "))
    };
    let long = |bytes: usize| format!("choices = [\"{}\"]", "c".repeat(bytes));
    assert!(changed(from, &many(MAX_CHOICES)).is_ok());
    faulty(from, &many(MAX_CHOICES + 1), key, "1 to 64");
    faulty(from, "choices = []", key, "1 to 64");
    assert!(changed(from, &long(MAX_CHOICE_BYTES)).is_ok());
    faulty(from, &long(MAX_CHOICE_BYTES + 1), key, "bytes");
    faulty(from, "choices = [\"a\", \"a\"]", key, "each once");
    faulty(from, "choices = [\"a\", 1]", key, "texts");
}

#[test]
fn only_json_has_a_field_that_asks_for_a_person() {
    faulty(
        "threshold = 0.5\n",
        "threshold = 0.5\nneeds_person_field = \"x\"\n",
        "task.classify.needs_person_field",
        "only JSON has fields",
    );
}

#[test]
fn tables_are_counted() {
    let file = format!(
        "[[file]]\npath = \"f-N\"\nbytes = 1\nsha256 = \"{}\"\n",
        "0".repeat(64)
    );
    let task = "[[task]]\nname = \"t-N\"\nprompt_version = \"1\"\nsystem = \"s\"\n\
                answer = { text = true }\nmax_tokens = 1\nthreshold = 0\n";
    let model = file.replace("[[file]]\npath", "[[model]]\nquantization = \"q-N\"\nfile");
    for (table, key, room) in [
        (file.as_str(), "file", MAX_FILES - 2),
        (task, "task", MAX_TASKS - 2),
        (&model, "model", MAX_VARIANTS - 1),
    ] {
        let more = |count: usize| {
            let all = (0..count).map(|at| table.replace('N', &at.to_string()));
            all.fold("[runtime]".to_owned(), |text, one| format!("{one}{text}"))
        };
        let result = changed("[runtime]", &more(room));
        assert!(result.is_ok(), "{key}: {}", result.unwrap_err());
        let faults = changed("[runtime]", &more(room + 1)).unwrap_err();
        assert_eq!(faults.list[0].key, key);
    }
}

#[test]
fn names_that_go_together_are_held_together() {
    faulty(
        "name = \"classify\"",
        "name = \"triage\"",
        "task[2].name",
        "no task before",
    );
    faulty(
        "task = \"triage\"",
        "task = \"triaje\"",
        "calibration[1].task",
        "did you mean \"triage\"?",
    );
    faulty(
        "quantization = \"Q8_0\"\nmethod",
        "quantization = \"F16\"\nmethod",
        "calibration[1].quantization",
        "Q8_0",
    );
    faulty(
        "method = \"isotonic\"",
        "method = \"platt\"",
        "calibration[1].method",
        "isotonic",
    );
    faulty(
        "[0.5, 0.4]",
        "[0.5, 0.04]",
        "calibration[1].points",
        "never fall",
    );
    faulty("[0.5, 0.4]", "[0.5]", "calibration[1].points", "points");
    faulty(
        "name = \"triage\"\naccuracy",
        "name = \"other\"\naccuracy",
        "bars.task[1].name",
        "a task",
    );
    faulty(
        "suite = \"gate.jsonl\"",
        "suite = \"tiny.gguf\"",
        "bars.suite",
        "[[file]]",
    );
    faulty_file("grammars/triage.gbnf", "once");
    faulty_file("tiny.gguf", "once");
    faulty_file("README.md", "never listed");
    faulty_file("figures/a.svg", "never listed");
}

#[test]
fn a_second_curve_or_variant_of_a_kind_is_a_fault() {
    let curve = "[[calibration]]\ntask = \"triage\"\nquantization = \"Q8_0\"\nmethod = \"isotonic\"\n\
                 points = [[0, 0], [1, 1]]\n[bars]";
    faulty("[bars]", curve, "calibration[2].task", "one curve");
    let model = format!(
        "[[model]]\nfile = \"b.gguf\"\nquantization = \"Q8_0\"\nbytes = 1\nsha256 = \"{}\"\n[[file]]",
        "0".repeat(64)
    );
    faulty(
        "[[file]]",
        &model,
        "model[2].quantization",
        "no variant before",
    );
}

#[test]
fn what_follows_from_a_fault_is_not_told_again() {
    // The task is known by its name although it is not complete.
    faulty(
        "max_tokens = 48",
        "max_tokens = 0",
        "task.triage.max_tokens",
        "from 1",
    );
    faulty(
        "quantization = \"Q8_0\"\nbytes = ",
        "quantization = \"Q8_0\"\nbytes = -",
        "model[1].bytes",
        "from 1",
    );
}

#[test]
fn a_folder_without_a_manifest_is_no_package() {
    let bench = Bench::empty();
    assert!(bench.fault().contains("this is no model package"));
    let long = "#".repeat(usize::try_from(MAX_MANIFEST_BYTES).unwrap() + 1);
    bench.write(MANIFEST, long.as_bytes());
    assert!(
        bench
            .fault()
            .contains(&format!("at most {MAX_MANIFEST_BYTES} bytes"))
    );
    bench.write(MANIFEST, b"\xff");
    assert!(bench.fault().contains("UTF-8"));
}

#[test]
fn what_lies_there_and_what_is_listed_are_the_same() {
    let bench = Bench::new();
    bench.write("README.md", b"# For people");
    bench.write("figures/accuracy.svg", b"<svg/>");
    bench.open().unwrap();
    for stranger in [
        "notes.txt",
        ".hidden",
        "grammars/other.gbnf",
        "figures/a.sh",
        "figures/b/c.svg",
    ] {
        bench.write(stranger, b"x");
        let fault = bench.fault();
        assert!(
            fault.contains(stranger) && fault.contains("(not listed)"),
            "{fault}"
        );
        fs::remove_file(bench.0.join(stranger)).unwrap();
    }
    fs::remove_file(bench.0.join("grammars/triage.gbnf")).unwrap();
    assert!(bench.fault().contains("(not there)"));
}

#[test]
fn a_link_is_not_followed_wherever_it_leads() {
    let bench = Bench::new();
    let grammar = bench.0.join("grammars/triage.gbnf");
    let outside = bench.0.with_extension("outside");
    fs::rename(&grammar, &outside).unwrap();
    symlink(&outside, &grammar).unwrap();
    let faults = bench.open().unwrap_err().to_string();
    assert!(faults.contains("a link"), "{faults}");
    fs::remove_file(&outside).unwrap();

    let bench = Bench::new();
    symlink("/", bench.0.join("root")).unwrap();
    assert!(bench.fault().contains("a link"));
}

#[test]
fn a_folder_that_is_too_full_or_too_deep_is_left() {
    let bench = Bench::new();
    bench.write("a/b/c/d/e", b"x");
    assert!(bench.fault().contains("too deep"));
    for index in 0..=MAX_ENTRIES {
        bench.write(&format!("figures/{index}.svg"), b"x");
    }
    let faults = bench.open().unwrap_err().to_string();
    assert!(faults.contains("too much lies here"), "{faults}");
}

#[test]
fn a_changed_byte_is_found_and_a_changed_size_even_before() {
    let bench = Bench::new();
    let mut model = TinyGguf::new("llama").bytes();
    *model.last_mut().unwrap() ^= 1;
    bench.write("tiny.gguf", &model);
    let package = bench.open().unwrap();
    let faults = package.verify().unwrap_err();
    assert_eq!(faults.list.len(), 1);
    assert!(faults.list[0].value.starts_with("its SHA-256 is"));

    bench.write("grammars/triage.gbnf", b"root ::= \"longer than before\"\n");
    assert!(bench.fault().contains("as the manifest says"));
}

#[test]
fn what_was_read_at_opening_is_vouched_for_too() {
    let bench = Bench::new();
    let other = GRAMMAR.replace('{', "[");
    bench.write("grammars/triage.gbnf", other.as_bytes());
    let package = bench.open().unwrap();
    bench.write("grammars/triage.gbnf", GRAMMAR.as_bytes());
    let faults = package.verify().unwrap_err();
    assert!(
        faults.list[0]
            .wanted
            .contains("when the package was opened")
    );
}

/// A package with another model, its manifest agreeing about the bytes.
fn with_model(model: &TinyGguf, change: impl Fn(String) -> String) -> Bench {
    let bench = Bench::new();
    bench.write("tiny.gguf", &model.bytes());
    bench.write(MANIFEST, change(bench.manifest()).as_bytes());
    bench
}

#[test]
fn the_manifest_agrees_with_the_model_s_own_header() {
    let tiny = || TinyGguf::new("llama");
    let fault = |model: &TinyGguf| with_model(model, |text| text).fault();
    assert!(fault(&TinyGguf::new("qwen2")).contains("wanted: \"qwen2\""));
    with_model(&tiny().number("llama.context_length", 512), |text| text)
        .open()
        .unwrap();
    let short = fault(&tiny().number("llama.context_length", 511));
    assert!(short.contains("at most 511"), "{short}");
    assert!(fault(&tiny().number("split.count", 2)).contains("llama-gguf-split"));
    assert!(fault(&tiny().without("tokenizer.ggml.tokens")).contains("tokenizer"));
    let strange = tiny().texts("tokenizer.ggml.tokens", &["a", "<|im_start|>"]);
    assert!(fault(&strange).contains("with <|im_end|> as tokens"));

    let bench = Bench::new();
    bench.write("tiny.gguf", b"PK");
    bench.write(MANIFEST, bench.manifest().as_bytes());
    assert!(bench.fault().contains("no GGUF file"));
}

#[test]
fn the_template_in_the_file_is_found_by_its_family() {
    let gguf = |text: String| text.replace("\"chatml\"", "\"gguf\"");
    let package = |model: &TinyGguf| with_model(model, gguf).open();
    let tiny = || TinyGguf::new("llama");
    assert_eq!(package(&tiny()).unwrap().template(), Template::ChatMl);
    let llama = tiny()
        .text(
            "tokenizer.chat_template",
            "<|start_header_id|>{{ role }}<|end_header_id|>",
        )
        .texts(
            "tokenizer.ggml.tokens",
            &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        );
    assert_eq!(package(&llama).unwrap().template(), Template::Llama3);
    for none in [
        tiny().without("tokenizer.chat_template"),
        tiny().text("tokenizer.chat_template", "{{ messages }}"),
    ] {
        let fault = with_model(&none, gguf).fault();
        assert!(
            fault.contains("runtime.chat_template = \"gguf\""),
            "{fault}"
        );
    }
}

#[test]
fn a_grammar_has_a_root_and_a_schema_is_an_object() {
    let bench = Bench::new();
    let grammar = |text: &[u8]| {
        bench.write("grammars/triage.gbnf", text);
        bench.write(MANIFEST, bench.manifest().as_bytes());
        bench.open().map(drop).map_err(|faults| faults.to_string())
    };
    assert!(grammar(b"# a note\nroot  ::= \"a\"\n").is_ok());
    assert!(
        grammar(b"start ::= \"a\"\n")
            .unwrap_err()
            .contains("root ::=")
    );
    let sized = |bytes: u64| {
        let mut text = GRAMMAR.as_bytes().to_vec();
        text.resize(usize::try_from(bytes).unwrap(), b'#');
        text
    };
    assert!(grammar(&sized(MAX_RULE_BYTES)).is_ok());
    assert!(
        grammar(&sized(MAX_RULE_BYTES + 1))
            .unwrap_err()
            .contains("at most")
    );

    let schema = |text: &[u8]| {
        bench.write("grammars/triage.gbnf", text);
        let manifest = bench.manifest().replace("grammar = \"g", "schema = \"g");
        bench.write(MANIFEST, manifest.as_bytes());
        bench.open().map(drop).map_err(|faults| faults.to_string())
    };
    assert!(schema(b"{\"type\":\"object\"}").is_ok());
    assert!(schema(b"[]").unwrap_err().contains("an object"));
    assert!(schema(b"{").unwrap_err().contains("a JSON schema"));
}

/// The faults of a suite for the tasks of the good package.
fn suite_faults(text: &str) -> Vec<String> {
    let tasks = changed("seq = 1\n", "seq = 1\n").unwrap().manifest.tasks;
    match Gate::read(text, Path::new("gate.jsonl"), &tasks) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.list.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_suite_tries_every_task_with_answers_of_its_form() {
    let good = suite(1);
    assert_eq!(suite_faults(&good), [""; 0]);
    for (line, wants) in [
        (
            r#"{"id":"x","task":"triage","input":"i","expect":"hm"}"#,
            "JSON",
        ),
        (
            r#"{"id":"x","task":"classify","input":"i","expect":"saw"}"#,
            "choices of task classify",
        ),
        (
            r#"{"id":"x","task":"tirage","input":"i","expect":"a"}"#,
            "the name of a task",
        ),
        (
            r#"{"id":"t-0","task":"classify","input":"i","expect":"lathe"}"#,
            "no item before",
        ),
        (
            r#"{"id":"","task":"classify","input":"i","expect":"lathe"}"#,
            "1 to 128 bytes",
        ),
        (
            r#"{"id":"x","task":"classify","input":"","expect":"lathe"}"#,
            "bytes",
        ),
        (
            r#"{"id":"x","task":"classify","input":"i","expect":"lathe","kind":"a b"}"#,
            "a word",
        ),
        (
            r#"{"id":"x","task":"classify","input":"i","expect":"lathe","extra":1}"#,
            "extra",
        ),
        (r#"{"id":"x","task":"classify","input":"i"}"#, "expect"),
        ("", "a JSON object"),
    ] {
        let faults = suite_faults(&format!("{good}{line}\n"));
        assert_eq!(faults.len(), 1, "{line}: {faults:?}");
        assert!(faults[0].starts_with("gate.jsonl:3: "), "{faults:?}");
        assert!(faults[0].contains(wants), "{faults:?}");
    }
    let only_one = good.lines().next().unwrap();
    assert!(suite_faults(only_one)[0].contains("classify has none"));
    let without_field = good.replace("needs_human", "needs_nobody");
    assert!(suite_faults(&without_field)[0].contains("the field needs_human"));
}

#[test]
fn a_suite_ends_at_its_limits() {
    let long = |key: &str, bytes: usize| {
        let item = r#"{"id":"x","task":"classify","input":"i","expect":"lathe"}"#;
        let from = format!("\"{key}\":\"{}\"", if key == "id" { "x" } else { "i" });
        let to = format!("\"{key}\":\"{}\"", "i".repeat(bytes));
        suite_faults(&format!("{}{}", suite(1), item.replace(&from, &to))).len()
    };
    assert_eq!(long("input", gate::MAX_TEXT_BYTES), 0);
    assert_eq!(long("input", gate::MAX_TEXT_BYTES + 1), 1);
    assert_eq!(long("id", gate::MAX_ID_BYTES), 0);
    assert_eq!(long("id", gate::MAX_ID_BYTES + 1), 1);
    assert_eq!(suite_faults(&suite(MAX_ITEMS / 2)).len(), 0);
    let one_more = r#"{"id":"x","task":"classify","input":"i","expect":"lathe"}"#;
    let faults = suite_faults(&format!("{}{one_more}", suite(MAX_ITEMS / 2)));
    assert!(faults[0].contains("20000 at most"), "{faults:?}");
}

#[test]
fn a_right_answer_is_the_same_text_or_the_same_json() {
    let item = Item {
        id: "x".into(),
        task: "t".into(),
        input: "i".into(),
        expect: r#"{"a":1,"b":[2]}"#.into(),
        kind: None,
    };
    let json = Answer::Grammar(FilePath::parse("g").unwrap());
    assert!(item.is_right(&json, r#"{"a":1,"b":[2]}"#));
    assert!(item.is_right(&json, r#"{ "b": [2], "a": 1 }"#));
    assert!(!item.is_right(&json, r#"{"a":1,"b":[3]}"#));
    assert!(!item.is_right(&json, "{"));
    assert!(!item.is_right(&Answer::Text, r#"{ "b": [2], "a": 1 }"#));
}

fn whats(notes: &[Note]) -> Vec<&str> {
    notes.iter().map(|note| note.what.as_str()).collect()
}

#[test]
fn what_a_package_lacks_is_told_and_nothing_else() {
    let bench = Bench::new();
    let package = bench.open().unwrap();
    let lacking = [
        "a gate suite of 4 items",
        "no accuracy bar for classify",
        "no calibration of Q8_0 for classify",
    ];
    assert_eq!(whats(&package.notes()), lacking);

    let enough = suite(ENOUGH_ITEMS / 2);
    bench.write("gate.jsonl", enough.as_bytes());
    bench.write(MANIFEST, bench.manifest().as_bytes());
    assert_eq!(whats(&bench.open().unwrap().notes()), lacking[1..]);

    let text = bench.manifest();
    let (before, _) = text.split_once("[bars]").unwrap();
    let small = before.replace("context_tokens = 512", "context_tokens = 128");
    bench.write(
        MANIFEST,
        small
            .replace("quantization = \"Q8_0\"", "quantization = \"Q8_X\"")
            .as_bytes(),
    );
    let package = bench.open().unwrap();
    assert_eq!(
        whats(&package.notes()),
        [
            "no gate suite",
            "no calibration of Q8_X for classify",
            "tiny.gguf calls itself Q8_0, the manifest Q8_X",
            "a context of 128 tokens; triage may take 170",
        ]
    );
}

/// What an author has: a model, a grammar, a suite and a task file, beside each other.
fn order(bench: &Bench) -> Order {
    let tasks = bench.manifest();
    let (_, tasks) = tasks.split_once("[[task]]").unwrap();
    let tasks =
        format!("license = \"MIT\"\n[[task]]{tasks}").replace("suite = \"gate.jsonl\"\n", "");
    bench.write("tasks.toml", tasks.as_bytes());
    Order {
        models: vec![bench.0.join("tiny.gguf")],
        tasks: bench.0.join("tasks.toml"),
        gate: Some(bench.0.join("gate.jsonl")),
        out: bench.0.join("made"),
        name: None,
        seq: None,
        existing: Existing::Keep,
    }
}

#[test]
fn a_package_is_made_of_a_model_and_a_task_file() {
    let bench = Bench::new();
    let made = make(&order(&bench)).unwrap();
    made.package.verify().unwrap();
    let manifest = made.package.manifest();
    assert_eq!((manifest.name.as_str(), manifest.seq), ("made", 1));
    assert_eq!(manifest.version, "1.0");
    assert_eq!(manifest.description, "Tiny Thing");
    assert_eq!(manifest.runtime.context_tokens, 1024);
    assert_eq!(manifest.runtime.chat_template, ChatTemplate::Gguf);
    assert_eq!(manifest.bars.as_ref().unwrap().latency_ms, Some(250));
    let again = make(&Order {
        out: bench.0.join("again"),
        name: Some("made".into()),
        ..order(&bench)
    });
    let text = |folder: &str| fs::read_to_string(bench.0.join(folder).join(MANIFEST)).unwrap();
    again.unwrap();
    assert_eq!(text("again"), text("made"));
}

#[test]
fn variants_stand_best_first_however_they_were_given() {
    let bench = Bench::new();
    let mut big = TinyGguf::new("llama").number("general.file_type", 1);
    big.tensors[0].1 = vec![32, 8];
    big.data = vec![0; 1024];
    bench.write("big.gguf", &big.bytes());
    let mut order = order(&bench);
    order.models.push(bench.0.join("big.gguf"));
    let made = make(&order).unwrap();
    let names: Vec<_> = made
        .package
        .variants()
        .map(|(it, _)| it.quantization.as_str())
        .collect();
    assert_eq!(names, ["F16", "Q8_0"]);
}

#[test]
fn a_package_that_is_there_is_replaced_only_on_purpose_and_forwards() {
    let bench = Bench::new();
    let mut order = order(&bench);
    make(&order).unwrap();
    let refused = |order: &Order| match make(order).unwrap_err() {
        MakeError::Order(what) => what,
        other @ (MakeError::Faults(_) | MakeError::Io { .. }) => panic!("{other}"),
    };
    assert!(refused(&order).contains("--replace"));
    bench.write("made/README.md", b"# Kept");
    bench.write("made/figures/a.svg", b"<svg/>");
    order.existing = Existing::Replace;
    assert_eq!(make(&order).unwrap().package.manifest().seq, 2);
    assert_eq!(fs::read(bench.0.join("made/README.md")).unwrap(), b"# Kept");
    assert!(bench.0.join("made/figures/a.svg").exists());
    order.seq = Some(2);
    assert!(refused(&order).contains("above 2"));
    order.seq = Some(7);
    assert_eq!(make(&order).unwrap().package.manifest().seq, 7);

    fs::create_dir(bench.0.join("other")).unwrap();
    bench.write("other/letter.txt", b"not a package");
    order.out = bench.0.join("other");
    assert!(refused(&order).contains("is no package"));
    assert!(bench.0.join("other/letter.txt").exists());
    // Nothing half made is left behind by any of it.
    let leftover = fs::read_dir(&bench.0).unwrap().flatten();
    let hidden = leftover.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}

#[test]
fn what_the_author_left_out_is_told_when_a_package_is_made() {
    let bench = Bench::new();
    let mut order = order(&bench);
    order.gate = None;
    let tasks = fs::read_to_string(&order.tasks)
        .unwrap()
        .replace("license = \"MIT\"\n", "");
    bench.write("tasks.toml", tasks.as_bytes());
    let made = make(&order).unwrap();
    assert_eq!(made.package.manifest().bars, None);
    assert_eq!(
        whats(&made.notes),
        [
            "bars without a gate suite",
            "no license",
            "no gate suite",
            "no calibration of Q8_0 for classify"
        ]
    );
}

#[test]
fn faults_of_what_goes_in_name_the_author_s_files() {
    let bench = Bench::new();
    let order = order(&bench);
    bench.write("gate.jsonl", b"{}\n");
    bench.write("grammars/triage.gbnf", b"start ::= \"a\"\n");
    let MakeError::Faults(faults) = make(&order).unwrap_err() else {
        panic!("no faults");
    };
    let places: Vec<_> = faults
        .list
        .iter()
        .map(|fault| {
            fault
                .place
                .as_ref()
                .unwrap()
                .file
                .strip_prefix(&bench.0)
                .unwrap()
        })
        .collect();
    assert!(places.contains(&Path::new("gate.jsonl")), "{faults}");
    assert!(
        places.contains(&Path::new("grammars/triage.gbnf")),
        "{faults}"
    );
    assert!(!bench.0.join("made").exists());
}

#[test]
fn a_file_that_the_author_names_and_does_not_have_is_a_fault() {
    let bench = Bench::new();
    let mut order = order(&bench);
    fs::remove_file(bench.0.join("grammars/triage.gbnf")).unwrap();
    order.gate = Some(bench.0.join("nowhere.jsonl"));
    let told = make(&order).unwrap_err().to_string();
    assert!(told.contains("grammars/triage.gbnf: (not there)"), "{told}");
    assert!(told.contains("nowhere.jsonl: (not there)"), "{told}");
    order.models.push(bench.0.join("nowhere.gguf"));
    let told = make(&order).unwrap_err().to_string();
    assert!(told.contains("nowhere.gguf: cannot be read"), "{told}");
}

proptest! {
    #[test]
    fn no_text_makes_the_manifest_s_reader_panic(
        text in "(format|name|seq|\\[\\[task\\]\\]|\\[bars\\]|=|\"|\\{|\\}|\\[|\\]|\n|1|a|\\.| ){0,60}"
    ) {
        let read = read_manifest(&text, Path::new("m.toml"));
        prop_assert!(read.is_err_and(|faults| !faults.list.is_empty()));
    }
}
