//! The command line: one file for each subcommand.

pub mod ask;
pub mod calibrate;
pub mod check;
pub mod console;
pub mod explain;
pub mod learned;
pub mod models;
pub mod once;
pub mod pin;
pub mod plan;
mod reach;
pub mod review;
pub mod selfcheck;
pub mod status;
pub mod trace;

pub use reach::{EXIT_USAGE, ReachError, Target};
