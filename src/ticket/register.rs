//! The register: every ticket that is open, and those settled within the window.
//!
//! Invariant: a key is in the register from the moment its ticket is accepted until its outcome
//! leaves the window; within that time the same request never runs twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{Key, TicketNo};
use crate::clock::Mono;

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Accepted, without an outcome.
    Open(TicketNo),
    /// It has its outcome on record.
    Settled(TicketNo),
}

/// How long outcomes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// This many.
    pub count: usize,
    /// This long.
    pub age: Duration,
    /// In this many bytes on disk.
    pub bytes: u64,
    /// With their trails in this many.
    pub trail_bytes: u64,
}

/// An outcome that leaves the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Whose record goes.
    pub no: TicketNo,
    /// Steps of its trail, which go with it.
    pub steps: u64,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    no: TicketNo,
    key: Key,
    also: Option<Key>,
    /// How old it was when it came in here, and since when it is. The wall clock has no say in
    /// it from then on: it may jump.
    age: Duration,
    since: Mono,
    steps: u64,
}

/// Keys and outcomes.
#[derive(Debug)]
pub struct Register {
    window: Window,
    keys: BTreeMap<Key, Known>,
    kept: VecDeque<Kept>,
    /// The tickets in `kept`.
    filed: BTreeSet<TicketNo>,
    /// Those of them whose trail went before them: the first in `kept`.
    bare: BTreeSet<TicketNo>,
}

