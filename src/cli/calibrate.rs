//! `lineside calibrate`: finds out how far to believe a package's answers, and writes it down.
//! What reviewers taught the running appliance is another matter: [`super::learned`].
//!
//! The package's gate suite goes through the engine for each variant of its model, as a device's
//! requests would, and each task's right and wrong answers make a curve. The running service is
//! not asked.
//!
//! What is told of a curve as evidence is cross-fitted: no answer is judged by what it taught. A
//! curve is written only where unseen answers surprise it clearly less than what the package says
//! now, so that a small suite does not replace by chance what a large one found. The suite that
//! was fitted is no evidence any more for the gate's own bar on calibration, which is said too.
//!
//! Points of risk are written with it: which confidence keeps the errors that stay on the edge to a
//! share, for the usual shares and the one that is asked for. They stay as they are as long as
//! their curve does: found again on a suite that taught the curve, they would promise too much.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use serde::Serialize;

use super::check::json;
use super::models::{complain, verified};
use super::progress::Bar;
use super::reach::{Target as Reach, refuse};
use crate::config::EXIT_CODE;
use crate::engine::exam::{self, ExamError, Sitting};
use crate::engine::order::Book;
use crate::engine::process::Launch;
use crate::package::recalibrate::{Findings, Number, RecalibrateError, recalibrate};
use crate::package::{Curve, Gate, Package, Risk, Task, Variant};
use crate::router::confidence::figures::{Figures, is_clearly_better};
use crate::router::confidence::fit::{self, FOLDS, Fitted};
use crate::router::confidence::risk::{self, Kept, Stays, Target, control, kept};
use crate::router::confidence::{Sample, Told, TooFew};

/// Arguments of `lineside calibrate`.
#[derive(Clone, Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line"
)]
pub struct Args {
    /// The package's folder.
    #[arg(value_name = "PACKAGE", required_unless_present = "learned")]
    folder: Option<PathBuf>,
    /// Show what reviewers taught the running appliance; no package is looked at.
    #[arg(long, conflicts_with_all = ["folder", "risk_target", "keep_curves", "same_number", "dry_run"])]
    pub learned: bool,
    /// Take the last change of this task back; the verdicts that led to it are dropped.
    #[arg(long, value_name = "TASK", requires = "learned")]
    pub undo: Option<String>,
    /// The alarm of this task has been seen.
    #[arg(
        long,
        value_name = "TASK",
        requires = "learned",
        conflicts_with = "undo"
    )]
    pub acknowledge: Option<String>,
    /// Tell which threshold keeps the share of wrong answers that stay on the edge to this, such
    /// as 0.05, and write it into the package beside those for the usual shares.
    #[arg(long, value_name = "SHARE", value_parser = target)]
    risk_target: Option<Target>,
    /// Leave the curves as they are, because they were found by more labels than the suite has;
    /// only points of risk are written.
    #[arg(long)]
    keep_curves: bool,
    /// Leave the package's number as it is: for one that nobody has yet.
    #[arg(long)]
    same_number: bool,
    /// Tell what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Which appliance, for what was learned; and the form of the output.
    #[command(flatten)]
    pub target: Reach,
}

