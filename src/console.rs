//! The console: people and scripts at the appliance itself.
//!
//! One [`table`] of commands serves every way in:
//!
//! ```text
//!  serial port ─ serial ─┐                     ┌─ words: a line becomes JSON
//!                        ├─ session ─ editor   │
//!  lineside console ─────┘   │ login   pages ──┴─ an answer becomes text
//!                            ▼
//!  lineside status, do, … ─ socket ─► commands ─► dispatcher, or house
//! ```
//!
//! The protocol of [`socket`] is one JSON object a line in each direction:
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
pub mod editor;
pub mod house;
pub mod login;
pub mod outbox;
mod packages;
mod pager;
pub mod pages;
pub mod review;
pub mod screen;
pub mod serial;
pub mod session;
pub mod socket;
pub mod table;
pub mod words;
