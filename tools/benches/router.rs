//! What confidence is worth: the edge model against a stronger one, on answers that nothing here
//! was fitted on.
//!
//! The bundled model answers through the appliance's own engine. Calibrations are fitted by
//! `router::confidence` on development items of the generator; every figure is of other items, in
//! five draws ("seeds") of the splits that no training saw: the test split, wordings that are
//! held out, and strangers, 70 to 15 to 15. The cloud is the labels, which are always right, and the
//! larger sibling where its file is there.
//!
//! | Figure | What it is | Goal |
//! | --- | --- | --- |
//! | APGR | mean share of the way from the edge's accuracy to the cloud's, over all costs; 0.5 is random | 0.80 |
//! | ECE | calibration error over ten bins of equal mass, for each quantization | 0.03 |
//! | AURC | mean risk over all coverages ÷ that of the plain product of probabilities | 0.9 |
//! | risk | share answered wrongly on the edge at a target of 5 %, mean of 100 resplits | 5 % |
//! | decision | time from a request that was read to its tier, with 200 rules ([`speed`]) | p99 100 µs |
//!
//! `tools/bench router [--quick] [--write]` makes the items, runs this, and draws the curves; with
//! `--write` into the package's README. With `LINESIDE_ROUTER_ANSWERS` set to a folder, each answer
//! is written there with what it showed of how sure the model was, for who looks for a better way
//! to tell.

#![allow(clippy::cast_precision_loss, reason = "figures are far below 2^52")]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "router/speed.rs"]
mod speed;
#[path = "router/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use lineside::engine::Completion;
use lineside::engine::exam::{self, Sitting};
use lineside::engine::order::Book;
use lineside::engine::process::{Launch, SUBCOMMAND};
use lineside::package::gate::Item;
use lineside::package::{Calibration, Gate, Package, Variant};
use lineside::router::confidence::figures::{aurc, auroc, bins, calibration_error, risk_coverage};
use lineside::router::confidence::risk::{Stays, Target, control, kept};
use lineside::router::confidence::{Sample, Told, features, fit};
use serde::Deserialize;
use serde_json::{Value, json};

use table::{Goal, Table};

/// Development items; the rest are seeds, which judge.
const FIT: &str = "fit";
/// Bins of the calibration error.
const BINS: usize = 10;
/// Splits of the labelled answers into those that set a threshold and those that judge it.
const RESPLITS: u64 = 100;
const TARGET: f64 = 0.05;
/// Points of a curve that is drawn.
const DRAWN: usize = 50;

/// The goals.
const APGR: f64 = 0.80;
const ECE: f64 = 0.03;
const AURC_RATIO: f64 = 0.9;
const DECISION_P99_MICROS: f64 = 100.0;

/// A cloud that is less ahead makes no APGR: a few answers, divided by next to nothing.
const LEAST_AHEAD: f64 = 0.02;

/// An item as `routing.py` writes it.
#[derive(Deserialize)]
struct Line {
    set: String,
    split: String,
    task: String,
    input: String,
    expect: String,
}

/// One variant's answer to an item.
struct Answered {
    set: String,
    task: String,
    completion: Completion,
    right: bool,
    /// Whether the sibling was right; none without one.
    sibling: Option<bool>,
}

fn main() -> Result<()> {
    let items = items()?;
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    let package = Package::open(&package).map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let sibling = sibling(&package, &items)?;
    let mut table = Table::default();
    decisions(&package, &items, &mut table)?;
    let mut figures = serde_json::Map::new();
    for (variant, _) in package.variants() {
        println!("asking {}", variant.quantization);
        let book = Book::of(&package, variant);
        let answers = ask(&package, &book, &package.model_path(variant), &items)?;
        let answered: Vec<Answered> = (items.iter().zip(answers).enumerate())
            .filter_map(|(at, (item, answer))| {
                let (completion, right) = answer?;
                Some(Answered {
                    set: item.set.clone(),
                    task: item.task.clone(),
                    completion,
                    right,
                    sibling: sibling.as_ref().map(|rights| rights[at]),
                })
            })
            .collect();
        write_answers(&variant.quantization, &items, &answered)?;
        let measured = measure(&package, variant, &answered, &mut table)?;
        figures.insert(variant.quantization.clone(), measured);
    }
    table.print();
    let splits = items.iter().fold(BTreeMap::new(), |mut counts, item| {
        *counts
            .entry(format!("{}: {}", item.set, item.split))
            .or_insert(0) += 1;
        counts
    });
    figures.insert("items".into(), json!(splits));
    figures.insert("table".into(), table.json());
    write(&Value::Object(figures))
}

