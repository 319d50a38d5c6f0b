//! A session in virtual time, with a service that answers at once, late, or never.

use super::*;
use crate::clock::Wall;
use crate::console::login::{FIRST_WAIT, LONGEST_WAIT};
use serde_json::json;

const PIN: &str = "4711-canary";

struct Desk {
    session: Session,
    now: Now,
    screen: String,
    calls: Vec<(u64, Value)>,
    audits: Vec<Audit>,
    answers: bool,
    ended: bool,
}

fn manner(door: Door) -> Manner {
    Manner {
        appliance: "line-3".into(),
        reviewer: "console".into(),
        door,
        idle: (door == Door::Pin).then_some(Duration::from_mins(10)),
        rows: 24,
        columns: 80,
    }
}

/// What a service would say.
fn service(call: &Value) -> Value {
    match call["cmd"].as_str().unwrap_or_default() {
        "status" => json!({"ok": true, "data": {"state": "online", "engine": "ready"}}),
        "requests" => json!({"ok": true, "data": {"looked_at": 2, "requests": [
            {"id": "press7-1", "state": "settled"}, {"id": "press7-2", "state": "settled"}]}}),
        "help" => {
            json!({"ok": true, "data": (0..60).map(|n| json!({"name": format!("c{n}"), "about": "x"})).collect::<Vec<_>>()})
        }
        "factory-reset" if call["confirm"].is_null() => {
            json!({"ok": true, "data": {"confirm": "line-3", "lost": {"open": 3}}})
        }
        "factory-reset" => json!({"ok": true, "data": {"resetting": true}}),
        "logs" => {
            let since = call["since"].as_u64().unwrap_or_default();
            let lines: Vec<_> = (since..since + 2)
                .map(|no| json!({"no": no + 1, "at_ms": 0, "level": "info", "text": format!("line {}", no + 1)}))
                .collect();
            json!({"ok": true, "data": {"lines": lines, "newest": since + 2}})
        }
        "trace" => json!({"ok": false, "error": {"code": "no_answer", "message": "silent"}}),
        _ => json!({"ok": true, "data": {"echo": call}}),
    }
}

impl Desk {
    fn new(door: Door) -> Self {
        let mut desk = Self {
            session: Session::new(manner(door)),
            now: Now::default(),
            screen: String::new(),
            calls: Vec::new(),
            audits: Vec::new(),
            answers: true,
            ended: false,
        };
        desk.session.on_open(desk.now);
        desk.settle();
        desk
    }

    /// A session in which somebody is in.
    fn inside() -> Self {
        let mut desk = Self::new(Door::Pin);
        desk.type_(&format!("{PIN}\r"));
        assert!(desk.session.is_in());
        desk.screen.clear();
        desk.audits.clear();
        desk
    }

    fn settle(&mut self) {
        loop {
            let effects = self.session.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Show(bytes) => self.screen += std::str::from_utf8(&bytes).unwrap(),
                    Effect::Check(attempt) => {
                        let right = attempt.reveal() == PIN;
                        let checked = if right {
                            Checked::Right
                        } else {
                            Checked::Wrong
                        };
                        self.session.on_checked(checked, self.now);
                    }
                    Effect::Call { no, line } => {
                        let call: Value = serde_json::from_slice(&line).unwrap();
                        let answer = service(&call).to_string();
                        self.calls.push((no, call));
                        if self.answers {
                            self.session.on_answer(no, answer.as_bytes(), self.now);
                        }
                    }
                    Effect::Abandon(_) => {}
                    Effect::Audit(audit) => self.audits.push(audit),
                    Effect::End => self.ended = true,
                }
            }
        }
    }

    fn type_(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.session.on_bytes(bytes, self.now);
        self.settle();
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now.mono.after(span);
        while let Some((at, _)) = self.session.deadline().filter(|(at, _)| *at <= end) {
            self.now.mono = at.max(self.now.mono);
            self.session.on_timeout(self.now);
            self.settle();
        }
        self.now.mono = end;
        self.now.wall = Wall(self.now.mono.0.as_secs() * 1000);
    }

    fn last_call(&self) -> &Value {
        &self.calls.last().unwrap().1
    }

    fn shown(&mut self) -> String {
        std::mem::take(&mut self.screen)
    }
}

