//! What is kept beside a repository and not served: how long each role's word is good, and which
//! versions went out on sticks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::disk;
use super::fault::{Done, FleetError, usage};
use super::post::{MAX_DAYS, Post};
use crate::clock::{DAY_MS, Wall};
use crate::ota::tuf::Expiry;

/// The version of the format.
const FORMAT: u64 = 1;
/// Its file.
pub(super) const SETTINGS: &str = "settings.json";
/// Bytes of its file: a dozen numbers.
const MAX_SETTINGS_BYTES: u64 = 64 << 10;

/// What holds for a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    format: u64,
    /// Days that each role's word is good; those that are not named have the usual ones.
    days: BTreeMap<String, u32>,
    /// Versions that went out on a stick and are not in the repository.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    exported: BTreeMap<String, u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: FORMAT,
            days: BTreeMap::new(),
            exported: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Reads them from the folder beside a repository; the usual ones where there are none.
    pub(super) fn read(folder: &Path) -> Done<Self> {
        let path = folder.join(SETTINGS);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = disk::text(&path, MAX_SETTINGS_BYTES)?;
        let settings: Result<Self, _> = serde_json::from_str(&text);
        match settings {
            Ok(settings) if settings.format == FORMAT => Ok(settings),
            Ok(settings) => Err(FleetError::Refused(format!(
                "{}: format {}, not {FORMAT}",
                path.display(),
                settings.format
            ))),
            Err(error) => Err(FleetError::Refused(format!("{}: {error}", path.display()))),
        }
    }

    pub(super) fn write(&self, folder: &Path) -> Done<()> {
        let text = serde_json::to_string_pretty(self);
        let text = text.expect("texts and numbers have a JSON form") + "\n";
        disk::write(&folder.join(SETTINGS), text.as_bytes())
    }

    /// Days that a role's word is good.
    pub fn days(&self, post: Post) -> u32 {
        let said = self.days.get(post.name());
        said.copied().unwrap_or(post.usual_days())
    }

    /// Changes them.
    pub fn set_days(&mut self, post: Post, days: u32) -> Done<()> {
        if !(1..=MAX_DAYS).contains(&days) {
            return usage(format!(
                "{post}: {days} days: 1 to {MAX_DAYS} may be signed"
            ));
        }
        self.days.insert(post.name().to_owned(), days);
        Ok(())
    }

    /// When a role's word that is signed now ceases to be good.
    pub fn expiry(&self, post: Post, now: Wall) -> Expiry {
        expiry(now, self.days(post))
    }

    /// The version that comes after this one and after all that went out on sticks.
    pub fn next_version(&self, post: Post, current: u64) -> u64 {
        let exported = self.exported.get(post.name()).copied();
        current.max(exported.unwrap_or(0)) + 1
    }

    /// A version went out on a stick.
    pub(super) fn saw_exported(&mut self, post: Post, version: u64) {
        let floor = self.exported.entry(post.name().to_owned()).or_default();
        *floor = (*floor).max(version);
    }
}

/// So many days from now.
pub(super) fn expiry(now: Wall, days: u32) -> Expiry {
    Expiry::at(now.after(Duration::from_millis(DAY_MS) * days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_the_usual_ones_until_somebody_says_otherwise() {
        let mut settings = Settings::default();
        assert_eq!(settings.days(Post::Timestamp), Post::Timestamp.usual_days());
        settings.set_days(Post::Timestamp, 2).unwrap();
        assert_eq!(settings.days(Post::Timestamp), 2);
        assert!(settings.set_days(Post::Root, 0).is_err());
        assert!(settings.set_days(Post::Root, MAX_DAYS + 1).is_err());
        let now = Wall(1_796_083_200_000);
        let at = settings.expiry(Post::Timestamp, now);
        assert_eq!(at.to_string(), "2026-12-03T00:00:00Z");
    }

    #[test]
    fn a_version_that_went_out_on_a_stick_is_not_used_again() {
        let mut settings = Settings::default();
        assert_eq!(settings.next_version(Post::Timestamp, 4), 5);
        settings.saw_exported(Post::Timestamp, 5);
        assert_eq!(settings.next_version(Post::Timestamp, 4), 6);
        assert_eq!(settings.next_version(Post::Timestamp, 9), 10);
        assert_eq!(settings.next_version(Post::Snapshot, 4), 5);
    }
}
