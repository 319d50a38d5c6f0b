//! The files of the stockroom.
//!
//! ```text
//!  KEY.state:  "LSPREFIX" │ u8 version │ key, 32 bytes │ u64 bytes of the state (little endian)
//!              │ SHA-256 of the state │ the state
//!  KEY.part:   one that is being written
//! ```
//!
//! Invariant: only files directly in the folder are touched, and no link is followed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use ring::digest::{Context, SHA256};
use rustix::fs::{OFlags, statvfs};

use crate::engine::memo::Key;
use crate::engine::protocol::{MAX_PIECE_BYTES, MAX_STATE_BYTES, Piece};

/// The version of the format.
pub(super) const VERSION: u8 = 1;
const MAGIC: &[u8; 8] = b"LSPREFIX";
const KEY_BYTES: usize = 32;
const DIGEST_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + 1 + KEY_BYTES + size_of::<u64>() + DIGEST_BYTES;
/// What a whole file's name ends in, and that of one that is being written.
const STATE: &str = "state";
const PART: &str = "part";
/// Nobody but the service looks in here.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The folder, and what is being written there.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Bytes of all files.
    limit_bytes: u64,
    /// Bytes of the disk that are left free.
    free_bytes: u64,
    part: Option<Part>,
}

/// A state of which pieces have come.
struct Part {
    key: Key,
    file: File,
    digest: Context,
    bytes: u64,
    total: u64,
}

/// Why a state is not kept, or a file is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] io::Error),
    /// There is no room for it.
    #[error("{needed} bytes do not fit: {held} of {limit} are taken")]
    Full { needed: u64, held: u64, limit: u64 },
    /// The disk is nearly full.
    #[error("the disk has {free} bytes left, and {wanted} are to stay free")]
    Scarce { free: u64, wanted: u64 },
    /// The pieces do not make up a state.
    #[error("a piece that does not fit the ones before")]
    Disorder,
    /// No file of this kind, or of a version that is not read here.
    #[error("no state, or one of another version")]
    Foreign,
    /// A state of something else.
    #[error("the state of something else")]
    Misplaced,
    /// It is shorter or longer than it says.
    #[error("its length is wrong")]
    Torn,
    /// Its content is not what was written.
    #[error("its digest is wrong")]
    Damaged,
}

