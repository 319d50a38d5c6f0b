//! What a manifest says, key by key.

use proptest::prelude::*;

use super::*;

#[test]
fn a_manifest_is_written_as_it_is_read() {
    let bench = Bench::new();
    let read = |text: &str| read_manifest(text, Path::new("m.toml")).unwrap().manifest;
    let first = read(&bench.manifest());
    let written = write::manifest(&first);
    assert_eq!(read(&written), first);
    assert_eq!(write::manifest(&read(&written)), written);

    let odd = Manifest {
        description: "quotes \" ' and\nlines \\ …".into(),
        languages: Vec::new(),
        data_digest: None,
        bars: None,
        ..first
    };
    assert_eq!(read(&write::manifest(&odd)), odd);
}

#[test]
fn a_curve_over_a_blend_is_written_as_it_is_read() {
    let blended = "method = \"platt\"\nweights = [0.5, 1.25, 0, 0, 0, -3, 0, 1e-3]";
    let read = changed("method = \"isotonic\"", blended).unwrap().manifest;
    let curve = &read.curves[0];
    assert_eq!(curve.method, Method::Platt);
    let weights = curve.calibration.blend().unwrap().weights();
    assert!((weights[1] - 1.25).abs() < 1e-12 && (weights[7] - 1e-3).abs() < 1e-12);
    let written = write::manifest(&read);
    let again = read_manifest(&written, Path::new("m.toml")).unwrap();
    assert_eq!(again.manifest, read);
}

/// A manifest with a table about risk behind the curves.
fn with_risk(table: &str) -> Result<Sheet, Faults> {
    changed("[bars]", &format!("[[risk]]\n{table}\n\n[bars]"))
}

#[test]
fn points_of_risk_are_written_as_they_are_read() {
    let table = "task = \"triage\"\nquantization = \"Q8_0\"\nlabels = 60\n\
                 points = [[0.05, 0.951123], [0.1, 0.5]]";
    let read = with_risk(table).unwrap().manifest;
    assert_eq!(read.risks[0].labels, 60);
    let points = read.risk("triage", "Q8_0").unwrap();
    assert_eq!(points.points(), [(0.05, 0.951_123), (0.1, 0.5)]);
    assert_eq!(read.risk("classify", "Q8_0"), None);
    let written = write::manifest(&read);
    let again = read_manifest(&written, Path::new("m.toml")).unwrap();
    assert_eq!(again.manifest, read);
}

#[test]
fn points_of_risk_that_make_no_sense_are_faults_of_their_key() {
    let good = "task = \"triage\"\nquantization = \"Q8_0\"\nlabels = 60\npoints = [[0.05, 0.9]]";
    for (old, new, key, wants) in [
        ("triage", "paint", "risk[1].task", "the name of a task"),
        ("Q8_0", "Q4_0", "risk[1].quantization", "of a model: Q8_0"),
        ("60", "0", "risk[1].labels", "from 1"),
        (
            "[0.05, 0.9]",
            "[0.05, 1.1]",
            "risk[1].points",
            "from 0 to 1",
        ),
        (
            "0.9]]",
            "0.9], [0.1, 0.95]]",
            "risk[1].points",
            "never rise",
        ),
        ("[[0.05, 0.9]]", "[]", "risk[1].points", "1 to 64"),
    ] {
        let faults = with_risk(&good.replace(old, new)).unwrap_err();
        assert_eq!(faults.list.len(), 1, "{new}: {faults}");
        assert_eq!(faults.list[0].key, key, "{new}");
        assert!(faults.list[0].wanted.contains(wants), "{new}: {faults}");
    }
    let twice = with_risk(&format!("{good}\n[[risk]]\n{good}")).unwrap_err();
    assert!(twice.to_string().contains("one table for each"), "{twice}");
}

#[test]
fn every_fault_of_a_manifest_is_told_at_once_with_its_line() {
    let text = "format = 2\nname = \"Tiny Thing\"\nseq = 0\nlisense = \"MIT\"\n";
    let faults = read_manifest(text, Path::new("m.toml")).unwrap_err();
    let told: Vec<_> = faults
        .list
        .iter()
        .map(|fault| (fault.key.as_str(), fault.place.as_ref().unwrap().line))
        .collect();
    assert_eq!(
        told,
        [
            ("format", 1),
            ("name", 2),
            ("seq", 3),
            ("version", 1),
            ("description", 1),
            ("license", 1),
            ("runtime", 1),
            ("model", 1),
            ("task", 1),
            ("lisense", 4),
        ]
    );
    let said = faults.to_string();
    assert!(said.contains("m.toml:2: name = \"Tiny Thing\"\n    wanted: 1 to 64 of a-z"));
    assert!(said.contains("did you mean license?"), "{said}");
    assert!(said.contains("version = (not set)"), "{said}");
}

