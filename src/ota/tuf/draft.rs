//! A document that is on its way to being signed, by several people one after the other.
//!
//! ```text
//!  content ─► Draft ─► add, sign … ─► enough? ─► bytes of the file
//!               ▲                        │
//!               └──── bytes, carried ────┘
//! ```
//!
//! Owns the document as a value, whatever fields it has, and the signatures that were found good.
//! Invariant: the bytes that are signed are the canonical form of that value, the same on every
//! machine; a signature that does not verify never gets in.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::json::{self, canonical};
use super::key::{Key, hex, signed_by, unhex};
use super::metadata::{self, Kind, Role};
use super::write::{Signer, WriteError, to_value};

/// A document with the signatures that it has so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    signed: Value,
    payload: Vec<u8>,
    /// In hexadecimal, by the keys' ids.
    signatures: BTreeMap<String, String>,
}

/// Who may sign a document, and how many of them it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circle {
    /// The ids of the keys.
    pub keyids: Vec<String>,
    /// How many of them it takes.
    pub threshold: u64,
    /// The keys.
    pub keys: BTreeMap<String, Key>,
}

impl Draft {
    /// A document that nobody has signed yet.
    pub fn of<T: Role>(content: &T) -> Result<Self, WriteError> {
        let role = T::KIND.name();
        metadata::check(content).map_err(|why| WriteError::Wrong { role, why })?;
        let signed = to_value(content);
        Ok(Self {
            payload: canonical(&signed)?,
            signed,
            signatures: BTreeMap::new(),
        })
    }

