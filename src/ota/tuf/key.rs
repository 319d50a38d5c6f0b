//! Public keys as metadata carries them, and what they say of a signature.
//!
//! Three kinds, those that the specification names: Ed25519 (32 bytes in hexadecimal), ECDSA on
//! P-256 or P-384 and RSA-PSS (both as a PEM of a `SubjectPublicKeyInfo`). A key of another kind
//! is kept and signs nothing: a repository may introduce it before all appliances know it.
//!
//! A key's id is a name within the metadata, no proof: it is not held against the key's hash, as
//! other clients don't. What counts towards a threshold are different keys, whatever they are
//! called.

use std::collections::{BTreeMap, BTreeSet};

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::{Deserialize, Serialize};

use super::metadata::{Extra, Signed};

/// Bytes of a public Ed25519 key.
const ED25519_PUBLIC_KEY_LEN: usize = 32;

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// `ed25519`, `ecdsa` or `rsa`.
    pub keytype: String,
    /// How it signs.
    pub scheme: String,
    /// The key itself.
    pub keyval: KeyValue,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// In hexadecimal, or as PEM.
    pub public: String,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A key that is ready to judge.
struct Ready {
    how: &'static dyn VerificationAlgorithm,
    material: Vec<u8>,
}

impl Key {
    fn ready(&self) -> Option<Ready> {
        let public = &self.keyval.public;
        let (how, material): (&'static dyn VerificationAlgorithm, _) =
            match (self.keytype.as_str(), self.scheme.as_str()) {
                ("ed25519", "ed25519") => (&ED25519, unhex(public)?),
                ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                    (&ECDSA_P256_SHA256_ASN1, spki(public, &P256)?)
                }
                ("ecdsa" | "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384") => {
                    (&ECDSA_P384_SHA384_ASN1, spki(public, &P384)?)
                }
                ("rsa", "rsassa-pss-sha256") => (&RSA_PSS_2048_8192_SHA256, spki(public, &RSA)?),
                ("rsa", "rsassa-pss-sha384") => (&RSA_PSS_2048_8192_SHA384, spki(public, &RSA)?),
                ("rsa", "rsassa-pss-sha512") => (&RSA_PSS_2048_8192_SHA512, spki(public, &RSA)?),
                _ => return None,
            };
        Some(Ready { how, material })
    }
}

impl Key {
    /// A key from what people have of it: a PEM (Ed25519, P-256, P-384), or the 32 bytes of an Ed25519
    /// key in hexadecimal. None if it is neither.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let (keytype, scheme, public) = if spki(text, &P256).is_some() {
            ("ecdsa", "ecdsa-sha2-nistp256", format!("{text}\n"))
        } else if spki(text, &P384).is_some() {
            ("ecdsa", "ecdsa-sha2-nistp384", format!("{text}\n"))
        } else {
            let bytes = spki(text, &EDWARDS).or_else(|| unhex(text))?;
            if bytes.len() != ED25519_PUBLIC_KEY_LEN {
                return None;
            }
            ("ed25519", "ed25519", hex(&bytes))
        };
        Some(Self {
            keytype: keytype.to_owned(),
            scheme: scheme.to_owned(),
            keyval: KeyValue {
                public,
                extra: Extra::new(),
            },
            extra: Extra::new(),
        })
    }

    /// Whether this is its signature over these bytes.
    pub fn verifies(&self, payload: &[u8], signature: &[u8]) -> bool {
        self.ready().is_some_and(|Ready { how, material }| {
            let key = UnparsedPublicKey::new(how, &material);
            key.verify(payload, signature).is_ok()
        })
    }
}

/// How many of these keys signed the document.
pub(super) fn signers<T>(
    keyids: &[String],
    keys: &BTreeMap<String, Key>,
    document: &Signed<T>,
) -> usize {
    signed_by(keyids, keys, &document.payload, &document.signatures).len()
}

/// Which of these keys signed, by the first id that each has. A key that is listed under two ids
/// counts once; a signature that is wrong, or of a key that is not listed, counts for nothing and
/// harms nothing.
pub(super) fn signed_by<'a>(
    keyids: &'a [String],
    keys: &BTreeMap<String, Key>,
    payload: &[u8],
    signatures: &BTreeMap<String, String>,
) -> Vec<&'a String> {
    let mut signed: BTreeMap<Vec<u8>, &String> = BTreeMap::new();
    for keyid in keyids {
        let signature = signatures.get(keyid).and_then(|sig| unhex(sig));
        let key = keys.get(keyid).and_then(Key::ready);
        if let (Some(signature), Some(Ready { how, material })) = (signature, key)
            && UnparsedPublicKey::new(how, &material)
                .verify(payload, &signature)
                .is_ok()
        {
            signed.entry(material).or_insert(keyid);
        }
    }
    signed.into_values().collect()
}

