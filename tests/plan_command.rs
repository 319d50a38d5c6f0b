//! `lineside plan`, the real binary: what it prints for the bundled package on boards of several
//! sizes, word by word, and what it says of files that are no models.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn plan(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lineside"))
        .arg("plan")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_clear()
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap()
}

fn page(arguments: &[&str]) -> (i32, String) {
    let output = plan(arguments);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text)
}

fn json(arguments: &[&str]) -> (i32, Value) {
    let (code, text) = page(&[arguments, &["--json"]].concat());
    (code, serde_json::from_str(&text).unwrap())
}

const BUNDLED: &str = "models/factory-triage";

/// The pages hold what one build of the runtime does, so they are those of x86-64.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_page_is_this_one_word_by_word() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan");
    for (ram, expected_code) in [("4GiB", 0), ("90MiB", 0), ("70MiB", 69)] {
        let (code, text) = page(&[BUNDLED, "--ram", ram, "--cores", "4"]);
        assert_eq!(code, expected_code, "{text}");
        let expected = std::fs::read_to_string(golden.join(format!("{ram}.txt"))).unwrap();
        assert_eq!(text, expected, "{ram}");
    }
}

#[test]
fn no_page_is_wider_than_a_terminal() {
    for more in [
        &["--ram", "4GiB"][..],
        &["--ram", "80MiB"],
        &["--ram", "16MiB"],
        &["--ram", "4GiB", "--vram", "2GiB"],
        &["--ram", "96MiB", "--context", "4096", "--sequences", "64"],
        &[],
    ] {
        let (_, text) = page(&[&[BUNDLED][..], more].concat());
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn the_json_adds_up_and_says_the_same() {
    let (code, told) = json(&[BUNDLED, "--ram", "4GiB", "--cores", "2"]);
    assert_eq!((code, &told["ok"]), (0, &Value::Bool(true)));
    assert_eq!(told["served"], told["variants"][0]["name"]);
    for variant in told["variants"].as_array().unwrap() {
        let parts = variant["parts"].as_object().unwrap().values();
        let sum: u64 = parts.map(|bytes| bytes.as_u64().unwrap()).sum();
        assert_eq!(sum, variant["engine_bytes"].as_u64().unwrap());
        assert!(variant["needs_bytes"].as_u64().unwrap() > sum);
        assert_eq!(variant["settings"].as_array().unwrap().len(), 7);
    }
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let fixed = [
        "--context",
        "8192",
        "--sequences",
        "8",
        "--kv",
        "f16",
        "--ram",
        "110MiB",
    ];
    let (code, told) = json(&[&[BUNDLED][..], &fixed].concat());
    assert_eq!((code, &told["served"]), (69, &Value::Null));
    let variant = &told["variants"][0];
    let why = variant["why"].as_str().unwrap();
    assert!(why.contains("110 MiB are there"), "{why}");
    let suggestions = variant["suggestions"].as_array().unwrap();
    let contexts = suggestions.iter().filter_map(|it| it["what"].as_str());
    assert!(
        contexts.into_iter().any(|it| it.contains("context_tokens")),
        "{why}"
    );
}

#[test]
fn a_bare_model_file_can_be_asked_about_too() {
    let package = lineside::package::Package::open(Path::new(BUNDLED)).unwrap();
    let (variant, _) = package.variants().next().unwrap();
    let model = package.model_path(variant);
    let (code, told) = json(&[model.to_str().unwrap(), "--ram", "1GiB"]);
    assert_eq!(code, 0);
    assert_eq!(told["variants"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_no_model_is_said_to_be_none() {
    for path in ["Cargo.toml", "/nonexistent.gguf", "src"] {
        let output = plan(&[path, "--ram", "1GiB"]);
        assert_eq!(output.status.code(), Some(64), "{path}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(path), "{text}");
    }
    assert_eq!(plan(&[BUNDLED, "--ram", "much"]).status.code(), Some(64));
}
