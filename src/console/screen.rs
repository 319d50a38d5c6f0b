//! The loop around a [`Session`]: bytes in, effects out, and nothing else.
//!
//! It serves a serial port and a person's own terminal alike. What the terminal does not take waits
//! in the [`Outbox`], which is bounded; so a terminal that never reads is nobody's trouble. Commands
//! run in tasks of their own, so a key, an unplugged cable or a timer is heard while one runs.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use super::commands::{Counter, Parts, carry_out};
use super::login::Checked;
use super::outbox::Outbox;
use super::session::{Effect, Session};
use crate::clock::Clock;
use crate::config::Pin;

/// Bytes that are read at a time: what a fast line brings in a moment.
const READ_BYTES: usize = 4096;

/// Parts and answers on their way to the session.
const HEARD: usize = 64;

/// The way to the commands.
pub trait Way: Clone + Send + 'static {
    /// Carries out one line and gives the line that answers it; before that, its parts.
    fn carry_out(&self, line: Vec<u8>, parts: Parts) -> impl Future<Output = Vec<u8>> + Send;
}

impl Way for Counter {
    async fn carry_out(&self, line: Vec<u8>, parts: Parts) -> Vec<u8> {
        carry_out(&line, self, Some(&parts)).await.line
    }
}

/// Why a terminal is left.
#[derive(Debug)]
pub enum Left {
    /// It is gone.
    Gone,
    /// It failed.
    Failed(io::Error),
    /// The session is over.
    Over,
}

/// What is under way for a session.
struct Errands<W> {
    way: W,
    pin: Option<Pin>,
    checking: Option<JoinHandle<bool>>,
    calling: Option<(u64, JoinHandle<()>)>,
    heard: mpsc::Sender<(u64, Heard)>,
}

/// What comes back from a command.
enum Heard {
    Part(Vec<u8>),
    Answer(Vec<u8>),
}

/// Serves a terminal until it is gone or the session is over. `source` stands in the audit.
pub async fn serve<W: Way>(
    terminal: impl AsyncRead + AsyncWrite,
    session: &mut Session,
    way: W,
    pin: Option<&Pin>,
    clock: Clock,
    source: &'static str,
) -> Left {
    let (mut read, mut write) = tokio::io::split(Box::pin(terminal));
    let (heard, mut hearing) = mpsc::channel(HEARD);
    let mut errands = Errands {
        way,
        pin: pin.cloned(),
        checking: None,
        calling: None,
        heard,
    };
    let mut outbox = Outbox::default();
    let mut buffer = vec![0; READ_BYTES];
    session.on_open(clock.now());
    let left = loop {
        let over = errands.run(session, &mut outbox, source);
        if over && outbox.is_empty() {
            break Left::Over;
        }
        let wake = session.deadline().map(|(at, _)| clock.instant(at));
        tokio::select! {
            got = read.read(&mut buffer) => match got {
                Ok(0) => break Left::Gone,
                Ok(count) => session.on_bytes(&buffer[..count], clock.now()),
                Err(error) => break Left::Failed(error),
            },
            put = write.write(outbox.next()), if !outbox.is_empty() => match put {
                Ok(0) => break Left::Gone,
                Ok(count) => outbox.written(count),
                Err(error) => break Left::Failed(error),
            },
            Some((no, heard)) = hearing.recv() => match heard {
                Heard::Part(line) => session.on_part(no, &line),
                Heard::Answer(line) => session.on_answer(no, &line, clock.now()),
            },
            check = checked(&mut errands.checking) => session.on_checked(check, clock.now()),
            () = until(wake) => session.on_timeout(clock.now()),
        }
    };
    if errands.checking.is_some() {
        // A wrong PIN counts, whoever pulled the cable before it was told.
        let check = checked(&mut errands.checking).await;
        session.on_checked(check, clock.now());
    }
    session.on_close(clock.now());
    errands.run(session, &mut outbox, source);
    if outbox.ever_dropped() > 0 {
        tracing::info!(
            source,
            bytes = outbox.ever_dropped(),
            "the terminal did not read all"
        );
    }
    left
}

/// How a check under way ends.
async fn checked(checking: &mut Option<JoinHandle<bool>>) -> Checked {
    let Some(check) = checking.as_mut() else {
        return std::future::pending().await;
    };
    let right = check.await.unwrap_or_default(); // a check that panicked opens nothing
    *checking = None;
    if right {
        Checked::Right
    } else {
        Checked::Wrong
    }
}

async fn until(wake: Option<std::time::Instant>) {
    match wake {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Carries out one command, and tells its parts in order before its answer.
async fn call<W: Way>(way: W, no: u64, line: Vec<u8>, heard: mpsc::Sender<(u64, Heard)>) {
    let (parts, mut coming) = mpsc::channel(HEARD);
    let mut carrying = std::pin::pin!(way.carry_out(line, parts));
    // The terminal may be gone: then nobody needs to hear the rest.
    let answer = loop {
        tokio::select! {
            biased;
            Some(part) = coming.recv() => {
                let _ = heard.send((no, Heard::Part(part))).await;
            }
            answer = &mut carrying => break answer,
        }
    };
    while let Ok(part) = coming.try_recv() {
        let _ = heard.send((no, Heard::Part(part))).await;
    }
    let _ = heard.send((no, Heard::Answer(answer))).await;
}

impl<W: Way> Errands<W> {
    /// Carries out the effects; true once the session is over.
    fn run(&mut self, session: &mut Session, outbox: &mut Outbox, source: &'static str) -> bool {
        let mut over = false;
        for effect in session.take_effects() {
            match effect {
                Effect::Show(bytes) => outbox.put(&bytes, session.mode()),
                Effect::Check(attempt) => {
                    let pin = self.pin.clone();
                    // It takes long on purpose: a thread of its own.
                    let check = move || pin.is_some_and(|pin| pin.is(attempt.reveal()));
                    self.checking = Some(tokio::task::spawn_blocking(check));
                }
                Effect::Call { no, line } => {
                    let call = call(self.way.clone(), no, line, self.heard.clone());
                    self.calling = Some((no, tokio::spawn(call)));
                }
                Effect::Abandon(no) => {
                    if let Some((_, calling)) = self.calling.take_if(|(it, _)| *it == no) {
                        calling.abort();
                    }
                }
                Effect::Audit(audit) => {
                    let (command, outcome) = (audit.command, audit.outcome.as_str());
                    tracing::info!(source, command, outcome, "command");
                }
                Effect::End => over = true,
            }
        }
        over
    }
}
