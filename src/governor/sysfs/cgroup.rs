//! The cgroup that this process is in, and what those above it allow.
//!
//! Only version 2 counts: in a hierarchy of version 1 there is no pressure and no event to read.

use std::path::{Path, PathBuf};

use super::text::{self, Bound, MemoryEvents, Mounted, Pressure};
use super::{Roots, file, process};

/// Levels of the hierarchy that are looked at; slices and units are about four deep.
const MAX_LEVELS: usize = 16;
/// Bytes of the list of mounts that are read; each container of a host adds some.
const MAX_MOUNTS_BYTES: usize = 1 << 18;

/// Memory by the cgroup of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cgroup {
    /// The lowest `memory.max` from this cgroup up.
    pub max_bytes: Option<u64>,
    /// The lowest `memory.high` from this cgroup up.
    pub high_bytes: Option<u64>,
    /// What this cgroup has, files' pages included.
    pub current_bytes: Option<u64>,
    /// How much more it can have before a limit, its own or one above it that others use too.
    pub headroom_bytes: Option<u64>,
    /// How often its memory was short.
    pub events: Option<MemoryEvents>,
    /// How long its work waited for memory.
    pub memory_pressure: Option<Pressure>,
    /// How long its work waited for a processor.
    pub cpu_pressure: Option<Pressure>,
}

/// The folders from the own cgroup up to the mount.
#[derive(Debug)]
pub(super) struct Plan {
    levels: Vec<PathBuf>,
}

impl Plan {
    pub(super) fn look(roots: &Roots) -> Option<Self> {
        let of_self = roots.procfs.join("self");
        let own = file::table(&of_self.join("cgroup"), text::own_cgroup).flatten()?;
        let (mount, below) = place(roots, &of_self, own);
        let levels: Vec<_> = below
            .ancestors()
            .take(MAX_LEVELS)
            .map(|level| mount.join(level))
            .collect();
        levels.first()?.is_dir().then_some(Self { levels })
    }

    pub(super) fn read(&self) -> Cgroup {
        let mut cgroup = Cgroup::default();
        for (height, level) in self.levels.iter().enumerate() {
            let current = file::count(&level.join("memory.current"));
            let max = bytes(&level.join("memory.max"));
            let high = bytes(&level.join("memory.high"));
            cgroup.max_bytes = lower(cgroup.max_bytes, max);
            cgroup.high_bytes = lower(cgroup.high_bytes, high);
            if let (Some(limit), Some(current)) = (lower(max, high), current) {
                let room = limit.saturating_sub(current);
                cgroup.headroom_bytes = lower(cgroup.headroom_bytes, Some(room));
            }
            if height == 0 {
                cgroup.current_bytes = current;
            }
        }
        if let Some(own) = self.levels.first() {
            cgroup.events = file::table(&own.join("memory.events"), text::memory_events);
            cgroup.memory_pressure = process::pressure(&own.join("memory.pressure"));
            cgroup.cpu_pressure = process::pressure(&own.join("cpu.pressure"));
        }
        cgroup
    }
}

/// Where the hierarchy is mounted, and the own cgroup's path below that.
fn place(roots: &Roots, of_self: &Path, own: PathBuf) -> (PathBuf, PathBuf) {
    if let Some(cgroup) = &roots.cgroup {
        return (cgroup.clone(), own);
    }
    let mut buffer = vec![0; MAX_MOUNTS_BYTES];
    let mounts = file::read(&of_self.join("mountinfo"), &mut buffer);
    let Some(Mounted { part, at }) = mounts.ok().and_then(text::cgroup_mount) else {
        return (roots.sysfs.join("fs/cgroup"), own);
    };
    // A container may see a part of the hierarchy only; its own path begins at that part.
    let below = own.strip_prefix(&part).map_or(own.clone(), Path::to_owned);
    // The kernel speaks of `/sys`; where another root stands for it, the hierarchy is there.
    let mount = match at.strip_prefix("/sys") {
        Ok(inside) => roots.sysfs.join(inside),
        Err(_) => at,
    };
    (mount, below)
}

fn bytes(limit: &Path) -> Option<u64> {
    match file::table(limit, text::bound).flatten()? {
        Bound::None => None,
        Bound::Bytes(bytes) => Some(bytes),
    }
}

fn lower(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
