//! A folder as a source: a USB stick, a share, another appliance's store.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use super::{Body, Fault, Opened, Piece, Source};

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 1 << 17;

/// A folder with objects in it.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    name: String,
}

impl Folder {
    /// The source in a folder. Nothing is looked at yet: a stick may come later.
    pub fn new(root: PathBuf) -> Self {
        let name = root.display().to_string();
        Self { root, name }
    }
}

impl Folder {
    fn file(&self, path: &str) -> Result<File, Fault> {
        crate::package::open_plain(&self.root.join(path)).map_err(|error| fault(&error))
    }
}

impl Source for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&mut self, path: &str, from: u64, total: u64) -> Result<Opened, Fault> {
        let mut file = self.file(path)?;
        let said = file.metadata().map_err(|error| fault(&error))?.len();
        if said != total {
            let wanted = total;
            return Err(Fault::Length { said, wanted });
        }
        file.seek(SeekFrom::Start(from)).map_err(|e| fault(&e))?;
        let body = Bytes::of(file);
        Ok(Opened { from, body })
    }

    fn open_whole(&mut self, path: &str) -> Result<Box<dyn Body>, Fault> {
        Ok(Bytes::of(self.file(path)?))
    }
}

fn fault(error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::NotFound {
        Fault::Missing
    } else {
        Fault::Disk(error.kind())
    }
}

struct Bytes {
    file: File,
    piece: Vec<u8>,
}

impl Bytes {
    fn of(file: File) -> Box<dyn Body> {
        let piece = vec![0; PIECE_BYTES];
        Box::new(Self { file, piece })
    }
}

impl Body for Bytes {
    fn next(&mut self, _: Duration) -> Result<Piece<'_>, Fault> {
        match self.file.read(&mut self.piece) {
            Ok(0) => Ok(Piece::End),
            Ok(read) => Ok(Piece::Bytes(&self.piece[..read])),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Piece::Nothing),
            Err(e) => Err(Fault::Disk(e.kind())),
        }
    }
}
