//! Whatever a model file holds, reading its header ends in facts that fit the file, or in words.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use lineside::package::gguf::{MAX_TENSORS, read};
use lineside::package::{Frame, Template};

fuzz_target!(|bytes: &[u8]| {
    let length = bytes.len() as u64;
    match read(Cursor::new(bytes), length) {
        Ok(header) => {
            assert!(header.data_offset <= length);
            assert!(header.tensors <= MAX_TENSORS.min(length));
            assert!(header.vocabulary <= length || header.markers.is_empty());
            assert!(header.splits >= 1);
            let _ = Template::of_header(&header);
            let _ = Frame::of_header(&header, "An instruction.");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
