//! A source, asked for what has no digest beforehand: the metadata, and the small files that it
//! vouches for.
//!
//! A source is judged as in a download: it may be slow, but not for ever. How many bytes a document
//! may have is the reader's business.

use std::io::{self, Read};
use std::time::Duration;

use super::super::fetch::Pulse;
use super::super::pace::{Drip, Flow};
use super::super::source::{Body, Fault, Piece, Source};
use super::super::tuf::{FetchError, Target, Transport};
use super::super::update;
use super::KeepError;

/// The folder of the metadata in a repository.
pub(super) const FOLDER: &str = "metadata";
/// The longest that is waited in one go.
const BREATH: Duration = Duration::from_millis(250);
/// The longest that one document may take: a fleet's are some ten kilobytes, and a line over a
/// mobile network brings those in seconds.
const MAX_SPAN: Duration = Duration::from_mins(5);

/// One source, for one look.
pub(super) struct Metadata<'a, P> {
    source: &'a mut dyn Source,
    pulse: &'a mut P,
    min_bytes_per_s: u64,
}

impl<'a, P: Pulse> Metadata<'a, P> {
    pub(super) fn new(source: &'a mut dyn Source, pulse: &'a mut P, min_bytes_per_s: u64) -> Self {
        Self {
            source,
            pulse,
            min_bytes_per_s,
        }
    }

    fn reading(&mut self, path: &str) -> Result<Reading<'_, P>, Fault> {
        Ok(Reading {
            body: self.source.open_whole(path)?,
            drip: Drip::new(self.min_bytes_per_s),
            waited: Duration::ZERO,
            pulse: &mut *self.pulse,
            rest: Vec::new(),
            at: 0,
        })
    }

    /// The bytes of a small target, verified.
    pub(super) fn target(&mut self, target: &Target, most: u64) -> Result<Vec<u8>, KeepError> {
        let path = target.path.clone();
        let fault = |why: String| KeepError::File {
            path: path.clone(),
            why,
        };
        if target.length > most {
            return Err(fault(format!(
                "{} bytes; it may have {most}",
                target.length
            )));
        }
        let Some(sha256) = target.sha256() else {
            return Err(fault("it has no SHA-256".into()));
        };
        let target = update::Target {
            path: target.path.clone(),
            length: target.length,
            sha256,
            custom: None,
        };
        let mut why = Fault::Missing.to_string();
        for path in target.paths() {
            match self.reading(&path) {
                Ok(reading) => {
                    let mut bytes = Vec::new();
                    let read = reading.take(target.length + 1).read_to_end(&mut bytes);
                    read.map_err(|error| fault(error.to_string()))?;
                    if target.is(&bytes) {
                        return Ok(bytes);
                    }
                    why = "it is not what was signed".into();
                }
                Err(Fault::Missing) => {}
                Err(other) => return Err(fault(other.to_string())),
            }
        }
        Err(fault(why))
    }
}

impl<P: Pulse> Transport for Metadata<'_, P> {
    fn open(&mut self, file: &str) -> Result<Box<dyn Read + '_>, FetchError> {
        match self.reading(&format!("{FOLDER}/{file}")) {
            Ok(reading) => Ok(Box::new(reading)),
            Err(Fault::Missing) => Err(FetchError::NotThere),
            Err(fault) => Err(FetchError::Failed(io::Error::other(fault))),
        }
    }
}

/// A body that is read to its end.
struct Reading<'a, P> {
    body: Box<dyn Body>,
    pulse: &'a mut P,
    drip: Drip,
    waited: Duration,
    /// Of the last piece.
    rest: Vec<u8>,
    at: usize,
}

impl<P: Pulse> Read for Reading<'_, P> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.rest.len() {
            if !self.pulse.wanted() {
                return Err(io::Error::other("stopped on request"));
            }
            let before = self.pulse.now().mono;
            self.rest.clear();
            self.at = 0;
            match self.body.next(BREATH).map_err(io::Error::other)? {
                Piece::Bytes(bytes) => self.rest.extend_from_slice(bytes),
                Piece::Nothing => {}
                Piece::End => return Ok(0),
            }
            let waited = self.pulse.now().mono.since(before);
            self.waited = self.waited.saturating_add(waited);
            let slow = self.drip.on_read(waited, self.rest.len()) == Flow::Slow;
            if slow || self.waited > MAX_SPAN {
                return Err(io::Error::other(Fault::Slow));
            }
        }
        let count = out.len().min(self.rest.len() - self.at);
        out[..count].copy_from_slice(&self.rest[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
