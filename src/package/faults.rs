//! Everything that is wrong with a package, and what is right but costs something.

use std::fmt;
use std::path::Path;

use crate::fault::{Fault, Place};

/// Faults that are listed. Who has mended so many looks again.
pub const MAX_FAULTS: usize = 100;

/// Everything that is wrong, in the order in which it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    /// The first [`MAX_FAULTS`] of them.
    pub list: Vec<Fault>,
    /// How many more there are.
    pub left_out: usize,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        if self.list.len() < MAX_FAULTS {
            self.list.push(fault);
        } else {
            self.left_out += 1;
        }
    }

    /// Notes what is wrong with a file as a whole.
    pub(super) fn of_file(&mut self, file: &Path, value: impl Into<String>, wanted: &str) {
        self.add(Fault {
            key: String::new(),
            value: value.into(),
            wanted: wanted.to_owned(),
            place: Some(Place {
                file: file.to_owned(),
                line: 0,
            }),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.len() + self.left_out {
            1 => writeln!(f, "the model package has a fault:")?,
            count => writeln!(f, "the model package has {count} faults:")?,
        }
        for fault in &self.list {
            writeln!(f, "{fault}")?;
        }
        if self.left_out > 0 {
            writeln!(f, "and {} more", self.left_out)?;
        }
        Ok(())
    }
}

/// Something that is right, but lacks a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What is lacking.
    pub what: String,
    /// What that costs.
    pub cost: String,
}

impl Note {
    pub(super) fn new(what: impl Into<String>, cost: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            cost: cost.into(),
        }
    }
}
