//! What the kernel tells of an engine's process: its processor time and its memory.
//!
//! The files are opened while the process is new, before it is told anything. Later is too late: an
//! engine that was handed a sealed model is closed to everybody ([`handover`](super::handover)), and
//! where the processes of others are hidden (`ProtectProc=invisible`) it is not even seen. What is
//! open stays readable, and speaks of this process and of none that comes later with its number.
//!
//! How it fails: once the process is gone there is nothing to be read any more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes of either file: a page, where what is wanted stands at the top.
const MAX_BYTES: usize = 4096;

/// The open files of a process.
#[derive(Debug)]
pub struct Vitals {
    stat: File,
    status: File,
}

impl Vitals {
    /// Of the process with this number.
    pub fn of(pid: u32) -> io::Result<Self> {
        let folder = Path::new("/proc").join(pid.to_string());
        Ok(Self {
            stat: File::open(folder.join("stat"))?,
            status: File::open(folder.join("status"))?,
        })
    }

    /// `/proc/PID/stat`, as it is now.
    pub fn stat(&self) -> Option<Vec<u8>> {
        beginning(&self.stat)
    }

    /// The beginning of `/proc/PID/status`, as it is now.
    pub fn status(&self) -> Option<Vec<u8>> {
        beginning(&self.status)
    }

    /// Memory that the process has taken at most so far.
    pub fn peak_bytes(&self) -> Option<u64> {
        let status = String::from_utf8(self.status()?).ok()?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    }
}

fn beginning(file: &File) -> Option<Vec<u8>> {
    let mut bytes = vec![0; MAX_BYTES];
    // The kernel gives all of it at once.
    let length = file.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    fn a_process_is_read_until_it_is_gone_and_no_other_in_its_place() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let vitals = Vitals::of(child.id()).unwrap();
        let stat = String::from_utf8(vitals.stat().unwrap()).unwrap();
        assert!(stat.starts_with(&child.id().to_string()), "{stat}");
        // The kernel counts pages in its own time.
        let begun = Instant::now();
        while vitals.peak_bytes() < Some(4096) {
            assert!(begun.elapsed() < Duration::from_mins(1), "it takes nothing");
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(vitals.stat(), None);
        assert_eq!(vitals.peak_bytes(), None);
    }
}
