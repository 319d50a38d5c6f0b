//! Headers that are right, wrong at each edge, and made up by chance.

use std::fmt::Debug;
use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::package::tests::made::{TinyGguf, list, text};

fn read_bytes(bytes: &[u8]) -> Result<Header, GgufError> {
    read(Cursor::new(bytes), bytes.len() as u64)
}

#[track_caller]
fn complaint(file: &TinyGguf) -> String {
    read_bytes(&file.bytes()).unwrap_err().to_string()
}

#[test]
fn a_header_tells_what_the_model_is() {
    for version in [2, 3] {
        let mut file = TinyGguf::new("llama");
        file.version = version;
        let header = read_bytes(&file.bytes()).unwrap();
        assert_eq!(header.version, version);
        assert_eq!(header.architecture, "llama");
        assert_eq!(header.name.as_deref(), Some("Tiny Thing"));
        assert_eq!(header.context_tokens, Some(1024));
        assert_eq!(header.embedding_length, Some(32));
        assert_eq!(header.block_count, Some(2));
        assert_eq!((header.heads, header.kv_heads), (Some(4), Some(2)));
        assert_eq!((header.key_length, header.value_length), (Some(8), Some(8)));
        assert_eq!(header.vocabulary, 4);
        assert_eq!(header.parameters, 128);
        assert_eq!(header.tensor_bytes, 512);
        assert_eq!(header.quantization, Some("Q8_0"));
        assert_eq!(header.tokenizer.as_deref(), Some("gpt2"));
        assert!(header.chat_template.unwrap().contains("<|im_start|>"));
        assert_eq!(header.eos_id, Some(2));
        assert_eq!(header.splits, 1);
        let markers: Vec<_> = header.markers.into_iter().collect();
        assert_eq!(markers, ["<|endoftext|>", "<|im_end|>", "<|im_start|>"]);
    }
}

#[test]
fn of_heads_that_differ_by_block_the_most_count() {
    let file = TinyGguf::new("llama").numbers("llama.attention.head_count_kv", &[2, 0, 4, 1]);
    assert_eq!(read_bytes(&file.bytes()).unwrap().kv_heads, Some(4));
}

#[test]
fn what_is_no_gguf_is_called_so() {
    for bytes in [&b""[..], b"GGU", b"PK\x03\x04 and more"] {
        assert!(matches!(read_bytes(bytes), Err(GgufError::NotGguf)));
    }
    let mut file = TinyGguf::new("llama");
    file.version = 1;
    assert!(complaint(&file).starts_with("version 1 of the GGUF format"));
    file.version = 3u32.swap_bytes();
    assert!(complaint(&file).contains("big-endian"));
}

#[test]
fn a_file_that_was_cut_anywhere_is_refused() {
    let bytes = TinyGguf::new("llama").bytes();
    assert!(read_bytes(&bytes).is_ok());
    for end in 0..bytes.len() {
        let cut = read_bytes(&bytes[..end]).unwrap_err();
        assert!(
            matches!(cut, GgufError::NotGguf | GgufError::Truncated { .. }),
            "{end}: {cut}"
        );
    }
    // The file promised to be longer than it turns out to be.
    let shrunk = read(Cursor::new(&bytes[..100]), bytes.len() as u64);
    assert!(matches!(shrunk, Err(GgufError::Truncated { .. })));
}

#[test]
fn counts_are_believed_up_to_their_limits() {
    fn head(tensors: u64, pairs: u64) -> Vec<u8> {
        let counts = [tensors.to_le_bytes(), pairs.to_le_bytes()].concat();
        [b"GGUF", &3u32.to_le_bytes()[..], &counts].concat()
    }
    let absurd = |bytes: Vec<u8>| matches!(read_bytes(&bytes), Err(GgufError::Absurd { .. }));
    assert!(!absurd(head(MAX_TENSORS, MAX_PAIRS)));
    assert!(absurd(head(MAX_TENSORS + 1, 0)));
    assert!(absurd(head(0, MAX_PAIRS + 1)));
    assert!(absurd(head(u64::MAX, u64::MAX)));

    let key = |bytes: u64| "k".repeat(usize::try_from(bytes).unwrap());
    let file = |bytes| TinyGguf::new("llama").number(&key(bytes), 1);
    assert!(read_bytes(&file(MAX_NAME_BYTES).bytes()).is_ok());
    assert!(complaint(&file(MAX_NAME_BYTES + 1)).contains("bytes of a key"));

    let mut file = TinyGguf::new("llama");
    file.tensors[0].1 = vec![32, 2, 2, 1];
    assert!(read_bytes(&file.bytes()).is_ok());
    file.tensors[0].1 = vec![32, 2, 2, 1, 1];
    assert!(complaint(&file).contains("5 dimensions"));
}

