//! Tiers from one file, by the real quantizer, each with figures of its own.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use lineside::package::Package;
use serde_json::Value;

use crate::plant::{Plant, bundled};

/// The bundled model in F16, as a trainer would hand it over.
#[expect(
    unsafe_code,
    reason = "only tests need the way back from few bits to many"
)]
fn in_f16(to: &Path) {
    let manifest = lineside::package::manifest_in(&bundled()).unwrap();
    let from = bundled().join(manifest.variants[0].file.path.as_str());
    let native = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
    let (from, to) = (native(&from), native(to));
    // SAFETY: plain values and two paths that outlive the call.
    let code = unsafe {
        llama_cpp_sys_2::llama_backend_init();
        let mut params = llama_cpp_sys_2::llama_model_quantize_default_params();
        params.allow_requantize = true;
        params.ftype = llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_F16;
        llama_cpp_sys_2::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params)
    };
    assert_eq!(code, 0);
}

/// One task of the bundled package, with its items.
fn materials(plant: &Plant, accuracy: &str) {
    let folder = plant.at("src");
    fs::create_dir_all(folder.join("grammars")).unwrap();
    let grammar = "grammars/triage.gbnf";
    fs::copy(bundled().join(grammar), folder.join(grammar)).unwrap();
    let suite = fs::read_to_string(bundled().join("gate.jsonl")).unwrap();
    let own = suite.lines().filter(|line| {
        line.contains("\"task\":\"triage\"") || line.contains("\"task\": \"triage\"")
    });
    let own = own.fold(String::new(), |text, line| text + line + "\n");
    assert!(!own.is_empty());
    fs::write(folder.join("gate.jsonl"), own).unwrap();
    let tasks = format!(
        "description = \"Tiers\"\nlicense = \"MIT\"\n[runtime]\ncontext_tokens = 512\n[[task]]\n\
         name = \"triage\"\nprompt_version = \"1\"\nsystem = \"triage\"\n\
         answer = {{ grammar = \"{grammar}\" }}\nmax_tokens = 48\nthreshold = 0.65\n\
         needs_person_field = \"needs_human\"\n[[bars.task]]\nname = \"triage\"\naccuracy = {accuracy}\n"
    );
    fs::write(folder.join("tasks.toml"), tasks).unwrap();
}

#[test]
fn each_tier_has_a_curve_and_a_gate_of_its_own_and_the_package_is_signed() {
    let plant = Plant::simple();
    in_f16(&plant.at("triage-F16.gguf"));
    materials(&plant, "0.5");
    let order = [
        "package",
        "tiers",
        "triage-F16.gguf",
        "--tier",
        "Q8_0",
        "--tier",
        "Q4_K_M",
        "--tasks",
        "src/tasks.toml",
        "--gate",
        "src/gate.jsonl",
        "--out",
        "triage",
        "--json",
    ];
    let (out, _) = plant.done(&order);
    let report: Value = serde_json::from_str(&out).unwrap();
    let gate = report["gate"].as_array().unwrap();
    assert_eq!(gate.len(), 2, "{report}");
    let package = Package::open(&plant.at("triage")).unwrap();
    let tiers = package.manifest().variants.iter();
    let tiers: Vec<_> = tiers.map(|it| it.quantization.as_str()).collect();
    assert_eq!(tiers, ["Q8_0", "Q4_K_M"]);
    let sizes: Vec<_> = package
        .manifest()
        .variants
        .iter()
        .map(|it| it.file.bytes)
        .collect();
    assert!(sizes[1] < sizes[0], "{sizes:?}");
    let told = fs::read_to_string(plant.at("triage.tiers.txt")).unwrap();
    // What its confidence is worth, in a row of its own, before and after.
    for tier in tiers {
        let row =
            |line: &&str| line.starts_with(tier) && line.contains("triage") && line.contains('→');
        assert_eq!(told.lines().filter(row).count(), 1, "{tier}: {told}");
    }
    for word in ["ECE", "accuracy of triage", "passes"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let left = fs::read_dir(plant.at("."))
        .unwrap()
        .map(|it| it.unwrap().file_name());
    let left: Vec<_> = left
        .filter(|it| it.to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    plant.with(&["ann", "online"], &["package", "add", "triage"], 0);
    plant.sound("repo");

    let wrong = [&order[..4], &["Q9"], &order[7..]].concat();
    let (_, told) = plant.ended(&wrong, 64);
    assert!(told.contains("Q6_K"), "{told}");
    // What cannot be quantized is no reason for half a package.
    fs::write(plant.at("noise-F16.gguf"), b"GGUF and nothing behind").unwrap();
    let noise = [
        "package",
        "tiers",
        "noise-F16.gguf",
        "--tasks",
        "src/tasks.toml",
    ];
    let noise = [&noise[..], &["--gate", "src/gate.jsonl", "--out", "noise"]].concat();
    let (_, told) = plant.ended(&noise, 78);
    assert!(told.contains("cannot quantize"), "{told}");
    assert!(!plant.at("noise").exists());
}