/// How long a decision takes; the profile is told, because an unoptimized one is another figure.
fn decisions(package: &Package, items: &[Line], table: &mut Table) -> Result<()> {
    let texts: Vec<&str> = items.iter().map(|item| item.input.as_str()).collect();
    let speed = speed::measure(package.manifest(), &texts)?;
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let name = "decision";
    table.told(name, &format!("median, µs ({build})"), &[speed.median]);
    table.held(
        name,
        &format!("p99, µs ({build})"),
        &[speed.p99],
        Goal::AtMost(DECISION_P99_MICROS),
    );
    table.told(
        name,
        &format!("median of texts of 8 KiB, µs ({build})"),
        &[speed.long_median],
    );
    Ok(())
}

/// For who looks for a better confidence.
fn write_answers(name: &str, items: &[Line], answered: &[Answered]) -> Result<()> {
    let Some(folder) = std::env::var_os("LINESIDE_ROUTER_ANSWERS") else {
        return Ok(());
    };
    ensure!(
        items.len() == answered.len(),
        "some items were not answered"
    );
    let lines = items.iter().zip(answered).map(|(item, it)| {
        let free = it.completion.free.iter();
        let free: Vec<_> = free.map(|it| (it.logprob, it.entropy)).collect();
        let choices = it.completion.choices.iter();
        let choices: Vec<_> = choices.map(|choice| choice.logprob).collect();
        let line = json!({
            "set": item.set, "split": item.split, "task": item.task, "input": item.input,
            "expect": item.expect, "text": it.completion.text, "right": it.right,
            "sibling": it.sibling, "free": free, "choices": choices,
        });
        format!("{line}\n")
    });
    let file = Path::new(&folder).join(format!("{name}.jsonl"));
    fs::write(&file, lines.collect::<String>()).with_context(|| file.display().to_string())
}

fn items() -> Result<Vec<Line>> {
    let file = std::env::var_os("LINESIDE_ROUTER_ITEMS").context("run it by tools/bench router")?;
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let items = text.lines().map(serde_json::from_str);
    let items = items.collect::<Result<Vec<Line>, _>>()?;
    ensure!(
        items.iter().any(|item| item.set == FIT),
        "no development items"
    );
    Ok(items)
}

fn write(figures: &Value) -> Result<()> {
    let file = std::env::var_os("LINESIDE_BENCH_JSON")
        .map_or_else(|| "target/bench/router.json".into(), PathBuf::from);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, serde_json::to_string_pretty(figures)? + "\n")?;
    Ok(())
}

/// Whether the larger sibling is right, item by item. Development items are not asked.
fn sibling(package: &Package, items: &[Line]) -> Result<Option<Vec<bool>>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/variants/sibling-Q4_K_M.gguf");
    if !file.is_file() {
        println!(
            "{} is not there: the labels are the only cloud",
            file.display()
        );
        return Ok(None);
    }
    println!("asking the sibling");
    let (variant, _) = package.variants().last().context("a package has a model")?;
    let book = Book::of(package, variant);
    let answers = ask(package, &book, &file, items)?.into_iter();
    let rights = answers.map(|answer| answer.is_some_and(|(_, right)| right));
    Ok(Some(rights.collect()))
}

