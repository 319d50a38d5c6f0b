//! Memory and time of the machine and of processes, from procfs.

use std::path::Path;

use super::file::table;
use super::text::{self, CpuTime, Memory, Pressure, Resident, Spent};

/// Processes that are read at most: the service, an engine, and a second one while they change.
pub const MAX_PROCESSES: usize = 8;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its memory.
    pub resident: Resident,
    /// Its processor time.
    pub spent: Spent,
}

impl Process {
    /// The one with this number, of what its `/proc/PID/stat` and the beginning of its
    /// `/proc/PID/status` say.
    pub fn told(pid: u32, stat: &[u8], status: &[u8]) -> Option<Self> {
        Some(Self {
            pid,
            resident: text::resident(status),
            spent: text::spent(stat)?,
        })
    }
}

pub(super) fn memory(procfs: &Path) -> Memory {
    table(&procfs.join("meminfo"), text::memory).unwrap_or_default()
}

pub(super) fn cpu(procfs: &Path) -> Option<CpuTime> {
    table(&procfs.join("stat"), text::cpu_time).flatten()
}

pub(super) fn pressure(file: &Path) -> Option<Pressure> {
    table(file, text::pressure).flatten()
}

pub(super) fn processes(procfs: &Path, pids: &[u32]) -> Vec<Process> {
    let pids = pids.iter().take(MAX_PROCESSES);
    pids.filter_map(|pid| process(procfs, *pid)).collect()
}

fn process(procfs: &Path, pid: u32) -> Option<Process> {
    let folder = procfs.join(pid.to_string());
    Some(Process {
        pid,
        spent: table(&folder.join("stat"), text::spent).flatten()?,
        resident: table(&folder.join("status"), text::resident)?,
    })
}
