//! From a line to a command, and from an answer to what the terminal shows.

use serde_json::{Value, json};

use super::{Effect, Mode, Now, Purpose, Session, State};
use crate::console::editor::Echo;
use crate::console::pager::Pager;
use crate::console::pages;
use crate::console::table::{self, Ids, Nature};
use crate::console::words::{self, UNKNOWN, Ways};

/// Ids that are looked through for a completion.
const COMPLETED: usize = 100;
/// Ids that are shown where several fit.
const SHOWN: usize = 40;
/// Commands that take a reviewer's name.
const RULES: [&str; 5] = ["take", "release", "approve", "correct", "reject"];

impl Session {
    /// A line was typed at the prompt.
    pub(super) fn command(&mut self, line: &str, now: Now) {
        let call = match words::understand(line) {
            Ok(Some(call)) => call,
            Ok(None) => {
                self.prompt();
                return;
            }
            Err(slip) => {
                self.audit(UNKNOWN, slip.code);
                self.refuse(slip.code, &slip.message);
                self.prompt();
                return;
            }
        };
        let mut json = call.json;
        let nature = table::find(call.command).map(|command| command.nature);
        if nature == Some(Nature::Session) {
            self.about_itself(call.command, &json, now);
            return;
        }
        let action = json["action"].as_str().unwrap_or_default();
        if call.command == "review" && RULES.contains(&action) && json["reviewer"].is_null() {
            json["reviewer"] = self.manner.reviewer.clone().into();
        }
        if self.mode == Mode::Text {
            if call.command == "logs" && json["follow"] == true {
                self.follow(json, now);
                return;
            }
            if call.command == "ask" && json["request"].is_object() {
                json["request"]["stream"] = true.into();
            }
        }
        let purpose = Purpose::Command {
            command: call.command,
            call: json.clone(),
        };
        self.call(purpose, &json, now);
    }

    /// A command about the session.
    fn about_itself(&mut self, command: &'static str, call: &Value, now: Now) {
        let word = match command {
            "mode" => call["mode"].as_str(),
            "page" => call["page"].as_str(),
            _ => {
                self.well(&json!({"left": true}));
                self.leave(now);
                return;
            }
        };
        match (command, word) {
            ("mode", Some("json")) => {
                self.mode = Mode::Json;
                self.well(&json!({"mode": "json"}));
            }
            ("mode", Some("text")) => {
                self.well(&json!({"mode": "text"}));
                (self.mode, self.colour) = (Mode::Text, false);
            }
            ("mode", Some("color")) => {
                self.well(&json!({"mode": "color"}));
                (self.mode, self.colour) = (Mode::Text, true);
            }
            ("page", Some(word @ ("on" | "off"))) => {
                self.pages = word == "on";
                self.well(&json!({"page": word}));
            }
            _ => {
                self.audit(command, "missing_argument");
                let what = format!("{command} takes one of a few words; see help {command}");
                self.refuse("missing_argument", &what);
                self.prompt();
                return;
            }
        }
        self.audit(command, "ok");
        self.prompt();
    }

    /// A typed command has its answer; `shown` is what of it was shown as it came.
    pub(super) fn answered(
        &mut self,
        command: &'static str,
        call: &Value,
        answer: &[u8],
        shown: &str,
    ) {
        let told: Value = serde_json::from_slice(answer).unwrap_or_else(|_| {
            json!({"ok": false, "error": {"code": "no_answer", "message": "the answer is none"}})
        });
        let code = told["error"]["code"].as_str();
        let outcome = if told["ok"] == true {
            "ok"
        } else {
            code.unwrap_or("no_answer")
        };
        self.audit(command, outcome);
        if self.mode == Mode::Json {
            self.put(&told);
            self.prompt();
            return;
        }
        if !shown.is_empty() {
            self.say("");
        }
        if told["ok"] != true {
            let message = told["error"]["message"].as_str().unwrap_or_default();
            let page = pages::refusal(outcome, message);
            self.page(&page);
            return;
        }
        let data = &told["data"];
        let page = if !shown.is_empty() && data["text"].as_str() == Some(shown) {
            pages::below_words(data)
        } else {
            pages::page(command, call, data)
        };
        if command == "factory-reset" && data["confirm"].is_string() {
            let name = pages::clean(data["confirm"].as_str().unwrap_or_default());
            for line in pages::fold(&page, self.manner.columns - 1) {
                self.say(&line);
            }
            let (what, prompt) = if data["confirm_is"] == "serial_number" {
                ("the serial number", "Serial number: ")
            } else {
                ("the name", "Name: ")
            };
            self.say(&format!(
                "Type {what} {name} to go on, Enter alone to leave it."
            ));
            self.state = State::Confirming;
            self.begin(prompt, Echo::Shown);
            return;
        }
        self.page(&page);
    }

