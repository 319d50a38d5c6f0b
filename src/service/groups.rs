//! The control groups of a unit that was given its own part of the hierarchy (`Delegate=`).
//!
//! ```text
//!  lineside.service            limits, by the unit
//!  ├── service                 this process: intake, spool, console, replies
//!  └── engine                  its engines: less memory than the unit has, less of a busy processor
//! ```
//!
//! Purpose: an engine that takes more memory than there is must reach a limit of its own, before
//! the whole unit reaches the unit's. The kernel then looks for whom to kill among the engines
//! alone, and the service goes on.
//!
//! The engines' limit is what the unit may have, or what the site allows the appliance to take if
//! that is less, without the service's own share: the room that every plan of an engine is made for.
//! No plan's own need is the limit, because a plan may be wrong by a little, and killing an engine
//! over a megabyte that is free helps nobody.
//!
//! Invariants: nothing is touched outside a group that was handed over, which shows in its owner
//! or in the mark that systemd leaves on it. Only version 2 of the hierarchy is used. The engines
//! die one by one (`memory.oom.group` stays off): while a model is swapped there are two of them, and
//! a candidate that takes too much must not end the one that serves.
//!
//! How it fails: where nothing was handed over there are no groups, and all is as before. Where it
//! was and cannot be divided, [`GroupError`] names the file; the appliance runs all the same, with
//! its engine beside it in one group. Where it can be divided and memory cannot, [`Unlimited`] says
//! why. Whoever watches is told either way: it is a guard around the engine that is missing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The group of this process, below the unit's. `DelegateSubgroup=` of newer systemds names it, too.
const SERVICE: &str = "service";
/// The group of the engines.
const ENGINE: &str = "engine";
/// What the service itself may need of the unit's memory: twice what it has under load, with the
/// embedded broker.
const SERVICE_BYTES: u64 = 96 << 20;
/// The engines are left this much at least; a unit with less is not divided by memory.
const MIN_ENGINE_BYTES: u64 = 64 << 20;
/// Shares of a busy processor. Who takes and keeps requests goes before who computes them.
const WEIGHTS: [(&str, &str); 2] = [(SERVICE, "400"), (ENGINE, "100")];
/// What is handed on to the two groups.
const CONTROLLERS: [&str; 3] = ["+memory", "+cpu", "+pids"];
/// The mark that systemd leaves on a group that it hands over, by its age.
const MARKS: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// The unit's group could not be divided.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}")]
pub struct GroupError {
    path: String,
    error: io::Error,
}

/// Why the engines have no limit of their own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unlimited {
    /// It belongs to version 1 of the hierarchy, or was not handed over.
    #[error("the kernel's memory controller is not in this unit's group")]
    NoController,
    /// Nobody limits the unit.
    #[error("neither the unit (MemoryMax=) nor governor.memory_budget_bytes sets a limit")]
    NoLimit,
    /// There is too little to be divided.
    #[error("{bytes} bytes are too few to be divided between the service and its engines")]
    TooLittle {
        /// What the unit may have.
        bytes: u64,
    },
    /// The kernel takes no limit.
    #[error("{0}")]
    Refused(String),
}

/// The group of the engines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineGroup {
    folder: PathBuf,
    limit: Result<u64, Unlimited>,
}