#[test]
fn the_banner_tells_name_version_and_state_before_anybody_is_in() {
    let mut desk = Desk::new(Door::Pin);
    let screen = desk.shown();
    for words in ["lineside 0.1.0 on line-3", "online; engine ready", "PIN: "] {
        assert!(screen.contains(words), "{screen}");
    }
    desk.type_("\r");
    assert!(
        desk.shown().contains("online; engine ready"),
        "Enter shows it again"
    );
}

#[test]
fn a_service_that_is_silent_delays_the_banner_by_a_second_at_most() {
    let mut desk = Desk::new(Door::Pin);
    desk.answers = false;
    desk.type_("\r");
    desk.shown();
    desk.pass(PATIENCE);
    let screen = desk.shown();
    assert!(screen.contains("the service does not answer"), "{screen}");
    assert!(screen.ends_with("PIN: "), "{screen}");
}

#[test]
fn the_pin_opens_and_is_neither_shown_nor_kept() {
    let mut desk = Desk::new(Door::Pin);
    desk.type_(&format!("{PIN}\r"));
    desk.type_("\x1b[A\r");
    desk.type_("wrong command\r");
    let screen = desk.shown();
    assert!(screen.contains("line-3> "), "{screen}");
    let kept = format!(
        "{screen} {:?} {:?} {:?}",
        desk.session, desk.audits, desk.calls
    );
    assert!(!kept.contains("canary"), "{kept}");
}

#[test]
fn wrong_pins_cost_a_growing_wait_and_keys_during_it_are_no_pins() {
    let mut desk = Desk::new(Door::Pin);
    for wait in [1, 2, 4, 8] {
        desk.type_("0000\r");
        assert!(desk.shown().contains(&format!("taken in {wait} s")));
        desk.type_(&format!("{PIN}\r"));
        assert!(!desk.session.is_in(), "no try before the wait is over");
        desk.pass(FIRST_WAIT * wait);
        assert!(desk.shown().ends_with("PIN: "));
    }
    for _ in 0..50 {
        desk.type_("0000\r");
        desk.pass(LONGEST_WAIT);
    }
    desk.type_(&format!("{PIN}\r"));
    assert!(desk.session.is_in(), "never locked for ever");
    let wrong = desk.audits.iter().filter(|it| it.outcome == "wrong_pin");
    assert_eq!(wrong.count(), 54);
}

#[test]
fn unplugging_ends_the_login_but_not_the_wait() {
    let mut desk = Desk::inside();
    desk.session.on_close(desk.now);
    desk.session.on_open(desk.now);
    desk.settle();
    assert!(!desk.session.is_in());
    desk.type_("0000\r");
    desk.session.on_close(desk.now);
    desk.session.on_open(desk.now);
    desk.settle();
    desk.type_(&format!("{PIN}\r"));
    assert!(!desk.session.is_in(), "the wait lasts");
    desk.pass(FIRST_WAIT);
    desk.type_(&format!("{PIN}\r"));
    assert!(desk.session.is_in());
}

#[test]
fn who_types_nothing_is_logged_out_and_his_lines_are_forgotten() {
    let mut desk = Desk::inside();
    desk.type_("trace secret-id\r");
    desk.pass(Duration::from_secs(599));
    assert!(desk.session.is_in());
    desk.pass(Duration::from_secs(1));
    assert!(!desk.session.is_in());
    let screen = desk.shown();
    assert!(screen.contains("nothing was typed for 10 min"), "{screen}");
    assert_eq!(desk.audits.last().unwrap().command, "logout");
    desk.type_(&format!("{PIN}\r\x1b[A"));
    assert!(!desk.shown().contains("secret-id"));
}

#[test]
fn half_a_pin_that_somebody_left_is_gone_after_a_minute() {
    let mut desk = Desk::new(Door::Pin);
    desk.type_("47");
    desk.pass(HALF_PIN);
    desk.type_(&format!("{PIN}\r"));
    assert!(desk.session.is_in());
}

