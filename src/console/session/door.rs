//! Coming and going: the banner, the PIN, the idle time, the goodbye.

use serde_json::Value;

use super::{Effect, HALF_PIN, Mode, Mono, Now, Purpose, Session, State};
use crate::console::editor::Echo;
use crate::console::login::Door;
use crate::console::pages;

impl Session {
    pub(super) fn idle_at(&self) -> Option<Mono> {
        match self.state {
            State::Closed | State::Over => None,
            State::Door => (!self.editor.is_empty()).then(|| self.last_key.after(HALF_PIN)),
            State::Prompt
            | State::Calling(_)
            | State::Paging(_)
            | State::Following(_)
            | State::Confirming => {
                let idle = self.manner.idle.filter(|_| self.login.is_in())?;
                Some(self.last_key.after(idle))
            }
        }
    }

    pub(super) fn idle_out(&mut self, now: Now) {
        if matches!(self.state, State::Door) {
            self.say("");
            self.ask_pin();
            return;
        }
        self.audit("logout", "idle");
        let minutes = self.manner.idle.unwrap_or_default().as_secs().div_ceil(60);
        let why = format!("logged out: nothing was typed for {minutes} min");
        match self.mode {
            Mode::Json => self.refuse("logged_out", &why),
            Mode::Text => self.say(&format!("\n{why}")),
        }
        self.log_out(now);
    }

    /// `exit`, or ^D.
    pub(super) fn leave(&mut self, now: Now) {
        if self.manner.door == Door::Pin {
            self.audit("logout", "ok");
            self.say("");
            self.log_out(now);
        } else {
            self.say("");
            self.state = State::Over;
            self.out.push(Effect::End);
        }
    }

    pub(super) fn log_out(&mut self, now: Now) {
        self.abandon();
        self.login.leave(now);
        self.fresh();
        self.greet(now);
    }

    /// As if nobody had been there.
    pub(super) fn fresh(&mut self) {
        self.editor.reset();
        self.editor.forget();
        self.mode = Mode::Text;
        self.colour = self.coloured;
        self.pages = true;
        self.ahead.clear();
        self.dropping = false;
    }

    /// Asks for the state, so that the banner can tell it.
    pub(super) fn greet(&mut self, now: Now) {
        let version = env!("CARGO_PKG_VERSION");
        let name = pages::clean(&self.manner.appliance);
        self.say(&format!("\nlineside {version} on {name}"));
        self.call(
            Purpose::Greeting,
            &serde_json::json!({"cmd": "status"}),
            now,
        );
    }

    pub(super) fn greeted(&mut self, answer: Option<&Value>) {
        let state = answer.map(|answer| &answer["data"]);
        match state.and_then(|data| data["state"].as_str()) {
            Some(word) => {
                let engine = state.and_then(|data| data["engine"].as_str());
                let (word, engine) = (pages::clean(word), engine.unwrap_or("unknown"));
                self.say(&format!("{word}; engine {}", pages::clean(engine)));
            }
            None => self.say("the service does not answer"),
        }
        if self.login.is_in() {
            self.say("help lists the commands");
        }
        self.welcome();
    }

    /// The PIN is asked for, or a command.
    pub(super) fn welcome(&mut self) {
        if self.login.is_in() {
            self.prompt();
        } else {
            self.ask_pin();
        }
    }

    pub(super) fn ask_pin(&mut self) {
        self.state = State::Door;
        if self.login.asks() {
            self.begin("PIN: ", Echo::Hidden);
        }
    }
}
