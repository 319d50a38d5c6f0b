//! What lies in the folder, and what of it is vouched for.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn a_folder_without_a_manifest_is_no_package() {
    let bench = Bench::empty();
    assert!(bench.fault().contains("this is no model package"));
    let long = "#".repeat(usize::try_from(MAX_MANIFEST_BYTES).unwrap() + 1);
    bench.write(MANIFEST, long.as_bytes());
    assert!(
        bench
            .fault()
            .contains(&format!("at most {MAX_MANIFEST_BYTES} bytes"))
    );
    bench.write(MANIFEST, b"\xff");
    assert!(bench.fault().contains("UTF-8"));
}

#[test]
fn what_lies_there_and_what_is_listed_are_the_same() {
    let bench = Bench::new();
    bench.write("README.md", b"# For people");
    bench.write("figures/accuracy.svg", b"<svg/>");
    bench.open().unwrap();
    for stranger in [
        "notes.txt",
        ".hidden",
        "grammars/other.gbnf",
        "figures/a.sh",
        "figures/b/c.svg",
    ] {
        bench.write(stranger, b"x");
        let fault = bench.fault();
        assert!(
            fault.contains(stranger) && fault.contains("(not listed)"),
            "{fault}"
        );
        fs::remove_file(bench.0.join(stranger)).unwrap();
    }
    fs::remove_file(bench.0.join("grammars/triage.gbnf")).unwrap();
    assert!(bench.fault().contains("(not there)"));
}

#[test]
fn a_link_is_not_followed_wherever_it_leads() {
    let bench = Bench::new();
    let grammar = bench.0.join("grammars/triage.gbnf");
    let outside = bench.0.with_extension("outside");
    fs::rename(&grammar, &outside).unwrap();
    symlink(&outside, &grammar).unwrap();
    let faults = bench.open().unwrap_err().to_string();
    assert!(faults.contains("a link"), "{faults}");
    fs::remove_file(&outside).unwrap();

    let bench = Bench::new();
    symlink("/", bench.0.join("root")).unwrap();
    assert!(bench.fault().contains("a link"));
}

#[test]
fn a_folder_that_is_too_full_or_too_deep_is_left() {
    let bench = Bench::new();
    bench.write("a/b/c/d/e", b"x");
    assert!(bench.fault().contains("too deep"));
    for index in 0..=MAX_ENTRIES {
        bench.write(&format!("figures/{index}.svg"), b"x");
    }
    let faults = bench.open().unwrap_err().to_string();
    assert!(faults.contains("too much lies here"), "{faults}");
}

#[test]
fn a_changed_byte_is_found_and_a_changed_size_even_before() {
    let bench = Bench::new();
    let mut model = TinyGguf::new("llama").bytes();
    *model.last_mut().unwrap() ^= 1;
    bench.write("tiny.gguf", &model);
    let package = bench.open().unwrap();
    let faults = package.verify().unwrap_err();
    assert_eq!(faults.list.len(), 1);
    assert!(faults.list[0].value.starts_with("its SHA-256 is"));

    bench.write("grammars/triage.gbnf", b"root ::= \"longer than before\"\n");
    assert!(bench.fault().contains("as the manifest says"));
}

#[test]
fn what_was_read_at_opening_is_vouched_for_too() {
    let bench = Bench::new();
    let other = GRAMMAR.replace('{', "[");
    bench.write("grammars/triage.gbnf", other.as_bytes());
    let package = bench.open().unwrap();
    bench.write("grammars/triage.gbnf", GRAMMAR.as_bytes());
    let faults = package.verify().unwrap_err();
    assert!(
        faults.list[0]
            .wanted
            .contains("when the package was opened")
    );
}
