//! What a ring of devices is to run: a small document that the operator signs anew for each change.
//!
//! ```text
//!  target rollout/RING.json ─► Rollout ─► the package that is meant for this device, if it is its
//!                                         turn and the ring is not halted
//! ```
//!
//! A ring is opened by shares: a device has a place from 0 to 999 in each ring that never changes,
//! so that those who were first with 10 in 1000 are still among the first with 100.
//!
//! How it fails: [`RolloutError`] names the part. Such a document changes nothing; what was meant
//! for the device before, stays.

use serde::{Deserialize, Serialize};

use super::tuf::Expiry;
use crate::clock::Wall;
pub use crate::config::{RING_WANTED, is_ring};
use crate::package::{self, Digest, MAX_SEQ};

/// The version of the format.
pub const FORMAT: u64 = 1;
/// Bytes of the document: it has six short parts.
pub const MAX_ROLLOUT_BYTES: u64 = 4 << 10;
/// Places in a ring, and the share that is all of it.
pub const PLACES: u16 = 1000;

/// What a ring is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// The version of the format.
    format: u64,
    /// The ring.
    pub ring: String,
    /// The package's name.
    pub package: String,
    /// Its number.
    pub seq: u64,
    /// How many of a thousand devices it is for.
    pub permille: u16,
    /// Nothing new begins in this ring: no download and no trial.
    pub halt: bool,
    /// Nor does it before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Expiry>,
}

/// Why a rollout cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolloutError {
    /// It is longer than any.
    #[error("it has {0} bytes: no rollout has more than {MAX_ROLLOUT_BYTES}")]
    TooLong(u64),
    /// It is no JSON of this shape.
    #[error("it cannot be read: {0}")]
    Json(String),
    /// A version of the format that is not read here.
    #[error("format {0}: this appliance reads format {FORMAT}; update it for this rollout")]
    Format(u64),
    /// A part is none.
    #[error("{part}: {wanted}")]
    Part {
        /// Which.
        part: &'static str,
        /// What would be right.
        wanted: &'static str,
    },
}

/// What a rollout means for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The package is meant for it.
    Now,
    /// Others in its ring come first, or nobody yet.
    Later,
    /// The ring is halted.
    Halted,
}

impl Rollout {
    /// A package for a share of a ring.
    pub fn new(ring: &str, package: &str, seq: u64, permille: u16) -> Result<Self, RolloutError> {
        let rollout = Self {
            format: FORMAT,
            ring: ring.to_owned(),
            package: package.to_owned(),
            seq,
            permille,
            halt: false,
            not_before: None,
        };
        rollout.check()?;
        Ok(rollout)
    }

    /// Reads a rollout whose bytes were verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, RolloutError> {
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        if bytes.len() as u64 > MAX_ROLLOUT_BYTES {
            return Err(RolloutError::TooLong(bytes.len() as u64));
        }
        let json = |error: serde_json::Error| RolloutError::Json(error.to_string());
        // Another format may have another shape: that it is another is then the better word.
        let version: Version = serde_json::from_slice(bytes).map_err(json)?;
        if version.format != FORMAT {
            return Err(RolloutError::Format(version.format));
        }
        let rollout: Self = serde_json::from_slice(bytes).map_err(json)?;
        rollout.check()?;
        Ok(rollout)
    }

    fn check(&self) -> Result<(), RolloutError> {
        let rule = |holds: bool, part, wanted| {
            if holds {
                Ok(())
            } else {
                Err(RolloutError::Part { part, wanted })
            }
        };
        rule(is_ring(&self.ring), "ring", RING_WANTED)?;
        rule(
            package::is_package_name(&self.package),
            "package",
            "1 to 64 of a-z, 0-9 and '-'",
        )?;
        rule(
            (1..=MAX_SEQ).contains(&self.seq),
            "seq",
            "a number from 1 to 2^53",
        )?;
        rule(
            self.permille <= PLACES,
            "permille",
            "a number from 0 to 1000",
        )
    }

    /// Its bytes, the same for the same rollout.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("texts and numbers have a JSON form") + "\n"
    }

    /// The target that says what a ring is to run.
    pub fn target_of(ring: &str) -> String {
        format!("rollout/{ring}.json")
    }

    /// The target of the package that it names.
    pub fn package_target(&self) -> String {
        format!("{}-{}.json", self.package, self.seq)
    }

    /// What it means for a device of this name, at this time.
    pub fn turn(&self, device: &str, now: Wall) -> Turn {
        let is_early = |moment: Expiry| now < moment.moment();
        if self.halt {
            Turn::Halted
        } else if self.not_before.is_some_and(is_early) {
            Turn::Later
        } else if place(&self.ring, device) < self.permille {
            Turn::Now
        } else {
            Turn::Later
        }
    }
}

