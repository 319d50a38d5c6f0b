//! What a terminal is to show and has not taken yet: bounded, so that one that never reads costs
//! nobody anything.
//!
//! Pieces are kept or dropped whole, so a program never gets half a line of JSON. What was dropped
//! is told in the first piece that fits again.

use std::collections::VecDeque;

use super::session::Mode;

/// Bytes that wait for a terminal: the longest answer of a command, or a minute at 9600 baud.
pub const MAX_OUTBOX_BYTES: usize = 65_536;

/// The queue.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<u8>,
    dropped: u64,
    dropped_ever: u64,
}

impl Outbox {
    /// Queues a piece, or counts it as dropped. A piece that is longer than the queue goes in
    /// where nothing else waits: it is dropped only behind others.
    pub fn put(&mut self, piece: &[u8], mode: Mode) {
        let mut note = Vec::new();
        if self.dropped > 0 {
            let count = self.dropped;
            note = match mode {
                Mode::Text => format!("\r\n[{count} bytes dropped: the terminal did not read]\r\n"),
                Mode::Json => format!(
                    "{{\"ok\":false,\"error\":{{\"code\":\"overrun\",\"message\":\"{count} bytes \
                     of answers were dropped: they were not read\"}}}}\n"
                ),
            }
            .into_bytes();
        }
        let room = MAX_OUTBOX_BYTES.saturating_sub(self.waiting.len());
        if note.len() + piece.len() > room && !self.waiting.is_empty() {
            self.dropped += piece.len() as u64;
            self.dropped_ever += piece.len() as u64;
            return;
        }
        self.dropped = 0;
        self.waiting.extend(note);
        self.waiting.extend(piece);
    }

    /// What can be written next.
    pub fn next(&self) -> &[u8] {
        let (front, back) = self.waiting.as_slices();
        if front.is_empty() { back } else { front }
    }

    /// So much of it was written.
    pub fn written(&mut self, bytes: usize) {
        self.waiting.drain(..bytes.min(self.waiting.len()));
    }

    /// The terminal is gone, and with it whoever would have read this.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.dropped = 0;
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes that no terminal took.
    pub fn ever_dropped(&self) -> u64 {
        self.dropped_ever
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox) -> String {
        let mut text = Vec::new();
        while !outbox.is_empty() {
            let next = outbox.next().to_vec();
            outbox.written(next.len());
            text.extend(next);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_terminal_that_never_reads_is_bounded_and_told_once_it_reads() {
        let mut outbox = Outbox::default();
        for _ in 0..10_000 {
            outbox.put(&[b'x'; 100], Mode::Text);
            assert!(outbox.waiting.len() <= MAX_OUTBOX_BYTES);
        }
        assert_eq!(
            outbox.ever_dropped(),
            1_000_000 - MAX_OUTBOX_BYTES as u64 / 100 * 100
        );
        assert!(!drain(&mut outbox).contains("dropped"));
        outbox.put(b"here again", Mode::Text);
        let text = drain(&mut outbox);
        assert!(
            text.contains("bytes dropped") && text.ends_with("here again"),
            "{text}"
        );
        outbox.put(b"and again", Mode::Text);
        assert_eq!(drain(&mut outbox), "and again");
    }

    #[test]
    fn a_program_gets_whole_lines_only() {
        let mut outbox = Outbox::default();
        let line = format!("{{\"ok\":true,\"data\":\"{}\"}}\n", "y".repeat(999));
        for _ in 0..200 {
            outbox.put(line.as_bytes(), Mode::Json);
        }
        outbox.written(12_345);
        outbox.put(b"{\"ok\":true}\n", Mode::Json);
        let text = drain(&mut outbox);
        for line in text.lines().skip(1) {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        assert!(text.contains("overrun"));
    }

    #[test]
    fn an_answer_longer_than_the_queue_passes_where_nothing_waits() {
        let mut outbox = Outbox::default();
        outbox.put(&vec![b'z'; MAX_OUTBOX_BYTES * 2], Mode::Text);
        assert_eq!(drain(&mut outbox).len(), MAX_OUTBOX_BYTES * 2);
    }
}
