//! A request for a certificate (PKCS #10, RFC 2986), signed with the device's own key.
//!
//! Written by hand, for it is one form: a P-256 key, and either two names, or those of the certificate
//! that is to be renewed, byte for byte as they stand there (RFC 7030, section 4.2.2).

use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, KeyPair as _};

use super::certificate::{Certificate, SUBJECT_ALT_NAME};
use super::der::{BITS, INTEGER, OCTETS, OID, PRINTABLE, SEQUENCE, SET, UTF8, field, part};
use crate::ota::tuf::base64;

/// Attributes of a request.
const ATTRIBUTES: u8 = part(0);

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SERIAL_NUMBER: &[u8] = &[0x55, 0x04, 0x05];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// `extensionRequest` of PKCS #9: what the certificate is to say besides.
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

/// The first request, in DER; none if the random numbers fail.
pub(super) fn make(key: &EcdsaKeyPair, name: &str, serial: Option<&str>) -> Option<Vec<u8>> {
    let mut names = vec![entry(COMMON_NAME, UTF8, name)];
    names.extend(serial.map(|serial| entry(SERIAL_NUMBER, PRINTABLE, serial)));
    signed(key, &field(SEQUENCE, &names), &[])
}

/// A request for what a certificate says already.
pub(super) fn again(key: &EcdsaKeyPair, present: &Certificate<'_>) -> Option<Vec<u8>> {
    let others = present.alt_names.map(|names| {
        let extension = field(
            SEQUENCE,
            &[field(OID, &[SUBJECT_ALT_NAME]), field(OCTETS, &[names])],
        );
        let value = field(SET, &[field(SEQUENCE, &[extension])]);
        field(SEQUENCE, &[field(OID, &[EXTENSION_REQUEST]), value])
    });
    signed(key, present.subject, others.as_slice())
}

fn signed(key: &EcdsaKeyPair, subject: &[u8], attributes: &[Vec<u8>]) -> Option<Vec<u8>> {
    let info = field(
        SEQUENCE,
        &[
            &field(INTEGER, &[[0]])[..],
            subject,
            &public(key),
            &field(ATTRIBUTES, attributes),
        ],
    );
    let signature = key.sign(&SystemRandom::new(), &info).ok()?;
    let how = field(SEQUENCE, &[field(OID, &[ECDSA_WITH_SHA256])]);
    let signed = field(BITS, &[&[0][..], signature.as_ref()]);
    Some(field(SEQUENCE, &[info, how, signed]))
}

/// The public half of a key as certificates show it.
pub(super) fn public(key: &EcdsaKeyPair) -> Vec<u8> {
    let algorithm = field(
        SEQUENCE,
        &[field(OID, &[EC_PUBLIC_KEY]), field(OID, &[P256])],
    );
    let point = field(BITS, &[&[0][..], key.public_key().as_ref()]);
    field(SEQUENCE, &[algorithm, point])
}

fn entry(kind: &[u8], form: u8, text: &str) -> Vec<u8> {
    let pair = field(SEQUENCE, &[field(OID, &[kind]), field(form, &[text])]);
    field(SET, &[pair])
}

/// Signs of a line of PEM.
const LINE: usize = 64;

/// DER as PEM.
pub(super) fn pem(what: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {what}-----\n");
    for (at, sign) in base64(der).chars().enumerate() {
        if at > 0 && at % LINE == 0 {
            text.push('\n');
        }
        text.push(sign);
    }
    text + &format!("\n-----END {what}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_is_what_the_standard_says() {
        let of = |bytes: &[u8]| pem("X", bytes);
        assert_eq!(of(b"f"), "-----BEGIN X-----\nZg==\n-----END X-----\n");
        assert_eq!(of(b"fo"), "-----BEGIN X-----\nZm8=\n-----END X-----\n");
        assert_eq!(
            of(b"foobar"),
            "-----BEGIN X-----\nZm9vYmFy\n-----END X-----\n"
        );
        assert_eq!(of(&[0; 49]).lines().nth(1).unwrap().len(), LINE);
        assert_eq!(of(&[0; 48]).lines().count(), 3);
    }
}
