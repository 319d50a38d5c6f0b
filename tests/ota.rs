//! Packages over the air with real parts: a server that fails in every way it can, a stick that
//! is pulled, a disk that fills, and a crash before every single durable operation. Each ends with
//! the reason in words, and with a store that works.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

#[path = "ota/at_rest.rs"]
mod at_rest;
#[path = "support/cloud.rs"]
#[allow(dead_code, unreachable_pub)]
mod cloud;
#[path = "ota/crash.rs"]
mod crash;
#[path = "ota/disk.rs"]
mod disk;
#[path = "support/gguf.rs"]
#[allow(dead_code)]
mod gguf;
#[path = "ota/http.rs"]
mod http;
#[path = "ota/keeper.rs"]
mod keeper;
#[path = "ota/plant.rs"]
mod plant;
#[path = "support/publisher.rs"]
#[allow(dead_code, unreachable_pub)]
mod publisher;
#[path = "ota/server.rs"]
mod server;
#[path = "ota/store.rs"]
mod store;
#[path = "support/mod.rs"]
mod support;
