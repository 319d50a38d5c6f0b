//! The port to the disk: every durable step that trust takes goes through here.
//!
//! The steps are as small as those of the file system, so that a test can cut the power between
//! any two. A file is replaced as a whole by [`replace`]: written beside, forced out, renamed, and
//! the folder forced out. Whoever reads sees either the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// A file that is being written, beside the one that it will replace.
pub const BESIDE: &str = ".new";

/// Files below one folder. Paths are relative, with `/` between their parts.
pub trait Disk {
    /// The whole file; none if there is none, or if it has more bytes than that.
    fn read(&mut self, path: &str, limit_bytes: u64) -> io::Result<Option<Vec<u8>>>;
    /// The names of the files in a folder; none if there is no such folder.
    fn list(&mut self, folder: &str) -> io::Result<Vec<String>>;
    /// Writes a file and forces its content out. Makes its folder where that is missing.
    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Puts a file in another's place.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; one that is not there is no fault.
    fn remove(&mut self, path: &str) -> io::Result<()>;
    /// Forces out which files a folder has.
    fn sync_folder(&mut self, folder: &str) -> io::Result<()>;
}

/// Replaces a file as a whole.
pub fn replace(disk: &mut dyn Disk, path: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = format!("{path}{BESIDE}");
    disk.write(&beside, bytes)?;
    disk.rename(&beside, path)?;
    disk.sync_folder(folder_of(path))
}

/// Removes a file for good.
pub fn remove(disk: &mut dyn Disk, path: &str) -> io::Result<()> {
    disk.remove(path)?;
    disk.sync_folder(folder_of(path))
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A folder of the real disk. Clones speak of the same folder.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder; it need not be there yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Disk for Folder {
    fn read(&mut self, path: &str, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.at(path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(limit_bytes.saturating_add(1))
            .read_to_end(&mut bytes)?;
        let fits = u64::try_from(bytes.len()).is_ok_and(|len| len <= limit_bytes);
        Ok(fits.then_some(bytes))
    }

    fn list(&mut self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.at(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.at(path);
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        match fs::remove_file(self.at(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn sync_folder(&mut self, folder: &str) -> io::Result<()> {
        match File::open(self.at(folder)) {
            Ok(folder) => folder.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Makes a folder and those above it, each forced out in the one above.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| *above != Path::new(""));
    if let Some(above) = above {
        make_folder(above)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    File::open(above.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_stays_beside_it() {
        let root = std::env::temp_dir().join(format!("lineside-disk-{}", std::process::id()));
        let mut disk = Folder::new(&root);
        assert_eq!(disk.read("a/b/c.json", 10).unwrap(), None);
        replace(&mut disk, "a/b/c.json", b"one").unwrap();
        replace(&mut disk, "a/b/c.json", b"two").unwrap();
        assert_eq!(
            disk.read("a/b/c.json", 3).unwrap().as_deref(),
            Some(&b"two"[..])
        );
        assert_eq!(disk.list("a/b").unwrap(), ["c.json"]);
        assert_eq!(disk.list("nowhere").unwrap(), [""; 0]);
        remove(&mut disk, "a/b/c.json").unwrap();
        remove(&mut disk, "a/b/c.json").unwrap();
        assert_eq!(disk.list("a/b").unwrap(), [""; 0]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_file_beyond_the_limit_counts_as_absent() {
        let root = std::env::temp_dir().join(format!("lineside-limit-{}", std::process::id()));
        let mut disk = Folder::new(&root);
        replace(&mut disk, "big", &[0; 11]).unwrap();
        assert_eq!(disk.read("big", 10).unwrap(), None);
        assert!(disk.read("big", 11).unwrap().is_some());
        fs::remove_dir_all(root).unwrap();
    }
}
