//! lineside
fn main(){}
