//! Packages whose models lie encrypted.

use super::adapter::{PAIR, bench, lora};
use super::*;
use crate::safe::{Cipher, FRAME_BYTES, Frame, Header as Head, SafeError};

fn key(byte: u8) -> DeviceKey {
    DeviceKey::read(&[byte; 32]).unwrap()
}

/// Seals a file of the package, and takes the plain one away.
fn seal(bench: &Bench, name: &str) {
    let plain = fs::read(bench.0.join(name)).unwrap();
    let header = Head::new(plain.len() as u64, Digest::of(&plain).0).unwrap();
    let cipher = Cipher::new(&key(1), header.clone());
    let mut sealed = header.to_bytes().to_vec();
    let mut frame = Frame::of(&header);
    for (index, piece) in (0..).zip(plain.chunks(FRAME_BYTES as usize)) {
        frame.fill(piece);
        let write = |bytes: &[u8]| {
            sealed.extend_from_slice(bytes);
            Ok::<_, SafeError>(())
        };
        cipher.seal(index, &mut frame, write).unwrap();
    }
    bench.write(&format!("{name}.sealed"), &sealed);
    fs::remove_file(bench.0.join(name)).unwrap();
}

fn opened(bench: &Bench, byte: u8) -> Result<Package, String> {
    Package::open_with(&bench.0, Some(&key(byte))).map_err(|faults| faults.to_string())
}

#[test]
fn a_sealed_model_and_adapter_are_opened_with_the_key_and_told_where_they_lie() {
    let bench = bench(&lora(&PAIR), "0.5");
    let plain = bench.open().unwrap();
    seal(&bench, "tiny.gguf");
    seal(&bench, "lora.gguf");
    let package = opened(&bench, 1).unwrap();
    package.verify().unwrap();
    assert!(package.is_sealed() && lies_sealed(&bench.0) && !plain.is_sealed());
    let (variant, header) = package.variants().next().unwrap();
    assert_eq!(header, plain.variants().next().unwrap().1);
    assert_eq!(
        package.model_path(variant),
        bench.0.join("tiny.gguf.sealed")
    );
    let (adapter, _) = package.adapter().unwrap();
    assert_eq!(adapter, bench.0.join("lora.gguf.sealed"));
    assert_eq!(
        package.sealed_model(variant).unwrap().bytes(),
        variant.file.bytes
    );
    assert_eq!(package.sealed_adapter().unwrap().path(), adapter);
    // Without the key, and with another's.
    let told = bench.open().unwrap_err().to_string();
    assert_eq!(told.matches("this file is encrypted").count(), 2, "{told}");
    assert!(told.contains("ota.device_key_file"), "{told}");
    let told = opened(&bench, 2).unwrap_err();
    assert!(told.contains("sealed with another device's key"), "{told}");
}

#[test]
fn a_sealed_file_that_is_another_or_too_short_or_too_much_is_a_fault() {
    let bench = Bench::new();
    seal(&bench, "tiny.gguf");
    opened(&bench, 1).unwrap();
    let path = bench.0.join("tiny.gguf.sealed");
    let good = fs::read(&path).unwrap();
    let mut other = good.clone();
    other[30] ^= 1; // of the digest that it says it has
    fs::write(&path, &other).unwrap();
    let told = opened(&bench, 1).unwrap_err();
    assert!(told.contains("another file was put in its place"), "{told}");
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(opened(&bench, 1).is_err());
    let mut rotten = good.clone();
    *rotten.last_mut().unwrap() ^= 1;
    fs::write(&path, &rotten).unwrap();
    assert!(
        opened(&bench, 1).is_err(),
        "a file of one frame is found at once"
    );
    // Beside a plain one it is not listed, and nothing but a model may lie so.
    fs::write(&path, &good).unwrap();
    bench.write("tiny.gguf", &TinyGguf::new("llama").bytes());
    assert!(opened(&bench, 1).unwrap_err().contains("(not listed)"));
    fs::remove_file(&path).unwrap();
    seal(&bench, "grammars/triage.gbnf");
    let told = opened(&bench, 1).unwrap_err();
    assert!(
        told.contains("(not there)") && told.contains("(not listed)"),
        "{told}"
    );
}
