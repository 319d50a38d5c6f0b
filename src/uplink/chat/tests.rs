//! Bodies and answers.

use serde_json::{Value, json};

use super::*;
use crate::engine::Form;

fn question(rule: Rule, form: Form) -> Question {
    Question {
        instruction: "Say how urgent it is.".into(),
        input: "spindle \"7\" vibrates".into(),
        rule,
        form,
        max_tokens: 64,
    }
}

fn plain() -> Question {
    question(Rule::Text, Form::Text)
}

fn heard(body: &Value) -> Heard {
    Heard {
        status: 200,
        content_type: Some("application/json; charset=utf-8".into()),
        retry_after: None,
        body: body.to_string().into_bytes(),
    }
}

fn said(text: &str) -> Value {
    json!({
        "model": "large-1",
        "choices": [{
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": "a", "logprob": -0.1}, {"token": "b", "logprob": -0.2}]},
        }],
        "usage": {"prompt_tokens": 30, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 16}},
    })
}

fn fault(heard: Heard) -> Fault {
    read(Ok(heard), &plain(), Wall(0)).result.unwrap_err()
}

#[test]
fn a_request_asks_for_certainty_and_for_probabilities() {
    let body: Value = serde_json::from_slice(&body("large", &plain())).unwrap();
    assert_eq!(
        body,
        json!({
            "model": "large",
            "messages": [
                {"role": "system", "content": "Say how urgent it is."},
                {"role": "user", "content": "spindle \"7\" vibrates"},
            ],
            "temperature": 0,
            "max_tokens": 64,
            "logprobs": true,
        })
    );
}

#[test]
fn a_schema_goes_along_as_it_was_written() {
    let schema = r#"{"type":"object","properties":{"b":{},"a":{}}}"#;
    let body = body("large", &question(Rule::Schema(schema.into()), Form::Json));
    let text = String::from_utf8(body).unwrap();
    let wanted = format!(
        r#""response_format":{{"type":"json_schema","json_schema":{{"name":"answer","schema":{schema}}}}}"#
    );
    assert!(text.contains(&wanted), "{text}");
}

#[test]
fn choices_are_named_in_the_instruction() {
    let rule = Rule::Choices(vec!["now".into(), "later".into()]);
    let text = String::from_utf8(body("large", &question(rule, Form::Text))).unwrap();
    assert!(text.contains("nothing else:\\nnow\\nlater"), "{text}");
}

#[test]
fn an_answer_tells_its_text_its_cost_and_its_confidence() {
    let Outcome { result, billed } = read(Ok(heard(&said(" stop it "))), &plain(), Wall(0));
    let reading = result.unwrap();
    assert_eq!(
        (reading.text.as_str(), reading.model.as_str()),
        ("stop it", "large-1")
    );
    let confidence = reading.confidence.unwrap();
    assert!((confidence - (-0.3_f32).exp()).abs() < 1e-6, "{confidence}");
    let (prompt, completion) = (30, 2);
    assert_eq!(billed, Billed::Tokens { prompt, completion });
    assert_eq!(
        (
            reading.tokens.prompt,
            reading.tokens.cached,
            reading.tokens.completion
        ),
        (30, 16, 2)
    );
}

#[test]
fn confidence_is_a_probability_or_none() {
    let confidence = |logprobs: Value| {
        let mut answer = said("stop");
        answer["choices"][0]["logprobs"] = logprobs;
        let outcome = read(Ok(heard(&answer)), &plain(), Wall(0));
        outcome.result.unwrap().confidence
    };
    assert_eq!(confidence(Value::Null), None);
    assert_eq!(confidence(json!({"content": null})), None);
    assert_eq!(confidence(json!({"content": []})), None);
    assert_eq!(
        confidence(json!({"content": [{"logprob": -9999.0}]})),
        Some(0.0)
    );
    assert_eq!(
        confidence(json!({"content": [{"logprob": 3.0}]})),
        Some(1.0)
    );
}

#[test]
fn each_status_has_its_fault() {
    let of = |status| {
        fault(Heard {
            status,
            ..Heard::default()
        })
    };
    assert_eq!(of(301), Fault::Elsewhere);
    assert_eq!(of(400), Fault::Rejected(400));
    assert_eq!(of(401), Fault::Denied(401));
    assert_eq!(of(404), Fault::Denied(404));
    assert_eq!(of(408), Fault::Failing(408));
    assert_eq!(of(422), Fault::Rejected(422));
    assert_eq!(of(429), Fault::Limited { after: None });
    assert_eq!(of(500), Fault::Failing(500));
    assert_eq!(of(503), Fault::Failing(503));
}

