//! Whatever a terminal sends, at whatever moment: nothing but harmless bytes comes back, the PIN
//! opens and is never shown, and a program gets lines of JSON.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use lineside::clock::{Mono, Now};
use lineside::console::login::{Checked, Door};
use lineside::console::session::{Effect, Manner, Mode, Session};
use serde_json::Value;

const PIN: &str = "4711-canary";

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Type(&'a [u8]),
    LogIn,
    Answer(bool, u8),
    Part(String),
    Pass(u16),
    Unplug,
}

struct World {
    session: Session,
    now: Now,
    call: Option<u64>,
}

impl World {
    fn settle(&mut self) {
        loop {
            let mode = self.session.mode();
            let effects = self.session.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Show(bytes) => shown(&bytes, mode, self.session.mode()),
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
                        assert!(serde_json::from_slice::<Value>(&line).is_ok());
                        assert!(self.call.replace(no).is_none(), "one at a time");
                    }
                    Effect::Abandon(no) => assert_eq!(self.call.take(), Some(no)),
                    Effect::Audit(_) => {}
                    Effect::End => unreachable!("a door with a PIN has no end"),
                }
            }
        }
    }
}

fn shown(bytes: &[u8], before: Mode, after: Mode) {
    let text = std::str::from_utf8(bytes).expect("whole characters");
    let harmless = |c: char| !c.is_control() || "\r\n\u{7}\u{8}".contains(c);
    assert!(text.chars().all(harmless), "{text:?}");
    if before == Mode::Json && after == Mode::Json {
        for line in text.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "{line:?}");
        }
    }
}

fuzz_target!(|steps: Vec<Step<'_>>| {
    let mut world = World {
        session: Session::new(Manner {
            appliance: "line-3".into(),
            reviewer: "console".into(),
            door: Door::Pin,
            idle: Some(Duration::from_secs(600)),
            rows: 24,
            columns: 80,
        }),
        now: Now::default(),
        call: None,
    };
    world.session.on_open(world.now);
    world.settle();
    for step in steps {
        match step {
            Step::Type(bytes) => world.session.on_bytes(bytes, world.now),
            Step::LogIn => {
                let line = format!("{PIN}\r");
                world.session.on_bytes(line.as_bytes(), world.now);
            }
            Step::Answer(well, kind) => {
                if let Some(no) = world.call.take() {
                    let answer: &[u8] = match (well, kind % 4) {
                        (false, _) => br#"{"ok":false,"error":{"code":"x","message":"\u001b[2J"}}"#,
                        (true, 0) => {
                            br#"{"ok":true,"data":{"requests":[{"id":"a-1"},{"id":"a-2"}]}}"#
                        }
                        (true, 1) => br#"{"ok":true,"data":{"confirm":"line-3","lost":{}}}"#,
                        (true, 2) => {
                            br#"{"ok":true,"data":[{"name":"\u001b[2J","about":"\u0007"}]}"#
                        }
                        (true, _) => b"no JSON",
                    };
                    world.session.on_answer(no, answer, world.now);
                }
            }
            Step::Part(text) => {
                if let Some(no) = world.call {
                    let part = serde_json::json!({"part": {"text": text}}).to_string();
                    world.session.on_part(no, part.as_bytes());
                }
            }
            Step::Pass(seconds) => {
                let end = world.now.mono.after(Duration::from_secs(seconds.into()));
                while let Some((at, _)) = world.session.deadline().filter(|(at, _)| *at <= end) {
                    world.now.mono = Mono(at.0.max(world.now.mono.0));
                    world.session.on_timeout(world.now);
                    world.settle();
                }
                world.now.mono = end;
            }
            Step::Unplug => {
                world.session.on_close(world.now);
                world.settle();
                world.session.on_open(world.now);
            }
        }
        world.settle();
    }
});
