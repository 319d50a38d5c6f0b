//! `lineside calibrate`, the real binary with the real model, on copies of the bundled package.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use lineside::package::{MANIFEST, Method, Package};
use serde_json::Value;

/// The variant that the copies have: one is enough, and the smaller is quicker.
const VARIANT: &str = "Q4_K_M";
/// A curve that is far off: it believes hardly anything.
const ABSURD: &str = "points = [[0.0, 0.1], [1.0, 0.2]]";

/// A copy of the bundled package with one variant, gone after the test.
struct Copy(PathBuf);

impl Copy {
    /// Its manifest with changes, each a text and what stands in its place.
    fn new(change: impl Fn(&str) -> String) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("calibrate-{}-{next}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
        fs::create_dir_all(folder.join("grammars")).unwrap();
        let text = fs::read_to_string(bundled.join(MANIFEST)).unwrap();
        let text = change(&one_variant(&text));
        for line in text.lines() {
            let name = line
                .split_once(" = \"")
                .filter(|it| ["file", "path"].contains(&it.0));
            if let Some((_, name)) = name {
                let name = name.trim_end_matches('"');
                fs::copy(bundled.join(name), folder.join(name)).unwrap();
            }
        }
        fs::write(folder.join(MANIFEST), text).unwrap();
        Self(folder)
    }

