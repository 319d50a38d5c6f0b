//! lineside: an inference appliance for the factory line.

pub mod clock;
pub mod service;
pub mod config;
pub mod intake;
pub mod engine;
pub mod ticket;
pub mod reply;
pub mod broker;
pub mod spool;
pub mod router;
pub mod dispatch;
pub mod console;
pub mod appliance;
pub mod cli;