/// Puts all items to a model file; none for what could not be answered.
fn ask(
    package: &Package,
    book: &Book,
    file: &Path,
    items: &[Line],
) -> Result<Vec<Option<(Completion, bool)>>> {
    let context = u32::try_from(package.manifest().runtime.context_tokens)?;
    let mut load = book.load(&exam::options(context), None);
    load.model = file.display().to_string();
    let engine = Launch {
        program: env!("CARGO_BIN_EXE_lineside").into(),
        arguments: vec![SUBCOMMAND.into()],
        ..Launch::default()
    };
    let mut sitting = Sitting::open(&engine, load)?;
    let gate = Gate {
        items: (items.iter().enumerate())
            .map(|(at, item)| Item {
                id: at.to_string(),
                task: item.task.clone(),
                input: item.input.clone(),
                expect: item.expect.clone(),
                kind: None,
            })
            .collect(),
    };
    let marks = exam::suite(&mut sitting, book, &gate)?.into_iter();
    Ok(marks
        .map(|mark| Some((mark.answer.ok()?, mark.right)))
        .collect())
}

/// All figures of one variant.
fn measure(
    package: &Package,
    variant: &Variant,
    answered: &[Answered],
    table: &mut Table,
) -> Result<Value> {
    let curves = fitted(answered);
    let mut draws: BTreeMap<&str, Vec<&Answered>> = BTreeMap::new();
    for it in answered.iter().filter(|it| it.set != FIT) {
        draws.entry(&it.set).or_default().push(it);
    }
    ensure!(!draws.is_empty(), "no items that judge");
    let plain = |it: &Answered| features(&it.completion).product();
    let shipped = |it: &Answered| {
        let curve = package.calibration(&it.task, &variant.quantization);
        curve.map_or_else(
            || plain(it),
            |curve| curve.confidence(&features(&it.completion)),
        )
    };
    let calibrated = |it: &Answered| {
        let curve = curves.get(&it.task);
        curve.map_or_else(
            || plain(it),
            |curve| curve.confidence(&features(&it.completion)),
        )
    };
    let told = |of: &[&Answered], sure: &dyn Fn(&Answered) -> f64| -> Vec<Told> {
        let told = of.iter().map(|it| Told {
            sure: sure(it),
            right: it.right,
        });
        told.collect()
    };
    let over = |figure: &dyn Fn(&[&Answered]) -> Option<f64>| -> Vec<f64> {
        draws.values().filter_map(|draw| figure(draw)).collect()
    };
    let name = variant.quantization.as_str();
    let ece =
        |sure: &dyn Fn(&Answered) -> f64| over(&|draw| calibration_error(&told(draw, sure), BINS));
    table.told(
        name,
        "right on the edge",
        &over(&|draw| Some(share(draw, |it| it.right))),
    );
    table.told(name, "ECE of the plain product", &ece(&plain));
    table.told(name, "ECE of the package as it is", &ece(&shipped));
    table.held(
        name,
        "ECE, calibrated",
        &ece(&calibrated),
        Goal::AtMost(ECE),
    );
    table.told(
        name,
        "AUROC of the plain product",
        &over(&|draw| auroc(&told(draw, &plain))),
    );
    table.told(
        name,
        "AUROC, calibrated",
        &over(&|draw| auroc(&told(draw, &calibrated))),
    );
    let ratio = over(&|draw| Some(aurc(&told(draw, &calibrated))? / aurc(&told(draw, &plain))?));
    table.held(
        name,
        "AURC ÷ that of the product",
        &ratio,
        Goal::AtMost(AURC_RATIO),
    );
    let as_it_is = over(&|draw| Some(aurc(&told(draw, &shipped))? / aurc(&told(draw, &plain))?));
    table.told(name, "the same, the package as it is", &as_it_is);

    let clouds = clouds(name, answered, &draws, &calibrated, table);
    let all: Vec<&Answered> = draws.values().flatten().copied().collect();
    risks(name, &told(&all, &calibrated), table);
    Ok(json!({
        "methods": methods(answered, &curves),
        "clouds": clouds,
        "risk_coverage": {
            "product": thin(risk_coverage(&told(&all, &plain))),
            "calibrated": thin(risk_coverage(&told(&all, &calibrated))),
        },
        "reliability": {
            "product": reliability(&told(&all, &plain)),
            "calibrated": reliability(&told(&all, &calibrated)),
        },
    }))
}

