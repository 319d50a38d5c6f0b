//! The wire form.
pub fn digest_of() {}
pub fn read() {}
