//! `lineside pin`: makes the file that the serial console's PIN is checked against.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::num::NonZeroU32;
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::EXIT_USAGE;
use crate::config::pin::{ITERATIONS, MAX_PIN, Pin};

/// Arguments of `lineside pin`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    /// How often it is digested: more is slower to guess, and to log in.
    #[arg(long, value_name = "N", default_value_t = ITERATIONS)]
    pub iterations: u32,
}

/// Bytes of a line that is no PIN in any case.
const MAX_LINE_BYTES: u64 = MAX_PIN as u64 * 4 + 2;

/// Runs the subcommand and returns the exit code.
pub fn command(args: &Args) -> u8 {
    let made = NonZeroU32::new(args.iterations)
        .ok_or_else(|| "--iterations is at least 1000".to_owned())
        .and_then(|iterations| {
            let pin = typed()?;
            let made = Pin::make(&pin, iterations).map_err(|error| error.to_string())?;
            // What the service would refuse is not made.
            Pin::read(&made.line()).map_err(|_| "--iterations is 1000 to 20000000".to_owned())
        });
    match made {
        Ok(pin) => {
            let _ = writeln!(std::io::stdout(), "{}", pin.line()); // a reader that hung up
            0
        }
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "lineside: {why}"); // nobody is left to tell
            EXIT_USAGE
        }
    }
}

/// The PIN: typed twice and unseen on a terminal, else the first line.
fn typed() -> Result<String, String> {
    if !std::io::stdin().is_terminal() {
        return line();
    }
    let unseen = Unseen::begin();
    ask("PIN: ");
    let first = line()?;
    ask("\nAgain: ");
    let second = line()?;
    ask("\n");
    drop(unseen);
    if first == second {
        Ok(first)
    } else {
        Err("the two differ".into())
    }
}

fn ask(text: &str) {
    let _ = write!(std::io::stderr(), "{text}"); // nobody is left to tell
}

fn line() -> Result<String, String> {
    let mut line = String::new();
    let mut input = std::io::stdin().lock().take(MAX_LINE_BYTES);
    let read = input.read_line(&mut line);
    read.map_err(|error| format!("standard input: {error}"))?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

/// A terminal that does not show what is typed; as it was again when this is dropped.
struct Unseen(Option<rustix::termios::Termios>);

impl Unseen {
    fn begin() -> Self {
        let input = std::io::stdin();
        let before = tcgetattr(input.as_fd()).ok();
        if let Some(before) = &before {
            let mut unseen = before.clone();
            unseen.local_modes -= LocalModes::ECHO;
            let _ = tcsetattr(input.as_fd(), OptionalActions::Flush, &unseen); // it is seen, then
        }
        Self(before)
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nobody is left to tell where it cannot be set back.
            let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Flush, before);
        }
    }
}
