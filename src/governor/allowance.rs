//! What may run: the governor's word to engine and dispatcher.

use std::time::Duration;

use super::{Level, Taken};

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is too hot, or would become so.
    Heat,
    /// There is too little memory.
    Memory,
}

/// Whether something is computed that only may be of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// As it pays.
    #[default]
    Free,
    /// No: each guess that fails is heat for nothing.
    Off,
}

/// Where the temperature is going.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Now, of the sensor that is nearest to its limit.
    pub celsius: f32,
    /// The limit of that sensor.
    pub limit_celsius: f32,
    /// In a minute, if everything stays as it is.
    pub ahead_celsius: f32,
    /// When the limit would be reached, if ever.
    pub limit_in: Option<Duration>,
}

/// What may run now, and why. The latest value is what counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Allowance {
    /// How near the limits are.
    pub state: Level,
    /// What is short, where anything is.
    pub cause: Option<Cause>,
    /// Whose requests the edge takes.
    pub taken: Taken,
    /// Conversations at a time at most, where that is fewer than configured; none pauses the engine.
    pub seats: Option<u16>,
    /// Of the threads that the engine would use, so many thousandths; one computes in any case.
    pub threads_permille: u16,
    /// Rest after each pass, in thousandths of the time that it took.
    pub rest_permille: u16,
    /// Whether guesses are computed.
    pub speculation: Speculation,
    /// Whether the engine may keep beside its cache what only saves time.
    pub keeps_beginnings: bool,
    /// When who was turned away may come again.
    pub retry_after: Duration,
    /// Where the temperature is going; none where there is no sensor.
    pub forecast: Option<Forecast>,
    /// In words, for the log and for people.
    pub why: String,
}

impl Default for Allowance {
    /// Everything, as long as nobody has looked.
    fn default() -> Self {
        Self {
            state: Level::default(),
            cause: None,
            taken: Taken::default(),
            seats: None,
            threads_permille: 1000,
            rest_permille: 0,
            speculation: Speculation::default(),
            keeps_beginnings: true,
            retry_after: Duration::ZERO,
            forecast: None,
            why: String::new(),
        }
    }
}
