//! Whatever stands in a manifest and in a gate suite, reading them ends in a package's parts, which
//! keep to their limits, or in faults that can be printed.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use lineside::package::gate::MAX_ITEMS;
use lineside::package::{
    Faults, Gate, MAX_FAULTS, MAX_TASKS, MAX_VARIANTS, is_package_name, read_manifest,
};

/// Between the manifest and the suite.
const SUITE: &str = "\n----\n";

fn printable(faults: &Faults) {
    assert!((1..=MAX_FAULTS).contains(&faults.list.len()));
    assert!(!faults.to_string().is_empty());
}

fuzz_target!(|text: &str| {
    let (manifest, suite) = text.split_once(SUITE).unwrap_or((text, ""));
    let sheet = match read_manifest(manifest, Path::new("manifest.toml")) {
        Ok(sheet) => sheet,
        Err(faults) => return printable(&faults),
    };
    let manifest = sheet.manifest;
    assert!(is_package_name(&manifest.name));
    assert!((1..=MAX_VARIANTS).contains(&manifest.variants.len()));
    assert!((1..=MAX_TASKS).contains(&manifest.tasks.len()));
    for curve in &manifest.curves {
        let (low, high) = (
            curve.calibration.probability(0.25),
            curve.calibration.probability(0.5),
        );
        assert!((0.0..=1.0).contains(&low) && low <= high && high <= 1.0);
    }
    for risk in &manifest.risks {
        let (strict, lax) = (risk.points.threshold(0.05), risk.points.threshold(0.5));
        assert!(strict.is_none_or(|sure| lax.is_some_and(|lax| lax <= sure && sure <= 1.0)));
    }
    match Gate::read(suite, Path::new("gate.jsonl"), &manifest.tasks) {
        Ok(gate) => assert!(gate.items.len() <= MAX_ITEMS),
        Err(faults) => printable(&faults),
    }
});
