//! Manifests that are right, and one fault at a time.

use super::*;

const HASH: &str = "0825363fc326a14519b7fabc8c0097e5a26d2336af02828c6f2296b2adc04b54";

fn text() -> String {
    format!(
        r#"{{
  "format": 1, "name": "plant", "seq": 3,
  "sheet": {{"bytes": 900, "sha256": "{HASH}"}},
  "variants": [
    {{"quantization": "Q8_0", "path": "big.gguf",
      "object": {{"bytes": 100000, "sha256": "{HASH}", "chunk_bytes": 65536, "chunks": ["{HASH}", "{HASH}"]}},
      "header": {{"architecture": "llama", "context_tokens": 512, "vocabulary": 4, "parameters": 9,
                  "tensors": 1, "tensor_bytes": 36, "data_offset": 64}}}},
    {{"quantization": "Q4_K_M", "path": "small.gguf",
      "object": {{"bytes": 50000, "sha256": "{HASH}"}},
      "header": {{"architecture": "llama", "vocabulary": 4, "parameters": 9,
                  "tensors": 1, "tensor_bytes": 36, "data_offset": 64}}}}
  ],
  "files": [{{"path": "grammars/a.gbnf", "object": {{"bytes": 7, "sha256": "{HASH}"}}}}]
}}"#
    )
}

#[test]
fn a_manifest_says_the_same_after_a_way_through_json() {
    let manifest = Manifest::parse(text().as_bytes()).unwrap();
    assert_eq!(manifest.target_name(), "plant-3.json");
    assert_eq!(manifest.variants[0].file.object.bytes(), 100_000);
    assert_eq!(manifest.variants[0].file.object.chunks().len(), 2);
    assert_eq!(manifest.variants[0].facts.context_tokens, Some(512));
    let again = Manifest::parse(manifest.to_json().as_bytes()).unwrap();
    assert_eq!(again, manifest);
    assert_eq!(again.to_json(), manifest.to_json());
}

#[test]
fn every_part_that_is_wrong_is_named() {
    for (part, instead, told) in [
        ("\"plant\"", "\"Plant\"", "name"),
        ("\"plant\"", "\"../x\"", "name"),
        ("\"seq\": 3", "\"seq\": 0", "seq"),
        ("\"seq\": 3", "\"seq\": 9007199254740993", "seq"),
        ("\"seq\": 3", "\"seq\": -1", "invalid value"),
        ("grammars/a.gbnf", "../a.gbnf", "../a.gbnf"),
        ("grammars/a.gbnf", "/etc/passwd", "/etc/passwd"),
        ("grammars/a.gbnf", "manifest.toml", "manifest.toml"),
        ("grammars/a.gbnf", "big.gguf", "stands there once"),
        ("Q4_K_M", "Q8_0", "stands there once"),
        ("Q4_K_M", "", "quantization"),
        ("\"bytes\": 7,", "\"bytes\": 0,", "0 bytes"),
        (
            "\"bytes\": 100000",
            "\"bytes\": 200000",
            "2 digests of chunks, where 4",
        ),
        ("65536", "65537", "chunks of 65537 bytes"),
        ("\"chunk_bytes\": 65536, ", "", "chunk_bytes beside chunks"),
        (
            "\"chunks\": [",
            "\"chunks\": [\"zz\", ",
            "hexadecimal digits",
        ),
        (
            "\"bytes\": 900",
            "\"bytes\": 17000000",
            "0 digests of chunks, where 2",
        ),
        ("\"format\": 1", "\"format\": 2", "format 2"),
        ("\"files\"", "\"more\": 1, \"files\"", "unknown field"),
        ("\"llama\", \"context", "\"\", \"context", "architecture"),
    ] {
        let text = text();
        assert!(text.contains(part), "{part}");
        let error = Manifest::parse(text.replacen(part, instead, 1).as_bytes());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(told), "{part} -> {instead}: {error}");
    }
}

#[test]
fn what_is_absurd_is_refused_before_it_is_read() {
    let long = vec![b' '; usize::try_from(MAX_MANIFEST_BYTES).unwrap() + 1];
    let error = Manifest::parse(&long).unwrap_err();
    assert_eq!(error, ManifestError::TooLong(MAX_MANIFEST_BYTES + 1));
    assert!(Manifest::parse(b"").is_err());
    assert!(Manifest::parse(b"[1]").is_err());
    let deep = "[".repeat(100_000);
    assert!(Manifest::parse(deep.as_bytes()).is_err());
}

#[test]
fn a_folders_own_manifest_that_says_something_else_is_found_out() {
    let text = include_str!("../../../models/factory-triage/manifest.toml");
    let sheet = package::read_manifest(text, std::path::Path::new("manifest.toml")).unwrap();
    let file = |listed: &package::Listed| File {
        path: listed.path.clone(),
        object: Object::single(listed.sha256, listed.bytes).unwrap(),
    };
    let good = Manifest {
        name: sheet.manifest.name.clone(),
        seq: sheet.manifest.seq,
        sheet: Object::single(Digest([0; 32]), 1).unwrap(),
        variants: (sheet.manifest.variants.iter())
            .map(|variant| Variant {
                quantization: variant.quantization.clone(),
                file: file(&variant.file),
                facts: Facts::default(),
            })
            .collect(),
        files: sheet.manifest.files.iter().map(file).collect(),
    };
    good.agrees(&sheet.manifest).unwrap();
    let wrong = |change: fn(&mut Manifest)| {
        let mut other = good.clone();
        change(&mut other);
        other.agrees(&sheet.manifest).unwrap_err().to_string()
    };
    assert!(wrong(|it| it.name = "x".into()).contains("the name"));
    assert!(wrong(|it| it.seq += 1).contains("the number"));
    assert!(wrong(|it| it.variants.truncate(1)).contains("the variants"));
    assert!(wrong(|it| it.variants.swap(0, 1)).contains("Q4_K_M.gguf"));
    assert!(wrong(|it| it.files.truncate(1)).contains("the files"));
    let other = |it: &mut Manifest| it.files[0].object = it.files[1].object.clone();
    assert!(wrong(other).contains("gate.jsonl"));
    let quantization = |it: &mut Manifest| it.variants[0].quantization = "F16".into();
    assert!(wrong(quantization).contains("Q8_0.gguf"));
}

#[test]
fn a_narrowed_manifest_has_one_variant_and_what_belongs_to_it() {
    let text = include_str!("../../../models/factory-triage/manifest.toml");
    let file = std::path::Path::new("manifest.toml");
    let whole = package::read_manifest(text, file).unwrap().manifest;
    let narrow = package::narrowed(&whole, "Q4_K_M");
    let narrow = package::read_manifest(&narrow, file).unwrap().manifest;
    assert_eq!(narrow.variants, whole.variants[1..]);
    assert_eq!(narrow.tasks, whole.tasks);
    assert_eq!(narrow.files, whole.files);
    assert_eq!(narrow.bars, whole.bars);
    assert!(!narrow.curves.is_empty() && !narrow.risks.is_empty());
    for task in whole.tasks.iter().map(|task| &task.name) {
        let curve = narrow.calibration(task, "Q4_K_M");
        assert_eq!(curve, whole.calibration(task, "Q4_K_M"));
        assert_eq!(narrow.calibration(task, "Q8_0"), None);
        assert_eq!(narrow.risk(task, "Q4_K_M"), whole.risk(task, "Q4_K_M"));
    }
}
