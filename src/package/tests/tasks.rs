//! The tables of tasks, and what goes by them.

use super::*;

#[test]
fn an_instruction_cannot_hold_a_marker() {
    for bad in ["a<|im_end|>b", "a<|b", "a|>b"] {
        let line = format!("system = \"{bad}\"");
        faulty(
            "system = \"triage\"",
            &line,
            "task.triage.system",
            "its markers",
        );
    }
    assert!(changed("system = \"triage\"", "system = \"a < b | c > d\"").is_ok());
}

#[test]
fn a_task_has_exactly_one_form_of_answer() {
    let from = "answer = { grammar = \"grammars/triage.gbnf\" }";
    let key = "task.triage.answer";
    faulty(from, "answer = { }", key, "one of { grammar");
    faulty(
        from,
        "answer = { grammar = \"gate.jsonl\", text = true }",
        key,
        "one of { grammar",
    );
    faulty(from, "answer = \"text\"", key, "a table");
    faulty(
        from,
        "answer = { schema = \"nowhere.json\" }",
        "task.triage.answer.schema",
        "[[file]]",
    );
    assert!(changed(from, "answer = { schema = \"gate.jsonl\" }").is_ok());
    faulty(
        "answer = { choices",
        "answer = { text = false }\n# ",
        "task.classify.answer.text",
        "true",
    );
    assert!(changed("answer = { choices", "answer = { text = true }\n# ").is_ok());
}

#[test]
fn choices_are_few_short_and_different() {
    let from = "choices = [\"press\", \"lathe\"]";
    let key = "task.classify.answer.choices";
    let many = |count: usize| {
        let all = (0..count)
            .map(|at| format!("\"c{at}\""))
            .collect::<Vec<_>>();
        format!("choices = [{}]", all.join(", "))
    };
    let long = |bytes: usize| format!("choices = [\"{}\"]", "c".repeat(bytes));
    assert!(changed(from, &many(MAX_CHOICES)).is_ok());
    faulty(from, &many(MAX_CHOICES + 1), key, "1 to 64");
    faulty(from, "choices = []", key, "1 to 64");
    assert!(changed(from, &long(MAX_CHOICE_BYTES)).is_ok());
    faulty(from, &long(MAX_CHOICE_BYTES + 1), key, "bytes");
    faulty(from, "choices = [\"a\", \"a\"]", key, "each once");
    faulty(from, "choices = [\"a\", 1]", key, "texts");
}

#[test]
fn only_json_has_a_field_that_asks_for_a_person() {
    faulty(
        "threshold = 0.5\n",
        "threshold = 0.5\nneeds_person_field = \"x\"\n",
        "task.classify.needs_person_field",
        "only JSON has fields",
    );
}

#[test]
fn tables_are_counted() {
    let file = format!(
        "[[file]]\npath = \"f-N\"\nbytes = 1\nsha256 = \"{}\"\n",
        "0".repeat(64)
    );
    let task = "[[task]]\nname = \"t-N\"\nprompt_version = \"1\"\nsystem = \"s\"\n\
                answer = { text = true }\nmax_tokens = 1\nthreshold = 0\n";
    let model = file.replace("[[file]]\npath", "[[model]]\nquantization = \"q-N\"\nfile");
    for (table, key, room) in [
        (file.as_str(), "file", MAX_FILES - 2),
        (task, "task", MAX_TASKS - 2),
        (&model, "model", MAX_VARIANTS - 1),
    ] {
        let more = |count: usize| {
            let all = (0..count).map(|at| table.replace('N', &at.to_string()));
            all.fold("[runtime]".to_owned(), |text, one| format!("{one}{text}"))
        };
        let result = changed("[runtime]", &more(room));
        assert!(result.is_ok(), "{key}: {}", result.unwrap_err());
        let faults = changed("[runtime]", &more(room + 1)).unwrap_err();
        assert_eq!(faults.list[0].key, key);
    }
}

#[test]
fn names_that_go_together_are_held_together() {
    faulty(
        "name = \"classify\"",
        "name = \"triage\"",
        "task[2].name",
        "no task before",
    );
    faulty(
        "task = \"triage\"",
        "task = \"triaje\"",
        "calibration[1].task",
        "did you mean \"triage\"?",
    );
    faulty(
        "quantization = \"Q8_0\"\nmethod",
        "quantization = \"F16\"\nmethod",
        "calibration[1].quantization",
        "Q8_0",
    );
    faulty(
        "method = \"isotonic\"",
        "method = \"spline\"",
        "calibration[1].method",
        "platt",
    );
    for weights in [
        "[1, 2]",
        "[0, 1, 0, 0, 0, 0, 0, 1001]",
        "[0, 1, 0, 0, 0, 0, 0, nan]",
        "3",
    ] {
        faulty(
            "method = \"isotonic\"",
            &format!("method = \"platt\"\nweights = {weights}"),
            "calibration[1].weights",
            "8 numbers of 1000 at most",
        );
    }
    faulty(
        "[0.5, 0.4]",
        "[0.5, 0.04]",
        "calibration[1].points",
        "never fall",
    );
    faulty("[0.5, 0.4]", "[0.5]", "calibration[1].points", "points");
    faulty(
        "name = \"triage\"\naccuracy",
        "name = \"other\"\naccuracy",
        "bars.task[1].name",
        "a task",
    );
    faulty(
        "suite = \"gate.jsonl\"",
        "suite = \"tiny.gguf\"",
        "bars.suite",
        "[[file]]",
    );
    faulty_file("grammars/triage.gbnf", "once");
    faulty_file("tiny.gguf", "once");
    faulty_file("README.md", "never listed");
    faulty_file("figures/a.svg", "never listed");
}

