//! lineside: an inference appliance for the factory line.

pub mod appliance;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod dispatch;
pub mod engine;
pub mod intake;
pub mod reply;
pub mod router;
pub mod service;
pub mod spool;
pub mod ticket;
