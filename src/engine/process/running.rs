//! The engine's processes, for whoever watches what they take of the machine.

use std::sync::Arc;

use tokio::sync::watch;

use crate::engine::vitals::Vitals;
use crate::governor::sysfs::Process;

/// The engine's processes, as they are seen from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// Those that run.
    pub running: Vec<Running>,
    /// How many were killed so far by somebody else than this service: as a rule, by a kernel that
    /// ran out of memory.
    pub killed: u32,
}

/// An engine process that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its number.
    pub pid: u32,
    /// Threads that it computes with; none before it has said so.
    pub threads: Option<u16>,
    /// What the kernel tells of it; none where it does not.
    pub vitals: Option<Arc<Vitals>>,
    /// Whether it has a limit of memory of its own.
    pub is_limited: bool,
}

impl Running {
    /// Its memory and time by now, as its open files show them.
    pub fn seen(&self) -> Option<Process> {
        let vitals = self.vitals.as_ref()?;
        Process::told(self.pid, &vitals.stat()?, &vitals.status()?)
    }
}

/// Its files are always those of its number.
impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        (self.pid, self.threads, self.is_limited) == (other.pid, other.threads, other.is_limited)
    }
}

impl Eq for Running {}

impl Processes {
    /// Says how things stand, if that is news.
    pub(super) fn tell(
        running: impl Iterator<Item = Running>,
        killed: u32,
        to: &watch::Sender<Self>,
    ) {
        let mut running: Vec<_> = running.collect();
        running.sort_unstable_by_key(|it| it.pid);
        to.send_if_modified(|told| {
            let now = Self { running, killed };
            let differs = *told != now;
            *told = now;
            differs
        });
    }
}
