//! Keys and signatures that another implementation (securesystemslib) made over `lineside`.

use super::*;
use crate::ota::tuf::write::Signer;

const MESSAGE: &[u8] = b"lineside";
const RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAveSAjDfDEvumh2c052Um\n\
0uH1spUbWeLGMl6m3QLpAU9JnExOS31Q04x9CremmATW4wJ/CrF3MpEWoNzgvJvP\n\
vReeVbYVcF20UPS8NDP5ZavdXSfkDwGF8EYlrYhv/LBPGU/UrdsHlP9EkvXU5Hc0\n\
+eASaOxn6ZFrnoioCMe7oH8gtyToVxyrXvwR7ZpWIMpQTrf0BSxWKNTNNy0hOv4i\n\
nKU9IqTDngIISRrLkLipCWGa676UqbxEJdmXdvLGblRg2e4it688z0NqMDtb2/AY\n\
QDoFPwvVkQrNYcf6Ajp7ghWpoTdU21CKLJT2oGHfG4ZMTasRTdI8u6CLzArhk4+t\n\
nwIDAQAB\n\
-----END PUBLIC KEY-----\n\
";
const RSA_SIG: &str = "19dcb505378264a75e2cd12c1777d51bbbab327c09af37de37ca28a6ac4fd362e40f19928837f312e09d765d4c86ccd7\
e9318273fe5c011f446ce77a7cfc6c14b195d250db82ebd4d8b6571b199d27fca38f9b130c1feb92a51191d420db866f\
88061ade6586f260843bce0b4a03e7e721b3658ee0ce19f995d1ac4aeb69a4900113303e4348e77956bf4579177b8629\
cec8190c870c9c064e9ca92176896ef0f5c39eb669a7c9a8f06abb6ced2f247fa0ff17bdc8c022d04fe1afb2c3c13ca8\
a69f07f222ef403fa1927560dc5ea05be678f0911b72cb19b3093143b333cf1e250cf77eff4af215ac5e1e8966405b5a\
5df932f545a0634eb29e7f5bd96a746c";
const P256_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfgw5DJiaWZh1er8LKTqzHvfxPzPB\n\
PXDJH2R9ceFR+MVhFkmDxTMKFnUFdtHAgQRpcE6yOv8ZR1yBcvHTHZbvFg==\n\
-----END PUBLIC KEY-----\n\
";
const P256_SIG: &str = "3046022100f7df3e6e344b7d598c4b92029585aa632831d6b6827349123ec576040dca1b25022100eb8d45d9f03796c1\
7091e9d0c2428cf07ed6169afdc555268131a420e1aaed0b";
const P384_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEwBmmCRPnrWxT/Dj1QYpcNReVAZoa3/QV\n\
A+181mdZ3IeIMn+PRZsYxH4AvSfdQGZvbp3YFymM55iWAbEEkiupKtllXHAV1FQb\n\
G7O2b1CXjUIJPm52HqgT3XVgR7PIzg5l\n\
-----END PUBLIC KEY-----\n\
";
const P384_SIG: &str = "30650231009327fdb0aec238b34991dc6f820d613f63b24fca1746d6e4a36b67094d7b17a807e542676e0c99e5e9336a\
446829761002306e729c23ceb71314bc5457f1b1fd9468f656eb1c75e6e43c692fe13bf5259865ebad52fcbb0637601e\
68052241b0f7b9";
const ED_HEX: &str = "2fc20f3d29ed81c0a4b12d176f2835f66af607ae56dce54419df0c04624f8670";
const ED_SIG: &str = "392b64d95059e036278783d663ea2301e13304b2d147e26d7a5f7c22940b1be5bb36a5832efc7113b6de66a9ada0b962\
4a572170122007f0ca550d4b5a8c7305";

fn key(keytype: &str, scheme: &str, public: &str) -> Key {
    let text = serde_json::json!({
        "keytype": keytype, "scheme": scheme, "keyval": {"public": public}
    });
    serde_json::from_value(text).unwrap()
}

fn count(keys: &[(&str, Key)], signatures: &[(&str, &str)], payload: &[u8]) -> usize {
    let keyids: Vec<String> = keys.iter().map(|(id, _)| (*id).to_owned()).collect();
    let keys = keys.iter().map(|(id, key)| ((*id).to_owned(), key.clone()));
    let document = Signed {
        content: (),
        payload: payload.to_vec(),
        signatures: signatures
            .iter()
            .map(|(id, sig)| ((*id).to_owned(), (*sig).to_owned()))
            .collect(),
    };
    signers(&keyids, &keys.collect(), &document)
}

fn verifies(key: &Key, sig: &str, payload: &[u8]) -> bool {
    count(&[("k", key.clone())], &[("k", sig)], payload) == 1
}

#[test]
fn signatures_of_another_implementation_verify_and_only_over_their_message() {
    for (keytype, scheme, public, sig) in [
        ("rsa", "rsassa-pss-sha256", RSA_PEM, RSA_SIG),
        ("ecdsa", "ecdsa-sha2-nistp256", P256_PEM, P256_SIG),
        (
            "ecdsa-sha2-nistp256",
            "ecdsa-sha2-nistp256",
            P256_PEM,
            P256_SIG,
        ),
        ("ecdsa", "ecdsa-sha2-nistp384", P384_PEM, P384_SIG),
        ("ed25519", "ed25519", ED_HEX, ED_SIG),
    ] {
        let key = key(keytype, scheme, public);
        assert!(verifies(&key, sig, MESSAGE), "{scheme}");
        assert!(!verifies(&key, sig, b"linesidf"), "{scheme}");
        assert!(!verifies(&key, &sig[2..], MESSAGE), "{scheme}");
        let upper = sig.to_ascii_uppercase();
        assert!(verifies(&key, &upper, MESSAGE), "{scheme}");
    }
}

