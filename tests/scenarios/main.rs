//! Scenarios: a seeded world in virtual time, with faults, checked after every step.
//!
//! `LINESIDE_SEEDS=N` runs that many seeds, `LINESIDE_SEED=n` one, with all that happens in it.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the message")]
#![allow(
    clippy::struct_excessive_bools,
    reason = "each is a fault that may come alone or with the others"
)]

mod bounds;
mod brief;
mod broker;
mod cascade;
mod cloud;
mod devices;
mod disk;
mod ears;
mod edges;
mod engine;
mod heat;
mod invariants;
mod persons;
mod plan;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

const SEEDS: u64 = 10_000;
/// Broken seeds after which the rest need not be tried.
const ENOUGH: usize = 8;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_invariant_breaks_in_thousands_of_seeds() {
    if let Some(seed) = from_env("LINESIDE_SEED") {
        World::live(seed, true);
        return;
    }
    let count = from_env("LINESIDE_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let steps = AtomicU64::new(0);
    let broken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        break;
                    }
                    let life = std::panic::catch_unwind(|| World::live(seed, false));
                    match life {
                        Ok(taken) => drop(steps.fetch_add(u64::from(taken), Ordering::Relaxed)),
                        Err(_) => broken.lock().unwrap().push(seed),
                    }
                    if broken.lock().unwrap().len() >= ENOUGH {
                        break;
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap();
    assert!(broken.is_empty(), "broken in the seeds {broken:?}");
    println!("{count} seeds, {} steps", steps.into_inner());
}
