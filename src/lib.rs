//! lineside: an inference appliance for the factory line.

pub mod clock;
pub mod config;
pub mod service;
pub mod engine;
pub mod intake;
pub mod broker;
pub mod ticket;
