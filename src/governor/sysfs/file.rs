//! One small file at a time, whatever it is.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read as read_some};

use super::text;

/// Bytes of a file that holds one number or one name: longer is neither.
const MAX_VALUE_BYTES: usize = 256;
/// Bytes of a file that holds a table: a page, which is all that sysfs gives, and of procfs
/// holds what stands at the top.
pub(super) const MAX_TABLE_BYTES: usize = 4096;
/// Entries of a folder that are looked at: a chip with many channels has some hundreds.
const MAX_ENTRIES: usize = 2048;

/// Why a file tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is not there, or what it stands for is not (ENOENT, ENODEV).
    Missing,
    /// Not now (EAGAIN): what it measures is switched off, or has measured nothing yet.
    Busy,
    /// The sensor has no value (ENODATA, ENXIO).
    NoData,
    /// The way to the sensor is broken (EIO, EREMOTEIO, ETIMEDOUT).
    Broken,
    /// The chip itself says that the sensor is at fault.
    Faulty,
    /// It may not be read (EACCES, EPERM).
    Denied,
    /// It was read, and is no number.
    Garbled,
    /// Any other error, with its number.
    Other(i32),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is not there"),
            Self::Busy => f.write_str("not now (EAGAIN)"),
            Self::NoData => f.write_str("it has no value (ENODATA)"),
            Self::Broken => f.write_str("the sensor does not answer (EIO)"),
            Self::Faulty => f.write_str("the chip reports it as faulty"),
            Self::Denied => f.write_str("no permission (EACCES)"),
            Self::Garbled => f.write_str("it holds no number"),
            Self::Other(number) => write!(f, "error {number}"),
        }
    }
}

impl From<Errno> for Unread {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NODEV | Errno::NOTDIR => Self::Missing,
            Errno::AGAIN => Self::Busy,
            Errno::NODATA | Errno::NXIO => Self::NoData,
            Errno::IO | Errno::REMOTEIO | Errno::TIMEDOUT => Self::Broken,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            other => Self::Other(other.raw_os_error()),
        }
    }
}

/// The beginning of a file, as much as the buffer holds; of a longer one only whole lines.
///
/// A pipe or a device in place of the file is opened without waiting for its other end.
pub(super) fn read<'b>(path: &Path, buffer: &'b mut [u8]) -> Result<&'b [u8], Unread> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty())?;
    let mut length = 0;
    while length < buffer.len() {
        match read_some(&file, &mut buffer[length..]) {
            Ok(0) => return Ok(&buffer[..length]),
            Ok(more) => length += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let lines = buffer.iter().rposition(|byte| *byte == b'\n');
    Ok(&buffer[..lines.map_or(0, |last| last + 1)])
}

/// The number that the file holds.
pub(super) fn number(path: &Path) -> Result<i64, Unread> {
    let mut buffer = [0; MAX_VALUE_BYTES];
    text::number(read(path, &mut buffer)?).ok_or(Unread::Garbled)
}

/// The number that the file holds, if it is a count.
pub(super) fn count(path: &Path) -> Option<u64> {
    u64::try_from(number(path).ok()?).ok()
}

/// The name that the file holds.
pub(super) fn name(path: &Path) -> Option<String> {
    let mut buffer = [0; MAX_VALUE_BYTES];
    text::name(read(path, &mut buffer).ok()?)
}

/// What a parser makes of a small table.
pub(super) fn table<T>(path: &Path, parse: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let mut buffer = [0; MAX_TABLE_BYTES];
    read(path, &mut buffer).ok().map(parse)
}

/// The names in a folder, in order.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().into_iter().flatten().take(MAX_ENTRIES);
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

/// The entries called PREFIX and a number, by number, the first so many.
pub(super) fn numbered(folder: &Path, prefix: &str, most: usize) -> Vec<(u32, PathBuf)> {
    let mut found: Vec<_> = names(folder)
        .into_iter()
        .filter_map(|name| {
            let number = name.strip_prefix(prefix)?.parse().ok()?;
            Some((number, folder.join(name)))
        })
        .collect();
    found.sort_unstable_by_key(|(number, _)| *number);
    found.truncate(most);
    found
}
