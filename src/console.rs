//! The console: people and scripts at the appliance itself.
//!
//! One table of commands ([`commands`]) serves every way in; [`socket`] is the local Unix
//! socket behind `lineside status`, `trace` and `ask`. The protocol is one JSON object a line
//! in each direction:
//!
//! ```text
//! → {"cmd":"trace","id":"press7-000123"}
//! ← {"ok":true,"data":[{"id":"press7-000123","client":"press7","steps":[…]}]}
//! → {"cmd":"tarce"}
//! ← {"ok":false,"error":{"code":"unknown_command","message":"…"}}
//! ```
//!
//! Invariant: a command can neither block the appliance nor end it. Lines, connections and the
//! wait for an answer are bounded.

pub mod client;
pub mod commands;
mod packages;
pub mod review;
pub mod socket;
