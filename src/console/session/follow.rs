//! What comes bit by bit: the words of an answer, and the log that somebody watches.

use serde_json::{Value, json};

use super::{Mode, Mono, Now, Purpose, Session, State};
use crate::console::{client, pages};

/// Between two looks at the log of somebody who watches it: no person reads faster.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// A log that somebody watches.
#[derive(Debug)]
pub(super) struct Following {
    call: Value,
    pub(super) again: Mono,
}

impl Session {
    /// Words of an answer that is still to come: one line of JSON, as from the socket.
    pub fn on_part(&mut self, no: u64, part: &[u8]) {
        let State::Calling(calling) = &mut self.state else {
            return;
        };
        if calling.no != no {
            return; // nobody waits for it any more
        }
        calling.notice = None;
        let Some(words) = client::words_of(part) else {
            return;
        };
        calling.told.push_str(&words);
        match self.mode {
            Mode::Json => self.put(&json!({"part": {"text": words}})),
            Mode::Text => {
                let lines: Vec<_> = words.split('\n').map(pages::clean).collect();
                self.show(lines.join("\r\n").as_bytes());
            }
        }
    }

    /// Begins to watch the log.
    pub(super) fn follow(&mut self, mut call: Value, now: Now) {
        if let Some(call) = call.as_object_mut() {
            call.remove("follow");
        }
        self.say("(any key ends it)");
        self.audit("logs", "ok");
        let json = call.clone();
        self.call(Purpose::Follow { call }, &json, now);
    }

    /// New lines of a log that somebody watches.
    pub(super) fn followed(&mut self, mut call: Value, answer: &[u8], now: Now) {
        let told: Value = serde_json::from_slice(answer).unwrap_or_default();
        if told["ok"] != true {
            let word = |key: &str| told["error"][key].as_str().unwrap_or_default().to_owned();
            self.refuse(&word("code"), &word("message"));
            self.prompt();
            return;
        }
        let data = &told["data"];
        if !data["lines"].as_array().is_none_or(Vec::is_empty) {
            let page = pages::page("logs", &call, data);
            for line in pages::fold(&page, self.manner.columns - 1) {
                self.say(&line);
            }
        }
        call["since"] = data["newest"].clone();
        let again = now.mono.after(LOOK);
        self.state = State::Following(Following { call, again });
    }

    pub(super) fn look_again(&mut self, now: Now) {
        let State::Following(following) = &self.state else {
            return;
        };
        let call = following.call.clone();
        let json = call.clone();
        self.call(Purpose::Follow { call }, &json, now);
    }
}
