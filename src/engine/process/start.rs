//! How a process begins: what it loads is opened where it lies sealed, and handed over first.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::process::{Child, Command as Program};
use tokio::sync::oneshot;

use super::Running;
use super::{ChildNo, Input, Inputs, Launch, NAME, Outgoing, Parted, tend};
use crate::engine::handover::{Opened, Sealed};
use crate::engine::vitals::Vitals;

/// How one ended that was let go of before it ran.
const LET_GO: &str = "it was let go of before it was started";

/// A process and this side of its socket.
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) socket: UnixStream,
    vitals: Option<Arc<Vitals>>,
    /// Whether it has a limit of memory of its own.
    is_limited: bool,
}

impl Process {
    pub(super) fn running(&self) -> Option<Running> {
        Some(Running {
            pid: self.child.id()?,
            threads: None,
            vitals: self.vitals.clone(),
            is_limited: self.is_limited,
        })
    }
}

/// What lies sealed is opened beside everything else; then it is a process like any other.
pub(super) async fn lead_sealed(
    no: ChildNo,
    (launch, environment): (
        Launch,
        impl Iterator<Item = (&'static str, &'static str)> + Send + 'static,
    ),
    sealed: Sealed,
    frames: Outgoing,
    mut held: oneshot::Receiver<&'static str>,
    inputs: &Inputs,
) -> Parted {
    let opening = tokio::task::spawn_blocking(move || sealed.open());
    let opened = tokio::select! {
        opened = opening => opened,
        why = &mut held => return why.unwrap_or(LET_GO).to_owned().into(),
    };
    let started = match opened {
        Ok(Ok(opened)) => start(&launch, environment, opened),
        Ok(Err(error)) => Err(error.into()),
        Err(error) => Err(io::Error::other(error)),
    };
    if let Some(running) = started.as_ref().ok().and_then(Process::running) {
        let _ = inputs.send((no, Input::Began(running))).await; // nobody is left to hear it
    }
    lead(no, started, frames, held, inputs).await
}

pub(super) async fn lead(
    no: ChildNo,
    started: io::Result<Process>,
    frames: Outgoing,
    held: oneshot::Receiver<&'static str>,
    inputs: &Inputs,
) -> Parted {
    match started {
        Ok(process) => tend(no, process, frames, held, inputs).await,
        Err(error) => format!("it could not be started: {error}").into(),
    }
}

pub(super) fn start(
    launch: &Launch,
    environment: impl Iterator<Item = (&'static str, &'static str)>,
    opened: Opened,
) -> io::Result<Process> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let child = Program::new(&launch.program)
        .arg0(NAME) // for those who look for it in a list of processes
        .args(&launch.arguments)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Ctrl-C in a terminal is for the service, which drains; an engine that died of it would
        // count as one that crashed. It ends with its socket, however the service ends.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    // It waits to be told what to load, and may still be looked at.
    let vitals = child.id().and_then(|pid| Vitals::of(pid).ok());
    let is_limited = confine(launch, &child);
    opened.hand_over(&ours)?;
    ours.set_nonblocking(true)?;
    Ok(Process {
        child,
        socket: UnixStream::from_std(ours)?,
        vitals: vitals.map(Arc::new),
        is_limited,
    })
}

/// Moves a process into the engines' group, and says whether that limits its memory. It waits to
/// be told what to load, so it has taken nothing yet.
fn confine(launch: &Launch, child: &Child) -> bool {
    let (Some(group), Some(pid)) = (&launch.group, child.id()) else {
        return false;
    };
    match group.admit(pid) {
        Ok(()) => group.limit().is_ok(),
        Err(error) => {
            tracing::warn!(pid, %error, "an engine process stays in the service's own group");
            false
        }
    }
}