#[test]
fn a_key_speaks_only_for_the_scheme_that_fits_it() {
    for (keytype, scheme, public, sig) in [
        ("ecdsa", "ecdsa-sha2-nistp256", P384_PEM, P384_SIG),
        ("ecdsa", "ecdsa-sha2-nistp384", P256_PEM, P256_SIG),
        ("ecdsa", "ecdsa-sha2-nistp256", RSA_PEM, RSA_SIG),
        ("rsa", "rsassa-pss-sha256", P256_PEM, P256_SIG),
        ("rsa", "rsassa-pss-sha512", RSA_PEM, RSA_SIG),
        ("rsa", "ed25519", ED_HEX, ED_SIG),
        ("ed25519", "ed25519", P256_PEM, P256_SIG),
        ("sphincs+", "sphincs+", ED_HEX, ED_SIG),
    ] {
        let key = key(keytype, scheme, public);
        assert!(!verifies(&key, sig, MESSAGE), "{keytype} {scheme}");
    }
}

#[test]
fn a_damaged_pem_is_no_key() {
    let der = unarmoured(P256_PEM).unwrap();
    assert_eq!(der.len(), 91);
    // However it is broken into lines, it is the same key.
    let one_line: String = P256_PEM.lines().skip(1).take(2).collect();
    let other = format!("{BEGIN}\r\n{one_line}{END}");
    let key = spki(P256_PEM, &P256).unwrap();
    assert_eq!(spki(&other, &P256).unwrap(), key);
    assert_eq!(p256_spki(&key), P256_PEM);
    for len in 0..der.len() {
        let pem = format!("{BEGIN}{}{END}", base64(&der[..len]));
        assert!(spki(&pem, &P256).is_none(), "{len}");
    }
    for bad in [
        "",
        "x",
        BEGIN,
        "-----BEGIN PUBLIC KEY-----A-----END PUBLIC KEY-----",
    ] {
        assert!(spki(bad, &P256).is_none());
    }
    let trailing = format!("{BEGIN}{}{END}", base64(&[&der[..], &[0]].concat()));
    assert!(spki(&trailing, &P256).is_none());
}

#[test]
fn base64_has_one_form() {
    for (bytes, text) in [
        (&b""[..], ""),
        (b"a", "YQ=="),
        (b"ab", "YWI="),
        (b"abc", "YWJj"),
        (&[251, 255, 254], "+//+"),
    ] {
        assert_eq!(base64(bytes), text);
        assert_eq!(unbase64(text.as_bytes()).unwrap(), bytes);
    }
    for bad in [
        "Y", "YQ", "YQ=", "YR==", "YWJ=", "YQ==YQ==", "Y===", "====", "YW J",
    ] {
        assert_eq!(unbase64(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn different_keys_count_whatever_they_are_called() {
    let ed = || key("ed25519", "ed25519", ED_HEX);
    let upper = key("ed25519", "ed25519", &ED_HEX.to_ascii_uppercase());
    let ec = key("ecdsa", "ecdsa-sha2-nistp256", P256_PEM);
    let sigs = [("a", ED_SIG), ("b", ED_SIG), ("c", P256_SIG), ("d", ED_SIG)];
    assert_eq!(
        count(&[("a", ed()), ("b", ed()), ("d", upper)], &sigs, MESSAGE),
        1
    );
    assert_eq!(count(&[("a", ed()), ("c", ec.clone())], &sigs, MESSAGE), 2);
    // A signature under another's name.
    assert_eq!(count(&[("a", ec)], &sigs, MESSAGE), 0);
    assert_eq!(count(&[], &sigs, MESSAGE), 0);
}

#[test]
fn what_is_signed_here_verifies_here() {
    let (ed, secret) = Signer::generate().unwrap();
    let again = Signer::ed25519(&secret).unwrap();
    assert_eq!(ed.key(), again.key());
    assert_eq!(ed.id(), again.id());
    let (p256, secret) = Signer::generate_p256().unwrap();
    assert_eq!(p256.key(), Signer::p256(&secret).unwrap().key());
    assert!(Signer::p256(b"none").is_err() && Signer::ed25519(b"none").is_err());
    for signer in [ed, p256] {
        let sig = hex(&signer.sign(MESSAGE).unwrap());
        assert!(verifies(signer.key(), &sig, MESSAGE));
        assert!(!verifies(signer.key(), &sig, b"other"));
        assert!(!format!("{signer:?}").contains("pair"));
    }
}

#[test]
fn hexadecimal_reads_as_it_is_written() {
    assert_eq!(hex(&[0, 0x9f, 0xff]), "009fff");
    assert_eq!(unhex("009fFF"), Some(vec![0, 0x9f, 0xff]));
    for bad in ["0", "0g", "+1", " 1", "é"] {
        assert_eq!(unhex(bad), None, "{bad}");
    }
}