#[test]
fn commands_are_carried_out_and_audited_by_name_alone() {
    let mut desk = Desk::inside();
    desk.type_("ask --task triage the secret spindle\r");
    assert_eq!(desk.last_call()["request"]["input"], "the secret spindle");
    desk.type_("trace press7-1\r");
    assert!(desk.shown().contains("silent (no_answer)"));
    desk.type_("secret nonsense\r");
    let audits: Vec<_> = desk
        .audits
        .iter()
        .map(|it| (it.command, it.outcome.as_str()))
        .collect();
    assert_eq!(
        audits,
        [
            ("ask", "ok"),
            ("trace", "no_answer"),
            ("(unknown)", "unknown_command")
        ]
    );
}

#[test]
fn a_reviewer_is_the_one_named_or_the_sessions() {
    let mut desk = Desk::inside();
    desk.type_("review approve 9f\r");
    assert_eq!(desk.last_call()["reviewer"], "console");
    desk.type_("review approve --as anna 9f\r");
    assert_eq!(desk.last_call()["reviewer"], "anna");
    desk.type_("review\r");
    assert_eq!(desk.last_call()["reviewer"], Value::Null);
}

#[test]
fn long_answers_are_paged_until_that_is_switched_off() {
    let mut desk = Desk::inside();
    desk.type_("help\r");
    let screen = desk.shown();
    assert!(
        screen.contains("c22") && !screen.contains("c23"),
        "{screen}"
    );
    desk.type_(" q");
    let screen = desk.shown();
    assert!(
        screen.contains("c23") && screen.ends_with("line-3> "),
        "{screen}"
    );
    desk.type_("page off\rhelp\r");
    let screen = desk.shown();
    assert!(
        screen.contains("c59") && !screen.contains("--More--"),
        "{screen}"
    );
}

#[test]
fn tab_completes_commands_and_ids() {
    let mut desk = Desk::inside();
    desk.type_("sta\t");
    assert!(desk.shown().ends_with("status "));
    desk.type_("\x15trace pr\t");
    assert!(desk.shown().ends_with("trace press7-"));
    desk.type_("\t");
    let screen = desk.shown();
    assert!(
        screen.contains("press7-1  press7-2\r\nline-3> trace press7-"),
        "{screen}"
    );
    desk.type_("2\r");
    assert_eq!(desk.last_call(), &json!({"cmd": "trace", "id": "press7-2"}));
    desk.type_("zzz\t");
    assert!(desk.shown().ends_with('\u{7}'));
}

#[test]
fn an_answer_that_does_not_come_is_told_after_a_second_and_can_be_left() {
    let mut desk = Desk::inside();
    desk.answers = false;
    desk.type_("ask why\r");
    desk.shown();
    desk.pass(PATIENCE);
    assert!(desk.shown().contains("no answer yet"));
    desk.type_("\x03");
    assert!(desk.shown().ends_with("line-3> "));
    assert_eq!(desk.audits.last().unwrap().outcome, "interrupted");
    let no = desk.calls.last().unwrap().0;
    desk.session
        .on_answer(no, b"{\"ok\":true,\"data\":{}}", desk.now);
    desk.settle();
    assert_eq!(desk.shown(), "", "a late answer is nobody's");
}

#[test]
fn the_words_of_an_answer_are_shown_as_they_come_and_not_again() {
    let mut desk = Desk::inside();
    desk.answers = false;
    let part = |text: &str| json!({"part": {"text": text}}).to_string().into_bytes();
    let reply = |text: &str| {
        let data = json!({"id": "l-1", "status": "answered", "final": true, "text": text,
            "source": "edge", "confidence": 0.9, "route": {"rule": "default"}});
        json!({"ok": true, "data": data}).to_string().into_bytes()
    };
    for (last, again) in [("the spindle\nhums", 0), ("nothing hums", 1)] {
        desk.type_("ask what hums\r");
        assert_eq!(desk.last_call()["request"]["stream"], true);
        let no = desk.calls.last().unwrap().0;
        desk.shown();
        desk.session.on_part(no, &part("the spin"));
        desk.session.on_part(no + 1, &part("of another"));
        desk.session.on_part(no, &part("dle\nhums"));
        desk.settle();
        assert_eq!(desk.shown(), "the spindle\r\nhums");
        desk.pass(Duration::from_secs(5));
        assert_eq!(desk.shown(), "", "it is not said to be late");
        desk.session.on_answer(no, &reply(last), desk.now);
        desk.settle();
        let screen = desk.shown();
        assert_eq!(screen.matches("hums").count(), again, "{screen}");
        assert!(screen.contains("answered by edge"), "{screen}");
    }
    desk.answers = true;
    desk.type_("mode json\n");
    desk.answers = false;
    desk.type_("{\"cmd\":\"ask\",\"request\":{\"prompt\":\"x\",\"stream\":true}}\n");
    let no = desk.calls.last().unwrap().0;
    desk.shown();
    desk.session.on_part(no, &part("word"));
    desk.settle();
    assert_eq!(desk.shown(), "{\"part\":{\"text\":\"word\"}}\n");
}

