//! The package in `models/factory-triage`, which every appliance starts with: it is there, and
//! whole.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use lineside::package::Package;

#[test]
fn the_bundled_package_is_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    let package = Package::open(&folder).unwrap_or_else(|faults| panic!("{faults}"));
    package.verify().unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(package.manifest().name, "factory-triage");
    // It is the example that others follow: it lacks nothing.
    let notes = package.notes();
    assert!(notes.is_empty(), "{notes:#?}");
    for (variant, header) in package.variants() {
        assert_eq!(header.quantization, Some(variant.quantization.as_str()));
    }
}
