//! A session: what a terminal sends becomes commands, and their answers become text.
//!
//! ```text
//!            on_open                    Enter with a PIN        on_checked
//!   Closed ───────────► Greeting ─► Door ──────────────► Checking ───────┐
//!     ▲                              ▲ wrong: it waits longer each time  │ right
//!     │ on_close, from anywhere      └───────────────────────────────────┤
//!     │                   line                on_answer                  ▼
//!     └────────────── Prompt ──────► Calling ───────────► (Paging) ─► Prompt
//!                       │              ▲  └─ logs --follow ─► Following ─ a key ─► Prompt
//!                       │              └────── on_timeout ────────┘
//!                       │ exit, on_timeout (idle) ─► Greeting, or Over where nobody logs in
//! ```
//!
//! Purpose: serial console and `lineside console` are the same session; only the way to the
//! commands differs. It is a plain struct: bytes, answers and time come in, [`Effect`]s go out. No
//! clock, no I/O.
//!
//! Invariants:
//!
//! - At most one command is under way. What is typed meanwhile waits, up to [`MAX_AHEAD_BYTES`];
//!   what is more is dropped by whole lines and told.
//! - In [`Mode::Json`] every line that is not empty is answered by exactly one line of JSON.
//! - Each command leaves an [`Audit`]: its name and its outcome, never what followed the name.
//! - The PIN goes into an [`Attempt`], and nowhere else. History ends with the login.
//!
//! How it fails: a service that does not answer is said to be silent after [`PATIENCE`]; ^C leaves
//! the wait. A terminal that does not read is the business of the shell around this.

mod door;
mod follow;
mod lines;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;

use super::editor::{Echo, Editor, Typed};
use super::login::{Attempt, Checked, Door, Login};
use super::pager::Pager;
use super::pages;
use super::words::Ways;
use crate::clock::{Mono, Now};
use follow::Following;

/// How long an answer may take before the person is told that it does.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// What may be typed ahead: a rig's thousand commands.
pub const MAX_AHEAD_BYTES: usize = 65_536;
/// Half a PIN that somebody left is gone after this.
const HALF_PIN: Duration = Duration::from_mins(1);

/// What a session is like.
#[derive(Clone, Debug)]
pub struct Manner {
    /// The appliance's name.
    pub appliance: String,
    /// Whose verdicts these are, where a line does not say.
    pub reviewer: String,
    /// What opens it.
    pub door: Door,
    /// How long somebody who is in may type nothing; none: for ever.
    pub idle: Option<Duration>,
    /// Rows of the screen.
    pub rows: usize,
    /// Columns of the screen.
    pub columns: usize,
}

/// Whom it speaks to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A person.
    #[default]
    Text,
    /// A program.
    Json,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The terminal is to show this.
    Show(Vec<u8>),
    /// A PIN is to be checked; the answer comes by [`Session::on_checked`].
    Check(Attempt),
    /// A command is to be carried out; the answer comes by [`Session::on_answer`].
    Call {
        /// Names it.
        no: u64,
        /// The line, as for the socket.
        line: Vec<u8>,
    },
    /// Nobody waits for this answer any more.
    Abandon(u64),
    /// Something is to be recorded.
    Audit(Audit),
    /// The session is over.
    End,
}

/// What is recorded of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Its name.
    pub command: &'static str,
    /// `ok`, or the code of the refusal.
    pub outcome: String,
}

