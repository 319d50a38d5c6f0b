//! What the appliance needs of the machine it stands on, looked at one by one.
//!
//! Purpose: tell a technician before the first request what will not work, and what to do about
//! it. Each look is a function of the settings (and of the folders where the kernel and systemd
//! show what they know, so that a test can fake them) and returns an [`Item`].
//!
//! Invariants: nothing is changed but for one file in the state directory, made and removed
//! again; what cannot be found out is [`State::Skip`] and says so, never a guess.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::models::headline;
use crate::clock::Wall;
use crate::config::{Entry, Settings, SpoolLimits};
use crate::package::Package;

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, but someone should know.
    Warn,
    /// It will not work.
    Fail,
    /// Not looked at, or cannot be found out.
    Skip,
}

impl State {
    /// The word in tables and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Which.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub what: String,
    /// What to do about it; empty where nothing is to do.
    pub todo: String,
}

impl Item {
    pub(super) fn new(name: &'static str, state: State, what: impl Into<String>) -> Self {
        Self {
            name,
            state,
            what: what.into(),
            todo: String::new(),
        }
    }

    pub(super) fn todo(mut self, todo: impl Into<String>) -> Self {
        self.todo = todo.into();
        self
    }
}

/// Whether the state directory takes a file, and keeps it.
pub fn state_dir(settings: &Settings) -> Item {
    let name = "state directory";
    let wanted = &settings.state_dir;
    let Some(there) = nearest_existing(wanted) else {
        return Item::new(
            name,
            State::Fail,
            format!("{} has no root", wanted.display()),
        )
        .todo("set appliance.state_dir to a folder that can be made");
    };
    if let Err(e) = write_and_remove(&there) {
        return Item::new(
            name,
            State::Fail,
            format!("{}: no file can be kept here ({e})", there.display()),
        )
        .todo("make it writable for the user that runs the service, or set appliance.state_dir");
    }
    if there == *wanted {
        Item::new(name, State::Ok, format!("{} is writable", wanted.display()))
    } else {
        let what = format!("{} will be made at the first start", wanted.display());
        Item::new(name, State::Ok, what)
    }
}

/// The folder, or the closest one above it that is there.
fn nearest_existing(folder: &Path) -> Option<PathBuf> {
    let found = folder.ancestors().find(|above| above.exists())?;
    Some(found.to_owned())
}

/// Makes a file durable and removes it again.
fn write_and_remove(folder: &Path) -> std::io::Result<()> {
    let file = folder.join(format!(".lineside-check-{}", std::process::id()));
    let kept = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&file)
        .and_then(|mut open| {
            open.write_all(b"lineside check\n")?;
            open.sync_all()
        });
    // Its name must go even where its bytes could not be kept.
    let removed = match fs::remove_file(&file) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    };
    kept.and(removed)?;
    fs::File::open(folder)?.sync_all()
}

/// What kind of file system the state directory is on: some forget, some only promise.
pub fn file_system(settings: &Settings) -> Item {
    let name = "file system";
    let there = nearest_existing(&settings.state_dir);
    let magic = there.and_then(|folder| rustix::fs::statfs(&folder).ok());
    let Some(about) = magic else {
        return Item::new(name, State::Skip, "could not be found out");
    };
    // The kernel's type is as wide as its word, signed on some; a magic number is 32 bits.
    #[allow(
        clippy::cast_sign_loss,
        clippy::unnecessary_cast,
        reason = "its type differs by architecture"
    )]
    let magic = about.f_type as u64 & 0xffff_ffff;
    classify(magic)
}

/// Magic numbers as `statfs(2)` lists them.
fn classify(magic: u64) -> Item {
    let name = "file system";
    let ok = |kind: &str| Item::new(name, State::Ok, kind);
    let warn = |kind: &str, todo: &str| Item::new(name, State::Warn, kind).todo(todo);
    match magic {
        0xef53 => ok("ext4"),
        0x5846_5342 => ok("xfs"),
        0x9123_683e => ok("btrfs"),
        0xf2f5_2010 => ok("f2fs"),
        0x2fc1_2fc1 => ok("zfs"),
        0x2405_1905 => ok("ubifs"),
        0x0102_1994 | 0x8584_58f6 => warn(
            "tmpfs: everything is lost at a restart",
            "set appliance.state_dir to a folder on a disk",
        ),
        0x794c_7630 => warn(
            "overlay: what is kept depends on the layer that is written to",
            "put appliance.state_dir on a volume of its own",
        ),
        0x6969 | 0xff53_4d42 | 0xfe53_4d42 | 0x517b => warn(
            "a network file system: neither durable nor there when the line is offline",
            "set appliance.state_dir to a folder on a local disk",
        ),
        0x4d44 | 0x2011_bab0 => warn(
            "FAT: no journal, a power cut may damage it",
            "put appliance.state_dir on ext4",
        ),
        other => Item::new(
            name,
            State::Skip,
            format!("type {other:#x}: not known to be durable or otherwise"),
        ),
    }
}

