//! The header, and frames one by one.

use std::fmt;

use ring::aead::{Aad, NONCE_LEN, Nonce};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::SafeError;
use super::key::{DeviceKey, FileKey};

/// What a sealed file begins with.
const MAGIC: [u8; 8] = *b"LSSEALED";
/// The version of the format.
const VERSION: u32 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 88;
/// Plain bytes of a frame as files are sealed here: as many as the smallest chunk of an object has,
/// so that every chunk ends with a frame.
pub const FRAME_BYTES: u32 = 64 << 10;
/// The least that is believed of a frame: tests have such ones.
const MIN_FRAME_BYTES: u32 = 16;
/// The most: what a reader holds in memory.
const MAX_FRAME_BYTES: u32 = 1 << 20;
const SALT_BYTES: usize = 32;
const DIGEST_BYTES: usize = 32;
/// Bytes of a tag.
const TAG_BYTES: usize = 16;
/// Bytes that a frame has beside its plain ones.
pub(super) const FRAME_EXTRA: usize = NONCE_LEN + TAG_BYTES;
/// Bytes that a frame is bound to: the header, its number, whether it is the last.
const BOUND_BYTES: usize = HEADER_BYTES + 9;

/// What a sealed file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    frame_bytes: u32,
    bytes: u64,
    sha256: [u8; DIGEST_BYTES],
    salt: [u8; SALT_BYTES],
}

impl Header {
    /// For a file of so many plain bytes with this digest.
    pub fn new(bytes: u64, sha256: [u8; DIGEST_BYTES]) -> Result<Self, SafeError> {
        Self::with_frames(bytes, sha256, FRAME_BYTES)
    }

    pub(super) fn with_frames(
        bytes: u64,
        sha256: [u8; DIGEST_BYTES],
        frame_bytes: u32,
    ) -> Result<Self, SafeError> {
        let mut salt = [0; SALT_BYTES];
        random(&mut salt)?;
        Ok(Self {
            frame_bytes,
            bytes,
            sha256,
            salt,
        })
    }

    /// What only lengths are told from.
    fn of_lengths(bytes: u64) -> Self {
        Self {
            frame_bytes: FRAME_BYTES,
            bytes,
            sha256: [0; DIGEST_BYTES],
            salt: [0; SALT_BYTES],
        }
    }

    /// As it stands in the file.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let parts: [&[u8]; 6] = [
            &MAGIC,
            &VERSION.to_le_bytes(),
            &self.frame_bytes.to_le_bytes(),
            &self.bytes.to_le_bytes(),
            &self.sha256,
            &self.salt,
        ];
        let mut at = 0;
        for part in parts {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        out
    }

    /// Reads one.
    pub fn parse(text: &[u8; HEADER_BYTES]) -> Result<Self, SafeError> {
        let number = |at: usize| {
            let bytes = std::array::from_fn(|index| text[at + index]);
            u32::from_le_bytes(bytes)
        };
        if text[..8] != MAGIC {
            return Err(SafeError::NotSealed);
        }
        if number(8) != VERSION {
            return Err(SafeError::Version(number(8)));
        }
        let header = Self {
            frame_bytes: number(12),
            bytes: u64::from_le_bytes(std::array::from_fn(|index| text[16 + index])),
            sha256: std::array::from_fn(|index| text[24 + index]),
            salt: std::array::from_fn(|index| text[56 + index]),
        };
        let sound = (MIN_FRAME_BYTES..=MAX_FRAME_BYTES).contains(&header.frame_bytes)
            && header.frame_bytes.is_power_of_two()
            && (1..=1 << 48).contains(&header.bytes);
        sound.then_some(header).ok_or(SafeError::Header)
    }

    /// Plain bytes of the whole.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of the whole, plain.
    pub fn sha256(&self) -> [u8; DIGEST_BYTES] {
        self.sha256
    }

    /// Plain bytes of a frame; the last may have fewer.
    pub fn frame_bytes(&self) -> u64 {
        self.frame_bytes.into()
    }

    /// Bytes of the whole file.
    pub fn sealed_bytes(&self) -> u64 {
        self.place(self.bytes)
    }

    /// Where in the file the frame begins that begins with this plain byte; or, behind the last
    /// plain byte, where the file ends.
    pub fn place(&self, plain: u64) -> u64 {
        let frames = plain.div_ceil(self.frame_bytes());
        HEADER_BYTES as u64 + plain + frames * FRAME_EXTRA as u64
    }

    /// Plain bytes of the whole frames in a file of so many bytes.
    pub fn plain_bytes(&self, file_bytes: u64) -> u64 {
        if file_bytes >= self.sealed_bytes() {
            return self.bytes;
        }
        let frame = self.frame_bytes() + FRAME_EXTRA as u64;
        file_bytes.saturating_sub(HEADER_BYTES as u64) / frame * self.frame_bytes()
    }

    /// Plain bytes of the frame with this number.
    pub(super) fn bytes_of_frame(&self, index: u64) -> u64 {
        let from = index.saturating_mul(self.frame_bytes());
        self.bytes.saturating_sub(from).min(self.frame_bytes())
    }

    fn is_last(&self, index: u64) -> bool {
        (index + 1).saturating_mul(self.frame_bytes()) >= self.bytes
    }

    fn bound(&self, index: u64) -> [u8; BOUND_BYTES] {
        let mut out = [0; BOUND_BYTES];
        out[..HEADER_BYTES].copy_from_slice(&self.to_bytes());
        out[HEADER_BYTES..BOUND_BYTES - 1].copy_from_slice(&index.to_le_bytes());
        out[BOUND_BYTES - 1] = u8::from(self.is_last(index));
        out
    }
}

