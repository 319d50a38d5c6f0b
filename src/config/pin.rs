//! The PIN of the serial console, as it is kept: a salted digest that takes long to compute.
//!
//! ```text
//! pbkdf2-sha256:ITERATIONS:SALT:DIGEST        (one line; salt and digest in hexadecimal)
//! ```
//!
//! Purpose: who reads the credential file has no PIN yet. A PIN is short, so the file needs the
//! same care as a password; the iterations only make guessing dear.
//!
//! Invariant: no PIN and no digest is ever shown, not by `Debug` and not in a fault.

use std::fmt::{self, Write as _};
use std::num::NonZeroU32;

use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};

/// The word that names the digest.
const SCHEME: &str = "pbkdf2-sha256";
/// Iterations of a PIN that is made here: OWASP's figure of 2023; about a second on a small board.
pub const ITERATIONS: u32 = 600_000;
/// Below this a file is no protection, above it a login takes minutes on a small board.
const MIN_ITERATIONS: u32 = 1_000;
const MAX_ITERATIONS: u32 = 20_000_000;
/// Bytes of a salt, as NIST SP 800-132 wants them at least.
const SALT_BYTES: usize = 16;
const MAX_SALT_BYTES: usize = 64;
const DIGEST_BYTES: usize = 32;
/// Characters of a PIN: fewer are guessed in a night in spite of every delay, more nobody types.
pub const MIN_PIN: usize = 4;
/// The most of them.
pub const MAX_PIN: usize = 64;

/// What is kept of a PIN.
#[derive(Clone, PartialEq, Eq)]
pub struct Pin {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    digest: [u8; DIGEST_BYTES],
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(…)")
    }
}

/// Why a PIN cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Too short, too long, or not typeable.
    #[error(
        "a PIN has {MIN_PIN} to {MAX_PIN} characters that can be typed, and no blank at an end"
    )]
    Unfit,
    /// The system gave no random numbers for the salt.
    #[error("the system gives no random numbers")]
    NoRandom,
}

impl Pin {
    /// Keeps a PIN.
    pub fn make(pin: &str, iterations: NonZeroU32) -> Result<Self, PinError> {
        let typeable = pin.trim() == pin && pin.chars().all(|c| !c.is_control());
        if !typeable || !(MIN_PIN..=MAX_PIN).contains(&pin.chars().count()) {
            return Err(PinError::Unfit);
        }
        let mut salt = vec![0; SALT_BYTES];
        let filled = SystemRandom::new().fill(&mut salt);
        filled.map_err(|_| PinError::NoRandom)?;
        let mut digest = [0; DIGEST_BYTES];
        pbkdf2::derive(
            PBKDF2_HMAC_SHA256,
            iterations,
            &salt,
            pin.as_bytes(),
            &mut digest,
        );
        Ok(Self {
            iterations,
            salt,
            digest,
        })
    }

    /// Reads the file's line; the fault says what would be right and quotes nothing.
    pub fn read(line: &str) -> Result<Self, String> {
        let read = || {
            let mut parts = line.trim().split(':');
            (parts.next()? == SCHEME).then_some(())?;
            let iterations: u32 = parts.next()?.parse().ok()?;
            (MIN_ITERATIONS..=MAX_ITERATIONS)
                .contains(&iterations)
                .then_some(())?;
            let salt = unhex(parts.next()?)?;
            (SALT_BYTES..=MAX_SALT_BYTES)
                .contains(&salt.len())
                .then_some(())?;
            let digest = unhex(parts.next()?)?.try_into().ok()?;
            parts.next().is_none().then_some(())?;
            Some(Self {
                iterations: NonZeroU32::new(iterations)?,
                salt,
                digest,
            })
        };
        read().ok_or_else(|| {
            format!("a file that `lineside pin` wrote: {SCHEME}:ITERATIONS:SALT:DIGEST")
        })
    }

    /// The line for the file.
    pub fn line(&self) -> String {
        let (salt, digest) = (hex(&self.salt), hex(&self.digest));
        format!("{SCHEME}:{}:{salt}:{digest}", self.iterations)
    }

    /// Whether this is the PIN. Takes long on purpose: not for a task that others wait for.
    pub fn is(&self, pin: &str) -> bool {
        pbkdf2::verify(
            PBKDF2_HMAC_SHA256,
            self.iterations,
            &self.salt,
            pin.as_bytes(),
            &self.digest,
        )
        .is_ok()
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough for a test.
    const FEW: NonZeroU32 = NonZeroU32::new(MIN_ITERATIONS).expect("not zero");

    #[test]
    fn a_pin_is_known_again_after_a_trip_through_its_file() {
        let pin = Pin::make("4711 0815", FEW).unwrap();
        let read = Pin::read(&format!("{}\n", pin.line())).unwrap();
        assert_eq!(read, pin);
        assert!(read.is("4711 0815"));
        for wrong in ["4711 0816", "", "4711 0815 ", "47110815"] {
            assert!(!read.is(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_digest_is_that_of_the_standard() {
        // RFC 7914, section 11, is for 64 bytes; its first 32 are ours.
        let line = "pbkdf2-sha256:80000:4e61436c:4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56";
        assert!(Pin::read(line).is_err(), "its salt is too short for us");
        let salt = unhex("4e61436c").unwrap();
        let digest = unhex(line.rsplit(':').next().unwrap()).unwrap();
        let pin = Pin {
            iterations: NonZeroU32::new(80_000).unwrap(),
            salt,
            digest: digest.try_into().unwrap(),
        };
        assert!(pin.is("Password"));
    }

    #[test]
    fn two_files_of_one_pin_differ() {
        let lines = [(); 2].map(|()| Pin::make("4711", FEW).unwrap().line());
        assert_ne!(lines[0], lines[1]);
    }

    #[test]
    fn what_nobody_can_type_is_no_pin() {
        for unfit in ["", "123", " 1234", "1234\t", "12\u{7}34", &"1".repeat(65)] {
            assert_eq!(Pin::make(unfit, FEW), Err(PinError::Unfit), "{unfit:?}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_told_and_never_quoted() {
        let good = Pin::make("4711", FEW).unwrap().line();
        let parts: Vec<&str> = good.split(':').collect();
        for bad in [
            "4711",
            "",
            &good.replace("sha256", "sha1"),
            &good[..good.len() - 1],
            &format!("{good}:"),
            &format!("{SCHEME}:1:{}:{}", parts[2], parts[3]),
            &format!("{SCHEME}:{ITERATIONS}:00:{}", parts[3]),
            &format!("{SCHEME}:{ITERATIONS}:{}:+1", parts[2]),
        ] {
            let fault = Pin::read(bad).unwrap_err();
            assert!(
                fault.contains("lineside pin") && !fault.contains("4711"),
                "{fault}"
            );
        }
        assert_eq!(format!("{:?}", Pin::read(&good).unwrap()), "Pin(…)");
    }
}
