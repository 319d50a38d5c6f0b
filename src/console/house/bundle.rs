//! A diagnostics archive: what those who help want to know, and no request's text.
//!
//! ```text
//! lineside-NAME-20261121-115958.tar
//!   about.json     which appliance, which version, when, what is missing here and why
//!   status.json    as `status` tells it
//!   requests.json  as `requests` tells it: ids, rules and outcomes
//!   thermals.json memory.json check.json models.json
//!   config.toml    as `config show` tells it: secrets are left out
//!   log.txt        the last lines, as far as they are kept in memory
//! ```
//!
//! Purpose: one file on a stick, also where broker, network and engine are dead. What cannot be had
//! is named, and the rest is written all the same.
//!
//! Invariant: everything in it comes from answers and log lines that may be shown to anybody who
//! looks at the appliance; none of them holds a prompt, an input or an answer.
//!
//! How it fails: a name that ends in `.part` is no archive yet. It is renamed once all of it is on
//! the stick, so a stick that was pulled too early holds none.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tracing::Level;

use super::{Fault, House, Models};
use crate::clock::{Clock, DAY_MS, Wall};
use crate::console::commands::raw;
use crate::console::pages::moment;
use crate::dispatch::StatusReport;

/// How long the stick may take: a slow one writes a megabyte a second.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where sticks are mounted, by hand and by desktops.
const STICKS: [&str; 3] = ["/media/", "/run/media/", "/mnt"];
/// The service's group may read it where the file system knows groups.
const MODE: u32 = 0o640;
/// A tar archive is written in these.
const BLOCK: usize = 512;

/// An archive that was written.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Bundled {
    path: String,
    bytes: usize,
    files: Vec<String>,
    /// What could not be had, and why.
    missing: Vec<String>,
}

/// What goes into the archive.
#[derive(Debug, Default)]
struct Pile {
    files: Vec<(&'static str, Vec<u8>)>,
    missing: Vec<String>,
}

impl Pile {
    fn put(&mut self, name: &'static str, got: Result<Box<RawValue>, String>) {
        match got {
            Ok(json) => self.files.push((name, format!("{json}\n").into_bytes())),
            Err(why) => self.missing.push(format!("{name}: {why}")),
        }
    }
}

impl House {
    /// Writes the archive to this folder, or to the stick that is mounted.
    pub(in crate::console) async fn bundle(
        &self,
        to: Option<String>,
        status: Option<&StatusReport>,
        latest: Option<&RawValue>,
    ) -> Result<Bundled, Fault> {
        let folder = match to {
            Some(to) => PathBuf::from(to),
            None => stick(&self.facts.roots.procfs)?,
        };
        if !folder.is_absolute() || !folder.is_dir() {
            let why = "the folder is not there: --to takes the whole path of one that is";
            return Err(Fault::Unavailable(why.into()));
        }
        let now = Clock::start().now().wall;
        let pile = self.pile(status, latest, now).await;
        let file = folder.join(format!("lineside-{}-{}.tar", self.facts.name, stamp(now)));
        let bytes = archive(&pile.files, now);
        let bundled = Bundled {
            path: file.display().to_string(),
            bytes: bytes.len(),
            files: pile.files.iter().map(|(name, _)| (*name).into()).collect(),
            missing: pile.missing,
        };
        let writing = tokio::task::spawn_blocking(move || write(&file, &bytes));
        let fault = |why: String| Fault::Unavailable(format!("the archive was not written: {why}"));
        match timeout(PATIENCE, writing).await {
            Ok(Ok(Ok(()))) => Ok(bundled),
            Ok(Ok(Err(error))) => Err(fault(error.to_string())),
            Ok(Err(_)) | Err(_) => Err(fault("the stick does not answer".into())),
        }
    }