/// Bytes that a file of so many plain ones has when it is sealed here.
pub fn sealed_length(bytes: u64) -> u64 {
    Header::of_lengths(bytes).sealed_bytes()
}

/// Plain bytes of the whole frames that are there, of a file that will have so many.
pub fn plain_length(file_bytes: u64, bytes: u64) -> u64 {
    Header::of_lengths(bytes).plain_bytes(file_bytes)
}

/// Seals and opens the frames of one file.
pub struct Cipher {
    header: Header,
    key: FileKey,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cipher({:?})", self.header)
    }
}

impl Cipher {
    /// For the file of this header.
    pub fn new(key: &DeviceKey, header: Header) -> Self {
        let key = key.of_file(&header.salt, &header.sha256);
        Self { header, key }
    }

    /// Of which file.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Seals a frame where it lies, and has it written. What was plain is plain again if that
    /// fails; else the frame is empty.
    pub fn seal<E: From<SafeError>>(
        &self,
        index: u64,
        frame: &mut Frame,
        write: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        let plain_bytes = frame.plain_bytes();
        let (head, plain) = frame.0.split_at_mut(FRAME_HEAD);
        head.copy_from_slice(&nonce);
        let bound = Aad::from(self.header.bound(index));
        let nonce = Nonce::assume_unique_for_key(nonce);
        let key = self.key.get();
        let tag = key.seal_in_place_separate_tag(nonce, bound, plain);
        let tag = tag.expect("a frame is shorter than what one call seals");
        frame.0.extend_from_slice(tag.as_ref());
        if let Err(error) = write(&frame.0) {
            self.open(index, &mut frame.0)?;
            frame.cut(plain_bytes);
            return Err(error);
        }
        frame.cut(0);
        Ok(())
    }

    /// Opens a frame where it lies, and returns its plain bytes.
    pub fn open<'f>(&self, index: u64, frame: &'f mut [u8]) -> Result<&'f mut [u8], SafeError> {
        let broken = || SafeError::Broken(index);
        let (nonce, sealed) = frame.split_at_mut_checked(NONCE_LEN).ok_or_else(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let bound = Aad::from(self.header.bound(index));
        let opened = self.key.get().open_in_place(nonce, bound, sealed);
        opened.map_err(|_| broken())
    }
}

fn random(bytes: &mut [u8]) -> Result<(), SafeError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| SafeError::NoRandom)
}

/// Bytes before the plain ones in a frame.
pub(super) const FRAME_HEAD: usize = NONCE_LEN;

/// A frame that is being filled. It is wiped when it goes.
#[derive(Debug)]
pub struct Frame(Zeroizing<Vec<u8>>);

impl Frame {
    /// An empty one for this file. It never grows beyond the room that it has, so nothing plain is
    /// left where it was moved from.
    pub fn of(header: &Header) -> Self {
        let plain = usize::try_from(header.frame_bytes).unwrap_or_default();
        let mut frame = Vec::with_capacity(plain + FRAME_EXTRA);
        frame.resize(FRAME_HEAD, 0);
        Self(Zeroizing::new(frame))
    }

    /// Plain bytes in it.
    pub fn plain_bytes(&self) -> u64 {
        (self.0.len() - FRAME_HEAD) as u64
    }

    /// Puts plain bytes behind those that are there.
    pub fn fill(&mut self, plain: &[u8]) {
        debug_assert!(self.0.len() + plain.len() + TAG_BYTES <= self.0.capacity());
        self.0.extend_from_slice(plain);
    }

    /// So many plain bytes stay.
    pub fn cut(&mut self, plain: u64) {
        let plain = usize::try_from(plain).unwrap_or(usize::MAX);
        self.0.truncate(plain.saturating_add(FRAME_HEAD));
    }
}
