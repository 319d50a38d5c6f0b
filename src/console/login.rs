//! Who may use the serial console: a PIN, and patience with those who mistype it.
//!
//! ```text
//!            on_pin              on_checked(Right)
//!   Asking ──────────► Checking ───────────────────► In
//!     ▲  ▲                │ on_checked(Wrong)          │
//!     │  └── wakes ── Waiting ◄┘                       │
//!     └───────────────────── leave ◄───────────────────┘
//! ```
//!
//! Invariants:
//!
//! - Every wrong PIN makes the next try wait longer, up to [`LONGEST_WAIT`]; no number of them
//!   locks the console for ever, and the right PIN after the wait always opens it.
//! - The wait outlives an unplugged cable, so that pulling the plug buys no further try.
//! - The PIN is handed on in a [`Attempt`], which shows it to nobody but the check.

use std::fmt;
use std::time::Duration;

use crate::clock::{Mono, Now};

/// The wait after the first wrong PIN; each further one doubles it. A person hardly notices it.
pub const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait: a technician waits it out, and a machine that guesses gets 288 tries a day.
pub const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// A PIN to be checked. Dropped, it is gone.
#[derive(Clone, PartialEq, Eq)]
pub struct Attempt(String);

impl Attempt {
    /// What was typed, for the check only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempt(…)")
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It is the PIN.
    Right,
    /// It is not.
    Wrong,
}

/// What a person must do to get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Nothing: the site says so, or the way here has asked already.
    Open,
    /// Type the PIN.
    Pin,
}

/// Where a login stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asking,
    Waiting { until: Mono },
    Checking,
    In,
}

/// The login of one console.
#[derive(Debug)]
pub struct Login {
    door: Door,
    state: State,
    failures: u32,
}

impl Login {
    /// Nobody is in yet, unless the door stands open.
    pub fn new(door: Door) -> Self {
        let state = match door {
            Door::Open => State::In,
            Door::Pin => State::Asking,
        };
        Self {
            door,
            state,
            failures: 0,
        }
    }

    /// Whether commands are taken.
    pub fn is_in(&self) -> bool {
        self.state == State::In
    }

    /// Whether a PIN would be taken now.
    pub fn asks(&self) -> bool {
        self.state == State::Asking
    }

    /// Whether a PIN is being checked.
    pub fn is_checking(&self) -> bool {
        self.state == State::Checking
    }

    /// Somebody typed a PIN. None where none is taken now.
    pub fn on_pin(&mut self, pin: &str) -> Option<Attempt> {
        if self.state != State::Asking {
            return None;
        }
        self.state = State::Checking;
        Some(Attempt(pin.to_owned()))
    }

    /// The check has ended. Gives the wait that a wrong PIN costs.
    pub fn on_checked(&mut self, checked: Checked, now: Now) -> Option<Duration> {
        if self.state != State::Checking {
            return None; // the cable was pulled meanwhile; the wait for that is counted there
        }
        match checked {
            Checked::Right => {
                self.failures = 0;
                self.state = State::In;
                None
            }
            Checked::Wrong => Some(self.fail(now)),
        }
    }

    /// Whoever was there is gone, or says goodbye. A check that is under way counts as failed:
    /// its outcome will reach nobody.
    pub fn leave(&mut self, now: Now) {
        match (self.state, self.door) {
            (State::In, Door::Pin) => self.state = State::Asking,
            (State::Checking, _) => {
                self.fail(now);
            }
            (State::In, Door::Open) | (State::Asking | State::Waiting { .. }, _) => {}
        }
    }

    /// Time has passed: whether the wait is over.
    pub fn wake(&mut self, now: Now) -> bool {
        match self.state {
            State::Waiting { until } if until <= now.mono => {
                self.state = State::Asking;
                true
            }
            State::Waiting { .. } | State::Asking | State::Checking | State::In => false,
        }
    }

    /// When the wait is over.
    pub fn deadline(&self) -> Option<Mono> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Asking | State::Checking | State::In => None,
        }
    }

    /// Wrong PINs in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn fail(&mut self, now: Now) -> Duration {
        let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let wait = FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT);
        self.state = State::Waiting {
            until: now.mono.after(wait),
        };
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now {
            mono: Mono(Duration::from_secs(seconds)),
            ..Now::default()
        }
    }

    /// Tries a wrong PIN as soon as one is taken, and gives the wait.
    fn wrong(login: &mut Login, now: &mut Now) -> Duration {
        if let Some(until) = login.deadline() {
            now.mono = until;
            assert!(login.wake(*now));
        }
        assert!(login.on_pin("0000").is_some());
        login.on_checked(Checked::Wrong, *now).unwrap()
    }

    #[test]
    fn each_wrong_pin_costs_twice_the_wait_up_to_the_longest() {
        let (mut login, mut now) = (Login::new(Door::Pin), at(0));
        let waits: Vec<u64> = (0..11)
            .map(|_| wrong(&mut login, &mut now).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn no_number_of_wrong_pins_locks_the_console_for_ever() {
        let (mut login, mut now) = (Login::new(Door::Pin), at(0));
        for _ in 0..10_000 {
            assert!(wrong(&mut login, &mut now) <= LONGEST_WAIT);
        }
        now.mono = login.deadline().unwrap();
        assert!(login.wake(now));
        login.on_pin("4711").unwrap();
        assert_eq!(login.on_checked(Checked::Right, now), None);
        assert!(login.is_in());
        login.leave(now);
        assert_eq!(
            wrong(&mut login, &mut now),
            FIRST_WAIT,
            "a right PIN forgives"
        );
    }

    #[test]
    fn no_pin_is_taken_while_the_wait_lasts_or_another_is_checked() {
        let (mut login, mut now) = (Login::new(Door::Pin), at(0));
        assert!(login.on_pin("1").is_some());
        assert!(login.on_pin("2").is_none());
        login.on_checked(Checked::Wrong, now);
        assert!(login.on_pin("3").is_none());
        assert!(!login.wake(now));
        now = at(1);
        assert!(login.wake(now));
        assert!(login.on_pin("4").is_some());
    }

    #[test]
    fn pulling_the_plug_neither_ends_the_wait_nor_saves_a_try() {
        let (mut login, now) = (Login::new(Door::Pin), at(0));
        login.on_pin("0000");
        login.leave(now);
        assert_eq!(login.failures(), 1);
        assert_eq!(login.on_checked(Checked::Right, now), None);
        assert!(!login.is_in(), "an answer to nobody opens nothing");
        login.leave(now);
        assert!(login.deadline().is_some());
    }

    #[test]
    fn an_open_door_stays_open() {
        let mut login = Login::new(Door::Open);
        login.leave(at(1));
        assert!(login.is_in());
    }

    #[test]
    fn an_attempt_is_shown_to_nobody() {
        let attempt = Login::new(Door::Pin).on_pin("4711").unwrap();
        assert!(!format!("{attempt:?}").contains("4711"));
    }
}
