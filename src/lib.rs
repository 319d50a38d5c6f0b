//! lineside: an inference appliance for the factory line.
//!
//! Factory devices publish requests over MQTT; a model on the appliance answers them. Nothing
//! that was acknowledged is lost, whatever fails, and every request gets exactly one outcome.
//!
//! ```text
//!  MQTT ─► intake ─► spool (inbox) ─► router ─┬─► engine ──┬─► reply ─► spool (outbox) ─► MQTT
//!  ask  ─┘     │                              │      │     │
//!              │                              │      ▼     │
//!              │                              ├─► uplink ──┤   in doubt, or where the tier before
//!              │                              │      │     │   cannot: on, each step on the disk
//!              │                              │      ▼     │
//!              │                              ├─► review ──┤
//!              │                              └─ refusal ──┘
//!              └── PUBACK, once it is on the disk
//! ```
//!
//! The engine is a process of its own, started and watched by the service: what native code does
//! to itself, nothing else here feels. The [`governor`] says how much of it may run, and whose
//! requests the edge takes: heat and memory are budgets that are planned with, not surprises.
//!
//! # Invariants
//!
//! Numbered as in the design; tests name them. Those of parts that are still to come (models over
//! the air) stand there.
//!
//! 1. A request is acknowledged to the broker (PUBACK) only after it is durable on disk.
//! 2. Every accepted request gets exactly one terminal outcome: answered, or refused with a
//!    reason. Provisional replies may come before it. A duplicate of a request id gets the
//!    recorded outcome, never a second run.
//! 3. Restricted data goes nowhere but back to the device that asked, and before persons at this
//!    appliance: not into a cloud call, an item for reviewers elsewhere, telemetry, a log line, a
//!    metric or an error text. An unlabelled request counts as restricted. Whatever leads out of
//!    the appliance demands a clearance, and only the policy in [`router`] can mint one.
//! 4. Every reply says who answered, by which rule, with what confidence, from which model,
//!    whether the appliance was offline or degraded, and whether the reply is final.
//! 5. No temperature limit or memory budget is exceeded by work that the appliance admits; when a
//!    budget shrinks, it sheds, defers or reroutes with a reason, it never just dies.
//! 6. Everything that can grow has a byte or count limit. What is dropped is counted by reason;
//!    requests and replies are never dropped to make room for anything else.
//! 8. A crash of the engine, an abort in native code, or the kernel's OOM killer never takes down
//!    intake, spool, console or replies.
//! 9. A power cut at any moment loses no acknowledged request and no outcome; after restart the
//!    appliance carries on from the disk alone.
//!
//! # Reading order
//!
//! The modules below, top to bottom: each imports only what stands above it. Where a stage has
//! something to decide, it is a plain struct that is told the time and says what is to be done;
//! the task around it (`shell`) moves inputs and effects, and nothing else.

// The ground.
pub mod clock;

pub mod fault;

pub mod safe;

pub mod service;

pub mod config;

pub mod governor;

// What is served.
pub mod package;

// What comes in, and what it asks for.
pub mod intake;

pub mod engine;

pub mod ticket;

pub mod reply;

// The ways in and out, and what survives.
pub mod broker;

pub mod ota;

pub mod spool;

// The decisions, and the ways to models elsewhere and to persons.
pub mod router;

pub mod uplink;

pub mod review;

pub mod telemetry;

pub mod dispatch;

// The whole, and how people meet it.
pub mod console;

pub mod panel;

pub mod appliance;

pub mod cli;

// What those who sign packages have; no device does.
#[cfg(feature = "fleet")]
pub mod fleet;
