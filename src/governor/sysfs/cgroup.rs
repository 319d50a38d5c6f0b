//! The cgroup that this process is in, and what those above it allow.
//!
//! Version 2 tells everything. Where the memory controller is still in a hierarchy of version 1,
//! as with the systems of older Jetson modules, its limit counts as well; pressure and events
//! there are none.

use std::path::{Path, PathBuf};

use super::text::{self, Bound, Hierarchy, MemoryEvents, Mounted, Pressure};
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

/// The parts of a divided unit.
const SERVICE_PART: &str = "service";
const ENGINE_PART: &str = "engine";
/// A limit that version 1 writes where there is none is nearly all of the numbers there are.
const NO_LIMIT_BYTES: u64 = 1 << 62;

/// The folders from the own cgroup up to the mount, in both hierarchies.
#[derive(Debug)]
pub(super) struct Plan {
    unified: Vec<PathBuf>,
    before: Vec<PathBuf>,
}

impl Plan {
    pub(super) fn look(roots: &Roots) -> Option<Self> {
        let plan = Self {
            unified: levels(roots, Hierarchy::Unified),
            before: levels(roots, Hierarchy::Memory),
        };
        let is_empty = plan.unified.is_empty() && plan.before.is_empty();
        (!is_empty).then_some(plan)
    }

    pub(super) fn read(&self) -> Cgroup {
        let mut cgroup = Cgroup::default();
        for level in &self.unified {
            let max = bytes(&level.join("memory.max"));
            let high = bytes(&level.join("memory.high"));
            cgroup.add(max, high, file::count(&level.join("memory.current")));
        }
        for level in &self.before {
            let limit = file::count(&level.join("memory.limit_in_bytes"));
            let max = limit.filter(|limit| *limit < NO_LIMIT_BYTES);
            let current = file::count(&level.join("memory.usage_in_bytes"));
            cgroup.add(max, None, current);
        }
        if let Some(own) = self.unified.first() {
            cgroup.events = file::table(&own.join("memory.events"), text::memory_events);
            cgroup.memory_pressure = process::pressure(&own.join("memory.pressure"));
            cgroup.cpu_pressure = process::pressure(&own.join("cpu.pressure"));
        }
        cgroup
    }
}

impl Cgroup {
    /// A level; the own one comes first.
    fn add(&mut self, max: Option<u64>, high: Option<u64>, current: Option<u64>) {
        self.max_bytes = lower(self.max_bytes, max);
        self.high_bytes = lower(self.high_bytes, high);
        self.current_bytes = self.current_bytes.or(current);
        if let (Some(limit), Some(current)) = (lower(max, high), current) {
            let room = limit.saturating_sub(current);
            self.headroom_bytes = lower(self.headroom_bytes, Some(room));
        }
    }
}

/// The folders from the own cgroup up to the mount.
fn levels(roots: &Roots, hierarchy: Hierarchy) -> Vec<PathBuf> {
    let of_self = roots.procfs.join("self");
    let own = file::table(&of_self.join("cgroup"), |bytes| {
        text::own_cgroup(bytes, hierarchy)
    });
    let Some(own) = own.flatten() else {
        return Vec::new();
    };
    let (mount, below) = place(roots, hierarchy, &of_self, own);
    let levels = below.ancestors().map(|level| mount.join(level));
    let mut levels: Vec<_> = levels.take(MAX_LEVELS).collect();
    // Where the unit's group is divided, the service's part says nothing of the engines' memory.
    let is_part =
        levels[0].ends_with(SERVICE_PART) && levels[0].with_file_name(ENGINE_PART).is_dir();
    if is_part && levels.len() > 1 {
        levels.remove(0);
    }
    if levels[0].is_dir() {
        levels
    } else {
        Vec::new()
    }
}

/// Where the hierarchy is mounted, and the own cgroup's path below that.
fn place(roots: &Roots, hierarchy: Hierarchy, of_self: &Path, own: PathBuf) -> (PathBuf, PathBuf) {
    if let (Some(cgroup), Hierarchy::Unified) = (&roots.cgroup, hierarchy) {
        return (cgroup.clone(), own);
    }
    let mut buffer = vec![0; MAX_MOUNTS_BYTES];
    let mounts = file::read(&of_self.join("mountinfo"), &mut buffer);
    let mounted = mounts
        .ok()
        .and_then(|bytes| text::cgroup_mount(bytes, hierarchy));
    let Some(Mounted { part, at }) = mounted else {
        let usual = match hierarchy {
            Hierarchy::Unified => "fs/cgroup",
            Hierarchy::Memory => "fs/cgroup/memory",
        };
        return (roots.sysfs.join(usual), own);
    };
    // A container may see a part of the hierarchy only; its own path begins at that part.
    let below = match own.strip_prefix(&part) {
        Ok(below) => below.to_owned(),
        Err(_) => own,
    };
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
