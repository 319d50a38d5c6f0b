//! lineside
fn main() {}
