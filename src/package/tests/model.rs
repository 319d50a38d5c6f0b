//! The manifest and the model file, held against each other.

use super::*;

/// A package with another model, its manifest agreeing about the bytes.
fn with_model(model: &TinyGguf, change: impl Fn(String) -> String) -> Bench {
    let bench = Bench::new();
    bench.write("tiny.gguf", &model.bytes());
    bench.write(MANIFEST, change(bench.manifest()).as_bytes());
    bench
}

#[test]
fn the_manifest_agrees_with_the_model_s_own_header() {
    let tiny = || TinyGguf::new("llama");
    let fault = |model: &TinyGguf| with_model(model, |text| text).fault();
    assert!(fault(&TinyGguf::new("qwen2")).contains("wanted: \"qwen2\""));
    with_model(&tiny().number("llama.context_length", 512), |text| text)
        .open()
        .unwrap();
    let short = fault(&tiny().number("llama.context_length", 511));
    assert!(short.contains("at most 511"), "{short}");
    assert!(fault(&tiny().number("split.count", 2)).contains("llama-gguf-split"));
    assert!(fault(&tiny().without("tokenizer.ggml.tokens")).contains("tokenizer"));
    let strange = tiny().texts("tokenizer.ggml.tokens", &["a", "<|im_start|>"]);
    assert!(fault(&strange).contains("with <|im_end|> as tokens"));

    let bench = Bench::new();
    bench.write("tiny.gguf", b"PK");
    bench.write(MANIFEST, bench.manifest().as_bytes());
    assert!(bench.fault().contains("no GGUF file"));
}

#[test]
fn the_template_in_the_file_is_found_by_its_family() {
    let gguf = |text: String| text.replace("\"chatml\"", "\"gguf\"");
    let package = |model: &TinyGguf| with_model(model, gguf).open();
    let tiny = || TinyGguf::new("llama");
    assert_eq!(
        package(&tiny()).unwrap().wording(),
        Wording::Family(Template::ChatMl)
    );
    let llama = tiny()
        .text(
            "tokenizer.chat_template",
            "<|start_header_id|>{{ role }}<|end_header_id|>",
        )
        .texts(
            "tokenizer.ggml.tokens",
            &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        );
    assert_eq!(
        package(&llama).unwrap().wording(),
        Wording::Family(Template::Llama3)
    );
    for none in [
        tiny().without("tokenizer.chat_template"),
        tiny().text("tokenizer.chat_template", "{{ messages }}"),
    ] {
        let fault = with_model(&none, gguf).fault();
        assert!(
            fault.contains("runtime.chat_template = \"gguf\""),
            "{fault}"
        );
    }
}

#[test]
fn a_template_that_renders_is_the_model_s_own_and_one_that_does_not_is_told() {
    let gguf = |text: String| text.replace("\"chatml\"", "\"gguf\"");
    let own = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}>";
    let model = TinyGguf::new("llama")
        .text("tokenizer.chat_template", own)
        .texts("tokenizer.ggml.tokens", &["<s>", "a", "<|im_end|>"])
        .number("tokenizer.ggml.bos_token_id", 0);
    let package = with_model(&model, gguf).open().unwrap();
    assert_eq!(package.wording(), Wording::Own);
    let prompt = package.frame("triage").unwrap().prompt("hums");
    assert_eq!(prompt.prefix, "<s>[system] triage\n[user] ");
    assert_eq!((prompt.input, prompt.suffix), ("hums", "\n>"));
    assert_eq!(package.frame("nothing"), None);

    // The tiny model's own template leaves out what is asked: its family's form stands in.
    let package = with_model(&TinyGguf::new("llama"), gguf).open().unwrap();
    let notes = package.notes();
    let told = notes.iter().find(|note| note.cost.contains("ChatML form"));
    assert!(
        told.is_some_and(|note| note.what.contains("leaves out what is asked")),
        "{notes:?}"
    );
}

#[test]
fn a_grammar_has_a_root_and_a_schema_is_an_object() {
    let bench = Bench::new();
    let grammar = |text: &[u8]| {
        bench.write("grammars/triage.gbnf", text);
        bench.write(MANIFEST, bench.manifest().as_bytes());
        bench.open().map(drop).map_err(|faults| faults.to_string())
    };
    assert!(grammar(b"# a note\nroot  ::= \"a\"\n").is_ok());
    assert!(
        grammar(b"start ::= \"a\"\n")
            .unwrap_err()
            .contains("root ::=")
    );
    let sized = |bytes: u64| {
        let mut text = GRAMMAR.as_bytes().to_vec();
        text.resize(usize::try_from(bytes).unwrap(), b'#');
        text
    };
    assert!(grammar(&sized(MAX_RULE_BYTES)).is_ok());
    assert!(
        grammar(&sized(MAX_RULE_BYTES + 1))
            .unwrap_err()
            .contains("at most")
    );

    let schema = |text: &[u8]| {
        bench.write("grammars/triage.gbnf", text);
        let manifest = bench.manifest().replace("grammar = \"g", "schema = \"g");
        bench.write(MANIFEST, manifest.as_bytes());
        bench.open().map(drop).map_err(|faults| faults.to_string())
    };
    assert!(schema(b"{\"type\":\"object\"}").is_ok());
    assert!(schema(b"[]").unwrap_err().contains("an object"));
    assert!(schema(b"{").unwrap_err().contains("a JSON schema"));
}
