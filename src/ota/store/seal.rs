//! Objects that lie encrypted: which, and how they are read and written.
//!
//! What a source gives is sealed before it is written, so no plain byte of a model is ever on the
//! disk; what is verified is the plain bytes, before and after a break. An object lies as
//! `HASH.sealed`, by the digest of its plain bytes, which is no source for others: it opens on this
//! device alone.
//!
//! A frame of the sealed form is as long as the smallest chunk of an object, so a chunk always ends
//! with a frame, and what [`Assembly::resume`](super::super::object::Assembly::resume) relies on
//! holds here too. Less than a frame waits in memory; a break costs that as well.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::super::manifest::Manifest;
use super::super::object::Object;
use super::ground::{Ground, Hand};
use crate::config::{AtRest, Form};
use crate::package::{Digest, open_plain};
use crate::safe::{
    Cipher, DeviceKey, Frame, Header, Reader, SafeError, plain_length, sealed_length,
};

/// What the name of a model's file ends in, and so that of an adapter among the other files.
const MODEL_ENDING: &str = ".gguf";

/// How objects lie, and which of them are worth it.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    at_rest: AtRest,
    secret: Vec<Digest>,
}

impl Sealing {
    pub(super) fn new(at_rest: AtRest) -> Self {
        let secret = Vec::new();
        Self { at_rest, secret }
    }

    pub(super) fn form(&self) -> Form {
        self.at_rest.form
    }

    pub(super) fn key(&self) -> Option<&DeviceKey> {
        self.at_rest.device_key.as_ref()
    }

    /// The models of a package are to be sealed, and its adapter.
    pub(super) fn note(&mut self, manifest: &Manifest) {
        for object in secret_objects(manifest) {
            if !self.secret.contains(&object.sha256()) {
                self.secret.push(object.sha256());
            }
        }
    }

    /// The key that an object is sealed with; none if it lies plain.
    pub(super) fn key_of(&self, object: &Object) -> Option<&DeviceKey> {
        let sealed = self.form() == Form::Encrypted && self.secret.contains(&object.sha256());
        self.key().filter(|_| sealed)
    }
}

/// What of a package is sealed.
pub(super) fn secret_objects(manifest: &Manifest) -> impl Iterator<Item = &Object> {
    let models = manifest.variants.iter().map(|variant| &variant.file);
    let adapters = manifest.files.iter();
    let adapters = adapters.filter(|file| file.path.as_str().ends_with(MODEL_ENDING));
    models.chain(adapters).map(|file| &file.object)
}

/// Bytes that an object's file has.
pub(super) fn file_bytes(object: &Object, key: Option<&DeviceKey>) -> u64 {
    match key {
        Some(_) => sealed_length(object.bytes()),
        None => object.bytes(),
    }
}

/// Plain bytes of an object in a file of so many.
pub(super) fn there(object: &Object, key: Option<&DeviceKey>, file_bytes: u64) -> u64 {
    match key {
        Some(_) => plain_length(file_bytes, object.bytes()),
        None => file_bytes.min(object.bytes()),
    }
}

/// Reads the plain bytes of an object, or of its beginning.
pub(super) fn reader(
    path: &Path,
    object: &Object,
    key: Option<&DeviceKey>,
) -> io::Result<Box<dyn Read>> {
    let file = open_plain(path)?;
    match key {
        Some(key) => Ok(Box::new(Reader::begun(file, key, object.sha256().0)?)),
        None => Ok(Box::new(file)),
    }
}

/// Whether an object that lies sealed was sealed with this key.
pub(super) fn is_ours(path: &Path, object: &Object, key: &DeviceKey) -> io::Result<bool> {
    let opened = Reader::open(open_plain(path)?, key, object.sha256().0);
    match opened.and_then(|mut reader| reader.is_ours()) {
        Ok(ours) => Ok(ours),
        Err(error) if error.is_of_the_disk() => Err(error.into()),
        Err(_) => Ok(false),
    }
}

/// Seals an object while it is put together.
pub(super) struct Sealer {
    cipher: Cipher,
    /// What came of the frame that is not whole yet.
    frame: Frame,
}

impl Sealer {
    /// Begins a file.
    pub(super) fn begin<G: Ground>(
        hand: &mut Hand<G>,
        file: &File,
        path: &Path,
        object: &Object,
        key: &DeviceKey,
    ) -> io::Result<Self> {
        let header = Header::new(object.bytes(), object.sha256().0)?;
        hand.cut(file, path, 0)?;
        hand.write_at(file, path, 0, &header.to_bytes())?;
        Ok(Self::of(key, header))
    }

    /// Goes on with a file, if it is one of this object, as far as its header says.
    pub(super) fn resume(
        file: &File,
        object: &Object,
        key: &DeviceKey,
    ) -> io::Result<Option<(Self, Reader)>> {
        match Reader::begun(file.try_clone()?, key, object.sha256().0) {
            Ok(reader) if reader.header().bytes() == object.bytes() => {
                let sealer = Self::of(key, reader.header().clone());
                Ok(Some((sealer, reader)))
            }
            Err(error) if error.is_of_the_disk() => Err(error.into()),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    fn of(key: &DeviceKey, header: Header) -> Self {
        Self {
            frame: Frame::of(&header),
            cipher: Cipher::new(key, header),
        }
    }

    /// Where in the file this plain byte's frame begins, which begins with it.
    pub(super) fn place(&self, plain: u64) -> u64 {
        self.cipher.header().place(plain)
    }

    /// Bytes that the frame lacks, of which some lie before this plain byte.
    pub(super) fn lacks(&self, at: u64) -> usize {
        let header = self.cipher.header();
        let frame = header.frame_bytes();
        let lacks = frame - at % frame;
        usize::try_from(lacks.min(header.bytes() - at)).unwrap_or(usize::MAX)
    }

    /// Takes bytes of one frame that begin at this plain byte; writes the frame if it is whole with
    /// them. A failure leaves it as it was.
    pub(super) fn put<G: Ground>(
        &mut self,
        hand: &mut Hand<G>,
        (file, path): (&File, &Path),
        at: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        let (header, before) = (self.cipher.header(), self.frame.plain_bytes());
        let index = at / header.frame_bytes();
        let place = header.place(index * header.frame_bytes());
        let is_whole = bytes.len() == self.lacks(at);
        self.frame.fill(bytes);
        if !is_whole {
            return Ok(());
        }
        let write = |sealed: &[u8]| {
            let written = hand.write_at(file, path, place, sealed);
            written.map_err(SafeError::from)
        };
        self.cipher
            .seal(index, &mut self.frame, write)
            .map_err(|error| {
                self.frame.cut(before);
                error.into()
            })
    }
}
