//! When a certificate is asked for, and what is taken for one.

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

use super::*;
use crate::cli::provision::bundle::{MAX_CERTIFICATES, certificates};
use crate::cli::provision::der::{INTEGER, OID, SEQUENCE, SET, field, part};
use crate::clock::DAY_MS;
use crate::ota::tuf::{Expiry, unbase64};

/// A key, and a certificate of it that lasts from the first of January to the thirtieth.
struct Born {
    pair: EcdsaKeyPair,
    der: Vec<u8>,
}

fn born() -> Born {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["press-7.plant".into()]).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "press-7");
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2026, 1, 31);
    let der = params.self_signed(&key).unwrap().der().to_vec();
    let pkcs8 = key.serialize_der();
    let signing = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pair = EcdsaKeyPair::from_pkcs8(signing, &pkcs8, &SystemRandom::new()).unwrap();
    Born { pair, der }
}

fn day(day: u64) -> Wall {
    let january = Expiry::parse("2026-01-01T00:00:00Z").unwrap().moment();
    Wall(january.0 + day * DAY_MS)
}

fn step(pair: &EcdsaKeyPair, present: Option<&[u8]>, now: Wall, is_forced: bool) -> Step {
    let identity = Identity {
        cert_file: "device.pem".into(),
        key_file: "device.key".into(),
    };
    let device = Device {
        pair,
        request: &[],
        identity: &identity,
        present,
    };
    device.step(now, is_forced)
}

#[test]
fn a_certificate_is_asked_for_where_there_is_none_and_again_in_the_last_third_of_its_life() {
    let own = born();
    let of = |now, is_forced| step(&own.pair, Some(&own.der), now, is_forced);
    assert_eq!(of(day(0), false), Step::Nothing);
    assert_eq!(of(day(19), false), Step::Nothing);
    assert_eq!(of(day(20), false), Step::Again);
    assert_eq!(of(day(29), false), Step::Again);
    assert_eq!(of(day(30), false), Step::First, "it has run out");
    assert_eq!(of(day(1), true), Step::Again);
    assert_eq!(of(Wall(0), false), Step::Nothing, "a clock in 1970");
    assert_eq!(step(&own.pair, None, day(1), false), Step::First);
    let other = born();
    assert_eq!(
        step(&own.pair, Some(&other.der), day(1), false),
        Step::First,
        "another key's"
    );
    assert_eq!(step(&own.pair, Some(b"none"), day(1), false), Step::First);
}

#[test]
fn a_certificate_says_whose_it_is_and_how_long_it_lasts() {
    let own = born();
    let read = Certificate::read(&own.der).unwrap();
    assert_eq!((read.from, read.until), (day(0), day(30)));
    assert_eq!(read.public, request::public(&own.pair));
    let holds = |bytes: &[u8], name: &[u8]| bytes.windows(name.len()).any(|it| it == name);
    assert!(holds(read.subject, b"press-7"));
    assert!(holds(read.alt_names.unwrap(), b"press-7.plant"));
    // A request for the same again carries the same names, byte for byte.
    let again = request::again(&own.pair, &read).unwrap();
    assert!(holds(&again, read.subject) && holds(&again, read.alt_names.unwrap()));
    for length in 0..own.der.len() {
        assert_eq!(Certificate::read(&own.der[..length]), None, "{length}");
    }
}

/// What servers send: the certificates, nothing revoked, nothing signed.
fn wrapped(certificates: &[Vec<u8>], behind: &[u8]) -> Vec<u8> {
    let data = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
    let signed = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    let inner = field(
        SEQUENCE,
        &[
            field(INTEGER, &[[1]]),
            field::<&[u8]>(SET, &[]),
            field(SEQUENCE, &[field(OID, &[data])]),
            field(part(0), certificates),
            field(SET, &[behind]),
        ],
    );
    field(SEQUENCE, &[field(OID, &[signed]), field(part(0), &[inner])])
}