/// The keys themselves, whatever they are called. Those of unknown kinds count by what is written.
pub(super) fn materials(keyids: &[String], keys: &BTreeMap<String, Key>) -> BTreeSet<Vec<u8>> {
    keyids
        .iter()
        .filter_map(|keyid| keys.get(keyid))
        .map(|key| match key.ready() {
            Some(ready) => ready.material,
            None => key.keyval.public.clone().into_bytes(),
        })
        .collect()
}

/// Bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        })
        .map(char::from)
        .collect()
}

/// Bytes from hexadecimal of either case; none if it is not that.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|&[high, low]| u8::try_from(digit(high)? * 16 + digit(low)?).ok())
        .collect()
}

/// What stands before the key in a `SubjectPublicKeyInfo`: the algorithm's identifier with its
/// parameters (the content of that sequence, in DER).
type Algorithm = [u8];
/// `id-ecPublicKey` on `prime256v1`.
const P256: [u8; 19] = [
    6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7,
];
/// `id-ecPublicKey` on `secp384r1`.
const P384: [u8; 16] = [
    6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22,
];
/// `id-Ed25519`.
const EDWARDS: [u8; 5] = [6, 3, 0x2b, 0x65, 0x70];
/// `rsaEncryption`, no parameters.
const RSA: [u8; 13] = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 3;

/// The key in a PEM, if it is for this algorithm.
fn spki(pem: &str, algorithm: &Algorithm) -> Option<Vec<u8>> {
    let der = unarmoured(pem)?;
    let (outer, rest) = element(SEQUENCE, &der)?;
    let (found, key) = element(SEQUENCE, outer)?;
    let (bits, behind) = element(BIT_STRING, key)?;
    // The first byte says how many bits of the last are not used.
    let (unused, key) = bits.split_first()?;
    let whole = rest.is_empty() && behind.is_empty() && *unused == 0;
    (whole && found == algorithm).then(|| key.to_vec())
}

/// One element of DER: its content, and what follows.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, der) = der.split_first()?;
    let (&first, der) = der.split_first()?;
    let (len, der) = match first {
        0..=0x7f => (usize::from(first), der),
        0x81..=0x83 => {
            let (len, der) = der.split_at_checked(usize::from(first & 0x7f))?;
            let len = len
                .iter()
                .fold(0, |sum, &byte| sum * 256 + usize::from(byte));
            (len, der)
        }
        _ => return None,
    };
    if found != tag {
        return None;
    }
    der.split_at_checked(len)
}

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

fn unarmoured(pem: &str) -> Option<Vec<u8>> {
    let body = pem.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let signs: Vec<u8> = body
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    unbase64(&signs)
}

/// Bytes from base64 in its one form, without spaces; none if it is not that.
pub fn unbase64(signs: &[u8]) -> Option<Vec<u8>> {
    let (groups, rest) = signs.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(groups.len() * 3);
    for (n, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|&&sign| sign == b'=').count();
        if padding > 2 || (padding > 0 && n + 1 < groups.len()) {
            return None;
        }
        let mut bits = 0_u32;
        for &sign in &group[..4 - padding] {
            bits = bits << 6 | sextet(sign)?;
        }
        bits <<= 6 * padding;
        let bytes = bits.to_be_bytes();
        out.extend(&bytes[1..4 - padding]);
        if bytes[4 - padding..].iter().any(|&byte| byte != 0) {
            return None;
        }
    }
    Some(out)
}

/// The PEM of a key on P-256, from its point.
pub(super) fn p256_spki(point: &[u8]) -> String {
    let mut bits = vec![0];
    bits.extend(point);
    let inside = [wrapped(SEQUENCE, &P256), wrapped(BIT_STRING, &bits)].concat();
    let text = base64(&wrapped(SEQUENCE, &inside));
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| str::from_utf8(line).ok())
        .collect();
    format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
}

/// One element of DER with a short content.
fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u8::try_from(content.len()).expect("a key on P-256 takes 91 bytes");
    let mut out = vec![tag, len];
    out.extend(content);
    out
}

const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes as base64, in one line.
pub fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let byte = |n: usize| group.get(n).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let sextet = bits >> (18 - 6 * n) & 63;
            out.push(if n <= group.len() {
                char::from(SIGNS[sextet as usize])
            } else {
                '='
            });
        }
    }
    out
}

fn sextet(sign: u8) -> Option<u32> {
    let value = match sign {
        b'A'..=b'Z' => sign - b'A',
        b'a'..=b'z' => sign - b'a' + 26,
        b'0'..=b'9' => sign - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests;
