//! The technicians' port: a serial line, a USB adapter or gadget, opened again for ever.
//!
//! ```text
//!             open                      read 0, an error
//!   Absent ──────────► served by screen ────────────────► Absent
//!     └─ no such device: again after a pause that doubles, up to MAX_PAUSE
//! ```
//!
//! Invariants: one task owns the port; whatever the other end does, or does not, concerns nobody
//! else. The login, and the wait that a wrong PIN costs, outlive the cable.
//!
//! How it fails: after the other end of a USB line or pty is closed, a read brings nothing for ever
//! and a write fails; both mean unplugged, and the port is opened again by its path. A line with
//! three wires cannot tell that somebody left: that is what the idle time is for.

use std::time::Duration;

use tokio_serial::{FlowControl, SerialPortBuilderExt, SerialStream};

use super::commands::Counter;
use super::login::Door;
use super::screen::{self, Left};
use super::session::{Manner, Session};
use crate::clock::Clock;
use crate::config::{Console, Entry, Flow, Parity};

/// The first pause before the port is opened again: a plug that is pushed in.
const MIN_PAUSE: Duration = Duration::from_millis(50);
/// The longest: a person who plugs in a cable does not notice it.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// The screen of a terminal that nobody has asked: as every serial terminal since the first.
const ROWS: usize = 24;
/// Its columns.
const COLUMNS: usize = 80;
/// In the audit and in the log.
const SOURCE: &str = "serial";

/// Serves the port until this is dropped. Returns at once where the site has not said who may in.
pub async fn run(console: Console, appliance: String, counter: Counter, clock: Clock) {
    let device = console.device.display();
    let (door, pin) = match &console.entry {
        Entry::Pin(pin) => (Door::Pin, Some(pin)),
        Entry::Open => (Door::Open, None),
        Entry::Shut => {
            tracing::error!(
                %device,
                "the serial console stays off: set console.pin_file, or console.pin to none"
            );
            return;
        }
    };
    let mut session = Session::new(Manner {
        appliance,
        reviewer: "console".into(),
        door,
        idle: (door == Door::Pin).then_some(console.idle_timeout),
        rows: ROWS,
        columns: COLUMNS,
    });
    let mut pause = MIN_PAUSE;
    let mut told = false;
    loop {
        match open(&console) {
            Ok(port) => {
                tracing::info!(%device, "the serial console is open");
                told = false;
                let way = counter.clone();
                let served = clock.now().mono;
                let left = screen::serve(port, &mut session, way, pin, clock, SOURCE).await;
                match left {
                    Left::Gone => tracing::info!(%device, "the serial port was unplugged"),
                    Left::Failed(error) => {
                        tracing::info!(%device, %error, "the serial port was unplugged");
                    }
                    Left::Over => {} // an open door: somebody said goodbye, and the next may come
                }
                // A port that fails as soon as it is opened is not opened in a tight loop.
                if clock.now().mono.since(served) > MIN_PAUSE {
                    pause = MIN_PAUSE;
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%device, %error, "the serial port cannot be opened");
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

fn open(console: &Console) -> Result<SerialStream, tokio_serial::Error> {
    tokio_serial::new(console.device.to_string_lossy(), console.baud)
        .parity(match console.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        })
        .flow_control(match console.flow_control {
            Flow::None => FlowControl::None,
            Flow::Hardware => FlowControl::Hardware,
            Flow::Software => FlowControl::Software,
        })
        .open_native_async()
}
