//! Whose turn it is: sources in their order, with rests for those in trouble.
//!
//! ```text
//!   rested ──used──► in use ──passing fault──► resting ──time──► rested
//!                       │                         └── too many in a row ──► out
//!                       └──lasting fault──► out, until the next object; a liar: for good
//! ```
//!
//! The first source that is neither out nor resting is used, so the order of the configuration
//! holds whenever it can.

use std::time::Duration;

use super::Fault;
use crate::clock::Mono;

/// Faults in a row, without progress, after which a source is not asked again for an object.
pub const MAX_STRIKES: u32 = 4;
/// The rest after the first fault; it doubles with each in a row.
const REST: Duration = Duration::from_secs(1);
/// Bytes that count as progress: below, a source that breaks off is as good as dead.
const PROGRESS_BYTES: u64 = 64 << 10;

/// How a source stands.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    strikes: u32,
    rests_until: Mono,
    out: bool,
    lied: bool,
}

/// The sources' standings.
#[derive(Clone, Debug)]
pub struct Roster(Vec<Standing>);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask this one.
    Use(usize),
    /// All rest; the first is back after so long.
    Wait(Duration),
    /// Nobody is left.
    Nobody,
}

impl Roster {
    /// So many sources, none of which was asked yet.
    pub fn new(sources: usize) -> Self {
        Self(vec![Standing::default(); sources])
    }

    /// Another object is wanted: what was missing or broken of the last says nothing of it.
    pub fn begin(&mut self) {
        for standing in &mut self.0 {
            *standing = Standing {
                lied: standing.lied,
                out: standing.lied,
                ..Standing::default()
            };
        }
    }

    /// Whose turn it is.
    pub fn next(&self, now: Mono) -> Next {
        let left = || self.0.iter().enumerate().filter(|(_, it)| !it.out);
        if let Some((index, _)) = left().find(|(_, it)| it.rests_until <= now) {
            return Next::Use(index);
        }
        let first = left().map(|(_, it)| it.rests_until).min();
        first.map_or(Next::Nobody, |at| Next::Wait(at.since(now)))
    }

    /// A source failed after so many bytes.
    pub fn on_fault(&mut self, index: usize, fault: &Fault, bytes: u64, now: Mono) {
        let Some(standing) = self.0.get_mut(index) else {
            return;
        };
        standing.lied |= fault.is_a_lie();
        if bytes >= PROGRESS_BYTES {
            standing.strikes = 0;
        }
        standing.strikes += 1;
        standing.out |= fault.is_lasting() || standing.strikes >= MAX_STRIKES;
        let rest = REST.saturating_mul(1 << (standing.strikes - 1).min(16));
        standing.rests_until = now.after(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Mono = |s| Mono(Duration::from_secs(s));

    #[test]
    fn the_first_source_is_used_unless_it_rests() {
        let mut roster = Roster::new(2);
        assert_eq!(roster.next(AT(0)), Next::Use(0));
        roster.on_fault(0, &Fault::Cut, 0, AT(0));
        assert_eq!(roster.next(AT(0)), Next::Use(1));
        roster.on_fault(1, &Fault::Cut, 0, AT(0));
        assert_eq!(roster.next(AT(0)), Next::Wait(REST));
        assert_eq!(roster.next(AT(1)), Next::Use(0));
    }

    #[test]
    fn progress_makes_good_and_a_row_of_faults_ends_it() {
        let mut roster = Roster::new(1);
        for second in 0..100 {
            roster.on_fault(0, &Fault::Cut, PROGRESS_BYTES, AT(second));
            assert_eq!(roster.next(AT(second)), Next::Wait(REST));
        }
        for second in 101..100 + u64::from(MAX_STRIKES) {
            assert_ne!(roster.next(AT(second * 100)), Next::Nobody);
            roster.on_fault(0, &Fault::Cut, PROGRESS_BYTES - 1, AT(second * 100));
        }
        assert_eq!(roster.next(AT(100_000)), Next::Nobody);
        roster.begin();
        assert_eq!(roster.next(AT(100_000)), Next::Use(0));
    }

    #[test]
    fn what_is_missing_may_be_there_of_the_next_object_but_a_liar_stays_out() {
        let mut roster = Roster::new(2);
        roster.on_fault(0, &Fault::Missing, 0, AT(0));
        roster.on_fault(1, &Fault::Corrupt { from: 0 }, 1 << 20, AT(0));
        assert_eq!(roster.next(AT(9)), Next::Nobody);
        roster.begin();
        assert_eq!(roster.next(AT(9)), Next::Use(0));
        roster.on_fault(0, &Fault::Missing, 0, AT(9));
        assert_eq!(roster.next(AT(99)), Next::Nobody);
    }
}
