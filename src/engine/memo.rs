//! Nothing is computed twice: answers that were given, and work that several wait for.
//!
//! All decoding is greedy, so the same question to the same model has the same answer. [`Key`]
//! says what "the same" is; [`Memo`] keeps answers for a while, [`super::supervise`] lets
//! identical work in flight be waited for together.
//!
//! Invariants: a key covers everything that an answer depends on; what is kept never exceeds its
//! limits of bytes and age; an answer to a restricted request serves the same client only, for
//! that an answer came quickly would tell another one that somebody had asked.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use ring::digest::{Context, SHA256};

use super::protocol::Done;
use crate::clock::Mono;

/// Bytes of answers that are kept: ten thousand short ones. The service is to stay small beside
/// its engine.
const MAX_BYTES: usize = 4 << 20;
/// How long an answer is kept: repeats of a factory floor come within a shift's hour; a day's
/// worth of answers in memory is nobody's wish.
const MAX_AGE: Duration = Duration::from_hours(1);
/// Bytes that an answer takes besides its text and numbers: key, links, allocations.
const OVERHEAD_BYTES: usize = 384;

/// What an answer depends on, digested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of these parts. Each is set off by its length, so that no two lists of parts read
    /// the same.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        Self(key)
    }

    /// Its bytes, as a part of another one.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All answers together.
    pub bytes: usize,
    /// Each of them.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: MAX_BYTES,
            age: MAX_AGE,
        }
    }
}

/// Answers that were given. The one that was not asked for longest leaves first.
#[derive(Debug, Default)]
pub struct Memo {
    limits: Limits,
    kept: HashMap<Key, Kept>,
    /// By their last use.
    used: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    done: Done,
    since: Mono,
    used: u64,
}

impl Memo {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// The answer to the same question, if it was given lately.
    pub fn find(&mut self, key: Key, now: Mono) -> Option<&Done> {
        let since = self.kept.get(&key)?.since;
        if now.since(since) >= self.limits.age {
            self.forget(key);
            return None;
        }
        self.uses += 1;
        let kept = self.kept.get_mut(&key)?;
        self.used.remove(&kept.used);
        self.used.insert(self.uses, key);
        kept.used = self.uses;
        Some(&kept.done)
    }

    /// Keeps an answer. One that takes more than everything may take is not kept.
    pub fn keep(&mut self, key: Key, done: Done, now: Mono) {
        self.forget(key);
        let bytes = bytes_of(&done);
        if bytes > self.limits.bytes {
            return;
        }
        while self.bytes + bytes > self.limits.bytes
            && let Some(oldest) = self.used.first_key_value().map(|(_, key)| *key)
        {
            self.forget(oldest);
        }
        self.uses += 1;
        self.used.insert(self.uses, key);
        self.bytes += bytes;
        let kept = Kept {
            done,
            since: now,
            used: self.uses,
        };
        self.kept.insert(key, kept);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.limits);
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget(&mut self, key: Key) {
        if let Some(kept) = self.kept.remove(&key) {
            self.used.remove(&kept.used);
            self.bytes -= bytes_of(&kept.done);
        }
    }
}

fn bytes_of(done: &Done) -> usize {
    let numbers = size_of_val(done.free.as_slice()) + size_of_val(done.choices.as_slice());
    OVERHEAD_BYTES + done.text.len() + numbers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(text: &str) -> Done {
        Done {
            text: text.into(),
            ..Done::default()
        }
    }

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn parts_that_join_to_the_same_bytes_are_different_questions() {
        let key = |parts: &[&str]| {
            let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
            Key::of(&parts)
        };
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["ab", ""]), key(&["ab"]));
    }

    #[test]
    fn an_answer_that_is_larger_than_everything_drives_nothing_out() {
        let limits = Limits {
            bytes: 2 * OVERHEAD_BYTES,
            age: MAX_AGE,
        };
        let mut memo = Memo::new(limits);
        let (a, b) = (Key::of(&[b"a"]), Key::of(&[b"b"]));
        memo.keep(a, answer("short"), at(0));
        memo.keep(b, answer(&"long".repeat(OVERHEAD_BYTES)), at(0));
        assert!(memo.find(a, at(1)).is_some());
        assert!(memo.find(b, at(1)).is_none());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Find(u8),
        Keep(u8, usize),
        Clear,
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u8..12).prop_map(Step::Find),
            4 => (0u8..12, 0usize..300).prop_map(|(key, bytes)| Step::Keep(key, bytes)),
            1 => Just(Step::Clear),
            2 => (0u64..40).prop_map(Step::Wait),
        ];
        proptest::collection::vec(step, 0..120)
    }

    /// The same by a list, the last used last.
    #[derive(Default)]
    struct Simple(Vec<(u8, Done, u64)>);

    impl Simple {
        fn bytes(&self) -> usize {
            self.0.iter().map(|(_, done, _)| bytes_of(done)).sum()
        }
    }

    proptest! {
        #[test]
        fn it_keeps_what_a_simple_list_would_keep(steps in steps()) {
            let limits = Limits { bytes: 4 * OVERHEAD_BYTES, age: Duration::from_mins(1) };
            let (mut memo, mut simple, mut now) = (Memo::new(limits), Simple::default(), 0);
            for step in steps {
                match step {
                    Step::Find(key) => {
                        simple.0.retain(|(_, _, since)| now - since < 60);
                        let place = simple.0.iter().position(|(it, _, _)| *it == key);
                        let expected = place.map(|place| {
                            let entry = simple.0.remove(place);
                            simple.0.push(entry.clone());
                            entry.1
                        });
                        let found = memo.find(Key::of(&[&[key]]), at(now)).cloned();
                        prop_assert_eq!(found, expected);
                    }
                    Step::Keep(key, bytes) => {
                        let done = answer(&"x".repeat(bytes));
                        simple.0.retain(|(it, _, _)| *it != key);
                        while simple.bytes() + bytes_of(&done) > limits.bytes {
                            simple.0.remove(0);
                        }
                        simple.0.push((key, done.clone(), now));
                        memo.keep(Key::of(&[&[key]]), done, at(now));
                    }
                    Step::Clear => {
                        simple.0.clear();
                        memo.clear();
                    }
                    Step::Wait(seconds) => {
                        // The memo drops what is old when it is asked for it; the list must not
                        // be fuller than that, so it is cleaned by asking for everything.
                        now += seconds;
                        for key in 0..12 {
                            let place = simple.0.iter().position(|(it, _, _)| *it == key);
                            if let Some(place) = place {
                                let entry = simple.0.remove(place);
                                if now - entry.2 < 60 {
                                    simple.0.push(entry);
                                }
                            }
                            memo.find(Key::of(&[&[key]]), at(now));
                        }
                    }
                }
                prop_assert!(memo.bytes() <= limits.bytes);
                prop_assert_eq!(memo.bytes(), simple.bytes());
                prop_assert_eq!(memo.kept.len(), memo.used.len());
            }
        }
    }
}
