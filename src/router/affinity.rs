//! Like questions, like tiers; and who changes what they ask.
//!
//! Two things that each need some memory of the past, kept small and pure: the time is handed in.
//! [`Habits`] is both of them, as the dispatcher uses them: it asks [`Habits::decide`] where a
//! request goes, and tells [`Habits::went`] once it is known whether that left the edge.
//!
//! [`Affinity`] keeps an *estimated* complexity from wavering about a threshold. For each client
//! and task it remembers an anchor, and the rules see the anchor as long as the estimates stay
//! within [`BAND`] of it:
//!
//! ```text
//!            estimate within the band: the anchor stands
//!               ┌────┐
//!   none ──►  anchor ──► estimate outside the band: it becomes the anchor
//!     ▲          │
//!     └──────────┘ not asked for MAX_REST
//! ```
//!
//! So two questions that differ by a word get the same tier, whatever the table says, and the
//! table stays what it reads like. What a device states itself is never touched: it means it.
//!
//! [`Drift`] watches how much of each client's traffic leaves the edge: a quick average of its
//! recent requests against a slow one of its past. When the two come apart by more than chance
//! does, that is reported, once: the client is then watched anew, and what it does from there on
//! is what it is held against. A client that learns to phrase its way to the cloud shows up so,
//! and a line that has begun to make other parts, too.
//!
//! Both forget whoever was not seen for the longest time when their room is used up; a client
//! that is forgotten begins anew, which costs one tier change or one warm-up.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use super::{Decision, Router, Situation, Tier};
use crate::clock::Mono;
use crate::intake::Request;

/// How far an estimate may stray from its anchor: about what a typing error or another machine's
/// number moves it by.
pub const BAND: f32 = 0.05;
/// After this long without a question, the next one is a new matter.
pub const MAX_REST: Duration = Duration::from_mins(30);
/// Clients and tasks that are remembered: about 150 bytes each, and as many clients as the gate
/// tells apart.
pub const MAX_REMEMBERED: usize = 4096;

/// What is remembered of those who ask.
#[derive(Debug, Default)]
pub struct Habits {
    affinity: Affinity,
    drift: Drift,
}

impl Habits {
    /// Where a request goes: the router's decision, but that an estimated complexity keeps to what
    /// the client's like questions had.
    pub fn decide(
        &mut self,
        router: &Router,
        request: &Request,
        situation: &Situation<'_>,
        now: Mono,
    ) -> Decision {
        let mut facts = router.facts(request, situation);
        if request.complexity.is_none() {
            let (client, task) = (request.client.scope(), request.ask.task());
            facts.complexity = self.affinity.steady(&client, task, facts.complexity, now);
        }
        router.policy.decide(&facts, situation)
    }

    /// Once for each request, as soon as it is known: when a rule sends it onward, or when the
    /// edge's answer was judged. Says so if the client's mix has shifted.
    pub fn went(&mut self, request: &Request, went: Went, now: Mono) -> Option<Shift> {
        self.drift.on_decision(&request.client.scope(), went, now)
    }
}

/// Anchors by client and task.
#[derive(Debug)]
pub struct Affinity {
    anchors: Recent<f32>,
}

impl Default for Affinity {
    fn default() -> Self {
        Self::with_room(MAX_REMEMBERED)
    }
}

impl Affinity {
    /// Remembers so many.
    pub fn with_room(room: usize) -> Self {
        Self {
            anchors: Recent::with_room(room),
        }
    }

