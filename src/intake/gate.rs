//! The gate.
#[derive(Debug)]
pub struct Gate;
#[derive(Debug)]
pub struct GateLimits;