/// What it is worth to send on what the edge is least sure of.
fn clouds(
    name: &str,
    answered: &[Answered],
    draws: &BTreeMap<&str, Vec<&Answered>>,
    calibrated: &dyn Fn(&Answered) -> f64,
    table: &mut Table,
) -> serde_json::Map<String, Value> {
    let over = |figure: &dyn Fn(&[&Answered]) -> Option<f64>| -> Vec<f64> {
        draws.values().filter_map(|draw| figure(draw)).collect()
    };
    let mut clouds = serde_json::Map::new();
    let has_sibling = answered.iter().all(|it| it.sibling.is_some());
    let names = [("labels", true), ("sibling", has_sibling)];
    for (cloud, _) in names.into_iter().filter(|(_, there)| *there) {
        let cases = |draw: &[&Answered]| -> Vec<Case> {
            let case = |it: &&Answered| Case {
                sure: calibrated(it),
                edge: it.right,
                cloud: cloud == "labels" || it.sibling == Some(true),
            };
            draw.iter().map(case).collect()
        };
        let way = over(&|draw| apgr(&accuracy_by_cost(&cases(draw))));
        let ahead = over(&|draw| {
            let curve = accuracy_by_cost(&cases(draw));
            Some(curve.last()?.1 - curve.first()?.1)
        });
        table.told(name, &format!("cloud ahead of the edge: {cloud}"), &ahead);
        let what = format!("APGR, cloud: {cloud}");
        if ahead.iter().all(|it| *it >= LEAST_AHEAD) {
            table.held(name, &what, &way, Goal::AtLeast(APGR));
        } else {
            table.told(name, &format!("{what} (hardly ahead: void)"), &way);
        }
        let oracle = over(&|draw| apgr(&accuracy_by_cost(&foreseen(cases(draw)))));
        table.told(name, &format!("APGR of an oracle, cloud: {cloud}"), &oracle);
        let all: Vec<Case> = draws.values().flat_map(|draw| cases(draw)).collect();
        clouds.insert(cloud.into(), drawn(all));
    }
    clouds
}

/// A calibration for each task that has labels for one.
fn fitted(answered: &[Answered]) -> BTreeMap<String, Calibration> {
    let mut labels: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
    for it in answered.iter().filter(|it| it.set == FIT) {
        let sample = Sample::of(&it.completion, it.right);
        labels.entry(&it.task).or_default().push(sample);
    }
    let fitted = labels.into_iter().filter_map(|(task, labels)| {
        let fitted = fit::fit(&labels).ok()?;
        println!(
            "  {task:<20} {:>5} labels: {}{}",
            labels.len(),
            fitted.method.word(),
            if fitted.calibration.blend().is_some() {
                " over a blend"
            } else {
                ""
            }
        );
        Some((task.to_owned(), fitted.calibration))
    });
    fitted.collect()
}

fn methods(answered: &[Answered], curves: &BTreeMap<String, Calibration>) -> Value {
    let of = curves.iter().map(|(task, curve)| {
        let labels = answered
            .iter()
            .filter(|it| it.set == FIT && it.task == *task);
        let blend = curve.blend().map(|blend| blend.weights().to_vec());
        (
            task.clone(),
            json!({"labels": labels.count(), "blend": blend}),
        )
    });
    Value::Object(of.collect())
}