    /// The complexity that the rules are to see in place of an estimate. `client` is
    /// [`crate::intake::Client::scope`].
    pub fn steady(&mut self, client: &str, task: Option<&str>, estimate: f32, now: Mono) -> f32 {
        let rested = self.anchors.last_use(client, task);
        let fresh = rested.is_some_and(|then| now.since(then) <= MAX_REST);
        let anchor = self.anchors.touch(client, task, now, || estimate);
        if !fresh || (estimate - *anchor).abs() > BAND {
            *anchor = estimate;
        }
        *anchor
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Requests that the quick average is made of, about.
const QUICK: f64 = 32.0;
/// Requests that the slow average is made of, about.
const SLOW: f64 = 512.0;
/// Requests of a client before anything is said of it: by then the slow average is worth comparing.
pub const WARM_UP: u32 = 256;
/// Standard deviations of the quick average that are no chance any more: at one request a second,
/// less than one false report in a year for each client.
const SIGMAS: f64 = 5.0;

/// Where requests of each client go.
#[derive(Debug)]
pub struct Drift {
    mixes: Recent<Mix>,
}

/// Where a request went, as far as drift is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// It stayed on the edge.
    Edge,
    /// It was to go to a cloud or a person.
    Onward,
}

impl Went {
    /// What a rule's decision says of it; none where that is for the edge's answer to say, or
    /// where the request goes nowhere.
    pub fn by_rule(tier: &Tier) -> Option<Self> {
        match tier {
            Tier::Cloud(_) | Tier::Review(_) => Some(Self::Onward),
            Tier::Edge | Tier::Refuse(_) => None,
        }
    }
}

/// A client's routing mix has shifted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// The share that left the edge so far.
    pub before: f64,
    /// The share that does now.
    pub now: f64,
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        let (before, now) = (percent(self.before), percent(self.now));
        write!(f, "{now:.0} % leave the edge, {before:.0} % before")
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Mix {
    seen: u32,
    quick: f64,
    slow: f64,
}

impl Default for Drift {
    fn default() -> Self {
        Self::with_room(MAX_REMEMBERED)
    }
}

impl Drift {
    /// Watches so many clients.
    pub fn with_room(room: usize) -> Self {
        Self {
            mixes: Recent::with_room(room),
        }
    }

    /// A request of a client was decided on. Says so if the client's mix has shifted, once for
    /// each time it does.
    pub fn on_decision(&mut self, client: &str, went: Went, now: Mono) -> Option<Shift> {
        self.mixes
            .touch(client, None, now, Mix::default)
            .count(went)
    }
}

impl Mix {
    fn count(&mut self, went: Went) -> Option<Shift> {
        let onward = match went {
            Went::Edge => 0.0,
            Went::Onward => 1.0,
        };
        self.seen = self.seen.saturating_add(1);
        // At first each average is a plain one, so that neither begins with a guess.
        let seen = f64::from(self.seen);
        self.quick += (onward - self.quick) / QUICK.min(seen);
        self.slow += (onward - self.slow) / SLOW.min(seen);
        if self.seen < WARM_UP {
            return None;
        }
        // As angles, shares spread alike wherever they lie; as shares, the rare ones would be
        // taken for shifts too easily.
        let angle = |share: f64| share.clamp(0.0, 1.0).sqrt().asin();
        let limit = SIGMAS * 0.5 / (2.0 * QUICK - 1.0).sqrt();
        let shift = (angle(self.quick) - angle(self.slow)).abs();
        if shift <= limit {
            return None;
        }
        let told = Shift {
            before: self.slow,
            now: self.quick,
        };
        // What it does from now on is what it is held against.
        *self = Self::default();
        Some(told)
    }
}

/// A map by client and task that forgets who was not seen for the longest time.
#[derive(Debug)]
struct Recent<T> {
    room: usize,
    entries: HashMap<String, Entry<T>>,
    /// By the last use; the number tells apart what came at the same time.
    order: BTreeSet<(Mono, u64, String)>,
    uses: u64,
    key: String,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    used: (Mono, u64),
}

impl<T> Recent<T> {
    fn with_room(room: usize) -> Self {
        Self {
            room: room.max(1),
            entries: HashMap::new(),
            order: BTreeSet::new(),
            uses: 0,
            key: String::new(),
        }
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    /// One name for both; no name has a space in it.
    fn key(&mut self, client: &str, task: Option<&str>) -> &str {
        self.key.clear();
        self.key.push_str(client);
        if let Some(task) = task {
            self.key.push(' ');
            self.key.push_str(task);
        }
        &self.key
    }

    fn last_use(&mut self, client: &str, task: Option<&str>) -> Option<Mono> {
        self.key(client, task);
        Some(self.entries.get(&self.key)?.used.0)
    }

    fn touch(
        &mut self,
        client: &str,
        task: Option<&str>,
        now: Mono,
        fresh: impl FnOnce() -> T,
    ) -> &mut T {
        let key = self.key(client, task).to_owned();
        self.uses += 1;
        let used = (now, self.uses);
        if let Some(entry) = self.entries.get(&key) {
            let (then, number) = entry.used;
            self.order.remove(&(then, number, key.clone()));
        } else if self.entries.len() >= self.room
            && let Some((_, _, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.order.insert((used.0, used.1, key.clone()));
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            value: fresh(),
            used,
        });
        entry.used = used;
        &mut entry.value
    }
}

#[cfg(test)]
mod tests;