/// Whether the disk can hold what the spool may come to.
pub fn disk_room(settings: &Settings) -> Item {
    let name = "disk room";
    let there = nearest_existing(&settings.state_dir);
    let Some(about) = there.and_then(|folder| rustix::fs::statvfs(&folder).ok()) else {
        return Item::new(name, State::Skip, "could not be found out");
    };
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    let held = bytes_below(&settings.state_dir.join("spool"));
    judge_room(free, held, &settings.spool)
}

fn judge_room(free: u64, held: u64, limits: &SpoolLimits) -> Item {
    let name = "disk room";
    let need = limits.disk_bytes().saturating_add(limits.headroom_bytes);
    let what = format!(
        "{} free, the spool may come to {} and {} stay free",
        mib(free),
        mib(limits.disk_bytes()),
        mib(limits.headroom_bytes),
    );
    if free <= limits.headroom_bytes {
        Item::new(name, State::Fail, what)
            .todo("free space, or lower spool.headroom_bytes: no request is accepted now")
    } else if free.saturating_add(held) < need {
        let room = free.saturating_add(held) - limits.headroom_bytes;
        let live =
            room.saturating_sub(limits.ballast_bytes) / SpoolLimits::DISK_FACTOR_PERCENT * 100;
        let fits = live.saturating_sub(limits.telemetry_bytes);
        Item::new(name, State::Warn, what).todo(format!(
            "free space, or lower spool.max_bytes to {fits} and spool.telemetry_max_bytes to suit"
        ))
    } else {
        Item::new(name, State::Ok, what)
    }
}

/// Bytes of the files directly in a folder and one level below it, as the store lays them out.
fn bytes_below(folder: &Path) -> u64 {
    let files = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
            .collect::<Vec<_>>()
    };
    let mut total = 0u64;
    for (path, about) in files(folder) {
        let below = if about.is_dir() {
            files(&path)
        } else {
            vec![(path, about)]
        };
        for (_, about) in below {
            total = total.saturating_add(about.len());
        }
    }
    total
}

/// Whether the clock can be believed. `run` is where the daemons that set it leave their marks.
pub fn clock(run: &Path, now: Wall) -> Item {
    /// Midnight of 1 January 2025: this program is younger.
    const PLAUSIBLE: Wall = Wall(1_735_689_600_000);
    let name = "clock";
    if now < PLAUSIBLE {
        return Item::new(name, State::Warn, "stands before this program was written").todo(
            "set it, or let systemd-timesyncd or chrony do so; deadlines across restarts need it",
        );
    }
    if run.join("systemd/timesync/synchronized").exists() {
        Item::new(name, State::Ok, "set by systemd-timesyncd")
    } else if run.join("chrony").exists() {
        Item::new(
            name,
            State::Skip,
            "chrony is here; whether it has set the clock is unknown",
        )
        .todo("chronyc tracking")
    } else {
        Item::new(name, State::Skip, "whether anything sets it is unknown").todo("timedatectl")
    }
}

/// A temperature that the kernel shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensor {
    /// Its name for people.
    pub name: String,
    /// What it reads; none where it does not.
    pub celsius: Option<f64>,
}

/// Sensors at most; a board has a dozen.
const MAX_SENSORS: usize = 64;

/// The thermal zones and the hardware monitors below a sysfs root, in the order of their names.
pub fn sensors(sysfs: &Path) -> Vec<Sensor> {
    let mut found = Vec::new();
    for zone in folders(&sysfs.join("class/thermal"), "thermal_zone") {
        let kind = line(&zone.join("type")).unwrap_or_else(|| file_name(&zone));
        found.push(sensor(kind, &zone.join("temp")));
    }
    for chip in folders(&sysfs.join("class/hwmon"), "hwmon") {
        let kind = line(&chip.join("name")).unwrap_or_else(|| file_name(&chip));
        for input in folders(&chip, "temp") {
            let file = file_name(&input);
            let Some(channel) = file.strip_suffix("_input") else {
                continue;
            };
            let label = line(&chip.join(format!("{channel}_label")));
            let label = label.unwrap_or_else(|| channel.to_owned());
            found.push(sensor(format!("{kind}/{label}"), &input));
        }
    }
    found.truncate(MAX_SENSORS);
    found
}

/// The kernel counts thousandths of a degree.
fn sensor(name: String, file: &Path) -> Sensor {
    let millis = line(file).and_then(|text| text.parse::<i32>().ok());
    let celsius = millis.map(|millis| f64::from(millis) / 1000.0);
    Sensor { name, celsius }
}

