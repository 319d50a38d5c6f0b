//! The device key, and the keys that are made of it.

use std::fmt;
use std::sync::Arc;

use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of a device key.
pub const KEY_BYTES: usize = 32;
/// What stands before the digest in what a file key is made from: a key of another purpose or
/// version is another key.
const PURPOSE: &[u8] = b"lineside at rest 1";
/// Bytes of the stack that are run over after `ring` worked with a key. Its deepest frames have a
/// few hundred; this is what they can reach with room.
const SCRUBBED_BYTES: usize = 16 << 10;

/// The key of this device. Its bytes are shared by all copies of this, and wiped with the last.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceKey(Arc<Zeroizing<[u8; KEY_BYTES]>>);

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(…)")
    }
}

impl DeviceKey {
    /// The key in a file's content: its very bytes, or the same in hexadecimal on a line.
    pub fn read(content: &[u8]) -> Option<Self> {
        // Filled where it stays, so that no copy is left where it was moved from.
        let mut key = Arc::new(Zeroizing::new([0; KEY_BYTES]));
        let bytes = Arc::get_mut(&mut key)?;
        if content.len() == KEY_BYTES {
            bytes.copy_from_slice(content);
            return Some(Self(key));
        }
        let line = content.trim_ascii_end();
        if line.len() != 2 * KEY_BYTES {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(line.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(key))
    }

    /// The key of a file.
    pub(super) fn of_file(&self, salt: &[u8], digest: &[u8]) -> FileKey {
        let key = self.derived(salt, digest);
        scrub();
        key
    }

    #[inline(never)]
    fn derived(&self, salt: &[u8], digest: &[u8]) -> FileKey {
        let mut secret = Salt::new(HKDF_SHA256, salt).extract(&self.0[..]);
        let info = [PURPOSE, digest];
        let okm = secret.expand(&info, &AES_256_GCM);
        let okm = okm.expect("a key is shorter than what can be derived");
        let key = FileKey(Box::new(LessSafeKey::new(UnboundKey::from(okm))));
        secret = Salt::new(HKDF_SHA256, &[]).extract(&[]);
        std::hint::black_box(&secret);
        key
    }
}

/// The value of a hexadecimal digit.
fn nibble(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|it| u8::try_from(it).ok())
}

/// The key of a file. `ring` does not wipe its keys, so another takes this one's place.
pub(super) struct FileKey(Box<LessSafeKey>);

impl FileKey {
    pub(super) fn get(&self) -> &LessSafeKey {
        &self.0
    }
}

impl Drop for FileKey {
    fn drop(&mut self) {
        if let Ok(blank) = UnboundKey::new(&AES_256_GCM, &[0; KEY_BYTES]) {
            *self.0 = LessSafeKey::new(blank);
            std::hint::black_box(&self.0);
        }
        scrub();
    }
}

/// Runs over the part of the stack that calls from here have used.
#[inline(never)]
fn scrub() {
    let mut over = [0xA5_u8; SCRUBBED_BYTES];
    over.zeroize();
    std::hint::black_box(&over);
}