#[test]
fn a_long_text_is_passed_over_and_not_kept() {
    let long = |bytes: u64| "t".repeat(usize::try_from(bytes).unwrap());
    let named = |bytes| {
        let file = TinyGguf::new("llama").text("general.name", &long(bytes));
        read_bytes(&file.bytes()).unwrap().name
    };
    assert_eq!(named(MAX_TEXT_BYTES), Some(long(MAX_TEXT_BYTES)));
    assert_eq!(named(MAX_TEXT_BYTES + 1), None);
}

#[test]
fn a_header_without_an_end_is_left() {
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            into.fill(b'x');
            self.0 += into.len() as u64;
            Ok(into.len())
        }
    }
    let head = [
        b"GGUF",
        &3u32.to_le_bytes()[..],
        &0u64.to_le_bytes(),
        &1u64.to_le_bytes(),
    ]
    .concat();
    let pair = [text("k"), 8u32.to_le_bytes().to_vec()].concat();
    let length = (MAX_HEADER_BYTES + 1).to_le_bytes().to_vec();
    let start = [head, pair, length].concat();
    let endless = Cursor::new(start).chain(Endless(0));
    assert!(matches!(read(endless, u64::MAX), Err(GgufError::Endless)));
}

#[test]
fn values_that_the_format_does_not_have_are_named() {
    let tiny = || TinyGguf::new("llama");
    assert!(complaint(&tiny().pair("k", 13, &[])).contains("unknown kind 13"));
    let nested = list(9, 1, &list(4, 0, &[]));
    assert_eq!(
        complaint(&tiny().pair("k", 9, &nested)),
        "\"k\" is a list of lists"
    );
    let many = list(0, u64::MAX, &[]);
    assert!(complaint(&tiny().pair("k", 9, &many)).starts_with("cut off"));
    assert!(complaint(&tiny().without("general.architecture")).contains("architecture"));
    for bad in [0, 3, 1 << 22] {
        let file = tiny().number("general.alignment", bad);
        assert!(complaint(&file).contains("general.alignment"));
    }
    let mut twice = tiny();
    twice.pairs.push(twice.pairs[0].clone());
    assert!(complaint(&twice).ends_with("twice"));
}

#[test]
fn a_tensor_that_cannot_be_is_named() {
    fn with(change: impl Fn(&mut (String, Vec<u64>, u32, u64))) -> TinyGguf {
        let mut file = TinyGguf::new("llama");
        change(&mut file.tensors[0]);
        file
    }
    for (file, what) in [
        (with(|tensor| tensor.2 = 4), "unknown way"),
        (with(|tensor| tensor.2 = 99), "unknown way"),
        (
            with(|tensor| (tensor.1, tensor.2) = (vec![16], 8)),
            "whole blocks",
        ),
        (with(|tensor| tensor.3 = 8), "not aligned"),
        (
            with(|tensor| tensor.1 = vec![1 << 40, 1 << 40]),
            "be counted",
        ),
        (with(|tensor| tensor.1 = vec![1 << 62]), "behind every file"),
        (with(|tensor| tensor.3 = u64::MAX - 31), "behind every file"),
    ] {
        let said = complaint(&file);
        assert!(said.starts_with("tensor \"token_embd.weight\""), "{said}");
        assert!(said.ends_with(what), "{said}");
    }
    let beyond = with(|tensor| tensor.3 = 32);
    assert!(complaint(&beyond).starts_with("cut off"));
}

/// Whatever it is, it ends in a header or in words.
fn survives(outcome: Result<Header, impl Debug + ToString>, bytes: usize) {
    match outcome {
        Ok(header) => assert!(header.data_offset <= bytes as u64),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let behind = [b"GGUF", &3u32.to_le_bytes()[..], &bytes].concat();
        survives(read_bytes(&behind), behind.len());
        survives(read_bytes(&bytes), bytes.len());
    }

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic(
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8)
    ) {
        let mut bytes = TinyGguf::new("llama").bytes();
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte;
        }
        survives(read_bytes(&bytes), bytes.len());
    }
}
