//! What a package lacks.

use super::super::gate::ENOUGH_ITEMS;
use super::*;

#[test]
fn what_a_package_lacks_is_told_and_nothing_else() {
    let bench = Bench::new();
    let package = bench.open().unwrap();
    let lacking = [
        "a gate suite of 4 items",
        "no accuracy bar for classify",
        "no calibration of Q8_0 for classify",
    ];
    assert_eq!(whats(&package.notes()), lacking);

    let enough = suite(ENOUGH_ITEMS / 2);
    bench.write("gate.jsonl", enough.as_bytes());
    bench.write(MANIFEST, bench.manifest().as_bytes());
    assert_eq!(whats(&bench.open().unwrap().notes()), lacking[1..]);

    let text = bench.manifest();
    let (before, _) = text.split_once("[bars]").unwrap();
    let small = before.replace("context_tokens = 512", "context_tokens = 128");
    bench.write(
        MANIFEST,
        small
            .replace("quantization = \"Q8_0\"", "quantization = \"Q8_X\"")
            .as_bytes(),
    );
    let package = bench.open().unwrap();
    assert_eq!(
        whats(&package.notes()),
        [
            "no gate suite",
            "no calibration of Q8_X for classify",
            "tiny.gguf calls itself Q8_0, the manifest Q8_X",
            "a context of 128 tokens; triage may take 170",
        ]
    );
}
