//! Plain bytes in memory: a file that has no place on any disk, and a process that leaves no dump.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::{Reader, SafeError};

/// What it is called among the files of a process.
const NAME: &str = "lineside-model";

/// Opens a sealed file into memory that nobody can change any more. It takes as much memory as the
/// plain file has bytes, until the last who has it open is gone.
pub fn in_memory(mut sealed: Reader) -> Result<OwnedFd, SafeError> {
    let memory = memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let memory = File::from(memory.map_err(io::Error::from)?);
    memory.set_len(sealed.header().bytes())?;
    sealed.pour(&memory)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&memory, seals).map_err(io::Error::from)?;
    Ok(memory.into())
}

/// From now on this process leaves no core dump, and nobody without the right to do so looks into
/// its memory. Another program that it starts begins anew.
pub fn keep_out_of_dumps() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    no_core()
}

/// The kernel writes no core of this process to a file. It may still hand one to a program, where the
/// machine has one for that.
pub fn no_core() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    Ok(())
}

/// Whether memory may be written to a disk, by what the kernel says of its swap areas
/// (`/proc/swaps`). Compressed memory is none.
pub fn swaps_to_disk(swaps: &str) -> bool {
    let areas = swaps.lines().skip(1);
    areas
        .filter_map(|line| line.split_whitespace().next())
        .any(|area| !area.starts_with("/dev/zram"))
}
