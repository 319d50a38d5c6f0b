//! What goes to Label Studio comes back as verdicts of the same items.

use serde_json::{Value, json};

use super::*;
use crate::review::sheet::{Answer, Draft, Row};
use crate::review::tests::request;
use crate::review::{ItemId, MAX_REASON_BYTES, Refusal};

fn id(no: u64) -> ItemId {
    ItemId::of(&request("press7", &no.to_string(), "hums"))
}

fn sheet(no: u64, classification: &str) -> Sheet {
    Sheet {
        row: Row {
            id: id(no).to_string(),
            request_id: no.to_string(),
            client: "press7".into(),
            task: Some("triage".into()),
            classification: classification.into(),
            ..Row::default()
        },
        question: format!("question {no}"),
        answer: Answer {
            kind: "choice".into(),
            choices: vec!["stop".into(), "go on".into()],
        },
        draft: Some(Draft {
            text: "go on".into(),
            source: "edge".into(),
            model: Some("factory-triage-7".into()),
            confidence: Some(0.5),
        }),
        why: "confidence 0.50 < 0.65".into(),
    }
}

fn tasks(sheets: &[Sheet]) -> Vec<Value> {
    serde_json::from_str(&export(sheets).0).unwrap()
}

#[test]
fn a_task_has_the_question_the_draft_as_prediction_and_the_id_twice() {
    let tasks = tasks(&[sheet(1, "internal")]);
    let [task] = tasks.as_slice() else {
        panic!("{tasks:?}")
    };
    assert_eq!(task["data"]["question"], "question 1");
    assert_eq!(task["data"]["lineside_id"], id(1).to_string());
    assert_eq!(task["meta"]["lineside_id"], id(1).to_string());
    assert_eq!(
        task["predictions"],
        json!([{
            "model_version": "factory-triage-7", "score": 0.5,
            "result": [{
                "id": "draft", "from_name": "answer", "to_name": "question", "type": "textarea",
                "value": {"text": ["go on"]},
            }],
        }])
    );
    for name in ["verdict", "answer", "reason", "question"] {
        assert!(CONFIG.contains(&format!("name=\"{name}\"")), "{name}");
    }
    for field in ["question", "why"] {
        assert!(CONFIG.contains(&format!("\"${field}\"")), "{field}");
        assert!(task["data"][field].is_string(), "{field}");
    }
}

#[test]
fn what_is_restricted_or_not_labelled_at_all_is_left_out() {
    let sheets = [sheet(1, "restricted"), sheet(2, "public"), sheet(3, "")];
    let (text, left_out) = export(&sheets);
    assert_eq!(left_out, 2);
    assert!(!text.contains("question 1") && text.contains("question 2"));
    assert!(!text.contains("question 3"));
}

/// The task as Label Studio gives it back, with this annotation.
fn annotated(no: u64, result: &Value) -> Value {
    let mut task = tasks(&[sheet(no, "public")]).remove(0);
    task["id"] = json!(no + 1000);
    task["project"] = json!(1);
    task["annotations"] = json!([{
        "id": 5, "completed_by": 1, "was_cancelled": false, "ground_truth": false,
        "lead_time": 3.5, "result": result,
    }]);
    task
}

fn chosen(word: &str) -> Value {
    json!({"id": "a", "from_name": "verdict", "to_name": "question", "type": "choices",
           "value": {"choices": [word]}})
}

fn written(name: &str, text: &Value) -> Value {
    json!({"id": "b", "from_name": name, "to_name": "question", "type": "textarea",
           "value": {"text": text}})
}

fn read(tasks: &Value) -> Import {
    import(tasks.to_string().as_bytes()).unwrap()
}

#[test]
fn annotations_are_verdicts_of_the_items_that_were_exported() {
    let two_lines = json!(["stop", "at once"]);
    let file = json!([
        annotated(
            1,
            &json!([chosen("approve"), written("answer", &json!(["go on"]))])
        ),
        annotated(
            2,
            &json!([written("answer", &json!("stop")), chosen("correct")])
        ),
        annotated(
            3,
            &json!([chosen("correct"), written("answer", &two_lines)])
        ),
        annotated(
            4,
            &json!([chosen("reject"), written("reason", &json!(["no picture"]))])
        ),
    ]);
    let import = read(&file);
    let wanted = [
        (1, Verdict::Approve),
        (2, Verdict::Correct("stop".into())),
        (3, Verdict::Correct("stop\nat once".into())),
        (4, Verdict::Reject("no picture".into())),
    ];
    let wanted: Vec<_> = wanted.map(|(no, verdict)| (id(no).into(), verdict)).into();
    assert_eq!(import.verdicts, wanted);
    assert_eq!(read(&file), import, "the same file says the same again");
}

#[test]
fn tasks_without_an_annotation_wait_and_the_last_annotation_counts() {
    let open = tasks(&[sheet(1, "public")]).remove(0);
    let mut skipped = annotated(2, &json!([]));
    skipped["annotations"][0]["was_cancelled"] = json!(true);
    let mut twice = annotated(3, &json!([chosen("approve")]));
    let mut again = twice["annotations"][0].clone();
    again["result"] = json!([chosen("reject"), written("reason", &json!(["blurred"]))]);
    twice["annotations"].as_array_mut().unwrap().push(again);
    let import = read(&json!([open, skipped, twice]));
    assert_eq!(import.open, 2);
    let wanted = (id(3).into(), Verdict::Reject("blurred".into()));
    assert_eq!(import.verdicts, [wanted]);
}

#[test]
fn a_task_that_says_nothing_clear_is_named_beside_the_others() {
    let mut stranger = annotated(1, &json!([chosen("approve")]));
    stranger["data"] = json!({"text": "from another project"});
    stranger["meta"] = json!({});
    let mut garbled = annotated(1, &json!([chosen("approve")]));
    garbled["data"]["lineside_id"] = json!("12");
    let long = json!(["x".repeat(MAX_REASON_BYTES + 1)]);
    let file = json!([
        stranger,
        garbled,
        annotated(2, &json!([written("answer", &json!(["stop"]))])),
        annotated(3, &json!([chosen("approve"), chosen("reject")])),
        annotated(4, &json!([chosen("maybe")])),
        annotated(5, &json!([chosen("correct")])),
        annotated(6, &json!([chosen("reject"), written("reason", &long)])),
        annotated(7, &json!([chosen("approve")])),
    ]);
    let import = read(&file);
    let limit = MAX_REASON_BYTES;
    let empty = Refusal::Empty { what: "correction" };
    let too_long = Refusal::TooLong {
        what: "reason",
        limit,
    };
    let wanted = [
        (1, Unclear::NoId),
        (2, Unclear::BadId),
        (3, Unclear::NoVerdict),
        (4, Unclear::NoVerdict),
        (5, Unclear::NoVerdict),
        (6, Unclear::Text(empty)),
        (7, Unclear::Text(too_long)),
    ];
    assert_eq!(import.unclear, wanted);
    assert_eq!(import.verdicts.len(), 1);
}

#[test]
fn a_file_that_is_no_export_is_refused() {
    for text in [
        "",
        "{}",
        "[1]",
        "question,verdict\nx,approve",
        "[{\"data\":",
    ] {
        assert!(import(text.as_bytes()).is_err(), "{text}");
    }
}
