//! The governor: heat and memory as budgets.
//!
//! Purpose: an appliance in a closed cabinet must run for years without ever tripping on its own
//! heat or starving its machine of memory. What may run is said in an [`Allowance`], which the
//! engine paces itself by and the dispatcher decides by.

mod allowance;
pub mod health;
pub mod memory;
pub mod sysfs;

pub use allowance::{Allowance, Cause, Forecast, Level, Speculation, Taken};
