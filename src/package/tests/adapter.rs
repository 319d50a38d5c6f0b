//! Adapters, held against the model that they are to change.

use super::*;

const F32: u32 = 0;

/// A model with one matrix of 8 by 4, beside the embedding.
fn model() -> TinyGguf {
    let mut model = TinyGguf::new("llama");
    model
        .tensors
        .push(("blk.0.attn_q.weight".into(), vec![8, 4], F32, 512));
    model.data.resize(512 + 8 * 4 * 4, 0);
    model
}

/// An adapter of these tensors.
pub(super) fn lora(tensors: &[(&str, [u64; 2])]) -> TinyGguf {
    let mut lora = TinyGguf {
        version: 3,
        pairs: Vec::new(),
        tensors: Vec::new(),
        data: Vec::new(),
    };
    for (name, shape) in tensors {
        let offset = lora.data.len() as u64;
        lora.tensors
            .push(((*name).into(), shape.to_vec(), F32, offset));
        let bytes = usize::try_from(shape[0] * shape[1] * 4).unwrap();
        lora.data
            .resize((lora.data.len() + bytes).next_multiple_of(32), 0);
    }
    lora.text("general.architecture", "llama")
        .text("general.type", "adapter")
        .text("adapter.type", "lora")
}

pub(super) const PAIR: [(&str, [u64; 2]); 2] = [
    ("blk.0.attn_q.weight.lora_a", [8, 2]),
    ("blk.0.attn_q.weight.lora_b", [2, 4]),
];

pub(super) fn bench(lora: &TinyGguf, scale: &str) -> Bench {
    let bench = Bench::new();
    bench.write("tiny.gguf", &model().bytes());
    bench.write("lora.gguf", &lora.bytes());
    let table = format!(
        "[adapter]\nfile = \"lora.gguf\"\nscale = {scale}\n{}\n[bars]",
        bench.listed("lora.gguf")
    );
    let manifest = bench.manifest().replace("[bars]", &table);
    bench.write(MANIFEST, manifest.as_bytes());
    bench
}

#[test]
fn an_adapter_that_fits_is_listed_verified_and_told() {
    let bench = bench(&lora(&PAIR), "0.5");
    let package = bench.open().unwrap();
    package.verify().unwrap();
    let (path, adapter) = package.adapter().unwrap();
    assert_eq!(path, bench.0.join("lora.gguf"));
    assert!((adapter.scale - 0.5).abs() < 1e-12);
    let text = crate::package::write::manifest(package.manifest());
    let again = read_manifest(&text, Path::new("again.toml")).unwrap();
    assert_eq!(&again.manifest, package.manifest());
    // Every byte of it counts.
    let mut bytes = lora(&PAIR).bytes();
    *bytes.last_mut().unwrap() ^= 1;
    bench.write("lora.gguf", &bytes);
    let fault = bench.open().unwrap().verify().unwrap_err().to_string();
    assert!(fault.contains("lora.gguf"), "{fault}");
    // And it must be there.
    fs::remove_file(bench.0.join("lora.gguf")).unwrap();
    assert!(bench.fault().contains("(not there)"));
}

#[test]
fn the_scale_has_limits_and_the_table_has_no_other_keys() {
    for (scale, good) in [("0", true), ("4.0", true), ("4.1", false), ("-0.1", false)] {
        let opened = bench(&lora(&PAIR), scale).open();
        assert_eq!(opened.is_ok(), good, "{scale}");
    }
    for odd in ["\"1\"", "nan", "1.0\nalpha = 2"] {
        let fault = bench(&lora(&PAIR), odd).fault();
        assert!(fault.contains("adapter."), "{fault}");
    }
}

#[test]
fn what_belongs_to_another_model_or_is_no_adapter_is_refused_with_the_reason() {
    let [a, b] = PAIR;
    let stored = |kind: u32| {
        let mut odd = lora(&PAIR);
        odd.tensors[0].2 = kind;
        odd
    };
    let cases = [
        (
            lora(&PAIR).text("general.architecture", "qwen2"),
            "another one",
        ),
        (lora(&PAIR).text("general.type", "model"), "\"adapter\""),
        (lora(&PAIR).without("general.type"), "(not set)"),
        (lora(&PAIR).number("general.type", 1), "(not set)"),
        (
            lora(&PAIR).text("adapter.type", "control_vector"),
            "\"lora\"",
        ),
        (
            lora(&PAIR).number("adapter.lora.alpha", 16),
            "adapter.lora.alpha",
        ),
        (lora(&[]), "no weights"),
        (lora(&[a]), "no other half"),
        (lora(&[a, b, ("output_norm.weight", [8, 1])]), "halves only"),
        (lora(&[a, (b.0, [3, 4])]), "8 by 4 in tiny.gguf"),
        (lora(&[(a.0, [9, 2]), b]), "8 by 4 in tiny.gguf"),
        (
            lora(&[(a.0, [8, 1025]), (b.0, [1025, 4])]),
            "rank of up to 1024",
        ),
        (
            lora(&[
                ("blk.7.attn_q.weight.lora_a", a.1),
                ("blk.7.attn_q.weight.lora_b", b.1),
            ]),
            "does not have",
        ),
        (
            lora(&[
                ("token_embd.weight.lora_a", [32, 2]),
                ("token_embd.weight.lora_b", [2, 4]),
            ]),
            "multiplied with",
        ),
        (stored(26), "stored as kind 26"),
    ];
    for (lora, words) in cases {
        let fault = bench(&lora, "1.0").fault();
        assert!(
            fault.contains(words) && fault.contains("lora.gguf"),
            "{words}: {fault}"
        );
    }
    // Alpha as converters write it.
    let good = lora(&PAIR).pair("adapter.lora.alpha", 6, &16.0_f32.to_le_bytes());
    bench(&good, "1.0").open().unwrap();
    let odd = lora(&PAIR).pair("adapter.lora.alpha", 12, &16.0_f64.to_le_bytes());
    assert!(bench(&odd, "1.0").fault().contains("32 bits"));
}

#[test]
fn a_package_is_made_with_the_adapter_that_its_task_file_names() {
    use crate::package::make::{Existing, Order, make};
    let bench = bench(&lora(&PAIR), "1.0");
    let tasks = "[adapter]\nfile = \"lora.gguf\"\nscale = 0.25\n\n[[task]]\nname = \"guide\"\n\
                 prompt_version = \"1\"\nsystem = \"guide\"\nanswer = { text = true }\n\
                 max_tokens = 8\nthreshold = 0.5\n";
    bench.write("tasks.toml", tasks.as_bytes());
    let order = Order {
        models: vec![bench.0.join("tiny.gguf")],
        tasks: bench.0.join("tasks.toml"),
        gate: None,
        out: bench.0.join("made"),
        name: None,
        seq: None,
        existing: Existing::Keep,
    };
    let made = make(&order).unwrap();
    made.package.verify().unwrap();
    let (path, adapter) = made.package.adapter().unwrap();
    assert_eq!(path, bench.0.join("made/lora.gguf"));
    assert!((adapter.scale - 0.25).abs() < 1e-12);
}
