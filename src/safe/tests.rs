//! The sealed form against truncation, damage and swaps, and what is left of keys in memory.

#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of these tests are small"
)]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::format::FRAME_EXTRA;
use super::*;

/// So small that a few bytes make several.
const FRAME: u32 = 16;

fn digest(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap()
}

fn key(first: u8) -> DeviceKey {
    DeviceKey::read(&[first; KEY_BYTES]).unwrap()
}

fn sealed_in(frame_bytes: u32, plain: &[u8], key: &DeviceKey) -> Vec<u8> {
    let header = Header::with_frames(plain.len() as u64, digest(plain), frame_bytes).unwrap();
    let cipher = Cipher::new(key, header.clone());
    let mut out = header.to_bytes().to_vec();
    for (index, piece) in plain.chunks(frame_bytes as usize).enumerate() {
        let mut frame = Frame::of(&header);
        frame.fill(piece);
        out.extend(written(&cipher, index as u64, &mut frame));
    }
    assert_eq!(out.len() as u64, header.sealed_bytes());
    out
}

/// A sealed frame, as it is written.
fn written(cipher: &Cipher, index: u64, frame: &mut Frame) -> Vec<u8> {
    let mut written = Vec::new();
    let write = |bytes: &[u8]| {
        written = bytes.to_vec();
        Ok::<_, SafeError>(())
    };
    cipher.seal(index, frame, write).unwrap();
    assert_eq!(frame.plain_bytes(), 0);
    written
}

fn sealed(plain: &[u8], key: &DeviceKey) -> Vec<u8> {
    sealed_in(FRAME, plain, key)
}

/// A file that goes with this.
struct Scratch(PathBuf);

impl Scratch {
    fn with(bytes: &[u8]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let no = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lineside-safe-{}-{no}", std::process::id());
        let path = std::env::temp_dir().join(name);
        File::create(&path).unwrap().write_all(bytes).unwrap();
        Self(path)
    }

    fn file(&self) -> File {
        File::open(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // it may be gone
    }
}

/// All plain bytes of a file, or what is wrong with it.
fn opened(file: &[u8], key: &DeviceKey, sha256: [u8; 32]) -> Result<Vec<u8>, SafeError> {
    let scratch = Scratch::with(file);
    let mut reader = Reader::open(scratch.file(), key, sha256)?;
    let mut plain = Vec::new();
    match reader.read_to_end(&mut plain) {
        Ok(_) => Ok(plain),
        Err(error) => Err(SafeError::Io(error)),
    }
}

fn some_bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 + at / 7) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_sealed_opens_as_what_it_was(plain in prop::collection::vec(any::<u8>(), 1..200)) {
        let file = sealed(&plain, &key(1));
        prop_assert_eq!(opened(&file, &key(1), digest(&plain)).unwrap(), plain);
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_does_not_open(
        plain in prop::collection::vec(any::<u8>(), 1..80), cut in any::<prop::sample::Index>(),
    ) {
        let file = sealed(&plain, &key(1));
        let cut = cut.index(file.len());
        prop_assert!(opened(&file[..cut], &key(1), digest(&plain)).is_err());
    }

    #[test]
    fn one_other_bit_anywhere_is_noticed(
        plain in prop::collection::vec(any::<u8>(), 1..80),
        at in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let mut file = sealed(&plain, &key(1));
        let at = at.index(file.len());
        file[at] ^= 1 << bit;
        prop_assert!(opened(&file, &key(1), digest(&plain)).is_err());
    }

    #[test]
    fn two_frames_that_changed_places_are_noticed(
        plain in prop::collection::vec(any::<u8>(), 48..96), a in 0_usize..3, b in 0_usize..3,
    ) {
        let mut file = sealed(&plain, &key(1));
        let (length, begin) = (FRAME as usize + FRAME_EXTRA, HEADER_BYTES);
        let frame = |no: usize| begin + no * length..begin + (no + 1) * length;
        let (one, other) = (file[frame(a)].to_vec(), file[frame(b)].to_vec());
        file[frame(a)].copy_from_slice(&other);
        file[frame(b)].copy_from_slice(&one);
        prop_assert_eq!(opened(&file, &key(1), digest(&plain)).is_ok(), a == b);
    }

    #[test]
    fn another_devices_key_opens_nothing(plain in prop::collection::vec(any::<u8>(), 1..80)) {
        let file = sealed(&plain, &key(1));
        prop_assert!(opened(&file, &key(2), digest(&plain)).is_err());
    }

    #[test]
    fn whatever_bytes_a_header_has_it_is_read_or_refused(
        mut head in prop::collection::vec(any::<u8>(), HEADER_BYTES), like in any::<bool>(),
    ) {
        if like {
            head[..12].copy_from_slice(b"LSSEALED\x01\0\0\0");
        }
        let head: [u8; HEADER_BYTES] = head.try_into().unwrap();
        if let Ok(header) = Header::parse(&head) {
            prop_assert_eq!(header.to_bytes(), head);
            prop_assert_eq!(header.plain_bytes(header.sealed_bytes()), header.bytes());
        }
    }

    #[test]
    fn of_a_file_that_is_begun_the_whole_frames_count(plain in 1_u64..500, cut in 0_u64..1500) {
        let header = Header::with_frames(plain, [0; 32], FRAME).unwrap();
        let cut = cut.min(header.sealed_bytes());
        let there = header.plain_bytes(cut);
        prop_assert!(there <= plain && header.place(there) <= cut.max(HEADER_BYTES as u64));
        let next = (there + u64::from(FRAME)).min(plain);
        prop_assert!(next == there || header.place(next) > cut, "{} {}", there, cut);
    }
}

