//! The floors: how far everything has come, kept apart from the metadata that said so.
//!
//! Trust files may be cut short, deleted or swapped for older ones that are signed as well. So the
//! versions, the packages' sequence numbers and the time that they once reached stand in a record
//! of their own, and whatever comes from a repository or from the disk is held against it.
//!
//! ```text
//!   ota/journal.a, ota/journal.b:   lineside floors 1 GENERATION LENGTH CRC32 ⏎ JSON
//! ```
//!
//! Owns those two files. Both carry the same record; a save writes one, then the other, each
//! replaced as a whole. So a power cut leaves at least one whole record, and one file alone may be
//! damaged or lost without any loss.
//!
//! The same record holds where the [course](super::course) of a package stands, so that the two can
//! never disagree. Two threads write it, each its own part: the keeper holds the [`Book`], and the
//! course a [`Journal`] of it. The lock between them is held for one write, never for a download.
//! What the course wrote is of no concern here.
//!
//! # Invariants
//!
//! - A floor rises and never falls, except by [`Floors::forget_versions`], for the recovery that
//!   the specification describes (5.3.11). Sequence numbers and time never fall at all.
//! - A floor is durable before the file is that raised it, and before a caller may act on it.
//! - The floor of time is at most what the repository's own signed expiries reach: a clock that
//!   once stood in 2100 does not put the appliance there for good.
//!
//! # How it fails
//!
//! [`Book::open`] fails where the disk does not answer at all; one file that cannot be read or does
//! not match its checksum is written anew from the other. A record of a form that a newer lineside
//! wrote is not overwritten: that is an error, not an empty record.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::disk::{self, Disk};
use crate::clock::Wall;

/// Where the two copies lie.
pub const PLACES: [&str; 2] = ["ota/journal.a", "ota/journal.b"];
/// A record is never larger: a thousand roles and some hundred packages fit several times.
pub const MAX_RECORD_BYTES: u64 = 1024 * 1024;
/// Packages with a floor of their own; a site has a handful.
pub const MAX_PACKAGES: usize = 256;

const MAGIC: &str = "lineside floors";
const FORM: &str = "1";

/// Below these nothing is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Floors {
    /// Version of the root.
    pub root: u64,
    /// Version of the timestamp.
    pub timestamp: u64,
    /// Version of the snapshot that a timestamp named.
    pub snapshot: u64,
    /// Versions of the targets roles that a snapshot named. A role that is here must not vanish.
    pub roles: BTreeMap<String, u64>,
    /// Sequence numbers, by the packages' names.
    pub packages: BTreeMap<String, u64>,
    /// It is at least that late, in milliseconds since 1970.
    pub time_ms: u64,
}

impl Floors {
    /// What counts as the time: the clock, unless it went back.
    pub fn time(&self, clock: Wall) -> Wall {
        clock.max(Wall(self.time_ms))
    }

    /// The clock said this while signed metadata that is good until `vouched` was the newest. A
    /// clock is believed no further than that: where it stands later, the metadata has been seen
    /// to expire, and stays expired.
    pub fn saw_time(&mut self, clock: Wall, vouched: Wall) {
        self.time_ms = self.time_ms.max(clock.min(vouched).0);
    }

    /// A root was verified.
    pub fn saw_root(&mut self, version: u64) {
        self.root = self.root.max(version);
    }

    /// A timestamp was verified, and names this snapshot.
    pub fn saw_timestamp(&mut self, version: u64, snapshot: u64) {
        self.timestamp = self.timestamp.max(version);
        self.snapshot = self.snapshot.max(snapshot);
    }

    /// A snapshot was verified, and names these versions.
    pub fn saw_roles<'a>(&mut self, roles: impl Iterator<Item = (&'a str, u64)>) {
        for (role, version) in roles {
            let floor = self.roles.entry(role.to_owned()).or_default();
            *floor = (*floor).max(version);
        }
    }

    /// A newer root took a key from timestamp or snapshot: whoever held it may have raised the
    /// versions beyond all measure, so they begin anew under the keys that remain.
    pub fn forget_versions(&mut self) {
        self.timestamp = 0;
        self.snapshot = 0;
        self.roles.clear();
    }

    /// The sequence number that a package has reached; 0 where none has.
    pub fn package(&self, name: &str) -> u64 {
        self.packages.get(name).copied().unwrap_or(0)
    }

    /// Raises it; one that is as high already stays.
    fn lift(&mut self, name: &str, seq: u64) -> Result<(), FloorError> {
        if !self.packages.contains_key(name) && self.packages.len() >= MAX_PACKAGES {
            return Err(FloorError::Full {
                name: name.to_owned(),
            });
        }
        let floor = self.packages.entry(name.to_owned()).or_default();
        *floor = (*floor).max(seq);
        Ok(())
    }
}

