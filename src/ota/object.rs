//! An object: bytes that are known by their digest, and how they are put together piece by piece.
//!
//! ```text
//!            begin, resume            take … take            chunk whole: Good ─► next chunk
//!  Object ───────────────► Assembly ──────────────► hash ───┤
//!                                                           └ Bad ─► back to the chunk's beginning
//! ```
//!
//! # Why the hashes of the chunks suffice
//!
//! The signed manifest states of an object its SHA-256, its length and the SHA-256 of each chunk.
//! A file of that length in which every chunk has its digest is, unless SHA-256 collides, the very
//! file that the signer cut into chunks. So the digest over the whole adds nothing to what the
//! signature says of the bytes, and need not be computed: a download that breaks off goes on
//! without reading again what it verified.
//!
//! The chunks do not vouch for the digest of the whole, however. A signer who errs or lies could
//! give honest chunks of one file the digest of another, and the store, which knows objects by
//! that digest, would hand them to another signer's package. Therefore what is put together is
//! known by its [`Object::root`], which binds digest, length and chunks, until it lies in the
//! store; and the store reuses an object for a manifest only if both agree on the root. An object
//! of one chunk needs none of that: its chunk is the whole.
//!
//! Invariant: no more than one chunk is ever in doubt.

use ring::digest::{Context, SHA256};

use crate::package::Digest;

/// Bytes of a chunk as packages are made. Large enough that a manifest stays small (a model of
/// 100 GB has six thousand), small enough that a bad one is soon fetched anew.
pub const CHUNK_BYTES: u64 = 16 << 20;
/// The least that a manifest may choose: below, there are more digests than sense.
pub const MIN_CHUNK_BYTES: u64 = 64 << 10;
/// The most: it is what a break may cost.
pub const MAX_CHUNK_BYTES: u64 = CHUNK_BYTES;
/// Bytes of an object: as of a file in a package.
pub const MAX_OBJECT_BYTES: u64 = crate::package::MAX_FILE_BYTES;

/// Bytes that are known by their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    sha256: Digest,
    bytes: u64,
    chunk_bytes: u64,
    /// None for an object of one chunk: its digest is that of the whole.
    chunks: Vec<Digest>,
}

/// Why something is no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Nothing, or more than is believed.
    #[error("{0} bytes: an object has 1 to {MAX_OBJECT_BYTES}")]
    Bytes(u64),
    /// Chunks of a strange size.
    #[error(
        "chunks of {0} bytes: they have a power of two from {MIN_CHUNK_BYTES} to {MAX_CHUNK_BYTES}"
    )]
    ChunkBytes(u64),
    /// Not one digest for each chunk.
    #[error("{found} digests of chunks, where {wanted} belong")]
    Chunks {
        /// Digests that there are.
        found: usize,
        /// Digests that there must be: none for an object of one chunk.
        wanted: u64,
    },
}

impl Object {
    /// The object, if its parts fit together.
    pub fn new(
        sha256: Digest,
        bytes: u64,
        chunk_bytes: u64,
        chunks: Vec<Digest>,
    ) -> Result<Self, ObjectError> {
        if !(1..=MAX_OBJECT_BYTES).contains(&bytes) {
            return Err(ObjectError::Bytes(bytes));
        }
        if !is_chunk_size(chunk_bytes) {
            return Err(ObjectError::ChunkBytes(chunk_bytes));
        }
        let wanted = match bytes.div_ceil(chunk_bytes) {
            1 => 0,
            more => more,
        };
        if chunks.len() as u64 != wanted {
            let found = chunks.len();
            return Err(ObjectError::Chunks { found, wanted });
        }
        // Of one chunk, the length of others says nothing: the same bytes are the same object.
        let chunk_bytes = match wanted {
            0 => MAX_CHUNK_BYTES,
            _ => chunk_bytes,
        };
        Ok(Self {
            sha256,
            bytes,
            chunk_bytes,
            chunks,
        })
    }

