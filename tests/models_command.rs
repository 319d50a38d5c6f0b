//! `lineside models` and `lineside check`, the real binary, with model files made by hand.

#![allow(clippy::unwrap_used)]

#[path = "support/gguf.rs"]
#[allow(dead_code, reason = "each test binary takes what it needs")]
mod gguf;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use gguf::TinyGguf;

/// What `models/README.md` says about model packages.
const README: &str = "models/README.md";

/// A folder with what an author has, gone after the test.
struct Desk(PathBuf);

impl Desk {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("models-{}-{next}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        let desk = Self(folder);
        desk.write("qwen-Q8_0.gguf", &TinyGguf::new("qwen2").bytes());
        desk.write("tasks.toml", example().as_bytes());
        for (name, text) in rules(&example()) {
            desk.write(&name, text.as_bytes());
        }
        desk
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    fn lineside(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_lineside"))
            .args(arguments)
            .current_dir(&self.0)
            .env_clear()
            .env("HOME", &self.0)
            .output()
            .unwrap()
    }

    /// Makes the package `mine`, with further arguments.
    fn make(&self, more: &[&str]) -> Output {
        let usual = [
            "models",
            "make",
            "--gguf",
            "qwen-Q8_0.gguf",
            "--tasks",
            "tasks.toml",
        ];
        let out = ["--out", "mine"];
        self.lineside(&[&usual[..], &out, more].concat())
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(README)).unwrap()
}

/// The example task file of the README: its first block of TOML.
fn example() -> String {
    let text = readme();
    let (_, block) = text.split_once("```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    block.to_owned()
}

/// A file for each grammar and schema that a task file names.
fn rules(tasks: &str) -> Vec<(String, String)> {
    let quoted = |line: &str, key: &str| {
        let (_, rest) = line.split_once(&format!("{key} = \""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let each = tasks.lines().flat_map(|line| {
        let grammar = quoted(line, "grammar").map(|name| (name, "root ::= \"{}\"\n".to_owned()));
        let schema = quoted(line, "schema").map(|name| (name, "{}".to_owned()));
        grammar.into_iter().chain(schema)
    });
    each.collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn ended(output: &Output, code: i32) -> (String, String) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

#[test]
fn the_readme_s_example_makes_a_package_that_is_in_order() {
    let desk = Desk::new();
    let (made, _) = ended(&desk.make(&[]), 0);
    assert!(made.contains("no gate suite"), "{made}");
    assert!(made.contains("never passes a gate"), "{made}");
    assert!(made.contains("confidence there is raw"), "{made}");

    let (checked, _) = ended(&desk.lineside(&["models", "check", "mine"]), 0);
    for word in [
        "mine",
        "Q8_0",
        "qwen2",
        "ChatML",
        "note",
        "every file is what the manifest says",
    ] {
        assert!(checked.contains(word), "{word}: {checked}");
    }
    let (json, _) = ended(&desk.lineside(&["models", "check", "mine", "--json"]), 0);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["ok"], true);
    assert_eq!(json["name"], "mine");
    assert_eq!(json["seq"], 1);
    assert_eq!(json["models"][0]["quantization"], "Q8_0");
    assert_eq!(json["models"][0]["vocabulary"], 4);
    assert!(!json["tasks"].as_array().unwrap().is_empty());
    assert!(!json["notes"].as_array().unwrap().is_empty());
}

#[test]
fn the_readme_names_every_key_that_a_written_manifest_has() {
    let desk = Desk::new();
    let more = "[[calibration]]\ntask = \"triage\"\nquantization = \"Q8_0\"\nmethod = \"isotonic\"\n\
                points = [[0.0, 0.0], [1.0, 1.0]]\n[bars]\nmemory_bytes = 1000000\nlatency_ms = 9\n\
                calibration_error = 0.1\n[[bars.task]]\nname = \"triage\"\naccuracy = 0.9\n\
                [estimate]\ncomplexity = { length = 0.5 }\ntokens = { letter = 0.3 }\n\
                [[estimate.task]]\nname = \"triage\"\nframe_tokens = 9\n";
    desk.write("tasks.toml", format!("{}\n{more}", example()).as_bytes());
    let expect = "{\\\"needs_human\\\":false}";
    let item = |task: &str| {
        format!(
            "{{\"id\":\"{task}\",\"task\":\"{task}\",\"input\":\"i\",\"expect\":\"{expect}\"}}\n"
        )
    };
    let label = item("department").replace(expect, "maintenance");
    desk.write(
        "suite.jsonl",
        format!("{}{label}", item("triage")).as_bytes(),
    );
    ended(&desk.make(&["--gate", "suite.jsonl"]), 0);
    let manifest = fs::read_to_string(desk.0.join("mine/manifest.toml")).unwrap();
    let readme = readme();
    let mut keys = 0;
    for line in manifest.lines() {
        let table = line.starts_with('[').then(|| line.trim().to_owned());
        let key = line.split_once(" = ").map(|(key, _)| format!("`{key}`"));
        for name in table.into_iter().chain(key) {
            assert!(readme.contains(&name), "{name} is not in {README}");
            keys += 1;
        }
    }
    assert!(keys > 30, "{manifest}");
}

#[test]
fn a_file_that_changed_ends_with_the_code_for_a_faulty_configuration() {
    let desk = Desk::new();
    ended(&desk.make(&[]), 0);
    let mut model = TinyGguf::new("qwen2").bytes();
    *model.last_mut().unwrap() ^= 1;
    fs::remove_file(desk.0.join("mine/qwen-Q8_0.gguf")).unwrap();
    desk.write("mine/qwen-Q8_0.gguf", &model);
    let (_, told) = ended(&desk.lineside(&["models", "check", "mine"]), 78);
    assert!(
        told.contains("mine/qwen-Q8_0.gguf: its SHA-256 is"),
        "{told}"
    );
    let (json, _) = ended(&desk.lineside(&["models", "check", "mine", "--json"]), 78);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["faults"].as_array().unwrap().len(), 1);
}

#[test]
fn faults_of_the_task_file_are_told_with_their_lines_and_nothing_is_made() {
    let desk = Desk::new();
    let bad = example().replacen("threshold", "treshold", 1);
    desk.write("tasks.toml", bad.as_bytes());
    let (_, told) = ended(&desk.make(&[]), 78);
    assert!(told.contains("tasks.toml:"), "{told}");
    assert!(told.contains("did you mean threshold?"), "{told}");
    desk.write("qwen-Q8_0.gguf", b"PK\x03\x04");
    let (_, told) = ended(&desk.make(&[]), 78);
    assert!(told.contains("no GGUF file"), "{told}");
    assert!(!desk.0.join("mine").exists());
}

#[test]
fn an_order_that_cannot_be_carried_out_is_a_usage_error() {
    let desk = Desk::new();
    ended(&desk.lineside(&["models"]), 64);
    ended(&desk.lineside(&["models", "check"]), 64);
    ended(&desk.lineside(&["models", "make", "--out", "x"]), 64);
    ended(&desk.make(&["--name", "Not A Name"]), 64);
    ended(&desk.make(&["--seq", "0"]), 64);
    ended(&desk.make(&[]), 0);
    let (_, told) = ended(&desk.make(&[]), 64);
    assert!(told.contains("--replace"), "{told}");
    let (told, _) = ended(&desk.make(&["--replace"]), 0);
    assert!(told.contains("number 2"), "{told}");
}

#[test]
fn the_check_of_the_appliance_opens_its_package() {
    let desk = Desk::new();
    ended(&desk.make(&[]), 0);
    desk.write(
        "config.toml",
        b"[appliance]\nname = \"line-3\"\n[model]\npackage = \"mine\"\n",
    );
    let look = || {
        let output = desk.lineside(&["check", "--config", "config.toml", "--json"]);
        let json: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
        let items = json["items"].as_array().unwrap().clone();
        let item = items
            .into_iter()
            .find(|item| item["name"] == "model package");
        item.unwrap()
    };
    let item = look();
    assert_eq!(item["state"], "ok", "{item}");
    assert!(
        item["what"]
            .as_str()
            .unwrap()
            .starts_with("mine 1.0, number 1: Q8_0")
    );
    fs::remove_file(desk.0.join("mine/qwen-Q8_0.gguf")).unwrap();
    let item = look();
    assert_eq!(item["state"], "fail", "{item}");
    assert!(
        item["what"].as_str().unwrap().contains("(not there)"),
        "{item}"
    );
}