#[test]
fn a_rest_is_asked_for_in_seconds_or_by_a_date() {
    let wall = Wall(784_111_767_000); // Sun, 06 Nov 1994 08:49:27 GMT
    let after = |status, value: &str| {
        let heard = Heard {
            status,
            retry_after: Some(value.into()),
            ..Heard::default()
        };
        let Err(Fault::Limited { after }) = read(Ok(heard), &plain(), wall).result else {
            panic!("{value} with {status}");
        };
        after
    };
    let ten = Some(Duration::from_secs(10));
    assert_eq!(after(429, " 10 "), ten);
    for date in [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ] {
        assert_eq!(after(429, date), ten, "{date}");
        assert_eq!(after(503, date), ten, "{date}");
    }
    assert_eq!(
        after(429, "Sun, 06 Nov 1994 08:00:00 GMT"),
        Some(Duration::ZERO)
    );
    for nonsense in ["soon", "-1", "1.5", "", "99999999999999999999"] {
        assert_eq!(after(429, nonsense), None, "{nonsense}");
    }
}

#[test]
fn what_is_no_answer_of_the_protocol_is_garbled() {
    let garbled = |heard| {
        let Fault::Garbled(why) = fault(heard) else {
            panic!("it passes for an answer");
        };
        why
    };
    let with = |body: &[u8]| Heard {
        body: body.to_vec(),
        ..heard(&Value::Null)
    };
    assert_eq!(garbled(with(b"<html>log in</html>")), Garble::Json);
    assert_eq!(garbled(with(b"")), Garble::Json);
    assert_eq!(garbled(with(b"{\"choices\":\"many\"}")), Garble::Json);
    let error = json!({"error": {"message": "overloaded"}});
    assert_eq!(garbled(heard(&error)), Garble::Error);
    let mut page = heard(&said("stop"));
    page.content_type = Some("text/html".into());
    assert_eq!(garbled(page), Garble::ContentType);
    let mut problem = heard(&said("stop"));
    problem.content_type = Some("application/vnd.model+json".into());
    assert!(read(Ok(problem), &plain(), Wall(0)).result.is_ok());
}

#[test]
fn what_is_no_answer_to_the_question_does_not_fit_but_is_paid_for() {
    let misfit = |change: fn(&mut Value), question: &Question| {
        let mut answer = said("stop");
        change(&mut answer);
        let Outcome { result, billed } = read(Ok(heard(&answer)), question, Wall(0));
        assert!(
            matches!(billed, Billed::Tokens { prompt: 30, .. }),
            "{billed:?}"
        );
        let Err(Fault::Misfit(why)) = result else {
            panic!("{result:?}");
        };
        why
    };
    let length = |it: &mut Value| it["choices"][0]["finish_reason"] = json!("length");
    assert_eq!(misfit(length, &plain()), Misfit::Truncated);
    let filtered = |it: &mut Value| it["choices"][0]["finish_reason"] = json!("content_filter");
    assert_eq!(misfit(filtered, &plain()), Misfit::Declined);
    let refused = |it: &mut Value| it["choices"][0]["message"]["refusal"] = json!("no");
    assert_eq!(misfit(refused, &plain()), Misfit::Declined);
    assert_eq!(
        misfit(|it| it["choices"] = json!([]), &plain()),
        Misfit::Empty
    );
    let silent = |it: &mut Value| it["choices"][0]["message"]["content"] = Value::Null;
    assert_eq!(misfit(silent, &plain()), Misfit::Empty);
    let long = |it: &mut Value| {
        it["choices"][0]["message"]["content"] = json!("x".repeat(MAX_TEXT_BYTES + 1));
    };
    assert_eq!(misfit(long, &plain()), Misfit::TooLong);
    let json = question(Rule::Schema("{\"type\":\"object\"}".into()), Form::Json);
    assert_eq!(misfit(|_| {}, &json), Misfit::Form);
}

#[test]
fn no_fault_quotes_what_an_upstream_said() {
    let canary = "canary-7731";
    let error =
        json!({"error": {"message": canary}, "choices": [{"message": {"content": canary}}]});
    for status in [200, 302, 400, 401, 429, 500, 503] {
        let heard = Heard {
            status,
            content_type: Some(format!("text/{canary}")),
            retry_after: Some(canary.into()),
            body: error.to_string().into_bytes(),
        };
        let fault = fault(heard);
        assert!(!format!("{fault} {fault:?}").contains(canary), "{fault:?}");
    }
}

#[test]
fn a_prompt_has_no_more_tokens_than_bytes() {
    let question = plain();
    let bytes = question.instruction.len() + question.input.len();
    assert!(worst_prompt_tokens(&question) >= bytes as u64);
}