    /// A small object, known by its digest alone.
    pub fn single(sha256: Digest, bytes: u64) -> Result<Self, ObjectError> {
        Self::new(sha256, bytes, MAX_CHUNK_BYTES, Vec::new())
    }

    /// Its digest.
    pub fn sha256(&self) -> Digest {
        self.sha256
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The length of its chunks; the last may be shorter.
    pub fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    /// The digests of its chunks, if it has more than one.
    pub fn chunks(&self) -> &[Digest] {
        &self.chunks
    }

    /// Everything that is known of it, in one digest.
    pub fn root(&self) -> Digest {
        let mut context = Context::new(&SHA256);
        context.update(&self.sha256.0);
        context.update(&self.bytes.to_le_bytes());
        context.update(&self.chunk_bytes.to_le_bytes());
        for chunk in &self.chunks {
            context.update(&chunk.0);
        }
        Digest::finished(&context.finish())
    }

    /// The digest of the chunk that begins at `from`.
    fn chunk(&self, from: u64) -> Digest {
        let index = usize::try_from(from / self.chunk_bytes).unwrap_or(usize::MAX);
        *self.chunks.get(index).unwrap_or(&self.sha256)
    }

    /// Where the chunk ends that begins at `from`.
    fn end(&self, from: u64) -> u64 {
        self.bytes.min(from + self.chunk_bytes)
    }
}

/// Whether chunks may have this length.
pub fn is_chunk_size(bytes: u64) -> bool {
    (MIN_CHUNK_BYTES..=MAX_CHUNK_BYTES).contains(&bytes) && bytes.is_power_of_two()
}

/// Cuts bytes into an object, as whoever makes a package does.
#[derive(Clone)]
pub struct Cutter {
    whole: Context,
    chunk: Context,
    bytes: u64,
    chunk_bytes: u64,
    chunks: Vec<Digest>,
}

impl Cutter {
    /// Cuts into chunks of this length.
    pub fn new(chunk_bytes: u64) -> Self {
        Self {
            whole: Context::new(&SHA256),
            chunk: Context::new(&SHA256),
            bytes: 0,
            chunk_bytes: chunk_bytes.max(1),
            chunks: Vec::new(),
        }
    }

    /// The next bytes.
    pub fn take(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        while !bytes.is_empty() {
            let room = self.chunk_bytes - self.bytes % self.chunk_bytes;
            let count = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
            self.chunk.update(&bytes[..count]);
            self.bytes += count as u64;
            bytes = &bytes[count..];
            if self.bytes.is_multiple_of(self.chunk_bytes) {
                self.end_chunk();
            }
        }
    }

    fn end_chunk(&mut self) {
        let chunk = std::mem::replace(&mut self.chunk, Context::new(&SHA256));
        self.chunks.push(Digest::finished(&chunk.finish()));
    }

    /// The object that they make up.
    pub fn finish(mut self) -> Result<Object, ObjectError> {
        if !self.bytes.is_multiple_of(self.chunk_bytes) {
            self.end_chunk();
        }
        let sha256 = Digest::finished(&self.whole.finish());
        if self.chunks.len() == 1 {
            self.chunks.clear();
        }
        Object::new(sha256, self.bytes, self.chunk_bytes, self.chunks)
    }
}

/// Where the bytes of a chunk come from, which decides who is to blame for a bad one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// All from the source that is read now.
    One,
    /// In part from another source, or from before a restart.
    Several,
}

/// How a chunk turned out that became whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what the manifest says.
    Good,
    /// It is not: the bytes from here on are worth nothing.
    Bad {
        /// Where it begins.
        from: u64,
        /// Whose it was.
        origin: Origin,
    },
}

/// An object that is being put together.
#[derive(Clone)]
pub struct Assembly {
    object: Object,
    /// Where the chunk begins that is being put together; all before is verified.
    from: u64,
    at: u64,
    hash: Context,
    origin: Origin,
}

