//! The appliance as a service: the service manager, the watchdog, the log, the signal to stop.
//!
//! Purpose: everything that ties the process to its host. [`Notifier`] speaks with the service
//! manager, [`Watchdog`] feeds it as long as every stage gets on with its work, [`install`]
//! sets up the log, [`Signals`] turns SIGTERM into a [`Stop`] that all tasks watch, and
//! [`EngineGroup`] keeps the memory of the engines apart.
//!
//! Invariants:
//!
//! - Nothing here blocks a stage: a journal that stands still or a service manager that does
//!   not read costs log lines (counted), never a request's time.
//! - The watchdog is fed by progress, not by a timer: a stage that hangs stops the feeding,
//!   and the service manager restarts the process.
//! - Only the fields in [`FIELDS`] reach the log, so that the content of a request has no way
//!   there.
//!
//! How it fails: without a service manager the notifier does nothing; without a journal the
//! lines go to standard error.

mod drain;
mod groups;
mod log;
mod notify;
mod watchdog;

pub use drain::{HardStop, Signals, Stop, Stopper};
pub use groups::{EngineGroup, GroupError, Unlimited};
pub use log::{
    Destination, FIELDS, Flushed, Levels, LevelsFault, LogError, LogGuard, LogSettings, LogTail,
    TailLine, install,
};
pub use notify::{NOT_FOR_CHILDREN, Notifier};
pub use watchdog::{News, Pulse, Pulses, Verdict, Watchdog, watch};
