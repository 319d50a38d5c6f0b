//! Writing metadata: keys that sign, and documents as a repository publishes them.
//!
//! ```
//! use lineside::clock::Wall;
//! use lineside::ota::tuf::Expiry;
//! use lineside::ota::tuf::metadata::Timestamp;
//! use lineside::ota::tuf::write::{Signer, describe, sign};
//!
//! let (signer, _secret) = Signer::generate().unwrap();
//! let timestamp = Timestamp::new(1, Expiry::at(Wall(2_000_000_000_000)), describe(1, b"{}"));
//! let file = sign(&timestamp, &[&signer]).unwrap();
//! assert!(file.starts_with(b"{\"signatures\":[{\"keyid\":\""));
//! ```

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::expiry::Expiry;
use super::json::{NotCanonical, canonical};
use super::key::{Key, KeyValue, hex, p256_spki};
use super::metadata::{
    Delegation, Delegations, Extra, Kind, MetaFile, Role, Root, SNAPSHOT_FILE, SPEC_VERSION,
    Signatories, Snapshot, TargetFile, Targets, Timestamp, meta_name,
};

/// Why something was not signed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// What is to be signed breaks a rule that every reader holds it against.
    #[error("{role}: {why}")]
    Wrong {
        /// Which role.
        role: &'static str,
        /// What is wrong.
        why: String,
    },
    /// It has a number that is not whole.
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
    /// The bytes are no key of this kind, or the system gave no randomness.
    #[error("no key: {0}")]
    Key(String),
}

/// Signs elsewhere: on a token, on another machine. Says why it did not.
pub type Elsewhere = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, String>>;

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Elsewhere(Elsewhere),
}

/// A key that signs.
pub struct Signer {
    pair: Pair,
    key: Key,
    id: String,
}

impl std::fmt::Debug for Signer {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// A new Ed25519 key, and its secret as PKCS#8.
    pub fn generate() -> Result<(Self, Vec<u8>), WriteError> {
        let secret = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|error| WriteError::Key(error.to_string()))?;
        let signer = Self::ed25519(secret.as_ref())?;
        Ok((signer, secret.as_ref().to_vec()))
    }

    /// A new key on P-256, and its secret as PKCS#8.
    pub fn generate_p256() -> Result<(Self, Vec<u8>), WriteError> {
        let random = SystemRandom::new();
        let secret = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|error| WriteError::Key(error.to_string()))?;
        let signer = Self::p256(secret.as_ref())?;
        Ok((signer, secret.as_ref().to_vec()))
    }

    /// An Ed25519 key from PKCS#8, with or without its public half.
    pub fn ed25519(pkcs8: &[u8]) -> Result<Self, WriteError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8)
            .map_err(|error| WriteError::Key(error.to_string()))?;
        let public = hex(pair.public_key().as_ref());
        Self::new(Pair::Ed25519(pair), "ed25519", "ed25519", public)
    }

    /// A key on P-256 from PKCS#8.
    pub fn p256(pkcs8: &[u8]) -> Result<Self, WriteError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random)
            .map_err(|error| WriteError::Key(error.to_string()))?;
        let public = p256_spki(pair.public_key().as_ref());
        Self::new(Pair::P256(pair), "ecdsa", "ecdsa-sha2-nistp256", public)
    }

    fn new(pair: Pair, keytype: &str, scheme: &str, public: String) -> Result<Self, WriteError> {
        let key = Key {
            keytype: keytype.to_owned(),
            scheme: scheme.to_owned(),
            keyval: KeyValue {
                public,
                extra: Extra::new(),
            },
            extra: Extra::new(),
        };
        let id = key.id()?;
        Ok(Self { pair, key, id })
    }

    /// A key whose secret half is elsewhere. What comes from there is held against the public half.
    pub fn elsewhere(key: Key, sign: Elsewhere) -> Result<Self, WriteError> {
        let id = key.id()?;
        let pair = Pair::Elsewhere(sign);
        Ok(Self { pair, key, id })
    }

    /// Its public half.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// What metadata calls it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its signature over these bytes.
    pub fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, WriteError> {
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(payload).as_ref().to_vec()),
            Pair::P256(pair) => pair
                .sign(&SystemRandom::new(), payload)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|error| WriteError::Key(error.to_string())),
            Pair::Elsewhere(sign) => {
                let signature = sign(payload).map_err(WriteError::Key)?;
                if self.key.verifies(payload, &signature) {
                    Ok(signature)
                } else {
                    let why = "what signed elsewhere did not sign with this key";
                    Err(WriteError::Key(why.to_owned()))
                }
            }
        }
    }
}

impl Key {
    /// The usual id: the SHA-256 of the canonical form.
    pub fn id(&self) -> Result<String, NotCanonical> {
        let bytes = canonical(&to_value(self))?;
        Ok(hex(digest(&SHA256, &bytes).as_ref()))
    }
}

/// A document, checked and signed: the bytes of its file.
pub fn sign<T: Role>(content: &T, signers: &[&Signer]) -> Result<Vec<u8>, WriteError> {
    let role = T::KIND.name();
    let wrong = |why| WriteError::Wrong { role, why };
    super::metadata::check(content).map_err(wrong)?;
    sign_value(&to_value(content), signers)
}

/// The same for a document in any shape: nothing is checked.
pub(super) fn sign_value(signed: &Value, signers: &[&Signer]) -> Result<Vec<u8>, WriteError> {
    let payload = canonical(signed)?;
    let mut signatures = Vec::new();
    for signer in signers {
        signatures.push(json!({"keyid": signer.id, "sig": hex(&signer.sign(&payload)?)}));
    }
    let file = json!({"signatures": signatures, "signed": signed});
    // In the canonical order, too: the same document always gives the same bytes.
    Ok(super::json::file(&file)?)
}

