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
//! Invariants: nothing is touched outside a group that was handed over, which shows in its owner
//! or in the mark that systemd leaves on it. Only version 2 of the hierarchy is used.
//!
//! How it fails: where nothing was handed over there are no groups, and all is as before. Where it
//! was and cannot be divided, [`GroupError`] names the file; the appliance runs all the same, with
//! its engine beside it in one group.

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

/// The group of the engines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineGroup {
    folder: PathBuf,
}

impl EngineGroup {
    /// Divides the unit's group, and moves this process into its part. None where no group was
    /// handed over.
    pub fn divide(procfs: &Path, sysfs: &Path) -> Result<Option<Self>, GroupError> {
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
        if let Some(bytes) = engine_bytes(limit(&unit)) {
            write(&folder.join("memory.max"), &bytes.to_string())?;
        }
        Ok(Some(Self { folder }))
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

fn engine_bytes(unit_bytes: Option<u64>) -> Option<u64> {
    let bytes = unit_bytes?.checked_sub(SERVICE_BYTES)?;
    (bytes >= MIN_ENGINE_BYTES).then_some(bytes)
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

        fn divide(&self) -> Option<EngineGroup> {
            EngineGroup::divide(&self.0.join("proc"), &self.0.join("sys")).unwrap()
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
        let tree = Tree::new("divided", UNIT);
        fs::write(tree.group(UNIT).join("memory.max"), "536870912\n").unwrap();
        fs::write(tree.group(UNIT).join("memory.high"), "max\n").unwrap();
        if !tree.mark(UNIT) {
            return;
        }
        let group = tree.divide().unwrap();
        let me = std::process::id().to_string();
        assert_eq!(tree.said(&format!("{UNIT}/service/cgroup.procs")), me);
        let max = tree.said(&format!("{UNIT}/engine/memory.max"));
        assert_eq!(max, (536_870_912 - SERVICE_BYTES).to_string());
        group.admit(4711).unwrap();
        assert_eq!(tree.said(&format!("{UNIT}/engine/cgroup.procs")), "4711");
    }

    #[test]
    fn a_program_that_was_started_again_finds_its_groups() {
        let own = format!("{UNIT}/{SERVICE}");
        let tree = Tree::new("again", &own);
        if !tree.mark(UNIT) {
            return;
        }
        let folder = tree.group(UNIT).join(ENGINE);
        assert_eq!(tree.divide(), Some(EngineGroup { folder }));
    }

    #[test]
    fn a_group_that_nobody_handed_over_is_left_alone() {
        let tree = Tree::new("foreign", UNIT);
        if rustix::process::geteuid().is_root() {
            assert_eq!(tree.divide(), None);
            assert!(!tree.group(UNIT).join(ENGINE).exists());
        }
        let nowhere = Path::new("/nonexistent");
        assert!(matches!(EngineGroup::divide(nowhere, nowhere), Ok(None)));
    }

    #[test]
    fn a_small_unit_is_not_divided_by_memory() {
        assert_eq!(engine_bytes(None), None);
        assert_eq!(engine_bytes(Some(SERVICE_BYTES)), None);
        assert_eq!(
            engine_bytes(Some(SERVICE_BYTES + MIN_ENGINE_BYTES - 1)),
            None
        );
        let least = SERVICE_BYTES + MIN_ENGINE_BYTES;
        assert_eq!(engine_bytes(Some(least)), Some(MIN_ENGINE_BYTES));
    }
}
