//! How the appliance is told to stop.
//!
//! ```text
//! running ──SIGTERM, SIGINT──► draining ──again──► HardStop (the exit code, at once)
//! ```
//!
//! One [`Stopper`] asks, any number of [`Stop`]s listen. The order of the drain is not decided
//! here but where the tasks are held.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Shells report a process that a signal ended as this much plus the signal's number.
const SIGNALLED: u8 = 128;

/// Asks every holder of the [`Stop`] to finish.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// A stopper and the first listener.
    pub fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Stop(receiver))
    }

    /// Asks; a second time changes nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Tells a task that it should finish. Clone it into each task.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Whether a stop has been asked for.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until a stop is asked for. Safe to drop and call again inside `select!`.
    ///
    /// A stopper that is gone can never ask again, so its absence counts as the request.
    pub async fn requested(&mut self) {
        // Both outcomes mean: finish.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// The operator was not willing to wait for the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardStop {
    /// What the process should exit with, now.
    pub exit_code: u8,
}

/// SIGTERM and SIGINT, listened to from the moment of [`Signals::listen`].
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes over both signals; call it before anything else is started, so that none is lost.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The first signal asks for the drain; the second ends this with the exit code.
    pub async fn drive(mut self, stopper: Stopper) -> HardStop {
        let first = self.next().await;
        tracing::info!(signal = first.as_raw_value(), "stopping");
        stopper.stop();
        let second = self.next().await;
        tracing::warn!(signal = second.as_raw_value(), "stopping at once");
        let number = u8::try_from(second.as_raw_value()).unwrap_or_default();
        HardStop {
            exit_code: SIGNALLED.saturating_add(number),
        }
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Number, getpid, kill_process};

    #[tokio::test]
    async fn a_late_listener_still_learns_of_the_stop() {
        let (stopper, mut stop) = Stopper::new();
        assert!(!stop.is_requested());
        stopper.stop();
        let mut late = stop.clone();
        stop.requested().await;
        late.requested().await;
        assert!(late.is_requested());
    }

    #[tokio::test]
    async fn a_stopper_that_is_gone_counts_as_a_stop() {
        let (stopper, mut stop) = Stopper::new();
        drop(stopper);
        stop.requested().await;
        assert!(stop.is_requested());
    }

    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_ends_at_once() {
        let signals = Signals::listen().unwrap();
        let (stopper, mut stop) = Stopper::new();
        let driver = tokio::spawn(signals.drive(stopper));
        kill_process(getpid(), Number::TERM).unwrap();
        stop.requested().await;
        assert!(!driver.is_finished());
        kill_process(getpid(), Number::INT).unwrap();
        assert_eq!(driver.await.unwrap(), HardStop { exit_code: 130 });
    }
}
