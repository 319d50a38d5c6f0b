//! Files, by Landlock: those of the model are read, and nothing else is found.
//!
//! Where the kernel has it, its other layers come along: no TCP, no abstract sockets of others, no
//! signals to them. Those are refused by [`super::calls`] as well; two locks on one door.
//!
//! A model may also be an inherited descriptor, named as `/proc/self/fd/N`. One of memory alone
//! belongs to no file system that anybody could be kept from; one of a file is looked up like the
//! file.

use std::fs::File;
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope,
};

use super::Gear;

/// The newest that is known here; a kernel that knows less does what it can.
const NEWEST: ABI = ABI::V6;

/// Where a graphics processor's libraries and its maker's descriptions of it lie, to be read.
const LIBRARIES: [&str; 12] = [
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/cuda",
    "/usr/local/lib",
    "/usr/share/vulkan",
    "/usr/share/nvidia",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/vulkan",
    "/etc/nvidia-container-runtime",
    "/sys",
];
/// What its drivers tell of themselves and of this process's memory.
const DRIVERS: [&str; 5] = [
    "/proc/driver/nvidia",
    "/proc/self",
    "/proc/devices",
    "/proc/meminfo",
    "/proc/modules",
];
/// Beginnings of the device files' names below `/dev`.
const DEVICES: [&str; 6] = [
    "host1x-fence",
    "nvidia",
    "nvhost",
    "nvmap",
    "nvgpu",
    "nvsciipc",
];
/// Folders of device files.
const DEVICE_FOLDERS: [&str; 1] = ["/dev/dri"];

/// Whether it holds.
pub(super) fn close(readable: &[&Path], gear: Gear) -> bool {
    // What is said is not believed without a try: the root can be opened by everybody else.
    restrict(readable, gear).is_ok_and(|is_there| is_there) && File::open("/").is_err()
}

fn restrict(readable: &[&Path], gear: Gear) -> Result<bool, RulesetError> {
    let read = AccessFs::ReadFile;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for path in readable {
        rules = allow(rules, path, read.into())?;
    }
    if gear == Gear::Devices {
        for path in LIBRARIES.iter().chain(&DRIVERS) {
            rules = allow(rules, Path::new(path), read | AccessFs::ReadDir)?;
        }
        let use_it = read | AccessFs::WriteFile | AccessFs::IoctlDev;
        for path in DEVICE_FOLDERS {
            rules = allow(rules, Path::new(path), use_it | AccessFs::ReadDir)?;
        }
        for entry in std::fs::read_dir("/dev").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if DEVICES.iter().any(|known| name.starts_with(known)) {
                rules = allow(rules, &entry.path(), use_it | AccessFs::ReadDir)?;
            }
        }
    }
    let status = rules.restrict_self()?;
    Ok(matches!(status.landlock, LandlockStatus::Available { .. }))
}

/// What is not there needs no rule; what is in memory alone can have none.
fn allow(
    rules: landlock::RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<landlock::RulesetCreated, RulesetError> {
    let (Ok(meta), Ok(opened)) = (std::fs::metadata(path), PathFd::new(path)) else {
        return Ok(rules);
    };
    let of_files = AccessFs::from_file(NEWEST);
    let access = if meta.is_dir() {
        access
    } else {
        access & of_files
    };
    let is_memory = std::fs::read_link(path)
        .is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:"));
    if is_memory {
        return Ok(rules);
    }
    rules.add_rule(PathBeneath::new(opened, access))
}