/// What a call is for.
#[derive(Clone, Debug)]
enum Purpose {
    /// Somebody typed it.
    Command { command: &'static str, call: Value },
    /// The state for the banner.
    Greeting,
    /// Ids that begin so.
    Ids { begun: String },
    /// New lines of the log, for somebody who watches.
    Follow { call: Value },
}

/// A command under way.
#[derive(Debug)]
struct Calling {
    no: u64,
    purpose: Purpose,
    /// When the person is told that it takes long; none once that is done.
    notice: Option<Mono>,
    /// The words of the answer that were shown as they came.
    told: String,
}

#[derive(Debug)]
enum State {
    Closed,
    /// The login has the word.
    Door,
    Prompt,
    Calling(Calling),
    Paging(Pager),
    /// Somebody watches the log.
    Following(Following),
    /// A factory reset waits for the name.
    Confirming,
    Over,
}

/// A session.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is so or not, on its own"
)]
pub struct Session {
    manner: Manner,
    login: Login,
    editor: Editor,
    mode: Mode,
    /// Whether states are shown in colour; only where somebody asked.
    colour: bool,
    /// The same at the beginning of a login.
    coloured: bool,
    pages: bool,
    state: State,
    ahead: VecDeque<u8>,
    /// What was typed ahead is being dropped, up to the next line end.
    dropping: bool,
    next_no: u64,
    last_key: Mono,
    out: Vec<Effect>,
}

impl Session {
    /// A session on a terminal that is not there yet.
    pub fn new(manner: Manner) -> Self {
        Self {
            login: Login::new(manner.door),
            editor: Editor::new(manner.columns),
            mode: Mode::Text,
            colour: false,
            coloured: false,
            pages: true,
            state: State::Closed,
            ahead: VecDeque::new(),
            dropping: false,
            next_no: 0,
            last_key: Mono::default(),
            out: Vec::new(),
            manner,
        }
    }

    /// The same with states in colour from the beginning.
    #[must_use]
    pub fn coloured(self) -> Self {
        Self {
            colour: true,
            coloured: true,
            ..self
        }
    }

    /// The terminal is there.
    pub fn on_open(&mut self, now: Now) {
        self.on_close(now);
        self.last_key = now.mono;
        self.greet(now);
    }

    /// The terminal is gone.
    pub fn on_close(&mut self, now: Now) {
        self.abandon();
        self.login.leave(now);
        self.fresh();
        self.state = State::Closed;
    }

    /// Something was typed.
    pub fn on_bytes(&mut self, bytes: &[u8], now: Now) {
        self.last_key = now.mono;
        for &byte in bytes {
            if self.is_busy() {
                self.put_ahead(byte);
            } else {
                self.take(byte, now);
            }
        }
    }

    /// A PIN was checked.
    pub fn on_checked(&mut self, checked: Checked, now: Now) {
        if !matches!(self.state, State::Door) {
            return;
        }
        let wait = self.login.on_checked(checked, now);
        let outcome = match (self.login.is_in(), wait) {
            (true, _) => "ok",
            (false, Some(_)) => "wrong_pin",
            (false, None) => return,
        };
        self.audit("login", outcome);
        if let Some(wait) = wait {
            self.ahead.clear();
            let seconds = wait.as_secs();
            self.say(&format!("Wrong PIN. The next one is taken in {seconds} s."));
            return;
        }
        self.last_key = now.mono;
        self.prompt();
        self.catch_up(now);
    }

    /// A command was answered, with one line of JSON.
    pub fn on_answer(&mut self, no: u64, answer: &[u8], now: Now) {
        let current = matches!(&self.state, State::Calling(calling) if calling.no == no);
        if !current {
            return; // nobody waits for it any more
        }
        let State::Calling(calling) = std::mem::replace(&mut self.state, State::Prompt) else {
            return;
        };
        match calling.purpose {
            Purpose::Command { command, call } => {
                self.answered(command, &call, answer, &calling.told);
            }
            Purpose::Follow { call } => self.followed(call, answer, now),
            Purpose::Greeting => self.greeted(serde_json::from_slice(answer).ok().as_ref()),
            Purpose::Ids { begun } => {
                let answer = serde_json::from_slice(answer).unwrap_or_default();
                self.complete_with(&begun, lines::ids(&answer));
            }
        }
        self.catch_up(now);
    }

    /// Time has passed; see [`Session::deadline`].
    pub fn on_timeout(&mut self, now: Now) {
        if self.login.wake(now) && matches!(self.state, State::Door) {
            self.ask_pin();
        }
        if let State::Calling(calling) = &mut self.state
            && calling.notice.is_some_and(|at| at <= now.mono)
        {
            calling.notice = None;
            self.too_long(now);
        }
        if matches!(&self.state, State::Following(it) if it.again <= now.mono) {
            self.look_again(now);
        }
        if self.idle_at().is_some_and(|at| at <= now.mono) {
            self.idle_out(now);
        }
    }

