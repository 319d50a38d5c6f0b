//! Fetching: from sources in their order into the store, chunk by chunk.
//!
//! ```text
//!                ┌──────────── passing fault: the next source, from where it broke off ─┐
//!                ▼                                                                      │
//!  roster ─► open ─► next piece ─► put ─► chunk good ─► … ─► whole ─► keep              │
//!                        │           └── chunk bad: it goes, the source is told of ─────┤
//!                        └── too slow, cut, short, a lie about its length ──────────────┘
//! ```
//!
//! Purpose: [`Fetcher::object`] brings one object into the store, or says why it cannot be brought
//! now. It blocks, and is meant for a thread of its own.
//!
//! Invariants:
//!
//! - No byte counts before its chunk is verified, whoever gave it.
//! - What was verified is not fetched again: not after a fault, not after a restart.
//! - The rate holds over all sources; so do the hours.
//! - Before each chunk there is room for it beside the spool's headroom.
//!
//! How it fails: [`Stop`]. Everything but the objects' own content is worth another try later.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::object::{Object, Origin};
use super::pace::{Bucket, Drip, Flow, Hours};
use super::source::{Body, Fault, Next, Opened, Piece, Roster, Source};
use super::store::{Ground, Part, Put, Store, StoreError};
use crate::clock::{Clock, Mono, Now};
use crate::config;

/// The longest that is waited in one go, so that a change of mind is soon noticed.
const BREATH: Duration = Duration::from_millis(250);
/// Troubles that are remembered; more say nothing new.
pub const MAX_TROUBLES: usize = 32;

/// Time, and whether to go on.
pub trait Pulse {
    /// What time it is.
    fn now(&self) -> Now;

    /// Lets time pass; may return early.
    fn wait(&mut self, span: Duration);

    /// Whether whoever asked for the download still wants it.
    fn wanted(&self) -> bool;
}

/// How a download behaves.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Bytes in a second at most; absent: as fast as it goes.
    pub max_bytes_per_s: Option<u64>,
    /// Bytes in a second that a source must give.
    pub min_bytes_per_s: u64,
    /// When it may run; absent: always, or because an operator said so.
    pub hours: Option<Hours>,
}

impl Terms {
    /// As the settings want it, on a site whose clocks are so far ahead of UTC.
    pub fn of(settings: &config::Ota, ahead_minutes: i16) -> Self {
        Self {
            max_bytes_per_s: settings.max_bytes_per_s,
            min_bytes_per_s: settings.min_bytes_per_s,
            hours: settings.hours.map(|window| Hours {
                from: window.from.number(),
                to: window.until.number(),
                ahead_minutes,
            }),
        }
    }
}

/// The real time, and a flag that ends the download.
#[derive(Clone, Debug)]
pub struct RealPulse {
    /// The clock.
    pub clock: Clock,
    /// Set, it is not wanted any more.
    pub stop: Arc<AtomicBool>,
}

impl Pulse for RealPulse {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn wait(&mut self, span: Duration) {
        std::thread::sleep(span);
    }

    fn wanted(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// What is to be fetched, and under which names a source may have it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What.
    pub object: &'a Object,
    /// Where it may lie, in the order in which it is looked for.
    pub paths: &'a [String],
}

/// Something that went wrong with a source, and did not stop the download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The source.
    pub source: String,
    /// What went wrong.
    pub fault: Fault,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes of the objects that are wanted and were not there.
    pub needed_bytes: u64,
    /// Bytes of them that are there, verified or not.
    pub there_bytes: u64,
    /// Bytes of them that are whole, or wait for their turn.
    whole_bytes: u64,
    /// Bytes that came from sources, wasted ones included.
    pub fetched_bytes: u64,
    /// Bytes that had to be read and hashed again after a break.
    pub reread_bytes: u64,
    /// Bytes of objects that were there already.
    pub reused_bytes: u64,
}