impl EngineGroup {
    /// Divides the unit's group, and moves this process into its part. None where no group was
    /// handed over. The budget is what the site lets service and engines take together.
    pub fn divide(
        procfs: &Path,
        sysfs: &Path,
        budget_bytes: Option<u64>,
    ) -> Result<Option<Self>, GroupError> {
        let Some(unit) = unit(procfs, sysfs) else {
            return Ok(None);
        };
        for (name, _) in WEIGHTS {
            let folder = unit.join(name);
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(fault(&folder, error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        // A group with processes of its own hands nothing on to those below it.
        write(
            &unit.join(SERVICE).join("cgroup.procs"),
            &std::process::id().to_string(),
        )?;
        for controller in CONTROLLERS {
            // One that the system does not hand on divides nothing; the others do.
            let _ = write(&unit.join("cgroup.subtree_control"), controller);
        }
        for (name, weight) in WEIGHTS {
            let _ = write(&unit.join(name).join("cpu.weight"), weight);
        }
        let folder = unit.join(ENGINE);
        let limit = set_limit(&unit, &folder, budget_bytes);
        Ok(Some(Self { folder, limit }))
    }

    /// Bytes that the engines may take together, if there is a limit.
    pub fn limit(&self) -> Result<u64, &Unlimited> {
        self.limit.as_ref().copied()
    }

    /// Moves a process there. It must not have taken memory yet: what it has stays where it is.
    pub fn admit(&self, pid: u32) -> Result<(), GroupError> {
        write(&self.folder.join("cgroup.procs"), &pid.to_string())
    }
}

/// The folder of the unit's group, if it is this process's to divide.
fn unit(procfs: &Path, sysfs: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(procfs.join("self/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = sysfs.join("fs/cgroup").join(path);
    let unit = if own.file_name()? == SERVICE {
        own.parent()?.to_owned() // from before this program was started again, or by systemd
    } else {
        own
    };
    is_ours(&unit).then_some(unit)
}

/// Root owns every group, so that there only the mark counts.
fn is_ours(group: &Path) -> bool {
    let me = rustix::process::geteuid();
    let owned = fs::metadata(group).is_ok_and(|meta| meta.uid() == me.as_raw());
    let marked = || {
        let mut value = [0; 1];
        MARKS.iter().any(|mark| {
            rustix::fs::getxattr(group, *mark, &mut value).is_ok_and(|len| value[..len] == *b"1")
        })
    };
    owned && (!me.is_root() || marked())
}

/// Limits the engines' group; says to how much.
fn set_limit(unit: &Path, engines: &Path, budget_bytes: Option<u64>) -> Result<u64, Unlimited> {
    let handed_on = fs::read_to_string(unit.join("cgroup.controllers")).unwrap_or_default();
    if !handed_on.split_whitespace().any(|it| it == "memory") {
        return Err(Unlimited::NoController);
    }
    let whole = limit(unit).into_iter().chain(budget_bytes).min();
    let bytes = engine_bytes(whole.ok_or(Unlimited::NoLimit)?)?;
    match write(&engines.join("memory.max"), &bytes.to_string()) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(Unlimited::Refused(error.to_string())),
    }
}

/// What the unit may have; none without a limit.
fn limit(unit: &Path) -> Option<u64> {
    let read = |file| {
        fs::read_to_string(unit.join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let limits: [Option<u64>; 2] = ["memory.max", "memory.high"].map(read);
    limits.into_iter().flatten().min()
}

fn engine_bytes(whole: u64) -> Result<u64, Unlimited> {
    match whole.checked_sub(SERVICE_BYTES) {
        Some(bytes) if bytes >= MIN_ENGINE_BYTES => Ok(bytes),
        Some(_) | None => Err(Unlimited::TooLittle { bytes: whole }),
    }
}

fn write(path: &Path, text: &str) -> Result<(), GroupError> {
    fs::write(path, text).map_err(|error| fault(path, error))
}

fn fault(path: &Path, error: io::Error) -> GroupError {
    GroupError {
        path: path.display().to_string(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hierarchy of plain files, in which this process is in `group`.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, group: &str) -> Self {
            let root = std::env::temp_dir().join(format!("lineside-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            let tree = Self(root);
            fs::create_dir_all(tree.0.join("proc/self")).unwrap();
            fs::create_dir_all(tree.group(group)).unwrap();
            let line = format!("12:memory:/old\n0::/{group}\n");
            fs::write(tree.0.join("proc/self/cgroup"), line).unwrap();
            tree
        }

        fn group(&self, path: &str) -> PathBuf {
            self.0.join("sys/fs/cgroup").join(path)
        }

        fn divide(&self, budget_bytes: Option<u64>) -> Option<EngineGroup> {
            let (procfs, sysfs) = (self.0.join("proc"), self.0.join("sys"));
            EngineGroup::divide(&procfs, &sysfs, budget_bytes).unwrap()
        }

        /// A unit whose memory may be divided, up to so much.
        fn limited(name: &str, max: &str) -> Option<Self> {
            let tree = Self::new(name, UNIT);
            fs::write(
                tree.group(UNIT).join("cgroup.controllers"),
                "cpu memory pids\n",
            )
            .unwrap();
            fs::write(tree.group(UNIT).join("memory.max"), format!("{max}\n")).unwrap();
            tree.mark(UNIT).then_some(tree)
        }

        fn said(&self, path: &str) -> String {
            fs::read_to_string(self.group(path)).unwrap_or_default()
        }

        /// What systemd does where the unit runs as root; false where the disk takes no marks.
        fn mark(&self, group: &str) -> bool {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(self.group(group), MARKS[0], b"1", flags).is_ok()
                || !rustix::process::geteuid().is_root()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const UNIT: &str = "system.slice/lineside.service";

    #[test]
    fn the_engines_get_less_than_the_unit_has_and_the_service_is_moved_aside() {
        let Some(tree) = Tree::limited("divided", "536870912") else {
            return;
        };
        fs::write(tree.group(UNIT).join("memory.high"), "max\n").unwrap();
        let group = tree.divide(None).unwrap();
        let me = std::process::id().to_string();
        assert_eq!(tree.said(&format!("{UNIT}/service/cgroup.procs")), me);
        let bytes = 536_870_912 - SERVICE_BYTES;
        assert_eq!(group.limit(), Ok(bytes));
        let max = tree.said(&format!("{UNIT}/engine/memory.max"));
        assert_eq!(max, bytes.to_string());
        assert_eq!(tree.said(&format!("{UNIT}/engine/cpu.weight")), "100");
        // A candidate that takes too much must not end the one that serves.
        assert_eq!(tree.said(&format!("{UNIT}/engine/memory.oom.group")), "");
        group.admit(4711).unwrap();
        assert_eq!(tree.said(&format!("{UNIT}/engine/cgroup.procs")), "4711");
    }

    #[test]
    fn what_the_site_allows_counts_where_it_is_less_than_the_unit_has() {
        let Some(tree) = Tree::limited("budget", "536870912") else {
            return;
        };
        let budget = 256 << 20;
        let group = tree.divide(Some(budget)).unwrap();
        assert_eq!(group.limit(), Ok(budget - SERVICE_BYTES));
        let more = tree.divide(Some(1 << 30)).unwrap();
        assert_eq!(more.limit(), Ok(536_870_912 - SERVICE_BYTES));
    }

    /// The service goes on in each of these cases, and can say what is missing.
    #[test]
    fn why_there_is_no_limit_is_known() {
        let Some(tree) = Tree::limited("unlimited", "max") else {
            return;
        };
        let group = tree.divide(None).unwrap();
        assert_eq!(group.limit(), Err(&Unlimited::NoLimit));
        let group = tree.divide(Some(SERVICE_BYTES)).unwrap();
        let bytes = SERVICE_BYTES;
        assert_eq!(group.limit(), Err(&Unlimited::TooLittle { bytes }));
        // The kernel takes none.
        let max = tree.group(UNIT).join("engine/memory.max");
        fs::create_dir(&max).unwrap();
        let group = tree.divide(Some(1 << 30)).unwrap();
        let why = group.limit().unwrap_err().to_string();
        assert!(why.contains("engine/memory.max"), "{why}");
        // Version 1 of the hierarchy, or only others were handed over.
        fs::write(tree.group(UNIT).join("cgroup.controllers"), "cpu pids\n").unwrap();
        let group = tree.divide(Some(1 << 30)).unwrap();
        assert_eq!(group.limit(), Err(&Unlimited::NoController));
        group.admit(4711).unwrap();
    }

    #[test]
    fn a_program_that_was_started_again_finds_its_groups() {
        let own = format!("{UNIT}/{SERVICE}");
        let tree = Tree::new("again", &own);
        if !tree.mark(UNIT) {
            return;
        }
        let group = tree.divide(None).unwrap();
        assert_eq!(group.folder, tree.group(UNIT).join(ENGINE));
    }

    #[test]
    fn a_group_that_nobody_handed_over_is_left_alone() {
        let tree = Tree::new("foreign", UNIT);
        if rustix::process::geteuid().is_root() {
            assert_eq!(tree.divide(None), None);
            assert!(!tree.group(UNIT).join(ENGINE).exists());
        }
        let nowhere = Path::new("/nonexistent");
        assert!(matches!(
            EngineGroup::divide(nowhere, nowhere, None),
            Ok(None)
        ));
    }

    #[test]
    fn a_small_unit_is_not_divided_by_memory() {
        for bytes in [SERVICE_BYTES, SERVICE_BYTES + MIN_ENGINE_BYTES - 1] {
            assert_eq!(engine_bytes(bytes), Err(Unlimited::TooLittle { bytes }));
        }
        let least = SERVICE_BYTES + MIN_ENGINE_BYTES;
        assert_eq!(engine_bytes(least), Ok(MIN_ENGINE_BYTES));
    }
}
