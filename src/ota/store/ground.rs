//! Where the store stands: every durable operation, one by one.
//!
//! The port exists so that a test can end the world before any of them. [`Hand`] does them; what
//! a [`Ground`] adds is leave to do so, and how much room there is.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{OFlags, statvfs};

/// Others on this machine may read models, as they may read the bundled one, but not change them.
const FOLDER_MODE: u32 = 0o755;

/// Something that is done to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// A folder is made.
    MakeFolder(&'a Path),
    /// A file is made, or emptied.
    MakeFile(&'a Path),
    /// Bytes are written into a file.
    Write {
        /// Which.
        file: &'a Path,
        /// Where in it.
        at: u64,
        /// How many.
        bytes: u64,
    },
    /// A file ends here now.
    Cut {
        /// Which.
        file: &'a Path,
        /// Its new length.
        to: u64,
    },
    /// What was written into a file is forced out.
    SyncFile(&'a Path),
    /// The entries of a folder are forced out.
    SyncFolder(&'a Path),
    /// An entry gets another name; what had that name goes.
    Rename {
        /// The old one.
        from: &'a Path,
        /// The new one.
        to: &'a Path,
    },
    /// A file gets a second name.
    Link {
        /// The file.
        from: &'a Path,
        /// The name.
        to: &'a Path,
    },
    /// A link is made that leads elsewhere.
    Point {
        /// The link.
        link: &'a Path,
        /// Where to.
        to: &'a Path,
    },
    /// A file goes.
    Remove(&'a Path),
    /// A folder goes, with all in it.
    RemoveFolder(&'a Path),
}

/// What the store stands on.
pub trait Ground {
    /// Asked before each operation; an error is the operation's.
    fn before(&mut self, op: Op<'_>) -> io::Result<()>;

    /// Bytes that may still be taken on the file system of a folder.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;
}

/// The disk itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Ground for Disk {
    fn before(&mut self, _: Op<'_>) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        let disk = statvfs(folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// Does what is to be done, each after asking.
#[derive(Debug)]
pub(super) struct Hand<G>(pub(super) G);

impl<G: Ground> Hand<G> {
    /// Makes a folder durable, and those above it that are missing. One that is there stays.
    pub(super) fn folder(&mut self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let above = folder.parent().filter(|above| *above != Path::new(""));
        let above = above.unwrap_or(Path::new("."));
        self.folder(above)?;
        self.0.before(Op::MakeFolder(folder))?;
        DirBuilder::new().mode(FOLDER_MODE).create(folder)?;
        self.sync_folder(above)
    }

    /// Opens a file to read and write; makes it if it is not there.
    pub(super) fn open(&mut self, file: &Path) -> io::Result<File> {
        let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags);
        match options.open(file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.0.before(Op::MakeFile(file))?;
                options.create_new(true).open(file)
            }
            other => other,
        }
    }

    pub(super) fn write_at(
        &mut self,
        open: &File,
        file: &Path,
        at: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        let count = bytes.len() as u64;
        self.0.before(Op::Write {
            file,
            at,
            bytes: count,
        })?;
        open.write_all_at(bytes, at)
    }

    pub(super) fn cut(&mut self, open: &File, file: &Path, to: u64) -> io::Result<()> {
        self.0.before(Op::Cut { file, to })?;
        open.set_len(to)
    }

    pub(super) fn sync_file(&mut self, open: &File, file: &Path) -> io::Result<()> {
        self.0.before(Op::SyncFile(file))?;
        open.sync_data()
    }

    pub(super) fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        self.0.before(Op::SyncFolder(folder))?;
        File::open(folder)?.sync_all()
    }

    /// Replaces a small file as a whole: either the old or the new one is there, whatever happens.
    pub(super) fn replace(&mut self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = file.with_file_name(name);
        self.whole(&beside, bytes)?;
        self.rename(&beside, file)?;
        self.sync_folder(file.parent().unwrap_or(Path::new(".")))
    }

    /// Writes a small file where nobody looks yet.
    pub(super) fn whole(&mut self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.0.before(Op::MakeFile(file))?;
        let mut open = File::create(file)?;
        let count = bytes.len() as u64;
        self.0.before(Op::Write {
            file,
            at: 0,
            bytes: count,
        })?;
        open.write_all(bytes)?;
        self.sync_file(&open, file)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.before(Op::Rename { from, to })?;
        fs::rename(from, to)
    }

    /// Gives a file a second name, or copies it where the disk has no such thing.
    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.before(Op::Link { from, to })?;
        if fs::hard_link(from, to).is_ok() {
            return Ok(());
        }
        fs::copy(from, to)?;
        self.sync_file(&File::open(to)?, to)
    }

    /// Makes a link lead elsewhere, in one step.
    pub(super) fn point(&mut self, link: &Path, to: &Path) -> io::Result<()> {
        let mut name = link.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = link.with_file_name(name);
        self.remove(&beside)?;
        self.0.before(Op::Point { link: &beside, to })?;
        symlink(to, &beside)?;
        self.rename(&beside, link)?;
        self.sync_folder(link.parent().unwrap_or(Path::new(".")))
    }

    /// Removes a file; one that is not there is gone.
    pub(super) fn remove(&mut self, file: &Path) -> io::Result<()> {
        if file.symlink_metadata().is_err() {
            return Ok(());
        }
        self.0.before(Op::Remove(file))?;
        fs::remove_file(file)
    }

    /// Removes a folder; one that is not there is gone.
    pub(super) fn remove_folder(&mut self, folder: &Path) -> io::Result<()> {
        if folder.symlink_metadata().is_err() {
            return Ok(());
        }
        self.0.before(Op::RemoveFolder(folder))?;
        fs::remove_dir_all(folder)
    }
}