/// The mean risk over resplits: half of the answers set the threshold, the others judge it; and
/// the same where only a hundred set it.
fn risks(name: &str, all: &[Told], table: &mut Table) {
    let target = Target::new(TARGET).expect("five of a hundred");
    for (labels, words) in [
        (all.len() / 2, "half of them set it"),
        (100, "100 labels set it"),
    ] {
        let (mut risk, mut among, mut coverage) = (Vec::new(), Vec::new(), Vec::new());
        for seed in 0..RESPLITS {
            let mut dealt = all.to_vec();
            fastrand::Rng::with_seed(seed).shuffle(&mut dealt);
            let (set, judge) = dealt.split_at(labels);
            let found = kept(judge, control(set, target));
            risk.push(found.risk);
            coverage.push(found.coverage);
            among.extend(found.risk_among_kept);
        }
        table.held(
            name,
            &format!("risk at 5 %, {words}"),
            &risk,
            Goal::AtMost(TARGET),
        );
        table.told(name, &format!("stays on the edge, {words}"), &coverage);
        table.told(name, &format!("errors among what stays, {words}"), &among);
    }
    let few: Vec<Told> = all.iter().take(18).copied().collect();
    assert!(matches!(control(&few, target), Stays::Nothing(_)));
}

/// An item to be routed.
#[derive(Clone, Copy)]
struct Case {
    sure: f64,
    edge: bool,
    cloud: bool,
}

/// As one who knows would have it: first what only the cloud gets right, last what only the edge
/// does.
fn foreseen(cases: Vec<Case>) -> Vec<Case> {
    let known = cases.into_iter().map(|case| Case {
        sure: f64::from(u8::from(case.edge)) - f64::from(u8::from(case.cloud)),
        ..case
    });
    known.collect()
}

/// The share that goes to the cloud, the least sure first, and the share that is right then.
/// Equals go together: what lies between is a straight line.
fn accuracy_by_cost(cases: &[Case]) -> Vec<(f64, f64)> {
    let mut ranked = cases.to_vec();
    ranked.sort_by(|a, b| a.sure.total_cmp(&b.sure));
    let count = ranked.len() as f64;
    let mut right = ranked.iter().filter(|case| case.edge).count() as f64;
    let mut gone = 0.0;
    let mut curve = vec![(0.0, right / count)];
    for equals in ranked.chunk_by(|a, b| a.sure.total_cmp(&b.sure).is_eq()) {
        gone += equals.len() as f64;
        right += equals.iter().filter(|case| case.cloud).count() as f64;
        right -= equals.iter().filter(|case| case.edge).count() as f64;
        curve.push((gone / count, right / count));
    }
    curve
}

/// The mean share of the way from the first point's accuracy to the last one's; none where the
/// cloud is no better.
fn apgr(curve: &[(f64, f64)]) -> Option<f64> {
    let (first, last) = (curve.first()?.1, curve.last()?.1);
    let area = curve.windows(2).map(|pair| {
        let [(x, y), (u, v)] = [pair[0], pair[1]];
        (u - x) * (f64::midpoint(y, v) - first)
    });
    (last > first).then(|| area.sum::<f64>() / (last - first))
}

fn drawn(cases: Vec<Case>) -> Value {
    let ours = accuracy_by_cost(&cases);
    let ends = [ours.first(), ours.last()];
    json!({
        "ours": thin(ours.clone()),
        "oracle": thin(accuracy_by_cost(&foreseen(cases))),
        "random": ends,
    })
}

fn thin(curve: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let step = (curve.len() / DRAWN).max(1);
    let last = curve.len().saturating_sub(1);
    let kept = curve.into_iter().enumerate();
    let kept = kept.filter(|(at, _)| at % step == 0 || *at == last);
    kept.map(|(_, point)| point).collect()
}

fn reliability(told: &[Told]) -> Vec<Value> {
    let bins = bins(told, BINS).into_iter();
    bins.map(|bin| json!({"items": bin.count, "confidence": bin.sure, "right": bin.right}))
        .collect()
}

fn share(of: &[&Answered], is: impl Fn(&Answered) -> bool) -> f64 {
    of.iter().filter(|it| is(it)).count() as f64 / of.len() as f64
}
