//! The line editor: bytes from a terminal in, echo and finished lines out.
//!
//! ```text
//!            ESC            [              final byte
//!   Plain ───────► Escape ─────► Sequence ────────────► Plain (an arrow, Home, End, Delete)
//!     ▲              │ O                                  ▲
//!     │              └─────────► Letter ──────────────────┘
//!     └── any control byte ends a sequence and counts as itself, so noise never eats an Enter
//! ```
//!
//! Purpose: what a person types on a serial line becomes a line of text, with the keys that
//! shells have taught. No clock, no I/O. It speaks to the dumbest terminal: it sends printable
//! characters, carriage return, line feed, backspace and bell, and nothing else.
//!
//! Invariants:
//!
//! - The line never exceeds its limit. What is typed beyond it is told with one bell, and the line
//!   is reported as [`Typed::Overlong`], never carried out in part.
//! - No control character gets into a line, whatever comes in.
//! - What is typed while the echo is [`Echo::Hidden`] is neither echoed nor remembered.
//!
//! How it fails: it does not; bytes that mean nothing are left out. Every character counts as one
//! column, so behind a wide one the picture is off until the next redraw; the line is not.

use std::collections::VecDeque;

/// Lines that the arrows bring back: an afternoon's work.
pub const MAX_HISTORY: usize = 100;
/// Bytes of a line that is typed: longer than anything a person types, short enough to redraw.
pub const MAX_LINE_BYTES: usize = 4096;
/// Bytes of a line that a program sends: a request with a long prompt fits.
pub const MAX_MACHINE_LINE_BYTES: usize = 65_536;
/// Parameter bytes of a key's sequence: known keys have three at most.
const MAX_SEQUENCE: usize = 16;
/// Columns below which a prompt leaves no room to type.
const MIN_ROOM: usize = 8;

const BELL: u8 = 0x07;
const BACK: u8 = 0x08;

/// What the terminal shows of what is typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Echo {
    /// Everything.
    #[default]
    Shown,
    /// Nothing, and nothing is remembered: a PIN.
    Hidden,
    /// Nothing: a program types. There is no history and no completion.
    Machine,
}

/// What a byte brought about.
#[derive(Clone, PartialEq, Eq)]
pub enum Typed {
    /// A line is finished.
    Line(String),
    /// A line is finished that was longer than its limit; its text is gone.
    Overlong,
    /// ^C. The line is gone.
    Interrupt,
    /// ^D on an empty line.
    End,
    /// Tab: [`Editor::before_cursor`] is to be completed.
    Complete,
}

impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A line may be a PIN, and often is a request's text.
        f.write_str(match self {
            Self::Line(_) => "Line(…)",
            Self::Overlong => "Overlong",
            Self::Interrupt => "Interrupt",
            Self::End => "End",
            Self::Complete => "Complete",
        })
    }
}

/// Where a key's sequence stands.
#[derive(Clone, Copy, Debug, Default)]
enum Sequence {
    #[default]
    Plain,
    Escape,
    /// `ESC [`: the first parameter, and how many bytes have come.
    Params {
        first: u8,
        bytes: usize,
    },
    /// `ESC O`.
    Letter,
}

#[derive(Clone, Copy, Debug)]
enum Key {
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    Delete,
}

/// What is on the screen behind the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shown {
    /// The first character of the line that is shown.
    from: usize,
    /// How many are.
    count: usize,
    /// The cursor's column behind the prompt.
    cursor: usize,
}

/// The editor.
pub struct Editor {
    line: Vec<char>,
    cursor: usize,
    bytes: usize,
    overrun: bool,
    echo: Echo,
    prompt: String,
    width: usize,
    shown: Shown,
    sequence: Sequence,
    /// A UTF-8 sequence that is not complete.
    half: Vec<u8>,
    after_return: bool,
    history: VecDeque<String>,
    /// Which line of the history is shown, counted from the newest.
    recalled: Option<usize>,
    /// The line that was being typed before the history was looked at.
    aside: Vec<char>,
}

