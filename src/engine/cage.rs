//! The cage around the engine: what its process can still do once it has been told what to load.
//!
//! ```text
//!  start ─► told what to load ─► close ─► the model is read, requests are computed
//!                                  │
//!                                  └─► what this kernel lacks, for whoever watches
//! ```
//!
//! Purpose: this process parses model files and prompts in native code, so it must be assumed to
//! be somebody else's one day. Whoever has it then can compute and answer, and nothing else: the
//! files that were named are read, nothing is written, no socket is opened, no program started, no
//! other process looked at or signalled. That holds without systemd, too.
//!
//! | Guard | By | Keeps from |
//! | --- | --- | --- |
//! | [`Guard::Files`] | Landlock | all files but those of the model; other processes by `/proc` |
//! | [`Guard::Calls`] | seccomp | every system call that computing does not need |
//! | [`Guard::Privileges`] | `no_new_privs` | more rights through a program that has them |
//! | [`Guard::Limits`] | resource limits | core dumps, piles of descriptors |
//! | [`Guard::Sacrifice`] | `oom_score_adj` | the service being killed in place of this |
//! | [`Guard::Memory`] | the control group that the service moves it into | taking the unit's whole memory |
//!
//! Invariants: it is closed before anything of a model is read, and before there is a second
//! thread, so that it holds for all of them; what is closed is never opened again.
//!
//! How it fails: a guard that the kernel does not have is reported, never passed over in silence,
//! and the others hold all the same. A call that is out of the question ends the process; the
//! kernel's log names the call, and the service says what happened. What the C library tries and
//! can do without is refused by an error instead.

mod calls;
mod files;

use std::fmt;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::set_no_new_privs;
use serde::{Deserialize, Serialize};

/// What the kernel adds to this process's size in thousandths of all memory when it looks for
/// whom to kill: more than any other process of a board can have.
const OOM_SCORE: &str = "900";
/// Descriptors of an engine on the processor: its socket, the standard ones, the model's parts.
const MAX_DESCRIPTORS: u64 = 64;
/// And with a graphics processor, whose libraries open devices and events by the dozen.
const MAX_DESCRIPTORS_OF_DEVICES: u64 = 4096;

/// A part of the cage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Guard {
    /// Files: only those of the model, only to be read.
    Files,
    /// System calls: only those that computing needs.
    Calls,
    /// No rights but those that it has.
    Privileges,
    /// Resource limits.
    Limits,
    /// It is the first to be killed when memory runs out.
    Sacrifice,
    /// A limit of memory of its own. Set from outside, so that [`close`] says nothing of it.
    Memory,
}

impl Guard {
    /// What it is called where people read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Calls => "calls",
            Self::Privileges => "privileges",
            Self::Limits => "limits",
            Self::Sacrifice => "oom",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What the model is computed on: its drivers want more than the processor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gear {
    /// The processor alone.
    Processor,
    /// A graphics processor, by device files and the libraries of its maker.
    Devices,
}

impl Gear {
    /// Of this build.
    pub(super) const BUILT: Self = if cfg!(any(feature = "cuda", feature = "vulkan")) {
        Self::Devices
    } else {
        Self::Processor
    };
}

/// Whether a kernel without memory was told to take this process.
pub(super) struct Offered(bool);

/// Closes the cage around this process, for good. `readable` is what it may still read. Says which
/// guards are missing here.
pub(super) fn close(offered: &Offered, readable: &[&Path], gear: Gear) -> Vec<Guard> {
    // Nothing can be set any more once the calls are counted, so that comes last.
    let guards = [
        (Guard::Sacrifice, offered.0),
        (Guard::Limits, limit(gear)),
        (Guard::Privileges, set_no_new_privs(true).is_ok()),
        (Guard::Files, files::close(readable, gear)),
        (Guard::Calls, calls::close(gear)),
    ];
    let missing = guards.into_iter().filter(|(_, holds)| !holds);
    let mut missing: Vec<_> = missing.map(|(guard, _)| guard).collect();
    missing.sort_unstable();
    missing
}

/// A kernel that runs out of memory is to take this process, which is started again, and not the
/// service. Where it cannot be told, it most often takes the largest, which is this one too.
///
/// The file of the score is out of reach once the cage is closed, and already when a sealed model was
/// handed over: then this process belongs to nobody. So this comes before anything else.
pub(super) fn offer() -> Offered {
    Offered(std::fs::write("/proc/self/oom_score_adj", OOM_SCORE).is_ok())
}

fn limit(gear: Gear) -> bool {
    let descriptors = match gear {
        Gear::Processor => MAX_DESCRIPTORS,
        Gear::Devices => MAX_DESCRIPTORS_OF_DEVICES,
    };
    let set = |(what, most): (Resource, u64)| {
        let most = getrlimit(what).maximum.map_or(most, |max| max.min(most));
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(what, limit).is_ok()
    };
    [(Resource::Core, 0), (Resource::Nofile, descriptors)]
        .into_iter()
        .all(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guard_has_a_word_of_its_own() {
        let all = [
            Guard::Files,
            Guard::Calls,
            Guard::Privileges,
            Guard::Limits,
            Guard::Sacrifice,
            Guard::Memory,
        ];
        let mut words = all.map(Guard::word).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all.len());
        assert_eq!(Guard::Files.to_string(), "files");
    }
}
