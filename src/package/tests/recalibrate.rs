//! Other curves for a package that is there.

use super::*;
use crate::package::recalibrate::{RecalibrateError, recalibrate};

fn curve(task: &str, right: f64) -> Curve {
    Curve {
        task: task.into(),
        quantization: "Q8_0".into(),
        method: Method::Platt,
        calibration: Calibration::new(vec![(0.0, 0.1), (1.0, right)]).unwrap(),
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
    let new = recalibrate(&package, wanted.curves.clone()).unwrap();
    assert_eq!(new.manifest(), &wanted);
    new.verify().unwrap();
    let again = recalibrate(&new, vec![curve("classify", 0.9)]).unwrap();
    assert_eq!(again.manifest().curves[0], curve("triage", 0.75));
    assert_eq!(again.manifest().curves[1], curve("classify", 0.9));
    assert_eq!(again.manifest().seq, wanted.seq + 1);
}

#[test]
fn a_package_that_changed_meanwhile_stays_as_it_is() {
    let bench = Bench::new();
    let package = bench.open().unwrap();
    let other = bench.manifest().replace("max_tokens = 4", "max_tokens = 5");
    bench.write(MANIFEST, other.as_bytes());
    let error = recalibrate(&package, vec![curve("triage", 0.75)]).unwrap_err();
    assert!(matches!(error, RecalibrateError::Changed(_)), "{error}");
    let there = fs::read_to_string(bench.0.join(MANIFEST)).unwrap();
    assert_eq!(there, other);
}

#[test]
fn a_curve_for_what_the_package_lacks_is_not_written() {
    let bench = Bench::new();
    let package = bench.open().unwrap();
    let error = recalibrate(&package, vec![curve("paint", 0.75)]).unwrap_err();
    assert!(matches!(error, RecalibrateError::Faults(_)), "{error}");
    assert_eq!(bench.open().unwrap().manifest(), package.manifest());
}
