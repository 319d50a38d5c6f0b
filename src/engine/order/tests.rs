//! What a device asks, and what it is told, with the bundled package.

use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::engine::protocol::{Finish, FreeChoice, Spent};
use crate::intake::{self, Client, Detail, Digest, Late, RequestId, ReturnAddress};
use crate::package::tests::made::TinyGguf;

static PACKAGE: LazyLock<Package> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    Package::open(&folder).unwrap()
});

fn book() -> Book {
    let (variant, _) = PACKAGE.variants().next().unwrap();
    Book::of(&PACKAGE, variant)
}

fn request(ask: intake::Ask) -> Request {
    Request {
        id: RequestId::Given("x".into()),
        client: Client::Proven("press7".into()),
        ask,
        classification: Classification::Restricted,
        risk: None,
        complexity: None,
        priority: Priority::Normal,
        deadline: Duration::from_secs(1),
        late: Late::No,
        max_tokens: None,
        schema: None,
        stream: Stream::No,
        detail: Detail::Whole,
        reply: ReturnAddress::Local,
        content: Digest([0; 16]),
    }
}

fn task(name: &str) -> Request {
    request(intake::Ask::Task {
        task: name.into(),
        input: "spindle 4 is loud".into(),
    })
}

fn prompt() -> Request {
    request(intake::Ask::Prompt("what is a spindle?".into()))
}

fn work(request: &Request) -> (Work, Asked) {
    book().work(WorkNo(7), request, 900).unwrap()
}

fn done(logprobs: &[f32]) -> Done {
    let free = |logprob: &f32| FreeChoice {
        logprob: *logprob,
        entropy: 0.5,
    };
    Done {
        text: "{}".into(),
        free: logprobs.iter().map(free).collect(),
        tokens: Spent {
            prompt: 40,
            cached: 30,
            completion: 5,
            ..Spent::default()
        },
        first_token_us: 1500,
        ..Done::default()
    }
}

fn confidence(task_name: &str, done: Done) -> f32 {
    let (_, asked) = work(&task(task_name));
    book().completion(asked, done, Origin::Model).confidence
}

#[test]
fn a_task_is_its_instruction_and_nothing_of_the_input_gets_into_it() {
    let book = book();
    let load = book.load(&options(), None);
    assert_eq!(load.instructions.len(), PACKAGE.manifest().tasks.len() + 1);
    for (place, task_of_package) in PACKAGE.manifest().tasks.iter().enumerate() {
        let (work, _) = work(&task(&task_of_package.name));
        assert_eq!(work.ask, Ask::Known(u16::try_from(place).unwrap()));
        assert_eq!(work.input, "spindle 4 is loud");
        let instruction = &load.instructions[place];
        assert!(instruction.head.contains(&task_of_package.system));
        assert!(!instruction.head.contains("spindle"));
        assert_eq!(instruction.max_tokens, task_of_package.max_tokens);
    }
    assert!(Path::new(&load.model).is_file());
}

fn options() -> Options {
    Options {
        context_tokens: 512,
        cache_tokens: 4096,
        sequences: 4,
        queue: 4,
        threads: None,
        batch_tokens: 512,
        pass_ms: 25,
        gpu_layers: 0,
        kv_type: crate::engine::protocol::KvType::F16,
        flash_attention: crate::engine::protocol::Flash::Auto,
        mapping: crate::engine::protocol::Mapping::Read,
        without: crate::engine::protocol::Without::default(),
    }
}

#[test]
fn a_free_prompt_gets_the_plain_instruction() {
    let (work, _) = work(&prompt());
    let place = u16::try_from(PACKAGE.manifest().tasks.len()).unwrap();
    assert_eq!(work.ask, Ask::Known(place));
    let load = book().load(&options(), None);
    let plain = load.instructions.last().unwrap();
    assert_eq!(plain.rule, Rule::Text);
    assert!(plain.max_tokens <= PLAIN_TOKENS && plain.max_tokens > 0);
}

#[test]
fn a_task_that_the_package_does_not_have_is_refused_by_name() {
    let refused = book().work(WorkNo(1), &task("tirage"), 900).unwrap_err();
    let Fault::Refused { code, message } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(code, Code::UnknownTask);
    assert!(
        message.contains("\"tirage\"") && message.contains("triage, extract"),
        "{message}"
    );
}

#[test]
fn a_request_may_shorten_an_answer_but_not_lengthen_it() {
    let limited = |wanted| {
        let request = Request {
            max_tokens: wanted,
            ..task("triage")
        };
        work(&request).0.max_tokens
    };
    let own = PACKAGE.task("triage").unwrap().max_tokens;
    assert_eq!(limited(None), None);
    assert_eq!(limited(Some(3)), Some(3));
    assert_eq!(limited(Some(own + 100)), Some(own));
}