fn target(share: &str) -> Result<Target, String> {
    let share = share.parse().ok().and_then(Target::new);
    share.ok_or_else(|| "a share between 0 and 1, such as 0.05".into())
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The engine.
    #[error(transparent)]
    Exam(#[from] ExamError),
    /// The package on the disk.
    #[error(transparent)]
    Write(#[from] RecalibrateError),
    /// The terminal.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs the subcommand and returns the exit code.
pub fn command(args: &Args) -> Result<u8, CalibrateError> {
    let Some(folder) = &args.folder else {
        return Ok(turned_away(args, "which package?"));
    };
    let opened = Package::open(folder);
    let package = match opened.and_then(verified) {
        Ok(package) => package,
        Err(faults) => return Ok(complain(&faults, args.target.json)?),
    };
    let Some(gate) = package.gate() else {
        return Ok(turned_away(
            args,
            "the package has no gate suite: there is nothing to calibrate by",
        ));
    };
    let most = package.manifest().tasks.iter();
    let most = most.map(|task| gate.count(&task.name)).max().unwrap_or(0);
    if most < fit::LEAST {
        return Ok(turned_away(
            args,
            &format!(
                "the gate suite has {most} items for a task at most: a curve takes {} labels",
                fit::LEAST
            ),
        ));
    }
    let mut findings = Vec::new();
    for (variant, _) in package.variants() {
        findings.extend(examine(&package, variant, gate)?);
    }
    if args.keep_curves {
        for it in &mut findings {
            it.curve = Place::Kept;
        }
    }
    let found = Findings {
        curves: findings.iter().filter_map(Finding::curve).collect(),
        risks: (findings.iter())
            .filter_map(|it| it.risk(&package, args.risk_target))
            .collect(),
    };
    let nothing_new = found.curves.is_empty() && found.risks == package.manifest().risks;
    let written = if nothing_new || args.dry_run {
        None
    } else {
        let number = if args.same_number {
            Number::Same
        } else {
            Number::Next
        };
        Some(recalibrate(&package, found, number)?.manifest().seq)
    };
    let text = if args.target.json {
        let report = Report::of(&package, &findings, args, written);
        format!("{}\n", json(&report))
    } else {
        let outcome = match (written, args.dry_run) {
            (Some(seq), _) => Outcome::Written(seq),
            (None, true) => Outcome::DryRun,
            (None, false) => Outcome::NothingNew,
        };
        told(&package, &findings, args.risk_target, outcome)
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(0)
}

/// Calibrates a package that nobody has yet, so that it keeps its number. Returns it, and what was
/// found in words; none where its suite is too small for a curve.
pub fn calibrate_new(package: &Package) -> Result<Option<(Package, String)>, CalibrateError> {
    let Some(gate) = package.gate() else {
        return Ok(None);
    };
    let mut tasks = package.manifest().tasks.iter();
    if !tasks.any(|task| gate.count(&task.name) >= fit::LEAST) {
        return Ok(None);
    }
    let mut findings = Vec::new();
    for (variant, _) in package.variants() {
        findings.extend(examine(package, variant, gate)?);
    }
    let found = Findings {
        curves: findings.iter().filter_map(Finding::curve).collect(),
        risks: (findings.iter())
            .filter_map(|it| it.risk(package, None))
            .collect(),
    };
    let calibrated = recalibrate(package, found, Number::Same)?;
    let words = told(
        package,
        &findings,
        None,
        Outcome::Written(package.manifest().seq),
    );
    Ok(Some((calibrated, words)))
}

/// What became of the package.
#[derive(Clone, Copy)]
enum Outcome {
    /// It has this number now.
    Written(u64),
    /// Nobody was to write.
    DryRun,
    /// There was nothing new.
    NothingNew,
}

fn turned_away(args: &Args, why: &str) -> u8 {
    refuse(args.target.json, "cannot_calibrate", why);
    EXIT_CODE
}

/// What was found of one task and one variant.
struct Finding {
    task: String,
    quantization: String,
    /// Items that were not answered: they teach nothing.
    unanswered: usize,
    /// What the package says now.
    before: Vec<Told>,
    /// What a new curve says of answers that it has not seen.
    after: Result<(Fitted, Vec<Told>), TooFew>,
    /// Whether a new curve may take the old one's place.
    curve: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Open,
    Kept,
}

impl Finding {
    fn of(task: &Task, variant: &Variant, labels: Labels) -> Self {
        let after = fit::fit(&labels.samples)
            .and_then(|fitted| Ok((fitted, fit::crossed(&labels.samples, fit::fit)?)));
        Self {
            task: task.name.clone(),
            quantization: variant.quantization.clone(),
            unanswered: labels.unanswered,
            before: labels.before,
            after,
            curve: Place::Open,
        }
    }

    /// Whether a new curve takes the old one's place: unseen answers surprise it clearly less.
    fn is_better(&self) -> bool {
        let after = self.after.as_ref();
        let better = after.is_ok_and(|(_, told)| is_clearly_better(told, &self.before));
        self.curve == Place::Open && better
    }

    /// What is told of answers from now on, as far as it is known of these.
    fn told(&self) -> &[Told] {
        match &self.after {
            Ok((_, told)) if self.is_better() => told,
            Ok(_) | Err(_) => &self.before,
        }
    }

    /// What stays on the edge at a target, and what becomes of these answers then.
    fn stays(&self, target: Target) -> (Stays, Kept) {
        let stays = control(self.told(), target);
        (stays, kept(self.told(), stays))
    }

    /// The points of risk that the package has from now on. Those that it has stay with their
    /// curve, unless they lack a share that is asked for.
    fn risk(&self, package: &Package, also: Option<Target>) -> Option<Risk> {
        let there = package.manifest().risks.iter();
        let there = there
            .filter(|it| it.task == self.task && it.quantization == self.quantization)
            .find(|it| it.labels == self.told().len() as u64 && !self.is_better());
        let labels = self.told().len();
        let has = |target: Target| {
            let points = there.iter().flat_map(|it| it.points.points());
            let shares = points.map(|(share, _)| Target::new(*share));
            labels < target.labels() || shares.into_iter().any(|it| it == Some(target))
        };
        if let Some(there) = there
            && also.is_none_or(has)
        {
            return Some(there.clone());
        }
        Some(Risk {
            task: self.task.clone(),
            quantization: self.quantization.clone(),
            labels: self.told().len() as u64,
            points: risk::points(self.told(), also)?,
        })
    }

    /// What is to be written.
    fn curve(&self) -> Option<Curve> {
        let (fitted, _) = self.after.as_ref().ok().filter(|_| self.is_better())?;
        Some(Curve {
            task: self.task.clone(),
            quantization: self.quantization.clone(),
            method: fitted.method,
            calibration: fitted.calibration.clone(),
        })
    }
}

/// The answers to one task's items.
#[derive(Default)]
struct Labels {
    samples: Vec<Sample>,
    before: Vec<Told>,
    unanswered: usize,
}

/// Puts the suite to a variant.
fn examine(
    package: &Package,
    variant: &Variant,
    gate: &Gate,
) -> Result<Vec<Finding>, CalibrateError> {
    let context = u32::try_from(package.manifest().runtime.context_tokens).unwrap_or(u32::MAX);
    let book = Book::of(package, variant);
    let load = book.load(&exam::options(context), None);
    let mut sitting = Sitting::open(&Launch::default(), load)?;
    let what = format!("asking {}", variant.quantization);
    let mut bar = Bar::new(&what, gate.items.len() as u64);
    let marks = exam::suite_aloud(&mut sitting, &book, gate, &mut || bar.add(1))?;
    drop(bar);
    let findings = package.manifest().tasks.iter().map(|task| {
        let mut labels = Labels::default();
        let items = gate.items.iter().zip(&marks);
        for (_, mark) in items.filter(|(item, _)| item.task == task.name) {
            match &mark.answer {
                Ok(completion) => {
                    labels.samples.push(Sample::of(completion, mark.right));
                    labels.before.push(Told {
                        sure: f64::from(completion.confidence),
                        right: mark.right,
                    });
                }
                Err(_) => labels.unanswered += 1,
            }
        }
        Finding::of(task, variant, labels)
    });
    Ok(findings.collect())
}

/// For people.
fn told(
    package: &Package,
    findings: &[Finding],
    risk_target: Option<Target>,
    outcome: Outcome,
) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}"); // a String takes all
    };
    let manifest = package.manifest();
    line(format!(
        "{} {}, number {}",
        manifest.name, manifest.version, manifest.seq
    ));
    line(format!(
        "{:<8} {:<20} {:>5} {:>6}  {:<15} {:<15} {:<15} {:<10}",
        "variant", "task", "items", "right", "ECE", "AUROC", "AURC", "curve"
    ));
    for finding in findings {
        line(row(finding));
    }
    if let Some(target) = risk_target {
        for finding in findings {
            line(threshold(finding, target));
        }
    }
    line(format!(
        "Of each pair: what the package says now, then a new curve's word on answers that it has \
         not seen ({FOLDS} hands, each judged by the others)."
    ));
    line(
        "The suite was fitted: the gate's own bar on calibration proves nothing new by it.".into(),
    );
    line(match outcome {
        Outcome::Written(seq) => format!(
            "{}: written, the package is number {seq} now",
            package.folder().display()
        ),
        Outcome::DryRun => format!("{}: nothing was written", package.folder().display()),
        Outcome::NothingNew => format!(
            "{}: no new curve is better and the points of risk stay, nothing was written",
            package.folder().display()
        ),
    });
    text
}

fn row(finding: &Finding) -> String {
    let figures = Figures::of(&finding.before);
    let after = finding.after.as_ref().ok();
    let after = after.and_then(|(_, told)| Figures::of(told));
    let pair = |of: &dyn Fn(&Figures) -> Option<f64>| {
        let one = |figures: &Option<Figures>| {
            let figure = figures.as_ref().and_then(of);
            figure.map_or("–".into(), |figure| format!("{figure:.3}"))
        };
        format!("{} → {}", one(&figures), one(&after))
    };
    let right = figures.map_or(0.0, |it| it.right * 100.0);
    let curve = match &finding.after {
        Ok((fitted, _)) if finding.is_better() => fitted.method.word().to_owned(),
        Ok(_) if finding.curve == Place::Kept => "kept".to_owned(),
        Ok(_) => "kept: not better".to_owned(),
        Err(few) => format!("none: {few}"),
    };
    let missing = match finding.unanswered {
        0 => String::new(),
        count => format!(", {count} not answered"),
    };
    format!(
        "{:<8} {:<20} {:>5} {:>5.1}%  {:<15} {:<15} {:<15} {curve}{missing}",
        finding.quantization,
        finding.task,
        finding.before.len(),
        right,
        pair(&|it| Some(it.ece)),
        pair(&|it| it.auroc),
        pair(&|it| Some(it.aurc)),
    )
}

/// The threshold that a target makes, in a line.
fn threshold(finding: &Finding, target: Target) -> String {
    let (stays, kept) = finding.stays(target);
    let found = match stays {
        Stays::From(threshold) => format!(
            "threshold {threshold:.4}: {:.1} % stay on the edge, {:.1} % of all are wrong there",
            kept.coverage * 100.0,
            kept.risk * 100.0
        ),
        Stays::Nothing(few) => format!("nothing stays on the edge: {few}"),
    };
    format!(
        "{:<8} {:<20} risk {}: {found}",
        finding.quantization,
        finding.task,
        target.share()
    )
}

/// The JSON of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    folder: String,
    name: &'a str,
    /// The number that was written, if one was.
    seq: Option<u64>,
    folds: usize,
    findings: Vec<FindingJson<'a>>,
}

