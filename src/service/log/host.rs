//! What the process finds around it, and where the log goes because of that.

use std::io::{self, IsTerminal};
use std::path::Path;

use super::Destination;
use super::sinks::JOURNAL_SOCKET;

/// What standard error leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stderr {
    Terminal,
    /// The journal's stream, which reads a `<N>` before a line as its priority.
    Journal,
    Other,
}

/// What the process finds around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) journal_listens: bool,
    pub(super) manager_listens: bool,
    pub(super) stderr: Stderr,
}

impl Host {
    pub(super) fn look() -> Self {
        let stderr = if io::stderr().is_terminal() {
            Stderr::Terminal
        } else if leads_to_journal() {
            Stderr::Journal
        } else {
            Stderr::Other
        };
        Self {
            journal_listens: Path::new(JOURNAL_SOCKET).exists(),
            manager_listens: std::env::var_os("NOTIFY_SOCKET").is_some(),
            stderr,
        }
    }
}

/// `JOURNAL_STREAM` is inherited by everything that a service starts; it speaks of our standard
/// error only if device and inode agree.
fn leads_to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Where the lines go, once decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Journal,
    Stderr,
}

pub(super) fn choose(to: Destination, host: Host) -> Channel {
    match to {
        Destination::Journald => Channel::Journal,
        Destination::Stderr => Channel::Stderr,
        Destination::Auto => {
            let started_us = match host.stderr {
                Stderr::Terminal => false, // somebody is looking
                Stderr::Journal => true,
                Stderr::Other => host.manager_listens,
            };
            if host.journal_listens && started_us {
                Channel::Journal
            } else {
                Channel::Stderr
            }
        }
    }
}