    /// A document from its file's bytes. Says why it is none. The signatures are not judged.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Envelope {
            signatures: Vec<Entry>,
            signed: Value,
        }
        #[derive(Deserialize)]
        struct Entry {
            keyid: String,
            sig: String,
        }
        let value = json::parse(bytes).map_err(|error| error.to_string())?;
        let Envelope { signatures, signed } =
            serde_json::from_value(value).map_err(|error| error.to_string())?;
        let payload = canonical(&signed).map_err(|error| error.to_string())?;
        let signatures = signatures
            .into_iter()
            .map(|it| (it.keyid, it.sig))
            .collect();
        Ok(Self {
            signed,
            payload,
            signatures,
        })
    }

    /// What it says, as a document of this role. Says why it is none.
    pub fn content<T: Role>(&self) -> Result<T, String> {
        let content: T =
            serde_json::from_value(self.signed.clone()).map_err(|error| error.to_string())?;
        metadata::check(&content)?;
        Ok(content)
    }

    /// Which kind it says that it is.
    pub fn kind(&self) -> Option<Kind> {
        serde_json::from_value(self.signed.get("_type")?.clone()).ok()
    }

    /// The bytes that signatures are over.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What it says, as it stands there.
    pub fn value(&self) -> &Value {
        &self.signed
    }

    /// Signs it.
    pub fn sign(&mut self, signer: &Signer) -> Result<(), WriteError> {
        let signature = signer.sign(&self.payload)?;
        let id = signer.id().to_owned();
        self.signatures.insert(id, hex(&signature));
        Ok(())
    }

    /// Takes over the signatures of another copy that are of these keys and good. Returns how many
    /// were not there before; none of another document's.
    pub fn merge(&mut self, other: &Self, circle: &Circle) -> Option<usize> {
        if other.payload != self.payload {
            return None;
        }
        let mut added = 0;
        for id in &circle.keyids {
            let key = circle.keys.get(id);
            let signature = other.signatures.get(id);
            if let (Some(key), Some(signature)) = (key, signature)
                && unhex(signature).is_some_and(|it| key.verifies(&self.payload, &it))
            {
                let before = self.signatures.insert(id.clone(), signature.clone());
                added += usize::from(before.is_none());
            }
        }
        Some(added)
    }

    /// The ids of those in a circle that signed it, each different key once.
    pub fn signed_by<'a>(&self, circle: &'a Circle) -> Vec<&'a String> {
        signed_by(
            &circle.keyids,
            &circle.keys,
            &self.payload,
            &self.signatures,
        )
    }

    /// Whether enough of a circle signed it.
    pub fn is_signed(&self, circle: &Circle) -> bool {
        self.signed_by(circle).len() as u64 >= circle.threshold
    }

    /// Whether there is a signature under this id.
    pub fn has_signature(&self, id: &str) -> bool {
        self.signatures.contains_key(id)
    }

    /// Forgets the signatures of all but these.
    pub fn keep_signatures(&mut self, of: impl Fn(&str) -> bool) {
        self.signatures.retain(|id, _| of(id));
    }

    /// The bytes of its file: the same document with the same signatures always gives the same.
    pub fn to_bytes(&self) -> Vec<u8> {
        let signatures = self.signatures.iter();
        let signatures: Vec<_> = signatures
            .map(|(keyid, sig)| json!({"keyid": keyid, "sig": sig}))
            .collect();
        let file = json!({"signatures": signatures, "signed": self.signed});
        json::file(&file).expect("its payload had a canonical form, and texts have one")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;
    use crate::ota::tuf::Expiry;
    use crate::ota::tuf::metadata::Targets;

    fn circle(signers: &[&Signer], threshold: u64) -> Circle {
        let pairs = signers
            .iter()
            .map(|it| (it.id().to_owned(), it.key().clone()));
        Circle {
            keyids: signers.iter().map(|it| it.id().to_owned()).collect(),
            threshold,
            keys: pairs.collect(),
        }
    }

    fn draft(version: u64) -> Draft {
        Draft::of(&Targets::new(version, Expiry::at(Wall(2_000_000_000_000)))).unwrap()
    }

    #[test]
    fn two_people_sign_copies_and_the_copies_become_one() {
        let (ann, _) = Signer::generate().unwrap();
        let (ben, _) = Signer::generate_p256().unwrap();
        let both = circle(&[&ann, &ben], 2);
        let (mut one, mut two) = (draft(1), draft(1));
        one.sign(&ann).unwrap();
        two.sign(&ben).unwrap();
        assert!(!one.is_signed(&both));
        let two = Draft::parse(&two.to_bytes()).unwrap();
        assert_eq!(one.merge(&two, &both), Some(1));
        assert_eq!(one.merge(&two, &both), Some(0));
        assert!(one.is_signed(&both));
        assert_eq!(one.content::<Targets>().unwrap().version, 1);
        assert_eq!(Draft::parse(&one.to_bytes()).unwrap(), one);
    }

    #[test]
    fn signatures_of_strangers_over_another_document_or_broken_ones_stay_out() {
        let (ann, _) = Signer::generate().unwrap();
        let (eve, _) = Signer::generate().unwrap();
        let one = circle(&[&ann], 1);
        let mut mine = draft(1);
        let mut other = draft(2);
        other.sign(&ann).unwrap();
        assert_eq!(mine.merge(&other, &one), None);
        let mut copy = draft(1);
        copy.sign(&eve).unwrap();
        copy.signatures.insert(ann.id().to_owned(), "00".repeat(64));
        assert_eq!(mine.merge(&copy, &one), Some(0));
        assert!(!mine.is_signed(&one));
    }

    #[test]
    fn a_root_with_keys_in_pem_is_read_again() {
        let (ben, _) = Signer::generate_p256().unwrap();
        let mut root = metadata::Root::new(1, Expiry::at(Wall(2_000_000_000_000)));
        for kind in Kind::ALL {
            root.entrust(kind, 1, &[&ben]);
        }
        let file = super::super::write::sign(&root, &[&ben]).unwrap();
        let draft = Draft::parse(&file).unwrap();
        assert!(draft.is_signed(&circle(&[&ben], 1)));
        assert_eq!(Draft::parse(&draft.to_bytes()).unwrap(), draft);
    }

    #[test]
    fn a_key_elsewhere_is_held_against_its_public_half() {
        let (ann, secret) = Signer::generate().unwrap();
        let (eve, _) = Signer::generate().unwrap();
        let there = Signer::ed25519(&secret).unwrap();
        let sign =
            Box::new(move |payload: &[u8]| there.sign(payload).map_err(|error| error.to_string()));
        let token = Signer::elsewhere(ann.key().clone(), sign).unwrap();
        assert_eq!(token.id(), ann.id());
        draft(1).sign(&token).unwrap();
        let wrong =
            Box::new(move |payload: &[u8]| eve.sign(payload).map_err(|error| error.to_string()));
        let token = Signer::elsewhere(ann.key().clone(), wrong).unwrap();
        let error = draft(1).sign(&token).unwrap_err();
        assert!(error.to_string().contains("this key"), "{error}");
    }
}