/// What must be read again of a file that was begun earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reread {
    /// From here,
    pub from: u64,
    /// to before here, which is where the file is to end.
    pub to: u64,
}

impl Assembly {
    /// Nothing is there yet.
    pub fn begin(object: Object) -> Self {
        Self {
            object,
            from: 0,
            at: 0,
            hash: Context::new(&SHA256),
            origin: Origin::One,
        }
    }

    /// A file of so many bytes is there, each chunk of which was verified and forced out before
    /// the first byte of the next was written. So a file that ends within a chunk leaves only
    /// that part to be read again, for its hash; one that ends with a chunk leaves that chunk,
    /// for it may never have been verified. What is behind the object's end goes.
    pub fn resume(object: Object, file_bytes: u64) -> (Self, Reread) {
        let to = file_bytes.min(object.bytes);
        let from = to.saturating_sub(1) / object.chunk_bytes * object.chunk_bytes;
        let assembly = Self {
            from,
            at: from,
            origin: if to == 0 {
                Origin::One
            } else {
                Origin::Several
            },
            ..Self::begin(object)
        };
        (assembly, Reread { from, to })
    }

    /// What is put together.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// Bytes that were taken.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Bytes that are known to be right.
    pub fn verified(&self) -> u64 {
        self.from
    }

    /// Whether all of it is there and right.
    pub fn is_whole(&self) -> bool {
        self.from == self.object.bytes
    }

    /// Bytes that the chunk lacks.
    pub fn lacks(&self) -> u64 {
        self.object.end(self.from) - self.at
    }

    /// From now on another source is read.
    pub fn turn(&mut self) {
        if self.at > self.from {
            self.origin = Origin::Several;
        }
    }

