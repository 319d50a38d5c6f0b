//! How much memory this machine has to give, read once: what a plan is made for.
//!
//! Three things limit it, and the least counts: what the kernel says is available, the control
//! groups that the service is in (with the page cache that they would give back), and the site's
//! budget. What the service has already taken itself is added again, for the plan counts it.

use std::fs;
use std::path::{Path, PathBuf};

/// What is left to the kernel and to others of what is available: one part in so many of all.
const LEFT_SHARE: u64 = 20;
/// And at most.
const MOST_LEFT_BYTES: u64 = 256 << 20;

/// What there is, and what limits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes for service and engine together.
    pub ram_bytes: u64,
    /// In words, for people.
    pub limited_by: &'static str,
}

/// Reads it. What cannot be read limits nothing.
pub fn read(procfs: &Path, sysfs: &Path, budget_bytes: Option<u64>) -> Room {
    let own = own_bytes(procfs).unwrap_or_default();
    let available = available(procfs).map(|bytes| bytes.saturating_add(own));
    let group = group_bytes(procfs, sysfs).map(|bytes| bytes.saturating_add(own));
    let limits = [
        (available, "available on this machine"),
        (group, "left in the control group"),
        (budget_bytes, "governor.memory_budget_bytes"),
    ];
    let known = limits.into_iter().filter_map(|(it, why)| Some((it?, why)));
    let (ram_bytes, limited_by) = known
        .min_by_key(|(bytes, _)| *bytes)
        .unwrap_or((u64::MAX, "nothing that could be read"));
    Room {
        ram_bytes,
        limited_by,
    }
}

/// What is available, without what is left to others.
fn available(procfs: &Path) -> Option<u64> {
    let text = fs::read_to_string(procfs.join("meminfo")).ok()?;
    let total = kib(&text, "MemTotal:")?;
    let left = (total / LEFT_SHARE).min(MOST_LEFT_BYTES);
    Some(kib(&text, "MemAvailable:")?.saturating_sub(left))
}

fn own_bytes(procfs: &Path) -> Option<u64> {
    kib(
        &fs::read_to_string(procfs.join("self/status")).ok()?,
        "VmRSS:",
    )
}

/// The value of a line such as `MemTotal:  24105 kB`, in bytes.
fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What may still be taken in the control group of this process and all above it (version 2; the
/// older kind is not read).
fn group_bytes(procfs: &Path, sysfs: &Path) -> Option<u64> {
    let text = fs::read_to_string(procfs.join("self/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = sysfs.join("fs/cgroup");
    let mut place: PathBuf = root.join(path);
    let mut least = None;
    while place.starts_with(&root) {
        if let Some(room) = room_of(&place) {
            least = Some(least.map_or(room, |least: u64| least.min(room)));
        }
        if !place.pop() {
            break;
        }
    }
    least
}

fn room_of(group: &Path) -> Option<u64> {
    let number = |file: &str| {
        let text = fs::read_to_string(group.join(file)).ok()?;
        text.trim().parse::<u64>().ok() // "max" is no number, and no limit
    };
    let limit = number("memory.max")
        .unwrap_or(u64::MAX)
        .min(number("memory.high").unwrap_or(u64::MAX));
    if limit == u64::MAX {
        return None;
    }
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cache = stat
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "))
        .and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or(0);
    let held = number("memory.current")?.saturating_sub(cache);
    Some(limit.saturating_sub(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of files below a folder of its own.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let name = format!("lineside-room-{}-{name}", std::process::id());
            let root = std::env::temp_dir().join(name);
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }

        fn read(&self, budget_bytes: Option<u64>) -> Room {
            read(&self.0.join("proc"), &self.0.join("sys"), budget_bytes)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:        1000000 kB\nMemFree: 1 kB\nMemAvailable:     500000 kB\n",
    );
    const STATUS: (&str, &str) = ("proc/self/status", "Name:\tlineside\nVmRSS:\t   20000 kB\n");

    #[test]
    fn a_part_of_what_is_available_is_left_to_others_and_the_own_is_counted_again() {
        let tree = Tree::new("plain", &[MEMINFO, STATUS]);
        let room = tree.read(None);
        assert_eq!(room.ram_bytes, (500_000 - 50_000 + 20_000) * 1024);
        assert_eq!(room.limited_by, "available on this machine");
        assert_eq!(tree.read(Some(4096)).ram_bytes, 4096);
        let budget = tree.read(Some(4096)).limited_by;
        assert_eq!(budget, "governor.memory_budget_bytes");
        assert_eq!(tree.read(Some(u64::MAX)), room);
    }

    #[test]
    fn the_tightest_group_above_the_process_counts_without_its_page_cache() {
        let tree = Tree::new(
            "group",
            &[
                MEMINFO,
                ("proc/self/cgroup", "0::/system.slice/lineside.service\n"),
                ("sys/fs/cgroup/system.slice/memory.max", "300000000\n"),
                ("sys/fs/cgroup/system.slice/memory.current", "150000000\n"),
                (
                    "sys/fs/cgroup/system.slice/memory.stat",
                    "anon 1\ninactive_file 50000000\n",
                ),
                (
                    "sys/fs/cgroup/system.slice/lineside.service/memory.max",
                    "max\n",
                ),
                (
                    "sys/fs/cgroup/system.slice/lineside.service/memory.high",
                    "250000000\n",
                ),
                (
                    "sys/fs/cgroup/system.slice/lineside.service/memory.current",
                    "1000000\n",
                ),
            ],
        );
        let room = tree.read(None);
        assert_eq!(room.ram_bytes, 200_000_000);
        assert_eq!(room.limited_by, "left in the control group");
    }

    #[test]
    fn a_machine_that_says_nothing_limits_nothing() {
        let tree = Tree::new("silent", &[]);
        assert_eq!(tree.read(None).ram_bytes, u64::MAX);
        let torn = Tree::new("torn", &[("proc/meminfo", "MemTotal: x kB\n")]);
        assert_eq!(torn.read(None).ram_bytes, u64::MAX);
        assert_eq!(torn.read(Some(7)).ram_bytes, 7);
    }
}
