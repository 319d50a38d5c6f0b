//! Where the log ends: the journal, or lines of text.

use std::fmt::Write as _;
use std::io::Write;
use std::os::unix::net::UnixDatagram;

use tracing::dispatcher::Dispatch;
use tracing::field::{Field, Value};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt;

use super::OWN;
use super::pipeline::{FOREIGN_TARGET, RECORD_FIELDS, Record, Sink};
use crate::clock::{DAY_MS, Wall};

/// Where the journal listens.
pub(super) const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";
/// Found with `journalctl -t`.
const IDENTIFIER: &str = "lineside";

/// Records as journal entries: `MESSAGE`, `PRIORITY`, `TARGET`, `CODE_FILE`, `CODE_LINE`, and
/// each field in capitals.
///
/// A record is played back as the event that it was, with its own call site, to a dispatcher
/// that nothing else uses; so tracing-journald serves behind the queue. It does not tell whether
/// a send failed; therefore the socket is tried first, and the line goes to standard error if
/// nobody listens there.
pub(super) struct Journal<W> {
    appliance: String,
    /// Made when the journal is first there.
    player: Option<Dispatch>,
    instead: Lines<W>,
}

impl<W: Write + Send> Journal<W> {
    pub(super) fn new(appliance: String, instead: Lines<W>) -> Self {
        Self {
            appliance,
            player: None,
            instead,
        }
    }

    /// The way to the journal, if somebody listens there now.
    fn player(&mut self) -> Option<&Dispatch> {
        UnixDatagram::unbound()
            .and_then(|probe| probe.connect(JOURNAL_SOCKET))
            .ok()?;
        if self.player.is_none() {
            let journal = tracing_journald::layer()
                .ok()?
                .with_field_prefix(None)
                .with_syslog_identifier(IDENTIFIER.to_owned())
                .with_custom_fields([("APPLIANCE", &self.appliance)])
                .with_priority_mappings(PriorityMappings {
                    error: Priority::Error,
                    warn: Priority::Warning,
                    info: Priority::Informational,
                    debug: Priority::Debug,
                    trace: Priority::Debug,
                });
            // The level is for the rest of the process, which would otherwise prepare every
            // event down to TRACE; what is played back here passes it by.
            let registry = tracing_subscriber::registry().with(LevelFilter::WARN);
            self.player = Some(Dispatch::new(registry.with(journal)));
        }
        self.player.as_ref()
    }
}

impl<W: Write + Send> Sink for Journal<W> {
    fn write(&mut self, record: &Record) {
        match self.player() {
            Some(player) => play(player, record),
            None => self.instead.write(record),
        }
    }

    fn report_dropped(&mut self, count: u64, at: Wall) {
        match self.player() {
            Some(player) => tracing::dispatcher::with_default(player, || {
                tracing::warn!(count, "log lines dropped");
            }),
            None => self.instead.report_dropped(count, at),
        }
    }
}

fn play(player: &Dispatch, record: &Record) {
    let Some((filler, _)) = record.fields.first() else {
        return; // nothing in it may be told
    };
    let values: [(&Field, Option<&dyn Value>); RECORD_FIELDS] =
        std::array::from_fn(|index| match record.fields.get(index) {
            Some((field, text)) => (field, Some(text as &dyn Value)),
            None => (filler, None),
        });
    let values = record.origin.fields().value_set(&values);
    player.event(&Event::new(record.origin, &values));
}

/// What stands before each line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    /// `<6>`: the journal reads it and has its own time.
    Priority,
    /// Time and level, for people and files.
    Time,
}

/// Records as lines of text, one each, whatever is in them.
pub(super) struct Lines<W> {
    out: W,
    stamp: Stamp,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(out: W, stamp: Stamp) -> Self {
        Self { out, stamp }
    }

    fn stamp(&self, level: Level, at: Wall) -> String {
        match self.stamp {
            Stamp::Priority => format!("<{}>", priority(level)),
            Stamp::Time => format!("{} {level} ", rfc3339(at)),
        }
    }

    fn put(&mut self, mut line: String) {
        line.push('\n');
        // Nobody is left who could be told that standard error is closed.
        let _ = self.out.write_all(line.as_bytes());
    }
}

impl<W: Write + Send> Sink for Lines<W> {
    fn write(&mut self, record: &Record) {
        let mut line = self.stamp(*record.origin.level(), record.at);
        push_record(&mut line, record);
        self.put(line);
    }

    fn report_dropped(&mut self, count: u64, at: Wall) {
        let line = self.stamp(Level::WARN, at);
        self.put(format!("{line}{OWN}: log lines dropped count={count}"));
    }
}

/// Target, message and fields, on one line whatever is in them.
pub(super) fn push_record(line: &mut String, record: &Record) {
    let foreign = record
        .fields
        .iter()
        .find(|(field, _)| field.name() == FOREIGN_TARGET);
    line.push_str(foreign.map_or(record.origin.target(), |(_, target)| target));
    line.push(':');
    for (field, text) in &record.fields {
        if field.name() == "message" {
            line.push(' ');
            push_on_one_line(line, text);
        }
    }
    for (field, text) in &record.fields {
        match field.name() {
            "message" | FOREIGN_TARGET => {}
            name => push_field(line, name, text),
        }
    }
}

/// A name or a text from a device must neither begin a line of its own nor steer a terminal.
fn push_on_one_line(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

fn push_field(line: &mut String, name: &str, text: &str) {
    let plain = !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\'));
    // Writing to a string cannot fail.
    let _ = if plain {
        write!(line, " {name}={text}")
    } else {
        write!(line, " {name}={text:?}")
    };
}

/// As syslog counts.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// The moment in UTC, to the millisecond.
fn rfc3339(at: Wall) -> String {
    let ms = at.0 % DAY_MS;
    let (year, month, day) = at.date();
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        ms / 3_600_000,
        ms / 60_000 % 60,
        ms / 1000 % 60,
        ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_people_expect_it() {
        assert_eq!(rfc3339(Wall(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(Wall(951_782_399_999)), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(Wall(951_782_400_000)), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(Wall(1_767_225_599_042)), "2025-12-31T23:59:59.042Z");
    }

    #[test]
    fn a_value_that_would_break_the_line_is_quoted() {
        let mut line = String::new();
        push_field(&mut line, "client", "press7");
        push_field(&mut line, "reason", "too hot");
        push_field(&mut line, "client", "a\nb\u{1b}[2J=\"");
        push_field(&mut line, "client", "");
        assert_eq!(
            line,
            r#" client=press7 reason="too hot" client="a\nb\u{1b}[2J=\"" client="""#
        );
    }
}