/// Why a floor is not kept.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// The disk.
    #[error("{path}: {error}")]
    Disk {
        /// Which file.
        path: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// A copy is of a form that this version does not know.
    #[error("{path}: written by a newer version of lineside; it is left as it is")]
    Newer {
        /// Which file.
        path: &'static str,
    },
    /// A sequence number went back.
    #[error("package {name}: sequence number {offered} is below {floor}, which was reached before")]
    Behind {
        /// The package.
        name: String,
        /// What was offered.
        offered: u64,
        /// What was reached.
        floor: u64,
    },
    /// There are too many packages.
    #[error("package {name}: {MAX_PACKAGES} packages have a floor already")]
    Full {
        /// The package that found no place.
        name: String,
    },
    /// The record has outgrown its limit.
    #[error("the floors take more than {MAX_RECORD_BYTES} bytes")]
    TooLarge,
}

/// The floors with their two files.
#[derive(Debug)]
pub struct Book<D> {
    pages: Arc<Mutex<Pages<D>>>,
    /// As they were after the last change here.
    floors: Floors,
}

/// The course's hand on the same two files. Clones are hands on the same.
#[derive(Debug)]
pub struct Journal<D>(Arc<Mutex<Pages<D>>>);

impl<D> Clone for Journal<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What stands in each of the files. Records from before there were courses lack the second part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    floors: Floors,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    course: Value,
    /// Only the course was written since both files were gone: the floors say nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    blank: bool,
}

/// The two files.
#[derive(Debug)]
struct Pages<D> {
    disk: D,
    record: Record,
    /// What both files hold; none after a write that failed, which may have reached one of them.
    saved: Option<Record>,
    generation: u64,
    /// Whether floors were found.
    found: bool,
}

impl<D: Disk> Book<D> {
    /// Reads the newer of the two records, and mends the other.
    pub fn open(disk: D) -> Result<Self, FloorError> {
        let pages = Pages::open(disk)?;
        let floors = pages.record.floors.clone();
        let pages = Arc::new(Mutex::new(pages));
        Ok(Self { pages, floors })
    }

    /// The floors.
    pub fn floors(&self) -> &Floors {
        &self.floors
    }

    /// Whether a record was found, or the floors began at nothing.
    pub fn was_found(&self) -> bool {
        lock(&self.pages).found
    }

    /// The course's hand on the same files.
    pub fn journal(&self) -> Journal<D> {
        Journal(Arc::clone(&self.pages))
    }

    /// Raises the floor of a package, durably. The same number again is no fault.
    pub fn raise_package(&mut self, name: &str, seq: u64) -> Result<(), FloorError> {
        let mut pages = lock(&self.pages);
        let floor = pages.record.floors.package(name);
        if seq < floor {
            return Err(FloorError::Behind {
                name: name.to_owned(),
                offered: seq,
                floor,
            });
        }
        let raised = pages.record.floors.lift(name, seq);
        let done = raised.and_then(|()| pages.save_floors());
        self.floors = pages.record.floors.clone();
        done
    }

    /// Changes the floors, durably. If the disk fails they are changed all the same: what was seen
    /// was seen.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Floors)) -> Result<(), FloorError> {
        let mut pages = lock(&self.pages);
        change(&mut pages.record.floors);
        self.floors = pages.record.floors.clone();
        pages.save_floors()
    }
}

impl<D: Disk> Journal<D> {
    /// The keeper's hand on the same files. There is one at a time.
    pub fn book(&self) -> Book<D> {
        Book {
            floors: lock(&self.0).record.floors.clone(),
            pages: Arc::clone(&self.0),
        }
    }

    /// What the course wrote last; null where it never did.
    pub fn course(&self) -> Value {
        lock(&self.0).record.course.clone()
    }

    /// Writes where the course stands, durably, and in the same step raises the floors of the
    /// packages that it names: there is no course of a package above its floor. If the disk fails,
    /// the next write of either hand brings it.
    pub fn write<'a>(
        &self,
        course: Value,
        packages: impl Iterator<Item = (&'a str, u64)>,
    ) -> Result<(), FloorError> {
        let mut pages = lock(&self.0);
        for (name, seq) in packages {
            pages.record.floors.lift(name, seq)?;
        }
        pages.record.course = course;
        pages.record.blank = !pages.found;
        pages.save()
    }
}

