//! A secret under a passphrase: PBKDF2-HMAC-SHA256, then AES-256-GCM.
//!
//! What the secret belongs to is authenticated with it, so that a public half cannot be put before
//! another secret. How it fails: with nothing but "this passphrase does not open it"; whether the
//! passphrase or the file is wrong cannot be told apart, and must not be.

use std::num::NonZeroU32;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

use super::secret::Secret;
use crate::ota::tuf::{hex, unhex};

/// Rounds of PBKDF2 for new files: what OWASP has asked for with SHA-256 since 2023; a third of a
/// second for who knows the passphrase, as much for each guess of who does not.
pub(super) const ITERATIONS: u32 = 600_000;
/// A file that wants fewer has been weakened.
const MIN_ITERATIONS: u32 = 100_000;
/// A file that wants more would hold the tool for minutes.
const MAX_ITERATIONS: u32 = 20_000_000;
/// Bytes of salt, so that no two files share a guess.
const SALT_BYTES: usize = 16;
/// Bytes of the key that the passphrase becomes.
const KEY_BYTES: usize = 32;
const KDF: &str = "pbkdf2-hmac-sha256";
const CIPHER: &str = "aes-256-gcm";

/// A sealed secret, as its file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sealed {
    kdf: String,
    iterations: u32,
    salt: String,
    cipher: String,
    nonce: String,
    /// The secret with its tag.
    #[serde(rename = "sealed")]
    content: String,
}

/// Why nothing was sealed: the system gives no random bytes.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub(super) struct NoRandom;

/// Seals a secret of something under a passphrase.
pub(super) fn seal(secret: &Secret, of: &[u8], passphrase: &Secret) -> Result<Sealed, NoRandom> {
    let mut salt = [0; SALT_BYTES];
    let mut nonce = [0; NONCE_LEN];
    let random = SystemRandom::new();
    random.fill(&mut salt).map_err(|_| NoRandom)?;
    random.fill(&mut nonce).map_err(|_| NoRandom)?;
    let key = key(passphrase, &salt, ITERATIONS).ok_or(NoRandom)?;
    let mut text = secret.bytes().to_vec();
    let sealing = key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(of),
        &mut text,
    );
    sealing.map_err(|_| NoRandom)?;
    Ok(Sealed {
        kdf: KDF.to_owned(),
        iterations: ITERATIONS,
        salt: hex(&salt),
        cipher: CIPHER.to_owned(),
        nonce: hex(&nonce),
        content: hex(&text),
    })
}

impl Sealed {
    /// What cannot be right, whatever the passphrase.
    pub(super) fn fault(&self) -> Option<String> {
        if self.kdf != KDF || self.cipher != CIPHER {
            return Some(format!("sealed with {} and {}", self.kdf, self.cipher));
        }
        if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&self.iterations) {
            return Some(format!(
                "{} rounds: {MIN_ITERATIONS} to {MAX_ITERATIONS} are read",
                self.iterations
            ));
        }
        None
    }

    /// The secret, if it is this one's and the passphrase is right.
    pub(super) fn open(&self, of: &[u8], passphrase: &Secret) -> Option<Secret> {
        if self.fault().is_some() {
            return None;
        }
        let key = key(passphrase, &unhex(&self.salt)?, self.iterations)?;
        let nonce = Nonce::try_assume_unique_for_key(&unhex(&self.nonce)?).ok()?;
        let mut text = unhex(&self.content)?;
        let opened = key.open_in_place(nonce, Aad::from(of), &mut text);
        let secret = Secret::new(opened.ok()?.to_vec());
        text.fill(0);
        std::hint::black_box(&text);
        Some(secret)
    }
}

fn key(passphrase: &Secret, salt: &[u8], iterations: u32) -> Option<LessSafeKey> {
    let mut key = [0; KEY_BYTES];
    let iterations = NonZeroU32::new(iterations)?;
    pbkdf2::derive(
        PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        passphrase.bytes(),
        &mut key,
    );
    let unbound = UnboundKey::new(&AES_256_GCM, &key);
    key.fill(0);
    std::hint::black_box(&key);
    unbound.ok().map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn only_the_right_passphrase_opens_and_only_for_what_was_sealed() {
        let sealed = seal(&secret("half"), b"ann", &secret("correct horse")).unwrap();
        let opened = sealed.open(b"ann", &secret("correct horse")).unwrap();
        assert_eq!(opened.bytes(), b"half");
        assert!(sealed.open(b"ann", &secret("correct horsf")).is_none());
        assert!(sealed.open(b"ben", &secret("correct horse")).is_none());
        let again = seal(&secret("half"), b"ann", &secret("correct horse")).unwrap();
        assert_ne!(again.content, sealed.content);
        assert_ne!(again.salt, sealed.salt);
    }

    #[test]
    fn a_file_that_was_weakened_or_would_take_for_ever_is_not_opened() {
        let sealed = seal(&secret("half"), b"ann", &secret("correct horse")).unwrap();
        for iterations in [0, 1, MIN_ITERATIONS - 1, MAX_ITERATIONS + 1] {
            let other = Sealed {
                iterations,
                ..sealed.clone()
            };
            assert!(other.fault().is_some());
            assert!(other.open(b"ann", &secret("correct horse")).is_none());
        }
        let other = Sealed {
            kdf: "none".into(),
            ..sealed
        };
        assert!(other.fault().is_some());
    }

    #[test]
    fn what_is_secret_has_no_form_for_people() {
        assert_eq!(format!("{:?}", secret("correct horse")), "Secret");
    }
}