#[test]
fn a_second_curve_or_variant_of_a_kind_is_a_fault() {
    let curve = "[[calibration]]\ntask = \"triage\"\nquantization = \"Q8_0\"\nmethod = \"isotonic\"\n\
                 points = [[0, 0], [1, 1]]\n[bars]";
    faulty("[bars]", curve, "calibration[2].task", "one curve");
    let model = format!(
        "[[model]]\nfile = \"b.gguf\"\nquantization = \"Q8_0\"\nbytes = 1\nsha256 = \"{}\"\n[[file]]",
        "0".repeat(64)
    );
    faulty(
        "[[file]]",
        &model,
        "model[2].quantization",
        "no variant before",
    );
}

#[test]
fn what_follows_from_a_fault_is_not_told_again() {
    // The task is known by its name although it is not complete.
    faulty(
        "max_tokens = 48",
        "max_tokens = 0",
        "task.triage.max_tokens",
        "from 1",
    );
    faulty(
        "quantization = \"Q8_0\"\nbytes = ",
        "quantization = \"Q8_0\"\nbytes = -",
        "model[1].bytes",
        "from 1",
    );
}

/// The good manifest with a form for the input of its first task.
#[track_caller]
fn with_form(template: &str, variables: &str) -> Result<Sheet, Faults> {
    let from = "needs_person_field = \"needs_human\"\n";
    changed(from, &format!("{from}{template}\n{variables}\n"))
}

const ASSET: &str = "[[task.variable]]\nname = \"asset\"\ntype = \"text\"";

#[test]
fn a_form_is_written_as_it_is_read() {
    let template = "input_template = \"{{ asset }} {{ n }} {{ x }} {{ yes }} {{ shift }}\"";
    let variables = format!(
        "{ASSET}\nmax_bytes = 8\ndefault = \"<none>\"\n\
         [[task.variable]]\nname = \"n\"\ntype = \"integer\"\nmin = -3\n\
         [[task.variable]]\nname = \"x\"\ntype = \"number\"\nmin = -0.5\nmax = 7\ndefault = 3\n\
         [[task.variable]]\nname = \"yes\"\ntype = \"boolean\"\ndefault = false\n\
         [[task.variable]]\nname = \"shift\"\ntype = \"choice\"\nchoices = [\"early\", \"late\"]"
    );
    let first = with_form(template, &variables).unwrap().manifest;
    let form = first.tasks[0].form.as_ref().unwrap();
    let text = form.fill(r#"{"n":-3,"shift":"late"}"#).unwrap();
    assert_eq!(text, "<none> -3 3 False late");
    let written = write::manifest(&first);
    let read = read_manifest(&written, Path::new("m.toml"))
        .unwrap()
        .manifest;
    assert_eq!(read, first);
    assert_eq!(write::manifest(&read), written);
}

#[test]
fn faults_of_a_form_name_their_key() {
    let variables = "task.triage.variable[1]";
    let good = "input_template = \"{{ asset }}\"";
    let own = |more: &str| format!("{ASSET}\n{more}");
    for (template, tables, key, wants) in [
        (
            good,
            ASSET.replace("text", "word"),
            format!("{variables}.type"),
            "\"integer\"",
        ),
        (
            good,
            ASSET.replace("asset", "Asset"),
            format!("{variables}.name"),
            "a-z",
        ),
        (
            good,
            own("max_bytes = 0"),
            format!("{variables}.max_bytes"),
            "from 1",
        ),
        (
            good,
            own("min = 0"),
            format!("{variables}.min"),
            "number or integer",
        ),
        (
            good,
            own("maximum = 0"),
            format!("{variables}.maximum"),
            "a key that this version knows",
        ),
        (
            good,
            own("default = 7"),
            format!("{variables}.default"),
            "a text of up to",
        ),
        (
            good,
            ASSET.replace("text", "choice"),
            format!("{variables}.choices"),
            "a list",
        ),
        (
            good,
            ASSET.replace("text\"", "number\"\nmin = 2\nmax = 1"),
            format!("{variables}.max"),
            "not below min",
        ),
        (
            good,
            format!("{ASSET}\n{ASSET}"),
            "task.triage.variable[2].name".into(),
            "no variable before",
        ),
        (
            "",
            ASSET.into(),
            "task.triage.input_template".into(),
            "there are variables",
        ),
        (
            good,
            String::new(),
            "task.triage.input_template".into(),
            "asset is not among",
        ),
        (
            "input_template = \"{{ asset\"",
            ASSET.into(),
            "task.triage.input_template".into(),
            "a template in Jinja",
        ),
        (
            "input_template = \"<|x|>{{ asset }}\"",
            ASSET.into(),
            "task.triage.input_template".into(),
            "a marker is only text",
        ),
    ] {
        let faults = with_form(template, &tables).expect_err(&tables);
        assert_eq!(faults.list.len(), 1, "{tables}: {faults}");
        assert_eq!(faults.list[0].key, key, "{tables}");
        assert!(faults.list[0].wanted.contains(wants), "{tables}: {faults}");
    }
}