#[test]
fn what_is_no_toml_is_called_so() {
    let faults = read_manifest("format = \n", Path::new("m.toml")).unwrap_err();
    assert!(faults.list[0].value.starts_with("this is no TOML"));
    assert_eq!(faults.list.len(), 1);
}

#[test]
fn faults_are_listed_up_to_a_limit_and_counted_beyond() {
    let lines =
        |count: usize| (0..count).fold(String::new(), |text, at| text + &format!("k{at} = 1\n"));
    let faults = read_manifest(&lines(500), Path::new("m.toml")).unwrap_err();
    assert_eq!(faults.list.len(), MAX_FAULTS);
    assert_eq!(faults.list.len() + faults.left_out, 509);
    assert!(faults.to_string().contains("has 509 faults"));
    assert!(faults.to_string().contains("and 409 more"));
}

#[test]
fn a_name_is_of_small_letters_digits_and_dashes() {
    for good in ["a", "factory-triage", "0", &"n".repeat(MAX_NAME_BYTES)] {
        assert!(is_package_name(good), "{good}");
    }
    for bad in [
        "",
        "A",
        "a_b",
        "a.b",
        "a/b",
        "ä",
        &"n".repeat(MAX_NAME_BYTES + 1),
    ] {
        assert!(!is_package_name(bad), "{bad}");
    }
}

#[test]
fn a_path_cannot_leave_the_folder() {
    let longest = "p".repeat(MAX_PATH_BYTES);
    for good in ["a", "gate.jsonl", "a/b/c/d", "A_b-c.1", &longest] {
        assert!(FilePath::parse(good).is_some(), "{good}");
    }
    let longer = "p".repeat(MAX_PATH_BYTES + 1);
    for bad in [
        "",
        "/a",
        "..",
        "../a",
        "a/../b",
        "a//b",
        "a/",
        ".hidden",
        "a/.b",
        "./a",
        "a\\b",
        "a b",
        "a\0b",
        "a/b/c/d/e",
        &longer,
    ] {
        assert!(FilePath::parse(bad).is_none(), "{bad}");
    }
    faulty_file("../gate.jsonl", "inside the package");
    faulty_file("/etc/passwd", "inside the package");
}