/// A record is replaced as a whole, so a thread that ended with the lock left a whole one.
fn lock<D>(pages: &Mutex<Pages<D>>) -> MutexGuard<'_, Pages<D>> {
    pages.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Disk> Pages<D> {
    fn open(mut disk: D) -> Result<Self, FloorError> {
        let copies = PLACES.map(|path| (path, disk.read(path, MAX_RECORD_BYTES)));
        let mut records = Vec::new();
        let mut unread = None;
        for (path, copy) in copies {
            match copy {
                Ok(bytes) => match bytes.as_deref().map_or(Page::Damaged, parse) {
                    Page::Whole(generation, record) => records.push((generation, record)),
                    Page::Newer => return Err(FloorError::Newer { path }),
                    Page::Damaged => {}
                },
                Err(error) => unread = Some(FloorError::Disk { path, error }),
            }
        }
        let whole = records.len() == PLACES.len() && records[0] == records[1];
        let newest = records
            .into_iter()
            .max_by_key(|(generation, _)| *generation);
        let found = newest.as_ref().is_some_and(|(_, it)| !it.blank);
        let is_new = newest.is_none();
        let (generation, record) = match (newest, unread) {
            (Some(newest), _) => newest,
            // Nothing is known of what a file says that is there and cannot be read.
            (None, Some(error)) => return Err(error),
            (None, None) => (0, Record::default()),
        };
        let mut pages = Self {
            disk,
            saved: Some(record.clone()),
            record,
            generation,
            found,
        };
        if !is_new && !whole {
            // A disk that takes nothing now is reported by the next change.
            let _ = pages.write();
        }
        Ok(pages)
    }

    /// The floors are what they should be from now on, whatever was found.
    fn save_floors(&mut self) -> Result<(), FloorError> {
        self.record.blank = false;
        self.save()?;
        self.found = true;
        Ok(())
    }

    fn save(&mut self) -> Result<(), FloorError> {
        if self.saved.as_ref() == Some(&self.record) {
            return Ok(());
        }
        self.write()
    }

    fn write(&mut self) -> Result<(), FloorError> {
        let generation = self.generation + 1;
        let record = compose(generation, &self.record);
        if u64::try_from(record.len()).is_ok_and(|len| len > MAX_RECORD_BYTES) {
            return Err(FloorError::TooLarge);
        }
        // Not to be given twice, nor to be relied on, until both files are written.
        self.generation = generation;
        self.saved = None;
        for path in PLACES {
            disk::replace(&mut self.disk, path, &record)
                .map_err(|error| FloorError::Disk { path, error })?;
        }
        self.saved = Some(self.record.clone());
        Ok(())
    }
}

/// One file's content.
enum Page {
    Whole(u64, Record),
    Newer,
    Damaged,
}

fn compose(generation: u64, record: &Record) -> Vec<u8> {
    let body = serde_json::to_string(record).expect("maps with text keys are JSON");
    let crc = checksum(FORM, generation, &body);
    let len = body.len();
    format!("{MAGIC} {FORM} {generation} {len} {crc:08x}\n{body}").into_bytes()
}

fn checksum(form: &str, generation: u64, body: &str) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(form.as_bytes());
    crc.update(&generation.to_le_bytes());
    crc.update(body.as_bytes());
    crc.finalize()
}

fn parse(bytes: &[u8]) -> Page {
    let Some((head, body)) = str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.split_once('\n'))
    else {
        return Page::Damaged;
    };
    let Some(head) = head
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.strip_prefix(' '))
    else {
        return Page::Damaged;
    };
    let fields: Vec<&str> = head.split(' ').collect();
    let [form, generation, len, crc] = fields[..] else {
        return Page::Damaged;
    };
    let numbers = (
        generation.parse::<u64>(),
        len.parse::<usize>(),
        u32::from_str_radix(crc, 16),
    );
    let (Ok(generation), Ok(len), Ok(crc)) = numbers else {
        return Page::Damaged;
    };
    if body.len() != len || checksum(form, generation, body) != crc {
        return Page::Damaged;
    }
    if form != FORM {
        return Page::Newer;
    }
    match serde_json::from_str(body) {
        Ok(record) => Page::Whole(generation, record),
        Err(_) => Page::Newer,
    }
}

#[cfg(test)]
mod tests;