    /// The name for a factory reset, or nothing.
    pub(super) fn confirmed(&mut self, name: &str, now: Now) {
        if name.is_empty() {
            self.say("Nothing was reset.");
            self.prompt();
            return;
        }
        let json = json!({"cmd": "factory-reset", "confirm": name});
        let purpose = Purpose::Command {
            command: "factory-reset",
            call: json.clone(),
        };
        self.call(purpose, &json, now);
    }

    /// Shows a page, screen by screen.
    fn page(&mut self, text: &str) {
        let lines = self.lines(text);
        let rows = self.pages.then_some(self.manner.rows);
        let mut out = Vec::new();
        let pager = Pager::begin(lines, rows, &mut out);
        self.show(&out);
        if pager.is_done() {
            self.prompt();
        } else {
            self.state = State::Paging(pager);
        }
    }

    /// The lines of a page, as this screen shows them.
    fn lines(&self, text: &str) -> Vec<String> {
        let lines = pages::fold(text, self.manner.columns - 1).into_iter();
        // Painted behind the fold: what colours a word has no width.
        lines
            .map(|line| {
                if self.colour {
                    pages::paint(&line).into_owned()
                } else {
                    line
                }
            })
            .collect()
    }

    /// A refusal by the session itself.
    pub(super) fn refuse(&mut self, code: &str, message: &str) {
        match self.mode {
            Mode::Json => {
                self.put(&json!({"ok": false, "error": {"code": code, "message": message}}));
            }
            Mode::Text => {
                for line in self.lines(&pages::refusal(code, message)) {
                    self.say(&line);
                }
            }
        }
    }

    /// Something about the session itself is done.
    fn well(&mut self, data: &Value) {
        if self.mode == Mode::Json {
            self.put(&json!({"ok": true, "data": data}));
        }
    }

    /// One line for a program, in one piece: where a terminal does not read, whole lines go.
    pub(super) fn put(&mut self, json: &Value) {
        let mut line = json.to_string().into_bytes();
        line.push(b'\n');
        self.out.push(Effect::Show(line));
    }

    /// Tab.
    pub(super) fn complete(&mut self, now: Now) {
        let before = self.editor.before_cursor();
        match words::complete(&before) {
            Some(Ways::Ids { begun, ids }) => {
                let json = match ids {
                    Ids::Requests => json!({"cmd": "requests", "max": COMPLETED}),
                    Ids::Items => json!({"cmd": "review", "action": "list", "max": COMPLETED}),
                    Ids::Commands => return,
                };
                self.call(Purpose::Ids { begun }, &json, now);
            }
            Some(ways) => self.offer(&ways),
            None => self.show(b"\x07"),
        }
    }

    /// Puts in what all words have in common, or shows them.
    pub(super) fn offer(&mut self, ways: &Ways) {
        let Ways::Words { begun, words } = ways else {
            return;
        };
        let Some(first) = words.first() else {
            self.show(b"\x07");
            return;
        };
        let common = words.iter().fold(first.as_str(), |common, word| {
            let same = common.chars().zip(word.chars()).take_while(|(a, b)| a == b);
            let bytes: usize = same.map(|(c, _)| c.len_utf8()).sum();
            &common[..bytes]
        });
        let more = common[begun.len()..].to_owned();
        let end = if words.len() == 1 { " " } else { "" };
        if words.len() > 1 && more.is_empty() {
            self.say("");
            let shown: Vec<_> = words
                .iter()
                .take(SHOWN)
                .map(|word| pages::clean(word))
                .collect();
            let mut list = shown.join("  ");
            if words.len() > SHOWN {
                list.push_str("  …");
            }
            for line in pages::fold(&list, self.manner.columns - 1) {
                self.say(&line);
            }
            self.redraw();
            return;
        }
        let mut out = Vec::new();
        self.editor.put(&format!("{more}{end}"), &mut out);
        self.show(&out);
    }
}

/// The ids in an answer to `requests` or `review list`.
pub(super) fn ids(answer: &Value) -> Vec<String> {
    let data = &answer["data"];
    let rows = [&data["requests"], &data["items"]];
    let rows = rows.into_iter().filter_map(Value::as_array).flatten();
    let ids = rows.filter_map(|row| row["id"].as_str());
    // An id with blanks would need quotes, which a completion inside a word cannot give.
    let plain = |id: &&str| !id.contains(|c: char| c.is_whitespace() || c.is_control());
    ids.filter(plain).map(str::to_owned).collect()
}