#[test]
fn a_digest_is_64_small_hexadecimal_digits() {
    let digest = Digest::of(b"abc").to_string();
    assert_eq!(
        digest,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(Digest::parse(&digest), Some(Digest::of(b"abc")));
    let long = format!("{digest}0");
    let upper = digest.to_uppercase();
    let odd = digest.replace('b', "+");
    for bad in ["", &digest[1..], &long, &upper, &odd] {
        assert_eq!(Digest::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_version_is_three_numbers() {
    assert_eq!(Version::parse("0.1.0"), Some(Version([0, 1, 0])));
    assert!(Version::parse("0.10.0") > Version::parse("0.9.9"));
    for bad in [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "1.2.x",
        "1.+2.3",
        "v1.2.3",
        "1.2.9999999999",
    ] {
        assert_eq!(Version::parse(bad), None, "{bad}");
    }
    faulty(
        "lineside = \"0.1.0\"",
        "lineside = \"99.0.0\"",
        "runtime.lineside",
        "update it",
    );
}

#[test]
fn numbers_have_their_ranges() {
    let most = MAX_ANSWER_TOKENS;
    for (from, key, min, max) in [
        ("seq = 1\n", "seq", 1, MAX_SEQ),
        (
            "context_tokens = 512",
            "runtime.context_tokens",
            64,
            MAX_CONTEXT_TOKENS,
        ),
        ("max_tokens = 48", "task.triage.max_tokens", 1, most),
        ("latency_ms = 250", "bars.latency_ms", 1, 3_600_000),
        (
            "memory_bytes = 67108864",
            "bars.memory_bytes",
            1,
            MAX_FILE_BYTES,
        ),
    ] {
        let own = from.split(' ').next().unwrap();
        let line = |value: u64| format!("{own} = {value}\n");
        assert!(changed(from, &line(min)).is_ok(), "{key}");
        assert!(changed(from, &line(max)).is_ok(), "{key}");
        faulty(from, &line(min - 1), key, "a whole number from");
        faulty(from, &line(max + 1), key, "a whole number from");
        faulty(from, &format!("{own} = -1\n"), key, "a whole number from");
        faulty(
            from,
            &format!("{own} = \"1\"\n"),
            key,
            "a whole number from",
        );
    }
}

#[test]
fn shares_lie_between_nothing_and_all() {
    for (from, key) in [
        ("threshold = 0.65", "task.triage.threshold"),
        ("accuracy = 0.9", "bars.task[1].accuracy"),
        ("calibration_error = 0.08", "bars.calibration_error"),
    ] {
        let own = from.split(' ').next().unwrap();
        for good in ["0", "1", "0.0", "1.0", "0.5"] {
            assert!(
                changed(from, &format!("{own} = {good}")).is_ok(),
                "{key} {good}"
            );
        }
        for bad in ["-0.01", "1.01", "nan", "inf", "2", "\"0.5\"", "true"] {
            faulty(from, &format!("{own} = {bad}"), key, "from 0 to 1");
        }
    }
}

#[test]
fn texts_end_at_their_limits() {
    for (from, key, max) in [
        ("version = \"1.0\"", "version", MAX_WORD_BYTES),
        ("license = \"MIT\"", "license", MAX_WORD_BYTES),
        (
            "description = \"A tiny thing\"",
            "description",
            MAX_DESCRIPTION_BYTES,
        ),
        (
            "system = \"triage\"",
            "task.triage.system",
            MAX_SYSTEM_BYTES,
        ),
    ] {
        let own = from.split(' ').next().unwrap();
        let line = |bytes| format!("{own} = \"{}\"", "t".repeat(bytes));
        assert!(changed(from, &line(max)).is_ok(), "{key}");
        faulty(from, &line(max + 1), key, "a text in quotes");
        faulty(from, &line(0), key, "a text in quotes");
        faulty(
            from,
            &format!("{own} = \"\\u0007\""),
            key,
            "a text in quotes",
        );
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_manifest_s_reader_panic(
        text in "(format|name|seq|\\[\\[task\\]\\]|\\[bars\\]|=|\"|\\{|\\}|\\[|\\]|\n|1|a|\\.| ){0,60}"
    ) {
        let read = read_manifest(&text, Path::new("m.toml"));
        prop_assert!(read.is_err_and(|faults| !faults.list.is_empty()));
    }
}

/// The estimates of a manifest with this at its end.
fn estimate(section: &str) -> Result<Option<Estimate>, Faults> {
    let text = format!("{}\n{section}", Bench::new().manifest());
    let sheet = read_manifest(&text, Path::new("m.toml"))?;
    let again = read_manifest(&write::manifest(&sheet.manifest), Path::new("m.toml"))?;
    assert_eq!(again.manifest, sheet.manifest);
    Ok(sheet.manifest.estimate)
}

#[test]
fn weights_that_are_not_named_count_nothing() {
    assert_eq!(estimate("").unwrap(), None);
    let text = "[estimate]\ncomplexity = { constant = -1, numbers = 0.25 }\n\
                tokens = { letter = 0.3 }\n";
    let weights = estimate(text).unwrap().unwrap();
    let sum: f64 = weights.complexity.iter().sum();
    assert!((weights.complexity[3] - 0.25).abs() < 1e-12);
    assert!((sum + 0.75).abs() < 1e-12);
    assert!((weights.tokens.iter().sum::<f64>() - 0.3).abs() < 1e-12);
    assert_eq!(weights.tasks, []);
}

#[test]
fn estimates_are_of_known_measures_and_tasks() {
    let whole = |more: &str| format!("[estimate]\ncomplexity = {{ }}\ntokens = {{ }}\n{more}");
    let task = |more: &str| whole(&format!("[[estimate.task]]\n{more}\n"));
    for (text, key) in [
        (
            "[estimate]\ncomplexity = { lenght = 1 }\ntokens = { }".to_owned(),
            "lenght",
        ),
        (
            "[estimate]\ncomplexity = { length = 101 }\ntokens = { }".to_owned(),
            "length",
        ),
        ("[estimate]\ncomplexity = { }".to_owned(), "estimate.tokens"),
        (task("name = \"nobody\"\nframe_tokens = 1"), "name"),
        (task("name = \"triage\"\nframe_tokens = -1"), "frame_tokens"),
        (
            task("name = \"triage\"\nframe_tokens = 1\nrisk = 101"),
            "risk",
        ),
    ] {
        let faults = estimate(&text).unwrap_err();
        assert_eq!(faults.list.len(), 1, "{text}: {faults}");
        assert!(faults.list[0].key.ends_with(key), "{text}: {faults}");
    }
}