    /// Takes the next bytes, as many as fit into the chunk; returns how many, and the verdict if
    /// the chunk is whole with them. After a bad one the same chunk begins anew.
    pub fn take(&mut self, bytes: &[u8]) -> (usize, Option<Verdict>) {
        let room = usize::try_from(self.lacks()).unwrap_or(usize::MAX);
        let count = room.min(bytes.len());
        self.hash.update(&bytes[..count]);
        self.at += count as u64;
        if self.lacks() > 0 || self.is_whole() {
            return (count, None);
        }
        let hash = std::mem::replace(&mut self.hash, Context::new(&SHA256));
        let good = Digest::finished(&hash.finish()) == self.object.chunk(self.from);
        let origin = std::mem::replace(&mut self.origin, Origin::One);
        let verdict = if good {
            self.from = self.at;
            Verdict::Good
        } else {
            self.at = self.from;
            let from = self.from;
            Verdict::Bad { from, origin }
        };
        (count, Some(verdict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: u64 = MIN_CHUNK_BYTES;

    fn cut(bytes: &[u8]) -> Object {
        let mut cutter = Cutter::new(C);
        bytes.chunks(7777).for_each(|piece| cutter.take(piece));
        cutter.finish().unwrap()
    }

    /// Bytes of which no two chunks are alike.
    fn bytes(count: u64) -> Vec<u8> {
        (0..count)
            .map(|at| (at / 7 + at / C).to_le_bytes()[0])
            .collect()
    }

    #[test]
    fn an_object_has_a_digest_for_each_chunk_but_not_for_one() {
        let one = cut(&bytes(C));
        assert_eq!((one.chunks().len(), one.bytes()), (0, C));
        let two = cut(&bytes(C + 1));
        assert_eq!(two.chunks().len(), 2);
        assert_eq!(two.chunks()[0], one.sha256());
        assert_eq!(two.sha256(), Digest::of(&bytes(C + 1)));
        let wrong = Object::new(one.sha256(), C, C, vec![one.sha256()]);
        let (found, wanted) = (1, 0);
        assert_eq!(wrong, Err(ObjectError::Chunks { found, wanted }));
        assert_eq!(cut_error(&[]), ObjectError::Bytes(0));
        let (found, wanted) = (0, 2);
        let wrong = Object::new(one.sha256(), C + 1, C, vec![]);
        assert_eq!(wrong, Err(ObjectError::Chunks { found, wanted }));
        let huge = Object::new(one.sha256(), u64::MAX, C, vec![]);
        assert_eq!(huge, Err(ObjectError::Bytes(u64::MAX)));
        for size in [0, 3, C / 2, C + 1, 2 * MAX_CHUNK_BYTES] {
            let wrong = Object::new(one.sha256(), 1, size, vec![]);
            assert_eq!(wrong, Err(ObjectError::ChunkBytes(size)));
        }
    }

    fn cut_error(bytes: &[u8]) -> ObjectError {
        let mut cutter = Cutter::new(C);
        cutter.take(bytes);
        cutter.finish().unwrap_err()
    }

    #[test]
    fn the_root_binds_digest_length_and_chunks() {
        let two = cut(&bytes(C + 5));
        let mut chunks = two.chunks().to_vec();
        chunks.swap(0, 1);
        let other = Object::new(two.sha256(), two.bytes(), C, chunks).unwrap();
        assert_ne!(other.root(), two.root());
        let other = Object::new(Digest([0; 32]), two.bytes(), C, two.chunks().to_vec()).unwrap();
        assert_ne!(other.root(), two.root());
        let other = Object::new(two.sha256(), C + 6, C, two.chunks().to_vec()).unwrap();
        assert_ne!(other.root(), two.root());
    }

    #[test]
    fn a_bad_chunk_is_told_and_begins_anew() {
        let all = bytes(2 * C + 9);
        let mut assembly = Assembly::begin(cut(&all));
        let first = usize::try_from(C).unwrap();
        assert_eq!(assembly.take(&all), (first, Some(Verdict::Good)));
        let mut bad = all[first..2 * first].to_vec();
        bad[4711] ^= 1;
        let verdict = Verdict::Bad {
            from: C,
            origin: Origin::One,
        };
        assert_eq!(assembly.take(&bad), (first, Some(verdict)));
        assert_eq!((assembly.at(), assembly.verified()), (C, C));
        assert_eq!(assembly.take(&all[first..]).1, Some(Verdict::Good));
        assert_eq!(assembly.take(&all[2 * first..]), (9, Some(Verdict::Good)));
        assert!(assembly.is_whole());
        assert_eq!(assembly.take(b"more"), (0, None));
    }

    #[test]
    fn a_chunk_from_two_hands_is_nobodys_fault() {
        let all = bytes(C);
        let mut assembly = Assembly::begin(cut(&all));
        assembly.turn();
        assembly.take(&all[..10]);
        assembly.turn();
        let mut rest = all[10..].to_vec();
        rest[0] ^= 1;
        let origin = Origin::Several;
        let verdict = Verdict::Bad { from: 0, origin };
        assert_eq!(assembly.take(&rest).1, Some(verdict));
        rest = all.clone();
        rest[0] ^= 1;
        let origin = Origin::One;
        let verdict = Verdict::Bad { from: 0, origin };
        assert_eq!(assembly.take(&rest).1, Some(verdict));
    }

    #[test]
    fn after_a_break_no_more_than_a_chunk_is_read_again() {
        let object = cut(&bytes(2 * C + 9));
        for (there, from, to) in [
            (0, 0, 0),
            (1, 0, 1),
            (C - 1, 0, C - 1),
            (C, 0, C),
            (C + 1, C, C + 1),
            (2 * C, C, 2 * C),
            (2 * C + 9, 2 * C, 2 * C + 9),
            (2 * C + 99, 2 * C, 2 * C + 9),
        ] {
            let (assembly, reread) = Assembly::resume(object.clone(), there);
            assert_eq!(reread, Reread { from, to }, "{there}");
            assert!(to - from <= C);
            assert_eq!(assembly.at(), from);
        }
    }
}
