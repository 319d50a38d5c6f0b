//! `lineside-fleet`, the real binary: from two people's keys to a package that a device has staged,
//! and everything that must not get there. Where `python-tuf` and a software token are installed,
//! they are asked, too.

#![cfg(feature = "fleet")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "fleet/broken.rs"]
mod broken;
#[path = "fleet/device.rs"]
mod device;
#[path = "fleet/life.rs"]
mod life;
#[path = "fleet/plant.rs"]
mod plant;
#[path = "fleet/python.rs"]
mod python;
#[path = "fleet/terminal.rs"]
mod terminal;
#[path = "fleet/tiers.rs"]
mod tiers;
#[path = "fleet/token.rs"]
mod token;
