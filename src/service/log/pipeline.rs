//! From an event on any thread to a record on the writer thread, without ever waiting.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::FIELDS;
use crate::clock::{Clock, Wall};

/// Records that may wait for the writer: a burst of a busy second, and with [`RECORD_BYTES`]
/// the bound on the memory that a journal at a standstill can cost.
pub(super) const QUEUE_RECORDS: usize = 1024;
/// Text in one record; what is longer is cut. Far below a datagram's limit.
pub(super) const RECORD_BYTES: usize = 4096;
/// Fields in one record, the message included; the rest is left out.
pub(super) const RECORD_FIELDS: usize = 16;
/// Ends a text that was cut.
const CUT: char = '…';

/// One event, made independent of the stack that it came from.
#[derive(Debug)]
pub(super) struct Record {
    /// The call site: level, target, file and line.
    pub(super) origin: &'static Metadata<'static>,
    pub(super) at: Wall,
    /// Rendered values, the message among them.
    pub(super) fields: Vec<(Field, String)>,
}

/// Where records end. It may block for as long as it likes; only its own thread waits.
pub(super) trait Sink: Send {
    fn write(&mut self, record: &Record);
    /// Says that `count` records were lost before this.
    fn report_dropped(&mut self, count: u64, at: Wall);
}

/// What the threads that log share with the one that writes.
#[derive(Debug, Default)]
struct Shared {
    shipped: AtomicU64,
    dropped_unreported: AtomicU64,
    dropped: AtomicU64,
    written: Mutex<u64>,
    wrote: Condvar,
}

impl Shared {
    /// A count is valid whatever happened to the thread that held it.
    fn written(&self) -> MutexGuard<'_, u64> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a flush reached the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// All is written.
    Everything,
    /// The time was over first.
    TimeOver,
}

/// The handle on the writer.
#[derive(Debug)]
pub(super) struct Pipeline(Arc<Shared>);

impl Pipeline {
    pub(super) fn flush(&self, limit: Duration) -> Flushed {
        let target = self.0.shipped.load(Ordering::Acquire);
        let (_written, outcome) = self
            .0
            .wrote
            .wait_timeout_while(self.0.written(), limit, |written| *written < target)
            .unwrap_or_else(PoisonError::into_inner);
        if outcome.timed_out() {
            Flushed::TimeOver
        } else {
            Flushed::Everything
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

/// Starts the writer thread on `sink`.
pub(super) fn start(clock: Clock, sink: Box<dyn Sink>) -> io::Result<(Shipper, Pipeline)> {
    let (sender, receiver) = sync_channel(QUEUE_RECORDS);
    let shared = Arc::new(Shared::default());
    let shipper = Shipper {
        clock,
        sender,
        shared: Arc::clone(&shared),
    };
    let pipeline = Pipeline(Arc::clone(&shared));
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_all(&receiver, &shared, sink))?;
    Ok((shipper, pipeline))
}

fn write_all(records: &Receiver<Record>, shared: &Shared, mut sink: Box<dyn Sink>) {
    for record in records {
        sink.write(&record);
        // Losses happen only while the queue is full, so another record always follows them.
        let lost = shared.dropped_unreported.swap(0, Ordering::Relaxed);
        if lost > 0 {
            sink.report_dropped(lost, record.at);
        }
        *shared.written() += 1;
        shared.wrote.notify_all();
    }
}

/// The layer that turns events into records and hands them over.
#[derive(Debug)]
pub(super) struct Shipper {
    clock: Clock,
    sender: SyncSender<Record>,
    shared: Arc<Shared>,
}

impl<S: Subscriber> Layer<S> for Shipper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut reading = Reading {
            fields: Vec::new(),
            room: RECORD_BYTES,
        };
        event.record(&mut reading);
        let record = Record {
            origin: event.metadata(),
            at: self.clock.now().wall,
            fields: reading.fields,
        };
        // Full, or the writer is gone: either way the line is lost, and the stage goes on.
        if self.sender.try_send(record).is_ok() {
            self.shared.shipped.fetch_add(1, Ordering::Release);
        } else {
            self.shared
                .dropped_unreported
                .fetch_add(1, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Reads an event's values, as far as they may be told and as far as there is room.
struct Reading {
    fields: Vec<(Field, String)>,
    room: usize,
}

impl Reading {
    fn take(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if self.fields.len() == RECORD_FIELDS || !may_be_told(field.name()) {
            return;
        }
        let mut text = Bounded {
            text: String::new(),
            room: self.room,
        };
        // An error here only says that the text was cut.
        let _ = text.write_fmt(value);
        self.room = text.room;
        self.fields.push((field.clone(), text.text));
    }
}

/// `log.target` comes from crates that use the older `log` interface: their true target.
pub(super) const FOREIGN_TARGET: &str = "log.target";

fn may_be_told(field: &str) -> bool {
    field == "message" || field == FOREIGN_TARGET || FIELDS.contains(&field)
}

impl Visit for Reading {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format_args!("{value:?}"));
    }
}

/// A text that takes only so many bytes, so that a huge value is cut while it is rendered.
struct Bounded {
    text: String,
    room: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if more.len() <= self.room {
            self.text.push_str(more);
            self.room -= more.len();
            return Ok(());
        }
        self.text
            .push_str(&more[..more.floor_char_boundary(self.room)]);
        self.text.push(CUT);
        self.room = 0;
        Err(fmt::Error)
    }
}
