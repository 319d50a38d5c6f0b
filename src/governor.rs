//! Keeps the appliance within its limits of heat and memory.

pub mod health;
pub mod sysfs;
