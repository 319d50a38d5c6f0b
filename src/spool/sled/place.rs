//! The store's place in the file system: its lock, its directory, what lies beside it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, statvfs};

use super::super::DiskError;

/// Stores set aside that are kept: enough to study a fault, few enough not to fill the disk.
const KEPT_ASIDE: usize = 3;

/// Bytes rewritten at a time.
const STRIDE: usize = 1024 * 1024;

/// The one file in which sled keeps its records.
pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join("db")
}

/// `NAME.what` beside the directory `NAME`.
pub(super) fn beside(dir: &Path, what: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    dir.with_file_name(name)
}

/// Bytes that this process may still take on the file system of `path`. Zero if that cannot be
/// known: then the cautious side is to refuse.
pub(super) fn free_bytes(path: &Path) -> u64 {
    let there = path.ancestors().find(|path| path.exists());
    there
        .and_then(|path| statvfs(path).ok())
        .map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Waits until no other process holds the store.
pub(super) fn wait_for_lock(
    dir: &Path,
    patience: Duration,
    pause: Duration,
) -> Result<(), DiskError> {
    let Ok(held) = File::open(file(dir)) else {
        return Ok(()); // no store yet, or none that can be read: opening it will tell
    };
    let mut waited = Duration::ZERO;
    while flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() {
        if waited >= patience {
            return Err(DiskError::Locked(dir.display().to_string()));
        }
        std::thread::sleep(pause);
        waited += pause;
    }
    Ok(()) // closing the file lets the lock go
}

/// Makes the directory's entries safe, and the settings file that sled writes once.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir.join("conf"))?.sync_all()?;
    File::open(dir.join("blobs"))?.sync_all()?;
    File::open(dir)?.sync_all()?;
    sync_parent(dir)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
        Some(_) | None => File::open(".")?.sync_all(),
    }
}

/// Moves a store that cannot be opened out of the way, and lets go of the oldest such store
/// when there are too many.
pub(super) fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let mut earlier = broken_stores(dir)?;
    earlier.sort_unstable();
    let next = earlier.last().map_or(1, |(number, _)| number + 1);
    let keep_from = (earlier.len() + 1).saturating_sub(KEPT_ASIDE);
    for (_, path) in &earlier[..keep_from] {
        fs::remove_dir_all(path)?;
    }
    let to = beside(dir, &format!("broken-{next}"));
    fs::rename(dir, &to)?;
    sync_parent(dir)?;
    Ok(to)
}

fn broken_stores(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let prefix = beside(dir, "broken-");
    let prefix = prefix.file_name().unwrap_or_default().to_string_lossy();
    let parent = dir.parent().filter(|parent| *parent != Path::new(""));
    let mut found = Vec::new();
    for entry in fs::read_dir(parent.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&*prefix));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            found.push((number, entry.path()));
        }
    }
    Ok(found)
}

/// Writes a file's bytes over themselves and forces them out.
pub(super) fn rewrite_in_place(path: &Path) -> io::Result<()> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut buffer = vec![0; STRIDE];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut buffer, at)?;
        if read == 0 {
            return file.sync_all();
        }
        file.write_all_at(&buffer[..read], at)?;
        at += read as u64;
    }
}