/// A device's place in a ring, from 0 to 999: the same for ever, and another in another ring, so
/// that it is not always the same devices that come first.
pub fn place(ring: &str, device: &str) -> u16 {
    let Digest(digest) = Digest::of(format!("{ring}\0{device}").as_bytes());
    let [a, b, c, d, ..] = digest;
    let place = u32::from_be_bytes([a, b, c, d]) % u32::from(PLACES);
    u16::try_from(place).unwrap_or(0) // below a thousand
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_800_000_000_000);

    fn rollout() -> Rollout {
        Rollout::new("canary", "factory-triage", 3, 100).unwrap()
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let written = rollout();
        assert_eq!(Rollout::parse(written.to_json().as_bytes()), Ok(written));
        assert_eq!(Rollout::target_of("canary"), "rollout/canary.json");
        assert_eq!(rollout().package_target(), "factory-triage-3.json");
    }

    #[test]
    fn a_wider_share_keeps_those_who_were_first() {
        let devices: Vec<_> = (0..2000).map(|it| format!("line-{it}")).collect();
        let mut before = 0;
        for permille in [0, 1, 10, 100, 500, 1000] {
            let wide = Rollout {
                permille,
                ..rollout()
            };
            let taken = |it: &&String| wide.turn(it, NOW) == Turn::Now;
            let now = devices.iter().filter(taken).count();
            assert!(now >= before, "{now} after {before}");
            before = now;
            let due = usize::from(permille) * 2;
            assert!(now.abs_diff(due) < 100, "{now} of 2000 for {permille}");
        }
        assert_eq!(before, devices.len());
    }

    #[test]
    fn places_are_for_ever_and_others_in_other_rings() {
        // Written down: a device that changed its place would take a trial twice, or never.
        assert_eq!(place("canary", "line-3"), 404);
        assert_eq!(place("broad", "line-3"), 49);
    }

    #[test]
    fn a_halted_ring_begins_nothing() {
        let halted = Rollout {
            permille: 1000,
            halt: true,
            ..rollout()
        };
        assert_eq!(halted.turn("line-3", NOW), Turn::Halted);
    }

    #[test]
    fn nothing_begins_before_its_time() {
        let mut later = rollout();
        later.permille = 1000;
        later.not_before = Some(Expiry::at(NOW));
        assert_eq!(later.turn("line-3", Wall(NOW.0 - 1000)), Turn::Later);
        assert_eq!(later.turn("line-3", NOW), Turn::Now);
        assert_eq!(Rollout::parse(later.to_json().as_bytes()), Ok(later));
    }

    #[test]
    fn what_is_none_is_named() {
        let with = |key: &str, value: serde_json::Value| {
            let mut text: serde_json::Value = serde_json::from_str(&rollout().to_json()).unwrap();
            text[key] = value;
            Rollout::parse(text.to_string().as_bytes()).unwrap_err()
        };
        assert_eq!(with("format", 2.into()), RolloutError::Format(2));
        for (key, value) in [
            ("ring", "../x".into()),
            ("ring", "".into()),
            ("ring", ".hidden".into()),
            ("ring", "a".repeat(65).into()),
            ("package", "Factory".into()),
            ("seq", 0.into()),
            ("seq", ((1u64 << 53) + 1).into()),
            ("permille", 1001.into()),
        ] {
            let RolloutError::Part { part, .. } = with(key, value) else {
                panic!("{key}");
            };
            assert_eq!(part, key);
        }
        assert!(matches!(with("more", 1.into()), RolloutError::Json(_)));
        let long = " ".repeat(5000);
        assert_eq!(
            Rollout::parse(long.as_bytes()),
            Err(RolloutError::TooLong(5000))
        );
    }
}
