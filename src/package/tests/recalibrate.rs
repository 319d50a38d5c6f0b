//! Other curves for a package that is there.

use super::*;
use crate::package::recalibrate::{Findings, Number, RecalibrateError, recalibrate};

fn curve(task: &str, right: f64) -> Curve {
    Curve {
        task: task.into(),
        quantization: "Q8_0".into(),
        method: Method::Platt,
        calibration: Calibration::new(vec![(0.0, 0.1), (1.0, right)]).unwrap(),
    }
}

fn risk(task: &str, sure: f64) -> Risk {
    Risk {
        task: task.into(),
        quantization: "Q8_0".into(),
        labels: 60,
        points: RiskPoints::new(vec![(0.05, sure), (0.1, sure / 2.0)]).unwrap(),
    }
}

fn curves(curves: &[Curve]) -> Findings {
    Findings {
        curves: curves.to_vec(),
        risks: Vec::new(),
    }
}

#[test]
fn a_new_curve_takes_its_place_and_all_else_stays_but_the_number() {
    let bench = Bench::new();
    let package = bench.open().unwrap();
    let wanted = Manifest {
        seq: package.manifest().seq + 1,
        curves: vec![curve("triage", 0.75), curve("classify", 0.5)],
        ..package.manifest().clone()
    };
    let new = recalibrate(&package, curves(&wanted.curves), Number::Next).unwrap();
    assert_eq!(new.manifest(), &wanted);
    new.verify().unwrap();
    let again = recalibrate(&new, curves(&[curve("classify", 0.9)]), Number::Next).unwrap();
    assert_eq!(again.manifest().curves[0], curve("triage", 0.75));
    assert_eq!(again.manifest().curves[1], curve("classify", 0.9));
    assert_eq!(again.manifest().seq, wanted.seq + 1);
}

#[test]
fn points_of_risk_replace_all_that_were_there_and_the_number_stays_where_nobody_has_it() {
    let bench = Bench::new();
    let package = bench.open().unwrap();
    let found = |risks: &[Risk]| Findings {
        curves: Vec::new(),
        risks: risks.to_vec(),
    };
    let both = [risk("triage", 0.9), risk("classify", 0.123_456_789)];
    let new = recalibrate(&package, found(&both), Number::Same).unwrap();
    assert_eq!(new.manifest().risks, both);
    assert_eq!(new.manifest().seq, package.manifest().seq);
    assert_eq!(new.manifest().curves, package.manifest().curves);
    let one = recalibrate(&new, found(&both[1..]), Number::Next).unwrap();
    assert_eq!(one.manifest().risks, both[1..]);
    let points = |task| one.manifest().risk(task, "Q8_0");
    assert_eq!(points("classify"), Some(&both[1].points));
    assert_eq!(points("triage"), None);
}

#[test]
fn a_package_that_changed_meanwhile_stays_as_it_is() {
    let bench = Bench::new();
    let package = bench.open().unwrap();
    let other = bench.manifest().replace("max_tokens = 4", "max_tokens = 5");
    bench.write(MANIFEST, other.as_bytes());
    let error = recalibrate(&package, curves(&[curve("triage", 0.75)]), Number::Next).unwrap_err();
    assert!(matches!(error, RecalibrateError::Changed(_)), "{error}");
    let there = fs::read_to_string(bench.0.join(MANIFEST)).unwrap();
    assert_eq!(there, other);
}

#[test]
fn a_curve_for_what_the_package_lacks_is_not_written() {
    let bench = Bench::new();
    let package = bench.open().unwrap();
    let error = recalibrate(&package, curves(&[curve("paint", 0.75)]), Number::Next).unwrap_err();
    assert!(matches!(error, RecalibrateError::Faults(_)), "{error}");
    assert_eq!(bench.open().unwrap().manifest(), package.manifest());
}
