//! What the four roles sign, as the specification writes it (section 4).
//!
//! Reading and writing share these structs. Fields that this version does not know are kept in
//! `extra`; signatures are over the document as it was received, so they count without being
//! understood. What cannot be right in any repository is refused here: another role's document, a
//! version 0, a specification other than 1.x, a threshold of 0, a key that is listed twice.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::expiry::Expiry;
use super::json;
use super::key::Key;
use super::paths;

/// The specification that is written.
pub const SPEC_VERSION: &str = "1.0.31";
/// Bytes in the name of a delegated role: encoded for a file system it must stay a file name.
pub const MAX_ROLE_NAME_BYTES: usize = 80;

/// The kinds of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Who may sign what.
    Root,
    /// Which snapshot is the newest.
    Timestamp,
    /// Which versions belong together.
    Snapshot,
    /// Which files there are, and who else may say so.
    Targets,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Root, Self::Timestamp, Self::Snapshot, Self::Targets];

    /// As metadata spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
        }
    }
}

/// What one of the roles signs.
pub trait Role: Serialize + DeserializeOwned {
    /// Which of them.
    const KIND: Kind;
    /// What every role has.
    fn head(&self) -> Head<'_>;
    /// What cannot be right.
    fn check(&self) -> Result<(), String>;
}

/// What every role has.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Which kind it says that it is.
    pub kind: Kind,
    /// The specification that it says it follows.
    pub spec_version: &'a str,
    /// Its version, from 1 on.
    pub version: u64,
    /// When it ceases to be good.
    pub expires: Expiry,
}

/// Fields that this version does not know.
pub type Extra = Map<String, Value>;

