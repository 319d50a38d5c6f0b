//! An object that is not all there yet.
//!
//! The file's length is the only record of how far it is. That is enough, because a chunk is
//! verified and forced out before the first byte of the next is written; see
//! [`Assembly::resume`](super::super::object::Assembly::resume).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::super::object::{Assembly, Object, Reread, Verdict};
use super::ground::{Ground, Hand};
use super::seal::Sealer;
use crate::safe::{DeviceKey, Reader};

/// Bytes that are read again at a time.
const PIECE_BYTES: usize = 1 << 16;

/// An object that is being put together in a file.
pub struct Part {
    path: PathBuf,
    file: File,
    assembly: Assembly,
    reread_bytes: u64,
    /// Where it lies encrypted.
    sealer: Option<Sealer>,
}

/// What became of bytes that were put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The chunk is not whole yet.
    Taken(usize),
    /// A chunk is whole, right, and durable.
    Good(usize),
    /// A chunk was wrong, and is gone.
    Bad {
        /// Bytes that were looked at.
        taken: usize,
        /// Where it begins.
        from: u64,
        /// Whose it was.
        origin: super::super::object::Origin,
    },
}

impl Part {
    /// Begins a file, or goes on with one.
    pub(super) fn open<G: Ground>(
        hand: &mut Hand<G>,
        path: PathBuf,
        object: &Object,
        key: Option<&DeviceKey>,
    ) -> io::Result<Self> {
        if let Some(key) = key {
            return Self::open_sealed(hand, path, object, key);
        }
        let file = hand.open(&path)?;
        let there = file.metadata()?.len();
        let (mut assembly, Reread { from, to }) = Assembly::resume(object.clone(), there);
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = from;
        while at < to {
            let room = usize::try_from(to - at).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            let read = match file.read_at(&mut piece[..room], at) {
                Ok(0) => break, // it shrank just now: what was read counts
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            at += read as u64;
            let (_, verdict) = assembly.take(&piece[..read]);
            match verdict {
                // Forced out, perhaps for the second time: the next byte may follow.
                Some(Verdict::Good) => hand.sync_file(&file, &path)?,
                Some(Verdict::Bad { .. }) | None => {}
            }
        }
        if assembly.at() != there {
            hand.cut(&file, &path, assembly.at())?;
        }
        Ok(Self {
            path,
            file,
            assembly,
            reread_bytes: at - from,
            sealer: None,
        })
    }

    /// The same where it lies encrypted. What does not open is nothing: the object begins anew.
    fn open_sealed<G: Ground>(
        hand: &mut Hand<G>,
        path: PathBuf,
        object: &Object,
        key: &DeviceKey,
    ) -> io::Result<Self> {
        let file = hand.open(&path)?;
        let there = file.metadata()?.len();
        if let Some((sealer, reader)) = Sealer::resume(&file, object, key)? {
            let plain = reader.header().plain_bytes(there);
            let (assembly, reread) = Assembly::resume(object.clone(), plain);
            if let Some(assembly) = reread_sealed(hand, (&file, &path), reader, assembly, reread)? {
                if sealer.place(assembly.at()) != there {
                    hand.cut(&file, &path, sealer.place(assembly.at()))?;
                }
                return Ok(Self {
                    path,
                    file,
                    assembly,
                    reread_bytes: reread.to - reread.from,
                    sealer: Some(sealer),
                });
            }
        }
        let sealer = Sealer::begin(hand, &file, &path, object, key)?;
        Ok(Self {
            path,
            file,
            assembly: Assembly::begin(object.clone()),
            reread_bytes: 0,
            sealer: Some(sealer),
        })
    }

    /// How far it is.
    pub fn assembly(&self) -> &Assembly {
        &self.assembly
    }

    /// From now on another source is read.
    pub fn turn(&mut self) {
        self.assembly.turn();
    }

    /// Bytes that had to be read and hashed again when it was opened.
    pub fn reread_bytes(&self) -> u64 {
        self.reread_bytes
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts bytes in, up to the end of the chunk.
    pub(super) fn put<G: Ground>(&mut self, hand: &mut Hand<G>, bytes: &[u8]) -> io::Result<Put> {
        let at = self.assembly.at();
        let room = usize::try_from(self.assembly.lacks()).unwrap_or(usize::MAX);
        let room = match &self.sealer {
            Some(sealer) => room.min(sealer.lacks(at)),
            None => room,
        };
        let bytes = &bytes[..room.min(bytes.len())];
        // Hashed only after it was written: a disk that is full leaves both at the same place.
        match &mut self.sealer {
            Some(sealer) => sealer.put(hand, (&self.file, &self.path), at, bytes)?,
            None => hand.write_at(&self.file, &self.path, at, bytes)?,
        }
        let (taken, verdict) = self.assembly.take(bytes);
        match verdict {
            None => Ok(Put::Taken(taken)),
            Some(Verdict::Good) => {
                hand.sync_file(&self.file, &self.path)?;
                Ok(Put::Good(taken))
            }
            Some(Verdict::Bad { from, origin }) => {
                let sealer = self.sealer.as_ref();
                let from_file = sealer.map_or(from, |sealer| sealer.place(from));
                hand.cut(&self.file, &self.path, from_file)?;
                let bad = Put::Bad {
                    taken,
                    from,
                    origin,
                };
                Ok(bad)
            }
        }
    }
}

/// Hashes again what is known only as far as it was sealed; none if it does not open.
fn reread_sealed<G: Ground>(
    hand: &mut Hand<G>,
    (file, path): (&File, &Path),
    mut reader: Reader,
    mut assembly: Assembly,
    reread: Reread,
) -> io::Result<Option<Assembly>> {
    let frame_bytes = reader.header().frame_bytes();
    while assembly.at() < reread.to {
        let at = assembly.at();
        let frame = match reader.frame(at / frame_bytes) {
            Ok(frame) => frame,
            Err(error) if error.is_of_the_disk() => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        match assembly.take(frame).1 {
            Some(Verdict::Good) => hand.sync_file(file, path)?,
            Some(Verdict::Bad { .. }) => break,
            None => {}
        }
    }
    Ok(Some(assembly))
}