#[test]
fn a_frame_of_another_file_is_noticed_even_under_the_same_key() {
    let (one, other) = (some_bytes(40), some_bytes(41)[1..].to_vec());
    let (mut file, donor) = (sealed(&one, &key(1)), sealed(&other, &key(1)));
    let from = HEADER_BYTES..HEADER_BYTES + FRAME as usize + FRAME_EXTRA;
    file[from.clone()].copy_from_slice(&donor[from]);
    let error = opened(&file, &key(1), digest(&one)).unwrap_err();
    assert!(
        error.to_string().contains("frame 0 does not open"),
        "{error}"
    );
    // As a whole, too.
    assert!(matches!(
        opened(&donor, &key(1), digest(&one)),
        Err(SafeError::Other)
    ));
    // And with the digest of the one written into the other.
    let mut forged = donor.clone();
    forged[24..56].copy_from_slice(&digest(&one));
    assert!(opened(&forged, &key(1), digest(&one)).is_err());
}

#[test]
fn the_same_bytes_sealed_twice_have_nothing_in_common_but_the_header() {
    let plain = vec![7; 64];
    let (one, other) = (sealed(&plain, &key(1)), sealed(&plain, &key(1)));
    let same = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a == b).count();
    assert!(same(&one[56..], &other[56..]) < 16);
    // Nor do two frames of one file.
    let frame = FRAME as usize + FRAME_EXTRA;
    let frames: Vec<_> = one[HEADER_BYTES..].chunks(frame).collect();
    assert!(same(frames[0], frames[1]) < 16);
    assert!(!one.windows(8).any(|it| it == [7; 8]));
}

#[test]
fn a_frame_that_is_written_again_has_another_nonce() {
    let plain = some_bytes(16);
    let header = Header::with_frames(16, digest(&plain), FRAME).unwrap();
    let cipher = Cipher::new(&key(1), header.clone());
    let once = || {
        let mut frame = Frame::of(&header);
        frame.fill(&plain);
        written(&cipher, 0, &mut frame)
    };
    let (one, other) = (once(), once());
    assert_ne!(one[..12], other[..12]);
    assert_ne!(one[12..], other[12..]);
}

#[test]
fn a_frame_that_could_not_be_written_is_plain_again() {
    let plain = some_bytes(10);
    let header = Header::with_frames(10, digest(&plain), FRAME).unwrap();
    let cipher = Cipher::new(&key(1), header.clone());
    let mut frame = Frame::of(&header);
    frame.fill(&plain[..4]);
    frame.fill(&plain[4..]);
    let full = |_: &[u8]| Err(SafeError::from(std::io::Error::other("full")));
    assert!(cipher.seal(0, &mut frame, full).is_err());
    assert_eq!(frame.plain_bytes(), 10);
    let mut sealed = written(&cipher, 0, &mut frame);
    assert_eq!(cipher.open(0, &mut sealed).unwrap(), plain);
}

#[test]
fn the_sizes_are_those_of_the_table() {
    let header = Header::new(200_000, [3; 32]).unwrap();
    assert_eq!(header.frame_bytes(), 65_536);
    assert_eq!(header.sealed_bytes(), 88 + 200_000 + 4 * 28);
    assert_eq!(sealed_length(200_000), header.sealed_bytes());
    assert_eq!(plain_length(88 + 2 * (65_536 + 28) + 5, 200_000), 131_072);
    let bytes = header.to_bytes();
    assert_eq!(&bytes[..8], b"LSSEALED");
    assert_eq!(&bytes[24..56], [3; 32]);
}