/// The root: who may sign what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Root {
    /// `root`.
    #[serde(rename = "_type")]
    pub kind: Kind,
    /// The specification.
    pub spec_version: String,
    /// Whether files carry their version or hash in their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistent_snapshot: Option<bool>,
    /// From 1 on, without a gap.
    pub version: u64,
    /// When it ceases to be good.
    pub expires: Expiry,
    /// The keys, by their ids.
    pub keys: BTreeMap<String, Key>,
    /// Who signs for each of the four roles.
    pub roles: BTreeMap<String, Signatories>,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Who signs for a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signatories {
    /// The ids of their keys.
    pub keyids: Vec<String>,
    /// How many of them it takes.
    pub threshold: u64,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The timestamp: which snapshot is the newest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timestamp {
    /// `timestamp`.
    #[serde(rename = "_type")]
    pub kind: Kind,
    /// The specification.
    pub spec_version: String,
    /// From 1 on.
    pub version: u64,
    /// When it ceases to be good.
    pub expires: Expiry,
    /// The snapshot's file.
    pub meta: BTreeMap<String, MetaFile>,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The snapshot: which versions belong together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// `snapshot`.
    #[serde(rename = "_type")]
    pub kind: Kind,
    /// The specification.
    pub spec_version: String,
    /// From 1 on.
    pub version: u64,
    /// When it ceases to be good.
    pub expires: Expiry,
    /// The files of all targets roles, `NAME.json`.
    pub meta: BTreeMap<String, MetaFile>,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One metadata file, as another describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaFile {
    /// Its version.
    pub version: u64,
    /// Its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its hashes in hexadecimal, by the algorithms' names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hashes: Option<BTreeMap<String, String>>,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Targets: which files there are, and who else may say so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Targets {
    /// `targets`.
    #[serde(rename = "_type")]
    pub kind: Kind,
    /// The specification.
    pub spec_version: String,
    /// From 1 on.
    pub version: u64,
    /// When it ceases to be good.
    pub expires: Expiry,
    /// The files, by their paths.
    pub targets: BTreeMap<String, TargetFile>,
    /// Who else may say what files there are.
    #[serde(
        default,
        deserialize_with = "never_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub delegations: Option<Delegations>,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Absent is none; `null` is a fault.
fn never_null<'de, D: serde::Deserializer<'de>>(
    reader: D,
) -> Result<Option<Delegations>, D::Error> {
    Delegations::deserialize(reader).map(Some)
}

/// One file that is for others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFile {
    /// Its bytes.
    pub length: u64,
    /// Its hashes in hexadecimal, by the algorithms' names.
    pub hashes: BTreeMap<String, String>,
    /// What the repository adds for those who read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Who else may say what files there are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delegations {
    /// The keys, by their ids.
    pub keys: BTreeMap<String, Key>,
    /// The roles, the most trusted first.
    pub roles: Vec<Delegation>,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One role that some paths are entrusted to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delegation {
    /// Its name.
    pub name: String,
    /// The ids of its keys.
    pub keyids: Vec<String>,
    /// How many of them it takes.
    pub threshold: u64,
    /// Whether nobody after it is asked about its paths.
    pub terminating: bool,
    /// Patterns of paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Or beginnings of the paths' hashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hash_prefixes: Option<Vec<String>>,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Delegation {
    /// Whether it may speak of this path.
    pub fn covers(&self, path: &str) -> bool {
        match (&self.paths, &self.path_hash_prefixes) {
            (Some(patterns), None) => patterns.iter().any(|pattern| paths::matches(pattern, path)),
            (None, Some(prefixes)) => paths::hash_begins_with(path, prefixes),
            (None, None) | (Some(_), Some(_)) => false,
        }
    }
}

/// The name of the file that describes a targets role.
pub(super) fn meta_name(role: &str) -> String {
    format!("{role}.json")
}

fn check_head(head: Head<'_>, kind: Kind) -> Result<(), String> {
    if head.kind != kind {
        return Err(format!(
            "it is of type {}, not {}",
            head.kind.name(),
            kind.name()
        ));
    }
    if head.version == 0 {
        return Err("version 0".to_owned());
    }
    let parts: Vec<&str> = head.spec_version.split('.').collect();
    let numbers = parts
        .iter()
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    if !matches!(parts.len(), 2 | 3) || !numbers || parts[0] != "1" {
        return Err(format!(
            "specification {}, and only 1.x is known",
            head.spec_version
        ));
    }
    Ok(())
}

/// What cannot be right, in what every role has and in what this one adds.
pub(super) fn check<T: Role>(content: &T) -> Result<(), String> {
    check_head(content.head(), T::KIND)?;
    content.check()
}

fn check_signatories(role: &str, keyids: &[String], threshold: u64) -> Result<(), String> {
    let different: BTreeSet<&String> = keyids.iter().collect();
    if different.len() != keyids.len() {
        return Err(format!("role {role} lists a key twice"));
    }
    if threshold == 0 {
        return Err(format!("role {role} has a threshold of 0"));
    }
    Ok(())
}

fn check_hashes(of: &str, hashes: Option<&BTreeMap<String, String>>) -> Result<(), String> {
    if hashes.is_some_and(BTreeMap::is_empty) {
        return Err(format!("{of} has an empty list of hashes"));
    }
    Ok(())
}

fn check_meta(meta: &BTreeMap<String, MetaFile>) -> Result<(), String> {
    for (name, file) in meta {
        if file.version == 0 {
            return Err(format!("{name} has version 0"));
        }
        check_hashes(name, file.hashes.as_ref())?;
    }
    Ok(())
}

macro_rules! head {
    () => {
        fn head(&self) -> Head<'_> {
            Head {
                kind: self.kind,
                spec_version: &self.spec_version,
                version: self.version,
                expires: self.expires,
            }
        }
    };
}

impl Role for Root {
    const KIND: Kind = Kind::Root;
    head!();

    fn check(&self) -> Result<(), String> {
        let listed = self.roles.keys().map(String::as_str);
        let mut known = Kind::ALL.map(Kind::name);
        known.sort_unstable();
        if !listed.eq(known) {
            return Err("its roles are not root, timestamp, snapshot and targets".to_owned());
        }
        for (role, who) in &self.roles {
            check_signatories(role, &who.keyids, who.threshold)?;
        }
        Ok(())
    }
}

impl Root {
    /// Who signs for a role.
    pub fn signatories(&self, kind: Kind) -> &Signatories {
        self.roles
            .get(kind.name())
            .expect("a root that was checked has the four roles")
    }
}

impl Role for Timestamp {
    const KIND: Kind = Kind::Timestamp;
    head!();

    fn check(&self) -> Result<(), String> {
        if !self.meta.contains_key(SNAPSHOT_FILE) {
            return Err(format!("it does not name {SNAPSHOT_FILE}"));
        }
        check_meta(&self.meta)
    }
}

/// What a timestamp calls the snapshot.
pub(super) const SNAPSHOT_FILE: &str = "snapshot.json";

impl Timestamp {
    /// The snapshot's file.
    pub fn snapshot(&self) -> &MetaFile {
        self.meta
            .get(SNAPSHOT_FILE)
            .expect("a timestamp that was checked names the snapshot")
    }
}

impl Role for Snapshot {
    const KIND: Kind = Kind::Snapshot;
    head!();

    fn check(&self) -> Result<(), String> {
        check_meta(&self.meta)
    }
}

impl Snapshot {
    /// The file of a targets role.
    pub fn role(&self, name: &str) -> Option<&MetaFile> {
        self.meta.get(&meta_name(name))
    }

    /// The targets roles with their versions. What is not named like a file of one is none.
    pub fn roles(&self) -> impl Iterator<Item = (&str, u64)> {
        self.meta
            .iter()
            .filter_map(|(name, file)| Some((name.strip_suffix(".json")?, file.version)))
    }
}

impl Role for Targets {
    const KIND: Kind = Kind::Targets;
    head!();

    fn check(&self) -> Result<(), String> {
        for (path, file) in &self.targets {
            check_hashes(path, Some(&file.hashes))?;
        }
        let mut names = BTreeSet::new();
        for role in self.delegations.iter().flat_map(|list| &list.roles) {
            let name = &role.name;
            if name.is_empty()
                || name.len() > MAX_ROLE_NAME_BYTES
                || Kind::ALL.iter().any(|kind| kind.name() == name)
            {
                return Err(format!("`{name}` cannot be the name of a delegated role"));
            }
            if !names.insert(name) {
                return Err(format!("role {name} stands twice"));
            }
            check_signatories(name, &role.keyids, role.threshold)?;
            if role.paths.is_some() == role.path_hash_prefixes.is_some() {
                return Err(format!(
                    "role {name} needs either paths or path_hash_prefixes"
                ));
            }
        }
        Ok(())
    }
}

/// A document with its signatures, read but not yet believed.
#[derive(Clone, Debug)]
pub(super) struct Signed<T> {
    /// What it says.
    pub(super) content: T,
    /// The bytes that the signatures are over.
    pub(super) payload: Vec<u8>,
    /// In hexadecimal, by the keys' ids.
    pub(super) signatures: BTreeMap<String, String>,
}

/// The two parts of every file, as they lie there.
#[derive(Deserialize)]
struct Envelope {
    signatures: Vec<SignatureEntry>,
    signed: Value,
    // Not signed, so of no use; metadata with more beside these is metadata all the same.
    #[serde(flatten)]
    _extra: Extra,
}

#[derive(Deserialize)]
struct SignatureEntry {
    keyid: String,
    sig: String,
    #[serde(flatten)]
    _extra: Extra,
}

/// Reads a metadata file. Says why it is none of this role.
pub(super) fn read<T: Role>(bytes: &[u8]) -> Result<Signed<T>, String> {
    let value = json::parse(bytes).map_err(|error| error.to_string())?;
    let envelope: Envelope = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let mut signatures = BTreeMap::new();
    for SignatureEntry { keyid, sig, .. } in envelope.signatures {
        if let Some(_twice) = signatures.insert(keyid.clone(), sig) {
            return Err(format!("key {keyid} signed twice"));
        }
    }
    let payload = json::canonical(&envelope.signed).map_err(|error| error.to_string())?;
    let content: T = serde_json::from_value(envelope.signed).map_err(|error| error.to_string())?;
    check(&content)?;
    Ok(Signed {
        content,
        payload,
        signatures,
    })
}
