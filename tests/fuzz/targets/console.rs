//! Whatever is typed, the answer is one line of JSON that says `ok` or names a stable code.
#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use lineside::console::commands::{Counter, carry_out};
use lineside::console::house::House;
use lineside::console::words;
use lineside::dispatch::shell::Inquirer;
use lineside::dispatch::{Answer, Inquiry, Latest, Maintenance};
use lineside::ota::desk::Desk;
use lineside::review::Refusal;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

const CODES: [&str; 21] = [
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
    "session_only",
    "no_answer",
    "no_log",
    "no_package",
    "not_confirmed",
    "unavailable",
    "failed",
    "taken_back",
    "no_ota",
    "busy",
    "no_stick",
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
            Inquiry::Status => Answer::Status(Box::default()),
            Inquiry::Trace(_) | Inquiry::Learned(_) => Answer::Trace(Vec::new()),
            Inquiry::Latest(_) => Answer::Latest(Latest::default()),
            Inquiry::Maintenance(_) => Answer::Maintenance(Maintenance { on: false, open: 0 }),
            Inquiry::Review(_) | Inquiry::ReviewElsewhere(_) => Answer::Review(Err(Refusal::Settled)),
        };
        let _ = caller.answer.send(answer);
    }
}

async fn told(line: &[u8]) -> Vec<u8> {
    let (inquiries, asked) = mpsc::channel(1);
    let (told, ()) = tokio::join!(
        async move {
            let counter = Counter::new(inquiries, House::default(), Desk::default());
            let told = carry_out(line, &counter, None).await.line;
            drop(counter); // ends the other side
            told
        },
        answer(asked)
    );
    told
}

/// Commands that would run this very program.
const OWN_PROGRAM: [&str; 3] = ["check", "explain", "bundle"];

fuzz_target!(|line: &[u8]| {
    // What a person types is understood or refused with a stable code, and can be completed.
    if let Ok(text) = std::str::from_utf8(line) {
        match words::understand(text) {
            Ok(Some(call)) => assert!(call.json.is_object()),
            Ok(None) => assert!(text.trim().is_empty()),
            Err(slip) => assert!(CODES.contains(&slip.code), "{}", slip.code),
        }
        let _ = words::complete(text);
    }
    if let Ok(line) = serde_json::from_slice::<Value>(line)
        && line["cmd"]
            .as_str()
            .is_some_and(|cmd| OWN_PROGRAM.contains(&cmd))
    {
        return;
    }
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