    async fn pile(
        &self,
        status: Option<&StatusReport>,
        latest: Option<&RawValue>,
        now: Wall,
    ) -> Pile {
        let silent = || "the service does not answer".to_owned();
        let said = |fault: Fault| fault.to_string();
        let mut pile = Pile::default();
        pile.put("status.json", status.map(raw).ok_or_else(silent));
        let latest = latest.map(RawValue::to_owned);
        pile.put("requests.json", latest.ok_or_else(silent));
        let thermals = self.thermals(status).await;
        pile.put("thermals.json", thermals.map(|it| raw(&it)).map_err(said));
        let memory = self.memory().await;
        pile.put("memory.json", memory.map(|it| raw(&it)).map_err(said));
        pile.put("check.json", self.check().await.map_err(said));
        let served = status.and_then(|it| it.package.clone());
        let models = self.models(Models::List, served, None).await;
        pile.put("models.json", models.map_err(said));
        pile.files
            .push(("config.toml", self.facts.toml.clone().into_bytes()));
        match &self.log {
            Some(log) => {
                let lines = log.lines(Level::TRACE, 0, usize::MAX);
                let lines = lines.iter().map(|line| {
                    let (at, level) = (moment(line.at.0), line.level);
                    format!("{at}  {level:<5}  {}\n", line.text)
                });
                let text: String = lines.collect();
                pile.files.push(("log.txt", text.into_bytes()));
            }
            None => pile.missing.push(format!("log.txt: {}", Fault::NoLog)),
        }
        let about = serde_json::json!({
            "appliance": self.facts.name,
            "version": env!("CARGO_PKG_VERSION"),
            "at": moment(now.0),
            "missing": pile.missing,
        });
        pile.put("about.json", Ok(raw(&about)));
        pile
    }
}

/// The stick that is mounted and can be written.
fn stick(procfs: &Path) -> Result<PathBuf, Fault> {
    let mounts = std::fs::read_to_string(procfs.join("self/mountinfo")).unwrap_or_default();
    let mut sticks: Vec<_> = mounts.lines().filter_map(stick_of).collect();
    sticks.dedup();
    match sticks.as_slice() {
        [] => Err(Fault::NoStick),
        [stick] => Ok(stick.into()),
        several => {
            let several = several.join(", ");
            let why = format!("several are mounted: {several}; say which one by --to");
            Err(Fault::Unavailable(why))
        }
    }
}

/// The place of a mount, if it is a stick's, as in
/// `36 35 8:1 / /media/stick rw,nosuid shared:1 - vfat /dev/sda1 rw`.
fn stick_of(line: &str) -> Option<String> {
    let (mount, source) = line.split_once(" - ")?;
    let place = mount.split(' ').nth(4)?;
    let options = mount.split(' ').nth(5)?;
    let device = source.split(' ').nth(1)?;
    let fits = STICKS.iter().any(|it| place.starts_with(it))
        && device.starts_with("/dev/")
        && options.split(',').any(|it| it == "rw");
    fits.then(|| place.replace("\\040", " "))
}

/// `20261121-115958`.
fn stamp(at: Wall) -> String {
    let (year, month, day) = at.date();
    let second = at.0 % DAY_MS / 1000;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = file.with_extension("tar.part");
    let written = (|| {
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&part)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        std::fs::rename(&part, file)?;
        File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&part); // it may never have been made
    }
    written
}

/// The files as a tar archive (ustar), which every system unpacks.
fn archive(files: &[(&str, Vec<u8>)], at: Wall) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in files {
        out.extend_from_slice(&head(name, bytes.len(), at));
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

fn head(name: &str, bytes: usize, at: Wall) -> [u8; BLOCK] {
    let mut head = [0; BLOCK];
    let mut put =
        |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000640\0");
    put(108, "0000000\0"); // user and group: nobody of the machine where it is unpacked
    put(116, "0000000\0");
    put(124, &format!("{bytes:011o}\0"));
    put(136, &format!("{:011o}\0", at.0 / 1000));
    put(148, "        "); // the sum counts its own place as blanks
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    head[148..156].copy_from_slice(sum.as_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_tar_reads_the_archive() {
        let files = [("a.json", b"{}\n".to_vec()), ("log.txt", vec![b'x'; 1234])];
        let bytes = archive(&files, Wall(1_795_262_398_000));
        let file = std::env::temp_dir().join(format!("lineside-tar-{}.tar", std::process::id()));
        write(&file, &bytes).unwrap();
        let told = std::process::Command::new("tar")
            .args(["-tvf"])
            .arg(&file)
            .env("TZ", "UTC")
            .output()
            .unwrap();
        std::fs::remove_file(&file).unwrap();
        let text = String::from_utf8(told.stdout).unwrap();
        assert!(told.status.success(), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("-rw-r----- 0/0"), "{text}");
        assert!(lines[0].ends_with("2026-11-21 11:59 a.json"), "{text}");
        assert!(lines[1].contains(" 1234 "), "{text}");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn the_one_stick_that_is_mounted_is_found() {
        let folder = std::env::temp_dir().join(format!("lineside-sticks-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("self")).unwrap();
        let mounted = |lines: &str| {
            let root = "25 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n";
            std::fs::write(folder.join("self/mountinfo"), format!("{root}{lines}")).unwrap();
            stick(&folder)
        };
        assert_eq!(mounted(""), Err(Fault::NoStick));
        let one = "36 25 8:1 / /media/a\\040b rw,nosuid shared:9 - vfat /dev/sda1 rw\n";
        assert_eq!(mounted(one), Ok("/media/a b".into()));
        let locked = "37 25 8:2 / /media/c ro - vfat /dev/sdb1 rw\n";
        let not_there = "38 25 0:3 / /mnt/tmp rw - tmpfs tmpfs rw\n";
        assert_eq!(
            mounted(&format!("{locked}{not_there}")),
            Err(Fault::NoStick)
        );
        let second = "39 25 8:9 / /run/media/x/d rw - ext4 /dev/sdc1 rw\n";
        assert!(matches!(
            mounted(&format!("{one}{second}")),
            Err(Fault::Unavailable(_))
        ));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("lineside-part-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("b.tar")).unwrap();
        assert!(
            write(&folder.join("b.tar"), b"x").is_err(),
            "a folder is in its place"
        );
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
        assert_eq!(left.len(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_stamp_sorts_by_time() {
        assert_eq!(stamp(Wall(1_795_262_398_000)), "20261121-115958");
    }
}
