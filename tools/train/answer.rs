//! Asks a GGUF in bulk.
fn main() {}
