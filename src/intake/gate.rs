//! The gate: how much of one client's, and of everybody's, may be under way.
//!
//! Purpose: one device that goes wild takes only its own share. For each client a token bucket
//! bounds the rate and a counter the requests in flight; one counter bounds them all.
//!
//! Invariant: the table has at most [`MAX_CLIENTS`] entries, and an entry is only dropped when
//! it says nothing (a full bucket, nothing in flight). A client that finds the table full shares
//! the bucket of all such clients: names that an attacker makes up gain him nothing.

use std::collections::HashMap;
use std::time::Duration;

use super::{Client, Code};
use crate::clock::Mono;

/// Clients that are told apart: about 200 bytes each.
pub const MAX_CLIENTS: usize = 4096;

/// What the gate lets through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateLimits {
    /// Open requests of one client.
    pub per_client: u32,
    /// Open requests of all.
    pub total: u32,
    /// Requests a second of one client, in the long run.
    pub rate_per_s: f64,
    /// Requests of one client at once.
    pub burst: f64,
}

/// Counts and buckets.
#[derive(Debug)]
pub struct Gate {
    limits: GateLimits,
    clients: HashMap<String, Entry>,
    open: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    in_flight: u32,
    tokens: f64,
    filled: Mono,
}

/// Why the gate stays shut, and for how long about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shut {
    /// For programs.
    pub code: Code,
    /// When another try makes sense.
    pub retry_after_ms: u64,
    /// For people.
    pub why: &'static str,
}

/// Where too many are under way, a try after this long finds some gone.
const BUSY_RETRY_MS: u64 = 500;

/// The scope that stands for all clients beyond the table.
const CROWD: &str = "*";

impl Gate {
    /// An empty gate.
    pub fn new(limits: GateLimits) -> Self {
        Self {
            limits,
            clients: HashMap::new(),
            open: 0,
        }
    }

    /// Lets one request of `client` in, or says why not. Whoever was let in is to be let out by
    /// [`Gate::leave`].
    pub fn enter(&mut self, client: &Client, now: Mono) -> Result<(), Shut> {
        let limits = self.limits;
        let open = self.open;
        let entry = self.entry(client, now);
        entry.refill(&limits, now);
        if entry.tokens < 1.0 {
            let wait_s = (1.0 - entry.tokens) / limits.rate_per_s;
            return Err(Shut {
                code: Code::RateLimited,
                retry_after_ms: Duration::try_from_secs_f64(wait_s)
                    .map_or(u64::MAX, |wait| crate::clock::millis(wait) + 1),
                why: "this client sends faster than it may",
            });
        }
        let busy = |why| {
            Err(Shut {
                code: Code::Busy,
                retry_after_ms: BUSY_RETRY_MS,
                why,
            })
        };
        if entry.in_flight >= limits.per_client {
            return busy("this client has too many open requests");
        }
        if open >= limits.total {
            return busy("the appliance has too many open requests");
        }
        entry.tokens -= 1.0;
        entry.in_flight += 1;
        self.open += 1;
        Ok(())
    }

    /// Counts a request that was let in before a restart.
    pub fn resume(&mut self, client: &Client, now: Mono) {
        self.entry(client, now).in_flight += 1;
        self.open += 1;
    }

    /// One request of `client` has its outcome.
    pub fn leave(&mut self, client: &Client) {
        // A client that came while the table was full was counted in the crowd; its own entry,
        // if it got one since, is paid off first, so the sum stays right.
        let own = self.clients.get_mut(&client.scope());
        if let Some(entry) = own.filter(|entry| entry.in_flight > 0) {
            entry.in_flight -= 1;
        } else if let Some(crowd) = self.clients.get_mut(CROWD) {
            crowd.in_flight = crowd.in_flight.saturating_sub(1);
        }
        self.open = self.open.saturating_sub(1);
    }

    /// One request is gone, and nobody knows whose it was.
    pub fn lose(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Requests under way.
    pub fn open(&self) -> u32 {
        self.open
    }

    fn entry(&mut self, client: &Client, now: Mono) -> &mut Entry {
        let mut scope = client.scope();
        if !self.clients.contains_key(&scope) && self.clients.len() >= MAX_CLIENTS {
            let limits = self.limits;
            self.clients.retain(|_, entry| {
                entry.refill(&limits, now);
                entry.in_flight > 0 || entry.tokens < limits.burst
            });
            if self.clients.len() >= MAX_CLIENTS {
                scope = CROWD.into();
            }
        }
        let burst = self.limits.burst;
        self.clients.entry(scope).or_insert(Entry {
            in_flight: 0,
            tokens: burst,
            filled: now,
        })
    }
}

impl Entry {
    fn refill(&mut self, limits: &GateLimits, now: Mono) {
        let gained = now.since(self.filled).as_secs_f64() * limits.rate_per_s;
        self.tokens = (self.tokens + gained).min(limits.burst);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GateLimits = GateLimits {
        per_client: 2,
        total: 3,
        rate_per_s: 1.0,
        burst: 4.0,
    };

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    fn client(name: &str) -> Client {
        Client::Claimed(name.into())
    }

    #[test]
    fn a_client_has_so_many_in_flight_and_another_is_not_touched_by_it() {
        let mut gate = Gate::new(LIMITS);
        assert!(gate.enter(&client("a"), at(0)).is_ok());
        assert!(gate.enter(&client("a"), at(0)).is_ok());
        assert_eq!(
            gate.enter(&client("a"), at(0)).unwrap_err().code,
            Code::Busy
        );
        assert!(gate.enter(&client("b"), at(0)).is_ok());
        gate.leave(&client("a"));
        assert!(gate.enter(&client("a"), at(0)).is_ok());
    }

    #[test]
    fn all_together_have_so_many_in_flight() {
        let mut gate = Gate::new(LIMITS);
        for name in ["a", "b", "c"] {
            assert!(gate.enter(&client(name), at(0)).is_ok());
        }
        assert_eq!(
            gate.enter(&client("d"), at(0)).unwrap_err().code,
            Code::Busy
        );
    }

    #[test]
    fn a_client_that_is_too_fast_is_told_when_to_come_back_and_is_let_in_then() {
        let mut gate = Gate::new(LIMITS);
        for _ in 0..4 {
            gate.enter(&client("a"), at(0)).unwrap();
            gate.leave(&client("a"));
        }
        let shut = gate.enter(&client("a"), at(0)).unwrap_err();
        assert_eq!(shut.code, Code::RateLimited);
        let back = Mono(Duration::from_millis(shut.retry_after_ms));
        assert!(gate.enter(&client("a"), back).is_ok());
    }

    #[test]
    fn made_up_names_beyond_the_table_share_one_bucket() {
        let mut gate = Gate::new(GateLimits {
            total: u32::MAX,
            ..LIMITS
        });
        for n in 0..MAX_CLIENTS {
            gate.enter(&client(&n.to_string()), at(0)).unwrap();
        }
        let crowd: Vec<_> = (0..3)
            .map(|n| gate.enter(&client(&format!("late-{n}")), at(0)).is_ok())
            .collect();
        assert_eq!(crowd, [true, true, false]);
        assert!(gate.clients.len() <= MAX_CLIENTS + 1);
    }
}
