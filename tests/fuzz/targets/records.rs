//! Whatever lies on the disk, a record is read whole or reported damaged; what is read is what
//! would be written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lineside::spool::forms::{Filed, Letter, Passed, Waiting, read_step, seal_step};
use lineside::spool::record::{seal, unseal};

/// One form: from a body to the record that it would be written as.
type Form = fn(&[u8]) -> Option<Vec<u8>>;

const FORMS: [Form; 5] = [
    |body| Some(Waiting::read(body).ok()?.seal()),
    |body| Some(Filed::read(body).ok()?.seal()),
    |body| Some(Letter::read(body).ok()?.seal()),
    |body| seal_step(&read_step(body).ok()?),
    |body| Some(Passed::read(body).ok()?.seal()),
];

fuzz_target!(|data: &[u8]| {
    let Some((form, bytes)) = data.split_first() else {
        return;
    };
    let form = FORMS[usize::from(*form) % FORMS.len()];
    if let Ok(body) = unseal(bytes) {
        let _ = form(body);
    }
    // The checksum keeps nearly all inputs out; behind it they must be safe too.
    let sealed = seal(bytes);
    let body = unseal(&sealed).expect("sealed just now");
    assert_eq!(body, bytes);
    if let Some(written) = form(body) {
        let body = unseal(&written).expect("sealed just now");
        assert_eq!(form(body).as_deref(), Some(written.as_slice()));
    }
});