/// Why a download does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The store; a full disk is told apart there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No source is left.
    #[error("no source is left{}", last(troubles))]
    Sources {
        /// What went wrong with each, in order.
        troubles: Vec<Trouble>,
    },
    /// The hours are over.
    #[error("outside the hours for downloads; they begin in {} minutes", .0.as_secs().div_ceil(60))]
    Shut(Duration),
    /// It is not wanted any more.
    #[error("stopped on request")]
    Unwanted,
}

fn last(troubles: &[Trouble]) -> String {
    let said = |it: &Trouble| format!("{} {}", it.source, it.fault);
    // The last of each source is enough for a line.
    let mut lines: Vec<String> = Vec::new();
    let mut seen = Vec::new();
    for trouble in troubles.iter().rev() {
        if !seen.contains(&&trouble.source) {
            seen.push(&trouble.source);
            lines.push(said(trouble));
        }
    }
    if lines.is_empty() {
        return ": none is configured".into();
    }
    lines.reverse();
    format!(": {}", lines.join("; "))
}

/// Fetches objects, one after the other.
pub struct Fetcher<'a, G, P> {
    store: &'a mut Store<G>,
    sources: &'a mut [Box<dyn Source>],
    pulse: &'a mut P,
    terms: Terms,
    roster: Roster,
    bucket: Option<Bucket>,
    /// Before this, nothing more is asked for.
    paid: Mono,
    troubles: Vec<Trouble>,
    tally: Tally,
    tell: &'a mut dyn FnMut(&Tally),
    /// An object of which only the beginning was wanted so far.
    begun: Option<Begun>,
}

/// An object that is being fetched.
struct Begun {
    part: Part,
    /// A source that is in the middle of it.
    stream: Option<(usize, Box<dyn Body>)>,
}

/// How reading from one source ended.
enum End {
    /// There is as much of the object as was wanted.
    Enough,
    /// The source failed after so many bytes.
    Fault(Fault, u64),
}

impl<'a, G: Ground, P: Pulse> Fetcher<'a, G, P> {
    /// Nothing is fetched yet. `tell` hears how far it is after each chunk.
    pub fn new(
        store: &'a mut Store<G>,
        sources: &'a mut [Box<dyn Source>],
        pulse: &'a mut P,
        terms: Terms,
        tell: &'a mut dyn FnMut(&Tally),
    ) -> Self {
        let now = pulse.now().mono;
        Self {
            roster: Roster::new(sources.len()),
            bucket: terms.max_bytes_per_s.map(|rate| Bucket::new(rate, now)),
            paid: now,
            store,
            sources,
            pulse,
            terms,
            troubles: Vec::new(),
            tally: Tally::default(),
            tell,
            begun: None,
        }
    }

    /// The store that it fetches into.
    pub fn store(&mut self) -> &mut Store<G> {
        self.store
    }

    /// What went wrong so far, and did not stop it.
    pub fn troubles(&self) -> &[Trouble] {
        &self.troubles
    }

    /// How far it is.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Looks which objects are there, and whether the rest has room. From here on it is told how
    /// far these are.
    pub fn plan(&mut self, objects: &[&Object]) -> Result<(), Stop> {
        self.tally = Tally {
            fetched_bytes: self.tally.fetched_bytes,
            reread_bytes: self.tally.reread_bytes,
            ..Tally::default()
        };
        let mut seen = Vec::new();
        let mut missing = 0;
        for object in objects {
            if seen.contains(&object.sha256()) {
                continue;
            }
            seen.push(object.sha256());
            if self.store.has(object)? {
                self.tally.reused_bytes += object.bytes();
                continue;
            }
            let begun = self.store.begun_bytes(object);
            self.tally.needed_bytes += object.bytes();
            self.tally.there_bytes += begun;
            missing += object.bytes() - begun;
        }
        (self.tell)(&self.tally);
        Ok(self.store.room(missing)?)
    }

    /// Brings an object into the store. One that is there is not fetched.
    pub fn object(&mut self, wanted: Wanted<'_>) -> Result<(), Stop> {
        if self.store.has(wanted.object)? {
            return Ok(());
        }
        let mut begun = self.begun(wanted.object)?;
        self.fill(&mut begun, wanted, u64::MAX)?;
        Ok(self.store.keep(begun.part)?)
    }

