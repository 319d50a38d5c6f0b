//! Whatever is typed, the answer is one line of JSON that says `ok` or names a stable code.
#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use lineside::console::commands::carry_out;
use lineside::dispatch::shell::Inquirer;
use lineside::dispatch::{Answer, Inquiry};
use lineside::review::Refusal;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

const CODES: [&str; 10] = [
    "syntax",
    "unknown_command",
    "missing_argument",
    "unknown_action",
    "bad_id",
    "bad_cursor",
    "bad_reviewer",
    "empty",
    "too_long",
    "settled",
];

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// Stands in for the appliance.
async fn answer(mut asked: mpsc::Receiver<Inquirer>) {
    while let Some(caller) = asked.recv().await {
        let answer = match caller.inquiry {
            Inquiry::Ask(payload) => {
                assert!(serde_json::from_slice::<&RawValue>(&payload).is_ok());
                Answer::Reply(b"{}".to_vec())
            }
            Inquiry::Status | Inquiry::Trace(_) | Inquiry::Learned(_) => Answer::Trace(Vec::new()),
            Inquiry::Review(_) => Answer::Review(Err(Refusal::Settled)),
        };
        let _ = caller.answer.send(answer);
    }
}

async fn told(line: &[u8]) -> Vec<u8> {
    let (inquiries, asked) = mpsc::channel(1);
    let (told, ()) = tokio::join!(
        async move {
            let told = carry_out(line, &inquiries).await;
            drop(inquiries); // ends the other side
            told
        },
        answer(asked)
    );
    told
}

fuzz_target!(|line: &[u8]| {
    let told = RUNTIME.with(|runtime| {
        runtime
            .get_or_init(|| {
                let runtime = Builder::new_current_thread().enable_time().build();
                runtime.expect("a runtime on this thread")
            })
            .block_on(told(line))
    });
    let (end, told) = told.split_last().expect("never empty");
    assert_eq!(*end, b'\n');
    assert!(!told.contains(&b'\n'), "more than one line");
    let told: Value = serde_json::from_slice(told).expect("JSON");
    if told["ok"] != true {
        let code = told["error"]["code"].as_str().expect("a code");
        assert!(CODES.contains(&code), "{code}");
    }
});
