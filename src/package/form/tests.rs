//! Values that a form takes, and values that it does not.

use super::*;

fn variable(name: &str, kind: Kind, default: Option<Datum>) -> Variable {
    Variable {
        name: name.into(),
        kind,
        default,
    }
}

fn form() -> Form {
    let text = |bytes| Kind::Text { max_bytes: bytes };
    let shifts = ["early", "late"].map(str::to_owned).to_vec();
    Form {
        template:
            "{{ asset }} ({{ shift }}): {{ text }}{% if reading %}, {{ reading }} mm/s{% endif %}\
                   {{ ', stopped' if stopped }}{% if count > 1 %}, {{ count }} times{% endif %}"
                .into(),
        variables: vec![
            variable("asset", text(8), None),
            variable("text", text(64), None),
            variable(
                "shift",
                Kind::Choice(shifts),
                Some(Datum::Text("late".into())),
            ),
            variable(
                "reading",
                Kind::Number {
                    min: 0.0,
                    max: 99.5,
                },
                Some(Datum::Number(0.0)),
            ),
            variable(
                "count",
                Kind::Integer { min: 1, max: 10 },
                Some(Datum::Integer(1)),
            ),
            variable("stopped", Kind::Boolean, Some(Datum::Boolean(false))),
        ],
    }
}

#[test]
fn values_become_the_text_that_the_template_makes_of_them() {
    assert_eq!(form().fault(), None);
    for (values, text) in [
        (r#"{"asset":"CNC-07","text":"hums"}"#, "CNC-07 (late): hums"),
        (
            r#"{"asset":"A","text":"t","shift":"early","reading":9.8,"count":3,"stopped":true}"#,
            "A (early): t, 9.8 mm/s, stopped, 3 times",
        ),
        (
            r#"{"asset":"A","text":"t","reading":9,"shift":null}"#,
            "A (late): t, 9 mm/s",
        ),
        // What is sent is never a template, and a marker in it is text.
        (
            r#"{"asset":"{{ 1 }}","text":"<|im_end|>{% x %}"}"#,
            "{{ 1 }} (late): <|im_end|>{% x %}",
        ),
    ] {
        assert_eq!(form().fill(values).unwrap(), text, "{values}");
    }
}

#[test]
fn a_value_that_does_not_fit_is_refused_by_its_name_and_never_quoted() {
    let with = |more: &str| format!(r#"{{"asset":"secret","text":"secret"{more}}}"#);
    for (values, told) in [
        (
            r#"{"text":"secret"}"#.to_owned(),
            "the variable asset is missing: a text of up to 8 bytes",
        ),
        (
            r#"{"asset":"123456789","text":"t"}"#.into(),
            "the variable asset must be a text of up to 8",
        ),
        (
            r#"{"asset":7,"text":"t"}"#.into(),
            "the variable asset must be a text",
        ),
        (
            with(r#","shift":"night""#),
            "the variable shift must be one of early, late",
        ),
        (
            with(r#","reading":99.6"#),
            "the variable reading must be a number from 0 to 99.5",
        ),
        (
            with(r#","reading":-1"#),
            "the variable reading must be a number from",
        ),
        (
            with(r#","reading":"9.8""#),
            "the variable reading must be a number from",
        ),
        (
            with(r#","count":0"#),
            "the variable count must be a whole number from 1 to 10",
        ),
        (
            with(r#","count":1.5"#),
            "the variable count must be a whole number",
        ),
        (
            with(r#","count":1e30"#),
            "the variable count must be a whole number",
        ),
        (
            with(r#","stopped":"true""#),
            "the variable stopped must be true or false",
        ),
        (
            with(r#","stopped":[true]"#),
            "the variable stopped must be true or false",
        ),
        (
            with(r#","stoped":true"#),
            "no variable \"stoped\"; did you mean stopped?",
        ),
        ("[1]".into(), "a text or a JSON object"),
    ] {
        let fault = form().fill(&values).unwrap_err().to_string();
        assert!(fault.contains(told), "{values}: {fault}");
        assert!(!fault.contains("secret"), "{fault}");
    }
}

#[test]
fn only_a_task_with_a_form_takes_values_and_each_takes_text() {
    let task = |form| Task {
        name: "triage".into(),
        prompt_version: "1".into(),
        system: "s".into(),
        form,
        answer: crate::package::Answer::Text,
        max_tokens: 1,
        threshold: 0.5,
        verify: false,
        needs_person_field: None,
    };
    let values = Given::Values(r#"{"asset":"A","text":"t"}"#);
    assert_eq!(task(Some(form())).input(values).unwrap(), "A (late): t");
    let fault = task(None).input(values).unwrap_err();
    assert_eq!(
        fault,
        InputFault::NoForm {
            task: "triage".into()
        }
    );
    for form in [None, Some(form())] {
        let text = "{\"asset\":1} {{ x }}";
        assert_eq!(task(form).input(Given::Text(text)).unwrap(), text);
    }
}

#[test]
fn a_form_that_cannot_work_is_a_fault_of_its_package() {
    let fault = |template: &str| {
        let variables = vec![variable("a", Kind::Text { max_bytes: 8 }, None)];
        Form {
            template: template.into(),
            variables,
        }
        .fault()
        .unwrap_or_default()
    };
    assert_eq!(fault("{{ a }}"), "");
    for (template, told) in [
        ("{{ b }} {{ a }}", "b is not among"),
        ("hm", "the variable a is not used"),
        ("{{ a", "line 1"),
        ("{{ a | nothing }}", "nothing"),
        (
            "{% for i in range(1000) %}{% for j in range(1000) %}{{ a }}{% endfor %}{% endfor %}",
            "more than",
        ),
        ("{{ raise_exception(a) }}", "it says"),
        (
            "{% set n = namespace(x=a) %}{{ n.x }}",
            "namespace is not among",
        ),
    ] {
        assert!(
            fault(template).contains(told),
            "{template}: {}",
            fault(template)
        );
    }
}

#[test]
fn a_text_that_comes_out_empty_or_too_long_is_refused() {
    let of = |template: &str| Form {
        template: template.into(),
        variables: vec![variable("a", Kind::Text { max_bytes: 1 << 20 }, None)],
    };
    let empty = of("{{ a | trim }}").fill(r#"{"a":"  "}"#).unwrap_err();
    assert!(empty.to_string().contains("the text is empty"));
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_INPUT_BYTES / 2 + 1));
    assert!(of("{{ a }}").fill(&long).is_ok());
    let fault = of("{{ a }}{{ a }}").fill(&long).unwrap_err().to_string();
    assert!(fault.contains("more than the bytes"), "{fault}");
}
