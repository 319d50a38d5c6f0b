//! The posts of a repository: the roles that somebody signs for, what each may speak of, and how
//! long its word is good.
//!
//! ```text
//!  root ─┬─► targets ─┬─► offline    rollout/offline*.json   rings that are reached by stick
//!        │            ├─► rollout    rollout/*.json          what each ring is to run
//!        │            └─► packages   *.json                  the packages
//!        ├─► snapshot
//!        └─► timestamp
//! ```
//!
//! The delegations are asked in this order, and each ends the search: a ring is never looked for
//! among the packages.

use crate::ota::tuf::metadata::Kind;

/// A role that somebody signs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Post {
    /// Who may sign what.
    Root,
    /// Who else may say what files there are.
    Targets,
    /// Rings that are reached by stick.
    Offline,
    /// What the rings are to run.
    Rollout,
    /// The packages.
    Packages,
    /// Which versions belong together.
    Snapshot,
    /// Which snapshot is the newest.
    Timestamp,
}

/// Days that a root is good: its keys lie in a safe, and are fetched once a year.
pub const ROOT_DAYS: u32 = 365;
/// The same hands and the same day as the root.
pub const TARGETS_DAYS: u32 = 365;
/// A line that is reached by stick may be visited once a year.
pub const OFFLINE_DAYS: u32 = 365;
/// Rings change every few weeks: one that nobody touched for a quarter is looked at again.
pub const ROLLOUT_DAYS: u32 = 90;
/// A package does not become wrong by age: it is the rings that say what runs.
pub const PACKAGES_DAYS: u32 = 365;
/// Signed by a machine that anybody may restart within a month.
pub const SNAPSHOT_DAYS: u32 = 30;
/// How long somebody between can hold a device at an old state unnoticed. A week bears a long
/// weekend without the machine that signs.
pub const TIMESTAMP_DAYS: u32 = 7;
/// Nothing is signed for longer: ten years.
pub const MAX_DAYS: u32 = 3653;

impl Post {
    /// All of them, in the order in which they are signed.
    pub const ALL: [Self; 7] = [
        Self::Root,
        Self::Targets,
        Self::Offline,
        Self::Rollout,
        Self::Packages,
        Self::Snapshot,
        Self::Timestamp,
    ];

    /// Those that the top targets role delegates to, in the order in which they are asked.
    pub const DELEGATED: [Self; 3] = [Self::Offline, Self::Rollout, Self::Packages];

    /// As metadata calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Offline => "offline",
            Self::Rollout => "rollout",
            Self::Packages => "packages",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }

    /// The post of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|post| post.name() == name)
    }

    /// Days that its word is good where nobody says otherwise.
    pub fn usual_days(self) -> u32 {
        match self {
            Self::Root => ROOT_DAYS,
            Self::Targets => TARGETS_DAYS,
            Self::Offline => OFFLINE_DAYS,
            Self::Rollout => ROLLOUT_DAYS,
            Self::Packages => PACKAGES_DAYS,
            Self::Snapshot => SNAPSHOT_DAYS,
            Self::Timestamp => TIMESTAMP_DAYS,
        }
    }

    /// The kind of document that it signs.
    pub fn kind(self) -> Kind {
        match self {
            Self::Root => Kind::Root,
            Self::Targets | Self::Offline | Self::Rollout | Self::Packages => Kind::Targets,
            Self::Snapshot => Kind::Snapshot,
            Self::Timestamp => Kind::Timestamp,
        }
    }

    /// What the top targets role lets it speak of; nothing for those that the root appoints.
    pub fn patterns(self) -> &'static [&'static str] {
        match self {
            Self::Offline => &["rollout/offline*.json"],
            Self::Rollout => &["rollout/*.json"],
            Self::Packages => &["*.json"],
            Self::Root | Self::Targets | Self::Snapshot | Self::Timestamp => &[],
        }
    }

    /// Who speaks of a ring.
    pub fn of_ring(ring: &str) -> Self {
        if ring.starts_with("offline") {
            Self::Offline
        } else {
            Self::Rollout
        }
    }
}

impl std::fmt::Display for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ota::rollout::Rollout;
    use crate::ota::tuf::metadata::Delegation;
    use crate::ota::tuf::write::Then;

    /// Who would be asked first for a path.
    fn asked(path: &str) -> Option<Post> {
        let covers = |post: &Post| {
            Delegation::of_paths(post.name(), post.patterns(), 1, &[], Then::Stop).covers(path)
        };
        Post::DELEGATED.into_iter().find(covers)
    }

    #[test]
    fn each_ring_and_each_package_is_asked_of_whoever_signs_it() {
        for ring in ["canary", "broad", "offline", "offline-press", "off"] {
            let target = Rollout::target_of(ring);
            assert_eq!(asked(&target), Some(Post::of_ring(ring)), "{ring}");
        }
        assert_eq!(asked("factory-triage-7.json"), Some(Post::Packages));
        assert_eq!(asked("elsewhere/factory-triage-7.json"), None);
    }

    #[test]
    fn every_post_has_its_name_and_a_term_that_may_be_signed() {
        for post in Post::ALL {
            assert_eq!(Post::of(post.name()), Some(post));
            assert!((1..=MAX_DAYS).contains(&post.usual_days()));
        }
        assert_eq!(Post::of("mirror"), None);
    }
}