#[derive(Serialize)]
struct FindingJson<'a> {
    task: &'a str,
    quantization: &'a str,
    items: usize,
    unanswered: usize,
    /// What the package says now.
    before: Option<FiguresJson>,
    /// What a new curve says of answers that it has not seen.
    after: Option<FiguresJson>,
    method: Option<&'static str>,
    blend: bool,
    /// Whether the new curve is better, and thus written.
    better: bool,
    /// The threshold for the risk target; none without a target, and where it cannot be promised.
    threshold: Option<f64>,
    why_not: Option<String>,
}

#[derive(Serialize)]
struct FiguresJson {
    right: f64,
    ece: f64,
    brier: f64,
    aurc: f64,
    auroc: Option<f64>,
}

impl FiguresJson {
    fn of(told: &[Told]) -> Option<Self> {
        Figures::of(told).map(|it| Self {
            right: it.right,
            ece: it.ece,
            brier: it.brier,
            aurc: it.aurc,
            auroc: it.auroc,
        })
    }
}

impl<'a> Report<'a> {
    fn of(
        package: &'a Package,
        findings: &'a [Finding],
        args: &Args,
        written: Option<u64>,
    ) -> Self {
        let findings = findings.iter().map(|finding| {
            let after = finding.after.as_ref();
            let fitted = after.ok().map(|(fitted, _)| fitted);
            FindingJson {
                task: &finding.task,
                quantization: &finding.quantization,
                items: finding.before.len(),
                unanswered: finding.unanswered,
                before: FiguresJson::of(&finding.before),
                after: after.ok().and_then(|(_, told)| FiguresJson::of(told)),
                method: fitted.map(|fitted| fitted.method.word()),
                blend: fitted.is_some_and(|fitted| fitted.calibration.blend().is_some()),
                better: finding.is_better(),
                threshold: args.risk_target.and_then(|it| match finding.stays(it).0 {
                    Stays::From(threshold) => Some(threshold),
                    Stays::Nothing(_) => None,
                }),
                why_not: match after {
                    Ok(_) => (!finding.is_better()).then(|| "not better".into()),
                    Err(few) => Some(few.to_string()),
                },
            }
        });
        Self {
            ok: true,
            folder: package.folder().display().to_string(),
            name: &package.manifest().name,
            seq: written,
            folds: FOLDS,
            findings: findings.collect(),
        }
    }
}