impl Folder {
    /// Opens it, makes it if need be, and clears away what was not finished.
    pub(super) fn open(path: PathBuf, limit_bytes: u64, free_bytes: u64) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(&path)?;
        let folder = Self {
            path,
            limit_bytes,
            free_bytes,
            part: None,
        };
        for (path, _) in folder.files() {
            if path.extension().is_some_and(|it| it == PART) {
                fs::remove_file(path)?;
            }
        }
        Ok(folder)
    }

    /// Gives the pieces of a state to `give`, until that wants no more. False if there is no such
    /// state. The last piece is given only if all were right.
    pub(super) fn read(
        &self,
        key: Key,
        instruction: u16,
        give: &mut dyn FnMut(Piece) -> bool,
    ) -> Result<bool, Fault> {
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(self.file(key, STATE));
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let length = file.metadata()?.len();
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header).map_err(|_| Fault::Torn)?;
        let (total, wanted) = opened_header(&header, key)?;
        if total == 0 || total > MAX_STATE_BYTES || length != HEADER_BYTES as u64 + total {
            return Err(Fault::Torn);
        }
        let mut digest = Context::new(&SHA256);
        let mut offset = 0;
        while offset < total {
            let rest = usize::try_from(total - offset).unwrap_or(usize::MAX);
            let mut bytes = vec![0; rest.min(MAX_PIECE_BYTES)];
            file.read_exact(&mut bytes).map_err(|_| Fault::Torn)?;
            digest.update(&bytes);
            let next = offset + bytes.len() as u64;
            if next == total && digest.clone().finish().as_ref() != wanted {
                return Err(Fault::Damaged);
            }
            let piece = Piece {
                instruction,
                offset,
                total,
                bytes,
            };
            if !give(piece) {
                break; // the process is gone; the file is as good as it was
            }
            offset = next;
        }
        Ok(true)
    }

    /// Takes a piece of a state; the last one makes it a file. A first piece ends what was not
    /// finished before it.
    pub(super) fn put(&mut self, key: Key, piece: &Piece) -> Result<(), Fault> {
        let part = match self.part.take() {
            Some(part) if piece.offset > 0 => part,
            Some(_) | None => self.begin(key, piece.total)?,
        };
        let result = self.add(part, key, piece);
        if result.is_err() {
            let _ = fs::remove_file(self.file(key, PART)); // there may be none
        }
        result
    }

    fn begin(&mut self, key: Key, total: u64) -> Result<Part, Fault> {
        if total == 0 || total > MAX_STATE_BYTES {
            return Err(Fault::Disorder);
        }
        let held: u64 = self.files().map(|(_, bytes)| bytes).sum();
        let needed = HEADER_BYTES as u64 + total;
        if held.saturating_add(needed) > self.limit_bytes {
            let limit = self.limit_bytes;
            return Err(Fault::Full {
                needed,
                held,
                limit,
            });
        }
        let disk = statvfs(&self.path).map_err(io::Error::from)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let wanted = self.free_bytes;
        if free < wanted.saturating_add(needed) {
            return Err(Fault::Scarce { free, wanted });
        }
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .custom_flags(flags)
            .open(self.file(key, PART))?;
        file.write_all(&[0; HEADER_BYTES])?; // its place; the digest comes last
        Ok(Part {
            key,
            file,
            digest: Context::new(&SHA256),
            bytes: 0,
            total,
        })
    }

    fn add(&mut self, mut part: Part, key: Key, piece: &Piece) -> Result<(), Fault> {
        let bytes = part.bytes + piece.bytes.len() as u64;
        let fits = part.key == key && part.bytes == piece.offset && part.total == piece.total;
        if !fits || piece.bytes.is_empty() || bytes > part.total {
            return Err(Fault::Disorder);
        }
        part.file.write_all(&piece.bytes)?;
        part.digest.update(&piece.bytes);
        part.bytes = bytes;
        if bytes < part.total {
            self.part = Some(part);
            return Ok(());
        }
        let digest = part.digest.finish();
        part.file.seek(SeekFrom::Start(0))?;
        part.file
            .write_all(&header(key, part.total, digest.as_ref()))?;
        part.file.sync_all()?;
        fs::rename(self.file(key, PART), self.file(key, STATE))?;
        Ok(File::open(&self.path)?.sync_all()?)
    }

    /// Lets go of all files but those of these keys.
    pub(super) fn keep(&self, keys: &[Key]) {
        let wanted: Vec<_> = keys.iter().map(|key| self.file(*key, STATE)).collect();
        let part = self.part.as_ref().map(|part| self.file(part.key, PART));
        let stays = |path: &PathBuf| wanted.contains(path) || part.as_ref() == Some(path);
        let others = self.files().filter(|(path, _)| !stays(path));
        let removed = others.filter(|(path, _)| fs::remove_file(path).is_ok());
        let count = removed.count();
        if count > 0 {
            tracing::info!(count, "kept beginnings that no model needs were removed");
        }
    }

    /// A file that cannot be used goes, and it is said why.
    pub(super) fn remove(&self, key: Key, why: &Fault) {
        let path = self.file(key, STATE);
        let _ = fs::remove_file(&path); // a disk that cannot do that says so elsewhere
        tracing::warn!(path = %path.display(), error = %why, "a kept beginning is not used");
    }

    fn file(&self, key: Key, kind: &str) -> PathBuf {
        let digits = key.bytes().iter().map(|byte| format!("{byte:02x}"));
        let name: String = digits.collect();
        self.path.join(format!("{name}.{kind}"))
    }

    /// Plain files and links of the folder, with their sizes.
    fn files(&self) -> impl Iterator<Item = (PathBuf, u64)> + use<> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.filter_map(|entry| {
            let about = entry.metadata().ok()?;
            (!about.is_dir()).then(|| (entry.path(), about.len()))
        })
    }

    /// Where it is.
    #[cfg(test)]
    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }
}

fn header(key: Key, total: u64, digest: &[u8]) -> Vec<u8> {
    let total = total.to_le_bytes();
    [MAGIC, &[VERSION][..], key.bytes(), &total, digest].concat()
}

/// What a header says of the state: its bytes, and their digest.
fn opened_header(header: &[u8; HEADER_BYTES], key: Key) -> Result<(u64, &[u8]), Fault> {
    let (kind, rest) = header.split_at(MAGIC.len() + 1);
    if kind != [MAGIC, &[VERSION][..]].concat() {
        return Err(Fault::Foreign);
    }
    let (of, rest) = rest.split_at(KEY_BYTES);
    if of != key.bytes() {
        return Err(Fault::Misplaced);
    }
    let (total, digest) = rest.split_first_chunk().ok_or(Fault::Torn)?;
    Ok((u64::from_le_bytes(*total), digest))
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part")
            .field("bytes", &self.bytes)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}