#[test]
fn what_is_no_sealed_file_is_told_apart() {
    let plain = some_bytes(20);
    let told = |file: &[u8]| opened(file, &key(1), digest(&plain)).unwrap_err();
    assert!(matches!(told(b"GGUF"), SafeError::NotSealed));
    assert!(matches!(told(&[b'G'; 200]), SafeError::NotSealed));
    let mut file = sealed(&plain, &key(1));
    file.push(0);
    assert!(matches!(told(&file), SafeError::Length { .. }));
    file.pop();
    file[8] = 2;
    assert!(matches!(told(&file), SafeError::Version(2)));
    file[8] = 1;
    file[12] = 17;
    assert!(matches!(told(&file), SafeError::Header));
}

#[test]
fn a_device_key_is_its_bytes_or_their_hexadecimal_and_is_never_shown() {
    let bytes: Vec<u8> = (0..32).collect();
    let mut hex = String::new();
    for byte in &bytes {
        write!(hex, "{byte:02x}").unwrap();
    }
    let key = DeviceKey::read(&bytes).unwrap();
    assert_eq!(DeviceKey::read(hex.as_bytes()), Some(key.clone()));
    let line = format!("{}\n", hex.to_uppercase());
    assert_eq!(DeviceKey::read(line.as_bytes()), Some(key.clone()));
    for wrong in [&bytes[..31], b"", &hex.as_bytes()[..63], &[b'x'; 64][..]] {
        assert_eq!(DeviceKey::read(wrong), None);
    }
    assert_eq!(format!("{key:?}"), "DeviceKey(…)");
}

#[test]
fn the_key_is_derived_as_the_standard_says() {
    // HKDF of RFC 5869 step by step, with HMAC alone.
    let (device, salt, sha256) = ([9_u8; 32], [5_u8; 32], [6_u8; 32]);
    let hmac = |key: &[u8], text: &[u8]| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
        ring::hmac::sign(&key, text).as_ref().to_vec()
    };
    let secret = hmac(&salt, &device);
    let derived = hmac(
        &secret,
        &[b"lineside at rest 1", &sha256[..], &[1]].concat(),
    );
    let own = DeviceKey::read(&device).unwrap().of_file(&salt, &sha256);
    let nonce = || ring::aead::Nonce::assume_unique_for_key([0; 12]);
    let mut sealed = b"the same".to_vec();
    let aad = || ring::aead::Aad::empty();
    own.get()
        .seal_in_place_append_tag(nonce(), aad(), &mut sealed)
        .unwrap();
    let key = ring::aead::UnboundKey::new(&ring::aead::AES_256_GCM, &derived).unwrap();
    let key = ring::aead::LessSafeKey::new(key);
    assert_eq!(
        key.open_in_place(nonce(), aad(), &mut sealed).unwrap(),
        b"the same"
    );
}

#[test]
fn in_memory_it_is_plain_and_nobody_can_change_it() {
    let plain = some_bytes(200_000);
    let scratch = Scratch::with(&sealed_in(FRAME_BYTES, &plain, &key(1)));
    let reader = Reader::open(scratch.file(), &key(1), digest(&plain)).unwrap();
    let memory = in_memory(reader).unwrap();
    // As the engine opens it.
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    assert_eq!(fs::read(&path).unwrap(), plain);
    let link = fs::read_link(&path).unwrap();
    assert!(
        link.starts_with("/memfd:lineside-model (deleted)")
            || link.to_string_lossy().contains("memfd")
    );
    assert!(
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .map_or(true, |it| it.write_at(b"x", 0).is_err())
    );
    let file = File::from(memory);
    assert!(file.write_at(b"x", 0).is_err());
    assert!(file.set_len(1).is_err() && file.set_len(1 << 20).is_err());
    let seals = rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::empty());
    assert!(seals.is_err(), "it can be sealed no more");
    let flags = rustix::io::fcntl_getfd(file.as_fd()).unwrap();
    assert!(
        flags.contains(rustix::io::FdFlags::CLOEXEC),
        "no child inherits it"
    );
}

