//! What a course must not forget: the part of it that lies in the journal.
//!
//! Everything here is bounded, whatever happens to a device in its life: it shares its record with
//! the floors.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::store::PackageId;
use super::super::verdict::Findings;
use super::speech::{Reason, UNLOADABLE};
use super::trial::Tally;
use crate::package::Digest;

/// Packages that were committed and can be gone back to. Older ones are no longer on the disk.
pub const MAX_COMMITS: usize = 2;
/// Packages that were taken back and are not tried again. Their numbers are at or below the floor,
/// so what drops out here could only come back by hand.
pub const MAX_TAKEN_BACK: usize = 64;
/// Bytes of a reason: a line for each of the bars that a package misses, and no crash's whole log.
pub const MAX_REASON_BYTES: usize = 512;

/// A package and the content that is meant: a number alone could be given twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Named {
    /// Name and number.
    pub id: PackageId,
    /// Digest of the signed manifest.
    pub digest: Digest,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// The JSON of it.
#[derive(Serialize, Deserialize)]
struct Written {
    package: String,
    manifest: String,
}

impl From<Named> for Written {
    fn from(it: Named) -> Self {
        Self {
            package: it.id.to_string(),
            manifest: it.digest.to_string(),
        }
    }
}

impl TryFrom<Written> for Named {
    type Error = &'static str;

    fn try_from(it: Written) -> Result<Self, Self::Error> {
        Ok(Self {
            id: PackageId::parse(&it.package).ok_or("NAME-SEQ of a package")?,
            digest: Digest::parse(&it.manifest).ok_or("64 hexadecimal digits")?,
        })
    }
}

/// How far a candidate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It lies ready.
    Staged,
    /// It passed the gate on this device.
    Gated,
    /// It serves, to be watched.
    Trial,
}

/// The package that is on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Which.
    pub package: Named,
    /// How far.
    pub stage: Stage,
    /// Gates that were begun.
    #[serde(default)]
    pub gates: u8,
    /// Trials whose load was begun.
    #[serde(default)]
    pub attempts: u8,
    /// What the gate found.
    #[serde(default)]
    pub findings: Option<Findings>,
    /// What the serving package's answers were like when the trial began.
    #[serde(default)]
    pub before: Tally,
}

/// A package that was committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Which.
    pub package: Named,
    /// What the gate found: what it is held against later.
    #[serde(default)]
    pub findings: Option<Findings>,
}

/// A package that is not tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    /// Which.
    pub package: Named,
    /// The word for programs.
    pub code: String,
    /// Why, in words.
    pub reason: String,
    /// It was a person's wish, and a person may wish otherwise.
    #[serde(default)]
    pub by_hand: bool,
}

/// How a candidate's way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It serves for good.
    Committed,
    /// It is not tried again.
    RolledBack,
    /// It was not its fault; it may come again.
    Withdrawn,
}

/// How the last candidate's way ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// Which.
    pub package: Named,
    /// How.
    pub end: End,
    /// The word for programs; empty for a commit.
    #[serde(default)]
    pub code: String,
    /// Why, in words; empty for a commit.
    #[serde(default)]
    pub reason: String,
}

impl Last {
    pub(super) fn committed(package: Named) -> Self {
        Self {
            package,
            end: End::Committed,
            code: String::new(),
            reason: String::new(),
        }
    }

    pub(super) fn of(package: Named, end: End, reason: &Reason) -> Self {
        Self {
            package,
            end,
            code: reason.code().to_owned(),
            reason: reason.to_string(),
        }
    }

    /// Whether a committed package did not load: one that was on trial would not come again.
    pub(super) fn is_standing_aside(&self) -> bool {
        self.end == End::Withdrawn && self.code == UNLOADABLE
    }
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// What was committed, the latest last: it serves if it loads. Without any, the configuration's
    /// package serves.
    pub commits: Vec<Commit>,
    /// What is on its way.
    pub candidate: Option<Candidate>,
    /// What is not tried again, the latest last.
    pub taken_back: Vec<TakenBack>,
    /// What a person chose, whatever the ring says.
    pub pinned: Option<Named>,
    /// The ring begins nothing.
    pub halted: bool,
    /// How the last way ended.
    pub last: Option<Last>,
}

impl Memory {
    /// Reads what [`to_value`](Self::to_value) wrote; null is the beginning.
    pub fn of_value(value: Value) -> Result<Self, serde_json::Error> {
        if value.is_null() {
            return Ok(Self::default());
        }
        serde_json::from_value(value)
    }

    /// For the journal.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("maps with text keys are JSON")
    }

    /// What serves if there is no trial and it loads; none is the configuration's package.
    pub fn committed(&self) -> Option<&Named> {
        self.commits.last().map(|commit| &commit.package)
    }

    /// Why a package is not tried again.
    pub fn taken_back(&self, digest: Digest) -> Option<&TakenBack> {
        let own = |it: &&TakenBack| it.package.digest == digest;
        self.taken_back.iter().find(own)
    }

    /// Every package that must stay on the disk, in the order of their names.
    pub fn held(&self) -> Vec<PackageId> {
        let commits = self.commits.iter().map(|commit| &commit.package);
        let candidate = self.candidate.iter().map(|it| &it.package);
        let all = commits.chain(candidate).chain(&self.pinned);
        let all: BTreeSet<_> = all.map(|it| &it.id).collect();
        all.into_iter().cloned().collect()
    }

    pub(super) fn commit(&mut self, commit: Commit) {
        self.commits.push(commit);
        if self.commits.len() > MAX_COMMITS {
            self.commits.remove(0);
        }
    }

    pub(super) fn refuse(&mut self, it: TakenBack) {
        self.forgive(it.package.digest);
        self.taken_back.push(it);
        if self.taken_back.len() > MAX_TAKEN_BACK {
            self.taken_back.remove(0);
        }
    }

    pub(super) fn forgive(&mut self, digest: Digest) {
        self.taken_back.retain(|it| it.package.digest != digest);
    }
}
