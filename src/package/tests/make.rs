//! Packages that are made of a model and a task file.

use super::super::make::{Existing, MakeError, Order, bytes_to_read, make, make_aloud};
use super::*;

/// What an author has: a model, a grammar, a suite and a task file, beside each other.
fn order(bench: &Bench) -> Order {
    let tasks = bench.manifest();
    let (_, tasks) = tasks.split_once("[[task]]").unwrap();
    let tasks =
        format!("license = \"MIT\"\n[[task]]{tasks}").replace("suite = \"gate.jsonl\"\n", "");
    bench.write("tasks.toml", tasks.as_bytes());
    Order {
        models: vec![bench.0.join("tiny.gguf")],
        tasks: bench.0.join("tasks.toml"),
        gate: Some(bench.0.join("gate.jsonl")),
        out: bench.0.join("made"),
        name: None,
        seq: None,
        existing: Existing::Keep,
    }
}

#[test]
fn a_package_is_made_of_a_model_and_a_task_file() {
    let bench = Bench::new();
    let made = make(&order(&bench)).unwrap();
    made.package.verify().unwrap();
    let manifest = made.package.manifest();
    assert_eq!((manifest.name.as_str(), manifest.seq), ("made", 1));
    assert_eq!(manifest.version, "1.0");
    assert_eq!(manifest.description, "Tiny Thing");
    assert_eq!(manifest.runtime.context_tokens, 1024);
    assert_eq!(manifest.runtime.chat_template, ChatTemplate::Gguf);
    assert_eq!(manifest.bars.as_ref().unwrap().latency_ms, Some(250));
    let again = make(&Order {
        out: bench.0.join("again"),
        name: Some("made".into()),
        ..order(&bench)
    });
    let text = |folder: &str| fs::read_to_string(bench.0.join(folder).join(MANIFEST)).unwrap();
    again.unwrap();
    assert_eq!(text("again"), text("made"));
}

#[test]
fn variants_stand_best_first_however_they_were_given() {
    let bench = Bench::new();
    let mut big = TinyGguf::new("llama").number("general.file_type", 1);
    big.tensors[0].1 = vec![32, 8];
    big.data = vec![0; 1024];
    bench.write("big.gguf", &big.bytes());
    let mut order = order(&bench);
    order.models.push(bench.0.join("big.gguf"));
    let made = make(&order).unwrap();
    let names: Vec<_> = made
        .package
        .variants()
        .map(|(it, _)| it.quantization.as_str())
        .collect();
    assert_eq!(names, ["F16", "Q8_0"]);
}

#[test]
fn a_package_that_is_there_is_replaced_only_on_purpose_and_forwards() {
    let bench = Bench::new();
    let mut order = order(&bench);
    make(&order).unwrap();
    let refused = |order: &Order| match make(order).unwrap_err() {
        MakeError::Order(what) => what,
        other @ (MakeError::Faults(_) | MakeError::Io { .. }) => panic!("{other}"),
    };
    assert!(refused(&order).contains("--replace"));
    bench.write("made/README.md", b"# Kept");
    bench.write("made/figures/a.svg", b"<svg/>");
    order.existing = Existing::Replace;
    assert_eq!(make(&order).unwrap().package.manifest().seq, 2);
    assert_eq!(fs::read(bench.0.join("made/README.md")).unwrap(), b"# Kept");
    assert!(bench.0.join("made/figures/a.svg").exists());
    order.seq = Some(2);
    assert!(refused(&order).contains("above 2"));
    order.seq = Some(7);
    assert_eq!(make(&order).unwrap().package.manifest().seq, 7);

    fs::create_dir(bench.0.join("other")).unwrap();
    bench.write("other/letter.txt", b"not a package");
    order.out = bench.0.join("other");
    assert!(refused(&order).contains("is no package"));
    assert!(bench.0.join("other/letter.txt").exists());
    // Nothing half made is left behind by any of it.
    let leftover = fs::read_dir(&bench.0).unwrap().flatten();
    let hidden = leftover.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}

#[test]
fn what_the_author_left_out_is_told_when_a_package_is_made() {
    let bench = Bench::new();
    let mut order = order(&bench);
    order.gate = None;
    let tasks = fs::read_to_string(&order.tasks)
        .unwrap()
        .replace("license = \"MIT\"\n", "");
    bench.write("tasks.toml", tasks.as_bytes());
    let made = make(&order).unwrap();
    assert_eq!(made.package.manifest().bars, None);
    assert_eq!(
        whats(&made.notes),
        [
            "bars without a gate suite",
            "no license",
            "no gate suite",
            "no calibration of Q8_0 for classify",
            "tiny.gguf: its chat template changes or leaves out what is asked, which a prompt in \
             parts cannot follow",
        ]
    );
}

#[test]
fn faults_of_what_goes_in_name_the_author_s_files() {
    let bench = Bench::new();
    let order = order(&bench);
    bench.write("gate.jsonl", b"{}\n");
    bench.write("grammars/triage.gbnf", b"start ::= \"a\"\n");
    let MakeError::Faults(faults) = make(&order).unwrap_err() else {
        panic!("no faults");
    };
    let places: Vec<_> = faults
        .list
        .iter()
        .map(|fault| {
            fault
                .place
                .as_ref()
                .unwrap()
                .file
                .strip_prefix(&bench.0)
                .unwrap()
        })
        .collect();
    assert!(places.contains(&Path::new("gate.jsonl")), "{faults}");
    assert!(
        places.contains(&Path::new("grammars/triage.gbnf")),
        "{faults}"
    );
    assert!(!bench.0.join("made").exists());
}

#[test]
fn a_file_that_the_author_names_and_does_not_have_is_a_fault() {
    let bench = Bench::new();
    let mut order = order(&bench);
    fs::remove_file(bench.0.join("grammars/triage.gbnf")).unwrap();
    order.gate = Some(bench.0.join("nowhere.jsonl"));
    let told = make(&order).unwrap_err().to_string();
    assert!(told.contains("grammars/triage.gbnf: (not there)"), "{told}");
    assert!(told.contains("nowhere.jsonl: (not there)"), "{told}");
    order.models.push(bench.0.join("nowhere.gguf"));
    let told = make(&order).unwrap_err().to_string();
    assert!(told.contains("nowhere.gguf: cannot be read"), "{told}");
}

#[test]
fn whoever_waits_is_told_of_every_byte_that_is_read() {
    let bench = Bench::new();
    let order = order(&bench);
    let (most, mut told) = (bytes_to_read(&order), 0);
    make_aloud(&order, &mut |bytes| told += bytes).unwrap();
    let model = fs::metadata(bench.0.join("tiny.gguf")).unwrap().len();
    assert!(told >= 2 * model, "hashed and verified: {told}");
    // Grammars are small, and not counted before.
    assert!(most > 2 * model && told < most + 2000, "{told} of {most}");
}