    fn package(&self) -> Package {
        Package::open(&self.0).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn manifest(&self) -> String {
        fs::read_to_string(self.0.join(MANIFEST)).unwrap()
    }

    fn calibrate(&self, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_lineside"))
            .arg("calibrate")
            .arg(&self.0)
            .args(more)
            .env_clear()
            .output()
            .unwrap()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A manifest without the tables that are about another variant.
fn one_variant(manifest: &str) -> String {
    let tables = manifest.split("\n\n");
    let other = |table: &&str| table.contains("quantization = ") && !table.contains(VARIANT);
    let kept: Vec<_> = tables.filter(|table| !other(table)).collect();
    kept.join("\n\n")
}

/// A manifest whose curves are all far off, and which promises nothing.
fn absurd(manifest: &str) -> String {
    let tables = manifest.split("\n\n");
    let tables = tables.filter(|table| !table.starts_with("[[risk]]"));
    let tables = tables.map(|table| {
        let line = |line| match line {
            line if str::starts_with(line, "points = ") => ABSURD,
            line => line,
        };
        table.lines().map(line).collect::<Vec<_>>().join("\n")
    });
    tables.collect::<Vec<_>>().join("\n\n")
}

fn json(output: &Output) -> Value {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn a_package_that_is_far_off_gets_curves_that_are_not() {
    let copy = Copy::new(absurd);
    let (before, as_it_was) = (copy.manifest(), copy.package());
    let target = ["--json", "--dry-run", "--risk-target", "0.05"];
    let tried = json(&copy.calibrate(&target));
    assert_eq!(tried["seq"], Value::Null);
    // Sixty items can promise one of twenty.
    let findings = tried["findings"].as_array().unwrap();
    assert!(
        findings.iter().all(|it| it["threshold"].is_f64()),
        "{tried}"
    );
    let target = ["--dry-run", "--risk-target", "1.5"];
    assert_eq!(copy.calibrate(&target).status.code(), Some(64));
    assert_eq!(copy.manifest(), before, "a dry run writes nothing");

    let told = json(&copy.calibrate(&["--json"]));
    let package = copy.package();
    assert_eq!(told["seq"], package.manifest().seq);
    assert_eq!(package.manifest().seq, 3, "it is another package now");
    package.verify().unwrap_or_else(|faults| panic!("{faults}"));
    let findings = told["findings"].as_array().unwrap();
    assert_eq!(findings.len(), package.manifest().tasks.len());
    for finding in findings {
        let task = finding["task"].as_str().unwrap();
        assert_eq!(finding["better"], true, "{finding}");
        assert_eq!(finding["items"], package.gate().unwrap().count(task));
        assert!(number(&finding["after"]["ece"]) < number(&finding["before"]["ece"]));
        // So few labels make a sigmoid, and it is what the package says from now on.
        assert_eq!(finding["method"], "platt");
        let curve = package.manifest().curves.iter();
        let curve = curve.into_iter().find(|curve| curve.task == task).unwrap();
        assert_eq!(curve.method, Method::Platt);
        assert!(curve.calibration.probability(1.0) > 0.8, "{task}");
    }
    // What sixty items can promise stands beside it.
    assert_eq!(package.manifest().risks.len(), findings.len());
    for risk in &package.manifest().risks {
        assert_eq!((risk.labels, risk.quantization.as_str()), (60, VARIANT));
        let threshold = |share| risk.points.threshold(share);
        assert!(threshold(0.05).is_some(), "{}", risk.task);
        assert_eq!(threshold(0.01), None, "{}", risk.task);
    }
    // Nothing else was touched, and nothing lies beside it.
    let mut rest = as_it_was.manifest().clone();
    (rest.seq, rest.curves) = (3, package.manifest().curves.clone());
    rest.risks.clone_from(&package.manifest().risks);
    assert_eq!(package.manifest(), &rest);
    let name = copy.0.file_name().unwrap().to_str().unwrap().to_owned();
    let beside = fs::read_dir(copy.0.parent().unwrap()).unwrap().flatten();
    let left = beside.filter(|it| {
        it.file_name()
            .to_str()
            .unwrap()
            .contains(&format!(".{name}"))
    });
    assert_eq!(left.count(), 0);

    // The same labels again are no better than themselves: it comes to rest.
    let text = copy.manifest();
    let again = copy.calibrate(&["--risk-target", "0.01"]);
    assert_eq!(again.status.code(), Some(0));
    let words = String::from_utf8(again.stdout).unwrap();
    assert!(words.contains("kept: not better"), "{words}");
    let few = "nothing stays on the edge: 60 labels are too few: it takes 99";
    assert!(words.contains(few), "{words}");
    assert!(words.contains("each judged by the others"), "{words}");
    if words.contains("nothing was written") {
        assert_eq!(copy.manifest(), text);
    }

    // A share that is asked for is kept, and who makes a package may leave its number.
    let seq = copy.package().manifest().seq;
    let more = copy.calibrate(&["--risk-target", "0.04", "--same-number"]);
    assert_eq!(more.status.code(), Some(0));
    let package = copy.package();
    assert_eq!(package.manifest().seq, seq);
    for risk in &package.manifest().risks {
        let points = risk.points.points();
        assert!(
            points.iter().any(|(share, _)| (share - 0.04).abs() < 1e-9),
            "{}",
            risk.task
        );
    }
}

#[test]
fn curves_that_are_to_stay_do_however_far_off_they_are() {
    let copy = Copy::new(absurd);
    let before = copy.package();
    let told = json(&copy.calibrate(&["--json", "--keep-curves", "--same-number"]));
    let findings = told["findings"].as_array().unwrap();
    assert!(findings.iter().all(|it| it["better"] == false), "{told}");
    let after = copy.package();
    assert_eq!(after.manifest().curves, before.manifest().curves);
    assert_eq!(after.manifest().seq, before.manifest().seq);
    // What is promised is about the confidence that these curves tell, which never exceeds 0.2.
    assert_eq!(after.manifest().risks.len(), after.manifest().tasks.len());
    for risk in &after.manifest().risks {
        let mut sure = risk.points.points().iter().map(|(_, sure)| *sure);
        assert!(sure.all(|sure| sure < 0.201), "{}", risk.task);
    }
}

#[test]
fn a_suite_that_is_too_small_is_refused_with_the_number_it_takes() {
    let copy = Copy::new(str::to_owned);
    let suite = fs::read_to_string(copy.0.join("gate.jsonl")).unwrap();
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    let few: Vec<&str> = suite
        .lines()
        .filter(|line| {
            let item: Value = serde_json::from_str(line).unwrap();
            let count = seen.entry(item["task"].to_string()).or_default();
            *count += 1;
            *count <= 10
        })
        .collect();
    let few = few.join("\n");
    fs::write(copy.0.join("gate.jsonl"), &few).unwrap();
    let digest = lineside::package::Digest::of(few.as_bytes());
    let mut lines: Vec<String> = copy.manifest().lines().map(str::to_owned).collect();
    let at = lines
        .iter()
        .position(|it| it == "path = \"gate.jsonl\"")
        .unwrap();
    lines[at + 1] = format!("bytes = {}", few.len());
    lines[at + 2] = format!("sha256 = \"{digest}\"");
    fs::write(copy.0.join(MANIFEST), lines.join("\n")).unwrap();

    let output = copy.calibrate(&[]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(
        told.contains("10 items for a task at most: a curve takes 40"),
        "{told}"
    );
    let nothing = copy.0.join("nowhere");
    let output = Command::new(env!("CARGO_BIN_EXE_lineside"))
        .args(["calibrate".as_ref(), nothing.as_os_str()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
}
