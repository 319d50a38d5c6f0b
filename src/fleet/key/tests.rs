use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::fleet::tests::Scratch;

fn passphrases(scratch: &Scratch, words: &str) -> Passphrases {
    let path = scratch.secret_file(&words.replace(' ', "-"), words);
    Passphrases::read(&[path], &[]).unwrap()
}

#[test]
fn a_key_signs_after_it_was_read_again_and_only_with_its_passphrase() {
    let scratch = Scratch::new("key");
    for (name, algorithm) in [("ann", Algorithm::Ed25519), ("ben", Algorithm::P256)] {
        let path = scratch.at(name);
        let mut right = passphrases(&scratch, "correct horse");
        let made = KeyFile::create(&path, algorithm, "Ann", &mut right).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = KeyFile::read(&path).unwrap();
        assert_eq!((&read.id, &read.comment), (&made.id, &"Ann".to_owned()));
        let signer = read.signer(&mut right).unwrap();
        let signature = signer.sign(b"payload").unwrap();
        assert!(made.key.verifies(b"payload", &signature));
        let mut wrong = passphrases(&scratch, "another horse");
        let error = read.signer(&mut wrong).unwrap_err();
        assert!(matches!(error, FleetError::Missing(_)), "{error}");
        assert!(!error.to_string().contains("another"), "{error}");
        assert!(KeyFile::create(&path, algorithm, "", &mut right).is_err());
    }
}

#[test]
fn the_passphrase_changes_and_the_key_stays() {
    let scratch = Scratch::new("passwd");
    let path = scratch.at("ann");
    let mut old = passphrases(&scratch, "correct horse");
    let mut new = passphrases(&scratch, "battery staple");
    let made = KeyFile::create(&path, Algorithm::Ed25519, "", &mut old).unwrap();
    made.change_passphrase(&mut old, &mut new).unwrap();
    let read = KeyFile::read(&path).unwrap();
    assert_eq!(read.id, made.id);
    assert!(read.signer(&mut old).is_err());
    assert!(read.signer(&mut new).is_ok());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_secret_put_behind_another_public_half_does_not_open() {
    let scratch = Scratch::new("swap");
    let mut words = passphrases(&scratch, "correct horse");
    let ann = KeyFile::create(&scratch.at("ann"), Algorithm::Ed25519, "", &mut words).unwrap();
    let ben = KeyFile::create(&scratch.at("ben"), Algorithm::Ed25519, "", &mut words).unwrap();
    let text = fs::read_to_string(&ann.path).unwrap();
    let swapped = text.replace(&ann.key.keyval.public, &ben.key.keyval.public);
    fs::write(scratch.at("mixed"), swapped).unwrap();
    let mixed = KeyFile::read(&scratch.at("mixed")).unwrap();
    assert!(mixed.signer(&mut words).is_err());
}

#[test]
fn a_public_half_entrusts_and_does_not_sign() {
    let scratch = Scratch::new("public");
    let mut words = passphrases(&scratch, "correct horse");
    let ann = KeyFile::create(&scratch.at("ann"), Algorithm::P256, "Ann", &mut words).unwrap();
    let text = ann.public_text();
    assert!(!text.contains("sealed"), "{text}");
    fs::write(scratch.at("ann.pub"), text).unwrap();
    let public = KeyFile::read(&scratch.at("ann.pub")).unwrap();
    assert_eq!(public.id, ann.id);
    let error = public.signer(&mut words).unwrap_err();
    assert!(error.to_string().contains("cannot sign"), "{error}");
}

#[test]
fn short_passphrases_open_files_and_strange_files_are_refused() {
    let scratch = Scratch::new("refused");
    let mut short = passphrases(&scratch, "short");
    let made = KeyFile::create(&scratch.at("ann"), Algorithm::Ed25519, "", &mut short);
    assert!(made.unwrap_err().to_string().contains("10 are the least"));
    assert!(!scratch.at("ann").exists());
    let open = scratch.secret_file("open", "correct horse");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let read = Passphrases::read(&[open], &[]);
    assert!(read.unwrap_err().to_string().contains("others may read it"));
    let unset = Passphrases::read(&[], &["LINESIDE_NO_SUCH_NAME".to_owned()]);
    assert!(unset.is_err());
    fs::write(scratch.at("strange"), "{}").unwrap();
    assert!(KeyFile::read(&scratch.at("strange")).is_err());
    assert!(KeyFile::read(&scratch.at("nowhere")).is_err());
}
