//! The house style as an ordinary test.
//!
//! What a reader may rely on is held here: the direction of imports, one home for each vendor
//! crate, one reader of time, no content in the log. Each rule is a function from a source text
//! to its faults; beside each stands a small bad sample which proves that it can fail.

#![allow(clippy::unwrap_used)]

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/logging.rs"]
mod logging;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/vendors.rs"]
mod vendors;

use std::fs;
use std::path::Path;

use source::{Source, read_tree, root, words};

/// No file has more production code than this; 300 is the aim.
const MAX_LINES: usize = 600;

/// All that may stand at the top of the repository, beside dotfiles.
const TOP_LEVEL: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "models",
    "systemd",
    "yocto",
    "tests",
    "tools",
    "README.md",
];

/// Fails with all faults at once.
fn assert_tidy(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn check(rule: impl Fn(&Source) -> Vec<String>) {
    let sources = read_tree("src");
    assert!(!sources.is_empty());
    let faults: Vec<_> = sources.iter().flat_map(rule).collect();
    assert_tidy(&faults);
}

/// How a sample of production code fares under a rule.
fn faults_of(rule: impl Fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&Source::new(path, text)).len()
}

fn short(source: &Source) -> Vec<String> {
    let lines = source.production().lines().count();
    if lines > MAX_LINES {
        vec![format!(
            "{}: {lines} lines of production code, {MAX_LINES} at most",
            source.path
        )]
    } else {
        Vec::new()
    }
}

#[test]
fn no_file_is_too_long() {
    check(short);
    let long = "fn a() {}\n".repeat(MAX_LINES + 1);
    assert_eq!(faults_of(short, "src/a.rs", &long), 1);
    let tested = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(faults_of(short, "src/a.rs", &tested), 0);
}

fn no_unwrap(source: &Source) -> Vec<String> {
    source.faults_at(
        source.production(),
        ".unwrap()",
        "unwrap outside tests: say by `expect` what makes it impossible",
    )
}

#[test]
fn production_code_does_not_unwrap() {
    check(no_unwrap);
    let bad = "fn a() { b().unwrap(); }";
    assert_eq!(faults_of(no_unwrap, "src/a.rs", bad), 1);
    assert_eq!(
        faults_of(no_unwrap, "src/a.rs", "// b().unwrap()\nfn a() {}"),
        0
    );
    assert_eq!(
        faults_of(no_unwrap, "src/a.rs", "fn a() { \".unwrap()\"; }"),
        0
    );
    assert_eq!(faults_of(no_unwrap, "src/a/tests.rs", bad), 0);
    let tested = "fn a() {}\n#[cfg(test)]\nmod tests { fn t() { b().unwrap(); } }";
    assert_eq!(faults_of(no_unwrap, "src/a.rs", tested), 0);
}

fn finished(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for word in ["TODO", "FIXME"] {
        faults.extend(source.faults_at(
            &source.text,
            word,
            "an open end: finish it or leave it out",
        ));
    }
    for call in ["todo!", "unimplemented!"] {
        faults.extend(source.faults_at(
            &source.code,
            call,
            "an open end: finish it or leave it out",
        ));
    }
    faults
}

#[test]
fn nothing_is_left_open() {
    check(finished);
    assert_eq!(
        faults_of(finished, "src/a.rs", "fn a() {} // TODO: later"),
        1
    );
    assert_eq!(
        faults_of(finished, "src/a.rs", "/* FIXME */ fn a() { todo!() }"),
        2
    );
    assert_eq!(
        faults_of(finished, "src/a.rs", "fn a() { unimplemented!() }"),
        1
    );
}

fn no_clock(source: &Source) -> Vec<String> {
    if source.path == "src/clock.rs" {
        return Vec::new();
    }
    ["SystemTime::now", "Instant::now"]
        .iter()
        .flat_map(|read| {
            source.faults_at(
                source.production(),
                read,
                "only `clock` reads the time: take a `Now`",
            )
        })
        .collect()
}

#[test]
fn only_the_clock_reads_time() {
    check(no_clock);
    let bad = "fn a() { let t = std::time::Instant::now(); }";
    assert_eq!(faults_of(no_clock, "src/a.rs", bad), 1);
    assert_eq!(faults_of(no_clock, "src/clock.rs", bad), 0);
    assert_eq!(
        faults_of(no_clock, "src/a.rs", "fn a() { SystemTime::now(); }"),
        1
    );
}

/// The one file that speaks to native code directly; the compiler wants a reason for each block.
const NATIVE: &str = "src/engine/native.rs";

fn safe(source: &Source) -> Vec<String> {
    if source.path == NATIVE {
        return Vec::new();
    }
    words(&source.code, "unsafe")
        .map(|at| source.fault(at, "unsafe code"))
        .collect()
}

#[test]
fn nothing_is_unsafe_but_the_one_file_that_says_why() {
    check(safe);
    let native = fs::read_to_string(root().join(NATIVE)).unwrap();
    assert!(native.contains("#![deny(clippy::undocumented_unsafe_blocks)]"));
    assert_eq!(faults_of(safe, NATIVE, "fn a() { unsafe { b() } }"), 0);
    assert_eq!(faults_of(safe, "src/a.rs", "fn a() { unsafe { b() } }"), 1);
    assert_eq!(
        faults_of(safe, "src/a.rs", "#![deny(unsafe_code)] // unsafe"),
        0
    );
}

/// The names at the top level that have no business there.
fn strangers(names: &[String]) -> Vec<String> {
    names
        .iter()
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| format!("{name}: not one of the top level's fixed entries"))
        .collect()
}

/// What the version control ignores at the top does not count.
fn ignored(name: &str) -> bool {
    fs::read_to_string(root().join(".gitignore"))
        .is_ok_and(|lines| lines.lines().any(|line| line.trim_matches('/') == name))
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    let names: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !ignored(name))
        .collect();
    assert!(names.iter().any(|name| name == "Cargo.toml"));
    assert_tidy(&strangers(&names));
    assert_eq!(
        strangers(&["notes.txt".to_owned(), ".gitignore".to_owned()]).len(),
        1
    );
}

#[test]
fn imports_run_downwards_only() {
    let sources = read_tree("src");
    let mut faults: Vec<_> = sources.iter().flat_map(imports::downwards).collect();
    faults.extend(imports::circles(&sources));
    assert_tidy(&faults);
}

#[test]
fn each_vendor_crate_has_one_home() {
    check(vendors::at_home);
    let manifest = fs::read_to_string(Path::new(&root()).join("Cargo.toml")).unwrap();
    assert_tidy(&vendors::unknown(&manifest));
}

#[test]
fn log_lines_carry_listed_fields_and_constant_messages() {
    check(logging::told);
}