#[test]
fn a_schema_of_the_request_takes_the_place_of_the_rule_only() {
    let request = Request {
        schema: Some(r#"{"type":"object"}"#.into()),
        ..task("classify-urgency")
    };
    let (work, asked) = work(&request);
    let Ask::Own(own) = work.ask else {
        panic!("{:?}", work.ask);
    };
    assert_eq!(own.rule, Rule::Schema(r#"{"type":"object"}"#.into()));
    let known = &book().instructions[asked.place];
    assert_eq!((&own.head, &own.tail), (&known.head, &known.tail));
    // Its curve and its choices are those of another kind of answer.
    let completion = book().completion(asked, done(&[-1.0]), Origin::Model);
    assert!((completion.confidence - (-1.0_f32).exp()).abs() < 1e-6);
    assert_eq!(completion.form, Form::Json);
    assert_eq!(completion.choices, []);
}

#[test]
fn confidence_is_the_curve_over_the_product_of_the_free_choices() {
    let curve = PACKAGE.calibration("triage", "Q8_0").unwrap();
    let expected = curve.probability((-0.3_f64).exp());
    let said = f64::from(confidence("triage", done(&[-0.1, -0.2])));
    assert!((said - expected).abs() < 1e-6, "{said} {expected}");
}

#[test]
fn whatever_the_engine_sends_confidence_is_a_probability() {
    let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 5.0, -1e30];
    for name in ["triage", "classify-urgency", "guide"] {
        for logprob in strange {
            let said = confidence(name, done(&[logprob, -0.1]));
            assert!((0.0..=1.0).contains(&said), "{name} {logprob} {said}");
        }
    }
    let (_, asked) = work(&task("classify-urgency"));
    let answer = Done {
        choices: strange.to_vec(),
        ..done(&[])
    };
    let completion = book().completion(asked, answer, Origin::Model);
    assert!(
        completion
            .choices
            .iter()
            .all(|choice| choice.logprob.is_finite())
    );
    assert!(completion.entropy.is_finite());
}

#[test]
fn choices_carry_their_labels() {
    let (_, asked) = work(&task("classify-urgency"));
    let answer = Done {
        text: "today".into(),
        choices: vec![-3.0, -0.1, -4.0],
        ..done(&[])
    };
    let completion = book().completion(asked, answer, Origin::Model);
    let labels: Vec<_> = completion
        .choices
        .iter()
        .map(|it| it.label.as_str())
        .collect();
    assert_eq!(labels, ["now", "today", "later"]);
    let curve = PACKAGE.calibration("classify-urgency", "Q8_0").unwrap();
    let expected = curve.probability(f64::from(-0.1_f32).exp());
    assert!((f64::from(completion.confidence) - expected).abs() < 1e-6);
}

#[test]
fn the_reply_names_model_prompt_and_cost() {
    let (_, asked) = work(&task("triage"));
    let answer = Done {
        finish: Finish::Length,
        ..done(&[-0.1])
    };
    let completion = book().completion(asked, answer.clone(), Origin::Model);
    let manifest = PACKAGE.manifest();
    assert_eq!(completion.model.package, manifest.name);
    assert_eq!(completion.model.seq, manifest.seq);
    let digest = format!("sha256:{}", manifest.variants[0].file.sha256);
    assert_eq!(completion.model.digest, digest);
    let version = &PACKAGE.task("triage").unwrap().prompt_version;
    assert_eq!(&completion.model.prompt_version, version);
    assert_eq!(completion.form, Form::Json);
    assert_eq!(completion.finish, Finish::Length);
    assert_eq!(completion.tokens.cached, 30);
    let again = book().completion(asked, answer, Origin::Cache);
    assert_eq!(again.tokens.cached, again.tokens.prompt);
}

#[test]
fn a_key_covers_all_that_an_answer_depends_on() {
    let key = |request: &Request| {
        let (work, asked) = work(request);
        book().key(request, &work, asked)
    };
    let base = Request {
        classification: Classification::Public,
        ..task("triage")
    };
    let same = Request {
        id: RequestId::Given("y".into()),
        client: Client::Anonymous,
        priority: Priority::High,
        deadline: Duration::from_secs(9),
        late: Late::No,
        ..base.clone()
    };
    assert_eq!(key(&base), key(&same));
    let others = [
        Request {
            ask: intake::Ask::Task {
                task: "extract".into(),
                input: base.ask.text().into(),
            },
            ..base.clone()
        },
        Request {
            ask: intake::Ask::Prompt(base.ask.text().into()),
            ..base.clone()
        },
        Request {
            ask: intake::Ask::Task {
                task: "triage".into(),
                input: "spindle 5 is loud".into(),
            },
            ..base.clone()
        },
        Request {
            max_tokens: Some(3),
            ..base.clone()
        },
        Request {
            schema: Some("{}".into()),
            ..base.clone()
        },
    ];
    for other in &others {
        assert_ne!(key(&base), key(other), "{other:?}");
    }
    let (second, _) = PACKAGE.variants().nth(1).unwrap();
    let (work, asked) = work(&base);
    let elsewhere = Book::of(&PACKAGE, second).key(&base, &work, asked);
    assert_ne!(key(&base), elsewhere);
}

#[test]
fn what_is_restricted_is_shared_with_nobody() {
    let key = |client: Client, classification| {
        let request = Request {
            client,
            classification,
            ..task("triage")
        };
        let (work, asked) = work(&request);
        book().key(&request, &work, asked)
    };
    let (one, other) = (Client::Proven("a".into()), Client::Proven("b".into()));
    let restricted = Classification::Restricted;
    assert_ne!(key(one.clone(), restricted), key(other.clone(), restricted));
    assert_eq!(key(one.clone(), restricted), key(one.clone(), restricted));
    assert_ne!(
        key(one.clone(), restricted),
        key(one.clone(), Classification::Public)
    );
    let internal = Classification::Internal;
    assert_eq!(key(one, internal), key(other, internal));
}

#[test]
fn failures_read_as_what_a_device_can_act_on() {
    let code = |failure: Failure| match Book::fault(&failure) {
        Fault::Refused { code, message } => {
            assert!(message.len() < 2 * MAX_WORDS_BYTES);
            Some(code)
        }
        Fault::Busy | Fault::Crashed => None,
    };
    let overflow = Failure::Overflow {
        tokens: 900,
        context: 512,
    };
    assert_eq!(code(overflow), Some(Code::OverContext));
    assert_eq!(code(Failure::Late), Some(Code::Deadline));
    assert_eq!(code(Failure::Rule("ä".repeat(5000))), Some(Code::Schema));
    assert_eq!(Book::fault(&Failure::Full), Fault::Busy);
    assert_eq!(Book::fault(&Failure::Sick("nan".into())), Fault::Crashed);
}

#[test]
fn an_exam_asks_what_a_device_would_be_answered_by() {
    let request = task("triage");
    let (work, asked) = work(&request);
    let (question, same) = book().question("triage", request.ask.text()).unwrap();
    assert_eq!((question.ask, question.input), (work.ask, work.input));
    assert_eq!((same, question.max_tokens), (asked, work.max_tokens));
    let fault = book().question("guess", "a machine").unwrap_err();
    assert!(
        matches!(
            fault,
            Fault::Refused {
                code: Code::UnknownTask,
                ..
            }
        ),
        "{fault:?}"
    );
    let item = Item {
        id: "t-1".into(),
        task: "triage".into(),
        input: String::new(),
        expect: r#"{"a":1,"b":2}"#.into(),
        kind: None,
    };
    assert!(book().is_right(asked, &item, r#"{"b":2,"a":1}"#));
    assert!(!book().is_right(asked, &item, r#"{"b":2,"a":2}"#));
}

/// A package with a model whose own template trims what is asked, made and opened.
fn trimming() -> Package {
    let folder = std::env::temp_dir().join(format!("lineside-order-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let template = "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}>";
    let model = TinyGguf::new("llama").text("tokenizer.chat_template", template);
    fs::write(folder.join("tiny.gguf"), model.bytes()).unwrap();
    let tasks = "[[task]]\nname = \"guide\"\nprompt_version = \"1\"\nsystem = \"guide\"\n\
                 answer = { text = true }\nmax_tokens = 8\nthreshold = 0.5\n";
    fs::write(folder.join("tasks.toml"), tasks).unwrap();
    let order = package::make::Order {
        models: vec![folder.join("tiny.gguf")],
        tasks: folder.join("tasks.toml"),
        gate: None,
        out: folder.join("made"),
        name: None,
        seq: None,
        existing: package::make::Existing::Keep,
    };
    let made = package::make::make(&order).unwrap();
    fs::remove_dir_all(folder).unwrap();
    made.package
}

#[test]
fn the_ends_that_a_model_s_template_takes_away_are_taken_from_every_input() {
    let package = trimming();
    let (variant, _) = package.variants().next().unwrap();
    let book = Book::of(&package, variant);
    let asked = |ask| book.work(WorkNo(1), &request(ask), 900).unwrap().0.input;
    let input = "  it hums\n".to_owned();
    let task = "guide".to_owned();
    let own = intake::Ask::Task {
        task,
        input: input.clone(),
    };
    assert_eq!(asked(own), "it hums");
    assert_eq!(asked(intake::Ask::Prompt(input.clone())), "it hums");
    assert_eq!(book.question("guide", &input).unwrap().0.input, "it hums");
    // ChatML leaves an input as it is.
    let (work, _) = work(&request(intake::Ask::Prompt(input.clone())));
    assert_eq!(work.input, input);
}