#[test]
fn a_log_is_followed_until_a_key_is_hit_or_nobody_is_there() {
    let mut desk = Desk::inside();
    desk.type_("logs --follow --level info\r");
    assert!(desk.shown().contains("line 2"));
    desk.pass(Duration::from_secs(2));
    let screen = desk.shown();
    assert!(
        screen.contains("line 3") && screen.contains("line 6"),
        "{screen}"
    );
    assert_eq!(screen.matches("line 3").count(), 1, "{screen}");
    assert_eq!(desk.last_call()["since"], 4);
    desk.type_("x");
    assert!(desk.shown().ends_with("line-3> "));
    desk.pass(Duration::from_secs(5));
    assert_eq!(desk.shown(), "");
    let named = |audit: &Audit| (audit.command, audit.outcome.clone());
    let audits: Vec<_> = desk.audits.iter().map(named).collect();
    assert_eq!(audits, [("logs", "ok".to_owned())]);

    desk.type_("logs --follow\r");
    desk.pass(Duration::from_mins(11));
    assert!(!desk.session.is_in(), "nothing was typed for long");
}

#[test]
fn a_rig_at_the_pace_of_9600_baud_loses_nothing_in_thousands_of_commands() {
    /// Bits of a byte on the line: start, eight, stop.
    const BYTE: Duration = Duration::from_micros(10_000_000 / 9600);
    let mut desk = Desk::inside();
    desk.type_("mode json\n");
    desk.shown();
    let mut outbox = crate::console::outbox::Outbox::default();
    let (mut sent, mut answered) = (0, 0);
    let mut line = Vec::new();
    let mut coming: VecDeque<u8> = VecDeque::new();
    while answered < 3000 {
        // It keeps the line busy, and waits for answers that it has not read.
        if coming.is_empty() && sent < 3000 && sent - answered < 4 {
            sent += 1;
            coming.extend(format!("review show {sent}\n").bytes());
        }
        desk.pass(BYTE);
        if let Some(byte) = coming.pop_front() {
            desk.bytes(&[byte]);
            outbox.put(desk.shown().as_bytes(), Mode::Json);
        }
        if !outbox.is_empty() {
            line.push(outbox.next()[0]);
            outbox.written(1);
        }
        if line.last() == Some(&b'\n') {
            let told: Value = serde_json::from_slice(&line).unwrap();
            answered += 1;
            assert_eq!(told["data"]["echo"]["id"], answered.to_string());
            line.clear();
        }
    }
    assert_eq!(outbox.ever_dropped(), 0);
    assert!(outbox.is_empty());
}

#[test]
fn what_is_typed_ahead_is_taken_in_order() {
    let mut desk = Desk::inside();
    desk.answers = false;
    desk.type_("queues\rbroker\rupl");
    assert_eq!(desk.last_call()["cmd"], "queues");
    desk.answers = true;
    let no = desk.calls.last().unwrap().0;
    desk.session
        .on_answer(no, b"{\"ok\":true,\"data\":{}}", desk.now);
    desk.settle();
    assert_eq!(desk.last_call()["cmd"], "broker");
    desk.type_("ink\r");
    assert_eq!(desk.last_call()["cmd"], "uplink");
}