impl std::fmt::Debug for Editor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Editor")
            .field("echo", &self.echo)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Editor {
    /// An editor for a screen with so many columns.
    pub fn new(width: usize) -> Self {
        Self {
            line: Vec::new(),
            cursor: 0,
            bytes: 0,
            overrun: false,
            echo: Echo::Shown,
            prompt: String::new(),
            width,
            shown: Shown::default(),
            sequence: Sequence::Plain,
            half: Vec::new(),
            after_return: false,
            history: VecDeque::new(),
            recalled: None,
            aside: Vec::new(),
        }
    }

    /// Begins a line with this prompt.
    pub fn begin(&mut self, prompt: &str, echo: Echo, out: &mut Vec<u8>) {
        prompt.clone_into(&mut self.prompt);
        self.echo = echo;
        self.clear();
        if echo != Echo::Machine {
            out.extend_from_slice(prompt.as_bytes());
        }
    }

    /// What is typed so far is gone, the state of half a key or character with it.
    pub fn reset(&mut self) {
        self.clear();
        self.sequence = Sequence::Plain;
        self.half.clear();
        self.after_return = false;
    }

    /// Forgets the lines before: somebody else comes.
    pub fn forget(&mut self) {
        self.history.clear();
    }

    /// The line up to the cursor.
    pub fn before_cursor(&self) -> String {
        self.line[..self.cursor].iter().collect()
    }

    /// Whether nothing is typed.
    pub fn is_empty(&self) -> bool {
        self.line.is_empty() && !self.overrun
    }

    /// Takes one byte; what the terminal is to show goes to `out`.
    pub fn on_byte(&mut self, byte: u8, out: &mut Vec<u8>) -> Option<Typed> {
        if byte == 0 {
            return None; // a break: it may come in the middle of a letter or of an arrow key
        }
        let after_return = std::mem::take(&mut self.after_return);
        match self.sequence {
            _ if byte < 0x20 || byte == 0x7f => self.sequence = Sequence::Plain,
            Sequence::Plain => {}
            Sequence::Escape => {
                self.sequence = match byte {
                    b'[' => Sequence::Params { first: 0, bytes: 0 },
                    b'O' => Sequence::Letter,
                    _ => Sequence::Plain,
                };
                return None;
            }
            Sequence::Letter => {
                self.sequence = Sequence::Plain;
                self.on_final(byte, 0, out);
                return None;
            }
            Sequence::Params { first, bytes } => {
                self.sequence = Sequence::Plain;
                if (0x40..=0x7e).contains(&byte) {
                    self.on_final(byte, first, out);
                } else if bytes < MAX_SEQUENCE {
                    let first = if bytes == 0 { byte } else { first };
                    let bytes = bytes + 1;
                    self.sequence = Sequence::Params { first, bytes };
                }
                return None;
            }
        }
        if byte < 0x80 {
            self.half.clear(); // half a character that will not be completed
        }
        match byte {
            b'\r' => Some(self.entered(true, out)),
            b'\n' if after_return => None,
            b'\n' => Some(self.entered(false, out)),
            0x03 => {
                self.clear();
                Some(Typed::Interrupt)
            }
            0x04 if self.is_empty() => Some(Typed::End),
            b'\t' if self.echo == Echo::Machine => {
                self.insert(' ', out);
                None
            }
            b'\t' if self.echo == Echo::Shown => Some(Typed::Complete),
            0x1b => {
                self.sequence = Sequence::Escape;
                None
            }
            0x20..=0x7e => {
                self.insert(char::from(byte), out);
                None
            }
            0x80.. => {
                self.on_piece(byte, out);
                None
            }
            control => {
                self.on_control(control, out);
                None
            }
        }
    }

    /// Puts a text in at the cursor, as if it were typed.
    pub fn put(&mut self, text: &str, out: &mut Vec<u8>) {
        for c in text.chars().filter(|c| !c.is_control()) {
            self.insert(c, out);
        }
    }

    /// Shows prompt and line again, on a line of their own.
    pub fn redraw(&mut self, out: &mut Vec<u8>) {
        if self.echo == Echo::Machine {
            return;
        }
        out.extend_from_slice(self.prompt.as_bytes());
        self.shown = Shown::default();
        self.refresh(out);
    }

    fn clear(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.bytes = 0;
        self.overrun = false;
        self.shown = Shown::default();
        self.recalled = None;
        self.aside.clear();
    }

    fn entered(&mut self, by_return: bool, out: &mut Vec<u8>) -> Typed {
        self.after_return = by_return;
        if self.echo != Echo::Machine {
            out.extend_from_slice(b"\r\n");
        }
        let overrun = self.overrun;
        let line: String = self.line.iter().collect();
        self.clear();
        if overrun {
            return Typed::Overlong;
        }
        let worth_keeping = self.echo == Echo::Shown && !line.trim().is_empty();
        if worth_keeping && self.history.back() != Some(&line) {
            if self.history.len() == MAX_HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(line.clone());
        }
        Typed::Line(line)
    }

    /// One byte of a character that has several.
    fn on_piece(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte >= 0xc0 {
            self.half.clear(); // a character begins, whatever came before
        }
        self.half.push(byte);
        match std::str::from_utf8(&self.half) {
            Ok(text) => {
                let c = text.chars().next();
                self.half.clear();
                if let Some(c) = c.filter(|c| !c.is_control()) {
                    self.insert(c, out);
                }
            }
            Err(error) if error.error_len().is_some() => self.half.clear(),
            Err(_) => {}
        }
    }

    fn on_control(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            BACK | 0x7f => self.remove(self.cursor.saturating_sub(1), self.cursor, out),
            0x15 => self.remove(0, self.cursor, out), // ^U
            0x0b => self.remove(self.cursor, self.line.len(), out), // ^K
            0x17 => {
                let from = self.word_start();
                self.remove(from, self.cursor, out);
            }
            0x01 => self.on_key(Key::Home, out),
            0x02 => self.on_key(Key::Left, out),
            0x04 => self.on_key(Key::Delete, out),
            0x05 => self.on_key(Key::End, out),
            0x06 => self.on_key(Key::Right, out),
            0x0e => self.on_key(Key::Down, out),
            0x10 => self.on_key(Key::Up, out),
            0x0c if self.echo != Echo::Machine => {
                out.extend_from_slice(b"\r\n");
                self.redraw(out);
            }
            _ => {} // the others mean nothing here
        }
    }

    /// The byte that ends a key's sequence.
    fn on_final(&mut self, byte: u8, first: u8, out: &mut Vec<u8>) {
        let key = match (byte, first) {
            (b'A', _) => Key::Up,
            (b'B', _) => Key::Down,
            (b'C', _) => Key::Right,
            (b'D', _) => Key::Left,
            (b'H', _) | (b'~', b'1' | b'7') => Key::Home,
            (b'F', _) | (b'~', b'4' | b'8') => Key::End,
            (b'~', b'3') => Key::Delete,
            _ => return,
        };
        self.on_key(key, out);
    }

    fn on_key(&mut self, key: Key, out: &mut Vec<u8>) {
        if self.echo != Echo::Shown {
            return; // nobody moves about in what nobody sees
        }
        match key {
            Key::Up => self.recall(self.recalled.map_or(0, |at| at + 1), out),
            Key::Down => match self.recalled {
                Some(0) => {
                    self.recalled = None;
                    let line = std::mem::take(&mut self.aside);
                    self.replace(line, out);
                }
                Some(at) => self.recall(at - 1, out),
                None => {}
            },
            Key::Left => self.go(self.cursor.saturating_sub(1), out),
            Key::Right => self.go((self.cursor + 1).min(self.line.len()), out),
            Key::Home => self.go(0, out),
            Key::End => self.go(self.line.len(), out),
            Key::Delete => {
                let to = (self.cursor + 1).min(self.line.len());
                self.remove(self.cursor, to, out);
            }
        }
    }

    fn recall(&mut self, at: usize, out: &mut Vec<u8>) {
        let Some(line) = self.history.iter().rev().nth(at) else {
            return;
        };
        let line = line.chars().collect();
        if self.recalled.is_none() {
            self.aside = std::mem::take(&mut self.line);
        }
        self.recalled = Some(at);
        self.replace(line, out);
    }

    fn replace(&mut self, line: Vec<char>, out: &mut Vec<u8>) {
        self.bytes = line.iter().map(|c| c.len_utf8()).sum();
        self.cursor = line.len();
        self.line = line;
        self.refresh(out);
    }

    fn limit(&self) -> usize {
        match self.echo {
            Echo::Shown | Echo::Hidden => MAX_LINE_BYTES,
            Echo::Machine => MAX_MACHINE_LINE_BYTES,
        }
    }

    fn insert(&mut self, c: char, out: &mut Vec<u8>) {
        if self.overrun || self.bytes + c.len_utf8() > self.limit() {
            if !std::mem::replace(&mut self.overrun, true) && self.echo != Echo::Machine {
                out.push(BELL);
            }
            return;
        }
        self.bytes += c.len_utf8();
        self.line.insert(self.cursor, c);
        self.cursor += 1;
        let at_end = self.cursor == self.line.len();
        if at_end && self.shown.count + 1 < self.room() && self.echo == Echo::Shown {
            let mut buffer = [0; 4];
            out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            self.shown.count += 1;
            self.shown.cursor += 1;
        } else {
            self.refresh(out);
        }
    }

    fn remove(&mut self, from: usize, to: usize, out: &mut Vec<u8>) {
        if from == to {
            return;
        }
        self.overrun = false; // who takes something back sees what is left of it
        let gone: usize = self.line.drain(from..to).map(char::len_utf8).sum();
        self.bytes -= gone;
        self.cursor = from;
        self.refresh(out);
    }

    fn word_start(&self) -> usize {
        let before = &self.line[..self.cursor];
        let word = before.iter().rposition(|c| !c.is_whitespace());
        let word = word.map_or(0, |at| at + 1);
        let start = before[..word].iter().rposition(|c| c.is_whitespace());
        start.map_or(0, |at| at + 1)
    }

    fn go(&mut self, to: usize, out: &mut Vec<u8>) {
        if to != self.cursor {
            self.cursor = to;
            self.refresh(out);
        }
    }

    /// Columns behind the prompt. The last column of the screen stays free: some terminals wrap
    /// when it is written.
    fn room(&self) -> usize {
        let prompt = self.prompt.chars().count();
        self.width.saturating_sub(prompt + 1).max(MIN_ROOM)
    }

    /// Makes the screen show the line as it is: a window around the cursor, scrolled by halves.
    fn refresh(&mut self, out: &mut Vec<u8>) {
        if self.echo != Echo::Shown {
            return;
        }
        let room = self.room();
        let mut from = self.shown.from;
        if self.cursor < from {
            from = self.cursor.saturating_sub(room / 2);
        } else if self.cursor >= from + room {
            from = self.cursor + 1 - room / 2;
        }
        let window = &self.line[from..self.line.len().min(from + room - 1)];
        let now = Shown {
            from,
            count: window.len(),
            cursor: self.cursor - from,
        };
        // To the first column behind the prompt, over it, blanks over what was longer, and back.
        out.extend(std::iter::repeat_n(BACK, self.shown.cursor));
        let text: String = window.iter().collect();
        out.extend_from_slice(text.as_bytes());
        let blanks = self.shown.count.saturating_sub(now.count);
        out.extend(std::iter::repeat_n(b' ', blanks));
        out.extend(std::iter::repeat_n(BACK, now.count + blanks - now.cursor));
        self.shown = now;
    }
}

#[cfg(test)]
mod tests;