    /// When [`Session::on_timeout`] wants to be called, and why.
    pub fn deadline(&self) -> Option<(Mono, &'static str)> {
        let wait = self.login.deadline().map(|at| (at, "another PIN is taken"));
        let idle = self.idle_at().map(|at| (at, "nobody types"));
        let notice = match &self.state {
            State::Calling(calling) => calling.notice.map(|at| (at, "an answer takes long")),
            State::Following(it) => Some((it.again, "the log is looked at again")),
            State::Closed
            | State::Door
            | State::Prompt
            | State::Paging(_)
            | State::Confirming
            | State::Over => None,
        };
        [wait, idle, notice].into_iter().flatten().min()
    }

    /// Hands over what is to be done, in this order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.out)
    }

    /// Whom it speaks to now.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether commands are taken.
    pub fn is_in(&self) -> bool {
        self.login.is_in()
    }

    fn is_busy(&self) -> bool {
        match self.state {
            State::Calling(_) => true,
            // A PIN is being checked, or the wait after a wrong one lasts.
            State::Door => !self.login.asks(),
            State::Closed
            | State::Prompt
            | State::Paging(_)
            | State::Following(_)
            | State::Confirming
            | State::Over => false,
        }
    }

    /// Something typed while a command is under way.
    fn put_ahead(&mut self, byte: u8) {
        if byte == 0x03 && self.mode == Mode::Text {
            self.ahead.clear();
            self.dropping = false;
            self.interrupt();
            return;
        }
        if matches!(self.state, State::Door) && !self.login.is_checking() {
            return; // no keys are taken during the wait, so that none is taken for a PIN
        }
        if self.dropping {
            self.dropping = byte != b'\n' && byte != b'\r';
        } else if self.ahead.len() < MAX_AHEAD_BYTES {
            self.ahead.push_back(byte);
        } else {
            // The line that did not fit is dropped as a whole, what came of it included.
            while self
                .ahead
                .back()
                .is_some_and(|it| !matches!(it, b'\n' | b'\r'))
            {
                self.ahead.pop_back();
            }
            self.dropping = byte != b'\n' && byte != b'\r';
            self.refuse(
                "overrun",
                "more was typed ahead than can be kept; a line is gone",
            );
        }
    }

    /// Takes what was typed ahead.
    fn catch_up(&mut self, now: Now) {
        while !self.is_busy()
            && let Some(byte) = self.ahead.pop_front()
        {
            self.take(byte, now);
        }
    }

    fn take(&mut self, byte: u8, now: Now) {
        let mut out = Vec::new();
        match &mut self.state {
            State::Closed | State::Over | State::Calling(_) => return,
            State::Following(_) => {
                self.prompt(); // any key
                return;
            }
            State::Paging(pager) => {
                pager.on_key(byte, self.manner.rows, &mut out);
                let done = pager.is_done();
                self.show(&out);
                if done {
                    self.prompt();
                }
                return;
            }
            State::Door | State::Prompt | State::Confirming => {}
        }
        let typed = self.editor.on_byte(byte, &mut out);
        self.show(&out);
        if let Some(typed) = typed {
            self.typed(typed, now);
        }
    }

    fn typed(&mut self, typed: Typed, now: Now) {
        match (&self.state, typed) {
            (State::Door, Typed::Line(line)) if line.is_empty() => self.greet(now),
            (State::Door, Typed::Line(line)) => {
                if let Some(attempt) = self.login.on_pin(&line) {
                    self.out.push(Effect::Check(attempt));
                }
            }
            (State::Door, _) => self.ask_pin(),
            (State::Confirming, Typed::Line(line)) => self.confirmed(line.trim(), now),
            (State::Confirming, _) => self.prompt(),
            (_, Typed::Line(line)) => self.command(&line, now),
            (_, Typed::Overlong) => {
                self.audit(super::words::UNKNOWN, "too_long");
                self.refuse("too_long", "the line is too long and was not carried out");
                self.prompt();
            }
            (_, Typed::Interrupt) => {
                self.say("^C");
                self.prompt();
            }
            (_, Typed::End) => self.leave(now),
            (_, Typed::Complete) => self.complete(now),
        }
    }

    /// Begins a call; its answer comes by [`Session::on_answer`].
    fn call(&mut self, purpose: Purpose, json: &Value, now: Now) {
        self.next_no += 1;
        let no = self.next_no;
        let patient = self.mode == Mode::Json && matches!(purpose, Purpose::Command { .. });
        self.state = State::Calling(Calling {
            no,
            purpose,
            notice: (!patient).then(|| now.mono.after(PATIENCE)),
            told: String::new(),
        });
        let line = json.to_string().into_bytes();
        self.out.push(Effect::Call { no, line });
    }

    fn abandon(&mut self) {
        if let State::Calling(calling) = &self.state {
            self.out.push(Effect::Abandon(calling.no));
        }
    }

    /// ^C while something is under way.
    fn interrupt(&mut self) {
        let State::Calling(calling) = &self.state else {
            return; // a PIN is being checked, or the wait lasts
        };
        let command = match &calling.purpose {
            Purpose::Command { command, .. } => Some(*command),
            Purpose::Greeting | Purpose::Ids { .. } | Purpose::Follow { .. } => None,
        };
        self.abandon();
        if let Some(command) = command {
            self.audit(command, "interrupted");
        }
        self.say("^C (not waited for any longer)");
        self.welcome();
    }

    /// An answer takes long.
    fn too_long(&mut self, now: Now) {
        let State::Calling(calling) = &self.state else {
            return;
        };
        match calling.purpose {
            Purpose::Command { .. } | Purpose::Follow { .. } => {
                self.say("(no answer yet; it is waited for, ^C leaves it)");
            }
            Purpose::Greeting => {
                self.abandon();
                self.greeted(None);
                self.catch_up(now);
            }
            Purpose::Ids { .. } => {
                self.abandon();
                self.state = State::Prompt;
                self.redraw();
                self.catch_up(now);
            }
        }
    }

    fn prompt(&mut self) {
        self.state = State::Prompt;
        match self.mode {
            Mode::Text => {
                let prompt = format!("{}> ", pages::clean(&self.manner.appliance));
                self.begin(&prompt, Echo::Shown);
            }
            Mode::Json => self.begin("", Echo::Machine),
        }
    }

    fn begin(&mut self, prompt: &str, echo: Echo) {
        let mut out = Vec::new();
        self.editor.begin(prompt, echo, &mut out);
        self.show(&out);
    }

    fn redraw(&mut self) {
        let mut out = Vec::new();
        self.editor.redraw(&mut out);
        self.show(&out);
    }

    fn audit(&mut self, command: &'static str, outcome: &str) {
        self.out.push(Effect::Audit(Audit {
            command,
            outcome: outcome.into(),
        }));
    }

    fn show(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(Effect::Show(before)) = self.out.last_mut()
            && self.mode == Mode::Text
        {
            before.extend_from_slice(bytes);
        } else {
            self.out.push(Effect::Show(bytes.to_vec()));
        }
    }

    /// Lines for a person; a program does not get them.
    fn say(&mut self, text: &str) {
        if self.mode == Mode::Text {
            let lines = text.replace('\n', "\r\n");
            self.show(format!("{lines}\r\n").as_bytes());
        }
    }

    /// A completion's words, once they are known.
    fn complete_with(&mut self, begun: &str, words: Vec<String>) {
        let begins = |word: &String| word.starts_with(begun);
        let mut words: Vec<_> = words.into_iter().filter(begins).collect();
        words.sort();
        words.dedup();
        self.state = State::Prompt;
        self.offer(&Ways::Words {
            begun: begun.to_owned(),
            words,
        });
    }
}
