//! What is wrong with a configuration, all of it at once.
//!
//! Invariant: the value of a key that may hold a secret never enters a [`Fault`].

use std::fmt;

use crate::fault::Fault;

/// Stands in for a value that nobody should read in a log.
pub(super) const HIDDEN: &str = "(not shown)";

/// Everything that is wrong, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Notes a fault.
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Whether something is wrong with this key already. A rule about two keys is silent then:
    /// what it would say follows from the first fault.
    pub(super) fn touch(&self, key: &str) -> bool {
        self.0.iter().any(|fault| fault.key == key)
    }

    /// Puts them in the order of the files and lines; what stands nowhere comes last.
    pub(super) fn sorted(mut self) -> Self {
        self.0
            .sort_by(|a, b| (a.place.is_none(), &a.place).cmp(&(b.place.is_none(), &b.place)));
        self
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => writeln!(f, "the configuration has a fault:")?,
            count => writeln!(f, "the configuration has {count} faults:")?,
        }
        for fault in &self.0 {
            writeln!(f, "{fault}")?;
        }
        Ok(())
    }
}
