//! A request for a certificate (PKCS #10, RFC 2986), signed with the device's own key.
//!
//! Written by hand, for it is one form with two names in it: a name, a serial number, a P-256 key.

use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, KeyPair as _};

const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// Attributes of a request: none here.
const ATTRIBUTES: u8 = 0xa0;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SERIAL_NUMBER: &[u8] = &[0x55, 0x04, 0x05];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// The request in DER; none if the random numbers fail.
pub(super) fn make(key: &EcdsaKeyPair, name: &str, serial: Option<&str>) -> Option<Vec<u8>> {
    let mut names = vec![entry(COMMON_NAME, UTF8, name)];
    names.extend(serial.map(|serial| entry(SERIAL_NUMBER, PRINTABLE, serial)));
    let algorithm = field(
        SEQUENCE,
        &[field(OID, &[EC_PUBLIC_KEY]), field(OID, &[P256])],
    );
    let point = field(BITS, &[&[0][..], key.public_key().as_ref()]);
    let info = field(
        SEQUENCE,
        &[
            field(INTEGER, &[[0]]),
            field(SEQUENCE, &names),
            field(SEQUENCE, &[algorithm, point]),
            field::<&[u8]>(ATTRIBUTES, &[]),
        ],
    );
    let signature = key.sign(&SystemRandom::new(), &info).ok()?;
    let how = field(SEQUENCE, &[field(OID, &[ECDSA_WITH_SHA256])]);
    let signed = field(BITS, &[&[0][..], signature.as_ref()]);
    Some(field(SEQUENCE, &[info, how, signed]))
}

fn entry(kind: &[u8], form: u8, text: &str) -> Vec<u8> {
    let pair = field(SEQUENCE, &[field(OID, &[kind]), field(form, &[text])]);
    field(SET, &[pair])
}

/// A tag, a length, and the parts one after the other.
fn field<P: AsRef<[u8]>>(tag: u8, parts: &[P]) -> Vec<u8> {
    let content: Vec<u8> = parts.iter().flat_map(AsRef::as_ref).copied().collect();
    let length = content.len().to_be_bytes();
    let first = length.iter().position(|byte| *byte != 0);
    let digits = &length[first.unwrap_or(length.len() - 1)..];
    let mut bytes = vec![tag];
    match digits {
        [short @ 0..=0x7f] => bytes.push(*short),
        long => {
            let count = u8::try_from(long.len()).expect("a length has eight bytes at most");
            bytes.push(0x80 | count);
            bytes.extend(long);
        }
    }
    bytes.extend(content);
    bytes
}

const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Signs of a line of PEM.
const LINE: usize = 64;

/// DER as PEM.
pub(super) fn pem(what: &str, der: &[u8]) -> String {
    let mut signs = Vec::with_capacity(der.len() * 4 / 3 + 4);
    for group in der.chunks(3) {
        let at = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            signs.push(if place <= group.len() {
                char::from(SIGNS[index as usize])
            } else {
                '='
            });
        }
    }
    let mut text = format!("-----BEGIN {what}-----\n");
    for line in signs.chunks(LINE) {
        text.extend(line);
        text.push('\n');
    }
    text + &format!("-----END {what}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(field::<&[u8]>(SEQUENCE, &[]), [0x30, 0]);
        assert_eq!(field(UTF8, &[[7; 127]])[..2], [UTF8, 127]);
        assert_eq!(field(UTF8, &[[7; 128]])[..3], [UTF8, 0x81, 128]);
        assert_eq!(field(UTF8, &[[7; 256]])[..4], [UTF8, 0x82, 1, 0]);
    }

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
    }
}
