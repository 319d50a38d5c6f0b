//! What a device would see: its own client of TUF repositories, in memory, over the files of a
//! repository as they are or as they would be.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::rc::Rc;

use crate::clock::Wall;
use crate::ota::disk::Disk;
use crate::ota::floor::Book;
use crate::ota::tuf::{Client, FetchError, Limits, Refreshed, Target, Transport, TufError};

/// A disk that forgets everything with the process.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Rc<RefCell<BTreeMap<String, Vec<u8>>>>);

impl Disk for Memory {
    fn read(&mut self, path: &str, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let files = self.0.borrow();
        let file = files.get(path);
        Ok(file.filter(|it| it.len() as u64 <= limit_bytes).cloned())
    }

    fn list(&mut self, folder: &str) -> io::Result<Vec<String>> {
        let files = self.0.borrow();
        let below = files.keys().filter_map(|path| {
            let name = path.strip_prefix(folder)?.strip_prefix('/')?;
            (!name.contains('/')).then(|| name.to_owned())
        });
        Ok(below.collect())
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.0.borrow_mut();
        let file = files.remove(from);
        let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.0.borrow_mut().remove(path);
        Ok(())
    }

    fn sync_folder(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

/// The metadata of a repository, with some files that are not there yet.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    /// The folder of its metadata.
    pub(super) folder: &'a Path,
    /// Files that would be there, too.
    pub(super) over: &'a BTreeMap<String, Vec<u8>>,
}

impl Transport for Shown<'_> {
    fn open(&mut self, file: &str) -> Result<Box<dyn Read + '_>, FetchError> {
        if let Some(bytes) = self.over.get(file) {
            return Ok(Box::new(Cursor::new(bytes)));
        }
        match File::open(self.folder.join(file)) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FetchError::NotThere),
            Err(error) => Err(error.into()),
        }
    }
}

/// A device, as far as it reads metadata.
pub(super) struct Device(Client<Memory>);

impl Device {
    /// One that was given this root, and has seen nothing.
    pub(super) fn new(anchor: &[u8]) -> Result<Self, TufError> {
        let disk = Memory::default();
        let book = Book::open(disk.clone())?;
        Client::open(disk, book, anchor, Limits::default()).map(Self)
    }

    /// Looks for news.
    pub(super) fn refresh(
        &mut self,
        now: Wall,
        mut shown: Shown<'_>,
    ) -> Result<Refreshed, TufError> {
        self.0.refresh(now, &mut shown)
    }

    /// Looks for a target.
    pub(super) fn find(
        &mut self,
        path: &str,
        mut shown: Shown<'_>,
    ) -> Result<Option<Target>, TufError> {
        self.0.find(path, &mut shown)
    }
}