    /// Brings so many bytes of an object's beginning, or all of it. Returns the file and how many
    /// of its bytes are verified.
    pub fn beginning(&mut self, wanted: Wanted<'_>, bytes: u64) -> Result<(PathBuf, u64), Stop> {
        if self.store.has(wanted.object)? {
            let file = self.store.object_file(wanted.object);
            return Ok((file, wanted.object.bytes()));
        }
        let mut begun = self.begun(wanted.object)?;
        self.fill(&mut begun, wanted, bytes)?;
        let part = &begun.part;
        let there = (part.path().to_owned(), part.assembly().verified());
        // Kept open: what was verified need not be read again to go on.
        self.begun = Some(begun);
        Ok(there)
    }

    /// An object that was begun, perhaps just now.
    fn begun(&mut self, object: &Object) -> Result<Begun, Stop> {
        let there = self.store.begun_bytes(object);
        self.tally.whole_bytes = self.tally.there_bytes.saturating_sub(there);
        let same = |it: &mut Begun| it.part.assembly().object() == object;
        if let Some(begun) = self.begun.take_if(same) {
            return Ok(begun);
        }
        let part = self.store.part(object)?;
        self.tally.reread_bytes += part.reread_bytes();
        let stream = None;
        Ok(Begun { part, stream })
    }

    /// Reads from sources until so much of the object is verified.
    fn fill(&mut self, begun: &mut Begun, wanted: Wanted<'_>, until: u64) -> Result<(), Stop> {
        self.roster.begin();
        while !is_enough(&begun.part, until) {
            let index = self.turn()?;
            let end = self.read(index, wanted, begun, until)?;
            if let End::Fault(fault, bytes) = end {
                let now = self.pulse.now().mono;
                self.roster.on_fault(index, &fault, bytes, now);
                self.note(index, fault);
            }
        }
        Ok(())
    }

    /// Waits until a source may be asked.
    fn turn(&mut self) -> Result<usize, Stop> {
        loop {
            self.may_go_on()?;
            match self.roster.next(self.pulse.now().mono) {
                Next::Use(index) => return Ok(index),
                Next::Wait(span) => self.pulse.wait(span.min(BREATH)),
                Next::Nobody => {
                    let troubles = self.troubles.clone();
                    return Err(Stop::Sources { troubles });
                }
            }
        }
    }

    fn may_go_on(&self) -> Result<(), Stop> {
        if !self.pulse.wanted() {
            return Err(Stop::Unwanted);
        }
        let opens = self
            .terms
            .hours
            .map(|it| it.opens_in(self.pulse.now().wall));
        match opens {
            Some(span) if !span.is_zero() => Err(Stop::Shut(span)),
            Some(_) | None => Ok(()),
        }
    }

    fn note(&mut self, index: usize, fault: Fault) {
        let source = self.sources[index].name().to_owned();
        let trouble = Trouble { source, fault };
        // A source that breaks off all the time is one trouble.
        if self.troubles.contains(&trouble) {
            return;
        }
        if self.troubles.len() == MAX_TROUBLES {
            self.troubles.remove(0);
        }
        self.troubles.push(trouble);
    }