/// Whether there is anything to keep the temperature by.
pub fn thermal(sysfs: &Path) -> Item {
    let name = "sensors";
    let found = sensors(sysfs);
    let shown = found.iter().map(|sensor| match sensor.celsius {
        Some(celsius) => format!("{} {celsius:.1} °C", sensor.name),
        None => format!("{} reads nothing", sensor.name),
    });
    let what = shown.collect::<Vec<_>>().join(", ");
    if found.is_empty() {
        let what = format!("no temperature below {}", sysfs.display());
        Item::new(name, State::Warn, what)
            .todo("load the board's thermal driver, or set governor.sysfs_root")
    } else if found.iter().all(|sensor| sensor.celsius.is_none()) {
        Item::new(name, State::Warn, what).todo("see the kernel's log for its thermal driver")
    } else {
        Item::new(name, State::Ok, what)
    }
}

/// How much memory there is.
pub fn memory(procfs: &Path) -> Item {
    let name = "memory";
    let text = fs::read_to_string(procfs.join("meminfo")).unwrap_or_default();
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let kib = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
        Some(kib.saturating_mul(1024))
    };
    match (bytes("MemTotal:"), bytes("MemAvailable:")) {
        (Some(total), Some(free)) => {
            let what = format!("{} available of {}", mib(free), mib(total));
            Item::new(name, State::Ok, what)
        }
        (_, _) => Item::new(
            name,
            State::Skip,
            format!("{} says nothing of it", procfs.join("meminfo").display()),
        )
        .todo("set governor.procfs_root"),
    }
}

/// Whether the technicians' port is there and may be used. It is not opened: that would raise
/// its control lines, which resets some boards, and a running service holds it already.
pub fn serial(settings: &Settings) -> Item {
    let name = "serial port";
    let Some(console) = &settings.console else {
        return Item::new(name, State::Skip, "console.device is not set");
    };
    let device = console.device.display();
    match fs::metadata(&console.device) {
        Err(e) => Item::new(name, State::Fail, format!("{device}: {e}"))
            .todo("plug it in, or set console.device (ls /dev/serial/by-id)"),
        Ok(about) if !about.file_type().is_char_device() => {
            Item::new(name, State::Fail, format!("{device} is no device"))
                .todo("set console.device to a serial port")
        }
        Ok(_) => match rustix::fs::access(&console.device, Access::READ_OK | Access::WRITE_OK) {
            Ok(()) if console.entry == Entry::Shut => {
                let what = format!("{device}: no PIN is set, so the console stays off");
                Item::new(name, State::Warn, what).todo(
                    "set console.pin_file to what `lineside pin` writes, or console.pin = \"none\"",
                )
            }
            Ok(()) => Item::new(
                name,
                State::Ok,
                format!("{device} at {} baud", console.baud),
            ),
            Err(errno) => Item::new(name, State::Fail, format!("{device}: {errno}"))
                .todo("add the service's user to the group of the device (dialout)"),
        },
    }
}

/// Whether the model package can be served, as far as it shows without hashing it. A lack of one
/// is no failure: requests that need one are refused with the reason, the rest works.
pub fn model_package(settings: &Settings) -> Item {
    let name = "model package";
    let Some(folder) = &settings.model_package else {
        return Item::new(name, State::Skip, "model.package is not set");
    };
    if !folder.is_dir() {
        let what = format!("{} is no folder", folder.display());
        return Item::new(name, State::Warn, what)
            .todo("unpack the package there, or set model.package");
    }
    let all = format!("lineside models check {}", folder.display());
    match Package::open_with(folder, settings.at_rest.device_key.as_ref()) {
        Ok(package) => {
            let item = Item::new(name, State::Ok, headline(&package));
            match package.notes().len() {
                0 => item,
                1 => item.todo(format!("one note: {all}")),
                count => item.todo(format!("{count} notes: {all}")),
            }
        }
        Err(faults) => {
            let first = faults.list.first().map(ToString::to_string);
            let first = first
                .unwrap_or_default()
                .replace("\n    wanted: ", "; wanted: ");
            let more = faults.list.len().saturating_sub(1) + faults.left_out;
            let what = if more == 0 {
                first
            } else {
                format!("{first} (and {more} more)")
            };
            Item::new(name, State::Fail, what).todo(format!("unpack it anew; {all}"))
        }
    }
}

/// Whether the control socket's name fits into the kernel's structure.
pub fn control_socket(settings: &Settings) -> Item {
    /// `sun_path` holds 108 bytes, the last of them a NUL.
    const MAX_BYTES: usize = 107;
    let name = "control socket";
    let path = &settings.control_socket;
    let bytes = path.as_os_str().as_bytes().len();
    if bytes <= MAX_BYTES {
        return Item::new(name, State::Ok, path.display().to_string());
    }
    Item::new(
        name,
        State::Fail,
        format!("{} has {bytes} bytes, {MAX_BYTES} fit", path.display()),
    )
    .todo("set appliance.state_dir to a shorter path")
}

/// The entries of a folder whose names start with `prefix`, the second before the tenth.
fn folders(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths = entries
        .map(|entry| entry.path())
        .filter(|path| file_name(path).starts_with(prefix))
        .collect::<Vec<_>>();
    paths.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    paths
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The first line of a small file.
fn line(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::Folder;