pub(super) fn to_value(content: &impl serde::Serialize) -> Value {
    serde_json::to_value(content).expect("metadata has text keys only")
}

/// How another document describes a metadata file: version, length and hash.
pub fn describe(version: u64, file: &[u8]) -> MetaFile {
    MetaFile {
        version,
        length: Some(file.len() as u64),
        hashes: Some(sha256(file)),
        extra: Extra::new(),
    }
}

/// How targets describe a file.
pub fn target_file(content: &[u8], custom: Option<Value>) -> TargetFile {
    TargetFile {
        length: content.len() as u64,
        hashes: sha256(content),
        custom,
        extra: Extra::new(),
    }
}

fn sha256(bytes: &[u8]) -> BTreeMap<String, String> {
    let hash = hex(digest(&SHA256, bytes).as_ref());
    BTreeMap::from([("sha256".to_owned(), hash)])
}

impl Root {
    /// A root without keys; whoever may sign is added by [`Root::entrust`].
    pub fn new(version: u64, expires: Expiry) -> Self {
        let nobody = |kind: Kind| {
            let who = Signatories {
                keyids: Vec::new(),
                threshold: 1,
                extra: Extra::new(),
            };
            (kind.name().to_owned(), who)
        };
        Self {
            kind: Kind::Root,
            spec_version: SPEC_VERSION.to_owned(),
            consistent_snapshot: Some(true),
            version,
            expires,
            keys: BTreeMap::new(),
            roles: Kind::ALL.map(nobody).into(),
            extra: Extra::new(),
        }
    }

    /// From now on these keys sign for the role, and no others. Keys that nobody signs with any
    /// more leave the list.
    pub fn entrust(&mut self, kind: Kind, threshold: u64, signers: &[&Signer]) {
        self.entrust_keys(kind, threshold, public_halves(signers).collect());
    }

    /// The same by public keys alone, with their ids.
    pub fn entrust_keys(&mut self, kind: Kind, threshold: u64, keys: Vec<(String, Key)>) {
        let who = Signatories {
            keyids: keys.iter().map(|(id, _)| id.clone()).collect(),
            threshold,
            extra: Extra::new(),
        };
        self.roles.insert(kind.name().to_owned(), who);
        self.keys.extend(keys);
        let used = |id: &String| self.roles.values().any(|who| who.keyids.contains(id));
        self.keys.retain(|id, _| used(id));
    }
}

impl Timestamp {
    /// A timestamp of this snapshot.
    pub fn new(version: u64, expires: Expiry, snapshot: MetaFile) -> Self {
        Self {
            kind: Kind::Timestamp,
            spec_version: SPEC_VERSION.to_owned(),
            version,
            expires,
            meta: BTreeMap::from([(SNAPSHOT_FILE.to_owned(), snapshot)]),
            extra: Extra::new(),
        }
    }
}

impl Snapshot {
    /// A snapshot of nothing yet.
    pub fn new(version: u64, expires: Expiry) -> Self {
        Self {
            kind: Kind::Snapshot,
            spec_version: SPEC_VERSION.to_owned(),
            version,
            expires,
            meta: BTreeMap::new(),
            extra: Extra::new(),
        }
    }

    /// Lists a targets role.
    pub fn list(&mut self, role: &str, file: MetaFile) {
        self.meta.insert(meta_name(role), file);
    }
}

impl Targets {
    /// A role without targets.
    pub fn new(version: u64, expires: Expiry) -> Self {
        Self {
            kind: Kind::Targets,
            spec_version: SPEC_VERSION.to_owned(),
            version,
            expires,
            targets: BTreeMap::new(),
            delegations: None,
            extra: Extra::new(),
        }
    }

    /// Delegates to a role, after those that are there; one of the same name is replaced in its
    /// place.
    pub fn delegate(&mut self, delegation: Delegation, signers: &[&Signer]) {
        self.delegate_to_keys(delegation, public_halves(signers).collect());
    }

    /// The same by public keys alone, with their ids.
    pub fn delegate_to_keys(&mut self, delegation: Delegation, keys: Vec<(String, Key)>) {
        let list = self.delegations.get_or_insert_with(|| Delegations {
            keys: BTreeMap::new(),
            roles: Vec::new(),
            extra: Extra::new(),
        });
        match list
            .roles
            .iter_mut()
            .find(|role| role.name == delegation.name)
        {
            Some(role) => *role = delegation,
            None => list.roles.push(delegation),
        }
        list.keys.extend(keys);
        let roles = &list.roles;
        let used = |id: &String| roles.iter().any(|role| role.keyids.contains(id));
        list.keys.retain(|id, _| used(id));
    }
}

/// Whether a delegation ends the search for its paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Those after it are asked, too.
    GoOn,
    /// Nobody after it is asked.
    Stop,
}

impl Delegation {
    /// Entrusts paths of these patterns to a role.
    pub fn of_paths(
        name: &str,
        patterns: &[&str],
        threshold: u64,
        signers: &[&Signer],
        then: Then,
    ) -> Self {
        Self {
            name: name.to_owned(),
            keyids: ids(signers),
            threshold,
            terminating: then == Then::Stop,
            paths: Some(patterns.iter().map(|&pattern| pattern.to_owned()).collect()),
            path_hash_prefixes: None,
            extra: Extra::new(),
        }
    }
}

fn ids(signers: &[&Signer]) -> Vec<String> {
    signers.iter().map(|signer| signer.id.clone()).collect()
}

fn public_halves<'a>(signers: &'a [&Signer]) -> impl Iterator<Item = (String, Key)> + 'a {
    signers
        .iter()
        .map(|signer| (signer.id.clone(), signer.key.clone()))
}
