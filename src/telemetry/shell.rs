//! The task around the reporter: samples, the spool's and the broker's news in, commands out.
//!
//! It never waits for the broker's connection: with one batch under way at a time, what a full
//! channel does not take is kept here and offered again.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::batch::Sample;
use super::reporter::{Reporter, Tally};
use crate::broker::{Command, Event};
use crate::clock::Clock;
use crate::spool::shell as spool;

/// The longest sleep.
const BEAT: Duration = Duration::from_secs(1);

/// Where inputs come from.
#[derive(Debug)]
pub struct Inlets {
    /// Figures; the end of it is the end of the task, once the rest is on the disk.
    pub samples: mpsc::Receiver<Sample>,
    /// What became of tokens of the reporter.
    pub spool: mpsc::Receiver<spool::Event>,
    /// The state of the line, and what became of parcels of the reporter.
    pub broker: mpsc::Receiver<Event>,
}

/// Where effects go.
#[derive(Debug)]
pub struct Outlets {
    /// To the spool.
    pub spool: std::sync::mpsc::Sender<spool::Command>,
    /// To the broker's connection.
    pub broker: mpsc::Sender<Command>,
    /// To whoever shows what became of samples, and of how many batches and bytes the disk holds.
    pub tally: watch::Sender<(Tally, usize, u64)>,
}

/// Runs the reporter until no more samples come.
pub async fn run(mut reporter: Reporter, mut inlets: Inlets, outlets: Outlets, clock: Clock) {
    let mut waiting: VecDeque<Command> = VecDeque::new();
    let mut closing = false;
    loop {
        let effects = reporter.take_effects();
        for command in effects.spool {
            let _ = outlets.spool.send(command); // its thread is gone: so is this task, in a moment
        }
        waiting.extend(effects.broker);
        while let Some(command) = waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(command)) = outlets.broker.try_send(command)
            {
                waiting.push_front(command);
                break;
            }
        }
        let (batches, bytes) = reporter.backlog();
        outlets
            .tally
            .send_replace((reporter.tally().clone(), batches, bytes));
        if closing && reporter.is_quiet() {
            return;
        }
        let beat = clock.now().mono.after(BEAT);
        let due = reporter.deadline();
        let wake = due.map_or(beat, |due| due.max(clock.now().mono).min(beat));
        tokio::select! {
            sample = inlets.samples.recv(), if !closing => {
                closing = sample.is_none();
                match sample {
                    Some(sample) => reporter.on_sample(sample, clock.now()),
                    None => reporter.on_close(clock.now()),
                }
            },
            event = inlets.spool.recv() => match event {
                Some(event) => reporter.on_spool(event, clock.now()),
                None => return,
            },
            // The dispatcher ends before this task does, and its tap with it.
            Some(event) = inlets.broker.recv() => reporter.on_broker(&event, clock.now()),
            () = sleep_until(clock.instant(wake).into()) => reporter.on_timeout(clock.now()),
        }
    }
}
