//! Files of a package that lie sealed: the models and the adapter, where the site wants it so.
//!
//! `model.gguf` then lies as `model.gguf.sealed`, in the form of the [`safe`]. Only these
//! are: they are what a package is worth, and only the engine needs them, as files. The manifest with
//! the prompts, grammars, schemas and the gate suite stay plain: people and tools look into them, and
//! every device that is asked shows what they say. So does what an engine has computed of the package's
//! own instructions, which is kept for the next start: it is no weight, and leads to none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::folder;
use super::manifest::{Digest, FilePath, Listed, Manifest};
use crate::safe::{self, DeviceKey, ENDING, Reader, SafeError};

/// A file that lies sealed, with what opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedFile {
    path: PathBuf,
    sha256: Digest,
    bytes: u64,
    key: DeviceKey,
}

impl SealedFile {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of it when it is plain: so much memory [`SealedFile::in_memory`] takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads it plain, from its beginning.
    pub fn reader(&self) -> Result<Reader, SafeError> {
        Reader::open(folder::open(&self.path)?, &self.key, self.sha256.0)
    }

    /// Opens it into memory, where nobody can change it. Takes as long as reading it.
    pub fn in_memory(&self) -> Result<OwnedFd, SafeError> {
        safe::in_memory(self.reader()?)
    }
}

/// Where a file lies sealed whose plain place is this.
pub fn sealed_path(plain: &Path) -> PathBuf {
    let mut path = plain.as_os_str().to_owned();
    path.push(ENDING);
    path.into()
}

/// The files of a package that may lie sealed.
pub(super) fn sealable(manifest: &Manifest) -> impl Iterator<Item = &Listed> {
    let models = manifest.variants.iter().map(|variant| &variant.file);
    models.chain(manifest.adapter.iter().map(|adapter| &adapter.file))
}

/// Of what lies in a folder, gives those that lie sealed the names and the sizes that they have when
/// they are plain. Returns them.
pub(super) fn lift<'m>(
    found: &mut BTreeMap<String, u64>,
    manifest: &'m Manifest,
) -> Vec<&'m Listed> {
    let mut sealed = Vec::new();
    for file in sealable(manifest) {
        let plain = file.path.as_str();
        if found.contains_key(plain) {
            continue;
        }
        let Some(bytes) = found.remove(&format!("{plain}{ENDING}")) else {
            continue;
        };
        let whole = bytes == safe::sealed_length(file.bytes);
        found.insert(plain.to_owned(), if whole { file.bytes } else { bytes });
        sealed.push(file);
    }
    sealed
}

/// The files of a package that lie sealed, by the names that they have when they are plain.
#[derive(Clone, Debug, Default)]
pub(super) struct Sealed(BTreeMap<FilePath, SealedFile>);

impl Sealed {
    pub(super) fn new(folder: &Path, files: &[&Listed], key: &DeviceKey) -> Self {
        let sealed = files.iter().map(|file| {
            let path = sealed_path(&folder.join(file.path.as_str()));
            let sealed = SealedFile {
                path,
                sha256: file.sha256,
                bytes: file.bytes,
                key: key.clone(),
            };
            (file.path.clone(), sealed)
        });
        Self(sealed.collect())
    }

    pub(super) fn get(&self, path: &FilePath) -> Option<&SealedFile> {
        self.0.get(path)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where a file of the folder lies.
    pub(super) fn place(&self, folder: &Path, path: &FilePath) -> PathBuf {
        let sealed = self.get(path).map(|file| file.path.clone());
        sealed.unwrap_or_else(|| folder.join(path.as_str()))
    }

    /// A file's plain bytes, and how many there are.
    pub(super) fn open(&self, folder: &Path, path: &FilePath) -> io::Result<(Plain, u64)> {
        if let Some(file) = self.get(path) {
            return Ok((Plain::Opened(Box::new(file.reader()?)), file.bytes));
        }
        let file = folder::open(&folder.join(path.as_str()))?;
        let bytes = file.metadata()?.len();
        Ok((Plain::AsItIs(file), bytes))
    }
}

/// The plain bytes of a file, however it lies.
#[derive(Debug)]
pub(super) enum Plain {
    AsItIs(File),
    Opened(Box<Reader>),
}

impl Read for Plain {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::AsItIs(file) => file.read(into),
            Self::Opened(reader) => reader.read(into),
        }
    }
}