#[test]
fn what_is_typed_ahead_is_bounded_and_dropped_by_whole_lines() {
    let mut desk = Desk::inside();
    desk.type_("mode json\r");
    desk.answers = false;
    desk.type_("queues\n");
    let lines = MAX_AHEAD_BYTES / 7 + 100;
    desk.type_(&"broker\n".repeat(lines));
    desk.answers = true;
    desk.shown();
    let no = desk.calls.last().unwrap().0;
    desk.session
        .on_answer(no, b"{\"ok\":true,\"data\":{}}", desk.now);
    desk.settle();
    assert_eq!(
        desk.calls
            .iter()
            .filter(|(_, call)| call["cmd"] == "broker")
            .count(),
        MAX_AHEAD_BYTES / 7
    );
}

#[test]
fn a_program_gets_one_line_of_json_for_each_line() {
    let mut desk = Desk::inside();
    desk.type_("mode json\r");
    desk.shown();
    desk.type_("queues\n{\"cmd\":\"status\"}\n\n  \ntarce\ntrace x\nhelp\npage on\n{\"cmd\":\n");
    let screen = desk.shown();
    let lines: Vec<Value> = screen
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let codes: Vec<_> = lines
        .iter()
        .map(|line| line["error"]["code"].as_str())
        .collect();
    assert_eq!(
        codes,
        [
            None,
            None,
            Some("unknown_command"),
            Some("no_answer"),
            None,
            None,
            Some("syntax")
        ]
    );
    desk.type_("mode text\n");
    assert!(desk.shown().ends_with("line-3> "));
}

#[test]
fn a_program_that_is_logged_out_is_told_in_json() {
    let mut desk = Desk::inside();
    desk.type_("mode json\r");
    desk.shown();
    desk.pass(Duration::from_mins(10));
    let screen = desk.shown();
    let first: Value = serde_json::from_str(screen.lines().next().unwrap()).unwrap();
    assert_eq!(first["error"]["code"], "logged_out");
    assert!(screen.ends_with("PIN: "), "{screen}");
}

#[test]
fn a_factory_reset_tells_what_is_lost_and_asks_for_the_name() {
    let mut desk = Desk::inside();
    desk.type_("factory-reset\r");
    let screen = desk.shown();
    assert!(screen.contains("3 without an outcome"), "{screen}");
    assert!(screen.ends_with("Name: "), "{screen}");
    desk.type_("\r");
    assert!(desk.shown().contains("Nothing was reset."));
    desk.type_("factory-reset\rline-3\r");
    assert_eq!(
        desk.last_call(),
        &json!({"cmd": "factory-reset", "confirm": "line-3"})
    );
}

#[test]
fn leaving_asks_for_the_pin_again_or_ends_where_there_is_none() {
    let mut desk = Desk::inside();
    desk.type_("exit\r");
    assert!(!desk.session.is_in() && !desk.ended);
    let mut desk = Desk::new(Door::Open);
    desk.type_("\x04");
    assert!(desk.ended);
}

#[test]
fn a_session_can_be_cut_at_every_byte() {
    let script = format!(
        "{PIN}\rstatus\rrev\t\x1b[A\x1b[D\x7fhelp\r q\rask \u{e4} x\rmode json\r{{\"cmd\":\"status\"}}\nmode text\nexit\r"
    );
    let bytes = script.as_bytes();
    for cut in 0..=bytes.len() {
        let mut desk = Desk::new(Door::Pin);
        desk.bytes(&bytes[..cut]);
        desk.session.on_close(desk.now);
        desk.pass(LONGEST_WAIT); // an attempt may have been under way
        desk.session.on_open(desk.now);
        desk.settle();
        assert!(!desk.session.is_in(), "{cut}");
        desk.shown();
        desk.type_(&format!("{PIN}\rstatus\r"));
        let screen = desk.shown();
        assert!(screen.contains("state       online"), "{cut}: {screen}");
    }
}

#[test]
fn a_paste_of_a_hundred_kilobytes_is_told_once_and_carried_out_never() {
    let mut desk = Desk::inside();
    desk.type_(&"x".repeat(100_000));
    desk.shown();
    desk.type_("\rstatus\r");
    let screen = desk.shown();
    assert_eq!(screen.matches("too long").count(), 1, "{screen}");
    assert!(screen.contains("state       online"));
}

mod garbage;