#[test]
fn a_bundle_is_read_in_its_strict_form_only() {
    let der = born().der;
    let body = |der: &[u8]| base64(der).into_bytes();
    let good = wrapped(&[der.clone(), der.clone()], &[]);
    assert_eq!(
        certificates(&body(&good)).unwrap(),
        [der.clone(), der.clone()]
    );
    // Servers break lines.
    let lines = body(&good)
        .chunks(64)
        .collect::<Vec<_>>()
        .join(&b"\r\n"[..]);
    assert_eq!(certificates(&lines).unwrap().len(), 2);

    // Servers in Java leave lengths out.
    let open = |tag: u8, content: &[u8]| [&[tag, 0x80], content, &[0, 0]].concat();
    let data = field(
        OID,
        &[[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01]],
    );
    let signed = field(
        OID,
        &[[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02]],
    );
    let inner = [
        field(INTEGER, &[[1]]),
        field::<&[u8]>(SET, &[]),
        open(SEQUENCE, &data),
        open(part(0), &der),
        field::<&[u8]>(SET, &[]),
    ];
    let inner = open(part(0), &open(SEQUENCE, &inner.concat()));
    let java = open(SEQUENCE, &[signed, inner].concat());
    assert_eq!(
        certificates(&body(&java)).unwrap(),
        std::slice::from_ref(&der)
    );

    let many = vec![der.clone(); MAX_CERTIFICATES + 1];
    for (wrong, why) in [
        (body(&wrapped(&many, &[])), "too many"),
        (body(&wrapped(&[], &[])), "none"),
        (body(&wrapped(&[vec![4, 0]], &[])), "no certificate"),
        (
            body(&wrapped(std::slice::from_ref(&der), &[0x30, 0])),
            "signed",
        ),
        (body(&[&good[..], &[0]].concat()), "something behind"),
        (good.clone(), "not in base64"),
        (b"-----BEGIN PKCS7-----".to_vec(), "PEM"),
        (Vec::new(), "empty"),
    ] {
        assert_eq!(certificates(&wrong), None, "{why}");
    }
    for length in 0..good.len() {
        assert_eq!(certificates(&body(&good[..length])), None, "{length}");
    }
}

/// A changed answer is refused, or holds certificates that are looked at themselves.
#[test]
fn no_answer_can_do_more_than_be_refused() {
    let der = born().der;
    let good = wrapped(std::slice::from_ref(&der), &[]);
    for at in 0..good.len() {
        for bit in [1, 0x20, 0x80] {
            let mut changed = good.clone();
            changed[at] ^= bit;
            for certificate in certificates(base64(&changed).as_bytes()).unwrap_or_default() {
                Certificate::read(&certificate);
            }
        }
    }
    assert_eq!(unbase64(base64(&good).as_bytes()).unwrap(), good);
}

#[test]
fn an_answer_is_known_by_its_kind() {
    for good in [
        "application/pkcs7-mime",
        "application/pkcs7-mime; smime-type=certs-only",
        "Application/PKCS7-MIME;smime-type=\"certs-only\"; name=x",
    ] {
        assert!(is_bundle(good), "{good}");
    }
    for wrong in [
        "",
        "text/html",
        "application/pkcs7-mime-x",
        "application/pkcs7-mime; smime-type=server-generated-key",
    ] {
        assert!(!is_bundle(wrong), "{wrong}");
    }
}

#[test]
fn what_a_server_says_is_cut_and_cleaned() {
    let heard = |content_type: &str, body: &[u8]| Heard {
        content_type: content_type.into(),
        body: body.to_vec(),
        ..Heard::default()
    };
    assert_eq!(words(&heard("text/plain", b"no\x1b[2J\n")), ": no?[2J");
    assert_eq!(words(&heard("text/html", b"<p>no")), "");
    let long = words(&heard("text/plain; charset=utf-8", &[b'x'; 5000]));
    assert_eq!(long.len(), MAX_WORDS + 2);
}
