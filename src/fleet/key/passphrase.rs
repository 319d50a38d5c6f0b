//! Where passphrases come from: files and environment variables for automation, else the terminal
//! of whoever sits there, without echo.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::secret::Secret;
use crate::fleet::fault::{Done, FleetError, missing, usage};

/// Bytes of a new passphrase at least: below, guessing takes days, not decades.
pub const MIN_BYTES: usize = 10;
/// Bytes of any: a page.
const MAX_BYTES: u64 = 4096;
/// How often somebody at the terminal may err.
const TRIES: usize = 3;
/// The terminal of whoever started this, wherever the input comes from.
const TERMINAL: &str = "/dev/tty";

/// The passphrases that are at hand. Each is tried on each key.
#[derive(Debug, Default)]
pub struct Passphrases {
    at_hand: Vec<Secret>,
    /// Those that came from files or the environment: then nobody is asked.
    is_automatic: bool,
}

impl Passphrases {
    /// Reads those that the caller names.
    pub fn read(files: &[PathBuf], variables: &[String]) -> Done<Self> {
        let mut at_hand = Vec::new();
        for path in files {
            at_hand.push(from_file(path)?);
        }
        for name in variables {
            match std::env::var_os(name) {
                Some(value) if !value.is_empty() => {
                    at_hand.push(Secret::new(value.into_encoded_bytes()));
                }
                Some(_) | None => {
                    return missing(format!("environment variable {name}: not set, or empty"));
                }
            }
        }
        let is_automatic = !at_hand.is_empty();
        Ok(Self {
            at_hand,
            is_automatic,
        })
    }

    /// Finds the one that opens something.
    pub fn open<T>(&mut self, what: &str, mut opens: impl FnMut(&Secret) -> Option<T>) -> Done<T> {
        if let Some(opened) = self.at_hand.iter().find_map(&mut opens) {
            return Ok(opened);
        }
        if self.is_automatic {
            return missing(format!(
                "{what}: none of the passphrases given opens it (or the file was changed)"
            ));
        }
        for _ in 0..TRIES {
            let entered = ask(&format!("passphrase of {what}: "))?;
            if let Some(opened) = opens(&entered) {
                self.at_hand.push(entered);
                return Ok(opened);
            }
            tell("it does not open it\n");
        }
        missing(format!("{what}: no passphrase that opens it was given"))
    }

    /// One for a new key: the first that was given, or asked for twice.
    pub fn for_new(&mut self, what: &str) -> Done<&Secret> {
        if !self.is_automatic {
            let first = ask(&format!("new passphrase of {what}: "))?;
            let second = ask("once more: ")?;
            if first.bytes() != second.bytes() {
                return usage("the two passphrases differ: nothing was written");
            }
            self.at_hand.insert(0, first);
        }
        let first = self.at_hand.first();
        let secret = first.ok_or_else(|| FleetError::Missing("no passphrase".to_owned()))?;
        if secret.bytes().len() < MIN_BYTES {
            return usage(format!(
                "a passphrase of {} bytes: {MIN_BYTES} are the least",
                secret.bytes().len()
            ));
        }
        Ok(secret)
    }
}

/// The first line of a file that nobody else may read.
fn from_file(path: &Path) -> Done<Secret> {
    let at = FleetError::at;
    let file = File::open(path).map_err(at(path))?;
    let about = file.metadata().map_err(at(path))?;
    // A pipe (`<(pass show …)`) has no others that could read it.
    if about.is_file() && about.permissions().mode() & 0o077 != 0 {
        return usage(format!(
            "{}: others may read it: chmod 600 first",
            path.display()
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(at(path))?;
    let whole = Secret::new(bytes);
    let line = whole.bytes().split(|byte| *byte == b'\n').next();
    let line = line.unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() || line.len() as u64 > MAX_BYTES {
        return usage(format!(
            "{}: its first line is no passphrase",
            path.display()
        ));
    }
    Ok(Secret::new(line.to_vec()))
}

/// The terminal, silent until this is dropped.
struct Silent {
    terminal: File,
    before: Termios,
}

impl Silent {
    fn new() -> io::Result<Self> {
        let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL)?;
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        // Sign by sign and without signals: an interrupt must not leave the terminal mute.
        silent.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before); // it may be gone
    }
}

/// Asks at the terminal.
fn ask(prompt: &str) -> Done<Secret> {
    let nobody = |error: io::Error| {
        FleetError::Missing(format!(
            "no terminal to ask at ({error}): give --passphrase-file or --passphrase-env"
        ))
    };
    let mut silent = Silent::new().map_err(nobody)?;
    let entered = silent
        .terminal
        .write_all(prompt.as_bytes())
        .and_then(|()| line(&mut silent.terminal));
    let _ = silent.terminal.write_all(b"\n"); // what was typed ended with none
    match entered.map_err(nobody)? {
        Some(bytes) => Ok(Secret::new(bytes)),
        None => missing("interrupted: nothing was done"),
    }
}

/// What was typed up to Enter; none if it was interrupted.
fn line(terminal: &mut impl io::Read) -> io::Result<Option<Vec<u8>>> {
    const INTERRUPT: u8 = 3;
    const END: u8 = 4;
    const ERASE: [u8; 2] = [8, 127];
    const KILL: u8 = 21;
    let mut typed = Vec::new();
    let mut byte = [0];
    loop {
        match terminal.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        match byte[0] {
            b'\n' | b'\r' => return Ok(Some(typed)),
            INTERRUPT | END => return Ok(None),
            KILL => typed.clear(),
            sign if ERASE.contains(&sign) => {
                // A whole sign, however many bytes it has.
                while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            sign if (typed.len() as u64) < MAX_BYTES => typed.push(sign),
            _ => {}
        }
    }
}

/// A word to whoever sits at the terminal.
fn tell(words: &str) {
    if let Ok(mut terminal) = OpenOptions::new().write(true).open(TERMINAL) {
        let _ = terminal.write_all(words.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_corrections() {
        let typed = |bytes: &[u8]| line(&mut &bytes[..]).unwrap();
        assert_eq!(typed(b"abc\rrest"), Some(b"abc".to_vec()));
        assert_eq!(typed("aé\x7fb\n".as_bytes()), Some(b"ab".to_vec()));
        assert_eq!(typed(b"wrong\x15right\n"), Some(b"right".to_vec()));
        assert_eq!(typed(b"\x08\x08a\n"), Some(b"a".to_vec()));
        assert_eq!(typed(b"abc\x03\n"), None);
        assert_eq!(typed(b"abc"), None, "a terminal that went away gave none");
    }
}