impl Register {
    /// An empty register.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            keys: BTreeMap::new(),
            kept: VecDeque::new(),
            filed: BTreeSet::new(),
            bare: BTreeSet::new(),
        }
    }

    /// What is known of a key.
    pub fn find(&self, key: Key) -> Option<Known> {
        self.keys.get(&key).copied()
    }

    /// Every ticket with this id, whoever the client.
    pub fn find_id(&self, id: &str) -> Vec<Known> {
        self.keys
            .range(Key::range_of(id))
            .map(|(_, known)| *known)
            .collect()
    }

    /// A ticket was accepted. `also` is a second key by which it is found.
    pub fn open(&mut self, no: TicketNo, key: Key, also: Option<Key>) {
        for key in std::iter::once(key).chain(also) {
            self.keys.insert(key, Known::Open(no));
        }
    }

    /// The acceptance came to nothing.
    pub fn forget(&mut self, no: TicketNo, key: Key, also: Option<Key>) {
        for key in std::iter::once(key).chain(also) {
            if self.keys.get(&key) == Some(&Known::Open(no)) {
                self.keys.remove(&key);
            }
        }
    }

    /// An open ticket is gone, and nobody knows any more under which keys.
    pub fn lose(&mut self, no: TicketNo) {
        self.keys.retain(|_, known| *known != Known::Open(no));
    }

    /// A ticket has its outcome, this old at this moment, with so many steps in its trail. A key
    /// that a later ticket took over meanwhile stays with that one.
    pub fn settle(
        &mut self,
        no: TicketNo,
        key: Key,
        also: Option<Key>,
        (age, since): (Duration, Mono),
        steps: u64,
    ) {
        for key in std::iter::once(key).chain(also) {
            match self.keys.get(&key) {
                Some(Known::Open(other)) if *other != no => {}
                Some(Known::Open(_) | Known::Settled(_)) | None => {
                    self.keys.insert(key, Known::Settled(no));
                }
            }
        }
        self.filed.insert(no);
        self.kept.push_back(Kept {
            no,
            key,
            also,
            age,
            since,
            steps,
        });
    }

    /// Takes out the oldest outcomes while the window is exceeded, `max` at most; `spare` names
    /// those that must stay because their reply is still on its way: they are passed over, so
    /// that a reply which the broker does not take cannot keep all later outcomes. `bytes` is
    /// what the outcomes take on disk now.
    pub fn retire(
        &mut self,
        now: Mono,
        bytes: u64,
        max: usize,
        spare: impl Fn(TicketNo) -> bool,
    ) -> Vec<Retired> {
        let mut gone = Vec::new();
        let mut spared = Vec::new();
        let mut bytes = bytes;
        while gone.len() < max {
            let held = self.kept.len() + spared.len();
            let Some(old) = self.kept.pop_front() else {
                break;
            };
            let outgrown = held > self.window.count
                || old.age + now.since(old.since) > self.window.age
                || bytes > self.window.bytes;
            if !outgrown {
                self.kept.push_front(old);
                break;
            }
            if spare(old.no) {
                spared.push(old);
                continue;
            }
            bytes = bytes.saturating_sub(bytes / held as u64);
            self.filed.remove(&old.no);
            self.bare.remove(&old.no);
            for key in std::iter::once(old.key).chain(old.also) {
                if self.keys.get(&key) == Some(&Known::Settled(old.no)) {
                    self.keys.remove(&key);
                }
            }
            gone.push(Retired {
                no: old.no,
                steps: old.steps,
            });
        }
        for old in spared.into_iter().rev() {
            self.kept.push_front(old);
        }
        gone
    }

    /// Takes the trails off the oldest outcomes that have theirs, `max` at most: they tell how it
    /// went, and the outcome can do without.
    pub fn strip(&mut self, max: usize) -> Vec<Retired> {
        let gone: Vec<_> = self
            .kept
            .iter()
            .skip(self.bare.len())
            .take(max)
            .map(|old| Retired {
                no: old.no,
                steps: old.steps,
            })
            .collect();
        self.bare.extend(gone.iter().map(|old| old.no));
        gone
    }

    /// Whether steps of this ticket, which is settled, are still to be written down.
    pub fn keeps_trail(&self, no: TicketNo) -> bool {
        self.holds(no) && !self.bare.contains(&no)
    }

    /// Whether the outcome of this ticket is on record.
    pub fn holds(&self, no: TicketNo) -> bool {
        self.filed.contains(&no)
    }

    /// The newest of those with an outcome, so many at most.
    pub fn newest(&self, max: usize) -> impl Iterator<Item = TicketNo> {
        self.filed.iter().rev().take(max).copied()
    }

    /// The tickets under whose keys something is open.
    pub fn open_tickets(&self) -> BTreeSet<TicketNo> {
        let open = |known: &Known| match known {
            Known::Open(no) => Some(*no),
            Known::Settled(_) => None,
        };
        self.keys.values().filter_map(open).collect()
    }

    /// Outcomes in the window.
    pub fn settled_count(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::Client;

    fn key(n: u64) -> Key {
        Key::of(&Client::Anonymous, &n.to_string())
    }

    fn register(count: usize) -> Register {
        Register::new(Window {
            count,
            age: Duration::from_secs(10),
            bytes: 1000,
            trail_bytes: 1000,
        })
    }

    fn at(ms: u64) -> Mono {
        Mono(Duration::from_millis(ms))
    }

    fn settled(register: &mut Register, n: u64, ms: u64) {
        register.open(TicketNo(n), key(n), None);
        let now = (Duration::ZERO, at(ms));
        register.settle(TicketNo(n), key(n), None, now, 3);
    }

    #[test]
    fn the_oldest_outcomes_go_first_when_there_are_too_many() {
        let mut register = register(2);
        for n in 1..=4 {
            settled(&mut register, n, 0);
        }
        let gone = register.retire(at(0), 0, 10, |_| false);
        assert_eq!(gone.iter().map(|old| old.no.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(register.find(key(1)), None);
        assert_eq!(register.find(key(3)), Some(Known::Settled(TicketNo(3))));
    }

    #[test]
    fn outcomes_go_when_they_are_old_and_when_they_take_too_much_room() {
        let mut register = register(100);
        for n in 1..=4 {
            settled(&mut register, n, n * 1000);
        }
        assert_eq!(register.retire(at(11_500), 0, 10, |_| false).len(), 1);
        assert_eq!(register.retire(at(11_500), 1500, 10, |_| false).len(), 1);
    }

    #[test]
    fn an_outcome_of_an_earlier_process_is_as_old_as_it_was() {
        let mut register = register(100);
        let old = (Duration::from_secs(9), at(0));
        register.settle(TicketNo(1), key(1), None, old, 0);
        assert!(register.retire(at(1000), 0, 10, |_| false).is_empty());
        assert_eq!(register.retire(at(1001), 0, 10, |_| false).len(), 1);
    }

    #[test]
    fn trails_go_before_their_outcomes_the_oldest_first_and_each_once() {
        let mut register = register(100);
        for n in 1..=4 {
            settled(&mut register, n, 0);
        }
        let numbers = |gone: Vec<Retired>| gone.iter().map(|old| old.no.0).collect::<Vec<_>>();
        assert_eq!(numbers(register.strip(2)), [1, 2]);
        assert_eq!(numbers(register.strip(1)), [3]);
        assert!(register.holds(TicketNo(3)) && !register.keeps_trail(TicketNo(3)));
        assert!(register.keeps_trail(TicketNo(4)));
        // The first stays for its reply, the second goes with its outcome.
        assert_eq!(register.retire(at(0), 4000, 1, |no| no.0 == 1).len(), 1);
        assert_eq!(numbers(register.strip(9)), [4]);
        assert!(register.strip(9).is_empty());
    }

    #[test]
    fn an_outcome_whose_reply_is_on_its_way_stays() {
        let mut register = register(0);
        settled(&mut register, 1, 0);
        assert!(register.retire(at(0), 0, 10, |_| true).is_empty());
        assert_eq!(register.find(key(1)), Some(Known::Settled(TicketNo(1))));
    }

    #[test]
    fn a_request_that_came_back_under_its_old_id_is_not_forgotten_with_the_old_outcome() {
        let mut register = register(0);
        settled(&mut register, 1, 0);
        register.open(TicketNo(2), key(1), None);
        register.retire(at(0), 0, 10, |_| false);
        assert_eq!(register.find(key(1)), Some(Known::Open(TicketNo(2))));
    }
}
