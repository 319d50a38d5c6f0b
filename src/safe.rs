//! The safe: files that lie encrypted on the disk, and are plain in memory only.
//!
//! ```text
//!  device key ──HKDF(salt, digest)──► file key ─┐
//!                                               ▼
//!  plain bytes ──frame by frame──► seal ──► file: header, frames        (while they are fetched)
//!  a reader, or a sealed memfd ◄── open ◄───────┘                       (headers, digests, the engine)
//! ```
//!
//! Purpose: who takes the card out of a device, or copies its disk, finds no weights on it. The key
//! is given to the service at its start and lies nowhere in its state directory: a credential of
//! systemd, which a TPM can hold the lock of.
//!
//! # The file
//!
//! | Bytes | What |
//! | --- | --- |
//! | 8 | `LSSEALED` |
//! | 4 | version of this format |
//! | 4 | plain bytes of a frame; the last may have fewer |
//! | 8 | plain bytes of the whole |
//! | 32 | SHA-256 of the whole, plain |
//! | 32 | salt |
//! | 12 + n + 16, again and again | a frame: nonce, AES-256-GCM of n bytes, tag |
//!
//! Numbers are little-endian. The file key is HKDF-SHA256 of the device key with the salt, and the
//! digest as its information, so that each file has a key of its own. What a frame is sealed with
//! beside its bytes is the whole header, its number, and whether it is the last. So a file that
//! was cut off, put together in another order, mixed with another or named as another does not open.
//!
//! A nonce is random, and not the frame's number: a frame may be written twice, after a break or
//! after a source that gave wrong bytes, and two texts under one nonce would give both away to
//! whoever finds the old one on the flash. With as many frames as the largest file has, two equal
//! ones are out of reach.
//!
//! # Invariants
//!
//! - Plain bytes are never given out before their frame was found genuine.
//! - What held keys or plain frames is wiped: our own buffers by `zeroize`, the key that `ring` keeps
//!   by another in its place, and what it left on the stack by a call that runs over it.
//! - A memfd is sealed against every change before anybody else has it.
//!
//! How it fails: [`SafeError`]. It tells a damaged file or a wrong key from a disk that cannot be
//! read; which of the two first it is, nobody can tell.

mod format;
mod key;
mod memory;
mod reader;
#[cfg(test)]
mod tests;

pub use format::{Cipher, FRAME_BYTES, Frame, HEADER_BYTES, Header, plain_length, sealed_length};
pub use key::{DeviceKey, KEY_BYTES};
pub use memory::{in_memory, keep_out_of_dumps, no_core, swaps_to_disk};
pub use reader::Reader;

/// What the name of a sealed file ends in.
pub const ENDING: &str = ".sealed";

/// Why a sealed file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SafeError {
    /// The disk.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It begins with something else.
    #[error("it is not sealed: it begins with something else")]
    NotSealed,
    /// Written by another version.
    #[error("version {0} of the sealed form is not read here")]
    Version(u32),
    /// Sizes that no sealed file has.
    #[error("its header is damaged")]
    Header,
    /// It ends elsewhere than its header says.
    #[error("it has {found} bytes, where {wanted} belong")]
    Length {
        /// Bytes that it has.
        found: u64,
        /// Bytes that it should have.
        wanted: u64,
    },
    /// It is another file than the one that is wanted.
    #[error("another file was put in its place")]
    Other,
    /// It does not open.
    #[error("frame {0} does not open: it is damaged, or sealed with another device's key")]
    Broken(u64),
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
}

impl SafeError {
    /// Whether the disk is to blame, and not what lies on it.
    pub fn is_of_the_disk(&self) -> bool {
        matches!(self, Self::Io(_) | Self::NoRandom)
    }
}

impl From<SafeError> for std::io::Error {
    fn from(error: SafeError) -> Self {
        match error {
            SafeError::Io(error) => error,
            SafeError::NotSealed
            | SafeError::Version(_)
            | SafeError::Header
            | SafeError::Length { .. }
            | SafeError::Other
            | SafeError::Broken(_)
            | SafeError::NoRandom => Self::new(std::io::ErrorKind::InvalidData, error.to_string()),
        }
    }
}