    /// Reads from one source until there is enough of the object or the source fails.
    fn read(
        &mut self,
        index: usize,
        wanted: Wanted<'_>,
        begun: &mut Begun,
        until: u64,
    ) -> Result<End, Stop> {
        let part = &mut begun.part;
        let (mut body, mut skip) = match begun.stream.take() {
            Some((of, body)) if of == index => (body, 0),
            Some(_) | None => {
                part.turn();
                match self.open(index, wanted, part.assembly().at()) {
                    Ok(opened) => (opened.body, part.assembly().at() - opened.from),
                    Err(fault) => return Ok(End::Fault(fault, 0)),
                }
            }
        };
        let mut drip = Drip::new(self.terms.min_bytes_per_s);
        let mut got = 0;
        self.store.room(part.assembly().lacks())?;
        loop {
            self.pay();
            self.may_go_on()?;
            let (waited, piece) = match self.next_piece(&mut *body) {
                Ok(next) => next,
                Err(fault) => return Ok(End::Fault(fault, got)),
            };
            let bytes = match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::Nothing => &[],
                Piece::End => {
                    let (at, wanted) = (part.assembly().at(), wanted.object.bytes());
                    return Ok(End::Fault(Fault::Short { at, wanted }, got));
                }
            };
            let count = bytes.len();
            self.tally.fetched_bytes += count as u64;
            self.owe(count);
            let slow = drip.on_read(waited, count) == Flow::Slow;
            // What the source gives before the place that was asked for.
            let passed = usize::try_from(skip).map_or(count, |skip| skip.min(count));
            skip -= passed as u64;
            let fresh = &bytes[passed..];
            got += fresh.len() as u64;
            if let Some(fault) = put(self.store, part, fresh, &mut self.tally, self.tell)? {
                return Ok(End::Fault(fault, got));
            }
            if is_enough(part, until) {
                begun.stream = Some((index, body));
                return Ok(End::Enough);
            }
            if slow {
                return Ok(End::Fault(Fault::Slow, got));
            }
        }
    }

    /// Opens the object under the first of its names that the source knows.
    fn open(&mut self, index: usize, wanted: Wanted<'_>, from: u64) -> Result<Opened, Fault> {
        let total = wanted.object.bytes();
        let source = &mut self.sources[index];
        let mut opened = Err(Fault::Missing);
        for path in wanted.paths {
            opened = source.open(path, from, total);
            if !matches!(opened, Err(Fault::Missing)) {
                break;
            }
        }
        match opened {
            // One that begins later leaves a hole.
            Ok(opened) if opened.from > from => Err(Fault::Range),
            other => other,
        }
    }

    fn next_piece<'b>(&mut self, body: &'b mut dyn Body) -> Result<(Duration, Piece<'b>), Fault> {
        let before = self.pulse.now().mono;
        let piece = body.next(BREATH)?;
        Ok((self.pulse.now().mono.since(before), piece))
    }

    /// So many bytes came, and the rate wants a pause for them.
    fn owe(&mut self, count: usize) {
        if let Some(bucket) = &mut self.bucket {
            let now = self.pulse.now().mono;
            self.paid = now.after(bucket.on_bytes(count, now));
        }
    }

    /// Makes the pause, before more is asked for.
    fn pay(&mut self) {
        let mut now = self.pulse.now().mono;
        while now < self.paid && self.pulse.wanted() {
            self.pulse.wait(self.paid.since(now).min(BREATH));
            now = self.pulse.now().mono;
        }
    }
}

/// Whether so much of an object is verified, or all of it.
fn is_enough(part: &Part, until: u64) -> bool {
    part.assembly().is_whole() || part.assembly().verified() >= until
}

/// Puts what a source gave into the object, chunk by chunk. Something only if a chunk was wrong.
fn put<G: Ground>(
    store: &mut Store<G>,
    part: &mut Part,
    mut bytes: &[u8],
    tally: &mut Tally,
    tell: &mut dyn FnMut(&Tally),
) -> Result<Option<Fault>, Stop> {
    while !bytes.is_empty() && !part.assembly().is_whole() {
        let put = store.put(part, bytes)?;
        tally.there_bytes = tally.whole_bytes + part.assembly().at();
        match put {
            Put::Taken(count) => bytes = &bytes[count..],
            Put::Good(count) => {
                bytes = &bytes[count..];
                tell(tally);
                if !part.assembly().is_whole() {
                    store.room(part.assembly().lacks())?;
                }
            }
            Put::Bad { from, origin, .. } => {
                return Ok(Some(match origin {
                    Origin::One => Fault::Corrupt { from },
                    Origin::Several => Fault::Mixed { from },
                }));
            }
        }
    }
    Ok(None)
}
