//! The connection through rumqttc.
//!
//! Purpose: be [`run`], the port of [`crate::broker`] made real. The decisions are in `ledger`
//! (what is under way) and `backoff` (when to try again); `line` only moves packets and events.
//! [`probe()`] measures a broker from outside.
//!
//! What it owns: one connection at a time, copies of all parcels that have not reached their end.
//!
//! Why it looks as it does: rumqttc 0.25 keeps parts of its state over a lost session (a parked
//! publish, the id counter, the broker's former limits) and resends without the duplicate mark.
//! So each connection gets a new event loop, and what must survive lives in the ledger. Its
//! `poll` may lose a packet when dropped half-way, so it is dropped only with its connection:
//! commands are taken while it waits, and reach it through a queue that never fills up.
//!
//! How it fails: settings that cannot work are a [`TlsError`] before anything is connected.
//! Everything else is an [`Event::Down`] and another try.

mod backoff;
mod ledger;
mod line;
mod probe;
mod wire;

use tokio::sync::mpsc::{Receiver, Sender};

pub use super::tls::TlsError;
use super::{Command, End, Event, Link};
use crate::clock::Clock;
pub use backoff::{Backoff, Outcome};
use line::{Left, Line, Pause};
pub use probe::{Echo, ProbeError, SLOW_ECHO, probe};

/// Whether the files that the link names can be used, before anything is connected.
pub fn check(link: &Link) -> Result<(), TlsError> {
    wire::options(link).map(|_| ())
}

/// Keeps the link until it is closed. `seed` is for the jitter of the pauses; `beat` is called
/// at least once a second as long as the loop turns.
pub async fn run<B: Fn()>(
    link: Link,
    commands: Receiver<Command>,
    events: Sender<Event>,
    clock: Clock,
    seed: u64,
    beat: B,
) -> Result<End, TlsError> {
    let mut options = wire::options(&link)?;
    let mut keeper = Line::new(link.clone(), commands, events, clock, beat);
    let mut backoff = Backoff::new(seed);
    let end = loop {
        let outcome = match keeper.connect(options.clone()).await {
            Left::End(end) => break end,
            Left::Lost(outcome) => outcome,
        };
        if keeper.pause(backoff.pause(outcome)).await == Pause::Close {
            break End::Closed;
        }
        // A certificate that was renewed meanwhile counts from now on; one that cannot be read leaves
        // the former, which may last.
        match wire::options(&link) {
            Ok(renewed) => options = renewed,
            Err(error) => tracing::warn!(%error, "the line keeps the certificates that it had"),
        }
    };
    keeper.hand_in_events().await;
    Ok(end)
}