#[test]
fn a_damaged_file_gives_no_memory() {
    let plain = some_bytes(200_000);
    let mut file = sealed_in(FRAME_BYTES, &plain, &key(1));
    let last = file.len() - 1;
    file[last] ^= 1;
    let scratch = Scratch::with(&file);
    let reader = Reader::open(scratch.file(), &key(1), digest(&plain)).unwrap();
    assert!(matches!(in_memory(reader), Err(SafeError::Broken(3))));
}

#[test]
fn a_process_that_holds_secrets_cannot_be_dumped() {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
    keep_out_of_dumps().unwrap();
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    let limit = getrlimit(Resource::Core);
    assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
}

#[test]
fn compressed_memory_is_no_disk() {
    const HEAD: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
    assert!(!swaps_to_disk(HEAD) && !swaps_to_disk(""));
    assert!(!swaps_to_disk(&format!(
        "{HEAD}/dev/zram0  partition 1 0 5\n"
    )));
    assert!(swaps_to_disk(&format!(
        "{HEAD}/dev/zram0 partition 1 0 5\n/swapfile file 1 0 -2\n"
    )));
}

/// Looks through all memory of this process for a text that is given in the negative, so that
/// looking for it does not make it be there.
fn lies_in_memory(negative: &[u8]) -> bool {
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut piece = vec![0; 1 << 20];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (mut at, to) = (number(from), number(to));
        while at < to {
            let room = piece.len().min((to - at) as usize);
            let Ok(count) = memory.read_at(&mut piece[..room], at) else {
                break;
            };
            if count < negative.len() {
                break;
            }
            let found = |it: &[u8]| it.iter().zip(negative).all(|(a, b)| *a == !b);
            let hit = piece[..count].windows(negative.len()).any(found);
            // The piece is memory, too.
            piece[..count].fill(0);
            if hit {
                return true;
            }
            at += (count - negative.len() + 1).max(1) as u64;
            if count == room && at + negative.len() as u64 > to {
                break;
            }
        }
    }
    false
}

#[test]
fn of_a_key_that_is_dropped_nothing_is_left_in_memory() {
    // A key of this test's own, which is nowhere written down in the positive.
    let negative: Vec<u8> = (0..32_u8)
        .map(|at| at.wrapping_mul(73).wrapping_add(29) ^ 0x5A)
        .collect();
    let read = || {
        let mut bytes = zeroize::Zeroizing::new([0_u8; 32]);
        for (byte, not) in bytes.iter_mut().zip(&negative) {
            *byte = !not;
        }
        DeviceKey::read(&bytes[..]).unwrap()
    };
    let key = read();
    assert!(lies_in_memory(&negative), "the search finds what is there");
    let plain = some_bytes(100);
    let header = Header::with_frames(100, digest(&plain), FRAME).unwrap();
    let cipher = Cipher::new(&key, header.clone());
    let mut frame = Frame::of(&header);
    frame.fill(&plain[..16]);
    written(&cipher, 0, &mut frame);
    drop((cipher, key));
    assert!(!lies_in_memory(&negative), "the device key is still there");
}

#[test]
fn of_a_file_key_that_is_dropped_nothing_is_left_in_memory() {
    let (device, salt, sha256) = ([0x3C_u8; 32], [0xC5_u8; 32], [0x96_u8; 32]);
    // The file key in the negative; what is computed here is wiped at once.
    let negative = negative_of_file_key(&device, &salt, &sha256);
    clean_stack();
    assert!(!lies_in_memory(&negative));
    let key = DeviceKey::read(&device).unwrap().of_file(&salt, &sha256);
    assert!(lies_in_memory(&negative), "the search finds what is there");
    drop(key);
    assert!(!lies_in_memory(&negative), "the file key is still there");
}

#[inline(never)]
fn negative_of_file_key(device: &[u8], salt: &[u8], sha256: &[u8]) -> Vec<u8> {
    let hmac = |key: &[u8], text: &[u8]| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
        ring::hmac::sign(&key, text)
    };
    let secret = hmac(salt, device);
    let text = [b"lineside at rest 1", sha256, &[1]].concat();
    hmac(secret.as_ref(), &text)
        .as_ref()
        .iter()
        .map(|byte| !byte)
        .collect()
}

#[inline(never)]
#[allow(
    clippy::large_stack_arrays,
    reason = "it is the stack that is to be overwritten"
)]
fn clean_stack() {
    let mut over = [1_u8; 1 << 16];
    zeroize::Zeroize::zeroize(&mut over);
    std::hint::black_box(&over);
}
