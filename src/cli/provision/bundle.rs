//! Certificates in the form in which a server hands them out: a signed message without a message and
//! without a signature (PKCS #7, RFC 5652; "certs-only", RFC 7030).

use super::der::{INTEGER, Lengths, OID, Reader, SEQUENCE, SET, part};
use crate::ota::tuf::unbase64;

/// Certificates in one answer: a device's own and those up to the root, or all roots through a change
/// of them.
pub(super) const MAX_CERTIFICATES: usize = 16;

/// Levels around the certificates that may have an end in place of a length: there are five.
const LENGTHS: Lengths = Lengths::OrEnds { depth: 6 };

const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

/// The certificates in an answer's body, each in DER; none if it has another form.
pub(super) fn certificates(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let signs: Vec<u8> = body
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let der = unbase64(&signs)?;
    let found = unwrapped(&der)?;
    let all = found.iter().map(|der| der.to_vec()).collect::<Vec<_>>();
    (1..=MAX_CERTIFICATES).contains(&all.len()).then_some(all)
}

fn unwrapped(der: &[u8]) -> Option<Vec<&[u8]>> {
    let mut outer = Reader::with(der, LENGTHS).only(SEQUENCE)?;
    (outer.take(OID)? == SIGNED_DATA).then_some(())?;
    let mut signed = outer.inside(part(0))?.only(SEQUENCE)?;
    outer.end()?;

    signed.take(INTEGER)?;
    signed.inside(SET)?.end()?; // digests: of no signature
    let mut message = signed.inside(SEQUENCE)?;
    (message.take(OID)? == DATA).then_some(())?;
    message.end()?;
    let mut listed = signed.inside(part(0))?;
    signed.take_if(part(1)); // what was revoked
    signed.inside(SET)?.end()?; // signatures
    signed.end()?;

    let mut found = Vec::new();
    while !listed.is_empty() && found.len() <= MAX_CERTIFICATES {
        found.push(listed.whole(SEQUENCE)?.whole);
    }
    Some(found)
}
