//! The engine process, from its own side.
//!
//! It reads what to load from the socket that is its standard input. This build carries no
//! runtime for models yet, and says so.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use super::protocol::{self, FromEngine, ToEngine};

/// Between two signs of life.
pub const BEAT: Duration = Duration::from_millis(100);

/// Runs the process until its socket ends.
pub fn main() -> ExitCode {
    match answer() {
        Some(()) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE, // nobody is left to tell
    }
}

fn answer() -> Option<()> {
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
    protocol::read::<ToEngine>(&mut socket).ok()??;
    let why = FromEngine::Unloadable("this build has no runtime for models".into());
    socket.write_all(&protocol::frame(&why).ok()?).ok()
}
